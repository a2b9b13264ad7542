// Package image turns zip archives (a function's code, its layers) and
// container images into read-only directories on disk that execution
// environments share.
//
// An archive comes from outside and is hostile until proven otherwise. Inspect
// judges it when it is uploaded, with AWS's words for what is wrong; unpacking
// judges it again, entry by entry, because Inspect's verdict may be years old,
// and writes through os.Root, so that no name, link or race can reach beyond
// the target.
//
// The layers of a container image are unpacked by package layer, each into a
// directory of its own, and laid over each other with hard links: what images
// share is unpacked and stored once.
//
// Directories are a cache by content: one per archive digest, one per list of
// layers, made once however many ask, and complete or absent (they appear by a
// rename). Losing all of them costs time only, so nothing is synced to disk.
package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/image/oci"
)

// Info is what Inspect has found out about an archive.
type Info struct {
	UnzippedBytes int64 // sum of the files' contents, counted while inflating
	Files         int   // regular files and symbolic links
}

// Blobs opens archives by digest and tells their length in bytes; package blob
// is one. An unknown digest is an error that is passed on to the caller.
type Blobs interface {
	Open(digest firn.Digest) (*os.File, int64, error)
}

// Config says where directories are kept and archives come from.
type Config struct {
	Dir    string // belongs to the store alone; made when missing
	Blobs  Blobs
	Logger *slog.Logger
	// Images are the container images that Root can be asked for; nil is none.
	Images *oci.Store
}

// The messages of AWS Lambda about archives.
const (
	msgNotZip = "Could not unzip uploaded file. Please check your file, then try to upload again."
	msgEmpty  = "Uploaded file must be a non-empty zip"
)

// refuse is the fault that an upload of a bad archive gets; what exactly was
// bad goes into the log, and to the caller where AWS's words say too little.
func refuse(message string, cause error) error {
	return &firn.Fault{Kind: firn.InvalidParameterValue, Op: "inspect archive", Message: message, Cause: cause}
}

// notZip blames the archive, unless the cause is that it could not be read.
func notZip(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if _, ours := errors.AsType[*fs.PathError](err); ours {
		return err
	}
	return refuse(msgNotZip, err)
}

func tooLarge() error {
	return refuse(fmt.Sprintf("Unzipped size must be smaller than %d bytes", firn.MaxUnzippedBytes), nil)
}

// Inspect reads the whole archive and judges it; the error is a *firn.Fault
// with AWS's message when the archive is to blame. Sizes are counted while
// inflating, not believed, and inflating stops at the limit.
func Inspect(ctx context.Context, r io.ReaderAt, size int64) (Info, error) {
	a, err := readArchive(r, size, firn.MaxUnzippedBytes)
	if err != nil {
		return Info{}, err
	}
	n, err := a.inflate(ctx, func(_ *entry, content io.Reader, buf []byte) error {
		_, err := io.CopyBuffer(onlyWriter{io.Discard}, content, buf)
		return err
	})
	if err != nil {
		return Info{}, err
	}
	return Info{UnzippedBytes: n, Files: len(a.files) + len(a.links)}, nil
}

// CheckTotal tells whether a function and its layers fit together: 250 MB
// unzipped ("Lambda quotas"). Sizes are Info.UnzippedBytes.
func CheckTotal(function int64, layers ...int64) error {
	var below int64
	for _, n := range layers {
		below += n
	}
	switch {
	case below > firn.MaxUnzippedBytes:
		return firn.Faultf(firn.InvalidParameterValue,
			"Layers consume more than the available size of %d bytes", firn.MaxUnzippedBytes)
	case function+below > firn.MaxUnzippedBytes:
		return firn.Faultf(firn.InvalidParameterValue,
			"Function code combined with layers exceeds the maximum allowed size of %d bytes. The actual size is %d bytes.",
			firn.MaxUnzippedBytes, function+below)
	}
	return nil
}
