// Package trace keeps what the timelines of recent invocations need, joins the
// X-Ray segments that functions send, and hands finished spans to an exporter.
//
// A Store is a telemetry.Sink: environments tell it everything as it happens.
// It remembers per environment the records since the last invocation ended,
// and files them under the request id when the invocation begins; a timeline
// is built when somebody asks for it, so that an invocation pays for a few
// appends only. Records of an init belong to the first invocation that follows
// it, with those of an init that failed before, and of the reset between.
//
// Memory is bounded: by the number of invocations and by bytes, the oldest go
// first; and for each invocation by counts of records, lines and segments,
// since a function decides how many of the latter there are.
package trace

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/firn-run/firn/internal/invoke"
	"github.com/firn-run/firn/internal/lifecycle"
	"github.com/firn-run/firn/internal/telemetry"
	"github.com/firn-run/firn/internal/timeline"
)

// Defaults of the store.
const (
	DefaultInvocations = 5000
	DefaultBytes       = 32 << 20
)

// Bounds of one invocation.
const (
	maxRecords      = 512
	maxLines        = 200 // of which the time is kept
	maxSegments     = 100
	maxSegmentBytes = 256 << 10
	maxWriters      = 32 // who writes lines: the runtime and extensions
)

// Exporter takes finished spans, off the path of the invocation: Export must
// not block. It calls batch once, later, or never when it has no room.
type Exporter interface {
	Export(batch func() timeline.SpanSet)
}

// Config describes a Store.
type Config struct {
	// Invocations and Bytes bound what is kept; 0 means the defaults.
	Invocations int
	Bytes       int64
	// Exporter gets the spans of sampled traces; nil for none.
	Exporter Exporter
	// Now is the clock of the environments; time.Now when nil.
	Now func() time.Time
}

// Store keeps recent invocations. Its methods are safe for concurrent use.
type Store struct {
	cfg Config

	// environments maps *telemetry.Source to *environment; one that has ended
	// is taken out, and one that is not heard of when there are too many.
	environments sync.Map
	live         atomic.Int64

	// received maps request ids to invoke.Received, while callers wait.
	received sync.Map

	bytes   atomic.Int64 // of the entries in ring, about
	clock   atomic.Int64 // counts records of starts, to find idle environments
	refused atomic.Int64 // segments that were malformed, too many, or of no invocation

	mu   sync.RWMutex // guards the fields below; taken after an environment's
	ring []*entry     // in the order of their starts, from head on
	head int
	byID map[string]*entry // the newest of each request id
}

