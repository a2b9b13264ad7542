package logs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firn-run/firn/internal/lifecycle"
	"github.com/firn-run/firn/internal/logstore"
	"github.com/firn-run/firn/internal/telemetry"
)

// fakeStore is an Appender that can be stopped and made to fail.
type fakeStore struct {
	gate chan struct{} // when not nil, Append waits for it

	mu      sync.Mutex
	err     error
	streams map[string][]string // messages by "group stream"
	creates []string
}

func newFakeStore() *fakeStore { return &fakeStore{streams: map[string][]string{}} }

func (f *fakeStore) Append(b logstore.Batch, m logstore.Mode) error {
	if f.gate != nil {
		<-f.gate
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	key := b.Group + " " + b.Stream
	if _, ok := f.streams[key]; !ok {
		if !m.Create {
			for known := range f.streams {
				if strings.HasPrefix(known, b.Group+" ") {
					return logstore.ErrNoStream
				}
			}
			return logstore.ErrNoGroup
		}
		f.creates = append(f.creates, key)
	}
	for _, e := range b.Events {
		f.streams[key] = append(f.streams[key], string(e.Message))
	}
	return nil
}

func (f *fakeStore) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *fakeStore) said(stream string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.streams["/aws/lambda/"+stream])
}

// source makes an environment of a function; its stream is "one".
func source(function string) *telemetry.Source {
	return &telemetry.Source{
		Function: function, ARN: "arn:aws:lambda:eu-north-1:123456789012:function:" + function,
		LogGroup: "/aws/lambda/" + function, LogStream: "one",
		Region: "eu-north-1", Account: "123456789012", Role: "arn:aws:iam::123456789012:role/" + function,
	}
}

func say(i *Ingest, src *telemetry.Source, text string) {
	i.Line(src, telemetry.Line{Time: time.UnixMilli(1), Text: []byte(text)})
}

