package expr

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// arity is how many arguments a function takes.
type arity struct{ least, most int }

// functions are those that are served.
func functions() map[string]arity {
	return map[string]arity{
		"ABS": {1, 1}, "AVG": {1, 1}, "CEIL": {1, 1}, "DATAPOINT_COUNT": {1, 1}, "DATE": {1, 1}, "DAY": {1, 1},
		"DIFF": {1, 1}, "DIFF_TIME": {1, 1}, "EPOCH": {1, 1}, "FILL": {2, 2}, "FIRST": {1, 1}, "FLOOR": {1, 1},
		"HOUR": {1, 1}, "IF": {2, 3}, "LAST": {1, 1}, "LOG": {1, 1}, "LOG10": {1, 1}, "MAX": {1, 1},
		"METRIC_COUNT": {1, 1}, "METRICS": {0, 1}, "MIN": {1, 1}, "MINUTE": {1, 1}, "MONTH": {1, 1}, "PERIOD": {1, 1},
		"RATE": {1, 1}, "REMOVE_EMPTY": {1, 1}, "RUNNING_SUM": {1, 1}, "SEARCH": {2, 3}, "SLICE": {2, 3},
		"SORT": {3, 4}, "STDDEV": {1, 1}, "SUM": {1, 1}, "TIME_SERIES": {1, 1}, "YEAR": {1, 1},
	}
}

// served tells whether a function is, and says so by its name if not.
func served(name string) error {
	if _, ok := functions()[name]; ok {
		return nil
	}
	switch name {
	case "ANOMALY_DETECTION_BAND", "DB_PERF_INSIGHTS", "INSIGHT_RULE_METRIC", "LAMBDA", "SERVICE_QUOTA":
		return fault("the function %s is not served by firn", name)
	}
	return fault("unknown function %s", name)
}

// call computes a function.
func (env *Env) call(n *node) (Value, error) {
	limits := functions()[n.text]
	if len(n.args) < limits.least || len(n.args) > limits.most {
		return Value{}, fault("%s takes %d to %d arguments, not %d", n.text, limits.least, limits.most, len(n.args))
	}
	args := make([]Value, len(n.args))
	for i, a := range n.args {
		if word, ok := keyword(n.text, i, a); ok {
			args[i] = Value{Kind: Text, Text: word}
			continue
		}
		v, err := env.eval(a)
		if err != nil {
			return v, err
		}
		args[i] = v
	}
	switch n.text {
	case "METRICS":
		return env.metrics(args)
	case "SEARCH":
		return env.search(args)
	case "IF":
		return env.condition(args)
	case "TIME_SERIES":
		return env.constant(args[0])
	}
	if args[0].Kind == Text || args[0].Kind == Scalar && !overNumbers(n.text) {
		return Value{}, fault("%s cannot be applied to %v", n.text, args[0].Kind)
	}
	switch n.text {
	case "FILL":
		return env.fill(args[0], args[1])
	case "SLICE":
		return slice(args)
	case "SORT":
		return env.sort(args)
	case "FIRST", "LAST", "REMOVE_EMPTY", "METRIC_COUNT", "DATAPOINT_COUNT", "PERIOD":
		return env.count(n.text, args[0])
	case "SUM", "AVG", "MIN", "MAX", "STDDEV":
		return env.reduce(n.text, args[0])
	case "ABS", "CEIL", "FLOOR", "LOG", "LOG10":
		f := map[string]func(float64) float64{"ABS": math.Abs, "CEIL": math.Ceil, "FLOOR": math.Floor, "LOG": math.Log, "LOG10": math.Log10}
		return env.points(args[0], f[n.text])
	case "DIFF", "DIFF_TIME", "RATE", "RUNNING_SUM":
		return env.each(args[0], func(s Series) Series { return s.successive(n.text) })
	}
	return env.each(args[0], func(s Series) Series {
		return s.derive(func(p Point) (float64, bool) { return calendar(n.text, p.Time), true })
	})
}

func overNumbers(name string) bool {
	switch name {
	case "ABS", "CEIL", "FLOOR", "LOG", "LOG10":
		return true
	}
	return false
}

// keyword reads the arguments that are words of their own: FILL(m, REPEAT),
// SORT(m, AVG, DESC).
func keyword(function string, i int, n *node) (string, bool) {
	word := strings.ToUpper(n.text)
	if n.op != "name" || word != n.text {
		return "", false
	}
	return word, function == "FILL" && i == 1 || function == "SORT" && (i == 1 || i == 2)
}

