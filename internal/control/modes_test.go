package control_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/control"
)

func TestRuntimeManagement(t *testing.T) {
	w := newWorld(t, options{effects: control.Effects{RuntimeVersions: true}})
	w.versions("f", 1)
	w.alias("f", "live", "1")
	arn := functionARN("f")
	const pinned = "arn:aws:lambda:us-east-1::runtime:0123456789abcdef"
	put := func(qualifier string, on types.UpdateRuntimeOn, version string) (*lambda.PutRuntimeManagementConfigOutput, error) {
		in := &lambda.PutRuntimeManagementConfigInput{FunctionName: aws.String("f"), UpdateRuntimeOn: on}
		if qualifier != "" {
			in.Qualifier = &qualifier
		}
		if version != "" {
			in.RuntimeVersionArn = &version
		}
		return w.PutRuntimeManagementConfig(t.Context(), in)
	}
	get := func(name string) (*lambda.GetRuntimeManagementConfigOutput, error) {
		return w.GetRuntimeManagementConfig(t.Context(), &lambda.GetRuntimeManagementConfigInput{FunctionName: &name})
	}
	if got, err := get("f"); err != nil || got.UpdateRuntimeOn != types.UpdateRuntimeOnAuto || *got.FunctionArn != arn {
		t.Errorf("%+v, %v", got, err)
	}
	if out, err := put("1", types.UpdateRuntimeOnManual, pinned); err != nil || *out.RuntimeVersionArn != pinned || *out.FunctionArn != arn+":1" {
		t.Fatalf("%+v, %v", out, err)
	}
	if _, err := put("", types.UpdateRuntimeOnFunctionUpdate, ""); err != nil {
		t.Fatal(err)
	}
	w.restart()
	for qualifier, want := range map[string][2]string{"": {"FunctionUpdate", ""}, "$LATEST": {"FunctionUpdate", ""}, "1": {"Manual", pinned}} {
		on, version := w.control.RuntimeManagement(firn.FunctionRef{Name: "f", Qualifier: qualifier})
		if on != want[0] || version != want[1] {
			t.Errorf("%q: %s %s", qualifier, on, version)
		}
	}
	if got, err := get("f:1"); err != nil || got.UpdateRuntimeOn != types.UpdateRuntimeOnManual || *got.RuntimeVersionArn != pinned {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := put("1", types.UpdateRuntimeOnAuto, ""); err != nil {
		t.Fatal(err)
	}
	if got, err := get("f:1"); err != nil || got.UpdateRuntimeOn != types.UpdateRuntimeOnAuto {
		t.Errorf("%+v, %v", got, err)
	}
	refused := func(qualifier string, on types.UpdateRuntimeOn, version string) func() error {
		return func() error { _, err := put(qualifier, on, version); return err }
	}
	check(t, []refusal{
		{"manual without version", refused("", types.UpdateRuntimeOnManual, ""), invalidCode, "RuntimeVersionArn is required when UpdateRuntimeOn is Manual."},
		{"auto with version", refused("", types.UpdateRuntimeOnAuto, pinned), invalidCode, "RuntimeVersionArn can only be specified when UpdateRuntimeOn is Manual."},
		{"an alias", refused("live", types.UpdateRuntimeOnAuto, ""), invalidCode, "Runtime management is of $LATEST or of a published version, not of an alias: " + arn + ":live"},
		{"missing version", refused("9", types.UpdateRuntimeOnAuto, ""), notFoundCode, "Function not found: " + arn + ":9"},
		{"get missing version", func() error { _, err := get("f:9"); return err }, notFoundCode, "Function not found: " + arn + ":9"},
		{"get missing function", func() error { _, err := get("no"); return err }, notFoundCode, "Function not found: " + functionARN("no")},
	})
}

func TestRecursionConfig(t *testing.T) {
	w := newWorld(t, options{effects: control.Effects{Recursion: true}})
	w.versions("f", 1)
	get := func(name string) (*lambda.GetFunctionRecursionConfigOutput, error) {
		return w.GetFunctionRecursionConfig(t.Context(), &lambda.GetFunctionRecursionConfigInput{FunctionName: &name})
	}
	put := func(name string, loop types.RecursiveLoop) error {
		_, err := w.PutFunctionRecursionConfig(t.Context(), &lambda.PutFunctionRecursionConfigInput{FunctionName: &name, RecursiveLoop: loop})
		return err
	}
	if got, err := get("f"); err != nil || got.RecursiveLoop != types.RecursiveLoopTerminate || w.control.RecursionAllowed("f") {
		t.Errorf("%+v, %v", got, err)
	}
	if err := put("f", types.RecursiveLoopAllow); err != nil {
		t.Fatal(err)
	}
	w.restart()
	if got, err := get("f"); err != nil || got.RecursiveLoop != types.RecursiveLoopAllow || !w.control.RecursionAllowed("f") {
		t.Errorf("%+v, %v", got, err)
	}
	if err := put("f", types.RecursiveLoopTerminate); err != nil || w.control.RecursionAllowed("f") || w.control.RecursionAllowed("no") {
		t.Error(err)
	}
	check(t, []refusal{
		{"missing", func() error { return put("no", types.RecursiveLoopAllow) }, notFoundCode, "Function not found: " + functionARN("no")},
		{"get missing", func() error { _, err := get("no"); return err }, notFoundCode, "Function not found: " + functionARN("no")},
	})
}
