package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/state"
)

// kindFunction is the kind of function records; their key is the name.
const kindFunction = "function"

// record is a function as it is stored: AWS's own description of it and what
// AWS does not publish. A record is never changed in place: a change makes a
// copy.
type record struct {
	// Config is complete but for Environment, whose variables are secrets
	// and stand sealed in Variables.
	Config    types.FunctionConfiguration
	Variables string `json:",omitempty"`
	Code      firn.Digest
	Unzipped  int64
	Layers    []layerUse        `json:",omitempty"`
	Tags      map[string]string `json:",omitempty"`
	// Generation changes with code and configuration, unlike the revision,
	// which changes with the state too. It is part of the environments' key.
	Generation string

	variables map[string]string // opened
	revision  state.Revision
}

// layerUse is a layer as a function holds it: it stays usable after the layer
// version was deleted.
type layerUse struct {
	ARN      string
	Digest   firn.Digest
	Size     int64
	Unzipped int64
}

// function is the function in memory.
type function struct {
	record atomic.Pointer[record]
	// active is what invocations run: the last settled version.
	active atomic.Pointer[firn.FunctionVersion]
}

// Load reads all functions and layers; those that a stopped process left
// unsettled are settled before it returns, so that nothing is half-made when
// the API opens.
func (c *Control) Load(ctx context.Context) error {
	var records []*record
	err := c.cfg.Store.View(ctx, func(tx state.Tx) error {
		records = records[:0]
		return each(tx, kindFunction, func(raw state.Record) error {
			rec, err := c.decode(raw)
			records = append(records, rec)
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("load functions: %w", err)
	}
	for _, rec := range records {
		c.account(nil, rec)
		f := c.remember(rec)
		if settled(rec) {
			f.active.Store(c.version(rec))
			continue
		}
		if err := c.settleFunction(ctx, *rec.Config.FunctionName); err != nil {
			return fmt.Errorf("settle function %s: %w", *rec.Config.FunctionName, err)
		}
	}
	return c.loadLayers(ctx)
}

// each calls do for every record of a kind, in pages.
func each(tx state.Tx, kind string, do func(state.Record) error) error {
	const size = 500
	after := ""
	for {
		batch, err := tx.List(kind, "", after, size)
		if err != nil {
			return err
		}
		for _, raw := range batch {
			if err := do(raw); err != nil {
				return err
			}
			after = raw.Key
		}
		if len(batch) < size {
			return nil
		}
	}
}

func (c *Control) decode(raw state.Record) (*record, error) {
	rec := &record{revision: raw.Revision}
	if err := json.Unmarshal(raw.Value, rec); err != nil {
		return nil, fmt.Errorf("record of function %s: %w", raw.Key, err)
	}
	if rec.Variables != "" {
		plain, err := c.cfg.Sealer.Open(rec.Variables, variablesOf(raw.Key))
		if err != nil {
			return nil, fmt.Errorf("environment variables of function %s: %w", raw.Key, err)
		}
		if err := json.Unmarshal(plain, &rec.variables); err != nil {
			return nil, fmt.Errorf("environment variables of function %s: %w", raw.Key, err)
		}
	}
	return rec, nil
}

// variablesOf is the identity under which a function's variables are sealed.
func variablesOf(name string) string { return kindFunction + "/" + name + "/variables" }

// save writes rec if the stored revision is still rec.revision (0: none), and
// makes it the function in memory.
func (c *Control) save(ctx context.Context, old, rec *record) error {
	name := *rec.Config.FunctionName
	rec.Variables = ""
	if len(rec.variables) > 0 {
		plain, err := json.Marshal(rec.variables)
		if err != nil {
			return err
		}
		rec.Variables = c.cfg.Sealer.Seal(plain, variablesOf(name))
	}
	value, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("encode function %s: %w", name, err)
	}
	var want state.Revision
	if old != nil {
		want = old.revision
	}
	err = c.cfg.Store.Update(ctx, func(tx state.Tx) error {
		var err error
		rec.revision, err = tx.PutIf(kindFunction, name, value, want)
		return err
	})
	if errors.Is(err, state.ErrConflict) {
		return firn.Faultf(firn.ResourceConflict, "The operation cannot be performed at this time. An update is in progress for resource: %s", *rec.Config.FunctionArn)
	}
	if err != nil {
		return storageFault(err)
	}
	c.account(old, rec)
	c.remember(rec)
	return nil
}

// storageFault says that a write failed without telling the caller the detail.
func storageFault(err error) error {
	if errors.Is(err, state.ErrFull) {
		return &firn.Fault{Kind: firn.Service, Message: "firn's data directory is full; free some space and try again.", Type: "Service", Cause: err}
	}
	return fmt.Errorf("write state: %w", err)
}

// account moves the references to archives from old to rec; either may be nil.
func (c *Control) account(old, rec *record) {
	if rec != nil {
		c.hold(rec.Code, rec.Config.CodeSize)
		for _, l := range rec.Layers {
			c.hold(l.Digest, l.Size)
		}
	}
	if old != nil {
		c.release(old.Code)
		for _, l := range old.Layers {
			c.release(l.Digest)
		}
	}
}

func (c *Control) remember(rec *record) *function {
	name := *rec.Config.FunctionName
	f := &function{}
	if present, loaded := c.functions.LoadOrStore(name, f); loaded {
		f = present.(*function)
	} else {
		c.mu.Lock()
		c.names[name] = struct{}{}
		c.mu.Unlock()
	}
	f.record.Store(rec)
	return f
}

func (c *Control) forget(rec *record) {
	name := *rec.Config.FunctionName
	c.functions.Delete(name)
	c.mu.Lock()
	delete(c.names, name)
	c.mu.Unlock()
	c.account(rec, nil)
}

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
		return firn.Faultf(firn.ResourceNotFound, "Function not found: %s", c.arnOf(ref))
	}
	return nil
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
		return nil, firn.Faultf(firn.ResourceNotFound, "Function not found: %s", c.arnOf(ref))
	}
	return f.(*function).record.Load(), nil
}

