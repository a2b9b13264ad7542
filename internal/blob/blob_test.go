package blob_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/blob"
	"github.com/firn-run/firn/internal/blob/blobtest"
)

func open(dir string) (blobtest.Store, error) {
	s, err := blob.Open(dir)
	if err != nil {
		return nil, err
	}
	// Whatever a killed process left half-written is gone after Open.
	if left, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(left) != 0 {
		return nil, errors.Join(err, errors.New("unfinished blobs are left"))
	}
	return s, nil
}

func TestMain(m *testing.M) { os.Exit(blobtest.Main(m, open)) }

func TestConformance(t *testing.T) { blobtest.Run(t, open) }

func newStore(t *testing.T) (*blob.Store, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "blobs")
	s, err := blob.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

func put(t *testing.T, s *blob.Store, content string) firn.Digest {
	t.Helper()
	d, _, err := s.Put(t.Context(), strings.NewReader(content), -1)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestLayout(t *testing.T) {
	s, dir := newStore(t)
	d := put(t, s, "hello")
	const want = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	path, err := s.Path(d)
	if err != nil || d != want || path != filepath.Join(dir, "2c", want) {
		t.Error(d, path, err)
	}
	fi, err := os.Stat(path)
	if err != nil || fi.Mode() != 0o400 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	info, err := s.Stat(d)
	if err != nil || info.Digest != d || info.Size != 5 || !info.Stored.Equal(fi.ModTime()) {
		t.Errorf("%+v, %v", info, err)
	}
	if _, err := s.Stat(firn.Digest(strings.Repeat("0", 64))); !errors.Is(err, blob.ErrNotFound) {
		t.Error(err)
	}
}

// TestNothingLeft: a Put that fails leaves no file.
func TestNothingLeft(t *testing.T) {
	s, dir := newStore(t)
	if _, _, err := s.Put(t.Context(), bytes.NewReader(make([]byte, 100)), 99); err == nil {
		t.Fatal("over the limit")
	}
	if left, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
}

// TestCorrupt: bytes that changed on the disk are found, and putting the
// content again repairs them.
func TestCorrupt(t *testing.T) {
	s, _ := newStore(t)
	d := put(t, s, "precious")
	path, err := s.Path(d)
	if err != nil {
		t.Fatal(err)
	}
	for _, rotten := range []string{"precioux", "prec", ""} {
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(rotten), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.Verify(t.Context(), d); !errors.Is(err, blob.ErrCorrupt) {
			t.Errorf("%q: %v", rotten, err)
		}
		put(t, s, "precious")
		if err := s.Verify(t.Context(), d); err != nil {
			t.Error(err)
		}
	}
}

// TestStrangers: files that are not blobs are neither listed nor touched.
func TestStrangers(t *testing.T) {
	s, dir := newStore(t)
	d := put(t, s, "mine")
	for _, name := range []string{"README", "2c/notes", "zz/" + string(d), "00/" + string(d)} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	for info, err := range s.List() {
		if err != nil || info.Digest != d || info.Size != 4 {
			t.Errorf("%+v, %v", info, err)
		}
		n++
	}
	if n != 1 {
		t.Errorf("%d blobs", n)
	}
	if _, err := blob.Open(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "README")); err != nil {
		t.Error(err)
	}
}

func TestOpenFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := blob.Open(file); err == nil {
		t.Error("a file is accepted as a directory")
	}
}

func BenchmarkPut(b *testing.B) {
	s, err := blob.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	content := make([]byte, 1<<20)
	b.SetBytes(int64(len(content)))
	for i := 0; b.Loop(); i++ {
		content[0], content[1], content[2] = byte(i), byte(i>>8), byte(i>>16)
		if _, _, err := s.Put(b.Context(), bytes.NewReader(content), -1); err != nil {
			b.Fatal(err)
		}
	}
}
