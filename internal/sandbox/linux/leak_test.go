//go:build linux

package linux

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/firn-run/firn/internal/sandbox"
)

// ownerVariable makes the test binary a firn that is going to be killed. Its
// value marks the processes of its functions.
const ownerVariable = "FIRN_TEST_OWNER"

// belongings lists what sandboxes made by tests with a mark could leave:
// processes of firn-init and of functions, and directories of cgroups.
func belongings(mark string) []string {
	var out []string
	program := os.Getenv(initVariable)
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		exe, _ := os.Readlink(dir + "/exe")
		env, _ := os.ReadFile(dir + "/environ")
		if exe == program || mark != "" && bytes.Contains(env, []byte(mark)) && filepath.Base(exe) != "test" {
			out = append(out, dir+" "+exe)
		}
	}
	return out
}

func cgroupDirs(name string) []string {
	var out []string
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(d.Name(), name) {
			out = append(out, path)
			return fs.SkipDir
		}
		return nil
	})
	return out
}

// until waits for a condition that must come true.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("in vain: " + what)
		}
	}
}

func descriptors(t *testing.T) []string {
	t.Helper()
	list, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, path := range list {
		target, _ := os.Readlink(path)
		if target != "" && !strings.HasPrefix(target, "/proc/") {
			out = append(out, filepath.Base(path)+" "+target)
		}
	}
	return out
}

// TestCloseLeavesNothing: processes, mounts, cgroups, descriptors, goroutines.
func TestCloseLeavesNothing(t *testing.T) {
	mounts := func() string {
		b, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	func() { // what stays open for good, the poller for one, is opened now
		b := open(t, func(c *Config) { c.Name = "leaks" })
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}()
	fds, mountsBefore, goroutines := descriptors(t), mounts(), runtime.NumGoroutine()
	b := open(t, func(c *Config) { c.PoolSize, c.Name = 2, "leaks" })
	for i := range 6 {
		s, err := b.Create(t.Context(), sandbox.Spec{
			ID: strconv.Itoa(i), TaskDir: publicDir(t), MemoryMB: 128, EphemeralStorageMB: 512, Network: b.cfg.Network})
		if err != nil {
			t.Fatal(err)
		}
		shell(t, s, "sleep 1000 > /dev/null 2>&1 & setsid sleep 1000 >/dev/null 2>&1 &")
		switch i {
		case 1:
			if err := s.Freeze(); err != nil {
				t.Error(err)
			}
		case 2:
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if left := belongings(""); len(left) > 0 {
		t.Errorf("processes: %q", left)
	}
	if left := cgroupDirs("leaks"); len(left) > 0 {
		t.Errorf("cgroups: %q", left)
	}
	if mounts() != mountsBefore {
		t.Errorf("mounts: before\n%safter\n%s", mountsBefore, mounts())
	}
	// Fewer may be left: the collector closes what an earlier test forgot.
	if now := descriptors(t); len(now) > len(fds) {
		t.Errorf("descriptors: before %q, after %q", fds, now)
	}
	until(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= goroutines })
}

// TestOwnerKilled: kill -9 of firn ends everything, frozen or not, and the
// next firn removes the cgroups.
func TestOwnerKilled(t *testing.T) {
	mark := "FIRN_TEST_MARK=" + strconv.Itoa(os.Getpid())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), ownerVariable+"="+mark)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "ready\n" {
		t.Fatalf("the owner says %q, %v", line, err)
	}
	// A spawner, inits, functions; one that is just executing its program shows
	// no variables for a moment.
	until(t, "all processes show themselves", func() bool { return len(belongings(mark)) >= 6 })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	until(t, "everything ends", func() bool { return len(belongings(mark)) == 0 })
	b := open(t, func(c *Config) { c.Name = "owner" })
	if left := cgroupDirs("owner"); b.cgroups != nil {
		left = slices.DeleteFunc(left, func(s string) bool { return strings.Contains(s, strconv.Itoa(os.Getpid())) })
		if len(left) > 0 {
			t.Errorf("cgroups: %q", left)
		}
	}
}

// owner is a firn with sandboxes in several states.
func owner(mark string) int {
	err := func() error {
		ctx := context.Background()
		b, err := New(ctx, Config{Logger: slog.New(slog.DiscardHandler), InitPath: os.Getenv(initVariable), Name: "owner",
			PoolSize: 1, DegradeNetwork: true})
		if err != nil {
			return err
		}
		for i := range 2 {
			dir, err := os.MkdirTemp("", "")
			if err != nil {
				return err
			}
			defer os.Remove(dir)
			if err := os.Chmod(dir, 0o755); err != nil {
				return err
			}
			s, err := b.Create(ctx, sandbox.Spec{ID: strconv.Itoa(i), TaskDir: dir, MemoryMB: 128, EphemeralStorageMB: 512})
			if err != nil {
				return err
			}
			_, err = s.Start(ctx, sandbox.Command{Path: "/bin/sleep", Args: []string{"sleep", "1000"}, Dir: "/", Env: []string{mark}})
			if err != nil {
				return err
			}
			if i == 1 {
				if err := s.Freeze(); err != nil {
					return err
				}
			}
		}
		return nil
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("ready")
	select {}
}

// TestForkBomb: it is bounded, and Reset ends it.
func TestForkBomb(t *testing.T) {
	b := open(t, func(c *Config) { c.Processes = 100 })
	bomb, other := create(t, b, nil), create(t, b, nil)
	_, err := bomb.Start(t.Context(), sandbox.Command{
		Path: "/bin/sh", Args: []string{"sh", "-c", `f() { f & f & wait; }; f`}, Dir: "/",
	})
	if err != nil {
		t.Fatal(err)
	}
	if out, _ := shell(t, other, "echo here"); out != "here\n" {
		t.Errorf("the neighbour says %q", out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := bomb.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	// The shell, and what runs ls, and init.
	if out, _ := shell(t, bomb, "ls -d /proc/[0-9]* | wc -l"); len(out) > 2 {
		t.Errorf("%q processes after the reset", out)
	}
}

// TestOrphansAreReaped: processes that lost their parent leave no zombies.
func TestOrphansAreReaped(t *testing.T) {
	s := create(t, open(t, nil), nil)
	shell(t, s, `for i in 1 2 3 4 5; do (setsid sh -c 'sleep 0.01' >/dev/null 2>&1 &); done`)
	until(t, "orphans are reaped", func() bool {
		out, _ := shell(t, s, `ls -d /proc/[0-9]* | wc -l`)
		n, err := strconv.Atoi(strings.TrimSpace(out))
		return err == nil && n <= 4
	})
}

// TestInitKilled: the sandbox ends, its processes are reported, calls say so.
func TestInitKilled(t *testing.T) {
	b := open(t, nil)
	s := create(t, b, nil)
	p, err := s.Start(t.Context(), sandbox.Command{Path: "/bin/sleep", Args: []string{"sleep", "1000"}, Dir: "/"})
	if err != nil {
		t.Fatal(err)
	}
	init, err := os.FindProcess(s.(*box).pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := init.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the end of the process is not reported")
	}
	if _, err := s.Start(t.Context(), sandbox.Command{Path: "/bin/true"}); err == nil {
		t.Error("a process starts without init")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
