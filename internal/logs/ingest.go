package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/firn-run/firn/internal/lifecycle"
	"github.com/firn-run/firn/internal/logstore"
	"github.com/firn-run/firn/internal/telemetry"
)

// Appender is what Ingest needs of the log store.
type Appender interface {
	Append(b logstore.Batch, m logstore.Mode) error
}

// IngestConfig is what an Ingest needs.
type IngestConfig struct {
	Store  Appender
	Permit Permit // nil allows everything
	// QueueBytes is all the memory that lines take while they wait for the
	// store; the default is 16 MiB, and more than 2 GiB is not used.
	QueueBytes int
	// Linger is how long the first line of a quiet queue waits for others, so
	// that they are stored together; the default is 20 ms.
	Linger time.Duration
	Now    func() time.Time // default time.Now
	Logger *slog.Logger     // default discards
}

// Sizes of the queue, and of what is taken from it at once.
const (
	defaultQueue  = 16 << 20
	maxQueue      = 1 << 31
	takeBytes     = 256 << 10
	largeScratch  = 64 << 10 // a formatting buffer above it is not kept
	defaultLinger = 20 * time.Millisecond
	// tellEvery is the time between two lines about dropped lines in a
	// stream, and between two attempts to write one.
	tellEvery = time.Second
	// forgetAfter is when an environment that says nothing is forgotten.
	forgetAfter = time.Minute
	// complainEvery is the time between two complaints about the store.
	complainEvery = time.Minute
)

// Ingest writes what environments say into the log store, as their functions'
// log groups: a telemetry.Sink that never blocks. Lines wait in a queue of
// fixed size, from which one goroutine stores them. A function may have at
// most as much of the queue as is free, so that however many flood it, room
// is left for those that do not. Lines that find no room, and those that the
// store cannot take, are dropped and counted, and their stream is told as
// soon as it can be.
type Ingest struct {
	cfg     IngestConfig
	scratch sync.Pool     // of *[]byte, to format in
	wake    chan struct{} // the queue is not empty any more
	hurry   chan struct{} // it is an eighth full: no lingering
	stop    chan struct{} // no more lines are accepted
	done    chan struct{}

	mu        sync.Mutex // guards what follows
	closed    bool
	queue     queue
	speakers  map[*telemetry.Source]*speaker
	table     []*speaker // by number; nil where one is free
	unused    []uint32   // free places of the table
	functions map[string]*functionLog
	lossy     map[*speaker]struct{} // those whose stream is to be told of lost lines
	stored    IngestStats           // without what functions know

	// The writing goroutine's own.
	entries    []entry
	events     []logstore.Event
	forgot     time.Time
	complained time.Time
	told       time.Time
}

// speaker is one environment, for as long as it has lines here or had some a
// moment ago.
type speaker struct {
	src      *telemetry.Source
	number   uint32
	function *functionLog
	grants   grants // the writing goroutine's

	// Under the lock of Ingest.
	queued    int // lines
	last      time.Time
	lost      int64 // lines that its stream was not told of yet
	lostBytes int64

	// The writing goroutine's, for one round.
	events []logstore.Event
	count  int
	bytes  int
}

// functionLog is what is kept of a function.
type functionLog struct {
	queued int // bytes of the queue
	FunctionLogStats
}

// FunctionLogStats count a function's lines since firn started.
type FunctionLogStats struct {
	Stored       int64 // lines
	Dropped      int64 // lines that there was no room for, or that the store did not take
	DroppedBytes int64
	Denied       int64 // lines that the execution role did not let through
}

// IngestStats count lines since firn started.
type IngestStats struct {
	FunctionLogStats
	QueuedBytes int // now
	QueueBytes  int // the bound
	// Functions are the counts by unqualified function ARN.
	Functions map[string]FunctionLogStats
}

