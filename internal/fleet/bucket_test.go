package fleet

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestBucket(t *testing.T) {
	const second = int64(time.Second)
	for _, tokens := range []int64{1, 3, 7, 10, 1000, 300_000} {
		var b bucket
		m := measure{tokens, time.Second}
		drain := func(now int64) (n int64) {
			for b.take(now, m) {
				n++
			}
			return n
		}
		if n := drain(0); n != tokens {
			t.Errorf("a full bucket of %d held %d", tokens, n)
		}
		if n := drain(m.step() - 1); n != 0 {
			t.Errorf("%d of %d came back too early", n, tokens)
		}
		if n := drain(m.step()); n != 1 {
			t.Errorf("%d of %d came back, want 1", n, tokens)
		}
		b.put(m)
		if n := drain(m.step()); n != 1 {
			t.Errorf("%d were given back, want 1", n)
		}
		if n := drain(100 * second); n != tokens {
			t.Errorf("after a long time %d of %d", n, tokens)
		}
		if n := drain(5 * second); n != tokens {
			t.Errorf("after the clock was set back %d of %d", n, tokens)
		}
	}
	var b bucket
	if b.take(0, measure{0, time.Second}) {
		t.Error("an empty measure gives a token")
	}
	if !b.idle(0) {
		t.Error("a bucket that gave nothing is not full")
	}
}

// However requests are spread, at most a bucket and what came back pass, and
// nothing is refused to those who ask less often.
func TestBucketBounds(t *testing.T) {
	const seed = 42
	random := rand.New(rand.NewPCG(seed, 1))
	for range 50 {
		m := measure{1 + random.Int64N(50), time.Second}
		var b bucket
		var now, passed int64
		for range 500 {
			now += random.Int64N(int64(time.Second) / 10)
			for range random.IntN(20) {
				if b.take(now, m) {
					passed++
				}
			}
			if limit := m.tokens + now/m.step(); passed > limit {
				t.Fatalf("%d passed in %v of %+v, at most %d may", passed, time.Duration(now), m, limit)
			}
		}
		for range 100 {
			if now += m.step() * m.tokens; !b.take(now, m) {
				t.Fatalf("a request after a full period of %+v was refused", m)
			}
		}
	}
}

func TestBucketConcurrently(t *testing.T) {
	var b bucket
	var passed atomic.Int64
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 200 {
				if b.take(0, measure{100, time.Second}) {
					passed.Add(1)
				}
			}
		})
	}
	group.Wait()
	if passed.Load() != 100 {
		t.Errorf("%d of 100 passed", passed.Load())
	}
}

// A function may grow by 100 requests per second in 10 seconds, evenly; what
// it has reached it keeps while it uses it, and loses slowly.
func TestRamp(t *testing.T) {
	var r ramp
	m := measure{100, 10 * time.Second}
	second := int64(0)
	count := func() (n int) { // as many as pass at the begin of a second
		for r.take(second*int64(time.Second), m) {
			n++
		}
		second++
		return n
	}
	for want := 100; want <= 200; want += 10 {
		if n := count(); n != want {
			t.Fatalf("second %d: %d requests, want %d", second-1, n, want)
		}
	}
	second += 10 // the bucket is full again, the level has sunk a little
	if n := count(); n < 100+200*3/4 || n >= 300 {
		t.Errorf("after ten seconds of silence: %d requests", n)
	}
	second += 2000
	if n := count(); n != 100 {
		t.Errorf("after a long silence: %d requests, want 100", n)
	}
}
