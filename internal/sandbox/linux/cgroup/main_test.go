//go:build linux

package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/require"
)

const (
	envInside = "FIRN_TEST_INSIDE" // set in the copy with its own PID namespace
	envHelper = "FIRN_TEST_HELPER" // what this copy is to do instead of testing
	envV1     = "FIRN_TEST_V1"     // set in the copy that uses version 1 alone
	envGuest  = "FIRN_TEST_GUEST"  // set in a virtual machine
)

// TestMain runs the tests in a copy of the test binary that is process 1 of
// its own PID namespace: whatever a test gets wrong, it can signal nothing
// but its own processes. Without the right to do so the live tests skip.
func TestMain(m *testing.M) {
	if what := os.Getenv(envHelper); what != "" {
		os.Exit(helper(what, os.Args[1:]))
	}
	if os.Getenv(envV1) != "" {
		os.Exit(m.Run())
	}
	if os.Getenv(envInside) != "" {
		err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, "")
		if err == nil {
			err = unix.Mount("proc", "/proc", "proc", 0, "")
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "prepare the namespaces:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), envInside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		os.Exit(m.Run())
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		_ = cmd.Process.Kill()
	}()
	err := cmd.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		os.Exit(max(1, exit.ExitCode()))
	}
	if err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// live returns a manager for tests on the real kernel, closed at the end, at
// which time nothing of it may be left.
func live(t *testing.T) *Manager {
	t.Helper()
	require.Feature(t, "root", os.Getenv(envInside) != "", "the test binary could not be started in a PID namespace of its own")
	m, err := NewManager(testConfig(testLogger(t)))
	require.Feature(t, "cgroup", !errors.Is(err, ErrUnavailable), fmt.Sprint(err))
	if err != nil {
		t.Fatal(err)
	}
	dirs := m.lay.dirs
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		for _, d := range dirs {
			if exists(d) {
				t.Errorf("%s was left behind", d)
			}
		}
	})
	return m
}

// testConfig is the configuration of live tests. In the copy that envV1 makes
// the cgroup2 mount of a hybrid host is not seen.
func testConfig(log *slog.Logger) Config {
	cfg := Config{Name: "test", Logger: log}
	if h, err := Detect(); err == nil && os.Getenv(envV1) != "" {
		h.unified, h.base = nil, base{}
		h.setMode()
		h.estimate()
		cfg.Host = &h
	}
	return cfg
}

// TestPureV1 runs the live tests once more as on a host without cgroup2.
func TestPureV1(t *testing.T) {
	h, err := Detect()
	if err != nil {
		t.Fatal(err)
	}
	require.Feature(t, "cgroup v1", h.v1("memory") != nil && h.v1("freezer") != nil, h.describe())
	require.Feature(t, "root", os.Getenv(envInside) != "", "the test binary could not be started in a PID namespace of its own")
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestLive", "-test.v", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), envV1+"=1")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}

func liveGroup(t *testing.T, m *Manager) *Group {
	t.Helper()
	g, err := m.Create(strings.ReplaceAll(t.Name(), "/", "-"))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// proc is a helper process. It answers each line it is sent with a line.
type proc struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
	// ended is closed when the process was waited for.
	ended chan struct{}
}

// start runs a helper inside g, or outside for nil. It is killed at the end.
func start(t *testing.T, g *Group, what string, args ...string) *proc {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), envHelper+"="+what, "GOMAXPROCS=2")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if g != nil && g.FD() >= 0 {
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, g.FD()
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &proc{t: t, cmd: cmd, in: in, out: bufio.NewScanner(out), ended: make(chan struct{})}
	t.Cleanup(func() { _ = cmd.Process.Kill(); p.wait() })
	if g != nil {
		if err := g.Add(cmd.Process.Pid); err != nil {
			t.Fatal(err)
		}
	}
	p.expect("ready")
	return p
}

func (p *proc) pid() int { return p.cmd.Process.Pid }

func (p *proc) say(line string) {
	p.t.Helper()
	if _, err := fmt.Fprintln(p.in, line); err != nil {
		p.t.Fatalf("say %q: %v", line, err)
	}
}

func (p *proc) line() string {
	p.t.Helper()
	if !p.out.Scan() {
		p.t.Fatalf("helper ended: %v", p.out.Err())
	}
	return p.out.Text()
}

func (p *proc) expect(want string) {
	p.t.Helper()
	if got := p.line(); got != want {
		p.t.Fatalf("helper said %q, want %q", got, want)
	}
}

// wait returns the signal that ended the process.
func (p *proc) wait() syscall.Signal {
	select {
	case <-p.ended:
	default:
		_ = p.cmd.Wait()
		close(p.ended)
	}
	ws, _ := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ws.Signaled() {
		return 0
	}
	return ws.Signal()
}

