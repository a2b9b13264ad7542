//go:build linux

package linux

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// insideVariable makes the test binary a hostile function: it tries what is
// forbidden and prints a finding for each attempt. Its value is an address
// that the host listens on.
const insideVariable = "FIRN_TEST_INSIDE"

// findings maps attempts to what came of them: "" for success, or the error.
type findings map[string]string

func inside() int {
	f := findings{}
	f.calls()
	f.sockets()
	f.files()
	f.network(os.Getenv(insideVariable))
	f.processes()
	if err := json.NewEncoder(os.Stdout).Encode(f); err != nil {
		return 1
	}
	return 0
}

func (f findings) note(name string, err error) {
	var errno syscall.Errno
	switch {
	case err == nil:
		f[name] = ""
	case errors.As(err, &errno):
		f[name] = unix.ErrnoName(errno)
	default:
		f[name] = err.Error()
	}
}

func (f findings) call(name string, nr uintptr, args ...uintptr) {
	var a [6]uintptr
	copy(a[:], args)
	_, _, errno := syscall.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
	if errno == 0 {
		f.note(name, nil)
	} else {
		f.note(name, errno)
	}
}

func (f findings) calls() {
	slash := uintptr(unsafe.Pointer(&[]byte("/\x00")[0]))
	room := make([]byte, 256)
	buf := uintptr(unsafe.Pointer(&room[0]))
	f.call("mount", unix.SYS_MOUNT, slash, slash, 0, unix.MS_BIND)
	f.call("umount", unix.SYS_UMOUNT2, slash, unix.MNT_DETACH)
	f.call("pivot_root", unix.SYS_PIVOT_ROOT, slash, slash)
	f.call("chroot", unix.SYS_CHROOT, slash)
	f.call("fsopen", unix.SYS_FSOPEN, slash)
	f.call("open_tree", unix.SYS_OPEN_TREE, 0, slash, unix.OPEN_TREE_CLONE)
	f.call("mount_setattr", unix.SYS_MOUNT_SETATTR, 0, slash, 0, buf, 32)
	f.call("unshare user", unix.SYS_UNSHARE, unix.CLONE_NEWUSER)
	f.call("unshare net", unix.SYS_UNSHARE, unix.CLONE_NEWNET)
	f.call("unshare nothing", unix.SYS_UNSHARE, 0)
	f.call("clone user", unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD))
	f.call("clone3", unix.SYS_CLONE3, buf, 88)
	f.call("setns", unix.SYS_SETNS, 0, 0)
	f.call("ptrace", unix.SYS_PTRACE, unix.PTRACE_ATTACH, 1)
	f.call("process_vm_readv", unix.SYS_PROCESS_VM_READV, 1)
	f.call("bpf", unix.SYS_BPF, 0, buf, 64)
	f.call("io_uring", unix.SYS_IO_URING_SETUP, 1, buf)
	f.call("userfaultfd", unix.SYS_USERFAULTFD, 1)
	f.call("perf_event_open", unix.SYS_PERF_EVENT_OPEN, buf, 0, ^uintptr(0), ^uintptr(0))
	f.call("keyctl", unix.SYS_KEYCTL, 0, ^uintptr(2))
	f.call("add_key", unix.SYS_ADD_KEY, slash, slash, buf, 1)
	f.call("kexec", unix.SYS_KEXEC_LOAD)
	f.call("module", unix.SYS_INIT_MODULE, buf, 1, slash)
	f.call("reboot", unix.SYS_REBOOT)
	f.call("open_by_handle", unix.SYS_OPEN_BY_HANDLE_AT, 0, buf)
	f.call("name_to_handle", unix.SYS_NAME_TO_HANDLE_AT, 0, slash, buf, buf, 0)
	f.call("sethostname", unix.SYS_SETHOSTNAME, slash, 1)
	f.call("settimeofday", unix.SYS_SETTIMEOFDAY)
	f.call("setuid 0", unix.SYS_SETUID, 0)
	f.call("setgroups", unix.SYS_SETGROUPS, 0, 0)
	f.call("mknod", unix.SYS_MKNODAT, ^uintptr(99), slash, unix.S_IFBLK, 0)
	f.call("rlimit up", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, uintptr(unsafe.Pointer(&unix.Rlimit{Cur: 1 << 20, Max: 1 << 20})))
	for name, sig := range map[string]uintptr{"kill init": 9, "stop init": 19, "terminate init": 15, "fault init": 11} {
		f.call(name, unix.SYS_KILL, 1, sig) // allowed or not: what counts is that init lives
		delete(f, name)
	}
	for tid := uintptr(2); tid < uintptr(os.Getpid()); tid++ { // init's other threads
		_, _, _ = syscall.RawSyscall(unix.SYS_TKILL, tid, 9, 0)
	}
}

