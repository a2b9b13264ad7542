// Package blob keeps bytes under the name of their SHA-256: function code,
// layers, payloads too large for a record. A blob never changes, so whoever
// has a digest has the content, and storing the same content twice costs its
// room once.
//
// Put returns after the bytes and their name are on the disk, and leaves
// nothing behind when it fails; what a killed process left half-written is
// removed by the next Open. Names and layout:
//
//	ab/abcd...   the blob, mode 0400, named by its digest in lower-case hexadecimal
//	tmp/         blobs being written; every file here is garbage after a crash
//
// The directory has one owner at a time: package state's DataDir sees to it.
// What any implementation must do is package blobtest.
package blob

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/firn-run/firn"
)

// Errors that callers tell apart, by errors.Is.
var (
	// ErrNotFound: there is no blob of that digest.
	ErrNotFound = errors.New("blob not found")
	// ErrInvalidDigest: not 64 lower-case hexadecimal digits.
	ErrInvalidDigest = errors.New("invalid digest")
	// ErrCorrupt: the bytes on the disk are not those of the digest any more.
	ErrCorrupt = errors.New("blob is corrupt")
)

// TooLargeError says that Put's reader had more bytes than allowed.
type TooLargeError struct {
	Limit int64 // bytes
}

// Error names the limit.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("content is larger than %d bytes", e.Limit)
}

// Info describes a stored blob.
type Info struct {
	Digest firn.Digest
	Size   int64 // bytes
	// Stored is when the content was put last, so that a collector of
	// garbage can spare what nothing refers to yet.
	Stored time.Time
}

const tmpName = "tmp"

// Store is a directory of blobs. It holds nothing open, so it needs no Close,
// and its methods are safe for concurrent use.
type Store struct {
	dir string
	// mu makes the decision to remove an old blob one with its removal: Stored
	// is renewed and read for it under mu only.
	mu sync.Mutex
}

// Open makes the directory if it does not exist (mode 0700) and removes what
// a former owner left half-written.
func Open(dir string) (*Store, error) {
	s := &Store{dir: dir}
	if err := os.MkdirAll(s.tmp(), 0o700); err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	if err := syncDir(dir); err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	left, err := os.ReadDir(s.tmp())
	if err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	for _, e := range left {
		if err := os.RemoveAll(filepath.Join(s.tmp(), e.Name())); err != nil {
			return nil, fmt.Errorf("remove an unfinished blob: %w", err)
		}
	}
	return s, nil
}

func (s *Store) tmp() string { return filepath.Join(s.dir, tmpName) }

// Put stores what r yields and returns its digest and size. More than limit
// bytes are a *TooLargeError (a negative limit is none). Errors of r and of
// the context come back as they are, wrapped; then nothing is stored.
func (s *Store) Put(ctx context.Context, r io.Reader, limit int64) (firn.Digest, int64, error) {
	w, err := s.Create()
	if err != nil {
		return "", 0, err
	}
	defer w.Close()
	if err := fill(ctx, w, r, limit); err != nil {
		return "", 0, fmt.Errorf("put blob: %w", err)
	}
	d, err := w.Commit("")
	if err != nil {
		return "", 0, err
	}
	return d, w.Size(), nil
}

// fill copies r to the writer, one byte over the limit at most.
func fill(ctx context.Context, w *Writer, r io.Reader, limit int64) error {
	src := io.Reader(&contextReader{ctx: ctx, r: r})
	if limit >= 0 {
		src = io.LimitReader(src, limit+1)
	}
	size, err := io.CopyBuffer(writerOnly{w}, src, make([]byte, 256<<10))
	if err != nil {
		return err
	}
	if limit >= 0 && size > limit {
		return &TooLargeError{Limit: limit}
	}
	return nil
}

// keep gives the written file its name, durably. A blob that is there already
// is replaced: that repairs one that went bad, renews its Stored, and the
// name may be another Put's that is not yet durable.
func (s *Store) keep(f *os.File, d firn.Digest) error {
	if err := f.Chmod(0o400); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	name := s.file(d)
	dir := filepath.Dir(name)
	err := os.Mkdir(dir, 0o700)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// Also when it exists: another Put may have made it a moment ago.
	if err := syncDir(s.dir); err != nil {
		return err
	}
	if err := s.rename(f.Name(), name); err != nil {
		return err
	}
	return syncDir(dir)
}

// rename installs a blob, stored now and not when its last byte came.
func (s *Store) rename(from, to string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if err := os.Chtimes(from, now, now); err != nil {
		return err
	}
	return os.Rename(from, to)
}

// Open opens a blob for reading, and returns its size. The caller closes it.
// An open blob can be read to its end whatever happens to its name.
func (s *Store) Open(d firn.Digest) (*os.File, int64, error) {
	name, err := s.Path(d)
	if err != nil {
		return nil, 0, err
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, wrap("open", d, err)
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, wrap("open", d, err)
	}
	return f, fi.Size(), nil
}

