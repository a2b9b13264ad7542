//go:build linux

package cgroup

import (
	"errors"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// killMembers sends SIGKILL to every process directly in dir except those for
// which spare is true (nil: none), and this process. It returns whom it
// killed once it has seen every member marked: a process with a pending
// SIGKILL cannot fork, so a look that finds no new member ends the hunt. A
// fork bomb may outrun it; complete is false then.
func killMembers(dir string, spare func(pid int) bool) (killed []int, complete bool) {
	marked := map[int]bool{}
	for range 64 {
		fresh := slices.DeleteFunc(readPids(dir), func(p int) bool {
			return p <= 0 || marked[p] || p == os.Getpid() || (spare != nil && spare(p))
		})
		if len(fresh) == 0 {
			return killed, true
		}
		done, sent := signalMembers(dir, fresh)
		for _, p := range done {
			marked[p] = true
		}
		killed = append(killed, sent...)
	}
	return killed, false
}

// signalMembers kills those of pids that are in dir. Each is pinned by a
// descriptor before its membership is read again, so that a number that was
// given to a stranger in between is never signalled. It returns the numbers
// that need no second look, and those that were sent the signal.
func signalMembers(dir string, pids []int) (done, sent []int) {
	fds := make(map[int]int, len(pids))
	for _, p := range pids {
		fd, err := unix.PidfdOpen(p, 0)
		switch {
		case err == nil:
			fds[p] = fd
		case errors.Is(err, unix.ESRCH):
			done = append(done, p)
		case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
			// Linux before 5.3, or no descriptor left: by number, at once.
			if unix.Kill(p, unix.SIGKILL) == nil {
				sent = append(sent, p)
			}
			done = append(done, p)
		}
	}
	still := readPids(dir)
	for p, fd := range fds {
		err := unix.ESRCH
		if slices.Contains(still, p) {
			err = errno(unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0))
		}
		if err == 0 {
			sent = append(sent, p)
		}
		if err == 0 || err == unix.ESRCH {
			done = append(done, p)
		}
		_ = unix.Close(fd)
	}
	return done, sent
}

// errno is err as the system's number; 0 means none.
func errno(err error) unix.Errno {
	var e unix.Errno
	if err != nil && !errors.As(err, &e) {
		return unix.EIO
	}
	return e
}
