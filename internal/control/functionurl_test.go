package control_test

import (
	"regexp"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/go-cmp/cmp"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/control"
)

func urlEffects() control.Effects {
	return control.Effects{FunctionURL: func(id string) string { return "https://" + id + ".lambda-url.us-east-1.localhost/" }}
}

func TestFunctionURLs(t *testing.T) {
	w := newWorld(t, options{effects: urlEffects()})
	w.versions("f", 1)
	w.alias("f", "live", "1")
	arn := functionARN("f")
	made, err := w.CreateFunctionUrlConfig(t.Context(), &lambda.CreateFunctionUrlConfigInput{
		FunctionName: aws.String("f"), AuthType: types.FunctionUrlAuthTypeAwsIam, InvokeMode: types.InvokeModeResponseStream,
		Cors: &types.Cors{AllowCredentials: aws.Bool(true), AllowOrigins: []string{"https://a"}, AllowMethods: []string{"GET"}, AllowHeaders: []string{"h"}, ExposeHeaders: []string{"e"}, MaxAge: aws.Int32(7)},
	})
	if err != nil || *made.FunctionArn != arn || made.InvokeMode != types.InvokeModeResponseStream || *made.CreationTime == "" {
		t.Fatalf("%+v, %v", made, err)
	}
	id := regexp.MustCompile(`^https://([a-z0-9]{32})\.lambda-url\.us-east-1\.localhost/$`).FindStringSubmatch(*made.FunctionUrl)
	if id == nil {
		t.Fatal(*made.FunctionUrl)
	}
	other, err := w.CreateFunctionUrlConfig(t.Context(), &lambda.CreateFunctionUrlConfigInput{FunctionName: aws.String("f"), Qualifier: aws.String("live"), AuthType: types.FunctionUrlAuthTypeNone})
	if err != nil || *other.FunctionArn != arn+":live" || other.InvokeMode != "" || *other.FunctionUrl == *made.FunctionUrl {
		t.Fatalf("%+v, %v", other, err)
	}
	w.restart()
	want := control.URL{ID: id[1], Function: firn.FunctionRef{Name: "f"}, AuthIAM: true, Streaming: true, Cors: &control.Cors{
		AllowCredentials: true, AllowOrigins: []string{"https://a"}, AllowMethods: []string{"GET"}, AllowHeaders: []string{"h"}, ExposeHeaders: []string{"e"}, MaxAge: 7,
	}}
	got, ok := w.control.URL(id[1])
	if diff := cmp.Diff(want, got); !ok || diff != "" {
		t.Error(ok, diff)
	}
	updated, err := w.UpdateFunctionUrlConfig(t.Context(), &lambda.UpdateFunctionUrlConfigInput{FunctionName: aws.String("f"), AuthType: types.FunctionUrlAuthTypeNone})
	if err != nil || *updated.FunctionUrl != *made.FunctionUrl || updated.AuthType != types.FunctionUrlAuthTypeNone || updated.InvokeMode != "" || *updated.Cors.MaxAge != 7 || *updated.LastModifiedTime < *updated.CreationTime {
		t.Errorf("%+v, %v", updated, err)
	}
	if got, ok := w.control.URL(id[1]); !ok || got.AuthIAM {
		t.Errorf("%+v, %v", got, ok)
	}
	read, err := w.GetFunctionUrlConfig(t.Context(), &lambda.GetFunctionUrlConfigInput{FunctionName: &arn})
	if err != nil || *read.FunctionUrl != *made.FunctionUrl || *read.CreationTime != *made.CreationTime {
		t.Errorf("%+v, %v", read, err)
	}
	list, err := w.ListFunctionUrlConfigs(t.Context(), &lambda.ListFunctionUrlConfigsInput{FunctionName: aws.String("f")})
	if err != nil || len(list.FunctionUrlConfigs) != 2 || *list.FunctionUrlConfigs[1].FunctionArn != arn+":live" {
		t.Errorf("%+v, %v", list, err)
	}
	// With its alias a URL is gone.
	if _, err := w.DeleteAlias(t.Context(), &lambda.DeleteAliasInput{FunctionName: aws.String("f"), Name: aws.String("live")}); err != nil {
		t.Fatal(err)
	}
	if list, err := w.ListFunctionUrlConfigs(t.Context(), &lambda.ListFunctionUrlConfigsInput{FunctionName: aws.String("f")}); err != nil || len(list.FunctionUrlConfigs) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := w.DeleteFunctionUrlConfig(t.Context(), &lambda.DeleteFunctionUrlConfigInput{FunctionName: aws.String("f")}); err != nil {
		t.Fatal(err)
	}
	if _, ok := w.control.URL(id[1]); ok {
		t.Error("the URL is still there")
	}
	again, err := w.CreateFunctionUrlConfig(t.Context(), &lambda.CreateFunctionUrlConfigInput{FunctionName: aws.String("f"), AuthType: types.FunctionUrlAuthTypeNone})
	if err != nil || *again.FunctionUrl == *made.FunctionUrl {
		t.Errorf("%+v, %v", again, err)
	}
	if _, err := w.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: aws.String("f")}); err != nil {
		t.Fatal(err)
	}
	if _, ok := w.control.URL(regexp.MustCompile(`[a-z0-9]{32}`).FindString(*again.FunctionUrl)); ok {
		t.Error("the URL outlived its function")
	}
}

