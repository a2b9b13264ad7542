package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/environment"
)

// status waits for a status of a resource.
func (r *rig) status(resource string, want Status) Provision {
	r.t.Helper()
	var got Provision
	eventually(r.t, "no status "+string(want), func() bool {
		got = r.Provisioned(resource)
		return got.Status == want
	})
	return got
}

// numbered is a version of f.
func numbered(n int) *firn.FunctionVersion {
	v := version("f")
	v.Version = fmt.Sprint(n)
	v.Key = "f:" + v.Version
	return v
}

// uses collects what a fleet tells of provisioned concurrency.
type uses struct {
	mu  sync.Mutex
	all []Use
}

func (u *uses) add(use Use) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.all = append(u.all, use)
}

func (u *uses) take() []Use {
	u.mu.Lock()
	defer u.mu.Unlock()
	all := u.all
	u.all = nil
	return all
}

const alias = "arn:aws:lambda:us-east-1:123456789012:function:f:live"

func TestProvisioned(t *testing.T) {
	var told uses
	r := newRig(t, func(c *Config) { c.Used = told.add })
	v := numbered(1)
	if got := r.Provisioned(alias); got != (Provision{}) {
		t.Errorf("without any: %+v", got)
	}
	r.SetProvisioned(alias, []Share{{v, 2}})
	want := Provision{Status: Ready, Requested: 2, Allocated: 2, Available: 2}
	if diff := cmp.Diff(want, r.status(alias, Ready)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if s := r.Stats(); s.Environments != 2 || s.InFlight != 0 {
		t.Errorf("%+v", s)
	}
	if diff := cmp.Diff(map[string]int{"f": 2}, r.SetAside()); diff != "" {
		t.Errorf("set aside (-want +got):\n%s", diff)
	}
	started, release := r.blocking()
	for _, env := range r.environments() {
		if env.Version() != v {
			t.Error("an environment of another version")
		}
	}
	wait := r.busy(v, 3, started)
	var got []string
	for _, u := range told.take() {
		got = append(got, fmt.Sprintf("%v %v %v %v %v", u.Spillover, u.Executions, u.Utilization, u.Version.Version, u.InvokedARN == v.ARN))
	}
	slices.Sort(got)                       // they are told of in any order
	if len(got) == 3 && got[0] == got[1] { // both were taken before the first was told of
		got[0] = "false 1 0.5 1 true"
	}
	if diff := cmp.Diff([]string{"false 1 0.5 1 true", "false 2 1 1 true", "true 0 0 1 true"}, got); diff != "" {
		t.Errorf("uses (-want +got):\n%s", diff)
	}
	r.slots(100, 3, 0)
	if got := r.Provisioned(alias); got != want {
		t.Errorf("while they run: %+v", got)
	}
	close(release)
	wait()
	r.quiet()
	r.slots(100, 2, 0)

	r.SetProvisioned(alias, nil)
	r.left(1) // the one on demand
	r.slots(100, 0, 0)
	if got := r.Provisioned(alias); got != (Provision{}) {
		t.Errorf("after the end: %+v", got)
	}
	told.take()
	r.must(v, `1`)
	if got := told.take(); len(got) != 0 {
		t.Errorf("told of %+v", got)
	}
}

// A caller who sends one request after the other needs one environment. In
// virtual time every environment settles at once.
func TestProvisionedSequentially(t *testing.T) {
	var told uses
	virtual(t, func(c *Config) { c.Used = told.add }, func(t *testing.T, r *rig) {
		v := numbered(1)
		r.SetProvisioned(alias, []Share{{v, 1}})
		time.Sleep(time.Second) // archtest:sleep virtual time
		for range 100 {
			r.must(v, `1`)
		}
		got := told.take()
		for i, u := range got {
			if u.Spillover {
				t.Errorf("invocation %d spilled over", i+1)
			}
		}
		if len(got) != 100 {
			t.Errorf("%d uses of 100 invocations", len(got))
		}
		r.SetProvisioned(alias, nil)
	})
}

// Neither idleness nor the need for room ends a provisioned environment.
func TestProvisionedIsKept(t *testing.T) {
	r := newRig(t, func(c *Config) { c.IdleTimeout, c.MaxEnvironments = 40*time.Millisecond, 3 })
	v := numbered(1)
	r.SetProvisioned(alias, []Share{{v, 2}})
	r.status(alias, Ready)
	started, release := r.blocking()
	wait := r.busy(version("g"), 1, started)
	r.refused("h", reasonAccount)
	r.advance(time.Hour)
	<-time.After(60 * time.Millisecond) // by the wall: the reaper has looked
	close(release)
	wait()
	r.quiet()
	if got := r.must(v, `1`); got != "1" && got != "2" {
		t.Errorf("environment %s answers", got)
	}
	r.quiet()
	r.left(2 + 1)
	r.must(version("h"), `1`) // in the place of g's
	r.quiet()
	if got := r.Provisioned(alias); got.Available != 2 {
		t.Errorf("%+v", got)
	}
	r.SetProvisioned("other", []Share{{numbered(2), 5}}) // 1 fits when h's is evicted, not 5
	if got := r.status("other", Failed); got.Reason != reasonCapacity || got.Allocated != 1 {
		t.Errorf("%+v", got)
	}
}

// What is bound by the reserved concurrency waits, and comes when there is room.
func TestProvisionedWithinReserved(t *testing.T) {
	r := newRig(t, func(c *Config) { c.AccountConcurrency = 10 })
	v := numbered(1)
	r.SetReserved(v.ARN, ptr(2))
	r.SetProvisioned(alias, []Share{{v, 3}})
	eventually(t, "not two are available", func() bool { return r.Provisioned(alias).Available == 2 })
	r.slots(8, 0, 2)
	if got := r.Provisioned(alias); got.Status != InProgress || got.Allocated != 2 {
		t.Errorf("%+v", got)
	}
	r.refused("f", reasonReserved) // $LATEST: nothing is left for it
	r.must(v, `1`)
	r.SetReserved(v.ARN, ptr(4))
	r.status(alias, Ready)
	r.must(version("f"), `1`)
	r.quiet()
	started, release := r.blocking()
	wait := r.busy(v, 4, started)
	r.slots(6, 0, 4)
	if _, err := r.invoke(v, `1`); reasonOf(err) != reasonReserved {
		t.Errorf("beyond the reserved: %v", err)
	}
	close(release)
	wait()
}

// A smaller number ends idle ones at once and busy ones when they are through;
// an alias takes its environments along to another version.
func TestProvisionedChanges(t *testing.T) {
	r := newRig(t, nil)
	v1, v2 := numbered(1), numbered(2)
	r.SetProvisioned(alias, []Share{{v1, 4}})
	r.status(alias, Ready)
	started, release := r.blocking()
	wait := r.busy(v1, 2, started)
	r.SetProvisioned(alias, []Share{{v1, 1}})
	r.left(2)
	r.slots(100, 2, 0)
	close(release)
	wait()
	r.left(1)
	r.slots(100, 1, 0)
	r.status(alias, Ready)

	r.SetProvisioned(alias, []Share{{v1, 1}, {v2, 2}}) // weighted
	if got := r.status(alias, Ready); got.Requested != 3 || got.Allocated != 3 {
		t.Errorf("%+v", got)
	}
	r.SetProvisioned(alias, []Share{{v2, 2}})
	r.left(2)
	r.SetProvisioned("other", []Share{{v2, 1}}) // two resources, one version
	r.status("other", Ready)
	r.left(3)
	r.SetProvisioned(alias, nil)
	r.left(1)
	r.Retire(v2.Key)
	r.left(0)
	if got := r.Provisioned("other"); got.Status != InProgress || got.Allocated != 0 {
		t.Errorf("of a deleted version: %+v", got)
	}
	r.SetProvisioned("other", nil)
	r.slots(100, 0, 0)
}

// One that crashed is replaced, whatever it did at the time.
func TestProvisionedIsRefilled(t *testing.T) {
	r := newRig(t, nil)
	v := numbered(1)
	r.SetProvisioned(alias, []Share{{v, 1}})
	r.status(alias, Ready)
	made := func(n int) {
		t.Helper()
		eventually(t, fmt.Sprintf("no environment %d", n), func() bool {
			r.backend.mu.Lock()
			defer r.backend.mu.Unlock()
			return r.backend.count == n
		})
		r.status(alias, Ready)
		r.left(1)
		r.slots(100, 1, 0)
	}
	r.backend.boxes[0].crash() // idle
	made(2)
	r.backend.handler = func(b *box, event string, gone <-chan struct{}) string {
		if event == `"crash"` {
			b.crash()
			<-gone
		}
		return fmt.Sprint(b.number)
	}
	if out, err := r.invoke(v, `"crash"`); err != nil || out.ErrorType != "Runtime.ExitError" {
		t.Errorf("%+v, %v", out, err)
	}
	made(3)
	if got := r.must(v, `1`); got != "3" {
		t.Errorf("environment %s answers", got)
	}
	r.quiet()
	envs := r.environments()
	envs[len(envs)-1].Abort() // the sandbox is gone
	made(4)
}

// Old ones are replaced by others that are made first: there is always one.
func TestProvisionedAge(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxAge, c.IdleTimeout = time.Minute, 40*time.Millisecond })
	v := numbered(1)
	r.SetProvisioned(alias, []Share{{v, 2}})
	r.status(alias, Ready)
	r.advance(2 * time.Minute)
	eventually(t, "not all were replaced", func() bool {
		if got := r.Provisioned(alias); got.Status != Ready {
			t.Errorf("meanwhile: %+v", got)
		}
		r.backend.mu.Lock()
		defer r.backend.mu.Unlock()
		return r.backend.count == 4
	})
	r.left(2)
	r.slots(100, 2, 0)
	r.advance(2 * time.Minute)
	// With the reserved concurrency used up there is no room for both.
	r.SetReserved(v.ARN, ptr(2))
	eventually(t, "not all were replaced", func() bool {
		r.backend.mu.Lock()
		defer r.backend.mu.Unlock()
		return r.backend.count == 6
	})
	r.status(alias, Ready)
	r.left(2)
	r.slots(98, 0, 2)
}

