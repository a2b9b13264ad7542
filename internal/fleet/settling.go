package fleet

import (
	"context"
	"slices"
	"time"
)

// settleWait is how long an invocation waits for an environment that has
// answered its caller but is not ready yet, before it starts another one. A
// runtime asks for its next event some 0.1 ms after its response, so that a
// caller who sends one request after the other would meet its own environment
// still busy; starting another takes longer than this.
const settleWait = 10 * time.Millisecond

// waiter is an invocation that waits for an environment to become ready. The
// channel has room for the one member that it may be given.
type waiter chan *member

// settle notes that the caller of m's present turn was answered.
func (p *pool) settle(m *member, turn uint64, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m.busy && m.turn == turn && !m.settling {
		m.settling, m.answered = true, now
		p.shelf(m).settling++
	}
}

// settledLocked ends m's settling. Environments that settle slowly, since
// their extensions work on after the answer, are not waited for.
func (s *shelf) settledLocked(m *member, now time.Time) {
	if !m.settling {
		return
	}
	m.settling = false
	s.settling--
	s.slow = now.Sub(m.answered) > settleWait
}

// await registers an invocation that found no idle member; nil when there is
// nothing to wait for.
func (p *pool) await(s *shelf) waiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.slow || s.settling <= len(s.waiting) {
		return nil
	}
	w := make(waiter, 1)
	s.waiting = append(s.waiting, w)
	return w
}

// leave ends a wait that took too long. It returns a member that was handed
// over in the last moment, or nil.
func (p *pool) leave(s *shelf, w waiter) *member {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(s.waiting, w); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
		s.slow = true
		return nil
	}
	return <-w
}

// handOverLocked gives m, which is not busy any more, to the invocation that
// waits longest; false when none does.
func (s *shelf) handOverLocked(m *member) bool {
	if len(s.waiting) == 0 {
		return false
	}
	w := s.waiting[0]
	s.waiting = slices.Delete(s.waiting, 0, 1)
	s.beginLocked(m)
	w <- m
	return true
}

// takeIdle takes an idle environment from a shelf, or waits for a moment for
// one that is about to be ready; nil when none came.
func (p *pool) takeIdle(ctx context.Context, s *shelf) *member {
	if m := p.pop(s); m != nil {
		return m
	}
	w := p.await(s)
	if w == nil {
		return nil
	}
	timer := time.NewTimer(settleWait)
	defer timer.Stop()
	select {
	case m := <-w:
		return m
	case <-timer.C:
	case <-ctx.Done():
	}
	return p.leave(s, w)
}
