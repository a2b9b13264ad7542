// Package statetest is what a store means: Run is the conformance suite that
// every engine of package state passes, with its process killed between the
// steps, and Open gives other packages' tests a store of their own.
package statetest

import (
	"testing"

	"github.com/firn-run/firn/internal/state"
)

// Open returns a store in a temporary directory, closed when the test ends.
func Open(tb testing.TB) *state.Store {
	tb.Helper()
	return OpenIn(tb, tb.TempDir())
}

// OpenIn is Open in a given directory.
func OpenIn(tb testing.TB, dir string) *state.Store {
	tb.Helper()
	d, err := state.OpenDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	s, err := state.Open(tb.Context(), state.Config{Dir: d})
	if err != nil {
		d.Close()
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
		if err := d.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}
