package runtimeapi

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"strings"
	"unicode/utf8"
)

// Faults of a body. Any other error means that the connection broke, which is
// a truncated body.
var (
	errBodyTooLarge = errors.New("body over the limit")
	errBadChunk     = errors.New("malformed chunked body")
)

// input is the reading side of a connection: a buffer that is small as long as
// heads are, and bodies that are read past it into memory of their own.
type input struct {
	conn   net.Conn
	buf    []byte // inline, or grown for a large head
	r, w   int    // buf[r:w] is read from the connection and not consumed
	wide   bool   // compact leaves the size of buf alone
	inBody bool   // the peer is in the middle of a request
	inline [inlineBytes]byte
}

func (in *input) init(conn net.Conn) {
	in.conn, in.buf = conn, in.inline[:]
}

// await is called before a read from the connection. In the middle of a body
// the peer must not wait for firn while firn waits for it.
func (in *input) await() {
	if in.inBody {
		acknowledge(in.conn)
	}
}

// fill reads once, into what is free of the buffer. The buffer must not be
// full.
func (in *input) fill() error {
	in.await()
	n, err := in.conn.Read(in.buf[in.w:])
	in.w += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// compact moves the unconsumed bytes to the front, and goes back to the inline
// buffer as soon as they fit.
func (in *input) compact() {
	to := in.buf
	if !in.wide && len(to) > inlineBytes && in.w-in.r <= inlineBytes {
		to = in.inline[:]
	}
	in.w = copy(to, in.buf[in.r:in.w])
	in.buf, in.r = to, 0
}

// readHead waits for a complete head and consumes it. The slices of h are
// valid until the next call of any method. grow is asked before the buffer
// becomes larger than largeBytes. io.EOF means that the peer closed between
// requests.
func (in *input) readHead(h *head, grow func()) error {
	in.inBody = false
	in.compact()
	searched := 0
	for {
		in.skipBlankLines()
		held := in.buf[in.r:in.w]
		if n := headEnd(held, searched-3); n > 0 {
			in.r += n
			return h.parse(held[:n])
		}
		searched = len(held)
		if in.w == len(in.buf) {
			if len(held) >= maxHeadBytes {
				return errHeadTooLarge
			}
			if in.r > 0 {
				in.compact()
				continue
			}
			if 2*len(in.buf) > largeBytes {
				grow()
			}
			in.buf = append(in.buf[:in.w:in.w], make([]byte, min(len(in.buf), maxHeadBytes-len(in.buf)))...)
		}
		if err := in.fill(); err != nil {
			if in.w > in.r && errors.Is(err, io.EOF) {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
}

// skipBlankLines takes empty lines before a request (RFC 9112, 2.2).
func (in *input) skipBlankLines() {
	for in.r < in.w && (in.buf[in.r] == '\n' || in.buf[in.r] == '\r' && in.r+1 < in.w && in.buf[in.r+1] == '\n') {
		in.r++
	}
	if in.r == in.w {
		in.r, in.w = 0, 0
	}
}

// readFull fills p from the buffer and the connection.
func (in *input) readFull(p []byte) error {
	n := copy(p, in.buf[in.r:in.w])
	in.r += n
	if n == len(p) {
		return nil
	}
	in.await()
	_, err := io.ReadFull(in.conn, p[n:])
	return err
}

// held is how many bytes are in the buffer.
func (in *input) held() int { return in.w - in.r }

// widen takes a larger buffer, so that one read brings many small chunks;
// after narrow, compact goes back.
func (in *input) widen(size int) {
	in.wide = true
	if len(in.buf) >= size {
		return
	}
	wide := make([]byte, size)
	in.w = copy(wide, in.buf[in.r:in.w])
	in.buf, in.r = wide, 0
}

func (in *input) narrow() { in.wide = false }

// read reads once, from the buffer if there is anything in it. Small reads go
// by way of the buffer.
func (in *input) read(p []byte) (int, error) {
	if in.held() == 0 {
		if len(p) >= len(in.buf) {
			in.await()
			return in.conn.Read(p)
		}
		in.r, in.w = 0, 0
		if err := in.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, in.buf[in.r:in.w])
	in.r += n
	return n, nil
}

// holdsChunkHead says that the whole line before a chunk which is not the last
// one is in the buffer, after the line end of the chunk before.
func (in *input) holdsChunkHead() bool {
	_, line, ok := bytes.Cut(in.buf[in.r:in.w], []byte{'\n'})
	return ok && bytes.IndexByte(line, '\n') > 0 && line[0] != '0'
}

// discard consumes n bytes without keeping them.
func (in *input) discard(n int64) error {
	for n > 0 {
		if in.r == in.w {
			in.r, in.w = 0, 0
			if err := in.fill(); err != nil {
				return err
			}
		}
		k := int(min(n, int64(in.w-in.r)))
		in.r += k
		n -= int64(k)
	}
	return nil
}

// readLine consumes a line of a chunked body, at most limit bytes. It is valid
// until the next call.
func (in *input) readLine(limit int) ([]byte, error) {
	for searched := 0; ; {
		held := in.buf[in.r:in.w]
		if i := bytes.IndexByte(held[searched:], '\n'); i >= 0 {
			line := held[:searched+i]
			in.r += searched + i + 1
			if len(line) > limit {
				return nil, errBadChunk
			}
			return bytes.TrimSuffix(line, []byte{'\r'}), nil
		}
		searched = len(held)
		if searched > limit {
			return nil, errBadChunk
		}
		if in.w == len(in.buf) {
			if in.r > 0 {
				in.compact()
				continue
			}
			in.buf = append(in.buf[:in.w:in.w], make([]byte, len(in.buf))...)
		}
		if err := in.fill(); err != nil {
			return nil, err
		}
	}
}

// readChunkSize consumes the line before a chunk. first is false from the
// second chunk on: then the line end of the chunk before comes first.
func (in *input) readChunkSize(first bool) (int64, error) {
	if !first {
		line, err := in.readLine(len("\r"))
		if err != nil {
			return 0, err
		}
		if len(line) > 0 {
			return 0, errBadChunk
		}
	}
	line, err := in.readLine(maxLineBytes)
	if err != nil {
		return 0, err
	}
	size, _, _ := bytes.Cut(line, []byte{';'}) // extensions are ignored
	size = bytes.TrimRight(size, " \t")
	if len(size) == 0 || len(size) > 15 {
		return 0, errBadChunk
	}
	var n int64
	for _, c := range size {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, errBadChunk
		}
		n = n<<4 | int64(c)
	}
	return n, nil
}

// trailers are those of a stream that failed midway, as sent.
type trailers struct{ errorType, errorBody string }

// readTrailers consumes the trailers and returns those that matter here; the
// first of several equal ones counts.
func (in *input) readTrailers() (t trailers, err error) {
	for total := 0; ; {
		line, err := in.readLine(maxTrailerBytes)
		if err != nil {
			return trailers{}, err
		}
		if len(line) == 0 {
			return t, nil
		}
		if total += len(line); total > maxTrailerBytes {
			return trailers{}, errBadChunk
		}
		name, value, ok := bytes.Cut(line, []byte{':'})
		if !ok || !isToken(name) {
			return trailers{}, errBadChunk
		}
		value = bytes.Trim(value, " \t")
		switch {
		case t.errorType == "" && equalFold(name, "lambda-runtime-function-error-type"):
			t.errorType = string(value)
		case t.errorBody == "" && equalFold(name, "lambda-runtime-function-error-body"):
			t.errorBody = string(value)
		}
	}
}

// maxErrorType bounds the type of an error that a trailer tells.
const maxErrorType = 256

// decode returns what the trailers tell: a type of any text, on one line, and
// the error document. A body that is not base64 is taken as it is.
func (t trailers) decode() (errorType, errorBody string) {
	errorType = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return '?'
		}
		return r
	}, t.errorType[:min(len(t.errorType), maxErrorType)])
	errorBody = t.errorBody
	if p, err := base64.StdEncoding.DecodeString(errorBody); err == nil {
		errorBody = string(p)
	}
	if errorType == "" && errorBody != "" {
		errorType = "Runtime.Unknown"
	}
	return errorType, errorBody
}
