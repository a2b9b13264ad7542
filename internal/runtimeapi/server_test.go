package runtimeapi

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firn-run/firn/internal/lifecycle"
)

// script is a handler that answers by rule: what the server does is the test,
// not what the machine decides.
type script struct {
	t      testing.TB
	server *Server

	mu     sync.Mutex
	events []lifecycle.Event
	bodies []string
	parked chan lifecycle.Call // next calls, left without a reply
	gone   chan lifecycle.Call

	receiver Receiver // takes streams; nil buffers them. Set before the first request
}

func (h *script) Handle(ev lifecycle.Event, call lifecycle.Call, body *Body) {
	h.mu.Lock()
	h.events = append(h.events, ev)
	if body != nil {
		h.bodies = append(h.bodies, string(body.Bytes()))
		body.Release()
	}
	h.mu.Unlock()
	switch ev := ev.(type) {
	case lifecycle.RuntimeNext, lifecycle.ExtensionNext:
		h.parked <- call
	case lifecycle.Gone:
		h.gone <- ev.Call
	case lifecycle.RuntimeResponseBegun: // wants no reply
	case lifecycle.RuntimeResponse:
		if ev.RequestID == "bad" {
			h.server.Reply(lifecycle.Refuse{Call: call, Status: 400, ErrorType: "InvalidRequestID", Message: "Invalid request ID"}, nil)
			return
		}
		if h.receiver != nil {
			h.server.AcceptStream(call, h.receiver)
			return
		}
		h.server.Reply(lifecycle.AcceptBody{Call: call}, nil)
	case lifecycle.RuntimeResponseDone:
		switch ev.Fault {
		case lifecycle.ResponseTooLarge:
			h.server.Reply(lifecycle.Refuse{Call: call, Status: 413, ErrorType: "RequestEntityTooLarge", Message: "m"}, nil)
		case lifecycle.ResponseTruncated:
			h.server.Reply(lifecycle.Refuse{Call: call, Status: 400, ErrorType: "TruncatedHTTPRequest", Message: "m"}, nil)
		default:
			h.server.Reply(lifecycle.Reply{Call: call, Status: 202}, nil)
		}
	case lifecycle.Register:
		h.server.Reply(lifecycle.ReplyRegistered{Call: call, ID: "the-id", AccountID: ev.AccountID}, nil)
	case lifecycle.Subscribe:
		if len(ev.Body) == 0 {
			h.server.ReplyJSON(call, 400, []byte(`"no"`))
			return
		}
		h.server.ReplyJSON(call, 200, []byte(`"OK"`))
	default:
		h.server.Reply(lifecycle.Reply{Call: call, Status: 202}, nil)
	}
}

// seen returns the events since the last call, without the fresh identities.
func (h *script) seen() []lifecycle.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	events := h.events
	h.events = nil
	for i, ev := range events {
		switch ev := ev.(type) {
		case lifecycle.Register:
			ev.Call, ev.NewID = 0, ""
			events[i] = ev
		case lifecycle.RuntimeResponse:
			ev.Call = 0
			events[i] = ev
		case lifecycle.RuntimeResponseBegun:
			ev.Call = 0
			events[i] = ev
		case lifecycle.RuntimeResponseDone:
			ev.Call = 0
			events[i] = ev
		case lifecycle.RuntimeError:
			ev.Call = 0
			events[i] = ev
		case lifecycle.RuntimeInitError:
			ev.Call = 0
			events[i] = ev
		case lifecycle.ExtensionInitError:
			ev.Call = 0
			events[i] = ev
		case lifecycle.ExtensionExitError:
			ev.Call = 0
			events[i] = ev
		case lifecycle.Subscribe:
			ev.Call = 0
			events[i] = ev
		}
	}
	return events
}

type rig struct {
	*script
	t    testing.TB
	addr string
}

