package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/state"
)

// kindFunction is the kind of function records; their key is the name.
const kindFunction = "function"

// record is a function as it is stored: AWS's own description of it and what
// AWS does not publish. A record is never changed in place: a change makes a
// copy, whose parts are replaced and not written to.
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
	// Before is what invocations run while the update to this record is in
	// progress or has failed: the record that settled last. It has no Before.
	Before *record `json:",omitempty"`

	variables map[string]string     // opened
	serving   *firn.FunctionVersion // what invocations run; nil: nothing yet
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

// function is the function in memory. A name that is deleted and made again
// has another one.
type function struct {
	record atomic.Pointer[record]
}

// settled reports whether nothing is left to be done for rec.
func settled(rec *record) bool {
	return rec.Config.State != types.StatePending && rec.Config.LastUpdateStatus != types.LastUpdateStatusInProgress
}

// runnable is the record whose version invocations run, or nil.
func (rec *record) runnable() *record {
	if rec.Before != nil {
		return rec.Before
	}
	if rec.Config.State == types.StateActive && settled(rec) {
		return rec
	}
	return nil
}

// Load reads all functions and layers; those that a stopped process left
// unsettled are settled before it returns, so that nothing is half-made when
// the API opens. Where that fails, Run tries again.
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
	if err := c.loadLayers(ctx); err != nil {
		return err
	}
	for _, rec := range records {
		c.account(nil, rec)
		if from := rec.runnable(); from != nil {
			rec.serving = c.version(from)
		}
		c.publish(rec)
	}
	c.loaded.Store(true)
	for _, rec := range records {
		name := *rec.Config.FunctionName
		if err := c.settleFunction(ctx, name); err != nil {
			if ctx.Err() != nil {
				return fmt.Errorf("settle function %s: %w", name, err)
			}
			c.cfg.Logger.Error("function could not be settled; it is tried again", "function", name, "error", err)
			c.settling.later(name)
		}
	}
	return nil
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
	for part := rec; part != nil; part = part.Before {
		if part.Variables == "" {
			continue
		}
		plain, err := c.cfg.Sealer.Open(part.Variables, variablesOf(raw.Key))
		if err == nil {
			err = json.Unmarshal(plain, &part.variables)
		}
		if err != nil {
			return nil, fmt.Errorf("environment variables of function %s: %w", raw.Key, err)
		}
	}
	return rec, nil
}

// variablesOf is the identity under which a function's variables are sealed.
func variablesOf(name string) string { return kindFunction + "/" + name + "/variables" }

// save writes rec if the stored record is still old (nil: none), and makes it
// the function in memory. After an error nothing has changed, there or here.
// The caller holds the function's lock.
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
	c.publish(rec)
	return nil
}

// publish makes rec the function in memory: what the API shows and what
// invocations run change in the same moment, so that whoever saw a function
// Active can invoke it.
func (c *Control) publish(rec *record) {
	f, _ := c.functions.LoadOrStore(*rec.Config.FunctionName, &function{})
	f.(*function).record.Store(rec)
}

// storageFault says that a write failed without telling the caller the detail.
func storageFault(err error) error {
	if errors.Is(err, state.ErrFull) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return &firn.Fault{Kind: firn.Service, Message: "firn's data directory is full; free some space and try again.", Type: "Service", Cause: err}
	}
	return fmt.Errorf("write state: %w", err)
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
		Timeout:            time.Duration(*cfg.Timeout) * time.Second,
		EphemeralStorageMB: int(*cfg.EphemeralStorage.Size),
		Environment:        rec.variables,
		Code:               rec.Code,
		Layers:             layerDigests(rec),
		TracingActive:      cfg.TracingConfig.Mode == types.TracingModeActive,
		LogFormatJSON:      cfg.LoggingConfig.LogFormat == types.LogFormatJson,

		ApplicationLogLevel: string(cfg.LoggingConfig.ApplicationLogLevel),
		SystemLogLevel:      string(cfg.LoggingConfig.SystemLogLevel),
		LogGroup:            *cfg.LoggingConfig.LogGroup,
	}
	return v
}

func layerDigests(rec *record) []firn.Digest {
	var out []firn.Digest
	for _, l := range rec.Layers {
		out = append(out, l.Digest)
	}
	return out
}

// describe is the configuration as the API shows it.
func (rec *record) describe() *types.FunctionConfiguration {
	out := rec.Config
	if len(rec.variables) > 0 {
		out.Environment = &types.EnvironmentResponse{Variables: rec.variables}
	}
	return &out
}
