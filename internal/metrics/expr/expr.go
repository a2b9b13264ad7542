// Package expr is CloudWatch's metric math: expressions over time series, such
// as
//
//	100 - 100 * errors / MAX([errors, invocations])
//	SUM(FILL(METRICS(), 0))
//	SEARCH('{AWS/Lambda,FunctionName} MetricName="Errors"', 'Sum', 300)
//
// A value is a scalar, a time series or an array of time series. Operators
// work point by point where both sides have one, and scalars stand for every
// point; functions that take a series take an array too and are applied to
// each. What has no finite result has no datapoint.
//
// The package is values in, values out: whoever evaluates supplies the series
// that identifiers stand for. Work is bounded, since expressions come from
// callers.
package expr

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Series is a time series: datapoints in order of time.
type Series struct {
	Label  string
	Period int64 // seconds
	Points []Point
}

// Point is a datapoint.
type Point struct {
	Time  int64 // seconds since 1970
	Value float64
}

// Value is what an expression has as its result: exactly one of its members is
// meant, as Kind says.
type Value struct {
	Kind   Kind
	Number float64
	Text   string
	List   []Series // one for TimeSeries
}

// Kind tells values apart.
type Kind int

// The kinds of values. Text is an argument only, never a result.
const (
	Scalar Kind = iota
	TimeSeries
	Array
	Text
)

func (k Kind) String() string {
	return [...]string{"a scalar", "a time series", "an array of time series", "a string"}[k]
}

// Env is what an expression sees of the request it stands in.
type Env struct {
	// Lookup returns what an identifier stands for.
	Lookup func(id string) (Value, error)
	// Metrics returns the series of the request that are not results of
	// expressions and whose identifiers contain part.
	Metrics func(part string) ([]Series, error)
	// Search returns the series that a search finds. Period is 0 when the
	// expression names none.
	Search func(q *Search, stat string, period int64) ([]Series, error)
	// Start, End and Period, in seconds, are those of the request: End is
	// exclusive, Period what constants get.
	Start, End, Period int64
	// Budget is how many datapoints may still be computed; shared by the
	// expressions of a request.
	Budget *int
}

// Error is a fault of the expression, for its author.
type Error struct{ Message string }

// Error implements error.
func (e *Error) Error() string { return e.Message }

func fault(format string, args ...any) error {
	return &Error{fmt.Sprintf(format, args...)}
}

// maxDense bounds the datapoints of a series that is filled.
const maxDense = 100_800

// maxSource bounds an expression in bytes (GetMetricData: Expression).
const maxSource = 2048

// Eval parses and evaluates an expression.
func Eval(source string, env *Env) (Value, error) {
	if len(source) > maxSource {
		return Value{}, fault("the expression is longer than %d characters", maxSource)
	}
	n, err := parse(source)
	if err != nil {
		return Value{}, err
	}
	return env.eval(n)
}

// Check parses an expression and tells what is wrong with it before there is
// data.
func Check(source string) error {
	if len(source) > maxSource {
		return fault("the expression is longer than %d characters", maxSource)
	}
	_, err := parse(source)
	return err
}

func series(s Series) Value   { return Value{Kind: TimeSeries, List: []Series{s}} }
func array(s []Series) Value  { return Value{Kind: Array, List: s} }
func scalar(v float64) Value  { return Value{Kind: Scalar, Number: v} }
func finite(v float64) bool   { return !math.IsNaN(v) && !math.IsInf(v, 0) }
func clock(t int64) time.Time { return time.Unix(t, 0).UTC() }
func byTime(p Point, t int64) int {
	switch {
	case p.Time < t:
		return -1
	case p.Time > t:
		return 1
	}
	return 0
}

// spend takes n datapoints from the budget.
func (env *Env) spend(n int) error {
	if env.Budget == nil {
		return nil
	}
	if *env.Budget -= n; *env.Budget < 0 {
		return fault("the expressions of this request compute too many datapoints")
	}
	return nil
}

// each applies f to every series of v.
func (env *Env) each(v Value, f func(Series) Series) (Value, error) {
	out := Value{Kind: v.Kind, List: make([]Series, len(v.List))}
	for i, s := range v.List {
		if err := env.spend(len(s.Points)); err != nil {
			return Value{}, err
		}
		out.List[i] = f(s)
	}
	return out, nil
}

// points maps every datapoint of v; a scalar is mapped itself.
func (env *Env) points(v Value, f func(float64) float64) (Value, error) {
	if v.Kind == Scalar {
		return scalar(f(v.Number)), nil
	}
	return env.each(v, func(s Series) Series {
		return s.derive(func(p Point) (float64, bool) { return f(p.Value), true })
	})
}

// derive is a series with other values; those that are not finite, or for
// which f is false, are left out.
func (s Series) derive(f func(Point) (float64, bool)) Series {
	out := Series{Label: s.Label, Period: s.Period, Points: make([]Point, 0, len(s.Points))}
	for _, p := range s.Points {
		if v, ok := f(p); ok && finite(v) {
			out.Points = append(out.Points, Point{p.Time, v})
		}
	}
	return out
}

// at finds the value of a moment.
func (s Series) at(t int64) (float64, bool) {
	i, ok := slices.BinarySearchFunc(s.Points, t, byTime)
	if !ok {
		return 0, false
	}
	return s.Points[i].Value, true
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