// NewIngest starts the writing goroutine; the caller closes it.
func NewIngest(cfg IngestConfig) *Ingest {
	if cfg.QueueBytes <= 0 {
		cfg.QueueBytes = defaultQueue
	}
	if cfg.Linger <= 0 {
		cfg.Linger = defaultLinger
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	i := &Ingest{
		cfg:     cfg,
		scratch: sync.Pool{New: func() any { return new([]byte) }},
		wake:    make(chan struct{}, 1), hurry: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
		queue:    queue{buf: make([]byte, min(cfg.QueueBytes, maxQueue))},
		speakers: map[*telemetry.Source]*speaker{}, functions: map[string]*functionLog{}, lossy: map[*speaker]struct{}{},
		forgot: cfg.Now(),
	}
	go i.write()
	return i
}

// Close accepts no more lines and waits until those that wait are stored, or
// for the context: then the store does not answer, and what waits is lost when
// firn ends. It is idempotent.
func (i *Ingest) Close(ctx context.Context) error {
	i.mu.Lock()
	if !i.closed {
		i.closed = true
		close(i.stop)
	}
	i.mu.Unlock()
	select {
	case <-i.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("store the last log lines: %w", context.Cause(ctx))
	}
}

// Stats counts.
func (i *Ingest) Stats() IngestStats {
	i.mu.Lock()
	defer i.mu.Unlock()
	st := i.stored
	st.QueuedBytes, st.QueueBytes = i.queue.used, len(i.queue.buf)
	st.Functions = make(map[string]FunctionLogStats, len(i.functions))
	for arn, f := range i.functions {
		st.Functions[arn] = f.FunctionLogStats
	}
	return st
}

// Record implements telemetry.Sink. END and REPORT are two events.
func (i *Ingest) Record(src *telemetry.Source, _ string, rec lifecycle.Record) {
	buf := i.scratch.Get().(*[]byte)
	text := telemetry.AppendRecord((*buf)[:0], src, rec)
	if _, ok := rec.(lifecycle.Report); ok && !src.Format.JSON {
		end := bytes.IndexByte(text, '\n') + 1
		i.put(src, rec.When(), text[:end])
		i.put(src, rec.When(), text[end:])
	} else {
		i.put(src, rec.When(), text)
	}
	i.keepScratch(buf, text)
}

// Line implements telemetry.Sink.
func (i *Ingest) Line(src *telemetry.Source, line telemetry.Line) {
	buf := i.scratch.Get().(*[]byte)
	text := telemetry.AppendLine((*buf)[:0], src, line)
	i.put(src, line.Time, text)
	i.keepScratch(buf, text)
}

func (i *Ingest) keepScratch(buf *[]byte, used []byte) {
	if cap(used) <= largeScratch {
		*buf = used
		i.scratch.Put(buf)
	}
}

// put queues one event, or counts it as dropped. As in CloudWatch, an event of
// the text format keeps its line feed and one of the JSON format has none.
func (i *Ingest) put(src *telemetry.Source, at time.Time, text []byte) {
	if src.Format.JSON && len(text) > 1 {
		text = bytes.TrimSuffix(text, []byte{'\n'})
	}
	if len(text) == 0 || src.LogGroup == "" {
		return
	}
	text = text[:min(len(text), logstore.MaxMessage)]
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return
	}
	sp := i.speakerLocked(src)
	need := entryHeader + len(text)
	// The bound of a function is what all leave free: one alone may take half
	// of the queue, two a third each, and so on.
	if sp.function.queued+need > i.queue.free() || !i.queue.push(sp.number, at.UnixMilli(), text) {
		i.loseLocked(sp, 1, len(text))
		return
	}
	sp.queued++
	sp.function.queued += need
	if sp.queued == 1 {
		notify(i.wake)
	}
	if i.queue.used > len(i.queue.buf)/8 {
		notify(i.hurry)
	}
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// loseLocked counts lines that are not stored.
func (i *Ingest) loseLocked(sp *speaker, lines, bytes int) {
	for _, c := range []*FunctionLogStats{&sp.function.FunctionLogStats, &i.stored.FunctionLogStats} {
		c.Dropped += int64(lines)
		c.DroppedBytes += int64(bytes)
	}
	sp.lost += int64(lines)
	sp.lostBytes += int64(bytes)
	i.lossy[sp] = struct{}{}
}

func (i *Ingest) speakerLocked(src *telemetry.Source) *speaker {
	sp := i.speakers[src]
	if sp == nil {
		name := src.ARN
		if name == "" {
			name = src.Function
		}
		f := i.functions[name]
		if f == nil {
			f = &functionLog{}
			i.functions[name] = f
		}
		sp = &speaker{src: src, function: f}
		if n := len(i.unused); n > 0 {
			sp.number, i.unused = i.unused[n-1], i.unused[:n-1]
			i.table[sp.number] = sp
		} else {
			sp.number = uint32(len(i.table))
			i.table = append(i.table, sp)
		}
		i.speakers[src] = sp
	}
	sp.last = i.cfg.Now()
	return sp
}

// write is the goroutine that stores the lines.
func (i *Ingest) write() {
	defer close(i.done)
	tell := time.NewTicker(tellEvery)
	defer tell.Stop()
	for {
		select {
		case <-i.wake:
			i.linger()
			for i.round() {
			}
		case <-tell.C:
			i.tellLosses()
			i.forget()
		case <-i.stop:
			for i.round() {
			}
			i.tellLosses()
			return
		}
	}
}

// linger waits for more lines, unless there are enough.
func (i *Ingest) linger() {
	timer := time.NewTimer(i.cfg.Linger)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-i.hurry:
	case <-i.stop:
	}
}

