package sandboxtest

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/firn-run/firn/internal/sandbox"
)

// afVsock is AF_VSOCK, which network namespaces do not separate.
const afVsock = 40

// refusedMillis is how long a dial that must fail may take to say so.
const refusedMillis = 3000

func isolationRows() []row {
	alone := need("isolation", isolated)
	internet := func(c Config) string {
		if !c.Isolated || !c.OutboundInternet {
			return "an isolated network with a way out"
		}
		return ""
	}
	return []row{
		{"read-only", "nothing outside /tmp can be written", alone, readOnly},
		{"host files", "files of the host are not visible", alone, hostFiles},
		{"host processes", "only the sandbox's own processes are visible", alone, hostProcesses},
		{"no privileges", "an unprivileged user without capabilities, new privileges or unfiltered system calls", alone, noPrivileges},
		{"sandbox names", "sandbox and sandbox.localdomain are the sandbox itself", alone, sandboxNames},
		{"no way out", "with NetworkNone only the own loopback exists", alone, noWayOut},
		{"host network", "the host's listeners cannot be reached, with NetworkNone", alone, hostNetworkNone},
		{"host network with internet", "the host, private addresses and the metadata address are refused with NetworkInternet", internet, hostNetworkInternet},
		{"sockets", "AF_VSOCK, raw and packet sockets are refused", alone, sockets},
		{"two sandboxes", "sandboxes see neither each other's files, processes, listeners nor abstract sockets", alone, twoSandboxes},
	}
}

// refused are the ways in which a write may be refused.
func refused(res result) bool {
	switch syscall.Errno(res.Errno) {
	case syscall.EROFS, syscall.EACCES, syscall.EPERM, syscall.ENOENT, syscall.ENXIO, syscall.ENOTDIR, syscall.EISDIR:
		return true
	}
	return false
}

func readOnly(r *rig) {
	agent, _ := r.create(nil).serve("agent")
	for _, dir := range []string{
		"/", "/var/task", "/opt", "/etc", "/usr", "/usr/bin", "/bin", "/lib", "/var", "/var/tmp", "/root", "/home",
		"/run", "/dev", "/dev/shm", "/sys", "/sys/fs/cgroup", "/proc", "/proc/sys/kernel", "/mnt", "/srv",
	} {
		if res := agent.ask(order{Do: "write", Text: filepath.Join(dir, "intruder")}); !refused(res) {
			r.Errorf("writing into %s: %+v", dir, res)
		}
	}
	for _, file := range []string{
		"/var/task/" + agentFile, "/etc/hosts", "/etc/passwd", "/proc/sys/kernel/hostname", "/proc/sysrq-trigger",
		"/proc/sys/kernel/core_pattern",
	} {
		if res := agent.ask(order{Do: "write", Text: file}); !refused(res) && syscall.Errno(res.Errno) != syscall.ETXTBSY {
			r.Errorf("writing %s: %+v", file, res)
		}
	}
}

func hostFiles(r *rig) {
	secret := filepath.Join(r.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o644); err != nil {
		r.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(secret), 0o755); err != nil {
		r.Fatal(err)
	}
	agent, _ := r.create(nil).serve("agent")
	for _, path := range []string{secret, "/proc/1/root" + secret, "/etc/shadow", "/root/.bashrc", "/proc/1/environ",
		"/proc/kcore", "/dev/mem", "/dev/sda", "/dev/vda", "/var/lib", "/var/log", "/run/docker.sock"} {
		res := agent.ask(order{Do: "read", Text: path})
		if res.Err == "" && res.Text != "" || syscall.Errno(res.Errno) == syscall.EISDIR {
			r.Errorf("%s can be read", path)
		}
	}
}

func hostProcesses(r *rig) {
	agent, _ := r.create(nil).serve("agent")
	f := agent.must(order{Do: "facts"}).Facts
	if len(f.Processes) > 3 {
		r.Errorf("%d processes are visible, want the agent and init", len(f.Processes))
	}
	if f.PID == 1 {
		r.Error("the function is PID 1")
	}
	if host, err := os.Hostname(); err == nil && f.Hostname == host {
		r.Errorf("the host's name %q is visible", host)
	}
}

