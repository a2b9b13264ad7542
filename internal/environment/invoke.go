package environment

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/firn-run/firn/internal/lifecycle"
	"github.com/firn-run/firn/internal/runtimeapi"
)

// Lambda's caller gets the answer as soon as the runtime has responded. A
// caller who asked for the log tail wants END and REPORT in it, which are
// written when the whole Invoke phase is over; so that answer waits for them,
// within limits.
const (
	// tailAfterNext bounds the wait from the runtime's next on: what is left
	// then is the extensions' work, which must not delay an answer.
	tailAfterNext = 100 * time.Millisecond
	// tailAfterAnswer bounds it altogether: the runtime may work on after
	// its response, or die and be cleaned up.
	tailAfterAnswer = time.Second
)

// flight is one invocation from Invoke to InvocationDone. Guarded by
// Environment.mu, except for answer and delivering.
type flight struct {
	inv    *Invocation
	event  runtimeapi.Event
	answer chan *Outcome // gets the one outcome; has room for it
	relay  *relay        // of an invocation that asked for one, else nil
	// delivering is the call whose reply Invoke's goroutine is writing.
	delivering atomic.Uint64

	answered  bool     // the machine has given its Answer
	reported  bool     // END and REPORT are in the log
	abandoned bool     // the caller has gone
	held      *Outcome // an answer that waits for the log tail
	holding   *time.Timer
}

// Invoke runs one invocation and waits for the answer to its caller; the
// invocation itself may go on after that (OnReady tells when it is over). It
// may be called before the first OnReady: then it waits for Init. Failures of
// the function, and of the sandbox under it, are outcomes; errors are ErrEnded,
// ErrBusy and ctx's. When ctx ends, the invocation goes on without its caller.
func (e *Environment) Invoke(ctx context.Context, inv *Invocation) (*Outcome, error) {
	f := &flight{
		inv:    inv,
		event:  runtimeapi.Event{Payload: inv.Payload, ClientContext: inv.ClientContext, CognitoIdentity: inv.CognitoIdentity},
		answer: make(chan *Outcome, 1),
	}
	if inv.Stream != nil {
		f.relay = newRelay()
	}
	s := step{invoker: true}
	if err := e.begin(f, &s); err != nil {
		return nil, err
	}
	if e.cfg.Segments != nil && sampled(inv.TraceID) {
		e.hearSegments() // thawed, and the event not delivered yet
	}
	e.conclude(&s)
	f.delivering.Store(0)
	if f.relay != nil {
		return e.pump(ctx, f)
	}
	select {
	case out := <-f.answer:
		return out, nil
	case <-ctx.Done():
		return e.abandon(ctx, f)
	}
}

func (e *Environment) begin(f *flight, s *step) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closing || e.ended:
		return ErrEnded
	case e.flight != nil:
		return ErrBusy
	}
	e.flight, e.claimed = f, false
	e.stepLocked(s, lifecycle.Invoke{Invocation: lifecycle.Invocation{
		RequestID: f.inv.RequestID, ARN: f.inv.ARN, TraceID: f.inv.TraceID, Stream: f.relay != nil,
	}})
	return nil
}

// abandon ends the wait of a caller who has gone. An answer that came in the
// same moment is still taken.
func (e *Environment) abandon(ctx context.Context, f *flight) (*Outcome, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case out := <-f.answer:
		return out, nil
	default:
		f.abandoned = true
		return nil, ctx.Err()
	}
}

// failure is the outcome when firn itself could not go on.
func failure(requestID string) *Outcome {
	return &Outcome{
		Payload:       []byte(`{"errorMessage":"RequestId: ` + requestID + ` Error: the execution environment failed","errorType":"Sandbox.Failure"}`),
		FunctionError: unhandled,
		ErrorType:     "Sandbox.Failure",
		Release:       func() {},
	}
}

// unhandled is the only value of X-Amz-Function-Error that AWS sends.
const unhandled = "Unhandled"

func (e *Environment) answerLocked(s *step, a lifecycle.Answer) {
	f := e.flight
	if f == nil || f.inv.RequestID != a.RequestID || f.answered {
		e.cfg.Logger.Error("an answer to no invocation", "request", a.RequestID)
		return
	}
	out := &Outcome{Payload: a.Result.Payload, ErrorType: a.Result.ErrorType, Release: func() {}}
	if a.Result.FunctionError {
		out.FunctionError = unhandled
	}
	if a.Result.FromResponse && s.body != nil {
		body := s.body
		s.body = nil
		out.Payload, out.ContentType = body.Bytes(), body.ContentType
		var released atomic.Bool
		out.Release = func() {
			if released.CompareAndSwap(false, true) {
				body.Release()
			}
		}
	}
	if f.relay != nil {
		closeLocked(f.relay.over)
	}
	if !f.inv.LogTail {
		e.giveLocked(f, out)
		return
	}
	f.answered = true
	f.held = out
	if f.reported {
		e.giveHeldLocked(f)
		return
	}
	f.holding = time.AfterFunc(tailAfterAnswer, func() { e.releaseHeld(f) })
}

// giveLocked ends the caller's wait.
func (e *Environment) giveLocked(f *flight, out *Outcome) {
	f.answered = true
	if f.relay != nil {
		closeLocked(f.relay.over)
	}
	if call := f.delivering.Load(); call != 0 {
		// The answer has come before the event was written to its end: by
		// another connection. The writer must not be left to a runtime that
		// does not read.
		e.api.Expire(lifecycle.Call(call))
	}
	if f.abandoned {
		out.Release()
		return
	}
	f.answer <- out
}

// giveHeldLocked ends the wait of a caller who asked for the log tail.
func (e *Environment) giveHeldLocked(f *flight) {
	if f.held == nil {
		return
	}
	if f.holding != nil {
		f.holding.Stop()
	}
	e.drainLocked()
	f.held.LogTail = e.out.takeTail()
	out := f.held
	f.held = nil
	e.giveLocked(f, out)
}

// releaseHeld is the end of the patience with the log tail.
func (e *Environment) releaseHeld(f *flight) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.giveHeldLocked(f)
}

// runtimeAlive is called when the runtime asks for its next event before the
// end of its response was handled, which may be waiting for this news.
func (e *Environment) runtimeAlive() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.runtimeReadyLocked()
}

// runtimeReadyLocked notes that the runtime asks for its next event: mostly it is
// through with the invocation.
func (e *Environment) runtimeReadyLocked() {
	f := e.flight
	if f != nil && f.held != nil {
		f.holding.Reset(tailAfterNext)
	}
	if f != nil && f.relay != nil && f.relay.accepted {
		closeLocked(f.relay.alive)
	}
}

func (e *Environment) invocationDoneLocked(a lifecycle.InvocationDone) {
	f := e.flight
	if f == nil || f.inv.RequestID != a.RequestID {
		return
	}
	e.giveHeldLocked(f)
	if !f.answered {
		e.cfg.Logger.Error("an invocation ended without an answer", "request", a.RequestID)
		e.giveLocked(f, failure(a.RequestID))
	}
	e.flight = nil
}
