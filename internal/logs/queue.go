package logs

import "encoding/binary"

// queue is a ring of bytes that holds the lines of all functions in the order
// in which they came. Its buffer is all the memory that they take. It has no
// lock of its own.
//
// An entry is
//
//	speaker[4] length[4] time[8] message
//
// and lies in one piece; where the end of the buffer is too short for it, an
// entry of the speaker skip stands for the rest.
type queue struct {
	buf        []byte
	head, tail int
	used       int // from head to tail, what is skipped included
}

const (
	entryHeader = 16
	skip        = 1<<32 - 1
)

// free is what is left, though not always in one piece.
func (q *queue) free() int { return len(q.buf) - q.used }

// push puts an entry in; false when it has no room.
func (q *queue) push(speaker uint32, at int64, message []byte) bool {
	need := entryHeader + len(message)
	if q.used == 0 {
		q.head, q.tail = 0, 0 // a queue that is mostly empty touches little memory
	}
	if q.tail >= q.head && q.used < len(q.buf) && len(q.buf)-q.tail < need {
		rest := len(q.buf) - q.tail
		if need > q.head {
			return false
		}
		if rest >= 4 {
			binary.LittleEndian.PutUint32(q.buf[q.tail:], skip)
		}
		q.used += rest
		q.tail = 0
	}
	if need > q.free() || q.tail < q.head && need > q.head-q.tail {
		return false
	}
	b := q.buf[q.tail:]
	binary.LittleEndian.PutUint32(b, speaker)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(message)))
	binary.LittleEndian.PutUint64(b[8:], uint64(at))
	copy(b[entryHeader:], message)
	q.tail += need
	q.used += need
	return true
}

// entry is one line of the queue; its message is a part of the buffer, until
// it is released.
type entry struct {
	speaker uint32
	at      int64
	message []byte
}

// peek appends the first entries of the queue, at least one and then up to
// about so many bytes, and tells how much there is to release.
func (q *queue) peek(dst []entry, bytes int) ([]entry, int) {
	at, seen := q.head, 0
	for seen < q.used && seen < bytes {
		rest := len(q.buf) - at
		if rest < 4 || binary.LittleEndian.Uint32(q.buf[at:]) == skip {
			seen += rest
			at = 0
			continue
		}
		b := q.buf[at:]
		n := int(binary.LittleEndian.Uint32(b[4:]))
		dst = append(dst, entry{
			speaker: binary.LittleEndian.Uint32(b), at: int64(binary.LittleEndian.Uint64(b[8:])),
			message: b[entryHeader : entryHeader+n : entryHeader+n],
		})
		at += entryHeader + n
		seen += entryHeader + n
	}
	return dst, seen
}

// release frees what peek told.
func (q *queue) release(n int) {
	q.head += n
	if q.head >= len(q.buf) {
		q.head -= len(q.buf)
	}
	q.used -= n
}
