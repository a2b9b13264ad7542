package control_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/control"
)

func destinations(success, failure string) *types.DestinationConfig {
	return &types.DestinationConfig{OnSuccess: &types.OnSuccess{Destination: &success}, OnFailure: &types.OnFailure{Destination: &failure}}
}

const sqsARN = "arn:aws:sqs:us-east-1:123456789012:q"

func TestEventInvokeConfigs(t *testing.T) {
	w := newWorld(t, options{effects: control.Effects{Async: true}})
	w.versions("f", 1)
	w.create("g", hello())
	w.alias("f", "live", "1")
	arn := functionARN("f")
	put := func(in lambda.PutFunctionEventInvokeConfigInput) *lambda.PutFunctionEventInvokeConfigOutput {
		t.Helper()
		in.FunctionName = aws.String("f")
		out, err := w.PutFunctionEventInvokeConfig(t.Context(), &in)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	got := put(lambda.PutFunctionEventInvokeConfigInput{MaximumRetryAttempts: aws.Int32(0), DestinationConfig: destinations(functionARN("g"), sqsARN)})
	if *got.FunctionArn != arn+":$LATEST" || *got.MaximumRetryAttempts != 0 || got.MaximumEventAgeInSeconds != nil || *got.DestinationConfig.OnFailure.Destination != sqsARN ||
		time.Since(*got.LastModified).Abs() > time.Minute {
		t.Errorf("%+v", got)
	}
	put(lambda.PutFunctionEventInvokeConfigInput{Qualifier: aws.String("live"), MaximumEventAgeInSeconds: aws.Int32(60)})
	put(lambda.PutFunctionEventInvokeConfigInput{Qualifier: aws.String("1"), DestinationConfig: destinations("", "arn:aws:s3:::b")})
	w.restart()
	for qualifier, want := range map[string]control.EventInvoke{
		"":        {MaximumRetryAttempts: 0, MaximumEventAge: 6 * time.Hour, OnSuccess: functionARN("g"), OnFailure: sqsARN},
		"$LATEST": {MaximumRetryAttempts: 0, MaximumEventAge: 6 * time.Hour, OnSuccess: functionARN("g"), OnFailure: sqsARN},
		"live":    {MaximumRetryAttempts: 2, MaximumEventAge: time.Minute},
		"1":       {MaximumRetryAttempts: 2, MaximumEventAge: 6 * time.Hour, OnFailure: "arn:aws:s3:::b"},
		"gone":    {MaximumRetryAttempts: 2, MaximumEventAge: 6 * time.Hour},
	} {
		if got := w.control.EventInvoke(firn.FunctionRef{Name: "f", Qualifier: qualifier}); got != want {
			t.Errorf("%q: %+v, want %+v", qualifier, got, want)
		}
	}
	// Update keeps what it does not name; Put does not.
	updated, err := w.UpdateFunctionEventInvokeConfig(t.Context(), &lambda.UpdateFunctionEventInvokeConfigInput{FunctionName: aws.String("f"), MaximumEventAgeInSeconds: aws.Int32(100), DestinationConfig: &types.DestinationConfig{OnFailure: &types.OnFailure{}}})
	if err != nil || *updated.MaximumRetryAttempts != 0 || *updated.MaximumEventAgeInSeconds != 100 || *updated.DestinationConfig.OnSuccess.Destination != functionARN("g") || updated.DestinationConfig.OnFailure.Destination != nil {
		t.Errorf("%+v, %v", updated, err)
	}
	if got := put(lambda.PutFunctionEventInvokeConfigInput{MaximumRetryAttempts: aws.Int32(1)}); got.MaximumEventAgeInSeconds != nil || got.DestinationConfig.OnSuccess.Destination != nil {
		t.Errorf("%+v", got)
	}
	arns := ""
	for pages := lambda.NewListFunctionEventInvokeConfigsPaginator(w.Client, &lambda.ListFunctionEventInvokeConfigsInput{FunctionName: aws.String("f"), MaxItems: aws.Int32(2)}); pages.HasMorePages(); {
		out, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range out.FunctionEventInvokeConfigs {
			arns += (*c.FunctionArn)[len(arn):]
		}
	}
	if arns != ":$LATEST:1:live" {
		t.Error(arns)
	}
	if _, err := w.DeleteFunctionEventInvokeConfig(t.Context(), &lambda.DeleteFunctionEventInvokeConfigInput{FunctionName: aws.String("f"), Qualifier: aws.String("live")}); err != nil {
		t.Fatal(err)
	}
	_, err = w.GetFunctionEventInvokeConfig(t.Context(), &lambda.GetFunctionEventInvokeConfigInput{FunctionName: aws.String("f"), Qualifier: aws.String("live")})
	wantFault(t, err, notFoundCode, "The function "+arn+":live doesn't have an EventInvokeConfig")
}

func TestEventInvokeConfigsRefuse(t *testing.T) {
	w := newWorld(t, options{effects: control.Effects{Async: true}})
	w.versions("f", 1)
	arn := functionARN("f")
	put := func(edit func(*lambda.PutFunctionEventInvokeConfigInput)) func() error {
		return func() error {
			in := &lambda.PutFunctionEventInvokeConfigInput{FunctionName: aws.String("f"), MaximumRetryAttempts: aws.Int32(1)}
			edit(in)
			_, err := w.PutFunctionEventInvokeConfig(t.Context(), in)
			return err
		}
	}
	to := func(success, failure string) func() error {
		return put(func(in *lambda.PutFunctionEventInvokeConfigInput) {
			in.DestinationConfig = destinations(success, failure)
		})
	}
	const missing = "The function doesn't exist."
	const nothing = "You must specify at least one of error handling or destination setting."
	wrong := func(success, failure string) string {
		return "The provided destination config DestinationConfig(onSuccess=" + success + ", onFailure=" + failure + ") is invalid."
	}
	get := func(name string) func() error {
		return func() error {
			_, err := w.GetFunctionEventInvokeConfig(t.Context(), &lambda.GetFunctionEventInvokeConfigInput{FunctionName: &name})
			return err
		}
	}
	check(t, []refusal{
		{"nothing", put(func(in *lambda.PutFunctionEventInvokeConfigInput) { in.MaximumRetryAttempts = nil }), invalidCode, nothing},
		{"missing function", put(func(in *lambda.PutFunctionEventInvokeConfigInput) { in.FunctionName = aws.String("no") }), notFoundCode, missing},
		{"missing version", put(func(in *lambda.PutFunctionEventInvokeConfigInput) { in.Qualifier = aws.String("2") }), notFoundCode, missing},
		{"missing alias", put(func(in *lambda.PutFunctionEventInvokeConfigInput) { in.Qualifier = aws.String("live") }), notFoundCode, missing},
		{"retries", put(func(in *lambda.PutFunctionEventInvokeConfigInput) { in.MaximumRetryAttempts = aws.Int32(3) }), validCode, "1 validation error detected: Value '3' at 'maximumRetryAttempts' failed to satisfy constraint: Member must have value less than or equal to 2"},
		{"age", put(func(in *lambda.PutFunctionEventInvokeConfigInput) { in.MaximumEventAgeInSeconds = aws.Int32(59) }), validCode, "1 validation error detected: Value '59' at 'maximumEventAgeInSeconds' failed to satisfy constraint: Member must have value greater than or equal to 60"},
		{"service", to("arn:aws:dynamodb:us-east-1:123456789012:table/t", ""), invalidCode, wrong("OnSuccess(destination=arn:aws:dynamodb:us-east-1:123456789012:table/t)", "null")},
		{"bucket on success", to("arn:aws:s3:::b", ""), invalidCode, wrong("OnSuccess(destination=arn:aws:s3:::b)", "null")},
		{"queue with order", to("", sqsARN+".fifo"), invalidCode, wrong("null", "OnFailure(destination="+sqsARN+".fifo)")},
		{"missing target", to(functionARN("no"), ""), invalidCode, "The destination ARN " + functionARN("no") + " is invalid."},
		{"itself", to("", arn), invalidCode, "You can't specify the function as a destination for itself."},
		{"update of none", func() error {
			_, err := w.UpdateFunctionEventInvokeConfig(t.Context(), &lambda.UpdateFunctionEventInvokeConfigInput{FunctionName: aws.String("f"), MaximumRetryAttempts: aws.Int32(1)})
			return err
		}, notFoundCode, "The function " + arn + ":$LATEST doesn't have an EventInvokeConfig"},
		{"update with nothing", func() error {
			_, err := w.UpdateFunctionEventInvokeConfig(t.Context(), &lambda.UpdateFunctionEventInvokeConfigInput{FunctionName: aws.String("f")})
			return err
		}, invalidCode, nothing},
		{"get of none", get("f"), notFoundCode, "The function " + arn + ":$LATEST doesn't have an EventInvokeConfig"},
		{"get of a missing function", get("no"), notFoundCode, "The function " + functionARN("no") + ":$LATEST doesn't have an EventInvokeConfig"},
		{"delete of none", func() error {
			_, err := w.DeleteFunctionEventInvokeConfig(t.Context(), &lambda.DeleteFunctionEventInvokeConfigInput{FunctionName: aws.String("f"), Qualifier: aws.String("1")})
			return err
		}, notFoundCode, "The function " + arn + ":1 doesn't have an EventInvokeConfig"},
		{"list of a missing function", func() error {
			_, err := w.ListFunctionEventInvokeConfigs(t.Context(), &lambda.ListFunctionEventInvokeConfigsInput{FunctionName: aws.String("no")})
			return err
		}, notFoundCode, missing},
	})
}

// A dead-letter queue is part of the configuration, and of versions.
func TestDeadLetterConfig(t *testing.T) {
	w := newWorld(t, options{effects: control.Effects{Async: true}})
	w.create("f", hello(), func(in *lambda.CreateFunctionInput) {
		in.DeadLetterConfig = &types.DeadLetterConfig{TargetArn: aws.String(sqsARN)}
	})
	w.publish("f")
	clear := func(target string) error {
		_, err := w.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("f"), DeadLetterConfig: &types.DeadLetterConfig{TargetArn: &target}})
		return err
	}
	wantFault(t, clear("arn:aws:s3:::b"), invalidCode, "The provided dead letter target arn:aws:s3:::b is invalid: it must be a standard queue of SQS or a standard topic of SNS.")
	if err := clear(""); err != nil {
		t.Fatal(err)
	}
	w.active("f")
	if v := w.publish("f"); v != "2" {
		t.Error("no version for another dead-letter queue:", v)
	}
	w.restart()
	for qualifier, want := range map[string]string{"": "", "1": sqsARN, "2": ""} {
		if got := w.control.EventInvoke(firn.FunctionRef{Name: "f", Qualifier: qualifier}).DeadLetter; got != want {
			t.Errorf("%q: %q, want %q", qualifier, got, want)
		}
	}
	_, err := w.CreateAlias(t.Context(), &lambda.CreateAliasInput{FunctionName: aws.String("f"), Name: aws.String("a"), FunctionVersion: aws.String("1"), RoutingConfig: routing("2", 0.5)})
	wantFault(t, err, invalidCode, "The versions 1 and 2 must have the same dead-letter queue, or none, to share an alias.")
}
