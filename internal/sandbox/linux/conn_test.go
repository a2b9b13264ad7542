//go:build linux

package linux

import (
	"context"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/sandbox/linux/initproto"
)

// A peer that does one thing after the other, as the spawner does, has many
// requests before it and many answers behind it: neither side may wait for
// the other for ever.
func TestConnUnderManyRequests(t *testing.T) {
	const requests = 3000
	sock, theirs, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	c := newConn(sock)
	c.onExit = func(*initproto.Exited) {}
	var group sync.WaitGroup
	group.Go(c.serve)
	group.Go(func() { answerAll(t, int(theirs.Fd()), requests) })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	stuck := context.AfterFunc(ctx, c.close) // ends writes that wait for room
	var callers sync.WaitGroup
	for range requests {
		callers.Go(func() {
			if _, err := c.call(ctx, &initproto.SignalAll{Signal: 1}); err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	stuck()
	c.close()
	_ = unix.Shutdown(int(theirs.Fd()), unix.SHUT_RDWR) // ends a peer that still waits
	group.Wait()
}

// answerAll answers so many requests, in blocking calls of one thread.
func answerAll(t *testing.T, fd, requests int) {
	buf := make([]byte, initproto.MaxMessage)
	for range requests {
		n, err := unix.Read(fd, buf)
		if err != nil || n == 0 {
			t.Errorf("read a request: %d bytes, %v", n, err)
			return
		}
		seq, _, err := initproto.Parse(buf[:n])
		if err != nil {
			t.Error(err)
			return
		}
		out, err := initproto.Append(nil, seq, &initproto.OK{})
		if err != nil {
			t.Error(err)
			return
		}
		if err := unix.Send(fd, out, unix.MSG_NOSIGNAL); err != nil {
			t.Errorf("send an answer: %v", err)
			return
		}
	}
}
