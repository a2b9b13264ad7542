package fleet

import (
	"slices"
	"time"

	"github.com/firn-run/firn"
)

// Share is how many environments of one version are to be kept.
type Share struct {
	Version *firn.FunctionVersion
	N       int
}

// Status is how far the allocation of provisioned concurrency is, in the words
// of the Lambda API model (ProvisionedConcurrencyStatusEnum).
type Status string

// The statuses.
const (
	InProgress Status = "IN_PROGRESS"
	Ready      Status = "READY"
	Failed     Status = "FAILED"
)

// Reasons of Failed. The first one is recorded from AWS; the others are ours.
const (
	reasonInit     = "FUNCTION_ERROR_INIT_FAILURE"
	reasonCapacity = "INSUFFICIENT_CAPACITY" // MaxEnvironments, and none is idle
	reasonInternal = "INTERNAL_ERROR"
)

// Provision is how far the provisioned concurrency of a resource is.
type Provision struct {
	Status    Status
	Reason    string // of Failed
	Requested int
	Allocated int // environments, those that initialize included
	Available int // environments that are initialized, busy or not
}

// Use is one invocation of a version that has provisioned concurrency.
type Use struct {
	Version    *firn.FunctionVersion
	InvokedARN string
	// Spillover: all provisioned environments were busy, and the invocation
	// runs on demand. The other fields are zero then.
	Spillover bool
	// Executions is how many provisioned environments of the version run an
	// invocation, this one included; Utilization is that as a share of those
	// that are initialized, 0 to 1.
	Executions  int
	Utilization float64
}

// keeper is what a pool knows of its provisioned environments. It is guarded
// by the pool's mutex. While runs is true a goroutine (Fleet.keep) brings have
// to want; kick tells it that something has changed.
type keeper struct {
	want, have, ready int    // environments; have are those not ending, ready of these those initialized
	orders            int    // counts what was wanted
	failure           string // why the last attempt failed, until all are ready
	failures          int    // in a row
	runs              bool
	kick              chan struct{}
}

// lostLocked notes that m ends.
func (k *keeper) lostLocked(m *member) {
	if !m.provisioned {
		return
	}
	k.have--
	if m.ready {
		k.ready--
	}
	wake(k.kick)
}

// failLocked notes that an environment could not be made.
func (k *keeper) failLocked(reason string) {
	k.failure = reason
	k.failures++
	wake(k.kick)
}

// keptLocked says whether a provisioned member, which is ready for an
// invocation, is kept. One that was reset is not: its next invocation would
// begin with an init. One that is too old is replaced by another that is made
// first (plan), and ends when that is there.
func (p *pool) keptLocked(m *member, cold, old bool) bool {
	k := &p.keeper
	if cold {
		if !m.ready {
			k.failLocked(reasonInit)
		}
		return false
	}
	if !m.ready {
		m.ready = true
		k.ready++
		k.failures = 0
		if k.ready >= k.want {
			k.failure = ""
		}
	}
	wake(k.kick)
	return k.ready <= k.want || !old && k.have == k.want+1
}

// wantLocked changes how many are wanted.
func (p *pool) wantLocked(n int) {
	k := &p.keeper
	k.want = n
	p.wanted.Store(int64(n))
	k.orders++
	k.failures = 0
	k.failure = ""
	wake(k.kick)
}

// order changes how many environments a pool keeps. It reports whether a
// goroutine must be begun for that, and false for a pool that was forgotten.
func (p *pool) order(n int) (begin, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.forgotten {
		return false, false
	}
	if p.retired {
		n = 0
	}
	p.wantLocked(n)
	if n > 0 && !p.keeper.runs {
		p.keeper.runs = true
		return true, true
	}
	return false, true
}