func newRig(t testing.TB, change ...func(*Config)) *rig {
	t.Helper()
	h := &script{t: t, parked: make(chan lifecycle.Call, 1000), gone: make(chan lifecycle.Call, 1000)}
	cfg := Config{
		Handler: h, FunctionName: "fn", FunctionVersion: "$LATEST", FunctionHandler: "a.b", AccountID: "123456789012",
		Buffers: new(Buffers), Logger: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) },
	}
	for _, c := range change {
		c(&cfg)
	}
	h.server = New(cfg)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- h.server.Serve(ln) }()
	t.Cleanup(func() {
		ln.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
		h.server.Close()
	})
	return &rig{script: h, t: t, addr: ln.Addr().String()}
}

func (r *rig) dial() net.Conn {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		r.t.Fatal(err)
	}
	return c
}

// send writes raw bytes, ends the sending side, and returns all that comes
// back.
func (r *rig) send(raw string) string {
	r.t.Helper()
	c := r.dial()
	go func() {
		io.WriteString(c, raw) // fails when the server has hung up, as it may
		c.(*net.TCPConn).CloseWrite()
	}()
	p, err := io.ReadAll(c)
	if err != nil && len(p) == 0 {
		r.t.Fatalf("%.80q: %v", raw, err)
	}
	return string(p)
}

func (r *rig) call(method, path string, header map[string]string, body string) string {
	r.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n", method, path)
	for k, v := range header {
		fmt.Fprintf(&b, "%s: %s\r\n", k, v)
	}
	if body != "" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	return r.send(b.String() + "\r\n" + body)
}

const (
	date  = "Date: Fri, 02 Jan 2026 03:04:05 GMT\r\n"
	jsonT = "Content-Type: application/json\r\n"
	shut  = "Connection: close\r\n"
)

func refusal(status, errorType, message string) string {
	body := fmt.Sprintf(`{"errorMessage":%q,"errorType":%q}`+"\n", message, errorType)
	return fmt.Sprintf("HTTP/1.1 %s\r\n%s%sContent-Length: %d\r\n%s\r\n%s", status, date, jsonT, len(body), shut, body)
}

const accepted = "HTTP/1.1 202 Accepted\r\n" + date + jsonT + "Content-Length: 16\r\n" + shut + "\r\n{\"status\":\"OK\"}\n"

