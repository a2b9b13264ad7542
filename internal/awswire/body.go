package awswire

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/firn-run/firn"
)

// Limits of request bodies, in bytes. The first is the number in AWS's own
// message for CreateFunction today (it was 69905067, 50 MiB of zip in base64,
// before). AWS publishes none for the rest; 1 MiB is far above the largest
// legal request of each.
const (
	maxUploadBody = 70167211
	maxPlainBody  = 1 * firn.MiB
)

// drainLimit and drainTime bound how much of a refused body is still read, so
// that a client that writes all before it reads gets to see the answer.
const (
	drainLimit = 16 * firn.MiB
	drainTime  = 2 * time.Second
)

// bodyTime is how long a body may take to arrive: half a minute, and what the
// operation's largest takes at 64 KiB per second.
func bodyTime(limit int64) time.Duration {
	return 30*time.Second + time.Duration(limit>>16)*time.Second
}

// bodyLimit is the largest body of an operation, and what AWS says of a larger
// one: the number and the operation's name in the message.
type bodyLimit struct {
	bytes  int64
	stated int64
	name   string
}

// bodyLimitOf returns the limit of the named operation.
func bodyLimitOf(op string) bodyLimit {
	switch op {
	case "Invoke", "InvokeWithResponseStream":
		// AWS lets 100 bytes more pass than it states.
		return bodyLimit{firn.MaxPayloadBytes, 6 * firn.MiB, "InvokeFunction"}
	case "InvokeAsync":
		return bodyLimit{firn.MaxEventPayloadBytes, firn.MaxEventPayloadBytes, op}
	case "CreateFunction", "UpdateFunctionCode", "PublishLayerVersion":
		return bodyLimit{maxUploadBody, maxUploadBody, op}
	case "CheckpointDurableExecution", "SendDurableExecutionCallbackSuccess":
		// A checkpoint carries payloads of up to 6 MB in JSON strings.
		return bodyLimit{8 * firn.MiB, 8 * firn.MiB, op}
	default:
		return bodyLimit{maxPlainBody, maxPlainBody, op}
	}
}

// fault is the answer to a body over the limit, in AWS's words: the same kind
// for all operations, Invoke too (its RequestTooLargeException is about the
// payload of one invocation type).
func (l bodyLimit) fault() *firn.Fault {
	return firn.Faultf(firn.RequestEntityTooLarge, "Request must be smaller than %d bytes for the %s operation", l.stated, l.name)
}

// errClientGone says that the request ended before its body did. Nobody reads
// the answer.
var errClientGone = errors.New("the client went away while it sent the body")

// readBody reads the body whole, up to the limit. Memory grows with what has
// arrived, never with what was announced.
func readBody(w http.ResponseWriter, r *http.Request, limit bodyLimit) ([]byte, error) {
	if r.ContentLength > limit.bytes {
		drain(w, r)
		return nil, limit.fault()
	}
	if r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	control := http.NewResponseController(w)
	if err := control.SetReadDeadline(time.Now().Add(bodyTime(limit.bytes))); err == nil {
		defer control.SetReadDeadline(time.Time{})
	}
	const first = 64 << 10
	size := int64(first)
	if r.ContentLength > 0 {
		size = min(r.ContentLength+1, first) // one more, so that the last read sees the end
	}
	body := make([]byte, 0, size)
	for {
		n, err := r.Body.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case int64(len(body)) > limit.bytes:
			drain(w, r)
			return nil, limit.fault()
		case errors.Is(err, io.EOF):
			return body, nil
		case err != nil:
			return nil, fmt.Errorf("%w: %w", errClientGone, err)
		}
		if len(body) == cap(body) {
			body = append(make([]byte, 0, grow(int64(cap(body)), r.ContentLength)), body...)
		}
	}
}

// grow returns the next capacity: twice the last, but not beyond an announced
// length.
func grow(last, announced int64) int64 {
	next := 2 * last
	if announced > last && announced < next {
		next = announced + 1
	}
	return next
}

// drain reads on for a while after a refusal and lets the connection close.
func drain(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Connection", "close")
	if r.Body == nil || r.Header.Get("Expect") != "" {
		return // the client waits for leave to send
	}
	control := http.NewResponseController(w)
	if err := control.SetReadDeadline(time.Now().Add(drainTime)); err != nil {
		return // not a network connection: nothing waits
	}
	// What is read and how it ends does not matter: the answer is the same.
	_, _ = io.CopyN(io.Discard, r.Body, drainLimit)
}
