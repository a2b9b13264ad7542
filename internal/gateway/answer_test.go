package gateway_test

import (
	"bufio"
	"net/http"
	"strings"
	"testing"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/gateway"
	"github.com/firn-run/firn/internal/invoke"
)

func tryRead(text string) (*http.Request, error) {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
	if err == nil {
		r.RemoteAddr = "203.0.113.9:5555"
	}
	return r, err
}

// recorder is a response writer without a connection.
type recorder struct {
	header http.Header
	status int
	body   []byte
}

func (r *recorder) Header() http.Header { return r.header }
func (r *recorder) WriteHeader(code int) {
	if r.status == 0 {
		r.status = code
	}
}
func (r *recorder) Write(p []byte) (int, error) {
	r.body = append(r.body, p...)
	return len(p), nil
}

// TestAnswers: the rows marked as recorded were taken from the service
// (LocalStack's snapshots of November 2025), the others are of the documents
// or ours.
func TestAnswers(t *testing.T) {
	const badGateway = "Internal Server Error"
	w := newWorld(t)
	for _, tc := range []struct {
		name, payload string
		status        int
		body          string
		headers       []string
	}{
		{"object (recorded)", `{"hello": "world"}`, 200, `{"hello":"world"}`, []string{"Content-Type", "application/json", "Content-Length", "17"}},
		{"list (recorded)", `["hello", 3, true]`, 200, `["hello",3,true]`, []string{"Content-Type", "application/json", "Content-Length", "16"}},
		{"string (recorded)", `"hello"`, 200, `hello`, []string{"Content-Type", "application/json", "Content-Length", "5"}},
		{"integer (recorded)", `3`, 200, `3`, []string{"Content-Type", "application/json"}},
		{"float (recorded)", `3.1`, 200, `3.1`, nil},
		{"boolean (recorded)", `true`, 200, `true`, nil},
		{"null", `null`, 200, `null`, nil},
		{"response (recorded)", `{"statusCode": 200, "body": "body123"}`, 200, "body123", []string{"Content-Type", "application/json", "Content-Length", "7"}},
		{"response in JSON (recorded)", `{"statusCode": 200, "body": "{\"hello\": \"world\"}"}`, 200, `{"hello": "world"}`, []string{"Content-Length", "18"}},
		{"status as text (recorded)", `{"statusCode": "418", "body": "i'm a teapot", "isBase64Encoded": false}`, 418, "i'm a teapot", nil},
		{"documented", `{"statusCode":201,"headers":{"Content-Type":"application/json","My-Custom-Header":"Custom Value"},"body":"{ \"message\": \"Hello, world!\" }",
			"cookies":["Cookie_1=Value1; Expires=21 Oct 2021 07:48 GMT","Cookie_2=Value2; Max-Age=78000"],"isBase64Encoded":false}`,
			201, `{ "message": "Hello, world!" }`, []string{"My-Custom-Header", "Custom Value", "Set-Cookie", "Cookie_1=Value1; Expires=21 Oct 2021 07:48 GMT | Cookie_2=Value2; Max-Age=78000"}},
		{"binary", `{"statusCode":200,"headers":{"content-type":"image/png"},"body":"iVBORw==","isBase64Encoded":true}`, 200, "\x89PNG", []string{"Content-Type", "image/png", "Content-Length", "4"}},
		{"binary without padding", `{"statusCode":200,"body":"iVBORw","isBase64Encoded":"true"}`, 200, "\x89PNG", nil},
		{"not base64", `{"statusCode":200,"body":"%%%","isBase64Encoded":true}`, 502, badGateway, nil},
		{"no body", `{"statusCode":204}`, 204, "", []string{"Content-Length", "", "Content-Type", ""}},
		{"redirect", `{"statusCode":302,"headers":{"Location":"https://example.org/"}}`, 302, "", []string{"Location", "https://example.org/", "Content-Length", "0"}},
		{"not modified", `{"statusCode":304,"headers":{"ETag":"\"x\""},"body":"ignored"}`, 304, "", []string{"Etag", `"x"`}},
		{"scalars as headers", `{"statusCode":200,"headers":{"X-N":7,"X-B":true,"X-Null":null},"body":null}`, 200, "", []string{"X-N", "7", "X-B", "true", "X-Null", ""}},
		{"body is an object", `{"statusCode":200,"body":{"a": 1}}`, 200, `{"a":1}`, nil},
		{"renamed and dropped", `{"statusCode":200,"headers":{"Date":"d","Server":"s","Content-Length":"99","WWW-Authenticate":"Basic","Connection":"close","Transfer-Encoding":"chunked","Upgrade":"h2c",
			"Keep-Alive":"1","x-amzn-RequestId":"mine","Content-Encoding":"br"},"body":"x"}`, 200, "x",
			[]string{"X-Amzn-Remapped-Date", "d", "X-Amzn-Remapped-Server", "s", "X-Amzn-Remapped-Content-Length", "99", "X-Amzn-Remapped-Www-Authenticate", "Basic",
				"X-Amzn-Remapped-Connection", "close", "Www-Authenticate", "", "Server", "", "Content-Length", "1", "Upgrade", "", "Keep-Alive", "",
				"X-Amzn-Remapped-X-Amzn-Requestid", "mine", "Content-Encoding", "br"}},
		{"multi-value headers are not of this format", `{"statusCode":200,"multiValueHeaders":{"X-A":["1","2"]},"body":""}`, 200, "", []string{"X-A", ""}},
		{"somebody else's status", `{"StatusCode":404,"Body":"x"}`, 200, `{"StatusCode":404,"Body":"x"}`, nil},
		{"headers alone are no response", `{"headers":5}`, 200, `{"headers":5}`, nil},
		{"body alone is no response", `{"body":"x"}`, 200, `{"body":"x"}`, nil},
		{"null status is none", `{"statusCode":null,"body":"x"}`, 200, `{"statusCode":null,"body":"x"}`, nil},
		{"status 99", `{"statusCode":99}`, 502, badGateway, nil},
		{"status 101", `{"statusCode":101}`, 502, badGateway, nil},
		{"status 600", `{"statusCode":600}`, 502, badGateway, nil},
		{"status text", `{"statusCode":"ok"}`, 502, badGateway, nil},
		{"status 200.0", `{"statusCode":200.0,"body":"x"}`, 200, "x", nil},
		{"headers are a list", `{"statusCode":200,"headers":[]}`, 502, badGateway, nil},
		{"header is a list", `{"statusCode":200,"headers":{"a":["b"]}}`, 502, badGateway, nil},
		{"header splits", `{"statusCode":200,"headers":{"a":"b\r\nSet-Cookie: c"}}`, 502, badGateway, nil},
		{"header name splits", `{"statusCode":200,"headers":{"a: b\r\nc":"d"}}`, 502, badGateway, nil},
		{"cookie splits", `{"statusCode":200,"cookies":["a=b\r\nX: y"]}`, 502, badGateway, nil},
		{"cookies are text", `{"statusCode":200,"cookies":"a=b"}`, 502, badGateway, nil},
		{"not JSON", `hello`, 502, badGateway, nil},
		{"nothing", ``, 502, badGateway, nil},
		{"half of JSON", `{"statusCode":200,`, 502, badGateway, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w.answer = func(*invoke.Request) (*invoke.Response, error) { return returns(tc.payload), nil }
			out := w.do(w.request("GET", "/", nil))
			out.check(t, tc.status, tc.headers...)
			if out.body != tc.body {
				t.Errorf("body %q, want %q", out.body, tc.body)
			}
			out.check(t, tc.status, "X-Amzn-Trace-Id", "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0")
			if out.Header.Get("Date") == "" || out.Header.Get("X-Amzn-Requestid") != w.events[len(w.events)-1].RequestID {
				t.Errorf("headers %v", out.Header)
			}
		})
	}
}

