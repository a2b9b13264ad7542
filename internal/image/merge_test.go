package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firn-run/firn"
)

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
