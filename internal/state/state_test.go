package state_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firn-run/firn/internal/state"
)

// open opens a store with the given settings in dir.
func open(t *testing.T, dir string, cfg state.Config) *state.Store {
	t.Helper()
	d, err := state.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	cfg.Dir = d
	s, err := state.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func put(s *state.Store, key string, value []byte) error {
	return s.Update(context.Background(), func(tx state.Tx) error {
		_, err := tx.Put("k", key, value)
		return err
	})
}

func exists(t *testing.T, s *state.Store, key string) bool {
	t.Helper()
	var ok bool
	err := s.View(t.Context(), func(tx state.Tx) (err error) {
		_, ok, err = tx.Get("k", key)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

// TestDatabaseFull: a write that does not fit fails, what was there stays,
// and the store goes on when there is room.
func TestDatabaseFull(t *testing.T) {
	s := open(t, t.TempDir(), state.Config{MaxBytes: 1 << 20})
	value := bytes.Repeat([]byte("x"), 32<<10)
	n := 0
	for ; n < 1000; n++ {
		err := put(s, fmt.Sprintf("%03d", n), value)
		if errors.Is(err, state.ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if n < 10 || n > 40 {
		t.Fatalf("full after %d values of 32 KiB", n)
	}
	for i := range n {
		if !exists(t, s, fmt.Sprintf("%03d", i)) {
			t.Fatalf("value %d is gone", i)
		}
	}
	if exists(t, s, fmt.Sprintf("%03d", n)) {
		t.Fatal("the value that failed is there")
	}

	// Many at once, of which those that are small still fit: a neighbour
	// that fills the database takes nobody with it.
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			if i%4 == 0 {
				if err := put(s, fmt.Sprintf("big%d", i), value); !errors.Is(err, state.ErrFull) {
					t.Errorf("big: %v", err)
				}
			} else if err := put(s, fmt.Sprintf("small%d", i), []byte("x")); err != nil {
				t.Errorf("small: %v", err)
			}
		})
	}
	wg.Wait()

	err := s.Update(t.Context(), func(tx state.Tx) error { return tx.Delete("k", "000") })
	if err != nil {
		t.Fatal(err)
	}
	if err := put(s, "again", value); err != nil {
		t.Fatal(err)
	}
}

func TestCompacted(t *testing.T) {
	s := open(t, t.TempDir(), state.Config{KeepRevisions: 16})
	last := func() (rev state.Revision) {
		err := s.View(t.Context(), func(tx state.Tx) (err error) { rev, err = tx.Revision(); return err })
		if err != nil {
			t.Fatal(err)
		}
		return rev
	}
	first := func(since state.Revision) (state.Change, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		for c, err := range s.Watch(ctx, since) {
			return c, err
		}
		t.Fatal("Watch ends without a word")
		return state.Change{}, nil
	}
	if err := put(s, "a", nil); err != nil {
		t.Fatal(err)
	}
	old := last()
	// Writes alone forget nothing: the log of writes is the records.
	for range 100 {
		if err := put(s, "b", nil); err != nil {
			t.Fatal(err)
		}
	}
	if c, err := first(old); err != nil || c.Key != "b" {
		t.Fatalf("%+v, %v", c, err)
	}
	for i := range 40 {
		key := fmt.Sprint("gone", i)
		if err := put(s, key, nil); err != nil {
			t.Fatal(err)
		}
		if err := s.Update(t.Context(), func(tx state.Tx) error { return tx.Delete("k", key) }); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := first(old); !errors.Is(err, state.ErrCompacted) {
		t.Fatalf("Watch from %d of %d: %v", old, last(), err)
	}
	if c, err := first(0); err != nil || c.Key != "a" {
		t.Fatalf("%+v, %v", c, err)
	}
	if c, err := first(last() - 10); err != nil || !c.Deleted {
		t.Fatalf("%+v, %v", c, err)
	}
}

// clock is a settable time.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func TestLeaseExpires(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	c := &clock{now: time.Unix(1_700_000_000, 0)}
	s := open(t, dir, state.Config{Now: c.Now, Node: "node-7"})
	fence := func(e state.Epoch) error {
		return s.Update(ctx, func(tx state.Tx) error { return tx.Fence("job", e) })
	}
	one, err := s.Lease(ctx, "job", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	c.add(time.Minute - time.Millisecond)
	_, err = s.Lease(ctx, "job", time.Minute)
	if !errors.Is(err, state.ErrLeaseHeld) || !strings.Contains(err.Error(), `"job" by node-7 until 2023-11-14T22:14:20Z`) {
		t.Fatalf("early: %v", err)
	}
	if err := fence(one); err != nil {
		t.Fatal(err)
	}
	c.add(time.Millisecond)
	if err := fence(one); !errors.Is(err, state.ErrLeaseLost) {
		t.Fatalf("fence of an expired lease: %v", err)
	}
	if err := s.RenewLease(ctx, "job", one, time.Minute); err != nil {
		t.Fatalf("renewal before anyone took it: %v", err)
	}
	c.add(time.Minute)
	two, err := s.Lease(ctx, "job", time.Minute)
	if err != nil || two <= one {
		t.Fatal(two, err)
	}
	if err := s.RenewLease(ctx, "job", one, time.Minute); !errors.Is(err, state.ErrLeaseLost) {
		t.Fatalf("renewal after another took it: %v", err)
	}
	if err := errors.Join(fence(two), s.RenewLease(ctx, "job", two, time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lease(ctx, "job", 0); err == nil {
		t.Error("a lease of no time")
	}
}

// TestLeaseEndsWithOwner: the directory's lock proves that the holders of a
// former run are gone, so nobody waits for their time to pass.
func TestLeaseEndsWithOwner(t *testing.T) {
	dir := t.TempDir()
	var epochs []state.Epoch
	for range 2 {
		d, err := state.OpenDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		s, err := state.Open(t.Context(), state.Config{Dir: d})
		if err != nil {
			t.Fatal(err)
		}
		e, err := s.Lease(t.Context(), "job", time.Hour)
		if err := errors.Join(err, s.Close(), d.Close()); err != nil {
			t.Fatal(err)
		}
		epochs = append(epochs, e)
	}
	if epochs[1] <= epochs[0] {
		t.Error(epochs)
	}
}

func TestClose(t *testing.T) {
	d, err := state.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	s, err := state.Open(t.Context(), state.Config{Dir: d})
	if err != nil {
		t.Fatal(err)
	}
	if err := put(s, "a", nil); err != nil {
		t.Fatal(err)
	}
	watched := make(chan error, 1)
	started := make(chan struct{})
	go func() {
		for _, err := range s.Watch(context.Background(), 0) {
			if err != nil {
				watched <- err
				return
			}
			close(started)
		}
	}()
	<-started
	// A View that is under way keeps its snapshot to the end.
	inView, release, viewed := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		viewed <- s.View(context.Background(), func(tx state.Tx) error {
			close(inView)
			<-release
			_, ok, err := tx.Get("k", "a")
			if !ok {
				err = errors.Join(err, errors.New("record is missing"))
			}
			return err
		})
	}()
	<-inView
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	if err := <-watched; !errors.Is(err, state.ErrClosed) {
		t.Errorf("Watch ended with %v", err)
	}
	if err := put(s, "b", nil); !errors.Is(err, state.ErrClosed) {
		t.Errorf("Update after Close: %v", err)
	}
	select {
	case err := <-closed:
		t.Errorf("Close did not wait for the View: %v", err)
	default:
	}
	close(release)
	if err := errors.Join(<-viewed, <-closed, s.Close()); err != nil {
		t.Error(err)
	}
	if err := s.View(t.Context(), func(state.Tx) error { return nil }); !errors.Is(err, state.ErrClosed) {
		t.Errorf("View after Close: %v", err)
	}
}

// TestViewContext: a context that ends in the middle ends the View's reads,
// and the connection serves others afterwards.
func TestViewContext(t *testing.T) {
	s := open(t, t.TempDir(), state.Config{})
	for range 50 {
		ctx, cancel := context.WithCancel(t.Context())
		err := s.View(ctx, func(tx state.Tx) error {
			if _, _, err := tx.Get("k", "a"); err != nil {
				return err
			}
			cancel()
			_, _, err := tx.Get("k", "a")
			return err
		})
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if exists(t, s, "a") {
			t.Fatal("a record that nobody made")
		}
	}
}

// TestPathNames: a data directory may have any name.
func TestPathNames(t *testing.T) {
	for _, name := range []string{"with space", "a?b=c#d", "100%25", "ünïcode", "a&_pragma=synchronous(0)"} {
		dir := filepath.Join(t.TempDir(), name)
		s := open(t, dir, state.Config{})
		if err := put(s, "a", nil); err != nil {
			t.Fatal(err)
		}
		fi, err := os.Stat(filepath.Join(dir, "state.db"))
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode().Perm() != 0o600 {
			t.Errorf("database has mode %v", fi.Mode())
		}
	}
}

// TestLogStaysSmall: the write-ahead log is folded back on the way.
func TestLogStaysSmall(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, state.Config{})
	value := make([]byte, 1<<20)
	for i := range 64 {
		if err := put(s, fmt.Sprint(i%4), value); err != nil {
			t.Fatal(err)
		}
	}
	fi, err := os.Stat(filepath.Join(dir, "state.db-wal"))
	if err != nil {
		t.Fatal(err)
	}
	if fi.Size() > 24<<20 {
		t.Errorf("64 MiB of writes left a log of %d bytes", fi.Size())
	}
}

func TestNewerFormat(t *testing.T) {
	dir := t.TempDir()
	d, err := state.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	s, err := state.Open(t.Context(), state.Config{Dir: d})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`update meta set value = 99 where name = 'format'`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = state.Open(t.Context(), state.Config{Dir: d})
	newer, ok := errors.AsType[*state.NewerFormatError](err)
	if !ok || newer.Found != 99 {
		t.Fatal(err)
	}
	t.Log(err)
}

func TestNotADatabase(t *testing.T) {
	d, err := state.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	path := filepath.Join(d.Path(), "state.db")
	if err := os.WriteFile(path, bytes.Repeat([]byte("not a database"), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = state.Open(t.Context(), state.Config{Dir: d})
	if err == nil || !strings.Contains(err.Error(), path) {
		t.Fatal(err)
	}
}
