package metrics

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/lifecycle"
	"github.com/firn-run/firn/internal/metrics/series"
	"github.com/firn-run/firn/internal/telemetry"
	"github.com/firn-run/firn/internal/telemetry/exposition"
)

// account is what is counted across functions: numbers only, no lock.
type account struct {
	running    atomic.Int64 // invocations in progress
	unreserved atomic.Int64 // of these, of functions without reserved concurrency
	reserved   atomic.Int64 // sum of what is set aside
	byFunction atomic.Pointer[map[string]int]
}

// function is the accumulator of one function.
type function struct {
	name  string
	limit bool // of those beyond maxFunctions: counts for the account only

	mu       sync.Mutex
	gone     bool // no longer in the table: look it up again
	reserved bool
	running  map[string]flight // by request id
	targets  map[targetKey]*target
	used     int64 // seconds since 1970
}

// targetKey is a resource that a caller names and the version behind it.
type targetKey struct{ qualifier, version string }

// flight is an invocation in progress.
type flight struct {
	target     *target
	started    time.Time
	unreserved bool
}

// target is the numbers of one resource and version of a function.
type target struct {
	running int64
	used    int64    // seconds since 1970
	open    []minute // not yet drained, nearly always one
	total   exposition.Function
}

// minute is what happened in one minute.
type minute struct {
	start int64 // seconds since 1970

	invocations, errors, throttles float64
	duration, postRuntime          series.Point // milliseconds
	// Concurrency of the function, of the resource, of the account and of
	// the account's functions without reserved concurrency, and what is
	// claimed: a sample at each start, and at every minute while any runs.
	function, resource, account, unreserved, claimed series.Point
	observed                                         map[Measure]*series.Point
}

// minuteLocked finds the numbers of the minute that a moment is in, which is
// used now.
func (f *function) minuteLocked(t *target, moment, now time.Time) *minute {
	start := minuteOf(moment)
	f.used, t.used = now.Unix(), now.Unix()
	for i := range t.open {
		if t.open[i].start == start {
			return &t.open[i]
		}
	}
	t.open = append(t.open, minute{start: start})
	return &t.open[len(t.open)-1]
}

// accumulator finds or makes the accumulator of a function and locks it.
// Functions beyond the limit share one.
func (s *Store) accumulator(name string) *function {
	for {
		f := s.shard(name)
		f.mu.Lock()
		if !f.gone {
			return f
		}
		f.mu.Unlock()
	}
}

func (s *Store) shard(name string) *function {
	if f, ok := s.shards.Load(name); ok {
		return f.(*function)
	}
	f := &function{name: name, running: map[string]flight{}, targets: map[targetKey]*target{}}
	if s.known.Load() >= maxFunctions {
		s.counts.functions.Add(1)
		f.name, f.limit = "", true
	} else {
		f.reserved = (*s.account.byFunction.Load())[name] > 0
	}
	got, loaded := s.shards.LoadOrStore(f.name, f)
	if !loaded {
		s.known.Add(1)
	}
	return got.(*function)
}

// targetLocked finds or makes the numbers of a resource and version. Beyond
// the limit they are counted for the function itself.
func (f *function) targetLocked(qualifier, version string) *target {
	key := targetKey{qualifier, version}
	if f.limit {
		key = targetKey{}
	}
	t := f.targets[key]
	if t != nil {
		return t
	}
	if len(f.targets) >= maxTargets {
		key = targetKey{}
		if t := f.targets[key]; t != nil {
			return t
		}
	}
	t = &target{total: exposition.Function{Name: f.name, Resource: resource(f.name, key.qualifier), Version: key.version}}
	f.targets[key] = t
	return t
}

// resource is the value of the dimension Resource.
func resource(name, qualifier string) string {
	if qualifier == "" {
		return name
	}
	return name + ":" + qualifier
}

// qualifier is what follows the function's name in an ARN.
func qualifier(arn string) string {
	const parts = 7 // arn:aws:lambda:region:account:function:name
	at := 0
	for range parts {
		i := strings.IndexByte(arn[at:], ':')
		if i < 0 {
			return ""
		}
		at += i + 1
	}
	return arn[at:]
}

// functionName is the name in a function's ARN.
func functionName(arn string) string {
	parts := strings.SplitN(arn, ":", 8)
	if len(parts) < 7 {
		return arn
	}
	return parts[6]
}

// Sink is the Store as environments see it: it counts invocations by their
// records and looks for the embedded metric format in the lines of the
// function and its runtime.
func (s *Store) Sink() telemetry.Sink { return sink{s} }

type sink struct{ store *Store }

// Record implements telemetry.Sink.
func (k sink) Record(src *telemetry.Source, requestID string, rec lifecycle.Record) {
	switch r := rec.(type) {
	case lifecycle.Start:
		k.store.started(src, &r)
	case lifecycle.Report:
		k.store.reported(src, &r)
	}
}

