package dev

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// batch is a save: all that changed in one go.
type batch struct {
	paths []string  // absolute, each once
	all   bool      // more than was noticed may have changed
	first time.Time // when the first of it was noticed
}

// hint is one thing that was noticed.
type hint struct {
	path string
	bulk bool // a tool is at work: more will follow
	all  bool
}

// A save is over when nothing came for quiet; a package manager's work when
// nothing came for bulkQuiet, and many changes at once are somebody's work,
// too. Endless changes do not hold a reload up for longer than longest.
const (
	quiet     = 25 * time.Millisecond
	bulkQuiet = 400 * time.Millisecond
	many      = 100
	longest   = 5 * time.Second
)

// gather makes batches of hints. It takes hints while a batch waits for its
// reader, who is building perhaps, and adds them.
func gather(ctx context.Context, in <-chan hint, out chan<- batch) error {
	var b batch
	seen := map[string]bool{}
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	isBulk := false
	var ready chan<- batch
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case h := <-in:
			if b.first.IsZero() {
				b.first = time.Now()
			}
			b.all = b.all || h.all
			if h.path != "" && !seen[h.path] {
				seen[h.path] = true
				b.paths = append(b.paths, h.path)
			}
			isBulk = isBulk || h.bulk || len(seen) > many
			wait := quiet
			if isBulk {
				wait = bulkQuiet
			}
			timer.Reset(min(wait, max(0, longest-time.Since(b.first))))
			ready = nil
		case <-timer.C:
			ready = out
		case ready <- b:
			b, seen, isBulk, ready = batch{}, map[string]bool{}, false, nil
		}
	}
}

// pollStep is how often a folder that cannot be watched is looked at.
const pollStep = time.Second

// watcher notices changes in a folder.
type watcher struct {
	batches chan batch

	root  string
	class func(path string) (c class, at string)
	fs    *fsnotify.Watcher
	why   error // why the folder is polled as well
}

// newWatcher watches a folder with all below it. class judges paths.
func newWatcher(root string, class func(string) (class, string)) (*watcher, error) {
	w := &watcher{batches: make(chan batch), root: root, class: class}
	var err error
	if w.fs, err = fsnotify.NewWatcher(); err != nil {
		return nil, fmt.Errorf("watch %s: %w", root, err)
	}
	w.add(root)
	return w, nil
}

func (w *watcher) close() error { return w.fs.Close() }

// polls says why the folder is polled; "" when it is not.
func (w *watcher) polls() string {
	switch {
	case w.why == nil:
		return ""
	case errors.Is(w.why, syscall.ENOSPC):
		return "the folder has more directories than may be watched (raise fs.inotify.max_user_watches)"
	}
	return w.why.Error()
}

// add watches a folder and those in it.
func (w *watcher) add(dir string) {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if vanished(err) || err == nil && !d.IsDir() {
			return nil
		}
		if err != nil {
			return err
		}
		c, at := w.class(path)
		if c == classNothing || c == classSilent || at != path && path != w.root {
			return fs.SkipDir
		}
		if err := w.fs.Add(path); err != nil && !vanished(err) {
			return err
		}
		if c == classBulk {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil && !errors.Is(err, fsnotify.ErrClosed) && w.why == nil {
		w.why = err
	}
}

// run makes batches until ctx ends.
func (w *watcher) run(ctx context.Context) error {
	hints := make(chan hint)
	ended := make(chan error, 1)
	go func() { ended <- gather(ctx, hints, w.batches) }()
	err := w.notice(ctx, hints)
	return errors.Join(err, <-ended)
}

// notice turns events into hints.
func (w *watcher) notice(ctx context.Context, hints chan<- hint) error {
	poll := time.NewTicker(pollStep)
	defer poll.Stop()
	for {
		var h hint
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.fs.Errors: // an overflow, mostly: what was missed is looked for
			h = hint{all: true, bulk: true}
		case ev := <-w.fs.Events:
			var ok bool
			if h, ok = w.judge(ev); !ok {
				continue
			}
		case <-poll.C:
			if w.why == nil {
				continue
			}
			if _, err := os.Stat(w.root); err == nil && errors.Is(w.why, fs.ErrNotExist) {
				w.why = nil // it is back
				w.add(w.root)
			}
			h = hint{all: true}
		}
		select {
		case hints <- h:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *watcher) judge(ev fsnotify.Event) (hint, bool) {
	c, at := w.class(ev.Name)
	if c == classNothing || c == classSilent {
		return hint{}, false
	}
	if ev.Name == w.root && ev.Has(fsnotify.Remove|fsnotify.Rename) {
		w.why = fs.ErrNotExist // until it is back
	}
	if ev.Has(fsnotify.Create) {
		if info, err := os.Lstat(ev.Name); err == nil && info.IsDir() {
			w.add(ev.Name)
		}
	}
	return hint{path: at, bulk: c == classBulk}, true
}
