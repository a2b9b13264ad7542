package control

import (
	"context"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn/internal/awswire"
)

const (
	// sweepInterval is how often what no record names is removed.
	sweepInterval = 10 * time.Minute
	// retryInterval is how long a function waits that could not be settled.
	retryInterval = 5 * time.Second
	// settlers work at once, so that one large archive does not keep the
	// others waiting; package image unpacks as many.
	settlers = 2
)

// queue holds the names of functions to settle. Adding never waits: a name is
// held once, so the functions bound its size, and who adds may hold a
// function's lock.
type queue struct {
	wake chan struct{} // has a token when there may be names

	mu      sync.Mutex
	pending map[string]struct{}
	delayed map[string]struct{} // for the next retry
}

func newQueue() *queue {
	return &queue{wake: make(chan struct{}, 1), pending: make(map[string]struct{}), delayed: make(map[string]struct{})}
}

func (q *queue) add(name string) {
	q.mu.Lock()
	q.pending[name] = struct{}{}
	q.mu.Unlock()
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// later keeps a name until retry.
func (q *queue) later(name string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.delayed[name] = struct{}{}
}

func (q *queue) retry() {
	q.mu.Lock()
	for name := range q.delayed {
		q.pending[name] = struct{}{}
	}
	clear(q.delayed)
	q.mu.Unlock()
	q.signal()
}

// take waits for a name; false when ctx ends.
func (q *queue) take(ctx context.Context) (string, bool) {
	for ctx.Err() == nil {
		if name, ok := q.pick(); ok {
			q.signal() // there may be more, for somebody else
			return name, true
		}
		select {
		case <-q.wake:
		case <-ctx.Done():
		}
	}
	return "", false
}

func (q *queue) pick() (string, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for name := range q.pending {
		delete(q.pending, name)
		return name, true
	}
	return "", false
}

// Run settles created and changed functions, and sweeps unused archives, until
// ctx ends. What is unsettled then is settled by the next Load.
func (c *Control) Run(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	for range settlers {
		work.Go(func() {
			for {
				name, ok := c.settling.take(ctx)
				if !ok {
					return
				}
				if c.waitsForRuntime(ctx, name) { // for minutes: nobody else is to wait with it
					work.Go(func() { c.settle(ctx, name) })
					continue
				}
				c.settle(ctx, name)
			}
		})
	}
	sweep, retry := time.NewTicker(sweepInterval), time.NewTicker(retryInterval)
	defer sweep.Stop()
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-retry.C:
			c.settling.retry()
		case <-sweep.C:
			c.Sweep(ctx)
		}
	}
}

// settle settles a function, now or later.
func (c *Control) settle(ctx context.Context, name string) {
	if err := c.settleFunction(ctx, name); err != nil && ctx.Err() == nil {
		c.cfg.Logger.Error("function could not be settled; it is tried again", "function", name, "error", err)
		c.settling.later(name)
	}
}

// waitsForRuntime reports whether a function is unsettled and its runtime is
// still to be fetched.
func (c *Control) waitsForRuntime(ctx context.Context, name string) bool {
	f, ok := c.functions.Load(name)
	if !ok {
		return false
	}
	rec := f.(*function).record.Load()
	return rec != nil && !settled(rec) && c.lacksRuntime(ctx, rec)
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
	if err := c.restoreWanted(ctx, name, f.(*function)); err != nil {
		return err
	}
	seen := f.(*function).record.Load()
	if seen == nil || settled(seen) || restoring(seen) {
		return nil
	}
	failure := c.prepare(ctx, seen)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	unlock := c.lock(name)
	defer unlock()
	if now, _ := c.functions.Load(name); now != f {
		return nil // deleted meanwhile, and perhaps made again
	}
	// Changes are refused while one is settled, but for tags.
	old := f.(*function).record.Load()
	if settled(old) || restoring(old) || old.Generation != seen.Generation {
		return nil // settled meanwhile, and perhaps changed again
	}
	e := c.newEdit(name)
	next := *old
	e.rec = &next
	next.Config.RevisionId = ptr(awswire.NewRequestID())
	if failure != nil {
		c.cfg.Logger.Error("code could not be unpacked", "function", name, "error", failure)
		code, reason := failureOf(seen, failure)
		fail := func(rec *record) { markFailed(rec, code, reason) }
		fail(&next)
		e.settleVersions(fail)
		return e.commit(ctx)
	}
	markActive(&next)
	next.Before = nil
	next.serving = c.version(&next)
	e.settleVersions(func(v *record) {
		markActive(v)
		v.serving = c.version(v)
	})
	if err := e.commit(ctx); err != nil {
		return err
	}
	if old.serving != nil {
		c.cfg.Retirer.Retire(old.serving.Key)
	}
	return nil
}

// settleVersions settles the versions that were published of the record while
// it was not: they are of its code.
func (e *edit) settleVersions(mark func(*record)) {
	for number, v := range e.versions {
		if settled(v) || restoring(v) {
			continue
		}
		next := *v
		mark(&next)
		put(e, &e.versions, kindVersion, number, &next)
	}
}

func markActive(rec *record) {
	cfg := &rec.Config
	cfg.State, cfg.StateReason, cfg.StateReasonCode = types.StateActive, nil, ""
	cfg.LastUpdateStatus, cfg.LastUpdateStatusReason, cfg.LastUpdateStatusReasonCode = types.LastUpdateStatusSuccessful, nil, ""
}

// markFailed says that firn itself failed (a full disk, mostly), or that the
// image is not what it seemed: a function that never ran becomes Failed, an
// update fails and the version before stays.
func markFailed(rec *record, code types.StateReasonCode, reason string) {
	cfg := &rec.Config
	if cfg.State == types.StatePending {
		cfg.State, cfg.StateReason, cfg.StateReasonCode = types.StateFailed, ptr(reason), code
	}
	cfg.LastUpdateStatus, cfg.LastUpdateStatusReason, cfg.LastUpdateStatusReasonCode = types.LastUpdateStatusFailed, ptr(reason), types.LastUpdateStatusReasonCode(code)
}
