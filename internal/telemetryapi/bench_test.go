package telemetryapi

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firn-run/firn/internal/lifecycle"
	"github.com/firn-run/firn/internal/telemetry"
)

// loopback is real listeners on the machine.
func loopback(t testing.TB, serve http.HandlerFunc) (dial Dialer, subscription []byte) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: serve}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-done })
	dial = func(ctx context.Context, port int) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	}
	sub := functionOnly()
	sub.types = nil
	sub.uri = fmt.Sprintf("http://sandbox:%d/", l.Addr().(*net.TCPAddr).Port)
	return dial, sub.json()
}

// Over real sockets, with net/http at the other end.
func TestLoopback(t *testing.T) {
	var fails atomic.Int32
	fails.Store(2)
	got := make(chan string, 20_000)
	dial, sub := loopback(t, func(w http.ResponseWriter, r *http.Request) {
		var records []struct{ Record any }
		if err := json.NewDecoder(r.Body).Decode(&records); err != nil {
			t.Error(err)
		}
		if fails.Add(-1) >= 0 {
			http.Error(w, "not yet", 500)
			return
		}
		for _, rec := range records {
			if text, ok := rec.Record.(string); ok {
				got <- text
			}
		}
	})
	h := New(Config{Dial: dial})
	defer h.Close()
	h.BeginInit()
	if a := h.Subscribe("logger", Telemetry, sub); a.Status != 200 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	h.EndInit()
	const n = 10_000
	go func() {
		say(h, numbers(0, n)...)
		h.Shutdown()
	}()
	timeout := time.After(30 * time.Second)
	for i := range n {
		select {
		case text := <-got:
			if want := fmt.Sprintf("line %d\n", i); text != want {
				t.Fatalf("got %q, want %q", text, want)
			}
		case <-timeout:
			t.Fatalf("only %d of %d lines came; %+v", i, n, h.Stats())
		}
	}
}

// A listener that goes away between two batches costs nothing, not even over
// TCP, whose writes would not tell.
func TestLoopbackListenerRestarts(t *testing.T) {
	for _, tcp := range []bool{false, true} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		sub := functionOnly()
		port := l.Addr().(*net.TCPAddr).Port
		sub.uri = fmt.Sprintf("http://sandbox:%d/", port)
		sub.buffering = `{"timeoutMs":25}`
		if tcp {
			sub.tcp = port
		}
		dials := 0
		h := New(Config{Dial: func(ctx context.Context, port int) (net.Conn, error) {
			dials++
			return net.Dial("tcp", l.Addr().String())
		}})
		defer h.Close()
		h.BeginInit()
		subscribe(t, h, "logger", Telemetry, sub)
		buf := make([]byte, 1000)
		for round := range 3 {
			say(h, numbers(round, round+1)...)
			conn, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			read := ""
			for !strings.Contains(read, fmt.Sprintf("line %d", round)) {
				n, err := conn.Read(buf)
				if err != nil {
					t.Fatalf("tcp %v, round %d: %v after %q", tcp, round, err, read)
				}
				read += string(buf[:n])
			}
			if strings.Count(read, "line ") != 1 {
				t.Errorf("round %d brought %q", round, read)
			}
			if !tcp {
				io.WriteString(conn, ok200)
			}
			for deadline := time.Now().Add(10 * time.Second); h.Stats().Delivered != int64(round+1); {
				if time.Now().After(deadline) {
					t.Fatalf("%+v", h.Stats())
				}
				time.Sleep(time.Millisecond) // archtest:sleep polls a counter, which has no event
			}
			conn.Close()
		}
		if dials != 3 {
			t.Errorf("tcp %v: %d connections", tcp, dials)
		}
	}
}

// A TCP listener that closes its sending half still reads, as nc does.
func TestLoopbackHalfClosed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dials := 0
	h := New(Config{Dial: func(ctx context.Context, port int) (net.Conn, error) {
		dials++
		return net.Dial("tcp", l.Addr().String())
	}})
	defer h.Close()
	h.BeginInit()
	subscribe(t, h, "logger", Telemetry, body{schema: "2022-07-01", tcp: 4243, types: []string{"function"}, buffering: `{"timeoutMs":25}`})
	say(h, "line 0")
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewScanner(conn)
	for i := range 3 {
		if !in.Scan() || !strings.Contains(in.Text(), fmt.Sprintf("line %d", i)) {
			t.Fatalf("line %d is %q: %v", i, in.Text(), in.Err())
		}
		say(h, fmt.Sprintf("line %d", i+1))
	}
	h.Close()
	if dials != 1 {
		t.Errorf("%d connections", dials)
	}
}

const benchText = "2026-01-02T03:04:05.678Z\t8ec66a5e-0b1c-4b68-a1e5-7bd60a3b0d3d\tINFO\tan ordinary line of a function's log\n"