// virtual runs a test in virtual time, over a rig whose clock is that.
func virtual(t *testing.T, edit func(*Config), test func(t *testing.T, r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) {
			c.Now = time.Now
			edit(c)
		})
		r.backend.pipes = true
		test(t, r)
	})
}

// The pace is that of the configuration, and the status tells how far it is.
func TestProvisioningPace(t *testing.T) {
	virtual(t, func(c *Config) { c.ProvisionPerMinute = 60 }, func(t *testing.T, r *rig) {
		v := numbered(1)
		r.SetProvisioned(alias, []Share{{v, 5}})
		for second := range 5 {
			time.Sleep(time.Millisecond) // archtest:sleep virtual time
			synctest.Wait()
			want := Provision{Status: InProgress, Requested: 5, Allocated: second + 1, Available: second + 1}
			if second == 4 {
				want.Status = Ready
			}
			if diff := cmp.Diff(want, r.Provisioned(alias)); diff != "" {
				t.Errorf("in second %d (-want +got):\n%s", second, diff)
			}
			time.Sleep(time.Second) // archtest:sleep virtual time
		}
		r.SetProvisioned(alias, nil)
	})
}

// A function whose init fails makes the allocation fail; attempts go on with
// longer and longer waits, and an order anew begins at once.
func TestProvisioningFails(t *testing.T) {
	virtual(t, func(c *Config) { c.ProvisionPerMinute = 600 }, func(t *testing.T, r *rig) {
		var broken atomic.Bool
		broken.Store(true)
		r.backend.broken = func(int) bool { return broken.Load() }
		v := numbered(1)
		count := func() int {
			r.backend.mu.Lock()
			defer r.backend.mu.Unlock()
			return r.backend.count
		}
		r.SetProvisioned(alias, []Share{{v, 3}})
		time.Sleep(time.Second) // archtest:sleep virtual time
		synctest.Wait()
		if got, want := r.Provisioned(alias), (Provision{Status: Failed, Reason: reasonInit, Requested: 3}); got != want {
			t.Errorf("%+v", got)
		}
		tried := count()
		if tried == 0 || tried > 3 {
			t.Errorf("%d attempts in the first second", tried)
		}
		r.slots(100, 0, 0)
		time.Sleep(10 * time.Minute) // archtest:sleep virtual time
		if n := count() - tried; n < 4 || n > 8 {
			t.Errorf("%d further attempts in ten minutes", n)
		}
		broken.Store(false)
		tried = count()
		r.SetProvisioned(alias, []Share{{v, 3}})
		time.Sleep(time.Second) // archtest:sleep virtual time
		synctest.Wait()
		if got := r.Provisioned(alias); got.Status != Ready || got.Reason != "" || count() != tried+3 {
			t.Errorf("%+v after %d attempts", got, count()-tried)
		}
		r.SetProvisioned(alias, nil)
	})
}

