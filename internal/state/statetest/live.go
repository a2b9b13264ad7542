package statetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/firn-run/firn/internal/state"
)

// live are the contracts between concurrent callers.
func live() []struct {
	name string
	test func(*testing.T, *state.Store)
} {
	return []struct {
		name string
		test func(*testing.T, *state.Store)
	}{
		{"counter", testCounter},
		{"snapshot", testSnapshot},
		{"neighbours", testNeighbours},
		{"watch wakes", testWatchWakes},
		{"watch ends", testWatchEnds},
		{"watch follows", testWatchFollows},
		{"lease race", testLeaseRace},
		{"panic", testPanic},
	}
}

// testCounter: concurrent Updates are as if one after the other, and so are
// loops of View and PutIf.
func testCounter(t *testing.T, s *state.Store) {
	const workers, each = 16, 25
	read := func(tx state.Tx) (int, state.Revision, error) {
		r, ok, err := tx.Get("k", "n")
		if err != nil || !ok {
			return 0, 0, err
		}
		n, err := strconv.Atoi(string(r.Value))
		return n, r.Revision, err
	}
	inside := func() error {
		return s.Update(t.Context(), func(tx state.Tx) error {
			n, _, err := read(tx)
			if err != nil {
				return err
			}
			_, err = tx.Put("k", "n", []byte(strconv.Itoa(n+1)))
			return err
		})
	}
	optimistic := func() error {
		for {
			var n int
			var rev state.Revision
			if err := s.View(t.Context(), func(tx state.Tx) (err error) { n, rev, err = read(tx); return err }); err != nil {
				return err
			}
			err := s.Update(t.Context(), func(tx state.Tx) error {
				_, err := tx.PutIf("k", "n", []byte(strconv.Itoa(n+1)), rev)
				return err
			})
			if !errors.Is(err, state.ErrConflict) {
				return err
			}
		}
	}
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			op := inside
			if i%2 == 0 {
				op = optimistic
			}
			for range each {
				if err := op(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := want(t.Context(), s, "k", "n", strconv.Itoa(workers*each)); err != nil {
		t.Error(err)
	}
}

// testSnapshot: a View sees one moment.
func testSnapshot(t *testing.T, s *state.Store) {
	if _, err := put(t.Context(), s, "k", "a", "old"); err != nil {
		t.Fatal(err)
	}
	err := s.View(t.Context(), func(tx state.Tx) error {
		before, err := tx.Revision()
		if err != nil {
			return err
		}
		err = s.Update(t.Context(), func(tx state.Tx) error {
			_, err1 := tx.Put("k", "a", []byte("new"))
			_, err2 := tx.Put("k", "b", []byte("new"))
			return errors.Join(err1, err2)
		})
		if err != nil {
			return err
		}
		after, err := tx.Revision()
		if before != after {
			t.Errorf("revision went from %d to %d inside a View", before, after)
		}
		return errors.Join(err, wantTx(tx, "k", "a", "old"), wantTx(tx, "k", "b", ""), want(t.Context(), s, "k", "b", "new"))
	})
	if err != nil {
		t.Error(err)
	}
}

// testNeighbours: an Update that fails takes no other with it, whatever
// commit they share.
func testNeighbours(t *testing.T, s *state.Store) {
	const n = 64
	var wg sync.WaitGroup
	reason := errors.New("not this one")
	for i := range n {
		wg.Go(func() {
			err := s.Update(t.Context(), func(tx state.Tx) error {
				if _, err := tx.Put("k", fmt.Sprintf("%02d", i), []byte("x")); err != nil {
					return err
				}
				if i%3 == 0 {
					return reason
				}
				return nil
			})
			if i%3 == 0 && !errors.Is(err, reason) || i%3 != 0 && err != nil {
				t.Errorf("Update %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	for i := range n {
		value := "x"
		if i%3 == 0 {
			value = ""
		}
		if err := want(t.Context(), s, "k", fmt.Sprintf("%02d", i), value); err != nil {
			t.Error(err)
		}
	}
}

// testWatchWakes: a waiting Watch gets each commit without polling for it.
func testWatchWakes(t *testing.T, s *state.Store) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	seen := make(chan string)
	go func() {
		defer close(seen)
		for c, err := range s.Watch(ctx, 0) {
			if err != nil {
				return
			}
			seen <- string(c.Value)
		}
	}()
	for i := range 50 {
		v := strconv.Itoa(i)
		if _, err := put(ctx, s, "k", "a", v); err != nil {
			t.Fatal(err)
		}
		if got := <-seen; got != v {
			t.Fatalf("watch yields %q after the write of %q", got, v)
		}
	}
	cancel()
	for range seen {
		t.Error("a change that nobody made")
	}
}

// testWatchEnds: with its context, also while it waits.
func testWatchEnds(t *testing.T, s *state.Store) {
	if _, err := put(t.Context(), s, "k", "a", "v"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var end error
	n := 0
	for _, err := range s.Watch(ctx, 0) {
		if err != nil {
			end = err
			continue // it ends by itself
		}
		n++
		cancel()
	}
	if n != 1 || !errors.Is(end, context.Canceled) {
		t.Errorf("%d changes, then %v", n, end)
	}
}

// testWatchFollows: whoever watches from 0 while others write ends with what
// is stored, and never goes back in revisions.
func testWatchFollows(t *testing.T, s *state.Store) {
	const writers, each = 8, 40
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				err := s.Update(t.Context(), func(tx state.Tx) error {
					if i%5 == 4 {
						return tx.Delete("k", strconv.Itoa((w+i)%10))
					}
					_, err := tx.Put("k", strconv.Itoa((w*i)%10), []byte(fmt.Sprintf("%d.%d", w, i)))
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() {
		wg.Wait()
		if _, err := put(t.Context(), s, "k", "end", "!"); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	got := map[string]string{}
	var last state.Revision
	for c, err := range s.Watch(ctx, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if c.Revision <= last {
			t.Fatalf("revision %d after %d", c.Revision, last)
		}
		last = c.Revision
		if c.Deleted {
			delete(got, c.Key)
		} else {
			got[c.Key] = string(c.Value)
		}
		if c.Key == "end" {
			break
		}
	}
	stored := map[string]string{}
	err := s.View(ctx, func(tx state.Tx) error {
		list, err := tx.List("k", "", "", 0)
		for _, r := range list {
			stored[r.Key] = string(r.Value)
		}
		return err
	})
	if err != nil || !maps.Equal(got, stored) {
		t.Errorf("watch leads to %v, stored is %v (%v)", got, stored, err)
	}
}

// testLeaseRace: of many who ask at once one gets the lease.
func testLeaseRace(t *testing.T, s *state.Store) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	holders := 0
	for range 20 {
		wg.Go(func() {
			_, err := s.Lease(t.Context(), "job", time.Hour)
			if err != nil && !errors.Is(err, state.ErrLeaseHeld) {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				holders++
			}
		})
	}
	wg.Wait()
	if holders != 1 {
		t.Errorf("%d got the lease", holders)
	}
}

// testPanic: a function that does not return leaves nothing of its own and
// the store as it was, also when only its goroutine ends.
func testPanic(t *testing.T, s *state.Store) {
	func() {
		defer func() {
			if recover() != "boom" {
				t.Error("the panic did not reach the caller")
			}
		}()
		_ = s.Update(t.Context(), func(tx state.Tx) error {
			_, _ = tx.Put("k", "p", []byte("x"))
			panic("boom")
		})
	}()
	func() {
		defer func() { _ = recover() }()
		_ = s.View(t.Context(), func(state.Tx) error { panic("boom") })
	}()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Update(t.Context(), func(tx state.Tx) error {
			_, _ = tx.Put("k", "g", []byte("x"))
			runtime.Goexit() // as FailNow does
			return nil
		})
	}()
	<-ended
	if _, err := put(t.Context(), s, "k", "after", "x"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(want(t.Context(), s, "k", "p", ""), want(t.Context(), s, "k", "g", "")); err != nil {
		t.Error(err)
	}
}