// Resolve implements invoke.Resolver, from memory.
func (c *Control) Resolve(ref firn.FunctionRef) (*firn.FunctionVersion, string, error) {
	if err := c.local(ref); err != nil {
		return nil, "", err
	}
	f, ok := c.functions.Load(ref.Name)
	if !ok || ref.Qualifier != "" && ref.Qualifier != firn.Latest {
		if ref.Qualifier == "" {
			ref.Qualifier = firn.Latest // as AWS names it in this error
		}
		return nil, "", firn.Faultf(firn.ResourceNotFound, "Function not found: %s", c.arnOf(ref))
	}
	v := f.(*function).active.Load()
	if v == nil {
		return nil, "", firn.Faultf(firn.ResourceConflict,
			"The operation cannot be performed at this time. The function is currently in the following state: %s", f.(*function).record.Load().Config.State)
	}
	if ref.Qualifier == "" {
		return v, v.ARN, nil
	}
	return v, v.ARN + ":" + ref.Qualifier, nil
}

func settled(rec *record) bool {
	return rec.Config.State != types.StatePending && rec.Config.LastUpdateStatus != types.LastUpdateStatusInProgress
}

// version is what the engine must know of a record.
func (c *Control) version(rec *record) *firn.FunctionVersion {
	cfg := &rec.Config
	v := &firn.FunctionVersion{
		Key:                *cfg.FunctionArn + "#" + rec.Generation,
		ARN:                *cfg.FunctionArn,
		Account:            c.cfg.Account,
		Region:             c.cfg.Region,
		Name:               *cfg.FunctionName,
		Version:            *cfg.Version,
		Runtime:            string(cfg.Runtime),
		Architecture:       string(cfg.Architectures[0]),
		Handler:            deref(cfg.Handler),
		Role:               *cfg.Role,
		MemoryMB:           int(*cfg.MemorySize),
		Timeout:            seconds(*cfg.Timeout),
		EphemeralStorageMB: int(*cfg.EphemeralStorage.Size),
		Environment:        rec.variables,
		Code:               rec.Code,
		TracingActive:      cfg.TracingConfig.Mode == types.TracingModeActive,
		LogGroup:           *cfg.LoggingConfig.LogGroup,
	}
	for _, l := range rec.Layers {
		v.Layers = append(v.Layers, l.Digest)
	}
	return v
}

