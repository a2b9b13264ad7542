package series

import "math"

// Point is a statistic set and, unless it is unknown, the distribution of its
// samples. The zero value holds nothing.
type Point struct {
	Count, Sum, Min, Max float64
	// Dist is nil when only the four numbers are known: statistic sets that
	// were put as such, and negative values.
	Dist *Sketch
}

// PointOf is the point of n samples of the value v.
func PointOf(v, n float64) Point {
	p := Point{Count: n, Sum: v * n, Min: v, Max: v}
	if v >= 0 {
		p.Dist = &Sketch{}
		p.Dist.Add(v, n)
	}
	return p
}

// SetOf is the point of a statistic set. Its distribution is known when all
// its samples are equal.
func SetOf(count, sum, least, greatest float64) Point {
	if count > 0 && least == greatest && sum == least*count {
		return PointOf(least, count)
	}
	return Point{Count: count, Sum: sum, Min: least, Max: greatest}
}

// Observe adds n samples of the value v.
func (p *Point) Observe(v, n float64) {
	if p.Count == 0 {
		*p = PointOf(v, n)
		return
	}
	p.Count += n
	p.Sum += v * n
	p.Min, p.Max = math.Min(p.Min, v), math.Max(p.Max, v)
	if v < 0 {
		p.Dist = nil
	}
	if p.Dist != nil {
		p.Dist.Add(v, n)
	}
}

// Tally adds one sample of v to the four numbers only: for gauges on hot
// paths, where a distribution would cost more than it tells.
func (p *Point) Tally(v float64) {
	if p.Count == 0 {
		p.Min, p.Max = v, v
	}
	p.Count++
	p.Sum += v
	p.Min, p.Max = min(p.Min, v), max(p.Max, v)
}

// Merge adds the samples of q, which is left as it is.
func (p *Point) Merge(q Point) {
	switch {
	case q.Count == 0:
		return
	case p.Count == 0:
		*p = q
		p.Dist = q.Dist.clone()
		return
	}
	p.Count += q.Count
	p.Sum += q.Sum
	p.Min, p.Max = math.Min(p.Min, q.Min), math.Max(p.Max, q.Max)
	if p.Dist == nil || q.Dist == nil {
		p.Dist = nil
		return
	}
	p.Dist.merge(q.Dist)
}

// pointCost estimates the memory of a point in the head, in bytes.
func (p *Point) cost() int64 {
	const fixed = 96
	if p.Dist == nil {
		return fixed
	}
	return fixed + int64(cap(p.Dist.pairs))*16
}
