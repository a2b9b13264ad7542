package lifecycle

import "time"

// timerCount is the number of timers; timerIndex numbers them.
const timerCount = 4

func timerIndex(t Timer) int {
	switch t {
	case InvokeTimer:
		return 0
	case InitTimer:
		return 1
	case ShutdownRuntimeTimer:
		return 2
	case ShutdownTimer:
		return 3
	}
	return -1
}

// armed is a timer's state as the driver knows it.
type armed struct {
	on bool
	at time.Time
}

func (m *Machine) setTimer(t Timer, at time.Time) {
	m.timers[timerIndex(t)] = armed{on: true, at: at}
	m.do(SetTimer{Timer: t, At: at})
}

// stopTimer disarms a timer that runs. The literals are static data, so that
// the warm path does not allocate them.
func (m *Machine) stopTimer(t Timer) {
	a := &m.timers[timerIndex(t)]
	if !a.on {
		return
	}
	*a = armed{}
	switch t {
	case InvokeTimer:
		m.do(StopTimer{Timer: InvokeTimer})
	default:
		m.do(StopTimer{Timer: t})
	}
}

// timerFired handles the end of a timer. A report that was under way when the
// timer was stopped is ignored; one that was under way when it was set anew
// must not end the new period, so the timer is armed again.
func (m *Machine) timerFired(t Timer) {
	i := timerIndex(t)
	if i < 0 || !m.timers[i].on {
		return
	}
	if at := m.timers[i].at; m.now.Before(at) {
		m.setTimer(t, at)
		return
	}
	m.timers[i] = armed{}
	switch t {
	case InitTimer, InvokeTimer:
		m.fail(m.timeout())
	case ShutdownRuntimeTimer:
		m.killRuntime()
	case ShutdownTimer:
		m.giveUpExtensions()
	}
}
