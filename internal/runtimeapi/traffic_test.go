package runtimeapi

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firn-run/firn/internal/lifecycle"
)

func TestNotHTTP(t *testing.T) {
	r := newRig(t)
	for raw, status := range map[string]string{
		"garbage\r\n\r\n":                                                                       "400",
		"GET / HTTP/1.1\r\n\r\n":                                                                "400",
		"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n":                                          "400",
		"GET / HTTP/2.0\r\nHost: a\r\n\r\n":                                                     "505",
		"GET / FTP/1.1\r\nHost: a\r\n\r\n":                                                      "400",
		"GET / HTTP/1.1\r\nHost: a\r\nBad Name: x\r\n\r\n":                                      "400",
		"GET / HTTP/1.1\r\nHost: a\r\nName : x\r\n\r\n":                                         "400",
		"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n":                                          "400",
		"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n":                                        "400",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n":                              "400",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n":            "400",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n":          "400",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n": "400",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n":                         "501",
		"GET / HTTP/1.1\r\nX: " + strings.Repeat("x", maxHeadBytes) + "\r\n\r\n":                "431",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n":                                      "400",
	} {
		got := r.send(raw)
		if !strings.HasPrefix(got, "HTTP/1.1 "+status+" ") || !strings.Contains(got, shut) {
			t.Errorf("%.60q: got %q", raw, got)
		}
	}
	if events := r.seen(); len(events) > 0 {
		t.Errorf("events: %v", events)
	}
}

func TestKeepAliveAndForms(t *testing.T) {
	r := newRig(t)
	body := func(n int) string { return strings.Repeat("b", n) }
	post := "POST /2018-06-01/runtime/invocation/i/response HTTP/1.1\r\nHost: x\r\n"
	raw := post + "Content-Length: 3\r\n\r\nabc" +
		"\r\n" + // a blank line too many, as old clients send
		post + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\nTrailer: x\r\n\r\n" +
		"POST http://x/2018-06-01/runtime/invocation/i/response HTTP/1.1\nHost: x\nContent-Length: 2\n\nlf" +
		post + "Content-Length: 5000\r\n\r\n" + body(5000) +
		post + "X: " + body(40_000) + "\r\nContent-Length: 1\r\n\r\n!" +
		post + "Content-Length: 0\r\nConnection: close\r\n\r\n" +
		post + "Content-Length: 9\r\n\r\nnot read!"
	got := r.send(raw)
	if n := strings.Count(got, "202 Accepted"); n != 6 {
		t.Errorf("%d replies: %s", n, got)
	}
	if diff := cmp.Diff([]string{"abc", "abcde", "lf", body(5000), "!", ""}, r.bodies); diff != "" {
		t.Error(diff)
	}
}

func TestHTTP10(t *testing.T) {
	r := newRig(t)
	got := r.send("GET /2018-06-01/ping HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /2018-06-01/ping HTTP/1.0\r\n\r\nGET /2018-06-01/ping HTTP/1.0\r\n\r\n")
	if strings.Count(got, "pong") != 2 || !strings.Contains(got, "Connection: keep-alive") {
		t.Errorf("got %s", got)
	}
}

func TestTrailerOfAStream(t *testing.T) {
	r := newRig(t)
	r.send("POST /2018-06-01/runtime/invocation/i/response HTTP/1.1\r\nHost: x\r\nLambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n" +
		"Trailer: Lambda-Runtime-Function-Error-Type\r\n\r\n1\r\na\r\n0\r\nlambda-runtime-function-error-type: Runtime.Stream\r\nLambda-Runtime-Function-Error-Body: e30=\r\n\r\n")
	seen := r.seen()
	want := lifecycle.RuntimeResponseDone{Bytes: 1, ErrorType: "Runtime.Stream", ErrorBody: "{}"}
	if len(seen) != 2 || seen[1] != lifecycle.Event(want) {
		t.Errorf("events: %+v", seen)
	}
}

