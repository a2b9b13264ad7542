//go:build linux

package main

import "golang.org/x/sys/unix"

// apiPort is the Runtime API's port on the sandbox's own loopback.
const apiPort = 9001

// backlog is that of the Runtime API: its clients are the runtime and at most
// ten extensions.
const backlog = 128

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return failed("open a socket", err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return failed("name the loopback", err)
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return failed("bring the loopback up", unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr))
}

// listen opens the Runtime API's socket inside the network namespace, as plain
// TCP. firn accepts from it as if it were its own.
func listen() (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, failed("open a socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: apiPort}); err != nil {
		return -1, failed("bind the Runtime API", err)
	}
	return fd, failed("listen for the Runtime API", unix.Listen(fd, backlog))
}
