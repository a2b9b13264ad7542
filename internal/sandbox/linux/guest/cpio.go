package guest

import (
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// archive writes a cpio archive in the "newc" format, which is what the
// kernel unpacks as its first root directory
// (Documentation/driver-api/early-userspace/buffer-format.rst).
type archive struct {
	w    io.Writer
	n    int64 // bytes written
	ino  int
	dirs []string // made so far
	err  error
}

// Types of files in the mode of an entry.
const (
	typeDir  = 0o040000
	typeFile = 0o100000
	typeLink = 0o120000
	typeChar = 0o020000
)

// entry is one header of the archive.
type entry struct {
	name         string
	mode         uint32
	size         int64
	major, minor uint32 // of a device
}

func (a *archive) header(e entry) {
	a.ino++
	name := strings.TrimPrefix(e.name, "/")
	a.printf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		a.ino, e.mode, 0, 0, 1, 0, e.size, 0, 0, e.major, e.minor, len(name)+1, 0, name)
	a.pad()
}

func (a *archive) printf(format string, args ...any) {
	if a.err == nil {
		n, err := fmt.Fprintf(a.w, format, args...)
		a.n, a.err = a.n+int64(n), err
	}
}

// pad fills up to a multiple of four bytes.
func (a *archive) pad() {
	a.printf("%s", "\x00\x00\x00"[:(4-a.n%4)%4])
}

// dir makes a directory and those above it.
func (a *archive) dir(name string) {
	if name == "/" || name == "." || slices.Contains(a.dirs, name) {
		return
	}
	a.dir(path.Dir(name))
	a.dirs = append(a.dirs, name)
	a.header(entry{name: name, mode: typeDir | 0o755})
}

// file makes a file of the given size with the bytes of r.
func (a *archive) file(name string, perm fs.FileMode, size int64, r io.Reader) {
	a.dir(path.Dir(name))
	a.header(entry{name: name, mode: typeFile | uint32(perm.Perm()), size: size})
	if a.err != nil {
		return
	}
	n, err := io.Copy(a.w, io.LimitReader(r, size))
	a.n += n
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	if a.err = err; err != nil {
		a.err = fmt.Errorf("guest: archive %s: %w", name, err)
	}
	a.pad()
}

func (a *archive) text(name, content string) {
	a.file(name, 0o644, int64(len(content)), strings.NewReader(content))
}

func (a *archive) symlink(name, target string) {
	a.dir(path.Dir(name))
	a.header(entry{name: name, mode: typeLink | 0o777, size: int64(len(target))})
	a.printf("%s", target)
	a.pad()
}

func (a *archive) device(name string, major, minor uint32) {
	a.dir(path.Dir(name))
	a.header(entry{name: name, mode: typeChar | 0o600, major: major, minor: minor})
}

// close ends the archive.
func (a *archive) close() error {
	a.header(entry{name: "TRAILER!!!"})
	return a.err
}