func TestFaultyBodies(t *testing.T) {
	r := newRig(t)
	post := "POST /2018-06-01/runtime/invocation/i/response HTTP/1.1\r\nHost: x\r\n"
	for _, test := range []struct {
		name, raw string
		fault     lifecycle.ResponseFault
		status    string
		alive     bool // the connection serves another request
	}{
		{"short", post + "Content-Length: 10\r\n\r\nabc", lifecycle.ResponseTruncated, "400", false},
		{"no chunk", post + "Transfer-Encoding: chunked\r\n\r\n", lifecycle.ResponseTruncated, "400", false},
		{"half a chunk", post + "Transfer-Encoding: chunked\r\n\r\n5\r\nabc", lifecycle.ResponseTruncated, "400", false},
		{"bad size", post + "Transfer-Encoding: chunked\r\n\r\nxyz\r\nabc", lifecycle.ResponseTruncated, "400", false},
		{"negative size", post + "Transfer-Encoding: chunked\r\n\r\n-1\r\n", lifecycle.ResponseTruncated, "400", false},
		{"huge size", post + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", lifecycle.ResponseTruncated, "400", false},
		{"no line end after a chunk", post + "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n", lifecycle.ResponseTruncated, "400", false},
		{"endless size line", post + "Transfer-Encoding: chunked\r\n\r\n1;" + strings.Repeat("x", maxLineBytes+1), lifecycle.ResponseTruncated, "400", false},
		{"endless trailers", post + "Transfer-Encoding: chunked\r\n\r\n0\r\n" + strings.Repeat("a: b\r\n", maxTrailerBytes), lifecycle.ResponseTruncated, "400", false},
		{"too large", post + fmt.Sprintf("Content-Length: %d\r\n\r\n", maxResponseBytes+1) + strings.Repeat("x", maxResponseBytes+1), lifecycle.ResponseTooLarge, "413", true},
		{"far too large", post + fmt.Sprintf("Content-Length: %d\r\n\r\n", int64(1)<<50), lifecycle.ResponseTooLarge, "413", false},
		{"chunk too large", post + "Transfer-Encoding: chunked\r\n\r\n7000000\r\n", lifecycle.ResponseTooLarge, "413", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.alive {
				test.raw += "GET /2018-06-01/ping HTTP/1.1\r\nHost: x\r\n\r\n"
			}
			got := r.send(test.raw)
			if !strings.HasPrefix(got, "HTTP/1.1 "+test.status) || strings.Contains(got, "pong") != test.alive {
				t.Errorf("got %.400q", got)
			}
			seen := r.seen()
			if len(seen) != 2 || seen[1].(lifecycle.RuntimeResponseDone).Fault != test.fault {
				t.Errorf("events: %+v", seen)
			}
		})
	}
}

func TestExpectContinue(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	in := bufio.NewReader(c)
	for _, id := range []string{"good", "bad"} {
		fmt.Fprintf(c, "POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n", id)
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if id == "bad" {
			if !strings.HasPrefix(line, "HTTP/1.1 400") {
				t.Errorf("refused: %q", line)
			}
			if _, err := io.ReadAll(in); err != nil {
				t.Errorf("the connection was not ended in good order: %v", err)
			}
			return
		}
		if line != "HTTP/1.1 100 Continue\r\n" {
			t.Fatalf("got %q", line)
		}
		in.ReadString('\n')
		io.WriteString(c, "abc")
		resp, err := http.ReadResponse(in, nil)
		if err != nil || resp.StatusCode != 202 {
			t.Fatalf("%v %v", resp, err)
		}
		io.Copy(io.Discard, resp.Body)
	}
}

const nextRequest = "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n"

