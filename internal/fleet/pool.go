package fleet

import (
	"slices"
	"sync"
	"time"

	"github.com/firn-run/firn/internal/environment"
)

// member is one environment in its pool.
type member struct {
	pool *pool // set by add
	born time.Time
	dirs [4]string // that it runs from, "" for none

	// Guarded by pool.mu. env does not change once it is set, which happens
	// before the member is taken for the first time.
	env    *environment.Environment // nil until it was started
	busy   bool                     // holds a slot of the account's concurrency
	ending bool                     // was, or is about to be, told to end
	used   time.Time                // end of the last invocation
	turn   uint64                   // counts the invocations given to it

	settling bool      // the caller was answered, the environment is not ready yet
	answered time.Time // when, if settling
}

// pool holds the environments of one FunctionVersion.
type pool struct {
	key string

	mu        sync.Mutex
	members   map[*member]struct{}
	idle      []*member // a stack: the last one was used last
	retired   bool      // replaced or deleted: nothing becomes idle any more
	forgotten bool      // no longer in the fleet's map

	settling int      // members that are
	waiting  []waiter // invocations that wait for one of them, the oldest first
	slow     bool     // waiting was in vain the last time
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
func (p *pool) pop() *member {
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
	m.turn++
	return m
}

// surrender takes the slot from m, which will not use it; false when m has
// given it back already.
func (p *pool) surrender(m *member) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	had := m.busy
	m.busy = false
	return had
}

// push makes m idle. It tells whether m was busy before, and whether it is
// kept: if not, the caller shuts it down, because its version was retired or
// it is older than maxAge.
func (p *pool) push(m *member, now func() time.Time, maxAge time.Duration) (wasBusy, keep bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	wasBusy = m.busy
	m.busy, m.used = false, now() // read here, so that the stack is ordered
	p.settledLocked(m, m.used)
	if p.retired || maxAge > 0 && m.used.Sub(m.born) > maxAge {
		m.ending = true
		return wasBusy, false
	}
	if !p.handOverLocked(m) {
		p.idle = append(p.idle, m)
	}
	return wasBusy, true
}

// remove drops m and tells whether it was busy and whether it was ending.
func (p *pool) remove(m *member) (wasBusy, wasEnding bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.members, m)
	if i := slices.Index(p.idle, m); i >= 0 {
		p.idle = slices.Delete(p.idle, i, i+1)
	}
	if m.settling {
		m.settling = false
		p.settling--
	}
	wasBusy, wasEnding = m.busy, m.ending
	m.busy = false
	return wasBusy, wasEnding
}

// retire closes the pool and returns its idle members, which the caller shuts
// down.
func (p *pool) retire() []*member {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retired = true
	return p.takeLocked(func(*member) bool { return true })
}

// expired takes the idle members last used before used, or born before born.
func (p *pool) expired(used, born time.Time) []*member {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.takeLocked(func(m *member) bool { return m.used.Before(used) || m.born.Before(born) })
}

// takeLocked removes the idle members that match and marks them as ending.
func (p *pool) takeLocked(match func(*member) bool) []*member {
	var taken []*member
	p.idle = slices.DeleteFunc(p.idle, func(m *member) bool {
		if !match(m) {
			return false
		}
		m.ending = true
		taken = append(taken, m)
		return true
	})
	return taken
}

// takeOldest takes the idle member used longest ago, if there is one.
func (p *pool) takeOldest() []*member {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) == 0 {
		return nil
	}
	oldest := p.idle[0]
	return p.takeLocked(func(m *member) bool { return m == oldest })
}

// oldest returns when the idle member used longest ago was last used.
func (p *pool) oldest() (time.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) == 0 {
		return time.Time{}, false
	}
	return p.idle[0].used, true
}

// all returns every environment of the pool that has a name.
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

// appendDirs appends the directories of all members.
func (p *pool) appendDirs(dirs []string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for m := range p.members {
		for _, dir := range m.dirs {
			if dir != "" {
				dirs = append(dirs, dir)
			}
		}
	}
	return dirs
}

// forget closes a pool without members for good; the fleet then removes it
// from its map, and makes another one if the version is invoked again.
func (p *pool) forget() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.members) == 0 {
		p.forgotten = true
	}
	return p.forgotten
}
