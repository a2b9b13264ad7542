package logstore

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
)

// WatchFilter chooses what a watcher sees.
type WatchFilter struct {
	Groups       []string // any of them; empty is all
	Streams      []string // any of them; empty is all that StreamPrefix lets through
	StreamPrefix string
	// MaxBytes bounds what waits for the watcher; the default is 4 MiB.
	// Beyond it events are dropped and counted.
	MaxBytes int
}

const defaultWatchBytes = 4 << 20

func (f *WatchFilter) match(st *stream) bool {
	return (len(f.Groups) == 0 || slices.Contains(f.Groups, st.group.name)) &&
		(len(f.Streams) == 0 || slices.Contains(f.Streams, st.name)) && strings.HasPrefix(st.name, f.StreamPrefix)
}

// Watcher receives what is appended.
type Watcher struct {
	store  *Store
	filter WatchFilter
	ready  chan struct{} // has a token when there is something to see

	mu      sync.Mutex // guards what follows
	queue   []watched
	bytes   int
	dropped int64 // since the last batch of the queue
	closed  bool
}

type watched struct {
	batch   Batch
	bytes   int
	dropped int64 // before it
}

// Watch lets the caller see what is appended from now on, whether it is
// synced or not, in the order of arrival. The caller closes the watcher.
func (s *Store) Watch(f WatchFilter) *Watcher {
	if f.MaxBytes <= 0 {
		f.MaxBytes = defaultWatchBytes
	}
	w := &Watcher{store: s, filter: f, ready: make(chan struct{}, 1)}
	s.watchMu.Lock()
	defer s.watchMu.Unlock()
	if s.watchers == nil {
		w.end()
		return w
	}
	s.watchers[w] = struct{}{}
	return w
}

// Next waits for the next batch. dropped is how many events were lost right
// before it because the watcher was too slow; a batch without events tells of
// those alone. Watchers share a batch: it is
// to be read, not changed. The error is the context's, or ErrClosed when the
// watcher or the store was closed; what waited by then is lost.
func (w *Watcher) Next(ctx context.Context) (b Batch, dropped int64, err error) {
	for {
		w.mu.Lock()
		if w.closed {
			w.mu.Unlock()
			return Batch{}, 0, ErrClosed
		}
		if len(w.queue) > 0 {
			next := w.queue[0]
			w.queue[0] = watched{}
			w.queue = w.queue[1:]
			w.bytes -= next.bytes
			w.mu.Unlock()
			return next.batch, next.dropped, nil
		}
		if dropped, w.dropped = w.dropped, 0; dropped > 0 {
			w.mu.Unlock()
			return Batch{}, dropped, nil
		}
		w.mu.Unlock()
		select {
		case <-w.ready:
		case <-ctx.Done():
			return Batch{}, 0, ctx.Err()
		}
	}
}

// Close ends the watcher; it is idempotent.
func (w *Watcher) Close() {
	w.store.watchMu.Lock()
	delete(w.store.watchers, w)
	w.store.watchMu.Unlock()
	w.end()
}

func (w *Watcher) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed, w.queue = true, nil
	w.wakeLocked()
}

func (w *Watcher) wakeLocked() {
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

func (w *Watcher) put(b Batch, bytes int) (ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return true
	}
	if w.bytes+bytes > w.filter.MaxBytes && len(w.queue) > 0 {
		w.dropped += int64(len(b.Events))
		return false
	}
	w.queue = append(w.queue, watched{b, bytes, w.dropped})
	w.bytes += bytes
	w.dropped = 0
	w.wakeLocked()
	return true
}

// tell hands events that were stored to the watchers; wmu is held, so that
// they see them in order.
func (s *Store) tell(st *stream, events []Event, ingested int64) {
	s.watchMu.Lock()
	defer s.watchMu.Unlock()
	var b Batch
	bytes := 0
	for w := range s.watchers {
		if !w.filter.match(st) {
			continue
		}
		if b.Events == nil {
			b, bytes = s.copyBatch(st, events, ingested)
		}
		if !w.put(b, bytes) {
			s.count.watchDropped.Add(int64(len(events)))
		}
	}
}

// copyBatch makes the one copy that all watchers see.
func (s *Store) copyBatch(st *stream, events []Event, ingested int64) (Batch, int) {
	b := Batch{Group: st.group.name, Stream: st.name, Events: make([]Event, len(events))}
	size := 0
	for i, e := range events {
		b.Events[i] = Event{
			Timestamp: e.Timestamp, Ingestion: ingested, Seq: s.nextSeq - uint64(len(events)-i),
			Stream: st.name, Message: bytes.Clone(e.Message),
		}
		size += len(e.Message) + eventBytes
	}
	return b, size
}

// eventBytes is what an Event takes in memory beside its message.
const eventBytes = 96

func (s *Store) closeWatchers() {
	s.watchMu.Lock()
	watchers := s.watchers
	s.watchers = nil
	s.watchMu.Unlock()
	for w := range watchers {
		w.end()
	}
}
