package fleet

import (
	"slices"
	"sync"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/environment"
)

// member is one environment in its pool.
type member struct {
	pool *pool // set by add
	born time.Time

	// Guarded by pool.mu.
	env  *environment.Environment // nil until it was started
	busy bool
	used time.Time // end of the last invocation
}

// pool holds the environments of one FunctionVersion.
type pool struct {
	version *firn.FunctionVersion

	mu        sync.Mutex
	members   map[*member]struct{}
	idle      []*member // a stack: the last one was used last
	retired   bool      // replaced or deleted: nothing becomes idle any more
	forgotten bool      // no longer in the fleet's map
}

// add admits a new, busy member; false when the pool was forgotten.
func (p *pool) add(m *member) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.forgotten {
		return false
	}
	m.pool = p
	p.members[m] = struct{}{}
	return true
}

// name tells which environment m is.
func (p *pool) name(m *member, env *environment.Environment) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m.env = env
}

// pop takes the environment used last, or nil.
func (p *pool) pop() *environment.Environment {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle)
	if n == 0 {
		return nil
	}
	m := p.idle[n-1]
	p.idle[n-1] = nil
	p.idle = p.idle[:n-1]
	m.busy = true
	return m.env
}

// push makes m idle. It tells whether m was busy before, and whether it is
// kept: if not, it must be shut down, because its version was retired or it
// is older than maxAge.
func (p *pool) push(m *member, env *environment.Environment, now time.Time, maxAge time.Duration) (wasBusy, keep bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	wasBusy = m.busy
	m.env, m.busy, m.used = env, false, now
	if p.retired || maxAge > 0 && now.Sub(m.born) > maxAge {
		return wasBusy, false
	}
	p.idle = append(p.idle, m)
	return wasBusy, true
}

// remove forgets m and tells whether it was busy.
func (p *pool) remove(m *member) (wasBusy bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.members, m)
	if i := slices.Index(p.idle, m); i >= 0 {
		p.idle = slices.Delete(p.idle, i, i+1)
	}
	return m.busy
}

// retire closes the pool and returns its idle environments, which the caller
// shuts down.
func (p *pool) retire() []*environment.Environment {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retired = true
	return p.takeLocked(len(p.idle))
}

// expired takes the idle environments that were not used since before.
func (p *pool) expired(before time.Time) []*environment.Environment {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0 // the stack is ordered by last use: the oldest lie at the bottom
	for n < len(p.idle) && p.idle[n].used.Before(before) {
		n++
	}
	return p.takeLocked(n)
}

// takeLocked removes the n idle environments used longest ago.
func (p *pool) takeLocked(n int) []*environment.Environment {
	n = min(n, len(p.idle))
	envs := make([]*environment.Environment, n)
	for i, m := range p.idle[:n] {
		envs[i] = m.env
	}
	p.idle = slices.Delete(p.idle, 0, n)
	return envs
}

// takeOldest takes the idle environment used longest ago, if there is one.
func (p *pool) takeOldest() []*environment.Environment {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.takeLocked(1)
}

// oldest returns when the idle environment used longest ago was last used.
func (p *pool) oldest() (time.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) == 0 {
		return time.Time{}, false
	}
	return p.idle[0].used, true
}

// all returns every environment of the pool.
func (p *pool) all() []*environment.Environment {
	p.mu.Lock()
	defer p.mu.Unlock()
	var envs []*environment.Environment
	for m := range p.members {
		if m.env != nil {
			envs = append(envs, m.env)
		}
	}
	return envs
}

// forget closes a retired pool without members for good; the fleet then
// removes it from its map.
func (p *pool) forget() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forgotten = p.retired && len(p.members) == 0
	return p.forgotten
}