// unusedLocked takes up to n provisioned members that run no invocation, those
// that are not initialized first and the old before the young, and marks them
// as ending. One whose sandbox is being made is left, for later.
func (p *pool) unusedLocked(n int) []*member {
	if n <= 0 || p.keeper.have == 0 {
		return nil
	}
	var unused []*member
	for m := range p.members {
		if m.provisioned && !m.ending && !m.busy && m.env != nil {
			unused = append(unused, m)
		}
	}
	slices.SortFunc(unused, func(a, b *member) int {
		if a.ready != b.ready {
			if b.ready {
				return -1
			}
			return 1
		}
		return a.born.Compare(b.born)
	})
	unused = unused[:min(n, len(unused))]
	for _, m := range unused {
		p.endLocked(m)
	}
	return unused
}

// agedLocked are the provisioned members that were born before a time.
func (p *pool) agedLocked(born time.Time) (aged []*member) {
	if born.IsZero() {
		return nil
	}
	for m := range p.members {
		if m.provisioned && !m.ending && m.born.Before(born) {
			aged = append(aged, m)
		}
	}
	return aged
}

// plan is what a keeper has to do now.
type plan struct {
	end      []*member // to be shut down
	start    bool      // one more is needed
	spare    bool      // it is to replace an old one
	done     bool      // nothing is wanted, and nothing is left
	orders   int
	failures int
}

// plan decides what to do about the provisioned environments; those born
// before born are to be replaced, one at a time.
func (p *pool) plan(born time.Time) (todo plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := &p.keeper
	aged := p.agedLocked(born)
	switch surplus := k.have - k.want; {
	case surplus > 0 && (len(aged) == 0 || k.want == 0):
		todo.end = p.unusedLocked(surplus)
	case surplus > 1:
		todo.end = p.unusedLocked(surplus - 1)
	case surplus == 1 && k.ready > k.want:
		todo.end = p.endOneLocked(aged)
	}
	todo.start = k.have < k.want
	todo.spare = k.have == k.want && k.ready == k.want && len(aged) > 0 && k.want > 0
	if k.failures > 0 && k.have > k.ready { // wait for what becomes of the attempt
		todo.start, todo.spare = false, false
	}
	todo.orders, todo.failures = k.orders, k.failures
	if k.want == 0 && k.have == 0 {
		k.runs = false
		todo.done = true
	}
	return todo
}

// endOneLocked marks one of some members as ending, if one is idle.
func (p *pool) endOneLocked(members []*member) []*member {
	for _, m := range members {
		if m.shelved {
			p.endLocked(m)
			return []*member{m}
		}
	}
	return nil
}

// SetProvisioned keeps environments initialized for the versions behind a
// resource, the ARN of a version or of an alias. It replaces what was asked
// for the same resource before: what is no longer needed ends, and the rest is
// made in the background, at the pace of Config.ProvisionPerMinute. No shares
// end it. It does not block.
func (f *Fleet) SetProvisioned(resource string, shares []Share) {
	f.settings.Lock()
	defer f.settings.Unlock()
	before := f.provisions[resource]
	if len(shares) == 0 {
		delete(f.provisions, resource)
	} else {
		f.provisions[resource] = slices.Clone(shares)
	}
	for _, s := range shares {
		f.orderLocked(s.Version)
	}
	for _, s := range before {
		if !slices.ContainsFunc(shares, func(now Share) bool { return now.Version.Key == s.Version.Key }) {
			f.orderLocked(s.Version)
		}
	}
}

// orderLocked tells the pool of v what all resources together want of it.
func (f *Fleet) orderLocked(v *firn.FunctionVersion) {
	n := 0
	for _, shares := range f.provisions {
		for _, s := range shares {
			if s.Version.Key == v.Key {
				n += max(s.N, 0)
			}
		}
	}
	if _, exists := f.pools.Load(v.Key); !exists && n == 0 {
		return
	}
	for {
		p := f.pool(v)
		begin, ok := p.order(n)
		if !ok {
			f.pools.CompareAndDelete(p.key, p)
			continue
		}
		if begin && !f.own(func() { f.keep(p, v) }) {
			return // closing
		}
		return
	}
}

