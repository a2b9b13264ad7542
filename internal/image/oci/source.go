package oci

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/blob"
	"github.com/firn-run/firn/internal/image/layer"
)

// layoutDir is an OCI layout in a directory.
type layoutDir struct {
	blobs *blob.Store
	root  *os.Root
}

func (l *layoutDir) read(name string) ([]byte, error) {
	f, err := l.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return readSmall(f, name)
}

func readSmall(r io.Reader, name string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxManifestBytes+1))
	if err == nil && len(data) > MaxManifestBytes {
		err = fmt.Errorf("%w: %s has more than %d bytes", ErrInvalid, name, MaxManifestBytes)
	}
	return data, err
}

func (l *layoutDir) store(ctx context.Context, name string, want firn.Digest) (firn.Digest, error) {
	if want != "" && l.blobs.Touch(want) == nil {
		return want, nil
	}
	f, err := l.root.Open(name)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	return put(ctx, l.blobs, f, want)
}

// put stores a part, whose digest may be known.
func put(ctx context.Context, blobs *blob.Store, r io.Reader, want firn.Digest) (firn.Digest, error) {
	got, _, err := blobs.Put(ctx, r, firn.MaxImageBytes)
	if tooLarge := new(blob.TooLargeError); errors.As(err, &tooLarge) {
		return "", fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err == nil && want != "" && got != want {
		err = fmt.Errorf("%w: a part has the digest %s and is called %s", ErrInvalid, got, want)
	}
	return got, err
}

// maxTarballFiles bounds the members of a tarball: an image of 512 layers in
// the oldest format has four for each.
const maxTarballFiles = 8192

// savedTar is a tarball that was read through: each of its files is a blob. What no
// image needs is garbage, and collected as such.
type savedTar struct {
	blobs   *blob.Store
	digests map[string]firn.Digest
	aliases map[string]string // links, as the oldest format has
}

// loadTarball reads a tarball once, from beginning to end.
func (s *Store) loadTarball(ctx context.Context, file string) (*savedTar, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	content, err := layer.Decompress(f)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	defer func() { _ = content.Close() }()
	t := &savedTar{blobs: s.blobs, digests: map[string]firn.Digest{}, aliases: map[string]string{}}
	reader := tar.NewReader(content)
	for n := 0; ; n++ {
		h, err := reader.Next()
		if err == io.EOF {
			return t, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%w: no tarball: %w", ErrInvalid, err)
		}
		if n == maxTarballFiles {
			return nil, fmt.Errorf("%w: more than %d files", ErrInvalid, maxTarballFiles)
		}
		if err := t.member(ctx, h, reader); err != nil {
			return nil, err
		}
	}
}

// member stores one file. Names are never used as paths.
func (t *savedTar) member(ctx context.Context, h *tar.Header, content io.Reader) error {
	name := path.Clean(h.Name)
	switch h.Typeflag {
	case tar.TypeReg:
		var want firn.Digest
		if path.Dir(name) == "blobs/sha256" {
			want = firn.Digest(path.Base(name))
			if info, err := t.blobs.Stat(want); err == nil && info.Size == h.Size {
				t.digests[name] = want
				return t.blobs.Touch(want) // proven when it was stored
			}
		}
		digest, err := put(ctx, t.blobs, content, want)
		t.digests[name] = digest
		return err
	case tar.TypeSymlink:
		t.aliases[name] = path.Join(path.Dir(name), h.Linkname)
	case tar.TypeLink:
		t.aliases[name] = path.Clean(h.Linkname)
	}
	return nil
}

// find returns the blob of a name.
func (t *savedTar) find(name string) (firn.Digest, error) {
	name = path.Clean(name)
	for range 8 { // links to links
		if d, ok := t.digests[name]; ok {
			return d, nil
		}
		target, ok := t.aliases[name]
		if !ok {
			break
		}
		name = target
	}
	return "", &fs.PathError{Op: "find", Path: name, Err: fs.ErrNotExist}
}

func (t *savedTar) read(name string) ([]byte, error) {
	d, err := t.find(name)
	if err != nil {
		return nil, err
	}
	f, _, err := t.blobs.Open(d)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return readSmall(f, name)
}

func (t *savedTar) store(_ context.Context, name string, _ firn.Digest) (firn.Digest, error) {
	return t.find(name)
}
