// Package layer unpacks one layer of a container image: a tar archive, perhaps
// compressed, into a directory of its own, and what it removes from the layers
// below it into a list. Package image lays such directories over each other.
//
// A layer comes from outside and is hostile until proven otherwise. Names are
// made absolute within the root; a name with ".." is refused. Links among the
// directories of a name are followed as the kernel would inside the root, in
// memory, so that what is written to the disk never passes through one; it is
// written through os.Root all the same. Only files, directories and links come
// out: devices and pipes are left out, and so are owners, setuid bits and
// extended attributes. How much comes out, in bytes, files and names, is
// bounded while it is written, whatever the archive claims.
package layer

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/firn-run/firn"
)

const (
	dirMode fs.FileMode = 0o755 // of every directory

	maxEntries = 1 << 20
	// maxKept bounds what is kept in memory of a layer, in bytes of names:
	// directories, links, and what it removes.
	maxKept = 96 << 20
	// maxNameBytes leaves room for the directory that the layer is in, below
	// PATH_MAX.
	maxNameBytes = 4096 - 256
	maxPartBytes = 255 // NAME_MAX
	maxLinkBytes = 4096
	maxFollowed  = 40   // as the kernel (MAXSYMLINKS)
	maxReplaced  = 4096 // directories that an archive replaces by something else

	whiteoutPrefix = ".wh."
	opaqueName     = ".wh..wh..opq"
	aufsPrefix     = ".wh..wh." // AUFS's own files
	copyBuffer     = 256 << 10
)

// Error says what is wrong with a layer; other errors are this machine's.
type Error struct{ Reason error }

// Error is the reason.
func (e *Error) Error() string { return e.Reason.Error() }

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.Reason }

func bad(format string, args ...any) error { return &Error{fmt.Errorf(format, args...)} }

// ErrTooLarge: more bytes came out than allowed. It is wrapped in an *Error.
var ErrTooLarge = errors.New("the layer is too large")

// Options are what Unpack needs besides.
type Options struct {
	// Limit bounds the bytes that files may have together.
	Limit int64
	// DiffID is the SHA-256 of the archive without compression, hexadecimal;
	// a layer that has another is refused. Empty is not checked.
	DiffID firn.Digest
}

// Result describes an unpacked layer.
type Result struct {
	Files int   // files and links
	Bytes int64 // of files, and of links' targets
	Removed
}

// Removed is what a layer hides of the layers below it. Paths are relative to
// the root, clean, and unordered.
type Removed struct {
	Paths  []string // files, links and directories with all that is in them
	Opaque []string // directories whose former content is hidden; "." is the root
}

// Unpack writes the layer that r yields into target, which is empty. After an
// error target holds a part of it.
func Unpack(ctx context.Context, r io.Reader, target *os.Root, o Options) (Result, error) {
	plain, err := Decompress(r)
	if err != nil {
		return Result{}, bad("decompress: %w", err)
	}
	ahead := newReadAhead(&contextReader{ctx, plain})
	defer func() { _ = ahead.Close(); _ = plain.Close() }()
	sum := sha256.New()
	stream := &boundedReader{r: ahead, left: o.Limit + o.Limit/8 + maxEntries, sum: sum}
	u := &unpacker{
		root: target, limit: o.Limit, buf: make([]byte, copyBuffer),
		dirs: map[string]bool{".": true}, links: map[string]string{},
	}
	defer u.closeDir()
	err = u.run(tar.NewReader(stream))
	if err == nil {
		// What stands behind the end of the archive belongs to the digest.
		_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, stream, u.buf)
	}
	switch {
	case ctx.Err() != nil:
		return Result{}, ctx.Err()
	case stream.err != nil:
		return Result{}, bad("read: %w", stream.err)
	case err != nil:
		return Result{}, err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); o.DiffID != "" && got != string(o.DiffID) {
		return Result{}, bad("the content has the digest %s, and the image says %s", got, o.DiffID)
	}
	return u.result, nil
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// boundedReader hashes what it reads and bounds it: headers count too.
type boundedReader struct {
	r    io.Reader
	left int64
	sum  hash.Hash
	err  error // of reading, but for io.EOF
}

