//go:build linux

package main

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// setLimits gives init, and what it starts, the resource limits that AWS's
// environments have (files, locked memory, stack), and none of its core
// files. The least core limit that is not zero also keeps a crash from
// starting the host's core-file handler, which zero does not.
func setLimits(processes uint32) error {
	limits := []struct {
		resource  int
		soft, max uint64
	}{
		{unix.RLIMIT_NOFILE, 1024, 1024},
		{unix.RLIMIT_CORE, 1, 1},
		{unix.RLIMIT_MEMLOCK, 64 << 10, 64 << 10},
		{unix.RLIMIT_STACK, 8 << 20, unix.RLIM_INFINITY}, // a program may ask for more, as recorded
		{unix.RLIMIT_NPROC, uint64(processes), uint64(processes)},
	}
	for _, l := range limits {
		if l.soft == 0 {
			continue
		}
		var now syscall.Rlimit
		if err := syscall.Getrlimit(l.resource, &now); err != nil {
			return failed("read a resource limit", err)
		}
		// Never more than the host gave.
		if err := syscall.Setrlimit(l.resource, &syscall.Rlimit{Cur: min(l.soft, now.Max), Max: min(l.max, now.Max)}); err != nil {
			return failed("set a resource limit", err)
		}
	}
	return nil
}
