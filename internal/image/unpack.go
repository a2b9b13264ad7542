package image

import (
	"context"
	"errors"
	"io"
	"os"
	"path"
	"time"

	"github.com/firn-run/firn"
)

// unpack writes an archive into tmp.
func (s *Store) unpack(ctx context.Context, tmp string, d firn.Digest) (marker, error) {
	release, err := s.slot(ctx)
	if err != nil {
		return marker{}, err
	}
	defer release()
	blob, size, err := s.blobs.Open(d)
	if err != nil {
		return marker{}, err
	}
	defer func() { _ = blob.Close() }()
	a, err := readArchive(blob, size, s.limit)
	if err != nil {
		return marker{}, err
	}
	target, err := s.root.OpenRoot(path.Join(tmp, rootName))
	if err != nil {
		return marker{}, err
	}
	defer func() { _ = target.Close() }()
	return a.write(ctx, target)
}

// write unpacks a into target: directories, then files, then links.
func (a *archive) write(ctx context.Context, target *os.Root) (marker, error) {
	for _, dir := range a.dirs {
		if err := target.Mkdir(dir, dirMode); err != nil {
			return marker{}, err
		}
		if err := target.Chmod(dir, dirMode); err != nil {
			return marker{}, err
		}
	}
	n, err := a.inflate(ctx, func(e *entry, content io.Reader, buf []byte) error {
		return e.write(target, content, buf)
	})
	if err != nil {
		return marker{}, err
	}
	for _, l := range a.links {
		if err := target.Symlink(l.target, l.name); err != nil {
			return marker{}, err
		}
	}
	return marker{Files: len(a.files) + len(a.links), Bytes: n}, nil
}

// write makes the file, which must not exist, with the archive's permissions
// and time: Python compares the times of its compiled files with the sources'.
func (e *entry) write(target *os.Root, content io.Reader, buf []byte) error {
	f, err := target.OpenFile(e.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(onlyWriter{f}, content, buf)
	if err == nil {
		err = f.Chmod(e.mode)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if e.time.Year() < 1980 { // none, or none that the format can hold
		e.time = time.Unix(0, 0)
	}
	return target.Chtimes(e.name, e.time, e.time)
}
