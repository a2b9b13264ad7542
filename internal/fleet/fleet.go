// Package fleet keeps the execution environments of one node: which of them
// belong to which version of a function, which are idle, and when one more is
// made or one is let go.
//
// It gives the promises of Lambda that concern more than one environment:
// never two invocations in one environment, never one environment for two
// versions, never more concurrent invocations than the account allows or the
// function has reserved, never more requests a second than that concurrency is
// good for, and no quicker growth than the scaling rate. Provisioned
// environments are made in advance, used first, and replaced when they are
// old or broken. An idle environment that was used last is used first, so
// that the others can grow old and be reaped.
//
// The truth about an environment lives here, in memory, and nowhere else.
// What is set (SetReserved, SetProvisioned) is not kept: whoever owns the
// records sets it again at the start. DESIGN.md has the flow, the counts and
// the lock order.
package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/environment"
)

// ErrClosed is returned once Close has begun.
var ErrClosed = errors.New("fleet: closed")

// Roots gives the read-only directories of code and layers (package image).
type Roots interface {
	Function(ctx context.Context, code firn.Digest) (dir string, err error)
	Layers(ctx context.Context, layers []firn.Digest) (dir string, err error)
}

// Runtimes finds a managed runtime by its name (package runtimes). With whole,
// dir is a root file system (environment.Config.RootDir), else it holds
// var/lang and var/runtime for the host's (RuntimeDir).
type Runtimes interface {
	Runtime(ctx context.Context, name string) (dir string, whole bool, err error)
}

// Images gives the root file system of a function's container image.
type Images interface {
	Image(ctx context.Context, digest firn.Digest) (rootDir string, err error)
}

// Maker starts an environment; it is environment.Start with what all
// environments of a node share already filled in.
type Maker func(ctx context.Context, cfg environment.Config) (*environment.Environment, error)

// Config is what a fleet is made of.
type Config struct {
	Start Maker
	Roots Roots
	// Runtimes and Images may be nil: functions that need them then fail
	// with InvalidRuntimeException.
	Runtimes Runtimes
	Images   Images

	// AccountConcurrency is the most invocations at once (1,000 on AWS).
	AccountConcurrency int
	// RequestsPerSecond is how many requests each unit of concurrency is good
	// for in a second: so often may a function be invoked per unit that it has
	// reserved, and all others together per unit that is not reserved. 0
	// means 10, as on AWS; negative is no bound.
	RequestsPerSecond int
	// ScaleOut is how many environments a function may add in 10 seconds, and,
	// times RequestsPerSecond, by how many requests a second it may grow in
	// that time. What it did not use comes back evenly. 0 means 1,000, as on
	// AWS; negative is no bound. Provisioned environments do not count.
	ScaleOut int
	// ProvisionPerMinute is how many provisioned environments of a version are
	// begun in a minute. 0 means 6,000, as on AWS.
	ProvisionPerMinute int
	// Used is told of each invocation of a version that has provisioned
	// concurrency, concurrently; it must not block. Nil is allowed.
	Used func(Use)
	// MaxEnvironments bounds environments of all functions together, idle
	// ones included and those that were told to end excluded. At the bound
	// the idle one used longest ago makes room; if none is idle, the
	// invocation is throttled.
	MaxEnvironments int
	// IdleTimeout ends an environment that was not used for so long.
	IdleTimeout time.Duration
	// MaxAge ends an environment that is so old, though never during an
	// invocation: Lambda recycles environments every few hours even under
	// load. 0 is no bound.
	MaxAge time.Duration
	// Now is the clock.
	Now func() time.Time
}

// phase is how far the end of a fleet has come.
type phase int32

const (
	open     phase = iota
	draining       // nothing starts, what is idle ends
	aborting       // what is busy ends too
)

// Fleet is safe for concurrent use.
//
// A slot is the right to run one invocation: of the account's concurrency, or
// of what a function has reserved of it. Invoke takes one, it passes to the
// environment with the invocation, and is given back when that environment is
// ready again or has ended. A provisioned environment has a slot of its own,
// for as long as it exists.
type Fleet struct {
	cfg  Config
	born time.Time

	pools     sync.Map // FunctionVersion.Key -> *pool
	functions sync.Map // FunctionVersion.ARN -> *function
	account   account
	alive     atomic.Int64 // environments that were not told to end
	phase     atomic.Int32

	stop   chan struct{}   // ends the reaper and the keepers
	base   context.Context // of sandboxes being made; ends with aborting
	cancel context.CancelFunc

	settings   sync.Mutex // before any other lock
	provisions map[string][]Share

	mu     sync.Mutex
	closed bool
	live   sync.WaitGroup // environments that have not ended, the reaper and the keepers; Add under mu
	exist  atomic.Int64   // environments that have not ended
}

