//go:build linux

package egress

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/firn-run/firn/internal/sandbox/linux/egress/tun"
)

// relayBuffer is how much is moved at a time: what fills one segment to the
// sandbox (40 bytes of headers and 12 of options), so that none goes half
// empty.
const relayBuffer = tun.MTU - 52

// tcpRelay joins a connection of the sandbox (ep, served by the machinery) with
// firn's own one to the server. Each direction is closed on its own. A failure
// of either side ends both, with a reset where TCP has one.
type tcpRelay struct {
	ep     tcpip.Endpoint
	events waiter.Queue // of ep
	outer  net.Conn
	limits *Limits

	moved    atomic.Int64 // bytes, both ways
	finished atomic.Bool  // the server's side ended and ep was told so

	mu     sync.Mutex
	ended  bool          // ep must not be touched by the idle timer any more
	period time.Duration // of the idle timer
	idle   *time.Timer
}

// run moves data until both directions are done and all was delivered. One
// more goroutine than the calling one is counted in work.
func (c *tcpRelay) run(work *sync.WaitGroup) {
	broken := waiter.NewFunctionEntry(hangup, func(waiter.EventMask) { c.onHangup() })
	c.events.EventRegister(&broken)
	c.onHangup() // it may have happened before
	c.watchIdle()

	uploaded := make(chan error, 1)
	work.Go(func() {
		err := c.upload()
		if err != nil && !errors.Is(err, errServerGone) {
			c.breakOuter()
		}
		c.hurry()
		uploaded <- err
	})
	err := c.download()
	if err != nil {
		c.breakOuter()
		c.ep.Abort()
	}
	err = errors.Join(err, <-uploaded)
	if err == nil && !c.drained() {
		err = errNotDrained
	}
	c.events.EventUnregister(&broken)
	c.stopWatching()
	if err != nil {
		c.ep.Abort()
		reset(c.outer)
	} else {
		_ = c.outer.Close() // both directions were closed before
	}
	c.ep.Close()
}

var (
	errServerGone = errors.New("server no longer takes data")
	errNotDrained = errors.New("sandbox does not take the rest")
	errReset      = errors.New("sandbox reset the connection")
)

// upload moves what the sandbox sends to the server, then closes that
// direction. It returns errServerGone when the server stopped taking data:
// what the server has sent may still be worth delivering.
func (c *tcpRelay) upload() error {
	entry, ready := waiter.NewChannelEntry(readable)
	c.events.EventRegister(&entry)
	defer c.events.EventUnregister(&entry)
	for {
		v := buffer.NewViewSize(relayBuffer)
		w := tcpip.SliceWriter(v.AsSlice())
		res, terr := c.ep.Read(&w, tcpip.ReadOptions{})
		var err error
		if res.Count > 0 {
			c.moved.Add(int64(res.Count))
			_, err = c.outer.Write(v.AsSlice()[:res.Count])
		}
		v.Release()
		if err != nil {
			return fmt.Errorf("%w: %w", errServerGone, err)
		}
		switch terr.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			<-ready // every end of ep notifies
		case *tcpip.ErrClosedForReceive:
			if c.broken() {
				return errReset
			}
			if err := closeWrite(c.outer); err != nil {
				return fmt.Errorf("%w: %w", errServerGone, err)
			}
			return nil
		default:
			return fmt.Errorf("read from sandbox: %s", terr)
		}
	}
}