// round stores the first part of the queue; false when it was empty. The
// lines keep their room until the store has them.
func (i *Ingest) round() bool {
	i.mu.Lock()
	var size int
	i.entries, size = i.queue.peek(i.entries[:0], takeBytes)
	table := i.table
	i.mu.Unlock()
	if len(i.entries) == 0 {
		return false
	}
	// The entries' speakers stay in their places: those with queued lines are
	// not forgotten.
	said := i.bySpeaker(table)
	for _, sp := range said {
		i.account(sp, i.store(&sp.grants, sp.src, sp.events))
	}
	i.mu.Lock()
	for _, sp := range said {
		sp.queued -= sp.count
		sp.function.queued -= sp.bytes + sp.count*entryHeader
		sp.events, sp.count, sp.bytes = nil, 0, 0
	}
	i.queue.release(size)
	i.mu.Unlock()
	if now := i.cfg.Now(); now.Sub(i.told) >= tellEvery { // also in a flood
		i.tellLosses()
	}
	clear(i.events)
	if cap(i.entries) > 1<<14 { // very short lines
		i.entries, i.events = nil, nil
	}
	return true
}

// bySpeaker makes a batch of each speaker's lines, in one array.
func (i *Ingest) bySpeaker(table []*speaker) []*speaker {
	var said []*speaker
	for _, e := range i.entries {
		sp := table[e.speaker]
		if sp.count == 0 {
			said = append(said, sp)
		}
		sp.count++
		sp.bytes += len(e.message)
	}
	if cap(i.events) < len(i.entries) {
		i.events = make([]logstore.Event, len(i.entries))
	}
	rest := i.events[:len(i.entries)]
	for _, sp := range said {
		sp.events, rest = rest[:0:sp.count], rest[sp.count:]
	}
	for _, e := range i.entries {
		sp := table[e.speaker]
		sp.events = append(sp.events, logstore.Event{Timestamp: e.at, Message: e.message})
	}
	return said
}

// account counts what became of a speaker's batch.
func (i *Ingest) account(sp *speaker, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	lines := int64(sp.count)
	switch {
	case err == nil:
		sp.function.Stored += lines
		i.stored.Stored += lines
	case errors.Is(err, errDenied):
		sp.function.Denied += lines
		i.stored.Denied += lines
	default:
		i.loseLocked(sp, sp.count, sp.bytes)
		i.complain(err)
	}
}

// complain logs that the store fails, now and then.
func (i *Ingest) complain(err error) {
	if now := i.cfg.Now(); now.Sub(i.complained) >= complainEvery {
		i.complained = now
		i.cfg.Logger.Error("log lines of functions are lost: the log store fails", "error", err)
	}
}

// tellLosses writes a line into each stream that lost some. What cannot be
// written is told the next time.
func (i *Ingest) tellLosses() {
	i.mu.Lock()
	i.told = i.cfg.Now()
	list := maps.Clone(i.lossy)
	clear(i.lossy)
	i.mu.Unlock()
	for sp := range list {
		i.mu.Lock()
		lines, bytes := sp.lost, sp.lostBytes
		sp.lost, sp.lostBytes = 0, 0
		i.mu.Unlock()
		now := i.cfg.Now()
		err := i.store(&sp.grants, sp.src, []logstore.Event{{Timestamp: now.UnixMilli(), Message: lossText(sp.src, now, lines, bytes)}})
		if err == nil || errors.Is(err, errDenied) {
			continue
		}
		i.mu.Lock()
		sp.lost += lines
		sp.lostBytes += bytes
		i.lossy[sp] = struct{}{}
		i.mu.Unlock()
	}
}

// lossText says in the function's log format how many lines are missing.
func lossText(src *telemetry.Source, at time.Time, lines, bytes int64) []byte {
	const reason = "the log store had no room for them"
	if !src.Format.JSON {
		return fmt.Appendf(nil, "LOGS_DROPPED Lines: %d\tBytes: %d\tReason: %s\n", lines, bytes, reason)
	}
	rec := lifecycle.LogsDropped{Stamp: lifecycle.Stamp{Time: at}, Reason: reason, DroppedRecords: lines, DroppedBytes: bytes}
	text, err := json.Marshal(struct {
		Time   string           `json:"time"`
		Type   string           `json:"type"`
		Record lifecycle.Record `json:"record"`
	}{at.UTC().Format(telemetry.TimeLayout), rec.RecordType(), rec})
	if err != nil {
		panic("a record of two numbers and a text has no JSON: " + err.Error())
	}
	return text
}

// forget lets go of environments that say nothing any more.
func (i *Ingest) forget() {
	now := i.cfg.Now()
	if now.Sub(i.forgot) < forgetAfter {
		return
	}
	i.forgot = now
	i.mu.Lock()
	defer i.mu.Unlock()
	for src, sp := range i.speakers {
		if sp.queued == 0 && sp.lost == 0 && now.Sub(sp.last) >= forgetAfter {
			delete(i.speakers, src)
			i.table[sp.number] = nil
			i.unused = append(i.unused, sp.number)
		}
	}
}