// BenchmarkLine is what a line costs its caller. With subscribers, their
// listeners take everything at once.
func BenchmarkLine(b *testing.B) {
	for _, subscribers := range []int{0, 1, 5} {
		b.Run(fmt.Sprintf("subscribers=%d", subscribers), func(b *testing.B) {
			h := New(Config{Dial: func(ctx context.Context, port int) (net.Conn, error) { return &eager{}, nil }})
			defer h.Close()
			h.BeginInit()
			for i := range subscribers {
				sub := functionOnly()
				sub.uri = fmt.Sprintf("http://sandbox:%d/", 5000+i)
				subscribe(b, h, fmt.Sprintf("e%d", i), Telemetry, sub)
			}
			h.EndInit()
			line := telemetry.Line{Time: time.Now(), Text: []byte(benchText)}
			b.ReportAllocs()
			for b.Loop() {
				h.Line(line)
			}
		})
	}
}

// eager is a listener that has answered before it was asked.
type eager struct {
	net.Conn
	written bool
}

func (e *eager) Write(p []byte) (int, error)   { e.written = true; return len(p), nil }
func (e *eager) Read(p []byte) (int, error)    { return copy(p, ok200), nil }
func (e *eager) SetDeadline(t time.Time) error { return nil }
func (e *eager) Close() error                  { return nil }

// BenchmarkInvocation is what the four records of a warm invocation cost, with
// the freeze around it.
func BenchmarkInvocation(b *testing.B) {
	for _, subscribers := range []int{0, 1, 5} {
		b.Run(fmt.Sprintf("subscribers=%d", subscribers), func(b *testing.B) {
			h := New(Config{Dial: func(ctx context.Context, port int) (net.Conn, error) { return &eager{}, nil }})
			defer h.Close()
			h.BeginInit()
			for i := range subscribers {
				sub := functionOnly()
				sub.types = nil
				sub.uri = fmt.Sprintf("http://sandbox:%d/", 5000+i)
				subscribe(b, h, fmt.Sprintf("e%d", i), Telemetry, sub)
			}
			h.EndInit()
			stamp := lifecycle.Stamp{Time: time.Now()}
			spans := []lifecycle.Span{{Name: "responseLatency", Start: stamp.Time}, {Name: "responseDuration", Start: stamp.Time}, {Name: "runtimeOverhead", Start: stamp.Time}}
			line := telemetry.Line{Time: time.Now(), Text: []byte(benchText)}
			b.ReportAllocs()
			for b.Loop() {
				h.Resume()
				h.Record("r", lifecycle.Start{Stamp: stamp, RequestID: "8ec66a5e-0b1c-4b68-a1e5-7bd60a3b0d3d", Version: "$LATEST"})
				h.Line(line)
				h.Record("r", lifecycle.RuntimeDone{Stamp: stamp, RequestID: "8ec66a5e-0b1c-4b68-a1e5-7bd60a3b0d3d", Status: "success", Metrics: &lifecycle.RuntimeDoneMetrics{DurationMs: 1.5}, Spans: spans})
				h.Record("r", lifecycle.Report{Stamp: stamp, RequestID: "8ec66a5e-0b1c-4b68-a1e5-7bd60a3b0d3d", Status: "success", Spans: spans[:1]})
				h.Pause()
			}
		})
	}
}

// BenchmarkLoopback is a record's way into an HTTP listener that reads all,
// listener included; the producer waits where it would overrun the queue.
func BenchmarkLoopback(b *testing.B) {
	dial, sub := loopback(b, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	h := New(Config{Dial: dial})
	defer h.Close()
	h.BeginInit()
	if a := h.Subscribe("logger", Telemetry, sub); a.Status != 200 {
		b.Fatal(a.Status)
	}
	h.EndInit()
	line := telemetry.Line{Time: time.Now(), Text: []byte(benchText)}
	b.SetBytes(int64(len(benchText)))
	b.ReportAllocs()
	sent := 0
	for b.Loop() {
		if sent++; sent%1000 == 0 {
			for h.Stats().QueuedBytes > queueFactor*defaultMaxBytes/2 {
				time.Sleep(50 * time.Microsecond) // archtest:sleep the producer of a benchmark gives way
			}
		}
		h.Line(line)
	}
	h.Shutdown()
	for h.Stats().QueuedBytes > 0 {
		time.Sleep(50 * time.Microsecond) // archtest:sleep the producer of a benchmark gives way
	}
	b.ReportMetric(float64(sent)/b.Elapsed().Seconds(), "records/s")
	if st := h.Stats(); st.Dropped > 0 {
		b.Errorf("%+v", st)
	}
}

func BenchmarkEscape(b *testing.B) {
	text := []byte(strings.Repeat(benchText, 10))
	buf := make([]byte, 0, 4096)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		buf = appendEscaped(buf[:0], text)
	}
}