// New makes a Store. It has no goroutine.
func New(cfg Config) *Store {
	if cfg.Invocations <= 0 {
		cfg.Invocations = DefaultInvocations
	}
	if cfg.Bytes <= 0 {
		cfg.Bytes = DefaultBytes
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Store{cfg: cfg, byID: map[string]*entry{}}
}

// environment is what is known of one that is alive.
type environment struct {
	src  *telemetry.Source
	seen atomic.Int64 // the store's clock at its last start

	mu         sync.Mutex // guards the fields below, and what the entries hold
	cur        *entry     // the newest
	recent     [4]*entry  // before it, for segments that come late
	thawed     lifecycle.Record
	extensions []lifecycle.Extension
	fresh      bool // extensions are being told
	ending     bool // the shutdown that has begun is the last one
}

// entry is one invocation, or an init that waits for one.
type entry struct {
	env *environment

	bytes   atomic.Int64
	evicted atomic.Bool

	// Under env.mu:
	requestID  string
	turn       int64 // of all starts
	started    bool
	reported   bool
	received   invoke.Received
	records    []lifecycle.Record
	extensions []lifecycle.Extension
	lines      []timeline.Line
	more       []writer
	segments   []timeline.Segment // replaced in place
	segBytes   int
	trace      timeline.TraceContext
	header     string
	invokedARN string
}

// writer counts lines of which the time is not kept.
type writer struct {
	extension string
	lines     int
}

// Received takes what the invoker tells of a request, before it runs.
func (s *Store) Received(r invoke.Received) { s.received.Store(r.RequestID, r) }

// Finished forgets the request; what its environment has begun stays.
func (s *Store) Finished(requestID string) { s.received.Delete(requestID) }

// Refused counts X-Ray segments that were not kept.
func (s *Store) Refused() int64 { return s.refused.Load() }

func (s *Store) environment(src *telemetry.Source) *environment {
	if env, ok := s.environments.Load(src); ok {
		return env.(*environment)
	}
	env, loaded := s.environments.LoadOrStore(src, &environment{src: src})
	if !loaded && s.live.Add(1)%maxEnvironments == 0 {
		s.forgetIdle()
	}
	return env.(*environment)
}

// maxEnvironments is how many environments there may be before those are
// forgotten that have ended without saying so.
const maxEnvironments = 4096

// forgetIdle drops the environments that had no start while there were as
// many starts as the ring holds: nothing can be asked about them any more. One
// that comes back is made anew.
func (s *Store) forgetIdle() {
	limit := s.clock.Load() - int64(s.cfg.Invocations)
	s.environments.Range(func(src, env any) bool {
		if e := env.(*environment); e.seen.Load() < limit {
			s.drop(e)
		}
		return true
	})
}

func (s *Store) drop(env *environment) {
	if s.environments.CompareAndDelete(env.src, env) {
		s.live.Add(-1)
	}
}

// Record implements telemetry.Sink.
func (s *Store) Record(src *telemetry.Source, requestID string, rec lifecycle.Record) {
	env := s.environment(src)
	env.mu.Lock()
	defer env.mu.Unlock()
	if ext, ok := rec.(lifecycle.Extension); ok {
		if !env.fresh {
			env.extensions, env.fresh = nil, true
		}
		if len(env.extensions) < maxWriters {
			env.extensions = append(env.extensions, ext)
		}
	} else {
		env.fresh = false
	}
	phase, _ := rec.(lifecycle.Phase)
	if phase.Name == lifecycle.PhaseThawed {
		env.thawed = rec // belongs to what follows
		return
	}
	e := env.cur
	if e == nil || begins(e, rec) {
		e = env.begin()
	}
	if env.thawed != nil {
		s.add(e, env.thawed)
		env.thawed = nil
	}
	s.add(e, rec)
	switch r := rec.(type) {
	case lifecycle.Start:
		s.start(e, &r)
	case lifecycle.Report:
		e.reported = true
		s.export(e)
	case lifecycle.Phase:
		switch {
		case r.Name == lifecycle.PhaseShutdown:
			env.ending = r.Detail == string(lifecycle.Spindown)
		case r.Name == lifecycle.PhaseSandboxFailed, r.Name == lifecycle.PhaseResetDone && env.ending:
			s.drop(env)
		}
	}
}

// begins says whether a record opens the next invocation, or the init that is
// its own.
func begins(e *entry, rec lifecycle.Record) bool {
	switch rec.(type) {
	case lifecycle.InitStart, lifecycle.Start:
		return e.started
	}
	return false
}

// begin makes the next entry of an environment, under its mutex.
func (env *environment) begin() *entry {
	if env.cur != nil {
		copy(env.recent[1:], env.recent[:])
		env.recent[0] = env.cur
	}
	env.cur = &entry{env: env, extensions: env.extensions}
	return env.cur
}

// Sizes for the account: of what a record or a line costs, about.
const (
	recordBytes = 256
	lineBytes   = 48
	entryBytes  = 512
)

func (s *Store) add(e *entry, rec lifecycle.Record) {
	if len(e.records) >= maxRecords {
		// The end must be told whatever there was of steps before it.
		switch rec.(type) {
		case lifecycle.Start, lifecycle.RuntimeDone, lifecycle.Report:
		default:
			return
		}
	}
	if cap(e.records) == 0 {
		e.records = make([]lifecycle.Record, 0, 12)
	}
	e.records = append(e.records, rec)
	s.account(e, recordBytes)
}

func (s *Store) account(e *entry, n int64) {
	e.bytes.Add(n)
	s.bytes.Add(n)
	if e.evicted.Load() {
		s.bytes.Add(-e.bytes.Swap(0))
	}
}

// start files an entry under its request id, and makes room.
func (s *Store) start(e *entry, r *lifecycle.Start) {
	e.requestID, e.started = r.RequestID, true
	e.header, e.invokedARN = r.TraceID, r.InvokedARN
	if got, ok := s.received.Load(r.RequestID); ok {
		e.received = got.(invoke.Received)
		if e.header == "" {
			e.header = e.received.TraceHeader
		}
	}
	e.trace = timeline.ParseTrace(e.header)
	e.turn = s.clock.Add(1)
	e.env.seen.Store(e.turn)
	s.account(e, entryBytes)

	s.mu.Lock()
	defer s.mu.Unlock()
	s.ring = append(s.ring, e)
	s.byID[e.requestID] = e
	s.trimLocked()
}

// trimLocked evicts the oldest entries until the bounds are kept; the newest
// stays.
func (s *Store) trimLocked() {
	for len(s.ring)-s.head > 1 && (len(s.ring)-s.head > s.cfg.Invocations || s.bytes.Load() > s.cfg.Bytes) {
		old := s.ring[s.head]
		s.ring[s.head] = nil
		s.head++
		// The request id was set before the entry came into the ring.
		if s.byID[old.requestID] == old {
			delete(s.byID, old.requestID)
		}
		old.evicted.Store(true)
		s.bytes.Add(-old.bytes.Swap(0))
	}
	if s.head > len(s.ring)/2 && s.head > 64 {
		s.ring = append(s.ring[:0:0], s.ring[s.head:]...)
		s.head = 0
	}
}

// Line implements telemetry.Sink: the times of the first lines are kept, the
// others counted.
func (s *Store) Line(src *telemetry.Source, line telemetry.Line) {
	env := s.environment(src)
	env.mu.Lock()
	defer env.mu.Unlock()
	e := env.cur
	if e == nil {
		e = env.begin()
	}
	if len(e.lines) < maxLines {
		e.lines = append(e.lines, timeline.Line{Time: line.Time, Extension: line.Extension})
		s.account(e, lineBytes)
		return
	}
	for i := range e.more {
		if e.more[i].extension == line.Extension {
			e.more[i].lines++
			return
		}
	}
	if len(e.more) < maxWriters {
		e.more = append(e.more, writer{line.Extension, 1})
		s.account(e, lineBytes)
	}
}

// timeline builds the picture of an entry.
func (e *entry) timeline(now time.Time) *timeline.Timeline {
	e.env.mu.Lock()
	in := timeline.Input{
		RequestID: e.requestID, Function: e.env.src.Function, Version: e.env.src.Version, Environment: e.env.src.Environment,
		TraceHeader: e.header, Received: e.received.Time, Now: now, Extensions: e.extensions,
		// The slices only grow, or are replaced: what is there stays as it is.
		Records: e.records[:len(e.records):len(e.records)], Lines: e.lines[:len(e.lines):len(e.lines)],
		Segments: append([]timeline.Segment(nil), e.segments...),
	}
	if len(e.more) > 0 {
		in.MoreLines = map[string]int{}
		for _, w := range e.more {
			in.MoreLines[w.extension] = w.lines
		}
	}
	e.env.mu.Unlock()
	return timeline.Build(in)
}

// Timeline returns the newest invocation with a request id.
func (s *Store) Timeline(requestID string) (*timeline.Timeline, bool) {
	s.mu.RLock()
	e := s.byID[requestID]
	s.mu.RUnlock()
	if e == nil {
		return nil, false
	}
	return e.timeline(s.cfg.Now()), true
}

// Filter says which invocations Recent returns.
type Filter struct {
	Function string        // name, or ""
	Slow     time.Duration // least time that the caller waited, or that was reported
	Limit    int           // most invocations
}

// Recent returns the newest invocations that pass a filter, oldest first.
func (s *Store) Recent(f Filter) []*timeline.Timeline {
	s.mu.RLock()
	all := append([]*entry(nil), s.ring[s.head:]...)
	s.mu.RUnlock()
	var found []*timeline.Timeline
	for i := len(all) - 1; i >= 0 && len(found) < f.Limit; i-- {
		e := all[i]
		if f.Function != "" && f.Function != e.env.src.Function && f.Function != e.env.src.Function+":"+e.env.src.Version {
			continue
		}
		t := e.timeline(s.cfg.Now())
		if max(t.Durations.Caller, t.Durations.Total) < timeline.Offset(f.Slow) {
			continue
		}
		found = append(found, t)
	}
	for i, j := 0, len(found)-1; i < j; i, j = i+1, j-1 {
		found[i], found[j] = found[j], found[i]
	}
	return found
}
