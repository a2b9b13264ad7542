package fleet

import (
	"sync"
	"sync/atomic"
	"time"
)

// bucket holds tokens that come back evenly. It is one word: the moment at
// which it will be full again. The zero bucket is full.
type bucket struct{ full atomic.Int64 }

// measure is the size of a bucket: that many tokens come back in a period.
type measure struct {
	tokens int64
	period time.Duration
}

// step is how long one token takes to come back.
func (m measure) step() int64 { return max(int64(m.period)/max(m.tokens, 1), 1) }

// take takes a token; false when there is none. now is the age of the fleet,
// which does not go back much: a bucket that claims to be emptier than empty
// is one of a clock that was set back, and starts again.
func (b *bucket) take(now int64, m measure) bool {
	if m.tokens <= 0 {
		return false
	}
	step := m.step()
	room := step * m.tokens
	for {
		full := b.full.Load()
		next := max(full, now)
		if next-now > 2*room { // the clock was set back
			next = now
		}
		next += step
		if next-now > room {
			return false
		}
		if b.full.CompareAndSwap(full, next) {
			return true
		}
	}
}

// put gives a token back that bought nothing.
func (b *bucket) put(m measure) { b.full.Add(-m.step()) }

// idle reports whether the bucket is as good as a new one.
func (b *bucket) idle(now int64) bool { return b.full.Load() <= now }

// ramp bounds how quickly the requests per second of one function may grow:
// what goes beyond the level that it has reached takes from a bucket. The
// level sinks slowly while less is asked for.
type ramp struct {
	growth bucket

	mu     sync.Mutex
	second int64 // that count is of
	count  int64
	level  int64 // requests per second that the function is scaled for
}

// rampDecay is the share of its level that a function loses in each second
// in which it does not use it: 1/64, or half in three quarters of a minute.
const rampDecay = 64

// take admits one request.
func (r *ramp) take(now int64, m measure) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if second := now / int64(time.Second); second != r.second {
		for range min(max(second-r.second, 0), 1024) {
			r.level = max(r.count, r.level-(r.level+rampDecay-1)/rampDecay)
			r.count = 0
		}
		r.second, r.count = second, 0
	}
	if r.count >= r.level {
		if !r.growth.take(now, m) {
			return false
		}
		r.level++
	}
	r.count++
	return true
}
