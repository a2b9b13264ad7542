package async

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/invoke"
	"github.com/firn-run/firn/internal/queue"
)

// Pauses, before Config.Pace ("How Lambda handles errors and retries with
// asynchronous invocation").
const (
	firstRetry   = time.Minute
	secondRetry  = 2 * time.Minute
	firstBackoff = time.Second
	lastBackoff  = 5 * time.Minute
)

// What became of an event, in the words of AWS's records.
const (
	success         = "Success"
	exhausted       = "RetriesExhausted"
	tooOld          = "EventAgeExceeded"
	zeroConcurrency = "ZeroReservedConcurrency"
	recursive       = "RecursiveInvocation"
)

// job is an event that a worker has.
type job struct {
	claim    *queue.Claim
	ref      firn.FunctionRef
	settings Settings
	event
}

// work makes one attempt at an event, or gives it up.
func (e *Engine) work(ctx context.Context, claim *queue.Claim) {
	refused := false
	defer func() { e.pacer.finished(claim.Lane, refused) }()
	j := &job{claim: claim}
	if err := e.open(j); err != nil {
		e.cfg.Logger.Error("an event cannot be read and is dropped", "lane", claim.Lane, "item", claim.ID, "error", err)
		e.settled(claim, e.queue.Ack(claim))
		return
	}
	switch {
	case j.settings.Off:
		e.giveUp(ctx, j, zeroConcurrency, nil)
		return
	case !e.cfg.Now().Before(j.expires()):
		e.giveUp(ctx, j, tooOld, nil)
		return
	}
	e.cfg.Metrics.EventAge(invokedARN(j.ref), e.cfg.Now().Sub(j.accepted()))
	// The function's timeout bounds the attempt, and the end of the fleet.
	out, err := e.cfg.Invoker.Invoke(context.WithoutCancel(ctx), &invoke.Request{
		Function: j.ref, RequestID: j.RequestID, Payload: claim.Body,
		ClientContext: j.ClientContext, TraceHeader: j.Trace,
	})
	if err != nil {
		refused = e.refused(ctx, j, err)
		return
	}
	defer out.Release()
	j.Attempts, j.Waits = j.Attempts+1, 0
	if out.FunctionError == "" {
		e.finish(ctx, j, outcome{condition: success, response: out})
		return
	}
	j.Last, j.Status = "error: "+describe(out), 0
	e.retry(ctx, j, out)
}

// open reads the note of an event and what holds for its function now.
func (e *Engine) open(j *job) error {
	if err := json.Unmarshal(j.claim.Note, &j.event); err != nil {
		return fmt.Errorf("note: %w", err)
	}
	ref, err := firn.ParseFunction(j.claim.Lane)
	if err != nil {
		return err
	}
	ref.Qualifier = j.Qualifier
	j.ref = ref
	j.settings, err = e.cfg.Configs.EventInvoke(ref)
	if err != nil {
		// The function, or its version, is gone: what held last holds on.
		j.settings = e.pacer.remembered(j.claim.Lane)
		return nil
	}
	e.pacer.learn(j.claim.Lane, j.settings)
	return nil
}

func (j *job) expires() time.Time { return j.accepted().Add(j.settings.MaximumEventAge) }

// refused handles an attempt that did not reach the function, and reports
// whether the function should be asked less often.
func (e *Engine) refused(ctx context.Context, j *job, err error) bool {
	kind := firn.KindOf(err)
	j.Last = "not invoked: " + oneLine(messageOf(err), maxReason)
	switch kind {
	case firn.ResourceNotFound:
		// AWS counts these attempts, and pauses as after an error.
		j.Attempts, j.Waits, j.Status = j.Attempts+1, 0, http.StatusNotFound
		e.retry(ctx, j, nil)
		return false
	case firn.RecursiveInvocation:
		j.Status = http.StatusBadRequest
		e.giveUp(ctx, j, recursive, nil)
		return false
	case firn.TooManyRequests:
		j.Status, j.Last = http.StatusTooManyRequests, "throttled: "+reasonOf(err)
	default:
		j.Status = http.StatusInternalServerError
		e.cfg.Logger.Warn("an event could not be invoked and is put back", "function", invokedARN(j.ref), "request", j.RequestID, "error", err)
	}
	delay := e.pacer.scaled(backoff(j.Waits, firstBackoff, lastBackoff))
	j.Waits++
	e.putBack(ctx, j, delay, nil)
	return true
}

