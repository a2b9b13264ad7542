package image

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firn-run/firn"
)

// blobDir serves archives from a directory and counts how often.
type blobDir struct {
	dir   string
	opens atomic.Int32
}

func (b *blobDir) Open(d firn.Digest) (*os.File, int64, error) {
	b.opens.Add(1)
	f, err := os.Open(filepath.Join(b.dir, string(d)))
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

func (b *blobDir) put(t testing.TB, data []byte) firn.Digest {
	t.Helper()
	sum := sha256.Sum256(data)
	d := firn.Digest(hex.EncodeToString(sum[:]))
	if err := os.WriteFile(filepath.Join(b.dir, string(d)), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return d
}

func openStore(t testing.TB, dir string, blobs Blobs) *Store {
	t.Helper()
	s, err := Open(Config{Dir: dir, Blobs: blobs, Logger: slog.New(slog.DiscardHandler)})
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

func newStore(t testing.TB) (*Store, *blobDir) {
	t.Helper()
	blobs := &blobDir{dir: t.TempDir()}
	return openStore(t, filepath.Join(t.TempDir(), "images"), blobs), blobs
}

// listing describes a tree: mode, content or target, by path.
func listing(t testing.TB, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text := info.Mode().String()
		switch {
		case info.Mode().Type() == fs.ModeSymlink:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			text = "-> " + target
		case info.Mode().IsRegular():
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			text += " " + string(data)
		}
		got[strings.TrimPrefix(p, dir+"/")] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestFunction(t *testing.T) {
	old := syscall.Umask(0o077) // a strict operator must not make code unreadable
	defer syscall.Umask(old)
	s, blobs := newStore(t)
	d := blobs.put(t, makeZip(t,
		item{name: "bootstrap", body: "#!/bin/sh\n", mode: 0o755},
		item{name: "deep/er/data", body: "data", mode: 0o640},
		item{name: "deep/", mode: fs.ModeDir | 0o700},
		item{name: "setuid", body: "s", mode: fs.ModeSetuid | 0o755},
		item{name: "read-only", body: "r", mode: 0o444},
		item{name: "windows", body: "w", edit: func(h *zip.FileHeader) { h.CreatorVersion = 0; h.ExternalAttrs = 0x20 }},
		item{name: "no-attributes", body: "n", edit: func(h *zip.FileHeader) { h.ExternalAttrs = 0 }},
		item{name: "win-dir", edit: func(h *zip.FileHeader) { h.CreatorVersion = 0; h.ExternalAttrs = 0x10; h.Method = zip.Store }},
		link("deep/link", "er/data"),
		item{name: "dir\xff/\xfe", body: "not UTF-8"},
	))
	dir, err := s.Function(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"bootstrap":     "-rwxr-xr-x #!/bin/sh\n",
		"deep":          "drwxr-xr-x",
		"deep/er":       "drwxr-xr-x",
		"deep/er/data":  "-rw-r----- data",
		"deep/link":     "-> er/data",
		"setuid":        "-rwxr-xr-x s",
		"read-only":     "-r--r--r-- r",
		"windows":       "-rw-r--r-- w",
		"no-attributes": "-rw-r--r-- n",
		"win-dir":       "drwxr-xr-x",
		"dir\xff":       "drwxr-xr-x",
		"dir\xff/\xfe":  "-rw-r--r-- not UTF-8",
	}
	if diff := cmp.Diff(want, listing(t, dir)); diff != "" {
		t.Error(diff)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%s: %v, %v; want 0755, for sandboxes without privileges", dir, info.Mode(), err)
	}
	if info, err := os.Stat(filepath.Join(dir, "bootstrap")); err != nil || !info.ModTime().Equal(testTime) {
		t.Errorf("time %v, %v; want %v", info.ModTime(), err, testTime)
	}
}

func TestFunctionOnceForAll(t *testing.T) {
	s, blobs := newStore(t)
	d := blobs.put(t, bomb(t, 8<<20))
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			dir, err := s.Function(t.Context(), d)
			if err != nil {
				t.Error(err)
				return
			}
			if info, err := os.Stat(filepath.Join(dir, "zeros-0")); err != nil || info.Size() != 8<<20 {
				t.Errorf("an incomplete directory was handed out: %v", err)
			}
		})
	}
	group.Wait()
	if n := blobs.opens.Load(); n != 1 {
		t.Errorf("unpacked %d times", n)
	}
	again := openStore(t, s.dir, blobs)
	if _, err := again.Function(t.Context(), d); err != nil || blobs.opens.Load() != 1 {
		t.Errorf("after opening again: %v, unpacked %d times", err, blobs.opens.Load())
	}
}

// A caller that gives up does not take the others' work with it.
func TestFunctionCancelled(t *testing.T) {
	s, blobs := newStore(t)
	d := blobs.put(t, bomb(t, 64<<20))
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error, 1)
	go func() {
		_, err := s.Function(ctx, d)
		gaveUp <- err
	}()
	cancel()
	if err := <-gaveUp; err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
	if _, err := s.Function(t.Context(), d); err != nil {
		t.Error(err)
	}
	if n := blobs.opens.Load(); n != 1 {
		t.Errorf("unpacked %d times", n)
	}
}

