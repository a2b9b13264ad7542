package timeline

import (
	"cmp"
	"slices"
	"time"
)

// gapMin is the shortest idle time that may be left out of a picture, but at
// its end, where the environment waits for its freeze.
const gapMin = Offset(50 * time.Millisecond)

// gaps finds the times in which nothing was done that are long against the
// rest: a provisioned environment that waited for its invocation, a frozen one
// that was ended ten minutes later.
func gaps(t *Timeline) (idle []Gap) {
	type interval struct{ start, end Offset }
	var busy []interval
	for _, l := range t.Lanes {
		for _, bar := range l.Bars {
			if bar.Kind != BarFrozen {
				busy = append(busy, interval{bar.Start, bar.End})
			}
		}
	}
	slices.SortFunc(busy, func(x, y interval) int { return cmp.Or(cmp.Compare(x.start, y.start), cmp.Compare(x.end, y.end)) })
	total, at := Offset(0), Offset(0)
	for _, b := range busy {
		if b.start > at {
			idle = append(idle, Gap{at, b.start})
		}
		total += max(0, b.end-max(at, b.start))
		at = max(at, b.end)
	}
	if t.End > at {
		idle = append(idle, Gap{at, t.End})
	}
	return slices.DeleteFunc(idle, func(g Gap) bool {
		return g.End-g.Start < gapMin && g.End < t.End || g.End-g.Start < total/4
	})
}

// scale places offsets on an axis of the given width, gaps shortened.
type scale struct {
	end   Offset
	gaps  []Gap
	width float64
	gap   float64 // width of each gap
	unit  float64 // width of a nanosecond outside of gaps
}

// newScale makes the axis; each gap takes gapWidth, all together a third of
// the axis at the most.
func newScale(t *Timeline, width, gapWidth float64) *scale {
	s := &scale{end: max(t.End, 1), width: width}
	at := Offset(0)
	for _, g := range t.Gaps { // a timeline may come from JSON: take what is in order
		if g.Start >= at && g.End > g.Start && g.End <= s.end && len(s.gaps) < maxMarks {
			s.gaps = append(s.gaps, g)
			at = g.End
		}
	}
	shown := s.end
	for _, g := range s.gaps {
		shown -= g.End - g.Start
	}
	if n := len(s.gaps); n > 0 {
		s.gap = min(gapWidth, width/3/float64(n))
	}
	s.unit = (width - s.gap*float64(len(s.gaps))) / float64(max(shown, 1))
	return s
}

// x is the place of an offset, between 0 and width; it never decreases.
func (s *scale) x(o Offset) float64 {
	o = max(0, min(o, s.end))
	at, x := Offset(0), 0.0
	for _, g := range s.gaps {
		if o <= g.Start {
			break
		}
		x += float64(g.Start-at) * s.unit
		if o < g.End {
			return min(s.width, x+s.gap*float64(o-g.Start)/float64(g.End-g.Start))
		}
		x += s.gap
		at = g.End
	}
	return min(s.width, x+float64(o-at)*s.unit)
}

// inGap reports whether an offset is in a time that is left out.
func (s *scale) inGap(o Offset) bool {
	return slices.ContainsFunc(s.gaps, func(g Gap) bool { return g.Start < o && o < g.End })
}

// ticks are round offsets, at least the given width apart.
func (s *scale) ticks(apart float64) (ticks []Offset) {
	step := Offset(1)
	for s.unit*float64(step) < apart {
		switch { // 1, 2, 5, 10, 20, 50 ...
		case leading(step) == 2:
			step = step / 2 * 5
		default:
			step *= 2
		}
		if step > s.end {
			break
		}
	}
	for o := Offset(0); o <= s.end && len(ticks) < maxTicks; {
		if !s.inGap(o) {
			ticks = append(ticks, o)
			o += step
			continue
		}
		for _, g := range s.gaps { // on behind the gap, at a round offset
			if g.Start < o && o < g.End {
				o = (g.End + step - 1) / step * step
				break
			}
		}
	}
	return ticks
}

// maxTicks bounds the ticks of an axis.
const maxTicks = 200

func leading(o Offset) Offset {
	for o >= 10 {
		o /= 10
	}
	return o
}

// tickLabel writes a tick: as short as it is exact.
func tickLabel(o Offset) string {
	switch d := time.Duration(o); {
	case d == 0:
		return "0"
	case d < time.Millisecond:
		return ms3(float64(d)/1e3) + " µs"
	case d < 10*time.Second:
		return ms3(float64(d)/1e6) + " ms"
	default:
		return ms3(float64(d)/1e9) + " s"
	}
}
