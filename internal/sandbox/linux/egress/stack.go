//go:build linux

package egress

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"

	"github.com/firn-run/firn/internal/sandbox/linux/egress/tun"
)

// Stack is the outbound network of one sandbox, working from New to Close.
//
// Locks are taken in the order inject, mu. The TCP/IP machinery calls this
// package with locks of its own held, so nothing is called on it with mu held
// (making an engine apart, which nothing knows yet).
type Stack struct {
	cfg    Config
	log    *slog.Logger
	raw    syscall.RawConn    // of cfg.TUN
	ctx    context.Context    // ends with Close: dials and queries hang on it
	cancel context.CancelFunc // of ctx
	closed chan struct{}      // closed when Close has finished

	work sync.WaitGroup // every goroutine of this Stack, the reader included

	// inject is held while a packet is given to the engine, so that an engine
	// is never retired with a packet in its hands.
	inject sync.Mutex

	mu      sync.Mutex
	closing bool        // Close was called; nothing new may start
	engine  *engine     // nil until a packet needs it, and after Linger
	retire  *time.Timer // armed while engine has no flow
	stats   Stats
}

// Stats counts what a sandbox did with its network since New.
type Stats struct {
	TCP     int   // TCP connections open or being opened now
	UDP     int   // UDP flows now
	Opened  int64 // TCP connections and UDP flows that were opened
	Refused int64 // refused or dropped by Policy
	Limited int64 // refused or dropped because a limit was reached
	Queries int64 // DNS queries over UDP
	Awake   bool  // the TCP/IP machinery exists at the moment
}

// New starts the network behind cfg.TUN. On an error cfg.TUN still belongs to
// the caller.
func New(cfg Config) (*Stack, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	raw, err := cfg.TUN.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("egress: TUN file: %w", err)
	}
	s := &Stack{cfg: cfg, log: cfg.Logger, raw: raw, closed: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.work.Go(s.readLoop)
	return s, nil
}

// Stats returns the counts as of now.
func (s *Stack) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Awake = s.engine != nil
	return st
}

// Close ends every connection, closes the TUN file, which removes the
// interface, and returns when nothing of the Stack runs any more. It may be
// called any number of times; all calls return when the first has finished.
func (s *Stack) Close() error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		<-s.closed
		return nil
	}
	s.closing = true
	if s.retire != nil {
		s.retire.Stop()
	}
	e := s.engine
	s.engine = nil
	s.mu.Unlock()
	defer close(s.closed)

	s.cancel()
	err := s.cfg.TUN.Close()
	if e != nil {
		e.abort(&s.work)
	}
	s.work.Wait()
	if e != nil {
		e.destroy()
	}
	if err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("egress: close TUN: %w", err)
	}
	return nil
}

// readLoop hands the sandbox's packets to the engine until the TUN file is
// closed or its interface is gone. It parks in the runtime's poller, and holds
// a packet buffer only while there is a packet.
func (s *Stack) readLoop() {
	var r reader
	try := r.try // one closure for the life of the loop
	for {
		if err := s.raw.Read(try); err != nil {
			return // closed: by Close, or the file's owner broke the contract
		}
		if r.errno != 0 {
			// EBADFD: someone deleted the interface.
			s.log.Debug("sandbox interface is gone", "error", r.errno)
			return
		}
		s.deliver(r.take())
	}
}

// reader reads one packet at a time from a TUN descriptor.
type reader struct {
	view  *buffer.View // nil while waiting
	n     int
	errno unix.Errno
}

// try is called by the poller with the descriptor; false means to wait until
// it is readable and to call again.
func (r *reader) try(fd uintptr) bool {
	r.view = buffer.NewViewSize(tun.MTU)
	for {
		n, err := unix.Read(int(fd), r.view.AsSlice())
		switch {
		case err == nil:
			r.n, r.errno = n, 0
			return true
		case err == unix.EINTR:
			continue
		}
		r.view.Release()
		r.view = nil
		if err == unix.EAGAIN {
			return false
		}
		r.n, r.errno = 0, unix.EIO
		errors.As(err, &r.errno)
		return true
	}
}

// take returns the packet that was read, in a buffer that is not much larger
// than the packet: receive queues are accounted by what is in them.
func (r *reader) take() *buffer.View {
	v := r.view
	r.view = nil
	if r.n > tun.MTU/2 {
		v.CapLength(r.n)
		return v
	}
	small := buffer.NewViewWithData(v.AsSlice()[:r.n])
	v.Release()
	return small
}

// deliver gives a packet to the engine, which is made when there is none, or
// drops it when nothing here would answer it.
func (s *Stack) deliver(packet *buffer.View) {
	if !wanted(packet.AsSlice()) {
		packet.Release()
		return
	}
	s.inject.Lock()
	defer s.inject.Unlock()
	e := s.wake()
	if e == nil {
		packet.Release()
		return
	}
	e.link.deliver(packet)
}

// wake returns the engine, or nil when the Stack is closing or no engine can
// be made.
func (s *Stack) wake() *engine {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return nil
	}
	if s.engine == nil {
		e, err := newEngine(s)
		if err != nil {
			s.log.Warn("sandbox network cannot start", "error", err)
			return nil
		}
		s.engine = e
		s.restLocked()
	}
	return s.engine
}

// restLocked arms the engine's retirement. It is called whenever the last flow
// ended.
func (s *Stack) restLocked() {
	if s.closing {
		return
	}
	if s.retire == nil {
		s.retire = time.AfterFunc(s.cfg.Limits.Linger, s.retireEngine)
		return
	}
	s.retire.Reset(s.cfg.Limits.Linger)
}

// retireEngine drops the engine if it still has no flow.
func (s *Stack) retireEngine() {
	s.inject.Lock()
	defer s.inject.Unlock()
	s.mu.Lock()
	e := s.engine
	if s.closing || e == nil || e.activeLocked() > 0 {
		s.mu.Unlock()
		return
	}
	s.engine = nil
	s.work.Add(1)
	s.mu.Unlock()
	defer s.work.Done()
	e.destroy()
}
