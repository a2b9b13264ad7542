package control

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire"
)

// sweepInterval is how often archives that no record names are removed.
const sweepInterval = 10 * time.Minute

// enqueue has the background settle a function. The queue is bounded: when it
// is full, the caller of the API waits, which is the back-pressure wanted.
func (c *Control) enqueue(name string) { c.settle <- name }

// Run settles created and changed functions, and sweeps unused archives, until
// ctx ends.
func (c *Control) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case name := <-c.settle:
			if err := c.settleFunction(ctx, name); err != nil && ctx.Err() == nil {
				c.cfg.Logger.Error("function could not be settled; it is tried again at the next start", "function", name, "error", err)
			}
		case <-tick.C:
			c.Sweep()
		}
	}
}

// settleFunction unpacks the code and layers of a function that is Pending or
// whose update is in progress, and makes the result what invocations run. The
// environments of the version before are then retired; what they are working
// on is finished.
func (c *Control) settleFunction(ctx context.Context, name string) error {
	f, ok := c.functions.Load(name)
	if !ok {
		return nil // deleted meanwhile
	}
	rec := f.(*function).record.Load()
	if settled(rec) {
		return nil
	}
	_, err := c.cfg.Images.Function(ctx, rec.Code)
	if err == nil {
		_, err = c.cfg.Images.Layers(ctx, layerDigests(rec))
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	unlock := c.lock(name)
	defer unlock()
	if f.(*function).record.Load() != rec {
		return nil // deleted meanwhile; changes are refused while this runs
	}
	if _, still := c.functions.Load(name); !still {
		return nil
	}
	next := *rec
	next.Config.RevisionId = ptr(awswire.NewRequestID())
	if err != nil {
		c.cfg.Logger.Error("code could not be unpacked", "function", name, "error", err)
		markFailed(&next)
		return c.save(ctx, rec, &next)
	}
	markActive(&next)
	if err := c.save(ctx, rec, &next); err != nil {
		return err
	}
	old := f.(*function).active.Swap(c.version(&next))
	if old != nil {
		c.cfg.Retirer.Retire(old.Key)
	}
	return nil
}

func markActive(rec *record) {
	cfg := &rec.Config
	cfg.State, cfg.StateReason, cfg.StateReasonCode = types.StateActive, nil, ""
	cfg.LastUpdateStatus, cfg.LastUpdateStatusReason, cfg.LastUpdateStatusReasonCode = types.LastUpdateStatusSuccessful, nil, ""
}

// markFailed says that firn itself failed (a full disk, mostly): a function
// that never ran becomes Failed, an update fails and the version before stays.
func markFailed(rec *record) {
	cfg := &rec.Config
	const reason = "The code could not be unpacked on this node; see firn's log."
	if cfg.State == types.StatePending {
		cfg.State, cfg.StateReason, cfg.StateReasonCode = types.StateFailed, ptr(reason), types.StateReasonCodeInternalError
	}
	cfg.LastUpdateStatus, cfg.LastUpdateStatusReason, cfg.LastUpdateStatusReasonCode = types.LastUpdateStatusFailed, ptr(reason), types.LastUpdateStatusReasonCodeInternalError
}

func layerDigests(rec *record) []firn.Digest {
	var out []firn.Digest
	for _, l := range rec.Layers {
		out = append(out, l.Digest)
	}
	return out
}

// Sweep deletes archives that no record refers to: left over by updates,
// deletions, and by a process that stopped between storing an archive and
// writing its record. An archive that was stored a short while ago may be one
// whose record is about to be written, so it is spared.
func (c *Control) Sweep() {
	before := c.cfg.Now().Add(-sweepInterval)
	for info, err := range c.cfg.Blobs.List() {
		if err != nil {
			c.cfg.Logger.Error("list archives", "error", err)
			return
		}
		if info.Stored.After(before) || c.referred(info.Digest) {
			continue
		}
		if err := c.cfg.Blobs.Delete(info.Digest); err != nil {
			c.cfg.Logger.Error("delete archive", "digest", info.Digest, "error", err)
		}
	}
}

func (c *Control) referred(digest firn.Digest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.usage[digest] != nil
}
