package telemetryapi

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firn-run/firn/internal/lifecycle"
	"github.com/firn-run/firn/internal/telemetry"
)

// counting is a reader that knows how much was taken of it.
type counting struct {
	in io.Reader
	n  int
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	c.n += n
	return n, err
}

// Whatever a listener sends, reading it ends within the bounds, and what says
// "use me again" has left nothing unread that belongs to the response.
func FuzzResponse(f *testing.F) {
	f.Add([]byte(ok200), true)
	f.Add([]byte("HTTP/1.0 500 Oh\r\nConnection: keep-alive\r\ncontent-length: 3\r\n\r\nabc"), true)
	f.Add([]byte("HTTP/1.1 102 P\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nA;b\r\n0123456789\r\n0\r\n\r\n"), false)
	f.Fuzz(func(t *testing.T, response []byte, endless bool) {
		in := &counting{in: bytes.NewReader(response)}
		if endless {
			in.in = io.MultiReader(in.in, forever{})
		}
		r := bufio.NewReaderSize(in, responseBuffer)
		status, v, err := readStatus(r)
		if err == nil {
			if status < 200 || status > 999 {
				t.Fatalf("status %d", status)
			}
			keep, err := readRest(r, status, v)
			if keep && err == nil && endless && status != 204 && status != 304 && len(response) < 16 {
				t.Fatal("an endless response is over")
			}
		}
		if most := maxInterim*(maxHead+2*responseBuffer) + 2*maxHead + 2*maxBody + 4*responseBuffer; in.n > most {
			t.Fatalf("%d bytes were read, more than %d", in.n, most)
		}
	})
}

type forever struct{}

func (forever) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = "0\r\nX: y\r\n"[i%9]
	}
	return len(p), nil
}

func TestParseStatus(t *testing.T) {
	for line, want := range map[string]int{
		"HTTP/1.1 200 OK": 200, "HTTP/1.0 404 Not Found": 404, "HTTP/1.1 200": 200, "HTTP/1.1 200 ": 200, "HTTP/1.1 999 x": 999,
		"": 0, "HTTP/1.1": 0, "HTTP/1.1 099 x": 0, "HTTP/1.1 2x0 OK": 0, "HTTP/1.2 200 OK": 0, "http/1.1 200 OK": 0,
		"HTTP/1.1  200 OK": 0, "HTTP/1.1\t200 OK": 0, "HTTP/1.1 200OK": 0, " HTTP/1.1 200 OK": 0, "HTTP/1.1 -20 OK": 0,
	} {
		got, _, ok := parseStatus([]byte(line))
		if ok != (want != 0) || ok && got != want {
			t.Errorf("%q is %d, %v", line, got, ok)
		}
	}
}

// Everything at once: for the race detector, and against lost wake-ups.
func TestConcurrentUse(t *testing.T) {
	var b box
	var web webListener
	var tcp lineListener
	b.listen(4243, web.serve)
	b.listen(4244, tcp.serve)
	h := b.hub(t, func(lifecycle.Record) {})
	sub := functionOnly()
	sub.buffering = `{"timeoutMs":25,"maxItems":1000}`
	const lives = 5
	for range lives {
		h.BeginInit()
		subscribe(t, h, "logger", Telemetry, sub)
		subscribe(t, h, "shipper", Logs, body{tcp: 4244})
		h.EndInit()
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				for i := range 1500 {
					h.Line(telemetry.Line{Time: time.Now(), Text: []byte("x"), Extension: map[bool]string{true: "e"}[i%3 == 0]})
					h.Record("r", lifecycle.Report{RequestID: "r"})
				}
			})
		}
		wg.Go(func() {
			for range 50 {
				h.Pause()
				h.Stats()
				h.Resume()
			}
		})
		wg.Wait()
		h.Shutdown()
		h.Reset()
	}
	h.BeginInit()
	subscribe(t, h, "logger", Telemetry, sub)
	h.EndInit()
	h.Shutdown()
	const want = lives * 2 * 1000
	for deadline := time.Now().Add(20 * time.Second); len(web.records()) < want; {
		time.Sleep(time.Millisecond) // archtest:sleep polls what a listener has, which has no event
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d records came; %+v", len(web.records()), want, h.Stats())
		}
	}
	if n := len(web.records()); n != want {
		t.Errorf("%d records, want %d", n, want)
	}
}

// A dialer that ignores its context, and answers when all is over.
func TestDialAfterReset(t *testing.T) {
	release := make(chan struct{})
	closed := make(chan struct{})
	h := New(Config{Dial: func(ctx context.Context, port int) (net.Conn, error) {
		<-release
		ours, theirs := net.Pipe()
		go func() {
			io.Copy(io.Discard, theirs)
			close(closed)
		}()
		return ours, nil
	}})
	h.BeginInit()
	subscribe(t, h, "logger", Telemetry, functionOnly())
	h.EndInit()
	h.Shutdown()
	say(h, strings.Repeat("x", 10))
	time.AfterFunc(10*time.Millisecond, func() { h.Reset(); close(release) })
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Fatal("the late connection is not closed")
	}
	h.Close()
}
