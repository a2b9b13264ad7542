package environment

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/firn-run/firn/internal/lifecycle"
	"github.com/firn-run/firn/internal/runtimeapi"
)

// ResponseHead is what the head of a response says of it.
type ResponseHead = runtimeapi.ResponseHead

// StreamSink takes the response of a runtime as it comes. Its
// methods are called by the goroutine that called Invoke, before Invoke
// returns. They may block: the runtime is held up then, through the socket that
// it writes to. An error means that the caller has gone: Invoke returns it, and
// the invocation goes on without its caller.
type StreamSink interface {
	// Begin comes once, before any Write and perhaps long before.
	Begin(ResponseHead) error
	// Write takes a piece of the response, never an empty one. p is valid
	// during the call.
	Write(p []byte) error
}

// streamAhead is how many pieces (of 32 KiB at most) may wait for the sink.
const streamAhead = 2

// exitAfterBreak is how long a stream that has broken off waits for news of its
// runtime's end: the kernel closes a dying process's sockets before it reports
// the end, and the end is the better account of what happened.
const exitAfterBreak = time.Second

// relay is the way of a response from the connection of the runtime, whose
// goroutine calls Begin and Receive, to the goroutine of Invoke. Between the
// two are streamAhead pieces and no lock.
type relay struct {
	begun    chan ResponseHead // once
	pieces   chan *runtimeapi.Body
	produced atomic.Int64 // bytes received

	// over is closed when the invocation has its answer, gone when its caller
	// has left: the rest of the response is thrown away. alive is closed when
	// the runtime asks for its next event after the response. All are closed under
	// Environment.mu, once.
	over, gone, alive chan struct{}
	accepted          bool // a response is under way or was; guarded by Environment.mu
}

func newRelay() *relay {
	return &relay{
		begun:  make(chan ResponseHead, 1),
		pieces: make(chan *runtimeapi.Body, streamAhead),
		over:   make(chan struct{}),
		gone:   make(chan struct{}),
		alive:  make(chan struct{}),
	}
}

// Begin takes the head of the response.
func (s *relay) Begin(head ResponseHead) {
	select {
	case s.begun <- head:
	default: // cannot be: the machine accepts one response
	}
}

// Receive takes a piece and blocks while there is no room for it.
func (s *relay) Receive(piece *runtimeapi.Body) {
	s.produced.Add(int64(len(piece.Bytes())))
	select { // first, for with room in pieces chance would decide
	case <-s.over:
		piece.Release()
		return
	case <-s.gone:
		piece.Release()
		return
	default:
	}
	select {
	case s.pieces <- piece:
	case <-s.over:
		piece.Release()
	case <-s.gone:
		piece.Release()
	}
}

// closeLocked closes over or gone, if that was not done.
func closeLocked(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

// pump hands the pieces of a stream to the sink until there is an answer.
func (e *Environment) pump(ctx context.Context, f *flight) (*Outcome, error) {
	s, sink := f.relay, f.inv.Stream
	var pieces chan *runtimeapi.Body // nil until the stream has begun
	for {
		var err error
		select {
		case head := <-s.begun:
			pieces, err = s.pieces, sink.Begin(head)
		case piece := <-pieces:
			err = give(sink, piece)
		case out := <-f.answer:
			out.Streamed = pieces != nil
			if err := s.rest(sink, out); err != nil {
				out.Release()
				return nil, err
			}
			return out, nil
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err != nil {
			e.leave(f)
			return nil, err
		}
	}
}

// rest hands over what came in before the answer.
func (s *relay) rest(sink StreamSink, out *Outcome) error {
	select {
	case head := <-s.begun:
		out.Streamed = true
		if err := sink.Begin(head); err != nil {
			return err
		}
	default:
	}
	for {
		select {
		case piece := <-s.pieces:
			if err := give(sink, piece); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

func give(sink StreamSink, piece *runtimeapi.Body) error {
	defer piece.Release()
	return sink.Write(piece.Bytes())
}

// leave ends the wait of a caller who has gone in the middle of a stream.
func (e *Environment) leave(f *flight) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f.abandoned = true
	closeLocked(f.relay.gone)
	select {
	case out := <-f.answer:
		out.Release()
	default:
	}
}

// acceptStreamLocked arranges for the body of a response to be streamed.
func (e *Environment) acceptStreamLocked(s *step, a lifecycle.AcceptBody) {
	f := e.flight
	if f == nil || f.relay == nil {
		e.cfg.Logger.Error("a stream without an invocation that asked for it")
		return
	}
	if call := f.delivering.Load(); call != 0 {
		// The event is still being written, over another connection, by the
		// goroutine that is to take the stream.
		e.api.Expire(lifecycle.Call(call))
	}
	f.relay.accepted = true
	s.relay, s.accepted = f.relay, a.Call
}

// awaitExit holds the end of a broken stream back for a moment, until the
// runtime's own end has been heard of, or that it lives. It is called without the mutex by the
// goroutine of the response's connection.
func (e *Environment) awaitExit(ev lifecycle.Event) {
	done, ok := ev.(lifecycle.RuntimeResponseDone)
	if !ok || done.Fault != lifecycle.ResponseTruncated {
		return
	}
	e.mu.Lock()
	f := e.flight
	e.mu.Unlock()
	if f == nil || f.relay == nil {
		return
	}
	timer := time.NewTimer(exitAfterBreak)
	defer timer.Stop()
	select {
	case <-f.relay.over:
	case <-f.relay.alive:
	case <-timer.C:
	}
}
