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
	"log/slog"
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

// Maker starts an environment; it is environment.Start with what all
// environments of a node share already filled in.
type Maker func(ctx context.Context, cfg environment.Config) (*environment.Environment, error)

// Config is what a fleet is made of.
type Config struct {
	Start  Maker
	Roots  Roots
	Logger *slog.Logger

	// AccountConcurrency is the most invocations at once (1,000 on AWS).
	AccountConcurrency int
	// MaxEnvironments bounds environments of all functions together, idle
	// ones included. Above it the least recently used idle ones go first.
	MaxEnvironments int
	// IdleTimeout ends an environment that was not used for so long.
	IdleTimeout time.Duration
	// MaxAge ends an environment at the end of an invocation once it is so
	// old: Lambda recycles environments every few hours even under load.
	MaxAge time.Duration
	// Now is the clock.
	Now func() time.Time
}

// Fleet is safe for concurrent use.
type Fleet struct {
	cfg Config

	pools    sync.Map // FunctionVersion.Key -> *pool
	inflight atomic.Int64
	members  atomic.Int64

	stop chan struct{}

	mu     sync.Mutex
	closed bool
	live   sync.WaitGroup // environments that have not ended, and the reaper
}

// New starts the reaper; the caller closes the fleet.
func New(cfg Config) *Fleet {
	f := &Fleet{cfg: cfg, stop: make(chan struct{})}
	f.live.Go(f.reap)
	return f
}

// Invoke runs one invocation in an environment of v: in the idle one used
// last, or in a new one. It returns when the caller can be answered; the
// environment may work on.
func (f *Fleet) Invoke(ctx context.Context, v *firn.FunctionVersion, inv *environment.Invocation) (*environment.Outcome, error) {
	for {
		env, fresh, err := f.take(ctx, v)
		if err != nil {
			return nil, err
		}
		out, err := env.Invoke(ctx, inv)
		// An idle environment can end between being taken and being asked
		// (its sandbox died): nothing has run, so another one is tried.
		if errors.Is(err, environment.ErrEnded) && !fresh {
			continue
		}
		return out, err
	}
}

// take finds or makes an environment, busy from then on. Until it is ready
// again, or ends, it counts against the account's concurrency.
func (f *Fleet) take(ctx context.Context, v *firn.FunctionVersion) (env *environment.Environment, fresh bool, err error) {
	if n := f.inflight.Add(1); n > int64(f.cfg.AccountConcurrency) {
		f.inflight.Add(-1)
		return nil, false, &firn.Fault{Kind: firn.TooManyRequests, Message: "Rate Exceeded.",
			Reason: "ConcurrentInvocationLimitExceeded", Type: "User", RetryAfterSeconds: 1}
	}
	if env := f.pool(v).pop(); env != nil {
		return env, false, nil
	}
	env, err = f.start(ctx, v)
	if err != nil {
		f.inflight.Add(-1)
	}
	return env, true, err
}

func (f *Fleet) pool(v *firn.FunctionVersion) *pool {
	if p, ok := f.pools.Load(v.Key); ok {
		return p.(*pool)
	}
	p, _ := f.pools.LoadOrStore(v.Key, &pool{version: v, members: make(map[*member]struct{})})
	return p.(*pool)
}

// start makes an environment for v, busy from the beginning.
func (f *Fleet) start(ctx context.Context, v *firn.FunctionVersion) (*environment.Environment, error) {
	taskDir, err := f.cfg.Roots.Function(ctx, v.Code)
	if err != nil {
		return nil, err
	}
	optDir, err := f.cfg.Roots.Layers(ctx, v.Layers)
	if err != nil {
		return nil, err
	}
	if err := f.begin(); err != nil {
		return nil, err
	}
	if f.members.Load() > int64(f.cfg.MaxEnvironments) {
		f.evict()
	}
	m := &member{born: f.cfg.Now(), busy: true}
	for !f.pool(v).add(m) { // a pool that was forgotten meanwhile takes no members
	}
	env, err := f.cfg.Start(context.WithoutCancel(ctx), environment.Config{
		Version: v,
		TaskDir: taskDir,
		OptDir:  optDir,
		Claimed: true, // by the invocation that made it necessary
		OnReady: func(env *environment.Environment, _ bool) { f.ready(m, env) },
		OnEnded: func(*environment.Environment) {
			if m.pool.remove(m) {
				f.inflight.Add(-1)
			}
			f.finish()
		},
	})
	if err != nil {
		m.pool.remove(m)
		f.finish()
		return nil, err
	}
	m.pool.name(m, env)
	return env, nil
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
	f.members.Add(1)
	return nil
}

func (f *Fleet) finish() {
	f.members.Add(-1)
	f.live.Done()
}

// ready is called by an environment that can take its next invocation.
func (f *Fleet) ready(m *member, env *environment.Environment) {
	wasBusy, keep := m.pool.push(m, env, f.cfg.Now(), f.cfg.MaxAge)
	if wasBusy {
		f.inflight.Add(-1)
	}
	if !keep {
		env.Shutdown()
	}
}

// Retire ends the environments of a version that was replaced or deleted:
// idle ones now, busy ones when their invocation is over.
func (f *Fleet) Retire(key string) {
	p, ok := f.pools.Load(key)
	if !ok {
		return
	}
	for _, env := range p.(*pool).retire() {
		env.Shutdown()
	}
}

// Stats are the fleet's counts at one moment.
type Stats struct {
	Environments int // alive, idle ones included
	InFlight     int // invocations that occupy an environment
}

// Stats reads the counts.
func (f *Fleet) Stats() Stats {
	return Stats{Environments: int(f.members.Load()), InFlight: int(f.inflight.Load())}
}

// Close ends every environment by the book: idle ones at once, busy ones when
// their invocation is over or, at the latest, when ctx ends (their callers are
// then told). It returns when all have ended.
func (f *Fleet) Close(ctx context.Context) error {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		f.live.Wait()
		return nil
	}
	f.closed = true
	f.mu.Unlock()
	close(f.stop)

	f.each(func(p *pool) {
		for _, env := range p.retire() {
			env.Shutdown()
		}
	})
	done := make(chan struct{})
	go func() { f.live.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
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
