//go:build linux

package main

import (
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/sandbox/linux/initproto"
)

// runSpawner forks inits until firn is gone, on a thread that lives as long as
// the process: the death signal that each init asks for follows the thread
// that forked it, not the process. It is not the main thread, to which the
// kernel charges the memory of the process: this one visits the control groups
// of sandboxes, and nothing of the spawner is to stay there.
func runSpawner(ctl *control) error {
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return failed("open /dev/null", err)
	}
	kick := make(chan struct{}, 1)
	go reapInits(kick)
	ended := make(chan error)
	go func() {
		runtime.LockOSThread()
		ended <- serveSpawns(ctl, null, kick)
	}()
	return <-ended
}

// serveSpawns answers requests for inits.
func serveSpawns(ctl *control, null int, kick chan<- struct{}) error {
	var root template
	for {
		seq, m, fds, err := ctl.receive()
		if m == nil {
			return err
		}
		if m, ok := m.(*initproto.Template); ok {
			if err := root.renew(ctl, seq, m, fds); err != nil {
				return err
			}
			continue
		}
		request, ok := m.(*initproto.Spawn)
		if !ok || len(fds) != wanted(request) {
			return failed("understand the request", unix.EPROTO)
		}
		born, failure, err := spawnInGroups(request, null, fds)
		closeAll(fds)
		if err != nil {
			return err
		}
		select {
		case kick <- struct{}{}:
		default:
		}
		if failure != nil {
			err = ctl.fail(seq, failed("fork init", failure))
		} else {
			given := []int{born.pidfd}
			if request.Tree {
				given = append(given, root.copies(born.pid)...)
			}
			answer := &initproto.Spawned{PID: uint32(born.pid), Tree: len(given) > 1, Entered: born.entered}
			err = ctl.send(seq, answer, given...)
			closeAll(given)
		}
		if err != nil {
			return err
		}
	}
}

// wanted is the number of descriptors that come with a request.
func wanted(m *initproto.Spawn) int {
	n := 1 + 2*int(min(m.Tasks, initproto.MaxFDs))
	if m.InCgroup {
		n++
	}
	return n
}

// spawnInGroups forks an init from within its control groups of version 1 and
// comes back. A group that cannot be entered is left to firn, which moves init
// afterwards; not to come back is the end, for a group with a foreign thread in
// it cannot be removed.
func spawnInGroups(m *initproto.Spawn, null int, fds []int) (born newborn, failure, err error) {
	doors := fds[len(fds)-2*int(m.Tasks):]
	born.entered = true
	for _, fd := range doors[:m.Tasks] {
		if enter(fd) != nil {
			born.entered = false
		}
	}
	if m.Unprivileged || !forksInit {
		born.pid, born.pidfd, failure = spawn(m, null, fds)
	} else {
		born.pid, born.pidfd, failure = forkInit(m, null, fds)
	}
	for _, fd := range doors[m.Tasks:] {
		if err := enter(fd); err != nil {
			return born, nil, failed("leave a control group", err)
		}
	}
	return born, failure, nil
}

// newborn is an init that was just forked.
type newborn struct {
	pid, pidfd int
	entered    bool // it is in all its control groups
}

// enter moves this thread through an open file "tasks". "0" is the thread that
// writes, which the kernel moves without waiting for anything.
func enter(fd int) error {
	_, err := unix.Write(fd, []byte{'0'})
	return err
}

// ambient are the capabilities of an init whose user id inside is not 0: what
// mounting, the network, the confinement of its children, signals and reading
// their memory figures take.
func ambient() []uintptr {
	return []uintptr{
		unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_SETPCAP, unix.CAP_KILL, unix.CAP_SYS_PTRACE, unix.CAP_SYS_CHROOT,
		unix.CAP_DAC_OVERRIDE,
	}
}

func spawn(m *initproto.Spawn, null int, fds []int) (pid, pidfd int, err error) {
	sys := &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET |
			unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		UidMappings:                mappings(m.UIDs),
		GidMappings:                mappings(m.GIDs),
		GidMappingsEnableSetgroups: !m.Unprivileged,
		Setsid:                     true,
		Pdeathsig:                  unix.SIGKILL,
		PidFD:                      &pidfd,
	}
	if m.Unprivileged {
		sys.AmbientCaps = ambient()
	} else {
		sys.Credential = &syscall.Credential{Uid: 0, Gid: 0}
	}
	if m.InCgroup {
		sys.UseCgroupFD, sys.CgroupFD = true, fds[1]
	}
	pid, err = syscall.ForkExec("/proc/self/exe", []string{"init"}, &syscall.ProcAttr{
		Env:   initEnvironment(),
		Files: []uintptr{uintptr(null), uintptr(null), 2, uintptr(fds[0])},
		Sys:   sys,
	})
	return pid, pidfd, err
}

// initEnvironment gives Go one processor in an init: its two threads take turns
// by nature, and each processor more costs 100 kB in every sandbox. The number
// is fixed, so that the runtime need not follow the limits of the control groups.
func initEnvironment() []string {
	return []string{"FIRN_ROLE=init", "GOMAXPROCS=1", "GOGC=off", "GOMEMLIMIT=8MiB",
		"GODEBUG=asyncpreemptoff=1,containermaxprocs=0,updatemaxprocs=0"}
}

func mappings(list []initproto.IDMap) []syscall.SysProcIDMap {
	var out []syscall.SysProcIDMap
	for _, m := range list {
		out = append(out, syscall.SysProcIDMap{
			ContainerID: int(m.Inside), HostID: int(m.Outside), Size: int(m.Count)})
	}
	return out
}

// reapInits collects inits that ended; firn learns of their end by pidfd. It
// lives as long as the process.
func reapInits(kick <-chan struct{}) {
	for {
		_, err := unix.Wait4(-1, nil, 0, nil)
		if err == unix.ECHILD {
			<-kick
		}
	}
}
