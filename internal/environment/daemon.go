package environment

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/firn-run/firn/internal/sandbox"
)

const (
	// daemonLimit bounds the opening of the X-Ray daemon's socket, which is
	// one message to the sandbox's init.
	daemonLimit = time.Second
	// maxDatagram is the largest datagram that UDP has, and more than the
	// daemon takes.
	maxDatagram = 64 << 10
)

// sampled says that the function will be asked to record segments.
func sampled(traceID string) bool { return strings.Contains(traceID, "Sampled=1") }

// hearSegments opens the X-Ray daemon's socket, once. The sandbox must not be
// frozen. Without it, tracing is missing and nothing else.
func (e *Environment) hearSegments() {
	e.daemon.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), daemonLimit)
		defer cancel()
		conn, err := e.box.Daemon(ctx)
		if errors.Is(err, sandbox.ErrClosed) {
			return
		}
		if err != nil {
			e.cfg.Logger.Warn("listen as the X-Ray daemon", "error", err)
			return
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		if !e.ended {
			e.group.Go(func() { e.readSegments(conn) })
		}
	})
}

// readSegments hands on what processes inside send, until the sandbox closes
// the socket. The buffer lives while there is something to read: an idle
// environment, traced or not, costs no 64 KiB.
func (e *Environment) readSegments(conn net.PacketConn) {
	err := errors.ErrUnsupported
	if socket, ok := conn.(syscall.Conn); ok {
		var raw syscall.RawConn
		if raw, err = socket.SyscallConn(); err == nil {
			err = e.readDatagrams(raw)
		}
	}
	if !errors.Is(err, net.ErrClosed) {
		e.cfg.Logger.Warn("read segments", "error", err)
	}
}

// readDatagrams ends with an error.
func (e *Environment) readDatagrams(raw syscall.RawConn) error {
	var buf []byte
	for {
		var n int
		var failed error
		err := raw.Read(func(fd uintptr) (done bool) {
			if buf == nil {
				buf = make([]byte, maxDatagram)
			}
			for {
				n, _, failed = syscall.Recvfrom(int(fd), buf, 0)
				switch failed {
				case syscall.EINTR:
					continue
				case syscall.EAGAIN:
					buf = nil
					return false
				}
				return true
			}
		})
		if err = errors.Join(err, failed); err != nil {
			return err
		}
		e.cfg.Segments(&e.source, buf[:n])
	}
}
