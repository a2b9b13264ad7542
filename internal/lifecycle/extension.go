package lifecycle

import (
	"fmt"
	"time"

	"github.com/firn-run/firn"
)

// extensionState is an extension's state by the Extensions API (section 6).
// The zero value stands for a refusal in the table.
type extensionState uint8

const (
	extensionStarted extensionState = iota + 1
	extensionRegistered
	extensionReady
	extensionRunning
	extensionInitErr
	extensionExitErr
	extensionShutdownFailed
	extensionExited
	extensionLaunchErr
	extensionStates
)

// String is the name in platform.extension and in refusals.
func (s extensionState) String() string {
	switch s {
	case extensionRegistered:
		return "Registered"
	case extensionReady:
		return "Ready"
	case extensionRunning:
		return "Running"
	case extensionInitErr:
		return "InitError"
	case extensionExitErr:
		return "ExitError"
	case extensionShutdownFailed:
		return "ShutdownFailed"
	case extensionExited:
		return "Exited"
	case extensionLaunchErr:
		return "LaunchError"
	}
	return "Started"
}

// extensionCall is a column of the extensions' table.
type extensionCall uint8

const (
	extensionRegister extensionCall = iota
	extensionNext
	extensionInitError
	extensionExitError
	extensionCalls
)

// target is the state that a call asks for, as refusals name it. That
// exit/error names Exited is AWS's doing.
func (c extensionCall) target() extensionState {
	switch c {
	case extensionRegister:
		return extensionRegistered
	case extensionInitError:
		return extensionInitErr
	case extensionExitError:
		return extensionExited
	}
	return extensionReady
}

// extensionTable is section 6, "External extension": the state after a call,
// or 0 where it is refused with 403. It serves internal extensions too, which
// never get into the last three states.
func extensionTable() [extensionStates][extensionCalls]extensionState {
	return [extensionStates][extensionCalls]extensionState{
		extensionStarted:        {extensionRegister: extensionRegistered},
		extensionRegistered:     {extensionNext: extensionReady, extensionInitError: extensionInitErr, extensionExitError: extensionExitErr},
		extensionReady:          {extensionExitError: extensionExitErr},
		extensionRunning:        {extensionNext: extensionReady, extensionExitError: extensionExitErr},
		extensionInitErr:        {extensionInitError: extensionInitErr},
		extensionExitErr:        {extensionExitError: extensionExitErr},
		extensionShutdownFailed: {},
		extensionExited:         {},
		extensionLaunchErr:      {},
	}
}

// Events that extensions subscribe to.
const (
	eventInvoke   = "INVOKE"
	eventShutdown = "SHUTDOWN"
)

// extension is one extension as the machine sees it.
type extension struct {
	name       string
	id         string // "" until registered
	external   bool
	alive      bool // external: launched, and its end not reported
	state      extensionState
	events     []string // as registered
	invoke     bool     // subscribed to INVOKE
	shutdown   bool     // subscribed to SHUTDOWN
	registered bool
	owed       bool // an INVOKE that waits for the next poll, the last one being lost
	told       bool // SHUTDOWN was delivered
	killed     bool // SIGKILL was sent
	errorType  string
	readyAt    time.Time // its first next
	next       parked
}

// launchExtensions launches the externals in parallel; false when there are
// more of them than may be.
func (m *Machine) launchExtensions() bool {
	for _, name := range m.cfg.Externals {
		m.extensions = append(m.extensions, extension{name: name, external: true, state: extensionStarted})
	}
	if n := len(m.extensions); n > firn.MaxExtensions {
		for i := firn.MaxExtensions; i < n; i++ {
			m.extensions[i].state = extensionLaunchErr
			m.extensions[i].errorType = "TooManyExtensions"
		}
		m.fail(fault{errorType: errorExtensionLaunch, message: tooManyExtensions()})
		return false
	}
	for i := range m.extensions {
		e := &m.extensions[i]
		e.alive = true
		m.do(Launch{Party: Party(e.name)})
		m.note(PhaseExtensionStarted, e.name)
	}
	return true
}

func tooManyExtensions() string {
	return fmt.Sprintf("Extension limit (%d) reached", firn.MaxExtensions)
}

// external finds an external extension by its process.
func (m *Machine) external(p Party) *extension {
	for i := range m.extensions {
		if e := &m.extensions[i]; e.external && e.name == string(p) {
			return e
		}
	}
	return nil
}

// byID finds a registered extension, or refuses the call.
func (m *Machine) byID(c Call, id string) *extension {
	for i := range m.extensions {
		if e := &m.extensions[i]; e.registered && e.id == id {
			return e
		}
	}
	m.refuseExtension(c, refusedUnknownExtension, "Unknown extension "+id)
	return nil
}

func (m *Machine) refuseExtension(c Call, errorType, message string) {
	m.do(Refuse{Call: c, Status: statusForbidden, ErrorType: errorType, Message: message})
}

func (m *Machine) refuseTransition(c Call, e *extension, call extensionCall, subject string) {
	m.refuseExtension(c, refusedExtensionState,
		fmt.Sprintf("State transition from %s to %s failed for extension %s. Error: State transition is not allowed",
			e.state, call.target(), subject))
}