// The same without being asked again, and for failures of firn's own.
func TestProvisioningRecovers(t *testing.T) {
	virtual(t, func(*Config) {}, func(t *testing.T, r *rig) {
		r.backend.refuse = errors.New("no sandbox")
		r.SetProvisioned(alias, []Share{{numbered(1), 2}})
		time.Sleep(time.Second) // archtest:sleep virtual time
		if got := r.Provisioned(alias); got.Status != Failed || got.Reason != reasonInternal {
			t.Errorf("%+v", got)
		}
		r.backend.mu.Lock()
		r.backend.refuse = nil
		r.backend.mu.Unlock()
		time.Sleep(time.Minute) // archtest:sleep virtual time
		if got := r.Provisioned(alias); got.Status != Ready || got.Available != 2 {
			t.Errorf("%+v", got)
		}
		r.SetProvisioned(alias, nil)
	})
}

// A fleet closes while provisioned environments are made, initialize, idle and
// run.
func TestCloseWhileProvisioning(t *testing.T) {
	for n := range 8 {
		r := newRig(t, nil)
		r.SetProvisioned(alias, []Share{{numbered(1), 20}})
		if n%2 == 1 {
			<-time.After(time.Duration(n) * 5 * time.Millisecond) // some are there
		}
		r.Close(t.Context())
		r.SetProvisioned(alias, []Share{{numbered(2), 1}})
	}
}

