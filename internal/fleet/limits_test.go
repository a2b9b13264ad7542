package fleet

import (
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func ptr(n int) *int { return &n }

// refused wants an invocation to be throttled for a reason.
func (r *rig) refused(name, reason string) {
	r.t.Helper()
	if _, err := r.invoke(version(name), `1`); reasonOf(err) != reason {
		r.t.Errorf("%s: %v (%q), want %s", name, err, reasonOf(err), reason)
	}
}

// slots checks the account's books.
func (r *rig) slots(limit, used, reserved int64) {
	r.t.Helper()
	a := &r.account
	if a.limit.Load() != limit || a.used.Load() != used || a.reserved.Load() != reserved {
		r.t.Errorf("account: %d unreserved, %d of them and %d reserved in use; want %d, %d, %d",
			a.limit.Load(), a.used.Load(), a.reserved.Load(), limit, used, reserved)
	}
}

// What a function has reserved is for it alone, over all its versions, and
// not more.
func TestReserved(t *testing.T) {
	r := newRig(t, func(c *Config) { c.AccountConcurrency = 5 })
	started, release := r.blocking()
	f1, f2 := version("f"), version("f")
	f2.Key, f2.Version = "f:2", "2"
	r.SetReserved(f1.ARN, ptr(2))
	wait := r.busy(version("g"), 3, started)
	r.refused("g", reasonAccount)
	wait1 := r.busy(f1, 1, started)
	wait2 := r.busy(f2, 1, started)
	r.refused("f", reasonReserved)
	r.refused("g", reasonAccount)
	r.slots(3, 3, 2)
	if diff := cmp.Diff(map[string]int{"f": 2}, r.SetAside()); diff != "" {
		t.Errorf("set aside (-want +got):\n%s", diff)
	}
	close(release)
	wait()
	wait1()
	wait2()
	r.quiet()
	r.slots(3, 0, 0)
	r.must(f1, `1`)
	r.must(version("g"), `1`)
}

// 0 turns a function off, and at once.
func TestReservedNothing(t *testing.T) {
	r := newRig(t, nil)
	v := version("f")
	r.must(v, `1`)
	r.quiet()
	r.SetProvisioned(v.ARN+":1", []Share{{v, 1}})
	r.status(v.ARN+":1", Ready)
	r.SetReserved(v.ARN, ptr(0))
	begin := time.Now()
	for range 1000 {
		r.refused("f", reasonReserved)
	}
	if took := time.Since(begin); took > 1000*settleWait {
		t.Errorf("refusals took %v", took)
	}
	r.SetReserved(v.ARN, nil)
	r.must(v, `1`)
}

// Reservations change while invocations run: these count from then on where
// they belong, and nothing is lost.
func TestReservedWhileRunning(t *testing.T) {
	r := newRig(t, func(c *Config) { c.AccountConcurrency = 10 })
	started, release := r.blocking()
	f, g := version("f"), version("g")
	waits := []func(){r.busy(f, 3, started), r.busy(g, 2, started)}
	r.slots(10, 5, 0)
	r.SetReserved(f.ARN, ptr(4))
	r.slots(6, 2, 3)
	waits = append(waits, r.busy(f, 1, started))
	r.refused("f", reasonReserved)
	r.SetReserved(f.ARN, ptr(2)) // fewer than run
	r.slots(8, 2, 4)
	r.refused("f", reasonReserved)
	r.SetReserved(f.ARN, ptr(6))
	r.slots(4, 2, 4)
	r.SetReserved(f.ARN, nil)
	r.slots(10, 6, 0)
	close(release)
	for _, wait := range waits {
		wait()
	}
	r.quiet()
	r.slots(10, 0, 0)
}

// A reservation made while others run on all of the account's concurrency is
// honoured as they end: more than the account's limit never runs.
func TestReservedWhenAllIsTaken(t *testing.T) {
	r := newRig(t, func(c *Config) { c.AccountConcurrency = 4 })
	started, release := r.blocking()
	wait := r.busy(version("g"), 4, started)
	r.SetReserved(version("f").ARN, ptr(3))
	r.refused("f", reasonAccount)
	release <- struct{}{}
	eventually(t, "no invocation ended", func() bool { return r.Stats().InFlight == 3 })
	r.refused("g", reasonAccount)
	wait1 := r.busy(version("f"), 1, started)
	r.refused("f", reasonAccount)
	release <- struct{}{}
	release <- struct{}{}
	eventually(t, "no invocation ended", func() bool { return r.Stats().InFlight <= 2 })
	close(release)
	wait()
	wait1()
	r.quiet()
	r.slots(1, 0, 0)
}

// One caller after the other, each at once after the answer, at a limit of 1.
func TestSequentialCallerAtTheReservedLimit(t *testing.T) {
	r := newRig(t, nil)
	v := version("f")
	r.SetReserved(v.ARN, ptr(1))
	throttles := 0
	for range 200 {
		switch _, err := r.invoke(v, `1`); {
		case reasonOf(err) != "":
			throttles++
		case err != nil:
			t.Fatal(err)
		}
	}
	if throttles > 20 {
		t.Errorf("%d of 200 invocations were throttled by their own predecessors", throttles)
	}
}

// passes counts the invocations of a function that go through before one is
// throttled, and wants the reason of that.
func (r *rig) passes(name, reason string) (n int) {
	r.t.Helper()
	for ; n < 1000; n++ {
		if _, err := r.invoke(version(name), `1`); err != nil {
			if reasonOf(err) != reason {
				r.t.Errorf("%s after %d: %v (%q), want %s", name, n, err, reasonOf(err), reason)
			}
			return n
		}
		r.quiet()
	}
	return n
}

// Ten requests a second for each unit of concurrency, by the fleet's clock.
func TestRates(t *testing.T) {
	r := newRig(t, func(c *Config) { c.AccountConcurrency, c.RequestsPerSecond = 3, 0 })
	if n := r.passes("f", reasonRate); n != 30 {
		t.Errorf("%d requests of a function in one moment, want 30", n)
	}
	r.refused("other", reasonCallerRate) // the account has no more either
	r.advance(time.Second)
	r.SetReserved(version("f").ARN, ptr(1))
	if n := r.passes("f", reasonReservedRate); n != 10 {
		t.Errorf("%d requests with 1 reserved, want 10", n)
	}
	r.advance(100 * time.Millisecond)
	if n := r.passes("f", reasonReservedRate); n != 1 {
		t.Errorf("%d requests after 100 ms, want 1", n)
	}
	if n := r.passes("g", reasonRate); n != 20 {
		t.Errorf("%d requests of a function in the rest, want 20", n)
	}
	r.advance(time.Second)
	for range 15 {
		r.must(version("g"), `1`)
		r.quiet()
	}
	if n := r.passes("h", reasonCallerRate); n != 15 {
		t.Errorf("%d requests of a third function, want the 15 that are left", n)
	}
	r.refused("i", reasonCallerRate)
}

// What was throttled for want of concurrency has not used up the rate.
func TestThrottlesDoNotCountForTheRate(t *testing.T) {
	r := newRig(t, func(c *Config) { c.RequestsPerSecond = 10 })
	v := version("f")
	r.SetReserved(v.ARN, ptr(1))
	started, release := r.blocking()
	wait := r.busy(v, 1, started)
	var group sync.WaitGroup
	for range 30 {
		group.Go(func() { r.refused("f", reasonReserved) })
	}
	group.Wait()
	close(release)
	wait()
	r.quiet()
	if n := r.passes("f", reasonReservedRate); n != 9 {
		t.Errorf("%d requests, want the 9 that are left", n)
	}
}

// A function adds three environments in ten seconds, evenly; another function
// has a rate of its own, and idle environments cost nothing.
func TestScalingRate(t *testing.T) {
	r := newRig(t, func(c *Config) { c.ScaleOut = 3 })
	started, release := r.blocking()
	f, g := version("f"), version("g")
	waits := []func(){r.busy(f, 3, started)}
	r.refused("f", reasonAccount)
	waits = append(waits, r.busy(g, 1, started))
	r.advance(3 * time.Second)
	r.refused("f", reasonAccount)
	r.advance(400 * time.Millisecond)
	waits = append(waits, r.busy(f, 1, started))
	r.refused("f", reasonAccount)
	release <- struct{}{}
	eventually(t, "no invocation ended", func() bool { return r.Stats().InFlight == 4 })
	if s := r.Stats(); s.Environments != 5 {
		t.Errorf("%+v", s)
	}
	r.advance(time.Hour) // not more than three are ever kept for later
	r.must(f, `1`)
	r.quiet4(4)
	waits = append(waits, r.busy(f, 3, started))
	close(release)
	for _, wait := range waits {
		wait()
	}
	r.quiet()
	r.slots(100, 0, 0)
}

func (r *rig) quiet4(n int) {
	r.t.Helper()
	eventually(r.t, "invocations are left", func() bool { return r.Stats().InFlight <= n })
}

// Functions of which nothing needs to be known are forgotten.
func TestFunctionsAreForgotten(t *testing.T) {
	r := newRig(t, func(c *Config) { c.IdleTimeout, c.RequestsPerSecond = 40*time.Millisecond, 10 })
	r.must(version("f"), `1`)
	r.must(version("kept"), `1`)
	r.SetReserved(version("kept").ARN, ptr(1))
	r.SetReserved(version("gone").ARN, ptr(1))
	r.SetReserved(version("gone").ARN, nil)
	r.quiet()
	r.advance(time.Minute)
	eventually(t, "functions are left", func() bool {
		n := 0
		r.eachFunction(func(fn *function) { n++ })
		return n == 1
	})
	r.must(version("f"), `1`)
	r.refusedWhileReserved()
}

// refusedWhileReserved sees that a reservation outlived its pools.
func (r *rig) refusedWhileReserved() {
	r.t.Helper()
	started, release := r.blocking()
	wait := r.busy(version("kept"), 1, started)
	r.refused("kept", reasonReserved)
	close(release)
	wait()
}
