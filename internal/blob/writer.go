package blob

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/firn-run/firn"
)

// ErrMismatch is Commit's: the bytes have another digest than was said.
var ErrMismatch = errors.New("content does not have the digest")

// Writer is a blob that arrives in pieces, such as an upload of several
// requests. It is a temporary file until Commit; whoever has one closes it.
// It belongs to one goroutine at a time.
type Writer struct {
	store *Store
	file  *os.File // nil after Commit or Close
	sum   hash.Hash
	size  int64
	err   error // of a write: the file is not what was hashed
}

// Create begins a blob.
func (s *Store) Create() (*Writer, error) {
	f, err := os.CreateTemp(s.tmp(), "put-")
	if err != nil {
		return nil, fmt.Errorf("put blob: %w", err)
	}
	return &Writer{store: s, file: f, sum: sha256.New()}, nil
}

// Write appends to the blob. After an error the blob cannot be committed.
func (w *Writer) Write(p []byte) (int, error) {
	if w.file == nil {
		return 0, os.ErrClosed
	}
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.file.Write(p)
	w.size += int64(n)
	_, _ = w.sum.Write(p[:n]) // a hash does not fail
	w.err = err
	return n, err
}

// Size is how many bytes were written.
func (w *Writer) Size() int64 { return w.size }

// Commit stores the blob, durably, and returns its digest. If want is not
// empty and not the digest, nothing is stored and the error is ErrMismatch.
// Only Size and Close may be called after it.
func (w *Writer) Commit(want firn.Digest) (firn.Digest, error) {
	if w.file == nil {
		return "", fmt.Errorf("put blob: %w", os.ErrClosed)
	}
	if w.err != nil {
		return "", fmt.Errorf("put blob: %w", w.err)
	}
	d := digestOf(w.sum)
	if want != "" && want != d {
		return "", fmt.Errorf("put blob: %w: %s and not %s", ErrMismatch, d, want)
	}
	if err := w.store.keep(w.file, d); err != nil {
		return "", fmt.Errorf("put blob: %w", err)
	}
	w.file = nil
	return d, nil
}

// Close gives up what was not committed. Idempotent.
func (w *Writer) Close() error {
	if w.file == nil {
		return nil
	}
	f := w.file
	w.file = nil
	// keep may have closed the file, and may have renamed it, before it failed.
	_ = f.Close()
	if err := os.Remove(f.Name()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("put blob: %w", err)
	}
	return nil
}

var _ io.WriteCloser = (*Writer)(nil)
