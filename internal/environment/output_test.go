package environment

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firn-run/firn/internal/lifecycle"
	"github.com/firn-run/firn/internal/telemetry"
)

// lines is a sink that keeps the texts.
type lines struct {
	nowhere
	texts []string
}

func (l *lines) Line(_ *telemetry.Source, line telemetry.Line) {
	l.texts = append(l.texts, string(line.Text))
}

func newOutput() (*output, *lines) {
	l := &lines{}
	return &output{sink: l, source: &telemetry.Source{}, now: time.Now}, l
}

func TestLongLinesAreSplit(t *testing.T) {
	o, l := newOutput()
	s := o.stream("")
	for chunk := range slices.Chunk([]byte(strings.Repeat("x", 2*maxLineBytes+10)+"\nend"), 1000) {
		s.write(chunk)
	}
	o.flushAll()
	var sizes []int
	for _, text := range l.texts {
		sizes = append(sizes, len(text))
	}
	if want := []int{maxLineBytes, maxLineBytes, 10, 3}; !slices.Equal(sizes, want) {
		t.Errorf("sizes %v, want %v", sizes, want)
	}
	if cap(s.part) > keepBytes {
		t.Errorf("an idle stream keeps %d bytes", cap(s.part))
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	o, _ := newOutput()
	o.record("id", lifecycle.Start{RequestID: "id", Version: "1"}, true)
	s := o.stream("")
	for range 10_000 {
		s.write([]byte("a line\n"))
	}
	s.write([]byte(strings.Repeat("l", 100_000) + "\nlast\n"))
	if cap(o.tail) > 64<<10 {
		t.Errorf("a tail holds %d bytes", cap(o.tail))
	}
	tail := o.takeTail()
	if len(tail) != 4096 || !bytes.HasSuffix(tail, []byte("lll\nlast\n")) {
		t.Errorf("%d bytes, ends in %q", len(tail), tail[len(tail)-20:])
	}
}

// The tail begins with the inits that the invocation has waited for.
func TestTailOfInits(t *testing.T) {
	init := func(o *output, phase, kind string) {
		o.record("", lifecycle.InitStart{Phase: phase, InitializationType: kind}, false)
		o.stream("").write([]byte("loading\nunfinished"))
		o.flushAll()
		o.record("", lifecycle.InitReport{Phase: phase, Status: lifecycle.StatusError, ErrorType: "E"}, false)
	}
	invoke := func(o *output, tail bool) string {
		o.record("id", lifecycle.Start{RequestID: "id", Version: "1"}, tail)
		o.frameLocked(telemetry.Frame{Text: []byte("[ERROR] E"), Open: true})
		o.record("id", lifecycle.Report{RequestID: "id"}, tail)
		return string(o.takeTail())
	}
	const loading, start = "loading\nunfinished\nINIT_REPORT Init Duration: 0.00 ms\tPhase: %\tStatus: error\tError Type: E\n", "START RequestId: id Version: 1\n"
	first, again := strings.Replace(loading, "%", "init", 1), strings.Replace(loading, "%", "invoke", 1)
	for _, c := range []struct {
		name string
		do   func(o *output)
		want string
	}{
		{"cold", func(o *output) { init(o, lifecycle.PhaseInit, onDemand) }, first},
		{"after a failed init", func(o *output) { init(o, lifecycle.PhaseInit, onDemand); init(o, lifecycle.PhaseInvoke, onDemand) }, first + again},
		{"after a reset", func(o *output) {
			init(o, lifecycle.PhaseInit, onDemand)
			invoke(o, true)
			init(o, lifecycle.PhaseInvoke, onDemand)
		}, again},
		{"warm", func(o *output) { init(o, lifecycle.PhaseInit, onDemand); invoke(o, false) }, ""},
		{"provisioned", func(o *output) { init(o, lifecycle.PhaseInit, "provisioned-concurrency") }, ""},
	} {
		o, _ := newOutput()
		c.do(o)
		// What a frame ends without, the log ends without: as recorded.
		if got := invoke(o, true); !strings.HasPrefix(got, c.want+start+"[ERROR] EEND RequestId: id\nREPORT ") {
			t.Errorf("%s: tail %q, want %q first", c.name, got, c.want+start)
		}
	}
}

// Records that the Hub makes by itself reach the sink, whoever holds the output
// in that moment, and none has to wait for the next line.
func TestRecordsOfTheHub(t *testing.T) {
	counts := &countingSink{}
	o := &output{sink: counts, source: &telemetry.Source{}, now: time.Now}
	const each = 2000
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			for range each {
				o.emit(lifecycle.LogsDropped{})
			}
		})
		group.Go(func() {
			s := &stream{out: o}
			for range each {
				s.write([]byte("line\n"))
			}
		})
	}
	group.Wait()
	if counts.records != 3*each || counts.lines != 3*each {
		t.Errorf("%d records and %d lines, want %d of each", counts.records, counts.lines, 3*each)
	}
}

// countingSink relies on its caller to be the only one.
type countingSink struct{ records, lines int }

func (c *countingSink) Record(*telemetry.Source, string, lifecycle.Record) { c.records++ }
func (c *countingSink) Line(*telemetry.Source, telemetry.Line)             { c.lines++ }

// FuzzLines: however the output is cut into chunks, the lines are those of the
// whole.
func FuzzLines(f *testing.F) {
	f.Add([]byte("a\nb\n\nc"), 1)
	f.Add([]byte("\n\r\n"), 2)
	f.Fuzz(func(t *testing.T, p []byte, n int) {
		o, l := newOutput()
		s := o.stream("")
		for chunk := range slices.Chunk(p, max(1, min(n, 1000))) {
			s.write(chunk)
		}
		o.flushAll()
		want := strings.Split(string(p), "\n")
		if want[len(want)-1] == "" {
			want = want[:len(want)-1]
		}
		if len(p) < maxLineBytes && !slices.Equal(l.texts, want) {
			t.Errorf("got %q, want %q", l.texts, want)
		}
	})
}
