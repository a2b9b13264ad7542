//go:build linux

package main

import (
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/sandbox/linux/initproto"
)

// processes are the function's processes inside the sandbox.
type processes struct {
	ctl    *control
	null   int
	cred   *syscall.Credential // nil when the ids are right already
	worker uint32              // user id of the function
	// outside runs what it gets on a thread that is not confined; nil before
	// the first rest. See kill.
	outside chan func()
	group   uint32 // and its group id

	mu      sync.Mutex
	changed sync.Cond
	started map[int]bool // processes of Start that have not been reported
	idle    bool         // no child is left, and the reaper waits for one
	resting bool         // the reaper is to rest; see rest.go
	waker   int          // the process that is to wake the reaper for that, or 0
}

func newProcesses(ctl *control, setup *initproto.Setup) *processes {
	p := &processes{ctl: ctl, worker: setup.UID, group: setup.GID, started: map[int]bool{}}
	p.changed.L = &p.mu
	if setup.SetIDs {
		p.cred = &syscall.Credential{Uid: setup.UID, Gid: setup.GID}
	}
	return p
}

// serve obeys firn on the launcher's thread. It returns when firn is gone.
func (p *processes) serve() error {
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return failed("open /dev/null", err)
	}
	p.null = null
	for {
		seq, m, fds, err := p.ctl.receive()
		if m == nil {
			return err
		}
		switch m := m.(type) {
		case *initproto.Start:
			err = p.start(seq, m, fds)
		case *initproto.Signal:
			p.signal(m)
		case *initproto.SignalAll:
			p.kill(-1, syscall.Signal(m.Signal))
		case *initproto.Reset:
			p.killAll()
			err = p.ctl.send(seq, &initproto.OK{})
		case *initproto.Rest:
			err = p.rest()
		case *initproto.Open:
			err = p.open(seq, m)
		case *initproto.Measure:
			err = p.ctl.send(seq, measure())
		default:
			err = failed("understand the request", unix.EPROTO)
		}
		closeAll(fds)
		if err != nil {
			return err
		}
	}
}

// start forks from the confined thread. The answer goes out under the lock,
// so that a report of the exit cannot overtake it.
func (p *processes) start(seq uint32, m *initproto.Start, fds []int) error {
	files := []uintptr{uintptr(p.null), uintptr(p.null), uintptr(p.null)}
	for i, given := range []bool{m.Stdout, m.Stderr} {
		if !given {
			continue
		}
		if len(fds) == 0 {
			return failed("understand the request", unix.EPROTO)
		}
		files[i+1] = uintptr(fds[0])
		fds = fds[1:]
	}
	if len(fds) != int(m.Extra) {
		return failed("understand the request", unix.EPROTO)
	}
	for _, fd := range fds {
		files = append(files, uintptr(fd))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	pid, err := syscall.ForkExec(m.Path, m.Args, &syscall.ProcAttr{
		Dir: m.Dir, Env: m.Env, Files: files,
		Sys: &syscall.SysProcAttr{Setsid: true, Credential: p.cred},
	})
	if err != nil {
		errno, ok := err.(syscall.Errno)
		if !ok {
			errno = unix.EINVAL // a NUL in a string
		}
		return p.ctl.send(seq, &initproto.Started{Errno: uint32(errno), BadDir: !p.usableDir(m.Dir)})
	}
	p.started[pid] = true
	p.idle = false
	p.changed.Broadcast()
	return p.ctl.send(seq, &initproto.Started{PID: uint32(pid)})
}

// usableDir says whether the function could have made dir its working
// directory: a failed start does not tell which of the two paths was bad.
func (p *processes) usableDir(dir string) bool {
	if dir == "" {
		return true
	}
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return false
	}
	if st.Uid == p.worker {
		return st.Mode&0o100 != 0
	}
	return st.Mode&0o001 != 0
}

// kill sends a signal to a process, or with -1 to all but init; that there is
// none is no error. After a rest the launcher's thread has a Landlock domain of
// its own, from which the kernel lets no signal out to processes that were
// started before: then another thread sends it.
func (p *processes) kill(pid int, sig syscall.Signal) {
	if p.outside == nil {
		_ = unix.Kill(pid, sig)
		return
	}
	sent := make(chan struct{})
	p.outside <- func() {
		_ = unix.Kill(pid, sig)
		close(sent)
	}
	<-sent
}

// signal reaches a process only while it has not been reaped: its number
// cannot have passed to another.
func (p *processes) signal(m *initproto.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.started[int(m.PID)] {
		p.kill(int(m.PID), syscall.Signal(m.Signal))
	}
}

// killAll returns when no process but init is left. One kill is enough: the
// kernel lets no process fork that has a fatal signal pending.
func (p *processes) killAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kill(-1, unix.SIGKILL)
	for !p.idle {
		p.changed.Wait()
	}
}

// reap collects every process that ends, those that lost their parent
// included, and reports those that Start started. It never returns.
func (p *processes) reap() {
	for {
		pid, err := waitAny(0)
		p.mu.Lock()
		if err == unix.ECHILD {
			// A start may have come in between; only the answer under the
			// lock counts.
			if _, err = waitAny(unix.WNOHANG); err == unix.ECHILD {
				p.idle = true
				p.changed.Broadcast()
				for p.idle && !p.resting {
					p.changed.Wait()
				}
			}
		} else if err == nil && pid > 0 {
			p.collectLocked(pid)
		}
		if p.resting && p.waker == 0 {
			p.fallAsleepLocked()
		}
		p.mu.Unlock()
	}
}

// collectLocked reaps one process that has ended. Until then its number stays
// taken, see signal.
func (p *processes) collectLocked(pid int) {
	var status unix.WaitStatus
	got, err := unix.Wait4(pid, &status, unix.WNOHANG, nil)
	if got == pid && pid == p.waker {
		p.waker = 0
	}
	if err != nil || got != pid || !p.started[pid] {
		return // a failed exec that the fork collected itself, or an orphan
	}
	delete(p.started, pid)
	_ = p.ctl.send(0, &initproto.Exited{PID: uint32(pid), Status: uint32(status)})
}

// waitAny waits for a child to end without reaping it.
func waitAny(flags int) (pid int, err error) {
	var info struct { // siginfo_t as filled for SIGCHLD
		signo, errno, code, _ int32
		pid                   int32
		uid                   uint32
		status                int32
		_                     [100]byte
	}
	for {
		_, _, errno := unix.Syscall6(unix.SYS_WAITID, unix.P_ALL, 0, uintptr(unsafe.Pointer(&info)),
			uintptr(unix.WEXITED|unix.WNOWAIT|flags), 0, 0)
		switch errno {
		case 0:
			return int(info.pid), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}
