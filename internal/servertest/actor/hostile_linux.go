package main

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// escapes tries what a sandbox must refuse and tells how each attempt ended:
// "allowed", or the error.
func escapes() map[string]string {
	out := map[string]string{}
	try := func(name string, err error) {
		out[name] = "allowed"
		if err != nil {
			out[name] = err.Error()
		}
	}
	sockets := map[string][3]int{
		"socket vsock": {unix.AF_VSOCK, unix.SOCK_STREAM, 0}, "socket packet": {unix.AF_PACKET, unix.SOCK_RAW, 0},
		"socket raw": {unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP}, "socket raw6": {unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6},
		"socket netlink audit": {unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT}, "socket alg": {unix.AF_ALG, unix.SOCK_SEQPACKET, 0},
		"socket bluetooth": {unix.AF_BLUETOOTH, unix.SOCK_RAW, 0}, "socket key": {unix.AF_KEY, unix.SOCK_RAW, 2},
	}
	for name, s := range sockets {
		fd, err := unix.Socket(s[0], s[1], s[2])
		try(name, err)
		if err == nil {
			unix.Close(fd)
		}
	}
	try("mount", unix.Mount("tmpfs", "/tmp", "tmpfs", 0, ""))
	try("remount /", unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND, ""))
	try("umount /var/task", unix.Unmount("/var/task", unix.MNT_DETACH))
	try("pivot_root", unix.PivotRoot("/tmp", "/tmp"))
	try("chroot", unix.Chroot("/tmp"))
	for name, flags := range map[string]int{"user": unix.CLONE_NEWUSER, "mount": unix.CLONE_NEWNS, "net": unix.CLONE_NEWNET, "time": unix.CLONE_NEWTIME} {
		try("unshare "+name, unix.Unshare(flags))
		try("clone "+name, cloneInto(flags))
	}
	try("ptrace init", unix.PtraceAttach(1))
	try("signal init", unix.Kill(1, unix.SIGKILL))
	try("setuid 0", unix.Setuid(0))
	try("setresgid 0", unix.Setresgid(0, 0, 0))
	try("setgroups", unix.Setgroups([]int{0}))
	try("sethostname", unix.Sethostname([]byte("owned")))
	try("mknod", unix.Mknod("/tmp/device", unix.S_IFBLK|0o666, int(unix.Mkdev(254, 0))))
	try("set clock", unix.Settimeofday(&unix.Timeval{Sec: 1}))
	try("reboot", unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF))
	try("nice", unix.Setpriority(unix.PRIO_PROCESS, 0, -5))
	try("rlimit", unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 4096, Max: 4096}))
	for name, nr := range map[string]uintptr{
		"bpf": unix.SYS_BPF, "io_uring": unix.SYS_IO_URING_SETUP, "userfaultfd": unix.SYS_USERFAULTFD, "perf": unix.SYS_PERF_EVENT_OPEN,
		"keyctl": unix.SYS_KEYCTL, "fsopen": unix.SYS_FSOPEN, "open_tree": unix.SYS_OPEN_TREE, "setns": unix.SYS_SETNS,
		"open_by_handle_at": unix.SYS_OPEN_BY_HANDLE_AT, "process_vm_readv": unix.SYS_PROCESS_VM_READV, "syslog": unix.SYS_SYSLOG,
		"init_module": unix.SYS_INIT_MODULE, "kexec": unix.SYS_KEXEC_LOAD, "swapon": unix.SYS_SWAPON, "clone3": unix.SYS_CLONE3,
		"pidfd_getfd": unix.SYS_PIDFD_GETFD,
	} {
		// A call that the filter lets through fails on these arguments with
		// something else than what the filter says.
		_, _, errno := unix.Syscall6(nr, 0, 0, 0, 0, 0, 0)
		if errno == 0 {
			try(name, nil)
		} else {
			try(name, errno)
		}
	}
	for _, path := range []string{"/proc/1/environ", "/proc/1/mem", "/proc/1/root", "/proc/1/fd", "/proc/kcore", "/proc/keys",
		"/proc/sysrq-trigger", "/dev/vda", "/dev/mem", "/dev/kmsg", "/dev/net/tun", "/dev/kvm", "/dev/fuse", "/dev/vsock", "/dev/shm/x",
		"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/vm/drop_caches", "/proc/self/oom_score_adj", "/proc/1/oom_score_adj"} {
		try("open "+path, openHard(path))
	}
	return out
}

// openHard opens for reading unless the path is one whose danger is writing.
func openHard(path string) error {
	flags := unix.O_RDONLY
	switch {
	case strings.HasPrefix(path, "/proc/sys"), path == "/proc/sysrq-trigger", path == "/proc/1/oom_score_adj":
		flags = unix.O_WRONLY
	case path == "/dev/shm/x":
		flags = unix.O_WRONLY | unix.O_CREAT
	case path == "/proc/self/oom_score_adj": // may be raised by anybody
		return os.WriteFile(path, []byte("-1000"), 0)
	}
	fd, err := unix.Open(path, flags, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if path == "/proc/kcore" || path == "/proc/keys" { // hidden: there, but empty
		n, err := unix.Read(fd, make([]byte, 1))
		if err == nil && n == 0 {
			return unix.ENODATA
		}
	}
	return nil
}

func cloneInto(flags int) error {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "ACTOR_CHILD=none")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: uintptr(flags)}
	return cmd.Run()
}

