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

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/async/deliver"
	"github.com/firn-run/firn/internal/invoke"
)

// outcome is the end of an event.
type outcome struct {
	condition string
	response  *invoke.Response // of the last attempt; nil when it had none
	status    int              // HTTP status of that, when it was not the function's
}

// record is an invocation record of AWS ("Capturing records of Lambda
// asynchronous invocations"), its members in AWS's order.
type record struct {
	Version         string           `json:"version"`
	Timestamp       string           `json:"timestamp"`
	RequestContext  requestContext   `json:"requestContext"`
	RequestPayload  json.RawMessage  `json:"requestPayload"`
	ResponseContext *responseContext `json:"responseContext,omitempty"`
	ResponsePayload json.RawMessage  `json:"responsePayload,omitempty"`
}

type requestContext struct {
	RequestID   string `json:"requestId"`
	FunctionARN string `json:"functionArn"`
	Condition   string `json:"condition"`
	InvokeCount int    `json:"approximateInvokeCount"`
}

type responseContext struct {
	StatusCode      int    `json:"statusCode"`
	ExecutedVersion string `json:"executedVersion,omitempty"`
	FunctionError   string `json:"functionError,omitempty"`
}

// recordTime is the form of a record's timestamp.
const recordTime = "2006-01-02T15:04:05.000Z"

