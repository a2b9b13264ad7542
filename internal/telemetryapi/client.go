package telemetryapi

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"
)

// responseBuffer is the longest line of a response's head.
const responseBuffer = 4096

// client speaks to a listener over the deliverer's connection.
type client struct {
	conn net.Conn
	in   *bufio.Reader
	head []byte
	used bool // the connection has carried a request before
}

func (c *client) reset(conn net.Conn) {
	c.conn, c.used = conn, false
	if c.in == nil {
		c.in = bufio.NewReaderSize(conn, responseBuffer)
	} else {
		c.in.Reset(conn)
	}
}

// errStatus is an answer other than 200.
type errStatus int

func (e errStatus) Error() string { return "the listener answered " + strconv.Itoa(int(e)) }

// send makes one attempt to deliver d.batch. A kept connection that the
// listener has closed meanwhile, as many do after some idle seconds, is
// replaced at once: that is no failure.
func (d *deliverer) send() error {
	for {
		if err := d.connect(); err != nil {
			return err
		}
		kept := d.client.used
		if kept && !d.set.to.tcp && peek(d.conn) != peerThere {
			d.disconnect()
			continue
		}
		err := d.exchange()
		if err != nil {
			var status errStatus
			if !errors.As(err, &status) {
				d.disconnect()
			}
			if kept && errors.Is(err, errStale) {
				continue
			}
		}
		return err
	}
}

// peer is what is known of a listener's end of a kept connection.
type peer int

const (
	peerThere  peer = iota // or unknown
	peerClosed             // it sends no more; whether it reads, only a write can tell
	peerReset              // it is gone
)

// peek asks the kernel for the state of a connection: a write would not tell,
// the kernel would take it. It reads nothing.
func peek(conn net.Conn) peer {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return peerThere
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return peerThere
	}
	state := peerThere
	conn.SetReadDeadline(time.Time{}) // one that has passed would be in the way; nobody reads
	raw.Read(func(fd uintptr) bool {
		// A reset behind the end of the stream shows up here only.
		if pending, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR); err == nil && pending != 0 {
			state = peerReset
			return true
		}
		var one [1]byte
		switch n, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT); {
		case err == nil && n == 0:
			state = peerClosed
		case err != nil && err != syscall.EAGAIN && err != syscall.EINTR:
			state = peerReset
		}
		return true
	})
	return state
}

func (d *deliverer) exchange() error {
	if d.set.to.tcp {
		return d.exchangeTCP()
	}
	return d.exchangeHTTP()
}

// exchangeTCP writes the batch. What was written when a connection breaks
// counts as delivered up to the last whole record.
//
// A listener that has closed its end may have closed the sending half only and
// read on, as nc does without input, or may have gone: then the kernel answers
// the write with a reset at once, and nobody has had any of it.
func (d *deliverer) exchangeTCP() error {
	c, b := &d.client, d.batch
	closed := c.used && peek(c.conn) == peerClosed
	d.begin(writeTime)
	n, err := c.conn.Write(b.buf[b.sent:])
	c.used = true
	if err == nil && closed && peek(c.conn) == peerReset {
		return errStale
	}
	if err == nil {
		return nil
	}
	if n > 0 {
		b.sent += bytes.LastIndexByte(b.buf[b.sent:b.sent+n], '\n') + 1
	}
	if b.sent == len(b.buf) {
		return nil
	}
	if n == 0 && !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w: %w", errStale, err)
	}
	return err
}

// errStale says that a connection was closed before anything came back over
// it.
var errStale = errors.New("the connection was closed")

// exchangeHTTP posts the batch and reads the response's status: 200 alone says
// that the batch has arrived, whatever becomes of the rest of the response.
func (d *deliverer) exchangeHTTP() error {
	c, b := &d.client, d.batch
	b.buf[len(b.buf)-1] = ']' // a sealed batch ends in a separator
	c.head = appendRequest(c.head[:0], &d.set, len(b.buf)+1)
	d.begin(writeTime)
	buffers := net.Buffers{c.head, b.buf}
	_, writeErr := buffers.WriteTo(c.conn)
	c.used = true
	if errors.Is(writeErr, os.ErrDeadlineExceeded) {
		return writeErr
	}
	// A listener that does not read all may have answered nevertheless.
	d.begin(responseTime)
	status, version, err := readStatus(c.in)
	switch {
	case err != nil && writeErr != nil:
		return fmt.Errorf("%w: %w", errStale, writeErr)
	case err != nil:
		return err
	}
	d.begin(restTime)
	if keep, err := readRest(c.in, status, version); !keep || err != nil || writeErr != nil || c.in.Buffered() > 0 {
		d.disconnect()
	}
	if status != 200 {
		return errStatus(status)
	}
	return nil
}

