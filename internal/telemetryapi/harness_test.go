package telemetryapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/firn-run/firn/internal/lifecycle"
	"github.com/firn-run/firn/internal/telemetry"
)

// box is the inside of an environment: listeners on ports, over pipes, so that
// everything can happen in a bubble of virtual time.
type box struct {
	mu    sync.Mutex
	ports map[int]func(net.Conn)
	dials []time.Time
	wg    sync.WaitGroup
}

func (b *box) listen(port int, serve func(net.Conn)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ports == nil {
		b.ports = map[int]func(net.Conn){}
	}
	b.ports[port] = serve
}

func (b *box) dial(ctx context.Context, port int) (net.Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dials = append(b.dials, time.Now())
	serve := b.ports[port]
	if serve == nil {
		return nil, syscall.ECONNREFUSED
	}
	ours, theirs := net.Pipe()
	b.wg.Go(func() {
		defer theirs.Close()
		serve(theirs)
	})
	return ours, nil
}

// hub makes a Hub on the box that ends with the test.
func (b *box) hub(t testing.TB, emit func(lifecycle.Record)) *Hub {
	h := New(Config{Dial: b.dial, Emit: emit, Source: &telemetry.Source{Format: telemetry.LogFormat{JSON: true}}})
	t.Cleanup(func() {
		h.Close()
		b.wg.Wait()
	})
	return h
}

// webListener is an HTTP listener that keeps what it was sent.
type webListener struct {
	// reply answers request n (from 0) with raw bytes; then the connection is
	// closed if it says so. nil is 200.
	reply func(n int) (response string, hangUp bool)

	mu       sync.Mutex
	heads    []*http.Request
	batches  [][]string // records as they came, of every request
	taken    []string   // records of requests answered by 200
	arrivals []time.Time
}

const ok200 = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

func status(code int) string {
	return fmt.Sprintf("HTTP/1.1 %d Whatever\r\nContent-Length: 2\r\n\r\nhm", code)
}

func (l *webListener) serve(conn net.Conn) {
	in := bufio.NewReader(conn)
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		var records []json.RawMessage
		if err := json.Unmarshal(body, &records); err != nil {
			panic(fmt.Sprintf("a delivery is no array: %v in %q", err, body))
		}
		batch := make([]string, len(records))
		for i, r := range records {
			batch[i] = string(r)
		}
		l.mu.Lock()
		n := len(l.batches)
		l.heads = append(l.heads, req)
		l.batches = append(l.batches, batch)
		l.arrivals = append(l.arrivals, time.Now())
		l.mu.Unlock()
		response, hangUp := ok200, false
		if l.reply != nil {
			response, hangUp = l.reply(n)
		}
		if strings.HasPrefix(response, "HTTP/1.1 200") || strings.HasPrefix(response, "HTTP/1.0 200") {
			l.mu.Lock()
			l.taken = append(l.taken, batch...)
			l.mu.Unlock()
		}
		if _, err := io.WriteString(conn, response); err != nil || hangUp {
			return
		}
	}
}

func (l *webListener) records() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.taken)
}

func (l *webListener) requests() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.batches)
}

// lineListener is a TCP listener that keeps the lines it was sent.
type lineListener struct {
	mu    sync.Mutex
	lines []string
}

func (l *lineListener) serve(conn net.Conn) {
	in := bufio.NewReader(conn)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		l.mu.Lock()
		l.lines = append(l.lines, strings.TrimSuffix(line, "\n"))
		l.mu.Unlock()
	}
}

func (l *lineListener) records() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines)
}

// body is a subscription.
type body struct {
	schema, uri string
	tcp         int
	types       []string
	buffering   string
	method      string
}

func (b body) json() []byte {
	dest := map[string]any{"protocol": "TCP", "port": b.tcp}
	if b.tcp == 0 {
		dest = map[string]any{"protocol": "HTTP", "URI": b.uri}
	}
	if b.method != "" {
		dest["method"] = b.method
	}
	if b.types == nil {
		b.types = []string{"platform", "function", "extension"}
	}
	all := map[string]any{"destination": dest, "types": b.types}
	if b.schema != "" {
		all["schemaVersion"] = b.schema
	}
	if b.buffering != "" {
		all["buffering"] = json.RawMessage(b.buffering)
	}
	text, err := json.Marshal(all)
	if err != nil {
		panic(err)
	}
	return text
}

const uri1, uri2 = "http://sandbox.localdomain:4243/", "http://sandbox:4244/other"

// functionOnly subscribes to the function's lines at port 4243.
func functionOnly() body {
	return body{schema: "2022-07-01", uri: uri1, types: []string{"function"}}
}

func subscribe(t testing.TB, h *Hub, extension string, api API, b body) {
	t.Helper()
	if a := h.Subscribe(extension, api, b.json()); a.Status != 200 || string(a.Body) != `"OK"` {
		t.Fatalf("subscription: %d %s", a.Status, a.Body)
	}
}

// say writes lines of the function.
func say(h *Hub, texts ...string) {
	for _, text := range texts {
		h.Line(telemetry.Line{Time: time.Now(), Text: []byte(text)})
	}
}

// contents are the texts of string records; other records are told by their
// type.
func contents(t testing.TB, records []string) []string {
	t.Helper()
	out := []string{}
	for _, r := range records {
		var e struct {
			Type   string
			Record any
		}
		if err := json.Unmarshal([]byte(r), &e); err != nil {
			t.Fatalf("record %q: %v", r, err)
		}
		if text, ok := e.Record.(string); ok && !strings.HasPrefix(e.Type, "platform.") {
			out = append(out, strings.TrimSuffix(text, "\n"))
		} else {
			out = append(out, e.Type)
		}
	}
	return out
}

func numbers(from, to int) []string {
	var out []string
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprintf("line %d", i))
	}
	return out
}

// emitted collects what a Hub tells the other sinks.
type emitted struct {
	mu   sync.Mutex
	recs []lifecycle.Record
}

func (e *emitted) add(rec lifecycle.Record) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.recs = append(e.recs, rec)
}

func (e *emitted) types() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out bytes.Buffer
	for _, rec := range e.recs {
		fmt.Fprintf(&out, "%s ", rec.RecordType())
	}
	return strings.TrimSpace(out.String())
}
