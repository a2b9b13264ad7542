package fleet

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firn-run/firn/internal/environment"
)

// member is one environment in its pool.
type member struct {
	pool        *pool // set by add
	born        time.Time
	dirs        [4]string // that it runs from, "" for none
	provisioned bool      // kept, and holds a slot from its making to its end

	// Guarded by pool.mu. env does not change once it is set, which happens
	// before the member is taken for the first time.
	env     *environment.Environment // nil until it was started
	busy    bool                     // runs an invocation; holds a slot for it, unless provisioned
	shelved bool                     // is in its shelf's idle
	ready   bool                     // provisioned and initialised
	ending  bool                     // was, or is about to be, told to end
	used    time.Time                // end of the last invocation
	turn    uint64                   // counts the invocations given to it

	settling bool      // the caller was answered, the environment is not ready yet
	answered time.Time // when, if settling
}

// shelf holds the members of one kind, on demand or provisioned. It is guarded
// by the pool's mutex.
type shelf struct {
	idle     []*member // a stack: the last one was used last
	busy     int       // members that run an invocation
	settling int       // members that are
	waiting  []waiter  // invocations that wait for one of them, the oldest first
	slow     bool      // waiting was in vain the last time
}

// pool holds the environments of one FunctionVersion.
type pool struct {
	key string
	fn  atomic.Pointer[function] // nil in a pool that was retired before any use
	// wanted is want, for those who have not locked.
	wanted atomic.Int64

	mu          sync.Mutex
	members     map[*member]struct{}
	onDemand    shelf
	provisioned shelf
	keeper      keeper
	retired     bool // replaced or deleted: nothing becomes idle any more
	forgotten   bool // no longer in the fleet's map
}

func newPool(key string) *pool {
	return &pool{key: key, members: make(map[*member]struct{}), keeper: keeper{kick: make(chan struct{}, 1)}}
}

// shelf is where m belongs.
func (p *pool) shelf(m *member) *shelf {
	if m.provisioned {
		return &p.provisioned
	}
	return &p.onDemand
}

// add admits a new member, busy unless provisioned; false when the pool was
// forgotten.
func (p *pool) add(m *member) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.forgotten {
		return false
	}
	m.pool = p
	p.members[m] = struct{}{}
	if m.provisioned {
		p.keeper.have++
	} else {
		m.busy = true
		p.onDemand.busy++
	}
	return true
}

// name tells which environment m is. It reports whether m is to be shut down
// already, since its version was retired while it was made.
func (p *pool) name(m *member, env *environment.Environment) (end bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m.env = env
	if m.provisioned && p.retired && !m.ending {
		p.endLocked(m)
		return true
	}
	return false
}

// pop takes the environment used last of a shelf, or nil.
func (p *pool) pop(s *shelf) *member {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(s.idle)
	if n == 0 {
		return nil
	}
	m := s.idle[n-1]
	s.idle[n-1] = nil
	s.idle = s.idle[:n-1]
	m.shelved = false
	s.beginLocked(m)
	return m
}

// beginLocked gives m an invocation.
func (s *shelf) beginLocked(m *member) {
	m.busy = true
	m.turn++
	s.busy++
}

// finishLocked takes the invocation from m; false when it has none.
func (s *shelf) finishLocked(m *member) bool {
	if !m.busy {
		return false
	}
	m.busy = false
	s.busy--
	return true
}

// surrender takes the invocation from m, which will not run it; false when m
// was relieved of it already.
func (p *pool) surrender(m *member) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.shelf(m).finishLocked(m)
}

// pushed is what a pool says to a member that is ready.
type pushed struct {
	wasBusy bool // its invocation is over
	end     bool // it is not kept: the caller shuts it down
}

// readiness is what push needs to know.
type readiness struct {
	env    *environment.Environment // which may be ready before it was named
	now    func() time.Time
	maxAge time.Duration
	// cold says that the environment was reset: it has no process, and its
	// next invocation begins with an init.
	cold bool
}

// push makes m idle, unless its version was retired, it is too old, or it is
// provisioned and not as it should be.
func (p *pool) push(m *member, r readiness) (did pushed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m.env == nil {
		m.env = r.env
	}
	s := p.shelf(m)
	did.wasBusy = s.finishLocked(m)
	now := r.now() // read here, so that the stack is ordered
	s.settledLocked(m, now)
	if m.ending {
		return did
	}
	old := r.maxAge > 0 && now.Sub(m.born) > r.maxAge
	switch {
	case p.retired:
		did.end = true
	case m.provisioned:
		did.end = !p.keptLocked(m, r.cold, old)
	default:
		did.end = old
	}
	switch {
	case did.end:
		p.endLocked(m)
	case m.shelved: // reset while it was idle
	default:
		m.used = now
		if !s.handOverLocked(m) {
			m.shelved = true
			s.idle = append(s.idle, m)
		}
	}
	return did
}

// endLocked marks m as one that ends and takes it from its shelf.
func (p *pool) endLocked(m *member) {
	m.ending = true
	p.unshelveLocked(m)
	p.keeper.lostLocked(m)
}

func (p *pool) unshelveLocked(m *member) {
	if !m.shelved {
		return
	}
	m.shelved = false
	s := p.shelf(m)
	if i := slices.Index(s.idle, m); i >= 0 {
		s.idle = slices.Delete(s.idle, i, i+1)
	}
}

// remove drops m, which is gone, and tells whether it was busy and whether it
// was ending.
func (p *pool) remove(m *member) (wasBusy, wasEnding bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.members, m)
	s := p.shelf(m)
	if m.settling {
		m.settling = false
		s.settling--
	}
	wasBusy, wasEnding = s.finishLocked(m), m.ending
	if !wasEnding {
		if m.provisioned && !m.ready {
			p.keeper.failLocked(reasonInternal)
		}
		p.endLocked(m)
	}
	return wasBusy, wasEnding
}

// retire closes the pool and returns the members that can end now, which the
// caller shuts down.
func (p *pool) retire() []*member {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retired = true
	p.wantLocked(0)
	return append(p.takeLocked(&p.onDemand, func(*member) bool { return true }), p.unusedLocked(len(p.members))...)
}

// expired takes the members on demand that were last used before used, or
// born before born.
func (p *pool) expired(used, born time.Time) []*member {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.takeLocked(&p.onDemand, func(m *member) bool { return m.used.Before(used) || m.born.Before(born) })
}

// takeLocked removes the idle members that match and marks them as ending.
func (p *pool) takeLocked(s *shelf, match func(*member) bool) []*member {
	var taken []*member
	s.idle = slices.DeleteFunc(s.idle, func(m *member) bool {
		if !match(m) {
			return false
		}
		m.shelved = false
		taken = append(taken, m)
		return true
	})
	for _, m := range taken {
		p.endLocked(m)
	}
	return taken
}

// takeOldest takes the idle member on demand that was used longest ago, if
// there is one.
func (p *pool) takeOldest() []*member {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.onDemand.idle) == 0 {
		return nil
	}
	oldest := p.onDemand.idle[0]
	return p.takeLocked(&p.onDemand, func(m *member) bool { return m == oldest })
}

// oldest returns when that member was last used.
func (p *pool) oldest() (time.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.onDemand.idle) == 0 {
		return time.Time{}, false
	}
	return p.onDemand.idle[0].used, true
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
	if len(p.members) == 0 && !p.keeper.runs {
		p.forgotten = true
	}
	return p.forgotten
}
