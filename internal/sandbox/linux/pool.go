//go:build linux

package linux

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// quiet is how long the pool waits after a sandbox was taken before it
	// makes the next: a function is starting in the one just taken.
	quiet = 10 * time.Millisecond
	// demandWindow is the time whose number of takes the pool wants to hold.
	demandWindow = 2 * time.Second
	// shrinkAfter is the time without a take after which the pool returns to
	// its least size.
	shrinkAfter = 30 * time.Second
	// retryAfter is the pause after a failure to make one.
	retryAfter = time.Second
)

// pool keeps blank sandboxes ready. One goroutine fills it, one at a time.
type pool struct {
	b      *Backend
	cancel context.CancelFunc
	done   chan struct{}
	kick   chan struct{} // has room for one

	mu    sync.Mutex
	ready []*blank
	takes []time.Time // within demandWindow, oldest first
	last  time.Time   // of the last take
}

func newPool(b *Backend) *pool {
	ctx, cancel := context.WithCancel(context.Background())
	p := &pool{b: b, cancel: cancel, done: make(chan struct{}), kick: make(chan struct{}, 1)}
	go p.fill(ctx)
	return p
}

// take returns a blank sandbox, or nil when none is ready.
func (p *pool) take() *blank {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.takes = append(p.recentLocked(now), now)
	p.last = now
	select {
	case p.kick <- struct{}{}:
	default:
	}
	for len(p.ready) > 0 {
		k := p.ready[0]
		p.ready = p.ready[1:]
		if k.alive() {
			return k
		}
		p.b.work.Go(func() { _ = k.destroy() })
	}
	return nil
}

// recentLocked drops the takes that are too old to tell of demand. No more
// are kept than the pool may hold.
func (p *pool) recentLocked(now time.Time) []time.Time {
	list := p.takes
	for len(list) > 0 && (now.Sub(list[0]) > demandWindow || len(list) > p.b.cfg.PoolMax) {
		list = list[1:]
	}
	return list
}

// lacks says whether another sandbox should be made, or else how many there
// are too many.
func (p *pool) lacks(now time.Time) (more bool, surplus []*blank) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.takes = p.recentLocked(now)
	want := min(max(p.b.cfg.PoolSize, len(p.takes)), p.b.cfg.PoolMax)
	if len(p.ready) < want {
		return true, nil
	}
	if now.Sub(p.last) > shrinkAfter && len(p.ready) > p.b.cfg.PoolSize {
		surplus = p.ready[p.b.cfg.PoolSize:]
		p.ready = p.ready[:p.b.cfg.PoolSize:p.b.cfg.PoolSize]
	}
	return false, surplus
}

// untilQuiet is how long to wait before making one. An empty pool does not
// wait: the next function would have to do the work itself.
func (p *pool) untilQuiet(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.ready) == 0 {
		return 0
	}
	return quiet - now.Sub(p.last)
}

func (p *pool) fill(ctx context.Context) {
	defer close(p.done)
	for ctx.Err() == nil {
		more, surplus := p.lacks(time.Now())
		for _, k := range surplus {
			p.report(k.destroy())
		}
		if !more {
			p.sleep(ctx, shrinkAfter, p.kick)
			continue
		}
		if wait := p.untilQuiet(time.Now()); wait > 0 {
			p.sleep(ctx, wait, nil)
			continue
		}
		k, err := p.b.newBlank(ctx, p.b.cfg.Network, "")
		if err != nil {
			if ctx.Err() == nil {
				p.report(err)
				p.sleep(ctx, retryAfter, nil)
			}
			continue
		}
		p.mu.Lock()
		p.ready = append(p.ready, k)
		p.mu.Unlock()
	}
}

func (p *pool) report(err error) {
	if err != nil {
		p.b.log.Error("the pool of prepared sandboxes", "error", err)
	}
}

func (p *pool) sleep(ctx context.Context, d time.Duration, kick <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-kick:
	}
}

// close ends the filling and destroys what is ready.
func (p *pool) close() error {
	p.cancel()
	<-p.done
	p.mu.Lock()
	list := p.ready
	p.ready = nil
	p.mu.Unlock()
	var errs []error
	for _, k := range list {
		errs = append(errs, k.destroy())
	}
	return errors.Join(errs...)
}
