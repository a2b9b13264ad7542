//go:build linux

package main

import (
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/sandbox/linux/initproto"
)

// measure sums the memory of the function's processes, for hosts without a
// memory cgroup. Proportional sizes, because a runtime that forks shares most
// of its pages. What cannot be read (a process that just ended) counts 0.
func measure() *initproto.Measured {
	out := &initproto.Measured{}
	fd, err := unix.Open("/proc", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return out
	}
	defer unix.Close(fd)
	buf := make([]byte, 8192)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err != nil || n <= 0 {
			return out
		}
		_, _, names := unix.ParseDirent(buf[:n], -1, nil)
		for _, name := range names {
			if pid, err := strconv.Atoi(name); err == nil && pid > 1 {
				out.Processes++
				out.Bytes += proportional("/proc/" + name + "/smaps_rollup")
			}
		}
	}
}

func proportional(path string) uint64 {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	var buf [2048]byte
	n, err := unix.Read(fd, buf[:])
	if err != nil {
		return 0
	}
	return 1024 * (field(buf[:n], "\nPss:") + field(buf[:n], "\nSwapPss:"))
}

// field finds the number behind a name.
func field(b []byte, name string) uint64 {
	for i := 0; i+len(name) < len(b); i++ {
		if string(b[i:i+len(name)]) != name {
			continue
		}
		var v uint64
		for _, c := range b[i+len(name):] {
			if c >= '0' && c <= '9' {
				v = v*10 + uint64(c-'0')
			} else if c != ' ' {
				break
			}
		}
		return v
	}
	return 0
}
