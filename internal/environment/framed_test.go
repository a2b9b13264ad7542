package environment

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firn-run/firn/internal/lifecycle"
	"github.com/firn-run/firn/internal/telemetry"
)

// fullLines is a sink that keeps lines with all there is to them.
type fullLines struct {
	mu    sync.Mutex
	lines []telemetry.Line
}

func (f *fullLines) Record(*telemetry.Source, string, lifecycle.Record) {}

func (f *fullLines) Line(_ *telemetry.Source, line telemetry.Line) {
	f.mu.Lock()
	defer f.mu.Unlock()
	line.Text = slices.Clone(line.Text)
	f.lines = append(f.lines, line)
}

// take returns the framed lines and forgets all.
func (f *fullLines) take() (framed []telemetry.Line) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.lines {
		if l.Framed {
			framed = append(framed, l)
		}
	}
	f.lines = nil
	return framed
}

func managedFixture(sink telemetry.Sink) fixture {
	return fixture{config: func(c *Config) {
		c.Version.Runtime = "python3.13"
		if sink != nil {
			c.Sink = sink
		}
	}}
}

// A managed runtime's log comes in frames: line feeds stay in a message, which
// has its level and time.
func TestFramedLog(t *testing.T) {
	t.Parallel()
	sink := &fullLines{}
	w := start(t, managedFixture(sink))
	w.waitReady()
	sink.take()
	began := time.Now()
	for _, test := range []struct {
		kind  int
		level string
	}{{0x0f, "INFO"}, {0x17, "ERROR"}, {0x03, ""}, {0x06, "TRACE"}} {
		text := "first\nsecond\r"
		w.invoke(command{Do: "frames", Arg: text + "\n", Code: 3, Millis: test.kind})
		w.waitReady()
		got := sink.take()
		if len(got) != 3 {
			t.Fatalf("%#x: %d lines", test.kind, len(got))
		}
		for _, l := range got {
			if string(l.Text) != text || l.Level != test.level || l.RequestID == "" || l.Extension != "" || l.Time.Before(began.Truncate(time.Microsecond)) || l.Time.After(time.Now()) {
				t.Errorf("%#x: %+v, text %q", test.kind, l, l.Text)
			}
		}
	}
}

// The framed pipe is part of what precedes runtimeDone and is in the tail, and
// plain output goes on beside it.
func TestFramedLogInOrder(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	f := managedFixture(nil)
	managed := f.config
	f.config = func(cfg *Config) { managed(cfg); never(cfg) }
	w := start(t, subscribed(c, f, everything()))
	w.waitReady()
	const n = 3000
	out := w.invoke(command{Print: "plain\rline\n", Do: "frames", Arg: "a\nb\n", Code: n, Millis: 0x0b}, tail)
	if !strings.HasPrefix(string(out.LogTail[len(out.LogTail)-4000:]), "a\nb\n") && !strings.Contains(string(out.LogTail), "a\nb\na\nb\n") {
		t.Errorf("tail %q", out.LogTail)
	}
	w.waitReady()
	count, done := 0, false
	for _, g := range c.waitFor(t, "sub/0", "platform.report", 1) {
		switch s := g.String(); {
		case s == "function: a\nb" || s == "function: plain\rline":
			count++
			if done {
				t.Fatal("a line comes after runtimeDone")
			}
		case g.Type == "platform.runtimeDone":
			done = true
		}
	}
	if count != n+1 {
		t.Errorf("%d lines, want %d", count, n+1)
	}
}

// Whatever comes by the descriptor, the environment goes on; what is no frame
// is taken for lines.
func TestFramedGarbage(t *testing.T) {
	t.Parallel()
	sink := &fullLines{}
	w := start(t, managedFixture(sink))
	w.waitReady()
	sink.take()
	future := "\xa5\x5a\x00\x03\x00\x00\x00\x01\x00\x00\xff\xff\xff\xff\xff\xff!"
	for arg, want := range map[string]string{
		"no frame\n": "no frame",
		future:       "!",
	} {
		out := w.invoke(command{Do: "frames", Bytes: []byte(arg)})
		if out.FunctionError != "" {
			t.Fatalf("got %s", out.Payload)
		}
		w.waitReady()
		got := sink.take()
		if len(got) != 1 || string(got[0].Text) != want || time.Since(got[0].Time).Abs() > time.Minute {
			t.Errorf("%q: %+v", arg, got)
		}
	}
	// An unfinished message ends with its process.
	w.invoke(command{Do: "frames", Bytes: []byte("\xa5\x5a\x00\x03\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00\x00half")})
	w.waitReady()
	w.invoke(command{Do: "exit"})
	w.waitReady()
	if got := sink.take(); len(got) != 1 || string(got[0].Text) != "half" {
		t.Errorf("at the end: %+v", got)
	}
}

// A runtime that the function brings along has no such descriptor, and no
// extension has.
func TestNoFramedLog(t *testing.T) {
	t.Parallel()
	w := start(t, fixture{})
	if slices.ContainsFunc(w.runtimeVariables(), func(kv string) bool { return strings.HasPrefix(kv, "_LAMBDA_TELEMETRY") }) {
		t.Error("a custom runtime is told of it")
	}
	w = start(t, managedFixture(nil))
	if !slices.Contains(w.runtimeVariables(), "_LAMBDA_TELEMETRY_LOG_FD=3") {
		t.Error("a managed runtime is not told of it")
	}
	if slices.ContainsFunc(w.extensionVariables(), func(kv string) bool { return strings.HasPrefix(kv, "_") }) {
		t.Error("an extension is told of it")
	}
}
