package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/firn-run/firn/internal/require"
)

// What a function on the linux sandbox sees and can do, asked from inside.

// needLinux skips where the linux sandbox cannot be.
func needLinux(t testing.TB) {
	t.Helper()
	require.Feature(t, "linux", runtime.GOOS == "linux", "the linux sandbox is under test")
}

// needRoot skips without root's rights.
func needRoot(t testing.TB) {
	t.Helper()
	needLinux(t)
	require.Feature(t, "root", os.Geteuid() == 0, "the test runs as an ordinary user")
}

// needTUN skips where firn cannot give functions a network.
func needTUN(t testing.TB) {
	t.Helper()
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	require.Feature(t, "tun", err == nil, fmt.Sprint("/dev/net/tun: ", err))
	f.Close()
}

// network is the policy that this host can serve.
func network() string {
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return "none"
	}
	f.Close()
	return "internet"
}

func TestIsolation(t *testing.T) {
	needLinux(t)
	t.Parallel()
	n := start(t, options{args: []string{"--network", network()}})
	n.create("f", function{memory: 1769, files: map[string]file{
		"bootstrap": {from: program("actor")}, "setid": {from: program("actor"), mode: os.ModeSetuid | os.ModeSetgid | 0o755},
	}})
	n.create("other", function{})
	t.Run("processes, interfaces, variables", func(t *testing.T) { seesOnlyItself(t, n) })
	t.Run("files", func(t *testing.T) { seesOnlySystemFiles(t, n) })
	t.Run("rights", func(t *testing.T) { hasNoRights(t, n) })
	t.Run("other environments", func(t *testing.T) { seesNoOther(t, n) })
	t.Run("network", func(t *testing.T) { reachesNothingNear(t, n) })
	n.stop()
}

func seesOnlyItself(t *testing.T, n *node) {
	var in struct {
		Env, Interfaces, Processes []string
		UID, GID, PID              int
		CWD                        string
	}
	n.succeed("f", order{Do: "info"}).into(t, &in)
	if want := []string{"1", fmt.Sprint(in.PID)}; !slices.Equal(in.Processes, want) {
		t.Errorf("it sees the processes %v, want %v: the sandbox's init and itself", in.Processes, want)
	}
	for _, name := range in.Interfaces {
		if name != "lo" && name != "vinternal_1" {
			t.Errorf("it sees the interface %s", name)
		}
	}
	if in.UID != 993 || in.GID != 990 || in.CWD != "/var/task" {
		t.Errorf("user %d, group %d, directory %s", in.UID, in.GID, in.CWD)
	}
	known := regexp.MustCompile(`^(_?AWS_|LAMBDA_|LANG=|LD_LIBRARY_PATH=|PATH=|TZ=|_HANDLER=)`)
	for _, v := range in.Env {
		if !known.MatchString(v) {
			t.Errorf("the variable %s came along from firn", v)
		}
	}
}

