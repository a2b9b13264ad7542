package dev

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// source is a folder, or a file, that is a part of the code.
type source struct {
	from string // absolute
	to   string // where it lies in the code, with slashes; "" for its root
	// skip says that what lies at path, rel below from, is not part of it.
	skip func(path, rel string) bool
}

// entry is a file of the code as it was seen.
type entry struct {
	from   string      // the file itself, where a link leads
	mode   fs.FileMode // type and permissions
	size   int64
	time   time.Time
	inode  uint64 // a file that took the place of another one in the same tick
	target string // of a link that stays one
}

// contents are the files of the code by their names in it.
type contents map[string]entry

// maxDepth bounds how deep the code is looked at: links can make circles.
const maxDepth = 64

// scan looks at the sources, or only at those paths, and says what is
// different from before: names that are new, that are changed, that are gone.
func scan(sources []source, before contents, paths []string) (now contents, changed []string, err error) {
	seen := contents{}
	var within []string // names that were looked at with all below them
	for _, s := range sources {
		rels := []string{"."}
		if paths != nil {
			rels = rels[:0]
			for _, p := range paths {
				if rel, ok := below(s.from, p); ok {
					rels = append(rels, rel)
				} else if _, ok := below(p, s.from); ok {
					rels = append(rels, ".")
				}
			}
		}
		for _, rel := range rels {
			rel = s.wasFile(before, rel)
			within = append(within, path.Join(s.to, filepath.ToSlash(rel)))
			if err := s.look(seen, rel); err != nil {
				return nil, nil, err
			}
		}
	}
	now = make(contents, len(before)+len(seen))
	for name, e := range before {
		if _, there := seen[name]; !there && inAny(within, name) {
			changed = append(changed, name)
			continue
		}
		now[name] = e
	}
	for name, e := range seen {
		if old, there := before[name]; !there || old != e {
			changed = append(changed, name)
		}
		now[name] = e
	}
	return now, changed, nil
}

// wasFile is rel, or the part of it that was a file or a link until now.
func (s *source) wasFile(before contents, rel string) string {
	for i, r := range rel {
		if r == filepath.Separator {
			if _, was := before[path.Join(s.to, filepath.ToSlash(rel[:i]))]; was {
				return rel[:i]
			}
		}
	}
	return rel
}

func inAny(dirs []string, name string) bool {
	for _, dir := range dirs {
		if dir == "." || dir == "" || name == dir || strings.HasPrefix(name, dir+"/") {
			return true
		}
	}
	return false
}

// look adds what lies at rel, with all below it.
func (s *source) look(into contents, rel string) error {
	for dir := rel; dir != "."; dir = filepath.Dir(dir) {
		if s.skip(filepath.Join(s.from, dir), dir) {
			return nil
		}
		if dir == rel {
			continue
		}
		// What lies behind a link is looked at with the link.
		if info, err := os.Lstat(filepath.Join(s.from, dir)); err == nil && info.Mode().Type() == fs.ModeSymlink {
			rel = dir
		}
	}
	return s.add(into, filepath.Join(s.from, rel), rel, 0)
}

// add adds the file at path under the name of rel.
func (s *source) add(into contents, file, rel string, depth int) error {
	if depth > maxDepth || rel != "." && s.skip(filepath.Join(s.from, rel), rel) {
		return nil
	}
	info, err := os.Lstat(file)
	if vanished(err) {
		return nil
	}
	if err != nil {
		return err
	}
	name := path.Join(s.to, filepath.ToSlash(rel))
	if info.Mode().Type() == fs.ModeSymlink {
		target, real, inside := s.link(file)
		if inside {
			into[name] = entry{from: file, mode: fs.ModeSymlink, target: target}
			return nil
		}
		file = real
		if info, err = os.Stat(file); err != nil {
			return nil // it leads nowhere: an archiver would leave it out as well
		}
	}
	switch {
	case info.Mode().IsRegular():
		e := entry{from: file, mode: info.Mode().Perm(), size: info.Size(), time: info.ModTime()}
		if sys, ok := info.Sys().(*syscall.Stat_t); ok {
			e.inode = sys.Ino
		}
		into[name] = e
	case info.IsDir():
		list, err := os.ReadDir(file)
		if vanished(err) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, d := range list {
			if err := s.add(into, filepath.Join(file, d.Name()), filepath.Join(rel, d.Name()), depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// link judges a link: one with a relative target inside the source stays a
// link; what any other leads to takes its place, as in an archive.
func (s *source) link(file string) (target, real string, inside bool) {
	target, err := os.Readlink(file)
	if err != nil {
		return "", file, false
	}
	real, err = filepath.EvalSymlinks(file)
	if err != nil {
		return target, file, false
	}
	base, err := filepath.EvalSymlinks(s.from)
	if err != nil {
		return target, real, false
	}
	_, inside = below(base, real)
	return target, real, inside && !filepath.IsAbs(target)
}

func vanished(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}
