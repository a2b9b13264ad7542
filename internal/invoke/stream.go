package invoke

import (
	"cmp"
	"context"

	"github.com/firn-run/firn/internal/environment"
)

// StreamHead is what is known of a streamed answer before its first byte.
type StreamHead struct {
	// ContentType is the one that the runtime gave; when it gave none,
	// application/octet-stream for what it calls a stream and application/json
	// otherwise.
	ContentType string
	// Streaming says that the runtime calls its answer a stream. One that does
	// not (as that for Go) may be one all the same.
	Streaming       bool
	ExecutedVersion string
	// TraceHeader is the X-Amzn-Trace-Id that the function saw.
	TraceHeader string
}

// StreamWriter takes the answer of a streaming invocation piece by piece. Its
// methods are called by the goroutine that called Stream, before Stream
// returns, so that they may write to an http.ResponseWriter.
//
// An error of a method means that the client has gone: nothing more is written,
// Stream returns the error, and the function runs on.
type StreamWriter interface {
	// Head comes once, when the runtime has begun its answer (its first byte
	// may be long in coming) and before any Write. It does not come when the
	// invocation failed before that.
	Head(StreamHead) error
	// Write takes one piece as it came from the runtime, at most 32 KiB, and
	// hands it on at once: the writer flushes. It may block for as long as the
	// client is slow; so does the function then. p is the caller's again after
	// the return.
	Write(p []byte) error
}

// StreamResult is the end of a streaming invocation.
type StreamResult struct {
	// Outcome tells of the error, if any: FunctionError, ErrorType, and the
	// error document in Payload. Payload is empty for a function that did not
	// fail, for its answer has been written.
	environment.Outcome
	// Begun says that Head was called: an error is one in the middle of the
	// answer then. Otherwise nothing was written, and Outcome.Payload is the
	// whole answer, which is an error.
	Begun           bool
	ExecutedVersion string
	TraceHeader     string
}

// Stream runs the function like Invoke and writes its answer to w as it comes.
// An error means that nothing ran, or that the client has gone (ctx's error, or
// w's); what became of the function is in the result. The caller calls
// Release when it is done with the payload.
func (i *Invoker) Stream(ctx context.Context, req *Request, w StreamWriter) (*StreamResult, error) {
	sink := &streamSink{ctx: ctx, w: w, pace: i.pace()}
	out, err := i.run(ctx, req, sink)
	if err != nil {
		return nil, err
	}
	r := &StreamResult{Outcome: out.Outcome, Begun: sink.begun, ExecutedVersion: out.ExecutedVersion, TraceHeader: out.TraceHeader}
	return r, nil
}

// streamSink writes the answer of one invocation to its caller, at the pace
// that streams may have. It implements environment.StreamSink.
type streamSink struct {
	ctx    context.Context // the caller's
	w      StreamWriter
	pace   *pacer
	head   StreamHead
	begun  bool
	failed error // of the writer, or ctx's
}

// Begin begins the answer.
func (s *streamSink) Begin(head environment.ResponseHead) error {
	s.begun, s.head.Streaming = true, head.Streaming
	otherwise := "application/json"
	if head.Streaming {
		otherwise = "application/octet-stream"
	}
	s.head.ContentType = cmp.Or(head.ContentType, otherwise)
	s.failed = s.w.Head(s.head)
	return s.failed
}

// Write writes a piece when its time has come.
func (s *streamSink) Write(p []byte) error {
	if s.failed = s.pace.wait(s.ctx, len(p)); s.failed == nil {
		s.failed = s.w.Write(p)
	}
	return s.failed
}