func (env *Env) metrics(args []Value) (Value, error) {
	part := ""
	if len(args) == 1 {
		if args[0].Kind != Text {
			return Value{}, fault("METRICS takes a string, not %v", args[0].Kind)
		}
		part = args[0].Text
	}
	list, err := env.Metrics(part)
	return array(list), err
}

func (env *Env) search(args []Value) (Value, error) {
	period := int64(0)
	if len(args) == 3 {
		if args[2].Kind != Scalar || args[2].Number < 1 || args[2].Number > 1e9 {
			return Value{}, fault("the period of SEARCH must be a number of seconds")
		}
		period = int64(args[2].Number)
	}
	if args[0].Kind != Text || args[1].Kind != Text {
		return Value{}, fault("SEARCH takes a search and a statistic as strings")
	}
	q, err := ParseSearch(args[0].Text)
	if err != nil {
		return Value{}, err
	}
	list, err := env.Search(q, args[1].Text, period)
	return array(list), err
}

// dense makes a series with a datapoint at every period of the request.
func (env *Env) dense(period int64, f func(t int64) (float64, bool)) ([]Point, error) {
	if period <= 0 {
		period = env.Period
	}
	n := (env.End - env.Start) / period
	if n > maxDense {
		return nil, fault("the time range has more than %d periods of %d s to fill", maxDense, period)
	}
	if err := env.spend(int(n)); err != nil {
		return nil, err
	}
	out := make([]Point, 0, n+1)
	for t := env.Start; t < env.End; t += period {
		if v, ok := f(t); ok {
			out = append(out, Point{t, v})
		}
	}
	return out, nil
}

func (env *Env) constant(v Value) (Value, error) {
	if v.Kind != Scalar {
		return Value{}, fault("TIME_SERIES takes a number, not %v", v.Kind)
	}
	points, err := env.dense(env.Period, func(int64) (float64, bool) { return v.Number, true })
	return series(Series{Period: env.Period, Points: points}), err
}

// fill puts something where datapoints are missing: a number, the last value
// (REPEAT), or a line between neighbours (LINEAR).
func (env *Env) fill(v, with Value) (Value, error) {
	how := with.Text
	if with.Kind == Text && how != "REPEAT" && how != "LINEAR" || with.Kind == Array || with.Kind == TimeSeries {
		return Value{}, fault("FILL takes a number, REPEAT or LINEAR")
	}
	var failed error
	out, err := env.each(v, func(s Series) Series {
		next, filled := 0, Series{Label: s.Label, Period: s.Period}
		points, err := env.dense(s.Period, func(t int64) (float64, bool) {
			for next < len(s.Points) && s.Points[next].Time < t {
				next++
			}
			switch {
			case next < len(s.Points) && s.Points[next].Time == t:
				return s.Points[next].Value, true
			case with.Kind == Scalar:
				return with.Number, true
			case next == 0 || how == "LINEAR" && next == len(s.Points):
				return 0, false
			}
			last := s.Points[next-1]
			if how == "REPEAT" {
				return last.Value, true
			}
			after := s.Points[next]
			share := float64(t-last.Time) / float64(after.Time-last.Time)
			return last.Value + share*(after.Value-last.Value), true
		})
		if err != nil {
			failed = err
		}
		filled.Points = points
		return filled
	})
	if failed != nil {
		return Value{}, failed
	}
	return out, err
}

// slice is SLICE(array, from [, to]).
func slice(args []Value) (Value, error) {
	list := args[0].List
	bounds := []int{0, len(list)}
	for i, a := range args[1:] {
		if a.Kind != Scalar || a.Number != math.Trunc(a.Number) || math.Abs(a.Number) > 1e6 {
			return Value{}, fault("SLICE takes whole numbers")
		}
		bounds[i] = min(max(int(a.Number), 0), len(list))
	}
	if len(args) == 2 { // one element
		bounds[1] = min(bounds[0]+1, len(list))
		return Value{Kind: TimeSeries, List: append(slices.Clone(list[bounds[0]:bounds[1]]), Series{})[:1]}, nil
	}
	return array(list[bounds[0]:max(bounds[0], bounds[1])]), nil
}

