package fleet

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// busy returns a pool with one member that has just answered its caller.
func busy(t *testing.T, now time.Time) (*pool, *member) {
	t.Helper()
	p := newPool("f")
	m := &member{}
	p.add(m)
	p.settle(m, m.turn, now)
	return p, m
}

// The next invocation of a caller that sends one after the other waits for the
// environment that is about to be ready, instead of starting another.
func TestSettlingIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, m := busy(t, time.Now())
		got := make(chan *member)
		go func() { got <- p.takeIdle(context.Background(), &p.onDemand) }()
		synctest.Wait()
		time.Sleep(settleWait / 2) // archtest:sleep virtual time
		if p.push(m, readiness{now: time.Now}).end {
			t.Fatal("push did not keep the member")
		}
		if <-got != m {
			t.Error("the invocation that waited was not given the member")
		}
		if !m.busy || len(p.onDemand.idle) != 0 || p.onDemand.settling != 0 {
			t.Errorf("after the hand-over: busy %v, %d idle, %d settling", m.busy, len(p.onDemand.idle), p.onDemand.settling)
		}
	})
}

// One that settles slowly is waited for once, and not again before it has
// shown to be quick.
func TestSlowSettlingIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, m := busy(t, time.Now())
		begin := time.Now()
		if got := p.takeIdle(context.Background(), &p.onDemand); got != nil || time.Since(begin) != settleWait {
			t.Fatalf("got %v after %v, want nothing after %v", got, time.Since(begin), settleWait)
		}
		if got := p.takeIdle(context.Background(), &p.onDemand); got != nil || time.Since(begin) != settleWait {
			t.Errorf("a slow pool was waited for again: %v, %v", got, time.Since(begin))
		}
		p.push(m, readiness{now: time.Now})
		m = p.pop(&p.onDemand)
		p.settle(m, m.turn, time.Now())
		if p.push(m, readiness{now: time.Now}); p.onDemand.slow {
			t.Error("a quick turn did not make the pool quick again")
		}
	})
}

// As many wait as members settle; the mark of a turn that is over is ignored.
func TestSettlingCounts(t *testing.T) {
	p, m := busy(t, time.Now())
	first, second := p.await(&p.onDemand), p.await(&p.onDemand)
	if first == nil || second != nil {
		t.Fatalf("one member settles, and %v and %v wait for it", first, second)
	}
	p.push(m, readiness{now: time.Now})
	if got := p.leave(&p.onDemand, first); got != m {
		t.Errorf("leaving in the last moment gives %v, want the member", got)
	}
	p.settle(m, m.turn-1, time.Now())
	if p.onDemand.settling != 0 {
		t.Error("an old turn was counted")
	}
	p.settle(m, m.turn, time.Now())
	p.remove(m)
	if p.onDemand.settling != 0 {
		t.Error("a member that ended still settles")
	}
}