// retry puts an event back after an attempt, or gives it up when that was the
// last one.
func (e *Engine) retry(ctx context.Context, j *job, out *invoke.Response) {
	if j.Attempts > j.settings.MaximumRetryAttempts {
		e.giveUp(ctx, j, exhausted, out)
		return
	}
	delay := firstRetry
	if j.Attempts > 1 {
		delay = secondRetry
	}
	e.putBack(ctx, j, e.pacer.scaled(delay), out)
}

// putBack returns an event to the queue, unless it would be too old when its
// time comes.
func (e *Engine) putBack(ctx context.Context, j *job, delay time.Duration, out *invoke.Response) {
	due := e.cfg.Now().Add(delay)
	if !due.Before(j.expires()) {
		e.giveUp(ctx, j, tooOld, out)
		return
	}
	note, err := json.Marshal(j.event)
	if err != nil { // it was read from JSON
		e.cfg.Logger.Error("the state of an event cannot be written", "request", j.RequestID, "error", err)
		note = nil
	}
	e.settled(j.claim, e.queue.Return(j.claim, due, note))
}

// giveUp ends an event that was not processed.
func (e *Engine) giveUp(ctx context.Context, j *job, condition string, out *invoke.Response) {
	e.cfg.Metrics.EventDropped(invokedARN(j.ref))
	e.finish(ctx, j, outcome{condition: condition, response: out, status: j.Status})
}

// finish tells the destinations and removes the event. When firn ends
// meanwhile the event stays: better twice than never.
func (e *Engine) finish(ctx context.Context, j *job, o outcome) {
	if !e.tell(ctx, j, o) {
		e.settled(j.claim, e.queue.Return(j.claim, e.cfg.Now(), nil))
		return
	}
	e.settled(j.claim, e.queue.Ack(j.claim))
}

// maxReason bounds, in bytes, what of an error is kept with an event.
const maxReason = 300

// describe is a function's error in one line.
func describe(out *invoke.Response) string {
	failure := failureOf(out.Payload)
	kind := failure.Type
	if kind == "" {
		kind = out.ErrorType
	}
	if kind == "" {
		kind = out.FunctionError
	}
	if failure.Message == "" {
		return oneLine(kind, maxReason)
	}
	return oneLine(kind+": "+failure.Message, maxReason)
}

// failure is what a runtime says of an error.
type failure struct {
	Message string `json:"errorMessage"`
	Type    string `json:"errorType"`
}

func failureOf(payload []byte) failure {
	var f failure
	if json.Unmarshal(payload, &f) != nil { // the function answers what it likes
		return failure{}
	}
	return f
}

func reasonOf(err error) string {
	if f, ok := errors.AsType[*firn.Fault](err); ok && f.Reason != "" {
		return f.Reason
	}
	return "too many requests"
}

// messageOf is what a caller would be told.
func messageOf(err error) string {
	if f, ok := errors.AsType[*firn.Fault](err); ok {
		return f.Message
	}
	return "internal error"
}

// oneLine cuts a text at a number of bytes and takes out what would not stay
// on its line.
func oneLine(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	return cut(s, limit)
}

// cut cuts a text at a number of bytes, between two characters.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// jsonOrString is bytes as part of a JSON document: as they are when they are
// JSON, else as a string.
func jsonOrString(b []byte) json.RawMessage {
	if len(bytes.TrimSpace(b)) == 0 {
		return json.RawMessage("null")
	}
	if json.Valid(b) {
		return b
	}
	text, err := json.Marshal(strings.ToValidUTF8(string(b), "\uFFFD"))
	if err != nil {
		return json.RawMessage("null") // a string always is
	}
	return text
}
