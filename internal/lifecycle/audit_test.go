package lifecycle

import (
	"fmt"
	"slices"
	"time"
)

// auditor drives a machine and checks, action by action, what must hold of
// every environment whatever happens to it.
type auditor struct {
	m   *Machine
	cfg Config
	now time.Time

	calls      map[Call]bool // entered and not answered; true while its body is read
	lastCall   Call
	invokes    map[string]*invokeAudit
	lastInvoke int
	running    string // started and not done
	timers     map[Timer]time.Time
	frozen     bool
	full       bool
	resetting  bool
	ended      bool
	initing    bool      // subscriptions are open
	begun      time.Time // of that init

	launched   map[Party]bool // since the last reset
	registered map[string]bool
	ids        []string // identifiers given since the last reset
}

type invokeAudit struct{ answered, done bool }

func newAuditor(cfg Config) *auditor {
	return &auditor{
		m: New(cfg), cfg: cfg, now: epoch(),
		calls: map[Call]bool{}, invokes: map[string]*invokeAudit{}, timers: map[Timer]time.Time{},
		launched: map[Party]bool{}, registered: map[string]bool{},
	}
}

// call returns a new call; the event that carries it must follow.
func (a *auditor) call() Call {
	a.lastCall++
	a.calls[a.lastCall] = false
	return a.lastCall
}

func (a *auditor) invocation() Invocation {
	a.lastInvoke++
	id := fmt.Sprintf("r%d", a.lastInvoke)
	a.invokes[id] = &invokeAudit{}
	return Invocation{RequestID: id}
}

// step feeds one event and checks what comes of it.
func (a *auditor) step(ev Event) error {
	switch ev := ev.(type) {
	case Gone:
		delete(a.calls, ev.Call)
	case TimerFired:
		if at, ok := a.timers[ev.Timer]; ok && !a.now.Before(at) {
			delete(a.timers, ev.Timer)
		}
	case ResetDone:
		if a.resetting {
			clear(a.calls) // the driver has closed the connections
		}
		a.resetting = false
	}
	ended := a.ended
	for _, act := range a.m.Step(a.now, ev) {
		if ended || a.ended {
			return fmt.Errorf("%s after Ended", formatAction(act))
		}
		if err := a.check(act); err != nil {
			return fmt.Errorf("%s: %w", formatAction(act), err)
		}
	}
	return nil
}

func (a *auditor) check(act Action) error {
	switch act := act.(type) {
	case Reply:
		return a.replied(act.Call)
	case Refuse:
		if act.Status < 400 || act.ErrorType == "" || act.Message == "" {
			return fmt.Errorf("incomplete refusal")
		}
		return a.replied(act.Call)
	case Drop:
		return a.replied(act.Call)
	case ReplyRegistered:
		a.ids = append(a.ids, act.ID)
		return a.replied(act.Call)
	case AcceptSubscription:
		if !a.initing || !a.registered[act.Name] {
			return fmt.Errorf("not in an init, or not registered")
		}
		return a.replied(act.Call)
	case AcceptBody:
		return a.acceptBody(act.Call)
	case DeliverInvoke:
		if err := a.replied(act.Call); err != nil {
			return err
		}
		return a.delivered(act.Invocation)
	case DeliverExtensionInvoke:
		if err := a.replied(act.Call); err != nil {
			return err
		}
		return a.delivered(act.Invocation)
	case DeliverExtensionShutdown:
		if a.frozen {
			return fmt.Errorf("frozen")
		}
		if err := a.replied(act.Call); err != nil {
			return err
		}
		return a.answeredFirst()
	case SetTimer:
		a.timers[act.Timer] = act.At
	case StopTimer:
		if _, ok := a.timers[act.Timer]; !ok {
			return fmt.Errorf("the timer does not run")
		}
		delete(a.timers, act.Timer)
	case Answer, InvocationDone, Ready, Emit:
		return a.checkInvocation(act)
	default:
		return a.checkProcess(act)
	}
	return nil
}

func (a *auditor) replied(c Call) error {
	if _, ok := a.calls[c]; !ok {
		return fmt.Errorf("the call is not open")
	}
	delete(a.calls, c)
	return nil
}

func (a *auditor) acceptBody(c Call) error {
	for other, body := range a.calls {
		if body {
			return fmt.Errorf("body of call %d is still read", other)
		}
	}
	if _, ok := a.calls[c]; !ok {
		return fmt.Errorf("the call is not open")
	}
	a.calls[c] = true
	return nil
}

func (a *auditor) delivered(inv Invocation) error {
	if a.frozen {
		return fmt.Errorf("frozen")
	}
	if inv.RequestID != a.running {
		return fmt.Errorf("%q runs", a.running)
	}
	return a.allRegistered()
}

func (a *auditor) allRegistered() error {
	for _, name := range a.cfg.Externals {
		if !a.registered[name] {
			return fmt.Errorf("%s has not registered", name)
		}
	}
	return nil
}

