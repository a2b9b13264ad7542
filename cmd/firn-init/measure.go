//go:build linux

package main

import (
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/sandbox/linux/initproto"
)

// measure sums what the function's processes use, for hosts without cgroups.
// Proportional sizes, because a runtime that forks shares most of its pages.
// What cannot be read (a process that just ended) counts 0.
func measure() *initproto.Measured {
	out := &initproto.Measured{CPUTime: reapedTime()}
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
				out.CPUTime += ticksUsed("/proc/"+name+"/stat") * microsPerTick
			}
		}
	}
}

// microsPerTick is the unit of times in /proc, USER_HZ, which is 100 on every
// architecture of interest.
const microsPerTick = 10_000

// reapedTime is the processor time of the processes that init has collected,
// and of those that they had.
func reapedTime() uint64 {
	var ru unix.Rusage
	if unix.Getrusage(unix.RUSAGE_CHILDREN, &ru) != nil {
		return 0
	}
	return uint64(ru.Utime.Nano()+ru.Stime.Nano()) / 1000
}

// ticksUsed reads the times of a process and its collected children: fields
// 14 to 17, counted behind the name, which may contain anything.
func ticksUsed(path string) uint64 {
	b := readSome(path)
	at := len(b) - 1
	for at >= 0 && b[at] != ')' {
		at--
	}
	var sum uint64
	number, value := 2, uint64(0)
	for _, c := range b[at+1:] {
		switch {
		case c == ' ':
			if number >= 14 && number <= 17 {
				sum += value
			}
			number, value = number+1, 0
		case c >= '0' && c <= '9':
			value = value*10 + uint64(c-'0')
		}
	}
	return sum
}

func proportional(path string) uint64 {
	b := readSome(path)
	return 1024 * (field(b, "\nPss:") + field(b, "\nSwapPss:"))
}

// readSome reads a file that fits the buffer.
func readSome(path string) []byte {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	buf := make([]byte, 2048)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return nil
	}
	return buf[:n]
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
