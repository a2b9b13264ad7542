package lifecycle

import (
	"time"

	"github.com/firn-run/firn"
)

// stage is where in its life an environment is.
type stage uint8

const (
	stageNew            stage = iota // before Begin
	stageInit                        // Init outside of an invocation
	stageInvokeInit                  // suppressed init, inside an invocation
	stageInvoke                      // an invocation runs
	stageIdle                        // every party has asked for next
	stageCold                        // after a reset: no process, the next invocation begins with an init
	stageStopRuntime                 // reset or shutdown: SIGTERM sent, the runtime has its share
	stageStopExtensions              // reset or shutdown: SHUTDOWN sent to the extensions
	stageResetting                   // ResetSandbox given, ResetDone awaited
	stageEnded                       // Ended given
)

// Machine is one execution environment. It is not safe for concurrent use:
// its driver calls Step from one goroutine, or under one lock.
type Machine struct {
	cfg   Config
	acts  []Action
	now   time.Time
	stage stage

	runtime    runtime
	extensions []extension // the externals in launch order, then the internals

	timers    [timerCount]armed
	frozen    bool
	fullSpeed bool

	// fatal is the first fatal error since the last init began.
	fatal *fault

	initStarted    time.Time
	initDuration   time.Duration // of a successful on-demand Init, until a report has told it
	initReport     *InitReport   // of provisioned concurrency: held back until the first invocation
	initFailed     bool          // to be told by the next Ready
	registrable    bool          // register is open: an init runs and the runtime has not called next
	runtimeReadyAt time.Time     // the runtime's first next in this init

	invocation invocation  // valid in stageInvokeInit and stageInvoke
	held       *Invocation // waits for the end of an init or a reset

	// done is the failed invocation whose end is told when the reset is over.
	done             string
	ending           bool // Shutdown or Abort was asked for
	reason           Reason
	shutdownDeadline time.Time
}

// New returns the machine of an environment that has not begun.
func New(cfg Config) *Machine {
	return &Machine{cfg: cfg, acts: make([]Action, 0, 16)}
}

// Step takes one event and returns what the driver must do about it, in that
// order. now must not go back between calls. The slice is valid until the next
// Step; the actions in it may be kept.
//
// Every event is good in every state: a call that is not allowed is refused,
// anything else that comes late is ignored. After Ended, Step returns nothing,
// and the driver answers what is left itself.
func (m *Machine) Step(now time.Time, ev Event) []Action {
	clear(m.acts)
	m.acts = m.acts[:0]
	if m.stage == stageEnded {
		return nil
	}
	m.now = now
	switch ev := ev.(type) {
	case RuntimeNext:
		m.runtimeNext(ev.Call)
	case RuntimeResponse:
		m.runtimeResponse(ev)
	case RuntimeResponseDone:
		m.runtimeResponseDone(ev)
	case RuntimeResponseBegun:
		m.runtimeResponseBegun(ev)
	case ExtensionNext:
		m.extensionNext(ev)
	case Invoke:
		m.invoke(ev.Invocation)
	default:
		m.stepRare(ev)
	}
	return m.acts
}

// stepRare handles the events that are not on the warm path.
func (m *Machine) stepRare(ev Event) {
	switch ev := ev.(type) {
	case Begin:
		if m.stage == stageNew {
			m.beginInit(stageInit)
		}
	case RuntimeError:
		m.runtimeError(ev)
	case RuntimeInitError:
		m.runtimeInitError(ev)
	case Register:
		m.register(ev)
	case ExtensionInitError:
		m.extensionError(ev.Call, ev.ID, extensionInitError, ev.ErrorType)
	case ExtensionExitError:
		m.extensionError(ev.Call, ev.ID, extensionExitError, ev.ErrorType)
	case Subscribe:
		m.subscribe(ev)
	case Gone:
		m.gone(ev.Call)
	case Exited:
		m.exited(ev)
	case LaunchFailed:
		m.launchFailed(ev)
	case OutOfMemory:
		m.fail(fault{errorType: errorOutOfMemory, message: messageKilled})
	case TimerFired:
		m.timerFired(ev.Timer)
	case ResetDone:
		m.resetDone()
	case Shutdown:
		m.askShutdown()
	case Abort:
		m.abort()
	case SandboxFailed:
		m.sandboxFailed(ev.Message)
	}
}

// Cold reports whether the environment was reset: it has no process, and the
// next invocation begins with an init.
func (m *Machine) Cold() bool { return m.stage == stageCold }

func (m *Machine) do(a Action)   { m.acts = append(m.acts, a) }
func (m *Machine) emit(r Record) { m.acts = append(m.acts, Emit{Record: r}) }
func (m *Machine) stamp() Stamp  { return Stamp{Time: m.now} }

// note emits firn's own record of a step that no record of AWS's tells.
func (m *Machine) note(name, detail string) {
	m.emit(Phase{Stamp: m.stamp(), Name: name, Detail: detail})
}

// beginInit starts the extensions and, when there are none, the runtime: as
// Init of its own (stageInit, bounded by InitLimit) or inside an invocation
// (stageInvokeInit, bounded by the invocation's deadline alone).
func (m *Machine) beginInit(s stage) {
	m.stage = s
	m.fatal = nil
	m.initStarted = m.now
	m.registrable = true
	m.runtimeReadyAt = time.Time{}
	m.runtime = runtime{}
	m.extensions = m.extensions[:0]
	m.fullSpeed = true
	m.do(FullSpeed{})
	if s == stageInit {
		m.setTimer(InitTimer, m.now.Add(m.cfg.InitLimit))
	}
	m.emit(InitStart{
		Stamp:              m.stamp(),
		InitializationType: m.cfg.InitializationType,
		Phase:              m.initPhase(),
		FunctionName:       m.cfg.FunctionName,
		FunctionVersion:    m.cfg.FunctionVersion,
		InstanceID:         m.cfg.InstanceID,
		InstanceMaxMemory:  int64(m.cfg.InstanceMaxMemoryMB) * firn.MiB,
	})
	if !m.launchExtensions() {
		return
	}
	if len(m.extensions) == 0 {
		m.launchRuntime()
	}
}

