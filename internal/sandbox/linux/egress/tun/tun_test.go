//go:build linux

package tun_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/require"
	"github.com/firn-run/firn/internal/sandbox/linux/egress/tun"
)

// inNewNetwork runs f on a thread in a network namespace of its own, which ends
// with it.
func inNewNetwork(t *testing.T, f func(netns *os.File)) {
	t.Helper()
	needDevice(t)
	done := make(chan error, 1)
	var run func()
	run = func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() { // the process's first thread must stay where it is
			again := make(chan struct{})
			go func() { defer close(again); run() }()
			<-again
			runtime.UnlockOSThread()
			return
		}
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		ns, err := os.Open("/proc/thread-self/ns/net")
		if err == nil {
			f(ns)
			ns.Close()
		}
		done <- err
	}
	go run()
	err := <-done
	require.Feature(t, "network namespaces", err == nil, fmt.Sprint(err))
}

func TestOpen(t *testing.T) {
	before, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	inNewNetwork(t, func(ns *os.File) {
		f, err := tun.Open(ns)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		checkInterface(t)
		// The address is there and the default route leads to the device: a
		// datagram to anywhere arrives at the descriptor, from our address.
		c, err := net.Dial("udp4", "1.1.1.1:9")
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		if _, err := c.Write([]byte("hello")); err != nil {
			t.Error(err)
		}
		_ = f.SetReadDeadline(time.Now().Add(5 * time.Second))
		packet := make([]byte, tun.MTU)
		n, err := f.Read(packet)
		if err != nil || n != 33 || packet[0] != 0x45 || string(packet[28:n]) != "hello" {
			t.Errorf("read % x, %v", packet[:n], err)
		}
		if from := netip.AddrFrom4([4]byte(packet[12:16])); from != tun.Sandbox() {
			t.Errorf("from %v", from)
		}
		// Nothing else came by itself: no IPv6 solicitation, no IGMP.
		_ = f.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if n, err := f.Read(packet); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("unasked packet % x, %v", packet[:n], err)
		}
		// A second one of the same name cannot be made, and says so.
		if second, err := tun.Open(ns); !errors.Is(err, unix.EBUSY) {
			t.Errorf("second device: %v, %v, want EBUSY", second, err)
		}
		f.Close()
		if _, err := net.InterfaceByName(tun.Name); err == nil {
			t.Error("the interface outlived its descriptor")
		}
	})
	after, err := net.Interfaces()
	if err != nil || len(before) != len(after) {
		t.Errorf("the process's own network changed: %v, %v, %v", before, after, err)
	}
}

func checkInterface(t *testing.T) {
	t.Helper()
	i, err := net.InterfaceByName(tun.Name)
	if err != nil {
		t.Error(err)
		return
	}
	if i.MTU != tun.MTU || i.Flags&net.FlagUp == 0 {
		t.Errorf("interface %+v", i)
	}
	addrs, err := i.Addrs()
	if err != nil || len(addrs) != 1 || addrs[0].String() != fmt.Sprintf("%v/%d", tun.Sandbox(), tun.PrefixBits) {
		t.Errorf("addresses %v, %v", addrs, err)
	}
}

func TestOpenInWhatIsNoNamespace(t *testing.T) {
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := tun.Open(f); err == nil {
		got.Close()
		t.Error("no error")
	}
}
