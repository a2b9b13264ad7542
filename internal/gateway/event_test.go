package gateway_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/gateway"
)

// TestEvent sends the request of AWS's documented example and compares the
// whole event. The example shows an "authentication": null that no recorded
// event has.
func TestEvent(t *testing.T) {
	at := time.Date(2020, 3, 12, 19, 3, 58, 390_000_000, time.UTC)
	w := newWorld(t, func(w *world) { w.cfg.Now = func() time.Time { return at } })
	r := w.request("POST", "/my/path?parameter1=value1&parameter1=value2&parameter2=value", strings.NewReader("Hello from client!"),
		"Header1", "value1", "Header2", "value1", "Header2", "value2", "User-Agent", "agent", "Content-Type", "text/plain",
		"Cookie", "cookie1; cookie2", "X-Amzn-Trace-Id", "Root=1-5e6722a7-cc56xmpl46db7ae02d4da47e", "Connection", "X-Drop", "X-Drop", "y",
		"Keep-Alive", "timeout=5", "Te", "trailers")
	out := w.do(r)
	out.check(t, 200)
	id := out.Header.Get("X-Amzn-Requestid")
	port := w.base[strings.LastIndexByte(w.base, ':')+1:]
	want := fmt.Sprintf(`{
  "version": "2.0",
  "routeKey": "$default",
  "rawPath": "/my/path",
  "rawQueryString": "parameter1=value1&parameter1=value2&parameter2=value",
  "cookies": ["cookie1", "cookie2"],
  "headers": {
    "accept-encoding": "gzip",
    "content-length": "18",
    "content-type": "text/plain",
    "cookie": "cookie1; cookie2",
    "header1": "value1",
    "header2": "value1,value2",
    "host": "%[1]s.lambda-url.us-east-1.localhost:%[2]s",
    "user-agent": "agent",
    "x-amzn-trace-id": "Root=1-5e6722a7-cc56xmpl46db7ae02d4da47e",
    "x-forwarded-for": "127.0.0.1",
    "x-forwarded-port": "%[2]s",
    "x-forwarded-proto": "http"
  },
  "queryStringParameters": {"parameter1": "value1,value2", "parameter2": "value"},
  "requestContext": {
    "accountId": "anonymous",
    "apiId": "%[1]s",
    "domainName": "%[1]s.lambda-url.us-east-1.localhost",
    "domainPrefix": "%[1]s",
    "http": {"method": "POST", "path": "/my/path", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "agent"},
    "requestId": "%[3]s",
    "routeKey": "$default",
    "stage": "$default",
    "time": "12/Mar/2020:19:03:58 +0000",
    "timeEpoch": 1584039838390
  },
  "body": "Hello from client!",
  "isBase64Encoded": false
}`, urlID, port, id)
	if diff := cmp.Diff(decode(t, want), decode(t, string(w.events[0].Payload))); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
	if w.events[0].RequestID != id || w.events[0].TraceHeader != "Root=1-5e6722a7-cc56xmpl46db7ae02d4da47e" || w.events[0].Function.Name != "web" {
		t.Errorf("invoked with %+v", w.events[0])
	}
	e := w.last() // as aws-lambda-go decodes it
	if e.RequestContext.HTTP.SourceIP != "127.0.0.1" || e.Cookies[1] != "cookie2" || e.RequestContext.TimeEpoch != at.UnixMilli() {
		t.Errorf("%+v", e)
	}
}