// New starts the reaper; the caller closes the fleet.
func New(cfg Config) *Fleet {
	cfg.RequestsPerSecond = cmp.Or(cfg.RequestsPerSecond, 10)
	cfg.ScaleOut = cmp.Or(cfg.ScaleOut, 1000)
	cfg.ProvisionPerMinute = cmp.Or(max(cfg.ProvisionPerMinute, 0), 6000)
	f := &Fleet{cfg: cfg, born: cfg.Now(), stop: make(chan struct{}), provisions: map[string][]Share{}}
	f.account.total = int64(cfg.AccountConcurrency)
	f.account.limit.Store(f.account.total)
	f.account.freed.token = make(chan struct{}, 1)
	f.base, f.cancel = context.WithCancel(context.Background())
	f.live.Go(f.reap)
	return f
}

// Invoke runs one invocation in an environment of v: in the idle one used
// last, or in a new one. It returns when the caller can be answered; the
// environment may work on. When ctx ends, the invocation goes on without its
// caller.
func (f *Fleet) Invoke(ctx context.Context, v *firn.FunctionVersion, inv *environment.Invocation) (*environment.Outcome, error) {
	t := ticket{fleet: f}
	for failed := 0; ; {
		m, fresh, err := t.take(ctx, v)
		if err != nil {
			t.giveUp(err)
			return nil, err
		}
		turn := m.turn // ours: nobody else changes it while the member is busy
		f.tellUse(m, v, inv.ARN)
		out, err := m.env.Invoke(ctx, inv)
		switch {
		case errors.Is(err, environment.ErrBusy): // a mistake of ours: two takers
			f.release(m)
			return nil, fmt.Errorf("fleet: environment %s: %w", m.env.ID(), err)
		case !errors.Is(err, environment.ErrEnded):
			if err == nil { // else the caller has gone, and nothing was answered
				m.pool.settle(m, turn, f.cfg.Now())
			}
			return out, err
		}
		// The environment ended between being taken and being asked: its
		// sandbox died, mostly. Nothing has run, so another one is tried.
		if fresh {
			failed++
		}
		if m.pool.surrender(m) { // else it gave the slot back as it ended
			t.recover(m)
		}
		if failed == maxStarts {
			t.giveUp(err)
			return nil, err
		}
	}
}

// maxStarts is how many new environments one invocation may lose before it
// began.
const maxStarts = 2

func (f *Fleet) pool(v *firn.FunctionVersion) *pool {
	got, ok := f.pools.Load(v.Key)
	if !ok {
		got, _ = f.pools.LoadOrStore(v.Key, newPool(v.Key))
	}
	p := got.(*pool)
	if p.fn.Load() == nil {
		if fn := f.function(v.ARN); !p.fn.CompareAndSwap(nil, fn) {
			fn.drop()
		}
	}
	return p
}

// start makes an environment for v: a provisioned one, or one that is busy from
// the beginning. The caller holds the slot.
func (f *Fleet) start(ctx context.Context, v *firn.FunctionVersion, provisioned bool) (*member, error) {
	dirs, err := f.directories(ctx, v)
	if err != nil {
		return nil, err
	}
	if err := f.begin(); err != nil {
		return nil, err
	}
	if f.alive.Add(1) > int64(f.cfg.MaxEnvironments) && !f.evict() {
		f.alive.Add(-1)
		f.finish()
		return nil, throttled(reasonAccount)
	}
	m := &member{born: f.cfg.Now(), dirs: dirs.all(), provisioned: provisioned}
	for p := f.pool(v); !p.add(m); p = f.pool(v) {
		f.pools.CompareAndDelete(p.key, p) // it was forgotten meanwhile
	}
	kind := "on-demand"
	if provisioned {
		kind = "provisioned-concurrency"
	}
	env, err := f.cfg.Start(f.base, environment.Config{
		Version:    v,
		TaskDir:    dirs.task,
		OptDir:     dirs.opt,
		RuntimeDir: dirs.runtime,
		RootDir:    dirs.root,
		Claimed:    !provisioned,
		OnReady:    func(env *environment.Environment, _ bool) { f.ready(m, env) },
		OnEnded:    func(*environment.Environment) { f.ended(m) },

		InitializationType: kind,
	})
	if err != nil {
		m.pool.remove(m)
		f.alive.Add(-1)
		f.finish()
		return nil, fmt.Errorf("start environment: %w", err)
	}
	if m.pool.name(m, env) {
		f.shutdown(m)
	}
	if phase(f.phase.Load()) == aborting {
		env.Abort() // Close may have looked before it had a name
	}
	return m, nil
}

// directories are what an environment runs from; "" is one that it has not.
type directories struct{ task, opt, runtime, root string }

func (d directories) all() [4]string { return [4]string{d.task, d.opt, d.runtime, d.root} }

