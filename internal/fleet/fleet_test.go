package fleet

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/environment"
)

// blocking makes the handler wait for its release; started tells the boxes
// in which events are being handled, in order.
func (r *rig) blocking() (started chan *box, release chan struct{}) {
	started, release = make(chan *box, 100), make(chan struct{})
	r.backend.handler = func(b *box, event string, gone <-chan struct{}) string {
		if event == `"block"` {
			started <- b
			select {
			case <-release:
			case <-gone:
			}
		}
		return fmt.Sprint(b.number)
	}
	return started, release
}

// busy begins n blocked invocations and returns when all are under way; wait
// waits for their ends, which must be good.
func (r *rig) busy(v *firn.FunctionVersion, n int, started chan *box) (wait func()) {
	var group sync.WaitGroup
	for range n {
		group.Go(func() {
			if out, err := r.invoke(v, `"block"`); err != nil || out.FunctionError != "" {
				r.t.Errorf("a blocked invocation: %+v, %v", out, err)
			}
		})
	}
	for range n {
		<-started
	}
	return group.Wait
}

func TestReuse(t *testing.T) {
	r := newRig(t, nil)
	v := version("f")
	for range 5 {
		r.must(v, `1`)
		r.quiet()
	}
	if s := r.Stats(); s.Environments != 1 {
		t.Errorf("%+v", s)
	}
	if want := []string{filepath.Join(r.roots.dir, "f")}; !slices.Equal(r.InUse(), want) {
		t.Errorf("in use: %q", r.InUse())
	}
}

// TestMostRecentlyUsedFirst ends three invocations in an order of the test's
// and wants them back in the opposite order.
func TestMostRecentlyUsedFirst(t *testing.T) {
	r := newRig(t, nil)
	var mu sync.Mutex
	gates := map[int]chan struct{}{}
	started := make(chan int, 3)
	r.backend.handler = func(b *box, event string, gone <-chan struct{}) string {
		mu.Lock()
		gate := gates[b.number]
		if gate == nil {
			gate = make(chan struct{})
			gates[b.number] = gate
		}
		mu.Unlock()
		started <- b.number
		select {
		case <-gate:
		case <-gone:
		}
		return fmt.Sprint(b.number)
	}
	v := version("f")
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() { r.must(v, `1`) })
	}
	for range 3 {
		<-started
	}
	for i, number := range []int{2, 3, 1} {
		close(gates[number])
		eventually(t, "an invocation did not end", func() bool { return r.Stats().InFlight == 2-i })
	}
	group.Wait()
	// Each keeps its environment busy until the next one has begun.
	mu.Lock()
	for n := range gates {
		gates[n] = make(chan struct{})
	}
	mu.Unlock()
	for _, want := range []int{1, 3, 2} {
		group.Go(func() { r.must(v, `1`) })
		if got := <-started; got != want {
			t.Errorf("environment %d was taken, want %d", got, want)
		}
	}
	for _, gate := range gates {
		close(gate)
	}
	group.Wait()
}

func TestAccountLimit(t *testing.T) {
	r := newRig(t, func(c *Config) { c.AccountConcurrency = 3 })
	started, release := r.blocking()
	wait := r.busy(version("f"), 3, started)
	for range 20 {
		if _, err := r.invoke(version("g"), `1`); !isThrottle(err) {
			t.Fatal(err)
		}
	}
	if s := r.Stats(); s.InFlight != 3 || s.Environments != 3 {
		t.Errorf("%+v", s)
	}
	close(release)
	wait()
	r.quiet()
	r.must(version("g"), `1`)
}

