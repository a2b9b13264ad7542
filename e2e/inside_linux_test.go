package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/require"
)

// insideVar tells a copy of the test binary that it runs in namespaces of its
// own.
const insideVar = "FIRN_E2E_INSIDE"

// inside runs the calling top-level test again in a copy of the test binary
// that has PID, mount, network and IPC namespaces of its own and an empty
// /tmp and /dev/shm. There nothing is but what the test started, so that it
// can demand that nothing is left; and whatever happens, nothing is left on
// the host. It returns true in the copy; where it returns false the test is
// over.
func inside(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideVar) != "" {
		setUpInside(t)
		return true
	}
	needRoot(t)
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), insideVar+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC,
		Setpgid:    true, Pdeathsig: syscall.SIGKILL,
	}
	raw, err := cmd.CombinedOutput()
	out := string(raw)
	switch {
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	case strings.Contains(out, "--- SKIP: "+t.Name()):
		t.Skip(out)
	case !strings.Contains(out, "--- PASS: "+t.Name()):
		t.Errorf("the test did not run:\n%s", out)
	default:
		t.Log(out)
	}
	return false
}

func setUpInside(t *testing.T) {
	t.Helper()
	bin, err := os.Open(os.Getenv(binDir))
	if err != nil {
		t.Fatal(err)
	}
	defer bin.Close()
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
	}{
		{"", "/", "", unix.MS_REC | unix.MS_PRIVATE},
		{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"tmpfs", "/tmp", "tmpfs", 0},
		{"tmpfs", "/dev/shm", "tmpfs", 0},
	} {
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, ""); err != nil {
			require.Feature(t, "mount", false, fmt.Sprintf("mount %s: %v", m.target, err))
		}
	}
	if err := os.Mkdir("/tmp/bin", 0o755); err != nil {
		t.Fatal(err)
	}
	// A detached copy of the directory's mount, for its path is gone.
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", bin.Fd()), "/tmp/bin", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	// For the whole process: it runs this one test.
	for name, value := range map[string]string{binDir: "/tmp/bin", "TMPDIR": "/tmp"} {
		if err := os.Setenv(name, value); err != nil {
			t.Fatal(err)
		}
	}
	linkUp(t, "lo")
}

func linkUp(t *testing.T, name string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		t.Fatal(err)
	}
}

// world is everything that firn could leave behind, as sorted lines.
type world []string

// look takes stock of the namespaces of an inside test. Data directories in
// keep are firn's to keep; only what is meant to be temporary in them counts.
func look(t *testing.T, keep ...string) world {
	t.Helper()
	var w world
	for pid, p := range processes(t) {
		if pid != os.Getpid() && p.state != "Z" { // nobody waits here for orphans
			raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			w = append(w, fmt.Sprintf("process %d (%s) %s of %d: %q", pid, p.name, p.state, p.parent, raw))
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		w = append(w, "mount "+strings.TrimSpace(line))
	}
	for _, dir := range controlGroups(t) {
		w = append(w, "control group "+dir)
	}
	for _, root := range []string{"/tmp", "/dev/shm", "/run/netns", "/var/run/netns"} {
		w = append(w, files(t, root, keep)...)
	}
	for _, name := range []string{"tcp", "tcp6", "udp", "unix"} {
		raw, err := os.ReadFile("/proc/self/net/" + name)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(raw)) {
			if f := strings.Fields(line); name == "unix" && len(f) == 8 || len(f) > 3 && f[3] == "0A" {
				w = append(w, "socket "+name+" "+f[1]+" "+f[len(f)-1])
			}
		}
	}
	for _, name := range interfaces(t) {
		w = append(w, "interface "+name)
	}
	loops, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, loop := range loops {
		raw, _ := os.ReadFile(loop)
		if strings.Contains(string(raw), "firn") || strings.Contains(string(raw), "data") {
			w = append(w, "loop device "+loop+" "+string(raw))
		}
	}
	slices.Sort(w)
	return w
}

// files lists what is below root.
func files(t *testing.T, root string, keep []string) world {
	t.Helper()
	var w world
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // a directory that is not there, or went
		}
		for _, dir := range keep {
			rest, below := strings.CutPrefix(path, dir+"/")
			if !below {
				continue
			}
			// What stays: the state, the key, blobs and unpacked roots.
			switch {
			case rest == "endpoint", strings.Contains(rest, "tmp/"), strings.HasPrefix(rest, "process/"), strings.Contains(rest, "partial"):
				w = append(w, "temporary file "+path)
			}
			return nil
		}
		if path == "/tmp/bin" {
			return fs.SkipDir
		}
		w = append(w, "file "+path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// controlGroups lists firn's in all hierarchies, as far as the firn that made
// them lives in this PID namespace.
func controlGroups(t *testing.T) []string {
	t.Helper()
	link, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	ns := "-" + strings.TrimSuffix(strings.TrimPrefix(link, "pid:["), "]") + "-"
	var out []string
	err = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), "firn-") && strings.Contains(d.Name(), ns) {
			out = append(out, path)
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func interfaces(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/net/dev_snmp6")
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// more lists what w has and before has not.
func (w world) more(before world) []string {
	var out []string
	for _, line := range w {
		if _, found := slices.BinarySearch(before, line); !found {
			out = append(out, line)
		}
	}
	return out
}

// withDir is w with the data directory and the folders that the test made for
// it.
func withDir(w world, data string) world {
	out := slices.Clone(w)
	for dir := data; dir != "/tmp"; dir = filepath.Dir(dir) {
		out = append(out, "file "+dir)
	}
	slices.Sort(out)
	return out
}
