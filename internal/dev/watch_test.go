package dev

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// watching starts a watcher and returns the next batch, by names.
func watching(t *testing.T, dir string) (next func() string, w *watcher) {
	t.Helper()
	p := &Project{Folder: dir, ignore: []string{filepath.Join(dir, "data")}}
	w, err := newWatcher(dir, p.watched)
	if err != nil {
		t.Fatal(err)
	}
	if why := w.polls(); why != "" {
		t.Fatal(why)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		w.close()
	})
	return func() string {
		t.Helper()
		select {
		case b := <-w.batches:
			var names []string
			for _, path := range b.paths {
				rel, _ := filepath.Rel(dir, path)
				names = append(names, rel)
			}
			slices.Sort(names)
			if b.all {
				names = append(names, "and all")
			}
			return strings.Join(names, " ")
		case <-time.After(within):
			t.Fatal("nothing is noticed")
		}
		return ""
	}, w
}

func TestWatch(t *testing.T) {
	dir := folder(t, "fn", map[string]string{"a": "1", "sub/b": "1", ".git/HEAD": "x", "node_modules/m/i.js": "m", "data/db": "x"})
	next, _ := watching(t, dir)
	is := func(want string) {
		t.Helper()
		if got := next(); got != want {
			t.Errorf("noticed %q, want %q", got, want)
		}
	}
	// What is nobody's save comes first: it would be in the batch.
	write(t, filepath.Join(dir, ".git/HEAD"), "y")
	write(t, filepath.Join(dir, "data/db"), "y")
	write(t, filepath.Join(dir, "a~"), "backup")
	write(t, filepath.Join(dir, "node_modules/m/i.js"), "deep inside")
	write(t, filepath.Join(dir, "sub/b"), "2")
	is("sub/b")
	// An editor's way: another file, renamed.
	write(t, filepath.Join(dir, ".a.swp"), "2")
	if err := os.Rename(filepath.Join(dir, ".a.swp"), filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	is("a")
	write(t, filepath.Join(dir, "new/deep/c"), "1") // two folders that nobody watched
	if got := next(); !strings.HasPrefix(got, "new") {
		t.Errorf("a new folder: %q", got)
	}
	write(t, filepath.Join(dir, "new/deep/c"), "2")
	is("new/deep/c")
	write(t, filepath.Join(dir, "node_modules/.package-lock.json"), "{}")
	is("node_modules")
	if err := os.Chmod(filepath.Join(dir, "a"), 0o755); err != nil {
		t.Fatal(err)
	}
	is("a")
	if err := os.RemoveAll(filepath.Join(dir, "new")); err != nil {
		t.Fatal(err)
	}
	if got := next(); !strings.HasPrefix(got, "new") {
		t.Errorf("a folder that goes: %q", got)
	}
}

// A folder that goes, as with a change of the branch, and comes back is watched
// again.
func TestWatchAFolderThatComesBack(t *testing.T) {
	dir := folder(t, "fn", map[string]string{"a": "1"})
	next, _ := watching(t, dir)
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	next()
	write(t, filepath.Join(dir, "a"), "2")
	for got := ""; !strings.Contains(got, "and all"); {
		got = next()
	}
	write(t, filepath.Join(dir, "a"), "3")
	for got := ""; got != "a"; { // polls may come between
		got = next()
	}
}

func TestPolling(t *testing.T) {
	dir := folder(t, "fn", map[string]string{"a": "1"})
	p := &Project{Folder: dir}
	w, err := newWatcher(dir, p.watched)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	w.fs.Remove(dir)
	w.why = errors.New("no inotify here")
	if w.polls() == "" {
		t.Error("it does not say that it polls")
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.run(ctx) }()
	if b := <-w.batches; !b.all {
		t.Errorf("%+v", b)
	}
	cancel()
	<-ended
}
