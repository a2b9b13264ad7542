package control

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire"
)

// defaultImageIdle is how long a version of an image function may rest before
// it becomes Inactive. AWS promises no number; it is that of the versions with
// snapshots.
const defaultImageIdle = 14 * 24 * time.Hour

// activity is what is known of the use of one version of an image function. The
// copies of its record share it. It begins anew with the process.
type activity struct {
	last   atomic.Int64 // when it was resolved, Unix nanoseconds
	wanted atomic.Bool  // it was, while it was inactive
}

func (c *Control) newActivity() *activity {
	a := &activity{}
	a.last.Store(c.cfg.Now().UnixNano())
	return a
}

// inactive reports whether rec has given up its image.
func inactive(rec *record) bool {
	return rec.Config.State == types.StateInactive && settled(rec)
}

// restoring reports whether the image of a record that was inactive is on its
// way back. Nothing else than that settles it.
func restoring(rec *record) bool {
	return rec.Config.State == types.StatePending && rec.Config.StateReasonCode == types.StateReasonCodeRestoring
}

func markInactive(rec *record, code types.StateReasonCode, reason string) {
	cfg := &rec.Config
	cfg.State, cfg.StateReason, cfg.StateReasonCode = types.StateInactive, ptr(reason), code
	rec.serving = nil
}

const idleReason = "The function is idle."

// rest makes the versions of image functions inactive that nobody has invoked
// for long: the node may then lose their images.
func (c *Control) rest(ctx context.Context) {
	if c.cfg.ImageIdle < 0 {
		return
	}
	limit := c.cfg.ImageIdle
	if limit == 0 {
		limit = defaultImageIdle
	}
	before := c.cfg.Now().Add(-limit).UnixNano()
	for name, value := range c.functions.Range {
		f := value.(*function)
		if len(f.attachments().provisioned) > 0 {
			continue // it is kept ready
		}
		for _, rec := range f.all() {
			if rec.Image == nil || rec.serving == nil || rec.Before != nil || rec.activity.last.Load() > before {
				continue
			}
			key := rec.serving.Key
			done, err := c.move(ctx, transition{name.(string), f, rec, types.StateActive}, func(next *record) {
				markInactive(next, types.StateReasonCodeIdle, idleReason)
			})
			if err != nil {
				c.cfg.Logger.Error("idle function keeps its image", "function", name, "error", err)
			}
			if done && err == nil {
				c.cfg.Retirer.Retire(key)
			}
		}
	}
}

// transition names a version of a function as somebody has seen it.
type transition struct {
	name string
	f    *function
	seen *record
	from types.State
}

// move changes the state of a version, unless it is not what was seen any more.
func (c *Control) move(ctx context.Context, t transition, change func(next *record)) (bool, error) {
	unlock := c.lock(t.name)
	defer unlock()
	if now, _ := c.functions.Load(t.name); now != t.f {
		return false, nil // deleted meanwhile
	}
	e := c.newEdit(t.name)
	version := *t.seen.Config.Version
	old := e.rec
	if version != firn.Latest {
		old = e.versions[version]
	}
	if old == nil || old.Generation != t.seen.Generation || old.Config.State != t.from || old.Config.LastUpdateStatus == types.LastUpdateStatusInProgress {
		return false, nil
	}
	next := *old
	change(&next)
	next.Config.RevisionId = ptr(awswire.NewRequestID())
	if version == firn.Latest {
		e.rec = &next
	} else {
		put(e, &e.versions, kindVersion, version, &next)
	}
	return true, e.commit(ctx)
}

// wake has an inactive version restored in the background.
func (c *Control) wake(rec *record) {
	if inactive(rec) && rec.activity != nil {
		rec.activity.wanted.Store(true)
		c.settling.add(*rec.Config.FunctionName)
	}
}

// restoreWanted restores the versions of a function that were invoked while
// they were inactive.
func (c *Control) restoreWanted(ctx context.Context, name string, f *function) error {
	for _, rec := range f.all() {
		if !inactive(rec) || rec.activity == nil || !rec.activity.wanted.Swap(false) {
			continue
		}
		if err := c.restore(ctx, name, f, rec); err != nil {
			rec.activity.wanted.Store(true)
			return err
		}
	}
	return nil
}

// restore fetches the image of an inactive version again. Who may not any more,
// or finds it gone, stays inactive.
func (c *Control) restore(ctx context.Context, name string, f *function, rec *record) error {
	done, err := c.move(ctx, transition{name, f, rec, types.StateInactive}, func(next *record) {
		next.Config.State, next.Config.StateReasonCode = types.StatePending, types.StateReasonCodeRestoring
		next.Config.StateReason = ptr("The function is being restored.")
	})
	if err != nil || !done {
		return err
	}
	failure := c.bringBack(ctx, rec)
	// Also when the process is about to end: nobody else takes it up.
	_, err = c.move(context.WithoutCancel(ctx), transition{name, f, rec, types.StatePending}, func(next *record) {
		switch {
		case ctx.Err() != nil:
			markInactive(next, types.StateReasonCodeIdle, idleReason)
		case failure != nil:
			c.cfg.Logger.Warn("the image of an inactive function cannot be fetched", "function", name, "error", failure)
			code, reason := failureOf(next, failure)
			markInactive(next, code, reason)
		default:
			next.activity.last.Store(c.cfg.Now().UnixNano())
			next.Config.State, next.Config.StateReason, next.Config.StateReasonCode = types.StateActive, nil, ""
			next.serving = c.version(next)
		}
	})
	return err
}

// bringBack asks the registry for the image anew, as Lambda and not for a
// caller.
func (c *Control) bringBack(ctx context.Context, rec *record) error {
	if c.cfg.Registry != nil {
		_, err := c.cfg.Registry.Resolve(ctx, ImageRequest{
			URI: rec.Image.Pinned.Reference, FunctionARN: *rec.Config.FunctionArn, Account: c.cfg.Account,
			Architecture: string(rec.Config.Architectures[0]),
		})
		if err != nil {
			return err
		}
	}
	return c.prepare(ctx, rec)
}
