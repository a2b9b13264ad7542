package telemetryapi

import (
	"encoding/binary"
	"math/bits"
	"time"
	"unicode/utf8"
)

// Patterns for looking at eight bytes at a time.
const (
	lowBits  = 0x0101010101010101
	highBits = 0x8080808080808080
)

// special marks, by its lowest set bit, the first of eight bytes (the lowest
// is the first) that cannot stand in a JSON string as it is, or is not ASCII.
// Marks above the lowest may be wrong: a borrow makes them.
func special(w uint64) uint64 {
	quote := w ^ 0x22*lowBits
	slash := w ^ 0x5c*lowBits
	return (w | (w-0x20*lowBits)&^w | (quote-lowBits)&^quote | (slash-lowBits)&^slash) & highBits
}

// appendEscaped appends text as the inside of a JSON string. What is not UTF-8
// becomes U+FFFD.
func appendEscaped(dst, text []byte) []byte {
	from, i := 0, 0
	for i < len(text) {
		if i+8 <= len(text) {
			found := special(binary.LittleEndian.Uint64(text[i:]))
			if found == 0 {
				i += 8
				continue
			}
			i += bits.TrailingZeros64(found) >> 3
		}
		c := text[i]
		switch {
		case c >= utf8.RuneSelf:
			r, size := utf8.DecodeRune(text[i:])
			if r == utf8.RuneError && size == 1 {
				dst = append(append(dst, text[from:i]...), "\ufffd"...)
				from = i + 1
			}
			i += size
			continue
		case c < ' ' || c == '"' || c == '\\':
			dst = appendControl(append(dst, text[from:i]...), c)
			from = i + 1
		}
		i++
	}
	return append(dst, text[from:]...)
}

func appendControl(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	const hex = "0123456789abcdef"
	return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
}

// lastSecond is the last that RFC 3339 can tell: frames of managed runtimes
// carry times of any size.
const lastSecond = 253402300799

// clock writes times of envelopes, and keeps the text of the last second.
type clock struct {
	second int64
	text   []byte // up to the seconds
}

// append writes UTC with milliseconds.
func (c *clock) append(dst []byte, t time.Time) []byte {
	second, ms := t.Unix(), t.Nanosecond()/1e6
	second = min(max(second, 0), lastSecond)
	if second != c.second || c.text == nil {
		c.second = second
		c.text = time.Unix(second, 0).UTC().AppendFormat(c.text[:0], "2006-01-02T15:04:05.")
	}
	dst = append(dst, c.text...)
	return append(dst, byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10), 'Z')
}
