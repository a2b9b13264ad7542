package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/image/layer"
	"github.com/firn-run/firn/internal/image/oci"
)

// layerOf is the archive of a layer: "name/" is a directory, "name -> target"
// a link, "name = content" a file.
func layerOf(t testing.TB, entries ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		h := &tar.Header{Name: e, Mode: 0o644, Typeflag: tar.TypeReg}
		body := ""
		if name, target, ok := strings.Cut(e, " -> "); ok {
			h.Name, h.Linkname, h.Typeflag = name, target, tar.TypeSymlink
		} else if name, content, ok := strings.Cut(e, " = "); ok {
			h.Name, h.Size, body = name, int64(len(content)), content
		} else if strings.HasSuffix(e, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// contents reads a directory as layerOf writes it.
func contents(t testing.TB, dir string) map[string]string {
	t.Helper()
	list := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		name := strings.TrimPrefix(p, dir+"/")
		switch {
		case d.IsDir():
			list[name] = "/"
		case d.Type() == fs.ModeSymlink:
			to, err := os.Readlink(p)
			list[name] = "-> " + to
			return err
		default:
			data, err := os.ReadFile(p)
			list[name] = "= " + string(data)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestRoot(t *testing.T) {
	for _, c := range []struct {
		name   string
		layers [][]string
		want   map[string]string
	}{
		{"no layers", nil, map[string]string{}},
		{"one", [][]string{{"a = 1"}}, map[string]string{"a": "= 1"}},
		{"the upper wins", [][]string{{"a = 1", "d/b = 1"}, {"a = 2", "d/c = 2"}}, map[string]string{"a": "= 2", "d": "/", "d/b": "= 1", "d/c": "= 2"}},
		{"a file is removed", [][]string{{"d/a = 1", "d/b = 1"}, {"d/.wh.a"}}, map[string]string{"d": "/", "d/b": "= 1"}},
		{"a directory is removed", [][]string{{"d/e/a = 1"}, {"d/.wh.e"}}, map[string]string{"d": "/"}},
		{"removed and made again", [][]string{{"d/a = 1"}, {".wh.d", "d/b = 2"}}, map[string]string{"d": "/", "d/b": "= 2"}},
		{"removed, then again in a later layer", [][]string{{"d/a = 1"}, {".wh.d"}, {"d/b = 3"}}, map[string]string{"d": "/", "d/b": "= 3"}},
		{"opaque", [][]string{{"d/a = 1", "d/e/b = 1"}, {"d/", "d/.wh..wh..opq", "d/c = 2"}}, map[string]string{"d": "/", "d/c": "= 2"}},
		{"opaque root", [][]string{{"a = 1"}, {".wh..wh..opq", "b = 2"}}, map[string]string{"b": "= 2"}},
		{"a file over a directory", [][]string{{"d/a = 1"}, {"d = 2"}}, map[string]string{"d": "= 2"}},
		{"a directory over a file", [][]string{{"d = 1"}, {"d/a = 2"}}, map[string]string{"d": "/", "d/a": "= 2"}},
		{"a file between directories hides", [][]string{{"d/a = 1"}, {"d = 2"}, {"d/b = 3"}}, map[string]string{"d": "/", "d/b": "= 3"}},
		{"a directory over a link", [][]string{{"usr/lib/x = 1", "lib -> usr/lib"}, {"lib/y = 2"}},
			map[string]string{"usr": "/", "usr/lib": "/", "usr/lib/x": "= 1", "lib": "/", "lib/y": "= 2"}},
		{"a whiteout of nothing", [][]string{{"a = 1"}, {".wh.b", "x/.wh.y"}}, map[string]string{"a": "= 1", "x": "/"}},
		{"whiteouts are for lower layers", [][]string{{".wh.a"}, {"a = 2"}}, map[string]string{"a": "= 2"}},
		{"a layer twice", [][]string{{"a = 1"}, {".wh.a"}, {"a = 1"}}, map[string]string{"a": "= 1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newImageRig(t)
			var layers []layerSpec
			for i, entries := range c.layers {
				layers = append(layers, layerSpec{[]string{"", "gzip", "zstd"}[i%3], layerOf(t, entries...)})
			}
			dir, err := r.Root(t.Context(), r.image(t, layers...))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, contents(t, dir)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// apply is what laying a layer over a tree means, said the slow way.
func apply(tree map[string]string, entries []string) map[string]string {
	next := maps.Clone(tree)
	remove := func(name string, itself bool) {
		for other := range next {
			if itself && other == name || name == "." && !itself || strings.HasPrefix(other, name+"/") {
				delete(next, other)
			}
		}
	}
	for _, e := range entries {
		base := path.Base(e)
		switch hidden, isWhiteout := strings.CutPrefix(base, ".wh."); {
		case base == ".wh..wh..opq":
			remove(path.Dir(e), false)
		case isWhiteout:
			remove(path.Join(path.Dir(e), hidden), true)
		}
	}
	var mkdir func(string)
	mkdir = func(name string) {
		if name == "." {
			return
		}
		mkdir(path.Dir(name))
		if next[name] != "/" {
			remove(name, true)
		}
		next[name] = "/"
	}
	for _, e := range entries {
		name, content, _ := strings.Cut(e, " = ")
		switch {
		case strings.HasPrefix(path.Base(e), ".wh."):
			mkdir(path.Dir(e))
		case strings.HasSuffix(e, "/"):
			mkdir(path.Clean(e))
		default:
			mkdir(path.Dir(name))
			remove(name, true)
			next[name] = "= " + content
		}
	}
	return next
}

// The result is that of laying the layers over each other one by one.
func TestOverlayIsSequential(t *testing.T) {
	top := t.TempDir()
	serial := 0
	mkdir := func(rt *rapid.T) string {
		serial++
		dir := filepath.Join(top, fmt.Sprint(serial))
		if err := os.Mkdir(dir, 0o755); err != nil {
			rt.Fatal(err)
		}
		return dir
	}
	names := rapid.SampledFrom([]string{"a", "b", "a/b", "a/c", "b/a", "a/b/c", "a/b/d"})
	rapid.Check(t, func(rt *rapid.T) {
		want := map[string]string{}
		var trees []*tree // from the uppermost
		for n := range rapid.IntRange(1, 4).Draw(rt, "layers") {
			var entries []string
			kinds := map[string]bool{} // what a layer has at a name; archives of one layer do not contradict themselves
			for range rapid.IntRange(0, 4).Draw(rt, "entries") {
				name := names.Draw(rt, "name")
				e := name
				switch kind := rapid.IntRange(0, 3).Draw(rt, "kind"); kind {
				case 0:
					e = name + "/"
				case 1:
					e = fmt.Sprintf("%s = %d", name, n)
				case 2:
					e = path.Join(path.Dir(name), ".wh."+path.Base(name))
				case 3:
					e = name + "/.wh..wh..opq"
				}
				if isFile := strings.Contains(e, " = "); conflicts(kinds, name, isFile, e) {
					continue
				} else if !strings.HasPrefix(path.Base(e), ".wh.") || strings.HasSuffix(e, "opq") {
					kinds[name] = isFile
				}
				entries = append(entries, e)
			}
			want = apply(want, entries)
			dir := mkdir(rt)
			root, err := os.OpenRoot(dir)
			if err != nil {
				rt.Fatal(err)
			}
			result, err := layer.Unpack(context.Background(), bytes.NewReader(layerOf(t, entries...)), root, layer.Options{Limit: 1000})
			if err = errors.Join(err, root.Close()); err != nil {
				rt.Fatal(err)
			}
			trees = slices.Insert(trees, 0, newTree(dir, result.Removed))
		}
		dir := mkdir(rt)
		if err := overlay(context.Background(), dir, trees); err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(want, contents(t, dir)); diff != "" {
			rt.Error(diff)
		}
	})
}

// conflicts reports whether an archive would say two things of one name.
func conflicts(kinds map[string]bool, name string, isFile bool, e string) bool {
	for other, otherIsFile := range kinds {
		switch {
		case other == name && isFile != otherIsFile,
			otherIsFile && strings.HasPrefix(path.Dir(e)+"/", other+"/"),
			isFile && strings.HasPrefix(other, name+"/"):
			return true
		}
	}
	return false
}

// Images share what is the same in them.
func TestRootShares(t *testing.T) {
	r := newImageRig(t)
	base, one, two := layerSpec{"gzip", layerOf(t, "base = 1")}, layerSpec{"", layerOf(t, "one = 1")}, layerSpec{"", layerOf(t, "two = 2")}
	first, err := r.Root(t.Context(), r.image(t, base, one))
	if err != nil {
		t.Fatal(err)
	}
	second, err := r.Root(t.Context(), r.image(t, base, two))
	if err != nil {
		t.Fatal(err)
	}
	a, err := os.Stat(filepath.Join(first, "base"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.Stat(filepath.Join(second, "base"))
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(a, b) {
		t.Error("the base's file is there twice")
	}
	if names, err := r.names(); err != nil || len(names) != 5 { // 3 layers, 2 images
		t.Errorf("%v, %v", names, err)
	}
}

// Many callers at once make one directory, which a restart finds.
func TestRootOnce(t *testing.T) {
	r := newImageRig(t)
	d := r.image(t, layerSpec{"gzip", largeLayer(t, 1, 1<<20)}, layerSpec{"zstd", largeLayer(t, 2, 1<<20)}, layerSpec{"", layerOf(t, ".wh.none", "x = 1")})
	var group sync.WaitGroup
	dirs := make([]string, 8)
	for i := range dirs {
		group.Go(func() {
			dir, err := r.Root(t.Context(), d)
			if err != nil {
				t.Error(err)
			}
			dirs[i] = dir
		})
	}
	group.Wait()
	for _, dir := range dirs {
		if dir != dirs[0] {
			t.Errorf("%s and %s", dir, dirs[0])
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(dirs[0])
	if err != nil {
		t.Fatal(err)
	}
	again := openImageRig(t, r.dir)
	dir, err := again.Root(t.Context(), oci.Hex(d)) // either form of the digest
	if err != nil || dir != dirs[0] {
		t.Fatal(dir, err)
	}
	if after, err := os.Stat(dir); err != nil || !os.SameFile(before, after) {
		t.Errorf("made again: %v", err)
	}
}

// After a crash of the machine, directories that lost something are made again.
func TestRootAfterCrash(t *testing.T) {
	r := newImageRig(t)
	d := r.image(t, layerSpec{"", layerOf(t, "d/a = 12345")}, layerSpec{"", layerOf(t, "d/b = 1", "d/.wh.c")})
	dir, err := r.Root(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	want := contents(t, dir)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "d/a"), 2); err != nil { // the same file as its layer's
		t.Fatal(err)
	}
	again := openImageRig(t, r.dir)
	again.bootID = "another boot"
	if dir, err = again.Root(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, contents(t, dir)); diff != "" {
		t.Error(diff)
	}
}

func TestRootRefused(t *testing.T) {
	r := newImageRig(t)
	good := layerSpec{"", layerOf(t, "a = 1")}
	bad := layerSpec{"gzip", layerOf(t, "../evil = 1")}
	for what, c := range map[string]struct {
		digest firn.Digest
		want   string
	}{
		"a hostile layer": {r.image(t, good, bad), "ImageLayerFailure: UnsupportedImageLayerDetected - Layer Digest sha256:"},
		"alone":           {r.image(t, bad), "ImageLayerFailure: UnsupportedImageLayerDetected - Layer Digest sha256:"},
		"no archive":      {r.image(t, good, layerSpec{"", []byte(strings.Repeat("no archive", 200))}), "ImageLayerFailure"},
		"absent":          {firn.Digest("sha256:" + strings.Repeat("0", 64)), "does not exist. Provide a valid source image."},
		"no digest":       {"../../etc", "does not exist. Provide a valid source image."},
	} {
		_, err := r.Root(t.Context(), c.digest)
		var fault *firn.Fault
		if !errors.As(err, &fault) || fault.Kind != firn.InvalidParameterValue || !strings.Contains(fault.Message, c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	names, err := r.names()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, tmpPrefix) || strings.HasPrefix(name, imagePrefix) {
			t.Errorf("left behind: %s", name)
		}
	}
	r.imageLimit = 1000
	half := strings.Repeat("x", 600)
	for _, d := range []firn.Digest{
		r.image(t, layerSpec{"", layerOf(t, "a = "+half+half)}),
		r.image(t, layerSpec{"", layerOf(t, "a = "+half)}, layerSpec{"", layerOf(t, "b = "+half)}),
	} {
		if _, err := r.Root(t.Context(), d); firn.KindOf(err) != firn.InvalidParameterValue || !strings.Contains(err.Error(), "exceeds the maximum allowed size") {
			t.Errorf("too large: %v", err)
		}
	}
}

func TestSweepImages(t *testing.T) {
	r := newImageRig(t)
	base := layerSpec{"", layerOf(t, "base = 1")}
	kept, gone := r.image(t, base, layerSpec{"", layerOf(t, "kept = 1")}), r.image(t, base, layerSpec{"", layerOf(t, "gone = 1")})
	running := r.image(t, layerSpec{"", layerOf(t, "running = 1")}, layerSpec{"", layerOf(t, "running = 2")})
	dirs := map[firn.Digest]string{}
	for _, d := range []firn.Digest{kept, gone, running} {
		dir, err := r.Root(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		dirs[d] = dir
	}
	live := Live{Images: []firn.Digest{kept}, Dirs: []string{dirs[running]}}
	if n, err := r.Sweep(t.Context(), live); err != nil || n != 0 {
		t.Errorf("%d were swept that had just been handed out, %v", n, err)
	}
	// An image that cannot be read: nobody knows what it needs.
	lost := live
	lost.Images = append(lost.Images, firn.Digest(strings.Repeat("0", 64)))
	if n, err := r.Sweep(t.Context(), lost); err != nil || n != 0 {
		t.Errorf("%d were swept, %v", n, err)
	}
	// Gone are its image and its layer, and the layers of what only runs.
	if n, err := r.Sweep(t.Context(), live); err != nil || n != 4 {
		t.Errorf("%d were swept, %v", n, err)
	}
	for d, there := range map[firn.Digest]bool{kept: true, gone: false, running: true} {
		if _, err := os.Stat(dirs[d]); (err == nil) != there {
			t.Errorf("%s: %v", d, err)
		}
	}
	if dir, err := r.Root(t.Context(), gone); err != nil || contents(t, dir)["gone"] != "= 1" {
		t.Errorf("made again: %v", err)
	}
	if n, ok := r.DiskUsage(gone); !ok || n != 2 {
		t.Errorf("%d bytes, %v", n, ok)
	}
}
