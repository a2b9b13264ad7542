package runtimes

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/firn-run/firn"
)

func openStore(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, "firn runtime build NAME --data /data")
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

// put installs a tree with one file.
func put(t *testing.T, s *Store, name, content string) Manifest {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	writeTree(t, root, map[string]string{"var/lang/bin/lang": "#!" + content, "var/runtime/bootstrap": "#!x"})
	sum, err := seal(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	// Where a build has it: on the store's own file system.
	work := filepath.Join(s.dir, "work", "test")
	if err := os.Rename(root, work); err != nil {
		t.Fatal(err)
	}
	m := Manifest{Name: name, Digest: sum.digest, Bytes: sum.bytes, Files: sum.files}
	if err := s.install(work, m); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(work); err != nil {
		t.Fatal(err)
	}
	return m
}

func writeTree(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		name = filepath.Join(root, name)
		mode := os.FileMode(0o600)
		if strings.HasPrefix(content, "#!") {
			mode = 0o700
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte(content), mode)); err != nil {
			t.Fatal(err)
		}
	}
}

// trees are the digests on disk.
func trees(t *testing.T, s *Store) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.dir, "trees"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func TestMissing(t *testing.T) {
	s := openStore(t, t.TempDir())
	for _, name := range []string{"python3.13", "no-such", "../../etc/passwd", ""} {
		_, _, err := s.Runtime(t.Context(), name)
		missing, ok := errors.AsType[*MissingError](err)
		if !ok || missing.Name != name || missing.Command != "firn runtime build "+name+" --data /data" ||
			!strings.Contains(missing.Error(), missing.Command) {
			t.Errorf("%q: %v", name, err)
		}
		if err := s.Has(name); err == nil {
			t.Errorf("the store has %q", name)
		}
		if _, ok := errors.AsType[*MissingError](s.Remove(t.Context(), name)); !ok {
			t.Errorf("%q was removed", name)
		}
	}
	if list, err := s.List(); err != nil || len(list) != 0 {
		t.Errorf("%v %v", list, err)
	}
}

