// Package fleet keeps the execution environments of one node: which of them
// belong to which version of a function, which are idle, and when one more is
// made or one is let go.
//
// It gives the three promises of Lambda that concern more than one
// environment: never two invocations in one environment, never one
// environment for two versions, never more concurrent invocations than the
// account allows. An idle environment that was used last is used first, so
// that the others can grow old and be reaped.
//
// The truth about an environment lives here, in memory, and nowhere else.
package fleet

import (
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
// inflight counts slots of the account's concurrency. A slot is taken by
// Invoke, passes to the environment with the invocation, and is given back
// when that environment is ready again or has ended.
type Fleet struct {
	cfg Config

	pools    sync.Map     // FunctionVersion.Key -> *pool
	inflight atomic.Int64 // slots taken
	alive    atomic.Int64 // environments that were not told to end
	phase    atomic.Int32
	freed    chan struct{} // has a token when a slot may be free

	stop   chan struct{}   // ends the reaper
	base   context.Context // of sandboxes being made; ends with aborting
	cancel context.CancelFunc

	mu     sync.Mutex
	closed bool
	live   sync.WaitGroup // environments that have not ended, and the reaper; Add under mu
	exist  atomic.Int64   // environments that have not ended
}

// New starts the reaper; the caller closes the fleet.
func New(cfg Config) *Fleet {
	f := &Fleet{cfg: cfg, stop: make(chan struct{}), freed: make(chan struct{}, 1)}
	f.base, f.cancel = context.WithCancel(context.Background())
	f.live.Go(f.reap)
	return f
}

// Invoke runs one invocation in an environment of v: in the idle one used
// last, or in a new one. It returns when the caller can be answered; the
// environment may work on. When ctx ends, the invocation goes on without its
// caller.
func (f *Fleet) Invoke(ctx context.Context, v *firn.FunctionVersion, inv *environment.Invocation) (*environment.Outcome, error) {
	if err := f.reserve(ctx); err != nil {
		return nil, err
	}
	for failed := 0; ; {
		m, fresh, err := f.take(ctx, v)
		if err != nil {
			f.release()
			return nil, err
		}
		turn := m.turn // ours: nobody else changes it while the member is busy
		out, err := m.env.Invoke(ctx, inv)
		switch {
		case errors.Is(err, environment.ErrBusy): // a mistake of ours: two takers
			f.release()
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
		if m.pool.surrender(m) {
			if failed < maxStarts {
				continue
			}
			f.release()
		} else if failed < maxStarts { // it gave the slot back as it ended
			if err := f.reserve(ctx); err != nil {
				return nil, err
			}
			continue
		}
		return nil, err
	}
}

// maxStarts is how many new environments one invocation may lose before it
// began.
const maxStarts = 2

// reserve takes a slot of the account's concurrency. At the limit it waits as
// long as an environment takes to become ready after its answer: callers that
// send one request after the other, as many as the limit allows, are not to be
// throttled by their own last ones.
func (f *Fleet) reserve(ctx context.Context) error {
	if f.tryReserve() {
		return nil
	}
	timer := time.NewTimer(settleWait)
	defer timer.Stop()
	for {
		select {
		case <-f.freed:
			if f.tryReserve() {
				f.wake() // there may be another slot, for somebody else
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			if f.tryReserve() {
				return nil
			}
			return throttled()
		}
	}
}

func (f *Fleet) tryReserve() bool {
	for {
		n := f.inflight.Load()
		if n >= int64(f.cfg.AccountConcurrency) {
			return false
		}
		if f.inflight.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release gives a slot back.
func (f *Fleet) release() {
	f.inflight.Add(-1)
	f.wake()
}

func (f *Fleet) wake() {
	select {
	case f.freed <- struct{}{}:
	default:
	}
}

func throttled() error {
	return &firn.Fault{Kind: firn.TooManyRequests, Message: "Rate Exceeded.",
		Reason: "ConcurrentInvocationLimitExceeded", Type: "User", RetryAfterSeconds: 1}
}

// take finds or makes an environment, busy from then on with the caller's
// slot.
func (f *Fleet) take(ctx context.Context, v *firn.FunctionVersion) (m *member, fresh bool, err error) {
	p := f.pool(v.Key)
	if m := p.pop(); m != nil {
		return m, false, nil
	}
	if m := f.takeSettling(ctx, p); m != nil {
		return m, false, nil
	}
	m, err = f.start(ctx, v)
	return m, true, err
}

func (f *Fleet) pool(key string) *pool {
	if p, ok := f.pools.Load(key); ok {
		return p.(*pool)
	}
	p, _ := f.pools.LoadOrStore(key, &pool{key: key, members: make(map[*member]struct{})})
	return p.(*pool)
}

// start makes an environment for v, busy from the beginning.
func (f *Fleet) start(ctx context.Context, v *firn.FunctionVersion) (*member, error) {
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
		return nil, throttled()
	}
	m := &member{born: f.cfg.Now(), busy: true, dirs: dirs.all()}
	for p := f.pool(v.Key); !p.add(m); p = f.pool(v.Key) {
		f.pools.CompareAndDelete(p.key, p) // it was forgotten meanwhile
	}
	env, err := f.cfg.Start(f.base, environment.Config{
		Version:    v,
		TaskDir:    dirs.task,
		OptDir:     dirs.opt,
		RuntimeDir: dirs.runtime,
		RootDir:    dirs.root,
		Claimed:    true,
		OnReady:    func(env *environment.Environment, _ bool) { f.ready(m) },
		OnEnded:    func(*environment.Environment) { f.ended(m) },
	})
	if err != nil {
		m.pool.remove(m)
		f.alive.Add(-1)
		f.finish()
		return nil, fmt.Errorf("start environment: %w", err)
	}
	m.pool.name(m, env)
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

// ready is called by an environment that can take its next invocation.
func (f *Fleet) ready(m *member) {
	wasBusy, keep := m.pool.push(m, f.cfg.Now, f.cfg.MaxAge)
	if wasBusy {
		f.release()
	}
	if !keep {
		f.shutdown(m)
		return
	}
	// Close ends what is idle after it has changed the phase: either it has
	// seen m, or the phase is seen here.
	if phase(f.phase.Load()) != open {
		f.shutdown(m.pool.retire()...)
	}
}

// ended is called by an environment that is gone.
func (f *Fleet) ended(m *member) {
	wasBusy, wasEnding := m.pool.remove(m)
	if wasBusy {
		f.release()
	}
	if !wasEnding {
		f.alive.Add(-1)
	}
	f.finish()
}

// shutdown ends members that their pool has marked as ending.
func (f *Fleet) shutdown(members ...*member) {
	f.alive.Add(-int64(len(members)))
	for _, m := range members {
		m.env.Shutdown()
	}
}

// Retire ends the environments of a version that was replaced or deleted:
// idle ones now, busy ones when their invocation is over.
func (f *Fleet) Retire(key string) { f.shutdown(f.pool(key).retire()...) }

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
	return Stats{Environments: int(f.exist.Load()), InFlight: int(f.inflight.Load())}
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
