package control

import (
	"bytes"
	"context"
	"fmt"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/image"
)

// archive is an uploaded zip that was found harmless.
type archive struct {
	zip    []byte
	info   image.Info
	digest firn.Digest // set by keep
}

// inspect judges an upload. It takes its time and holds no lock.
func (c *Control) inspect(ctx context.Context, zip []byte) (*archive, error) {
	if len(zip) > firn.MaxZipUploadBytes {
		return nil, firn.Faultf(firn.RequestEntityTooLarge, "Zipped size must be smaller than %d bytes", firn.MaxZipUploadBytes)
	}
	info, err := c.cfg.Images.Inspect(ctx, bytes.NewReader(zip), int64(len(zip)))
	if err != nil {
		return nil, err
	}
	return &archive{zip: zip, info: info}, nil
}

// keep stores an archive. The caller holds gc for reading until its record is
// saved, so that no Sweep takes the archive for an orphan.
func (c *Control) keep(ctx context.Context, a *archive) error {
	c.mu.Lock()
	total := c.stored
	c.mu.Unlock()
	if total+int64(len(a.zip)) > firn.MaxCodeStorageBytes {
		return firn.Faultf(firn.CodeStorageExceeded, "Code storage limit exceeded.")
	}
	digest, _, err := c.cfg.Blobs.Put(ctx, bytes.NewReader(a.zip), int64(len(a.zip)))
	if err != nil {
		return storageFault(fmt.Errorf("store archive: %w", err))
	}
	a.digest = digest
	return nil
}

// usage counts the references of records to one archive.
type usage struct {
	refs int
	size int64
}

// account moves the references to archives from old to rec; either may be nil.
func (c *Control) account(old, rec *record) {
	for ; rec != nil; rec = rec.Before {
		if rec.Image == nil {
			c.hold(rec.Code, rec.Config.CodeSize)
		}
		for _, l := range rec.Layers {
			c.hold(l.Digest, l.Size)
		}
	}
	for ; old != nil; old = old.Before {
		if old.Image == nil {
			c.release(old.Code)
		}
		for _, l := range old.Layers {
			c.release(l.Digest)
		}
	}
}

// hold counts a reference to an archive, release ends it.
func (c *Control) hold(digest firn.Digest, size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.usage[digest]
	if u == nil {
		u = &usage{size: size}
		c.usage[digest] = u
		c.stored += size
	}
	u.refs++
}

func (c *Control) release(digest firn.Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.usage[digest]
	if u == nil {
		return
	}
	if u.refs--; u.refs == 0 {
		delete(c.usage, digest)
		c.stored -= u.size
	}
}

func (c *Control) referred(digest firn.Digest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.usage[digest] != nil
}

// Sweep deletes archives that no record refers to, left over by updates,
// deletions, and by a process that stopped between storing an archive and
// writing its record; and unpacked directories that neither a record nor an
// environment needs. Image functions that rest for long give up their images
// first. It does nothing before Load.
func (c *Control) Sweep(ctx context.Context) {
	if !c.loaded.Load() {
		return
	}
	c.rest(ctx)
	for info, err := range c.cfg.Blobs.List() {
		if err == nil && !c.referred(info.Digest) {
			err = c.sweepArchive(info.Digest)
		}
		if err != nil {
			c.cfg.Logger.Error("sweep archives", "error", err)
			break
		}
		if ctx.Err() != nil {
			return
		}
	}
	if _, err := c.cfg.Images.Sweep(ctx, c.liveImages()); err != nil && ctx.Err() == nil {
		c.cfg.Logger.Error("sweep unpacked archives", "error", err)
	}
}

// sweepArchive deletes an archive unless a record refers to it after all.
// While gc is held nobody is between storing an archive and saving its record.
func (c *Control) sweepArchive(digest firn.Digest) error {
	c.gc.Lock()
	defer c.gc.Unlock()
	if c.referred(digest) {
		return nil
	}
	return c.cfg.Blobs.Delete(digest)
}

// liveImages is what records refer to and environments run from.
func (c *Control) liveImages() image.Live {
	// The environments first: one that starts later runs what a record
	// refers to then, or was handed its directory a moment ago, which Sweep
	// knows itself.
	live := image.Live{Dirs: c.cfg.Retirer.InUse()}
	for _, f := range c.functions.Range {
		for _, rec := range f.(*function).all() {
			for ; rec != nil; rec = rec.Before {
				if rec.Image == nil {
					live.Code = append(live.Code, rec.Code)
				} else if rec.needsImage() {
					live.Images = append(live.Images, rec.Image.Pinned.Digest)
				}
				if len(rec.Layers) > 0 {
					live.Layers = append(live.Layers, layerDigests(rec))
				}
			}
		}
	}
	return live
}