func TestFunctionURLsRefuse(t *testing.T) {
	w := newWorld(t, options{effects: urlEffects()})
	w.versions("f", 1)
	w.alias("f", "live", "1")
	arn := functionARN("f")
	create := func(name, qualifier string) func() error {
		return func() error {
			in := &lambda.CreateFunctionUrlConfigInput{FunctionName: &name, AuthType: types.FunctionUrlAuthTypeNone}
			if qualifier != "" {
				in.Qualifier = &qualifier
			}
			_, err := w.CreateFunctionUrlConfig(t.Context(), in)
			return err
		}
	}
	if err := create("f", "live")(); err != nil {
		t.Fatal(err)
	}
	update := func(name string) func() error {
		return func() error {
			_, err := w.UpdateFunctionUrlConfig(t.Context(), &lambda.UpdateFunctionUrlConfigInput{FunctionName: &name})
			return err
		}
	}
	get := func(name string) func() error {
		return func() error {
			_, err := w.GetFunctionUrlConfig(t.Context(), &lambda.GetFunctionUrlConfigInput{FunctionName: &name})
			return err
		}
	}
	remove := func(name string) func() error {
		return func() error {
			_, err := w.DeleteFunctionUrlConfig(t.Context(), &lambda.DeleteFunctionUrlConfigInput{FunctionName: &name})
			return err
		}
	}
	const missing, none = "Function does not exist", "The resource you requested does not exist."
	pattern := func(q string) string {
		return "1 validation error detected: Value '" + q + "' at 'qualifier' failed to satisfy constraint: Member must satisfy regular expression pattern: ((?!^\\d+$)^[0-9a-zA-Z-_]+$)"
	}
	check(t, []refusal{
		{"missing function", create("no", ""), notFoundCode, missing},
		{"missing alias", create("f", "dead"), notFoundCode, missing},
		{"a version", create("f", "1"), validCode, pattern("1")},
		{"exists", create("f", "live"), conflictCode, "Failed to create function url config for [functionArn = " + arn + ":live]. Error message:  FunctionUrlConfig exists for this Lambda function"},
		{"update of none", update("f"), notFoundCode, none},
		{"update of a missing function", update("no"), notFoundCode, missing},
		{"get of none", get("f"), notFoundCode, none},
		{"get of a missing function", get("no"), notFoundCode, none},
		{"delete of none", remove("f"), notFoundCode, none},
		{"delete of a missing function", remove("no"), notFoundCode, none},
		{"list of a missing function", func() error {
			_, err := w.ListFunctionUrlConfigs(t.Context(), &lambda.ListFunctionUrlConfigsInput{FunctionName: aws.String("no")})
			return err
		}, notFoundCode, missing},
	})
}
