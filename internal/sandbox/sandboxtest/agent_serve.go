package sandboxtest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// facts is what a process finds out about itself and what is around it.
type facts struct {
	UID, GID, PID, PPID int
	Groups              []int
	Processes           []int             // numbers in /proc
	Interfaces          []string          // network interfaces
	Status              map[string]string // /proc/self/status
	Hostname            string
}

// server obeys the suite's orders one after the other.
type server struct {
	addr   string
	memory [][]byte
	open   []net.Listener
	narrow net.Listener
	bound  []net.PacketConn
}

// agentServe connects and obeys until the connection ends.
func agentServe(addr, name string) int {
	conn := hello(addr, name)
	s := &server{addr: addr}
	in := bufio.NewReader(conn)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return 0
		}
		var o order
		if err := json.Unmarshal(line, &o); err != nil {
			return agentFailed
		}
		res, err := s.obey(o)
		if err != nil {
			res.Err = err.Error()
			if errno, ok := errors.AsType[syscall.Errno](err); ok {
				res.Errno = int(errno)
			}
		}
		if err := json.NewEncoder(conn).Encode(res); err != nil {
			return agentFailed
		}
	}
}

func (s *server) obey(o order) (res result, err error) {
	switch o.Do {
	case "ping":
	case "print":
		_, err = fmt.Print(o.Text)
	case "write":
		res.N, err = writeFile(o.Text, o.N)
	case "read":
		var data []byte
		data, err = os.ReadFile(o.Text)
		res.Text = string(data)
	case "remove":
		err = os.RemoveAll(o.Text)
	case "lookup":
		var addrs []string
		addrs, err = (&net.Resolver{PreferGo: true}).LookupHost(context.Background(), o.Text)
		res.Text = strings.Join(addrs, " ")
	case "dial", "listen":
		err = s.network(o)
	case "echo":
		res.N, err = s.echo(o.Text)
	case "narrow":
		res.N, err = s.listenNarrow()
	case "drain":
		go serveEcho(s.narrow)
	case "packets":
		var c net.PacketConn
		if c, err = net.ListenPacket("udp4", o.Text); err == nil {
			s.bound = append(s.bound, c)
		}
	case "send":
		err = send(o.Text)
	case "socket":
		var fd int
		if fd, err = syscall.Socket(o.N, socketType(o.Text), 0); err == nil {
			_ = syscall.Close(fd)
		}
	case "alloc":
		s.memory = append(s.memory, touch(o.N))
	case "free":
		for _, m := range s.memory {
			err = errors.Join(err, syscall.Munmap(m))
		}
		s.memory = nil
	case "burn":
		res.N = burn(time.Duration(o.N) * time.Millisecond)
	case "daemon":
		res.N, err = daemonise("beat", s.addr, o.Text)
	case "child":
		err = child("beat", s.addr, o.Text).Start()
	case "orphans":
		err = orphans(o.N)
	case "facts":
		res.Facts = gather()
	case "open":
		res.N, err = openMany(o.N)
	default:
		err = errors.New("unknown order " + o.Do)
	}
	return res, err
}

// writeFile writes n MiB (or one word when n is 0) and returns the MiB that
// fitted.
func writeFile(path string, n int) (int, error) {
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	if n == 0 {
		_, err = f.WriteString("kept")
		return 0, err
	}
	block := make([]byte, 1<<20)
	for i := range n {
		if _, err := f.Write(block); err != nil {
			return i, err
		}
	}
	return n, nil
}

// network dials or listens at "network address".
func (s *server) network(o order) error {
	network, addr, _ := strings.Cut(o.Text, " ")
	if o.Do == "listen" {
		l, err := net.Listen(network, addr)
		if err == nil {
			s.open = append(s.open, l)
		}
		return err
	}
	conn, err := net.DialTimeout(network, addr, time.Duration(o.N)*time.Millisecond)
	if err == nil {
		_ = conn.Close()
	}
	return err
}

// echo answers every connection to addr with what it says, and returns the
// port.
func (s *server) echo(addr string) (port int, err error) {
	l, err := net.Listen("tcp4", addr)
	if err != nil {
		return 0, err
	}
	s.open = append(s.open, l)
	go serveEcho(l)
	return l.Addr().(*net.TCPAddr).Port, nil
}

func serveEcho(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = conn.Close() }()
			_, _ = io.Copy(conn, conn)
		}()
	}
}

// listenNarrow opens a listener that takes few connections and accepts none
// before it is told to drain.
func (s *server) listenNarrow() (port int, err error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		return 0, err
	}
	var again error
	if err := raw.Control(func(fd uintptr) { again = syscall.Listen(int(fd), 1) }); err != nil {
		return 0, err
	}
	s.narrow = l
	return l.Addr().(*net.TCPAddr).Port, again
}

// send sends a datagram to the address before the first space.
func send(text string) error {
	addr, payload, _ := strings.Cut(text, " ")
	conn, err := net.Dial("udp4", addr)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_, err = conn.Write([]byte(payload))
	return err
}

func socketType(name string) int {
	if name == "raw" {
		return syscall.SOCK_RAW
	}
	return syscall.SOCK_STREAM
}

// burn works for d of wall time and returns the milliseconds of processor time
// that it was given.
func burn(d time.Duration) int {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := processorTime()
	for end := time.Now().Add(d); time.Now().Before(end); {
	}
	return int((processorTime() - before) / time.Millisecond)
}

func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// orphans leaves n processes without a parent, which end, and waits until
// somebody has reaped them all.
func orphans(n int) error {
	var pids []int
	for range n {
		pid, err := daemonise("exit", "0")
		if err != nil {
			return err
		}
		pids = append(pids, pid)
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		left := 0
		for _, pid := range pids {
			if syscall.Kill(pid, 0) == nil {
				left++
			}
		}
		if left == 0 {
			return nil
		}
		<-time.After(5 * time.Millisecond)
	}
	return errors.New("orphans have not been reaped")
}

// openMany opens up to n descriptors at once and returns how many it got.
func openMany(n int) (int, error) {
	var fds []int
	defer func() {
		for _, fd := range fds {
			_ = syscall.Close(fd)
		}
	}()
	for range n {
		fd, err := syscall.Open("/dev/null", syscall.O_RDONLY, 0)
		if err != nil {
			return len(fds), err
		}
		fds = append(fds, fd)
	}
	return len(fds), nil
}

func gather() *facts {
	f := &facts{
		UID: os.Getuid(), GID: os.Getgid(), PID: os.Getpid(), PPID: os.Getppid(),
		Status: map[string]string{},
	}
	f.Groups, _ = os.Getgroups()
	f.Hostname, _ = os.Hostname()
	numbers, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range numbers {
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil {
			f.Processes = append(f.Processes, pid)
		}
	}
	interfaces, _ := net.Interfaces()
	for _, i := range interfaces {
		f.Interfaces = append(f.Interfaces, i.Name)
	}
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		f.Status[key] = strings.TrimSpace(value)
	}
	return f
}
