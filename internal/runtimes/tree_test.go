package runtimes

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/firn-run/firn/internal/require"
)

// listTree describes what is below root: files by content, links by target.
func listTree(t *testing.T, root string) map[string]string {
	t.Helper()
	list := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.Type()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(path)
			list[rel] = "-> " + target
			return err
		}
		text, err := os.ReadFile(path)
		list[rel] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestCopy(t *testing.T) {
	host := t.TempDir()
	writeTree(t, host, map[string]string{
		"lang/bin/run": "#!run", "lang/lib/a": "a", "lang/lib/skipped": "no", "conf/security": "conf", "conf/deep/x": "x",
	})
	for name, target := range map[string]string{
		"lang/bin/alias": "run", "lang/lib/conf": "../../conf", "lang/lib/file": filepath.Join(host, "conf/security"),
		"lang/lib/dead": "/no/such/file", "lang/lib/absolute": filepath.Join(host, "lang/lib/a"), "lang/lib/loop": "..", "lang/self": "self",
	} {
		if err := os.Symlink(target, filepath.Join(host, name)); err != nil {
			t.Fatal(err)
		}
	}
	to := filepath.Join(t.TempDir(), "tree")
	c := copying{t.Context(), func(path string, isDir bool) bool { return path == "lib/skipped" }}
	if err := c.dir(filepath.Join(host, "lang"), to); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"bin/run": "#!run", "bin/alias": "-> run", "lib/a": "a", "lib/conf/security": "conf", "lib/conf/deep/x": "x",
		"lib/file": "conf", "lib/absolute": "a", "lib/loop": "-> ..",
	}
	got := listTree(t, to)
	for name, content := range want {
		if got[name] != content {
			t.Errorf("%s: %q, want %q", name, got[name], content)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("copied as well: %q", got)
	}
	info, err := os.Stat(filepath.Join(to, "bin/run"))
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Error(info.Mode(), err)
	}
}

func TestCopyStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (copying{ctx, nil}).dir(t.TempDir(), filepath.Join(t.TempDir(), "to")); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := seal(ctx, t.TempDir()); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A program that was linked with a search path of the host's finds its library
// where the tree is.
func TestRelocate(t *testing.T) {
	_, err := exec.LookPath("gcc")
	require.Feature(t, "runtimes", err == nil, "no gcc")
	host := t.TempDir()
	prefix := filepath.Join(host, "a/long/enough/prefix")
	writeTree(t, prefix, map[string]string{
		"lib/l.c": "int answer(void) { return 42; }", "bin/p.c": "int answer(void); int main(void) { return answer() != 42; }",
		"bin/data": "\x7fELF but no more",
	})
	for _, argv := range [][]string{
		{"gcc", "-shared", "-fPIC", "-o", "lib/libanswer.so", "lib/l.c"},
		{"gcc", "-o", "bin/p", "bin/p.c", "-Llib", "-lanswer", "-Wl,-rpath," + prefix + "/lib"},
	} {
		cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
		cmd.Dir = prefix
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	root := filepath.Join(t.TempDir(), "moved")
	if err := (copying{t.Context(), nil}).dir(prefix, root); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(host); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(root, "bin/p")
	if exec.CommandContext(t.Context(), program).Run() == nil {
		t.Fatal("the program needs no relocation")
	}
	if err := relocate(root, filepath.Join(root, "lib"), []string{"/elsewhere"}); err != nil {
		t.Fatal(err)
	}
	if exec.CommandContext(t.Context(), program).Run() == nil {
		t.Fatal("a path that is not below the prefixes was replaced")
	}
	if err := relocate(root, filepath.Join(root, "lib"), []string{prefix}); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), program).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	file, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	paths, _ := file.DynString(elf.DT_RUNPATH)
	if !slices.Equal(paths, []string{"$ORIGIN/../lib"}) {
		t.Errorf("run path %q", paths)
	}
}

func FuzzRelocate(f *testing.F) {
	f.Add([]byte("\x7fELF"), "/x")
	f.Add(append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 60)...), "/x")
	f.Fuzz(func(t *testing.T, content []byte, prefix string) {
		file := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		_ = patchRunPath(file, "$ORIGIN", []string{prefix}) // an error is as good; a panic is not
		after, err := os.ReadFile(file)
		if err != nil || len(after) != len(content) {
			t.Errorf("the file has changed its size: %v", err)
		}
		if !strings.Contains(string(content), prefix) && !bytes.Equal(after, content) {
			t.Error("the file has changed without reason")
		}
	})
}
