package image

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/firn-run/firn/internal/image/layer"
)

// tree is an unpacked layer to be laid over others.
type tree struct {
	dir     string
	opaque  map[string]bool     // directories that hide what is below them
	removed map[string][]string // names that hide what is below them, by directory
}

func newTree(dir string, r layer.Removed) *tree {
	t := &tree{dir: dir, opaque: make(map[string]bool, len(r.Opaque)), removed: make(map[string][]string)}
	for _, name := range r.Opaque {
		t.opaque[name] = true
	}
	for _, name := range r.Paths {
		parent, base := path.Split(name)
		t.removed[path.Clean(parent)] = append(t.removed[path.Clean(parent)], base)
	}
	return t
}

// overlay lays trees over each other in target, which is empty; the first is
// the uppermost. Files are hard links. It is what a union mount would show:
// directories are united, unless something of another kind lies between them,
// and what a tree hides is hidden in the trees below it.
//
// The trees and target are this store's own, and nobody else writes to them;
// names come from listing them, and no link is ever followed. So plain paths do
// here: through os.Root it takes three times as long.
func overlay(ctx context.Context, target string, trees []*tree) error {
	o := &overlaying{ctx: ctx, target: target}
	o.group, o.ctx = errgroup.WithContext(ctx)
	o.group.SetLimit(runtime.GOMAXPROCS(0))
	err := o.dir(".", trees)
	return errors.Join(err, o.group.Wait())
}

type overlaying struct {
	ctx    context.Context
	target string
	group  *errgroup.Group
}

// found is what is to stand at one name.
type found struct {
	from   string  // of a file or link: where it is
	trees  []*tree // of a directory: those that have a part of it
	hidden bool    // nothing below counts any more
}

// dir fills a directory, which is there, from the trees that have it.
func (o *overlaying) dir(name string, trees []*tree) error {
	if err := o.ctx.Err(); err != nil {
		return err
	}
	entries, err := union(name, trees)
	if err != nil {
		return err
	}
	for base, e := range entries {
		to := filepath.Join(o.target, name, base)
		switch {
		case e.from != "":
			err = linkOrCopy(e.from, to)
		case e.trees != nil:
			if err = os.Mkdir(to, dirMode); err == nil {
				err = os.Chmod(to, dirMode)
			}
			below := path.Join(name, base)
			if err == nil && !o.group.TryGo(func() error { return o.dir(below, e.trees) }) {
				err = o.dir(below, e.trees)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// union finds what stands in a directory.
func union(name string, trees []*tree) (map[string]*found, error) {
	entries := make(map[string]*found)
	for _, t := range trees {
		list, err := os.ReadDir(filepath.Join(t.dir, name))
		if err != nil {
			return nil, err
		}
		for _, d := range list {
			e := entries[d.Name()]
			switch {
			case e == nil && d.IsDir():
				entries[d.Name()] = &found{trees: []*tree{t}}
			case e == nil:
				entries[d.Name()] = &found{from: filepath.Join(t.dir, name, d.Name()), hidden: true}
			case e.hidden:
			case d.IsDir():
				e.trees = append(e.trees, t)
			default:
				e.hidden = true // what is below a file cannot shine through
			}
		}
		if t.opaque[name] {
			break
		}
		for _, base := range t.removed[name] {
			if e := entries[base]; e != nil {
				e.hidden = true
			} else {
				entries[base] = &found{hidden: true}
			}
		}
	}
	return entries, nil
}

// linkOrCopy makes a hard link, or a copy where the file system cannot.
func linkOrCopy(from, to string) error {
	err := os.Link(from, to) // to a symbolic link itself, not to its target
	for _, cannot := range []error{syscall.EMLINK, syscall.EPERM, syscall.EXDEV, syscall.EOPNOTSUPP} {
		if errors.Is(err, cannot) {
			return copyEntry(from, to)
		}
	}
	return err
}

func copyEntry(from, to string) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	if info.Mode().Type() == fs.ModeSymlink {
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	}
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	if err == nil {
		err = dst.Chmod(info.Mode().Perm())
	}
	if err = errors.Join(err, dst.Close()); err != nil {
		return err
	}
	return os.Chtimes(to, info.ModTime(), info.ModTime())
}
