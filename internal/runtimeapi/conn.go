package runtimeapi

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firn-run/firn/internal/lifecycle"
)

// conn is one connection. Its goroutine alone reads from it. Replies are
// written by whoever brings them, under mu.
type conn struct {
	server  *Server
	conn    net.Conn
	done    chan struct{} // closed when the goroutine is about to end
	expires atomic.Uint64 // the call whose reply has a write deadline; 0 for none
	since   atomic.Uint64 // order in which it became idle; 0 during a request

	// What follows belongs to the connection's goroutine.
	in       input
	head     head
	hasBig   bool     // holds a place of server.large
	accepts  bool     // the machine wants the body of the response
	receiver Receiver // and it is to be given to it, unless nil
	broken   bool     // a body ended before its time: nothing more can be read

	mu        sync.Mutex
	ext       string         // identifier of the extension that makes the call
	pending   lifecycle.Call // the call that waits for its reply, or 0
	closing   bool           // the connection ends with the next reply
	http10    bool           // the client must be told that the connection stays
	abandoned bool           // no reply will come any more
	wake      chan struct{}  // closed at the reply, when the goroutine waits for that
}

// idle notes whether the connection is between requests.
func (c *conn) idle(yes bool) {
	if yes {
		c.since.Store(c.server.births.Add(1))
	} else {
		c.since.Store(0)
	}
}

func (c *conn) serve() {
	defer close(c.done)
	defer c.server.remove(c)
	defer c.conn.Close()
	defer c.releaseBig()
	for {
		c.idle(true)
		err := c.in.readHead(&c.head, c.takeBig)
		c.idle(false)
		if err != nil {
			c.refuseHead(err)
			return
		}
		c.mu.Lock()
		c.closing, c.http10 = c.closing || c.head.close, c.head.http10
		c.mu.Unlock()
		if !c.serveRequest() {
			return
		}
		c.head = head{} // it would keep a large buffer alive
		c.releaseBig()
	}
}

// takeBig waits for a place among those who may hold much memory.
func (c *conn) takeBig() {
	if !c.hasBig {
		c.server.large <- struct{}{}
		c.hasBig = true
	}
}

func (c *conn) releaseBig() {
	if c.hasBig {
		<-c.server.large
		c.hasBig = false
	}
}

// refuseHead answers what is not a request. A connection that ended between
// requests gets nothing.
func (c *conn) refuseHead(err error) {
	for _, known := range []error{errBadRequest, errMissingHost, errTooManyHosts, errHeadTooLarge, errEncoding, errVersion} {
		if errors.Is(err, known) {
			c.writeText(known.Error())
			c.linger()
			return
		}
	}
}

// lingerTime and lingerBytes bound the reading after the last reply.
const (
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 256 << 10
)

// linger lets the peer read the last reply: closing with unread bytes in the
// socket would reset the connection and destroy it.
func (c *conn) linger() {
	half, ok := c.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || c.conn.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	_ = c.in.discard(lingerBytes) // ends with an error by nature: the peer's close, or the deadline
}

// await parks until the call has its reply, watching the connection. It
// returns false when the peer is gone. Once bytes of a further request have
// come in it waits for the reply alone: a client that sends ahead is not
// watched.
func (c *conn) await(call lifecycle.Call) bool {
	for {
		wake, answered := c.answered(call)
		if answered {
			return true
		}
		if wake != nil {
			<-wake
			return true
		}
		c.in.compact()
		if err := c.in.fill(); err != nil {
			c.vanished(call, err)
			return false
		}
	}
}

// answered reports whether the call has its reply. When there is something in
// the buffer, it returns a channel to wait on: the reply would not end a read.
func (c *conn) answered(call lifecycle.Call) (wake <-chan struct{}, yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.abandoned {
		c.server.leave(call) // it may have begun after that
		return nil, true
	}
	if c.pending != call {
		return nil, true
	}
	if c.in.r < c.in.w {
		c.wake = make(chan struct{})
		return c.wake, false
	}
	return nil, false
}

// vanished reports a lost peer, unless the call was answered or dropped.
func (c *conn) vanished(call lifecycle.Call, err error) {
	c.mu.Lock() // waits for a reply that is being written
	answered := c.pending != call
	c.pending = 0
	c.mu.Unlock()
	if dropped := c.server.leave(call) == nil; answered || dropped {
		return
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		c.server.cfg.Logger.Debug("Runtime API connection lost", "error", err)
	}
	c.server.cfg.Handler.Handle(lifecycle.Gone{Call: call}, call, nil)
}

// begin makes the present request a call. ext is the caller's identifier, ""
// when it is the runtime or not known yet.
func (c *conn) begin(ext string) lifecycle.Call {
	call := c.server.enter(c)
	c.mu.Lock()
	c.pending, c.ext = call, ext
	c.mu.Unlock()
	return call
}

// reply writes p as the reply to a call, or nothing when the call is over. It
// blocks for as long as the peer does not read.
func (c *conn) reply(call lifecycle.Call, p ...[]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending != call {
		return
	}
	c.writeLocked(p...)
	c.server.leave(call)
	c.settleLocked()
}

// settleLocked notes that the call waits no more.
func (c *conn) settleLocked() {
	c.pending = 0
	if c.wake != nil {
		close(c.wake)
		c.wake = nil
	}
}

// abandon ends the connection without a reply: nothing that is still in its
// buffer is served.
func (c *conn) abandon() {
	c.conn.Close() // first, for a writer that blocks holds mu
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing, c.abandoned = true, true
	c.settleLocked()
}

// writeLocked writes; an error shows at the next read.
func (c *conn) writeLocked(p ...[]byte) {
	// The deadline is of one call: it holds if it came before the writing, and
	// must not outlive it.
	if call := c.expires.Load(); call != 0 && lifecycle.Call(call) != c.pending && c.expires.CompareAndSwap(call, 0) {
		_ = c.conn.SetWriteDeadline(time.Time{}) // fails on a closed connection only
	}
	var err error
	if len(p) == 1 {
		_, err = c.conn.Write(p[0])
	} else {
		bufs := net.Buffers(p)
		_, err = bufs.WriteTo(c.conn)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.closing = true
		c.conn.Close() // half a reply is none
	}
}

// isClosing says that the last reply announced the end.
func (c *conn) isClosing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing
}

// closeAfterReply makes the next reply announce the end of the connection.
func (c *conn) closeAfterReply() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing = true
}