func finish(t *testing.T, i *Ingest) {
	t.Helper()
	if err := i.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// In the real store: events, times, formats.
func TestIngestStoresLinesAndRecords(t *testing.T) {
	store, err := logstore.Open(logstore.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	i := NewIngest(IngestConfig{Store: store})
	plain, structured := source("plain"), source("structured")
	structured.Format = telemetry.LogFormat{JSON: true, System: "INFO", Application: "WARN"}
	at := func(ms int64) lifecycle.Stamp { return lifecycle.Stamp{Time: time.UnixMilli(ms)} }
	for _, src := range []*telemetry.Source{plain, structured} {
		i.Record(src, "r", lifecycle.Start{Stamp: at(1000), RequestID: "r", Version: "$LATEST"})
		i.Line(src, telemetry.Line{Time: time.UnixMilli(1001), Text: []byte("hello")})
		i.Line(src, telemetry.Line{Time: time.UnixMilli(1001), Text: []byte(`{"level":"INFO","timestamp":"2026-01-01T00:00:00Z"}`)})
		i.Line(src, telemetry.Line{Time: time.UnixMilli(1002), Extension: "ext", Text: []byte{}})
		i.Record(src, "r", lifecycle.RuntimeDone{Stamp: at(1003), RequestID: "r", Status: "success"})
		i.Record(src, "r", lifecycle.Report{Stamp: at(1004), RequestID: "r", Status: "success"})
	}
	finish(t, i)
	i.Close(t.Context())
	say(i, plain, "after the end")
	read := func(function string) []string {
		page, err := store.Read(logstore.Query{Group: "/aws/lambda/" + function})
		if err != nil {
			t.Fatal(err)
		}
		var list []string
		for _, e := range page.Events {
			list = append(list, fmt.Sprintf("%d %s %s", e.Timestamp, e.Stream, e.Message))
		}
		return list
	}
	want(t, "text", read("plain"), []string{
		"1000 one START RequestId: r Version: $LATEST\n",
		"1001 one hello\n",
		"1001 one {\"level\":\"INFO\",\"timestamp\":\"2026-01-01T00:00:00Z\"}\n",
		"1002 one \n",
		"1004 one END RequestId: r\n",
		"1004 one REPORT RequestId: r\tDuration: 0.00 ms\tBilled Duration: 0 ms\tMemory Size: 0 MB\tMax Memory Used: 0 MB\t\n",
	})
	got := read("structured")
	if len(got) != 4 {
		t.Fatalf("JSON: %q", got)
	}
	for n, prefix := range []string{`1000 one {"time":"1970-01-01T00:00:01.000Z","type":"platform.start"`, "1001 one hello", "1002 one \n", `1004 one {"time":`} {
		if !strings.HasPrefix(got[n], prefix) || n != 2 && strings.HasSuffix(got[n], "\n") {
			t.Errorf("JSON event %d is %q", n, got[n])
		}
	}
	if st := i.Stats(); st.Stored != 10 || st.Dropped != 0 || st.QueuedBytes != 0 {
		t.Errorf("stats: %+v", st)
	}
}

// A store that hangs costs lines, never time, and no more memory than stated;
// a function that floods leaves room for the others; the streams are told.
func TestIngestNeverBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		store.gate = make(chan struct{})
		i := NewIngest(IngestConfig{Store: store, QueueBytes: 64 << 10})
		loud, loud2, quiet := source("loud"), source("loud2"), source("quiet")
		before := time.Now()
		for range 5000 {
			say(i, loud, strings.Repeat("x", 100))
		}
		alone := i.Stats()
		for range 5000 {
			say(i, loud2, strings.Repeat("y", 100))
		}
		for n := range 20 {
			say(i, quiet, fmt.Sprint("line ", n))
		}
		if took := time.Since(before); took != 0 {
			t.Errorf("the callers waited %v", took)
		}
		st := i.Stats()
		if alone.QueuedBytes < 30<<10 || alone.QueuedBytes > 33<<10 {
			t.Errorf("one function alone has %d of 64 KiB, want half", alone.QueuedBytes)
		}
		if st.QueuedBytes > 64<<10 || cap(i.queue.buf) != 64<<10 {
			t.Errorf("%d bytes queued", st.QueuedBytes)
		}
		if f := st.Functions[quiet.ARN]; f.Dropped != 0 {
			t.Errorf("the quiet function lost %d lines", f.Dropped)
		}
		if st.Functions[loud.ARN].Dropped+st.Functions[loud2.ARN].Dropped != st.Dropped || st.Dropped < 9000 {
			t.Errorf("stats: %+v", st)
		}
		lost := st.Functions[loud.ARN].Dropped
		close(store.gate)
		time.Sleep(3 * time.Second) // archtest:sleep virtual time
		said := store.said("loud one")
		note := fmt.Sprintf("LOGS_DROPPED Lines: %d\tBytes: %d\tReason: the log store had no room for them\n", lost, lost*101)
		if len(said) == 0 || !slices.Contains(said, note) || int64(len(said)) != 5000-lost+1 {
			t.Errorf("%d lines, the last is %q, want %q", len(said), said[len(said)-1], note)
		}
		if got := len(store.said("quiet one")); got != 20 {
			t.Errorf("%d lines of the quiet function", got)
		}
		say(i, loud, "room again")
		finish(t, i)
		if said := store.said("loud one"); said[len(said)-1] != "room again\n" {
			t.Errorf("the last line is %q", said[len(said)-1])
		}
	})
}

func TestIngestOutlivesAFailingStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		i := NewIngest(IngestConfig{Store: store})
		text, structured := source("text"), source("structured")
		structured.Format.JSON = true
		say(i, text, "before")
		say(i, structured, "before")
		time.Sleep(time.Second)
		store.fail(logstore.ErrFull)
		for range 3 {
			say(i, text, "lost")
			say(i, structured, "lost")
			time.Sleep(2 * time.Second)
		}
		store.fail(nil)
		time.Sleep(2 * time.Second)
		say(i, text, "after")
		finish(t, i)
		want(t, "text", store.said("text one"), []string{"before\n", "LOGS_DROPPED Lines: 3\tBytes: 15\tReason: the log store had no room for them\n", "after\n"})
		said := store.said("structured one")
		if len(said) != 2 || !strings.Contains(said[1], `"type":"platform.logsDropped","record":{"reason":"the log store had no room for them","droppedRecords":3,"droppedBytes":12}}`) {
			t.Errorf("%q", said)
		}
		if st := i.Stats(); st.Dropped != 6 || st.Stored != 3 {
			t.Errorf("stats: %+v", st)
		}
	})
}

// Close gives up a store that hangs.
func TestIngestCloseHasADeadline(t *testing.T) {
	store := newFakeStore()
	store.gate = make(chan struct{})
	i := NewIngest(IngestConfig{Store: store})
	say(i, source("f"), "x")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := i.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Close: %v", err)
	}
	close(store.gate)
	finish(t, i)
	want(t, "lines", store.said("f one"), []string{"x\n"})
}

// Environments come and go by the thousand.
func TestIngestForgetsEnvironments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore()
		i := NewIngest(IngestConfig{Store: store})
		for round := range 3 {
			for n := range 500 {
				src := source("f")
				src.LogStream = fmt.Sprintf("%d-%d", round, n)
				say(i, src, "x")
			}
			time.Sleep(3 * forgetAfter)
		}
		i.mu.Lock()
		if len(i.speakers) != 0 || len(i.table) > 500 {
			t.Errorf("%d environments are remembered, %d places", len(i.speakers), len(i.table))
		}
		i.mu.Unlock()
		finish(t, i)
		if st := i.Stats(); st.Functions[source("f").ARN].Stored != 1500 {
			t.Errorf("stats: %+v", st)
		}
	})
}

// The order of one environment's lines is kept, whatever others say.
func TestIngestKeepsOrder(t *testing.T) {
	store := newFakeStore()
	i := NewIngest(IngestConfig{Store: store, QueueBytes: 8 << 20})
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			src := source(fmt.Sprint("f", n))
			for line := range 5000 {
				say(i, src, fmt.Sprint(line))
			}
		})
	}
	wg.Wait()
	finish(t, i)
	for n := range 4 {
		said := store.said(fmt.Sprintf("f%d one", n))
		for line, text := range said {
			if text != fmt.Sprint(line, "\n") {
				t.Fatalf("line %d of function %d is %q", line, n, text)
			}
		}
		if len(said) != 5000 {
			t.Errorf("%d lines of function %d", len(said), n)
		}
	}
}

func TestIngestLineAllocatesNothing(t *testing.T) {
	store := newFakeStore()
	store.gate = make(chan struct{}) // the writer's allocations are not the caller's
	i := NewIngest(IngestConfig{Store: store})
	src := source("f")
	line := telemetry.Line{Time: time.Now(), Text: []byte("a line of some length")}
	say(i, src, "first")
	if n := testing.AllocsPerRun(1000, func() { i.Line(src, line) }); n > 0 {
		t.Errorf("%v allocations per line", n)
	}
	close(store.gate)
	finish(t, i)
}

func BenchmarkIngest(b *testing.B) {
	store, err := logstore.Open(logstore.Config{Dir: b.TempDir(), MaxBytes: 64 << 20})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	i := NewIngest(IngestConfig{Store: store})
	src := source("f")
	line := telemetry.Line{Time: time.Now(), Text: []byte(strings.Repeat("x", 100))}
	b.ReportAllocs()
	for b.Loop() {
		i.Line(src, line)
	}
	if err := i.Close(context.Background()); err != nil {
		b.Fatal(err)
	}
	st := i.Stats()
	b.ReportMetric(float64(st.Stored)/b.Elapsed().Seconds(), "stored/s")
	b.ReportMetric(float64(st.Dropped), "dropped")
}
