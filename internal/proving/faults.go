package proving

import (
	"bytes"
	"context"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/firn-run/firn/internal/telemetryapi"
)

// fault is what a scenario does to the way from the platform to the listener.
type fault struct {
	refuse int           // so many connections are refused first
	delay  time.Duration // of each acknowledgement
	closed bool          // subscriptions are refused: Init is over
}

// wire sits between the platform and an extension's listener: it makes faults
// and counts what the listener answers.
type wire struct {
	mu           sync.Mutex
	fault        fault
	refused      int
	connections  int
	acknowledged int // answers with status 200
	failed       int // other answers
}

// begin sets the fault of the next scenario and forgets the counts.
func (w *wire) begin(f fault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault, w.refused, w.connections, w.acknowledged, w.failed = f, 0, 0, 0, 0
}

// counts are what a wire has seen.
type counts struct{ refused, connections, acknowledged, failed int }

func (w *wire) counts() counts {
	w.mu.Lock()
	defer w.mu.Unlock()
	return counts{w.refused, w.connections, w.acknowledged, w.failed}
}

func (w *wire) closed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fault.closed
}

// wrap puts the wire before a dialer.
func (w *wire) wrap(next telemetryapi.Dialer) telemetryapi.Dialer {
	return func(ctx context.Context, port int) (net.Conn, error) {
		w.mu.Lock()
		refuse := w.refused < w.fault.refuse
		if refuse {
			w.refused++
		}
		delay := w.fault.delay
		w.mu.Unlock()
		if refuse {
			return nil, syscall.ECONNREFUSED
		}
		conn, err := next(ctx, port)
		if err != nil {
			return nil, err
		}
		w.mu.Lock()
		w.connections++
		w.mu.Unlock()
		return &slowConn{Conn: conn, wire: w, delay: delay}, nil
	}
}

// slowConn delays what comes from the listener, and looks at it.
type slowConn struct {
	net.Conn
	wire  *wire
	delay time.Duration
}

// Read hands on an answer, late.
func (c *slowConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if status, ok := bytes.CutPrefix(p[:n], []byte("HTTP/1.")); ok && len(status) > 5 {
		c.wire.mu.Lock()
		if string(status[2:5]) == "200" {
			c.wire.acknowledged++
		} else {
			c.wire.failed++
		}
		c.wire.mu.Unlock()
	}
	if c.delay > 0 && n > 0 {
		<-time.After(c.delay)
	}
	return n, err
}