// record describes the end of an event.
func (j *job) record(o outcome, now time.Time) ([]byte, error) {
	request := j.claim.Body
	if len(request) == 0 {
		request = []byte("{}")
	}
	r := record{
		Version: "1.0", Timestamp: now.UTC().Format(recordTime),
		RequestContext: requestContext{j.RequestID, qualifiedARN(j.ref), o.condition, j.Attempts},
		RequestPayload: jsonOrString(request),
	}
	switch {
	case o.response != nil:
		r.ResponseContext = &responseContext{http.StatusOK, o.response.ExecutedVersion, o.response.FunctionError}
		r.ResponsePayload = jsonOrString(o.response.Payload)
	case o.status != 0:
		r.ResponseContext = &responseContext{StatusCode: o.status}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // payloads go through as they are
	if err := enc.Encode(r); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// tell sends the end of an event to its destination and its dead-letter queue,
// and reports whether that was seen through: not when ctx ended meanwhile.
func (e *Engine) tell(ctx context.Context, j *job, o outcome) bool {
	target, dead := j.settings.OnFailure, j.settings.DeadLetter
	if o.condition == success {
		target, dead = j.settings.OnSuccess, ""
	}
	log := e.cfg.Logger.With("function", invokedARN(j.ref), "request", j.RequestID, "condition", o.condition)
	if target != "" {
		if err := e.sendRecord(ctx, target, j, o); err != nil {
			if ctx.Err() != nil {
				return false
			}
			e.cfg.Metrics.DestinationFailed(invokedARN(j.ref))
			log.Error("the record of an invocation could not be delivered", "destination", target, "error", err)
		}
	}
	if dead != "" {
		if err := e.sendDeadLetter(ctx, dead, j, o); err != nil {
			if ctx.Err() != nil {
				return false
			}
			e.cfg.Metrics.DeadLetterFailed(invokedARN(j.ref))
			log.Error("an event could not be sent to its dead-letter queue", "target", dead, "error", err)
		}
	}
	if o.condition != success && target == "" && dead == "" {
		log.Info("an event was dropped, and its function has no destination for it", "attempts", j.Attempts, "reason", j.Last)
	}
	return true
}

func (e *Engine) sendRecord(ctx context.Context, target string, j *job, o outcome) error {
	now := e.cfg.Now()
	body, err := j.record(o, now)
	if err != nil {
		return fmt.Errorf("make the record: %w", err)
	}
	to, err := deliver.Parse(target)
	if err != nil {
		return err
	}
	m := deliver.Message{
		Body: body, DetailType: "Lambda Function Invocation Result - Failure", Time: now, Trace: invoke.UsableTrace(j.trace(o)),
		Resources: []string{target, qualifiedARN(j.ref)},
		Key:       "aws/lambda/async/" + j.ref.Name + "/" + now.UTC().Format("2006/01/02/2006-01-02T15.04.05") + "-" + e.cfg.NewID(),
	}
	if o.condition == success {
		m.DetailType = "Lambda Function Invocation Result - Success"
	}
	if to.Service == "lambda" {
		return e.patiently(ctx, func() error { return e.sendEvent(ctx, target, body, j.trace(o)) })
	}
	return e.send(ctx, to, j, m)
}

// sendEvent invokes a function asynchronously. It belongs to the trace of what
// has led to it, whose lineage tells loops.
func (e *Engine) sendEvent(ctx context.Context, arn string, payload []byte, trace string) error {
	ref, err := firn.ParseFunction(arn)
	if err != nil {
		return err
	}
	err = e.Accept(ctx, &invoke.Request{Function: ref, RequestID: e.cfg.NewID(), Payload: payload, TraceHeader: trace})
	switch firn.KindOf(err) {
	case firn.Service, firn.ServiceUnavailable, firn.TooManyRequests:
		return deliver.Passing{Err: err}
	}
	return err
}

// Bounds and texts of dead letters ("Dead-letter queue message attributes").
const (
	maxErrorMessage = 1024
	offMessage      = "Function not invoked. Function isconfigured with zero reserved concurrent executions" // sic
	throttleMessage = "Rate Exceeded."
)

// sendDeadLetter sends the event itself; what went wrong stands in attributes.
func (e *Engine) sendDeadLetter(ctx context.Context, target string, j *job, o outcome) error {
	to, err := deliver.Parse(target)
	if err != nil {
		return err
	}
	if to.Service != "sqs" && to.Service != "sns" {
		return fmt.Errorf("%s is neither a queue of SQS nor a topic of SNS", target)
	}
	body := j.claim.Body
	if len(body) == 0 {
		body = []byte("{}")
	}
	code, text := o.status, j.Last
	switch {
	case o.condition == zeroConcurrency:
		code, text = 0, offMessage
	case o.response != nil:
		code, text = http.StatusOK, failureOf(o.response.Payload).Message
	case code == http.StatusTooManyRequests:
		text = throttleMessage
	case code == http.StatusNotFound:
		text = "Function not found: " + qualifiedARN(j.ref)
	case text == "":
		text = "The event was not processed within its maximum age."
	}
	attributes := []deliver.Attribute{{Name: "RequestID", Type: "String", Value: j.RequestID}}
	if code != 0 {
		attributes = append(attributes, deliver.Attribute{Name: "ErrorCode", Type: "Number", Value: fmt.Sprint(code)})
	}
	if text = cut(strings.ToValidUTF8(text, "\uFFFD"), maxErrorMessage); text != "" { // empty values are refused
		attributes = append(attributes, deliver.Attribute{Name: "ErrorMessage", Type: "String", Value: text})
	}
	return e.send(ctx, to, j, deliver.Message{Body: body, Attributes: attributes, Time: e.cfg.Now(), Trace: invoke.UsableTrace(j.trace(o))})
}

// trace is the header of what an event leads to: that of its last attempt, or
// its own.
func (j *job) trace(o outcome) string {
	if o.response != nil {
		return o.response.TraceHeader
	}
	return j.Trace
}

// send signs and sends a message to another service, with the credentials of
// the function's role.
func (e *Engine) send(ctx context.Context, to deliver.Target, j *job, m deliver.Message) error {
	creds, err := e.cfg.Roles.Credentials(j.settings.Role, j.ref.Name)
	if err != nil {
		return fmt.Errorf("credentials of the function's role: %w", err)
	}
	return e.patiently(ctx, func() error { return e.sender.Send(ctx, to, creds, m) })
}

// Deliveries that fail for reasons that may pass are tried again.
const (
	deliveries    = 3
	deliveryPause = time.Second // then twice as long
)

// patiently tries a delivery, and again when it failed for reasons that pass.
func (e *Engine) patiently(ctx context.Context, try func() error) error {
	var err error
	for n := range deliveries {
		if n > 0 {
			pause(ctx, e.pacer.scaled(backoff(n-1, deliveryPause, time.Minute)))
		}
		if err = try(); err == nil || ctx.Err() != nil {
			return err
		}
		if _, ok := errors.AsType[deliver.Passing](err); !ok {
			return err
		}
	}
	return err
}
