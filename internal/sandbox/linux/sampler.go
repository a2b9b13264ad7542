//go:build linux

package linux

import (
	"context"
	"sync"
	"syscall"
	"time"

	"github.com/firn-run/firn/internal/sandbox/linux/initproto"
)

// sampleEvery is the interval at which memory is measured where no cgroup
// does it. One measurement takes init about 0.1 ms a process.
const sampleEvery = 50 * time.Millisecond

// sampler stands in for a memory cgroup: it has init measure, keeps the peak,
// and kills the function when it is over its size. A function that allocates
// faster than the sampler looks gets further than it should; the host's own
// limits on firn are what is left then.
type sampler struct {
	box *box

	mu            sync.Mutex
	current, peak int64
}

func newSampler(s *box) *sampler { return &sampler{box: s} }

func (m *sampler) figures() (current, peak int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.current, m.peak
}

func (m *sampler) resetPeak() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.peak = m.current
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
			m.look()
		}
	}
}

// look measures a sandbox that has something running.
func (m *sampler) look() {
	s := m.box
	s.mu.Lock()
	busy := len(s.processes) > 0
	s.mu.Unlock()
	if !busy || !s.starting.TryLock() { // a start or reset is under way
		return
	}
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
	m.current = int64(measured.Bytes)
	m.peak = max(m.peak, m.current)
	over := s.spec.MemoryMB > 0 && m.current > int64(s.spec.MemoryMB)<<20
	m.mu.Unlock()
	if over {
		s.outOfMemory(time.Now())
		_ = s.conn.send(&initproto.SignalAll{Signal: uint32(syscall.SIGKILL)})
	}
}