// survey is what a function sees of the file system: for every directory that
// should be empty or small its content, where it could write, and its mounts.
func survey() map[string]any {
	writable := []string{}
	err := filepath.WalkDir("/", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil
		}
		switch {
		case path == "/proc", path == "/tmp", path == "/dev/pts":
			return fs.SkipDir
		case strings.Count(path, "/") > 5:
			return fs.SkipDir
		}
		probe := filepath.Join(path, "firn-probe")
		if f, err := os.OpenFile(probe, os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
			f.Close()
			os.Remove(probe)
			writable = append(writable, path)
		}
		return nil
	})
	trees := map[string][]string{}
	for _, dir := range []string{"/home", "/root", "/var", "/etc", "/run", "/sys", "/mnt", "/srv", "/media", "/boot", "/work", "/lost+found", "/opt", "/var/task", "/dev", "/tmp"} {
		trees[dir] = walk(dir)
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	status, _ := os.ReadFile("/proc/self/status")
	cgroup, _ := os.ReadFile("/proc/self/cgroup")
	return map[string]any{
		"root": list("/"), "trees": trees, "writable": writable, "walk": text(err),
		"mountinfo": string(mounts), "status": string(status), "cgroup": string(cgroup),
		"sysvipc": list("/proc/sysvipc"), "unix": unixSockets(),
	}
}

// walk lists a tree without the certificates, which are many.
func walk(dir string) []string {
	out := []string{}
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return nil
		}
		out = append(out, path)
		if d.IsDir() && (strings.HasPrefix(path, "/etc/ssl/certs") || strings.HasPrefix(path, "/etc/alternatives") || strings.HasPrefix(path, "/etc/pki")) {
			return fs.SkipDir
		}
		return nil
	})
	return out
}

func unixSockets() []string {
	raw, _ := os.ReadFile("/proc/net/unix")
	var out []string
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) == 8 {
			out = append(out, f[7])
		}
	}
	return out
}

// connects dials each of a comma-separated list of network|address at once.
func connects(arg string) map[string]string {
	var mu sync.Mutex
	out := map[string]string{}
	var wait sync.WaitGroup
	for target := range strings.SplitSeq(arg, ",") {
		wait.Go(func() {
			network, address, _ := strings.Cut(target, "|")
			result := "connected"
			conn, err := net.DialTimeout(network, address, 3*time.Second)
			if err != nil {
				result = err.Error()
			} else if network == "udp" {
				conn.SetDeadline(time.Now().Add(1500 * time.Millisecond))
				conn.Write([]byte("ping"))
				if _, err := conn.Read(make([]byte, 64)); err != nil {
					result = "no answer"
				}
			} else {
				conn.SetReadDeadline(time.Now().Add(1500 * time.Millisecond))
				buf := make([]byte, 64)
				n, _ := conn.Read(buf)
				result += " " + string(buf[:n])
			}
			if conn != nil {
				conn.Close()
			}
			mu.Lock()
			out[target] = strings.TrimSpace(result)
			mu.Unlock()
		})
	}
	wait.Wait()
	return out
}

// leak takes memory slowly: n steps of 256 KB, a millisecond apart.
func leak(n int) {
	var held [][]byte
	for range n {
		block, err := unix.Mmap(-1, 0, 256<<10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		if err != nil {
			fmt.Println("mmap:", err)
			return
		}
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		held = append(held, block)
		time.Sleep(time.Millisecond) // archtest:sleep the leak is to be slow
	}
	fmt.Println("leaked", len(held), "blocks")
}

// bomb forks without end: every child does the same. It returns when a fork
// is refused.
func bomb() map[string]any {
	started := 0
	for {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{"ACTOR_CHILD=bomb"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			return map[string]any{"started": started, "refused": err.Error()}
		}
		started++
	}
}

// setID runs a program and returns which user it was: a set-user-id program
// must not become another.
func setID(path string) map[string]any {
	info, err := os.Stat(path)
	if err != nil {
		return map[string]any{"err": err.Error()}
	}
	cmd := exec.Command(path)
	cmd.Env = []string{"ACTOR_CHILD=ids"}
	raw, err := cmd.CombinedOutput()
	return map[string]any{"mode": info.Mode().String(), "ids": strings.TrimSpace(string(raw)), "err": text(err)}
}

// shared tries System V shared memory, which a sandbox has to itself.
func shared() string {
	id, _, errno := unix.Syscall(unix.SYS_SHMGET, 0x6669726e, 4096, unix.IPC_CREAT|0o666)
	if errno != 0 {
		return errno.Error()
	}
	addr, _, errno := unix.Syscall(unix.SYS_SHMAT, id, 0, 0)
	if errno != 0 {
		return errno.Error()
	}
	p := (*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&addr)))
	before := *p
	*p = 7
	return fmt.Sprint(before)
}
