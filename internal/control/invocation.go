package control

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/invoke"
)

// Acceptor takes events of functions whose callers do not wait (package async).
type Acceptor interface {
	// Accept returns nil when the event is stored for good.
	Accept(context.Context, *invoke.Request) error
}

// SetAcceptor has asynchronous invocations served, which are refused without.
// It is called before the first request.
func (c *Control) SetAcceptor(a Acceptor) { c.acceptor = a }

// mountInvoke serves Invoke without the codec: it is the hot path.
func (c *Control) mountInvoke(mux *awswire.Mux) {
	awswire.HandleRaw[lambda.InvokeInput](mux, c.serveInvoke)
	awswire.HandleRaw[lambda.InvokeAsyncInput](mux, c.serveInvokeAsync)
	awswire.HandleStream(mux, c.invokeWithResponseStream)
}

// serveInvokeAsync is the deprecated operation: Invoke with the invocation
// type Event, under another path.
func (c *Control) serveInvokeAsync(w http.ResponseWriter, r *awswire.Request) error {
	req, err := c.invokeRequest(r)
	if err != nil {
		return err
	}
	return c.accept(w, r, req)
}

// accept answers an asynchronous invocation, when it is stored.
func (c *Control) accept(w http.ResponseWriter, r *awswire.Request, req *invoke.Request) error {
	if c.acceptor == nil {
		return notServed("asynchronous invocations (X-Amz-Invocation-Type Event)", "")
	}
	if req.TraceHeader == "" {
		req.TraceHeader = invoke.NewTrace(c.cfg.Now())
	}
	if err := c.acceptor.Accept(r.Context(), req); err != nil {
		return err
	}
	header := w.Header()
	header["Content-Length"] = []string{"0"}
	header["X-Amzn-Remapped-Content-Length"] = []string{"0"}
	header["X-Amzn-Trace-Id"] = []string{req.TraceHeader}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// TurnedOff reports whether the reserved concurrency of a function is 0.
func (c *Control) TurnedOff(ref firn.FunctionRef) bool {
	f, err := c.function(ref)
	if err != nil {
		return false
	}
	reserved := f.attachments().settings.Reserved
	return reserved != nil && *reserved == 0
}

// streamedType is the type of streamed responses that have no other. Recorded
// answers of Invoke have it for functions that stream, and JSON's otherwise.
const streamedType = "application/octet-stream"

func (c *Control) serveInvoke(w http.ResponseWriter, r *awswire.Request) error {
	req, err := c.invokeRequest(r)
	if err != nil {
		return err
	}
	switch kind := r.Header("X-Amz-Invocation-Type"); kind {
	case "", "RequestResponse":
	case "DryRun":
		if err := c.invoker.Check(req); err != nil {
			return err
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	case "Event":
		return c.accept(w, r, req)
	default:
		return invalid("Unknown invocation type: %s", kind)
	}
	out, err := c.invoker.Invoke(r.Context(), req)
	switch {
	case err != nil && r.Context().Err() != nil:
		panic(http.ErrAbortHandler) // the caller is gone: ends the connection
	case err != nil:
		return err
	}
	defer out.Release()
	header := w.Header()
	header["Content-Type"] = []string{"application/json"}
	if out.ContentType == streamedType && out.FunctionError == "" {
		header["Content-Type"] = []string{streamedType}
	}
	header["Content-Length"] = []string{strconv.Itoa(len(out.Payload))}
	header["X-Amz-Executed-Version"] = []string{out.ExecutedVersion}
	header["X-Amzn-Remapped-Content-Length"] = []string{"0"} // in every recorded answer
	header["X-Amzn-Trace-Id"] = []string{out.TraceHeader}
	if out.FunctionError != "" {
		header["X-Amz-Function-Error"] = []string{out.FunctionError}
	}
	if req.LogTail {
		header["X-Amz-Log-Result"] = []string{base64.StdEncoding.EncodeToString(out.LogTail)}
	}
	w.WriteHeader(http.StatusOK)
	w.Write(out.Payload) // the caller may be gone; the invocation has been anyway
	return nil
}

// invokeRequest reads the parameters of an Invoke call.
func (c *Control) invokeRequest(r *awswire.Request) (*invoke.Request, error) {
	ref, err := firn.ParseFunction(r.Label("FunctionName"))
	if err != nil {
		return nil, err
	}
	if q, ok := r.Query("Qualifier"); ok {
		if ref, err = ref.WithQualifier(q); err != nil {
			return nil, err
		}
	}
	for _, unserved := range []string{"X-Amz-Tenant-Id", "X-Amz-Durable-Execution-Name"} {
		if r.Header(unserved) != "" {
			return nil, notServed("the header "+unserved, "")
		}
	}
	if err := c.may(r.Identity, "lambda:InvokeFunction", ref); err != nil {
		return nil, err
	}
	clientContext, err := decodeClientContext(r.Header("X-Amz-Client-Context"))
	if err != nil {
		return nil, err
	}
	return &invoke.Request{
		Function:      ref,
		RequestID:     r.ID,
		Payload:       r.Body,
		ClientContext: clientContext,
		TraceHeader:   r.Header("X-Amzn-Trace-Id"),
		LogTail:       r.Header("X-Amz-Log-Type") == "Tail",
	}, nil
}

// decodeClientContext opens the header X-Amz-Client-Context: base64 of a JSON
// object, "" for none.
func decodeClientContext(header string) (string, error) {
	if header == "" {
		return "", nil
	}
	if len(header) > firn.MaxClientContext {
		return "", firn.Faultf(firn.InvalidRequestContent, "Client context must be at most %d bytes when base64-encoded.", firn.MaxClientContext)
	}
	raw, err := base64.StdEncoding.DecodeString(header)
	if err != nil || !json.Valid(raw) || bytes.TrimLeft(raw, " \t\r\n")[0] != '{' {
		return "", firn.Faultf(firn.InvalidRequestContent, "Client context must be a valid Base64-encoded JSON object.")
	}
	// It becomes the value of a header: one line.
	var line bytes.Buffer
	if err := json.Compact(&line, raw); err != nil {
		return "", err
	}
	return line.String(), nil
}
