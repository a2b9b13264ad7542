package environment

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/firn-run/firn"
)

// streamOrder is the runtime's side of these tests: it streams Code chunks,
// Millis apart, each the Bytes or else its number, and ends as Arg says.
func (c *client) streamOrder(path string, cmd *command) {
	r, w := io.Pipe()
	req, err := http.NewRequest("POST", c.base+path, r)
	if err != nil {
		panic(err)
	}
	req.Header.Set("Lambda-Runtime-Function-Response-Mode", "streaming")
	req.Header.Set("Content-Type", "text/test")
	req.Trailer = http.Header{"Lambda-Runtime-Function-Error-Type": nil, "Lambda-Runtime-Function-Error-Body": nil}
	go func() {
		defer w.Close()
		for i := range cmd.Code {
			if i > 0 {
				time.Sleep(time.Duration(cmd.Millis) * time.Millisecond) // archtest:sleep the function's work
			}
			p := cmd.Bytes
			if p == nil {
				p = fmt.Appendf(nil, "<%d>", i)
			}
			if _, err := w.Write(p); err != nil {
				return
			}
		}
		if cmd.Arg != "" {
			time.Sleep(100 * time.Millisecond) // archtest:sleep until the client has sent what was written
		}
		switch cmd.Arg {
		case "trailer":
			req.Trailer.Set("Lambda-Runtime-Function-Error-Type", "Error")
			req.Trailer.Set("Lambda-Runtime-Function-Error-Body", base64.StdEncoding.EncodeToString([]byte(`{"errorMessage":"midway"}`)))
		case "exit":
			os.Exit(7)
		case "hang":
			select {}
		case "hang up":
			w.CloseWithError(errors.New("hung up"))
		}
	}()
	resp, err := c.http.Do(req)
	if err != nil {
		fmt.Println("stream:", err)
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != 202 {
		fmt.Println("stream:", resp.Status)
	}
}

// sink collects a stream.
type sink struct {
	head    ResponseHead
	begun   int
	got     bytes.Buffer
	pieces  []time.Time
	onPiece func(n int) error // before the n-th piece, from 1
}

func (s *sink) Begin(head ResponseHead) error {
	s.begun++
	s.head = head
	return nil
}

func (s *sink) Write(p []byte) error {
	s.pieces = append(s.pieces, time.Now())
	if s.onPiece != nil {
		if err := s.onPiece(len(s.pieces)); err != nil {
			return err
		}
	}
	s.got.Write(p)
	return nil
}

// ready starts an environment and waits for the end of its init.
func ready(t *testing.T, f fixture) *world {
	t.Helper()
	w := start(t, f)
	w.waitReady()
	return w
}

func into(s *sink) func(*Invocation) { return func(inv *Invocation) { inv.Stream = s } }

func TestStreamAsItComes(t *testing.T) {
	w := ready(t, fixture{})
	s := &sink{}
	out := w.invoke(command{Do: "stream", Code: 3, Millis: 150}, into(s), tail)
	end := time.Now()
	if got := s.got.String(); got != "<0><1><2>" || s.head != (ResponseHead{ContentType: "text/test", Streaming: true}) || s.begun != 1 {
		t.Errorf("%q, %+v, begun %d times", got, s.head, s.begun)
	}
	if len(s.pieces) != 3 || end.Sub(s.pieces[0]) < 300*time.Millisecond {
		t.Errorf("the first of %d pieces came %v before the end", len(s.pieces), end.Sub(s.pieces[0]))
	}
	if !out.Streamed || len(out.Payload) > 0 || out.FunctionError != "" {
		t.Errorf("%+v", out)
	}
	if log := string(out.LogTail); !strings.Contains(log, "REPORT") {
		t.Errorf("tail %q", log)
	}
	w.waitReady()
	if out := w.invoke(command{Do: "counter"}); string(out.Payload) != "2" {
		t.Errorf("after the stream: %s", out.Payload)
	}
}

// TestStreamEnds has every way in which a stream can end. The bytes before the
// end are never lost.
func TestStreamEnds(t *testing.T) {
	for name, test := range map[string]struct {
		arg       string
		errorType string
		payload   string
		report    string
	}{
		"well":     {"", "", "", "platform.report success"},
		"trailers": {"trailer", "Error", `{"errorMessage":"midway"}`, "platform.report success"},
		"exit": {"exit", "Runtime.TruncatedResponse", `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: ID Error: Runtime exited with error: exit status 7"}`,
			"platform.report error Runtime.ExitError"},
		"hung up": {"hang up", "Runtime.TruncatedResponse", `{"errorType":"Runtime.TruncatedResponse","errorMessage":"RequestId: ID Error: Response was truncated"}`,
			"platform.report error Runtime.TruncatedResponse"},
		"timeout": {"hang", "Sandbox.Timedout", `{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: ID Error: Task timed out after 1.00 seconds"}`,
			"platform.report timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := ready(t, fixture{timeout: time.Second})
			s := &sink{}
			out := w.invoke(command{Do: "stream", Code: 2, Millis: 10, Arg: test.arg}, into(s))
			if got := s.got.String(); got != "<0><1>" {
				t.Errorf("%q", got)
			}
			if out.ErrorType != test.errorType || plain(out.Payload) != test.payload || !out.Streamed || (out.FunctionError != "") != (test.errorType != "") {
				t.Errorf("%+v\n%s", out, out.Payload)
			}
			w.waitReady()
			if !w.log.has(test.report) {
				t.Errorf("no %q", test.report)
			}
			if out := w.invoke(command{Do: "echo"}); out.FunctionError != "" || out.Streamed || len(out.Payload) == 0 {
				t.Errorf("after it: %+v", out)
			}
		})
	}
}

