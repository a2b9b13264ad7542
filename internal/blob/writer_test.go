package blob

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/firn-run/firn"
)

func openTemp(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// nothingLeft checks that no temporary file is there.
func nothingLeft(t *testing.T, s *Store) {
	t.Helper()
	left, err := os.ReadDir(s.tmp())
	if err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestWriter(t *testing.T) {
	s := openTemp(t)
	want, _, err := s.Put(t.Context(), strings.NewReader("one, two"), -1)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(want); err != nil {
		t.Fatal(err)
	}
	w, err := s.Create()
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"one, ", "two"} {
		if _, err := w.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Commit(firn.Digest(strings.Repeat("0", 64))); !errors.Is(err, ErrMismatch) {
		t.Errorf("another digest: %v", err)
	}
	if got, err := w.Commit(want); err != nil || got != want || w.Size() != 8 {
		t.Errorf("%s, %d bytes, %v", got, w.Size(), err)
	}
	if err := s.Verify(t.Context(), want); err != nil {
		t.Error(err)
	}
	if _, err := w.Commit(want); !errors.Is(err, os.ErrClosed) {
		t.Errorf("committed twice: %v", err)
	}
	if _, err := w.Write([]byte("x")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("written after the commit: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	nothingLeft(t, s)
}

func TestWriterGivenUp(t *testing.T) {
	s := openTemp(t)
	w, err := s.Create()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := w.Commit(""); !errors.Is(err, os.ErrClosed) {
		t.Errorf("committed after the end: %v", err)
	}
	nothingLeft(t, s)
}

// After a write that failed nothing can be committed: the file is not what was
// hashed.
func TestWriterFailed(t *testing.T) {
	s := openTemp(t)
	w, err := s.Create()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.file.Close(); err != nil { // as a full disk would
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Fatal("the write did not fail")
	}
	if _, err := w.Commit(""); err == nil {
		t.Error("committed")
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	nothingLeft(t, s)
}

// Only what has rested is deleted; touching it is as good as putting it again.
func TestDeleteBefore(t *testing.T) {
	s := openTemp(t)
	d, _, err := s.Put(t.Context(), strings.NewReader("content"), -1)
	if err != nil {
		t.Fatal(err)
	}
	name, err := s.Path(d)
	if err != nil {
		t.Fatal(err)
	}
	age := func() {
		t.Helper()
		old := time.Now().Add(-2 * time.Hour)
		if err := os.Chtimes(name, old, old); err != nil {
			t.Fatal(err)
		}
	}
	limit := time.Now().Add(-time.Hour)
	check := func(what string, want bool) {
		t.Helper()
		if gone, err := s.DeleteBefore(d, limit); err != nil || gone != want {
			t.Errorf("%s: deleted %v, %v", what, gone, err)
		}
	}
	check("new", false)
	age()
	if err := s.Touch(d); err != nil {
		t.Fatal(err)
	}
	check("touched", false)
	age()
	if _, _, err := s.Put(t.Context(), strings.NewReader("content"), -1); err != nil {
		t.Fatal(err)
	}
	check("put again", false)
	age()
	check("old", true)
	check("gone", false)
	if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if err := s.Touch(d); !errors.Is(err, ErrNotFound) {
		t.Errorf("touched what is gone: %v", err)
	}
	if _, err := s.DeleteBefore("../x", limit); !errors.Is(err, ErrInvalidDigest) {
		t.Error(err)
	}
	if left, err := filepath.Glob(filepath.Join(s.dir, "*", "*")); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
