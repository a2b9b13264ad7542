//go:build linux

package main

import (
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/sandbox/linux/initproto"
)

// runSpawner forks inits until firn is gone. It runs on the locked main
// thread, which lives as long as the process: the death signal that each init
// asks for follows the thread that forked it, not the process.
func runSpawner(ctl *control) error {
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return failed("open /dev/null", err)
	}
	kick := make(chan struct{}, 1)
	go reapInits(kick)
	for {
		seq, m, fds, err := ctl.receive()
		if m == nil {
			return err
		}
		request, ok := m.(*initproto.Spawn)
		if !ok || len(fds) < 1 || request.InCgroup && len(fds) != 2 {
			return failed("understand the request", unix.EPROTO)
		}
		pid, pidfd, err := spawn(request, null, fds)
		closeAll(fds)
		if err != nil {
			err = ctl.fail(seq, failed("fork init", err))
		} else {
			select {
			case kick <- struct{}{}:
			default:
			}
			err = ctl.send(seq, &initproto.Spawned{PID: uint32(pid)}, pidfd)
			_ = unix.Close(pidfd)
		}
		if err != nil {
			return err
		}
	}
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
	// One processor for Go: the two threads of init take turns by nature, and
	// each processor more costs 100 kB in every sandbox.
	pid, err = syscall.ForkExec("/proc/self/exe", []string{"init"}, &syscall.ProcAttr{
		Env:   []string{"FIRN_ROLE=init", "GOMAXPROCS=1", "GOGC=off", "GOMEMLIMIT=8MiB", "GODEBUG=asyncpreemptoff=1"},
		Files: []uintptr{uintptr(null), uintptr(null), 2, uintptr(fds[0])},
		Sys:   sys,
	})
	return pid, pidfd, err
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