// TestRuntimeThatDoesNotStream: its response goes on all the same, and may be
// as large as any stream.
func TestRuntimeThatDoesNotStream(t *testing.T) {
	w := ready(t, fixture{})
	s := &sink{}
	const n = firn.MaxPayloadBytes + 1
	out := w.invoke(command{Do: "big", Code: n}, into(s))
	if !out.Streamed || out.FunctionError != "" || s.got.Len() != n || s.head != (ResponseHead{ContentType: "application/test"}) {
		t.Errorf("%+v, %+v, %d bytes", out, s.head, s.got.Len())
	}
}

// TestNotStreamed: an error instead of a response is an ordinary outcome also
// for a caller who asked for a stream.
func TestNotStreamed(t *testing.T) {
	w := ready(t, fixture{timeout: 2 * time.Second})
	for _, cmd := range []command{{Do: "error"}, {Do: "exit", Code: 1}, {Do: "panic"}} {
		s := &sink{}
		out := w.invoke(cmd, into(s))
		if out.Streamed || s.begun > 0 || len(out.Payload) == 0 {
			t.Errorf("%s: %+v", cmd.Do, out)
		}
		w.waitReady()
	}
}

// TestExitInFirstStream: the end of the runtime is told also when its init was
// a part of the invocation.
func TestExitInFirstStream(t *testing.T) {
	w := start(t, fixture{})
	out := w.invoke(command{Do: "stream", Code: 1, Arg: "exit"}, into(&sink{}))
	if !strings.Contains(string(out.Payload), "exit status 7") {
		t.Errorf("%+v: %s", out, out.Payload)
	}
}

// TestStreamOfNothing begins and ends.
func TestStreamOfNothing(t *testing.T) {
	w := ready(t, fixture{})
	s := &sink{}
	out := w.invoke(command{Do: "stream"}, into(s))
	if !out.Streamed || s.begun != 1 || s.got.Len() > 0 || out.FunctionError != "" {
		t.Errorf("%+v, begun %d times", out, s.begun)
	}
}

