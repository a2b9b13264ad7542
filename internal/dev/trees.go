package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// trees are the copies of the code that environments run from. The function is
// never given the folder itself: an editor writes a file in several steps, and
// a function that can write (in the process sandbox) must not reach the user's
// files. So a file is copied, once, when it has changed, without permission to
// write; trees share the copies by hard links.
//
// A reload must not cost what the folder has of files, which node_modules makes
// thousands, but what has changed. Two or three trees take turns: one is
// current; one is left by the reload before and ends with its last environment;
// one waits, up to date, and becomes the next by receiving what changed. A tree
// that environments run from is not written to.
type trees struct {
	dir     string
	sources []source
	files   contents // of the current tree; the loop's alone

	mu      sync.Mutex
	current *tree
	others  []*tree
	made    int
}

// tree is one copy. Fields are guarded by trees.mu, but for stale and all, which
// belong to the loop while nobody runs from the tree.
type tree struct {
	dir   string
	users int
	stale map[string]bool // names that are not as in the current tree
	all   bool            // nothing is known of it
}

// spareTrees is how many trees are kept besides the current one.
const spareTrees = 2

func (t *trees) open() error { return os.Mkdir(t.dir, 0o755) }

// acquire gives the current tree to an environment, until it calls release.
// There is none as long as the code could not be read even once.
func (t *trees) acquire() (dir string, release func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	cur := t.current
	if cur == nil {
		return "", func() {}
	}
	cur.users++
	return cur.dir, sync.OnceFunc(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		cur.users--
	})
}

// unsettledError says that a file is being written at this moment.
type unsettledError struct{ name string }

func (e *unsettledError) Error() string { return e.name + " is still being written" }

// settleTime is how long a file may go on changing while it is read;
// settleStep is the pause between two attempts.
const (
	settleTime = 3 * time.Second
	settleStep = 20 * time.Millisecond
)

