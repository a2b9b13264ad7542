package fleet

import "time"

// reap ends environments that were idle for too long, and forgets the pools
// of versions that are gone, until the fleet closes.
func (f *Fleet) reap() {
	tick := time.NewTicker(max(f.cfg.IdleTimeout/4, 10*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-f.stop:
			return
		case <-tick.C:
		}
		before := f.cfg.Now().Add(-f.cfg.IdleTimeout)
		f.each(func(p *pool) {
			for _, env := range p.expired(before) {
				env.Shutdown()
			}
			if p.forget() {
				f.pools.CompareAndDelete(p.version.Key, p)
			}
		})
	}
}

// evict ends the idle environment that was used longest ago, whatever
// function it belongs to, to make room for one that is needed now.
func (f *Fleet) evict() {
	var victim *pool
	var when time.Time
	f.each(func(p *pool) {
		if used, ok := p.oldest(); ok && (victim == nil || used.Before(when)) {
			victim, when = p, used
		}
	})
	if victim == nil {
		return
	}
	for _, env := range victim.takeOldest() {
		env.Shutdown()
	}
}
