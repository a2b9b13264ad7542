// Package invoke is the only way to run a function. Whatever triggers one (the
// API, later a URL, a queue, a schedule) calls Invoke and gets from it what
// Lambda promises every invocation: the version is resolved, the payload is
// checked, limits are kept, and errors come back in AWS's words.
package invoke

import (
	"context"
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

// Invoker runs functions.
type Invoker struct {
	resolver Resolver
	fleet    *fleet.Fleet
}

// New returns an Invoker over the node's fleet.
func New(resolver Resolver, f *fleet.Fleet) *Invoker {
	return &Invoker{resolver: resolver, fleet: f}
}

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
	v, arn, err := i.admit(req)
	if err != nil {
		return nil, err
	}
	payload := req.Payload
	if len(payload) == 0 {
		payload = []byte("{}")
	}
	trace := traceID(req.TraceHeader, v.TracingActive, time.Now())
	out, err := i.fleet.Invoke(ctx, v, &environment.Invocation{
		RequestID:     req.RequestID,
		ARN:           arn,
		TraceID:       trace,
		ClientContext: req.ClientContext,
		Payload:       payload,
		LogTail:       req.LogTail,
	})
	if err != nil {
		return nil, serviceFault(ctx, err)
	}
	return &Response{Outcome: *out, ExecutedVersion: v.Version, TraceHeader: trace}, nil
}

func (i *Invoker) admit(req *Request) (*firn.FunctionVersion, string, error) {
	v, arn, err := i.resolver.Resolve(req.Function)
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