// Line implements telemetry.Sink.
func (k sink) Line(src *telemetry.Source, line telemetry.Line) {
	if line.Extension == "" && looksLikeEMF(line.Text) {
		k.store.enqueueEMF(line.Text, line.Time)
	}
}

// started counts an invocation as running and samples the concurrency.
func (s *Store) started(src *telemetry.Source, r *lifecycle.Start) {
	f := s.accumulator(src.Function)
	defer f.mu.Unlock()
	if _, twice := f.running[r.RequestID]; twice {
		return
	}
	t := f.targetLocked(qualifier(r.InvokedARN), src.Version)
	unreserved := !f.reserved
	f.running[r.RequestID] = flight{t, r.Time, unreserved}
	t.running++
	s.account.running.Add(1)
	if unreserved {
		s.account.unreserved.Add(1)
	}
	s.sampleLocked(f, t, r.Time)
}

// sampleLocked notes the concurrency of this moment.
func (s *Store) sampleLocked(f *function, t *target, now time.Time) {
	m := f.minuteLocked(t, now, now)
	unreserved := float64(s.account.unreserved.Load())
	m.function.Tally(float64(len(f.running)))
	m.resource.Tally(float64(t.running))
	m.account.Tally(float64(s.account.running.Load()))
	m.unreserved.Tally(unreserved)
	m.claimed.Tally(unreserved + float64(s.account.reserved.Load()))
}

func minuteOf(t time.Time) int64 { return t.Unix() / 60 * 60 }

// reported counts an invocation in the minute in which it began.
func (s *Store) reported(src *telemetry.Source, r *lifecycle.Report) {
	f := s.accumulator(src.Function)
	defer f.mu.Unlock()
	fl, ok := f.running[r.RequestID]
	if ok {
		s.landLocked(f, r.RequestID, fl)
	} else {
		fl = flight{
			target:  f.targetLocked(qualifier(r.InvokedARN), src.Version),
			started: r.Time.Add(-time.Duration(r.Metrics.DurationMs * float64(time.Millisecond))),
		}
	}
	t := fl.target
	m := f.minuteLocked(t, fl.started, r.Time)
	m.invocations++
	t.total.Invocations++
	if r.Status != lifecycle.StatusSuccess {
		m.errors++
		t.total.Errors++
	}
	m.duration.Observe(r.Metrics.DurationMs, 1)
	s.count(&t.total.Duration, r.Metrics.DurationMs/1000)
	for i := range r.Spans {
		if r.Spans[i].Name == "extensionOverhead" {
			m.postRuntime.Observe(r.Spans[i].DurationMs, 1)
			s.count(&t.total.PostRuntime, r.Spans[i].DurationMs/1000)
		}
	}
}

// landLocked ends what started began.
func (s *Store) landLocked(f *function, requestID string, fl flight) {
	delete(f.running, requestID)
	fl.target.running--
	s.account.running.Add(-1)
	if fl.unreserved {
		s.account.unreserved.Add(-1)
	}
}

// count adds a sample to a histogram of the exposition.
func (s *Store) count(h *exposition.Histogram, seconds float64) {
	bounds := s.bounds
	if h.Buckets == nil {
		h.Buckets = make([]uint64, len(bounds)+1)
	}
	h.Count++
	h.Sum += seconds
	i := 0
	for i < len(bounds) && seconds > bounds[i] {
		i++
	}
	h.Buckets[i]++
}

// Throttled counts a request for v, which the caller named invokedARN, that was
// refused for lack of concurrency.
func (s *Store) Throttled(v *firn.FunctionVersion, invokedARN string) {
	now := s.cfg.Now()
	f := s.accumulator(v.Name)
	defer f.mu.Unlock()
	t := f.targetLocked(qualifier(invokedARN), v.Version)
	f.minuteLocked(t, now, now).throttles++
	t.total.Throttles++
}

// sampleRunning samples the concurrency of what runs across minutes, and
// forgets invocations whose report never came.
func (s *Store) sampleRunning() {
	now := s.cfg.Now()
	for _, v := range s.shards.Range {
		f := v.(*function)
		f.mu.Lock()
		var seen map[*target]bool
		for id, fl := range f.running {
			if now.Sub(fl.started) > forgotten {
				s.landLocked(f, id, fl)
				continue
			}
			if seen == nil {
				seen = map[*target]bool{}
			}
			seen[fl.target] = true
		}
		for t := range seen {
			s.sampleLocked(f, t, now)
		}
		f.mu.Unlock()
	}
}

// refreshReserved asks for the concurrency that is set aside.
func (s *Store) refreshReserved() {
	reserved := map[string]int{}
	if s.cfg.Reserved != nil {
		reserved = s.cfg.Reserved()
	}
	sum := 0
	for _, n := range reserved {
		sum += n
	}
	s.account.byFunction.Store(&reserved)
	s.account.reserved.Store(int64(sum))
	for _, v := range s.shards.Range {
		f := v.(*function)
		f.mu.Lock()
		f.reserved = reserved[f.name] > 0
		f.mu.Unlock()
	}
}
