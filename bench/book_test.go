package main

import (
	"math"
	"strings"
	"testing"
	"time"
)

func milliseconds(values ...int) []time.Duration {
	var out []time.Duration
	for _, v := range values {
		out = append(out, time.Duration(v)*time.Millisecond)
	}
	return out
}

// A row is the median of its rounds, beside the floor's and its target.
func TestReport(t *testing.T) {
	b := newBook()
	for i, floor := range []int{1, 2, 9} {
		b.durations(row{Name: "floor", Unit: "ms"}, milliseconds(floor), 0)
		r := row{Name: "subject", Unit: "ms", Floor: "floor", Target: target{Over: 4, P99: 30, Rate: 2}}
		b.durations(r, milliseconds(5+i, 5+101*i, 1), time.Second)
	}
	r := b.report()
	if len(r.Lines) != 2 || r.Lines[0].Name != "floor" {
		t.Fatalf("rows: %+v", r.Lines)
	}
	l := r.Lines[1]
	if l.P50 != 6 || l.Best != 5 || *l.P99 != 106 || l.Rate != 3 || l.Floor != 2 || l.Ratio != 3 || l.Samples != 9 {
		t.Errorf("subject: %+v, p99 %v", l, *l.P99)
	}
	if *l.Pass || !*l.PassAtBest {
		t.Errorf("pass %v, at best %v: the 99th percentile misses but in the first round", *l.Pass, *l.PassAtBest)
	}
	var out strings.Builder
	if err := r.write(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"floor+4, p99 30, 2/s", "pass*"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
}

func TestJudge(t *testing.T) {
	p99 := 5.0
	for _, c := range []struct {
		target target
		want   bool
	}{
		{target{P50: 1}, true},
		{target{P50: 0.9}, false},
		{target{P99: 5}, true},
		{target{P99: 4.9}, false},
		{target{Over: 0.5}, true},
		{target{Over: 0.4}, false},
		{target{Rate: 100}, true},
		{target{Rate: 101}, false},
		{target{P50: 1, Rate: 101}, false},
	} {
		if got := c.target.judge(1, &p99, 100, 0.5); got == nil || *got != c.want {
			t.Errorf("%s: %v, want %v", c.target, got, c.want)
		}
	}
	if (target{}).judge(1, nil, 0, 0) != nil {
		t.Error("a row without a target was judged")
	}
}

func TestQuantile(t *testing.T) {
	values := []float64{1, 2, 3, 4}
	if quantile(values, 0) != 1 || quantile(values, 0.5) != 3 || quantile(values, 1) != 4 {
		t.Error("quantiles of 1 to 4")
	}
	if !math.IsNaN(quantile(nil, 0.5)) {
		t.Error("a quantile of nothing")
	}
}
