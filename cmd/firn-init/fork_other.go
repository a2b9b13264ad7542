//go:build linux && !amd64

package main

import (
	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/sandbox/linux/initproto"
)

// forksInit says that forkInit is written for this architecture.
const forksInit = false

func forkInit(*initproto.Spawn, int, []int) (pid, pidfd int, err error) { return 0, 0, unix.ENOSYS }
