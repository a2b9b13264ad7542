package lifecycle

import (
	"fmt"
	"time"

	"github.com/firn-run/firn"
)

// tooLarge is the answer to a response over the limit (section 11), and the
// refusal that its runtime gets (section 1.4).
func tooLarge(stream bool) (payload []byte, refusal string) {
	limit := firn.MaxPayloadBytes
	if stream {
		limit = firn.MaxStreamedBytes
	}
	return fmt.Appendf(nil, `{"errorMessage":"Response payload size exceeded maximum allowed payload size (%d bytes).","errorType":"Function.ResponseSizeTooLarge"}`, limit),
		fmt.Sprintf("Exceeded maximum allowed payload size (%d bytes).", limit)
}

// invocation is the one request in flight.
type invocation struct {
	Invocation
	started       time.Time // begin of the phase, with a suppressed init in it
	deadline      time.Time
	delivered     time.Time // first delivery to the runtime
	responseAt    time.Time // head of the response; of a stream its first byte
	respondedAt   time.Time // end of the response
	runtimeDoneAt time.Time // the runtime called next again
	producedBytes int64
	streaming     bool // the body of a response goes to the invoker as it comes
	answered      bool
	runtimeDone   bool   // the record was emitted
	status        string // the function's own outcome: StatusError, or "" for success
	errorType     string
	trace         *Trace
}

// invoke takes a request: starts it, holds it while an init or a reset runs,
// or answers at once when it should not have come.
func (m *Machine) invoke(inv Invocation) {
	switch m.stage {
	case stageIdle, stageCold:
		m.startInvocation(inv)
		return
	case stageNew, stageInit, stageStopRuntime, stageStopExtensions, stageResetting:
		if m.held == nil && !m.ending {
			held := inv
			m.held = &held
			return
		}
	}
	m.turnAway(inv.RequestID)
}

// turnAway answers a request that the environment cannot serve any more.
func (m *Machine) turnAway(requestID string) {
	f := fault{errorType: errorSandboxFailure, message: "The execution environment is not available"}
	m.do(Answer{RequestID: requestID, Result: f.result(requestID)})
	m.do(InvocationDone{RequestID: requestID})
}

func (m *Machine) startInvocation(inv Invocation) {
	m.thaw()
	m.invocation = invocation{Invocation: inv, started: m.now, deadline: m.now.Add(m.cfg.Timeout), trace: tracing(inv.TraceID)}
	m.setTimer(InvokeTimer, m.invocation.deadline)
	if m.stage == stageCold {
		m.beginInit(stageInvokeInit)
		return
	}
	m.stage = stageInvoke
	m.deliver()
}

// deliver gives the event to the runtime and to the extensions that
// subscribed to it, in parallel. The start record goes first: the function's
// lines follow it.
func (m *Machine) deliver() {
	m.startRecord()
	if m.runtime.next.ok {
		m.deliverRuntime()
	}
	for i := range m.extensions {
		if e := &m.extensions[i]; e.invoke {
			m.deliverExtension(e)
		}
	}
}

// invokeComplete reports whether the runtime and all extensions subscribed to
// INVOKE are through with the event.
func (m *Machine) invokeComplete() bool {
	if !m.invocation.runtimeDone {
		return false
	}
	for i := range m.extensions {
		if e := &m.extensions[i]; e.invoke && (e.state != extensionReady || e.owed) {
			return false
		}
	}
	return true
}

// answer ends the caller's wait, once.
func (m *Machine) answer(r Result) {
	if m.invocation.answered {
		return
	}
	m.invocation.answered = true
	m.do(Answer{RequestID: m.invocation.RequestID, Result: r})
	m.note(PhaseAnswered, "")
}

// finishInvocation is the end of an invocation that left the environment whole.
func (m *Machine) finishInvocation() {
	m.stopTimer(InvokeTimer)
	m.report(nil)
	m.do(InvocationDone{RequestID: m.invocation.RequestID})
	if m.ending {
		m.shutdown(Spindown)
		return
	}
	m.idle()
}

// failInvocation tells the records and the caller that the invocation failed.
// The caller of an invocation that was answered keeps that answer.
func (m *Machine) failInvocation(f *fault) {
	if m.stage == stageInvokeInit {
		m.initRecords(f)
		m.startRecord()
	}
	m.runtimeDone(f)
	m.report(f)
	r := f.result(m.invocation.RequestID)
	if m.invocation.streaming && (f.errorType == errorRuntimeExit || f.errorType == errorOutOfMemory) {
		// As on AWS: for its invoker a stream that ends with its runtime is
		// truncated. Records and payload have the cause.
		r.ErrorType = errorTruncated
	}
	m.answer(r)
}
