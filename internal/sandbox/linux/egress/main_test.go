//go:build linux

package egress_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/require"
	"github.com/firn-run/firn/internal/sandbox/linux/egress"
	"github.com/firn-run/firn/internal/sandbox/linux/egress/tun"
)

// insideVariable marks the copy of the test binary that runs in a network of
// its own, where the tests may add addresses.
const insideVariable = "FIRN_EGRESS_TEST_NETWORK"

// Addresses that the test's own host has on its loopback: one private, which
// tests allow by policy, and one public, which only its being the host's own
// can refuse.
const (
	hostPrivate = "10.77.0.1"
	hostPublic  = "8.8.4.4"
)

// TestMain runs the tests in a child with user, PID and network namespaces of
// its own. Where such a child cannot be made they run here, and those that need
// a network skip.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv(insideVariable) != "":
		if err := hostNetwork(); err != nil {
			fmt.Fprintln(os.Stderr, "test network:", err)
			os.Exit(1)
		}
	case !fuzzing():
		if code, ok := reexec(); ok {
			os.Exit(code)
		}
	}
	os.Exit(m.Run())
}

// fuzzing tells whether the test binary was started for fuzzing, which hands
// descriptors to its workers that a copy would not get.
func fuzzing() bool {
	for _, a := range os.Args {
		if strings.HasPrefix(a, "-test.fuzz") && !strings.HasPrefix(a, "-test.fuzzcachedir") {
			return true
		}
	}
	return false
}

func reexec() (code int, ok bool) {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	if err := cmd.Start(); err != nil {
		return 0, false
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, err)
		return 1, true
	}
	return cmd.ProcessState.ExitCode(), true
}

// hostNetwork brings the loopback up and gives it the host's addresses.
func hostNetwork() error {
	if err := loopbackUp(); err != nil {
		return err
	}
	for i, a := range []string{hostPrivate, hostPublic} {
		if err := addLoopbackAddress(fmt.Sprintf("lo:%d", i+1), a); err != nil {
			return err
		}
	}
	return nil
}

func loopbackUp() error {
	return onInterface("lo", unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error {
		r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		return nil
	})
}

func addLoopbackAddress(alias, a string) error {
	return onInterface(alias, unix.SIOCSIFADDR, func(r *unix.Ifreq) error {
		b := netip.MustParseAddr(a).As4()
		return r.SetInet4Addr(b[:])
	})
}

func onInterface(name string, call uint, fill func(*unix.Ifreq) error) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	r, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := fill(r); err != nil {
		return err
	}
	return unix.IoctlIfreq(s, call, r)
}

// needNetwork skips a test where namespaces or TUN devices cannot be had.
func needNetwork(t testing.TB) {
	t.Helper()
	require.Feature(t, "user namespaces", os.Getenv(insideVariable) != "", "no child in user and network namespaces could be started")
	fd, err := unix.Open(tun.DevicePath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	require.Feature(t, "tun", err == nil, fmt.Sprintf("%s: %v", tun.DevicePath, err))
}

// onThread runs f on a thread of its own that ends afterwards, so that f may
// change what belongs to a thread.
func onThread(f func()) {
	done := make(chan struct{})
	var run func()
	run = func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			defer close(done)
			f()
			return
		}
		go run() // elsewhere: this is the process's first thread
		<-done
		runtime.UnlockOSThread()
	}
	go run()
	<-done
}

// network is a network namespace of a sandbox.
type network struct{ file *os.File }

func newNetwork(t testing.TB) network {
	t.Helper()
	needNetwork(t)
	var f *os.File
	var err error
	onThread(func() {
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return
		}
		if err = loopbackUp(); err != nil {
			return
		}
		f, err = os.Open("/proc/thread-self/ns/net")
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return network{f}
}

// within runs f on a thread that stands in the network.
func (n network) within(f func() error) error {
	var err error
	onThread(func() {
		if err = unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err == nil {
			err = f()
		}
	})
	return err
}

// dial connects from inside the network.
func (n network) dial(ctx context.Context, kind, address string) (net.Conn, error) {
	var c net.Conn
	err := n.within(func() (err error) {
		c, err = (&net.Dialer{}).DialContext(ctx, kind, address)
		return err
	})
	return c, err
}

// box is a sandbox's network with a Stack behind it.
type box struct {
	network
	t     testing.TB
	stack *egress.Stack

	mu    sync.Mutex
	conns []net.Conn // made by connect
}

func newBox(t testing.TB, cfg egress.Config) *box {
	t.Helper()
	n := newNetwork(t)
	f, err := egress.OpenTUN(n.file)
	if err != nil {
		t.Fatal(err)
	}
	cfg.TUN = f
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	s, err := egress.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b := &box{network: n, t: t, stack: s}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// connect dials from inside, with a deadline on everything, and fails the test
// when that fails.
func (b *box) connect(kind, address string) net.Conn {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 20*time.Second)
	defer cancel()
	c, err := b.dial(ctx, kind, address)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	b.mu.Lock()
	b.conns = append(b.conns, c)
	b.mu.Unlock()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return c
}

// testWriter logs through the test, in one piece with it.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSuffix(string(b), "\n"))
	return len(b), nil
}

// allowPrivate lets the test's own private host address through.
func allowPrivate() *egress.Policy {
	return &egress.Policy{Allow: []netip.Prefix{netip.MustParsePrefix(hostPrivate + "/32")}}
}

// serve accepts TCP connections on an address of the host and runs f on each.
func serve(t testing.TB, host string, f func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp4", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(30 * time.Second))
				f(c)
			}()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

// breakClients makes the calls fail that wait on connections inside.
func (b *box) breakClients() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.conns {
		c.Close()
	}
}
