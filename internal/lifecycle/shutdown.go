package lifecycle

import (
	"time"

	"github.com/firn-run/firn"
)

// budget is the time a shutdown may take and the runtime's share of it, by
// what is registered (section 5.6). With internal extensions only there is
// nobody after the runtime, so that it has all of it.
func (m *Machine) budget() (total, share time.Duration) {
	total, share = firn.ShutdownNoExtensions, firn.ShutdownNoExtensions
	for i := range m.extensions {
		e := &m.extensions[i]
		switch {
		case !e.registered:
		case e.external:
			return firn.ShutdownExternal, firn.ShutdownRuntimeShare
		default:
			total, share = firn.ShutdownInternalOnly, firn.ShutdownInternalOnly
		}
	}
	return total, share
}

// shutdown ends all processes, in a reset as at the end of the environment:
// first the runtime, then the extensions, then what is left.
func (m *Machine) shutdown(r Reason) {
	m.reason = r
	m.registrable = false
	m.stopTimer(InitTimer)
	m.stopTimer(InvokeTimer)
	m.lateInitReport()
	m.limitSpeed()
	m.thaw()
	m.note(PhaseShutdown, string(r))
	total, share := m.budget()
	if total == 0 {
		m.resetSandbox()
		return
	}
	m.shutdownDeadline = m.now.Add(total)
	m.setTimer(ShutdownTimer, m.shutdownDeadline)
	if !m.runtime.alive {
		m.stopExtensions()
		return
	}
	m.stage = stageStopRuntime
	m.setTimer(ShutdownRuntimeTimer, m.now.Add(share))
	m.do(Terminate{Party: RuntimeParty})
	m.note(PhaseSigterm, "runtime")
}

// killRuntime ends the runtime's share. Nobody waits for the report of its
// end: after SIGKILL it runs no more.
func (m *Machine) killRuntime() {
	m.do(Kill{Party: RuntimeParty})
	m.note(PhaseSigkill, "runtime")
	m.stopExtensions()
}

// stopExtensions tells the external extensions, once the runtime has ended.
func (m *Machine) stopExtensions() {
	m.stopTimer(ShutdownRuntimeTimer)
	m.stage = stageStopExtensions
	for i := range m.extensions {
		m.stopExtension(&m.extensions[i])
	}
	if !m.awaitingExtensions() {
		m.resetSandbox()
	}
}

// stopExtension gives SHUTDOWN to an extension that waits for it, and kills
// one that did not subscribe. One that polls again after SHUTDOWN stays parked:
// only its exit is an answer.
func (m *Machine) stopExtension(e *extension) {
	switch {
	case !e.external || !e.alive || e.killed:
	case !e.shutdown:
		e.killed = true
		m.do(Kill{Party: Party(e.name)})
		m.note(PhaseSigkill, e.name)
	case !e.told && e.next.ok:
		m.do(DeliverExtensionShutdown{Call: e.next.call, Reason: m.reason, Deadline: m.shutdownDeadline})
		m.note(PhaseShutdownEvent, e.name)
		e.next = parked{}
		e.state = extensionRunning
		e.told = true
	}
}

// awaitingExtensions reports whether an extension that subscribed to SHUTDOWN
// still runs.
func (m *Machine) awaitingExtensions() bool {
	for i := range m.extensions {
		if e := &m.extensions[i]; e.external && e.alive && e.shutdown {
			return true
		}
	}
	return false
}

// giveUpExtensions is the end of the budget.
func (m *Machine) giveUpExtensions() {
	for i := range m.extensions {
		if e := &m.extensions[i]; e.external && e.alive && e.shutdown {
			e.state = extensionShutdownFailed
			m.note(PhaseShutdownFailed, e.name)
		}
	}
	m.resetSandbox()
}

// resetSandbox kills what is left. Calls that wait are not dropped before: a
// process that saw its connection break would log an error, or get to work,
// on its last breath. They end with the processes.
func (m *Machine) resetSandbox() {
	m.stopTimer(ShutdownRuntimeTimer)
	m.stopTimer(ShutdownTimer)
	m.runtime = runtime{}
	m.extensions = m.extensions[:0]
	m.stage = stageResetting
	m.do(ResetSandbox{})
	m.note(PhaseReset, "")
}

// forgetParties drops all calls that wait, where no reset will end them.
func (m *Machine) forgetParties() {
	m.dropRuntime()
	for i := range m.extensions {
		m.drop(&m.extensions[i].next)
	}
	m.runtime = runtime{}
	m.extensions = m.extensions[:0]
}

// resetDone goes on after the last process has ended: with the invocation
// that waits, with the end, or with waiting for an invocation.
func (m *Machine) resetDone() {
	if m.stage != stageResetting {
		return
	}
	m.stage = stageCold
	m.fatal = nil
	m.note(PhaseResetDone, "")
	m.tellDone()
	failed := m.initFailed
	m.initFailed = false
	switch {
	case m.held != nil:
		inv := *m.held
		m.held = nil
		m.startInvocation(inv)
	case m.ending:
		m.end()
	default:
		m.do(Ready{InitFailed: failed})
	}
}

// tellDone ends the invocation whose failure was the reset's cause.
func (m *Machine) tellDone() {
	if m.done != "" {
		m.do(InvocationDone{RequestID: m.done})
		m.done = ""
	}
}

func (m *Machine) end() {
	m.stage = stageEnded
	m.do(Ended{})
}

// askShutdown begins the orderly end, or notes it for the end of the
// invocation in flight.
func (m *Machine) askShutdown() {
	if m.ending {
		return
	}
	m.ending = true
	if m.held != nil {
		return
	}
	switch m.stage {
	case stageNew, stageCold:
		m.end()
	case stageInit, stageIdle:
		m.shutdown(Spindown)
	}
}

// abort answers what is in flight and begins the end.
func (m *Machine) abort() {
	m.ending = true
	if m.held != nil {
		m.turnAway(m.held.RequestID)
		m.held = nil
	}
	switch m.stage {
	case stageNew, stageCold:
		m.end()
	case stageInit, stageIdle:
		m.shutdown(Spindown)
	case stageInvokeInit, stageInvoke:
		m.fail(fault{errorType: errorSandboxFailure, message: "The execution environment was shut down", spindown: true})
	}
}

// sandboxFailed ends everything at once: no reset can be asked of a sandbox
// that does not work.
func (m *Machine) sandboxFailed(message string) {
	m.note(PhaseSandboxFailed, message) // what broke is for the operator, not for the invoker
	if m.fatal == nil {
		m.fatal = &fault{errorType: errorSandboxFailure, message: "The execution environment failed"}
	}
	switch m.stage {
	case stageInit:
		m.initRecords(m.fatal)
	case stageInvokeInit, stageInvoke:
		m.failInvocation(m.fatal)
		m.done = m.invocation.RequestID
	}
	m.lateInitReport()
	m.tellDone()
	if m.held != nil {
		m.turnAway(m.held.RequestID)
		m.held = nil
	}
	for _, t := range [...]Timer{InitTimer, InvokeTimer, ShutdownRuntimeTimer, ShutdownTimer} {
		m.stopTimer(t)
	}
	m.forgetParties()
	m.end()
}
