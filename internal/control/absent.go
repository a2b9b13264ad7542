package control

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire"
)

// Event source mappings and code signing configurations cannot be made here:
// the operations that would are refused by name. All others are answered as
// AWS answers where there are none, since tools read them with every function.

// mountAbsent serves what is asked about things that cannot be there.
func (c *Control) mountAbsent(mux *awswire.Mux) {
	awswire.Handle(mux, c.getFunctionCodeSigningConfig)
	awswire.Handle(mux, c.putFunctionCodeSigningConfig)
	awswire.Handle(mux, c.deleteFunctionCodeSigningConfig)
	awswire.Handle(mux, func(context.Context, *lambda.ListCodeSigningConfigsInput) (*lambda.ListCodeSigningConfigsOutput, error) {
		return &lambda.ListCodeSigningConfigsOutput{CodeSigningConfigs: []types.CodeSigningConfig{}}, nil
	})
	awswire.Handle(mux, func(_ context.Context, in *lambda.GetCodeSigningConfigInput) (*lambda.GetCodeSigningConfigOutput, error) {
		return nil, noCodeSigning(in.CodeSigningConfigArn)
	})
	awswire.Handle(mux, func(_ context.Context, in *lambda.UpdateCodeSigningConfigInput) (*lambda.UpdateCodeSigningConfigOutput, error) {
		return nil, noCodeSigning(in.CodeSigningConfigArn)
	})
	awswire.Handle(mux, func(_ context.Context, in *lambda.DeleteCodeSigningConfigInput) (*lambda.DeleteCodeSigningConfigOutput, error) {
		return nil, noCodeSigning(in.CodeSigningConfigArn)
	})
	awswire.Handle(mux, func(_ context.Context, in *lambda.ListFunctionsByCodeSigningConfigInput) (*lambda.ListFunctionsByCodeSigningConfigOutput, error) {
		return nil, noCodeSigning(in.CodeSigningConfigArn)
	})

	awswire.Handle(mux, c.listEventSourceMappings)
	awswire.Handle(mux, func(context.Context, *lambda.GetEventSourceMappingInput) (*lambda.GetEventSourceMappingOutput, error) {
		return nil, noResource()
	})
	awswire.Handle(mux, func(context.Context, *lambda.UpdateEventSourceMappingInput) (*lambda.UpdateEventSourceMappingOutput, error) {
		return nil, noResource()
	})
	awswire.Handle(mux, func(context.Context, *lambda.DeleteEventSourceMappingInput) (*lambda.DeleteEventSourceMappingOutput, error) {
		return nil, noResource()
	})
}

// noResource is the answer of several operations where there is nothing.
func noResource() error {
	return firn.Faultf(firn.ResourceNotFound, "The resource you requested does not exist.")
}

func noCodeSigning(arn *string) error {
	fault := firn.Faultf(firn.ResourceNotFound, "The Lambda code signing configuration %s can not be found.", deref(arn))
	fault.Type = firn.NoType
	return fault
}

// getFunctionCodeSigningConfig answers nothing at all for a function without
// a configuration, not even its name, as recorded from AWS.
func (c *Control) getFunctionCodeSigningConfig(_ context.Context, in *lambda.GetFunctionCodeSigningConfigInput) (*lambda.GetFunctionCodeSigningConfigOutput, error) {
	return &lambda.GetFunctionCodeSigningConfigOutput{}, c.signable(in.FunctionName)
}

func (c *Control) deleteFunctionCodeSigningConfig(_ context.Context, in *lambda.DeleteFunctionCodeSigningConfigInput) (*lambda.DeleteFunctionCodeSigningConfigOutput, error) {
	return &lambda.DeleteFunctionCodeSigningConfigOutput{}, c.signable(in.FunctionName)
}

// signable checks that there is a function whose code could be signed.
func (c *Control) signable(name *string) error {
	ref, err := c.functionOnly(name)
	if err != nil {
		return err
	}
	f, err := c.function(ref)
	if err == nil && f.record.Load().isImage() {
		err = invalid("Code signing is not supported for functions created with container images.")
	}
	return err
}

// putFunctionCodeSigningConfig asks for the configuration before it asks for
// the function, as AWS does.
func (c *Control) putFunctionCodeSigningConfig(_ context.Context, in *lambda.PutFunctionCodeSigningConfigInput) (*lambda.PutFunctionCodeSigningConfigOutput, error) {
	if _, err := c.functionOnly(in.FunctionName); err != nil {
		return nil, err
	}
	return nil, firn.Faultf("CodeSigningConfigNotFoundException", "The code signing configuration cannot be found. Check that the provided configuration is not deleted: %s.", *in.CodeSigningConfigArn)
}

// listEventSourceMappings does not ask whether there is the function: mappings
// outlive theirs on AWS.
func (c *Control) listEventSourceMappings(_ context.Context, in *lambda.ListEventSourceMappingsInput) (*lambda.ListEventSourceMappingsOutput, error) {
	if _, err := readMarker(in.Marker); err != nil {
		return nil, err
	}
	if in.FunctionName != nil {
		if _, err := c.reference(in.FunctionName, nil); err != nil {
			return nil, err
		}
	}
	return &lambda.ListEventSourceMappingsOutput{EventSourceMappings: []types.EventSourceMappingConfiguration{}}, nil
}