func TestParkedNext(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	io.WriteString(c, nextRequest)
	call := <-r.parked
	deliver := lifecycle.DeliverInvoke{
		Call:       call,
		Invocation: lifecycle.Invocation{RequestID: "the-id", ARN: "the-arn", TraceID: "Root=1"},
		Deadline:   time.UnixMilli(1234567890123),
	}
	r.server.Reply(deliver, &Event{Payload: []byte("{}"), ClientContext: "{\"a\":\r\n\x001}", CognitoIdentity: "{}"})
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	want := http.Header{
		"Content-Type": {"application/json"}, "Content-Length": {"2"}, "Date": {"Fri, 02 Jan 2026 03:04:05 GMT"},
		"Lambda-Runtime-Aws-Request-Id": {"the-id"}, "Lambda-Runtime-Deadline-Ms": {"1234567890123"},
		"Lambda-Runtime-Invoked-Function-Arn": {"the-arn"}, "Lambda-Runtime-Trace-Id": {"Root=1"},
		"Lambda-Runtime-Client-Context": {`{"a":   1}`}, "Lambda-Runtime-Cognito-Identity": {"{}"},
	}
	if diff := cmp.Diff(want, resp.Header); diff != "" || string(body) != "{}" {
		t.Errorf("%s\n%s", diff, body)
	}
	r.server.Reply(deliver, &Event{}) // a second reply to one call is none
	c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Error("a second reply")
	}
}

func TestExtensionEvents(t *testing.T) {
	r := newRig(t)
	const anID = "0b8a1b0e-7f0f-4f5c-9a67-6e5f5f6a7b8c"
	next := "GET /2020-01-01/extension/event/next HTTP/1.1\r\nHost: x\r\nLambda-Extension-Identifier: " + anID + "\r\n\r\n"
	c := r.dial()
	in := bufio.NewReader(c)
	at := time.UnixMilli(1000)
	for _, test := range []struct {
		action func(lifecycle.Call) lifecycle.Action
		want   string
	}{
		{func(call lifecycle.Call) lifecycle.Action {
			return lifecycle.DeliverExtensionInvoke{Call: call, Deadline: at, Invocation: lifecycle.Invocation{RequestID: "r", ARN: "a", TraceID: "t"}}
		}, `{"eventType":"INVOKE","deadlineMs":1000,"requestId":"r","invokedFunctionArn":"a","tracing":{"type":"X-Amzn-Trace-Id","value":"t"}}` + "\n"},
		{func(call lifecycle.Call) lifecycle.Action {
			return lifecycle.DeliverExtensionShutdown{Call: call, Deadline: at, Reason: lifecycle.Spindown}
		}, `{"eventType":"SHUTDOWN","deadlineMs":1000,"shutdownReason":"spindown"}` + "\n"},
	} {
		io.WriteString(c, next)
		r.server.Reply(test.action(<-r.parked), nil)
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		if string(body) != test.want {
			t.Errorf("got %s", body)
		}
		if id := resp.Header.Get("Lambda-Extension-Event-Identifier"); !regexp.MustCompile(`^[0-9a-f-]{36}$`).MatchString(id) {
			t.Errorf("event identifier %q", id)
		}
		if id := resp.Header.Get("Lambda-Extension-Identifier"); id != anID {
			t.Errorf("identifier %q", id)
		}
	}
}

func TestVanishedClients(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	io.WriteString(c, nextRequest)
	call := <-r.parked
	c.Close()
	if got := <-r.gone; got != call {
		t.Errorf("gone: %d, want %d", got, call)
	}
	r.server.Reply(lifecycle.DeliverInvoke{Call: call}, &Event{}) // too late: no harm

	// One that was dropped, and one that was answered, are not gone.
	for _, action := range []func(lifecycle.Call) lifecycle.Action{
		func(call lifecycle.Call) lifecycle.Action { return lifecycle.Drop{Call: call} },
		func(call lifecycle.Call) lifecycle.Action { return lifecycle.Reply{Call: call, Status: 200} },
	} {
		c := r.dial()
		io.WriteString(c, nextRequest)
		r.server.Reply(action(<-r.parked), nil)
		c.Close()
	}
	r.server.CloseConnections()
	if len(r.gone) > 0 {
		t.Error("gone without reason")
	}
}

