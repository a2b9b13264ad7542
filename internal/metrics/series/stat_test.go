package series

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestLogGamma(t *testing.T) {
	if want := math.Log(gamma); math.Abs(logGamma-want) > 1e-15 {
		t.Errorf("logGamma is %v, want %v", logGamma, want)
	}
}

func TestParseStat(t *testing.T) {
	good := []string{"SampleCount", "Sum", "Average", "Minimum", "Maximum", "p0", "p0.0", "p50", "p99.9", "p99.9999999999", "p100",
		"tm90", "tc95", "ts50.5", "wm98", "IQM", "TM(5%:95%)", "TM(:95%)", "TM(5%:)", "TM(150:1000)", "TC(0.005:0.030)", "TS(80%:)",
		"WM(10%:15%)", "PR(:300)", "PR(100:2000)", "PR(100:)"}
	for _, s := range good {
		if _, err := ParseStat(s); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	bad := []string{"", "sum", "p", "p-1", "p101", "p1e1", "tm", "TM", "TM(:)", "TM()", "TM(5:95%)", "TM(5%:95)", "TM(95%:5%)", "TM(5%:101%)",
		"PR(10%:)", "PR(3:3)", "p99.99999999999", "XX(1:2)", "TM(-1:2)", "tm50%", "p 5"}
	for _, s := range bad {
		if st, err := ParseStat(s); err == nil {
			t.Errorf("%q is read as %+v", s, st)
		}
	}
}

// The definitions, over ten samples, 1 to 10.
func TestStatistics(t *testing.T) {
	var p Point
	for i := range 10 {
		p.Observe(float64(i+1), 1)
	}
	for stat, want := range map[string]float64{
		"SampleCount": 10, "Sum": 55, "Average": 5.5, "Minimum": 1, "Maximum": 10,
		"p0": 1, "p10": 1, "p11": 2, "p50": 5, "p90": 9, "p99": 10, "p100": 10,
		"tm90": 5, "tc90": 9, "ts90": 45, "TM(10%:90%)": 5.5, "TM(20%:)": 6.5, "TC(:50%)": 5,
		"TM(3:6)": 5, "TC(3:6)": 3, "TS(3:)": 49, "TC(100:200)": 0, "TS(100:200)": 0,
		"IQM": 5.5, "wm90": 5.4, "WM(3:8)": 5.5, "PR(:3)": 30, "PR(3:)": 70, "PR(2:4)": 20,
	} {
		st, err := ParseStat(stat)
		if err != nil {
			t.Fatalf("%s: %v", stat, err)
		}
		if got, ok := st.Of(p); !ok || math.Abs(got-want) > 1e-9 {
			t.Errorf("%s is %v, %v; want %v", stat, got, ok, want)
		}
	}
}

func TestNoDistribution(t *testing.T) {
	p50, err := ParseStat("p50")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		p    Point
		want bool
	}{
		"a set":               {SetOf(3, 10, 1, 5), false},
		"a set of one sample": {SetOf(1, 5, 5, 5), true},
		"a set of equals":     {SetOf(4, 20, 5, 5), true},
		"a negative value":    {PointOf(-1, 1), false},
		"nothing":             {Point{}, false},
	} {
		if _, ok := p50.Of(test.p); ok != test.want {
			t.Errorf("%s: a percentile is known: %v", name, ok)
		}
	}
	p := PointOf(1, 1)
	p.Merge(SetOf(3, 10, 1, 5))
	if _, ok := p50.Of(p); ok {
		t.Error("a distribution that is only half known has a percentile")
	}
	p = PointOf(1, 1)
	p.Observe(-1, 1)
	if _, ok := p50.Of(p); ok || p.Sum != 0 || p.Min != -1 || p.Count != 2 {
		t.Errorf("with a negative value: %+v", p)
	}
}

// exactly is a percentile by its definition, over all samples.
func exactly(sorted []float64, percent float64) float64 {
	switch {
	case percent <= 0:
		return sorted[0]
	case percent >= 100:
		return sorted[len(sorted)-1]
	}
	return sorted[int(rankUp(percent, float64(len(sorted))))-1]
}

// Percentiles are within 1 % of the exact ones, exact while there are few
// values, whatever the way by which the samples came together.
func TestPercentilesAgainstExactOnes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		scale := rapid.SampledFrom([]float64{1e-6, 1, 1000, 1e9}).Draw(t, "scale")
		n := rapid.IntRange(1, 1200).Draw(t, "n")
		seed := rapid.Uint32().Draw(t, "seed")
		parts := make([]Point, rapid.IntRange(1, 5).Draw(t, "parts"))
		values, different := make([]float64, n), map[float64]bool{}
		for i := range values {
			seed = seed*1664525 + 1013904223
			values[i] = math.Exp(float64(seed>>8)/float64(1<<24)*12-6) * scale
			if seed%10 == 0 {
				values[i] = 0
			}
			different[values[i]] = true
			parts[i%len(parts)].Observe(values[i], 1)
		}
		var p Point
		for _, part := range parts {
			p.Merge(part)
		}
		slices.Sort(values)
		allowed := accuracy * 1.0000001
		if len(different) <= exactValues {
			allowed = 0
		}
		for _, percent := range []float64{0, 1, 10, 50, 90, 99, 99.9, 100} {
			st, err := ParseStat(fmt.Sprint("p", percent))
			if err != nil {
				t.Fatal(err)
			}
			got, ok := st.Of(p)
			want := exactly(values, percent)
			if !ok || math.Abs(got-want) > allowed*want {
				t.Fatalf("p%v of %d values is %v, want %v within %v", percent, n, got, want, allowed)
			}
		}
		if p.Count != float64(n) || p.Min != values[0] || p.Max != values[n-1] {
			t.Fatalf("the set is %v of %v to %v", p.Count, p.Min, p.Max)
		}
		tm, err := ParseStat("TM(10%:90%)")
		if err != nil {
			t.Fatal(err)
		}
		within := values[int(rankDown(10, float64(n))):int(rankUp(90, float64(n)))]
		sum := 0.0
		for _, v := range within {
			sum += v
		}
		if got, _ := tm.Of(p); math.Abs(got-sum/float64(len(within))) > 0.0100001*sum/float64(len(within)) {
			t.Fatalf("the trimmed mean is %v, want %v", got, sum/float64(len(within)))
		}
	})
}

// Values over more orders of magnitude than there are buckets lose their least,
// not their greatest.
func TestSketchIsBounded(t *testing.T) {
	var s Sketch
	for i := -500; i <= 360; i++ {
		s.Add(math.Pow(2, float64(i)), 1)
		s.Add(math.Pow(2, float64(i))*1.4, 1)
	}
	for i := range 20_000 {
		s.Add(math.Exp(float64(i)/400), 1)
	}
	if len(s.pairs) > maxBuckets {
		t.Errorf("there are %d buckets", len(s.pairs))
	}
	total := 0.0
	for _, p := range s.pairs {
		total += p.n
	}
	if total != 2*861+20_000 {
		t.Errorf("there are %v samples", total)
	}
	if top := s.pairs[len(s.pairs)-1].v; math.Abs(top/(math.Pow(2, 360)*1.4)-1) > accuracy {
		t.Errorf("the greatest is %v", top)
	}
}