func seesOnlySystemFiles(t *testing.T, n *node) {
	var in struct {
		Root, Writable    []string
		Trees             map[string][]string
		Mountinfo, Status string
		Cgroup            string
		Unix              []string
	}
	n.succeed("f", order{Do: "survey"}).into(t, &in)
	for _, name := range in.Root {
		known := []string{"bin", "dev", "etc", "home", "lib", "lib32", "lib64", "libx32", "mnt", "opt", "proc", "root", "run", "sbin", "sys", "tmp", "usr", "var"}
		if !slices.Contains(known, name) {
			t.Errorf("/%s is in the root directory", name)
		}
	}
	for dir, allowed := range map[string]string{
		"/home": "", "/root": "", "/run": "", "/sys": "", "/mnt": "", "/srv": "", "/media": "", "/boot": "", "/work": "", "/opt": "", "/tmp": "",
		"/var":      "/var/lang|/var/runtime|/var/task(/bootstrap|/setid)?|/var/tmp",
		"/var/task": "/var/task/(bootstrap|setid)",
		"/dev":      "/dev/(fd|full|null|ptmx|pts|pts/ptmx|random|stderr|stdin|stdout|tty|urandom|zero)",
		"/etc": "/etc/(alternatives|group|hosts|ld.so.cache|localtime|nsswitch.conf|os-release|passwd|resolv.conf|ld-musl-[a-z0-9_]+.path|crypto-policies|ca-certificates|pki)(/.*)?|" +
			"/etc/ssl(/certs|/openssl.cnf|/cert.pem)?",
	} {
		ok := regexp.MustCompile(`^(` + allowed + `)$`)
		for _, path := range in.Trees[dir] {
			if !ok.MatchString(path) {
				t.Errorf("it sees %s", path)
			}
		}
	}
	if len(in.Writable) > 0 {
		t.Errorf("it can write to %v, want /tmp alone", in.Writable)
	}
	if strings.Trim(regexp.MustCompile(`(?m)^\d+:[^:]*:`).ReplaceAllString(in.Cgroup, ""), "/\n") != "" {
		t.Errorf("it sees where its control groups lie:\n%s", in.Cgroup)
	}
	if len(in.Unix) > 1 { // the heading
		t.Errorf("it sees Unix sockets: %v", in.Unix)
	}
	checkMounts(t, in.Mountinfo)
	for _, want := range []string{
		"Uid:\t993\t993\t993\t993", "Gid:\t990\t990\t990\t990", "CapInh:\t0000000000000000", "CapPrm:\t0000000000000000",
		"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2",
	} {
		if !strings.Contains(in.Status, want+"\n") {
			t.Errorf("/proc/self/status lacks %q", want)
		}
	}
}

// checkMounts looks for writable mounts, and for host paths in the roots of
// mounts. Those of system files are the same inside and outside; of /var/task
// and /opt the place in firn's data directory shows, and nothing else.
func checkMounts(t *testing.T, mountinfo string) {
	t.Helper()
	for line := range strings.Lines(mountinfo) {
		f := strings.Fields(line)
		root, point, opts := f[3], f[4], strings.Split(f[5], ",")
		writable := point == "/tmp" || point == "/proc" || strings.HasPrefix(point, "/proc/") || strings.HasPrefix(point, "/dev/")
		if !writable && !slices.Contains(opts, "ro") {
			t.Errorf("mounted writable: %s", line)
		}
		special := strings.HasPrefix(point, "/dev/") || strings.HasPrefix(point, "/proc/")
		if !special && !slices.Contains(opts, "nosuid") {
			t.Errorf("mounted with set-user-id programs: %s", line)
		}
		// /dev holds nodes of its own, and nobody inside can make more.
		if !special && point != "/dev" && !slices.Contains(opts, "nodev") {
			t.Errorf("mounted with devices: %s", line)
		}
		switch {
		case root == "/" || root == point || strings.HasPrefix(point, "/proc/") || strings.HasPrefix(point, "/dev/"):
		case point == "/var/task" && strings.HasSuffix(filepath.Dir(filepath.Dir(root)), "/roots"):
		default:
			t.Errorf("a mount tells of the host: %s", line)
		}
	}
	if !strings.Contains(mountinfo, " /var/task ") || strings.Contains(mountinfo, "firn-init") {
		t.Errorf("unexpected mounts:\n%s", mountinfo)
	}
}

