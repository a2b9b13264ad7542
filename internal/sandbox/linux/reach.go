//go:build linux

package linux

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/sandbox"
	"github.com/firn-run/firn/internal/sandbox/linux/initproto"
)

// daemonAddr is the X-Ray daemon's address inside every sandbox. Init has it
// on the loopback.
const daemonAddr = "169.254.79.129:2000"

// reach is how firn gets to what listens inside. A socket belongs to the
// network namespace that it was made in and may be used from anywhere: so init
// makes sockets, and firn does the rest with them.
//
// Init does not answer while it is frozen. A Dial then uses the socket that was
// left over from the last request, or waits; nobody waits for it, and however
// many are given up, one request at most is in init's queue.
type reach struct {
	mu      sync.Mutex
	closed  bool
	streams []int          // unconnected TCP sockets, at most initproto.MaxStreams
	daemon  net.PacketConn // nil before the first Daemon
	asked   map[bool]*opening
}

// opening is a request for sockets, for the daemon's or for streams.
type opening struct {
	done chan struct{}
	err  error // valid when done is closed
}

// obtain runs take under the lock until it has found what it wants, and asks
// init in between.
func (s *box) obtain(ctx context.Context, m initproto.Open, takeLocked func() bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for {
		s.reach.mu.Lock()
		if s.reach.closed {
			s.reach.mu.Unlock()
			return sandbox.ErrClosed
		}
		if takeLocked() {
			s.reach.mu.Unlock()
			return nil
		}
		o := s.openLocked(m)
		s.reach.mu.Unlock()
		select {
		case <-o.done:
			if o.err != nil {
				return s.explain("open a socket", o.err)
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-s.closed:
			return sandbox.ErrClosed
		}
	}
}

// openLocked returns the request under way, or begins one.
func (s *box) openLocked(m initproto.Open) *opening {
	if o := s.reach.asked[m.Daemon]; o != nil {
		return o
	}
	o := &opening{done: make(chan struct{})}
	if s.reach.asked == nil {
		s.reach.asked = map[bool]*opening{}
	}
	s.reach.asked[m.Daemon] = o
	// It ends with init at the latest, and nothing is begun after close.
	s.watch.Go(func() {
		a, err := s.conn.call(context.Background(), &m)
		s.reach.mu.Lock()
		defer s.reach.mu.Unlock()
		defer close(o.done)
		delete(s.reach.asked, m.Daemon)
		if err == nil {
			err = s.reach.storeLocked(m, a)
		}
		o.err = err
	})
	return o
}

// storeLocked keeps the sockets of an answer.
func (r *reach) storeLocked(m initproto.Open, a answer) error {
	want := int(m.Streams)
	if m.Daemon {
		want++
	}
	if len(a.fds) != want {
		a.close()
		return syscall.EMFILE // the kernel gave firn no more
	}
	if r.closed {
		a.close()
		return sandbox.ErrClosed
	}
	if !m.Daemon {
		r.streams = append(r.streams, a.fds...)
		return nil
	}
	f := os.NewFile(uintptr(a.fds[0]), "xray daemon")
	defer f.Close()
	c, err := net.FilePacketConn(f)
	if err != nil {
		return fmt.Errorf("take over the daemon's socket: %w", err)
	}
	r.daemon = c
	return nil
}

func (r *reach) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	closeFDs(r.streams)
	r.streams = nil
	if r.daemon != nil {
		_ = r.daemon.Close() // a caller may have closed it before
	}
}

// DaemonAddr is the same in every sandbox.
func (s *box) DaemonAddr() string { return daemonAddr }

// Daemon has init bind the daemon's address at the first call.
func (s *box) Daemon(ctx context.Context) (c net.PacketConn, err error) {
	err = s.obtain(ctx, initproto.Open{Daemon: true}, func() bool {
		c = s.reach.daemon
		return c != nil
	})
	return c, err
}

// Dial connects one of init's sockets.
func (s *box) Dial(ctx context.Context, port int) (net.Conn, error) {
	if port < 1 || port > 65535 {
		return nil, s.explain("dial", fmt.Errorf("port %d: %w", port, syscall.EINVAL))
	}
	fd := -1
	err := s.obtain(ctx, initproto.Open{Streams: initproto.MaxStreams}, func() bool {
		n := len(s.reach.streams)
		if n == 0 {
			return false
		}
		fd, s.reach.streams = s.reach.streams[n-1], s.reach.streams[:n-1]
		return true
	})
	if err != nil {
		return nil, err
	}
	c, err := s.connect(ctx, fd, port)
	if err != nil && ctx.Err() == nil {
		err = s.explain("dial", fmt.Errorf("port %d: %w", port, err))
	}
	return c, err
}

// connect makes a connection of fd, which it takes. On a loopback the kernel
// does it all within the call, unless the listener's queue is full.
func (s *box) connect(ctx context.Context, fd, port int) (net.Conn, error) {
	err := unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: port})
	f := os.NewFile(uintptr(fd), "dial")
	defer f.Close()
	if err == unix.EINPROGRESS || err == unix.EINTR {
		err = s.awaitConnect(ctx, f)
	}
	if err != nil {
		return nil, err
	}
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	// See apiListener.
	_ = c.(*net.TCPConn).SetKeepAlive(false)
	return c, nil
}

// awaitConnect waits in the runtime's poller for the end of a connect.
func (s *box) awaitConnect(ctx context.Context, f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var waiting sync.WaitGroup
	over := make(chan struct{})
	waiting.Go(func() {
		select {
		case <-over:
			return
		case <-ctx.Done():
		case <-s.closed:
		}
		_ = f.SetWriteDeadline(time.Unix(1, 0))
	})
	defer waiting.Wait()
	defer close(over)
	var outcome error
	err = raw.Write(func(fd uintptr) (done bool) {
		done, outcome = connected(int(fd))
		return done
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return sandbox.ErrClosed
	}
	return errors.Join(err, outcome)
}

// connected says whether a connect is over, and with what.
func connected(fd int) (bool, error) {
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = syscall.Errno(code)
	}
	if err != nil {
		return true, err
	}
	switch _, err = unix.Getpeername(fd); err {
	case unix.ENOTCONN: // the poller has woken us for the state before
		return false, nil
	default:
		return true, err
	}
}
