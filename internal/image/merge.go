package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/firn-run/firn"
)

// merge lays the layers over each other in tmp. Later ones win, as on AWS:
// directories are united, and where a file or link meets anything, or a
// directory meets a file or link, the later stands. Files are hard links.
func (s *Store) merge(ctx context.Context, tmp string, layers []firn.Digest) (marker, error) {
	target := path.Join(tmp, rootName)
	for i, d := range layers {
		if _, err := s.zip(ctx, d); err != nil {
			return marker{}, err
		}
		layer := path.Join(zipPrefix+string(d), rootName)
		err := s.walk(ctx, layer, func(from string, e fs.DirEntry) error {
			return s.place(from, target+strings.TrimPrefix(from, layer), e, i > 0)
		})
		if err != nil {
			return marker{}, err
		}
	}
	return s.checkMerged(ctx, target)
}

// place puts one entry of a layer at to. Its directory is there, and is a
// directory: the walk has placed it before.
func (s *Store) place(from, to string, e fs.DirEntry, occupied bool) error {
	if occupied {
		there, err := s.root.Lstat(to)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case there.IsDir() && e.IsDir():
			return nil
		default:
			if err := s.root.RemoveAll(to); err != nil {
				return err
			}
		}
	}
	switch {
	case e.IsDir():
		return s.mkdir(to)
	case e.Type() == fs.ModeSymlink:
		target, err := s.root.Readlink(from)
		if err != nil {
			return err
		}
		return s.root.Symlink(target, to)
	}
	return s.link(from, to)
}

// link makes a hard link, or a copy where the file system cannot.
func (s *Store) link(from, to string) error {
	err := s.root.Link(from, to)
	for _, cannot := range []error{syscall.EMLINK, syscall.EPERM, syscall.EXDEV, syscall.EOPNOTSUPP} {
		if errors.Is(err, cannot) {
			return s.copy(from, to)
		}
	}
	return err
}

func (s *Store) copy(from, to string) error {
	src, err := s.root.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	dst, err := s.root.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
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
	return s.root.Chtimes(to, info.ModTime(), info.ModTime())
}

// checkMerged counts the result and checks the links of all layers together:
// each was judged within its own layer only.
func (s *Store) checkMerged(ctx context.Context, target string) (m marker, err error) {
	tree := newLinkTree()
	err = s.walk(ctx, target, func(name string, e fs.DirEntry) error {
		if e.IsDir() {
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		m.Files++
		m.Bytes += info.Size()
		if e.Type() == fs.ModeSymlink {
			to, err := s.root.Readlink(name)
			tree.targets[strings.TrimPrefix(name, target+"/")] = to
			return err
		}
		return nil
	})
	if err != nil {
		return marker{}, err
	}
	if m.Bytes > s.limit {
		return marker{}, tooLarge()
	}
	for name, to := range tree.targets {
		if err := tree.check(name); err != nil {
			return marker{}, refuse(msgNotZip, fmt.Errorf("link %.200q to %.200q: %w", name, to, err))
		}
	}
	return m, nil
}

// Live is what a Sweep keeps.
type Live struct {
	Code   []firn.Digest   // archives of functions
	Layers [][]firn.Digest // lists as given to Layers
	Images []firn.Digest   // manifests as given to Root
	Dirs   []string        // directories that environments use, as handed out
}

// Sweep removes the directories that nothing of live refers to, except those
// that were handed out since the Sweep before: their users may not be known to
// the caller yet. It returns how many it has removed. A directory that is
// wanted again later is made again.
func (s *Store) Sweep(ctx context.Context, live Live) (removed int, err error) {
	if !s.begin() {
		return 0, ErrClosed
	}
	defer s.work.Done()
	keep := live.names()
	swept := []string{zipPrefix, mergedPrefix}
	if s.keepImages(live.Images, keep) {
		swept = append(swept, tarPrefix, imagePrefix)
	}
	names, err := s.names()
	if err != nil {
		return 0, fmt.Errorf("sweep images: %w", err)
	}
	for _, name := range names {
		ours := slices.ContainsFunc(swept, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
		if recent := s.recent(name); !ours || recent || keep[name] {
			continue
		}
		if err := ctx.Err(); err != nil {
			return removed, err
		}
		// Under the name's flight nobody makes or finds it meanwhile; it is
		// asked again there whether somebody has.
		_, err, _ := s.flights.Do(name, func() (any, error) {
			if !s.forget(name) {
				return nil, nil
			}
			removed++
			return nil, s.discard(name)
		})
		if err != nil {
			return removed, fmt.Errorf("sweep images: %w", err)
		}
	}
	return removed, nil
}

// names are the directories that live needs.
func (l Live) names() map[string]bool {
	keep := make(map[string]bool)
	for _, d := range l.Code {
		keep[zipPrefix+string(d)] = true
	}
	for _, list := range l.Layers {
		if len(list) > 1 {
			keep[mergedName(list)] = true
		}
		for _, d := range list {
			keep[zipPrefix+string(d)] = true
		}
	}
	for _, dir := range l.Dirs {
		keep[filepath.Base(filepath.Dir(dir))] = true
	}
	return keep
}

// recent reports whether name was handed out since the last Sweep, and ends
// that protection for the next one.
func (s *Store) recent(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	handedOut := s.ready[name]
	if handedOut {
		s.ready[name] = false
	}
	return handedOut
}

// forget drops name unless it was handed out in the meantime.
func (s *Store) forget(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready[name] {
		return false
	}
	delete(s.ready, name)
	return true
}