func TestPipelining(t *testing.T) {
	for name, filler := range map[string]string{"little": "", "more than is buffered": strings.Repeat("\r\n", inlineBytes)} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			c := r.dial()
			io.WriteString(c, nextRequest+"GET /2018-06-01/ping HTTP/1.1\r\nHost: x\r\n\r\n"+filler+nextRequest)
			in := bufio.NewReader(c)
			r.server.Reply(lifecycle.DeliverInvoke{Call: <-r.parked}, &Event{Payload: []byte("first")})
			for _, want := range []string{"first", "pong"} {
				resp, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Fatal(err)
				}
				if body, _ := io.ReadAll(resp.Body); string(body) != want {
					t.Errorf("got %q, want %q", body, want)
				}
			}
			<-r.parked
		})
	}
}

// A dropped call ends its connection even when the goroutine cannot watch it.
func TestDropWithFullBuffer(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	io.WriteString(c, nextRequest+strings.Repeat("\r\n", inlineBytes)+nextRequest)
	call := <-r.parked
	r.server.Reply(lifecycle.Drop{Call: call}, nil)
	r.server.CloseConnections()
	if len(r.parked) > 0 {
		t.Error("a request of a dropped connection was served")
	}
}

func TestSlowClient(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	for _, b := range []byte("POST /2018-06-01/runtime/invocation/i/response HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab") {
		c.Write([]byte{b})
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != 202 {
		t.Errorf("%v %v", resp, err)
	}
}

// Connections that say nothing, or half a request, must not lock out others.
func TestManyConnections(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	io.WriteString(c, nextRequest)
	call := <-r.parked
	for i := range 2 * maxConnections {
		c := r.dial()
		if i%2 == 0 {
			io.WriteString(c, "GET /half")
		}
	}
	if got := r.call("GET", "/2018-06-01/ping", nil, ""); !strings.Contains(got, "pong") {
		t.Errorf("got %q", got)
	}
	r.server.Reply(lifecycle.Reply{Call: call, Status: 200}, nil)
	if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 200 {
		t.Errorf("the parked connection: %v %v", resp, err)
	}
}

// A reply to a peer that does not read is given up once it is of no use.
func TestExpire(t *testing.T) {
	for _, before := range []bool{true, false} { // the writing began
		t.Run(fmt.Sprintf("before=%v", before), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			c := r.dial()
			io.WriteString(c, nextRequest)
			call := <-r.parked
			if before {
				r.server.Expire(call)
			}
			payload := bytes.Repeat([]byte("x"), 32<<20)
			written := make(chan struct{})
			go func() {
				r.server.Reply(lifecycle.DeliverInvoke{Call: call}, &Event{Payload: payload})
				close(written)
			}()
			if !before {
				select {
				case <-written:
					t.Fatal("the kernel took it all")
				case <-time.After(100 * time.Millisecond):
				}
				r.server.Expire(call)
			}
			select {
			case <-written:
			case <-time.After(5 * time.Second):
				t.Fatal("still writing")
			}
		})
	}
}

// The deadline of one reply is not that of the next on the same connection.
func TestExpiredInTime(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	in := bufio.NewReader(c)
	for range 2 {
		io.WriteString(c, nextRequest)
		call := <-r.parked
		r.server.Expire(call)
		r.server.Reply(lifecycle.DeliverInvoke{Call: call}, &Event{Payload: []byte("x")})
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		<-time.After(expireAfter + 50*time.Millisecond)
		io.WriteString(c, nextRequest)
		r.server.Reply(lifecycle.DeliverInvoke{Call: <-r.parked}, &Event{Payload: []byte("y")})
		if resp, err = http.ReadResponse(in, nil); err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
	}
}

func TestGoClient(t *testing.T) {
	r := newRig(t)
	for range 3 {
		resp, err := http.Post("http://"+r.addr+"/2018-06-01/runtime/invocation/i/response", "application/json", io.MultiReader(strings.NewReader("chunked"), strings.NewReader(" by the client")))
		if err != nil {
			t.Fatal(err)
		}
		p, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 202 || string(p) != "{\"status\":\"OK\"}\n" {
			t.Errorf("%d %s", resp.StatusCode, p)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}
