package trace

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firn-run/firn/internal/invoke"
	"github.com/firn-run/firn/internal/lifecycle"
	"github.com/firn-run/firn/internal/telemetry"
	"github.com/firn-run/firn/internal/timeline"
)

const (
	root   = "1-5759e988-bd862e3fe1be46a994272793"
	header = "Root=" + root + ";Parent=53995c3f42cd8ad8;Sampled=1"
)

func epoch() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

func at(ms int) lifecycle.Stamp {
	return lifecycle.Stamp{Time: epoch().Add(time.Duration(ms) * time.Millisecond)}
}

// exporter keeps what is exported; the batches are made when asked for.
type exporter struct {
	mu    sync.Mutex
	queue []func() timeline.SpanSet
}

func (e *exporter) Export(batch func() timeline.SpanSet) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.queue = append(e.queue, batch)
}

func (e *exporter) spans() (all []timeline.Span) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, batch := range e.queue {
		all = append(all, batch().Spans...)
	}
	e.queue = nil
	return all
}

// bench is a store with one environment and a clock of its own.
type bench struct {
	*Store
	src *telemetry.Source
	ms  int // the time now
	out *exporter
}

func newBench(cfg Config) *bench {
	b := &bench{src: source("hello", "e1"), out: &exporter{}}
	cfg.Exporter = b.out
	cfg.Now = func() time.Time { return at(b.ms).Time }
	b.Store = New(cfg)
	return b
}

func source(function, environment string) *telemetry.Source {
	return &telemetry.Source{Function: function, Version: "$LATEST", Environment: environment, ARN: "arn:aws:lambda:eu-west-1:123456789012:function:" + function, LogStream: environment}
}

func (b *bench) after(ms int) lifecycle.Stamp {
	b.ms += ms
	return at(b.ms)
}

func (b *bench) say(rec lifecycle.Record) { b.Record(b.src, "", rec) }

func (b *bench) step(name, detail string) {
	b.say(lifecycle.Phase{Stamp: b.after(1), Name: name, Detail: detail})
}

// init is an init with an extension.
func (b *bench) init(phase, status string) {
	b.say(lifecycle.InitStart{Stamp: b.after(1), InitializationType: "on-demand", Phase: phase})
	b.step(lifecycle.PhaseExtensionStarted, "logger")
	b.step(lifecycle.PhaseExtensionRegistered, "logger")
	b.step(lifecycle.PhaseRuntimeStarted, "")
	b.step(lifecycle.PhaseExtensionReady, "logger")
	if status == "success" {
		b.step(lifecycle.PhaseRuntimeReady, "")
		b.say(lifecycle.Extension{Stamp: b.after(0), Name: "logger", State: "Ready", Events: []string{"INVOKE"}})
	}
	b.say(lifecycle.InitRuntimeDone{Stamp: b.after(0), Phase: phase, Status: status})
	b.say(lifecycle.InitReport{Stamp: b.after(0), Phase: phase, Status: status, Metrics: lifecycle.InitMetrics{DurationMs: 5}})
}

// invoke is an invocation from its start to the freeze.
func (b *bench) invoke(id, header string) {
	b.begin(id, header)
	b.end(id)
}

func (b *bench) begin(id, header string) {
	b.say(lifecycle.Start{Stamp: b.after(1), RequestID: id, Version: "$LATEST", TraceID: header})
}

func (b *bench) end(id string) {
	b.step(lifecycle.PhaseAnswered, "")
	b.say(lifecycle.RuntimeDone{Stamp: b.after(1), RequestID: id, Status: "success"})
	b.step(lifecycle.PhaseExtensionReady, "logger")
	b.say(lifecycle.Report{Stamp: b.after(0), RequestID: id, Status: "success", Metrics: lifecycle.ReportMetrics{DurationMs: 4, BilledDurationMs: 4}})
	b.step(lifecycle.PhaseFrozen, "")
}

func (b *bench) timeline(t *testing.T, id string) *timeline.Timeline {
	t.Helper()
	tl, ok := b.Timeline(id)
	if !ok {
		t.Fatalf("%s is not kept", id)
	}
	return tl
}

// bars lists the kinds of bars of all lanes.
func bars(tl *timeline.Timeline) string {
	var all []string
	for _, l := range tl.Lanes {
		for _, b := range l.Bars {
			all = append(all, l.Name+" "+string(b.Kind))
		}
	}
	return strings.Join(all, ", ")
}