// settled is next, again as long as a file is just being written.
func (t *trees) settled(ctx context.Context, paths []string) (changed []string, err error) {
	limit := time.Now().Add(settleTime)
	for {
		changed, err = t.next(paths)
		if _, unsettled := errors.AsType[*unsettledError](err); !unsettled || time.Now().After(limit) {
			return changed, err
		}
		select {
		case <-time.After(settleStep):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// next makes the next tree of what has changed at paths (nil: anywhere), and
// says what that is. After an error, and when nothing has changed, the current
// tree stays.
func (t *trees) next(paths []string) (changed []string, err error) {
	now, changed, err := scan(t.sources, t.files, paths)
	if err != nil || len(changed) == 0 && t.current != nil {
		return nil, err
	}
	slices.Sort(changed)
	if err := t.check(now, changed); err != nil {
		return nil, err
	}
	next, err := t.spare()
	if err != nil {
		return nil, err
	}
	if err := t.update(next, now, changed); err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.others = slices.DeleteFunc(t.others, func(o *tree) bool { return o == next })
	if t.current != nil {
		t.others = append(t.others, t.current)
	}
	for _, other := range t.others {
		other.mark(changed)
	}
	t.current, t.files = next, now
	return changed, nil
}

func (t *tree) mark(names []string) {
	for _, name := range names {
		t.stale[name] = true
	}
}

// emptyTime is how long a file that has become empty is given to be filled:
// editors truncate before they write.
const emptyTime = 100 * time.Millisecond

func (t *trees) check(now contents, changed []string) error {
	for _, name := range changed {
		old, had := t.files[name]
		e, has := now[name]
		if had && has && e.size == 0 && old.size > 0 && e.mode.IsRegular() && time.Since(e.time) < emptyTime {
			return &unsettledError{name}
		}
	}
	return nil
}

// spare finds the tree that needs the least, or makes one.
func (t *trees) spare() (*tree, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var best *tree
	for _, o := range t.others {
		if o.users == 0 && (best == nil || best.all && !o.all || best.all == o.all && len(o.stale) < len(best.stale)) {
			best = o
		}
	}
	if best != nil {
		return best, nil
	}
	t.made++
	o := &tree{dir: filepath.Join(t.dir, strconv.Itoa(t.made)), stale: map[string]bool{}, all: true}
	if err := os.Mkdir(o.dir, 0o755); err != nil {
		return nil, err
	}
	if err := os.Chmod(o.dir, 0o755); err != nil { // whatever the umask: functions run as another user
		return nil, err
	}
	t.others = append(t.others, o)
	return o, nil
}

// prepare brings a tree up to date that nobody runs from, so that the next
// reload finds one, and removes those that are too many.
func (t *trees) prepare() {
	t.mu.Lock()
	none := t.current == nil
	wait := len(t.others) >= spareTrees && !slices.ContainsFunc(t.others, func(o *tree) bool { return o.users == 0 })
	t.mu.Unlock()
	if none || wait {
		return
	}
	o, err := t.spare()
	if err == nil {
		err = t.update(o, t.files, nil)
	}
	if err != nil {
		return // the next reload says so, when it fails as well
	}
	t.mu.Lock()
	var gone []*tree
	t.others = slices.DeleteFunc(t.others, func(other *tree) bool {
		if other == o || other.users > 0 || len(t.others)-len(gone) <= spareTrees {
			return false
		}
		gone = append(gone, other)
		return true
	})
	t.mu.Unlock()
	for _, other := range gone {
		os.RemoveAll(other.dir)
	}
}

// update makes o hold now: what has changed comes from the sources, what else
// it lacks from the current tree.
func (t *trees) update(o *tree, now contents, changed []string) error {
	o.mark(changed)
	if o.all {
		for name := range now {
			o.stale[name] = true
		}
	}
	fresh := make(map[string]bool, len(changed))
	for _, name := range changed {
		fresh[name] = true
	}
	// What is gone makes room first: a file may take the place of a folder.
	for name := range o.stale {
		if _, stays := now[name]; !stays {
			o.remove(name)
		}
	}
	for name := range o.stale {
		if _, stays := now[name]; stays {
			if err := makeFolder(o.dir, filepath.Dir(o.path(name))); err != nil {
				return err
			}
		}
	}
	var placing errgroup.Group
	placing.SetLimit(placers)
	for name := range o.stale {
		e, stays := now[name]
		if !stays {
			continue
		}
		from := ""
		if t.current != nil && !fresh[name] {
			from = t.current.path(name)
		}
		placing.Go(func() error { return place(o.path(name), name, e, from) })
	}
	if err := placing.Wait(); err != nil {
		return err
	}
	o.all = false
	clear(o.stale)
	return nil
}

// placers is how many files are copied or linked at a time: the calls wait for
// the file system, not for the processor.
const placers = 8

// makeFolder makes dir below root with permissions for everybody, whatever the
// umask.
func makeFolder(root, dir string) error {
	if dir == root {
		return nil
	}
	if info, err := os.Lstat(dir); err == nil && info.IsDir() {
		return nil
	}
	if err := makeFolder(root, filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return os.Chmod(dir, 0o755)
}

// path is where a file of the tree lies.
func (o *tree) path(name string) string { return filepath.Join(o.dir, filepath.FromSlash(name)) }

// remove takes a file out, with the folders that it leaves empty.
func (o *tree) remove(name string) {
	file := o.path(name)
	os.Remove(file)
	for dir := filepath.Dir(file); dir != o.dir && os.Remove(dir) == nil; dir = filepath.Dir(dir) {
	}
}

// place puts a file in its place: a link of the one in another tree, or a copy
// of the user's.
func place(file, name string, e entry, other string) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if e.target != "" {
		return os.Symlink(e.target, file)
	}
	if other != "" {
		return os.Link(other, file)
	}
	return copyFile(file, name, e)
}

// copyFile copies a file of the user's, whole or not at all. The kernel shares
// the blocks where the file system can (FICLONE's successor copy_file_range).
// Times are kept: Python compares those of its compiled files.
func copyFile(file, name string, e entry) (err error) {
	src, err := os.Open(e.from)
	if err != nil {
		if vanished(err) {
			return &unsettledError{name}
		}
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(dst, src)
	if err == nil {
		err = dst.Chmod(e.mode &^ 0o222)
	}
	if err = errors.Join(err, dst.Close()); err != nil {
		return fmt.Errorf("copy %s: %w", name, err)
	}
	info, err := os.Stat(e.from)
	if vanished(err) || err == nil && (n != e.size || info.Size() != e.size || !info.ModTime().Equal(e.time)) {
		return &unsettledError{name}
	}
	if err != nil {
		return err
	}
	return os.Chtimes(file, e.time, e.time)
}

// size is how many bytes the code has.
func (t *trees) size() (bytes int64) {
	for _, e := range t.files {
		bytes += e.size
	}
	return bytes
}
