package gateway_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/environment"
	"github.com/firn-run/firn/internal/gateway"
	"github.com/firn-run/firn/internal/invoke"
)

const (
	account = "123456789012"
	urlID   = "abcdefghijklmnopqrstuvwxyz012345"
)

// world is a gateway behind a real listener, with a function and a policy that
// the test writes.
type world struct {
	t       testing.TB
	cfg     gateway.Config
	gateway *gateway.Gateway
	base    string // http://127.0.0.1:PORT
	url     *gateway.URL
	// allow answers Allowed; nil allows all.
	allow func(gateway.Access) bool
	// answer answers a buffered invocation; nil echoes the event.
	answer func(*invoke.Request) (*invoke.Response, error)
	// stream answers a streaming one.
	stream func(context.Context, *invoke.Request, invoke.StreamWriter) (*invoke.StreamResult, error)

	tell chan struct{} // one for each of served

	mu     sync.Mutex
	asked  []gateway.Access
	served []gateway.Served
	events []*invoke.Request
}

// newWorld starts a gateway for one URL; change may alter its configuration.
func newWorld(t testing.TB, change ...func(*world)) *world {
	t.Helper()
	w := &world{t: t, tell: make(chan struct{}, 1000), url: &gateway.URL{ID: urlID, Function: firn.FunctionRef{Name: "web"}, Auth: gateway.AuthNone}}
	w.cfg = gateway.Config{
		URLs: w, Invoker: w, Region: "us-east-1", Account: account, Logger: slog.New(slog.DiscardHandler),
		Endpoint: func() string { return w.base },
		Served: func(s gateway.Served) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.served = append(w.served, s)
			w.tell <- struct{}{}
		},
	}
	for _, c := range change {
		c(w)
	}
	var err error
	if w.gateway, err = gateway.New(w.cfg); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := awswire.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if _, ok := w.gateway.Match(r); !ok {
			http.Error(rw, "the API", http.StatusTeapot)
			return
		}
		w.gateway.ServeHTTP(rw, r)
	}), w.cfg.Logger)
	w.base = "http://" + listener.Addr().String()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return w
}

// URL implements gateway.URLs.
func (w *world) URL(id string) *gateway.URL {
	if id != w.url.ID {
		return nil
	}
	return w.url
}

// Allowed implements gateway.URLs.
func (w *world) Allowed(a gateway.Access) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, a)
	return w.allow == nil || w.allow(a)
}

// Invoke implements gateway.Invoker.
func (w *world) Invoke(_ context.Context, r *invoke.Request) (*invoke.Response, error) {
	w.mu.Lock()
	w.events = append(w.events, r)
	w.mu.Unlock()
	if w.answer == nil {
		return returns(string(r.Payload)), nil
	}
	return w.answer(r)
}

// Stream implements gateway.Invoker.
func (w *world) Stream(ctx context.Context, r *invoke.Request, sink invoke.StreamWriter) (*invoke.StreamResult, error) {
	return w.stream(ctx, r, sink)
}

// returns is a function's payload.
func returns(payload string) *invoke.Response {
	return &invoke.Response{
		Outcome:         environment.Outcome{Payload: []byte(payload), Release: func() {}},
		ExecutedVersion: "$LATEST", TraceHeader: "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0",
	}
}

// fails is a function's error.
func fails(kind string) *invoke.Response {
	out := returns(`{"errorMessage":"boom"}`)
	out.FunctionError, out.ErrorType = "Unhandled", kind
	return out
}

// request is one of HTTP to the world's URL by its host.
func (w *world) request(method, path string, body io.Reader, headers ...string) *http.Request {
	w.t.Helper()
	r, err := http.NewRequest(method, w.base+path, body)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Host = w.host()
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

func (w *world) host() string {
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(w.base, "http://"))
	return urlID + ".lambda-url.us-east-1.localhost:" + port
}

// reply is an answer that was read whole.
type reply struct {
	*http.Response
	body string
}

func (w *world) do(r *http.Request) reply {
	w.t.Helper()
	client := &http.Client{Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return reply{res, string(body)}
}

// last is the event of the newest invocation, as a function in Go sees it.
func (w *world) last() events.LambdaFunctionURLRequest {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.events) == 0 {
		w.t.Fatal("the function was not invoked")
	}
	var e events.LambdaFunctionURLRequest
	if err := json.Unmarshal(w.events[len(w.events)-1].Payload, &e); err != nil {
		w.t.Fatal(err)
	}
	return e
}

func (w *world) invocations() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.events)
}

// told waits until n requests have been told of: that comes after the answer.
func (w *world) told(n int) []gateway.Served {
	w.t.Helper()
	for range n {
		select {
		case <-w.tell:
		case <-time.After(10 * time.Second):
			w.t.Fatal("a request is not told of")
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.served
}

// check compares a reply's status, and parts of it given as "Header", "value".
func (r reply) check(t testing.TB, status int, headers ...string) {
	t.Helper()
	if r.StatusCode != status {
		t.Errorf("status %d, want %d: %s", r.StatusCode, status, r.body)
	}
	for i := 0; i < len(headers); i += 2 {
		if got := strings.Join(r.Header.Values(headers[i]), " | "); got != headers[i+1] {
			t.Errorf("%s: %q, want %q", headers[i], got, headers[i+1])
		}
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