func (m *Machine) initPhase() string {
	if m.stage == stageInvokeInit {
		return PhaseInvoke
	}
	return PhaseInit
}

// advance ends the phase when nobody is awaited any more. An extension that
// is not awaited, posted an error and did not exit turns the end of an
// invocation into a failure. (In Init everybody is awaited.)
func (m *Machine) advance() {
	switch m.stage {
	case stageInit, stageInvokeInit:
		if m.initComplete() {
			m.endInit()
		}
	case stageInvoke:
		switch {
		case !m.invokeComplete():
		case m.fatal != nil:
			m.fail(*m.fatal)
		default:
			m.finishInvocation()
		}
	}
}

// initComplete reports whether the runtime and every registered extension,
// internal ones too, have called next.
func (m *Machine) initComplete() bool {
	if m.runtime.state != runtimeReady {
		return false
	}
	for i := range m.extensions {
		if m.extensions[i].state != extensionReady {
			return false
		}
	}
	return true
}

// endInit is the successful end of an init.
func (m *Machine) endInit() {
	m.initRecords(nil)
	m.limitSpeed()
	if m.stage == stageInvokeInit {
		m.stage = stageInvoke
		m.deliver()
		return
	}
	m.stopTimer(InitTimer)
	if m.cfg.InitializationType == onDemand {
		m.initDuration = m.now.Sub(m.initStarted)
	}
	if m.held != nil {
		inv := *m.held
		m.held = nil
		m.startInvocation(inv)
		return
	}
	m.idle()
}

// idle makes the environment available. Ready comes first so that a driver
// which has the next event at hand may spare the freeze.
func (m *Machine) idle() {
	m.stage = stageIdle
	m.do(Ready{})
	m.frozen = true
	m.do(Freeze{})
}

func (m *Machine) thaw() {
	if m.frozen {
		m.frozen = false
		m.do(Thaw{})
	}
}

func (m *Machine) limitSpeed() {
	if m.fullSpeed {
		m.fullSpeed = false
		m.do(LimitSpeed{})
	}
}

// fail ends the phase with a fatal error; the first one since the init began
// wins over this one. Without a phase that could fail it is ignored.
func (m *Machine) fail(f fault) {
	switch m.stage {
	case stageInit, stageInvokeInit, stageInvoke, stageIdle:
	default:
		return
	}
	if m.fatal == nil {
		m.fatal = &f
	} else if m.fatal.message == "" {
		m.fatal.message = f.message
	}
	switch m.stage {
	case stageInit:
		m.initRecords(m.fatal)
		m.initFailed = true
	case stageInvokeInit, stageInvoke:
		m.failInvocation(m.fatal)
		m.done = m.invocation.RequestID
	}
	m.shutdown(m.fatal.reason())
}

// post records a fatal error that a party reported about itself. The party is
// expected to exit, which ends the phase; see advance for one that does not.
func (m *Machine) post(f fault) {
	if m.fatal == nil {
		m.fatal = &f
	}
	if m.stage == stageIdle {
		m.fail(f)
	}
}

// exited handles the end of a process. Its parked call is left alone: it ends
// with the process, or with the reset if another one holds the connection (an
// extension that speaks for the runtime, as web adapters do).
func (m *Machine) exited(ev Exited) {
	if ev.Party == RuntimeParty {
		if !m.runtime.alive {
			return
		}
		m.runtime.alive = false
		if m.stage == stageStopRuntime {
			m.stopExtensions()
			return
		}
		m.fail(runtimeExit(ev))
		return
	}
	e := m.external(ev.Party)
	if e == nil || !e.alive {
		return
	}
	e.alive = false
	if m.stage == stageStopRuntime || m.stage == stageStopExtensions {
		e.state = extensionExited
		m.note(PhaseExtensionExited, e.name)
		if m.stage == stageStopExtensions && !m.awaitingExtensions() {
			m.resetSandbox()
		}
		return
	}
	f := extensionExit(ev)
	if e.state != extensionInitErr && e.state != extensionExitErr {
		e.state = extensionExited
		e.errorType = f.errorType
	}
	m.fail(f)
}

// launchFailed handles a program that could not be executed.
func (m *Machine) launchFailed(ev LaunchFailed) {
	f := fault{errorType: ev.ErrorType, message: ev.Message}
	if ev.Party == RuntimeParty {
		if !m.runtime.alive {
			return
		}
		m.runtime.alive = false
		if f.errorType == "" {
			f.errorType = errorInvalidEntrypoint
		}
		m.fail(f)
		return
	}
	e := m.external(ev.Party)
	if e == nil || !e.alive {
		return
	}
	if f.errorType == "" {
		f.errorType = errorExtensionLaunch
	}
	e.alive = false
	e.state = extensionLaunchErr
	e.errorType = f.errorType
	m.fail(f)
}

// gone forgets a call whose peer vanished. A parked next may be repeated; a
// response that breaks off is truncated.
func (m *Machine) gone(c Call) {
	switch {
	case m.runtime.goneNext(c):
		return
	case m.runtime.body.is(c):
		m.runtime.body = parked{}
		m.fail(truncated())
		return
	}
	for i := range m.extensions {
		if m.extensions[i].next.is(c) {
			m.extensions[i].next = parked{}
			return
		}
	}
}