func (f findings) sockets() {
	for name, s := range map[string][3]int{
		"vsock": {unix.AF_VSOCK, unix.SOCK_STREAM, 0}, "packet": {unix.AF_PACKET, unix.SOCK_RAW, 0},
		"raw": {unix.AF_INET, unix.SOCK_RAW, 1}, "alg": {unix.AF_ALG, unix.SOCK_SEQPACKET, 0},
		"netlink audit": {unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT},
		"netlink route": {unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE},
		"tipc":          {unix.AF_TIPC, unix.SOCK_STREAM, 0}, "unix": {unix.AF_UNIX, unix.SOCK_STREAM, 0},
		"inet": {unix.AF_INET, unix.SOCK_STREAM, 0}, "inet6": {unix.AF_INET6, unix.SOCK_DGRAM, 0},
	} {
		_, err := unix.Socket(s[0], s[1], s[2])
		f.note("socket "+name, err)
	}
}

func (f findings) files() {
	for _, dir := range []string{
		"/", "/var/task", "/opt", "/usr", "/usr/bin", "/etc", "/var", "/var/tmp", "/var/runtime", "/root", "/home", "/run",
		"/dev", "/dev/pts", "/mnt", "/sys", "/proc", "/tmp",
	} {
		file := filepath.Join(dir, "firn-was-here")
		f.note("write "+dir, os.WriteFile(file, nil, 0o644))
		_ = os.Remove(file)
	}
	for _, file := range []string{
		"/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/net/ipv4/ip_forward", "/proc/1/mem", "/etc/hosts",
	} {
		h, err := os.OpenFile(file, os.O_WRONLY, 0)
		f.note("open "+file, err)
		_ = h.Close()
	}
	for _, file := range []string{"/proc/1/environ", "/proc/1/root", "/proc/1/fd", "/proc/1/maps"} {
		_, err := os.ReadDir(file)
		if !strings.HasSuffix(file, "fd") && !strings.HasSuffix(file, "root") {
			_, err = os.ReadFile(file)
		}
		f.note("read "+file, err)
	}
	for _, dir := range []string{"/root", "/home", "/run", "/mnt", "/sys", "/var/runtime", "/var/lang", "/opt", "/tmp"} {
		list, err := os.ReadDir(dir)
		if err == nil && len(list) > 0 {
			err = fmt.Errorf("has %s", list[0].Name())
		}
		f.note("empty "+dir, err)
	}
	f["root"] = names("/")
	f["etc"] = names("/etc")
	b, err := os.ReadFile("/proc/kcore")
	f.note("kcore", err)
	f["kcore bytes"] = strconv.Itoa(len(b))
	if b, err = os.ReadFile("/proc/self/status"); err == nil {
		for line := range strings.Lines(string(b)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
			f["status "+name] = strings.Join(strings.Fields(value), " ")
		}
	}
}

func names(dir string) string {
	list, _ := os.ReadDir(dir)
	var out []string
	for _, e := range list {
		out = append(out, e.Name())
	}
	return strings.Join(out, " ")
}

func (f findings) network(host string) {
	interfaces, err := net.Interfaces()
	f.note("interfaces", err)
	var list []string
	for _, i := range interfaces {
		list = append(list, i.Name)
	}
	f["interfaces"] = strings.Join(list, " ")
	for name, addr := range map[string]string{
		"host": host, "metadata": "169.254.169.254:80", "sandbox": "sandbox:9001", "localdomain": "sandbox.localdomain:9001",
	} {
		c, err := net.DialTimeout("tcp4", addr, 3*time.Second)
		if err == nil {
			_ = c.Close()
		}
		f.note("dial "+name, err)
	}
	f["hostname"], _ = os.Hostname()
	f["environment"] = strings.Join(os.Environ(), " ")
}

func (f findings) processes() {
	var pids []string
	for _, name := range strings.Fields(names("/proc")) {
		if _, err := strconv.Atoi(name); err == nil {
			pids = append(pids, name)
		}
	}
	f["processes"] = strconv.Itoa(len(pids))
	b, _ := os.ReadFile("/proc/self/cgroup")
	f["cgroup"] = "own"
	for line := range strings.Lines(strings.TrimSpace(string(b))) {
		if parts := strings.SplitN(strings.TrimSpace(line), ":", 3); len(parts) != 3 || parts[2] != "/" {
			f["cgroup"] = line
		}
	}
}

