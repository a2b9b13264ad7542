package runtimes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/image"
	"github.com/firn-run/firn/internal/image/oci"
)

// strayAge is how long parts of images that no name stands for are kept: for
// the pull that was interrupted to go on.
const strayAge = 24 * time.Hour

// images are the parts of pulled images and their unpacked layers. They have
// one user at a time, of all processes; the trees made from them are
// independent of it.
type images struct {
	lock  io.Closer
	parts *oci.Store
	roots *image.Store
}

func (s *Store) openImages(ctx context.Context) (_ *images, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	i := new(images)
	if i.lock, err = s.lock("images", "another pull into these runtimes is under way"); err != nil {
		return nil, err
	}
	dir := filepath.Join(s.dir, "images")
	log := slog.New(slog.DiscardHandler)
	if i.parts, err = oci.Open(filepath.Join(dir, "parts"), log); err == nil {
		i.roots, err = image.Open(image.Config{Dir: filepath.Join(dir, "roots"), Blobs: i.parts.Blobs(), Images: i.parts, Logger: log})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the images of runtimes: %w", err), i.lock.Close())
	}
	return i, nil
}

// Close lets the next one in.
func (i *images) Close() error { return errors.Join(i.roots.Close(), i.lock.Close()) }

// sweepImages removes what only gone, images that lost their name, have needed,
// and what has been lying about for long.
func (s *Store) sweepImages(ctx context.Context, i *images, gone ...firn.Digest) error {
	live, err := s.digests()
	if err != nil {
		return err
	}
	if _, err := i.roots.Sweep(ctx, image.Live{Images: live}); err != nil {
		return err
	}
	keep, drop := map[firn.Digest]bool{}, map[firn.Digest]bool{}
	for _, digest := range live {
		parts, err := i.parts.Parts(digest)
		if err != nil {
			return err // it is not known what may go
		}
		for _, part := range parts {
			keep[oci.Hex(part)] = true
		}
	}
	for _, digest := range gone {
		parts, err := i.parts.Parts(digest)
		if err != nil {
			continue // then age decides
		}
		for _, part := range parts {
			drop[oci.Hex(part)] = true
		}
	}
	limit := time.Now().Add(-strayAge)
	for info, err := range i.parts.Blobs().List() {
		switch {
		case err != nil:
			return err
		case keep[info.Digest]:
			continue
		case drop[info.Digest]:
			err = i.parts.Blobs().Delete(info.Digest)
		default:
			_, err = i.parts.Blobs().DeleteBefore(info.Digest, limit)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// forget removes what an image, which has lost its name, has left behind.
func (s *Store) forget(ctx context.Context, digest firn.Digest) error {
	i, err := s.openImages(ctx)
	if err != nil {
		return err
	}
	return errors.Join(s.sweepImages(ctx, i, digest), i.Close())
}
