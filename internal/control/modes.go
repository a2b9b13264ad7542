package control

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn"
)

// runtimeMode says when a version gets another runtime version; Auto is not
// stored.
type runtimeMode struct {
	UpdateOn   types.UpdateRuntimeOn
	VersionARN string `json:",omitempty"` // with Manual only
}

// RuntimeManagement tells when the version that ref names gets another runtime
// version: updateOn is "Auto", "FunctionUpdate" or "Manual", the last with the
// ARN of a runtime version.
func (c *Control) RuntimeManagement(ref firn.FunctionRef) (updateOn, runtimeVersionARN string) {
	f, err := c.function(ref)
	if err != nil {
		return string(types.UpdateRuntimeOnAuto), ""
	}
	m := f.attachments().runtimes[eventQualifier(ref)]
	if m == nil {
		return string(types.UpdateRuntimeOnAuto), ""
	}
	return string(m.UpdateOn), m.VersionARN
}

// versionRef reads what a runtime management operation is about: $LATEST or a
// published version. named is the reference as the answer names it.
func (c *Control) versionRef(function, qualifier *string) (ref, named firn.FunctionRef, err error) {
	named, err = c.reference(function, qualifier)
	if err == nil && aliasOnly(named.Qualifier) {
		err = invalid("Runtime management is of $LATEST or of a published version, not of an alias: %s", c.arnOf(named))
	}
	ref = named
	ref.Qualifier = eventQualifier(ref)
	return ref, named, err
}

func (c *Control) putRuntimeManagementConfig(ctx context.Context, in *lambda.PutRuntimeManagementConfigInput) (*lambda.PutRuntimeManagementConfigOutput, error) {
	ref, named, err := c.versionRef(in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	mode := runtimeMode{in.UpdateRuntimeOn, deref(in.RuntimeVersionArn)}
	switch manual := mode.UpdateOn == types.UpdateRuntimeOnManual; {
	case mode.UpdateOn != types.UpdateRuntimeOnAuto && !c.cfg.Effects.RuntimeVersions:
		return nil, notServed("UpdateRuntimeOn "+string(mode.UpdateOn), "; it serves Auto")
	case manual && mode.VersionARN == "":
		return nil, invalid("RuntimeVersionArn is required when UpdateRuntimeOn is Manual.")
	case !manual && mode.VersionARN != "":
		return nil, invalid("RuntimeVersionArn can only be specified when UpdateRuntimeOn is Manual.")
	}
	err = c.edit(ctx, ref, func(e *edit) error {
		if err := e.existing(ref); err != nil {
			return err
		}
		if mode.UpdateOn == types.UpdateRuntimeOnAuto {
			drop(e, &e.runtimes, kindRuntimeMode, ref.Qualifier)
		} else {
			put(e, &e.runtimes, kindRuntimeMode, ref.Qualifier, &mode)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &lambda.PutRuntimeManagementConfigOutput{FunctionArn: ptr(c.arnOf(named)), UpdateRuntimeOn: mode.UpdateOn, RuntimeVersionArn: in.RuntimeVersionArn}, nil
}

func (c *Control) getRuntimeManagementConfig(_ context.Context, in *lambda.GetRuntimeManagementConfigInput) (*lambda.GetRuntimeManagementConfigOutput, error) {
	ref, named, err := c.versionRef(in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	f, err := c.function(ref)
	if err == nil {
		err = c.existing(f.attachments(), ref)
	}
	if err != nil {
		return nil, err
	}
	updateOn, version := c.RuntimeManagement(ref)
	out := &lambda.GetRuntimeManagementConfigOutput{FunctionArn: ptr(c.arnOf(named)), UpdateRuntimeOn: types.UpdateRuntimeOn(updateOn)}
	if version != "" {
		out.RuntimeVersionArn = &version
	}
	return out, nil
}

// RecursionAllowed reports whether a function, by its name, may be part of a
// loop: RecursiveLoop is Allow. Otherwise a loop is ended.
func (c *Control) RecursionAllowed(name string) bool {
	f, err := c.function(firn.FunctionRef{Name: name})
	return err == nil && f.attachments().settings.AllowRecursion
}

func recursiveLoop(allow bool) types.RecursiveLoop {
	if allow {
		return types.RecursiveLoopAllow
	}
	return types.RecursiveLoopTerminate
}

func (c *Control) putFunctionRecursionConfig(ctx context.Context, in *lambda.PutFunctionRecursionConfigInput) (*lambda.PutFunctionRecursionConfigOutput, error) {
	ref, err := c.functionOnly(in.FunctionName)
	if err != nil {
		return nil, err
	}
	err = c.edit(ctx, ref, func(e *edit) error {
		s := e.settings
		s.AllowRecursion = in.RecursiveLoop == types.RecursiveLoopAllow
		e.putSettings(s)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &lambda.PutFunctionRecursionConfigOutput{RecursiveLoop: in.RecursiveLoop}, nil
}

func (c *Control) getFunctionRecursionConfig(_ context.Context, in *lambda.GetFunctionRecursionConfigInput) (*lambda.GetFunctionRecursionConfigOutput, error) {
	ref, err := c.functionOnly(in.FunctionName)
	if err != nil {
		return nil, err
	}
	f, err := c.function(ref)
	if err != nil {
		return nil, err
	}
	return &lambda.GetFunctionRecursionConfigOutput{RecursiveLoop: recursiveLoop(f.attachments().settings.AllowRecursion)}, nil
}