func (m *Machine) register(ev Register) {
	if m.stage == stageResetting {
		return // ends with its process
	}
	if ev.Name == "" {
		m.refuseExtension(ev.Call, refusedExtensionName, "Empty extension name")
		return
	}
	e := m.external(Party(ev.Name))
	for _, name := range ev.Events {
		if why := invalidEvent(name, e != nil); why != "" {
			m.refuseExtension(ev.Call, refusedExtensionEvent, name+": "+why)
			return
		}
	}
	if e == nil {
		if e = m.newInternal(ev); e == nil {
			return
		}
	} else if table := extensionTable(); table[e.state][extensionRegister] == 0 {
		m.refuseTransition(ev.Call, e, extensionRegister, e.name)
		return
	} else if !m.registrable {
		m.refuseClosed(ev.Call)
		return
	}
	e.state = extensionRegistered
	e.registered = true
	e.id = ev.NewID
	e.events = append([]string{}, ev.Events...)
	for _, name := range ev.Events {
		e.invoke = e.invoke || name == eventInvoke
		e.shutdown = e.shutdown || name == eventShutdown
	}
	m.do(ReplyRegistered{Call: ev.Call, ID: ev.NewID, AccountID: ev.AccountID})
	m.note(PhaseExtensionRegistered, e.name)
	if m.runtime.state == 0 && m.externalsRegistered() {
		m.launchRuntime()
	}
}

// newInternal adds an internal extension, or refuses and returns nil. The
// order of the checks is AWS's.
func (m *Machine) newInternal(ev Register) *extension {
	if !m.registrable {
		m.refuseClosed(ev.Call)
		return nil
	}
	if len(m.extensions) >= firn.MaxExtensions {
		m.refuseExtension(ev.Call, refusedTooManyExtensions, tooManyExtensions())
		return nil
	}
	for i := range m.extensions {
		if m.extensions[i].name == ev.Name {
			m.refuseExtension(ev.Call, refusedExtensionState, "Extension with this name already registered")
			return nil
		}
	}
	m.extensions = append(m.extensions, extension{name: ev.Name})
	return &m.extensions[len(m.extensions)-1]
}

func (m *Machine) refuseClosed(c Call) {
	m.refuseExtension(c, refusedRegistrationClosed, "Extension registration closed already")
}

// invalidEvent says why an extension may not subscribe to an event.
func invalidEvent(name string, external bool) string {
	switch {
	case name == eventShutdown && !external:
		return "ShutdownEventNotSupportedForInternalExtension"
	case name == eventInvoke, name == eventShutdown:
		return ""
	}
	return "ErrorInvalidEventType"
}

func (m *Machine) externalsRegistered() bool {
	for i := range m.extensions {
		if e := &m.extensions[i]; e.external && !e.registered {
			return false
		}
	}
	return true
}

func (m *Machine) extensionNext(ev ExtensionNext) {
	if m.stage == stageResetting {
		return // ends with its process
	}
	e := m.byID(ev.Call, ev.ID)
	if e == nil {
		return
	}
	repoll := e.state == extensionReady && !e.next.ok // its last poll was lost
	if table := extensionTable(); !repoll && table[e.state][extensionNext] == 0 {
		m.refuseTransition(ev.Call, e, extensionNext, e.id)
		return
	}
	if !repoll {
		m.ready(e)
	}
	e.next = parked{ev.Call, true}
	switch {
	case m.stage == stageStopExtensions:
		m.stopExtension(e)
	case e.owed:
		m.deliverExtension(e)
	default:
		m.advance()
	}
}

// ready notes that an extension has called next: in an init for the first time,
// later because it is through with an INVOKE. In a shutdown its next is no end
// of anything.
func (m *Machine) ready(e *extension) {
	if e.readyAt.IsZero() {
		e.readyAt = m.now
	}
	e.state = extensionReady
	switch m.stage {
	case stageInit, stageInvokeInit, stageInvoke:
		m.note(PhaseExtensionReady, e.name)
	}
}

// deliverExtension answers an extension's parked next with INVOKE; without
// one the event waits for its next poll.
func (m *Machine) deliverExtension(e *extension) {
	e.owed = !e.next.ok
	if e.owed {
		return
	}
	m.do(DeliverExtensionInvoke{Call: e.next.call, Invocation: m.invocation.Invocation, Deadline: m.invocation.deadline})
	e.next = parked{}
	e.state = extensionRunning
}

// extensionError handles init/error and exit/error.
func (m *Machine) extensionError(c Call, id string, call extensionCall, errorType string) {
	if m.stage == stageResetting {
		return // ends with its process
	}
	e := m.byID(c, id)
	if e == nil {
		return
	}
	table := extensionTable()
	to := table[e.state][call]
	if to == 0 {
		m.refuseTransition(c, e, call, e.id)
		return
	}
	m.do(Reply{Call: c, Status: statusAccepted})
	if e.state == to {
		return // repeated: the first one counts
	}
	e.state = to
	e.errorType = errorType
	f := fault{errorType: errorExtensionInit}
	if call == extensionExitError {
		f.errorType = errorExtensionExit
	}
	m.post(f)
}
