package environment

import (
	"context"
	"errors"
	"net"
	"strings"
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
// the socket.
func (e *Environment) readSegments(conn net.PacketConn) {
	buf := make([]byte, maxDatagram)
	for {
		n, _, err := conn.ReadFrom(buf)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			e.cfg.Logger.Warn("read segments", "error", err)
			return
		}
		e.cfg.Segments(&e.source, buf[:n])
	}
}
