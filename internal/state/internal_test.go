package state

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestWeakSettings: a database that does not confirm its settings is refused.
func TestWeakSettings(t *testing.T) {
	for _, weak := range []setting{{"synchronous", "1"}, {"synchronous", "0"}, {"journal_mode", "delete"}, {"fullfsync", "0"}} {
		settings := durability()
		for i := range settings {
			if settings[i].name == weak.name {
				settings[i] = weak
			}
		}
		e, err := openEngine(t.Context(), filepath.Join(t.TempDir(), "db"), 0, settings)
		if err == nil {
			e.close()
			t.Errorf("%v is accepted", weak)
			continue
		}
		if !strings.Contains(err.Error(), weak.name+` is "`+weak.value+`"`) {
			t.Errorf("%v: %v", weak, err)
		}
	}
}

// TestMigrate: each step runs once, with its number, and a step that fails
// changes nothing.
func TestMigrate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	e, err := openEngine(t.Context(), path, 0, durability())
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	format := func() (n int) {
		err := e.write.QueryRow(`select value from meta where name = 'format'`).Scan(&n)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			t.Fatal(err)
		}
		return n
	}
	steps := []string{`create table one (a BYTES)`, `create table two (a bigint); insert into two values (1)`}
	for n := 1; n <= 2; n++ {
		for range 2 { // the second time nothing is left to do
			if err := migrate(t.Context(), e.write, path, steps[:n]); err != nil || format() != n {
				t.Fatalf("format %d, %v", format(), err)
			}
		}
	}
	bad := append(steps, `create table three (a bigint); insert into nowhere values (1)`)
	err = migrate(t.Context(), e.write, path, bad)
	if err == nil || !strings.Contains(err.Error(), "to format 3") || format() != 2 {
		t.Fatalf("format %d, %v", format(), err)
	}
	if _, err := e.write.Exec(`select * from three`); err == nil {
		t.Error("half of a failed step was kept")
	}
	if _, ok := errors.AsType[*NewerFormatError](migrate(t.Context(), e.write, path, steps[:1])); !ok {
		t.Error("an older firn runs on a newer database")
	}
}

// newTestStore is a store whose writer is within reach.
func newTestStore(t *testing.T, log *slog.Logger) *Store {
	t.Helper()
	d, err := OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Config{Dir: d, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), d.Close()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestGroup: Updates that wait while one runs share its commit, and one of
// them that waits alone does not.
func TestGroup(t *testing.T) {
	s := newTestStore(t, nil)
	const n = 10
	var groups sync.Map
	inside, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	note := func(turns chan *group, fn func(*txn) error) {
		wg.Go(func() {
			var g *group
			select {
			case g = <-turns:
			case <-t.Context().Done():
				return
			}
			if err := s.writer.turn(t.Context(), g, fn); err != nil {
				t.Error(err)
			}
			<-g.done
			if g.err != nil {
				t.Error(g.err)
			}
			groups.Store(g, g.ops)
		})
	}
	note(s.writer.turns, func(*txn) error { close(inside); <-release; return nil })
	<-inside
	for range n {
		note(s.writer.turns, func(*txn) error { return nil })
	}
	note(s.writer.alone, func(*txn) error { return nil })
	close(release)
	wg.Wait()
	total, alone := 0, 0
	groups.Range(func(k, v any) bool {
		total += v.(int)
		if k.(*group).alone {
			alone += v.(int)
		}
		return true
	})
	if total != n+2 || alone != 1 {
		t.Errorf("%d turns, %d of them alone", total, alone)
	}
}

// TestLostGroup: when the database gives up a shared transaction, those who
// were in it are run again, alone, and nobody is told of what did not happen.
func TestLostGroup(t *testing.T) {
	s := newTestStore(t, nil)
	ctx := t.Context()
	runs := 0
	inside, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		err := s.Update(ctx, func(tx Tx) error {
			runs++
			if runs == 1 {
				close(inside)
				<-release
			}
			_, err := tx.PutIf("k", "innocent", nil, 0)
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-inside
	wg.Go(func() {
		// This conflict rests on a write that is lost in the end; the second
		// time there may be none.
		err := s.Update(ctx, func(tx Tx) error {
			if _, err := tx.PutIf("k", "second", nil, 0); err != nil {
				return err
			}
			_, _ = s.writer.exec(context.Background(), `rollback`) // as SQLite does when it is full
			return errors.New("no room")
		})
		if err == nil || errors.Is(err, ErrConflict) || errors.Is(err, errShared) {
			t.Errorf("the culprit got %v", err)
		}
	})
	close(release)
	wg.Wait()
	err := s.View(ctx, func(tx Tx) error {
		if _, ok, err := tx.Get("k", "innocent"); !ok || err != nil {
			t.Errorf("innocent: %t, %v", ok, err)
		}
		if _, ok, err := tx.Get("k", "second"); ok || err != nil {
			t.Errorf("culprit: %t, %v", ok, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestOverlooked: an engine's error that the function swallows fails the
// Update all the same.
func TestOverlooked(t *testing.T) {
	s := newTestStore(t, nil)
	err := s.Update(t.Context(), func(tx Tx) error {
		_, _ = tx.Put("k", "a", nil)
		_, _ = tx.t.exec("test", `insert into nowhere values (1)`)
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Error(err)
	}
	_ = s.View(t.Context(), func(tx Tx) error {
		if _, ok, _ := tx.Get("k", "a"); ok {
			t.Error("half of it was kept")
		}
		return nil
	})
}

// TestBroken: after a sync failed nothing is promised any more.
func TestBroken(t *testing.T) {
	s := newTestStore(t, nil)
	err := s.Update(t.Context(), func(tx Tx) error {
		s.writer.broken = errors.New("the disk could not be synced")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		err := s.Update(t.Context(), func(tx Tx) error { _, err := tx.Put("k", "a", nil); return err })
		if err == nil || !strings.Contains(err.Error(), "synced") {
			t.Error(err)
		}
	}
	if err := s.View(t.Context(), func(tx Tx) error { return nil }); err != nil {
		t.Errorf("reading must go on: %v", err)
	}
}

// TestSlowTurn: a function that keeps the writer is named in the log.
func TestSlowTurn(t *testing.T) {
	e, err := openEngine(t.Context(), filepath.Join(t.TempDir(), "db"), 0, durability())
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	if err := migrate(t.Context(), e.write, e.path, migrations()); err != nil {
		t.Fatal(err)
	}
	warned := make(chan struct{})
	log := slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		if bytes.Contains(p, []byte("keeps the writer waiting")) {
			close(warned)
		}
		return len(p), nil
	}), nil))
	w, err := newWriter(t.Context(), e.write, writerConfig{
		log: log, keep: 10, slow: time.Millisecond, committed: func() {},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.update(t.Context(), func(*txn) error { <-warned; return nil }); err != nil {
		t.Error(err)
	}
	if err := w.close(); err != nil {
		t.Error(err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
