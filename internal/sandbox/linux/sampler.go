//go:build linux

package linux

import (
	"context"
	"sync"
	"syscall"
	"time"

	"github.com/firn-run/firn/internal/sandbox"
	"github.com/firn-run/firn/internal/sandbox/linux/initproto"
)

// sampleEvery is the interval at which memory is measured where no cgroup
// does it. One measurement takes init about 0.1 ms a process.
const sampleEvery = 50 * time.Millisecond

// sampler stands in for a memory cgroup: it has init measure, keeps the peak,
// and kills the function when it is over its size. A function that allocates
// faster than the sampler looks gets further than it should; the host's own
// limits on firn are what is left then.
//
// What is frozen does not change, so a frozen sandbox is not looked at: idle
// environments cost no processor time here either.
type sampler struct {
	box    *box
	thawed chan struct{} // has room for one

	mu   sync.Mutex
	last sandbox.Usage
	used time.Duration // of the processor
}

func newSampler(s *box) *sampler { return &sampler{box: s, thawed: make(chan struct{}, 1)} }

func (m *sampler) figures() sandbox.Usage {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last
}

func (m *sampler) cpuTime() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}

func (m *sampler) resetPeak() {
	m.look()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last.Peak = m.last.Current
}

// run ends with the sandbox.
func (m *sampler) run() {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		select {
		case <-m.box.closed:
			return
		case <-m.box.conn.gone:
			return
		case <-tick.C:
		}
		switch {
		case m.box.isFrozen():
			tick.Stop()
			select {
			case <-m.box.closed:
				return
			case <-m.box.conn.gone:
				return
			case <-m.thawed:
			}
			tick.Reset(sampleEvery)
		case m.busy():
			m.look()
		}
	}
}

// wake goes on with the looking after a thaw.
func (m *sampler) wake() {
	select {
	case m.thawed <- struct{}{}:
	default:
	}
}

func (m *sampler) busy() bool {
	m.box.mu.Lock()
	defer m.box.mu.Unlock()
	return len(m.box.processes) > 0
}

// look measures now. A frozen sandbox keeps its figures.
func (m *sampler) look() {
	s := m.box
	s.starting.Lock()
	defer s.starting.Unlock()
	if s.frozen {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	a, err := s.conn.call(ctx, &initproto.Measure{})
	if err != nil {
		return // the end of init is noticed elsewhere
	}
	measured, ok := a.m.(*initproto.Measured)
	if !ok {
		return
	}
	m.mu.Lock()
	m.last.Current = int64(measured.Bytes)
	m.last.Peak = max(m.last.Peak, m.last.Current)
	m.used = time.Duration(measured.CPUTime) * time.Microsecond
	over := s.spec.MemoryMB > 0 && m.last.Current > int64(s.spec.MemoryMB)<<20
	m.mu.Unlock()
	if over {
		s.outOfMemory(time.Now())
		_ = s.conn.send(&initproto.SignalAll{Signal: uint32(syscall.SIGKILL)})
	}
}
