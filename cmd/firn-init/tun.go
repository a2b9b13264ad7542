//go:build linux

package main

import "golang.org/x/sys/unix"

func openTUN() (int, error) { return -1, failed("open the TUN device", unix.ENOSYS) }
