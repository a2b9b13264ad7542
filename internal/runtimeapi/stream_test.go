package runtimeapi

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/lifecycle"
)

// collector is a receiver that hands pieces to the test.
type collector struct {
	begun  chan ResponseHead
	pieces chan string
	count  bool // only the length matters
	total  int64
}

func newCollector() *collector {
	return &collector{begun: make(chan ResponseHead, 10), pieces: make(chan string, 1000)}
}

func (c *collector) Begin(head ResponseHead) { c.begun <- head }

func (c *collector) Receive(piece *Body) {
	c.total += int64(len(piece.Bytes()))
	if !c.count {
		c.pieces <- string(piece.Bytes())
	}
	piece.Release()
}

// all returns what was received, when the response was answered.
func (c *collector) all() string {
	close(c.pieces)
	var b strings.Builder
	for p := range c.pieces {
		b.WriteString(p)
	}
	c.pieces = make(chan string, 1000)
	return b.String()
}

const streamHead = "POST /2018-06-01/runtime/invocation/i/response HTTP/1.1\r\nHost: x\r\nContent-Type: text/x\r\nLambda-Runtime-Function-Response-Mode: streaming\r\n"

// TestStreamFlows: each piece is received before the next one is sent, and the
// head before the first.
func TestStreamFlows(t *testing.T) {
	for name, chunked := range map[string]bool{"chunked": true, "length": false} {
		t.Run(name, func(t *testing.T) {
			got := newCollector()
			r := newRig(t)
			r.receiver = got
			c := r.dial()
			head, end := streamHead+"Transfer-Encoding: chunked\r\n\r\n", "0\r\n\r\n"
			if !chunked {
				head, end = streamHead+"Content-Length: 16\r\n\r\n", ""
			}
			io.WriteString(c, head)
			if head := <-got.begun; head != (ResponseHead{"text/x", true}) {
				t.Errorf("%+v", head)
			}
			for i := range 4 {
				if chunked {
					fmt.Fprintf(c, "4\r\npi%2d\r\n", i)
				} else {
					fmt.Fprintf(c, "pi%2d", i)
				}
				if p, want := <-got.pieces, fmt.Sprintf("pi%2d", i); p != want {
					t.Errorf("piece %d: %q", i, p)
				}
			}
			io.WriteString(c, end+nextRequest) // the connection serves on
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil || resp.StatusCode != 202 {
				t.Fatalf("%v %v", resp, err)
			}
			<-r.parked
			want := []lifecycle.Event{lifecycle.RuntimeResponse{RequestID: "i", Streaming: true}, lifecycle.RuntimeResponseBegun{}, lifecycle.RuntimeResponseDone{Bytes: 16}}
			if diff := cmp.Diff(want, r.seen()[:3]); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestSmallChunks: what comes in together is handed on together.
func TestSmallChunks(t *testing.T) {
	got := newCollector()
	r := newRig(t)
	r.receiver = got
	const n = 50_000
	r.send(streamHead + "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + strings.Repeat("2\r\nab\r\n", n) + "0\r\n\r\n")
	pieces := len(got.pieces)
	if all := got.all(); all != strings.Repeat("ab", n) {
		t.Errorf("%d bytes", len(all))
	}
	if pieces > n/100 {
		t.Errorf("%d pieces for %d chunks that came together", pieces, n)
	}
}

func TestStreamTrailers(t *testing.T) {
	document := `{"errorMessage":"it broke","errorType":"Error"}`
	for name, test := range map[string]struct{ trailers, errorType, errorBody string }{
		"none":          {"X: y\r\n", "", ""},
		"both":          {"Lambda-Runtime-Function-Error-Type: Error\r\nLambda-Runtime-Function-Error-Body: " + base64.StdEncoding.EncodeToString([]byte(document)) + "\r\n", "Error", document},
		"no base64":     {"lambda-runtime-function-error-body: {!}\r\nLambda-Runtime-Function-Error-Type: A.B\r\n", "A.B", "{!}"},
		"body alone":    {"Lambda-Runtime-Function-Error-Body: e30=\r\n", "Runtime.Unknown", "{}"},
		"first counts":  {"Lambda-Runtime-Function-Error-Type: A\r\nLambda-Runtime-Function-Error-Type: B\r\n", "A", ""},
		"control bytes": {"Lambda-Runtime-Function-Error-Type: A\x01\xffB\r\n", "A??B", ""},
		"long":          {"Lambda-Runtime-Function-Error-Type: " + strings.Repeat("t", 1000) + "\r\n", strings.Repeat("t", maxErrorType), ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := newCollector()
			r := newRig(t)
			r.receiver = got
			r.send(streamHead + "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n" + test.trailers + "\r\n")
			seen := r.seen()
			want := lifecycle.RuntimeResponseDone{Bytes: 1, ErrorType: test.errorType, ErrorBody: test.errorBody}
			if len(seen) != 3 || seen[2] != lifecycle.Event(want) {
				t.Errorf("events: %+v", seen)
			}
		})
	}
}

func TestTruncatedStreams(t *testing.T) {
	for _, body := range []string{
		"Transfer-Encoding: chunked\r\n\r\n3\r\nabc",
		"Transfer-Encoding: chunked\r\n\r\n5\r\nabc",
		"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
		"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nxyz\r\n",
		"Content-Length: 100\r\n\r\nabc",
	} {
		got := newCollector()
		r := newRig(t)
		r.receiver = got
		if answer := r.send(streamHead + body); !strings.HasPrefix(answer, "HTTP/1.1 400") {
			t.Errorf("%q: %.100q", body, answer)
		}
		if all := got.all(); all != "abc" {
			t.Errorf("%q: received %q", body, all)
		}
		seen := r.seen()
		if want := (lifecycle.RuntimeResponseDone{Bytes: 3, Fault: lifecycle.ResponseTruncated}); len(seen) != 3 || seen[2] != lifecycle.Event(want) {
			t.Errorf("%q: events %+v", body, seen)
		}
	}
}

// A runtime that hangs up in the middle of its response and asks for the next
// event is heard in this order, though it takes two connections.
func TestNextAfterHangingUp(t *testing.T) {
	got := &blocked{newCollector(), make(chan struct{})}
	r := newRig(t)
	r.receiver = got
	c := r.dial()
	io.WriteString(c, streamHead+"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
	<-got.begun
	c.Close()
	io.WriteString(r.dial(), nextRequest)
	select {
	case <-r.parked:
		t.Error("the next request overtook the end of the response")
	case <-time.After(50 * time.Millisecond):
	}
	close(got.room)
	<-r.parked
	want := []lifecycle.Event{
		lifecycle.RuntimeResponse{RequestID: "i", Streaming: true}, lifecycle.RuntimeResponseBegun{},
		lifecycle.RuntimeResponseDone{Bytes: 1, Fault: lifecycle.ResponseTruncated},
	}
	if seen := r.seen(); len(seen) != 4 || !cmp.Equal(want, seen[:3]) {
		t.Errorf("%+v", seen)
	}
}

func TestStreamLimit(t *testing.T) {
	if testing.Short() {
		t.Skip("sends 400 MB")
	}
	for _, extra := range []int{0, 1} {
		got := newCollector()
		got.count = true
		r := newRig(t)
		r.receiver = got
		c := r.dial()
		go func() {
			io.WriteString(c, streamHead+"Transfer-Encoding: chunked\r\n\r\n")
			chunk := []byte("100000\r\n" + strings.Repeat("m", firn.MiB) + "\r\n")
			for range firn.MaxStreamedBytes / firn.MiB {
				c.Write(chunk)
			}
			if extra > 0 {
				io.WriteString(c, "1\r\nx\r\n")
			}
			io.WriteString(c, "0\r\n\r\n")
		}()
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		want := lifecycle.RuntimeResponseDone{Bytes: firn.MaxStreamedBytes}
		if extra > 0 {
			want.Fault = lifecycle.ResponseTooLarge
		}
		if seen := r.seen(); seen[2] != lifecycle.Event(want) || got.total != firn.MaxStreamedBytes {
			t.Errorf("%d bytes more: %d, %+v, %s", extra, got.total, seen[2], resp.Status)
		}
	}
}

// blocked is a receiver that has no room.
type blocked struct {
	*collector
	room chan struct{}
}

func (b *blocked) Receive(piece *Body) {
	<-b.room
	b.collector.Receive(piece)
}

// TestBackPressure: while there is no room nothing is read, so that the
// kernel's buffers hold the sender up.
func TestBackPressure(t *testing.T) {
	got := &blocked{newCollector(), make(chan struct{})}
	got.count = true
	r := newRig(t)
	r.receiver = got
	c := r.dial()
	io.WriteString(c, streamHead+"Content-Length: 1000000000\r\n\r\n")
	<-got.begun
	c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	n, err := c.Write(make([]byte, 64*firn.MiB))
	if err == nil {
		t.Fatal("64 MiB were taken in")
	}
	close(got.room)
	c.SetWriteDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Write(make([]byte, 64*firn.MiB-n)); err != nil {
		t.Error(err)
	}
}

// TestDroppedStream: closing the connections ends a stream in the middle; if
// anything is told of it, that it is truncated.
func TestDroppedStream(t *testing.T) {
	got := newCollector()
	r := newRig(t)
	r.receiver = got
	c := r.dial()
	io.WriteString(c, streamHead+"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
	<-got.pieces
	r.server.CloseConnections()
	seen := r.seen()
	if len(seen) > 2 && seen[2] != lifecycle.Event(lifecycle.RuntimeResponseDone{Bytes: 1, Fault: lifecycle.ResponseTruncated}) || len(seen) > 3 {
		t.Errorf("events: %+v", seen)
	}
}

func TestStreamOfAGoClient(t *testing.T) {
	got := newCollector()
	r := newRig(t)
	r.receiver = got
	body, w := io.Pipe()
	req, err := http.NewRequest("POST", "http://"+r.addr+"/2018-06-01/runtime/invocation/i/response", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Lambda-Runtime-Function-Response-Mode", "streaming")
	req.Trailer = http.Header{"Lambda-Runtime-Function-Error-Type": nil, "Lambda-Runtime-Function-Error-Body": nil}
	go func() {
		for i := range 3 {
			fmt.Fprint(w, i)
			<-got.pieces
		}
		req.Trailer.Set("Lambda-Runtime-Function-Error-Type", "errorString")
		req.Trailer.Set("Lambda-Runtime-Function-Error-Body", "e30=")
		w.Close()
	}()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	want := lifecycle.RuntimeResponseDone{Bytes: 3, ErrorType: "errorString", ErrorBody: "{}"}
	if seen := r.seen(); resp.StatusCode != 202 || seen[len(seen)-1] != lifecycle.Event(want) {
		t.Errorf("%s %+v", resp.Status, seen)
	}
}