func (b *boundedReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	_, _ = b.sum.Write(p[:n]) // a hash does not fail
	if b.left -= int64(n); b.left < 0 {
		err = ErrTooLarge
	}
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

// unpacker is one run of Unpack.
type unpacker struct {
	root  *os.Root
	limit int64
	buf   []byte

	dirs  map[string]bool   // directories there are, by path
	links map[string]string // symbolic links there are, with their targets
	kept  int               // bytes of names that are kept
	// dir is open at dirName, where the last entry was: the next one mostly is
	// in the same.
	dir      *os.Root
	dirName  string
	replaced int
	result   Result
}

func (u *unpacker) run(archive *tar.Reader) error {
	for n := 0; ; n++ {
		h, err := archive.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return bad("read the archive: %w", err)
		}
		if n == maxEntries {
			return bad("there are more than %d entries", maxEntries)
		}
		if err := u.entry(h, archive); err != nil {
			if reason := (*Error)(nil); errors.As(err, &reason) {
				return bad("entry %.200q: %w", h.Name, reason.Reason)
			}
			return blame(h.Name, err)
		}
	}
}

// blame tells what only a hostile archive causes from what is this machine's.
func blame(name string, err error) error {
	for _, theirs := range []error{syscall.ENAMETOOLONG, syscall.ELOOP, syscall.ENOTDIR, syscall.EISDIR, syscall.EINVAL} {
		if errors.Is(err, theirs) {
			return bad("entry %.200q: %w", name, err)
		}
	}
	return err
}

// entry writes one entry of the archive.
func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse, tar.TypeDir, tar.TypeSymlink, tar.TypeLink:
	default:
		return nil // devices, pipes, and headers that are for all entries
	}
	name, err := clean(h.Name)
	if err != nil {
		return err
	}
	if name == "." {
		if h.Typeflag != tar.TypeDir {
			return bad("the root is no directory")
		}
		return nil
	}
	parent, base := path.Split(name)
	if parent, err = u.enter(path.Clean(parent)); err != nil {
		return err
	}
	if strings.HasPrefix(base, whiteoutPrefix) {
		return u.remove(parent, base)
	}
	name = path.Join(parent, base)
	if h.Typeflag == tar.TypeDir {
		return u.mkdir(name, base)
	}
	if u.result.Files++; u.result.Files > maxEntries {
		return bad("there are more than %d files", maxEntries)
	}
	if err := u.clear(name, base); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeSymlink:
		return u.symlink(h.Linkname, name, base)
	case tar.TypeLink:
		return u.hardLink(h.Linkname, name)
	}
	return u.file(h, base, content)
}

// clean makes a name relative to the root, "." being the root itself.
func clean(name string) (string, error) {
	if len(name) > maxNameBytes || strings.ContainsRune(name, 0) {
		return "", bad("the name cannot be used")
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", bad("the name leads out of the root")
		}
		if len(part) > maxPartBytes {
			return "", bad("the name is too long")
		}
	}
	return path.Join(".", strings.TrimLeft(name, "/")), nil
}

// keep counts a name that stays in memory.
func (u *unpacker) keep(name string) error {
	if u.kept += len(name) + 64; u.kept > maxKept {
		return bad("there are too many directories and links")
	}
	return nil
}

// remove notes a whiteout.
func (u *unpacker) remove(parent, base string) error {
	if base == opaqueName {
		u.result.Opaque = append(u.result.Opaque, parent)
		return u.keep(parent)
	}
	if strings.HasPrefix(base, aufsPrefix) {
		return nil
	}
	base = strings.TrimPrefix(base, whiteoutPrefix)
	if base == "" || base == "." || base == ".." {
		return bad("the whiteout names nothing")
	}
	name := path.Join(parent, base)
	u.result.Paths = append(u.result.Paths, name)
	return u.keep(name)
}

// enter makes the directory called name the one that is open, with its
// parents, and returns where it really is: links of this layer are followed.
func (u *unpacker) enter(name string) (string, error) {
	if u.dir != nil && u.dirName == name {
		return name, nil
	}
	at, err := u.resolve(name)
	if err != nil {
		return "", err
	}
	if u.dir != nil && u.dirName == at {
		return at, nil
	}
	dir, err := u.root.OpenRoot(at)
	if err != nil {
		return "", err
	}
	u.closeDir()
	u.dir, u.dirName = dir, at
	return at, nil
}

func (u *unpacker) closeDir() {
	if u.dir != nil {
		_ = u.dir.Close()
		u.dir = nil
	}
}

// resolve walks a path of directories, as the kernel would with this root, and
// makes those that are missing. ".." of a link stops at the root.
func (u *unpacker) resolve(name string) (string, error) {
	if u.dirs[name] {
		return name, nil
	}
	at := "."
	todo := strings.Split(name, "/")
	for followed := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, part)
		target, isLink := u.links[next]
		switch {
		case u.dirs[next]:
			at = next
		case isLink:
			if followed++; followed > maxFollowed {
				return "", bad("the name passes through a loop of links")
			}
			if strings.HasPrefix(target, "/") {
				at = "."
			}
			todo = append(strings.Split(target, "/"), todo...)
			if len(todo) > maxLinkBytes || len(next) > maxNameBytes {
				return "", bad("the name grows without end")
			}
		default:
			if err := u.makeDir(u.root, next, next); err != nil {
				return "", err
			}
			at = next
		}
	}
	return at, nil
}

