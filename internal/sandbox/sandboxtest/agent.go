package sandboxtest

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// agentVariable makes the test binary an agent.
const agentVariable = "FIRN_SANDBOXTEST_AGENT"

// Exit codes of the agent.
const (
	agentFailed = 101
	agentUnused = 102
	trapCode    = 7
)

// report is what the verb report prints.
type report struct {
	Args, Env   []string
	Dir         string
	Descriptors []string // beyond 0, 1 and 2, without the Go runtime's own
	StdinEmpty  bool
	OpenFiles   uint64 // soft limit
}

// agent is the program inside the sandbox.
func agent(args []string) int {
	if len(args) == 0 {
		return agentUnused
	}
	verb, args := args[0], args[1:]
	arg := func(i int) string {
		if i < len(args) {
			return args[i]
		}
		return ""
	}
	number, _ := strconv.Atoi(arg(0))
	switch verb {
	case "exit":
		return number
	case "signal":
		_ = syscall.Kill(os.Getpid(), syscall.Signal(number))
		select {} // the signal ends it
	case "report":
		return agentReport()
	case "print":
		_, _ = os.Stdout.WriteString(arg(0))
		_, _ = os.Stderr.WriteString(arg(1))
		return 0
	case "trap":
		return agentTrap(arg(0))
	case "wait":
		return agentWait(arg(0), arg(1))
	case "many":
		return agentMany(arg(0), arg(1))
	case "beat":
		return agentBeat(arg(0), arg(1), false)
	case "spin":
		return agentBeat(arg(0), arg(1), true)
	case "between": // the middle of a double fork
		return detach(args)
	case "run":
		return agentRun(arg(0), arg(1))
	case "hog":
		touch(number)
		select {}
	case "threads":
		return agentThreads(number)
	case "tell":
		return agentTell(number)
	case "flood":
		return agentFlood()
	case "serve":
		return agentServe(arg(0), arg(1))
	}
	return agentUnused
}

func agentReport() int {
	r := report{Args: os.Args, Env: os.Environ()}
	return printJSON(r.complete())
}

func printJSON(v any) int {
	if err := json.NewEncoder(os.Stdout).Encode(v); err != nil {
		return agentFailed
	}
	return 0
}

func (r report) complete() report {
	r.Dir, _ = os.Getwd()
	for fd := 3; fd < 1024; fd++ {
		target, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
		// The Go runtime's poller, and the limits of its processors.
		if err != nil || strings.HasPrefix(target, "anon_inode:") || strings.HasPrefix(target, "/sys/fs/cgroup") {
			continue
		}
		r.Descriptors = append(r.Descriptors, target)
	}
	n, err := os.Stdin.Read(make([]byte, 1))
	r.StdinEmpty = n == 0 && err == io.EOF
	var lim syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim) == nil {
		r.OpenFiles = lim.Cur
	}
	return r
}

// hello connects to the suite and says a name.
func hello(addr, name string) net.Conn {
	conn, err := net.Dial("tcp", addr)
	if err == nil {
		_, err = io.WriteString(conn, name+"\n")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(agentFailed)
	}
	return conn
}

// agentTrap handles SIGTERM itself.
func agentTrap(addr string) int {
	got := make(chan os.Signal, 1)
	signal.Notify(got, syscall.SIGTERM)
	defer hello(addr, "trap").Close()
	<-got
	return trapCode
}

// agentWait lives until the suite closes the connection.
func agentWait(addr, name string) int {
	conn := hello(addr, name)
	_, _ = io.Copy(io.Discard, conn)
	return 0
}

// agentMany makes n connections at once, each of which is answered.
func agentMany(addr, n string) int {
	count, _ := strconv.Atoi(n)
	failed := make(chan error, count)
	var group sync.WaitGroup
	for range count {
		group.Go(func() {
			conn, err := net.Dial("tcp", addr)
			if err == nil {
				_, err = io.WriteString(conn, "many\n")
			}
			if err == nil {
				_, err = io.ReadFull(conn, make([]byte, 1))
			}
			if err != nil {
				failed <- err
			}
		})
	}
	group.Wait()
	close(failed)
	code := 0
	for err := range failed {
		fmt.Fprintln(os.Stderr, err)
		code = agentFailed
	}
	return code
}

// agentBeat sends a line every millisecond, and spins beside that if told so.
func agentBeat(addr, name string, spin bool) int {
	if spin {
		go func() {
			//lint:ignore SA5002 burning the processor is the point
			for {
			}
		}()
	}
	conn := hello(addr, name)
	for range time.Tick(time.Millisecond) {
		if _, err := io.WriteString(conn, "beat\n"); err != nil {
			return 0
		}
	}
	return 0
}

// child is this binary again with other arguments.
func child(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = os.Environ()
	return cmd
}

// detach starts args in a session of their own and leaves them behind.
func detach(args []string) int {
	cmd := child(args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return agentFailed
	}
	fmt.Println(cmd.Process.Pid)
	return 0
}

// daemonise double-forks args and returns the daemon's number.
func daemonise(args ...string) (pid int, err error) {
	cmd := child(append([]string{"between"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.Output()
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(out)))
}

// agentRun runs from being killed: it says hello, passes the torch to a child in
// a session of its own, and ends; n times at most.
func agentRun(addr, n string) int {
	left, _ := strconv.Atoi(n)
	conn, err := net.Dial("tcp", addr)
	if err == nil {
		_, err = io.WriteString(conn, "runner\n")
		_ = conn.Close()
	}
	if err != nil || left == 0 {
		return agentFailed
	}
	cmd := child("run", addr, strconv.Itoa(left-1))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return agentFailed
	}
	return 0
}

// touch takes n MiB of memory and writes to every page.
func touch(n int) []byte {
	mem, err := syscall.Mmap(-1, 0, n<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(agentFailed)
	}
	for i := 0; i < len(mem); i += 4096 {
		mem[i] = byte(i>>12) | 1
	}
	return mem
}

// agentThreads makes n threads and holds them. The Go runtime ends the process
// with an error that names the errno when it cannot get one.
func agentThreads(n int) int {
	var up, hold sync.WaitGroup
	hold.Add(1)
	for range n {
		up.Add(1)
		go func() {
			runtime.LockOSThread()
			up.Done()
			hold.Wait()
		}()
	}
	up.Wait()
	return 0
}

// agentTell writes to each of n descriptors from 3 on which one it is, and
// fails when there are more.
func agentTell(n int) int {
	for fd := 3; fd < 3+n; fd++ {
		if _, err := syscall.Write(fd, []byte("descriptor "+strconv.Itoa(fd))); err != nil {
			fmt.Fprintln(os.Stderr, fd, err)
			return agentFailed
		}
	}
	if got := (report{}).complete().Descriptors; len(got) != n {
		fmt.Fprintln(os.Stderr, got)
		return agentFailed
	}
	return 0
}

func agentFlood() int {
	block := []byte(strings.Repeat("flood of lines without end\n", 2000))
	for {
		if _, err := os.Stdout.Write(block); err != nil {
			return agentFailed
		}
	}
}
