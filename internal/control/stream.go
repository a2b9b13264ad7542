package control

import (
	"context"
	"encoding/base64"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/invoke"
)

// unhandledError is the code of an error before the answer began, the value
// that Invoke has for it in X-Amz-Function-Error.
const unhandledError = "Unhandled"

// invokeWithResponseStream answers with the function's answer as events, and
// with how it ended as the last one. An error before the function ran is
// answered as that of any operation.
func (c *Control) invokeWithResponseStream(ctx context.Context, in *lambda.InvokeWithResponseStreamInput, events *awswire.EventStream) error {
	req, err := c.invokeRequest(awswire.RequestOf(ctx))
	if err != nil {
		return err
	}
	if in.InvocationType == types.ResponseStreamingInvocationTypeDryRun {
		if err := c.invoker.Check(req); err != nil {
			return err
		}
		return events.Start(&lambda.InvokeWithResponseStreamOutput{StatusCode: http.StatusNoContent})
	}
	w := &eventWriter{events: events}
	out, err := c.invoker.Stream(ctx, req, w)
	switch {
	case err != nil && (w.begun || ctx.Err() != nil):
		panic(http.ErrAbortHandler) // the caller is gone: ends the connection
	case err != nil:
		return err
	}
	defer out.Release()
	if !out.Begun {
		if err := w.Head(invoke.StreamHead{ExecutedVersion: out.ExecutedVersion, TraceHeader: out.TraceHeader}); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
	if err := events.Send("InvokeComplete", complete(req, out)); err != nil {
		panic(http.ErrAbortHandler)
	}
	return nil
}

// complete tells how a streaming invocation ended.
func complete(req *invoke.Request, out *invoke.StreamResult) *types.InvokeWithResponseStreamCompleteEvent {
	var event types.InvokeWithResponseStreamCompleteEvent
	if out.FunctionError != "" {
		event.ErrorCode = ptr(unhandledError)
		if out.Begun && out.ErrorType != "" {
			event.ErrorCode = &out.ErrorType
		}
		if len(out.Payload) > 0 {
			event.ErrorDetails = ptr(string(out.Payload))
		}
	}
	if req.LogTail {
		event.LogResult = ptr(base64.StdEncoding.EncodeToString(out.LogTail))
	}
	return &event
}

// eventWriter writes an answer as events. It implements invoke.StreamWriter.
type eventWriter struct {
	events *awswire.EventStream
	begun  bool
}

// Head sends the headers. The type of the content is that of the events: what
// the runtime gave has no place in them.
func (w *eventWriter) Head(head invoke.StreamHead) error {
	w.begun = true
	w.events.Header().Set("X-Amzn-Trace-Id", head.TraceHeader)
	return w.events.Start(&lambda.InvokeWithResponseStreamOutput{StatusCode: http.StatusOK, ExecutedVersion: &head.ExecutedVersion})
}

// Write sends one piece as one event.
func (w *eventWriter) Write(p []byte) error {
	return w.events.Send("PayloadChunk", &types.InvokeResponseStreamUpdate{Payload: p})
}
