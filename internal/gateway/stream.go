package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"time"

	"github.com/firn-run/firn/internal/invoke"
)

// preludeType is the content type of an answer that begins with a prelude: a
// JSON object with statusCode, headers and cookies, eight NUL bytes, and then
// the body.
const preludeType = "application/vnd.awslambda.http-integration-response"

// separatorBytes end the prelude.
const separatorBytes = 8

// maxPrelude bounds a prelude; its headers go out as they are, and clients
// stop reading at some ten kilobytes.
const maxPrelude = 128 << 10

// errPrelude says that a prelude was not one; the answer has been given.
var errPrelude = errors.New("the prelude of the response is not valid")

// stream invokes the function and passes on its answer while it comes.
func (x *exchange) stream(request *invoke.Request) {
	s := &streamed{x: x}
	out, err := x.g.cfg.Invoker.Stream(x.r.Context(), request, s)
	if out != nil {
		defer out.Release()
		if x.status == 0 {
			setTrace(x.w.Header(), out.TraceHeader)
		}
	}
	switch {
	case errors.Is(err, errPrelude):
		x.g.cfg.Logger.Debug("response of a function is not one of HTTP", "function", x.url.Function.Name, "requestId", x.id, "error", err)
	case err != nil && x.status == 0:
		x.fail(err)
	case err != nil:
		// The client has gone, or reads too slowly.
		panic(http.ErrAbortHandler)
	case x.status == 0: // failed before it began, or in the prelude
		x.refuse(errFunction())
	case out.FunctionError != "":
		// The status has been sent: only the end of the connection can tell
		// that the answer is not whole.
		x.g.cfg.Logger.Debug("function failed while it streamed", "function", x.url.Function.Name, "requestId", x.id, "errorType", out.ErrorType)
		panic(http.ErrAbortHandler)
	}
}

// streamed writes the answer of a streaming invocation. It implements
// invoke.StreamWriter.
type streamed struct {
	x       *exchange
	prelude []byte // that has come so far; nil when there is none
	inside  bool   // the prelude is not over
	nuls    int    // at the end of prelude
}

// Head begins the answer, unless a prelude is to come first.
func (s *streamed) Head(head invoke.StreamHead) error {
	setTrace(s.x.w.Header(), head.TraceHeader)
	kind, _, _ := mime.ParseMediaType(head.ContentType)
	if kind == preludeType {
		s.inside = true
		return nil
	}
	a := &answer{status: http.StatusOK, header: http.Header{}, length: -1}
	if isValue(head.ContentType) && head.ContentType != "" {
		a.header.Set("Content-Type", head.ContentType)
	}
	s.x.head(a)
	return s.x.flush()
}

// Write passes one piece on.
func (s *streamed) Write(p []byte) error {
	if s.inside {
		rest, err := s.readPrelude(p)
		if err != nil {
			s.x.refuse(errFunction())
			return fmt.Errorf("%w: %w", errPrelude, err)
		}
		if s.inside {
			return nil
		}
		if len(rest) == 0 {
			return s.x.flush()
		}
		p = rest
	}
	if err := s.x.write(p); err != nil {
		return err
	}
	return s.x.flush()
}

// readPrelude takes bytes until the separator is complete, begins the answer,
// and returns what is left of the body.
func (s *streamed) readPrelude(p []byte) (rest []byte, err error) {
	for i, c := range p {
		if c != 0 {
			if s.nuls > 0 {
				return nil, errors.New("a NUL byte inside")
			}
			continue
		}
		if s.nuls++; s.nuls < separatorBytes {
			continue
		}
		if len(s.prelude)+i > maxPrelude {
			return nil, errors.New("too long")
		}
		text := append(s.prelude, p[:i+1]...)
		text = text[:len(text)-separatorBytes]
		s.inside, s.prelude = false, nil
		return p[i+1:], s.begin(text)
	}
	if len(s.prelude)+len(p) > maxPrelude {
		return nil, errors.New("too long")
	}
	s.prelude = append(s.prelude, p...)
	return nil, nil
}

// begin writes the status and headers of a prelude.
func (s *streamed) begin(text []byte) error {
	if text = bytes.TrimSpace(text); len(text) == 0 {
		text = []byte("{}")
	}
	r, err := parseResponse(text, true)
	if err != nil {
		return err
	}
	a, err := r.begin()
	if err != nil {
		return err
	}
	if a.header.Get("Content-Type") == "" {
		a.header.Set("Content-Type", "application/octet-stream")
	}
	s.x.head(a)
	return nil
}

// pieceTime is how long a client may take to read one piece of 64 KiB. A long
// stream is not cut by it: every piece has its own.
const pieceTime = 60 * time.Second

// largeAnswer is the size from which on a body is written in pieces; what is
// smaller fits into the buffers of the kernel.
const largeAnswer = 64 << 10

// write writes a part of a body. A client that does not read loses its
// connection after a while.
func (x *exchange) write(b []byte) error {
	if !bodyAllowed(x.status) {
		return nil
	}
	for len(b) > 0 {
		n := min(len(b), largeAnswer)
		x.extend()
		if _, err := x.w.Write(b[:n]); err != nil {
			return fmt.Errorf("write to the client: %w", err)
		}
		b = b[n:]
	}
	return nil
}

// flush hands on what has been written.
func (x *exchange) flush() error {
	x.extend()
	if err := http.NewResponseController(x.w).Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("write to the client: %w", err)
	}
	return nil
}

// extend gives the client its time for the next piece. What is no network
// connection has no deadlines, and nothing waits there.
func (x *exchange) extend() {
	_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(pieceTime))
}

// settle ends the deadlines: the connection may serve further requests, which
// may take longer.
func (x *exchange) settle() {
	_ = http.NewResponseController(x.w).SetWriteDeadline(time.Time{})
}
