package layer

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/firn-run/firn"
)

// entry is one of an archive to be made.
type entry struct {
	name, body, link string
	kind             byte // 0 is a file
	mode             int64
}

func dir(name string) entry         { return entry{name: name, kind: tar.TypeDir, mode: 0o755} }
func file(name, body string) entry  { return entry{name: name, body: body} }
func symlink(name, to string) entry { return entry{name: name, link: to, kind: tar.TypeSymlink} }
func hard(name, to string) entry    { return entry{name: name, link: to, kind: tar.TypeLink} }
func device(name string) entry      { return entry{name: name, kind: tar.TypeChar} }
func whiteout(name string) entry    { return file(name, "") }

func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		if e.kind == 0 {
			e.kind = tar.TypeReg
		}
		if e.mode == 0 {
			e.mode = 0o644
		}
		h := &tar.Header{Typeflag: e.kind, Name: e.name, Linkname: e.link, Size: int64(len(e.body)), Mode: e.mode, ModTime: time.Unix(1_600_000_000, 0), Uid: 1000, Gid: 1000}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// unpack unpacks into a new directory and returns it.
func unpack(t testing.TB, data []byte, o Options) (string, Result, error) {
	t.Helper()
	if o.Limit == 0 {
		o.Limit = 1 << 20
	}
	top := t.TempDir()
	inside := filepath.Join(top, "root")
	if err := os.Mkdir(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(inside)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	result, err := Unpack(t.Context(), bytes.NewReader(data), root, o)
	// Whatever happened, nothing is beside the root.
	list, listErr := os.ReadDir(top)
	if listErr != nil || len(list) != 1 {
		t.Fatalf("beside the root: %v, %v", list, listErr)
	}
	return inside, result, err
}

// tree lists a directory: "name = content", "name -> target", "name/".
func tree(t testing.TB, dir string) []string {
	t.Helper()
	list := []string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		name := strings.TrimPrefix(p, dir+"/")
		switch {
		case d.IsDir():
			name += "/"
		case d.Type() == fs.ModeSymlink:
			to, err := os.Readlink(p)
			if err != nil {
				return err
			}
			name += " -> " + to
		case d.Type() == 0:
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			name += " = " + string(data)
		default:
			name += " is special"
		}
		list = append(list, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestUnpack(t *testing.T) {
	for _, c := range []struct {
		name    string
		entries []entry
		want    []string
		removed Removed
	}{
		{"nothing", nil, []string{}, Removed{}},
		{"parents are made", []entry{file("a/b/c", "x")}, []string{"a/", "a/b/", "a/b/c = x"}, Removed{}},
		{"names are made relative", []entry{dir("./"), file("/etc/x", "1"), file("./etc/y", "2")}, []string{"etc/", "etc/x = 1", "etc/y = 2"}, Removed{}},
		{"links anywhere", []entry{symlink("l", "../../../etc/passwd"), symlink("m", "/etc/shadow")}, []string{"l -> ../../../etc/passwd", "m -> /etc/shadow"}, Removed{}},
		{"hard links", []entry{file("a", "x"), hard("b", "a"), hard("c/d", "/b"), symlink("s", "t"), hard("s2", "s")},
			[]string{"a = x", "b = x", "c/", "c/d = x", "s -> t", "s2 -> t"}, Removed{}},
		{"the last one stands", []entry{file("a", "1"), file("a", "2"), dir("b"), file("b/x", "1"), file("b", "2"), symlink("c", "d"), dir("c"), file("c/x", "3"),
			file("e", "1"), symlink("e", "f"), file("g", "1"), hard("h", "g"), file("h", "2"), file("i", "1"), hard("i", "g")},
			[]string{"a = 2", "b = 2", "c/", "c/x = 3", "e -> f", "g = 1", "h = 2", "i = 1"}, Removed{}},
		{"directories again", []entry{dir("a"), file("a/b", "1"), dir("a/")}, []string{"a/", "a/b = 1"}, Removed{}},
		{"names pass through links of the layer", []entry{dir("usr/lib"), symlink("lib", "usr/lib"), file("lib/x", "1"), symlink("abs", "/usr"), file("abs/lib/y", "2"),
			symlink("up", "../../../../usr"), file("up/z", "3"), hard("abs/w", "lib/x")},
			[]string{"abs -> /usr", "lib -> usr/lib", "up -> ../../../../usr", "usr/", "usr/lib/", "usr/lib/x = 1", "usr/lib/y = 2", "usr/w = 1", "usr/z = 3"}, Removed{}},
		{"devices and pipes are left out", []entry{device("dev/null"), {name: "pipe", kind: tar.TypeFifo}, file("a", "x")}, []string{"a = x"}, Removed{}},
		{"whiteouts", []entry{whiteout("a/.wh.b"), whiteout("a/c/.wh..wh..opq"), whiteout(".wh.top"), whiteout(".wh..wh.plnk"), whiteout(".wh..wh..opq")},
			[]string{"a/", "a/c/"}, Removed{Paths: []string{"a/b", "top"}, Opaque: []string{"a/c", "."}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, result, err := unpack(t, archive(t, c.entries...), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, tree(t, dir)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(c.removed, result.Removed); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Permissions and times are kept; setuid bits are not, and directories are
// what firn needs them to be.
func TestModes(t *testing.T) {
	at, _, err := unpack(t, archive(t, entry{name: "d", kind: tar.TypeDir, mode: 0o1700}, entry{name: "d/su", body: "x", mode: 0o6755}, entry{name: "secret", body: "x", mode: 0o400}), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{"d": fs.ModeDir | 0o755, "d/su": 0o755, "secret": 0o400} {
		info, err := os.Lstat(filepath.Join(at, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s: %v, want %v", name, info.Mode(), want)
		}
		if name != "d" && info.ModTime().Unix() != 1_600_000_000 {
			t.Errorf("%s: %v", name, info.ModTime())
		}
	}
}

func TestHostile(t *testing.T) {
	for name, entries := range map[string][]entry{
		"dots":                     {file("../evil", "x")},
		"dots inside":              {file("a/../../evil", "x")},
		"hard link out":            {hard("a", "../../etc/passwd")},
		"hard link to the host":    {hard("a", "/etc/passwd")},
		"hard link to a directory": {dir("a"), hard("b", "a")},
		"hard link to itself":      {file("a", "x"), hard("a", "a")},
		"hard link through a link": {symlink("l", "/"), hard("a", "l/etc/passwd")},
		"a file as a directory":    {file("a", "x"), file("a/b", "x")},
		"a loop of links":          {symlink("a", "b"), symlink("b", "a"), file("a/x", "x")},
		"a link that grows":        {symlink("a", "a/a/a/a/a/a/a/a"), file("a/x", "x")},
		"a long name":              {file(strings.Repeat("x", 256), "x")},
		"a long path":              {file(strings.Repeat("x/", 2500)+"y", "x")},
		"a link without a target":  {symlink("a", "")},
		"a long target":            {symlink("a", strings.Repeat("x", 5000))},
		"a root that is a file":    {file(".", "x")},
		"a whiteout of nothing":    {whiteout("a/.wh.")},
		"a whiteout of the parent": {whiteout("a/.wh...")},
		"too much":                 {file("a", strings.Repeat("x", 600)), file("b", strings.Repeat("x", 600))},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := unpack(t, archive(t, entries...), Options{Limit: 1000})
			if reason := (*Error)(nil); !errors.As(err, &reason) {
				t.Errorf("got %v, want the layer's fault", err)
			}
			if tooLarge := name == "too much"; errors.Is(err, ErrTooLarge) != tooLarge {
				t.Errorf("too large: %v", err)
			}
		})
	}
}

// A link that leads out is of no use to the entries behind it.
func TestNothingPassesLinks(t *testing.T) {
	outside := t.TempDir()
	at, _, err := unpack(t, archive(t, symlink("l", outside), file("l/evil", "x"), symlink("e", "/../../../"+outside), file("e/evil2", "x")), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if list, err := os.ReadDir(outside); err != nil || len(list) != 0 {
		t.Fatalf("outside: %v, %v", list, err)
	}
	for _, name := range []string{"evil", "evil2"} {
		if _, err := os.Lstat(filepath.Join(at, outside, name)); err != nil {
			t.Errorf("inside the root: %v", err)
		}
	}
}

func TestCompressions(t *testing.T) {
	plain := archive(t, file("a", strings.Repeat("content ", 10_000)))
	sum := sha256.Sum256(plain)
	var zipped, zst bytes.Buffer
	gz := gzip.NewWriter(&zipped)
	if _, err := gz.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := gz.Close(); err != nil {
		t.Fatal(err)
	}
	zw, err := zstd.NewWriter(&zst)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := zw.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"plain": plain, "gzip": zipped.Bytes(), "zstd": zst.Bytes()} {
		t.Run(name, func(t *testing.T) {
			o := Options{DiffID: firn.Digest(hex.EncodeToString(sum[:]))}
			if _, got, err := unpack(t, data, o); err != nil || got.Files != 1 || got.Bytes != 80_000 {
				t.Errorf("%+v, %v", got, err)
			}
			wrong := Options{DiffID: firn.Digest(strings.Repeat("0", 64))}
			if _, _, err := unpack(t, data, wrong); err == nil {
				t.Error("another digest is accepted")
			}
			for _, cut := range []int{1, len(data) / 2, len(data) - 1} {
				_, _, err := unpack(t, data[:cut], o)
				if reason := (*Error)(nil); !errors.As(err, &reason) {
					t.Errorf("cut at %d: %v", cut, err)
				}
			}
		})
	}
}

// A bomb is stopped at the limit, and what is only headers too.
func TestBombs(t *testing.T) {
	var out bytes.Buffer
	gz := gzip.NewWriter(&out)
	w := tar.NewWriter(gz)
	if err := w.WriteHeader(&tar.Header{Name: "zeros", Size: 1 << 30, Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 8<<20)); err != nil {
		t.Fatal(err)
	}
	_ = gz.Close() // the rest is missing; nobody gets there
	if _, _, err := unpack(t, out.Bytes(), Options{Limit: 4 << 20}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}

	out.Reset()
	gz = gzip.NewWriter(&out)
	w = tar.NewWriter(gz)
	for i := range 100 {
		h := &tar.Header{Name: fmt.Sprint("f", i), Mode: 0o644, Format: tar.FormatPAX, PAXRecords: map[string]string{"FIRN.x": strings.Repeat("x", 500_000)}}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), gz.Close()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := unpack(t, out.Bytes(), Options{Limit: 4 << 20}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
}

// Replacing directories again and again is not paid for again and again.
func TestReplacements(t *testing.T) {
	var entries []entry
	for range maxReplaced + 1 {
		entries = append(entries, dir("a"), file("a", "x"))
	}
	if _, _, err := unpack(t, archive(t, entries...), Options{Limit: 1 << 20}); err == nil {
		t.Error("not refused")
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	if _, err := Unpack(ctx, bytes.NewReader(archive(t, file("a", "x"))), root, Options{Limit: 10}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// No archive makes a panic, leaves the root, or is blamed on this machine.
func FuzzUnpack(f *testing.F) {
	for _, entries := range [][]entry{
		{file("a/b", "x"), symlink("l", "../a"), file("l/c", "y"), hard("d", "a/b")},
		{whiteout("a/.wh.b"), whiteout(".wh..wh..opq"), dir("a")},
		{symlink("a", "/"), symlink("b", "a/.."), file("b/x", "1"), hard("b", "b/x")},
	} {
		f.Add(archive(f, entries...))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		at, result, err := unpack(t, data, Options{Limit: 64 << 10})
		if reason := (*Error)(nil); err != nil && !errors.As(err, &reason) {
			t.Errorf("this machine's fault: %v", err)
		}
		if err != nil {
			return
		}
		for _, name := range slices.Concat(result.Paths, result.Opaque) {
			if !fs.ValidPath(name) && !strings.ContainsFunc(name, func(r rune) bool { return r == '\uFFFD' }) {
				t.Errorf("removed %q", name)
			}
		}
		_ = tree(t, at)
	})
}