func decode(t testing.TB, text string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

// TestEventWithNothing: what a request does not have is absent.
func TestEventWithNothing(t *testing.T) {
	w := newWorld(t)
	w.do(w.request("GET", "/", nil, "User-Agent", "")).check(t, 200)
	event := decode(t, string(w.events[0].Payload)).(map[string]any)
	for _, absent := range []string{"body", "cookies", "queryStringParameters", "pathParameters", "stageVariables"} {
		if _, ok := event[absent]; ok {
			t.Errorf("%s is there", absent)
		}
	}
	headers := event["headers"].(map[string]any)
	if headers["content-length"] != nil || headers["user-agent"] != nil {
		t.Errorf("headers %v", headers)
	}
	root := headers["x-amzn-trace-id"].(string)
	if !strings.HasPrefix(root, "Root=1-") || len(root) != len("Root=")+35 || w.events[0].TraceHeader != root {
		t.Errorf("trace %q, passed on as %q", root, w.events[0].TraceHeader)
	}
}

func TestRawParts(t *testing.T) {
	w := newWorld(t)
	for _, tc := range []struct {
		target, path, query string
		parameters          map[string]string
	}{
		{"/pa2%25Fth/1", "/pa2%25Fth/1", "", nil}, // recorded: "/pa2%Fth/1" in the request's context
		{"/a%2Fb/c%20d/%E2%82%AC/e+f", "/a%2Fb/c%20d/%E2%82%AC/e+f", "", nil},
		{"//double//", "//double//", "", nil},
		{"/a/../b/./c", "/a/../b/./c", "", nil},
		{"/?", "/", "", nil},
		{"/?a", "/", "a", map[string]string{"a": ""}},
		{"/?a=&a=2&b=%20x%2By+z&a=1%2C2", "/", "a=&a=2&b=%20x%2By+z&a=1%2C2", map[string]string{"a": ",2,1,2", "b": " x+y z"}},
		{"/?multiQuery=foo&multiQuery=%2Fbar", "/", "multiQuery=foo&multiQuery=%2Fbar", map[string]string{"multiQuery": "foo,/bar"}},
		{"/?bad=%zz&&=v&x=1=2?3", "/", "bad=%zz&&=v&x=1=2?3", map[string]string{"bad": "%zz", "": "v", "x": "1=2?3"}},
		{"/?a;b=c", "/", "a;b=c", map[string]string{"a;b": "c"}},
	} {
		r := w.request("GET", "/", nil)
		r.URL.Opaque = "//" + r.URL.Host + tc.target
		path, query, found := strings.Cut(tc.target, "?")
		r.URL.Opaque, r.URL.RawQuery, r.URL.ForceQuery = "//"+w.host()+path, query, found
		w.do(r).check(t, 200)
		e := w.last()
		decoded, err := url.PathUnescape(tc.path)
		if err != nil {
			t.Fatal(err)
		}
		if e.RawPath != tc.path || e.RequestContext.HTTP.Path != decoded || e.RawQueryString != tc.query {
			t.Errorf("%s: path %q, decoded %q, query %q", tc.target, e.RawPath, e.RequestContext.HTTP.Path, e.RawQueryString)
		}
		if diff := cmp.Diff(tc.parameters, e.QueryStringParameters); diff != "" {
			t.Errorf("%s:\n%s", tc.target, diff)
		}
	}
}

// TestBodies: which bodies are text is as people found by trying.
func TestBodies(t *testing.T) {
	w := newWorld(t)
	utf, binary := []byte(`{"a":"é"}`), []byte{0xff, 0x00, 0x80, 0x0a}
	for _, tc := range []struct {
		kind, encoding string
		body           []byte
		text           bool
	}{
		{"application/json", "", utf, true},
		{"application/json; charset=utf-8", "", utf, true},
		{"Application/JSON;", "", utf, true},
		{"text/plain", "", utf, true},
		{"text/event-stream", "", utf, true},
		{"application/xml", "", utf, true},
		{"application/javascript", "", utf, true},
		{"application/problem+json", "", utf, true},
		{"image/svg+xml", "", utf, true},
		{"", "", utf, false},
		{"application/x-www-form-urlencoded", "", []byte("a=b"), false},
		{"multipart/form-data; boundary=x", "", utf, false},
		{"application/octet-stream", "", utf, false},
		{"image/png", "", binary, false},
		{"application/json", "gzip", utf, false},
		{"application/json", "identity", utf, true},
		{"text/plain", "", binary, false}, // would not survive as text
		{"; ;", "", utf, false},
	} {
		r := w.request("PUT", "/", bytes.NewReader(tc.body))
		if tc.kind != "" {
			r.Header.Set("Content-Type", tc.kind)
		}
		if tc.encoding != "" {
			r.Header.Set("Content-Encoding", tc.encoding)
		}
		w.do(r).check(t, 200)
		e := w.last()
		got := []byte(e.Body)
		if e.IsBase64Encoded {
			var err error
			if got, err = base64.StdEncoding.DecodeString(e.Body); err != nil {
				t.Fatal(err)
			}
		}
		if e.IsBase64Encoded == tc.text || !bytes.Equal(got, tc.body) {
			t.Errorf("%q %q: base64 %v, body %q", tc.kind, tc.encoding, e.IsBase64Encoded, got)
		}
	}
}

// TestChunkedBody: a body without an announced length gets one.
func TestChunkedBody(t *testing.T) {
	w := newWorld(t)
	r := w.request("POST", "/", struct{ *strings.Reader }{strings.NewReader("abc")}, "Content-Type", "text/plain")
	r.ContentLength = -1
	w.do(r).check(t, 200)
	if e := w.last(); e.Body != "abc" || e.Headers["content-length"] != "3" || e.Headers["transfer-encoding"] != "" {
		t.Errorf("%+v", e)
	}
}

func TestForwarded(t *testing.T) {
	w := newWorld(t, func(w *world) { w.cfg.Domain = "https://fn.example.org" })
	r := w.request("GET", "/", nil, "X-Forwarded-For", "198.51.100.7", "X-Forwarded-Proto", "gopher")
	r.Host = urlID + ".fn.example.org"
	w.do(r).check(t, 200)
	e := w.last()
	if e.Headers["x-forwarded-for"] != "198.51.100.7, 127.0.0.1" || e.Headers["x-forwarded-proto"] != "https" || e.Headers["x-forwarded-port"] != "443" ||
		e.RequestContext.DomainName != urlID+".fn.example.org" || e.RequestContext.HTTP.SourceIP != "127.0.0.1" {
		t.Errorf("%+v", e)
	}
}

// TestLimits: a request of 6 MB passes, a larger one is refused before the
// function hears of it, and so is one that becomes too large in base64.
func TestLimits(t *testing.T) {
	w := newWorld(t, func(w *world) { w.answer = nil })
	for _, tc := range []struct {
		size, status int
		kind         string
	}{
		{6*firn.MiB - 4096, 200, "text/plain"},
		{firn.MaxPayloadBytes + 1, 413, "text/plain"},
		{20 * firn.MiB, 413, "text/plain"},
		{5 * firn.MiB, 413, "application/octet-stream"},
		{4 * firn.MiB, 200, "application/octet-stream"},
	} {
		before := w.invocations()
		out := w.do(w.request("POST", "/", bytes.NewReader(bytes.Repeat([]byte("x"), tc.size)), "Content-Type", tc.kind))
		out.check(t, tc.status)
		if tc.status == 413 {
			if out.body != `{"Message":"Request must be smaller than 6291456 bytes for the InvokeFunction operation"}` || w.invocations() != before {
				t.Errorf("%d bytes: %s", tc.size, out.body)
			}
		}
	}
	out := w.do(w.request("GET", "/", nil, "X-Big", strings.Repeat("h", 80<<10)))
	out.check(t, http.StatusRequestHeaderFieldsTooLarge)
	w.do(w.request("GET", "/", nil, "X-Big", strings.Repeat("h", 40<<10))).check(t, 200)
}

// FuzzEvent: whatever is sent, the event is JSON that a function decodes, the
// body survives, and nothing panics.
func FuzzEvent(f *testing.F) {
	f.Add("/a?b=c", "text/plain", "k=v; l", "body")
	f.Add("/%ff?%zz=%", "application/json", "\xff", "\xff\x00")
	f.Add("/.firn/url/x", "", ";;;", "")
	f.Fuzz(func(t *testing.T, target, kind, cookie, body string) {
		if strings.ContainsAny(target+kind+cookie, "\r\n\x00 ") || !strings.HasPrefix(target, "/") {
			return
		}
		w := &world{t: t, url: &gateway.URL{ID: urlID, Function: firn.FunctionRef{Name: "f"}, Auth: gateway.AuthNone}}
		g, err := gateway.New(gateway.Config{URLs: w, Invoker: w, Region: "us-east-1", Account: account, Endpoint: func() string { return "http://h:1" }})
		if err != nil {
			t.Fatal(err)
		}
		rec := &recorder{header: http.Header{}}
		text := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s.lambda-url.us-east-1.localhost\r\nContent-Type: %s\r\nCookie: %s\r\nContent-Length: %d\r\n\r\n%s", target, urlID, kind, cookie, len(body), body)
		r, err := tryRead(text)
		if err != nil {
			return
		}
		g.ServeHTTP(rec, r)
		if rec.status != 200 || len(w.events) != 1 {
			t.Fatalf("status %d: %s", rec.status, rec.body)
		}
		var e events.LambdaFunctionURLRequest
		if err := json.Unmarshal(w.events[0].Payload, &e); err != nil {
			t.Fatal(err)
		}
		got := e.Body
		if e.IsBase64Encoded {
			raw, err := base64.StdEncoding.DecodeString(e.Body)
			if err != nil {
				t.Fatal(err)
			}
			got = string(raw)
		}
		path, query, _ := strings.Cut(target, "?")
		if got != body || utf8.ValidString(path) && e.RawPath != path || utf8.ValidString(query) && e.RawQueryString != query {
			t.Errorf("body %q of %q, path %q, query %q of %q", got, body, e.RawPath, e.RawQueryString, target)
		}
	})
}
