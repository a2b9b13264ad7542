//go:build linux

package linux

import (
	"os"
	"syscall"
	"time"

	"github.com/firn-run/firn/internal/sandbox"
	"github.com/firn-run/firn/internal/sandbox/linux/initproto"
)

// oomGrace is how long the report of a process killed by an unknown hand waits
// for word that memory was the cause: the kernel tells of the two by different
// ways.
const oomGrace = 30 * time.Millisecond

// process is one that Start started. exit is valid when done is closed.
type process struct {
	box  *box
	pid  uint32 // inside
	done chan struct{}
	exit sandbox.Exit
}

// Signal passes the signal to init. To a frozen sandbox it is delivered when
// it is thawed.
func (p *process) Signal(sig syscall.Signal) error {
	select {
	case <-p.done:
		return os.ErrProcessDone
	default:
	}
	err := p.box.conn.send(&initproto.Signal{PID: p.pid, Signal: uint32(sig)})
	return p.box.explainNil("signal", err)
}

// Done is closed when the process has ended.
func (p *process) Done() <-chan struct{} { return p.done }

// Exit says how it ended.
func (p *process) Exit() sandbox.Exit { return p.exit }

// adopt enters a started process. Its exit may have been reported already.
func (s *box) adopt(p *process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		p.exit = sandbox.Exit{Signal: syscall.SIGKILL, At: time.Now()}
		close(p.done)
		return
	}
	if status, ok := s.early[p.pid]; ok {
		delete(s.early, p.pid)
		s.settleLocked(p, status)
		return
	}
	s.processes[p.pid] = p
}

// exited is called by the control socket's reader, after the answer to Start
// was delivered but maybe before Start went on with it.
func (s *box) exited(m *initproto.Exited) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.processes[m.PID]
	if p == nil {
		s.early[m.PID] = m.Status
		return
	}
	delete(s.processes, m.PID)
	s.settleLocked(p, m.Status)
}

// settleLocked reports an exit, at once or, when somebody unknown killed the
// process, after oomGrace.
func (s *box) settleLocked(p *process, status uint32) {
	w := syscall.WaitStatus(status)
	p.exit = sandbox.Exit{Code: w.ExitStatus(), At: time.Now()}
	if w.Signaled() {
		p.exit.Code, p.exit.Signal = 0, w.Signal()
	}
	if p.exit.Signal != syscall.SIGKILL {
		close(p.done)
		return
	}
	oom := s.oom
	select {
	case <-oom:
		p.exit.OutOfMemory = true
		close(p.done)
		return
	default:
	}
	if s.killing {
		close(p.done)
		return
	}
	s.watch.Go(func() {
		grace := time.NewTimer(oomGrace)
		defer grace.Stop()
		select {
		case <-oom:
			p.exit.OutOfMemory = true
		case <-grace.C:
		case <-s.closed:
		}
		close(p.done)
	})
}

// endAll reports the end of every process, once init is gone.
func (s *box) endAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	oom := false
	select {
	case <-s.oom:
		oom = true
	default:
	}
	for pid, p := range s.processes {
		delete(s.processes, pid)
		p.exit = sandbox.Exit{Signal: syscall.SIGKILL, OutOfMemory: oom, At: time.Now()}
		close(p.done)
	}
}
