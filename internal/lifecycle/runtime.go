package lifecycle

import (
	"fmt"
	"slices"
)

// runtimeState is the runtime's state by the Runtime API (section 6). The
// zero value is no state: in the table it stands for a refusal, in a machine
// for a runtime that was not launched.
type runtimeState uint8

const (
	runtimeStarted runtimeState = iota + 1
	runtimeReady
	runtimeRunning
	runtimeInvocationResponse
	runtimeInvocationErrorResponse
	runtimeResponseSent
	runtimeInitErr
	runtimeStates
)

// String is the name in refusals; the odd one out is AWS's.
func (s runtimeState) String() string {
	switch s {
	case runtimeReady:
		return "Ready"
	case runtimeRunning:
		return "Running"
	case runtimeInvocationResponse:
		return "InvocationResponse"
	case runtimeInvocationErrorResponse:
		return "InvocationErrorResponse"
	case runtimeResponseSent:
		return "RuntimeResponseSentState"
	case runtimeInitErr:
		return "InitError"
	}
	return "Started"
}

// runtimeCall is a column of the runtime's table.
type runtimeCall uint8

const (
	runtimeNext runtimeCall = iota
	runtimeResponse
	runtimeError
	runtimeInitError
	runtimeCalls
)

// target is the state that a call asks for, as refusals name it.
func (c runtimeCall) target() runtimeState {
	switch c {
	case runtimeResponse:
		return runtimeInvocationResponse
	case runtimeError:
		return runtimeInvocationErrorResponse
	case runtimeInitError:
		return runtimeInitErr
	}
	return runtimeReady
}

// runtimeTable is section 6, "Runtime": the state after a call, or 0 where it
// is refused with 403. Ready and Running under next mean: parked, then Running
// when the event is given.
func runtimeTable() [runtimeStates][runtimeCalls]runtimeState {
	return [runtimeStates][runtimeCalls]runtimeState{
		runtimeStarted:                 {runtimeNext: runtimeReady, runtimeInitError: runtimeInitErr},
		runtimeReady:                   {runtimeNext: runtimeReady},
		runtimeRunning:                 {runtimeNext: runtimeRunning, runtimeResponse: runtimeInvocationResponse, runtimeError: runtimeInvocationErrorResponse},
		runtimeInvocationResponse:      {},
		runtimeInvocationErrorResponse: {},
		runtimeResponseSent:            {runtimeNext: runtimeReady},
		runtimeInitErr:                 {},
	}
}

// runtime is the runtime as the machine sees it.
type runtime struct {
	state runtimeState
	alive bool   // launched, and its end not reported
	next  parked // its poll for the next event
	// older are polls that were repeated before they ended, oldest first: if
	// the newest is lost, the one before it still counts.
	older []parked
	body  parked // the response whose body the driver reads
}

// parked is a call that waits for its answer.
type parked struct {
	call Call
	ok   bool
}

func (p parked) is(c Call) bool { return p.ok && p.call == c }

// drop closes a parked call whose peer is dead or about to be killed.
func (m *Machine) drop(p *parked) {
	if p.ok {
		m.do(Drop{Call: p.call})
		*p = parked{}
	}
}

// goneNext forgets a poll whose peer vanished; the one before it takes its
// place. It reports whether c was one.
func (rt *runtime) goneNext(c Call) bool {
	if i := slices.IndexFunc(rt.older, func(p parked) bool { return p.is(c) }); i >= 0 {
		rt.older = slices.Delete(rt.older, i, i+1)
		return true
	}
	if !rt.next.is(c) {
		return false
	}
	rt.next = parked{}
	if n := len(rt.older); n > 0 {
		rt.next = rt.older[n-1]
		rt.older = rt.older[:n-1]
	}
	return true
}

func (m *Machine) dropRuntime() {
	for i := range m.runtime.older {
		m.drop(&m.runtime.older[i])
	}
	m.drop(&m.runtime.next)
	m.drop(&m.runtime.body)
}

func (m *Machine) launchRuntime() {
	m.runtime.state = runtimeStarted
	m.runtime.alive = true
	m.do(Launch{Party: RuntimeParty})
	m.note(PhaseRuntimeStarted, "")
}

// mayCall looks a call up in the table and refuses it when it is not allowed.
func (m *Machine) mayCall(c Call, call runtimeCall) bool {
	switch m.stage {
	case stageResetting:
		return false // ends with its process
	case stageInit, stageInvokeInit, stageInvoke, stageIdle:
		if table := runtimeTable(); table[m.runtime.state][call] != 0 {
			return true
		}
	}
	m.do(Refuse{
		Call:      c,
		Status:    statusForbidden,
		ErrorType: refusedTransition,
		Message: fmt.Sprintf("State transition from %s to %s failed for runtime. Error: State transition is not allowed",
			m.runtime.state, call.target()),
	})
	return false
}

// knownRequest refuses an id that is not the running invocation's. It comes
// before every look at the state and changes nothing (section 1.5).
func (m *Machine) knownRequest(c Call, id string) bool {
	if (m.stage == stageInvoke || m.stage == stageInvokeInit) && id == m.invocation.RequestID {
		return true
	}
	m.refuseRequestID(c)
	return false
}

func (m *Machine) refuseRequestID(c Call) {
	if m.stage == stageResetting {
		return // ends with its process
	}
	m.do(Refuse{Call: c, Status: statusBadRequest, ErrorType: refusedRequestID, Message: "Invalid request ID"})
}

