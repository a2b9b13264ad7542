package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/environment"
	"github.com/firn-run/firn/internal/gateway"
	"github.com/firn-run/firn/internal/invoke"
)

const preludeType = "application/vnd.awslambda.http-integration-response"

var separator = strings.Repeat("\x00", 8)

func streaming(w *world) { w.url.Stream = true }

// script is a streaming function: it begins with a content type and writes
// pieces; each waits for a word on step, unless step is nil.
type script struct {
	kind   string
	pieces []string
	step   chan struct{}
	end    environment.Outcome
	err    error
	wrote  error // what Write said
}

func (s *script) stream(ctx context.Context, _ *invoke.Request, sink invoke.StreamWriter) (*invoke.StreamResult, error) {
	out := &invoke.StreamResult{Outcome: s.end, Begun: true, TraceHeader: "Root=1"}
	out.Release = func() {}
	if err := sink.Head(invoke.StreamHead{ContentType: s.kind, Streaming: true, TraceHeader: "Root=1"}); err != nil {
		return out, err
	}
	for _, p := range s.pieces {
		if s.step != nil {
			select {
			case <-s.step:
			case <-ctx.Done():
				return out, ctx.Err()
			}
		}
		if s.wrote = sink.Write([]byte(p)); s.wrote != nil {
			return out, s.wrote
		}
	}
	return out, s.err
}

