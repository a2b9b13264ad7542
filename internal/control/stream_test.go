package control_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"

	"github.com/firn-run/firn"
)

// answered is what the SDK's client has read of a streaming invocation.
type answered struct {
	out      *lambda.InvokeWithResponseStreamOutput
	chunks   []string
	times    []time.Time
	complete []types.InvokeWithResponseStreamCompleteEvent
	err      error // of the stream
}

func (a *answered) text() string { return strings.Join(a.chunks, "") }

func (w *world) stream(in *lambda.InvokeWithResponseStreamInput) (*answered, error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	out, err := w.InvokeWithResponseStream(ctx, in)
	if err != nil {
		return nil, err
	}
	a := &answered{out: out}
	events := out.GetStream()
	defer events.Close()
	for event := range events.Events() {
		switch e := event.(type) {
		case *types.InvokeWithResponseStreamResponseEventMemberPayloadChunk:
			a.chunks, a.times = append(a.chunks, string(e.Value.Payload)), append(a.times, time.Now())
		case *types.InvokeWithResponseStreamResponseEventMemberInvokeComplete:
			a.complete = append(a.complete, e.Value)
		default:
			w.t.Errorf("event %T", e)
		}
	}
	a.err = events.Err()
	return a, nil
}

func streamOf(name, payload string) *lambda.InvokeWithResponseStreamInput {
	return &lambda.InvokeWithResponseStreamInput{FunctionName: &name, Payload: []byte(payload)}
}

func TestResponseStream(t *testing.T) {
	w := newWorld(t, options{})
	w.create("f", actorZip(t))
	in := streamOf("f", `{"do":"stream","n":3,"ms":100,"print":"streaming"}`)
	in.LogType = types.LogTypeTail
	a, err := w.stream(in)
	if err != nil || a.err != nil {
		t.Fatal(err, a.err)
	}
	if a.text() != "chunk 0\nchunk 1\nchunk 2\n" || len(a.chunks) != 3 || a.times[2].Sub(a.times[0]) < 150*time.Millisecond {
		t.Errorf("%q at %v", a.chunks, a.times)
	}
	if out := a.out; out.StatusCode != 200 || aws.ToString(out.ExecutedVersion) != "$LATEST" || aws.ToString(out.ResponseStreamContentType) != "application/vnd.amazon.eventstream" {
		t.Errorf("%+v", out)
	}
	if len(a.complete) != 1 || a.complete[0].ErrorCode != nil || a.complete[0].ErrorDetails != nil {
		t.Fatalf("%+v", a.complete)
	}
	log, err := base64.StdEncoding.DecodeString(aws.ToString(a.complete[0].LogResult))
	if err != nil || !strings.Contains(string(log), "streaming\n") || !strings.Contains(string(log), "REPORT RequestId: ") {
		t.Errorf("%v, %q", err, log)
	}

	// The same function with an order that is not streamed, larger than it may
	// be otherwise, and invoked without a stream.
	const large = firn.MaxPayloadBytes + 1
	if a, err = w.stream(streamOf("f", fmt.Sprintf(`{"do":"large","n":%d}`, large))); err != nil || len(a.text()) != large || len(a.complete) != 1 || a.complete[0].ErrorCode != nil || a.complete[0].LogResult != nil {
		t.Errorf("%v: %d bytes, %+v", err, len(a.text()), a.complete)
	}
	if got := w.call("f", `{"do":"stream","n":2}`); got != "chunk 0\nchunk 1\n" {
		t.Errorf("buffered: %q", got)
	}
	for sent, want := range map[string]string{"application/octet-stream": "application/octet-stream", "text/html": "application/json"} {
		if resp, _ := w.post("f", nil, `{"do":"stream","n":1,"type":"`+sent+`"}`); resp.Header.Get("Content-Type") != want {
			t.Errorf("buffered, of type %s: %v", sent, resp.Header)
		}
	}
}

// TestResponseStreamErrors has the ends that are the function's doing: they are
// told by the last event.
func TestResponseStreamErrors(t *testing.T) {
	w := newWorld(t, options{})
	w.create("f", actorZip(t), func(in *lambda.CreateFunctionInput) { in.Timeout = aws.Int32(1) })
	for name, test := range map[string]struct{ order, text, code, details string }{
		"trailers":       {`{"do":"stream","n":2,"arg":"trailer"}`, "chunk 0\nchunk 1\n", "Function.Midway", `{"errorMessage":"midway","errorType":"Function.Midway"}`},
		"timeout":        {`{"do":"stream","n":1,"arg":"hang"}`, "chunk 0\n", "Sandbox.Timedout", "Task timed out after 1.00 seconds"},
		"exit":           {`{"do":"stream","n":2,"arg":"exit"}`, "chunk 0\nchunk 1\n", "Runtime.TruncatedResponse", "exit status 7"},
		"hung up":        {`{"do":"stream","n":2,"arg":"hang up"}`, "chunk 0\nchunk 1\n", "Runtime.TruncatedResponse", "Response was truncated"},
		"error":          {`{"do":"error","arg":"no"}`, "", "Unhandled", `{"errorMessage":"no","errorType":"TestError"}`},
		"exit before":    {`{"do":"exit","n":3}`, "", "Unhandled", "Runtime.ExitError"},
		"timeout before": {`{"do":"sleep","ms":3000}`, "", "Unhandled", "Task timed out"},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := w.stream(streamOf("f", test.order))
			if err != nil || a.err != nil {
				t.Fatal(err, a)
			}
			if a.text() != test.text || len(a.complete) != 1 {
				t.Fatalf("%q, %+v", a.text(), a.complete)
			}
			if c := a.complete[0]; aws.ToString(c.ErrorCode) != test.code || !strings.Contains(aws.ToString(c.ErrorDetails), test.details) {
				t.Errorf("%s: %s", aws.ToString(c.ErrorCode), aws.ToString(c.ErrorDetails))
			}
		})
	}
}

