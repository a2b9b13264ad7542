package fleet

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// books compares what the fleet counts with what a quiet fleet must hold: a
// slot for each provisioned environment, and none else.
func (r *rig) books(want map[string]int64) {
	r.t.Helper()
	got := map[string]int64{}
	var used, reserved, aside int64
	r.eachFunction(func(fn *function) {
		fn.mu.Lock()
		defer fn.mu.Unlock()
		if fn.used != fn.claimed || fn.running.Load() != 0 {
			r.t.Errorf("%s: %d slots, %d provisioned environments, %d running", fn.arn, fn.used, fn.claimed, fn.running.Load())
		}
		if fn.used > 0 {
			got[fn.arn] = fn.used
		}
		if n := fn.reserved.Load(); n == unreserved {
			used += fn.used
		} else {
			reserved += fn.used
			aside += n
		}
	})
	if diff := cmp.Diff(want, got); diff != "" {
		r.t.Errorf("slots (-want +got):\n%s", diff)
	}
	r.slots(r.account.total-aside, used, reserved)
}

// TestLimits lets callers invoke functions with and without reserved and
// provisioned concurrency, and sees from inside the environments that no limit
// is exceeded, and from outside that nobody is refused while there is room.
func TestLimits(t *testing.T) {
	const account, callers, each = 12, 14, 60
	r := newRig(t, func(c *Config) { c.AccountConcurrency = account })
	// f has 3, g none of its own, h 4 of which 2 are provisioned, k 2
	// provisioned out of what nobody has reserved.
	limits := map[string]int64{"f": 3, "g": account - 3 - 4 - 2, "h": 4, "k": account - 3 - 4}
	running := map[string]*atomic.Int64{}
	for name := range limits {
		running[name] = new(atomic.Int64)
	}
	var all atomic.Int64
	r.backend.handler = func(b *box, event string, _ <-chan struct{}) string {
		name := event[1 : len(event)-1]
		if n := running[name].Add(1); n > limits[name] {
			t.Errorf("%s: %d at once, %d may", name, n, limits[name])
		}
		if n := all.Add(1); n > account {
			t.Errorf("%d at once in the account", n)
		}
		<-time.After(time.Duration(rand.IntN(200)) * time.Microsecond)
		all.Add(-1)
		running[name].Add(-1)
		return event
	}
	r.SetReserved(version("f").ARN, ptr(3))
	r.SetReserved(version("h").ARN, ptr(4))
	r.SetProvisioned("h", []Share{{version("h"), 2}})
	r.SetProvisioned("k", []Share{{version("k"), 2}})
	r.status("h", Ready)
	r.status("k", Ready)

	var answered, refused atomic.Int64
	var group sync.WaitGroup
	for caller := range callers {
		group.Go(func() {
			random := rand.New(rand.NewPCG(uint64(caller), 1))
			for range each {
				name := string("fghk"[random.IntN(4)])
				switch _, err := r.invoke(version(name), fmt.Sprintf("%q", name)); reasonOf(err) {
				case reasonReserved:
					refused.Add(1)
					if name != "f" && name != "h" {
						t.Errorf("%s: %v", name, err)
					}
				case reasonAccount:
					refused.Add(1)
					if name != "g" && name != "k" {
						t.Errorf("%s: %v", name, err)
					}
				default:
					answered.Add(1)
					if err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	group.Wait()
	r.quiet()
	t.Logf("%d answered, %d refused", answered.Load(), refused.Load())
	r.books(map[string]int64{version("h").ARN: 2, version("k").ARN: 2})

	// As many as may run at once do, in every function.
	started, release := r.blocking()
	waits := []func(){
		r.busy(version("f"), 3, started), r.busy(version("h"), 4, started),
		r.busy(version("k"), 4, started), r.busy(version("g"), 1, started),
	}
	r.refused("f", reasonReserved)
	r.refused("h", reasonReserved)
	r.refused("k", reasonAccount)
	r.refused("g", reasonAccount)
	close(release)
	for _, wait := range waits {
		wait()
	}
	r.quiet()
	r.books(map[string]int64{version("h").ARN: 2, version("k").ARN: 2})
}

// TestSettingsUnderLoad changes all settings while functions are invoked,
// environments die and versions are retired: in the end the books are right.
func TestSettingsUnderLoad(t *testing.T) {
	const account = 10
	r := newRig(t, func(c *Config) { c.AccountConcurrency, c.MaxEnvironments = account, 30 })
	var all atomic.Int64
	r.backend.handler = func(b *box, event string, _ <-chan struct{}) string {
		if n := all.Add(1); n > account {
			t.Errorf("%d at once in the account", n)
		}
		defer all.Add(-1)
		return event
	}
	var group sync.WaitGroup
	for caller := range 6 {
		group.Go(func() {
			random := rand.New(rand.NewPCG(uint64(caller), 2))
			for range 80 {
				v := numbered(random.IntN(3))
				v.ARN = version(fmt.Sprint("f", v.Version)).ARN
				if out, err := r.invoke(v, `1`); err != nil && reasonOf(err) == "" || err == nil && out.FunctionError != "" && out.ErrorType != "Sandbox.Failure" {
					t.Errorf("%+v, %v", out, err)
				}
				switch random.IntN(12) {
				case 0:
					r.SetReserved(v.ARN, ptr(random.IntN(4)))
				case 1:
					r.SetReserved(v.ARN, nil)
				case 2:
					r.SetProvisioned(v.ARN, []Share{{v, random.IntN(3)}})
				case 3:
					r.SetProvisioned(v.ARN, nil)
				case 4:
					if envs := r.environments(); len(envs) > 0 {
						envs[random.IntN(len(envs))].Abort()
					}
				}
			}
		})
	}
	group.Wait()
	for n := range 3 {
		arn := version(fmt.Sprint("f", n)).ARN
		r.SetReserved(arn, nil)
		r.SetProvisioned(arn, nil)
	}
	r.quiet()
	eventually(t, "slots are left", func() bool { return r.account.used.Load() == 0 })
	r.books(map[string]int64{})
}
