package runtimeapi

import (
	"math/bits"
	"sync"
)

// Smallest and largest class of pooled buffers, as powers of two: 4 KiB to
// 8 MiB, which is the least power that holds a response of the greatest size.
const (
	minClass = 12
	maxClass = 23
)

// Buffers is a pool of response bodies by size class, shared by the servers of
// a node. The zero value is ready for use.
type Buffers struct {
	classes [maxClass - minClass + 1]sync.Pool // of *Body
}

// Body is the buffered body of a response. One goroutine owns it at a time.
type Body struct {
	// ContentType is the header's value as the runtime sent it, or "".
	ContentType string

	data  []byte
	pool  *Buffers
	class int
}

// get returns an empty body with room for n bytes. n must not exceed the
// largest class.
func (p *Buffers) get(n int) *Body {
	class := max(minClass, bits.Len(uint(max(n, 1)-1)))
	if b, ok := p.classes[class-minClass].Get().(*Body); ok {
		return b
	}
	return &Body{data: make([]byte, 0, 1<<class), pool: p, class: class}
}

// grow returns a body of twice the room with the same bytes and releases b.
func (b *Body) grow() *Body {
	bigger := b.pool.get(2 * cap(b.data))
	bigger.ContentType = b.ContentType
	bigger.data = append(bigger.data, b.data...)
	b.Release()
	return bigger
}

// Bytes is the body; valid until Release.
func (b *Body) Bytes() []byte { return b.data }

// Release returns the memory to the pool. It must be called at most once.
func (b *Body) Release() {
	b.data, b.ContentType = b.data[:0], ""
	b.pool.classes[b.class-minClass].Put(b)
}
