package environment

import (
	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/lifecycle"
	"github.com/firn-run/firn/internal/runtimeapi"
)

// apiHandler takes the events of the Runtime API.
type apiHandler struct{ env *Environment }

func (h apiHandler) Handle(ev lifecycle.Event, call lifecycle.Call, body *runtimeapi.Body) {
	e := h.env
	e.awaitExit(ev)
	e.mu.Lock()
	s := step{own: call, body: body}
	e.stepLocked(&s, ev)
	e.mu.Unlock()
	e.conclude(&s)
}

// step hands an event to the machine and does what it says.
func (e *Environment) step(ev lifecycle.Event) {
	e.mu.Lock()
	var s step
	e.stepLocked(&s, ev)
	e.mu.Unlock()
	e.conclude(&s)
}

// step is one event on its way through. What may block (writing to sockets,
// the owner's callbacks) is gathered under the mutex and done after it.
type step struct {
	own     lifecycle.Call   // the call of the connection whose goroutine this is
	invoker bool             // this goroutine is Invoke's: it writes the event itself
	body    *runtimeapi.Body // of RuntimeResponseDone
	writes  []lifecycle.Action
	buf     [4]lifecycle.Action // first room of writes
	event   *runtimeapi.Event   // goes with DeliverInvoke

	subscription *subscription // of Subscribe

	relay    *relay         // takes the body of the response accepted
	accepted lifecycle.Call // goes with relay
}

func (e *Environment) stepLocked(s *step, ev lifecycle.Event) {
	s.writes = s.buf[:0]
	if e.ended {
		if s.body != nil {
			s.body.Release()
			s.body = nil
		}
		return
	}
	switch ev.(type) {
	case lifecycle.Shutdown, lifecycle.Abort, lifecycle.SandboxFailed:
		e.closing = true
	case lifecycle.RuntimeNext:
		e.runtimeReadyLocked()
	}
	for _, a := range e.machine.Step(e.cfg.Now(), ev) {
		e.doLocked(s, a)
	}
	if s.body != nil { // no answer took it
		s.body.Release()
		s.body = nil
	}
}

// doLocked does one action of the machine, or puts it where it will be done.
func (e *Environment) doLocked(s *step, action lifecycle.Action) {
	switch a := action.(type) {
	case lifecycle.Launch:
		e.enqueueLocked(func() { e.launch(a.Party) })
	case lifecycle.Terminate:
		e.enqueueLocked(func() { e.signal(a.Party, sigterm) })
	case lifecycle.Kill:
		e.enqueueLocked(func() { e.signal(a.Party, sigkill) })
	case lifecycle.ResetSandbox:
		e.enqueueLocked(e.reset)
	case lifecycle.FullSpeed:
		e.setCPULocked(0)
	case lifecycle.LimitSpeed:
		e.setCPULocked(float64(e.cfg.Version.MemoryMB) / firn.MemoryMBPerVCPU)
	case lifecycle.Freeze:
		e.freezeLocked()
	case lifecycle.Thaw:
		e.thawLocked()
	case lifecycle.SetTimer:
		e.setTimerLocked(a.Timer, a.At)
	case lifecycle.StopTimer:
		e.stopTimerLocked(a.Timer)
	case lifecycle.Answer:
		e.answerLocked(s, a)
	case lifecycle.InvocationDone:
		e.invocationDoneLocked(a)
	case lifecycle.Ready:
		e.readyLocked(a)
	case lifecycle.Ended:
		e.endedLocked()
	case lifecycle.Emit:
		e.emitLocked(a.Record)
	case lifecycle.DeliverInvoke:
		e.deliverLocked(s, a)
	case lifecycle.AcceptSubscription:
		e.subscribeLocked(s, a)
	case lifecycle.AcceptBody:
		if a.Stream {
			e.acceptStreamLocked(s, a)
			return
		}
		e.writeLocked(s, a)
	case lifecycle.Refuse:
		e.noteLocked(lifecycle.PhaseRefused, a.ErrorType+": "+a.Message)
		e.writeLocked(s, a)
	default:
		e.writeLocked(s, action)
	}
}