// TestErrors: what keeps a function from answering, as statuses.
func TestErrors(t *testing.T) {
	w := newWorld(t)
	throttle := &firn.Fault{Kind: firn.TooManyRequests, Message: "Rate Exceeded.", Reason: "ReservedFunctionConcurrentInvocationLimitExceeded", RetryAfterSeconds: 3}
	for _, tc := range []struct {
		name    string
		out     *invoke.Response
		err     error
		status  int
		body    string
		headers []string
	}{
		{"function error (recorded)", fails("Error"), nil, 502, "Internal Server Error", []string{"Content-Type", "application/json"}},
		{"timeout", fails("Sandbox.Timedout"), nil, 502, "Internal Server Error", nil},
		{"throttle", nil, throttle, 429, `{"Reason":"ReservedFunctionConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}`,
			[]string{"X-Amzn-Errortype", "TooManyRequestsException", "Retry-After", "3"}},
		{"alias deleted (recorded)", nil, firn.Faultf(firn.ResourceNotFound, "secret"), 403,
			`{"Message":"Forbidden. For troubleshooting Function URL authorization issues, see: https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"}`,
			[]string{"X-Amzn-Errortype", "AccessDeniedException", "Content-Length", "144"}},
		{"shutting down", nil, firn.Faultf(firn.ServiceUnavailable, "later"), 503, `{"Message":"later"}`, []string{"X-Amzn-Errortype", "ServiceUnavailableException"}},
		{"pending", nil, firn.Faultf(firn.ResourceConflict, "not yet"), 409, `{"Message":"not yet"}`, nil},
		{"service", nil, firn.Faultf(firn.Service, "broken"), 500, `{"Message":"broken"}`, nil},
		{"something else", nil, firn.Faultf(firn.InvalidRuntime, "what"), 502, `{"Message":"what"}`, nil},
		{"not told", nil, http.ErrServerClosed, 500, `{"Message":"Internal Server Error"}`, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w.answer = func(*invoke.Request) (*invoke.Response, error) { return tc.out, tc.err }
			out := w.do(w.request("GET", "/", nil))
			out.check(t, tc.status, tc.headers...)
			if out.body != tc.body {
				t.Errorf("body %s", out.body)
			}
		})
	}
	served := w.told(9)
	if served[2].Status != 429 || served[2].Function.Name != "web" || served[2].Latency <= 0 {
		t.Errorf("served %+v", served)
	}
}

