package awswire

import (
	"context"
	"reflect"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
)

// serveAll is what answers every operation in a test: it is given a pointer to
// the input and fills a pointer to the output.
type serveAll func(ctx context.Context, in, out any) error

// mountOne mounts serve as one operation.
func mountOne[In, Out any](m *Mux, inputs map[string]reflect.Type, serve serveAll) {
	in := reflect.TypeFor[In]()
	inputs[in.Name()[:len(in.Name())-len("Input")]] = in
	Handle(m, func(ctx context.Context, in *In) (*Out, error) {
		out := new(Out)
		return out, serve(ctx, in, out)
	})
}

// mountAll mounts serve as every operation and returns the input types by
// operation.
func mountAll(m *Mux, serve serveAll) map[string]reflect.Type {
	inputs := map[string]reflect.Type{}
	mountOne[lambda.AddLayerVersionPermissionInput, lambda.AddLayerVersionPermissionOutput](m, inputs, serve)
	mountOne[lambda.AddPermissionInput, lambda.AddPermissionOutput](m, inputs, serve)
	mountOne[lambda.CheckpointDurableExecutionInput, lambda.CheckpointDurableExecutionOutput](m, inputs, serve)
	mountOne[lambda.CreateAliasInput, lambda.CreateAliasOutput](m, inputs, serve)
	mountOne[lambda.CreateCapacityProviderInput, lambda.CreateCapacityProviderOutput](m, inputs, serve)
	mountOne[lambda.CreateCodeSigningConfigInput, lambda.CreateCodeSigningConfigOutput](m, inputs, serve)
	mountOne[lambda.CreateEventSourceMappingInput, lambda.CreateEventSourceMappingOutput](m, inputs, serve)
	mountOne[lambda.CreateFunctionInput, lambda.CreateFunctionOutput](m, inputs, serve)
	mountOne[lambda.CreateFunctionUrlConfigInput, lambda.CreateFunctionUrlConfigOutput](m, inputs, serve)
	mountOne[lambda.DeleteAliasInput, lambda.DeleteAliasOutput](m, inputs, serve)
	mountOne[lambda.DeleteCapacityProviderInput, lambda.DeleteCapacityProviderOutput](m, inputs, serve)
	mountOne[lambda.DeleteCodeSigningConfigInput, lambda.DeleteCodeSigningConfigOutput](m, inputs, serve)
	mountOne[lambda.DeleteEventSourceMappingInput, lambda.DeleteEventSourceMappingOutput](m, inputs, serve)
	mountOne[lambda.DeleteFunctionInput, lambda.DeleteFunctionOutput](m, inputs, serve)
	mountOne[lambda.DeleteFunctionCodeSigningConfigInput, lambda.DeleteFunctionCodeSigningConfigOutput](m, inputs, serve)
	mountOne[lambda.DeleteFunctionConcurrencyInput, lambda.DeleteFunctionConcurrencyOutput](m, inputs, serve)
	mountOne[lambda.DeleteFunctionEventInvokeConfigInput, lambda.DeleteFunctionEventInvokeConfigOutput](m, inputs, serve)
	mountOne[lambda.DeleteFunctionUrlConfigInput, lambda.DeleteFunctionUrlConfigOutput](m, inputs, serve)
	mountOne[lambda.DeleteLayerVersionInput, lambda.DeleteLayerVersionOutput](m, inputs, serve)
	mountOne[lambda.DeleteProvisionedConcurrencyConfigInput, lambda.DeleteProvisionedConcurrencyConfigOutput](m, inputs, serve)
	mountOne[lambda.DeleteResourcePolicyInput, lambda.DeleteResourcePolicyOutput](m, inputs, serve)
	mountOne[lambda.GetAccountSettingsInput, lambda.GetAccountSettingsOutput](m, inputs, serve)
	mountOne[lambda.GetAliasInput, lambda.GetAliasOutput](m, inputs, serve)
	mountOne[lambda.GetCapacityProviderInput, lambda.GetCapacityProviderOutput](m, inputs, serve)
	mountOne[lambda.GetCodeSigningConfigInput, lambda.GetCodeSigningConfigOutput](m, inputs, serve)
	mountOne[lambda.GetDurableExecutionInput, lambda.GetDurableExecutionOutput](m, inputs, serve)
	mountOne[lambda.GetDurableExecutionHistoryInput, lambda.GetDurableExecutionHistoryOutput](m, inputs, serve)
	mountOne[lambda.GetDurableExecutionStateInput, lambda.GetDurableExecutionStateOutput](m, inputs, serve)
	mountOne[lambda.GetEventSourceMappingInput, lambda.GetEventSourceMappingOutput](m, inputs, serve)
	mountOne[lambda.GetFunctionInput, lambda.GetFunctionOutput](m, inputs, serve)
	mountOne[lambda.GetFunctionCodeSigningConfigInput, lambda.GetFunctionCodeSigningConfigOutput](m, inputs, serve)
	mountOne[lambda.GetFunctionConcurrencyInput, lambda.GetFunctionConcurrencyOutput](m, inputs, serve)
	mountOne[lambda.GetFunctionConfigurationInput, lambda.GetFunctionConfigurationOutput](m, inputs, serve)
	mountOne[lambda.GetFunctionEventInvokeConfigInput, lambda.GetFunctionEventInvokeConfigOutput](m, inputs, serve)
	mountOne[lambda.GetFunctionRecursionConfigInput, lambda.GetFunctionRecursionConfigOutput](m, inputs, serve)
	mountOne[lambda.GetFunctionScalingConfigInput, lambda.GetFunctionScalingConfigOutput](m, inputs, serve)
	mountOne[lambda.GetFunctionUrlConfigInput, lambda.GetFunctionUrlConfigOutput](m, inputs, serve)
	mountOne[lambda.GetLayerVersionInput, lambda.GetLayerVersionOutput](m, inputs, serve)
	mountOne[lambda.GetLayerVersionByArnInput, lambda.GetLayerVersionByArnOutput](m, inputs, serve)
	mountOne[lambda.GetLayerVersionPolicyInput, lambda.GetLayerVersionPolicyOutput](m, inputs, serve)
	mountOne[lambda.GetPolicyInput, lambda.GetPolicyOutput](m, inputs, serve)
	mountOne[lambda.GetProvisionedConcurrencyConfigInput, lambda.GetProvisionedConcurrencyConfigOutput](m, inputs, serve)
	mountOne[lambda.GetResourcePolicyInput, lambda.GetResourcePolicyOutput](m, inputs, serve)
	mountOne[lambda.GetRuntimeManagementConfigInput, lambda.GetRuntimeManagementConfigOutput](m, inputs, serve)
	mountOne[lambda.InvokeInput, lambda.InvokeOutput](m, inputs, serve)
	mountOne[lambda.InvokeAsyncInput, lambda.InvokeAsyncOutput](m, inputs, serve)
	mountOne[lambda.InvokeWithResponseStreamInput, lambda.InvokeWithResponseStreamOutput](m, inputs, serve)
	mountOne[lambda.ListAliasesInput, lambda.ListAliasesOutput](m, inputs, serve)
	mountOne[lambda.ListCapacityProvidersInput, lambda.ListCapacityProvidersOutput](m, inputs, serve)
	mountOne[lambda.ListCodeSigningConfigsInput, lambda.ListCodeSigningConfigsOutput](m, inputs, serve)
	mountOne[lambda.ListDurableExecutionsByFunctionInput, lambda.ListDurableExecutionsByFunctionOutput](m, inputs, serve)
	mountOne[lambda.ListEventSourceMappingsInput, lambda.ListEventSourceMappingsOutput](m, inputs, serve)
	mountOne[lambda.ListFunctionEventInvokeConfigsInput, lambda.ListFunctionEventInvokeConfigsOutput](m, inputs, serve)
	mountOne[lambda.ListFunctionUrlConfigsInput, lambda.ListFunctionUrlConfigsOutput](m, inputs, serve)
	mountOne[lambda.ListFunctionVersionsByCapacityProviderInput, lambda.ListFunctionVersionsByCapacityProviderOutput](m, inputs, serve)
	mountOne[lambda.ListFunctionsInput, lambda.ListFunctionsOutput](m, inputs, serve)
	mountOne[lambda.ListFunctionsByCodeSigningConfigInput, lambda.ListFunctionsByCodeSigningConfigOutput](m, inputs, serve)
	mountOne[lambda.ListLayerVersionsInput, lambda.ListLayerVersionsOutput](m, inputs, serve)
	mountOne[lambda.ListLayersInput, lambda.ListLayersOutput](m, inputs, serve)
	mountOne[lambda.ListProvisionedConcurrencyConfigsInput, lambda.ListProvisionedConcurrencyConfigsOutput](m, inputs, serve)
	mountOne[lambda.ListTagsInput, lambda.ListTagsOutput](m, inputs, serve)
	mountOne[lambda.ListVersionsByFunctionInput, lambda.ListVersionsByFunctionOutput](m, inputs, serve)
	mountOne[lambda.PublishLayerVersionInput, lambda.PublishLayerVersionOutput](m, inputs, serve)
	mountOne[lambda.PublishVersionInput, lambda.PublishVersionOutput](m, inputs, serve)
	mountOne[lambda.PutFunctionCodeSigningConfigInput, lambda.PutFunctionCodeSigningConfigOutput](m, inputs, serve)
	mountOne[lambda.PutFunctionConcurrencyInput, lambda.PutFunctionConcurrencyOutput](m, inputs, serve)
	mountOne[lambda.PutFunctionEventInvokeConfigInput, lambda.PutFunctionEventInvokeConfigOutput](m, inputs, serve)
	mountOne[lambda.PutFunctionRecursionConfigInput, lambda.PutFunctionRecursionConfigOutput](m, inputs, serve)
	mountOne[lambda.PutFunctionScalingConfigInput, lambda.PutFunctionScalingConfigOutput](m, inputs, serve)
	mountOne[lambda.PutProvisionedConcurrencyConfigInput, lambda.PutProvisionedConcurrencyConfigOutput](m, inputs, serve)
	mountOne[lambda.PutResourcePolicyInput, lambda.PutResourcePolicyOutput](m, inputs, serve)
	mountOne[lambda.PutRuntimeManagementConfigInput, lambda.PutRuntimeManagementConfigOutput](m, inputs, serve)
	mountOne[lambda.RemoveLayerVersionPermissionInput, lambda.RemoveLayerVersionPermissionOutput](m, inputs, serve)
	mountOne[lambda.RemovePermissionInput, lambda.RemovePermissionOutput](m, inputs, serve)
	mountOne[lambda.SendDurableExecutionCallbackFailureInput, lambda.SendDurableExecutionCallbackFailureOutput](m, inputs, serve)
	mountOne[lambda.SendDurableExecutionCallbackHeartbeatInput, lambda.SendDurableExecutionCallbackHeartbeatOutput](m, inputs, serve)
	mountOne[lambda.SendDurableExecutionCallbackSuccessInput, lambda.SendDurableExecutionCallbackSuccessOutput](m, inputs, serve)
	mountOne[lambda.StopDurableExecutionInput, lambda.StopDurableExecutionOutput](m, inputs, serve)
	mountOne[lambda.TagResourceInput, lambda.TagResourceOutput](m, inputs, serve)
	mountOne[lambda.UntagResourceInput, lambda.UntagResourceOutput](m, inputs, serve)
	mountOne[lambda.UpdateAliasInput, lambda.UpdateAliasOutput](m, inputs, serve)
	mountOne[lambda.UpdateCapacityProviderInput, lambda.UpdateCapacityProviderOutput](m, inputs, serve)
	mountOne[lambda.UpdateCodeSigningConfigInput, lambda.UpdateCodeSigningConfigOutput](m, inputs, serve)
	mountOne[lambda.UpdateEventSourceMappingInput, lambda.UpdateEventSourceMappingOutput](m, inputs, serve)
	mountOne[lambda.UpdateFunctionCodeInput, lambda.UpdateFunctionCodeOutput](m, inputs, serve)
	mountOne[lambda.UpdateFunctionConfigurationInput, lambda.UpdateFunctionConfigurationOutput](m, inputs, serve)
	mountOne[lambda.UpdateFunctionEventInvokeConfigInput, lambda.UpdateFunctionEventInvokeConfigOutput](m, inputs, serve)
	mountOne[lambda.UpdateFunctionUrlConfigInput, lambda.UpdateFunctionUrlConfigOutput](m, inputs, serve)
	return inputs
}