// expected is what must come of the attempts. A "!" is any failure.
func expected(privileged, cgroups bool) map[string]string {
	want := map[string]string{
		"unshare nothing": "", "clone3": "ENOSYS",
		"socket vsock": "EAFNOSUPPORT", "socket packet": "EAFNOSUPPORT", "socket alg": "EAFNOSUPPORT", "socket tipc": "EAFNOSUPPORT",
		"socket netlink audit": "EAFNOSUPPORT", "socket raw": "EPERM",
		"socket netlink route": "", "socket unix": "", "socket inet": "", "socket inet6": "",
		"write /tmp": "", "kcore bytes": "0",
		"status Uid": "993 993 993 993", "status Gid": "990 990 990 990",
		"status CapInh": "0000000000000000", "status CapPrm": "0000000000000000", "status CapEff": "0000000000000000",
		"status CapBnd": "0000000000000000", "status CapAmb": "0000000000000000",
		"status NoNewPrivs": "1", "status Seccomp": "2", "status PPid": "1",
		"interfaces": "lo", "dial host": "!", "dial metadata": "!", "dial sandbox": "", "dial localdomain": "",
		"processes": "2", "cgroup": "own",
	}
	for _, name := range []string{
		"mount", "umount", "pivot_root", "chroot", "fsopen", "open_tree", "mount_setattr", "unshare user", "unshare net", "clone user",
		"setns", "ptrace", "process_vm_readv", "bpf", "io_uring", "userfaultfd", "perf_event_open", "keyctl", "add_key", "kexec", "module",
		"reboot", "open_by_handle", "name_to_handle", "sethostname", "settimeofday", "setuid 0", "setgroups", "rlimit up",
	} {
		want[name] = "EPERM"
	}
	if !privileged {
		want["setuid 0"] = "EINVAL" // there is no such user at all
	}
	for _, name := range []string{
		"mknod", "write /", "write /var/task", "write /opt", "write /usr", "write /usr/bin", "write /etc", "write /var", "write /var/tmp",
		"write /var/runtime", "write /root", "write /home", "write /run", "write /dev", "write /dev/pts", "write /mnt", "write /sys",
		"write /proc", "open /proc/sys/kernel/core_pattern", "open /proc/sysrq-trigger", "open /proc/sys/net/ipv4/ip_forward",
		"open /proc/1/mem", "open /etc/hosts", "read /proc/1/environ", "read /proc/1/root", "read /proc/1/fd", "read /proc/1/maps",
	} {
		want[name] = "!"
	}
	for _, dir := range []string{"/root", "/home", "/run", "/mnt", "/sys", "/var/runtime", "/var/lang", "/opt", "/tmp"} {
		want["empty "+dir] = ""
	}
	return want
}

// TestInside runs a hostile function and looks at what it achieved.
func TestInside(t *testing.T) {
	host, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	t.Setenv("FIRN_TEST_SECRET", "of the host")
	b := open(t, nil)
	s := create(t, b, nil)
	task := s.(*box).spec.TaskDir
	f := runInside(t, s, task, host.Addr().(*net.TCPAddr).Port)
	for name, want := range expected(b.privileged, b.cgroups != nil) {
		got, ok := f[name]
		if !ok || want == "!" && got == "" || want != "!" && got != want {
			t.Errorf("%s: got %q (%t), want %q", name, got, ok, want)
		}
	}
	if strings.Contains(f["environment"], "FIRN_TEST_SECRET") {
		t.Errorf("environment: %q", f["environment"])
	}
	if h, _ := os.Hostname(); f["hostname"] == h {
		t.Errorf("the host's name %q", h)
	}
	for _, name := range strings.Fields(f["etc"]) {
		switch name {
		case "alternatives", "ca-certificates", "crypto-policies", "group", "hosts", "ld.so.cache", "ld-musl-x86_64.path",
			"ld-musl-aarch64.path", "localtime", "nsswitch.conf", "os-release", "passwd", "pki", "resolv.conf", "ssl":
		default:
			t.Errorf("/etc has %s", name)
		}
	}
	// Init survived what was done to it.
	if out, exit := shell(t, s, "echo still"); out != "still\n" || exit.Code != 0 {
		t.Errorf("afterwards: %q, %+v", out, exit)
	}
}
