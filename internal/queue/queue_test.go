package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/firn-run/firn/internal/state"
)

// openStore opens a store in dir; end closes it.
func openStore(tb testing.TB, dir string) (s *state.Store, end func()) {
	tb.Helper()
	d, err := state.OpenDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	s, err = state.Open(context.Background(), state.Config{Dir: d})
	if err != nil {
		tb.Fatal(err)
	}
	return s, func() {
		if err := errors.Join(s.Close(), d.Close()); err != nil {
			tb.Error(err)
		}
	}
}

// start runs a queue over a store until stop.
func start(tb testing.TB, s *state.Store, cfg Config) (q *Queue, stop func()) {
	tb.Helper()
	cfg.Store, cfg.Name = s, "test"
	q = New(cfg)
	if err := q.Load(context.Background()); err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := q.Run(ctx); err != nil {
			tb.Error(err)
		}
	})
	return q, func() { cancel(); running.Wait() }
}

// open is a queue of its own for one test.
func open(tb testing.TB, cfg Config) *Queue {
	s, end := openStore(tb, tb.TempDir())
	q, stop := start(tb, s, cfg)
	tb.Cleanup(func() { stop(); end() })
	return q
}

func all(string, int, time.Time) (bool, time.Time) { return true, time.Time{} }

func put(tb testing.TB, q *Queue, lane, body string, due time.Time) int64 {
	tb.Helper()
	id, err := q.Put(context.Background(), Item{Lane: lane, Due: due, Note: []byte("new"), Body: []byte(body)})
	if err != nil {
		tb.Fatal(err)
	}
	return id
}

// claim claims what is due at once, nil when there is nothing.
func claim(tb testing.TB, q *Queue, gate Gate) *Claim {
	tb.Helper()
	return claimWithin(tb, q, gate, 100*time.Millisecond)
}

func claimWithin(tb testing.TB, q *Queue, gate Gate, patience time.Duration) *Claim {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := q.Claim(ctx, gate, time.Hour)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		tb.Fatal(err)
	}
	return c
}

func TestLanesTakeTurns(t *testing.T) {
	q := open(t, Config{})
	now := time.Now()
	for i := range 3 {
		put(t, q, "a", fmt.Sprint("a", i), now.Add(time.Duration(i)*time.Millisecond-time.Second))
	}
	put(t, q, "b", "b0", now)
	put(t, q, "c", "c0", now.Add(time.Hour))
	var got []string
	for range 4 {
		c := claim(t, q, all)
		got = append(got, string(c.Body))
		if string(c.Note) != "new" || c.Lane != string(c.Body[:1]) {
			t.Errorf("claimed %+v", c.Item)
		}
	}
	if want := []string{"a0", "b0", "a1", "a2"}; !slices.Equal(got, want) {
		t.Errorf("claimed %v, want %v", got, want)
	}
	if c := claim(t, q, all); c != nil {
		t.Errorf("%s was claimed before it was due", c.Body)
	}
	lanes := map[string]Lane{}
	for _, l := range q.Lanes() {
		lanes[l.Name] = l
	}
	if a, c := lanes["a"], lanes["c"]; a.Items != 3 || a.Busy != 3 || !a.Next.IsZero() || c.Items != 1 || c.Busy != 0 || c.Next.UnixMilli() != now.Add(time.Hour).UnixMilli() {
		t.Errorf("lanes are %+v", lanes)
	}
}

func TestGateHoldsOneLaneBack(t *testing.T) {
	q := open(t, Config{})
	now := time.Now()
	for i := range 5 {
		put(t, q, "a", fmt.Sprint("a", i), now)
		put(t, q, "b", fmt.Sprint("b", i), now)
	}
	one := func(lane string, busy int, _ time.Time) (bool, time.Time) {
		return lane == "b" || busy < 1, time.Time{}
	}
	var got []string
	var first *Claim
	for range 6 {
		c := claim(t, q, one)
		if c.Lane == "a" {
			first = c
		}
		got = append(got, string(c.Body))
	}
	if want := []string{"a0", "b0", "b1", "b2", "b3", "b4"}; !slices.Equal(got, want) {
		t.Fatalf("claimed %v, want %v", got, want)
	}
	if c := claim(t, q, one); c != nil {
		t.Fatalf("%s was claimed past the gate", c.Body)
	}
	if err := q.Ack(first); err != nil {
		t.Fatal(err)
	}
	if c := claim(t, q, one); c == nil || string(c.Body) != "a1" {
		t.Fatalf("after the settlement came %+v", c)
	}
	if err := q.Ack(first); !errors.Is(err, ErrLost) {
		t.Errorf("a second settlement: %v", err)
	}
}

