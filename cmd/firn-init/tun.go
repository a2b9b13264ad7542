//go:build linux

package main

import (
	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/sandbox/linux/egress/tun"
)

// openTUN makes the interface to the outside in this network namespace, where
// firn itself may not enter it (rootless).
func openTUN() (int, error) {
	f, err := tun.OpenHere()
	if err != nil {
		return -1, &stepError{"make the network interface: " + err.Error(), unix.EIO}
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(fd, true) // which Fd ended, and firn's poller needs
	}
	_ = f.Close()
	return fd, failed("keep the network interface", err)
}
