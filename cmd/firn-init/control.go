//go:build linux

package main

import (
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/sandbox/linux/confine"
	"github.com/firn-run/firn/internal/sandbox/linux/initproto"
)

// control is the socket to firn. Only one thread at a time receives.
type control struct {
	fd  int
	buf []byte // of receive
	oob []byte

	mu  sync.Mutex
	out []byte // of send
}

// receive waits for the next message. m is nil when firn is gone. The caller
// owns fds.
func (c *control) receive() (seq uint32, m initproto.Message, fds []int, err error) {
	if c.buf == nil {
		c.buf = make([]byte, initproto.MaxMessage)
		c.oob = make([]byte, unix.CmsgSpace(4*initproto.MaxFDs))
	}
	var n, oobn, flags int
	for {
		n, oobn, flags, _, err = unix.Recvmsg(c.fd, c.buf, c.oob, unix.MSG_CMSG_CLOEXEC)
		if err != unix.EINTR {
			break
		}
	}
	if err == unix.ECONNRESET || err == nil && n == 0 {
		return 0, nil, nil, nil
	}
	if err != nil {
		return 0, nil, nil, failed("receive", err)
	}
	fds, err = parseFDs(c.oob[:oobn])
	if err != nil || flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		return 0, nil, nil, failed("receive descriptors", unix.EMSGSIZE)
	}
	seq, m, err = initproto.Parse(c.buf[:n])
	if spilled, ok := m.(*initproto.Spilled); ok && len(fds) > 0 {
		seq, m, err = readSpilled(fds[0], spilled)
		_ = unix.Close(fds[0])
		fds = fds[1:]
	}
	return seq, m, fds, err
}

// readSpilled reads a message that did not fit a packet.
func readSpilled(fd int, spilled *initproto.Spilled) (uint32, initproto.Message, error) {
	if spilled.Length > initproto.MaxSpill {
		return 0, nil, failed("read a long message", unix.EMSGSIZE)
	}
	packet := make([]byte, spilled.Length)
	for done := 0; done < len(packet); {
		n, err := unix.Pread(fd, packet[done:], int64(done))
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return 0, nil, failed("read a long message", unix.EIO)
		}
		done += n
	}
	return initproto.Parse(packet)
}

func parseFDs(oob []byte) ([]int, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	list, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var fds []int
	for i := range list {
		more, err := unix.ParseUnixRights(&list[i])
		if err != nil {
			return nil, err
		}
		fds = append(fds, more...)
	}
	return fds, nil
}

// send is safe for concurrent use. A packet to a peer that is gone is not an
// error: the next receive tells.
func (c *control) send(seq uint32, m initproto.Message, fds ...int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	out, err := initproto.Append(c.out[:0], seq, m)
	if err != nil {
		return err
	}
	c.out = out
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	for {
		err = unix.Sendmsg(c.fd, out, rights, nil, unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			break
		}
	}
	if err == unix.EPIPE || err == unix.ECONNRESET {
		return nil
	}
	return failed("send", err)
}

// fail answers a request with what went wrong.
func (c *control) fail(seq uint32, err error) error {
	m := &initproto.Failure{Step: err.Error(), Errno: uint32(unix.EIO)}
	switch e := err.(type) {
	case *stepError:
		m.Step, m.Errno = e.step, uint32(e.errno)
	case *confine.Error:
		m.Step, m.Errno = e.Step, uint32(e.Errno)
	case syscall.Errno:
		m.Errno = uint32(e)
	}
	return c.send(seq, m)
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}
