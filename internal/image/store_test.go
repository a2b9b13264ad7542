package image

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

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

func TestLayers(t *testing.T) {
	s, blobs := newStore(t)
	layers := []firn.Digest{
		blobs.put(t, makeZip(t,
			item{name: "both", body: "1"},
			item{name: "only-1", body: "1", mode: 0o600},
			item{name: "dir/1", body: "1"},
			item{name: "becomes-file/deep/x", body: "1"},
			item{name: "becomes-dir", body: "1"},
			link("becomes-real", "dir"),
			link("link", "only-1"),
		)),
		blobs.put(t, makeZip(t,
			item{name: "both", body: "2", mode: 0o755},
			item{name: "dir/2", body: "2"},
			item{name: "becomes-file", body: "2"},
			item{name: "becomes-dir/x", body: "2"},
			item{name: "becomes-real/x", body: "2"},
			link("link", "both"),
		)),
	}
	if dir, err := s.Layers(t.Context(), nil); dir != "" || err != nil {
		t.Errorf("no layers: %q, %v", dir, err)
	}
	single, err := s.Layers(t.Context(), layers[:1])
	if err != nil {
		t.Fatal(err)
	}
	before := listing(t, single)
	dir, err := s.Layers(t.Context(), layers)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"both":           "-rwxr-xr-x 2",
		"only-1":         "-rw------- 1",
		"dir":            "drwxr-xr-x",
		"dir/1":          "-rw-r--r-- 1",
		"dir/2":          "-rw-r--r-- 2",
		"becomes-file":   "-rw-r--r-- 2",
		"becomes-dir":    "drwxr-xr-x",
		"becomes-dir/x":  "-rw-r--r-- 2",
		"becomes-real":   "drwxr-xr-x",
		"becomes-real/x": "-rw-r--r-- 2",
		"link":           "-> both",
	}
	if diff := cmp.Diff(want, listing(t, dir)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(before, listing(t, single)); diff != "" {
		t.Errorf("merging changed a layer: %s", diff)
	}
	a, err := os.Stat(filepath.Join(dir, "dir/1"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.Stat(filepath.Join(single, "dir/1"))
	if err != nil || !os.SameFile(a, b) {
		t.Errorf("files are copied, not linked: %v", err)
	}
	turned, err := s.Layers(t.Context(), []firn.Digest{layers[1], layers[0]})
	if err != nil || turned == dir {
		t.Fatalf("%s, %v: the order must count", turned, err)
	}
	if got := listing(t, turned)["both"]; got != "-rw-r--r-- 1" {
		t.Errorf("in the other order: %q", got)
	}
	if twice, err := s.Layers(t.Context(), []firn.Digest{layers[0], layers[0]}); err != nil {
		t.Error(err)
	} else if diff := cmp.Diff(before, listing(t, twice)); diff != "" {
		t.Error(diff)
	}
}

// Links that are harmless each in its own layer can lead out together.
func TestLayersRefuseLinksThatEscapeTogether(t *testing.T) {
	s, blobs := newStore(t)
	_, err := s.Layers(t.Context(), []firn.Digest{
		blobs.put(t, makeZip(t, item{name: "d/f"}, link("d/up", ".."))),
		blobs.put(t, makeZip(t, link("x", "d/up/../secret"))),
	})
	if firn.KindOf(err) != firn.InvalidParameterValue || !errors.Is(err, errEscapes) {
		t.Errorf("%v, want %v", err, errEscapes)
	}
}

// The limit holds for the layers together, too.
func TestLayersTooLargeTogether(t *testing.T) {
	s, blobs := newStore(t)
	s.limit = 1 << 20
	one := blobs.put(t, makeZip(t, item{name: "a", body: strings.Repeat("a", 600<<10)}))
	two := blobs.put(t, makeZip(t, item{name: "b", body: strings.Repeat("b", 600<<10)}))
	if _, err := s.Layers(t.Context(), []firn.Digest{one, two}); firn.KindOf(err) != firn.InvalidParameterValue {
		t.Errorf("%v, want a Fault", err)
	}
	same := blobs.put(t, makeZip(t, item{name: "a", body: strings.Repeat("c", 600<<10)}))
	if _, err := s.Layers(t.Context(), []firn.Digest{one, same}); err != nil {
		t.Errorf("one file over the other: %v", err)
	}
}

// copy stands in where the file system has no hard links.
func TestCopyKeepsModeAndTime(t *testing.T) {
	s, blobs := newStore(t)
	d := blobs.put(t, makeZip(t, item{name: "x", body: "content", mode: 0o750}))
	if _, err := s.Function(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if err := s.copy(zipPrefix+string(d)+"/root/x", "copy"); err != nil {
		t.Fatal(err)
	}
	info, err := s.root.Stat("copy")
	if err != nil || info.Mode() != 0o750 || !info.ModTime().Equal(testTime) || info.Size() != 7 {
		t.Errorf("%v %v, %v", info.Mode(), info.ModTime(), err)
	}
}

func TestSweep(t *testing.T) {
	s, blobs := newStore(t)
	var digests []firn.Digest
	for i := range 5 {
		digests = append(digests, blobs.put(t, makeZip(t, item{name: fmt.Sprint(i), body: "x"})))
	}
	code, held, dropped, layers := digests[0], digests[1], digests[2], digests[3:]
	dirs := map[string]string{}
	get := func(name string, dir string, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		dirs[name] = dir
	}
	for name, d := range map[string]firn.Digest{"code": code, "held": held, "dropped": dropped} {
		dir, err := s.Function(t.Context(), d)
		get(name, dir, err)
	}
	dir, err := s.Layers(t.Context(), layers)
	get("layers", dir, err)
	live := Live{Code: []firn.Digest{code}, Layers: [][]firn.Digest{layers}, Dirs: []string{dirs["held"]}}
	sweep := func(live Live, want int) {
		t.Helper()
		if n, err := s.Sweep(t.Context(), live); n != want || err != nil {
			t.Errorf("swept %d, %v; want %d", n, err, want)
		}
	}
	there := func(name string) bool {
		_, err := os.Stat(dirs[name])
		return err == nil
	}
	sweep(live, 0) // all were handed out just now
	if !there("dropped") {
		t.Error("a directory just handed out was removed")
	}
	sweep(live, 1)
	if there("dropped") || !there("code") || !there("held") || !there("layers") {
		t.Errorf("dropped %t, code %t, held %t, layers %t", there("dropped"), there("code"), there("held"), there("layers"))
	}
	if dir, err := s.Function(t.Context(), dropped); err != nil || dir != dirs["dropped"] || !there("dropped") {
		t.Errorf("wanted again: %s, %v", dir, err)
	}
	// All but dropped: code, held, two layers and their merge.
	sweep(Live{}, 5)
	sweep(Live{}, 1)
	if names, err := s.names(); err != nil || len(names) != 0 {
		t.Errorf("left: %v, %v", names, err)
	}
}

func TestSweepWhileInUse(t *testing.T) {
	s, blobs := newStore(t)
	var digests []firn.Digest
	for i := range 4 {
		digests = append(digests, blobs.put(t, makeZip(t, item{name: "x", body: fmt.Sprint(i)})))
	}
	stop := make(chan struct{})
	var sweeper, users sync.WaitGroup
	sweeper.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if _, err := s.Sweep(t.Context(), Live{Code: digests}); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	for i := range 4 {
		users.Go(func() {
			for range 50 {
				dir, err := s.Function(t.Context(), digests[i])
				if err == nil {
					_, err = os.ReadFile(filepath.Join(dir, "x"))
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	users.Wait()
	close(stop)
	sweeper.Wait()
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

// victimVariable makes the test binary a process that unpacks until it is killed.
const victimVariable = "FIRN_IMAGE_TEST_VICTIM"

func TestMain(m *testing.M) {
	if args := os.Getenv(victimVariable); args != "" {
		os.Exit(victim(strings.Split(args, "\n")))
	}
	os.Exit(m.Run())
}

func victim(args []string) int {
	s, err := Open(Config{Dir: args[0], Blobs: &blobDir{dir: args[1]}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("unpacking")
	if _, err := s.Function(context.Background(), firn.Digest(args[2])); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// kill -9 at any moment leaves either nothing or a whole directory.
func TestKilledWhileUnpacking(t *testing.T) {
	blobs := &blobDir{dir: t.TempDir()}
	var items []item
	for i := range 3000 {
		items = append(items, item{name: fmt.Sprintf("dir-%d/file-%d", i%50, i), body: strings.Repeat("content ", 500)})
	}
	d := blobs.put(t, makeZip(t, items...))
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "images")
	midway := 0
	for _, delay := range []time.Duration{0, 2, 5, 10, 20, 40, 80} {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), victimVariable+"="+strings.Join([]string{dir, blobs.dir, string(d)}, "\n"))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Fatalf("%q, %v", line, err)
		}
		<-time.After(delay * time.Millisecond)
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		if left, _ := filepath.Glob(filepath.Join(dir, tmpPrefix+"*")); len(left) > 0 {
			midway++
		}
		s := openStore(t, dir, blobs)
		if left, _ := filepath.Glob(filepath.Join(dir, tmpPrefix+"*")); len(left) > 0 {
			t.Errorf("after %v: Open left %v", delay, left)
		}
		root, err := s.Function(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := s.count(zipPrefix + string(d) + "/" + rootName); err != nil || m.Files != len(items) || m.Bytes != int64(len(items)*4000) {
			t.Errorf("after %v: %s holds %+v, %v", delay, root, m, err)
		}
		if n, err := s.Sweep(t.Context(), Live{}); n != 0 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if n, err := s.Sweep(t.Context(), Live{}); n != 1 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	if midway == 0 {
		t.Error("no kill came while files were being written: the test proves nothing")
	}
}

// FuzzUnpack: no archive makes Inspect or the unpacker panic, disagree, or
// write outside their directory.
func FuzzUnpack(f *testing.F) {
	f.Add(makeZip(f, item{name: "a/b", body: "x"}, link("a/c", "b"), item{name: "d/"}))
	f.Add(makeZip(f, item{name: "../a", body: "x"}))
	f.Add(makeZip(f, link("a", "b/../.."), link("b", "."), item{name: `c\..\d`}))
	f.Add(raw(f, "x", zip.Store, []byte("abc"), 2))
	f.Add([]byte("PK\x05\x06"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 64<<10 {
			return
		}
		info, inspectErr := inspect(data)
		outer := t.TempDir()
		inner := filepath.Join(outer, "inner")
		if err := os.Mkdir(inner, 0o755); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(inner)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = root.Close() }()
		a, err := readArchive(bytes.NewReader(data), int64(len(data)), firn.MaxUnzippedBytes)
		var m marker
		if err == nil {
			m, err = a.write(t.Context(), root)
		}
		if inspectErr == nil && err == nil && (m.Bytes != info.UnzippedBytes || m.Files != info.Files) {
			t.Errorf("unpacked %+v, inspected %+v", m, info)
		}
		if (inspectErr == nil) != (err == nil) {
			t.Errorf("inspected %v, unpacked %v", inspectErr, err)
		}
		if _, ok := errors.AsType[*firn.Fault](inspectErr); inspectErr != nil && !ok {
			t.Errorf("%v is no Fault", inspectErr)
		}
		if names, err := os.ReadDir(outer); err != nil || len(names) != 1 {
			t.Errorf("written outside: %v, %v", names, err)
		}
	})
}

func FuzzLinks(f *testing.F) {
	f.Add("a/b", "../c", "c", "a/..")
	f.Add("d/up", "..", "x", "d/up/../secret")
	f.Fuzz(func(t *testing.T, name1, target1, name2, target2 string) {
		tree := newLinkTree()
		for name, target := range map[string]string{name1: target1, name2: target2} {
			clean, err := cleanName(name)
			if err != nil || clean == "" || target == "" || strings.ContainsRune(target, 0) || len(target) > 100 {
				return
			}
			tree.targets[clean] = target
		}
		for name := range tree.targets {
			if tree.check(name) != nil {
				return
			}
		}
		// The kernel is the judge: what was accepted does not lead out.
		dir := t.TempDir()
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = root.Close() }()
		for name, target := range tree.targets {
			if strings.HasPrefix(target, "/") {
				return
			}
			if p := parent(name); p != "" && root.MkdirAll(p, 0o755) != nil {
				return
			}
			if root.Symlink(target, name) != nil {
				return
			}
		}
		for name := range tree.targets {
			if _, err := root.Stat(name); err != nil && strings.Contains(err.Error(), "escapes") {
				t.Errorf("%q: %v (%v)", name, err, tree.targets)
			}
		}
	})
}

func BenchmarkUnpack(b *testing.B) {
	blobs := &blobDir{dir: b.TempDir()}
	var items []item
	for i := range 1000 {
		items = append(items, item{name: fmt.Sprintf("node_modules/p%d/f%d.js", i%50, i), body: strings.Repeat("module.exports = 1;\n", 200)})
	}
	data := makeZip(b, items...)
	s := openStore(b, b.TempDir(), blobs)
	a, err := readArchive(bytes.NewReader(data), int64(len(data)), firn.MaxUnzippedBytes)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		tmp, err := s.newTmp()
		if err != nil {
			b.Fatal(err)
		}
		root, err := s.root.OpenRoot(tmp)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := a.write(b.Context(), root); err != nil {
			b.Fatal(err)
		}
		_ = root.Close()
		if err := s.root.RemoveAll(tmp); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFunctionReady(b *testing.B) {
	s, blobs := newStore(b)
	d := blobs.put(b, makeZip(b, item{name: "x"}))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Function(b.Context(), d); err != nil {
			b.Fatal(err)
		}
	}
}