// sort is SORT(array, function, order [, limit]).
func (env *Env) sort(args []Value) (Value, error) {
	by, order := args[1].Text, args[2].Text
	if !slices.Contains([]string{"AVG", "MAX", "MIN", "SUM"}, by) || order != "ASC" && order != "DESC" {
		return Value{}, fault("SORT takes AVG, MAX, MIN or SUM, and ASC or DESC")
	}
	type ranked struct {
		s Series
		v float64
	}
	var list []ranked
	for _, s := range args[0].List {
		if err := env.spend(len(s.Points)); err != nil {
			return Value{}, err
		}
		list = append(list, ranked{s, aggregate(by, values(s.Points))})
	}
	slices.SortStableFunc(list, func(a, b ranked) int {
		if order == "DESC" {
			a, b = b, a
		}
		return cmp.Compare(a.v, b.v)
	})
	if len(args) == 4 {
		if args[3].Kind != Scalar || args[3].Number < 0 || args[3].Number > 1e6 {
			return Value{}, fault("the limit of SORT must be a whole number")
		}
		list = list[:min(len(list), int(args[3].Number))]
	}
	out := array(nil)
	for _, r := range list {
		out.List = append(out.List, r.s)
	}
	return out, nil
}

// count is what functions tell of series as a whole.
func (env *Env) count(name string, v Value) (Value, error) {
	switch name {
	case "METRIC_COUNT":
		return scalar(float64(len(v.List))), nil
	case "REMOVE_EMPTY":
		return array(slices.DeleteFunc(slices.Clone(v.List), func(s Series) bool { return len(s.Points) == 0 })), nil
	case "FIRST", "LAST":
		if len(v.List) == 0 {
			return series(Series{}), nil
		}
		return series(v.List[map[string]int{"FIRST": 0, "LAST": len(v.List) - 1}[name]]), nil
	case "PERIOD":
		if len(v.List) == 0 {
			return scalar(0), nil
		}
		return scalar(float64(v.List[0].Period)), nil
	}
	n := 0
	for _, s := range v.List {
		n += len(s.Points)
	}
	return scalar(float64(n)), nil
}

func values(points []Point) []float64 {
	out := make([]float64, len(points))
	for i, p := range points {
		out[i] = p.Value
	}
	return out
}

// aggregate is the sum, mean and so on; NaN when there are no values.
func aggregate(name string, values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	mean := sum / float64(len(values))
	switch name {
	case "SUM":
		return sum
	case "MIN":
		return slices.Min(values)
	case "MAX":
		return slices.Max(values)
	case "STDDEV":
		squares := 0.0
		for _, v := range values {
			squares += (v - mean) * (v - mean)
		}
		return math.Sqrt(squares / float64(len(values)))
	}
	return mean
}

// reduce makes a scalar of a series, and one series of an array.
func (env *Env) reduce(name string, v Value) (Value, error) {
	if v.Kind == TimeSeries {
		if err := env.spend(len(v.List[0].Points)); err != nil {
			return Value{}, err
		}
		result := aggregate(name, values(v.List[0].Points))
		if math.IsNaN(result) {
			result = 0
		}
		return scalar(result), nil
	}
	at := map[int64][]float64{}
	out := Series{Label: name}
	for _, s := range v.List {
		if err := env.spend(len(s.Points)); err != nil {
			return Value{}, err
		}
		out.Period = max(out.Period, s.Period)
		for _, p := range s.Points {
			at[p.Time] = append(at[p.Time], p.Value)
		}
	}
	for t, values := range at {
		if x := aggregate(name, values); finite(x) {
			out.Points = append(out.Points, Point{t, x})
		}
	}
	slices.SortFunc(out.Points, func(a, b Point) int { return cmp.Compare(a.Time, b.Time) })
	return series(out), nil
}

// successive is what depends on a datapoint and the one before it.
func (s Series) successive(name string) Series {
	sum, first := 0.0, true
	var last Point
	return s.derive(func(p Point) (float64, bool) {
		before, had := last, !first
		last, first = p, false
		sum += p.Value
		seconds := float64(p.Time - before.Time)
		switch name {
		case "RUNNING_SUM":
			return sum, true
		case "DIFF":
			return p.Value - before.Value, had
		case "DIFF_TIME":
			return seconds, had
		}
		return (p.Value - before.Value) / seconds, had
	})
}

// calendar is a part of a moment's date, in UTC.
func calendar(name string, t int64) float64 {
	at := clock(t)
	switch name {
	case "MINUTE":
		return float64(at.Minute())
	case "HOUR":
		return float64(at.Hour())
	case "DAY":
		return float64((int(at.Weekday())+6)%7 + 1) // Monday is 1
	case "DATE":
		return float64(at.Day())
	case "MONTH":
		return float64(at.Month())
	case "YEAR":
		return float64(at.Year())
	}
	return float64(t) // EPOCH
}
