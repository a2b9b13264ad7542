// Package image turns zip archives (a function's code, its layers) into
// read-only root directories on disk that execution environments share.
//
// An archive comes from outside and is hostile until proven otherwise. Inspect
// judges it when it is uploaded, with AWS's words for what is wrong; unpacking
// judges it again, entry by entry, because Inspect's verdict may be years old,
// and writes through os.Root, so that no name, link or race can reach beyond
// the target.
//
// Directories are a cache by content: one per archive digest, one per list of
// layers, made once however many ask, and complete or absent (they appear by a
// rename). Losing all of them costs time only, so nothing is synced to disk.
package image

import (
	"context"
	"io"
	"log/slog"

	"github.com/firn-run/firn"
)

// Info is what Inspect has found out about an archive.
type Info struct {
	UnzippedBytes int64 // sum of the files' contents, counted while inflating
	Files         int   // regular files and symbolic links
}

// Blob is an open archive: random access and its length in bytes.
type Blob interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// Blobs opens archives by digest. An unknown digest is an error that is passed
// on to the caller of Function and Layers.
type Blobs interface {
	Open(ctx context.Context, digest firn.Digest) (Blob, error)
}

// Config says where directories are kept and archives come from.
type Config struct {
	Dir    string // belongs to the store alone; made when missing
	Blobs  Blobs
	Logger *slog.Logger
}
