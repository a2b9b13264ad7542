package control_test

import (
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// Names of the documented exceptions that have rows and no constant yet.
const (
	storageCode   = "CodeStorageExceededException"
	policyCode    = "PolicyLengthExceededException"
	throttleCode  = "TooManyRequestsException"
	noProvisioned = "ProvisionedConcurrencyConfigNotFoundException"
	contentCode   = "InvalidRequestContentException"
	recursionCode = "RecursiveInvocationException"
	runtimeCode   = "InvalidRuntimeException"
	tooLargeCode  = "RequestTooLargeException"
	wrongRevision = "01234567-89ab-cdef-0123-456789abcdef"
	foreignRegion = "arn:aws:lambda:eu-west-1:123456789012:function:f"
)

// str is a pointer for an input.
func str(s string) *string { return &s }

// functionEntries are the operations on functions, tags and the account.
func functionEntries() map[string]entry {
	reserved := &types.Environment{Variables: map[string]string{"AWS_REGION": "x"}}
	badMarker := str("!")
	return map[string]entry{
		"CreateFunction": {
			success: send(creation("made", small("made"))), has: "FunctionArn RevisionId CodeSha256 CodeSize State LastModified Version",
			errors: map[string]call{
				invalidCode: func(s *suite) (any, error) {
					in := creation("bad", hello())
					in.Environment = reserved
					return s.send(in)
				},
				conflictCode: send(creation("f", hello())),
				notFoundCode: send(creation(foreignRegion, hello())),
				storageCode:  onForeign(creation("new", small("much"))),
			},
		},
		"GetFunction": {
			success: send(&lambda.GetFunctionInput{FunctionName: str("f"), Qualifier: str("live")}), has: "Configuration Code Tags Concurrency",
			errors: map[string]call{
				invalidCode:  send(&lambda.GetFunctionInput{FunctionName: str("f:1"), Qualifier: str("2")}),
				notFoundCode: send(&lambda.GetFunctionInput{FunctionName: str("no")}),
			},
		},
		"GetFunctionConfiguration": {
			success: send(&lambda.GetFunctionConfigurationInput{FunctionName: str("f")}), has: "FunctionArn RevisionId State LastUpdateStatus",
			errors: map[string]call{
				invalidCode:  send(&lambda.GetFunctionConfigurationInput{FunctionName: str("f:1"), Qualifier: str("2")}),
				notFoundCode: send(&lambda.GetFunctionConfigurationInput{FunctionName: str("f"), Qualifier: str("9")}),
			},
		},
		"ListFunctions": {
			success: send(&lambda.ListFunctionsInput{}), has: "Functions",
			errors: map[string]call{invalidCode: send(&lambda.ListFunctionsInput{Marker: badMarker})},
		},
		"UpdateFunctionCode": {
			success: send(&lambda.UpdateFunctionCodeInput{FunctionName: str("code"), ZipFile: small("other")}), has: "FunctionArn RevisionId CodeSha256 LastUpdateStatus",
			errors: map[string]call{
				invalidCode: send(&lambda.UpdateFunctionCodeInput{FunctionName: str("bare"), ZipFile: []byte("no archive")}),
				conflictCode: pending(func(name string) any {
					return &lambda.UpdateFunctionCodeInput{FunctionName: &name, ZipFile: hello()}
				}),
				notFoundCode: send(&lambda.UpdateFunctionCodeInput{FunctionName: str("no"), ZipFile: hello()}),
				preconCode:   send(&lambda.UpdateFunctionCodeInput{FunctionName: str("bare"), ZipFile: hello(), RevisionId: str(wrongRevision)}),
				storageCode:  onForeign(&lambda.UpdateFunctionCodeInput{FunctionName: str("f"), ZipFile: small("much")}),
			},
		},
		"UpdateFunctionConfiguration": {
			success: send(&lambda.UpdateFunctionConfigurationInput{FunctionName: str("cfg"), Timeout: aws.Int32(9)}), has: "FunctionArn RevisionId LastUpdateStatus",
			errors: map[string]call{
				invalidCode: send(&lambda.UpdateFunctionConfigurationInput{FunctionName: str("bare"), Environment: reserved}),
				conflictCode: pending(func(name string) any {
					return &lambda.UpdateFunctionConfigurationInput{FunctionName: &name, Timeout: aws.Int32(9)}
				}),
				notFoundCode: send(&lambda.UpdateFunctionConfigurationInput{FunctionName: str("no")}),
				preconCode:   send(&lambda.UpdateFunctionConfigurationInput{FunctionName: str("bare"), RevisionId: str(wrongRevision)}),
			},
		},
		"DeleteFunction": {
			success: send(&lambda.DeleteFunctionInput{FunctionName: str("x")}),
			errors: map[string]call{
				invalidCode:  send(&lambda.DeleteFunctionInput{FunctionName: str("f"), Qualifier: str("$LATEST")}),
				conflictCode: send(&lambda.DeleteFunctionInput{FunctionName: str("f"), Qualifier: str("1")}),
				notFoundCode: send(&lambda.DeleteFunctionInput{FunctionName: str("no")}),
			},
		},
		"TagResource": {
			success: send(&lambda.TagResourceInput{Resource: str(functionARN("f")), Tags: map[string]string{"more": "v"}}),
			errors: map[string]call{
				invalidCode:  send(&lambda.TagResourceInput{Resource: str(functionARN("f")), Tags: map[string]string{"aws:k": "v"}}),
				notFoundCode: send(&lambda.TagResourceInput{Resource: str(functionARN("no")), Tags: map[string]string{"k": "v"}}),
			},
		},
		"UntagResource": {
			success: send(&lambda.UntagResourceInput{Resource: str(functionARN("d")), TagKeys: []string{"k"}}),
			errors: map[string]call{
				invalidCode:  send(&lambda.UntagResourceInput{Resource: str(functionARN("f") + ":1"), TagKeys: []string{"k"}}),
				notFoundCode: send(&lambda.UntagResourceInput{Resource: str(functionARN("no")), TagKeys: []string{"k"}}),
			},
		},
		"ListTags": {
			success: send(&lambda.ListTagsInput{Resource: str(functionARN("f"))}), has: "Tags",
			errors: map[string]call{
				invalidCode:  send(&lambda.ListTagsInput{Resource: str(functionARN("f") + ":1")}),
				notFoundCode: send(&lambda.ListTagsInput{Resource: str(functionARN("no"))}),
			},
		},
		"GetAccountSettings": {success: send(&lambda.GetAccountSettingsInput{}), has: "AccountLimit AccountUsage"},
	}
}

// publishedEntries are the operations on versions, aliases and runtimes.
func publishedEntries() map[string]entry {
	return map[string]entry{
		"PublishVersion": {
			success: send(&lambda.PublishVersionInput{FunctionName: str("bare")}), has: "FunctionArn Version RevisionId CodeSha256",
			errors: map[string]call{
				invalidCode:  send(&lambda.PublishVersionInput{FunctionName: str("f"), CodeSha256: str("other")}),
				conflictCode: pending(func(name string) any { return &lambda.PublishVersionInput{FunctionName: &name} }),
				notFoundCode: send(&lambda.PublishVersionInput{FunctionName: str("no")}),
				preconCode:   send(&lambda.PublishVersionInput{FunctionName: str("f"), RevisionId: str(wrongRevision)}),
			},
		},
		"ListVersionsByFunction": {
			success: send(&lambda.ListVersionsByFunctionInput{FunctionName: str("f")}), has: "Versions",
			errors: map[string]call{
				invalidCode:  send(&lambda.ListVersionsByFunctionInput{FunctionName: str("f:1")}),
				notFoundCode: send(&lambda.ListVersionsByFunctionInput{FunctionName: str("no")}),
			},
		},
		"CreateAlias": {
			success: send(&lambda.CreateAliasInput{FunctionName: str("f"), Name: str("new"), FunctionVersion: str("1"), RoutingConfig: routing("2", 0.5)}),
			has:     "AliasArn Name FunctionVersion RevisionId RoutingConfig",
			errors: map[string]call{
				invalidCode:  send(&lambda.CreateAliasInput{FunctionName: str("f"), Name: str("bad"), FunctionVersion: str("1"), RoutingConfig: routing("1", 0.5)}),
				conflictCode: send(&lambda.CreateAliasInput{FunctionName: str("f"), Name: str("live"), FunctionVersion: str("1")}),
				notFoundCode: send(&lambda.CreateAliasInput{FunctionName: str("f"), Name: str("bad"), FunctionVersion: str("9")}),
			},
		},
		"UpdateAlias": {
			success: send(&lambda.UpdateAliasInput{FunctionName: str("f"), Name: str("live"), Description: str("other")}), has: "AliasArn Name FunctionVersion RevisionId Description",
			errors: map[string]call{
				invalidCode:  send(&lambda.UpdateAliasInput{FunctionName: str("f"), Name: str("live"), FunctionVersion: str("1"), RoutingConfig: routing("1", 0.5)}),
				conflictCode: send(&lambda.UpdateAliasInput{FunctionName: str("hot"), Name: str("hot"), FunctionVersion: str("2")}),
				notFoundCode: send(&lambda.UpdateAliasInput{FunctionName: str("f"), Name: str("no")}),
				preconCode:   send(&lambda.UpdateAliasInput{FunctionName: str("f"), Name: str("live"), RevisionId: str(wrongRevision)}),
			},
		},
		"GetAlias": {
			success: send(&lambda.GetAliasInput{FunctionName: str("f"), Name: str("live")}), has: "AliasArn Name FunctionVersion RevisionId",
			errors: map[string]call{
				invalidCode:  send(&lambda.GetAliasInput{FunctionName: str("f:1"), Name: str("live")}),
				notFoundCode: send(&lambda.GetAliasInput{FunctionName: str("f"), Name: str("no")}),
			},
		},
		"ListAliases": {
			success: send(&lambda.ListAliasesInput{FunctionName: str("f"), FunctionVersion: str("1")}), has: "Aliases",
			errors: map[string]call{
				invalidCode:  send(&lambda.ListAliasesInput{FunctionName: str("f"), Marker: str("!")}),
				notFoundCode: send(&lambda.ListAliasesInput{FunctionName: str("no")}),
			},
		},
		"DeleteAlias": {
			success: send(&lambda.DeleteAliasInput{FunctionName: str("d"), Name: str("live")}),
			errors: map[string]call{
				invalidCode:  send(&lambda.DeleteAliasInput{FunctionName: str("d:1"), Name: str("live")}),
				notFoundCode: send(&lambda.DeleteAliasInput{FunctionName: str("no"), Name: str("live")}),
			},
		},
		"PutRuntimeManagementConfig": {
			success: send(&lambda.PutRuntimeManagementConfigInput{FunctionName: str("f"), UpdateRuntimeOn: types.UpdateRuntimeOnFunctionUpdate}), has: "FunctionArn UpdateRuntimeOn",
			errors: map[string]call{
				invalidCode:  send(&lambda.PutRuntimeManagementConfigInput{FunctionName: str("f"), UpdateRuntimeOn: types.UpdateRuntimeOnManual}),
				notFoundCode: send(&lambda.PutRuntimeManagementConfigInput{FunctionName: str("no"), UpdateRuntimeOn: types.UpdateRuntimeOnAuto}),
			},
		},
		"GetRuntimeManagementConfig": {
			success: send(&lambda.GetRuntimeManagementConfigInput{FunctionName: str("f")}), has: "FunctionArn UpdateRuntimeOn",
			errors: map[string]call{
				invalidCode:  send(&lambda.GetRuntimeManagementConfigInput{FunctionName: str("f"), Qualifier: str("live")}),
				notFoundCode: send(&lambda.GetRuntimeManagementConfigInput{FunctionName: str("no")}),
			},
		},
	}
}

// laterEntries are the operations that are not served yet.
func laterEntries() map[string]entry {
	all := map[string]entry{}
	for _, family := range []string{
		// Event sources and code signing; see absentEntries.
		"CreateEventSourceMapping CreateCodeSigningConfig",
		// Managed instances.
		"CreateCapacityProvider DeleteCapacityProvider GetCapacityProvider ListCapacityProviders UpdateCapacityProvider",
		"ListFunctionVersionsByCapacityProvider GetFunctionScalingConfig PutFunctionScalingConfig",
		// Durable executions.
		"CheckpointDurableExecution GetDurableExecution GetDurableExecutionHistory GetDurableExecutionState ListDurableExecutionsByFunction StopDurableExecution",
		"SendDurableExecutionCallbackFailure SendDurableExecutionCallbackHeartbeat SendDurableExecutionCallbackSuccess",
	} {
		for name := range strings.FieldsSeq(family) {
			all[name] = entry{later: true}
		}
	}
	return all
}
