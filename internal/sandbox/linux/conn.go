//go:build linux

package linux

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/sandbox/linux/initproto"
)

// errGone is the end of a spawner or an init: its control socket closed.
var errGone = errors.New("the control socket closed")

// stepError is a Failure sent by the other side.
type stepError struct {
	step  string
	errno syscall.Errno
}

func (e *stepError) Error() string { return e.step + ": " + e.errno.Error() }
func (e *stepError) Unwrap() error { return e.errno }

// answer is what a request got. The receiver owns the descriptors.
type answer struct {
	m   initproto.Message
	fds []int
}

func (a answer) close() {
	for _, fd := range a.fds {
		_ = unix.Close(fd)
	}
}

// conn is firn's end of a control socket. One goroutine reads from it.
type conn struct {
	sock *net.UnixConn
	// onExit is called by the reader for every Exited, in order with the
	// answers. Set before the reader starts.
	onExit func(*initproto.Exited)
	// gone is closed when the other side ended.
	gone chan struct{}
	// awake is set by whatever ends the rest of an init; rested has room for
	// one word that it rests.
	awake  atomic.Bool
	rested chan struct{}

	// writing orders packets. It is held while a write waits for room, so
	// that the reader must never need it: the other side may itself wait for
	// room, and for the reader. It is taken before mu.
	writing sync.Mutex
	out     []byte

	mu      sync.Mutex
	seq     uint32
	waiting map[uint32]chan answer
	ended   bool
}

// socketPair makes a control socket: firn's end, and the other one as a plain
// file to be passed on.
func socketPair() (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("control socket: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control")
	c, err := net.FileConn(ours)
	_ = ours.Close()
	if err != nil {
		_ = theirs.Close()
		return nil, nil, fmt.Errorf("control socket: %w", err)
	}
	return c.(*net.UnixConn), theirs, nil
}

func newConn(sock *net.UnixConn) *conn {
	return &conn{sock: sock, gone: make(chan struct{}), rested: make(chan struct{}, 1), waiting: map[uint32]chan answer{}}
}

// serve reads until the socket closes. The owner runs it and waits for it.
func (c *conn) serve() {
	defer c.end()
	buf := make([]byte, 4096)
	oob := make([]byte, unix.CmsgSpace(4*4))
	for {
		n, oobn, flags, _, err := c.sock.ReadMsgUnix(buf, oob)
		if err != nil || n == 0 {
			return
		}
		fds := rights(oob[:oobn])
		seq, m, err := initproto.Parse(buf[:n])
		if opened, ok := m.(*initproto.Opened); ok && flags&unix.MSG_TRUNC == 0 {
			c.deliver(seq, answer{opened, fds}) // some are missing when firn has no room for them
			continue
		}
		if err != nil || flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
			answer{fds: fds}.close()
			return
		}
		switch m := m.(type) {
		case *initproto.Exited:
			c.awake.Store(true)
			c.onExit(m)
		case *initproto.Rested:
			select {
			case c.rested <- struct{}{}:
			default:
			}
		default:
			c.deliver(seq, answer{m, fds})
		}
	}
}

func rights(oob []byte) []int {
	list, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	var fds []int
	for i := range list {
		more, err := unix.ParseUnixRights(&list[i])
		if err == nil {
			fds = append(fds, more...)
		}
	}
	return fds
}

func (c *conn) deliver(seq uint32, a answer) {
	c.mu.Lock()
	ch := c.waiting[seq]
	delete(c.waiting, seq)
	c.mu.Unlock()
	if ch == nil {
		a.close() // the request was given up
		return
	}
	ch <- a
}

// end wakes everybody who waits.
func (c *conn) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended = true
	for _, ch := range c.waiting {
		close(ch)
	}
	c.waiting = nil
	_ = c.sock.Close()
	close(c.gone)
}

// close ends the other side.
func (c *conn) close() { _ = c.sock.Close() }

// send writes a message that has no answer.
func (c *conn) send(m initproto.Message, fds ...int) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.writeLocked(0, m, fds)
}

// writeLocked writes one packet; the caller holds writing.
func (c *conn) writeLocked(seq uint32, m initproto.Message, fds []int) error {
	if m.Kind() != initproto.KindRest {
		c.awake.Store(true)
	}
	out, err := initproto.Append(c.out[:0], seq, m)
	if err != nil {
		return syscall.E2BIG
	}
	if len(out) > initproto.MaxMessage {
		file, err := spill(out)
		if err != nil {
			return err
		}
		defer unix.Close(file)
		fds = append([]int{file}, fds...)
		if out, err = initproto.Append(nil, seq, &initproto.Spilled{Length: uint32(len(out))}); err != nil {
			return err
		}
	}
	if cap(out) <= 4096 {
		c.out = out
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	if _, _, err := c.sock.WriteMsgUnix(out, oob, nil); err != nil {
		if errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) {
			return errGone
		}
		return err
	}
	return nil
}

// spill puts a long message into an anonymous file.
func spill(packet []byte) (int, error) {
	fd, err := unix.MemfdCreate("message", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, err
	}
	for done := 0; done < len(packet); {
		n, err := unix.Write(fd, packet[done:])
		if err != nil {
			_ = unix.Close(fd)
			return -1, err
		}
		done += n
	}
	return fd, nil
}

// request is one that was sent and not answered yet.
type request struct {
	c   *conn
	seq uint32
	ch  chan answer
}

// begin sends a request. The caller waits for the answer.
func (c *conn) begin(m initproto.Message, fds ...int) (request, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	r, err := c.expect()
	if err != nil {
		return request{}, err
	}
	if err := c.writeLocked(r.seq, m, fds); err != nil {
		c.mu.Lock()
		delete(c.waiting, r.seq)
		c.mu.Unlock()
		return request{}, err
	}
	return r, nil
}

// expect makes room for the answer to the next request.
func (c *conn) expect() (request, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return request{}, errGone
	}
	c.seq++
	if c.seq == 0 {
		c.seq = 1
	}
	r := request{c: c, seq: c.seq, ch: make(chan answer, 1)}
	c.waiting[r.seq] = r.ch
	return r, nil
}

// wait returns the answer. A Failure is returned as an error.
func (r request) wait(ctx context.Context) (answer, error) {
	select {
	case a, ok := <-r.ch:
		return r.check(a, ok)
	case <-ctx.Done():
	}
	r.c.mu.Lock()
	_, pending := r.c.waiting[r.seq]
	delete(r.c.waiting, r.seq)
	r.c.mu.Unlock()
	if !pending { // it came meanwhile
		a, ok := <-r.ch
		return r.check(a, ok)
	}
	return answer{}, ctx.Err()
}

func (request) check(a answer, ok bool) (answer, error) {
	if !ok {
		return answer{}, errGone
	}
	if f, bad := a.m.(*initproto.Failure); bad {
		a.close()
		return answer{}, &stepError{f.Step, syscall.Errno(f.Errno)}
	}
	return a, nil
}

// call is begin and wait.
func (c *conn) call(ctx context.Context, m initproto.Message, fds ...int) (answer, error) {
	r, err := c.begin(m, fds...)
	if err != nil {
		return answer{}, err
	}
	return r.wait(ctx)
}
