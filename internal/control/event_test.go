package control_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/control"
	"github.com/firn-run/firn/internal/invoke"
)

// accepted is an acceptor that keeps what it is given.
type accepted struct {
	events []*invoke.Request
	refuse error
}

// Accept implements control.Acceptor.
func (a *accepted) Accept(_ context.Context, r *invoke.Request) error {
	if a.refuse != nil {
		return a.refuse
	}
	a.events = append(a.events, r)
	return nil
}

// An asynchronous invocation answers 202 with nothing but the request id, in
// both operations, once it was accepted; and what refuses it is answered.
func TestEvent(t *testing.T) {
	w := newWorld(t, options{})
	a := &accepted{}
	w.control.SetAcceptor(a)

	req, err := http.NewRequestWithContext(t.Context(), "POST", w.server.URL+"/2015-03-31/functions/f/invocations?Qualifier=live", strings.NewReader(`{"a":1}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Amz-Invocation-Type", "Event")
	req.Header.Set("X-Amz-Client-Context", "eyJrIjoidiJ9")
	req.Header.Set("X-Amzn-Trace-Id", "Root=1-5759e988-bd862e3fe1be46a994272793")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 202 || resp.ContentLength != 0 || len(a.events) != 1 || resp.Header.Get("X-Amzn-Requestid") != a.events[0].RequestID {
		t.Fatalf("%d %v, accepted %+v", resp.StatusCode, resp.Header, a.events)
	}
	if e := a.events[0]; e.Function.Name != "f" || e.Function.Qualifier != "live" || string(e.Payload) != `{"a":1}` || e.ClientContext != `{"k":"v"}` || e.TraceHeader == "" {
		t.Errorf("accepted %+v", e)
	}
	if got := resp.Header; got.Get("X-Amzn-Trace-Id") != "Root=1-5759e988-bd862e3fe1be46a994272793" || got.Get("X-Amzn-Remapped-Content-Length") != "0" {
		t.Errorf("headers %v", got)
	}

	out, err := w.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String(functionARN("f")), InvocationType: types.InvocationTypeEvent})
	if err != nil || out.StatusCode != 202 || len(out.Payload) != 0 || out.ExecutedVersion != nil {
		t.Errorf("Invoke: %+v, %v", out, err)
	}
	if trace := a.events[1].TraceHeader; !strings.HasPrefix(trace, "Root=1-") || len(trace) != len("Root=1-5759e988-bd862e3fe1be46a994272793") {
		t.Errorf("an event without a trace got %q", trace)
	}
	//lint:ignore SA1019 deprecated by AWS, served all the same
	old, err := w.InvokeAsync(t.Context(), &lambda.InvokeAsyncInput{FunctionName: aws.String("f"), InvokeArgs: strings.NewReader(`[2]`)})
	if err != nil || old.Status != 202 || len(a.events) != 3 || string(a.events[2].Payload) != `[2]` {
		t.Errorf("InvokeAsync: %+v, %v", old, err)
	}

	a.refuse = firn.Faultf(firn.RequestEntityTooLarge, "too large")
	_, err = w.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("f"), InvocationType: types.InvocationTypeEvent})
	wantFault(t, err, "RequestEntityTooLargeException", "too large")
}

func TestTurnedOff(t *testing.T) {
	w := newWorld(t, options{effects: control.Effects{Limits: newLimits()}, concurrency: 200})
	w.create("f", hello())
	ref := firn.FunctionRef{Name: "f"}
	for _, n := range []int32{5, 0} {
		in := &lambda.PutFunctionConcurrencyInput{FunctionName: aws.String("f"), ReservedConcurrentExecutions: &n}
		if _, err := w.PutFunctionConcurrency(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		if off := w.control.TurnedOff(ref); off != (n == 0) {
			t.Errorf("with %d reserved: turned off is %t", n, off)
		}
	}
	if _, err := w.DeleteFunctionConcurrency(t.Context(), &lambda.DeleteFunctionConcurrencyInput{FunctionName: aws.String("f")}); err != nil {
		t.Fatal(err)
	}
	if w.control.TurnedOff(ref) || w.control.TurnedOff(firn.FunctionRef{Name: "none"}) {
		t.Error("turned off without reserved concurrency")
	}
}