// The init belongs to the first invocation; the second one has none of it,
// but knows the extensions; a thaw belongs to what follows it.
func TestInvocationsOfAnEnvironment(t *testing.T) {
	b := newBench(Config{})
	b.Received(invoke.Received{RequestID: "r1", Time: at(0).Time})
	b.init("init", "success")
	b.invoke("r1", "")
	b.Finished("r1")
	b.step(lifecycle.PhaseThawed, "")
	b.invoke("r2", "")

	first, second := b.timeline(t, "r1"), b.timeline(t, "r2")
	if got, want := bars(first), "platform prepare, platform init, platform invoke, platform frozen, runtime init, runtime invoke, logger init, logger extension"; got != want {
		t.Errorf("first:  %s\nwant    %s", got, want)
	}
	if got, want := bars(second), "platform invoke, platform frozen, runtime invoke, logger extension"; got != want {
		t.Errorf("second: %s\nwant    %s", got, want)
	}
	if !first.Cold || second.Cold {
		t.Errorf("cold: %v, %v", first.Cold, second.Cold)
	}
	if got := second.Marks[0].Kind; got != timeline.MarkThawed {
		t.Errorf("the second invocation begins with %s, want thawed", got)
	}
	if first.Durations.Caller != timeline.Offset(8*time.Millisecond) {
		t.Errorf("the caller waited %s", first.Durations.Caller)
	}
}

