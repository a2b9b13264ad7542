package runtimeapi

import (
	"errors"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firn-run/firn/internal/lifecycle"
)

// Handler takes the events that requests make. Handle is called by the
// goroutine of the request's connection, for different connections at the same
// time. Replies to any call may be written before it returns or later, by any
// goroutine.
type Handler interface {
	// Handle takes one event. call is the request behind it. body is not nil
	// with RuntimeResponseDone of a response that was not streamed only, and is
	// the handler's to release.
	Handle(ev lifecycle.Event, call lifecycle.Call, body *Body)
}

// Config describes the server of one environment.
type Config struct {
	Handler Handler
	// FunctionName, FunctionVersion, FunctionHandler and AccountID answer
	// register.
	FunctionName, FunctionVersion, FunctionHandler, AccountID string
	// MetadataToken opens the metadata endpoint, which tells
	// AvailabilityZoneID. Without a token it is closed.
	MetadataToken, AvailabilityZoneID string
	// NoExtensions switches the Extensions API off: 404.
	NoExtensions bool
	// Alive, if it is not nil, is called when the runtime asks for its next
	// event while the end of its response is still to be handled. The request
	// comes to Handle after that end, which must not wait for it.
	Alive   func()
	Buffers *Buffers
	Logger  *slog.Logger
	Now     func() time.Time
}

// Server serves one environment. Methods are safe for concurrent use.
type Server struct {
	cfg    Config
	large  chan struct{} // places of requests that hold more than largeBytes
	ids    atomic.Uint64 // the last Call given
	births atomic.Uint64 // counts changes of conn.since, a clock of idleness
	// response is closed when the response that is being read has ended.
	response atomic.Pointer[chan struct{}]

	mu     sync.Mutex
	closed bool
	conns  map[*conn]struct{}
	calls  map[lifecycle.Call]*conn // calls without a reply
}

// New makes a server; Serve starts it.
func New(cfg Config) *Server {
	return &Server{
		cfg:   cfg,
		large: make(chan struct{}, largeRequests),
		conns: make(map[*conn]struct{}),
		calls: make(map[lifecycle.Call]*conn),
	}
}

// acceptPause is the wait after an error of Accept other than the listener's
// end: firn is out of descriptors.
const acceptPause = 20 * time.Millisecond

// Serve accepts connections until the listener is closed, which is not an
// error. Connections accepted by then live on until Close.
func (s *Server) Serve(ln net.Listener) error {
	for {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			s.add(nc)
		case errors.Is(err, net.ErrClosed):
			return nil
		default:
			s.cfg.Logger.Warn("accept on the Runtime API", "error", err)
			if !s.isClosed() {
				<-time.After(acceptPause)
				continue
			}
			return err
		}
	}
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// add starts serving a connection.
func (s *Server) add(nc net.Conn) {
	c := &conn{server: s, conn: nc, done: make(chan struct{})}
	c.in.init(nc)
	c.idle(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.conns) >= maxConnections && !s.closeIdleLocked() {
		nc.Close() // the peer may try again; nothing of it was read
		return
	}
	s.conns[c] = struct{}{}
	go c.serve() // CloseConnections waits for c.done
}

// closeIdleLocked closes the connection that has been without a request for
// the longest time, and reports whether there was one.
func (s *Server) closeIdleLocked() bool {
	var oldest *conn
	var since uint64
	for c := range s.conns {
		if at := c.since.Load(); at != 0 && (oldest == nil || at < since) {
			oldest, since = c, at
		}
	}
	if oldest == nil {
		return false
	}
	oldest.idle(false) // not to be chosen again; it leaves conns by itself
	oldest.conn.Close()
	return true
}

func (s *Server) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// CloseConnections closes every connection and waits until no event of theirs
// is in Handle any more. Calls without a reply get none, and no Gone follows.
// It is for the time between two generations of processes: nothing that the
// old ones sent must be taken for the new ones' doing.
func (s *Server) CloseConnections() {
	s.mu.Lock()
	clear(s.calls)
	conns := slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	for _, c := range conns {
		c.abandon()
	}
	for _, c := range conns {
		<-c.done
	}
}

// Close is CloseConnections for good: connections accepted later are closed at
// once. The listener is its owner's to close.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.CloseConnections()
}

// enter gives c's request an identity.
func (s *Server) enter(c *conn) lifecycle.Call {
	call := lifecycle.Call(s.ids.Add(1))
	s.mu.Lock()
	s.calls[call] = c
	s.mu.Unlock()
	return call
}

// leave takes a call out, and returns its connection, or nil when the call was
// taken out before.
func (s *Server) leave(call lifecycle.Call) *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.calls[call]
	delete(s.calls, call)
	return c
}

// peek returns the connection of a call without a reply, or nil.
func (s *Server) peek(call lifecycle.Call) *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[call]
}