// appendRequest writes the head of a delivery and the array's bracket.
func appendRequest(dst []byte, set *settings, length int) []byte {
	dst = append(dst, set.method...)
	dst = append(dst, ' ')
	dst = append(dst, set.to.target...)
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	dst = append(dst, set.host...)
	dst = append(dst, "\r\nContent-Type: application/json\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(length), 10)
	return append(dst, "\r\n\r\n["...)
}

// errNoResponse means that what a listener sent is not an HTTP response.
var errNoResponse = errors.New("the listener's answer is not HTTP")

// The bounds of a response.
const (
	maxInterim  = 8 // 1xx responses before the final one
	maxHead     = 16 << 10
	maxBody     = 64 << 10
	maxChunkHex = 8
)

// version is the minor version of HTTP/1: 0 closes the connection unless it
// says otherwise.
type version int

// readStatus reads up to the status line of the final response.
func readStatus(in *bufio.Reader) (int, version, error) {
	for range maxInterim {
		line, err := in.ReadSlice('\n')
		if err != nil {
			if len(line) == 0 && !errors.Is(err, os.ErrDeadlineExceeded) {
				return 0, 0, fmt.Errorf("%w: %w", errStale, err)
			}
			return 0, 0, fmt.Errorf("%w: %w", errNoResponse, err)
		}
		status, v, ok := parseStatus(trimEnd(line))
		if !ok || status == 101 {
			return 0, 0, errNoResponse
		}
		if status >= 200 {
			return status, v, nil
		}
		if _, err := readHeaders(in, v); err != nil {
			return 0, 0, err
		}
	}
	return 0, 0, errNoResponse
}

func trimEnd(line []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte{'\n'}), []byte{'\r'})
}

// parseStatus reads "HTTP/1.1 200 OK"; the reason may be missing.
func parseStatus(line []byte) (status int, v version, ok bool) {
	const form = "HTTP/1.1 200"
	if len(line) < len(form) || string(line[:7]) != form[:7] || line[8] != ' ' || len(line) > len(form) && line[len(form)] != ' ' {
		return 0, 0, false
	}
	if line[7] != '0' && line[7] != '1' {
		return 0, 0, false
	}
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return 0, 0, false
		}
		status = 10*status + int(c-'0')
	}
	return status, version(line[7] - '0'), status >= 100
}

// framing is what the headers say of the body and the connection.
type framing struct {
	length  int64 // -1: until the connection is closed
	chunked bool
	keep    bool
}

// readHeaders reads to the empty line.
func readHeaders(in *bufio.Reader, v version) (framing, error) {
	f := framing{length: -1, keep: v == 1}
	for total := 0; ; {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return f, fmt.Errorf("%w: %w", errNoResponse, err)
		}
		if total += len(line); total > maxHead {
			return f, errNoResponse
		}
		if line = trimEnd(line); len(line) == 0 {
			return f, nil
		}
		if !f.header(line) {
			return f, errNoResponse
		}
	}
}

// header takes one line, and says whether it is fit to be one.
func (f *framing) header(line []byte) bool {
	name, value, ok := bytes.Cut(line, []byte{':'})
	if !ok || len(name) == 0 {
		return false
	}
	value = bytes.TrimSpace(value)
	switch {
	case bytes.EqualFold(name, []byte("Content-Length")):
		n, err := strconv.ParseUint(string(value), 10, 62)
		if err != nil || f.length >= 0 && f.length != int64(n) {
			return false
		}
		f.length = int64(n)
	case bytes.EqualFold(name, []byte("Transfer-Encoding")):
		if !bytes.EqualFold(value, []byte("chunked")) {
			return false
		}
		f.chunked = true
	case bytes.EqualFold(name, []byte("Connection")):
		for token := range bytes.SplitSeq(value, []byte{','}) {
			switch token = bytes.TrimSpace(token); {
			case bytes.EqualFold(token, []byte("close")):
				f.keep = false
			case bytes.EqualFold(token, []byte("keep-alive")):
				f.keep = true
			}
		}
	}
	return true
}

// readRest reads headers and body of a final response, and says whether the
// connection can be used again.
func readRest(in *bufio.Reader, status int, v version) (keep bool, err error) {
	f, err := readHeaders(in, v)
	if err != nil {
		return false, err
	}
	switch {
	case status == 204 || status == 304: // have no body
		return f.keep, nil
	case f.chunked:
		if f.length >= 0 {
			return false, errNoResponse // one of them lies
		}
		return f.keep, discardChunks(in)
	case f.length >= 0:
		return f.keep, discard(in, f.length, maxBody)
	}
	// Up to the end, for the listener's sake: closed earlier, it would see an
	// error.
	_, err = io.Copy(io.Discard, io.LimitReader(in, maxBody))
	return false, err
}

func discard(in *bufio.Reader, n, most int64) error {
	if n > most {
		return errNoResponse
	}
	_, err := in.Discard(int(n))
	return err
}

func discardChunks(in *bufio.Reader) error {
	for total := int64(0); total <= maxBody; {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		hex, _, _ := bytes.Cut(trimEnd(line), []byte{';'})
		if hex = bytes.TrimSpace(hex); len(hex) > maxChunkHex {
			return errNoResponse
		}
		size, err := strconv.ParseUint(string(hex), 16, 32)
		if err != nil {
			return errNoResponse
		}
		if size == 0 {
			_, err := readHeaders(in, 1) // trailers
			return err
		}
		if total += int64(size) + int64(len(line)); total > maxBody {
			return errNoResponse
		}
		if err := discard(in, int64(size), maxBody); err != nil {
			return err
		}
		if end, err := in.ReadSlice('\n'); err != nil || len(trimEnd(end)) != 0 {
			return errNoResponse
		}
	}
	return errNoResponse
}
