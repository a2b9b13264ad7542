package runtimeapi

import "errors"

// bodyReader reads the body of one request. What it has not read when it is
// done with is discarded by drain.
type bodyReader struct {
	in       *input
	chunked  bool
	first    bool  // no chunk was begun yet
	left     int64 // of the body, or of the present chunk
	ended    bool
	trailers trailers // once ended
}

func newBodyReader(in *input, h *head) bodyReader {
	in.inBody = h.hasBody()
	return bodyReader{in: in, chunked: h.chunked, first: true, left: h.length, ended: !h.hasBody()}
}

// next makes left positive, or sets ended.
func (r *bodyReader) next() error {
	if r.ended || r.left > 0 {
		return nil
	}
	if !r.chunked {
		r.ended = true
		return nil
	}
	size, err := r.in.readChunkSize(r.first)
	if err != nil {
		return err
	}
	r.first, r.left = false, size
	if size == 0 {
		if r.trailers, err = r.in.readTrailers(); err == nil {
			r.ended = true
		}
	}
	return err
}

// readInto appends the whole body to b and returns the body that now holds it
// (a larger one, when b had to grow), also with an error. A body over limit is
// errBodyTooLarge; then the rest is unread.
func (r *bodyReader) readInto(b *Body, limit int64) (*Body, error) {
	for {
		if err := r.next(); err != nil || r.ended {
			return b, err
		}
		if int64(len(b.data))+r.left > limit {
			return b, errBodyTooLarge
		}
		for r.left > 0 {
			if len(b.data) == cap(b.data) {
				b = b.grow()
			}
			n := int(min(r.left, int64(cap(b.data)-len(b.data))))
			at := len(b.data)
			if err := r.in.readFull(b.data[at : at+n]); err != nil {
				return b, err
			}
			b.data = b.data[:at+n]
			r.left -= int64(n)
		}
	}
}

// readSome reads into p what has come in, at least one byte: it does not wait
// for more. At the end of the body ended is true, and nothing is an error.
func (r *bodyReader) readSome(p []byte) (n int, err error) {
	for n < len(p) {
		if n > 0 && r.left == 0 && !(r.chunked && r.in.holdsChunkHead()) {
			return n, nil // what follows is not here yet, or is the end
		}
		if err := r.next(); err != nil || r.ended {
			return n, err
		}
		if n > 0 && r.in.held() == 0 {
			return n, nil
		}
		k, err := r.in.read(p[n:min(int64(len(p)), int64(n)+r.left)])
		n += k
		r.left -= int64(k)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// errDiscard means that a body was not worth reading to its end.
var errDiscard = errors.New("too much of a body is unread")

// drain consumes what is unread of the body, within the limit.
func (r *bodyReader) drain() error {
	var total int64
	for {
		if err := r.next(); err != nil || r.ended {
			return err
		}
		if total += r.left; total > maxDiscardBytes {
			return errDiscard
		}
		if err := r.in.discard(r.left); err != nil {
			return err
		}
		r.left = 0
	}
}
