package series

import (
	"math"
	"slices"
)

// Limits of a sketch.
const (
	// exactValues is how many different values a sketch keeps as they are: as
	// many as one datum of PutMetricData can carry.
	exactValues = 150
	// maxBuckets bounds it after that. At 1 % they span a factor of 10^17;
	// beyond, the smallest values share a bucket.
	maxBuckets = 2048
	// accuracy is the greatest relative error of a bucket's value.
	accuracy = 0.01
	// smallest is where values become zero: buckets below it would be many
	// and of no use.
	smallest = 1e-12
)

// Sketch is the distribution of non-negative samples: exact while there are
// few different values, in logarithmic buckets with a relative error of at
// most 1 % after that. The zero value is empty.
type Sketch struct {
	pairs   []pair // sorted by value, each value once
	buckets bool   // values stand for buckets
}

// pair is a value and how many samples have it. In bucket mode the value is
// the one that represent gives for all of the bucket's.
type pair struct{ v, n float64 }

// gamma is the ratio of a bucket's bounds; logGamma its logarithm (a test
// compares them).
const (
	gamma    = (1 + accuracy) / (1 - accuracy)
	logGamma = 0.020000666706669435
)

// index is the bucket of a value of at least smallest.
func index(v float64) int {
	return int(math.Ceil(math.Log(v) / logGamma))
}

// valueAt is what stands for all values of a bucket: the one that no value of
// the bucket is further from than accuracy.
func valueAt(i int) float64 {
	return 2 * math.Exp(float64(i)*logGamma) / (1 + gamma)
}

// represent is the value of v's bucket; zero has one of its own.
func represent(v float64) float64 {
	if v < smallest {
		return 0
	}
	return valueAt(index(v))
}

// Add adds n samples of v, which must not be negative.
func (s *Sketch) Add(v, n float64) {
	if n <= 0 {
		return
	}
	if s.buckets {
		v = represent(v)
	}
	i, found := slices.BinarySearchFunc(s.pairs, v, func(p pair, v float64) int {
		switch {
		case p.v < v:
			return -1
		case p.v > v:
			return 1
		}
		return 0
	})
	if found {
		s.pairs[i].n += n
		return
	}
	s.pairs = slices.Insert(s.pairs, i, pair{v, n})
	s.shrink()
}

// shrink keeps the limits.
func (s *Sketch) shrink() {
	if !s.buckets && len(s.pairs) > exactValues {
		s.toBuckets()
	}
	if s.buckets && len(s.pairs) > maxBuckets {
		over := len(s.pairs) - maxBuckets
		for i := range over {
			s.pairs[over].n += s.pairs[i].n
		}
		s.pairs = slices.Delete(s.pairs, 0, over)
	}
}

// toBuckets gives up the exact values.
func (s *Sketch) toBuckets() {
	if s.buckets {
		return
	}
	s.buckets = true
	kept := s.pairs[:0]
	for _, p := range s.pairs {
		p.v = represent(p.v)
		if last := len(kept) - 1; last >= 0 && kept[last].v == p.v {
			kept[last].n += p.n
			continue
		}
		kept = append(kept, p)
	}
	s.pairs = kept
}

// merge adds the samples of o, which is left as it is.
func (s *Sketch) merge(o *Sketch) {
	if s.buckets != o.buckets {
		s.toBuckets()
		o = o.clone()
		o.toBuckets()
	}
	merged := make([]pair, 0, max(len(s.pairs), len(o.pairs))+8)
	a, b := s.pairs, o.pairs
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0].v < b[0].v:
			merged, a = append(merged, a[0]), a[1:]
		case a[0].v > b[0].v:
			merged, b = append(merged, b[0]), b[1:]
		default:
			merged = append(merged, pair{a[0].v, a[0].n + b[0].n})
			a, b = a[1:], b[1:]
		}
	}
	s.pairs = append(append(merged, a...), b...)
	s.shrink()
}

// clone is a copy that shares nothing.
func (s *Sketch) clone() *Sketch {
	if s == nil {
		return nil
	}
	return &Sketch{pairs: slices.Clone(s.pairs), buckets: s.buckets}
}
