package control

import (
	"cmp"
	"context"
	"slices"
	"strings"

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
	switch {
	case ref.Region != "" && ref.Region != c.cfg.Region:
		return firn.Faultf(firn.ResourceNotFound, "Functions from '%s' are not reachable in this region ('%s')", ref.Region, c.cfg.Region)
	case ref.Account != "" && ref.Account != c.cfg.Account:
		return firn.Faultf(firn.AccessDenied, "") // AWS writes no message
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

// function returns the function that a reference names, whatever its
// qualifier.
func (c *Control) function(ref firn.FunctionRef) (*function, error) {
	if f, ok := c.functions.Load(ref.Name); ok && f.(*function).record.Load() != nil {
		return f.(*function), nil
	}
	ref.Qualifier = ""
	return nil, c.notFound(ref) // perhaps it is being created in this moment
}

// find returns the record that a reference names; of an alias with two
// versions the first.
func (c *Control) find(ref firn.FunctionRef) (*record, error) {
	f, ok := c.functions.Load(ref.Name)
	if !ok {
		return nil, c.notFound(ref)
	}
	if rec := f.(*function).find(ref.Qualifier, func() float64 { return 1 }); rec != nil {
		return rec, nil
	}
	return nil, c.notFound(ref)
}

// findLatest returns $LATEST of a function, whatever the qualifier.
func (c *Control) findLatest(ref firn.FunctionRef) (*record, error) {
	f, err := c.function(ref)
	if err != nil {
		return nil, err
	}
	return f.record.Load(), nil
}

// find returns what a qualifier stands for, or nil.
func (f *function) find(qualifier string, random func() float64) *record {
	if qualifier == "" || qualifier == firn.Latest {
		return f.record.Load()
	}
	a := f.attachments()
	if v := a.versions[qualifier]; v != nil {
		return v
	}
	al := a.aliases[qualifier]
	if al == nil {
		return nil
	}
	version := al.pick(random)
	if version == firn.Latest {
		return f.record.Load()
	}
	return a.versions[version]
}

// Resolve implements invoke.Resolver, from memory.
func (c *Control) Resolve(ref firn.FunctionRef) (*firn.FunctionVersion, string, error) {
	if err := c.local(ref); err != nil {
		return nil, "", err
	}
	var rec *record
	if f, ok := c.functions.Load(ref.Name); ok {
		rec = f.(*function).find(ref.Qualifier, c.random)
	}
	if rec == nil {
		if ref.Qualifier == "" {
			ref.Qualifier = firn.Latest // as AWS names it in this error
		}
		return nil, "", c.notFound(ref)
	}
	v := rec.serving
	if rec.activity != nil {
		rec.activity.last.Store(c.cfg.Now().UnixNano())
	}
	if v == nil {
		c.wake(rec)
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
	if len(ref.Name) > firn.MaxFunctionName {
		return nil, invalid("1 validation error detected: Value '%s' at 'functionName' failed to satisfy constraint: Member must have length less than or equal to %d", ref.Name, firn.MaxFunctionName)
	}
	if err := c.checkServed(in); err != nil {
		return nil, err
	}
	if err := c.absent(ref.Name); err != nil {
		return nil, err // before the work; it is asked again under the lock
	}
	source, err := c.creationCode(ctx, ref.Name, in)
	if err != nil {
		return nil, err
	}
	rec, version, err := c.create(ctx, ref.Name, in, source)
	if err != nil {
		return nil, err
	}
	c.settling.add(ref.Name)
	out := convert[lambda.CreateFunctionOutput](c.describe(ctx, rec))
	out.Version = version // the ARN stays without it, as recorded from AWS
	return out, nil
}

func (c *Control) absent(name string) error {
	if _, err := c.find(firn.FunctionRef{Name: name}); err == nil {
		return firn.Faultf(firn.ResourceConflict, "Function already exist: %s", name)
	}
	return nil
}

// create makes and saves the record of a new function, and of its first
// version if the request wants one, which is then the version that it returns.
func (c *Control) create(ctx context.Context, name string, in *lambda.CreateFunctionInput, source code) (rec *record, version *string, err error) {
	c.gc.RLock()
	defer c.gc.RUnlock()
	unlock := c.lock(name)
	defer unlock()
	if err := c.absent(name); err != nil {
		return nil, nil, err
	}
	if rec, err = c.newRecord(ctx, name, in); err != nil {
		return nil, nil, err
	}
	if err := c.setCode(ctx, rec, source); err != nil {
		return nil, nil, err
	}
	e := c.newEdit(name)
	e.rec, version = rec, rec.Config.Version
	if in.Publish {
		version = e.publish(nil).Config.Version
	}
	return e.rec, version, e.commit(ctx)
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
		PackageType:      cmp.Or(in.PackageType, types.PackageTypeZip),
		Architectures:    []types.Architecture{types.Architecture(c.cfg.Architecture)},
		MemorySize:       ptr(int32(firn.DefaultMemoryMB)),
		Timeout:          ptr(int32(firn.DefaultTimeoutSeconds)),
		EphemeralStorage: &types.EphemeralStorage{Size: ptr(int32(firn.DefaultEphemeralStorageMB))},
		TracingConfig:    &types.TracingConfigResponse{Mode: types.TracingModePassThrough},
		SnapStart:        &types.SnapStartResponse{ApplyOn: types.SnapStartApplyOnNone, OptimizationStatus: types.SnapStartOptimizationStatusOff},
		LoggingConfig:    &types.LoggingConfig{LogFormat: types.LogFormatText, LogGroup: ptr(firn.DefaultLogGroup(name))},
		RevisionId:       ptr(awswire.NewRequestID()),
		LastModified:     c.timestamp(),
		State:            types.StatePending,
		StateReason:      ptr("The function is being created."),
		StateReasonCode:  types.StateReasonCodeCreating,
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	return rec, c.configure(ctx, rec, convert[lambda.UpdateFunctionConfigurationInput](in))
}

// setCode makes an archive, which it stores, or an image the code of rec.
func (c *Control) setCode(ctx context.Context, rec *record, source code) error {
	if source.image != nil {
		c.setImage(rec, source.image)
		return nil
	}
	zip := source.zip
	rec.Unzipped = zip.info.UnzippedBytes
	if err := checkCode(rec); err != nil {
		return err
	}
	if err := c.keep(ctx, zip); err != nil {
		return err
	}
	rec.Code = zip.digest
	rec.Config.CodeSize = int64(len(zip.zip))
	rec.Config.CodeSha256 = ptr(codeSha256(zip.digest))
	return nil
}

func checkUnzipped(rec *record) error { return image.CheckTotal(rec.Unzipped, layerBytes(rec)) }

// checkCode is checkUnzipped for code that is new: AWS unzips it into what the
// layers leave.
func checkCode(rec *record) error {
	err := checkUnzipped(rec)
	if left := firn.MaxUnzippedBytes - layerBytes(rec); err != nil && left >= 0 {
		return invalid("Unzipped size must be smaller than %d bytes", left)
	}
	return err
}

func layerBytes(rec *record) (n int64) {
	for _, l := range rec.Layers {
		n += l.Unzipped
	}
	return n
}

func (c *Control) getFunction(ctx context.Context, in *lambda.GetFunctionInput) (*lambda.GetFunctionOutput, error) {
	ref, err := c.reference(in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	rec, err := c.find(ref)
	if err != nil {
		return nil, err
	}
	f, err := c.function(ref)
	if err != nil {
		return nil, err
	}
	latest := f.record.Load()
	var concurrency *types.Concurrency
	if n := f.attachments().settings.Reserved; n != nil {
		concurrency = &types.Concurrency{ReservedConcurrentExecutions: n}
	}
	out := &lambda.GetFunctionOutput{
		Configuration: qualified(c.describe(ctx, rec), ref),
		Code:          c.codeLocation(rec),
		Concurrency:   concurrency,
	}
	if len(latest.Tags) > 0 {
		out.Tags = latest.Tags
	}
	return out, nil
}

func (c *Control) getFunctionConfiguration(ctx context.Context, in *lambda.GetFunctionConfigurationInput) (*lambda.GetFunctionConfigurationOutput, error) {
	ref, err := c.reference(in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	rec, err := c.find(ref)
	if err != nil {
		return nil, err
	}
	return convert[lambda.GetFunctionConfigurationOutput](qualified(c.describe(ctx, rec), ref)), nil
}

// qualified shows the ARN with the qualifier that the caller used, as AWS does.
func qualified(cfg *types.FunctionConfiguration, ref firn.FunctionRef) *types.FunctionConfiguration {
	if ref.Qualifier != "" {
		arn := strings.TrimSuffix(*cfg.FunctionArn, ":"+*cfg.Version)
		cfg.FunctionArn = ptr(arn + ":" + ref.Qualifier)
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
	if in.FunctionVersion == types.FunctionVersionAll {
		out.Functions, out.NextMarker = c.listAll(after, in.MaxItems)
		return out, nil
	}
	names, next := page(c.sortedNames(), after, in.MaxItems, func(s string) string { return s })
	for _, name := range names {
		rec, err := c.find(firn.FunctionRef{Name: name})
		if err != nil {
			continue // deleted in this moment
		}
		cfg := brief(rec)
		cfg.FunctionArn = rec.Config.FunctionArn
		out.Functions = append(out.Functions, *cfg)
	}
	out.NextMarker = next
	return out, nil
}

// listAll is a page of all versions of all functions.
func (c *Control) listAll(after string, maxItems *int32) (list []types.FunctionConfiguration, next *string) {
	type item struct {
		key string
		rec *record
	}
	var items []item
	for name, f := range c.functions.Range {
		for _, rec := range f.(*function).all() {
			items = append(items, item{name.(string) + "/" + versionKey(rec), rec})
		}
	}
	slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.key, b.key) })
	items, next = page(items, after, maxItems, func(i item) string { return i.key })
	list = []types.FunctionConfiguration{}
	for _, i := range items {
		list = append(list, *brief(i.rec))
	}
	return list, next
}

func (c *Control) deleteFunction(ctx context.Context, in *lambda.DeleteFunctionInput) (*lambda.DeleteFunctionOutput, error) {
	ref, err := c.reference(in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	switch q := ref.Qualifier; {
	case q == "":
	case q == firn.Latest:
		return nil, invalid("$LATEST version cannot be deleted without deleting the function.")
	case aliasName(q):
		return nil, invalid("Deletion of aliases is not currently supported.")
	default:
		return &lambda.DeleteFunctionOutput{StatusCode: 204}, c.deleteVersion(ctx, ref)
	}
	unlock := c.lock(ref.Name)
	defer unlock()
	if _, err := c.find(ref); err != nil {
		return nil, err
	}
	return &lambda.DeleteFunctionOutput{StatusCode: 204}, c.newEdit(ref.Name).deleteAll(ctx)
}

// deleteAll deletes a function with its versions and all that belongs to it.
// What is running ends; nothing begins any more.
func (e *edit) deleteAll(ctx context.Context) error {
	c, was := e.c, e.attached
	for number := range was.versions {
		drop(e, &e.versions, kindVersion, number)
	}
	for name := range was.aliases {
		drop(e, &e.aliases, kindAlias, name)
		e.dropQualifier(name)
	}
	for number := range was.versions {
		e.dropQualifier(number)
	}
	e.dropQualifier("")
	e.dropQualifier(firn.Latest)
	e.writes = append(e.writes, write{kindSettings, attachedKey(e.name, kindSettings, ""), nil})
	err := c.cfg.Store.Update(ctx, func(tx state.Tx) error {
		for _, w := range e.writes {
			if err := tx.Delete(w.kind, w.key); err != nil {
				return err
			}
		}
		return tx.Delete(kindFunction, e.name)
	})
	if err != nil {
		return storageFault(err)
	}
	c.functions.Delete(e.name)
	c.effect(e.old, &was, &attached{})
	for _, rec := range was.versions {
		c.account(rec, nil)
		c.retire(rec)
	}
	c.account(e.old, nil)
	c.retire(e.old)
	return nil
}