// answeredFirst: nobody waits for his answer while processes are ended.
func (a *auditor) answeredFirst() error {
	if inv := a.invokes[a.running]; inv != nil && !inv.answered {
		return fmt.Errorf("%s is not answered", a.running)
	}
	return nil
}

func (a *auditor) checkInvocation(act Action) error {
	switch act := act.(type) {
	case Answer:
		inv := a.invokes[act.RequestID]
		if inv == nil || inv.answered {
			return fmt.Errorf("no caller waits")
		}
		inv.answered = true
		if !act.Result.FromResponse && len(act.Result.Payload) == 0 {
			return fmt.Errorf("empty answer")
		}
	case InvocationDone:
		inv := a.invokes[act.RequestID]
		if inv == nil || !inv.answered || inv.done {
			return fmt.Errorf("not an answered invocation")
		}
		inv.done = true
		if a.running == act.RequestID {
			a.running = ""
		}
	case Ready:
		for id, inv := range a.invokes {
			if !inv.done {
				return fmt.Errorf("%s is in flight", id)
			}
		}
		if a.full || len(a.timers) > 0 {
			return fmt.Errorf("at full speed, or with timers: %v", a.timers)
		}
	case Emit:
		switch rec := act.Record.(type) {
		case Start:
			if a.running != "" {
				return fmt.Errorf("%q runs", a.running)
			}
			a.running = rec.RequestID
		case InitStart:
			a.initing, a.begun = true, a.now
		case InitRuntimeDone, Extension:
			a.initing = a.initing && rec.RecordType() == "platform.extension"
			if at := rec.When(); at.Before(a.begun) || at.After(a.now) {
				return fmt.Errorf("stamped %v, the init began at %v", at, a.begun)
			}
			return nil
		case Phase:
			if rec.Name == PhaseExtensionRegistered {
				a.registered[rec.Detail] = true
			}
		}
		if !act.Record.When().Equal(a.now) && act.Record.RecordType() != "platform.initReport" {
			return fmt.Errorf("stamped %v", act.Record.When())
		}
	}
	return nil
}

func (a *auditor) checkProcess(act Action) error {
	switch act.(type) {
	case Thaw, Ended: // a sandbox that failed ends as it is
	default:
		if a.frozen {
			return fmt.Errorf("frozen")
		}
	}
	switch act := act.(type) {
	case Launch:
		if a.launched[act.Party] || a.resetting {
			return fmt.Errorf("launched twice, or in a reset")
		}
		a.launched[act.Party] = true
		if act.Party == RuntimeParty {
			return a.allRegistered()
		}
	case Terminate, Kill:
		if a.resetting {
			return fmt.Errorf("in a reset")
		}
		return a.answeredFirst()
	case ResetSandbox:
		if a.resetting {
			return fmt.Errorf("twice")
		}
		a.resetting = true
		clear(a.launched)
		clear(a.registered)
		a.ids = nil
		clear(a.calls) // no reply may follow
		return a.answeredFirst()
	case FullSpeed:
		if a.full {
			return fmt.Errorf("twice")
		}
		a.full = true
	case LimitSpeed:
		if !a.full {
			return fmt.Errorf("twice")
		}
		a.full = false
	case Freeze:
		a.frozen = true
	case Thaw:
		if !a.frozen {
			return fmt.Errorf("not frozen")
		}
		a.frozen = false
	case Ended:
		return a.checkEnd()
	}
	return nil
}

func (a *auditor) checkEnd() error {
	a.ended = true
	if a.resetting {
		clear(a.calls) // the driver closes what came since
	}
	if len(a.calls) > 0 || len(a.timers) > 0 {
		return fmt.Errorf("calls %v or timers %v are left", a.calls, a.timers)
	}
	for id, inv := range a.invokes {
		if !inv.done {
			return fmt.Errorf("%s has no end", id)
		}
	}
	return nil
}

// finish aborts the environment and lets time pass until it has ended.
func (a *auditor) finish() error {
	if a.ended {
		return nil
	}
	if err := a.step(Abort{}); err != nil {
		return err
	}
	for range 10 {
		if a.ended {
			return nil
		}
		var next Event = ResetDone{}
		if !a.resetting {
			t, ok := a.earliest()
			if !ok {
				return fmt.Errorf("not ended, and nothing is awaited")
			}
			if at := a.timers[t]; at.After(a.now) {
				a.now = at
			}
			next = TimerFired{Timer: t}
		}
		if err := a.step(next); err != nil {
			return err
		}
	}
	return fmt.Errorf("does not end")
}

func (a *auditor) earliest() (Timer, bool) {
	var names []Timer
	for t := range a.timers {
		names = append(names, t)
	}
	if len(names) == 0 {
		return "", false
	}
	slices.SortFunc(names, func(x, y Timer) int { return a.timers[x].Compare(a.timers[y]) })
	return names[0], true
}
