package dev

import (
	"path/filepath"
	"slices"
	"strings"
)

// class is what a file or a folder means to a reload.
type class int

const (
	classCode    class = iota // copied, and a change of it reloads
	classBulk                 // a folder with thousands of files that a tool writes: copied, not watched inside
	classSilent               // copied, and never the reason for a reload
	classNothing              // not there
)

// classify judges one name of a path.
func classify(name string) class {
	switch name {
	case ".git", ".hg", ".svn", ".jj", ".idea", ".vscode", ".DS_Store", ".venv", "venv", ".gradle", ".aws-sam", ".terraform",
		".pytest_cache", ".mypy_cache", ".ruff_cache", ".tox", ".nox", ".coverage", ".gitignore", "4913":
		return classNothing // 4913: Vim's question whether it may write
	case "node_modules", "site-packages":
		return classBulk
	case "__pycache__":
		return classSilent
	}
	switch {
	case strings.HasSuffix(name, "~"), // Vim, Emacs, gedit
		strings.HasPrefix(name, ".#"), strings.HasPrefix(name, "#") && strings.HasSuffix(name, "#"), // Emacs
		strings.HasPrefix(name, ".goutputstream-"),                                       // GLib
		strings.HasSuffix(name, "___jb_tmp___"), strings.HasSuffix(name, "___jb_old___"), // JetBrains
		strings.HasPrefix(name, ".") && swapFile(filepath.Ext(name)): // Vim
		return classNothing
	case strings.HasSuffix(name, ".pyc"):
		return classSilent
	}
	return classCode
}

// swapFile knows .swp, .swo, .swn, ... and .swx.
func swapFile(ext string) bool {
	return len(ext) == 4 && strings.HasPrefix(ext, ".sw")
}

// classOf judges a path below a folder: nothing below nothing, and what lies in
// a bulk folder is bulk. at is the part of the path that made it so.
func classOf(rel string) (c class, at string) {
	if rel == "." {
		return classCode, rel
	}
	for i, name := 0, ""; i < len(rel); i += len(name) + 1 {
		name, _, _ = strings.Cut(rel[i:], string(filepath.Separator))
		if c := classify(name); c != classCode {
			return c, rel[:i+len(name)]
		}
	}
	return classCode, rel
}

// below says that path is dir or lies in it, and where.
func below(dir, path string) (rel string, ok bool) {
	if path == dir {
		return ".", true
	}
	if rest, ok := strings.CutPrefix(path, strings.TrimSuffix(dir, string(filepath.Separator))+string(filepath.Separator)); ok {
		return rest, true
	}
	return "", false
}

// watched judges a path of the folder for the watcher: what a build writes must
// not begin the next one.
func (p *Project) watched(path string) (class, string) {
	rel, ok := below(p.Folder, path)
	if !ok || slices.ContainsFunc(p.ignore, func(dir string) bool { _, in := below(dir, path); return in }) {
		return classNothing, path
	}
	if _, made := below(filepath.Join(p.Folder, "target"), path); made && p.layout == maven {
		return classNothing, path
	}
	if _, made := below(p.code, path); made && p.Build != "" && p.code != "" && p.code != p.Folder {
		return classNothing, path
	}
	c, at := classOf(rel)
	return c, filepath.Join(p.Folder, at)
}

// sources are where the code comes from.
func (p *Project) sources() []source {
	skip := func(path, rel string) bool {
		if c, _ := classOf(rel); c == classNothing {
			return true
		}
		return slices.ContainsFunc(p.ignore, func(dir string) bool { _, in := below(dir, path); return in })
	}
	in := func(parts ...string) string { return filepath.Join(append([]string{p.Folder}, parts...)...) }
	switch {
	case p.code != "":
		return []source{{from: p.code, skip: skip}}
	case p.layout == golang:
		files := source{from: p.Folder, skip: func(path, rel string) bool {
			return skip(path, rel) || rel == bootstrap || rel == "go.mod" || rel == "go.sum" || filepath.Ext(rel) == ".go"
		}}
		return []source{files, {from: filepath.Join(p.buildDir(), bootstrap), to: bootstrap, skip: func(string, string) bool { return false }}}
	case p.layout == maven:
		return []source{{from: in("target", "classes"), skip: skip}, {from: in("target", "dependency"), to: "lib", skip: skip}}
	case p.layout == jar:
		jars := func(_, rel string) bool {
			return rel != "." && (filepath.Ext(rel) != ".jar" || filepath.Dir(rel) != ".")
		}
		return []source{{from: p.Folder, to: "lib", skip: jars}, {from: in("build", "libs"), to: "lib", skip: jars}, {from: in("target"), to: "lib", skip: jars}}
	}
	return []source{{from: p.Folder, skip: skip}}
}

func (p *Project) buildDir() string { return filepath.Join(p.Work, "build") }
