package expr

import "math"

// eval computes a node.
func (env *Env) eval(n *node) (Value, error) {
	switch n.op {
	case "number":
		return scalar(n.number), nil
	case "text":
		return Value{Kind: Text, Text: n.text}, nil
	case "name":
		return env.Lookup(n.text)
	case "array":
		return env.array(n.args)
	case "call":
		return env.call(n)
	case "neg":
		v, err := env.eval(n.args[0])
		if err != nil {
			return v, err
		}
		if v.Kind == Text {
			return v, fault("- cannot be applied to %v", v.Kind)
		}
		return env.points(v, func(x float64) float64 { return -x })
	}
	left, err := env.eval(n.args[0])
	if err != nil {
		return left, err
	}
	right, err := env.eval(n.args[1])
	if err != nil {
		return right, err
	}
	return env.operate(n.op, left, right)
}

// array joins its elements, of which arrays are taken apart.
func (env *Env) array(args []*node) (Value, error) {
	out := array(nil)
	for _, a := range args {
		v, err := env.eval(a)
		if err != nil {
			return v, err
		}
		if v.Kind != TimeSeries && v.Kind != Array {
			return v, fault("an array holds time series, not %v", v.Kind)
		}
		out.List = append(out.List, v.List...)
	}
	return out, nil
}

// apply is an operator on two numbers.
func apply(op string, a, b float64) float64 {
	switch op {
	case "+":
		return a + b
	case "-":
		return a - b
	case "*":
		return a * b
	case "/":
		return a / b
	case "^":
		return math.Pow(a, b)
	case "==":
		return truth(a == b)
	case "!=":
		return truth(a != b)
	case "<":
		return truth(a < b)
	case ">":
		return truth(a > b)
	case "<=":
		return truth(a <= b)
	case ">=":
		return truth(a >= b)
	case "&&":
		return truth(a != 0 && b != 0)
	case "||":
		return truth(a != 0 || b != 0)
	}
	panic("expr: the parser made an operator that does not exist: " + op)
}

// operate joins two values point by point.
func (env *Env) operate(op string, a, b Value) (Value, error) {
	switch {
	case a.Kind == Text || b.Kind == Text:
		return Value{}, fault("unsupported operand types for %s: %v and %v", op, a.Kind, b.Kind)
	case a.Kind == Scalar && b.Kind == Scalar:
		return scalar(apply(op, a.Number, b.Number)), nil
	case b.Kind == Scalar:
		return env.points(a, func(x float64) float64 { return apply(op, x, b.Number) })
	case a.Kind == Scalar:
		return env.points(b, func(x float64) float64 { return apply(op, a.Number, x) })
	case a.Kind == Array && b.Kind == Array:
		return Value{}, fault("unsupported operand types for %s: %v and %v", op, a.Kind, b.Kind)
	case a.Kind == Array:
		return env.each(a, func(s Series) Series { return join(op, s, b.List[0], s) })
	case b.Kind == Array:
		return env.each(b, func(s Series) Series { return join(op, a.List[0], s, s) })
	}
	return env.each(a, func(s Series) Series { return join(op, s, b.List[0], s) })
}

// join applies an operator where both series have a datapoint; label and
// period are those of like.
func join(op string, a, b, like Series) Series {
	out := Series{Label: like.Label, Period: max(a.Period, b.Period)}
	i := 0
	for _, p := range a.Points {
		for i < len(b.Points) && b.Points[i].Time < p.Time {
			i++
		}
		if i == len(b.Points) {
			break
		}
		if b.Points[i].Time != p.Time {
			continue
		}
		if v := apply(op, p.Value, b.Points[i].Value); finite(v) {
			out.Points = append(out.Points, Point{p.Time, v})
		}
	}
	return out
}

// condition is IF(condition, whenTrue, whenFalse); without the third, nothing
// is where the condition does not hold.
func (env *Env) condition(args []Value) (Value, error) {
	if len(args) == 2 {
		args = append(args, series(Series{}))
	}
	for _, a := range args[1:] {
		if a.Kind == Array || a.Kind == Text {
			return Value{}, fault("IF cannot choose %v", a.Kind)
		}
	}
	switch args[0].Kind {
	case Scalar:
		if args[0].Number != 0 {
			return args[1], nil
		}
		return args[2], nil
	case Text:
		return Value{}, fault("the condition of IF cannot be %v", args[0].Kind)
	}
	return env.each(args[0], func(s Series) Series {
		return s.derive(func(p Point) (float64, bool) {
			chosen := args[2]
			if p.Value != 0 {
				chosen = args[1]
			}
			if chosen.Kind == Scalar {
				return chosen.Number, true
			}
			return chosen.List[0].at(p.Time)
		})
	})
}
