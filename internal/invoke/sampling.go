package invoke

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// sampler is X-Ray's default rule, per function: the first request of each
// second, and 5 % of the others. There is no lock: a function's requests share
// one atomic word, different functions nothing.
type sampler struct {
	// chance returns 64 random bits; it is called concurrently.
	chance func() uint64

	// functions maps a function's ARN to the *atomic.Int64 that holds the
	// Unix second of its last request from the reservoir.
	functions sync.Map
	size      atomic.Int64 // entries of functions, about
}

const (
	// sampledShare is how much of what the reservoir does not take is
	// sampled: 5 %.
	sampledShare = math.MaxUint64 / 20
	// sampledFunctions bounds the map; beyond it functions that were not
	// asked about for a minute are forgotten, which costs them nothing.
	sampledFunctions = 4096
)

// sample decides for one request.
func (s *sampler) sample(function string, now time.Time) bool {
	second := now.Unix()
	entry, ok := s.functions.Load(function)
	if !ok {
		fresh := new(atomic.Int64)
		fresh.Store(math.MinInt64)
		if entry, ok = s.functions.LoadOrStore(function, fresh); !ok && s.size.Add(1) > sampledFunctions {
			s.forget(second)
		}
	}
	last := entry.(*atomic.Int64)
	if before := last.Load(); before != second && last.CompareAndSwap(before, second) {
		return true
	}
	return s.chance() < sampledShare
}

// forget drops the functions that are at rest.
func (s *sampler) forget(second int64) {
	s.functions.Range(func(function, entry any) bool {
		if at := entry.(*atomic.Int64).Load(); at != math.MinInt64 && at < second-60 && s.functions.CompareAndDelete(function, entry) {
			s.size.Add(-1)
		}
		return true
	})
}