// Environments that are reset while they idle are in the stack once.
func TestResetWhileIdle(t *testing.T) {
	r := newRig(t, nil)
	r.backend.handler = func(b *box, event string, _ <-chan struct{}) string { return fmt.Sprint(b.number) }
	v := version("f")
	r.must(v, `1`)
	r.quiet()
	r.backend.boxes[0].crash()
	p := r.pool(v)
	eventually(t, "it was not reset", func() bool { return r.environments()[0].Cold() })
	p.mu.Lock()
	if n := len(p.onDemand.idle); n != 1 {
		t.Errorf("%d entries for one environment", n)
	}
	p.mu.Unlock()
	if got := r.must(v, `1`); got != "1" {
		t.Errorf("environment %s answers", got)
	}
}

// Environments may be ready, or have failed, before their maker returns.
func TestReadyBeforeTheMakerReturns(t *testing.T) {
	for _, broken := range []bool{false, true} {
		var r *rig
		var ready chan struct{}
		r = newRig(t, func(c *Config) {
			start := c.Start
			c.Start = func(ctx context.Context, cfg environment.Config) (*environment.Environment, error) {
				onReady := cfg.OnReady
				cfg.OnReady = func(e *environment.Environment, failed bool) {
					onReady(e, failed)
					ready <- struct{}{}
				}
				env, err := start(ctx, cfg)
				<-ready
				return env, err
			}
		})
		ready = make(chan struct{}, 100)
		r.backend.broken = func(int) bool { return broken }
		r.SetProvisioned(alias, []Share{{numbered(1), 1}})
		if broken {
			r.status(alias, Failed)
			r.left(0)
		} else {
			r.status(alias, Ready)
			r.must(numbered(1), `1`)
		}
	}
}
