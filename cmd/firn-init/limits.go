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
		resource int
		value    uint64
	}{
		{unix.RLIMIT_NOFILE, 1024},
		{unix.RLIMIT_CORE, 1},
		{unix.RLIMIT_MEMLOCK, 64 << 10},
		{unix.RLIMIT_STACK, 8 << 20},
		{unix.RLIMIT_NPROC, uint64(processes)},
	}
	for _, l := range limits {
		if l.value == 0 {
			continue
		}
		var now syscall.Rlimit
		if err := syscall.Getrlimit(l.resource, &now); err != nil {
			return failed("read a resource limit", err)
		}
		v := min(l.value, now.Max) // never more than the host gave
		if err := syscall.Setrlimit(l.resource, &syscall.Rlimit{Cur: v, Max: v}); err != nil {
			return failed("set a resource limit", err)
		}
	}
	return nil
}