// directories makes ready what v runs from: code, layers and runtime, or the
// image that holds all three.
func (f *Fleet) directories(ctx context.Context, v *firn.FunctionVersion) (d directories, err error) {
	if v.Image != nil {
		if f.cfg.Images == nil {
			return d, firn.Faultf(firn.InvalidRuntime, "This firn runs no container images.")
		}
		d.root, err = f.cfg.Images.Image(ctx, v.Image.Digest)
		return d, err
	}
	if d.task, err = f.cfg.Roots.Function(ctx, v.Code); err != nil {
		return d, err
	}
	if d.opt, err = f.cfg.Roots.Layers(ctx, v.Layers); err != nil || !environment.Managed(v) {
		return d, err
	}
	if f.cfg.Runtimes == nil {
		return d, firn.Faultf(firn.InvalidRuntime, "This firn has no managed runtimes: %s cannot run.", v.Runtime)
	}
	dir, whole, err := f.cfg.Runtimes.Runtime(ctx, v.Runtime)
	if whole {
		d.root = dir
	} else {
		d.runtime = dir
	}
	return d, err
}

// begin admits one more environment, unless the fleet is closing; finish is
// its end.
func (f *Fleet) begin() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return ErrClosed
	}
	f.live.Add(1)
	f.exist.Add(1)
	return nil
}

func (f *Fleet) finish() {
	f.exist.Add(-1)
	f.live.Done()
}

// own runs do in a goroutine that Close waits for, unless the fleet is closing.
func (f *Fleet) own(do func()) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	f.live.Go(do)
	return true
}

// ready is called by an environment that can take its next invocation.
func (f *Fleet) ready(m *member, env *environment.Environment) {
	did := f.push(m, env, m.provisioned && env.Cold())
	if did.wasBusy {
		f.release(m)
	}
	if did.end {
		f.shutdown(m)
		return
	}
	// Close ends what is idle after it has changed the phase: either it has
	// seen m, or the phase is seen here.
	if phase(f.phase.Load()) != open {
		f.shutdown(m.pool.retire()...)
	}
}

func (f *Fleet) push(m *member, env *environment.Environment, cold bool) pushed {
	return m.pool.push(m, readiness{env: env, now: f.cfg.Now, maxAge: f.cfg.MaxAge, cold: cold})
}

// release ends what m holds for its invocation.
func (f *Fleet) release(m *member) {
	fn := m.pool.fn.Load()
	fn.running.Add(-1)
	if !m.provisioned {
		f.giveBack(fn, 0)
	}
}

// ended is called by an environment that is gone.
func (f *Fleet) ended(m *member) {
	wasBusy, wasEnding := m.pool.remove(m)
	if wasBusy {
		f.release(m)
	}
	if !wasEnding {
		f.alive.Add(-1)
		if m.provisioned {
			f.giveBack(m.pool.fn.Load(), 1)
		}
	}
	f.finish()
}

// shutdown ends members that their pool has marked as ending.
func (f *Fleet) shutdown(members ...*member) {
	f.alive.Add(-int64(len(members)))
	for _, m := range members {
		if m.provisioned {
			f.giveBack(m.pool.fn.Load(), 1)
		}
		m.env.Shutdown()
	}
}

// Retire ends the environments of a version that was replaced or deleted:
// idle ones now, busy ones when their invocation is over, provisioned ones
// without replacement.
func (f *Fleet) Retire(key string) {
	p, _ := f.pools.LoadOrStore(key, newPool(key))
	f.shutdown(p.(*pool).retire()...)
}

// InUse lists the directories that environments run from, as Roots has handed
// them out, with repetitions.
func (f *Fleet) InUse() []string {
	var dirs []string
	f.each(func(p *pool) { dirs = p.appendDirs(dirs) })
	return dirs
}

// Stats are the fleet's counts at one moment.
type Stats struct {
	Environments int // that have not ended, idle ones included
	InFlight     int // invocations that occupy an environment
}

// Stats reads the counts.
func (f *Fleet) Stats() Stats {
	s := Stats{Environments: int(f.exist.Load())}
	f.eachFunction(func(fn *function) { s.InFlight += int(fn.running.Load()) })
	return s
}

// Close ends every environment by the book: idle ones at once, busy ones when
// their invocation is over or, at the latest, when ctx ends (their callers are
// then told, and the error is ctx's). It returns when all have ended.
func (f *Fleet) Close(ctx context.Context) error {
	f.mu.Lock()
	first := !f.closed
	f.closed = true
	f.mu.Unlock()
	if !first {
		f.live.Wait()
		return nil
	}
	defer f.cancel()
	close(f.stop)
	f.phase.Store(int32(draining))
	f.each(func(p *pool) { f.shutdown(p.retire()...) })
	done := make(chan struct{})
	go func() { f.live.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	f.phase.Store(int32(aborting))
	f.cancel()
	f.each(func(p *pool) {
		for _, env := range p.all() {
			env.Abort()
		}
	})
	<-done
	return ctx.Err()
}

func (f *Fleet) each(do func(*pool)) {
	f.pools.Range(func(_, p any) bool { do(p.(*pool)); return true })
}
