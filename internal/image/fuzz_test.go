package image

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/firn-run/firn"
)

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
