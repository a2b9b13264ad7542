package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/blob"
	"github.com/firn-run/firn/internal/image/oci"
	"github.com/firn-run/firn/internal/state"
)

// Sweep collects garbage once: it takes from each repository the blobs that
// none of its images needs, and deletes the blobs that no repository has and
// nothing in use needs. What was stored, pushed or asked for within
// Config.Grace is left alone.
func (r *Registry) Sweep(ctx context.Context) error {
	if err := r.unlink(ctx); err != nil {
		return fmt.Errorf("sweep repositories: %w", err)
	}
	needed, err := r.needed(ctx)
	if err != nil {
		return fmt.Errorf("sweep blobs: %w", err)
	}
	limit := r.cfg.Now().Add(-r.cfg.Grace)
	blobs := r.cfg.Images.Blobs()
	removed, bytes := 0, int64(0)
	for info, err := range blobs.List() {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return fmt.Errorf("sweep blobs: %w", err)
		}
		if needed[info.Digest] {
			continue
		}
		gone, err := blobs.DeleteBefore(info.Digest, limit)
		if err != nil {
			return fmt.Errorf("sweep blobs: %w", err)
		}
		if gone {
			removed, bytes = removed+1, bytes+info.Size
		}
	}
	if removed > 0 {
		r.cfg.Logger.Info("collected garbage of the registry", "blobs", removed, "bytes", bytes)
	}
	return nil
}

// unlink takes blobs from repositories whose images do not need them.
func (r *Registry) unlink(ctx context.Context) error {
	var repos []repoKey
	err := r.cfg.State.View(ctx, func(tx state.Tx) error {
		list, err := tx.List(kindRepository, "", "", 0)
		for _, rec := range list {
			account, name, _ := strings.Cut(rec.Key, "/")
			repos = append(repos, repoKey{account, name})
		}
		return err
	})
	if err != nil {
		return err
	}
	limit := r.cfg.Now().Add(-r.cfg.Grace)
	for _, k := range repos {
		stale, err := r.stale(ctx, k, limit)
		if err != nil {
			return err
		}
		if len(stale) == 0 {
			continue
		}
		err = r.cfg.State.Update(ctx, func(tx state.Tx) error {
			// Again, in the transaction that removes: an image may have come.
			needed, err := neededParts(tx, k)
			if err != nil {
				return err
			}
			for _, d := range stale {
				if info, err := r.blobs.Stat(d); needed[d] || err == nil && !info.Stored.Before(limit) {
					continue
				}
				if err := tx.Delete(kindLayer, k.at(d)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// stale lists the blobs of a repository that are old and not needed.
func (r *Registry) stale(ctx context.Context, k repoKey, limit time.Time) ([]firn.Digest, error) {
	var unneeded []firn.Digest
	err := r.cfg.State.View(ctx, func(tx state.Tx) error {
		needed, err := neededParts(tx, k)
		if err != nil {
			return err
		}
		list, err := tx.List(kindLayer, k.at(""), "", 0)
		for _, rec := range list {
			if d := firn.Digest(strings.TrimPrefix(rec.Key, k.at(""))); !needed[d] {
				unneeded = append(unneeded, d)
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var stale []firn.Digest
	for _, d := range unneeded {
		info, err := r.blobs.Stat(d)
		switch {
		case errors.Is(err, blob.ErrNotFound):
			stale = append(stale, d)
		case err != nil:
			return nil, err
		case info.Stored.Before(limit):
			stale = append(stale, d)
		}
	}
	return stale, nil
}

// needed are the blobs that repositories have, and those of images in use.
func (r *Registry) needed(ctx context.Context) (map[firn.Digest]bool, error) {
	needed := make(map[firn.Digest]bool)
	if r.cfg.InUse != nil {
		for _, d := range r.cfg.InUse() {
			parts, err := r.cfg.Images.Parts(d)
			if errors.Is(err, oci.ErrNotFound) {
				continue // it has yet to be pulled, or pulled again
			}
			if err != nil {
				return nil, err
			}
			for _, part := range parts {
				needed[part] = true
			}
		}
	}
	return needed, r.cfg.State.View(ctx, func(tx state.Tx) error {
		for _, kind := range []string{kindLayer, kindImage} {
			list, err := tx.List(kind, "", "", 0)
			if err != nil {
				return err
			}
			for _, rec := range list {
				needed[firn.Digest(rec.Key[strings.LastIndexByte(rec.Key, '@')+1:])] = true
			}
		}
		return nil
	})
}
