package control

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/image"
	"github.com/firn-run/firn/internal/state"
)

// reference reads the FunctionName and Qualifier of a request and refuses
// those of another account or Region.
func (c *Control) reference(name, qualifier *string) (firn.FunctionRef, error) {
	ref, err := firn.ParseFunction(deref(name))
	if err != nil {
		return ref, err
	}
	if ref, err = ref.WithQualifier(deref(qualifier)); err != nil {
		return ref, err
	}
	return ref, c.local(ref)
}

func (c *Control) local(ref firn.FunctionRef) error {
	if ref.Account != "" && ref.Account != c.cfg.Account || ref.Region != "" && ref.Region != c.cfg.Region {
		return c.notFound(ref)
	}
	return nil
}

func (c *Control) notFound(ref firn.FunctionRef) error {
	return firn.Faultf(firn.ResourceNotFound, "Function not found: %s", c.arnOf(ref))
}

// arnOf is the ARN that a reference means, with its qualifier.
func (c *Control) arnOf(ref firn.FunctionRef) string {
	region, account := c.cfg.Region, c.cfg.Account
	if ref.Region != "" {
		region = ref.Region
	}
	if ref.Account != "" {
		account = ref.Account
	}
	arn := firn.FunctionARN(region, account, ref.Name)
	if ref.Qualifier != "" {
		arn += ":" + ref.Qualifier
	}
	return arn
}

// find returns the record that a reference names.
func (c *Control) find(ref firn.FunctionRef) (*record, error) {
	f, ok := c.functions.Load(ref.Name)
	if !ok || ref.Qualifier != "" && ref.Qualifier != firn.Latest {
		return nil, c.notFound(ref)
	}
	if rec := f.(*function).record.Load(); rec != nil {
		return rec, nil
	}
	return nil, c.notFound(ref) // it is being created or was deleted in this moment
}

// Resolve implements invoke.Resolver, from memory.
func (c *Control) Resolve(ref firn.FunctionRef) (*firn.FunctionVersion, string, error) {
	err := c.local(ref)
	var rec *record
	if err == nil {
		rec, err = c.find(ref)
	}
	if err != nil {
		if ref.Qualifier == "" {
			ref.Qualifier = firn.Latest // as AWS names it in this error
		}
		return nil, "", c.notFound(ref)
	}
	v := rec.serving
	if v == nil {
		return nil, "", firn.Faultf(firn.ResourceConflict,
			"The operation cannot be performed at this time. The function is currently in the following state: %s", rec.Config.State)
	}
	if ref.Qualifier == "" {
		return v, v.ARN, nil
	}
	return v, v.ARN + ":" + ref.Qualifier, nil
}