func TestReplies(t *testing.T) {
	r := newRig(t)
	const anID = "0b8a1b0e-7f0f-4f5c-9a67-6e5f5f6a7b8c"
	notFound := "HTTP/1.1 404 Not Found\r\n" + date + "Content-Type: text/plain; charset=utf-8\r\nContent-Length: 19\r\n" + shut + "X-Content-Type-Options: nosniff\r\n\r\n404 page not found\n"
	notAllowed := func(allow string) string {
		return "HTTP/1.1 405 Method Not Allowed\r\n" + date + "Content-Length: 0\r\n" + shut + "Allow: " + allow + "\r\n\r\n"
	}
	type H = map[string]string
	for _, test := range []struct {
		name, method, path string
		header             H
		body               string
		want               string
		event              lifecycle.Event
	}{
		{name: "ping", method: "GET", path: "/2018-06-01/ping",
			want: "HTTP/1.1 200 OK\r\n" + date + "Content-Type: text/plain; charset=utf-8\r\nContent-Length: 4\r\n" + shut + "\r\npong"},
		{name: "unknown", method: "GET", path: "/2018-06-01/runtime", want: notFound},
		{name: "root", method: "GET", path: "/", want: notFound},
		{name: "slash at the end", method: "GET", path: "/2018-06-01/runtime/invocation/next/", want: notFound},
		{name: "no id", method: "POST", path: "/2018-06-01/runtime/invocation//response", want: notFound},
		{name: "restore", method: "GET", path: "/2018-06-01/runtime/restore/next", want: notFound},
		{name: "method of next", method: "POST", path: "/2018-06-01/runtime/invocation/next", body: "x", want: notAllowed("GET")},
		{name: "head of next", method: "HEAD", path: "/2018-06-01/runtime/invocation/next", want: notAllowed("GET")},
		{name: "method of response", method: "GET", path: "/2018-06-01/runtime/invocation/x/response", want: notAllowed("POST")},
		{name: "method of telemetry", method: "POST", path: "/2022-07-01/telemetry", want: notAllowed("PUT")},
		{name: "telemetry without identifier", method: "PUT", path: "/2022-07-01/telemetry", body: "{}",
			want: refusal("403 Forbidden", "Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header")},
		{name: "logs with bad identifier", method: "PUT", path: "/2020-08-15/logs", header: H{"Lambda-Extension-Identifier": "x"}, body: "{}",
			want: refusal("403 Forbidden", "Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier")},
		{name: "telemetry", method: "PUT", path: "/2022-07-01/telemetry", header: H{"Lambda-Extension-Identifier": anID}, body: "{",
			want:  "HTTP/1.1 200 OK\r\n" + date + jsonT + "Content-Length: 4\r\n" + shut + "\r\n\"OK\"",
			event: lifecycle.Subscribe{ID: anID, API: lifecycle.TelemetryAPI, Body: []byte("{")}},
		{name: "logs without a body", method: "PUT", path: "/2020-08-15/logs", header: H{"Lambda-Extension-Identifier": strings.ToUpper(anID)},
			want:  "HTTP/1.1 400 Bad Request\r\n" + date + jsonT + "Content-Length: 4\r\n" + shut + "\r\n\"no\"",
			event: lifecycle.Subscribe{ID: anID, API: lifecycle.LogsAPI, Body: []byte{}}},
		{name: "subscription too large", method: "PUT", path: "/2020-08-15/logs", header: H{"Lambda-Extension-Identifier": anID}, body: strings.Repeat("x", maxErrorBytes+1),
			want: refusal("413 Request Entity Too Large", "RequestEntityTooLarge", "Exceeded maximum allowed payload size (1048576 bytes).")},
		{name: "error", method: "POST", path: "/2018-06-01/runtime/invocation/an-id/error", header: H{"Lambda-Runtime-Function-Error-Type": "Runtime.Foo"}, body: "whatever",
			want: accepted, event: lifecycle.RuntimeError{RequestID: "an-id", ErrorType: "Runtime.Foo", Payload: []byte("whatever")}},
		{name: "error with query", method: "POST", path: "/2018-06-01/runtime/invocation/an-id/error?x=y", header: H{"lambda-runtime-function-error-type": "Own.Foo"},
			want: accepted, event: lifecycle.RuntimeError{RequestID: "an-id", ErrorType: "Runtime.Unknown", Payload: []byte{}}},
		{name: "error with cause", method: "POST", path: "/2018-06-01/runtime/invocation/an-id/error", header: H{"Content-Type": "application/vnd.aws.lambda.error.cause+json"},
			body: `{"errorMessage":"m","errorType":"T","stackTrace":["a"],"errorCause":{"x":1}}`, want: accepted,
			event: lifecycle.RuntimeError{RequestID: "an-id", ErrorType: "Runtime.Unknown", Payload: []byte(`{"errorMessage":"m","errorType":"T","stackTrace":["a"]}`)}},
		{name: "error too large", method: "POST", path: "/2018-06-01/runtime/invocation/an-id/error", body: strings.Repeat("x", maxErrorBytes+1),
			want: refusal("413 Request Entity Too Large", "RequestEntityTooLarge", "Exceeded maximum allowed payload size (1048576 bytes).")},
		{name: "init error", method: "POST", path: "/2018-06-01/runtime/init/error", body: "{}",
			want: accepted, event: lifecycle.RuntimeInitError{ErrorType: "Runtime.Unknown", Payload: []byte("{}")}},
		{name: "response mode", method: "POST", path: "/2018-06-01/runtime/invocation/bad/response", header: H{"Lambda-Runtime-Function-Response-Mode": "buffered"}, body: "x",
			want: refusal("400 Bad Request", "InvalidRequestID", "Invalid request ID"), event: lifecycle.RuntimeResponse{RequestID: "bad", BadMode: true}},
		{name: "response refused", method: "POST", path: "/2018-06-01/runtime/invocation/bad/response", body: strings.Repeat("x", 1<<20),
			want: refusal("400 Bad Request", "InvalidRequestID", "Invalid request ID"), event: lifecycle.RuntimeResponse{RequestID: "bad"}},
		{name: "no extension name", method: "POST", path: "/2020-01-01/extension/register", body: "{}",
			want: refusal("403 Forbidden", "Extension.InvalidExtensionName", "Empty extension name")},
		{name: "register garbage", method: "POST", path: "/2020-01-01/extension/register", header: H{"Lambda-Extension-Name": "e"}, body: "{",
			want: refusal("403 Forbidden", "InvalidRequestFormat", "unexpected end of JSON input")},
		{name: "register nothing", method: "POST", path: "/2020-01-01/extension/register", header: H{"Lambda-Extension-Name": "e"},
			want: refusal("403 Forbidden", "InvalidRequestFormat", "unexpected end of JSON input")},
		{name: "register old", method: "POST", path: "/2020-01-01/extension/register", header: H{"Lambda-Extension-Name": "e"}, body: `{"events":[],"configurationKeys":["a"]}`,
			want: refusal("403 Forbidden", "InvalidRequestFormat", "configurationKeys are deprecated; use environment variables instead")},
		{name: "next without identifier", method: "GET", path: "/2020-01-01/extension/event/next",
			want: refusal("403 Forbidden", "Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header")},
		{name: "next with bad identifier", method: "GET", path: "/2020-01-01/extension/event/next", header: H{"Lambda-Extension-Identifier": "x"},
			want: refusal("403 Forbidden", "Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier")},
		{name: "exit error without type", method: "POST", path: "/2020-01-01/extension/exit/error", header: H{"Lambda-Extension-Identifier": anID},
			want: refusal("403 Forbidden", "Extension.MissingHeader", "Lambda-Extension-Function-Error-Type not found")},
		{name: "exit error", method: "POST", path: "/2020-01-01/extension/exit/error", header: H{"Lambda-Extension-Identifier": strings.ToUpper(anID), "Lambda-Extension-Function-Error-Type": "E.X"},
			want: accepted, event: lifecycle.ExtensionExitError{ID: anID, ErrorType: "E.X"}},
		{name: "init error of an extension", method: "POST", path: "/2020-01-01/extension/init/error", header: H{"Lambda-Extension-Identifier": anID, "Lambda-Extension-Function-Error-Type": "E.X"}, body: "{}",
			want: accepted, event: lifecycle.ExtensionInitError{ID: anID, ErrorType: "E.X"}},
		{name: "response", method: "POST", path: "/2018-06-01/runtime/invocation/an-id/response", header: H{"Lambda-Runtime-Function-Response-Mode": "streaming"}, body: "hello",
			want: accepted, event: lifecycle.RuntimeResponse{RequestID: "an-id", Streaming: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := r.call(test.method, test.path, test.header, test.body)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("reply:\n%s", diff)
			}
			var event lifecycle.Event
			if seen := r.seen(); len(seen) > 0 {
				event = seen[0]
			}
			if diff := cmp.Diff(test.event, event); diff != "" {
				t.Errorf("event:\n%s", diff)
			}
		})
	}
}