// TestSequentialCallersAtTheLimit: as many callers as slots, each sending its
// next request at once after the answer.
func TestSequentialCallersAtTheLimit(t *testing.T) {
	r := newRig(t, func(c *Config) { c.AccountConcurrency = 2 })
	v := version("f")
	var throttled atomic.Int32
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			for range 200 {
				switch _, err := r.invoke(v, `1`); {
				case isThrottle(err):
					throttled.Add(1)
				case err != nil:
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	// None on a quiet machine; nearly all without the wait for a slot.
	if n := throttled.Load(); n > 40 {
		t.Errorf("%d of 400 invocations were throttled by their own predecessors", n)
	}
}

func TestIdleReaping(t *testing.T) {
	r := newRig(t, func(c *Config) { c.IdleTimeout = 20 * time.Millisecond })
	r.must(version("f"), `1`)
	r.quiet()
	<-time.After(60 * time.Millisecond) // by the wall: the reaper has looked
	r.left(1)
	r.advance(15 * time.Millisecond)
	r.must(version("g"), `1`)
	r.quiet()
	r.advance(15 * time.Millisecond)
	r.left(1)
	if dirs := r.InUse(); len(dirs) != 1 || !strings.HasSuffix(dirs[0], "/g") {
		t.Errorf("in use: %q", dirs)
	}
	r.advance(15 * time.Millisecond)
	r.left(0)
	eventually(t, "pools are left", func() bool {
		n := 0
		r.each(func(*pool) { n++ })
		return n == 0
	})
	r.must(version("f"), `1`)
}

func TestMaxAge(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxAge, c.IdleTimeout = time.Minute, time.Hour })
	started, release := r.blocking()
	v := version("f")
	wait := r.busy(v, 1, started)
	r.advance(2 * time.Minute)
	release <- struct{}{}
	wait()
	r.left(0) // it had its invocation, and was too old for another one
	if got := r.must(v, `1`); got != "2" {
		t.Errorf("environment %s answers", got)
	}
}

func TestRetire(t *testing.T) {
	r := newRig(t, nil)
	started, release := r.blocking()
	v := version("f")
	wait := r.busy(v, 2, started)
	release <- struct{}{}
	eventually(t, "no environment is idle", func() bool { return r.Stats().InFlight == 1 })
	r.Retire(v.Key)
	r.left(1) // the idle one has ended
	// Who had resolved the version before may still run it, in an environment
	// for that alone.
	if got := r.must(v, `1`); got != "3" {
		t.Errorf("environment %s answers", got)
	}
	r.left(1)
	close(release)
	wait()
	r.left(0)
	r.Retire("nobody")
}

func TestEviction(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxEnvironments = 2 })
	started, release := r.blocking()
	for _, name := range []string{"a", "b"} {
		r.advance(time.Second)
		r.must(version(name), `1`)
		r.quiet()
	}
	r.must(version("c"), `1`)
	r.quiet()
	eventually(t, "a was not evicted", func() bool {
		dirs := r.InUse()
		slices.Sort(dirs)
		return slices.Equal(dirs, []string{filepath.Join(r.roots.dir, "b"), filepath.Join(r.roots.dir, "c")})
	})
	wait := r.busy(version("b"), 1, started)
	wait2 := r.busy(version("c"), 1, started)
	if _, err := r.invoke(version("d"), `1`); !isThrottle(err) {
		t.Errorf("with all environments busy: %v", err)
	}
	if s := r.Stats(); s.InFlight != 2 || s.Environments != 2 {
		t.Errorf("%+v", s)
	}
	close(release)
	wait()
	wait2()
}

// TestEndedWhenTaken ends environments in the moment in which they are taken:
// nothing has run then, so the caller does not notice.
func TestEndedWhenTaken(t *testing.T) {
	r := newRig(t, func(c *Config) { c.AccountConcurrency = 1 })
	v := version("f")
	for range 40 {
		r.must(v, `1`)
		r.quiet()
		envs := r.environments()
		var group sync.WaitGroup
		group.Go(func() { envs[len(envs)-1].Shutdown() })
		r.must(v, `1`)
		group.Wait()
		r.quiet()
	}
}

func TestStartFailure(t *testing.T) {
	r := newRig(t, nil)
	broken := errors.New("broken")
	check := func(what string) {
		t.Helper()
		if _, err := r.invoke(version("f"), `1`); !errors.Is(err, broken) {
			t.Errorf("%s: %v", what, err)
		}
		if s := r.Stats(); s != (Stats{}) || r.alive.Load() != 0 {
			t.Errorf("%s: %+v, %d alive", what, s, r.alive.Load())
		}
	}
	r.backend.refuse = broken
	check("no sandbox")
	r.backend.refuse = nil
	r.roots.refuse = broken
	check("no code")
	r.roots.refuse = nil
	r.must(version("f"), `1`)
}

func TestCloseDrains(t *testing.T) {
	r := newRig(t, nil)
	started, release := r.blocking()
	r.must(version("idle"), `1`)
	wait := r.busy(version("f"), 3, started)
	closed := make(chan error)
	go func() { closed <- r.Close(context.Background()) }()
	r.left(3) // the idle one ends at once
	if _, err := r.invoke(version("g"), `1`); !errors.Is(err, ErrClosed) {
		t.Errorf("while closing: %v", err)
	}
	select {
	case err := <-closed:
		t.Fatal("closed with invocations in flight", err)
	default:
	}
	close(release)
	wait()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if _, err := r.invoke(version("g"), `1`); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := r.Close(context.Background()); err != nil {
		t.Errorf("a second Close: %v", err)
	}
}

