//go:build linux

// Command firn-init is the small program inside every sandbox. firn embeds it
// and starts it in two roles, named by the variable FIRN_ROLE; nobody runs it
// by hand.
//
// The spawner is started once, by firn. It forks every init on request: firn's
// own address space is far too large to be copied for each sandbox, which a
// fork into a new user namespace does.
//
// The init is PID 1 of one sandbox. It builds the root file system, opens the
// Runtime API's listener inside the network namespace and hands it to firn,
// waits to be assigned to a function, starts and reaps processes, and on a
// reset kills all but itself.
//
// Both obey one control socket (descriptor 3, package initproto) and end when
// it closes, so that firn's death leaves nothing behind.
//
// A thousand of these run on one machine, most of them idle. So the program
// avoids packages that cost memory at start (os, fmt, net), blocks in plain
// system calls, and collects no garbage until its heap has grown (GOGC and
// GOMEMLIMIT are set by whoever starts it).
package main

import (
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// controlFD is the control socket in both roles.
const controlFD = 3

func main() {
	runtime.LockOSThread() // the roles say why
	unix.CloseOnExec(controlFD)
	// Whatever else firn was started with must not reach a function.
	_ = unix.CloseRange(controlFD+1, ^uint(0), 0)
	ctl := &control{fd: controlFD}
	switch role, _ := syscall.Getenv("FIRN_ROLE"); role {
	case "spawner":
		exit(runSpawner(ctl))
	case "init":
		exit(runInit(ctl))
	case "resume":
		exit(resumeInit(ctl))
	}
	complain("firn-init is started by firn only\n")
	unix.Exit(2)
}

// exit ends the program. A closed control socket is the ordinary end.
func exit(err error) {
	if err == nil {
		unix.Exit(0)
	}
	complain("firn-init: " + err.Error() + "\n")
	unix.Exit(1)
}

// complain writes to standard error, which is firn's. There is nobody to tell
// when that fails.
func complain(s string) { _, _ = unix.Write(2, []byte(s)) }

// stepError is a failed step of the set-up, in a form that fits a Failure.
type stepError struct {
	step  string
	errno syscall.Errno
}

func (e *stepError) Error() string { return e.step + ": " + e.errno.Error() }

// failed wraps a system call's error; nil stays nil.
func failed(step string, err error) error {
	if err == nil {
		return nil
	}
	errno, ok := err.(syscall.Errno)
	if !ok {
		errno = unix.EIO
	}
	return &stepError{step, errno}
}
