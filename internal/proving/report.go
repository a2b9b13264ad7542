package proving

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/firn-run/firn/internal/lifecycle"
)

// Result is how a check ended.
type Result string

// The results. A Note is neither good nor bad.
const (
	Pass Result = "pass"
	Fail Result = "fail"
	Note Result = "note"
)

// Check is one thing that was looked at.
type Check struct {
	Name   string `json:"name"`
	Result Result `json:"result"`
	Detail string `json:"detail"`
}

func (c *Check) pass(ok bool, good, bad string) {
	c.Result, c.Detail = Pass, good
	if !ok {
		c.Result, c.Detail = Fail, bad
	}
}

// Scenario is one row of the report.
type Scenario struct {
	Name   string  `json:"name"`
	About  string  `json:"about"`
	Checks []Check `json:"checks"`
}

// Cost is one figure with the extension and without. Figures are medians.
type Cost struct {
	Name    string  `json:"name"`
	Unit    string  `json:"unit"`
	Without float64 `json:"without"`
	With    float64 `json:"with"`
}

// Report is what came of a test.
type Report struct {
	Extensions []string   `json:"extensions"`
	Costs      []Cost     `json:"costs"`
	Scenarios  []Scenario `json:"scenarios"`

	base       *play
	subscribes bool
}

// OK says that no check failed.
func (r *Report) OK() bool {
	for _, s := range r.Scenarios {
		if slices.ContainsFunc(s.Checks, func(c Check) bool { return c.Result == Fail }) {
			return false
		}
	}
	return true
}

// costs compares the ordinary life with the extension and without.
func costs(base, with *play, names []string) []Cost {
	init := func(p *play) float64 {
		for _, r := range of[lifecycle.InitReport](p.account) {
			return r.Metrics.DurationMs
		}
		return 0
	}
	reports := func(p *play, of1 func(lifecycle.Report) float64) float64 {
		return median(of[lifecycle.Report](p.account), of1)
	}
	caller := func(p *play) float64 {
		return median(p.outcomes[1:], func(o outcome) float64 { return float64(o.took) / float64(time.Millisecond) })
	}
	memory := func(r lifecycle.Report) float64 { return float64(r.Metrics.MaxMemoryUsedMB) }
	duration := func(r lifecycle.Report) float64 { return r.Metrics.DurationMs }
	all := []Cost{
		{"Init Duration", "ms", init(base), init(with)},
		{"caller's wait, warm", "ms", caller(base), caller(with)},
		{"Duration (billed: with the extensions' tails)", "ms", reports(base, duration), reports(with, duration)},
		{"Max Memory Used", "MB", reports(base, memory), reports(with, memory)},
	}
	for _, name := range names {
		if took, ok := with.account.between(lifecycle.PhaseExtensionStarted, lifecycle.PhaseExtensionReady, name); ok {
			all = append(all, Cost{name + ": from start to ready", "ms", 0, float64(took) / float64(time.Millisecond)})
		}
	}
	return append(all, Cost{"lines of log per invocation, of extensions", "", 0, float64(with.account.lines) / float64(len(with.outcomes))})
}

// median of what value takes from each element; 0 of none.
func median[T any](all []T, value func(T) float64) float64 {
	values := make([]float64, len(all))
	for i, v := range all {
		values[i] = value(v)
	}
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// Write prints the report for people.
func (r *Report) Write(out io.Writer, colour bool) error {
	var b strings.Builder
	paint := func(code, text string) string {
		if !colour {
			return text
		}
		return "\x1b[" + code + "m" + text + "\x1b[0m"
	}
	fmt.Fprintf(&b, "%s\n\n", paint("1", "extension "+strings.Join(r.Extensions, ", ")))
	width := 0
	for _, c := range r.Costs {
		width = max(width, len([]rune(c.Name)))
	}
	fmt.Fprintf(&b, "%-*s  %10s  %10s  %10s\n", width, "what it costs", "without", "with", "more")
	for _, c := range r.Costs {
		fmt.Fprintf(&b, "%-*s  %10.2f  %10.2f  %+10.2f %s\n", width, c.Name, c.Without, c.With, c.With-c.Without, c.Unit)
	}
	signs := map[Result]string{Pass: paint("32", "✓"), Fail: paint("31", "✗"), Note: paint("2", "·")}
	for _, s := range r.Scenarios {
		fmt.Fprintf(&b, "\n%s %s\n", paint("1", s.Name), paint("2", "("+s.About+")"))
		width := 0
		for _, c := range s.Checks {
			width = max(width, len([]rune(c.Name)))
		}
		for _, c := range s.Checks {
			fmt.Fprintf(&b, "  %s %-*s  %s\n", signs[c.Result], width, c.Name, c.Detail)
		}
	}
	verdict := paint("32", "Nothing that Lambda would object to was seen.")
	if !r.OK() {
		verdict = paint("31", "Not ready for production: see the crosses above.")
	}
	fmt.Fprintf(&b, "\n%s\n", verdict)
	_, err := io.WriteString(out, b.String())
	return err
}
