package image

import (
	"archive/zip"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"
)

const (
	// maxDirectoryBytes bounds the central directory of an archive, and with
	// it the number of entries and the bytes of their names. A reader keeps
	// some 300 bytes per entry of at least 46. node_modules trees of 50,000
	// files need a third of it.
	maxDirectoryBytes = 16 << 20
	// Linux limits, linux/limits.h: NAME_MAX, and PATH_MAX less the length
	// of the directory that the archive is unpacked into.
	maxNameBytes = 255
	maxPathBytes = 4096 - 256
	// maxLinkBytes bounds the target of a symbolic link.
	maxLinkBytes = 4096

	flagEncrypted = 1 << 0 // APPNOTE.TXT 4.4.4, general purpose bit flag
	// creatorUnix and creatorDarwin keep Unix permissions in the upper half
	// of the external attributes (APPNOTE.TXT 4.4.2).
	creatorUnix   = 3
	creatorDarwin = 19

	defaultFileMode fs.FileMode = 0o644 // as unzip gives what a system without permissions has packed
)

var (
	errEscapes   = errors.New("leads out of the archive's directory")
	errDirectory = errors.New("the central directory is too large")
)

// archive is a central directory that was found harmless: names are clean and
// stay below the root, nothing is written twice, and no entry passes through
// a file or link. The contents have not been read yet.
type archive struct {
	dirs  []string // parents before children, without the root
	files []*entry
	links []*entry
	limit int64 // bytes that may come out of it
}

// entry is a regular file, or a symbolic link.
type entry struct {
	name   string
	zip    *zip.File
	mode   fs.FileMode // permission bits only
	time   time.Time
	target string // of a link, once it was read
}

// budgetReader refuses to read more than left bytes, while it is limited: the
// zip reader does not believe the count of entries and reads headers as long
// as it finds some.
type budgetReader struct {
	r       io.ReaderAt
	left    int64
	limited bool
}

func (b *budgetReader) ReadAt(p []byte, off int64) (int, error) {
	if b.limited {
		if b.left -= int64(len(p)); b.left < 0 {
			return 0, errDirectory
		}
	}
	return b.r.ReadAt(p, off)
}

// readArchive reads and checks the directory of a zip archive, out of which no
// more than limit bytes may come.
func readArchive(r io.ReaderAt, size, limit int64) (*archive, error) {
	if size == 0 {
		return nil, refuse(msgEmpty, nil)
	}
	budget := &budgetReader{r: r, left: maxDirectoryBytes, limited: true}
	z, err := zip.NewReader(budget, size)
	if err != nil {
		return nil, notZip("read the directory: %w", err)
	}
	budget.limited = false
	if len(z.File) == 0 {
		return nil, refuse(msgEmpty, nil)
	}
	a := &archive{limit: limit}
	tree := map[string]kind{"": isDir}
	for _, f := range z.File {
		if err := a.add(tree, f); err != nil {
			return nil, notZip("entry %.200q: %w", f.Name, err)
		}
	}
	if err := a.readLinks(); err != nil {
		return nil, err
	}
	return a, nil
}

// kind is what stands at a path of the tree.
type kind int

const (
	isDir kind = iota + 1
	isLeaf
)

func (a *archive) add(tree map[string]kind, f *zip.File) error {
	name, err := cleanName(f.Name)
	if err != nil {
		return err
	}
	dir := strings.HasSuffix(f.Name, "/")
	mode := modeOf(f)
	switch {
	case dir || mode.IsDir():
		return a.addDir(tree, name)
	case f.Flags&flagEncrypted != 0:
		return errors.New("is encrypted")
	case f.Method != zip.Store && f.Method != zip.Deflate:
		return zip.ErrAlgorithm
	case mode.Type() != 0 && mode.Type() != fs.ModeSymlink:
		return errors.New("is neither a file, a directory nor a symbolic link")
	}
	if err := a.addDir(tree, parent(name)); err != nil {
		return err
	}
	if tree[name] != 0 || name == "" {
		return errors.New("stands in the archive twice")
	}
	tree[name] = isLeaf
	e := &entry{name: name, zip: f, mode: mode.Perm(), time: f.Modified}
	if mode.Type() == fs.ModeSymlink {
		a.links = append(a.links, e)
	} else {
		a.files = append(a.files, e)
	}
	return nil
}