func TestInstall(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	put(t, s, "python3.13", "one")
	m := put(t, s, "nodejs22.x", "two")
	got, whole, err := s.Runtime(t.Context(), "nodejs22.x")
	if err != nil || whole || got != filepath.Join(dir, "trees", string(m.Digest)) {
		t.Fatal(got, whole, err)
	}
	info, err := os.Stat(filepath.Join(got, "var/lang/bin/lang"))
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Error(info.Mode(), err)
	}
	list, err := openStore(t, dir).List() // another process
	if err != nil || len(list) != 2 || list[0].Name != "python3.13" || list[1] != m {
		t.Error(list, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.Runtime(ctx, "nodejs22.x"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A runtime that a process was handed stays until that process is done with it.
func TestInUse(t *testing.T) {
	dir := t.TempDir()
	user, other := openStore(t, dir), openStore(t, dir)
	first := put(t, other, "python3.13", "one")
	held, _, err := user.Runtime(t.Context(), "python3.13")
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Remove(t.Context(), "python3.13"); !errors.Is(err, ErrInUse) {
		t.Errorf("removed what is used: %v", err)
	}
	if err := other.Has("python3.13"); err != nil {
		t.Errorf("the name is gone: %v", err)
	}
	second := put(t, other, "python3.13", "two") // built anew
	if _, err := os.Stat(filepath.Join(held, "var/lang/bin/lang")); err != nil {
		t.Errorf("the tree in use is gone: %v", err)
	}
	if dir, _, err := user.Runtime(t.Context(), "python3.13"); err != nil || dir == held {
		t.Errorf("the new tree is not used: %s %v", dir, err)
	}
	if got := trees(t, user); len(got) != 2 {
		t.Errorf("%q, want %s and %s", got, first.Digest, second.Digest)
	}
	if err := user.Close(); err != nil {
		t.Fatal(err)
	}
	put(t, other, "python3.13", "three")
	if err := other.Remove(t.Context(), "python3.13"); err != nil {
		t.Error(err)
	}
	if got := trees(t, user); len(got) != 1 || got[0] != string(first.Digest) {
		t.Errorf("%q is left, want only %s", got, first.Digest)
	}
}

// Names that stand for the same content share it.
func TestSharedTree(t *testing.T) {
	s := openStore(t, t.TempDir())
	a, b := put(t, s, "java17", "same"), put(t, s, "java21", "same")
	if a.Digest != b.Digest || len(trees(t, s)) != 1 {
		t.Errorf("%s %s %q", a.Digest, b.Digest, trees(t, s))
	}
	if err := s.Remove(t.Context(), "java17"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Runtime(t.Context(), "java21"); err != nil {
		t.Errorf("the other name has lost its tree: %v", err)
	}
}

func TestReplacedTreeGoes(t *testing.T) {
	s := openStore(t, t.TempDir())
	put(t, s, "java17", "old")
	m := put(t, s, "java17", "new")
	if got := trees(t, s); len(got) != 1 || got[0] != string(m.Digest) {
		t.Errorf("%q, want %s", got, m.Digest)
	}
	put(t, s, "java17", "new") // the same again
	if got := trees(t, s); len(got) != 1 {
		t.Errorf("%q", got)
	}
}

func TestDamagedManifest(t *testing.T) {
	s := openStore(t, t.TempDir())
	for _, text := range []string{
		"", "{", `{"name":"java21","digest":"x"}`, `{"name":"java17","digest":"../../../etc"}`,
		`{"name":"java21","digest":"` + strings.Repeat("a", 64) + `"}`, `{"name":"java17","digest":"` + strings.Repeat("/", 64) + `"}`,
	} {
		if err := os.WriteFile(s.nameFile("java17"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, _, err := s.Runtime(t.Context(), "java17")
		if _, missing := errors.AsType[*MissingError](err); err == nil || missing {
			t.Errorf("%q: %v", text, err)
		}
		if _, err := s.List(); err == nil {
			t.Errorf("%q was listed", text)
		}
	}
	// A tree that is gone is an error, not a runtime.
	if err := os.WriteFile(s.nameFile("java17"), []byte(`{"name":"java17","digest":"`+strings.Repeat("a", 64)+`"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Runtime(t.Context(), "java17"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestSealIsOfContent(t *testing.T) {
	digest := func(files map[string]string, links map[string]string) firn.Digest {
		root := t.TempDir()
		writeTree(t, root, files)
		for name, target := range links {
			if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
				t.Fatal(err)
			}
		}
		sum, err := seal(t.Context(), root)
		if err != nil {
			t.Fatal(err)
		}
		return sum.digest
	}
	base := digest(map[string]string{"a/b": "1", "c": "2"}, map[string]string{"l": "c"})
	if again := digest(map[string]string{"c": "2", "a/b": "1"}, map[string]string{"l": "c"}); again != base {
		t.Errorf("%s and %s for the same", base, again)
	}
	for name, other := range map[string]firn.Digest{
		"content":    digest(map[string]string{"a/b": "1", "c": "3"}, map[string]string{"l": "c"}),
		"name":       digest(map[string]string{"a/x": "1", "c": "2"}, map[string]string{"l": "c"}),
		"mode":       digest(map[string]string{"a/b": "1", "c": "#!2"}, map[string]string{"l": "c"}),
		"link":       digest(map[string]string{"a/b": "1", "c": "2"}, map[string]string{"l": "a"}),
		"less":       digest(map[string]string{"a/b": "1"}, map[string]string{"l": "c"}),
		"moved line": digest(map[string]string{"a/b": "1", "c\nfile": "2"}, map[string]string{"l": "c"}),
	} {
		if other == base {
			t.Errorf("another %s has the same digest", name)
		}
	}
}
