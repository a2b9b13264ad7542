//go:build linux

package linux

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/firn-run/firn/internal/require"
	"github.com/firn-run/firn/internal/sandbox"
)

// resting makes a sandbox with a parked process and lets its init rest.
func resting(t *testing.T) (*box, sandbox.Process) {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("init rests on amd64 only")
	}
	if os.Getenv(rootlessVariable) != "" {
		t.Skip("init rests before the freeze of a control group, and this child has none")
	}
	b := open(t, func(c *Config) { c.Network = sandbox.NetworkNone })
	require.Feature(t, "cgroup", b.can.Memory && b.can.Freeze, "memory accounting and freezing by control groups")
	s := create(t, b, nil).(*box)
	p := parked(t, s)
	if err := s.Freeze(); err != nil {
		t.Fatal(err)
	}
	needRest(t, s)
	return s, p
}

func parked(t *testing.T, s *box) sandbox.Process {
	t.Helper()
	p, err := s.Start(t.Context(), sandbox.Command{Path: "/bin/sleep", Args: []string{"sleep", "60"}, Dir: "/"})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func needRest(t *testing.T, s *box) {
	t.Helper()
	until(t, "init rests", func() bool { return called(t, s) == "init\x00rest\x00" })
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(status), "\nThreads:\t1\n") {
		t.Errorf("init has threads: %s", status)
	}
	if kb := rollup(t, s.pid, "Private_Dirty:"); kb > 100 {
		t.Errorf("init takes %d kB while it rests", kb)
	}
}

// called is what init is called at present.
func called(t *testing.T, s *box) string {
	t.Helper()
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", s.pid))
	if err != nil {
		t.Fatal(err)
	}
	return string(line)
}

func ends(t *testing.T, p sandbox.Process) sandbox.Exit {
	t.Helper()
	select {
	case <-p.Done():
		return p.Exit()
	case <-time.After(10 * time.Second):
		t.Fatal("the process does not end")
		return sandbox.Exit{}
	}
}

// What init was asked before and after its rest it knows.
func TestRestAndSignal(t *testing.T) {
	s, p := resting(t)
	if err := s.Thaw(); err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if exit := ends(t, p); exit.Signal != syscall.SIGTERM {
		t.Errorf("exit %+v", exit)
	}
	if out, exit := shell(t, s, "id -u; exit 7"); out != "993\n" || exit.Code != 7 {
		t.Errorf("after the rest: %q, %+v", out, exit)
	}
}

// The end of a process wakes init, which reports it.
func TestRestAndExit(t *testing.T) {
	s, p := resting(t)
	script := "until [ -e /var/task/go ]; do sleep 0.02; done; exit 9"
	p2, err := s.Start(t.Context(), sandbox.Command{
		Path: "/bin/sh", Args: []string{"sh", "-c", script}, Dir: "/", Env: []string{"PATH=/usr/bin:/bin"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // rests again and again
		if err := s.Freeze(); err != nil {
			t.Fatal(err)
		}
		needRest(t, s)
		if err := s.Thaw(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(s.spec.TaskDir, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if exit := ends(t, p2); exit.Code != 9 || exit.Signal != 0 {
		t.Errorf("exit %+v", exit)
	}
	select {
	case <-p.Done():
		t.Errorf("the other ended too: %+v", p.Exit())
	default:
	}
}

// A reset of a resting sandbox kills what was started before the rest.
func TestRestAndReset(t *testing.T) {
	s, p := resting(t)
	if err := s.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	if exit := ends(t, p); exit.Signal != syscall.SIGKILL {
		t.Errorf("exit %+v", exit)
	}
	// Nothing is left, and init rests without children too.
	if err := s.Freeze(); err != nil {
		t.Fatal(err)
	}
	needRest(t, s)
	q := parked(t, s)
	if err := q.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if exit := ends(t, q); exit.Signal != syscall.SIGINT {
		t.Errorf("exit %+v", exit)
	}
}

// A function can do to a resting init what it can to any: nothing.
func TestRestUnderAttack(t *testing.T) {
	s, _ := resting(t)
	if err := s.Thaw(); err != nil {
		t.Fatal(err)
	}
	out, _ := shell(t, s, "for i in 1 2 9 11 15 17 18 19; do kill -$i 1; done; cat /proc/1/environ; (sleep 0.1 &) ; true")
	if strings.Contains(out, "FIRN") {
		t.Errorf("the function reads init's variables: %q", out)
	}
	if err := s.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := s.Thaw(); err != nil {
		t.Fatal(err)
	}
	if out, exit := shell(t, s, "kill -9 1; sleep 0.3; ls -d /proc/[0-9]* | wc -l"); exit.Code != 0 {
		t.Errorf("%q, %+v", out, exit)
	}
}

// While many wait for sandboxes the freeze is not preceded by a rest.
func TestRestIsPutOff(t *testing.T) {
	s, _ := resting(t)
	if err := s.Thaw(); err != nil {
		t.Fatal(err)
	}
	parked(t, s)
	many := int32(runtime.NumCPU() + 1)
	s.b.creating.Add(many)
	if err := s.Freeze(); err != nil {
		t.Fatal(err)
	}
	if got := called(t, s); got != "init\x00" {
		t.Errorf("init is called %q", got)
	}
	s.starting.Lock()
	if s.settling || !s.frozen {
		t.Error("not frozen at once")
	}
	s.starting.Unlock()
	s.b.creating.Add(-many)
	if err := s.Thaw(); err != nil {
		t.Fatal(err)
	}
	if err := s.Freeze(); err != nil {
		t.Fatal(err)
	}
	needRest(t, s)
}