// addDir adds dir and its parents, which archives need not name.
func (a *archive) addDir(tree map[string]kind, dir string) error {
	switch tree[dir] {
	case isDir:
		return nil
	case isLeaf:
		return errors.New("is a file or a link, and a directory")
	}
	if err := a.addDir(tree, parent(dir)); err != nil {
		return err
	}
	tree[dir] = isDir
	a.dirs = append(a.dirs, dir)
	return nil
}

// parent is the directory of a clean name; the root is "".
func parent(name string) string {
	dir, _, _ := cutLast(name)
	return dir
}

func cutLast(name string) (dir, base string, ok bool) {
	i := strings.LastIndexByte(name, '/')
	if i < 0 {
		return "", name, false
	}
	return name[:i], name[i+1:], true
}

// cleanName returns name without "." and empty components, or says why it may
// not be used. A backslash is an ordinary character on Linux, so on AWS too,
// but no name may be one that another system would take for a way out.
func cleanName(name string) (string, error) {
	if len(name) > maxPathBytes {
		return "", errors.New("the name is too long")
	}
	if strings.ContainsRune(name, 0) {
		return "", errors.New("the name holds a zero byte")
	}
	slashed := strings.ReplaceAll(name, `\`, "/")
	if strings.HasPrefix(slashed, "/") || len(slashed) >= 3 && slashed[1] == ':' && slashed[2] == '/' {
		return "", errors.New("the name is absolute")
	}
	for part := range strings.SplitSeq(slashed, "/") {
		if part == ".." {
			return "", errEscapes
		}
	}
	for part := range strings.SplitSeq(name, "/") {
		if len(part) > maxNameBytes {
			return "", errors.New("the name is too long")
		}
	}
	if name = path.Clean(name); name == "." {
		return "", nil
	}
	return name, nil
}

// modeOf returns type and permissions. Archives made where there are no Unix
// permissions give defaultFileMode, with which a bootstrap is not executable,
// as on AWS.
func modeOf(f *zip.File) fs.FileMode {
	creator := f.CreatorVersion >> 8
	if creator != creatorUnix && creator != creatorDarwin || f.ExternalAttrs>>16 == 0 {
		const dosDirectory = 0x10
		if f.ExternalAttrs&dosDirectory != 0 {
			return fs.ModeDir | 0o755
		}
		return defaultFileMode
	}
	return f.Mode()
}

// readLinks reads the targets of all links and checks them together.
func (a *archive) readLinks() error {
	tree := newLinkTree()
	sum := 0
	for _, l := range a.links {
		if err := l.readTarget(); err != nil {
			return notZip("entry %.200q: %w", l.name, err)
		}
		if sum += len(l.target); sum > maxLinksBytes {
			return notZip("the links' targets are too large")
		}
		tree.targets[l.name] = l.target
	}
	for _, l := range a.links {
		if err := tree.check(l.name); err != nil {
			return notZip("link %.200q to %.200q: %w", l.name, l.target, err)
		}
	}
	return nil
}

// readTarget reads what a symbolic link points to.
func (e *entry) readTarget() error {
	r, err := e.zip.Open()
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	target, err := io.ReadAll(io.LimitReader(r, maxLinkBytes+1))
	if err != nil {
		return err
	}
	if len(target) == 0 || len(target) > maxLinkBytes || strings.ContainsRune(string(target), 0) {
		return errors.New("the link's target is no path")
	}
	e.target = string(target)
	return nil
}
