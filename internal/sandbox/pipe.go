package sandbox

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// pipeSmall is the buffer that an idle pipe keeps: room for the usual
	// log line, so that a line costs no allocation.
	pipeSmall = 1 << 10
	// pipeLarge is the buffer during a burst; it is given back when the pipe
	// has run empty.
	pipeLarge = 32 << 10
)

// Pipe carries what a process writes to its standard output or error into
// this process, in order. Its reader is one goroutine parked in the network
// poller; an idle pipe holds pipeSmall bytes and no thread.
//
// What the kernel holds in a pipe is invisible to whoever only waits for the
// reader, so a caller that has seen a runtime's answer on one connection
// cannot know that the lines written before it have come out of the other.
// Drain closes that gap.
type Pipe struct {
	sink func(p []byte)
	read *os.File
	raw  syscall.RawConn
	done chan struct{}

	// mu is held around every read and the delivery of what was read, which
	// is what keeps the order between the reader and Drain.
	mu    sync.Mutex
	small [pipeSmall]byte
	buf   []byte // small, or pipeLarge bytes of its own during a burst
	ended bool   // end of file, or closed: nothing is delivered any more
}

// NewPipe makes a pipe whose bytes go to sink, and returns it with its write
// end, which the caller gives to a process and closes. The write end is
// blocking, as programs expect of their standard output.
//
// The sink gets chunks in the order in which they were written, never two at
// once; p is valid during the call only. It may block: the pipe then fills and
// the writer waits. It must not call Drain or Close.
func NewPipe(sink func(p []byte)) (*Pipe, *os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("make pipe: %w", err)
	}
	w.Fd() // makes the write end blocking; it is a description of its own
	raw, err := r.SyscallConn()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("make pipe: %w", err), r.Close(), w.Close())
	}
	p := &Pipe{sink: sink, read: r, raw: raw, done: make(chan struct{})}
	p.buf = p.small[:]
	go p.run()
	return p, w, nil
}

// run delivers until the end of file or Close. The poller's edge is never
// lost: RawConn.Read waits only after the function returned false, and that is
// after a read that found the pipe empty.
func (p *Pipe) run() {
	defer close(p.done)
	for {
		open := true
		err := p.raw.Read(func(fd uintptr) bool {
			var n int
			n, open = p.deliver(fd, pipeLarge)
			return n > 0 || !open
		})
		if err != nil || !open {
			return
		}
	}
}

// Drain delivers what the kernel holds at the moment of the call, and returns
// when the sink has had it. Bytes written meanwhile may come along or not: the
// work is bounded by the pipe's capacity, however fast the writer is.
func (p *Pipe) Drain() {
	// An error means that the pipe is closed: nothing is left to deliver.
	_ = p.raw.Control(func(fd uintptr) {
		p.mu.Lock()
		defer p.mu.Unlock()
		// Whatever was in the pipe at entry is either delivered by now or
		// still there, for nobody holds bytes outside the mutex.
		held, err := unix.IoctlGetInt(int(fd), ioctlBytesReadable)
		if err != nil {
			return
		}
		for held > 0 {
			n, open := p.deliverLocked(fd, held)
			if n == 0 || !open {
				return
			}
			held -= n
		}
	})
}

// Close stops the delivery and waits until the sink has returned for the last
// time. Bytes not yet delivered are lost: call Drain before. Idempotent.
func (p *Pipe) Close() error {
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	err := p.read.Close()
	<-p.done
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// Done is closed when the reader has ended: every process has closed the write
// end and all bytes were delivered, or Close was called.
func (p *Pipe) Done() <-chan struct{} { return p.done }

func (p *Pipe) deliver(fd uintptr, most int) (n int, open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.deliverLocked(fd, most)
}

// deliverLocked reads at most one chunk of at most most bytes without waiting
// and hands it on. It returns 0 and true when the pipe is empty.
func (p *Pipe) deliverLocked(fd uintptr, most int) (n int, open bool) {
	if p.ended {
		return 0, false
	}
	for {
		var err error
		n, err = unix.Read(int(fd), p.buf[:min(most, len(p.buf))])
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			p.buf = p.small[:]
			return 0, true
		case err != nil || n <= 0:
			p.ended = true
			return 0, false
		}
		break
	}
	p.sink(p.buf[:n])
	if n == pipeSmall && len(p.buf) == pipeSmall {
		p.buf = make([]byte, pipeLarge)
	}
	return n, true
}
