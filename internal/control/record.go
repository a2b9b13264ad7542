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
	Image     *imageUse         `json:",omitempty"` // of PackageType Image, which has no Code and Layers
	Layers    []layerUse        `json:",omitempty"`
	Tags      map[string]string `json:",omitempty"`
	// Generation changes with code and configuration, unlike the revision,
	// which changes with the state too. It is part of the environments' key.
	Generation string
	// LatestDescription is what $LATEST was described with when this version
	// was published of it.
	LatestDescription *string `json:",omitempty"`
	// Before is what invocations run while the update to this record is in
	// progress or has failed: the record that settled last. It has no Before.
	Before *record `json:",omitempty"`

	variables map[string]string     // opened
	serving   *firn.FunctionVersion // what invocations run; nil: nothing yet
	activity  *activity             // of images only
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
	record   atomic.Pointer[record]
	attached atomic.Pointer[attached]
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
	all, err := c.loadAttached(ctx)
	if err != nil {
		return fmt.Errorf("load what belongs to functions: %w", err)
	}
	for _, rec := range records {
		c.remember(rec, all[*rec.Config.FunctionName])
	}
	c.loaded.Store(true)
	for _, rec := range records {
		name := *rec.Config.FunctionName
		if rec.Image != nil && !settled(rec) {
			// It may have to come from far away: the API does not wait for it.
			c.settling.add(name)
			continue
		}
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
		if part.Image != nil {
			part.activity = c.newActivity()
		}
		if restoring(part) { // by a process that is gone
			markInactive(part, types.StateReasonCodeIdle, idleReason)
		}
		if part.Variables == "" {
			continue
		}
		plain, err := c.cfg.Sealer.Open(part.Variables, variablesOf(raw.Kind, raw.Key))
		if err == nil {
			err = json.Unmarshal(plain, &part.variables)
		}
		if err != nil {
			return nil, fmt.Errorf("environment variables of function %s: %w", raw.Key, err)
		}
	}
	return rec, nil
}

// variablesOf is the identity under which a record's variables are sealed.
func variablesOf(kind, key string) string { return kind + "/" + key + "/variables" }

// remember makes a loaded function the one in memory.
func (c *Control) remember(rec *record, a *attached) {
	if a == nil {
		a = &attached{}
	}
	c.account(nil, rec)
	for _, v := range a.versions {
		c.account(nil, v)
	}
	if from := rec.runnable(); from != nil {
		rec.serving = c.version(from)
	}
	f := &function{}
	f.attached.Store(a)
	f.record.Store(rec)
	c.functions.Store(*rec.Config.FunctionName, f)
	c.effect(rec, &attached{}, a)
}

// encode is a record as it is stored under a key.
func (c *Control) encode(rec *record, kind, key string) ([]byte, error) {
	rec.Variables = ""
	if rec.variables != nil {
		plain, err := json.Marshal(rec.variables)
		if err != nil {
			return nil, err
		}
		rec.Variables = c.cfg.Sealer.Seal(plain, variablesOf(kind, key))
	}
	value, err := json.Marshal(rec)
	if err != nil {
		return nil, fmt.Errorf("encode %s %s: %w", kind, key, err)
	}
	return value, nil
}

// save writes rec and makes it the function in memory. After an error nothing has changed, there or here. The caller
// holds the function's lock.
func (c *Control) save(ctx context.Context, rec *record) error {
	e := c.newEdit(*rec.Config.FunctionName)
	e.rec = rec
	return e.commit(ctx)
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
	key := *cfg.FunctionArn
	if *cfg.Version != firn.Latest {
		key += ":" + *cfg.Version // its environments are its own
	}
	v := &firn.FunctionVersion{
		Key:                key + "#" + rec.Generation,
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
		Image:              rec.image(),
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

// describe is the configuration as the API shows it: a version's ARN has its
// number.
func (rec *record) describe() *types.FunctionConfiguration {
	out := rec.Config
	if *out.Version != firn.Latest {
		out.FunctionArn = ptr(*out.FunctionArn + ":" + *out.Version)
	}
	if rec.variables != nil { // none at all, which was asked for, is shown
		out.Environment = &types.EnvironmentResponse{Variables: rec.variables}
	}
	return &out
}
