package initproto

import (
	"encoding/binary"
	"errors"
)

// MaxMessage is the longest packet in bytes. The kernel's default socket
// buffer holds 208 KiB with its bookkeeping.
const MaxMessage = 160 << 10

// MaxSpill is the longest message in bytes, sent as a Spilled. The kernel
// takes no more than 2 MiB of arguments and environment under the sandbox's
// stack limit.
const MaxSpill = 4 << 20

// MaxFDs is the most descriptors that one packet carries.
const MaxFDs = 32

// maxList bounds the elements of one list, against short packets that claim
// to hold long lists.
const maxList = 1 << 18

// ErrMalformed is returned for a packet that is no message.
var ErrMalformed = errors.New("initproto: malformed message")

// ErrTooLong is returned for a message over MaxSpill.
var ErrTooLong = errors.New("initproto: message too long")

const headerLen = 5

// Append encodes m with its sequence number behind buf. What is longer than
// MaxMessage has to be spilled.
func Append(buf []byte, seq uint32, m Message) ([]byte, error) {
	start := len(buf)
	e := encoder{buf: append(buf, byte(m.Kind()), 0, 0, 0, 0)}
	binary.LittleEndian.PutUint32(e.buf[start+1:], seq)
	m.encode(&e)
	if len(e.buf)-start > MaxSpill {
		return buf, ErrTooLong
	}
	return e.buf, nil
}

// Parse decodes one packet. Strings are copied out of it.
func Parse(packet []byte) (seq uint32, m Message, err error) {
	if len(packet) < headerLen || len(packet) > MaxSpill {
		return 0, nil, ErrMalformed
	}
	m = newMessage(Kind(packet[0]))
	if m == nil {
		return 0, nil, ErrMalformed
	}
	d := decoder{rest: packet[headerLen:]}
	m.decode(&d)
	if d.bad || len(d.rest) != 0 {
		return 0, nil, ErrMalformed
	}
	return binary.LittleEndian.Uint32(packet[1:]), m, nil
}

type encoder struct{ buf []byte }

func (e *encoder) uint(v uint64) { e.buf = binary.AppendUvarint(e.buf, v) }

func (e *encoder) bool(v bool) {
	b := byte(0)
	if v {
		b = 1
	}
	e.buf = append(e.buf, b)
}

func (e *encoder) string(s string) {
	e.uint(uint64(len(s)))
	e.buf = append(e.buf, s...)
}

func (e *encoder) strings(list []string) {
	e.uint(uint64(len(list)))
	for _, s := range list {
		e.string(s)
	}
}

// decoder reads fields until one is bad; then everything reads as zero.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) fail() {
	d.bad, d.rest = true, nil
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// uint32 reads an integer that has to fit 32 bits.
func (d *decoder) uint32() uint32 {
	v := d.uint()
	if v > 1<<32-1 {
		d.fail()
		return 0
	}
	return uint32(v)
}

func (d *decoder) bool() bool {
	if len(d.rest) == 0 || d.rest[0] > 1 {
		d.fail()
		return false
	}
	v := d.rest[0] == 1
	d.rest = d.rest[1:]
	return v
}

func (d *decoder) string() string {
	n := d.uint()
	if n > uint64(len(d.rest)) {
		d.fail()
		return ""
	}
	s := string(d.rest[:n])
	d.rest = d.rest[n:]
	return s
}

// length reads the length of a list whose elements take a byte or more each.
func (d *decoder) length() int {
	n := d.uint()
	if n > maxList || n > uint64(len(d.rest)) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) strings() []string {
	n := d.length()
	if n == 0 {
		return nil
	}
	list := make([]string, 0, n)
	for range n {
		list = append(list, d.string())
	}
	return list
}