// writeLocked arranges for a reply. It is written by this goroutine when the
// connection is its own, or when it is the invoker, who waits anyway; a peer
// that does not read must not hold up anyone else, so that any other reply
// gets a goroutine.
func (e *Environment) writeLocked(s *step, a lifecycle.Action) {
	if _, drop := a.(lifecycle.Drop); drop || s.invoker || callOf(a) == s.own {
		s.writes = append(s.writes, a)
		return
	}
	event := s.event
	e.group.Go(func() { e.api.Reply(a, event) })
}

// deliverLocked arranges for the runtime's event.
func (e *Environment) deliverLocked(s *step, a lifecycle.DeliverInvoke) {
	if e.flight == nil {
		e.cfg.Logger.Error("an event to deliver without an invocation", "request", a.Invocation.RequestID)
		return
	}
	s.event = &e.flight.event
	if s.invoker {
		e.flight.delivering.Store(uint64(a.Call))
	}
	e.writeLocked(s, a)
}

// callOf returns the call that a reply answers.
func callOf(action lifecycle.Action) lifecycle.Call {
	switch a := action.(type) {
	case lifecycle.Reply:
		return a.Call
	case lifecycle.Refuse:
		return a.Call
	case lifecycle.AcceptBody:
		return a.Call
	case lifecycle.ReplyRegistered:
		return a.Call
	case lifecycle.DeliverInvoke:
		return a.Call
	case lifecycle.DeliverExtensionInvoke:
		return a.Call
	case lifecycle.DeliverExtensionShutdown:
		return a.Call
	}
	return 0
}

// conclude does what a step left to do without the mutex: the writes, small
// ones first, so that an extension need not wait for the payload to be read by
// the runtime; then the notices.
func (e *Environment) conclude(s *step) {
	var last lifecycle.Action
	for _, a := range s.writes {
		if _, ok := a.(lifecycle.DeliverInvoke); ok && last == nil {
			last = a
			continue
		}
		e.api.Reply(a, s.event)
	}
	if last != nil {
		e.api.Reply(last, s.event)
	}
	if s.relay != nil {
		e.api.AcceptStream(s.accepted, s.relay)
	}
	if sub := s.subscription; sub != nil {
		e.api.ReplyJSON(sub.call, sub.answer.Status, sub.answer.Body)
	}
	e.flushNotices()
}

// readyLocked tells the owner that the next invocation may come; not while
// one is in flight, which the machine held during Init, or sure to come.
func (e *Environment) readyLocked(a lifecycle.Ready) {
	if e.flight != nil || e.claimed || e.closing {
		return
	}
	if e.cfg.OnReady != nil {
		e.notices = append(e.notices, func() { e.cfg.OnReady(e, a.InitFailed) })
	}
}

func (e *Environment) endedLocked() {
	e.ended = true
	e.stopTimersLocked()
	if f := e.flight; f != nil {
		e.giveHeldLocked(f)
		if !f.answered {
			e.giveLocked(f, failure(f.inv.RequestID))
		}
	}
	go e.finish() // waits for the group and closes done, for which others wait
}

// notify queues a call of the owner and makes it unless another goroutine is
// about to.
func (e *Environment) notify(f func()) {
	e.mu.Lock()
	e.notices = append(e.notices, f)
	e.mu.Unlock()
	e.flushNotices()
}

// flushNotices makes the queued calls, one at a time and in order, without the
// mutex.
func (e *Environment) flushNotices() {
	e.mu.Lock()
	for len(e.notices) > 0 && !e.notifying {
		f := e.notices[0]
		e.notices = e.notices[1:]
		e.notifying = true
		e.mu.Unlock()
		f()
		e.mu.Lock()
		e.notifying = false
	}
	e.mu.Unlock()
}