// Path is the file that a blob has, or would have: it is not checked whether
// it exists. Nobody may change it.
func (s *Store) Path(d firn.Digest) (string, error) {
	if err := Check(d); err != nil {
		return "", err
	}
	return s.file(d), nil
}

func (s *Store) file(d firn.Digest) string {
	return filepath.Join(s.dir, string(d[:2]), string(d))
}

// Stat describes a blob.
func (s *Store) Stat(d firn.Digest) (Info, error) {
	name, err := s.Path(d)
	if err != nil {
		return Info{}, err
	}
	fi, err := os.Stat(name)
	if err != nil {
		return Info{}, wrap("stat", d, err)
	}
	return Info{Digest: d, Size: fi.Size(), Stored: fi.ModTime()}, nil
}

// Verify reads a blob and fails with ErrCorrupt when its bytes are not those
// of its digest. Putting the content again repairs it.
func (s *Store) Verify(ctx context.Context, d firn.Digest) error {
	f, _, err := s.Open(d)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.CopyBuffer(writerOnly{sum}, &contextReader{ctx: ctx, r: f}, make([]byte, 256<<10)); err != nil {
		return wrap("verify", d, err)
	}
	if got := digestOf(sum); got != d {
		return fmt.Errorf("verify blob %s: %w: its bytes have the digest %s", d, ErrCorrupt, got)
	}
	return nil
}

// Delete removes a blob, durably. One that does not exist is no error.
func (s *Store) Delete(d firn.Digest) error {
	name, err := s.Path(d)
	if err != nil {
		return err
	}
	err = os.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return wrap("delete", d, err)
	}
	if err := syncDir(filepath.Dir(name)); err != nil {
		return wrap("delete", d, err)
	}
	return nil
}

// Touch renews a blob's Stored, for a user who was about to put the same
// content and found it: no DeleteBefore with an older limit takes it then.
func (s *Store) Touch(d firn.Digest) error {
	name, err := s.Path(d)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if err := os.Chtimes(name, now, now); err != nil {
		return wrap("touch", d, err)
	}
	return nil
}

// DeleteBefore removes a blob unless it was stored, or touched, at or after
// limit, and reports whether it did.
func (s *Store) DeleteBefore(d firn.Digest, limit time.Time) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	info, err := s.Stat(d)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil || !info.Stored.Before(limit) {
		return false, err
	}
	return true, s.Delete(d)
}

// List yields every blob in the order of digests. Blobs put or deleted in the
// meantime may or may not appear. After an error it ends.
func (s *Store) List() iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		fans, err := os.ReadDir(s.dir)
		if err != nil {
			yield(Info{}, fmt.Errorf("list blobs: %w", err))
			return
		}
		for _, fan := range fans {
			if fan.Name() == tmpName || !fan.IsDir() {
				continue
			}
			if !s.listFan(fan.Name(), yield) {
				return
			}
		}
	}
}

// listFan yields one directory and reports whether to go on.
func (s *Store) listFan(fan string, yield func(Info, error) bool) bool {
	files, err := os.ReadDir(filepath.Join(s.dir, fan))
	if err != nil {
		yield(Info{}, fmt.Errorf("list blobs: %w", err))
		return false
	}
	for _, file := range files {
		d := firn.Digest(file.Name())
		if Check(d) != nil || string(d[:2]) != fan {
			continue // not ours
		}
		info, err := s.Stat(d)
		if errors.Is(err, ErrNotFound) {
			continue // deleted in the meantime
		}
		if !yield(info, err) || err != nil {
			return false
		}
	}
	return true
}

// Check fails with ErrInvalidDigest unless d is a digest. Digests come from
// requests too, and are made into file names here.
func Check(d firn.Digest) error {
	ok := len(d) == hex.EncodedLen(sha256.Size)
	for i := 0; ok && i < len(d); i++ {
		ok = '0' <= d[i] && d[i] <= '9' || 'a' <= d[i] && d[i] <= 'f'
	}
	if !ok {
		return fmt.Errorf("%w: %q", ErrInvalidDigest, string(d[:min(len(d), 80)]))
	}
	return nil
}

func digestOf(sum hash.Hash) firn.Digest {
	return firn.Digest(hex.EncodeToString(sum.Sum(nil)))
}

func wrap(op string, d firn.Digest, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s blob %s: %w", op, d, ErrNotFound)
	}
	return fmt.Errorf("%s blob %s: %w", op, d, err)
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

// writerOnly hides ReadFrom, which would bypass the copy's buffer.
type writerOnly struct{ io.Writer }

// syncDir makes the names in a directory durable.
func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