func TestRegister(t *testing.T) {
	r := newRig(t)
	got := r.call("POST", "/2020-01-01/extension/register", map[string]string{"Lambda-Extension-Name": "e.sh", "Lambda-Extension-Accept-Feature": "x, accountId"}, `{"events":["INVOKE"],"other":1}`)
	body := `{"functionName":"fn","functionVersion":"$LATEST","handler":"a.b","accountId":"123456789012"}` + "\n"
	want := fmt.Sprintf("HTTP/1.1 200 OK\r\n%s%sContent-Length: %d\r\n%sLambda-Extension-Identifier: the-id\r\n\r\n%s", date, jsonT, len(body), shut, body)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]lifecycle.Event{lifecycle.Register{Name: "e.sh", Events: []string{"INVOKE"}, AccountID: true}}, r.seen()); diff != "" {
		t.Error(diff)
	}
}

func TestExtensionsDisabled(t *testing.T) {
	r := newRig(t, func(c *Config) { c.NoExtensions = true })
	want := "HTTP/1.1 404 Not Found\r\n" + date + "Content-Length: 0\r\n" + shut + "\r\n"
	for _, path := range []string{"/2020-01-01/extension/register", "/2022-07-01/telemetry"} {
		if got := r.call("POST", path, nil, "{}"); got != want {
			t.Errorf("%s: %q", path, got)
		}
	}
}
