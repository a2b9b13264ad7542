// Package invoke is the only way to run a function. Whatever triggers one (the
// API, later a URL, a queue, a schedule) calls Invoke and gets from it what
// Lambda promises every invocation: the version is resolved, the payload is
// checked, limits are kept, and errors come back in AWS's words.
package invoke

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/environment"
	"github.com/firn-run/firn/internal/fleet"
)

// Resolver finds the version that a reference names. It answers from memory:
// it is on the path of every invocation. Package control implements it.
type Resolver interface {
	// Resolve returns the version and the ARN as invoked (with the qualifier
	// when the caller used one). Errors are firn.Faults: ResourceNotFound,
	// ResourceConflict for a function that is not Active yet, and so on.
	Resolve(ref firn.FunctionRef) (v *firn.FunctionVersion, invokedARN string, err error)
}

// Request is one synchronous invocation.
type Request struct {
	Function      firn.FunctionRef
	RequestID     string
	Payload       []byte // JSON; empty means {}
	ClientContext string // decoded JSON, may be empty
	TraceHeader   string // X-Amzn-Trace-Id of the caller, may be empty
	LogTail       bool
}

// Response is what the caller is told.
type Response struct {
	environment.Outcome
	ExecutedVersion string
	// TraceHeader is the X-Amzn-Trace-Id that the function saw.
	TraceHeader string
}

// Received is a request that was admitted, before anything runs.
type Received struct {
	Version   *firn.FunctionVersion
	RequestID string
	Time      time.Time
	// TraceHeader is what the function will see. Segment says that its Parent
	// is a segment of ours, made for this invocation (tracing is active), and
	// not the caller's; CallerParent is then the caller's segment, or "".
	TraceHeader  string
	Segment      bool
	CallerParent string
}

// Config describes an Invoker. Hooks may be nil; they are called by the
// request's own goroutine, concurrently, and must not block.
type Config struct {
	Resolver Resolver
	Fleet    *fleet.Fleet
	// Now is the clock; time.Now when nil.
	Now func() time.Time
	// Random fills a slice with random bytes, concurrently; crypto/rand when
	// nil. It makes identities and decides what is sampled.
	Random func([]byte)
	// Throttled is told of every request that was refused for want of
	// concurrency; invokedARN has the qualifier that the caller used.
	Throttled func(v *firn.FunctionVersion, invokedARN string)
	// RecursionAllowed says that a function may be part of a loop
	// (PutFunctionRecursionConfig); nil says that none may.
	RecursionAllowed func(v *firn.FunctionVersion) bool
	// Looped is told of every request that was refused as part of a loop.
	Looped func(v *firn.FunctionVersion, invokedARN string)
	// StreamBurst bytes of a streamed answer go out as fast as they come, and
	// what follows at StreamRate bytes per second. 0 stands for Lambda's own
	// values; a negative rate is no limit.
	StreamBurst, StreamRate int64
	// Received is told of every request that goes to an environment, and
	// Finished when its caller was answered or gave up.
	Received func(Received)
	Finished func(requestID string)
}

// Invoker runs functions.
type Invoker struct {
	cfg     Config
	sampler sampler
}

// New returns an Invoker over the node's fleet.
func New(cfg Config) *Invoker {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Random == nil {
		cfg.Random = func(b []byte) { rand.Read(b) } // never fails: it ends the program instead
	}
	if cfg.StreamBurst == 0 {
		cfg.StreamBurst = firn.StreamBurstBytes
	}
	if cfg.StreamRate == 0 {
		cfg.StreamRate = firn.StreamBytesPerSecond
	}
	i := &Invoker{cfg: cfg}
	i.sampler.chance = func() uint64 {
		var b [8]byte
		i.random(b[:])
		return binary.NativeEndian.Uint64(b[:])
	}
	return i
}

func (i *Invoker) random(b []byte) { i.cfg.Random(b) }

// Check says whether req could be invoked, without running anything: what
// the invocation type DryRun answers.
func (i *Invoker) Check(req *Request) error {
	_, _, err := i.admit(req)
	return err
}

// Invoke runs the function and waits for its answer. A function that fails is
// not an error: see Response.FunctionError. When ctx ends the caller is gone
// and gets ctx's error; the function runs on, as it does on AWS. The caller
// calls Response.Release when it is done with the payload.
func (i *Invoker) Invoke(ctx context.Context, req *Request) (*Response, error) {
	return i.run(ctx, req, nil)
}

// run is Invoke; sink takes the response of a runtime that streams, unless it
// is nil.
func (i *Invoker) run(ctx context.Context, req *Request, sink *streamSink) (*Response, error) {
	v, arn, err := i.admit(req)
	if err != nil {
		return nil, err
	}
	payload := req.Payload
	if len(payload) == 0 {
		payload = []byte("{}")
	}
	now := i.cfg.Now()
	trace, caller, entered := i.trace(req.TraceHeader, v.ARN, v.TracingActive, now)
	if err := i.recursive(v, arn, entered); err != nil {
		return nil, err
	}
	if i.cfg.Received != nil {
		i.cfg.Received(Received{Version: v, RequestID: req.RequestID, Time: now,
			TraceHeader: trace, Segment: v.TracingActive, CallerParent: caller.parent})
	}
	if i.cfg.Finished != nil {
		defer i.cfg.Finished(req.RequestID)
	}
	inv := &environment.Invocation{
		RequestID:     req.RequestID,
		ARN:           arn,
		TraceID:       trace,
		ClientContext: req.ClientContext,
		Payload:       payload,
		LogTail:       req.LogTail,
	}
	if sink != nil {
		sink.head.ExecutedVersion, sink.head.TraceHeader = v.Version, trace
		inv.Stream = sink
	}
	out, err := i.cfg.Fleet.Invoke(ctx, v, inv)
	if err != nil && sink != nil && sink.failed != nil {
		return nil, sink.failed
	}
	if err != nil {
		err = serviceFault(ctx, err)
		if i.cfg.Throttled != nil && firn.KindOf(err) == firn.TooManyRequests {
			i.cfg.Throttled(v, arn)
		}
		return nil, err
	}
	return &Response{Outcome: *out, ExecutedVersion: v.Version, TraceHeader: trace}, nil
}

func (i *Invoker) admit(req *Request) (*firn.FunctionVersion, string, error) {
	v, arn, err := i.cfg.Resolver.Resolve(req.Function)
	if err != nil {
		return nil, "", err
	}
	if len(req.Payload) > firn.MaxPayloadBytes {
		return nil, "", firn.Faultf(firn.RequestEntityTooLarge, "Request must be smaller than %d bytes for the InvokeFunction operation", 6*firn.MiB)
	}
	if err := checkJSON(req.Payload); err != nil {
		return nil, "", err
	}
	return v, arn, nil
}

// serviceFault turns what is not the function's doing into an error of the
// API; faults, and the end of the caller's context, pass through.
func serviceFault(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil || firn.KindOf(err) != "":
		return err
	// Canceled is the fleet's own then: it stopped making a sandbox.
	case errors.Is(err, fleet.ErrClosed), errors.Is(err, environment.ErrEnded), errors.Is(err, context.Canceled):
		return &firn.Fault{Kind: firn.ServiceUnavailable, Message: "firn is shutting down; the function was not run. Try again.", Type: "Service", Cause: err}
	}
	return &firn.Fault{Kind: firn.Service, Op: "invoke", Message: "An error occurred and the request cannot be processed.", Type: "Service", Cause: fmt.Errorf("invoke: %w", err)}
}
