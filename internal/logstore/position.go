package logstore

import (
	"fmt"
	"strconv"
)

// Position is a place in the order of events. The zero value is before all.
type Position struct {
	Timestamp int64
	Seq       uint64
}

// String gives the position as an opaque token, for ParsePosition.
func (p Position) String() string {
	// The sign bit is turned, so that tokens sort as their positions do.
	return fmt.Sprintf("%016x%016x", uint64(p.Timestamp)^1<<63, p.Seq)
}

// IsZero reports whether it is no position of an event.
func (p Position) IsZero() bool { return p == Position{} }

// ParsePosition reads what String gave; anything else is ErrCursor.
func ParsePosition(s string) (Position, error) {
	if len(s) != 32 {
		return Position{}, fmt.Errorf("%w: %d characters", ErrCursor, len(s))
	}
	t, err1 := strconv.ParseUint(s[:16], 16, 64)
	seq, err2 := strconv.ParseUint(s[16:], 16, 64)
	p := Position{Timestamp: int64(t ^ 1<<63), Seq: seq}
	if err1 != nil || err2 != nil || p.String() != s {
		return Position{}, fmt.Errorf("%w: %q", ErrCursor, s)
	}
	return p, nil
}

// less orders positions.
func (p Position) less(q Position) bool {
	if p.Timestamp != q.Timestamp {
		return p.Timestamp < q.Timestamp
	}
	return p.Seq < q.Seq
}
