package runtimeapi

import (
	"errors"
	"sync"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/lifecycle"
)

// ResponseHead is what the head of a response says of it.
type ResponseHead struct {
	// ContentType is the header's value as the runtime sent it, or "".
	ContentType string
	// Streaming says that the runtime named its response mode so.
	Streaming bool
}

// Receiver takes a response that is streamed. Its methods are called by the
// goroutine of the response's connection.
type Receiver interface {
	// Begin comes first.
	Begin(ResponseHead)
	// Receive takes a piece of the body, never an empty one, which is the
	// receiver's to release. It blocks for as long as there is no room for it:
	// nothing is read from the connection meanwhile.
	Receive(piece *Body)
}

// AcceptStream lets the body of a response be read, and given to r as it comes
// in. It must be called where Reply would be for AcceptBody: by the goroutine
// that is in Handle with the response's head.
func (s *Server) AcceptStream(call lifecycle.Call, r Receiver) {
	if c := s.peek(call); c != nil {
		c.accepts, c.receiver = true, r
	}
}

// serveResponse hands over the head, and the body only if the machine accepts
// it: a runtime in the wrong state must not make firn hold 6 MB.
func (c *conn) serveResponse(id []byte, body *bodyReader) bool {
	mode := string(c.head.responseMode)
	contentType := string(c.head.contentType)
	call := c.begin("")
	c.accepts, c.receiver = false, nil
	c.server.cfg.Handler.Handle(lifecycle.RuntimeResponse{
		Call: call, RequestID: string(id), Streaming: mode == "streaming", BadMode: mode != "" && mode != "streaming",
	}, call, nil)
	if !c.accepts {
		return c.await(call)
	}
	end := c.server.beginResponse()
	defer end()
	c.sendContinue(body)
	done := lifecycle.RuntimeResponseDone{Call: call}
	var b *Body
	var err error
	if r := c.receiver; r != nil {
		c.accepts, c.receiver = false, nil
		r.Begin(ResponseHead{ContentType: contentType, Streaming: mode == "streaming"})
		done.Bytes, err = c.readStream(call, r, body)
	} else {
		c.accepts = false
		length := c.head.length
		if length > maxResponseBytes {
			length = 0 // refused before a byte is read
		}
		b, err = body.readInto(c.server.cfg.Buffers.get(int(length)), maxResponseBytes)
		b.ContentType = contentType
		done.Bytes = int64(len(b.data))
	}
	done.ErrorType, done.ErrorBody = body.trailers.decode()
	switch {
	case errors.Is(err, errBodyTooLarge):
		done.Fault = lifecycle.ResponseTooLarge
	case err != nil:
		done.Fault = lifecycle.ResponseTruncated
		c.broken = true
		c.closeAfterReply()
	}
	if err == nil {
		end() // the runtime's next request waits for the reply, not for Handle
	}
	if _, answered := c.answered(call); answered {
		if b != nil {
			b.Release() // dropped meanwhile: the machine has done with it
		}
		return false
	}
	c.server.cfg.Handler.Handle(done, call, b)
	end()
	return c.await(call)
}

// hangUpTime bounds the wait for the end of a response whose runtime asks for
// the next event already.
const hangUpTime = time.Second

// beginResponse notes that a response is being read; end may be called more
// than once.
func (s *Server) beginResponse() (end func()) {
	ended := make(chan struct{})
	s.response.Store(&ended)
	return sync.OnceFunc(func() {
		s.response.CompareAndSwap(&ended, nil)
		close(ended)
	})
}

// awaitResponse lets the end of a response overtake the request that follows
// it: a runtime that hangs up in the middle of a response and asks for the next
// event does so on two connections, which are read by two goroutines.
func (s *Server) awaitResponse() {
	ended := s.response.Load()
	if ended == nil {
		return
	}
	if s.cfg.Alive != nil {
		s.cfg.Alive()
	}
	timer := time.NewTimer(hangUpTime)
	defer timer.Stop()
	select {
	case <-*ended:
	case <-timer.C:
	}
}

// streamPiece is the size of the buffers in which a stream goes on its way.
const streamPiece = 32 << 10

// readStream gives the body to the receiver as it comes in, and returns how
// much of it. A body over the limit is errBodyTooLarge, after the bytes up to
// the limit.
func (c *conn) readStream(call lifecycle.Call, r Receiver, body *bodyReader) (total int64, err error) {
	if body.chunked {
		c.in.widen(streamPiece)
		defer c.in.narrow()
	}
	for {
		piece := c.server.cfg.Buffers.get(streamPiece)
		n, err := body.readSome(piece.data[:streamPiece])
		over := total+int64(n) > firn.MaxStreamedBytes
		if over {
			n = int(firn.MaxStreamedBytes - total)
		}
		if n > 0 {
			if total == 0 {
				c.server.cfg.Handler.Handle(lifecycle.RuntimeResponseBegun{Call: call}, call, nil)
			}
			total += int64(n)
			piece.data = piece.data[:n]
			r.Receive(piece)
		} else {
			piece.Release()
		}
		switch {
		case over:
			return total, errBodyTooLarge
		case err != nil || body.ended:
			return total, err
		}
	}
}

// sendContinue tells a waiting client to send its body.
func (c *conn) sendContinue(body *bodyReader) {
	if !c.head.expect || body.ended {
		return
	}
	c.head.expect = false
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writeLocked([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
}
