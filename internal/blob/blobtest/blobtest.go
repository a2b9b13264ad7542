// Package blobtest is what a store of blobs means: Run is the conformance
// suite that every implementation of package blob passes, with its process
// killed in the midst of writing.
//
// The test binary plays the process that is killed, so a package that calls
// Run gives it its TestMain:
//
//	func TestMain(m *testing.M) { os.Exit(blobtest.Main(m, open)) }
package blobtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/blob"
)

// Store is what an implementation offers; *blob.Store documents it.
type Store interface {
	Put(ctx context.Context, r io.Reader, limit int64) (firn.Digest, int64, error)
	Open(d firn.Digest) (*os.File, int64, error)
	Verify(ctx context.Context, d firn.Digest) error
	Delete(d firn.Digest) error
	List() iter.Seq2[blob.Info, error]
}

// OpenFunc opens the implementation's store in a directory that only this
// process uses.
type OpenFunc func(dir string) (Store, error)

// Run runs the suite.
func Run(t *testing.T, open OpenFunc) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Store)
	}{
		{"round trip", testRoundTrip},
		{"limit", testLimit},
		{"failing reader", testFailingReader},
		{"context", testContext},
		{"same content", testSameContent},
		{"delete", testDelete},
		{"list", testList},
		{"digests", testDigests},
		{"concurrent", testConcurrent},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := open(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			c.test(t, s)
		})
	}
	t.Run("reopened", func(t *testing.T) { testReopened(t, open) })
	t.Run("kill", func(t *testing.T) { testKill(t, open) })
}

func digest(b []byte) firn.Digest {
	sum := sha256.Sum256(b)
	return firn.Digest(hex.EncodeToString(sum[:]))
}

func put(t *testing.T, s Store, content []byte) firn.Digest {
	t.Helper()
	d, n, err := s.Put(t.Context(), bytes.NewReader(content), int64(len(content)))
	if err != nil || d != digest(content) || n != int64(len(content)) {
		t.Fatalf("Put of %d bytes: %s, %d, %v", len(content), d, n, err)
	}
	return d
}

func get(t *testing.T, s Store, d firn.Digest) []byte {
	t.Helper()
	f, size, err := s.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil || int64(len(b)) != size {
		t.Fatalf("%d bytes of %d: %v", len(b), size, err)
	}
	return b
}

func list(t *testing.T, s Store) []firn.Digest {
	t.Helper()
	var all []firn.Digest
	for info, err := range s.List() {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, info.Digest)
	}
	return all
}

func contents() [][]byte {
	return [][]byte{{}, {0}, []byte("hello"), bytes.Repeat([]byte("0123456789abcdef"), 70_000)}
}

func testRoundTrip(t *testing.T, s Store) {
	for _, c := range contents() {
		d := put(t, s, c)
		if got := get(t, s, d); !bytes.Equal(got, c) {
			t.Errorf("%d bytes came back as %d", len(c), len(got))
		}
		if err := s.Verify(t.Context(), d); err != nil {
			t.Error(err)
		}
	}
	// A reader that gives little at a time, and its end with the last bytes.
	d, _, err := s.Put(t.Context(), iotest.DataErrReader(iotest.OneByteReader(strings.NewReader("slowly"))), -1)
	if err != nil || string(get(t, s, d)) != "slowly" {
		t.Error(err)
	}
	// zip needs to read at any place.
	f, size, err := s.Open(put(t, s, []byte("0123456789")))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 3)
	if _, err := f.ReadAt(b, size-3); err != nil || string(b) != "789" {
		t.Error(string(b), err)
	}
}

