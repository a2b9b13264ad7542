package series

import (
	"errors"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// Stat is a statistic of CloudWatch, parsed: one of the five simple ones, or
// an extended one (percentile, trimmed mean, count and sum, winsorized mean,
// interquartile mean, percentile rank).
type Stat struct {
	kind    string // "SampleCount", ... or "p", "tm", "tc", "ts", "wm", "pr"
	low     float64
	high    float64
	percent bool // low and high are percentages
}

// ErrStat: no statistic has this name.
var ErrStat = errors.New("not a statistic")

// Extended says that the statistic needs a distribution.
func (s Stat) Extended() bool {
	switch s.kind {
	case "SampleCount", "Sum", "Average", "Minimum", "Maximum":
		return false
	}
	return true
}

var (
	short  = regexp.MustCompile(`^(p|tm|tc|ts|wm)([0-9]{1,3}(?:\.[0-9]{1,10})?)$`)
	ranged = regexp.MustCompile(`^(TM|TC|TS|WM|PR)\(([0-9]+(?:\.[0-9]{1,10})?%?)?:([0-9]+(?:\.[0-9]{1,10})?%?)?\)$`)
)

// ParseStat reads a statistic's name as the CloudWatch API takes it: "Sum",
// "p99.9", "tm90", "TM(5%:95%)", "TC(0.005:0.030)", "PR(:300)", "IQM".
func ParseStat(s string) (Stat, error) {
	switch s {
	case "SampleCount", "Sum", "Average", "Minimum", "Maximum":
		return Stat{kind: s}, nil
	case "IQM", "iqm":
		return Stat{kind: "tm", low: 25, high: 75, percent: true}, nil
	}
	if m := short.FindStringSubmatch(s); m != nil {
		high, err := strconv.ParseFloat(m[2], 64)
		if err != nil || high > 100 {
			return Stat{}, ErrStat
		}
		return Stat{kind: m[1], high: high, percent: true}, nil
	}
	m := ranged.FindStringSubmatch(s)
	if m == nil || m[2] == "" && m[3] == "" {
		return Stat{}, ErrStat
	}
	percent := strings.HasSuffix(m[2], "%") || strings.HasSuffix(m[3], "%")
	if percent && (m[2] != "" && !strings.HasSuffix(m[2], "%") || m[3] != "" && !strings.HasSuffix(m[3], "%") || m[1] == "PR") {
		return Stat{}, ErrStat
	}
	st := Stat{kind: strings.ToLower(m[1]), percent: percent, low: bound(m[2], math.Inf(-1)), high: bound(m[3], math.Inf(1))}
	if percent {
		st.low, st.high = math.Max(st.low, 0), math.Min(st.high, 100)
		if bound(m[3], 0) > 100 {
			return Stat{}, ErrStat
		}
	}
	if st.low >= st.high {
		return Stat{}, ErrStat
	}
	return st, nil
}

func bound(s string, missing float64) float64 {
	v, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
	if err != nil {
		return missing
	}
	return v
}

// Of computes the statistic. It is false when the point cannot tell: no
// samples, no distribution, or none of them within the bounds.
func (s Stat) Of(p Point) (float64, bool) {
	if p.Count <= 0 {
		return 0, false
	}
	switch s.kind {
	case "SampleCount":
		return p.Count, true
	case "Sum":
		return p.Sum, true
	case "Average":
		return p.Sum / p.Count, true
	case "Minimum":
		return p.Min, true
	case "Maximum":
		return p.Max, true
	}
	if p.Dist == nil || len(p.Dist.pairs) == 0 {
		return 0, false
	}
	d := distribution{point: p, pairs: p.Dist.pairs}
	switch s.kind {
	case "p":
		return d.at(s.high), true
	case "pr":
		n, _ := d.within(s)
		return 100 * n / d.total(), true
	case "wm":
		return d.winsorized(s)
	}
	n, sum := d.within(s)
	switch {
	case s.kind == "tc":
		return n, true
	case s.kind == "ts":
		return sum, true
	case n == 0:
		return 0, false
	}
	return sum / n, true
}

// distribution computes over the pairs of a sketch.
type distribution struct {
	point Point
	pairs []pair
}

func (d distribution) total() float64 {
	n := 0.0
	for _, p := range d.pairs {
		n += p.n
	}
	return n
}

// value is a pair's value, but never outside of what was really seen.
func (d distribution) value(p pair) float64 {
	return math.Min(math.Max(p.v, d.point.Min), d.point.Max)
}

// at is the percentile: the least value that is not below percent of the
// samples.
func (d distribution) at(percent float64) float64 {
	switch {
	case percent <= 0:
		return d.point.Min
	case percent >= 100:
		return d.point.Max
	}
	rank, seen := rankUp(percent, d.total()), 0.0
	for _, p := range d.pairs {
		if seen += p.n; seen >= rank {
			return d.value(p)
		}
	}
	return d.point.Max
}

// ranks are the samples, counted from the least, that lie within percentages:
// those after the first and up to the second.
func (s Stat) ranks(total float64) (after, upTo float64) {
	return rankDown(s.low, total), rankUp(s.high, total)
}

// rankUp and rankDown turn a percentage into a whole number of samples; what
// is whole but for the error of the division stays itself.
func rankUp(percent, total float64) float64 {
	r := percent * total / 100
	return math.Ceil(r - 1e-9*math.Max(1, r))
}

func rankDown(percent, total float64) float64 {
	r := percent * total / 100
	return math.Floor(r + 1e-9*math.Max(1, r))
}

// within counts and adds up the samples inside the bounds.
func (d distribution) within(s Stat) (n, sum float64) {
	if !s.percent {
		for _, p := range d.pairs {
			if v := d.value(p); v > s.low && v <= s.high {
				n, sum = n+p.n, sum+p.n*v
			}
		}
		return n, sum
	}
	after, upTo := s.ranks(d.total())
	seen := 0.0
	for _, p := range d.pairs {
		in := math.Min(seen+p.n, upTo) - math.Max(seen, after)
		seen += p.n
		if in > 0 {
			n, sum = n+in, sum+in*d.value(p)
		}
	}
	return n, sum
}

// winsorized is the mean with the samples outside of the bounds moved to them.
func (d distribution) winsorized(s Stat) (float64, bool) {
	low, high := s.low, s.high
	if s.percent {
		low, high = d.at(s.low), d.at(s.high)
	}
	sum := 0.0
	for _, p := range d.pairs {
		sum += p.n * math.Min(math.Max(d.value(p), low), high)
	}
	return sum / d.total(), true
}
