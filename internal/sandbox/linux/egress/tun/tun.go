//go:build linux

// Package tun makes the one network interface that a sandbox has beside its
// loopback: a TUN device whose other end is a file descriptor held by firn.
// Whatever a process inside sends to the outside world is read from that
// descriptor as an IP packet, and package egress decides what becomes of it.
//
// The package imports nothing but the system's calls, so that the small init
// program can use it as well. There are two ways to get the descriptor:
//
//   - Open enters a network namespace from outside. The caller needs
//     CAP_SYS_ADMIN and CAP_NET_ADMIN over the user namespace that owns the
//     network namespace, which root of the host has over every sandbox.
//   - OpenHere works in the namespace the caller stands in. A rootless init
//     calls it after its namespaces are made and before it gives up its
//     capabilities and its view of /dev, and sends the descriptor to firn over
//     its control socket. It needs CAP_NET_ADMIN in its own user namespace and
//     a /dev/net/tun that its user may open (mode 0666 on most distributions).
//
// The device belongs to the descriptor: when the last copy is closed, the
// interface is gone. Until then the descriptor keeps the network namespace
// alive, even with no process left in it; so init closes its copy as soon as it
// has sent it.
package tun

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// DevicePath is where the kernel offers TUN devices.
const DevicePath = "/dev/net/tun"

// Name is the interface's name inside the sandbox: the one that Lambda's has,
// under which extensions look for the function's traffic in /proc/net/dev.
const Name = "vinternal_1"

// MTU is the interface's largest packet in bytes. There is no wire behind the
// device that could limit it, and the cost of a connection is paid per packet;
// with the largest packet that IP allows, rounded down to what the kernel takes
// for TUN, throughput is many times that of 1,500.
const MTU = 65520

// queueLength is how many packets may wait in the device for firn to read
// them: with MTU it bounds the kernel memory of a sandbox that sends UDP faster
// than it is read (32 MB), while TCP never has more in flight than firn's
// receive windows.
const queueLength = 512

// PrefixBits is the length of the link's prefix: two hosts.
const PrefixBits = 30

// Gateway is firn's end of the link: the default route, the resolver, and the
// host of services offered to the sandbox. Link-local addresses never leave a
// host, so the sandbox's view of every other network stays undisturbed; AWS
// uses the same block for the same purpose.
func Gateway() netip.Addr { return netip.AddrFrom4([4]byte{169, 254, 76, 1}) }

// Sandbox is the sandbox's own address on the link. It is the same in every
// sandbox: each has a network of its own.
func Sandbox() netip.Addr { return netip.AddrFrom4([4]byte{169, 254, 76, 2}) }

// Open makes the device in the given network namespace and configures it. The
// calling goroutine's own namespace is not changed. netns is an open
// /proc/PID/ns/net or a bind mount of one; it stays open.
//
// The returned file is non-blocking and works with the runtime's poller.
func Open(netns *os.File) (*os.File, error) {
	type result struct {
		file *os.File
		err  error
	}
	done := make(chan result, 1)
	enter := func() {
		// The thread stays in the foreign namespace, so it must not serve
		// other goroutines afterwards: a goroutine that ends while locked
		// takes its thread with it.
		runtime.LockOSThread()
		if err := unix.Setns(int(netns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- result{err: fmt.Errorf("enter network namespace: %w", err)}
			return
		}
		f, err := OpenHere()
		done <- result{f, err}
	}
	go offMainThread(enter)
	r := <-done
	runtime.KeepAlive(netns)
	return r.file, r.err
}

// offMainThread runs f on a thread that is not the process's first one. That
// thread never ends, and /proc/self shows its namespaces as the process's own:
// it must never enter another one.
func offMainThread(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		f() // ends locked, and the thread with it
		return
	}
	done := make(chan struct{})
	go func() { defer close(done); f() }() // cannot run on this thread: it is held here
	<-done
	runtime.UnlockOSThread()
}

// OpenHere makes and configures the device in the network namespace of the
// calling thread. The returned file is non-blocking and works with the
// runtime's poller; when its descriptor is sent to another process, that one
// gets the same from os.NewFile. Take the descriptor with SyscallConn, not with
// Fd, which would make it blocking on both sides.
func OpenHere() (*os.File, error) {
	fd, err := unix.Open(DevicePath, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: DevicePath, Err: err}
	}
	if err := setup(fd); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), DevicePath), nil
}

// setup turns an open descriptor into the configured interface.
func setup(fd int) error {
	ifr, err := unix.NewIfreq(Name)
	if err != nil {
		return fmt.Errorf("interface name %q: %w", Name, err)
	}
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return fmt.Errorf("make TUN interface %s: %w", Name, err)
	}
	nl, err := dialNetlink()
	if err != nil {
		return err
	}
	defer nl.close()
	index, err := interfaceIndex()
	if err != nil {
		return err
	}
	// Without this the kernel gives the interface an IPv6 link-local address
	// and sends router solicitations, which would wake an idle stack. A kernel
	// without IPv6 refuses the message, and needs it not.
	if err := nl.do(noIPv6Address(index)); err != nil && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("switch off IPv6 addresses on %s: %w", Name, err)
	}
	if err := nl.do(linkUp(index)); err != nil {
		return fmt.Errorf("bring %s up: %w", Name, err)
	}
	if err := nl.do(addAddress(index)); err != nil {
		return fmt.Errorf("give %s its address: %w", Name, err)
	}
	if err := nl.do(defaultRoute(index)); err != nil {
		return fmt.Errorf("route through %s: %w", Name, err)
	}
	return nil
}

// interfaceIndex finds the index of Name in the calling thread's namespace.
func interfaceIndex() (uint32, error) {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(s)
	ifr, err := unix.NewIfreq(Name)
	if err != nil {
		return 0, fmt.Errorf("interface name %q: %w", Name, err)
	}
	if err := unix.IoctlIfreq(s, unix.SIOCGIFINDEX, ifr); err != nil {
		return 0, fmt.Errorf("find interface %s: %w", Name, err)
	}
	return ifr.Uint32(), nil
}
