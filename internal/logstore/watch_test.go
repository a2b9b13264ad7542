package logstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
)

func TestWatch(t *testing.T) {
	clk := newClock()
	s := open(t, Config{Dir: t.TempDir(), Now: clk.now})
	put(t, s, "g", "s1", event(1, "before"))
	all, one, none := s.Watch(WatchFilter{}), s.Watch(WatchFilter{Groups: []string{"g"}, StreamPrefix: "s", Streams: []string{"s1", "x"}}), s.Watch(WatchFilter{Groups: []string{"none"}})
	defer all.Close()
	defer one.Close()
	put(t, s, "g", "s1", event(5, "a"), event(4, "b"))
	put(t, s, "g", "s2", event(6, "c"))
	put(t, s, "h", "x", event(7, "d"))
	next := func(w *Watcher) Batch {
		t.Helper()
		b, dropped, err := w.Next(t.Context())
		if err != nil || dropped != 0 {
			t.Fatalf("%d dropped, %v", dropped, err)
		}
		return b
	}
	b := next(all)
	page, err := s.Read(Query{Group: "g", Streams: []string{"s1"}, From: 4})
	if err != nil {
		t.Fatal(err)
	}
	page.Events[0], page.Events[1] = page.Events[1], page.Events[0] // watchers see them in order of arrival
	same(t, "batch", b, Batch{"g", "s1", page.Events})
	same(t, "others", []string{next(all).Stream, next(all).Group}, []string{"s2", "h"})
	same(t, "filtered", messages(next(one).Events), []string{"a", "b"})
	put(t, s, "g", "s1", event(8, "e"))
	same(t, "filtered", messages(next(one).Events), []string{"e"})

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := none.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a watcher that nothing is for: %v", err)
	}
	for range 2 {
		none.Close()
		if _, _, err := none.Next(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("a closed watcher: %v", err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, w := range []*Watcher{one, s.Watch(WatchFilter{})} {
		if _, _, err := w.Next(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("a watcher of a closed store: %v", err)
		}
	}
}

// A watcher that is too slow loses events, and is told how many and where.
func TestSlowWatcher(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	w := s.Watch(WatchFilter{MaxBytes: 2 * (1000 + eventBytes)})
	defer w.Close()
	text := func(n int) string { return fmt.Sprintf("%04d", n) + strings.Repeat("x", 996) }
	for n := range 5 {
		put(t, s, "g", "s", event(int64(n), text(n)))
	}
	next := func() (string, int64) {
		t.Helper()
		b, dropped, err := w.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(b.Events) == 0 {
			return "", dropped
		}
		return string(b.Events[0].Message[:4]), dropped
	}
	check := func(want string, wantDropped int64) {
		t.Helper()
		if got, dropped := next(); got != want || dropped != wantDropped {
			t.Errorf("%q after %d dropped, want %q after %d", got, dropped, want, wantDropped)
		}
	}
	check("0000", 0)
	put(t, s, "g", "s", event(5, text(5)))
	check("0001", 0)
	check("0005", 3)
	for n := range 4 {
		put(t, s, "g", "s", event(9, text(n)))
	}
	check("0000", 0)
	check("0001", 0)
	check("", 2)
	if st := s.Stats(); st.WatchDropped != 5 {
		t.Errorf("stats: %+v", st)
	}
	// One batch over the bound comes all the same.
	put(t, s, "g", "s", event(9, strings.Repeat("y", 5000)))
	check("yyyy", 0)
}

func TestWatcherWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(Config{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		w := s.Watch(WatchFilter{})
		got := make(chan string)
		go func() {
			b, _, err := w.Next(t.Context())
			got <- fmt.Sprint(messages(b.Events), err)
			_, _, err = w.Next(t.Context())
			got <- fmt.Sprint(err)
		}()
		synctest.Wait()
		put(t, s, "g", "s", event(1, "x"))
		if text := <-got; text != "[x] <nil>" {
			t.Error(text)
		}
		synctest.Wait()
		w.Close()
		if text := <-got; text != ErrClosed.Error() {
			t.Error(text)
		}
	})
}
