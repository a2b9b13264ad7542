//go:build linux

package main

import (
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/sandbox/linux/initproto"
)

// Once the processes of a function run, init has nothing to do for a long
// time, and its Go runtime alone takes 0.6 MB, five threads and 80 KB of page
// tables, a thousand times over. So before a sandbox is frozen for the first
// time firn asks init to rest: it executes its own program again with the
// argument "rest", which the kernel begins at entry (rest_amd64.s), and that waits
// in a loop of three system calls, without a Go runtime, in 8 KB. As soon as
// firn says anything, or a child ends, the program executes itself once more
// and is init again, 2 ms later. The process stays the same: its children, its
// control socket and what it is to the kernel. What Go has to know of the time
// before goes through the environment.

// stateVariable carries what init knows over its rest.
const stateVariable = "FIRN_STATE"

// rest serves a Rest on the launcher's thread. It is the main thread that has
// the rights to go on with afterwards, so that this one hands over and waits;
// it returns when there was no rest.
func (p *processes) rest() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !restable() {
		return p.ctl.send(0, &initproto.Rested{})
	}
	if !p.idle {
		// The main thread waits for children and nothing else: here is one. It
		// rests once it has collected this one, whose end would wake it again.
		pid := stillborn()
		if pid < 0 {
			return p.ctl.send(0, &initproto.Rested{})
		}
		p.waker = pid
	}
	p.resting = true
	p.changed.Broadcast()
	for p.resting {
		p.changed.Wait()
	}
	return p.ctl.send(0, &initproto.Rested{})
}

// fallAsleepLocked executes the program anew, on the main thread. It returns
// when that fails.
func (p *processes) fallAsleepLocked() {
	defer p.changed.Broadcast()
	p.resting = false
	if _, err := unix.FcntlInt(controlFD, unix.F_SETFD, 0); err != nil {
		return
	}
	env := []string{"FIRN_ROLE=resume", stateVariable + "=" + p.state()}
	for _, v := range syscall.Environ() {
		if strings.HasPrefix(v, "GO") {
			env = append(env, v)
		}
	}
	_ = unix.Exec("/proc/self/exe", []string{"init", "rest"}, env)
	unix.CloseOnExec(controlFD)
}

// state is: user id, group id, 1 when init changes to them, and the numbers of
// the processes of Start that have not been reported.
func (p *processes) state() string {
	sets := uint64(0)
	if p.cred != nil {
		sets = 1
	}
	text := strconv.AppendUint(nil, uint64(p.worker), 10)
	text = strconv.AppendUint(append(text, ' '), uint64(p.group), 10)
	text = strconv.AppendUint(append(text, ' '), sets, 10)
	for pid := range p.started {
		text = strconv.AppendInt(append(text, ' '), int64(pid), 10)
	}
	return string(text)
}

// restore reads a state.
func restore(ctl *control, state string) (*processes, error) {
	var n []int
	for field := range strings.FieldsSeq(state) {
		v, err := strconv.Atoi(field)
		if err != nil {
			return nil, failed("remember the time before the rest", unix.EINVAL)
		}
		n = append(n, v)
	}
	if len(n) < 3 {
		return nil, failed("remember the time before the rest", unix.EINVAL)
	}
	p := newProcesses(ctl, &initproto.Setup{UID: uint32(n[0]), GID: uint32(n[1]), SetIDs: n[2] == 1})
	for _, pid := range n[3:] {
		p.started[pid] = true
	}
	return p, nil
}

// resumeInit is runInit after a rest.
func resumeInit(ctl *control) error {
	ignoreSignals()
	if err := hide(); err != nil {
		return err
	}
	state, _ := syscall.Getenv(stateVariable)
	p, err := restore(ctl, state)
	if err != nil {
		return err
	}
	p.outside = make(chan func())
	go func() { // on threads that are neither the main one nor the launcher's
		for do := range p.outside {
			do()
		}
	}()
	assigned := make(chan struct{})
	close(assigned)
	go launcher(ctl, p, "", assigned)
	p.reap()
	return nil
}