// An init that failed, the reset, and the init inside the invocation all
// belong to the invocation that waited for them.
func TestSuppressedInit(t *testing.T) {
	b := newBench(Config{})
	b.init("init", "error")
	b.step(lifecycle.PhaseShutdown, "failure")
	b.step(lifecycle.PhaseResetDone, "")
	b.init("invoke", "success")
	b.invoke("r1", "")
	// A timeout, and the next invocation with the init that it needs.
	b.begin("r2", "")
	b.say(lifecycle.Report{Stamp: b.after(3000), RequestID: "r2", Status: "timeout"})
	b.step(lifecycle.PhaseShutdown, "timeout")
	b.step(lifecycle.PhaseResetDone, "")
	b.init("invoke", "success")
	b.invoke("r3", "")
	count := func(id string) string {
		all := bars(b.timeline(t, id))
		return fmt.Sprint(strings.Count(all, "platform init"), " inits, ", strings.Count(all, "platform shutdown"), " shutdowns")
	}
	for id, want := range map[string]string{"r1": "2 inits, 1 shutdowns", "r2": "0 inits, 1 shutdowns", "r3": "1 inits, 0 shutdowns"} {
		if got := count(id); got != want {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
}

// A request id that comes again, as retries of events do, shows the last run.
func TestSameRequestAgain(t *testing.T) {
	b := newBench(Config{Invocations: 2})
	b.invoke("r1", header)
	first := b.timeline(t, "r1").Begin
	b.invoke("r1", header)
	if again := b.timeline(t, "r1"); !again.Begin.After(first) {
		t.Error("the first run is shown")
	}
	ids := map[[8]byte]bool{}
	for _, s := range b.out.spans() {
		if s.Kind == timeline.SpanServer {
			ids[s.ID] = true
		}
	}
	if len(ids) != 2 {
		t.Errorf("two runs have %d spans", len(ids))
	}
	b.invoke("r2", "")
	b.invoke("r3", "")
	if _, ok := b.Timeline("r1"); ok {
		t.Error("r1 is kept beyond the bound")
	}
}

// The oldest go: by count, and by bytes.
func TestBounds(t *testing.T) {
	b := newBench(Config{Invocations: 10})
	for n := range 500 {
		b.invoke(fmt.Sprint("r", n), "")
	}
	if got := b.Recent(Filter{Limit: 1000}); len(got) != 10 || got[0].RequestID != "r490" || got[9].RequestID != "r499" {
		t.Errorf("%d are kept, from %s", len(got), got[0].RequestID)
	}
	if len(b.byID) != 10 || len(b.ring) > 200 {
		t.Errorf("%d ids, a ring of %d", len(b.byID), len(b.ring))
	}

	const limit = 200 << 10
	b = newBench(Config{Bytes: limit})
	for n := range 100 {
		id := fmt.Sprint("r", n)
		b.begin(id, header)
		for range 100 {
			b.Line(b.src, telemetry.Line{Time: at(b.ms).Time})
		}
		b.end(id)
	}
	kept := len(b.Recent(Filter{Limit: 1000}))
	if used := b.bytes.Load(); used > limit+(16<<10) || kept < 10 || kept >= 100 {
		t.Errorf("%d kept in %d bytes of %d", kept, used, limit)
	}
	sum := int64(0)
	for _, e := range b.ring[b.head:] {
		sum += e.bytes.Load()
	}
	if sum != b.bytes.Load() {
		t.Errorf("the account says %d, the entries %d", b.bytes.Load(), sum)
	}
}

// One invocation cannot take it all: records, lines and writers are bounded,
// and the end is told whatever came before.
func TestBoundsOfOneInvocation(t *testing.T) {
	b := newBench(Config{})
	b.begin("r1", "")
	for n := range 2000 {
		b.step(lifecycle.PhaseFrozen, "")
		b.Line(b.src, telemetry.Line{Time: at(b.ms).Time, Extension: fmt.Sprint("x", n%100)})
	}
	b.end("r1")
	e := b.byID["r1"]
	if len(e.records) > maxRecords+3 || len(e.lines) != maxLines || len(e.more) != maxWriters {
		t.Errorf("%d records, %d lines, %d writers", len(e.records), len(e.lines), len(e.more))
	}
	if tl := b.timeline(t, "r1"); tl.Status != "success" {
		t.Errorf("the report was lost: %+v", tl)
	}
}

// An environment that ends is forgotten, what it ran is not.
func TestEnvironmentEnds(t *testing.T) {
	b := newBench(Config{})
	b.invoke("r1", "")
	b.step(lifecycle.PhaseShutdown, "timeout")
	b.step(lifecycle.PhaseResetDone, "")
	if b.live.Load() != 1 {
		t.Error("a reset is no end")
	}
	b.step(lifecycle.PhaseShutdown, "spindown")
	b.step(lifecycle.PhaseResetDone, "")
	if b.live.Load() != 0 {
		t.Error("the environment is remembered")
	}
	if got := bars(b.timeline(t, "r1")); !strings.Contains(got, "platform shutdown") {
		t.Errorf("no shutdown in %s", got)
	}
	// Those that never said so go when there are many.
	b = newBench(Config{Invocations: 10})
	for n := range maxEnvironments + 10 {
		src := source("f", fmt.Sprint(n))
		b.Record(src, "", lifecycle.Start{Stamp: at(n), RequestID: fmt.Sprint(n)})
	}
	if n := b.live.Load(); n > 100 {
		t.Errorf("%d environments are remembered", n)
	}
}

// A running invocation is listed and drawn up to now.
func TestRunning(t *testing.T) {
	b := newBench(Config{})
	b.begin("r1", "")
	b.ms += 500
	if tl := b.timeline(t, "r1"); tl.Status != "" || tl.End != timeline.Offset(500*time.Millisecond) {
		t.Errorf("%q at %s", tl.Status, tl.End)
	}
}

// Spans go to the exporter when the trace is sampled, and only then, with the
// id that the function was given, below the caller's.
func TestExport(t *testing.T) {
	for _, test := range []struct {
		name         string
		received     invoke.Received
		header       string
		id, parent   string // of the invocation's span; "" any, "-" no span at all
		underSegment bool
	}{
		{"active", invoke.Received{Segment: true, CallerParent: "ca11ca11ca11ca11"}, header, "53995c3f42cd8ad8", "ca11ca11ca11ca11", false},
		{"active, no caller's segment", invoke.Received{Segment: true}, header, "53995c3f42cd8ad8", "0000000000000000", false},
		{"passed through", invoke.Received{}, header, "", "53995c3f42cd8ad8", true},
		{"not sampled", invoke.Received{Segment: true}, strings.Replace(header, "Sampled=1", "Sampled=0", 1), "-", "", false},
		{"no trace", invoke.Received{}, "", "-", "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(Config{})
			test.received.RequestID = "r1"
			b.Received(test.received)
			b.invoke("r1", test.header)
			spans := b.out.spans()
			if test.id == "-" {
				if len(spans) != 0 {
					t.Errorf("%d spans", len(spans))
				}
				return
			}
			id, parent := hex.EncodeToString(spans[0].ID[:]), hex.EncodeToString(spans[0].Parent[:])
			if test.id != "" && id != test.id || parent != test.parent || id == parent || spans[0].Name != "hello" {
				t.Errorf("span %s %s below %s", spans[0].Name, id, parent)
			}
		})
	}
}

func TestHTTP(t *testing.T) {
	b := newBench(Config{})
	b.invoke("r1", "")
	b.src = source("other", "e2")
	b.begin("r2", "")
	b.say(lifecycle.Report{Stamp: b.after(900), RequestID: "r2", Status: "error", ErrorType: "Function.X", Metrics: lifecycle.ReportMetrics{DurationMs: 900}})
	b.begin("r3", "")

	ask := func(method, path string) (int, http.Header, string) {
		w := httptest.NewRecorder()
		b.Handler().ServeHTTP(w, httptest.NewRequest(method, path, nil))
		return w.Code, w.Header(), w.Body.String()
	}
	ids := func(query string) string {
		code, _, body := ask("GET", Path+query)
		var list Listing
		if err := json.Unmarshal([]byte(body), &list); err != nil || code != 200 {
			t.Fatalf("%s: %d %s %v", query, code, body, err)
		}
		got := []string{}
		for _, i := range list.Invocations {
			got = append(got, i.RequestID)
		}
		return strings.Join(got, " ")
	}
	for query, want := range map[string]string{
		"": "r1 r2 r3", "?function=hello": "r1", "?function=other": "r2 r3", "?function=other:$LATEST": "r2 r3", "?function=none": "",
		"?limit=1": "r3", "?limit=2": "r2 r3", "?slow=100ms": "r2", "?slow=100ms&function=hello": "",
	} {
		if got := ids(query); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	code, h, body := ask("GET", Path+"/r2")
	var tl timeline.Timeline
	if err := json.Unmarshal([]byte(body), &tl); err != nil || code != 200 || h.Get("Content-Type") != "application/json" {
		t.Errorf("%d %s %v", code, body, err)
	}
	if want, _ := b.Timeline("r2"); cmp.Diff(*want, tl) != "" {
		t.Errorf("the timeline did not survive: %s", cmp.Diff(*want, tl))
	}
	if code, h, body := ask("GET", Path+"/r2?format=svg"); code != 200 || !strings.HasPrefix(body, "<svg") || !strings.HasPrefix(h.Get("Content-Type"), "image/svg+xml") {
		t.Errorf("%d %s", code, body)
	}
	for path, want := range map[string]int{"/none": 404, "/r2?format=pdf": 400, "?limit=0": 400, "?limit=x": 400, "?limit=1001": 400, "?slow=x": 400, "?slow=-1s": 400} {
		if code, _, body := ask("GET", Path+path); code != want || !strings.Contains(body, `"message":"`) {
			t.Errorf("%s: %d %s, want %d", path, code, body, want)
		}
	}
	if code, _, _ := ask("DELETE", Path); code != http.StatusMethodNotAllowed {
		t.Errorf("DELETE: %d", code)
	}
}

// Everything at once; the race detector looks on.
func TestConcurrentUse(t *testing.T) {
	s := New(Config{Invocations: 20, Exporter: &exporter{}})
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			b := &bench{Store: s, src: source("hello", fmt.Sprint("e", n))}
			for i := range 50 {
				id := fmt.Sprint("r", n, "-", i)
				b.Received(invoke.Received{RequestID: id, Segment: true})
				b.begin(id, header)
				b.Line(b.src, telemetry.Line{Time: at(b.ms).Time})
				b.Segments(b.src, datagram(fmt.Sprintf(`{"trace_id":%q,"id":"00000000000000a1","name":"n","start_time":1,"end_time":2}`, root)))
				b.end(id)
				b.Finished(id)
			}
		})
		wg.Go(func() {
			for range 50 {
				for _, tl := range s.Recent(Filter{Limit: 30}) {
					s.Timeline(tl.RequestID)
				}
			}
		})
	}
	wg.Wait()
	s.cfg.Exporter.(*exporter).spans()
	sum := int64(0)
	for _, e := range s.ring[s.head:] {
		sum += e.bytes.Load()
	}
	if sum != s.bytes.Load() {
		t.Errorf("the account says %d, the entries %d", s.bytes.Load(), sum)
	}
}

// BenchmarkInvocation is what a warm invocation costs its environment here.
func BenchmarkInvocation(b *testing.B) {
	bench := newBench(Config{})
	bench.Store.cfg.Exporter = nil
	b.ReportAllocs()
	for b.Loop() {
		bench.invoke("r1", header)
	}
}

func BenchmarkLine(b *testing.B) {
	bench := newBench(Config{})
	line := telemetry.Line{Time: epoch(), Text: []byte("hello")}
	b.ReportAllocs()
	for b.Loop() {
		bench.Line(bench.src, line)
	}
}