func noPrivileges(r *rig) {
	agent, _ := r.create(nil).serve("agent")
	f := agent.must(order{Do: "facts"}).Facts
	if f.UID == 0 || f.GID == 0 {
		r.Errorf("uid %d, gid %d", f.UID, f.GID)
	}
	for _, g := range f.Groups {
		if g == 0 {
			r.Errorf("groups %v", f.Groups)
		}
	}
	for key, want := range map[string]string{"NoNewPrivs": "1", "Seccomp": "2"} {
		if f.Status[key] != want {
			r.Errorf("%s is %q, want %q", key, f.Status[key], want)
		}
	}
	for _, key := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		if strings.Trim(f.Status[key], "0") != "" || f.Status[key] == "" {
			r.Errorf("%s is %q, want none", key, f.Status[key])
		}
	}
}

func sandboxNames(r *rig) {
	agent, _ := r.create(nil).serve("agent")
	for _, name := range []string{"sandbox", "sandbox.localdomain", "localhost"} {
		if res := agent.ask(order{Do: "lookup", Text: name}); !strings.Contains(res.Text, "127.0.0.1") {
			r.Errorf("%s: %+v", name, res)
		}
	}
}

func noWayOut(r *rig) {
	agent, _ := r.create(nil).serve("agent")
	f := agent.must(order{Do: "facts"}).Facts
	if len(f.Interfaces) != 1 || f.Interfaces[0] != "lo" {
		r.Errorf("interfaces %v, want lo", f.Interfaces)
	}
	agent.must(order{Do: "listen", Text: "tcp 127.0.0.1:8080"})
	agent.must(order{Do: "dial", Text: "tcp 127.0.0.1:8080", N: refusedMillis})
	for _, addr := range []string{"169.254.169.254:80", "8.8.8.8:53", "10.0.0.1:80"} {
		if res := agent.ask(order{Do: "dial", Text: "tcp " + addr, N: refusedMillis}); res.Err == "" {
			r.Errorf("%s can be reached", addr)
		}
	}
}

// hostListeners opens a listener on every address of the host and returns
// where they stand.
func hostListeners(r *rig) (addrs []string) {
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = l.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	own, err := net.InterfaceAddrs()
	if err != nil {
		r.Fatal(err)
	}
	for _, a := range own {
		if ipnet, ok := a.(*net.IPNet); ok && !ipnet.IP.IsLinkLocalUnicast() {
			addrs = append(addrs, net.JoinHostPort(ipnet.IP.String(), port))
		}
	}
	if len(addrs) == 0 {
		r.Fatal("the host has no address")
	}
	return addrs
}

func hostNetworkNone(r *rig) {
	addrs := hostListeners(r)
	agent, _ := r.create(nil).serve("agent")
	for _, addr := range addrs {
		if res := agent.ask(order{Do: "dial", Text: "tcp " + addr, N: refusedMillis}); res.Err == "" {
			r.Errorf("the host's listener at %s can be reached", addr)
		}
	}
}

func hostNetworkInternet(r *rig) {
	addrs := append(hostListeners(r), "169.254.169.254:80", "10.0.0.1:80", "192.168.0.1:80", "172.16.0.1:80", "100.64.0.1:80")
	agent, _ := r.create(func(s *sandbox.Spec) { s.Network = sandbox.NetworkInternet }).serve("agent")
	for _, addr := range addrs {
		if res := agent.ask(order{Do: "dial", Text: "tcp " + addr, N: refusedMillis}); res.Err == "" {
			r.Errorf("%s can be reached", addr)
		}
	}
}

func sockets(r *rig) {
	agent, _ := r.create(nil).serve("agent")
	for name, o := range map[string]order{
		"vsock":  {Do: "socket", N: afVsock},
		"raw":    {Do: "socket", N: syscall.AF_INET, Text: "raw"},
		"packet": {Do: "socket", N: 17, Text: "raw"},
	} {
		if res := agent.ask(o); res.Err == "" {
			r.Errorf("a %s socket can be made", name)
		}
	}
}

func twoSandboxes(r *rig) {
	one, other := r.create(nil), r.create(nil)
	a, _ := one.serve("a")
	b, _ := other.serve("b")
	a.must(order{Do: "write", Text: "/tmp/private"})
	if res := b.ask(order{Do: "read", Text: "/tmp/private"}); res.Err == "" {
		r.Error("a file in the other's /tmp can be read")
	}
	for _, at := range []string{"tcp 127.0.0.1:8080", "unix @private"} {
		a.must(order{Do: "listen", Text: at})
		if res := b.ask(order{Do: "dial", Text: at, N: refusedMillis}); res.Err == "" {
			r.Errorf("the other's listener at %s can be reached", at)
		}
		b.must(order{Do: "listen", Text: at})
	}
	for _, p := range []*peer{a, b} {
		if n := len(p.must(order{Do: "facts"}).Facts.Processes); n > 3 {
			r.Errorf("%d processes are visible", n)
		}
	}
}
