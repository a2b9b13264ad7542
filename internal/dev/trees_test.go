package dev

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// shelf makes trees of a folder.
func shelf(t testing.TB, dir string) *trees {
	t.Helper()
	p := &Project{Folder: dir}
	s := &trees{dir: filepath.Join(t.TempDir(), "trees"), sources: p.sources()}
	if err := s.open(); err != nil {
		t.Fatal(err)
	}
	return s
}

// turn makes the next tree and returns what it says has changed.
func (t *trees) turn(tb testing.TB, paths ...string) string {
	tb.Helper()
	changed, err := t.next(paths)
	if err != nil {
		tb.Fatal(err)
	}
	return strings.Join(changed, " ")
}

// listing is what lies in a folder, with the content of files and the targets
// of links.
func listing(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		switch {
		case d.IsDir():
			all[rel+"/"] = ""
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(path)
			all[rel] = "-> " + target
			return err
		default:
			text, err := os.ReadFile(path)
			all[rel] = string(text)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestTreesAreCopies(t *testing.T) {
	outside := folder(t, "outside", map[string]string{"lib/x.js": "outer"})
	dir := folder(t, "fn", map[string]string{"bootstrap": "#!/bin/sh", "a/b.txt": "1", ".git/HEAD": "ref", "a/b.txt~": "old", "node_modules/m/i.js": "m"})
	old := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	if err := os.Chtimes(filepath.Join(dir, "a/b.txt"), old, old); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{
		"inside": "a/b.txt", "linked": filepath.Join(outside, "lib"), "absolute": filepath.Join(dir, "a/b.txt"), "dangling": "nowhere",
	} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	s := shelf(t, dir)
	if got := s.turn(t); got != "a/b.txt absolute bootstrap inside linked/x.js node_modules/m/i.js" {
		t.Errorf("new: %s", got)
	}
	first, release := s.acquire()
	want := map[string]string{
		"a/": "", "a/b.txt": "1", "absolute": "1", "bootstrap": "#!/bin/sh", "inside": "-> a/b.txt", "linked/": "", "linked/x.js": "outer",
		"node_modules/": "", "node_modules/m/": "", "node_modules/m/i.js": "m",
	}
	if got := listing(t, first); !maps.Equal(got, want) {
		t.Errorf("%v\nwant %v", got, want)
	}
	for name, mode := range map[string]fs.FileMode{"bootstrap": 0o555, "a/b.txt": 0o444, "a": fs.ModeDir | 0o755} {
		info, err := os.Stat(filepath.Join(first, name))
		if err != nil || info.Mode() != mode {
			t.Errorf("%s: %v %v, want %s", name, info.Mode(), err, mode)
		}
		if name == "a/b.txt" && !info.ModTime().Equal(old) {
			t.Errorf("time %s", info.ModTime())
		}
	}
	// A write into the user's file, in place, is not seen before the reload.
	if err := os.WriteFile(filepath.Join(dir, "a/b.txt"), []byte("2"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := listing(t, first); !maps.Equal(got, want) {
		t.Errorf("the tree has changed with the folder: %v", got)
	}
	if got := s.turn(t, filepath.Join(dir, "a/b.txt")); got != "a/b.txt" {
		t.Errorf("changed: %s", got)
	}
	second, _ := s.acquire()
	if got := listing(t, first); !maps.Equal(got, want) {
		t.Errorf("a tree in use has changed: %v", got)
	}
	want["a/b.txt"] = "2"
	if got := listing(t, second); !maps.Equal(got, want) { // absolute was not looked at
		t.Errorf("%v\nwant %v", got, want)
	}
	release()
	release() // once more is no harm
	if len(s.others) != 1 || s.others[0].users != 0 {
		t.Errorf("the first tree is still taken: %+v", s.others)
	}
}

func TestNothingChangedIsNoReload(t *testing.T) {
	dir := folder(t, "fn", map[string]string{"a": "1"})
	s := shelf(t, dir)
	s.turn(t)
	before, _ := s.acquire()
	if got := s.turn(t, filepath.Join(dir, "a"), filepath.Join(dir, "gone")); got != "" {
		t.Errorf("changed: %s", got)
	}
	if now, _ := s.acquire(); now != before {
		t.Error("another tree without a change")
	}
}

// An empty folder is code, too: the function says itself what it lacks.
func TestEmptyFolder(t *testing.T) {
	s := shelf(t, folder(t, "fn", nil))
	if dir, _ := s.acquire(); dir != "" {
		t.Errorf("a tree before the first: %s", dir)
	}
	s.turn(t)
	if dir, _ := s.acquire(); dir == "" {
		t.Error("no tree")
	}
}

// A file that is being written is not taken half.
func TestUnsettled(t *testing.T) {
	dir := folder(t, "fn", map[string]string{"a": "whole"})
	s := shelf(t, dir)
	s.turn(t)
	file := filepath.Join(dir, "a")
	write(t, file, "") // truncated a moment ago
	_, err := s.next([]string{file})
	if _, unsettled := errors.AsType[*unsettledError](err); !unsettled {
		t.Fatalf("an emptied file: %v", err)
	}
	if got := s.turnSettled(t, file); got != "a" { // it stays empty: so be it
		t.Errorf("changed: %s", got)
	}
	write(t, file, "new")
	e := s.files["a"]
	e.size, e.time = 1, time.Now() // as it was seen before the editor wrote on
	if err := copyFile(filepath.Join(t.TempDir(), "a"), "a", e); err == nil {
		t.Error("a file that grew while it was copied is taken")
	}
	if got := s.turnSettled(t, file); got != "a" {
		t.Errorf("changed: %s", got)
	}
	if dir, _ := s.acquire(); listing(t, dir)["a"] != "new" {
		t.Error("not the new file")
	}
}

func (t *trees) turnSettled(tb testing.TB, paths ...string) string {
	tb.Helper()
	changed, err := t.settled(tb.Context(), paths)
	if err != nil {
		tb.Fatal(err)
	}
	return strings.Join(changed, " ")
}

// Trees take turns, and their number is bounded once environments end.
func TestTurns(t *testing.T) {
	dir := folder(t, "fn", map[string]string{"a": "0", "b": "same"})
	s := shelf(t, dir)
	s.turn(t)
	s.prepare()
	var releases []func()
	for i := range 6 { // environments that do not end
		_, release := s.acquire()
		releases = append(releases, release)
		write(t, filepath.Join(dir, "a"), fmt.Sprint("turn ", i))
		s.turn(t, filepath.Join(dir, "a"))
		s.prepare()
	}
	if s.made != 7 {
		t.Errorf("%d trees for 6 environments and the next", s.made)
	}
	for _, release := range releases {
		release()
	}
	for i := range 5 {
		write(t, filepath.Join(dir, "a"), fmt.Sprint("again ", i))
		s.turn(t, filepath.Join(dir, "a"))
		s.prepare()
	}
	left, err := os.ReadDir(s.dir)
	if err != nil || len(left) != 1+spareTrees || s.made != 7 {
		t.Errorf("%d trees are left of %d, %v", len(left), s.made, err)
	}
	now, _ := s.acquire()
	if got := listing(t, now); got["a"] != "again 4" || got["b"] != "same" {
		t.Errorf("%v", got)
	}
	if !slices.ContainsFunc(s.others, func(o *tree) bool { return len(o.stale) == 0 && !o.all }) {
		t.Error("no tree is ready for the next reload")
	}
}

// Whatever happens in the folder, the tree is the folder.
func TestTreesFollow(t *testing.T) {
	names := []string{"a", "a/x", "a/y", "a/y/z", "b", "c/d", "c/d/e", "f"}
	rapid.Check(t, func(r *rapid.T) {
		dir, work := t.TempDir(), t.TempDir()
		p := &Project{Folder: dir}
		s := &trees{dir: filepath.Join(work, "trees"), sources: p.sources()}
		if err := s.open(); err != nil {
			r.Fatal(err)
		}
		var releases []func()
		for i := range rapid.IntRange(1, 8).Draw(r, "reloads") {
			var touched []string
			for j := range rapid.IntRange(0, 6).Draw(r, "changes") {
				name := rapid.SampledFrom(names).Draw(r, "name")
				path := filepath.Join(dir, name)
				touched = append(touched, path)
				switch rapid.SampledFrom([]string{"write", "remove", "link"}).Draw(r, "change") {
				case "write":
					makeRoom(t, dir, name)
					write(t, path, fmt.Sprint("content ", i, j))
				case "link":
					makeRoom(t, dir, name)
					if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
						r.Fatal(err)
					}
					if err := os.Symlink("target", path); err != nil {
						r.Fatal(err)
					}
				case "remove":
					os.RemoveAll(path)
				}
			}
			if rapid.Bool().Draw(r, "everything") {
				touched = nil
			}
			if _, err := s.settled(t.Context(), touched); err != nil {
				r.Fatal(err)
			}
			now, release := s.acquire()
			releases = append(releases, release)
			if got, want := files(t, now), files(t, dir); now != "" && !maps.Equal(got, want) {
				r.Fatalf("%v\nwant %v", got, want)
			}
			if rapid.Bool().Draw(r, "environments end") {
				for _, release := range releases {
					release()
				}
			}
			if rapid.Bool().Draw(r, "idle") {
				s.prepare()
			}
		}
	})
}

// makeRoom makes room for a file: folders where files are, and the other way.
func makeRoom(t *testing.T, dir, name string) {
	os.RemoveAll(filepath.Join(dir, name))
	for parent := filepath.Dir(name); parent != "."; parent = filepath.Dir(parent) {
		if info, err := os.Lstat(filepath.Join(dir, parent)); err == nil && !info.IsDir() {
			os.Remove(filepath.Join(dir, parent))
		}
	}
}

// files is listing without folders, and without links that lead nowhere, which
// code does not have.
func files(t testing.TB, dir string) map[string]string {
	all := listing(t, dir)
	maps.DeleteFunc(all, func(name, text string) bool { return strings.HasSuffix(name, "/") || strings.HasPrefix(text, "-> ") })
	return all
}
