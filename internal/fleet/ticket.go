package fleet

import (
	"context"
	"time"

	"github.com/firn-run/firn"
)

// ticket is what one invocation holds before an environment runs it.
type ticket struct {
	fleet *Fleet
	fn    *function

	slot     bool // a slot, counted in fn.running too
	admitted bool // by the rates
	paid     admission
}

// take finds or makes an environment for v, which is busy from then on and has
// the slot: an idle provisioned one, an idle one, or a new one.
func (t *ticket) take(ctx context.Context, v *firn.FunctionVersion) (m *member, fresh bool, err error) {
	f := t.fleet
	p := f.pool(v)
	if p.wanted.Load() > 0 {
		if m, err := t.takeProvisioned(ctx, p); m != nil || err != nil {
			return m, false, err
		}
	}
	if err := t.reserve(ctx, v); err != nil {
		return nil, false, err
	}
	if err := t.admit(); err != nil {
		return nil, false, err
	}
	if m = p.takeIdle(ctx, &p.onDemand); m == nil {
		if f.cfg.ScaleOut >= 0 && !t.fn.scale.take(f.age(), f.scaleOut()) {
			return nil, false, throttled(reasonAccount)
		}
		if m, err = f.start(ctx, v, false); err != nil {
			return nil, false, err
		}
		fresh = true
	}
	t.slot = false
	return m, fresh, nil
}

// takeProvisioned takes a provisioned environment; nil when all are busy.
func (t *ticket) takeProvisioned(ctx context.Context, p *pool) (*member, error) {
	fn := p.fn.Load()
	if fn.reserved.Load() == 0 { // the function is turned off
		return nil, throttled(reasonReserved)
	}
	m := p.takeIdle(ctx, &p.provisioned)
	if m == nil {
		return nil, nil
	}
	t.release() // of an attempt on demand
	t.fn = fn
	if err := t.admit(); err != nil {
		if t.fleet.push(m, m.env, false).end {
			t.fleet.shutdown(m)
		}
		return nil, err
	}
	fn.running.Add(1)
	return m, nil
}

// reserve takes a slot. At the limit it waits as long as an environment takes
// to become ready after its answer: callers that send one request after the
// other, as many as the limit allows, are not to be throttled by their own
// last ones.
func (t *ticket) reserve(ctx context.Context, v *firn.FunctionVersion) error {
	if t.slot {
		return nil
	}
	refused := t.acquire(v)
	if refused == "" {
		return nil
	}
	if t.fn.reserved.Load() == 0 {
		return throttled(reasonReserved)
	}
	timer := time.NewTimer(settleWait)
	defer timer.Stop()
	for {
		again, err := t.wait(ctx, v, refused, timer.C)
		if again == "" || err != nil {
			return err
		}
		refused = again
	}
}

// wait waits once for the slot that was refused, and takes it; "" when it did.
func (t *ticket) wait(ctx context.Context, v *firn.FunctionVersion, refused string, late <-chan time.Time) (string, error) {
	freed := &t.fleet.account.freed
	if refused == reasonReserved {
		freed = &t.fn.freed
	}
	freed.waiting.Add(1)
	defer freed.waiting.Add(-1)
	if refused = t.acquire(v); refused == "" { // it may have been freed before we waited
		return "", nil
	}
	select {
	case <-freed.token:
		if refused = t.acquire(v); refused == "" {
			freed.open() // there may be another slot, for somebody else
		}
		return refused, nil
	case <-ctx.Done():
		return refused, ctx.Err()
	case <-late:
		if refused = t.acquire(v); refused != "" {
			return refused, throttled(refused)
		}
		return "", nil
	}
}

// acquire tries to take a slot.
func (t *ticket) acquire(v *firn.FunctionVersion) (refused string) {
	for {
		t.fn = t.fleet.pool(v).fn.Load()
		switch refused = t.fleet.acquire(t.fn, 0); refused {
		case reasonGone:
			continue
		case "":
			t.slot = true
			t.fn.running.Add(1)
		}
		return refused
	}
}

// admit takes the invocation from the rates, once.
func (t *ticket) admit() error {
	if t.admitted {
		return nil
	}
	paid, refused := t.fleet.admit(t.fn)
	if refused != "" {
		return throttled(refused)
	}
	t.admitted, t.paid = true, paid
	return nil
}

// recover takes back what m, which has ended, was given.
func (t *ticket) recover(m *member) {
	t.fn = m.pool.fn.Load()
	if m.provisioned {
		t.fn.running.Add(-1)
	} else {
		t.slot = true
	}
}

// release gives the slot back.
func (t *ticket) release() {
	if t.slot {
		t.slot = false
		t.fn.running.Add(-1)
		t.fleet.giveBack(t.fn, 0)
	}
}

// giveUp ends an invocation that did not begin. One that was throttled does
// not count for the rates.
func (t *ticket) giveUp(err error) {
	t.release()
	if t.admitted && isThrottled(err) {
		t.fleet.refund(t.fn, t.paid)
	}
}
