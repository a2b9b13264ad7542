package awswire

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/firn-run/firn"
)

// ServeHTTP routes, authenticates, reads and serves one request.
func (m *Mux) ServeHTTP(w http.ResponseWriter, hr *http.Request) { m.handle(w, hr, m.serve) }

// Authenticated returns a handler for an endpoint of firn's own: requests are
// signed for the service "lambda", as all clients can, and next sees a Request
// that has been authenticated and read whole, up to 1 MiB. Operation is the
// path. An error that next returns before it has written anything is answered
// as REST-JSON, like that of a typed operation.
func Authenticated(cfg Config, next func(http.ResponseWriter, *Request) error) http.Handler {
	service := Lambda()
	service.Operations = nil
	m := NewService(cfg, service)
	return http.HandlerFunc(func(w http.ResponseWriter, hr *http.Request) {
		m.handle(w, hr, func(w *answer, r *Request) error {
			r.Operation = hr.URL.Path
			if err := m.admit(w, r, bodyLimit{maxPlainBody, maxPlainBody, "requested"}); err != nil {
				return err
			}
			return next(w, r)
		})
	})
}

// handle runs serve for one request and answers its error.
func (m *Mux) handle(w http.ResponseWriter, hr *http.Request, serve func(*answer, *Request) error) {
	r := &Request{HTTP: hr, ID: NewRequestID(), Identity: m.cfg.Anonymous}
	h := w.Header()
	h["X-Amzn-Requestid"] = []string{r.ID}
	h.Set("Date", m.cfg.Now().UTC().Format(http.TimeFormat))
	tracked := &answer{ResponseWriter: w}
	defer m.recovered(tracked, r)
	if err := serve(tracked, r); err != nil {
		m.failed(tracked, r, err)
	}
}

// serve runs the steps of a request in AWS's order.
func (m *Mux) serve(w *answer, r *Request) error {
	if err := m.route(r); err != nil {
		return err
	}
	limit := bodyLimit{m.service.MaxBody, m.service.MaxBody, "requested"}
	if r.op != nil {
		limit = r.op.limit
	}
	if err := m.admit(w, r, limit); err != nil {
		return err
	}
	if err := m.unpack(r); err != nil {
		return err
	}
	if r.op.serve == nil {
		return firn.Faultf(firn.NotImplemented, "firn does not serve %s yet; see DIVERGENCES.md", r.Operation)
	}
	return r.op.serve(w, r)
}

// admit authenticates the request and reads its body, in the order that lets
// as little as possible be read for strangers.
func (m *Mux) admit(w http.ResponseWriter, r *Request, limit bodyLimit) error {
	if m.cfg.Auth == nil {
		var err error
		r.Body, err = readBody(w, r.HTTP, limit)
		return err
	}
	proof, err := m.cfg.Auth.Begin(r.HTTP)
	if err != nil {
		return err
	}
	if r.Body, err = readBody(w, r.HTTP, limit); err != nil {
		return err
	}
	if err := proof.Finish(r.HTTP, r.Body); err != nil {
		return err
	}
	r.Identity = proof.Identity
	return nil
}

// failed answers with err, or gives up where an answer has begun or nobody
// waits for it.
func (m *Mux) failed(w *answer, r *Request, err error) {
	switch {
	case errors.Is(err, errClientGone):
		// Ends the connection: there is no way to answer.
		panic(http.ErrAbortHandler)
	case w.begun:
		m.cfg.Logger.Info("request failed while it was answered", "operation", r.Operation, "requestId", r.ID, "error", err)
		panic(http.ErrAbortHandler) // so that the caller sees a broken answer, not a short one
	default:
		m.WriteError(w, r, err)
	}
}

// recovered answers a panic of an operation as an internal error. The panics
// that are meant for net/http go on.
func (m *Mux) recovered(w *answer, r *Request) {
	switch cause := recover(); {
	case cause == nil:
	case cause == http.ErrAbortHandler:
		panic(cause)
	default:
		err := fmt.Errorf("panic: %v\n%s", cause, debug.Stack())
		if w.begun {
			m.cfg.Logger.Error("operation panicked", "operation", r.Operation, "requestId", r.ID, "error", err)
			panic(http.ErrAbortHandler)
		}
		m.WriteError(w, r, err)
	}
}

// answer knows whether an answer has begun.
type answer struct {
	http.ResponseWriter
	begun bool
}

// WriteHeader notes the beginning of the answer.
func (a *answer) WriteHeader(code int) {
	a.begun = true
	a.ResponseWriter.WriteHeader(code)
}

// largeAnswer is the size from which on the writing of an answer is bounded in
// time. What is smaller fits into the buffers of the kernel.
const largeAnswer = 64 << 10

// writeTime is how long a client may take to read an answer of n bytes.
func writeTime(n int) time.Duration { return bodyTime(int64(n)) }

// Write notes the beginning of the answer. A client that does not read a large
// one loses its connection after a while: the answer is held in memory.
func (a *answer) Write(b []byte) (int, error) {
	a.begun = true
	if len(b) < largeAnswer {
		return a.ResponseWriter.Write(b)
	}
	control := http.NewResponseController(a.ResponseWriter)
	if err := control.SetWriteDeadline(time.Now().Add(writeTime(len(b)))); err != nil {
		return a.ResponseWriter.Write(b) // not a network connection
	}
	n, err := a.ResponseWriter.Write(b)
	if err == nil {
		// The connection may serve further requests, which may take longer.
		err = control.SetWriteDeadline(time.Time{})
	}
	return n, err
}

// ReadFrom notes the beginning of the answer and copies without a buffer of
// ours where the connection can.
func (a *answer) ReadFrom(src io.Reader) (int64, error) {
	a.begun = true
	return io.Copy(a.ResponseWriter, src)
}

// Unwrap lets http.ResponseController reach the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
