package fleet

import "time"

// minReapInterval keeps the reaper from spinning with a tiny IdleTimeout.
const minReapInterval = 10 * time.Millisecond

// reap ends environments that were idle for too long or are too old, and
// forgets pools and functions that have none, until the fleet closes.
func (f *Fleet) reap() {
	tick := time.NewTicker(max(f.cfg.IdleTimeout/4, minReapInterval))
	defer tick.Stop()
	for {
		select {
		case <-f.stop:
			return
		case <-tick.C:
		}
		now := f.cfg.Now()
		used, born := now.Add(-f.cfg.IdleTimeout), time.Time{}
		if f.cfg.MaxAge > 0 {
			born = now.Add(-f.cfg.MaxAge)
		}
		f.each(func(p *pool) {
			f.shutdown(p.expired(used, born)...)
			wake(p.keeper.kick) // some may have become old
			if p.forget() && f.pools.CompareAndDelete(p.key, p) {
				if fn := p.fn.Load(); fn != nil {
					fn.drop()
				}
			}
		})
		age := f.age()
		f.eachFunction(func(fn *function) {
			if fn.forget(age) {
				f.functions.CompareAndDelete(fn.arn, fn)
			}
		})
	}
}

// evict ends the idle environment that was used longest ago, whatever
// function it belongs to, to make room for one that is needed now. It reports
// whether there was one.
func (f *Fleet) evict() bool {
	for {
		var victim *pool
		var when time.Time
		f.each(func(p *pool) {
			if used, ok := p.oldest(); ok && (victim == nil || used.Before(when)) {
				victim, when = p, used
			}
		})
		if victim == nil {
			return false
		}
		if taken := victim.takeOldest(); taken != nil {
			f.shutdown(taken...)
			return true
		}
	}
}
