package runtimes

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/firn-run/firn"
)

// copying copies parts of the host into a tree.
type copying struct {
	ctx context.Context
	// skip says what is left out, by its path below the folder that is copied.
	skip func(path string, isDir bool) bool
}

// dir copies a folder. A link that leads to another place of the folder stays
// a link; one that leads out of it becomes what it leads to, since its target
// may mean nothing inside a sandbox. Dead links are left out.
func (c copying) dir(from, to string) error {
	root, err := filepath.EvalSymlinks(from)
	if err != nil {
		return err
	}
	return c.walk(root, root, to)
}

func (c copying) walk(root, from, to string) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, entry := range entries {
		path, dest := filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name())
		if rel, err := filepath.Rel(root, path); err != nil || c.skip != nil && c.skip(rel, entry.IsDir()) {
			continue
		}
		if err := c.entry(root, path, dest, entry.Type()); err != nil {
			return err
		}
	}
	return nil
}

func (c copying) entry(root, path, dest string, kind fs.FileMode) error {
	if kind&fs.ModeSymlink != 0 {
		real, err := filepath.EvalSymlinks(path)
		if err != nil {
			return nil // dead
		}
		if target, err := os.Readlink(path); err == nil && !filepath.IsAbs(target) && below(real, root) {
			return os.Symlink(target, dest)
		}
		info, err := os.Stat(real)
		if err != nil {
			return err
		}
		if info.IsDir() {
			if below(root, real) || below(real, root) {
				return nil // would have no end
			}
			return copying{c.ctx, nil}.walk(real, real, dest)
		}
		path, kind = real, info.Mode().Type()
	}
	switch {
	case kind.IsDir():
		return c.walk(root, path, dest)
	case kind.IsRegular():
		return copyFile(path, dest)
	}
	return nil // sockets and the like
}

func below(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, dir+string(filepath.Separator))
}

// copyFile copies a file. All may read it, and execute what anybody may.
func copyFile(from, to string) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if closed := dst.Close(); err == nil {
			err = closed
		}
	}()
	if _, err := io.Copy(dst, src); err != nil {
		return err
	}
	return dst.Chmod(modeOf(info.Mode()))
}

// modeOf is the mode in a tree: nobody writes, set-user-id means nothing.
func modeOf(mode fs.FileMode) fs.FileMode {
	if mode&0o111 != 0 {
		return 0o755
	}
	return 0o644
}

// summary is what a tree amounts to.
type summary struct {
	digest firn.Digest
	bytes  int64
	files  int
}

// seal gives everything in a tree its mode and computes the digest: of names,
// modes and contents, in the order of the names.
func seal(ctx context.Context, root string) (summary, error) {
	var sum summary
	hash := sha256.New()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		switch kind := d.Type(); {
		case kind.IsDir():
			fmt.Fprintf(hash, "dir %q\n", rel)
			return os.Chmod(path, 0o755)
		case kind&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			fmt.Fprintf(hash, "link %q %q\n", rel, target)
			return err
		case kind.IsRegular():
			content, mode, err := sealFile(path)
			sum.bytes += content.bytes
			sum.files++
			fmt.Fprintf(hash, "file %q %o %s\n", rel, mode, content.digest)
			return err
		}
		return fmt.Errorf("%s is neither a file, a directory nor a link", rel)
	})
	sum.digest = firn.Digest(hex.EncodeToString(hash.Sum(nil)))
	return sum, err
}

func sealFile(path string) (summary, fs.FileMode, error) {
	f, err := os.Open(path)
	if err != nil {
		return summary{}, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return summary{}, 0, err
	}
	mode := modeOf(info.Mode())
	if err := f.Chmod(mode); err != nil {
		return summary{}, 0, err
	}
	hash := sha256.New()
	n, err := io.Copy(hash, f)
	return summary{digest: firn.Digest(hex.EncodeToString(hash.Sum(nil))), bytes: n}, mode, err
}
