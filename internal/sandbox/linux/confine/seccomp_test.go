//go:build linux

package confine

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// call is what a filter sees of a system call.
type call struct {
	nr, arch uint32
	args     [6]uint32 // the lower halves
}

func (c call) word(t *testing.T, offset uint32) uint32 {
	t.Helper()
	switch {
	case offset == offNumber:
		return c.nr
	case offset == offArch:
		return c.arch
	case offset >= offArgs && offset < offArgs+48 && offset%8 == 0:
		return c.args[(offset-offArgs)/8]
	}
	t.Fatalf("load from %d", offset)
	return 0
}

// judge runs the filter as the kernel does and counts its steps.
func judge(t *testing.T, p []unix.SockFilter, c call) (action uint32, steps int) {
	t.Helper()
	var acc uint32
	for at := 0; at < len(p); at++ {
		steps++
		i := p[at]
		holds := false
		switch i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			acc = c.word(t, i.K)
			continue
		case unix.BPF_RET | unix.BPF_K:
			return i.K, steps
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			holds = acc == i.K
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			holds = acc >= i.K
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			holds = acc&i.K != 0
		default:
			t.Fatalf("instruction %#x", i.Code)
		}
		if holds {
			at += int(i.Jt)
		} else {
			at += int(i.Jf)
		}
	}
	t.Fatal("the filter ends without an answer")
	return 0, 0
}

const (
	allowed = unix.SECCOMP_RET_ALLOW
	denied  = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	unknown = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	family  = unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)
)

// Every number is judged as the lists say, and found in few steps.
func TestFilterFindsEveryCall(t *testing.T) {
	p := Filter()
	refused := append(deniedEverywhere(), deniedHere()...)
	for nr := range uint32(1024) {
		want := uint32(allowed)
		switch {
		case slices.Contains(refused, nr):
			want = denied
		case nr == unix.SYS_CLONE3:
			want = unknown
		case nr == unix.SYS_SOCKET || nr == unix.SYS_SOCKETPAIR:
			want = family // of AF_UNSPEC
		}
		got, steps := judge(t, p, call{nr: nr, arch: auditArch})
		if got != want {
			t.Errorf("call %d: %#x, want %#x", nr, got, want)
		}
		if steps > 22 {
			t.Errorf("call %d: %d steps", nr, steps)
		}
	}
}

func TestFilterLooksAtArguments(t *testing.T) {
	p := Filter()
	for _, c := range []struct {
		call call
		want uint32
	}{
		{call{nr: unix.SYS_CLONE, args: [6]uint32{unix.CLONE_VM | unix.CLONE_THREAD}}, allowed},
		{call{nr: unix.SYS_CLONE, args: [6]uint32{unix.CLONE_VM | unix.CLONE_NEWUSER}}, denied},
		{call{nr: unix.SYS_UNSHARE, args: [6]uint32{unix.CLONE_FILES}}, allowed},
		{call{nr: unix.SYS_UNSHARE, args: [6]uint32{unix.CLONE_NEWTIME}}, denied},
		{call{nr: unix.SYS_UNSHARE, args: [6]uint32{unix.CLONE_NEWNET}}, denied},
		{call{nr: unix.SYS_SOCKET, args: [6]uint32{unix.AF_UNIX}}, allowed},
		{call{nr: unix.SYS_SOCKET, args: [6]uint32{unix.AF_INET}}, allowed},
		{call{nr: unix.SYS_SOCKET, args: [6]uint32{unix.AF_INET6}}, allowed},
		{call{nr: unix.SYS_SOCKET, args: [6]uint32{unix.AF_VSOCK}}, family},
		{call{nr: unix.SYS_SOCKET, args: [6]uint32{unix.AF_NETLINK, 0, unix.NETLINK_ROUTE}}, allowed},
		{call{nr: unix.SYS_SOCKET, args: [6]uint32{unix.AF_NETLINK, 0, unix.NETLINK_AUDIT}}, family},
		{call{nr: unix.SYS_SOCKETPAIR, args: [6]uint32{unix.AF_UNIX}}, allowed},
		{call{nr: unix.SYS_SOCKETPAIR, args: [6]uint32{unix.AF_PACKET}}, family},
		{call{nr: 1<<32 - 1}, map[bool]uint32{true: unknown, false: allowed}[firstForeign != 0]},
	} {
		c.call.arch = auditArch
		if got, _ := judge(t, p, c.call); got != c.want {
			t.Errorf("%+v: %#x, want %#x", c.call, got, c.want)
		}
	}
	if got, _ := judge(t, p, call{nr: unix.SYS_GETPID, arch: auditArch + 1}); got != unix.SECCOMP_RET_KILL_PROCESS {
		t.Errorf("foreign architecture: %#x", got)
	}
	if firstForeign != 0 {
		if got, _ := judge(t, p, call{nr: firstForeign, arch: auditArch}); got != unknown {
			t.Errorf("x32: %#x", got)
		}
	}
}

// No jump is longer than its byte.
func TestFilterFitsItsJumps(t *testing.T) {
	if n := len(Filter()); n > 255 {
		t.Errorf("%d instructions: a jump may be cut off", n)
	}
}