// TestHead: the answer to HEAD has the length of the body, and no body.
func TestHead(t *testing.T) {
	w := newWorld(t)
	w.answer = func(*invoke.Request) (*invoke.Response, error) {
		return returns(`{"statusCode":200,"body":"12345"}`), nil
	}
	out := w.do(w.request("HEAD", "/", nil))
	out.check(t, 200, "Content-Length", "5")
	if out.body != "" || w.last().RequestContext.HTTP.Method != "HEAD" {
		t.Errorf("%q", out.body)
	}
}

func TestMethods(t *testing.T) {
	w := newWorld(t)
	for _, method := range []string{"GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"} {
		w.do(w.request(method, "/", nil)).check(t, 200)
		if got := w.last().RequestContext.HTTP.Method; got != method {
			t.Errorf("%s came as %s", method, got)
		}
	}
	before := w.invocations()
	for _, method := range []string{"TRACE", "PROPFIND", "get"} {
		w.do(w.request(method, "/", nil)).check(t, 405, "Allow", "GET, PUT, HEAD, POST, PATCH, DELETE, OPTIONS")
	}
	if w.invocations() != before {
		t.Error("the function was invoked")
	}
}

// FuzzAnswer: no payload of a function makes the front panic, write a header
// that ends early, or answer with a status that is none.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"statusCode":200,"headers":{"a":"b"},"cookies":["c"],"body":"ZA==","isBase64Encoded":true}`, `"x"`, `[1, 2]`, `{"statusCode":"2e2"}`,
		`{"statusCode":1e400}`, `{"headers":null,"statusCode":302}`, `{"statusCode":200,"body":[1,{"a":"b"}]}`, "\x00", `{"statusCode":200,"headers":{"":""}}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		w := &world{t: t, url: &gateway.URL{ID: urlID, Function: firn.FunctionRef{Name: "f"}, Auth: gateway.AuthNone}}
		w.answer = func(*invoke.Request) (*invoke.Response, error) { return returns(payload), nil }
		g, err := gateway.New(gateway.Config{URLs: w, Invoker: w, Region: "us-east-1", Logger: discard(), Endpoint: func() string { return "" }})
		if err != nil {
			t.Fatal(err)
		}
		rec := &recorder{header: http.Header{}}
		g.ServeHTTP(rec, read(t, "GET / HTTP/1.1\r\nHost: "+urlID+".lambda-url.us-east-1.localhost\r\n\r\n"))
		if rec.status < 200 || rec.status > 599 {
			t.Errorf("status %d", rec.status)
		}
		for name, values := range rec.header {
			if name == "" || strings.ContainsAny(name+strings.Join(values, ""), "\r\n\x00") {
				t.Errorf("header %q: %q", name, values)
			}
		}
	})
}