func TestCloseAborts(t *testing.T) {
	r := newRig(t, nil)
	started, _ := r.blocking()
	answers := make(chan *environment.Outcome, 2)
	for range 2 {
		go func() {
			out, err := r.invoke(version("f"), `"block"`)
			if err != nil {
				t.Error(err)
			}
			answers <- out
		}()
		<-started
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := r.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	for range 2 {
		if out := <-answers; out.FunctionError == "" || out.ErrorType != "Sandbox.Failure" {
			t.Errorf("%+v", out)
		}
	}
}

// TestCloseWhileStarting closes a fleet while many first invocations begin.
func TestCloseWhileStarting(t *testing.T) {
	for range 10 {
		r := newRig(t, nil)
		var group sync.WaitGroup
		for i := range 8 {
			group.Go(func() {
				out, err := r.invoke(version(fmt.Sprint("f", i)), `1`)
				if err == nil && out.FunctionError == "" || errors.Is(err, ErrClosed) || errors.Is(err, environment.ErrEnded) || errors.Is(err, context.Canceled) {
					return
				}
				if err == nil && out.ErrorType == "Sandbox.Failure" {
					return
				}
				t.Errorf("%+v, %v", out, err)
			})
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		r.Close(ctx)
		group.Wait()
	}
}

// TestInvariants lets many callers invoke many versions, while versions are
// replaced and environments die, and watches the three promises.
func TestInvariants(t *testing.T) {
	const limit, versions, callers, each = 6, 4, 12, 60
	r := newRig(t, func(c *Config) { c.AccountConcurrency, c.MaxEnvironments = limit, 5 })
	var running, answered, throttled atomic.Int32
	r.backend.handler = func(b *box, event string, _ <-chan struct{}) string {
		if n := b.running.Load(); n != 1 {
			t.Errorf("%d invocations in one environment", n)
		}
		if n := running.Add(1); n > limit {
			t.Errorf("%d invocations at once", n)
		}
		defer running.Add(-1)
		if want := fmt.Sprintf("%q", filepath.Base(b.spec.TaskDir)); event != want {
			t.Errorf("an environment of %s got an event for %s", want, event)
		}
		return event
	}
	var generation [versions]atomic.Int64
	var group sync.WaitGroup
	for caller := range callers {
		group.Go(func() {
			for i := range each {
				n := (caller + i) % versions
				v := version(fmt.Sprintf("f%d-%d", n, generation[n].Load()))
				out, err := r.invoke(v, fmt.Sprintf("%q", v.Name))
				for isThrottle(err) { // of five environments, or six slots
					throttled.Add(1)
					out, err = r.invoke(v, fmt.Sprintf("%q", v.Name))
				}
				switch {
				case err != nil:
					t.Errorf("%s: %v", v.Name, err)
				case out.FunctionError != "" && out.ErrorType != "Sandbox.Failure": // aborted below
					t.Errorf("%s: %s", v.Name, out.Payload)
				default:
					answered.Add(1)
				}
				switch {
				case i%20 == 7: // an update
					old := generation[n].Add(1) - 1
					r.Retire(fmt.Sprintf("f%d-%d", n, old))
				case i%20 == 13: // a sandbox dies
					if envs := r.environments(); len(envs) > 0 {
						envs[(caller*31+i)%len(envs)].Abort()
					}
				}
			}
		})
	}
	group.Wait()
	r.quiet()
	if answered.Load() < callers*each*3/4 {
		t.Errorf("only %d of %d were answered, %d throttled", answered.Load(), callers*each, throttled.Load())
	}
	if n := r.alive.Load(); n > 5 {
		t.Errorf("%d environments are alive", n)
	}
	t.Logf("%d answered, %d throttled, %d environments", answered.Load(), throttled.Load(), len(r.environments()))
}

// TestTakeIsCheap bounds what finding an idle environment allocates.
func TestTakeIsCheap(t *testing.T) {
	r := newRig(t, nil)
	v := version("f")
	r.must(v, `1`)
	r.quiet()
	n := testing.AllocsPerRun(100, func() {
		ticket := ticket{fleet: r.Fleet}
		m, _, err := ticket.take(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		r.ready(m, m.env)
	})
	if n > 1 {
		t.Errorf("%v allocations", n)
	}
}
