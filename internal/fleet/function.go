package fleet

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firn-run/firn"
)

// The reasons of a throttle, in the words of the Lambda API model.
const (
	reasonAccount      = "ConcurrentInvocationLimitExceeded"
	reasonReserved     = "ReservedFunctionConcurrentInvocationLimitExceeded"
	reasonRate         = "FunctionInvocationRateLimitExceeded"
	reasonReservedRate = "ReservedFunctionInvocationRateLimitExceeded"
	reasonCallerRate   = "CallerRateLimitExceeded"
)

// throttled is the refusal for a reason, in the words recorded of it. None has
// named a time to wait.
func throttled(reason string) error {
	message := "Rate Exceeded."
	if reason == reasonCallerRate {
		message = "Rate exceeded"
	}
	return &firn.Fault{Kind: firn.TooManyRequests, Message: message, Reason: reason, Type: "User"}
}

// isThrottled tells a throttle from other errors.
func isThrottled(err error) bool { return firn.KindOf(err) == firn.TooManyRequests }

// account is what functions share: numbers without a lock. A slot is the right
// to run one invocation at a time, or to keep one provisioned environment.
type account struct {
	total    int64        // slots of the account
	limit    atomic.Int64 // slots that no function has reserved
	used     atomic.Int64 // slots taken by functions without reserved concurrency
	reserved atomic.Int64 // slots taken by the others
	rate     bucket
	freed    gate
}

// gate wakes those who wait for a slot. Without anybody waiting it costs a
// read.
type gate struct {
	waiting atomic.Int32
	token   chan struct{} // has a token when a slot may be free
}

// open says that a slot may be free.
func (g *gate) open() {
	if g.waiting.Load() > 0 {
		wake(g.token)
	}
}

