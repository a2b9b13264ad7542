//go:build linux

package main

import (
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/sandbox/linux/initproto"
)

// Into a new user namespace Go's fork copies the address space, which takes the
// kernel longer than it takes to make all namespaces but that of the network.
// Here the child shares it until it executes init, and makes nothing but system
// calls that were written down before.

// forksInit says that forkInit is written for this architecture.
const forksInit = true

// cloneArgs is struct clone_args, without what is not used.
type cloneArgs struct {
	flags, pidfd uint64
	_            [2]uint64
	exitSignal   uint64
	_            [5]uint64
	cgroup       uint64
}

// systemCall is one for the child to make. The result is its own.
type systemCall struct {
	number uintptr
	args   [6]uintptr
	result int
}

// cloneAndRun returns the number of the child, or a negated error number. That
// it is not said to keep its arguments from escaping puts birth on the heap.
func cloneAndRun(args *cloneArgs, list *systemCall) int

// birth is what parent and child share. It lies on the heap, where nothing
// moves, until the child has left this address space.
type birth struct {
	args        cloneArgs
	calls       [16]systemCall
	n           int
	pidfd       int32
	word        [1]byte
	all, before uint64 // signal masks
	path        *byte
	argv, envv  []*byte
	ready, gone [2]int // pipes: the maps are written; the child has gone its way
}

func (b *birth) then(number uintptr, args ...uintptr) {
	copy(b.calls[b.n].args[:], args)
	b.calls[b.n].number = number
	b.n++
}

// forkInit is what syscall.ForkExec would do for a spawner that has all rights.
func forkInit(m *initproto.Spawn, null int, fds []int) (pid, pidfd int, err error) {
	b := new(birth)
	if b.path, err = syscall.BytePtrFromString("/proc/self/exe"); err == nil {
		if b.argv, err = syscall.SlicePtrFromStrings([]string{"init"}); err == nil {
			b.envv, err = syscall.SlicePtrFromStrings(initEnvironment())
		}
	}
	if err != nil {
		return 0, 0, err
	}
	if err := unix.Pipe2(b.ready[:], unix.O_CLOEXEC); err != nil {
		return 0, 0, err
	}
	defer closeAll(b.ready[:1])
	if err := unix.Pipe2(b.gone[:], unix.O_CLOEXEC); err != nil {
		closeAll(b.ready[1:])
		return 0, 0, err
	}
	defer closeAll(b.gone[:1])
	b.write(null, fds[0])
	b.args = cloneArgs{
		flags: unix.CLONE_VM | unix.CLONE_PIDFD | unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID |
			unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		pidfd:      uint64(uintptr(unsafe.Pointer(&b.pidfd))),
		exitSignal: uint64(unix.SIGCHLD),
	}
	if m.InCgroup {
		b.args.flags |= unix.CLONE_INTO_CGROUP
		b.args.cgroup = uint64(fds[1])
	}
	return b.give(m)
}

// write writes down what the child does: it takes the user ids that it gets
// meanwhile, asks to die with the spawner, and executes init.
func (b *birth) write(null, control int) {
	b.all = ^uint64(0)
	b.then(unix.SYS_CLOSE, uintptr(b.ready[1]))
	b.then(unix.SYS_SETSID)
	b.then(unix.SYS_READ, uintptr(b.ready[0]), uintptr(unsafe.Pointer(&b.word[0])), 1)
	b.then(unix.SYS_SETGROUPS, 0, 0)
	b.then(unix.SYS_SETGID, 0)
	b.then(unix.SYS_SETUID, 0)
	b.then(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL))
	b.then(unix.SYS_DUP3, uintptr(null), 0, 0)
	b.then(unix.SYS_DUP3, uintptr(null), 1, 0)
	b.then(unix.SYS_DUP3, uintptr(control), controlFD, 0)
	b.then(unix.SYS_RT_SIGPROCMASK, sigSetMask, uintptr(unsafe.Pointer(&b.before)), 0, 8)
	b.then(unix.SYS_EXECVE, uintptr(unsafe.Pointer(b.path)), uintptr(unsafe.Pointer(&b.argv[0])), uintptr(unsafe.Pointer(&b.envv[0])))
}

// sigSetMask is SIG_SETMASK.
const sigSetMask = 2

// give makes the child, maps its ids, and waits until it has gone its way.
func (b *birth) give(m *initproto.Spawn) (pid, pidfd int, err error) {
	defer runtime.KeepAlive(b)
	// The Go runtime's handlers must not run in the child.
	_, _, _ = syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, sigSetMask,
		uintptr(unsafe.Pointer(&b.all)), uintptr(unsafe.Pointer(&b.before)), 8, 0, 0)
	pid = cloneAndRun(&b.args, &b.calls[0])
	_, _, _ = syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, sigSetMask, uintptr(unsafe.Pointer(&b.before)), 0, 8, 0, 0)
	if pid < 0 {
		closeAll([]int{b.ready[1], b.gone[1]})
		return 0, 0, unix.Errno(-pid)
	}
	pidfd = int(b.pidfd)
	err = writeMaps(pid, m)
	if err == nil {
		_, err = unix.Write(b.ready[1], b.word[:])
	}
	if err != nil {
		_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
	}
	closeAll([]int{b.ready[1], b.gone[1]})
	for { // ends by the child's exec, or by its end
		if _, wait := unix.Read(b.gone[0], b.word[:]); wait != unix.EINTR {
			break
		}
	}
	for _, c := range b.calls[:b.n] {
		if err == nil && c.result < 0 {
			err = unix.Errno(-c.result)
		}
	}
	if err != nil {
		_ = unix.Close(pidfd)
		return 0, 0, err
	}
	return pid, pidfd, nil
}

func writeMaps(pid int, m *initproto.Spawn) error {
	dir := procDir + "/" + strconv.Itoa(pid)
	if err := writeMap(dir+"/uid_map", m.UIDs); err != nil {
		return err
	}
	return writeMap(dir+"/gid_map", m.GIDs)
}

func writeMap(path string, list []initproto.IDMap) error {
	var text []byte
	for _, l := range list {
		for i, n := range []uint32{l.Inside, l.Outside, l.Count} {
			text = append(strconv.AppendUint(text, uint64(n), 10), "  \n"[i])
		}
	}
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_, err = unix.Write(fd, text)
	_ = unix.Close(fd)
	return err
}