// Time is virtual here: pauses of a gate, due times and leases.
func TestTimes(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, end := openStore(t, dir)
		defer end()
		q, stop := start(t, s, Config{})
		defer stop()
		began := time.Now()
		since := func() time.Duration { return time.Since(began) }

		put(t, q, "later", "x", began.Add(6*time.Hour))
		c, err := q.Claim(t.Context(), all, time.Minute)
		if err != nil || since() != 6*time.Hour {
			t.Fatalf("due after %v, %v", since(), err)
		}
		// Neither settled nor extended: it is handed out again.
		again, err := q.Claim(t.Context(), all, time.Minute)
		if err != nil || since() != 6*time.Hour+time.Minute || string(again.Body) != "x" || again.ID != c.ID {
			t.Fatalf("again after %v: %+v, %v", since(), again, err)
		}
		if err := q.Ack(c); !errors.Is(err, ErrLost) {
			t.Errorf("the lost claim was settled: %v", err)
		}
		time.Sleep(50 * time.Second)
		if err := q.Extend(again, time.Minute); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Second)
		if err := q.Return(again, time.Now().Add(2*time.Minute), []byte("second")); err != nil {
			t.Fatal(err)
		}
		began = time.Now()
		third, err := q.Claim(t.Context(), all, time.Minute)
		if err != nil || since() != 2*time.Minute || string(third.Note) != "second" || string(third.Body) != "x" {
			t.Fatalf("returned item after %v: %+v, %v", since(), third, err)
		}
		if err := q.Ack(third); err != nil {
			t.Fatal(err)
		}

		// A gate that names a time is asked again then, and on Wake.
		put(t, q, "paused", "y", time.Now())
		began = time.Now()
		var until atomic.Pointer[time.Time]
		at := began.Add(time.Minute)
		until.Store(&at)
		gate := func(string, int, time.Time) (bool, time.Time) {
			return !time.Now().Before(*until.Load()), *until.Load()
		}
		if _, err = q.Claim(t.Context(), gate, time.Minute); err != nil || since() != time.Minute {
			t.Fatalf("paused lane after %v, %v", since(), err)
		}
		put(t, q, "woken", "z", time.Now())
		began, at = time.Now(), time.Now().Add(time.Hour)
		until.Store(&at)
		wake := time.AfterFunc(time.Second, func() { now := time.Now(); until.Store(&now); q.Wake("woken") })
		defer wake.Stop()
		if _, err = q.Claim(t.Context(), gate, time.Minute); err != nil || since() != time.Second {
			t.Fatalf("woken lane after %v, %v", since(), err)
		}
	})
}

// Whatever is in memory and whatever on the disk only: a lane hands out all
// of its items in order, also while others come in and go back.
func TestMoreThanTheWindow(t *testing.T) {
	for _, cache := range []int64{-1, 0} {
		q := open(t, Config{Window: 4, CacheBytes: cache})
		start := time.Now().Add(-time.Hour)
		r := rand.New(rand.NewPCG(1, 2))
		want := map[string]int{}
		n := 0
		add := func() {
			body := fmt.Sprint("item", n)
			put(t, q, "lane", body, start.Add(time.Duration(r.IntN(1000))*time.Second))
			want[body]++
			n++
		}
		for range 40 {
			add()
		}
		var held []*Claim
		for len(want) > 0 {
			patience := 5 * time.Millisecond
			if len(held) == 0 {
				patience = 5 * time.Second
			}
			c := claimWithin(t, q, all, patience)
			switch roll := r.IntN(10); {
			case c == nil && len(held) > 0:
				c, held = held[0], held[1:]
				if err := q.Ack(c); err != nil {
					t.Fatal(err)
				}
				delete(want, string(c.Body))
			case c == nil:
				t.Fatalf("nothing to claim, and there should be %v; lanes %+v", want, q.Lanes())
			case roll < 3:
				if err := q.Return(c, c.Due.Add(time.Duration(r.IntN(500)-100)*time.Second), []byte("back")); err != nil {
					t.Fatal(err)
				}
			case roll < 5:
				held = append(held, c)
			default:
				if want[string(c.Body)] == 0 {
					t.Fatalf("%s was handed out after its end", c.Body)
				}
				if err := q.Ack(c); err != nil {
					t.Fatal(err)
				}
				delete(want, string(c.Body))
			}
			if n < 200 && r.IntN(2) == 0 {
				add()
			}
		}
		waitEmpty(t, q)
		if q.cached != 0 || len(q.claims) != 0 {
			t.Errorf("%d bytes and %d claims are left of nothing", q.cached, len(q.claims))
		}
	}
}

// waitEmpty waits until everything that was settled is written.
func waitEmpty(t *testing.T, q *Queue) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for len(q.Lanes()) > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("left are %+v", q.Lanes())
		}
		time.Sleep(time.Millisecond) // archtest:sleep polls: what is written tells nobody
	}
}

