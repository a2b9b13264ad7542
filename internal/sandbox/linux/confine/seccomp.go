//go:build linux

package confine

import (
	"cmp"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The filter lets everything pass but what is listed: Lambda documents no
// list of allowed calls, and functions bring runtimes of every age. What is
// listed reaches parts of the kernel that no function needs and that have had
// privilege escalations, or reach out of the sandbox.
//
// A refused call fails with EPERM, as for any unprivileged caller; clone3 and
// the x32 calls say ENOSYS, so that C libraries fall back; an address family
// says EAFNOSUPPORT. A call of another architecture kills the process.

// Offsets in struct seccomp_data (both architectures are little endian).
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
)

// namespaceFlags are clone and unshare's flags that make namespaces.
const namespaceFlags = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// Calls newer than the numbers in x/sys/unix, the same on all architectures.
const (
	sysStatmount    = 457
	sysListmount    = 458
	sysOpenTreeAttr = 467
	sysListns       = 470
)

// deniedEverywhere are refused with EPERM on all architectures; deniedHere
// (by architecture) are those that only some have.
func deniedEverywhere() []uint32 {
	return []uint32{
		// File systems and namespaces.
		unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT,
		unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR, sysOpenTreeAttr,
		sysStatmount, sysListmount, sysListns, unix.SYS_SETNS, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
		unix.SYS_NAME_TO_HANDLE_AT, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_FANOTIFY_INIT, unix.SYS_FANOTIFY_MARK,
		unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT,
		// Other processes.
		unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PROCESS_MADVISE, unix.SYS_KCMP,
		unix.SYS_PIDFD_GETFD, unix.SYS_MOVE_PAGES, unix.SYS_MIGRATE_PAGES,
		// Large and young, or old and forgotten, parts of the kernel.
		unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
		unix.SYS_USERFAULTFD, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL, unix.SYS_MEMFD_SECRET,
		unix.SYS_LOOKUP_DCOOKIE, unix.SYS_VHANGUP, unix.SYS_NFSSERVCTL, unix.SYS_REMAP_FILE_PAGES,
		// The machine.
		unix.SYS_KEXEC_LOAD, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_REBOOT,
		unix.SYS_SYSLOG, unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX,
		unix.SYS_KEXEC_FILE_LOAD,
	}
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

// jump is a conditional: jt instructions are left out when it holds, else jf.
func jump(op uint16, k uint32, jt, jf uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, Jt: jt, Jf: jf, K: k}
}

func answer(action uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
}

func refuse(errno unix.Errno) unix.SockFilter {
	return answer(unix.SECCOMP_RET_ERRNO | uint32(errno))
}

// Filter assembles the program. Exported for the tests that read it.
//
// It looks a call up as in a sorted list. The kernel runs a filter for every
// number there is when it is installed, to learn which calls always pass, and
// that was most of what confining a sandbox cost when the calls were compared
// one after the other.
func Filter() []unix.SockFilter {
	p := []unix.SockFilter{
		load(offArch),
		jump(unix.BPF_JEQ, auditArch, 1, 0),
		answer(unix.SECCOMP_RET_KILL_PROCESS),
		load(offNumber),
	}
	if firstForeign != 0 { // amd64: x32 shares the architecture's name
		p = append(p, jump(unix.BPF_JGE, firstForeign, 0, 1), refuse(unix.ENOSYS))
	}
	return append(p, search(spans())...)
}

// span is what is done with the calls from number from up to the next span.
type span struct {
	from uint32
	body []unix.SockFilter // with the number in the accumulator; answers always
}

// spans are what is done with every call, in the order of their numbers.
func spans() []span {
	allow, deny := []unix.SockFilter{answer(unix.SECCOMP_RET_ALLOW)}, []unix.SockFilter{refuse(unix.EPERM)}
	special := []span{
		{unix.SYS_CLONE, flagCheck(namespaceFlags)},
		{unix.SYS_UNSHARE, flagCheck(namespaceFlags | unix.CLONE_NEWTIME)},
		{unix.SYS_SOCKET, socketCheck()},
		{unix.SYS_SOCKETPAIR, socketCheck()},
		{unix.SYS_CLONE3, []unix.SockFilter{refuse(unix.ENOSYS)}},
	}
	for _, nr := range append(deniedEverywhere(), deniedHere()...) {
		special = append(special, span{nr, deny})
	}
	slices.SortFunc(special, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	list := []span{{0, allow}}
	for i, s := range special {
		if last := len(list) - 1; list[last].from == s.from {
			list = list[:last] // no call lies between this one and the one before
		}
		if last := len(list) - 1; last < 0 || !slices.Equal(list[last].body, s.body) {
			list = append(list, s)
		}
		if i+1 == len(special) || special[i+1].from != s.from {
			list = append(list, span{s.from + 1, allow})
		}
	}
	return list
}

// search finds the span of the number in the accumulator by halves.
func search(list []span) []unix.SockFilter {
	if len(list) == 1 {
		return list[0].body
	}
	middle := len(list) / 2
	below, above := search(list[:middle]), search(list[middle:])
	return slices.Concat([]unix.SockFilter{jump(unix.BPF_JGE, list[middle].from, uint8(len(below)), 0)}, below, above)
}

// flagCheck refuses a call when its first argument has any of the flags.
func flagCheck(flags uint32) []unix.SockFilter {
	return []unix.SockFilter{
		load(offArgs),
		jump(unix.BPF_JSET, flags, 0, 1),
		refuse(unix.EPERM),
		answer(unix.SECCOMP_RET_ALLOW),
	}
}

// socketCheck lets sockets be made of the families that functions use: Unix,
// IPv4, IPv6, and netlink for reading routes and addresses. AF_VSOCK is
// refused above all, because it knows no namespaces and reaches the host.
func socketCheck() []unix.SockFilter {
	return []unix.SockFilter{
		load(offArgs),
		jump(unix.BPF_JEQ, unix.AF_UNIX, 6, 0),
		jump(unix.BPF_JEQ, unix.AF_INET, 5, 0),
		jump(unix.BPF_JEQ, unix.AF_INET6, 4, 0),
		jump(unix.BPF_JEQ, unix.AF_NETLINK, 0, 2),
		load(offArgs + 16),
		jump(unix.BPF_JEQ, unix.NETLINK_ROUTE, 1, 0),
		refuse(unix.EAFNOSUPPORT),
		answer(unix.SECCOMP_RET_ALLOW),
	}
}

// Program is an assembled filter, as the kernel takes it.
type Program string

// Assemble returns the filter. To do so takes a young Go heap as long as the
// kernel takes to install it, so that firn does it once for all.
func Assemble() Program {
	p := Filter()
	return Program(unsafe.Slice((*byte)(unsafe.Pointer(&p[0])), len(p)*instruction))
}

const instruction = int(unsafe.Sizeof(unix.SockFilter{}))

func installFilter(p Program) error {
	if p == "" {
		p = Assemble()
	}
	// The kernel copies the instructions, whatever their alignment.
	prog := unix.SockFprog{Len: uint16(len(p) / instruction), Filter: (*unix.SockFilter)(unsafe.Pointer(unsafe.StringData(string(p))))}
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog)))
	return failed("install the system call filter", errno)
}