// makeDir makes a directory, at a name in root, that is not there.
func (u *unpacker) makeDir(root *os.Root, at, name string) error {
	if err := root.Mkdir(at, dirMode); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return bad("a file is used as a directory")
		}
		return err
	}
	u.dirs[name] = true
	if err := u.keep(name); err != nil {
		return err
	}
	return root.Chmod(at, dirMode) // whatever the umask
}

// mkdir is the entry of a directory. Its parent is open.
func (u *unpacker) mkdir(name, base string) error {
	if u.dirs[name] {
		return nil
	}
	if err := u.clear(name, base); err != nil {
		return err
	}
	return u.makeDir(u.dir, base, name)
}

// clear removes what an earlier entry has put at name: the last one stands.
func (u *unpacker) clear(name, base string) error {
	if _, isLink := u.links[name]; !isLink && !u.dirs[name] {
		return nil // a file is found when it is in the way
	}
	return u.replace(name, base)
}

// replace removes what is at name.
func (u *unpacker) replace(name, base string) error {
	if u.dirs[name] {
		if u.replaced++; u.replaced > maxReplaced {
			return bad("too many directories are replaced")
		}
		for _, forget := range []func(string){
			func(below string) { delete(u.dirs, below) }, func(below string) { delete(u.links, below) },
		} {
			u.below(name, forget)
		}
	}
	delete(u.dirs, name)
	delete(u.links, name)
	return u.dir.RemoveAll(base)
}

// below calls forget with what is kept of a directory's content.
func (u *unpacker) below(name string, forget func(string)) {
	for other := range u.dirs {
		if strings.HasPrefix(other, name+"/") {
			forget(other)
		}
	}
	for other := range u.links {
		if strings.HasPrefix(other, name+"/") {
			forget(other)
		}
	}
}

func (u *unpacker) symlink(target, name, base string) error {
	if target == "" || len(target) >= maxLinkBytes || strings.ContainsRune(target, 0) {
		return bad("the link's target is no path")
	}
	if err := u.count(int64(len(target))); err != nil {
		return err
	}
	err := u.dir.Symlink(target, base)
	if errors.Is(err, fs.ErrExist) {
		if err = u.replace(name, base); err == nil {
			err = u.dir.Symlink(target, base)
		}
	}
	if err != nil {
		return err
	}
	u.links[name] = target
	return u.keep(name + target)
}

// hardLink links to a file or symbolic link of this layer.
func (u *unpacker) hardLink(target, name string) error {
	target, err := clean(target)
	if err != nil {
		return err
	}
	parent, base := path.Split(target)
	if parent, err = u.resolve(path.Clean(parent)); err != nil {
		return err
	}
	target = path.Join(parent, base)
	if u.dirs[target] {
		return bad("a hard link to a directory")
	}
	if target == name {
		return bad("a link to itself")
	}
	err = u.root.Link(target, name)
	if errors.Is(err, fs.ErrExist) {
		if err = u.root.Remove(name); err == nil {
			err = u.root.Link(target, name)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return bad("a hard link to %.200q, which the layer does not have", target)
	}
	if err != nil {
		return err
	}
	if to, isLink := u.links[target]; isLink {
		u.links[name] = to
		return u.keep(name + to)
	}
	return nil
}

// file writes a regular file, with its permissions and time.
func (u *unpacker) file(h *tar.Header, base string, content io.Reader) error {
	if err := u.count(h.Size); err != nil {
		return err
	}
	const flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	f, err := u.dir.OpenFile(base, flags, 0o600)
	if errors.Is(err, fs.ErrExist) {
		if err = u.dir.Remove(base); err == nil {
			f, err = u.dir.OpenFile(base, flags, 0o600)
		}
	}
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{f}, &entryReader{r: content}, u.buf)
	if err == nil {
		err = f.Chmod(h.FileInfo().Mode().Perm())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	at := h.ModTime
	if at.Unix() < 0 || at.Year() > 2400 { // none, or none that every file system can hold
		at = time.Unix(0, 0)
	}
	return u.dir.Chtimes(base, at, at)
}

// entryReader blames the archive for errors of reading.
type entryReader struct{ r io.Reader }

func (e *entryReader) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if err != nil && err != io.EOF {
		err = bad("read: %w", err)
	}
	return n, err
}

// count adds to the bytes that have come out, before they do.
func (u *unpacker) count(n int64) error {
	if n < 0 || n > u.limit-u.result.Bytes {
		return &Error{ErrTooLarge}
	}
	u.result.Bytes += n
	return nil
}
