//go:build linux

package main

import (
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/sandbox/linux/confine"
	"github.com/firn-run/firn/internal/sandbox/linux/initproto"
)

// runInit is the life of a sandbox's PID 1. Two threads share it. The main
// thread has all rights over the sandbox's namespaces; it does the set-up and
// the assignment, and reaps afterwards. The launcher's thread gives up its
// rights for good, since the function's processes inherit from it; it takes
// over the control socket once the sandbox is assigned.
func runInit(ctl *control) error {
	ignoreSignals()
	unix.Umask(0o022)
	preferAsVictim()
	if err := hide(); err != nil {
		return err
	}
	seq, m, fds, err := ctl.receive()
	if m == nil {
		return err
	}
	setup, ok := m.(*initproto.Setup)
	if !ok {
		return failed("understand the request", unix.EPROTO)
	}
	listener, tun, err := buildSandbox(setup, fds)
	if err != nil {
		return ctl.fail(seq, err)
	}
	if err := ctl.send(seq, &initproto.Ready{}, handOver(listener, tun)...); err != nil {
		return err
	}
	_ = unix.Close(listener)
	if tun >= 0 {
		_ = unix.Close(tun)
	}
	p := newProcesses(ctl, setup)
	if _, m, _, err = ctl.receive(); m == nil {
		return err
	}
	settle, ok := m.(*initproto.Settle)
	if !ok {
		return failed("understand the request", unix.EPROTO)
	}
	if !setup.SetIDs {
		keepThreads()
	}
	assigned := make(chan struct{})
	go launcher(ctl, p, confine.Program(settle.Filter), assigned)
	if gone, err := awaitAssignment(ctl, setup.KeepHost); gone || err != nil {
		return err
	}
	close(assigned)
	p.reap()
	return nil
}

// spareThreads is how many threads the Go runtime is made to keep.
const spareThreads = 3

// keepThreads has the Go runtime keep threads for when one waits in a system
// call. Where init has the function's user id, the function's processes may take
// the last that their limit allows, and Go ends a program that gets no thread.
func keepThreads() {
	var running sync.WaitGroup
	running.Add(spareThreads)
	for range spareThreads {
		go func() {
			runtime.LockOSThread() // each on its own until all are there
			running.Done()
			running.Wait()
			runtime.UnlockOSThread()
		}()
	}
	running.Wait()
}

// hide makes init's files in /proc nobody's but root's, also for a function
// that has init's user id.
func hide() error {
	return failed("hide from the function", unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0))
}

func handOver(listener, tun int) []int {
	if tun < 0 {
		return []int{listener}
	}
	return []int{listener, tun}
}

// awaitAssignment waits in the pool for Assign and carries it out. A failed
// one ends the init: half a sandbox is of no use.
func awaitAssignment(ctl *control, keepHost bool) (gone bool, err error) {
	seq, m, fds, err := ctl.receive()
	if m == nil {
		return true, err
	}
	assign, ok := m.(*initproto.Assign)
	if !ok {
		return true, failed("understand the request", unix.EPROTO)
	}
	if err := attach(assign, fds, keepHost); err != nil {
		return true, ctl.fail(seq, err)
	}
	return false, ctl.send(seq, &initproto.OK{})
}

// launcher confines its thread while the sandbox waits to be assigned, then
// serves firn's requests until firn is gone, and the sandbox with it.
func launcher(ctl *control, p *processes, filter confine.Program, assigned <-chan struct{}) {
	runtime.LockOSThread()
	// From here /proc/self/cgroup shows the sandbox's own group as "/". Only
	// now, because on version 1 firn has moved init there after its birth.
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		exit(failed("make a cgroup namespace", err))
	}
	if err := confine.Thread(filter); err != nil {
		_ = ctl.fail(0, err)
		exit(err)
	}
	<-assigned
	exit(p.serve())
}

// ignoreSignals puts every signal back to its default action, which for PID 1
// means that signals from inside the sandbox have no effect at all. The Go
// runtime's handlers would let a function that has init's user id (rootless)
// end it. The runtime's own uses of signals are switched off or not needed.
func ignoreSignals() {
	type sigaction struct {
		handler, flags, restorer uintptr
		mask                     uint64
	}
	var def sigaction
	for sig := uintptr(1); sig <= 64; sig++ {
		// Fails for SIGKILL and SIGSTOP, which need no help.
		_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&def)), 0, 8, 0, 0)
	}
}

// preferAsVictim has a host that runs out of memory end functions before firn.
// Not done is not fatal: the limits of each sandbox stand.
func preferAsVictim() {
	fd, err := unix.Open("/proc/self/oom_score_adj", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	_, _ = unix.Write(fd, []byte("300"))
	_ = unix.Close(fd)
}