func TestFunctionErrors(t *testing.T) {
	s, blobs := newStore(t)
	s.limit = 1 << 20
	unknown := firn.Digest(strings.Repeat("0", 64))
	if _, err := s.Function(t.Context(), unknown); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("unknown digest: %v", err)
	}
	for _, d := range []firn.Digest{"", "../../etc", firn.Digest(strings.Repeat("A", 64)), "0123"} {
		if dir, err := s.Function(t.Context(), d); err == nil {
			t.Errorf("digest %q: %s", d, dir)
		}
		if dir, err := s.Layers(t.Context(), []firn.Digest{d, d}); err == nil {
			t.Errorf("layer %q: %s", d, dir)
		}
	}
	for name, data := range map[string][]byte{
		"no zip":      []byte("no zip"),
		"too large":   bomb(t, 600<<10, 600<<10),
		"late damage": append(makeZip(t, item{name: "a", body: "fine"})[:20], 'x'),
		"escape":      makeZip(t, item{name: "a"}, item{name: "../b"}),
	} {
		_, err := s.Function(t.Context(), blobs.put(t, data))
		if firn.KindOf(err) != firn.InvalidParameterValue {
			t.Errorf("%s: %v, want a Fault", name, err)
		}
	}
	left, err := s.names()
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestClosed(t *testing.T) {
	s, blobs := newStore(t)
	d := blobs.put(t, makeZip(t, item{name: "x"}))
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Function(t.Context(), d); !errors.Is(err, ErrClosed) {
		t.Errorf("Function: %v", err)
	}
	if _, err := s.Sweep(t.Context(), Live{}); !errors.Is(err, ErrClosed) {
		t.Errorf("Sweep: %v", err)
	}
}

// After another boot a directory is counted before it is used: a crash of the
// machine may have left short files.
func TestDamageAfterReboot(t *testing.T) {
	s, blobs := newStore(t)
	d := blobs.put(t, makeZip(t, item{name: "whole", body: "whole"}, item{name: "other", body: "other"}))
	dir, err := s.Function(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	reboot := func() *Store {
		t.Helper()
		file := filepath.Join(filepath.Dir(dir), markerName)
		var m marker
		data, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(data, &m)
		}
		if err != nil {
			t.Fatal(err)
		}
		m.BootID = "another"
		if data, err = json.Marshal(m); err == nil {
			err = os.WriteFile(file, data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		return openStore(t, s.dir, blobs)
	}
	if _, err := reboot().Function(t.Context(), d); err != nil || blobs.opens.Load() != 1 {
		t.Errorf("a whole directory: %v, unpacked %d times", err, blobs.opens.Load())
	}
	if err := os.Truncate(filepath.Join(dir, "whole"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := reboot().Function(t.Context(), d); err != nil || blobs.opens.Load() != 2 {
		t.Errorf("a damaged directory: %v, unpacked %d times", err, blobs.opens.Load())
	}
	if got := listing(t, dir)["whole"]; got != "-rw-r--r-- whole" {
		t.Errorf("after repair: %q", got)
	}
	if err := os.Remove(filepath.Join(filepath.Dir(dir), markerName)); err != nil {
		t.Fatal(err)
	}
	if _, err := openStore(t, s.dir, blobs).Function(t.Context(), d); err != nil || blobs.opens.Load() != 3 {
		t.Errorf("without a marker: %v, unpacked %d times", err, blobs.opens.Load())
	}
}
