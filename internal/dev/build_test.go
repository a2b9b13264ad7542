package dev

import (
	"archive/zip"
	"bytes"
	"context"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestBuildOutputAndEnd(t *testing.T) {
	dir := folder(t, "fn", map[string]string{"main.txt": "x"})
	p := &Project{Folder: dir, Work: t.TempDir(), Build: `cat main.txt && echo made > "$FIRN_BUILD/out"`}
	if took, err := p.build(t.Context()); err != nil || took <= 0 {
		t.Errorf("%s %v", took, err)
	}
	if got := listing(t, p.buildDir()); got["out"] != "made\n" {
		t.Errorf("built: %v", got)
	}
	p.Build = `yes 0123456789abcdef | head -c 100000; echo the end; exit 7`
	_, err := p.build(t.Context())
	if err == nil || !strings.HasPrefix(err.Error(), "exit status 7\n") || !strings.HasSuffix(err.Error(), "the end") || len(err.Error()) > maxBuildOutput+100 {
		t.Errorf("%.200v", err)
	}
	// The end of the session ends a build with its children.
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	p.Build = `sleep 60 & wait`
	if took, err := p.build(ctx); err == nil || took > 10*time.Second {
		t.Errorf("%s %v", took, err)
	}
}

// What a build makes, and what lies elsewhere, is put where an archive has it.
func TestSources(t *testing.T) {
	for _, test := range []struct {
		name  string
		p     Project
		files map[string]string
		want  string
	}{
		{"go", Project{layout: golang}, map[string]string{"go.mod": "", "main.go": "", "sub/x.go": "", "config.json": "", "bootstrap": "old", "../work/build/bootstrap": "new"}, "bootstrap=new config.json="},
		{"maven", Project{layout: maven}, map[string]string{"pom.xml": "", "target/classes/a/H.class": "c", "target/dependency/x.jar": "j", "target/other": ""}, "a/H.class=c lib/x.jar=j"},
		{"jar", Project{layout: jar}, map[string]string{"x.jar": "1", "build.gradle": "", "build/libs/y.jar": "2", "lib/z.jar": ""}, "lib/x.jar=1 lib/y.jar=2"},
		{"code", Project{code: "dist"}, map[string]string{"a.ts": "", "dist/a.js": "1", "dist/sub/b.js": "2"}, "a.js=1 sub/b.js=2"},
		{"data inside", Project{ignore: []string{"data"}}, map[string]string{"a": "1", "data/db": ""}, "a=1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := folder(t, "fn", test.files)
			p := test.p
			p.Folder, p.Work = dir, filepath.Join(filepath.Dir(dir), "work")
			if p.code != "" {
				p.code = filepath.Join(dir, p.code)
			}
			for i := range p.ignore {
				p.ignore[i] = filepath.Join(dir, p.ignore[i])
			}
			s := &trees{dir: filepath.Join(t.TempDir(), "trees"), sources: p.sources()}
			if err := s.open(); err != nil {
				t.Fatal(err)
			}
			s.turn(t)
			now, _ := s.acquire()
			var got []string
			for name, text := range files(t, now) {
				got = append(got, name+"="+text)
			}
			slices.Sort(got)
			if strings.Join(got, " ") != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

func TestLayerArchive(t *testing.T) {
	dir := folder(t, "layer", map[string]string{"extensions/agent": "#!/bin/sh", "python/x.py": "x", ".git/HEAD": ""})
	archive, err := pack(func(w *zip.Writer) error { return addFolder(w, dir) })
	if err != nil {
		t.Fatal(err)
	}
	r, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range r.File {
		got = append(got, f.Name+" "+f.Mode().String())
	}
	if slices.Sort(got); strings.Join(got, ", ") != "extensions/agent -rwxr-xr-x, python/x.py -rw-r--r--" {
		t.Errorf("%s", got)
	}
}

func TestReadEvents(t *testing.T) {
	out := make(chan []byte, 10)
	var complaints []string
	in := "\n{\"a\":1}\r\n  \nnot json\n[1,2]\n" + strings.Repeat("x", 10)
	readEvents(t.Context(), strings.NewReader(in), out, func(s string) { complaints = append(complaints, s) })
	close(out)
	var got []string
	for e := range out {
		got = append(got, string(e))
	}
	if want := []string{"", `{"a":1}`, "", "[1,2]"}; !slices.Equal(got, want) || len(complaints) != 2 {
		t.Errorf("%q, %q", got, complaints)
	}
	// Nobody reads, and the session ends.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	readEvents(ctx, io.MultiReader(strings.NewReader("1\n2\n")), nil, func(string) {})
}
