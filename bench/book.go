package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
	"time"
)

// target is what a row should reach; zero fields ask nothing.
type target struct {
	P50  float64 `json:"p50,omitempty"`  // at most, in the row's unit
	P99  float64 `json:"p99,omitempty"`  // at most
	Over float64 `json:"over,omitempty"` // p50 at most so much over the floor's
	Rate float64 `json:"rate,omitempty"` // per second, at least
}

// row is one line of the table.
type row struct {
	Name   string
	Unit   string
	Floor  string // name of the row with the floor, "" for none
	Target target
}

// round is what one round gave to a row.
type round struct {
	p50, p99, rate float64
	n              int
}

// book gathers rounds by row, in the order of the rows' first figures.
type book struct {
	rows   []row
	rounds map[string][]round
	notes  []string
}

func newBook() *book { return &book{rounds: map[string][]round{}} }

// note adds a line below the table.
func (b *book) note(format string, args ...any) {
	b.notes = append(b.notes, fmt.Sprintf(format, args...))
}

// durations adds a round of times. elapsed is that of the whole round when the
// rate means something, else 0.
func (b *book) durations(r row, took []time.Duration, elapsed time.Duration) {
	unit := time.Millisecond
	if r.Unit == "µs" {
		unit = time.Microsecond
	}
	values := make([]float64, len(took))
	for i, d := range took {
		values[i] = float64(d) / float64(unit)
	}
	slices.Sort(values)
	x := round{p50: quantile(values, 0.50), p99: quantile(values, 0.99), n: len(values)}
	if elapsed > 0 {
		x.rate = float64(len(took)) / elapsed.Seconds()
	}
	b.add(r, x)
}

// value adds a round of a single figure.
func (b *book) value(r row, v float64) { b.add(r, round{p50: v, p99: math.NaN(), n: 1}) }

func (b *book) add(r row, x round) {
	if _, known := b.rounds[r.Name]; !known {
		b.rows = append(b.rows, r)
	}
	b.rounds[r.Name] = append(b.rounds[r.Name], x)
}

// last is the median of a row's last round.
func (b *book) last(name string) float64 {
	rounds := b.rounds[name]
	return rounds[len(rounds)-1].p50
}

// nan stands for a figure that a row does not have.
func nan() float64 { return math.NaN() }

// quantile of sorted values; NaN of none.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// figure is the median over the rounds of what pick returns.
func figure(rounds []round, pick func(round) float64) float64 {
	values := make([]float64, len(rounds))
	for i, x := range rounds {
		values[i] = pick(x)
	}
	slices.Sort(values)
	return quantile(values, 0.50)
}

// line is a row of the report.
type line struct {
	Name    string   `json:"name"`
	Unit    string   `json:"unit"`
	P50     float64  `json:"p50"`
	Best    float64  `json:"best"` // least of the rounds' medians
	P99     *float64 `json:"p99,omitempty"`
	Rate    float64  `json:"rate,omitempty"` // per second
	Floor   float64  `json:"floor,omitempty"`
	Ratio   float64  `json:"ratio,omitempty"` // of P50 to Floor
	Samples int      `json:"samples"`
	Target  target   `json:"target"`
	Pass    *bool    `json:"pass,omitempty"`
	// PassAtBest says that the quietest round passes.
	PassAtBest *bool `json:"passAtBest,omitempty"`
}

// report is the result of a run.
type report struct {
	Took  string   `json:"took"`
	Load  string   `json:"loadAverage"`
	Lines []line   `json:"rows"`
	Notes []string `json:"notes"`
}

func (b *book) report() *report {
	r := &report{Load: loadAverage(), Notes: b.notes}
	for _, w := range b.rows {
		r.Lines = append(r.Lines, b.line(w))
	}
	return r
}

func (b *book) line(w row) line {
	rounds := b.rounds[w.Name]
	l := line{Name: w.Name, Unit: w.Unit, Target: w.Target, P50: figure(rounds, func(x round) float64 { return x.p50 }), Best: math.Inf(1)}
	if p99 := figure(rounds, func(x round) float64 { return x.p99 }); !math.IsNaN(p99) {
		l.P99 = &p99
	}
	l.Rate = figure(rounds, func(x round) float64 { return x.rate })
	floors := b.rounds[w.Floor]
	for _, x := range rounds {
		l.Samples += x.n
		l.Best = min(l.Best, x.p50)
	}
	if len(floors) > 0 {
		l.Floor = figure(floors, func(x round) float64 { return x.p50 })
		l.Ratio = l.P50 / l.Floor
	}
	l.Pass = w.Target.judge(l.P50, l.P99, l.Rate, l.Floor)
	if l.Pass != nil {
		l.PassAtBest = w.Target.judge(l.Best, leastP99(rounds), mostRate(rounds), least(floors))
	}
	return l
}

func leastP99(rounds []round) *float64 {
	v := math.Inf(1)
	for _, x := range rounds {
		v = min(v, x.p99)
	}
	return &v
}

func mostRate(rounds []round) float64 {
	v := 0.0
	for _, x := range rounds {
		v = max(v, x.rate)
	}
	return v
}

func least(rounds []round) float64 {
	v := math.Inf(1)
	for _, x := range rounds {
		v = min(v, x.p50)
	}
	return v
}

// judge says whether the figures reach the target; nil when there is none.
func (t target) judge(p50 float64, p99 *float64, rate, floor float64) *bool {
	if t == (target{}) {
		return nil
	}
	ok := (t.P50 == 0 || p50 <= t.P50) &&
		(t.P99 == 0 || p99 != nil && *p99 <= t.P99) &&
		(t.Over == 0 || p50-floor <= t.Over) &&
		(t.Rate == 0 || rate >= t.Rate)
	return &ok
}

func (t target) String() string {
	var s string
	add := func(format string, v float64) {
		if v == 0 {
			return
		}
		if s != "" {
			s += ", "
		}
		s += fmt.Sprintf(format, v)
	}
	add("floor+%g", t.Over)
	add("p50 %g", t.P50)
	add("p99 %g", t.P99)
	add("%g/s", t.Rate)
	return s
}

func (r *report) writeJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// write prints the table.
func (r *report) write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tunit\tp50\tbest\tp99\tper s\tfloor\tx floor\ttarget\t")
	for _, l := range r.Lines {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.Name, l.Unit,
			number(l.P50), number(l.Best), optional(l.P99), rate(l.Rate), floor(l.Floor), ratio(l.Ratio), l.Target, mark(l))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, n := range r.Notes {
		fmt.Fprintln(w, n)
	}
	_, err := fmt.Fprintf(w, "took %s; load average at the end %s. p50 and p99: medians of the rounds; best: least median of a round.\n"+
		"pass*: missed over all rounds, reached in the quietest.\n", r.Took, r.Load)
	return err
}

func mark(l line) string {
	switch {
	case l.Pass == nil:
		return ""
	case *l.Pass:
		return "pass"
	case *l.PassAtBest:
		return "pass*"
	}
	return "miss"
}

func optional(v *float64) string {
	if v == nil {
		return ""
	}
	return number(*v)
}

// number prints three significant digits, "" for what there is not.
func number(v float64) string {
	switch {
	case math.IsInf(v, 0):
		return ""
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

func rate(v float64) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f", v)
}

func ratio(v float64) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f", v)
}

func floor(v float64) string {
	if v == 0 {
		return ""
	}
	return number(v)
}
