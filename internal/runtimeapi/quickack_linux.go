package runtimeapi

import (
	"net"
	"syscall"
)

// tcpQuickACK is TCP_QUICKACK, which package syscall lacks.
const tcpQuickACK = 12

// acknowledge has the kernel acknowledge at once what has come in and, for a
// while, what comes next. Clients that leave Nagle's algorithm on hold a small
// write back until the one before is acknowledged, and the kernel delays an
// acknowledgement by 40 ms where, as in the middle of a body, nothing is sent
// that it could go with. It is of no use to other connections, nor a loss.
func acknowledge(conn net.Conn) {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpQuickACK, 1)
	})
}