func hasNoRights(t *testing.T, n *node) {
	var tries map[string]string
	n.succeed("f", order{Do: "escapes"}).into(t, &tries)
	if len(tries) < 60 {
		t.Errorf("only %d attempts were made", len(tries))
	}
	exact := map[string]string{
		"socket vsock": "address family not supported by protocol", "socket packet": "address family not supported by protocol",
		"socket raw": "operation not permitted", "socket raw6": "operation not permitted", "clone3": "function not implemented",
	}
	for _, name := range []string{"mount", "unshare user", "unshare net", "unshare mount", "clone user", "ptrace init", "bpf", "io_uring",
		"userfaultfd", "perf", "keyctl", "setns", "pivot_root", "open_by_handle_at", "process_vm_readv", "init_module", "kexec"} {
		exact[name] = "operation not permitted"
	}
	for name, got := range tries {
		if got == "allowed" {
			t.Errorf("%s is allowed", name)
		}
		if want, ok := exact[name]; ok && !strings.HasSuffix(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	var set struct{ Mode, IDs, Err string }
	n.succeed("f", order{Do: "setid", Arg: "/var/task/setid"}).into(t, &set)
	if set.IDs != "993 993 990 990" {
		t.Errorf("a set-user-id program (%s) ran with the ids %s", set.Mode, set.IDs)
	}
}

// seesNoOther looks from one environment for what another one has.
func seesNoOther(t *testing.T, n *node) {
	n.succeed("f", order{Do: "write", Arg: "/tmp/secret"})
	var got string
	n.succeed("f", order{Do: "read", Arg: "/tmp/secret"}).into(t, &got)
	if strings.Contains(got, "no such file") {
		t.Errorf("a function does not find its own file: %s", got)
	}
	n.succeed("other", order{Do: "read", Arg: "/tmp/secret"}).into(t, &got)
	if !strings.Contains(got, "no such file") {
		t.Errorf("another function reads /tmp/secret: %s", got)
	}
	// System V shared memory: what was left is there for itself alone.
	for i, step := range []struct{ function, want string }{{"f", "0"}, {"f", "7"}, {"other", "0"}} {
		n.succeed(step.function, order{Do: "shared"}).into(t, &got)
		if got != step.want {
			t.Errorf("step %d: %s finds %q in shared memory, want %q", i, step.function, got, step.want)
		}
	}
	var f, other struct{ Env []string }
	n.succeed("f", order{Do: "info"}).into(t, &f)
	n.succeed("other", order{Do: "info"}).into(t, &other)
	for _, v := range f.Env {
		if strings.HasPrefix(v, "AWS_SESSION_TOKEN=") && slices.Contains(other.Env, v) {
			t.Error("two functions have the same credentials")
		}
	}
}

// reachesNothingNear dials the host, firn, the cloud's metadata service and
// private networks.
func reachesNothingNear(t *testing.T, n *node) {
	_, port, _ := net.SplitHostPort(n.address())
	bait, err := net.Listen("tcp", ":0") // on every address of the host
	if err != nil {
		t.Fatal(err)
	}
	defer bait.Close()
	go func() {
		for {
			conn, err := bait.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, "the host")
			conn.Close()
		}
	}()
	hidden, err := net.Listen("unix", "@firn-e2e-"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer hidden.Close()
	_, baitPort, _ := net.SplitHostPort(bait.Addr().String())
	targets := []string{
		"tcp|127.0.0.1:" + port, "tcp|169.254.76.1:" + port, "tcp|127.0.0.1:" + baitPort, "tcp|169.254.76.1:" + baitPort, "tcp|[::1]:" + baitPort,
		"tcp|0.0.0.0:" + baitPort, "unix|@firn-e2e-" + port, "unix|/var/run/docker.sock", "unix|/run/docker.sock", "unix|/run/containerd/containerd.sock",
		"tcp|169.254.169.254:80", "tcp|169.254.170.2:80", "tcp|[fd00:ec2::254]:80", "udp|169.254.169.254:53",
		"tcp|10.0.0.1:80", "tcp|172.16.0.1:80", "tcp|192.168.0.1:80", "tcp|192.168.1.1:443", "tcp|100.64.0.1:80", "tcp|198.18.0.1:80",
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if ip, _, err := net.ParseCIDR(a.String()); err == nil && !ip.IsLinkLocalUnicast() {
			targets = append(targets, "tcp|"+net.JoinHostPort(ip.String(), baitPort), "tcp|"+net.JoinHostPort(ip.String(), port))
		}
	}
	var got map[string]string
	n.succeed("f", order{Do: "connects", Arg: strings.Join(append(targets, "tcp|127.0.0.1:9001"), ",")}).into(t, &got)
	if !strings.HasPrefix(got["tcp|127.0.0.1:9001"], "connected") {
		t.Errorf("the probe itself does not work: %v", got)
	}
	for _, target := range targets {
		if result := got[target]; result == "" || strings.HasPrefix(result, "connected") {
			t.Errorf("%s: %q", target, result)
		}
	}
}