// helper is the program of a helper process: it obeys lines on stdin.
func helper(what string, args []string) int {
	switch what {
	case "obey":
		return obey()
	case "sleep":
		fmt.Println("ready")
		_, _ = io.Copy(io.Discard, os.Stdin)
		return 0
	case "delegated":
		fmt.Println("ready")
		if err := delegatedHelper(args[0]); err != nil {
			fmt.Println("error", err)
			return 1
		}
		_, _ = io.Copy(io.Discard, os.Stdin)
		return 0
	case "owner":
		return ownerHelper(args)
	}
	fmt.Fprintln(os.Stderr, "unknown helper", what)
	return 2
}

func obey() int {
	fmt.Println("ready")
	var held [][]byte
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		verb, arg, _ := strings.Cut(in.Text(), " ")
		n, _ := strconv.Atoi(arg)
		switch verb {
		case "take", "share": // MB of memory, private or shared
			flags := unix.MAP_PRIVATE
			if verb == "share" {
				flags = unix.MAP_SHARED
			}
			b, err := unix.Mmap(-1, 0, n<<20, unix.PROT_READ|unix.PROT_WRITE, flags|unix.MAP_ANON)
			if err != nil {
				fmt.Println(err)
				continue
			}
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			held = append(held, b)
		case "free":
			for _, b := range held {
				_ = unix.Munmap(b)
			}
			held = nil
		case "write": // a file of 48 MB
			f, err := os.Create(arg)
			for range 48 {
				if err == nil {
					_, err = f.Write(make([]byte, 1<<20))
				}
			}
			if err != nil || f.Close() != nil {
				fmt.Println(err)
				continue
			}
		case "fork": // n sleeping children
			fmt.Println("failed", forkSleepers(n))
			continue
		case "bomb": // every process makes more, as fast as it can
			for {
				_, _, _ = syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
			}
		case "spin":
			for end := time.Now().Add(time.Duration(n) * time.Millisecond); time.Now().Before(end); {
			}
		case "tick":
			var wg sync.WaitGroup
			wg.Go(func() {
				for range time.Tick(2 * time.Millisecond) {
					fmt.Println("tick")
				}
			})
			wg.Wait()
		}
		fmt.Println("done")
	}
	return 0
}

// forkSleepers makes n children that do nothing, and returns how many it could
// not make. They are killed again when not all could be made: this program
// may itself need a thread. It forks by system call, for os/exec starts
// threads as well.
func forkSleepers(n int) (failed int) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var made []int
	for range n {
		pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if errno == 0 && pid == 0 {
			for { // the child has no Go runtime: system calls alone
				_, _, _ = syscall.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
			}
		}
		if errno != 0 {
			failed++
		} else {
			made = append(made, int(pid))
		}
	}
	if failed > 0 {
		for _, pid := range made {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			_, _ = syscall.Wait4(pid, nil, 0, nil)
		}
	}
	return failed
}

// ownerHelper is a firn that makes a group with a process in it and waits to
// be killed.
func ownerHelper([]string) int {
	m, err := NewManager(testConfig(nil))
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	g, err := m.Create("left")
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), envHelper+"=sleep")
	r, w, err := os.Pipe() // w stays open in the child: it never sees an end
	if err != nil {
		return 1
	}
	c.Stdin, c.ExtraFiles = r, []*os.File{w}
	if err := c.Start(); err != nil {
		return 1
	}
	if err := g.Add(c.Process.Pid); err != nil {
		fmt.Println("error", err)
		return 1
	}
	if err := g.Freeze(); err != nil { // the hardest to remove
		fmt.Println("error", err)
		return 1
	}
	fmt.Println("ready")
	fmt.Println(filepath.Base(m.lay.dirs[0]), c.Process.Pid)
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// delegatedHelper is a firn in a group of its own. It says how far it came.
func delegatedHelper(dir string) error {
	if err := writeString(filepath.Join(dir, "cgroup.procs"), "0"); err != nil {
		return err
	}
	m, err := NewManager(Config{Name: "delegated"})
	if err != nil {
		return err
	}
	leaf := filepath.Join(m.lay.unified, selfDir)
	if filepath.Dir(m.lay.unified) != dir || !m.moved || len(readPids(dir)) != 0 || len(readPids(leaf)) != 1 {
		return fmt.Errorf("not moved aside: %+v", m.lay)
	}
	if can := m.Can(); !can.Memory || !can.CPU || !can.Pids || !can.Freeze {
		return fmt.Errorf("can only %+v: %v", can, m.missing)
	}
	g, err := m.Create("x")
	if err != nil {
		return err
	}
	if err := g.SetLimits(Limits{MemoryBytes: 64 << 20, Pids: 10}); err != nil {
		return err
	}
	fmt.Println("moved aside")
	if err := m.Close(); err != nil {
		return err
	}
	fmt.Println("closed")
	passed, err := readString(filepath.Join(dir, "cgroup.subtree_control"))
	if err != nil || passed != "" || len(readPids(dir)) != 1 || exists(filepath.Dir(leaf)) {
		return fmt.Errorf("not as before: passes %q, %v", passed, err)
	}
	fmt.Println("back")
	return nil
}