// download moves what the server sends to the sandbox, then closes that
// direction.
func (c *tcpRelay) download() error {
	entry, ready := waiter.NewChannelEntry(writable)
	c.events.EventRegister(&entry)
	defer c.events.EventUnregister(&entry)
	from := newSource(c.outer, relayBuffer)
	for {
		v, err := from.next()
		if v != nil {
			c.moved.Add(int64(v.Size()))
			terr := c.write(v.AsSlice(), ready)
			v.Release()
			if terr != nil {
				return fmt.Errorf("write to sandbox: %s", terr)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read from server: %w", err)
		}
	}
	c.finished.Store(true)
	if terr := c.ep.Shutdown(tcpip.ShutdownWrite); terr != nil {
		return fmt.Errorf("close towards sandbox: %s", terr)
	}
	return nil
}

// write gives all of b to the sandbox's connection, waiting while its buffer is
// full: that is the back pressure on the server.
func (c *tcpRelay) write(b []byte, ready <-chan struct{}) tcpip.Error {
	var r bytes.Reader
	for len(b) > 0 {
		r.Reset(b)
		n, terr := c.ep.Write(&r, tcpip.WriteOptions{})
		b = b[n:]
		if terr == nil {
			continue
		}
		if _, full := terr.(*tcpip.ErrWouldBlock); !full {
			return terr
		}
		<-ready // every end of ep notifies
	}
	return nil
}

// drained waits until the sandbox has taken all that was sent to it, so that a
// connection counts against the limits as long as it holds memory. It tells
// whether that came about within limits.Drain.
func (c *tcpRelay) drained() bool {
	entry, changed := waiter.NewChannelEntry(hangup)
	c.events.EventRegister(&entry)
	defer c.events.EventUnregister(&entry)
	timeout := time.NewTimer(c.limits.Drain)
	defer timeout.Stop()
	for {
		switch tcp.EndpointState(c.ep.State()) {
		case tcp.StateClose, tcp.StateError, tcp.StateTimeWait:
			return true
		}
		select {
		case <-changed:
		case <-timeout.C:
			return false
		}
	}
}

// onHangup is called by the machinery when ep ended. An end that is not the
// orderly one of both sides breaks the outer connection, which is what wakes a
// direction that waits for the server.
func (c *tcpRelay) onHangup() {
	if c.broken() {
		c.breakOuter()
	}
}

// broken tells whether ep ended in another way than by the orderly close of
// both sides. The machinery reports the error of an end only once, to whoever
// asks first, so its state is what counts; a reset that comes after the
// sandbox's half-close shows as closed.
func (c *tcpRelay) broken() bool {
	switch tcp.EndpointState(c.ep.State()) {
	case tcp.StateError:
		return true
	case tcp.StateClose:
		return !c.finished.Load()
	}
	return false
}

// breakOuter makes every present and future call on the outer connection fail.
// It does not block.
func (c *tcpRelay) breakOuter() { _ = c.outer.SetDeadline(time.Unix(1, 0)) }

// watchIdle starts the timer that ends the connection when nothing moves.
func (c *tcpRelay) watchIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.period = c.limits.TCPIdle
	var seen int64
	c.idle = time.AfterFunc(c.period, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.ended {
			return
		}
		if now := c.moved.Load(); now != seen {
			seen = now
			c.idle.Reset(c.period)
			return
		}
		c.ep.Abort()
	})
}

// hurry makes the idle timer impatient: the sandbox sends nothing any more.
func (c *tcpRelay) hurry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.period = min(c.period, c.limits.HalfClosed)
	if !c.ended {
		c.idle.Reset(c.period)
	}
}

// stopWatching returns when the idle timer will not touch ep any more.
func (c *tcpRelay) stopWatching() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	c.idle.Stop()
}

// closeWrite tells the server that no more data comes. A connection that has no
// half-close (not TCP, not a Unix socket) goes on until the server ends it.
func closeWrite(c net.Conn) error {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return nil
}

// source reads a connection and holds a buffer only while there is something to
// read, which is what makes a thousand idle connections cheap.
type source struct {
	conn net.Conn
	size int
	raw  syscall.RawConn // nil: conn is not one of the system's sockets
	try  func(fd uintptr) bool

	view *buffer.View
	n    int
	err  error
}

func newSource(c net.Conn, size int) *source {
	s := &source{conn: c, size: size}
	switch c := c.(type) { // by name: a wrapper's Read must not be passed by
	case *net.TCPConn:
		s.raw, _ = c.SyscallConn()
	case *net.UDPConn:
		s.raw, _ = c.SyscallConn()
	case *net.UnixConn:
		s.raw, _ = c.SyscallConn()
	}
	s.try = s.tryRead
	return s
}

// next returns what could be read, which the caller releases, and an error.
// Like io.Reader's, both may be there. An empty datagram is an empty view.
func (s *source) next() (*buffer.View, error) {
	if s.raw == nil {
		v := buffer.NewViewSize(s.size)
		n, err := s.conn.Read(v.AsSlice())
		v.CapLength(n)
		return v, err
	}
	if err := s.raw.Read(s.try); err != nil {
		return nil, err
	}
	if s.err != nil {
		return nil, s.err
	}
	v := s.view
	s.view = nil
	v.CapLength(s.n)
	if _, stream := s.conn.(*net.UDPConn); !stream && s.n == 0 {
		v.Release()
		return nil, io.EOF
	}
	return v, nil
}

// tryRead is called by the poller; false means to wait until readable.
func (s *source) tryRead(fd uintptr) bool {
	s.view, s.err = buffer.NewViewSize(s.size), nil
	for {
		s.n, s.err = unix.Read(int(fd), s.view.AsSlice())
		if s.err == nil {
			return true
		}
		if s.err == unix.EINTR {
			continue
		}
		s.view.Release()
		s.view = nil
		return s.err != unix.EAGAIN
	}
}