// describe is the configuration as the API shows it.
func (rec *record) describe() *types.FunctionConfiguration {
	out := rec.Config
	if len(rec.variables) > 0 {
		out.Environment = &types.EnvironmentResponse{Variables: rec.variables}
	}
	return &out
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
	unlock := c.lock(ref.Name)
	defer unlock()
	if _, exists := c.functions.Load(ref.Name); exists {
		return nil, firn.Faultf(firn.ResourceConflict, "Function already exist: %s", ref.Name)
	}
	rec, err := c.newRecord(ref.Name, in)
	if err != nil {
		return nil, err
	}
	if err := c.setCode(ctx, rec, in.Code.ZipFile); err != nil {
		return nil, err
	}
	if err := c.save(ctx, nil, rec); err != nil {
		return nil, err
	}
	c.enqueue(ref.Name)
	return convert[lambda.CreateFunctionOutput](rec.describe()), nil
}

// newRecord makes the record of a request, without its code.
func (c *Control) newRecord(name string, in *lambda.CreateFunctionInput) (*record, error) {
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
	return rec, c.configure(rec, convert[lambda.UpdateFunctionConfigurationInput](in))
}

// setCode checks and stores an archive and makes it the code of rec.
func (c *Control) setCode(ctx context.Context, rec *record, zip []byte) error {
	if len(zip) > firn.MaxZipUploadBytes {
		return firn.Faultf(firn.RequestEntityTooLarge, "Request must be smaller than %d bytes for the CreateFunction operation", 69905067)
	}
	digest, info, err := c.storeZip(ctx, zip)
	if err != nil {
		return err
	}
	rec.Code, rec.Unzipped = digest, info.UnzippedBytes
	rec.Config.CodeSize = int64(len(zip))
	rec.Config.CodeSha256 = ptr(codeSha256(digest))
	return checkUnzipped(rec)
}

func checkUnzipped(rec *record) error {
	total := rec.Unzipped
	for _, l := range rec.Layers {
		total += l.Unzipped
	}
	if total > firn.MaxUnzippedBytes {
		return invalid("Function code combined with layers exceeds the maximum allowed size of %d bytes. The actual size is %d bytes.", firn.MaxUnzippedBytes, total)
	}
	return nil
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
	return &lambda.GetFunctionOutput{
		Configuration: qualified(rec.describe(), ref),
		Code:          &types.FunctionCodeLocation{RepositoryType: ptr("S3"), Location: ptr(c.location(rec.Code))},
		Tags:          rec.Tags,
	}, nil
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

func (c *Control) listFunctions(ctx context.Context, in *lambda.ListFunctionsInput) (*lambda.ListFunctionsOutput, error) {
	if err := checkMarker(in.Marker); err != nil {
		return nil, err
	}
	out := &lambda.ListFunctionsOutput{Functions: []types.FunctionConfiguration{}}
	if region := deref(in.MasterRegion); region != "" && region != "ALL" && region != c.cfg.Region {
		return out, nil // functions replicated from another Region: there are none
	}
	names, next := page(c.sortedNames(), in.Marker, in.MaxItems, listLimit, func(s string) string { return s })
	for _, name := range names {
		if rec, err := c.find(firn.FunctionRef{Name: name}); err == nil {
			cfg := rec.describe()
			// ListFunctions leaves out what only Get answers.
			cfg.State, cfg.StateReason, cfg.StateReasonCode = "", nil, ""
			cfg.LastUpdateStatus, cfg.LastUpdateStatusReason, cfg.LastUpdateStatusReasonCode = "", nil, ""
			if in.FunctionVersion == types.FunctionVersionAll {
				cfg.FunctionArn = ptr(*cfg.FunctionArn + ":" + *cfg.Version)
			}
			out.Functions = append(out.Functions, *cfg)
		}
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
	if ref.Qualifier == firn.Latest {
		return nil, invalid("$LATEST version cannot be deleted without deleting the function.")
	}
	rec, err := c.find(ref)
	if err != nil {
		return nil, err
	}
	err = c.cfg.Store.Update(ctx, func(tx state.Tx) error { return tx.Delete(kindFunction, ref.Name) })
	if err != nil {
		return nil, storageFault(err)
	}
	f, _ := c.functions.Load(ref.Name)
	c.forget(rec)
	if v := f.(*function).active.Swap(nil); v != nil {
		c.cfg.Retirer.Retire(v.Key)
	}
	return &lambda.DeleteFunctionOutput{StatusCode: 204}, nil
}