// Provisioned tells how far the provisioned concurrency of a resource is; the
// zero Provision says that none was asked for.
func (f *Fleet) Provisioned(resource string) Provision {
	f.settings.Lock()
	shares := f.provisions[resource]
	f.settings.Unlock()
	if len(shares) == 0 {
		return Provision{}
	}
	all := Provision{Status: Ready}
	for _, s := range shares {
		all.Requested += s.N
		got, _ := f.pools.Load(s.Version.Key)
		p, ok := got.(*pool)
		if !ok {
			all.worsen(InProgress, "")
			continue
		}
		p.mu.Lock()
		k := p.keeper
		p.mu.Unlock()
		all.Allocated += min(k.have, s.N)
		all.Available += min(k.ready, s.N)
		switch {
		case k.ready >= k.want && k.want >= s.N:
		case k.failure != "":
			all.worsen(Failed, k.failure)
		default:
			all.worsen(InProgress, "")
		}
	}
	return all
}

// worsen makes a status worse, never better.
func (a *Provision) worsen(status Status, reason string) {
	if a.Status != Failed {
		a.Status, a.Reason = status, reason
	}
}

const (
	// claimRetry is how often a keeper looks for a slot when all are taken.
	claimRetry = 100 * time.Millisecond
	// firstBackoff and lastBackoff are how long a keeper waits after a
	// failure, doubled with each one in a row.
	firstBackoff = 10 * time.Second
	lastBackoff  = 5 * time.Minute
)

// keep makes and ends provisioned environments until none is wanted or the
// fleet closes. It is the pool's only keeper.
func (f *Fleet) keep(p *pool, v *firn.FunctionVersion) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	open := false // the pace, or the wait after a failure, allows the next one
	var orders, failures int
	backoff := firstBackoff
	for {
		var born time.Time
		if f.cfg.MaxAge > 0 {
			born = f.cfg.Now().Add(-f.cfg.MaxAge)
		}
		todo := p.plan(born)
		f.shutdown(todo.end...)
		if todo.done {
			return
		}
		switch {
		case todo.orders != orders: // asked anew: the past is forgotten
			orders, failures, backoff = todo.orders, todo.failures, firstBackoff
			timer.Reset(0)
		case todo.failures == 0 && failures > 0:
			failures, backoff = 0, firstBackoff
			timer.Reset(0)
		case todo.failures > failures:
			failures = todo.failures
			open = false
			timer.Reset(backoff)
			backoff = min(2*backoff, lastBackoff)
		}
		if open && (todo.start || todo.spare) {
			open = false
			timer.Reset(f.provide(p, v, todo.spare))
		}
		select {
		case <-f.stop:
			return
		case <-p.keeper.kick:
		case <-timer.C:
			open = true
		}
	}
}

// provide makes one provisioned environment and returns the pause before the
// next one.
func (f *Fleet) provide(p *pool, v *firn.FunctionVersion, spare bool) time.Duration {
	fn := p.fn.Load()
	if f.acquire(fn, 1) != "" {
		if spare { // no room for both: the old one ends first
			p.mu.Lock()
			end := p.endOneLocked(p.agedLocked(f.cfg.Now().Add(-f.cfg.MaxAge)))
			p.mu.Unlock()
			f.shutdown(end...)
		}
		return claimRetry
	}
	if _, err := f.start(f.base, v, true); err != nil {
		f.giveBack(fn, 1)
		reason := reasonInternal
		if isThrottled(err) {
			reason = reasonCapacity
		}
		p.mu.Lock()
		p.keeper.failLocked(reason)
		p.mu.Unlock()
	}
	return time.Minute / time.Duration(f.cfg.ProvisionPerMinute)
}

// tellUse tells of an invocation of a version with provisioned concurrency.
func (f *Fleet) tellUse(m *member, v *firn.FunctionVersion, arn string) {
	if f.cfg.Used == nil || m.pool.wanted.Load() == 0 {
		return
	}
	use := Use{Version: v, InvokedARN: arn, Spillover: !m.provisioned}
	if m.provisioned {
		m.pool.mu.Lock()
		use.Executions = m.pool.provisioned.busy
		ready := m.pool.keeper.ready
		m.pool.mu.Unlock()
		use.Utilization = min(float64(use.Executions)/float64(max(ready, 1)), 1)
	}
	f.cfg.Used(use)
}
