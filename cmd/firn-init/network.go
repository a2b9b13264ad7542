//go:build linux

package main

import (
	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/sandbox/linux/initproto"
)

// apiPort is the Runtime API's port on the sandbox's own loopback.
const apiPort = 9001

// backlog is that of the Runtime API: its clients are the runtime and at most
// ten extensions.
const backlog = 128

// daemonPort is the X-Ray daemon's port inside, as on AWS.
const daemonPort = 2000

// daemonHost is its address, which lies on the loopback.
func daemonHost() [4]byte { return [4]byte{169, 254, 79, 129} }

// raiseLoopback brings the loopback up and gives it the X-Ray daemon's address
// beside its own: only this thread may, and none of the function's processes
// is there yet.
func raiseLoopback() error {
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
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return failed("bring the loopback up", err)
	}
	host, netmask := daemonHost(), [4]byte{255, 255, 255, 255}
	if ifr, err = unix.NewIfreq("lo:1"); err == nil {
		err = ifr.SetInet4Addr(host[:])
	}
	if err == nil {
		err = unix.IoctlIfreq(fd, unix.SIOCSIFADDR, ifr)
	}
	if err == nil { // or all of 169.254.0.0/16 would be local
		err = ifr.SetInet4Addr(netmask[:])
	}
	if err == nil {
		err = unix.IoctlIfreq(fd, unix.SIOCSIFNETMASK, ifr)
	}
	return failed("add the X-Ray daemon's address", err)
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

// open makes sockets in the sandbox's network namespace and hands them over.
func (p *processes) open(seq uint32, m *initproto.Open) error {
	if m.Streams > initproto.MaxStreams {
		return failed("understand the request", unix.EPROTO)
	}
	var fds []int
	defer func() { closeAll(fds) }()
	for range m.Streams {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return p.ctl.fail(seq, failed("open a socket", err))
		}
		fds = append(fds, fd)
	}
	if m.Daemon {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return p.ctl.fail(seq, failed("open a socket", err))
		}
		fds = append(fds, fd)
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: daemonHost(), Port: daemonPort}); err != nil {
			return p.ctl.fail(seq, failed("bind the X-Ray daemon's address", err))
		}
	}
	return p.ctl.send(seq, &initproto.Opened{}, fds...)
}