func (m *Machine) runtimeNext(c Call) {
	if !m.mayCall(c, runtimeNext) {
		return
	}
	rt := &m.runtime
	switch rt.state {
	case runtimeStarted:
		rt.state = runtimeReady
		rt.next = parked{c, true}
		m.registrable = false
		m.runtimeReadyAt = m.now
		m.note(PhaseRuntimeReady, "")
		m.advance()
	case runtimeReady:
		if rt.next.ok {
			rt.older = append(rt.older, rt.next)
		}
		rt.next = parked{c, true}
		if m.stage == stageInvoke && !m.invocation.runtimeDone {
			m.deliverRuntime()
		}
	case runtimeRunning:
		rt.next = parked{c, true}
		m.deliverRuntime() // the same event again
	case runtimeResponseSent:
		rt.state = runtimeReady
		rt.next = parked{c, true}
		m.runtimeDone(nil)
		m.advance()
	}
}

// deliverRuntime answers the parked next with the invocation's event.
func (m *Machine) deliverRuntime() {
	inv := &m.invocation
	if inv.delivered.IsZero() {
		inv.delivered = m.now
	}
	m.do(DeliverInvoke{Call: m.runtime.next.call, Invocation: inv.Invocation, Deadline: inv.deadline})
	m.runtime.next = parked{}
	m.runtime.state = runtimeRunning
}

func (m *Machine) runtimeResponse(ev RuntimeResponse) {
	if !m.knownRequest(ev.Call, ev.RequestID) || !m.mayCall(ev.Call, runtimeResponse) {
		return
	}
	if ev.BadMode {
		m.do(Refuse{Call: ev.Call, Status: statusBadRequest, ErrorType: refusedMode, Message: "Invalid function response mode"})
		return
	}
	m.runtime.state = runtimeInvocationResponse
	m.runtime.body = parked{ev.Call, true}
	inv := &m.invocation
	if inv.Stream { // the invoker's wish decides, not the runtime's mode
		inv.streaming = true
		m.do(AcceptBody{Call: ev.Call, Stream: true})
		return
	}
	inv.responseAt = m.now
	m.do(AcceptBody{Call: ev.Call})
}

// runtimeResponseBegun notes when the first byte of a stream came in: up to
// then its latency counts.
func (m *Machine) runtimeResponseBegun(ev RuntimeResponseBegun) {
	if m.runtime.body.is(ev.Call) && m.stage == stageInvoke && m.invocation.responseAt.IsZero() {
		m.invocation.responseAt = m.now
	}
}

func (m *Machine) runtimeResponseDone(ev RuntimeResponseDone) {
	if !m.runtime.body.is(ev.Call) {
		return
	}
	m.runtime.body = parked{}
	if m.stage != stageInvoke { // the invocation was ended meanwhile
		m.refuseRequestID(ev.Call)
		return
	}
	inv := &m.invocation
	inv.respondedAt = m.now
	streamed := inv.streaming
	inv.streaming = false
	inv.producedBytes = ev.Bytes
	if inv.responseAt.IsZero() { // a stream without a byte
		inv.responseAt = m.now
	}
	switch ev.Fault {
	case ResponseTruncated:
		m.do(Refuse{Call: ev.Call, Status: statusBadRequest, ErrorType: refusedTruncated, Message: "HTTP request detected as truncated"})
		m.fail(truncated())
		return
	case ResponseTooLarge:
		inv.errorType = errorTooLarge
		inv.status = StatusError
		payload, message := tooLarge(streamed)
		m.answer(Result{Payload: payload, FunctionError: true, ErrorType: errorTooLarge})
		m.do(Refuse{Call: ev.Call, Status: statusRequestTooLarge, ErrorType: refusedTooLarge, Message: message})
	default:
		// A stream that failed midway stays a success in the records
		// (section 15); its caller is told.
		r := Result{FromResponse: true, FunctionError: ev.ErrorType != "", ErrorType: ev.ErrorType}
		if r.FunctionError {
			r.Payload = []byte(ev.ErrorBody)
		}
		m.answer(r)
		m.do(Reply{Call: ev.Call, Status: statusAccepted})
	}
	m.runtime.state = runtimeResponseSent
}

func (m *Machine) runtimeError(ev RuntimeError) {
	if !m.knownRequest(ev.Call, ev.RequestID) || !m.mayCall(ev.Call, runtimeError) {
		return
	}
	inv := &m.invocation
	inv.responseAt, inv.respondedAt = m.now, m.now
	inv.producedBytes = int64(len(ev.Payload))
	inv.status = StatusError
	inv.errorType = orUnknown(ev.ErrorType)
	r := Result{Payload: ev.Payload, FunctionError: true, ErrorType: inv.errorType}
	if len(r.Payload) == 0 {
		r.Payload = errorPayload(inv.errorType, inv.RequestID, inv.errorType)
	}
	m.answer(r)
	m.do(Reply{Call: ev.Call, Status: statusAccepted})
	m.runtime.state = runtimeResponseSent // by way of InvocationErrorResponse: the body is here already
}

func (m *Machine) runtimeInitError(ev RuntimeInitError) {
	if !m.mayCall(ev.Call, runtimeInitError) {
		return
	}
	m.runtime.state = runtimeInitErr
	m.do(Reply{Call: ev.Call, Status: statusAccepted})
	m.post(fault{errorType: orUnknown(ev.ErrorType), payload: ev.Payload})
}

func orUnknown(errorType string) string {
	if errorType == "" {
		return errorRuntimeUnknown
	}
	return errorType
}
