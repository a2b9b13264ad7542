package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/firn-run/firn/internal/require"
)

// ordinary is a user id that has no rights.
const ordinary = 1500

// TestRootless runs firn as an ordinary user: functions are isolated all the
// same, and firn says what it cannot do.
func TestRootless(t *testing.T) {
	t.Parallel()
	user := uint32(0)
	if os.Geteuid() == 0 {
		user = ordinary
	}
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
	if user != 0 {
		attr.Credential = &syscall.Credential{Uid: user, Gid: user}
		attr.Cloneflags = 0
	}
	try := exec.Command("unshare", "--user", "--net", "true")
	try.SysProcAttr, try.Dir = attr, "/"
	raw, err := try.CombinedOutput()
	require.Feature(t, "userns", err == nil, fmt.Sprintf("an ordinary user may make no user namespace: %v: %s", err, raw))
	dir, err := os.MkdirTemp("", "firn-rootless-") // TempDir lets only its owner in
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if user != 0 {
		if err := os.Chown(dir, ordinary, ordinary); err != nil {
			t.Fatal(err)
		}
	}
	n := start(t, options{user: user, data: filepath.Join(dir, "data")})
	log := n.out.String()
	if user != 0 && !strings.Contains(log, "no control groups") {
		t.Errorf("firn does not say that it has no control groups:\n%s", log)
	}
	info, err := os.Stat("/dev/net/tun")
	if refused := err != nil || info.Mode().Perm()&0o006 != 0o006; user != 0 && refused && !strings.Contains(log, "NO outbound network") {
		t.Errorf("firn does not say that functions have no network:\n%s", log)
	}
	layer := n.layer("extension", "watcher")
	n.create("f", function{memory: 256, timeout: 5, layers: []string{layer}})
	n.create("other", function{})
	t.Run("runs", func(t *testing.T) {
		a := n.succeed("f", order{Print: "hello from a function"})
		if !strings.Contains(a.log, "hello from a function") || !strings.Contains(a.log, "Init Duration") {
			t.Errorf("the log:\n%s", a.log)
		}
		if a := n.succeed("f", order{}); strings.Contains(a.log, "Init Duration") {
			t.Errorf("the second invocation is cold:\n%s", a.log)
		}
	})
	t.Run("isolated", func(t *testing.T) { isolatedRootless(t, n) })
	t.Run("failures", func(t *testing.T) {
		for _, o := range []order{{Do: "exit", N: 3}, {Do: "oom", N: 600}, {Do: "sleep", Ms: 20_000}} {
			a := n.invoke("f", o)
			if a.failure == "" {
				t.Errorf("%+v succeeds: %s", o, a.payload)
			}
			if o.Do == "oom" && !strings.Contains(a.payload, "Runtime.OutOfMemory") {
				t.Errorf("out of memory: %s", a.payload)
			}
			n.succeed("f", order{Do: "info"})
		}
	})
	t.Run("idle", func(t *testing.T) {
		n.succeed("f", order{Do: "daemon", Arg: "spin"})
		n.idleCPU(t)
	})
	children := below(t, n.cmd.Process.Pid)
	n.stop()
	for pid, p := range processes(t) {
		for _, child := range children {
			if child.pid == pid && child.start == p.start && p.state != "Z" {
				t.Errorf("process %d (%s) is left", pid, p.name)
			}
		}
	}
}

func isolatedRootless(t *testing.T, n *node) {
	var self struct {
		UID, GID, PID         int
		Processes, Interfaces []string
	}
	n.succeed("other", order{Do: "info"}).into(t, &self)
	if self.UID != 993 || self.GID != 990 || len(self.Processes) != 2 {
		t.Errorf("%+v", self)
	}
	var tries map[string]string
	n.succeed("f", order{Do: "escapes"}).into(t, &tries)
	for name, got := range tries {
		if got == "allowed" {
			t.Errorf("%s is allowed", name)
		}
	}
	var in struct {
		Writable          []string
		Trees             map[string][]string
		Mountinfo, Status string
	}
	n.succeed("other", order{Do: "survey"}).into(t, &in)
	for _, dir := range []string{"/home", "/root", "/run", "/sys", "/mnt", "/srv", "/media", "/work", "/opt", "/tmp"} {
		if len(in.Trees[dir]) > 0 {
			t.Errorf("it sees %v", in.Trees[dir])
		}
	}
	if len(in.Writable) > 0 {
		t.Errorf("it can write to %v", in.Writable)
	}
	checkMounts(t, in.Mountinfo)
	for _, want := range []string{"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(in.Status, want+"\n") {
			t.Errorf("/proc/self/status lacks %q", want)
		}
	}
}
