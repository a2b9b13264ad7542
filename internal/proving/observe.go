package proving

import (
	"slices"
	"sync"
	"time"

	"github.com/firn-run/firn/internal/lifecycle"
	"github.com/firn-run/firn/internal/telemetry"
)

// watcher is a telemetry.Sink that keeps what the environments of each
// function say.
type watcher struct {
	mu        sync.Mutex
	functions map[string]*account
	changed   chan struct{} // closed at the next record
}

// account is all that is known of one function's environments, in order.
type account struct {
	records []lifecycle.Record
	lines   int // of extensions
}

func newWatcher() *watcher {
	return &watcher{functions: map[string]*account{}, changed: make(chan struct{})}
}

// Record implements telemetry.Sink.
func (w *watcher) Record(src *telemetry.Source, _ string, rec lifecycle.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.ofLocked(src.Function)
	a.records = append(a.records, rec)
	close(w.changed)
	w.changed = make(chan struct{})
}

// Line implements telemetry.Sink.
func (w *watcher) Line(src *telemetry.Source, line telemetry.Line) {
	if line.Extension == "" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ofLocked(src.Function).lines++
}

func (w *watcher) ofLocked(function string) *account {
	a := w.functions[function]
	if a == nil {
		a = &account{}
		w.functions[function] = a
	}
	return a
}

// of copies what is known of a function.
func (w *watcher) of(function string) account {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := *w.ofLocked(function)
	a.records = slices.Clone(a.records)
	return a
}

// await waits until a function's records satisfy done, at most for limit.
func (w *watcher) await(function string, limit time.Duration, done func(account) bool) bool {
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	for {
		w.mu.Lock()
		changed := w.changed
		w.mu.Unlock()
		if done(w.of(function)) {
			return true
		}
		select {
		case <-changed:
		case <-timeout.C:
			return false
		}
	}
}

// phases returns firn's own records of one kind, of one extension or, with
// "", of any detail.
func (a account) phases(name, detail string) []lifecycle.Phase {
	var found []lifecycle.Phase
	for _, rec := range a.records {
		if p, ok := rec.(lifecycle.Phase); ok && p.Name == name && (detail == "" || p.Detail == detail) {
			found = append(found, p)
		}
	}
	return found
}

// of returns the records of one type.
func of[R lifecycle.Record](a account) []R {
	var found []R
	for _, rec := range a.records {
		if r, ok := rec.(R); ok {
			found = append(found, r)
		}
	}
	return found
}

// extension is the last state that a record tells of an extension.
func (a account) extension(name string) (lifecycle.Extension, bool) {
	all := slices.DeleteFunc(of[lifecycle.Extension](a), func(e lifecycle.Extension) bool { return e.Name != name })
	if len(all) == 0 {
		return lifecycle.Extension{}, false
	}
	return all[len(all)-1], true
}

// between is the time from the first record of one kind to the first of
// another after it.
func (a account) between(from, to, detail string) (time.Duration, bool) {
	start, end := a.phases(from, detail), a.phases(to, detail)
	for _, s := range start {
		for _, e := range end {
			if !e.Time.Before(s.Time) {
				return e.Time.Sub(s.Time), true
			}
		}
	}
	return 0, false
}
