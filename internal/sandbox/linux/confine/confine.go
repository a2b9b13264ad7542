//go:build linux

// Package confine takes rights from a thread for good: capabilities, new
// privileges, system calls, and the writing of files. What a thread gave up,
// the processes it starts never had, so init confines one locked thread of
// its own while the sandbox waits in the pool, and starts every process of
// the function from it; a start then costs no more than a fork.
//
// The thread keeps the capabilities it needs to change the user id of its
// children; executing a program as that user drops them, and with an empty
// bounding set and no_new_privs nothing brings them back.
//
// The package is linked into firn-init and imports next to nothing.
package confine

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Error is a step that failed.
type Error struct {
	Step  string
	Errno unix.Errno
}

// Error names the step and the reason.
func (e *Error) Error() string { return e.Step + ": " + e.Errno.Error() }

func failed(step string, errno unix.Errno) error {
	if errno == 0 {
		return nil
	}
	return &Error{step, errno}
}

// Thread confines the calling thread, which must be locked to its goroutine
// and not be the main thread of a process that still has work to do: there is
// no way back. The filter is what Assemble gives; "" has it assembled here.
func Thread(filter Program) error {
	if err := dropBounding(); err != nil {
		return err
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0, 0)
	if errno != 0 {
		return failed("clear ambient capabilities", errno)
	}
	if err := clearInheritable(); err != nil {
		return err
	}
	_, _, errno = unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0)
	if errno != 0 {
		return failed("set no_new_privs", errno)
	}
	if err := restrictFiles(); err != nil {
		return err
	}
	return installFilter(filter)
}

// dropBounding empties the capability bounding set. The kernel says EINVAL
// for the first number behind its last capability.
func dropBounding() error {
	for c := uintptr(0); c < 64; c++ {
		_, _, errno := unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0, 0, 0, 0)
		if errno == unix.EINVAL && c > 0 {
			return nil
		}
		if errno != 0 {
			return failed("drop a bounding capability", errno)
		}
	}
	return nil
}

func clearInheritable() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	_, _, errno := unix.RawSyscall(unix.SYS_CAPGET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0)
	if errno != 0 {
		return failed("read capabilities", errno)
	}
	data[0].Inheritable, data[1].Inheritable = 0, 0
	_, _, errno = unix.RawSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0)
	return failed("clear inheritable capabilities", errno)
}