func testLimit(t *testing.T, s Store) {
	for _, limit := range []int64{0, 1, 1000, 300_000} {
		content := make([]byte, limit)
		if _, n, err := s.Put(t.Context(), bytes.NewReader(content), limit); err != nil || n != limit {
			t.Errorf("limit %d: %d, %v", limit, n, err)
		}
		before := len(list(t, s))
		// Endless: no more than the limit may be read to find out.
		src := &counting{r: endless{}}
		_, _, err := s.Put(t.Context(), src, limit)
		tooLarge, ok := errors.AsType[*blob.TooLargeError](err)
		if !ok || tooLarge.Limit != limit {
			t.Errorf("limit %d: %v", limit, err)
		}
		if src.n > limit+1 {
			t.Errorf("limit %d: %d bytes were read", limit, src.n)
		}
		if n := len(list(t, s)); n != before {
			t.Errorf("%d blobs, then %d", before, n)
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

type counting struct {
	r io.Reader
	n int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func testFailingReader(t *testing.T, s Store) {
	reason := errors.New("connection reset")
	for _, n := range []int64{0, 10, 1 << 20} {
		_, _, err := s.Put(t.Context(), io.MultiReader(io.LimitReader(endless{}, n), iotest.ErrReader(reason)), -1)
		if !errors.Is(err, reason) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
	if all := list(t, s); len(all) != 0 {
		t.Errorf("blobs %v", all)
	}
}

func testContext(t *testing.T, s Store) {
	ctx, cancel := context.WithCancel(t.Context())
	src := readFunc(func(p []byte) (int, error) {
		cancel()
		return endless{}.Read(p)
	})
	if _, _, err := s.Put(ctx, src, -1); !errors.Is(err, context.Canceled) {
		t.Errorf("Put: %v", err)
	}
	if all := list(t, s); len(all) != 0 {
		t.Errorf("blobs %v", all)
	}
	if err := s.Verify(ctx, put(t, s, []byte("x"))); !errors.Is(err, context.Canceled) {
		t.Errorf("Verify: %v", err)
	}
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

func testSameContent(t *testing.T, s Store) {
	stored := func() time.Time {
		for info, err := range s.List() {
			if err != nil {
				t.Fatal(err)
			}
			return info.Stored
		}
		t.Fatal("nothing is stored")
		return time.Time{}
	}
	before := time.Now().Add(-time.Second) // file systems round
	d := put(t, s, []byte("same"))
	f, _, err := s.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	first := stored()
	if first.Before(before) {
		t.Errorf("stored at %v, before %v", first, before)
	}
	put(t, s, []byte("same"))
	if all := list(t, s); !slices.Equal(all, []firn.Digest{d}) {
		t.Errorf("blobs %v", all)
	}
	if stored().Before(first) {
		t.Error("the second Put made it older")
	}
	if b, err := io.ReadAll(f); string(b) != "same" || err != nil {
		t.Errorf("an open blob was disturbed: %q, %v", b, err)
	}
}

func testDelete(t *testing.T, s Store) {
	d, other := put(t, s, []byte("gone")), put(t, s, []byte("stays"))
	f, _, err := s.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 2 { // the second time it is no error either
		if err := s.Delete(d); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := s.Open(d); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("Open: %v", err)
	}
	if err := s.Verify(t.Context(), d); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("Verify: %v", err)
	}
	if b, err := io.ReadAll(f); string(b) != "gone" || err != nil {
		t.Errorf("an open blob was disturbed: %q, %v", b, err)
	}
	if all := list(t, s); !slices.Equal(all, []firn.Digest{other}) {
		t.Errorf("blobs %v", all)
	}
	put(t, s, []byte("gone"))
}

func testList(t *testing.T, s Store) {
	var want []firn.Digest
	for i := range 300 {
		want = append(want, put(t, s, fmt.Appendf(nil, "%d", i)))
	}
	slices.Sort(want)
	if got := list(t, s); !slices.Equal(got, want) {
		t.Errorf("%d blobs, want %d, in order", len(got), len(want))
	}
	n := 0
	for info, err := range s.List() {
		if err != nil || info.Size < 1 || info.Size > 3 {
			t.Errorf("%+v, %v", info, err)
		}
		if n++; n == 7 {
			break
		}
	}
	// A collector deletes while it lists.
	for info, err := range s.List() {
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Delete(info.Digest); err != nil {
			t.Fatal(err)
		}
	}
	if got := list(t, s); len(got) != 0 {
		t.Errorf("%d blobs are left", len(got))
	}
}

// testDigests: what is no digest never becomes a file's name.
func testDigests(t *testing.T, s Store) {
	good := string(put(t, s, []byte("x")))
	for _, bad := range []string{"", "ab", "../../etc/passwd", strings.ToUpper(good), good + "0", good[:63], good[:63] + "g",
		"../" + good[:61], good[:62] + "/x", strings.Repeat("é", 32), strings.Repeat("x", 1<<16)} {
		d := firn.Digest(bad)
		_, _, err1 := s.Open(d)
		for _, err := range []error{err1, s.Verify(t.Context(), d), s.Delete(d)} {
			if !errors.Is(err, blob.ErrInvalidDigest) {
				t.Errorf("%.80q: %v", bad, err)
			} else if len(err.Error()) > 500 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		}
	}
}

// testConcurrent: many put, open and delete the same few blobs.
func testConcurrent(t *testing.T, s Store) {
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 20 {
				content := bytes.Repeat([]byte{byte((i + j) % 3)}, 10_000)
				d, _, err := s.Put(t.Context(), bytes.NewReader(content), 10_000)
				if err != nil {
					t.Error(err)
					return
				}
				if err := s.Verify(t.Context(), d); err != nil && !errors.Is(err, blob.ErrNotFound) {
					t.Error(err)
				}
				if j%5 == 0 {
					if err := s.Delete(d); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
}

func testReopened(t *testing.T, open OpenFunc) {
	dir := t.TempDir()
	var want []firn.Digest
	for _, c := range contents() {
		s, err := open(dir)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, put(t, s, c))
		slices.Sort(want)
		if got := list(t, s); !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
}