func TestMemoryIsBounded(t *testing.T) {
	q := open(t, Config{Window: 8, CacheBytes: 1000})
	now := time.Now()
	for i := range 500 {
		put(t, q, "lane", strings.Repeat("x", 100), now.Add(time.Duration(i)*time.Second))
	}
	q.mu.Lock()
	known, cached := len(q.lanes["lane"].window), q.cached
	q.mu.Unlock()
	if known > 16 || cached > 1000 || cached <= 0 {
		t.Errorf("%d items and %d bytes in memory", known, cached)
	}
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	s, end := openStore(t, dir)
	q, stop := start(t, s, Config{})
	now := time.Now()
	put(t, q, "a", "acked", now.Add(-3*time.Second))
	put(t, q, "a", "returned", now.Add(-2*time.Second))
	put(t, q, "a", "claimed", now.Add(-time.Second))
	if err := q.Ack(claim(t, q, all)); err != nil {
		t.Fatal(err)
	}
	if err := q.Return(claim(t, q, all), now.Add(-time.Minute), []byte("back")); err != nil {
		t.Fatal(err)
	}
	stop() // writes what was settled
	if _, err := q.Put(t.Context(), Item{Lane: "a"}); !errors.Is(err, ErrClosed) {
		t.Errorf("a put after the end: %v", err)
	}
	end()

	s, end = openStore(t, dir)
	defer end()
	q, stop = start(t, s, Config{})
	defer stop()
	for _, want := range []string{"returned back", "claimed new"} {
		if c := claim(t, q, all); c == nil || string(c.Body)+" "+string(c.Note) != want {
			t.Errorf("claimed %+v, want %s", c, want)
		}
	}
	if c := claim(t, q, all); c != nil {
		t.Errorf("claimed %s, which was done", c.Body)
	}
}

func TestSweep(t *testing.T) {
	q := open(t, Config{Window: 4})
	now := time.Now()
	for i := range 600 {
		put(t, q, "a", fmt.Sprint(i), now.Add(time.Hour+time.Duration(i)*time.Second))
	}
	put(t, q, "a", "running", now)
	put(t, q, "b", "other", now.Add(time.Hour))
	running := claim(t, q, all)
	items, err := q.List(t.Context(), "a", Item{}, 2)
	if err != nil || len(items) != 2 || items[0].ID != running.ID || !q.Claimed(running.ID) || q.Claimed(items[1].ID) {
		t.Fatalf("listed %+v, %v", items, err)
	}
	// Redrive the first hundred.
	n, err := q.Sweep(t.Context(), "a", func(it Item) Verdict {
		return Verdict{Keep: !it.Due.After(now) || it.Due.After(now.Add(time.Hour+99500*time.Millisecond)), Due: now.Add(-time.Second)}
	})
	if err != nil || n != 100 {
		t.Fatalf("moved %d, %v", n, err)
	}
	for i := range 100 {
		c := claim(t, q, all)
		if c == nil || string(c.Note) != "new" {
			t.Fatalf("%d: claimed %+v", i, c)
		}
	}
	if c := claim(t, q, all); c != nil {
		t.Errorf("claimed %s too", c.Body)
	}
	n, err = q.Sweep(t.Context(), "a", func(Item) Verdict { return Verdict{Remove: true} })
	if err != nil || n != 500 {
		t.Fatalf("removed %d, %v", n, err)
	}
	if err := q.Ack(running); err != nil {
		t.Errorf("what runs was purged: %v", err)
	}
	if _, ok, err := q.Get(t.Context(), items[1].ID); ok && err == nil {
		if it, _, _ := q.Get(t.Context(), items[1].ID); it.Lane != "a" {
			t.Errorf("got %+v", it)
		}
	}
	for _, l := range q.Lanes() {
		if l.Name == "b" && l.Items != 1 || l.Name == "a" && l.Items > 101 {
			t.Errorf("left is %+v", l)
		}
	}
}

func TestPutFails(t *testing.T) {
	q := open(t, Config{})
	var puts sync.WaitGroup
	for i := range 50 {
		puts.Go(func() {
			lane := "good"
			if i%10 == 0 {
				lane = "bad\x00"
			}
			_, err := q.Put(context.Background(), Item{Lane: lane, Body: []byte("x")})
			if bad := errors.Is(err, state.ErrInvalid); bad != (i%10 == 0) {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	puts.Wait()
	if l := q.Lanes(); len(l) != 1 || l[0].Items != 45 {
		t.Errorf("lanes are %+v", l)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := q.Put(ended, Item{Lane: "good"}); !errors.Is(err, context.Canceled) {
		t.Errorf("a put with an ended context: %v", err)
	}
}