// TestStreamPieces: status and headers come before the first piece, and each
// piece when it is written.
func TestStreamPieces(t *testing.T) {
	w := newWorld(t, streaming)
	s := &script{kind: preludeType, step: make(chan struct{}), pieces: []string{
		`{"statusCode":201,"headers":{"Content-Type":"text/event-stream","X-A":"b","Date":"d"},"cookies":["a=1","b=2"]}` + separator, "one", "two", "three",
	}}
	w.stream = s.stream
	s2 := s.step
	go func() { s2 <- struct{}{} }() // the prelude
	res, err := http.DefaultClient.Do(w.request("GET", "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	reply{res, ""}.check(t, 201, "Content-Type", "text/event-stream", "X-A", "b", "X-Amzn-Remapped-Date", "d", "X-Amzn-Trace-Id", "Root=1", "Content-Length", "")
	if cookies := res.Header.Values("Set-Cookie"); len(cookies) != 2 || res.ContentLength != -1 {
		t.Errorf("cookies %q, length %d", cookies, res.ContentLength)
	}
	for _, want := range []string{"one", "two", "three"} {
		s.step <- struct{}{}
		buf := make([]byte, 100)
		n, err := res.Body.Read(buf)
		if string(buf[:n]) != want || err != nil && err != io.EOF {
			t.Fatalf("read %q, %v, want %q", buf[:n], err, want)
		}
	}
	if rest, err := io.ReadAll(res.Body); err != nil || len(rest) != 0 {
		t.Errorf("the end: %q, %v", rest, err)
	}
	if served := w.told(1); served[0].Status != 201 {
		t.Errorf("%+v", served)
	}
}

// TestPreludeCut: it does not matter where the pieces of a stream are cut.
func TestPreludeCut(t *testing.T) {
	whole := `{"statusCode":202,"headers":{"x-a":"b"}}` + separator + "body\x00\x00 of it"
	for i := range len(whole) + 1 {
		w := &world{t: t, url: &gateway.URL{ID: urlID, Auth: gateway.AuthNone, Stream: true}}
		w.stream = (&script{kind: preludeType, pieces: []string{whole[:i], whole[i:]}}).stream
		out := serve(t, w)
		if out.status != 202 || string(out.body) != "body\x00\x00 of it" || out.header.Get("X-A") != "b" {
			t.Fatalf("cut at %d: %d %q", i, out.status, out.body)
		}
	}
	w := &world{t: t, url: &gateway.URL{ID: urlID, Auth: gateway.AuthNone, Stream: true}}
	w.stream = (&script{kind: preludeType, pieces: strings.Split(whole, "")}).stream
	if out := serve(t, w); out.status != 202 || string(out.body) != "body\x00\x00 of it" {
		t.Errorf("byte by byte: %d %q", out.status, out.body)
	}
}

// serve answers one GET without a network.
func serve(t testing.TB, w *world) *recorder {
	t.Helper()
	g, err := gateway.New(gateway.Config{URLs: w, Invoker: w, Region: "us-east-1", Logger: discard(), Endpoint: func() string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	rec := &recorder{header: http.Header{}}
	g.ServeHTTP(rec, read(t, "GET / HTTP/1.1\r\nHost: "+urlID+".lambda-url.us-east-1.localhost\r\n\r\n"))
	return rec
}

// TestStreamAnswers: what is answered when no prelude comes, or a bad one.
func TestStreamAnswers(t *testing.T) {
	w := newWorld(t, streaming)
	for _, tc := range []struct {
		name    string
		script  script
		status  int
		body    string
		headers []string
	}{
		{"without a prelude", script{kind: "text/plain", pieces: []string{"a", "b"}}, 200, "ab", []string{"Content-Type", "text/plain"}},
		{"without a type", script{kind: "application/octet-stream", pieces: []string{"\x00\x01"}}, 200, "\x00\x01", []string{"Content-Type", "application/octet-stream"}},
		{"a response that does not stream is not read (recorded)", script{kind: "application/json", pieces: []string{`{"statusCode":404,"body":"x"}`}}, 200, `{"statusCode":404,"body":"x"}`, []string{"Content-Type", "application/json"}},
		{"an empty stream", script{kind: "text/plain"}, 200, "", nil},
		{"an empty prelude", script{kind: preludeType, pieces: []string{separator + "x"}}, 200, "x", []string{"Content-Type", "application/octet-stream"}},
		{"a prelude without a status", script{kind: preludeType, pieces: []string{`{"headers":{"x-a":"b"}}` + separator}}, 200, "", []string{"X-A", "b"}},
		{"no content", script{kind: preludeType, pieces: []string{`{"statusCode":204}` + separator, "ignored"}}, 204, "", nil},
		{"a prelude with parameters in its type", script{kind: preludeType + "; x=y", pieces: []string{`{"statusCode":203}` + separator}}, 203, "", nil},
		{"no separator", script{kind: preludeType, pieces: []string{`{"statusCode":200}`, "\x00\x00"}}, 502, "Internal Server Error", nil},
		{"not JSON", script{kind: preludeType, pieces: []string{"hello" + separator, "x"}}, 502, "Internal Server Error", nil},
		{"a list", script{kind: preludeType, pieces: []string{"[]" + separator}}, 502, "Internal Server Error", nil},
		{"a NUL inside", script{kind: preludeType, pieces: []string{"{\x00}" + separator}}, 502, "Internal Server Error", nil},
		{"too long", script{kind: preludeType, pieces: []string{strings.Repeat(" ", 60<<10), strings.Repeat(" ", 60<<10), strings.Repeat(" ", 60<<10)}}, 502, "Internal Server Error", nil},
		{"too long in one", script{kind: preludeType, pieces: []string{strings.Repeat(" ", 129<<10) + "{}" + separator}}, 502, "Internal Server Error", nil},
		{"a header that splits", script{kind: preludeType, pieces: []string{`{"headers":{"a":"\r\n\r\nx"}}` + separator}}, 502, "Internal Server Error", nil},
		{"status 1000", script{kind: preludeType, pieces: []string{`{"statusCode":1000}` + separator}}, 502, "Internal Server Error", nil},
		{"failed in the prelude", script{kind: preludeType, pieces: []string{`{"status`}, end: environment.Outcome{FunctionError: "Unhandled"}}, 502, "Internal Server Error", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w.stream = tc.script.stream
			out := w.do(w.request("GET", "/", nil))
			out.check(t, tc.status, tc.headers...)
			if out.body != tc.body {
				t.Errorf("body %q", out.body)
			}
		})
	}
	w.stream = (&script{kind: "text/plain", pieces: []string{"abc"}}).stream
	if out := w.do(w.request("HEAD", "/", nil)); out.body != "" || out.StatusCode != 200 {
		t.Errorf("HEAD: %d %q", out.StatusCode, out.body)
	}
}

// TestStreamFails: before the first byte it is a status, after it the
// connection breaks.
func TestStreamFails(t *testing.T) {
	w := newWorld(t, streaming)
	w.stream = func(context.Context, *invoke.Request, invoke.StreamWriter) (*invoke.StreamResult, error) {
		return &invoke.StreamResult{Outcome: environment.Outcome{FunctionError: "Unhandled", Payload: []byte("{}"), Release: func() {}}}, nil
	}
	w.do(w.request("GET", "/", nil)).check(t, 502)
	w.stream = func(context.Context, *invoke.Request, invoke.StreamWriter) (*invoke.StreamResult, error) {
		return nil, firn.Faultf(firn.TooManyRequests, "Rate Exceeded.")
	}
	w.do(w.request("GET", "/", nil)).check(t, 429)

	w.stream = (&script{kind: "text/plain", pieces: []string{"some"}, end: environment.Outcome{FunctionError: "Unhandled", ErrorType: "Sandbox.Timedout"}}).stream
	res, err := http.DefaultClient.Do(w.request("GET", "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err == nil || string(got) != "some" || res.StatusCode != 200 {
		t.Errorf("%d %q, %v: the end of a stream that failed looks like a good one", res.StatusCode, got, err)
	}
}

// TestStreamClientGone: a client that leaves ends the writing and not more.
func TestStreamClientGone(t *testing.T) {
	w := newWorld(t, streaming)
	s := &script{kind: "text/plain", step: make(chan struct{}, 1), pieces: []string{"one", "two"}}
	ended := make(chan error, 1)
	w.stream = func(ctx context.Context, r *invoke.Request, sink invoke.StreamWriter) (*invoke.StreamResult, error) {
		out, err := s.stream(ctx, r, sink)
		ended <- err
		return out, err
	}
	s.step <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	res, err := http.DefaultClient.Do(w.request("GET", "/", nil).WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(res.Body, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	cancel()
	res.Body.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the stream does not end")
	}
}

// TestStreamMuch: much passes in little memory, whole.
func TestStreamMuch(t *testing.T) {
	w := newWorld(t, streaming)
	const pieces, size = 1000, 64 << 10
	piece := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	w.stream = func(_ context.Context, _ *invoke.Request, sink invoke.StreamWriter) (*invoke.StreamResult, error) {
		out := &invoke.StreamResult{Begun: true}
		out.Release = func() {}
		if err := sink.Head(invoke.StreamHead{ContentType: "text/plain"}); err != nil {
			return out, err
		}
		for range pieces {
			if err := sink.Write(piece); err != nil {
				return out, err
			}
		}
		return out, nil
	}
	res, err := http.DefaultClient.Do(w.request("GET", "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if n, err := io.Copy(io.Discard, res.Body); n != pieces*size || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// deadlines is a response writer that notes the deadlines of its connection.
type deadlines struct {
	recorder
	t       *testing.T
	until   time.Time
	writes  int
	flushes int
}

func (d *deadlines) SetWriteDeadline(at time.Time) error {
	d.until = at
	return nil
}

func (d *deadlines) Write(p []byte) (int, error) {
	d.writes++
	if left := time.Until(d.until); left < 50*time.Second || left > 70*time.Second || len(p) > 64<<10 {
		d.t.Errorf("%d bytes are written with a deadline in %v", len(p), left)
	}
	return d.recorder.Write(p)
}

func (d *deadlines) Flush() { d.flushes++ }

// TestDeadlines: every piece has its own time, so that a stream may be long
// and a client may not be endless; the next request has all its time again.
func TestDeadlines(t *testing.T) {
	answer := func(w *world) *deadlines {
		g, err := gateway.New(gateway.Config{URLs: w, Invoker: w, Region: "us-east-1", Logger: discard(), Endpoint: func() string { return "" }})
		if err != nil {
			t.Fatal(err)
		}
		d := &deadlines{recorder: recorder{header: http.Header{}}, t: t}
		g.ServeHTTP(d, read(t, "GET / HTTP/1.1\r\nHost: "+urlID+".lambda-url.us-east-1.localhost\r\n\r\n"))
		if !d.until.IsZero() {
			t.Errorf("the connection has a deadline in %v after the answer", time.Until(d.until))
		}
		return d
	}
	w := &world{t: t, url: &gateway.URL{ID: urlID, Auth: gateway.AuthNone, Stream: true}}
	w.stream = (&script{kind: "text/plain", pieces: []string{"a", "b", strings.Repeat("c", 200<<10)}}).stream
	if d := answer(w); d.writes != 6 || d.flushes != 4 || len(d.body) != 200<<10+2 {
		t.Errorf("%d writes, %d flushes, %d bytes", d.writes, d.flushes, len(d.body))
	}
	w.url.Stream = false
	w.answer = func(*invoke.Request) (*invoke.Response, error) {
		return returns(`"` + strings.Repeat("x", 1<<20) + `"`), nil
	}
	if d := answer(w); d.writes != 16 || d.flushes != 0 {
		t.Errorf("%d writes, %d flushes", d.writes, d.flushes)
	}
	w.url.ID = "another"
	answer(w)
}

// FuzzPrelude: no prelude makes the front panic, and whatever it says the body
// after it is whole.
func FuzzPrelude(f *testing.F) {
	f.Add(`{"statusCode":200,"headers":{"a":"b"},"cookies":["c"]}`, "body", 3)
	f.Add("", "", 0)
	f.Add("{\x00}", "\x00", 1)
	f.Add(`{"statusCode":304}`, "x", 9)
	f.Fuzz(func(t *testing.T, prelude, body string, cut int) {
		whole := prelude + separator + body
		if cut < 0 || cut > len(whole) {
			return
		}
		w := &world{t: t, url: &gateway.URL{ID: urlID, Auth: gateway.AuthNone, Stream: true}}
		w.stream = (&script{kind: preludeType, pieces: []string{whole[:cut], whole[cut:]}}).stream
		out := serve(t, w)
		if out.status < 200 || out.status > 599 {
			t.Fatalf("status %d", out.status)
		}
		ok := out.status != 502 || string(out.body) != "Internal Server Error"
		_, want, _ := strings.Cut(whole, separator) // the first eight NUL bytes, wherever they are
		if ok && out.status != 204 && out.status != 304 && string(out.body) != want {
			t.Errorf("body %q, want %q", out.body, want)
		}
		for name, values := range out.header {
			if strings.ContainsAny(name+strings.Join(values, ""), "\r\n\x00") {
				t.Errorf("header %q: %q", name, values)
			}
		}
	})
}