// take takes a slot that is not reserved.
func (a *account) take() bool {
	for {
		n := a.used.Load()
		if n >= a.limit.Load() {
			return false
		}
		if a.used.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// takeReserved counts a slot of a function's own. It is refused only while
// what runs goes back to a time before something was reserved, and would
// exceed the account's limit together with it.
func (a *account) takeReserved() bool {
	n := a.reserved.Add(1)
	if used := a.used.Load(); used > a.limit.Load() && used+n > a.total {
		a.reserved.Add(-1)
		return false
	}
	return true
}

// unreserved is the value of function.reserved without reserved concurrency.
const unreserved = -1

// function is what the versions of one function share. The hot path takes
// mu for some instructions, twice per invocation; no two functions share it.
type function struct {
	arn   string
	freed gate // for slots of its reserved concurrency

	running  atomic.Int64 // invocations that occupy an environment
	reserved atomic.Int64 // or unreserved; changed under mu
	rate     bucket
	ramp     ramp
	scale    bucket

	mu      sync.Mutex
	used    int64 // slots: invocations on demand, and provisioned environments
	claimed int64 // of these, the provisioned environments
	pools   int   // that point here
	gone    bool  // no longer in the fleet's map
}

// function finds or makes the entry of a function, with one more pool.
func (f *Fleet) function(arn string) *function {
	for {
		got, ok := f.functions.Load(arn)
		if !ok {
			fn := &function{arn: arn, freed: gate{token: make(chan struct{}, 1)}}
			fn.reserved.Store(unreserved)
			got, _ = f.functions.LoadOrStore(arn, fn)
		}
		fn := got.(*function)
		fn.mu.Lock()
		if !fn.gone {
			fn.pools++
			fn.mu.Unlock()
			return fn
		}
		fn.mu.Unlock()
		f.functions.CompareAndDelete(arn, fn)
	}
}

// drop undoes a call of Fleet.function.
func (fn *function) drop() {
	fn.mu.Lock()
	defer fn.mu.Unlock()
	fn.pools--
}

// forget closes an entry of which nothing needs to be known.
func (fn *function) forget(now int64) bool {
	fn.mu.Lock()
	defer fn.mu.Unlock()
	fn.gone = fn.pools == 0 && fn.used == 0 && fn.reserved.Load() == unreserved && fn.rate.idle(now) && fn.scale.idle(now)
	return fn.gone
}

// reasonGone is no throttle: the entry was forgotten, look the function up again.
const reasonGone = "gone"

// acquire takes a slot for fn: "", or the reason why not. claim is 1 for a
// provisioned environment and 0 for an invocation.
func (f *Fleet) acquire(fn *function, claim int64) (refused string) {
	fn.mu.Lock()
	defer fn.mu.Unlock()
	if fn.gone {
		return reasonGone
	}
	if n := fn.reserved.Load(); n == unreserved {
		if !f.account.take() {
			return reasonAccount
		}
	} else {
		if fn.used >= n {
			return reasonReserved
		}
		if !f.account.takeReserved() {
			return reasonAccount
		}
	}
	fn.used++
	fn.claimed += claim
	return ""
}

// giveBack returns a slot.
func (f *Fleet) giveBack(fn *function, claim int64) {
	fn.mu.Lock()
	fn.used--
	fn.claimed -= claim
	if fn.reserved.Load() == unreserved {
		f.account.used.Add(-1)
	} else {
		f.account.reserved.Add(-1)
	}
	fn.mu.Unlock()
	fn.freed.open()
	f.account.freed.open()
}

// wake puts a token into a channel that has room for one.
func wake(token chan struct{}) {
	select {
	case token <- struct{}{}:
	default:
	}
}

// SetReserved sets n of the account's concurrency aside for a function, over
// all its versions; nil takes that back. 0 turns the function off. What runs is
// not interrupted: a smaller limit holds for what begins from now on. Whoever
// calls has checked that enough is left for the other functions.
func (f *Fleet) SetReserved(functionARN string, n *int) {
	to := int64(unreserved)
	if n != nil {
		to = int64(*n)
	}
	fn := f.function(functionARN)
	defer fn.drop()
	fn.mu.Lock()
	from := fn.reserved.Swap(to)
	f.account.limit.Add(max(from, 0) - max(to, 0))
	switch {
	case from == unreserved && to != unreserved:
		f.account.used.Add(-fn.used)
		f.account.reserved.Add(fn.used)
	case from != unreserved && to == unreserved:
		f.account.reserved.Add(-fn.used)
		f.account.used.Add(fn.used)
	}
	fn.mu.Unlock()
	fn.freed.open()
	f.account.freed.open()
}

// SetAside tells how much of the account's concurrency is set aside, by the
// name of the function: what is reserved, or, for functions without, what
// their provisioned environments occupy.
func (f *Fleet) SetAside() map[string]int {
	aside := map[string]int{}
	f.eachFunction(func(fn *function) {
		fn.mu.Lock()
		defer fn.mu.Unlock()
		n := fn.reserved.Load()
		if n == unreserved {
			n = fn.claimed
		}
		if n > 0 {
			aside[fn.arn[strings.LastIndexByte(fn.arn, ':')+1:]] = int(n)
		}
	})
	return aside
}

func (f *Fleet) eachFunction(do func(*function)) {
	f.functions.Range(func(_, fn any) bool { do(fn.(*function)); return true })
}

// admission is what one invocation has taken from the rates.
type admission struct {
	own, all measure // empty ones have taken nothing
}

// admit takes one request from the rates of a function and of the account:
// each unit of concurrency is good for so many requests a second.
func (f *Fleet) admit(fn *function) (got admission, refused string) {
	per := int64(f.cfg.RequestsPerSecond)
	if per < 0 {
		return got, ""
	}
	now := f.age()
	slots, refused := fn.reserved.Load(), reasonReservedRate
	if slots == unreserved {
		slots, refused = f.account.limit.Load(), reasonRate
	}
	own := measure{slots * per, time.Second}
	if growth := f.scaleRequests(); growth.tokens >= 0 && own.tokens > growth.tokens && !fn.ramp.take(now, growth) {
		return got, refused
	}
	if !fn.rate.take(now, own) {
		return got, refused
	}
	got.own = own
	all := measure{f.account.total * per, time.Second}
	if !f.account.rate.take(now, all) {
		fn.rate.put(own)
		return admission{}, reasonCallerRate
	}
	got.all = all
	return got, ""
}

// refund gives back what an invocation took that did not take place.
func (f *Fleet) refund(fn *function, got admission) {
	if got.own.tokens > 0 {
		fn.rate.put(got.own)
	}
	if got.all.tokens > 0 {
		f.account.rate.put(got.all)
	}
}

// age is how long the fleet exists, in nanoseconds.
func (f *Fleet) age() int64 { return int64(f.cfg.Now().Sub(f.born)) }

// scaleWindow is the period of the scaling rate.
const scaleWindow = 10 * time.Second

func (f *Fleet) scaleOut() measure { return measure{int64(f.cfg.ScaleOut), scaleWindow} }

// scaleRequests is the scaling rate in requests per second.
func (f *Fleet) scaleRequests() measure {
	return measure{int64(f.cfg.ScaleOut) * int64(f.cfg.RequestsPerSecond), scaleWindow}
}