// TestResponseStreamRefused has what never runs: ordinary errors.
func TestResponseStreamRefused(t *testing.T) {
	w := newWorld(t, options{concurrency: 1})
	w.create("f", actorZip(t))
	for name, test := range map[string]struct {
		in     *lambda.InvokeWithResponseStreamInput
		code   string
		status int
	}{
		"no function":  {streamOf("nobody", "{}"), "ResourceNotFoundException", 404},
		"no version":   {&lambda.InvokeWithResponseStreamInput{FunctionName: aws.String("f"), Qualifier: aws.String("7")}, "ResourceNotFoundException", 404},
		"no JSON":      {streamOf("f", "{"), "InvalidRequestContentException", 400},
		"context":      {&lambda.InvokeWithResponseStreamInput{FunctionName: aws.String("f"), ClientContext: aws.String("!")}, "InvalidRequestContentException", 400},
		"type":         {&lambda.InvokeWithResponseStreamInput{FunctionName: aws.String("f"), InvocationType: "Event"}, "ValidationException", 400},
		"dry, no JSON": {&lambda.InvokeWithResponseStreamInput{FunctionName: aws.String("f"), InvocationType: "DryRun", Payload: []byte("{")}, "InvalidRequestContentException", 400},
	} {
		_, err := w.stream(test.in)
		var api smithy.APIError
		var status interface{ HTTPStatusCode() int }
		if !errors.As(err, &api) || api.ErrorCode() != test.code || !errors.As(err, &status) || status.HTTPStatusCode() != test.status {
			t.Errorf("%s: %v", name, err)
		}
	}
	a, err := w.stream(&lambda.InvokeWithResponseStreamInput{FunctionName: aws.String("f"), InvocationType: types.ResponseStreamingInvocationTypeDryRun})
	if err != nil || a.err != nil || a.out.StatusCode != 204 || len(a.chunks)+len(a.complete) > 0 {
		t.Errorf("dry: %v, %+v", err, a)
	}

	// The only slot is taken while a stream lasts.
	out, err := w.InvokeWithResponseStream(t.Context(), streamOf("f", `{"do":"stream","n":2,"ms":1000}`))
	if err != nil {
		t.Fatal(err)
	}
	defer out.GetStream().Close()
	_, err = w.stream(streamOf("f", "{}"))
	var throttle *types.TooManyRequestsException
	if !errors.As(err, &throttle) || throttle.Reason != types.ThrottleReasonConcurrentInvocationLimitExceeded {
		t.Errorf("at the limit: %v", err)
	}
}

// TestResponseStreamGone: a client that leaves in the middle does not end the
// function, and does not hold its environment.
func TestResponseStreamGone(t *testing.T) {
	w := newWorld(t, options{})
	w.create("f", actorZip(t))
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.server.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	payload := `{"do":"stream","n":6,"size":1048576}`
	fmt.Fprintf(conn, "POST /2021-11-15/functions/f/response-streaming-invocations HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(payload), payload)
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	deadline := time.Now().Add(10 * time.Second)
	for n := 0; n < 2; { // in the same environment
		if n = w.info("f", nil).Invocation; time.Now().After(deadline) {
			t.Fatal("the environment did not come back")
		}
	}
}

// TestResponseStreamWire looks at the answer as it is on the wire.
func TestResponseStreamWire(t *testing.T) {
	w := newWorld(t, options{})
	w.create("f", actorZip(t))
	resp, err := http.Post(w.server.URL+"/2021-11-15/functions/f/response-streaming-invocations", "application/json", strings.NewReader(`{"do":"stream","n":1}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for key, want := range map[string]string{"Content-Type": "application/vnd.amazon.eventstream", "X-Amz-Executed-Version": "$LATEST"} {
		if got := resp.Header.Get(key); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	if resp.StatusCode != 200 || resp.Header.Get("X-Amzn-Requestid") == "" || !strings.HasPrefix(resp.Header.Get("X-Amzn-Trace-Id"), "Root=1-") {
		t.Errorf("%s %v", resp.Status, resp.Header)
	}
}