// TestSlowSink: a sink that does not take holds the runtime up, and little is
// held for it.
func TestSlowSink(t *testing.T) {
	w := ready(t, fixture{})
	const chunk, chunks = 1 << 20, 64
	s := &sink{onPiece: func(n int) error {
		if n > 1 {
			return nil
		}
		w.mu.Lock()
		relay := w.flight.relay
		w.mu.Unlock()
		var before int64 = -1
		for at := relay.produced.Load(); at != before; at = relay.produced.Load() {
			before = at
			<-time.After(100 * time.Millisecond)
		}
		if most := int64(streamAhead+2) * 32 << 10; before > most {
			t.Errorf("%d bytes were taken in, want at most %d", before, most)
		}
		return nil
	}}
	out := w.invoke(command{Do: "stream", Code: chunks, Bytes: make([]byte, chunk)}, into(s))
	if s.got.Len() != chunk*chunks || out.FunctionError != "" {
		t.Errorf("%d bytes, %+v", s.got.Len(), out)
	}
}

// TestSlowSinkAndTimeout: the function's time is not stopped by a slow caller,
// and the environment does not wait for him.
func TestSlowSinkAndTimeout(t *testing.T) {
	w := ready(t, fixture{timeout: time.Second})
	s := &sink{onPiece: func(n int) error {
		if n == 1 {
			w.waitReady() // reset
		}
		return nil
	}}
	out := w.invoke(command{Do: "stream", Code: 64, Bytes: make([]byte, 1<<20)}, into(s))
	if out.ErrorType != "Sandbox.Timedout" || !out.Streamed || s.got.Len() == 0 {
		t.Errorf("%+v after %d bytes", out, s.got.Len())
	}
}

// TestStreamCallerGone: the runtime streams on, to nobody.
func TestStreamCallerGone(t *testing.T) {
	left := errors.New("left")
	for name, gone := range map[string]func(cancel func()) error{
		"sink":    func(func()) error { return left },
		"context": func(cancel func()) error { cancel(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			w := ready(t, fixture{})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s := &sink{onPiece: func(n int) error {
				if n > 1 {
					return nil
				}
				return gone(cancel)
			}}
			p := fmt.Appendf(nil, `{"Do":"stream","Code":40,"Bytes":%q}`, base64.StdEncoding.EncodeToString(make([]byte, 1<<20)))
			out, err := w.Invoke(ctx, &Invocation{RequestID: "0b8a1b0e-7f0f-4f5c-9a67-6e5f5f6a7b8c", Payload: p, Stream: s})
			if out != nil || !errors.Is(err, left) && !errors.Is(err, context.Canceled) {
				t.Errorf("%v, %v", out, err)
			}
			w.waitReady()
			if !w.log.has("platform.report success") {
				t.Error("the function did not end well")
			}
			if out := w.invoke(command{Do: "counter"}); string(out.Payload) != "2" {
				t.Errorf("after it: %s", out.Payload)
			}
		})
	}
}

// TestAbortedStream: the caller is told, and nothing is left.
func TestAbortedStream(t *testing.T) {
	w := ready(t, fixture{})
	s := &sink{onPiece: func(n int) error {
		if n == 1 {
			w.Abort()
		}
		return nil
	}}
	out := w.invoke(command{Do: "stream", Code: 64, Bytes: make([]byte, 1<<20)}, into(s))
	if out.ErrorType != "Sandbox.Failure" || !out.Streamed {
		t.Errorf("%+v", out)
	}
	<-w.Done()
}

// TestStreamOvertakes: a runtime that streams before it has read its event,
// over another connection, does not hold itself up.
func TestStreamOvertakes(t *testing.T) {
	w := ready(t, fixture{})
	s := &sink{}
	out := w.invoke(command{Do: "overtake stream", Code: 64, Bytes: make([]byte, 6<<20)}, into(s))
	if out.FunctionError != "" || s.got.Len() != 16<<20 {
		t.Errorf("%+v: %d bytes", out, s.got.Len())
	}
}

// overtakeStream polls again on a connection that is not read, so that the
// event gets stuck there, and streams 16 MiB over another one.
func overtakeStream(c *client, id string) {
	conn, err := net.Dial("tcp", os.Getenv("AWS_LAMBDA_RUNTIME_API"))
	if err != nil {
		panic(err)
	}
	fmt.Fprint(conn, "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n")
	c.streamOrder("/2018-06-01/runtime/invocation/"+id+"/response", &command{Code: 16, Bytes: make([]byte, 1<<20)})
}
