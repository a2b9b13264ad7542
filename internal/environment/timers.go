package environment

import (
	"time"

	"github.com/firn-run/firn/internal/lifecycle"
)

// timers are the machine's timers by name. A timer is made once and reset
// after that: a warm invocation sets one and stops it.
type timers map[lifecycle.Timer]*timer

type timer struct {
	timer *time.Timer
	armed bool
	at    time.Time
	// stopped is Config.ClockStopped when at was last set.
	stopped time.Duration
}

func (e *Environment) setTimerLocked(name lifecycle.Timer, at time.Time) {
	e.armTimerLocked(name, at)
	if e.cfg.ClockStopped != nil {
		e.timers[name].stopped = e.cfg.ClockStopped()
	}
}

func (e *Environment) armTimerLocked(name lifecycle.Timer, at time.Time) {
	wait := max(0, at.Sub(e.cfg.Now()))
	t := e.timers[name]
	if t == nil {
		if e.timers == nil {
			e.timers = make(timers)
		}
		t = &timer{armed: true, at: at}
		e.timers[name] = t
		t.timer = time.AfterFunc(wait, func() { e.fire(name, t) })
		return
	}
	t.armed, t.at = true, at
	t.timer.Reset(wait)
}

func (e *Environment) stopTimerLocked(name lifecycle.Timer) {
	if t := e.timers[name]; t != nil {
		t.armed = false
		t.timer.Stop()
	}
}

func (e *Environment) stopTimersLocked() {
	for name := range e.timers {
		e.stopTimerLocked(name)
	}
	if e.freezer.timer != nil {
		e.freezer.timer.Stop()
	}
	e.freezer.wanted = false
}

// fire reports a timer. One that was stopped or set again while it was on its
// way here is recognised by its time.
func (e *Environment) fire(name lifecycle.Timer, t *timer) {
	e.mu.Lock()
	if !t.armed || e.cfg.Now().Before(t.at) || e.ended {
		e.mu.Unlock()
		return
	}
	if e.postponedLocked(name, t) {
		e.mu.Unlock()
		return
	}
	t.armed = false
	var s step
	e.stepLocked(&s, lifecycle.TimerFired{Timer: name})
	e.mu.Unlock()
	e.conclude(&s)
}

// stoppedStep is the least by which a time limit is moved while its clock
// stands still: what is added in smaller steps would be work for nothing.
const stoppedStep = 10 * time.Millisecond

// postponedLocked moves the limit of an init or an invocation by the time for
// which the clock has stood still since it was set.
func (e *Environment) postponedLocked(name lifecycle.Timer, t *timer) bool {
	if e.cfg.ClockStopped == nil || name != lifecycle.InitTimer && name != lifecycle.InvokeTimer {
		return false
	}
	total := e.cfg.ClockStopped()
	still := total - t.stopped
	if still <= 0 {
		return false
	}
	t.stopped = total
	e.armTimerLocked(name, t.at.Add(max(still, stoppedStep)))
	return true
}

// freezer is the wish to freeze and the state of the sandbox.
type freezer struct {
	timer  *time.Timer
	at     time.Time
	wanted bool
	frozen bool
}

// freezeLocked freezes, or will do so when the grace is over and nothing came
// in between.
func (e *Environment) freezeLocked() {
	grace := e.cfg.FreezeGrace
	z := &e.freezer
	switch {
	case grace < 0 || z.frozen:
	case grace == 0:
		e.freezeNowLocked()
	default:
		z.wanted, z.at = true, e.cfg.Now().Add(grace)
		if z.timer == nil {
			z.timer = time.AfterFunc(grace, e.freezeDue)
		} else {
			z.timer.Reset(grace)
		}
	}
}

func (e *Environment) freezeDue() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if z := &e.freezer; z.wanted && !e.ended && !e.cfg.Now().Before(z.at) {
		e.freezeNowLocked()
	}
}

func (e *Environment) freezeNowLocked() {
	e.freezer.wanted = false
	e.hub.Pause()
	if err := e.box.Freeze(); err != nil {
		e.hub.Resume()
		// The function goes on running at its own share of the processor:
		// worse than frozen, better than ended.
		e.cfg.Logger.Error("freeze", "error", err)
		return
	}
	e.freezer.frozen = true
	e.noteLocked(lifecycle.PhaseFrozen, "")
}

func (e *Environment) thawLocked() {
	z := &e.freezer
	if z.wanted {
		z.wanted = false
		z.timer.Stop()
	}
	if !z.frozen {
		return
	}
	z.frozen = false
	if err := e.box.Thaw(); err != nil {
		e.failLocked("thaw", err)
		return
	}
	e.hub.Resume()
	e.noteLocked(lifecycle.PhaseThawed, "")
}

func (e *Environment) setCPULocked(vcpus float64) {
	if err := e.box.SetCPU(vcpus); err != nil {
		e.cfg.Logger.Error("set the processor share", "vcpus", vcpus, "error", err)
	}
}

// failLocked reports a failure of firn itself to the machine, after the
// present step.
func (e *Environment) failLocked(what string, err error) {
	e.cfg.Logger.Error(what, "error", err)
	e.enqueueLocked(func() { e.step(lifecycle.SandboxFailed{Message: what + ": " + err.Error()}) })
}