func (c *Control) createFunction(ctx context.Context, in *lambda.CreateFunctionInput) (*lambda.CreateFunctionOutput, error) {
	ref, err := c.reference(in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	if ref.Qualifier != "" {
		return nil, invalid("Function name %s must not have a qualifier", *in.FunctionName)
	}
	if err := checkServed(in); err != nil {
		return nil, err
	}
	if err := c.absent(ref.Name); err != nil {
		return nil, err // before the work; it is asked again under the lock
	}
	code, err := c.inspect(ctx, "CreateFunction", in.Code.ZipFile)
	if err != nil {
		return nil, err
	}
	rec, err := c.create(ctx, ref.Name, in, code)
	if err != nil {
		return nil, err
	}
	c.settling.add(ref.Name)
	return convert[lambda.CreateFunctionOutput](rec.describe()), nil
}

func (c *Control) absent(name string) error {
	if _, err := c.find(firn.FunctionRef{Name: name}); err == nil {
		return firn.Faultf(firn.ResourceConflict, "Function already exist: %s", name)
	}
	return nil
}

// create makes and saves the record of a new function.
func (c *Control) create(ctx context.Context, name string, in *lambda.CreateFunctionInput, code *archive) (*record, error) {
	c.gc.RLock()
	defer c.gc.RUnlock()
	unlock := c.lock(name)
	defer unlock()
	if err := c.absent(name); err != nil {
		return nil, err
	}
	rec, err := c.newRecord(ctx, name, in)
	if err != nil {
		return nil, err
	}
	if err := c.setCode(ctx, rec, code); err != nil {
		return nil, err
	}
	return rec, c.save(ctx, nil, rec)
}

// newRecord makes the record of a request, without its code.
func (c *Control) newRecord(ctx context.Context, name string, in *lambda.CreateFunctionInput) (*record, error) {
	arn := firn.FunctionARN(c.cfg.Region, c.cfg.Account, name)
	rec := &record{Tags: in.Tags, Generation: awswire.NewRequestID()}
	rec.Config = types.FunctionConfiguration{
		FunctionName:     &name,
		FunctionArn:      &arn,
		Role:             in.Role,
		Runtime:          in.Runtime,
		Handler:          in.Handler,
		Description:      ptr(deref(in.Description)),
		Version:          ptr(firn.Latest),
		PackageType:      types.PackageTypeZip,
		Architectures:    []types.Architecture{types.Architecture(c.cfg.Architecture)},
		MemorySize:       ptr(int32(firn.DefaultMemoryMB)),
		Timeout:          ptr(int32(firn.DefaultTimeoutSeconds)),
		EphemeralStorage: &types.EphemeralStorage{Size: ptr(int32(firn.DefaultEphemeralStorageMB))},
		TracingConfig:    &types.TracingConfigResponse{Mode: types.TracingModePassThrough},
		SnapStart:        &types.SnapStartResponse{ApplyOn: types.SnapStartApplyOnNone, OptimizationStatus: types.SnapStartOptimizationStatusOff},
		LoggingConfig:    &types.LoggingConfig{LogFormat: types.LogFormatText, LogGroup: ptr("/aws/lambda/" + name)},
		RevisionId:       ptr(awswire.NewRequestID()),
		LastModified:     c.timestamp(),
		State:            types.StatePending,
		StateReason:      ptr("The function is being created."),
		StateReasonCode:  types.StateReasonCodeCreating,
	}
	if in.Runtime == "" || deref(in.Handler) == "" {
		return nil, invalid("Runtime and Handler are mandatory parameters for functions created with deployment packages.")
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	if err := c.setArchitecture(rec, in.Architectures); err != nil {
		return nil, err
	}
	return rec, c.configure(ctx, rec, convert[lambda.UpdateFunctionConfigurationInput](in))
}

// setCode stores an archive and makes it the code of rec.
func (c *Control) setCode(ctx context.Context, rec *record, code *archive) error {
	rec.Unzipped = code.info.UnzippedBytes
	if err := checkUnzipped(rec); err != nil {
		return err
	}
	if err := c.keep(ctx, code); err != nil {
		return err
	}
	rec.Code = code.digest
	rec.Config.CodeSize = int64(len(code.zip))
	rec.Config.CodeSha256 = ptr(codeSha256(code.digest))
	return nil
}

func checkUnzipped(rec *record) error {
	layers := make([]int64, 0, len(rec.Layers))
	for _, l := range rec.Layers {
		layers = append(layers, l.Unzipped)
	}
	return image.CheckTotal(rec.Unzipped, layers...)
}

func (c *Control) getFunction(_ context.Context, in *lambda.GetFunctionInput) (*lambda.GetFunctionOutput, error) {
	ref, err := c.reference(in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	rec, err := c.find(ref)
	if err != nil {
		return nil, err
	}
	return &lambda.GetFunctionOutput{
		Configuration: qualified(rec.describe(), ref),
		Code:          &types.FunctionCodeLocation{RepositoryType: ptr("S3"), Location: ptr(c.location(rec.Code))},
		Tags:          rec.Tags,
	}, nil
}

func (c *Control) getFunctionConfiguration(_ context.Context, in *lambda.GetFunctionConfigurationInput) (*lambda.GetFunctionConfigurationOutput, error) {
	ref, err := c.reference(in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	rec, err := c.find(ref)
	if err != nil {
		return nil, err
	}
	return convert[lambda.GetFunctionConfigurationOutput](qualified(rec.describe(), ref)), nil
}

// qualified shows the ARN with the qualifier that the caller used, as AWS does.
func qualified(cfg *types.FunctionConfiguration, ref firn.FunctionRef) *types.FunctionConfiguration {
	if ref.Qualifier != "" {
		cfg.FunctionArn = ptr(*cfg.FunctionArn + ":" + ref.Qualifier)
	}
	return cfg
}

// listLimit is the most functions of one page (API_ListFunctions).
const listLimit = 50

func (c *Control) listFunctions(_ context.Context, in *lambda.ListFunctionsInput) (*lambda.ListFunctionsOutput, error) {
	out := &lambda.ListFunctionsOutput{Functions: []types.FunctionConfiguration{}}
	after, err := readMarker(in.Marker)
	if err != nil {
		return nil, err
	}
	if region := deref(in.MasterRegion); region != "" && region != "ALL" && region != c.cfg.Region {
		return out, nil // functions replicated from another Region: there are none
	}
	names, next := page(c.sortedNames(), after, in.MaxItems, func(s string) string { return s })
	for _, name := range names {
		rec, err := c.find(firn.FunctionRef{Name: name})
		if err != nil {
			continue // deleted in this moment
		}
		cfg := rec.describe()
		// ListFunctions leaves out what only Get answers.
		cfg.State, cfg.StateReason, cfg.StateReasonCode = "", nil, ""
		cfg.LastUpdateStatus, cfg.LastUpdateStatusReason, cfg.LastUpdateStatusReasonCode = "", nil, ""
		if in.FunctionVersion == types.FunctionVersionAll {
			cfg.FunctionArn = ptr(*cfg.FunctionArn + ":" + *cfg.Version)
		}
		out.Functions = append(out.Functions, *cfg)
	}
	out.NextMarker = next
	return out, nil
}

func (c *Control) deleteFunction(ctx context.Context, in *lambda.DeleteFunctionInput) (*lambda.DeleteFunctionOutput, error) {
	ref, err := c.reference(in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	unlock := c.lock(ref.Name)
	defer unlock()
	rec, err := c.find(ref)
	if err != nil {
		return nil, err
	}
	if ref.Qualifier == firn.Latest {
		return nil, invalid("$LATEST version cannot be deleted without deleting the function.")
	}
	err = c.cfg.Store.Update(ctx, func(tx state.Tx) error { return tx.Delete(kindFunction, ref.Name) })
	if err != nil {
		return nil, storageFault(err)
	}
	c.functions.Delete(ref.Name)
	c.account(rec, nil)
	if rec.serving != nil {
		c.cfg.Retirer.Retire(rec.serving.Key)
	}
	return &lambda.DeleteFunctionOutput{StatusCode: 204}, nil
}
