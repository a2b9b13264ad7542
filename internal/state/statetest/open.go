package statetest

import (
	"context"
	"errors"
	"testing"

	"github.com/firn-run/firn/internal/state"
)

// OpenFunc opens an engine's store in a directory that only this process
// uses, and returns how to end both.
type OpenFunc func(ctx context.Context, dir string) (*state.Store, func() error, error)

// SQLite is the OpenFunc of the embedded engine.
func SQLite(ctx context.Context, dir string) (*state.Store, func() error, error) {
	d, err := state.OpenDir(dir)
	if err != nil {
		return nil, nil, err
	}
	s, err := state.Open(ctx, state.Config{Dir: d})
	if err != nil {
		return nil, nil, errors.Join(err, d.Close())
	}
	return s, func() error { return errors.Join(s.Close(), d.Close()) }, nil
}

// Open returns a store in a temporary directory, closed when the test ends.
func Open(tb testing.TB) *state.Store {
	tb.Helper()
	return OpenIn(tb, tb.TempDir())
}

// OpenIn is Open in a given directory.
func OpenIn(tb testing.TB, dir string) *state.Store {
	tb.Helper()
	s, end, err := SQLite(tb.Context(), dir)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := end(); err != nil {
			tb.Error(err)
		}
	})
	return s
}
