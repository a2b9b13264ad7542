package control_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
)

const (
	signing     = "arn:aws:lambda:us-east-1:123456789012:code-signing-config:csc-0123456789abcdef0"
	signingCode = "CodeSigningConfigNotFoundException"
	mapping     = "4ac4e6b7-1b5a-4b2a-9b6c-0a1b2c3d4e5f"
)

// absentEntries are the operations on what cannot be made here.
func absentEntries() map[string]entry {
	missing := func(in any) entry {
		return entry{absent: true, errors: map[string]call{notFoundCode: send(in)}}
	}
	arn, uuid := str(signing), str(mapping)
	return map[string]entry{
		"GetFunctionCodeSigningConfig": {
			success: send(&lambda.GetFunctionCodeSigningConfigInput{FunctionName: str("f")}),
			errors: map[string]call{
				invalidCode:  send(&lambda.GetFunctionCodeSigningConfigInput{FunctionName: str("f:live")}),
				notFoundCode: send(&lambda.GetFunctionCodeSigningConfigInput{FunctionName: str("no")}),
			},
		},
		"DeleteFunctionCodeSigningConfig": {
			success: send(&lambda.DeleteFunctionCodeSigningConfigInput{FunctionName: str("f")}),
			errors: map[string]call{
				invalidCode:  send(&lambda.DeleteFunctionCodeSigningConfigInput{FunctionName: str("f:live")}),
				notFoundCode: send(&lambda.DeleteFunctionCodeSigningConfigInput{FunctionName: str("no")}),
			},
		},
		"PutFunctionCodeSigningConfig": {absent: true, errors: map[string]call{
			invalidCode: send(&lambda.PutFunctionCodeSigningConfigInput{FunctionName: str("f:live"), CodeSigningConfigArn: arn}),
			signingCode: send(&lambda.PutFunctionCodeSigningConfigInput{FunctionName: str("no"), CodeSigningConfigArn: arn}),
		}},
		"ListCodeSigningConfigs":           {success: send(&lambda.ListCodeSigningConfigsInput{})},
		"GetCodeSigningConfig":             missing(&lambda.GetCodeSigningConfigInput{CodeSigningConfigArn: arn}),
		"UpdateCodeSigningConfig":          missing(&lambda.UpdateCodeSigningConfigInput{CodeSigningConfigArn: arn}),
		"DeleteCodeSigningConfig":          missing(&lambda.DeleteCodeSigningConfigInput{CodeSigningConfigArn: arn}),
		"ListFunctionsByCodeSigningConfig": missing(&lambda.ListFunctionsByCodeSigningConfigInput{CodeSigningConfigArn: arn}),
		"ListEventSourceMappings": {
			success: send(&lambda.ListEventSourceMappingsInput{FunctionName: str("f")}),
			errors:  map[string]call{invalidCode: send(&lambda.ListEventSourceMappingsInput{Marker: str("!")})},
		},
		"GetEventSourceMapping":    missing(&lambda.GetEventSourceMappingInput{UUID: uuid}),
		"UpdateEventSourceMapping": missing(&lambda.UpdateEventSourceMappingInput{UUID: uuid}),
		"DeleteEventSourceMapping": missing(&lambda.DeleteEventSourceMappingInput{UUID: uuid}),
	}
}

// TestAbsent: the answers about what cannot be made are AWS's for what is not
// there.
func TestAbsent(t *testing.T) {
	w := newWorld(t, options{})
	w.create("f", hello())
	got, err := w.GetFunctionCodeSigningConfig(t.Context(), &lambda.GetFunctionCodeSigningConfigInput{FunctionName: str("f")})
	if err != nil || got.CodeSigningConfigArn != nil || got.FunctionName != nil {
		t.Errorf("%+v, %v", got, err)
	}
	lists, err := w.ListEventSourceMappings(t.Context(), &lambda.ListEventSourceMappingsInput{FunctionName: str("no")})
	if err != nil || lists.EventSourceMappings == nil || len(lists.EventSourceMappings) != 0 || lists.NextMarker != nil {
		t.Errorf("%+v, %v", lists, err)
	}
	const none = "The resource you requested does not exist."
	const unsigned = "The Lambda code signing configuration " + signing + " can not be found."
	arn := str(signing)
	check(t, []refusal{
		{"missing function", func() error {
			_, err := w.GetFunctionCodeSigningConfig(t.Context(), &lambda.GetFunctionCodeSigningConfigInput{FunctionName: str("no")})
			return err
		}, notFoundCode, "Function not found: " + functionARN("no")},
		{"configuration", func() error {
			_, err := w.GetCodeSigningConfig(t.Context(), &lambda.GetCodeSigningConfigInput{CodeSigningConfigArn: arn})
			return err
		}, notFoundCode, unsigned},
		{"use of a configuration", func() error {
			_, err := w.PutFunctionCodeSigningConfig(t.Context(), &lambda.PutFunctionCodeSigningConfigInput{FunctionName: str("no"), CodeSigningConfigArn: arn})
			return err
		}, signingCode, "The code signing configuration cannot be found. Check that the provided configuration is not deleted: " + signing + "."},
		{"mapping", func() error {
			_, err := w.DeleteEventSourceMapping(t.Context(), &lambda.DeleteEventSourceMappingInput{UUID: str(mapping)})
			return err
		}, notFoundCode, none},
		{"no UUID", func() error {
			_, err := w.GetEventSourceMapping(t.Context(), &lambda.GetEventSourceMappingInput{UUID: str("x")})
			return err
		}, validCode, "1 validation error detected: Value 'x' at 'uUID' failed to satisfy constraint: Member must have length greater than or equal to 36"},
	})
}
