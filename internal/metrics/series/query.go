package series

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"time"
)

// Query asks for the datapoints of one metric.
type Query struct {
	Namespace  string
	Name       string
	Dimensions []Dimension // all of them, in any order
	// Unit restricts to the data that was put with it; "" means all, each
	// unit by itself.
	Unit string
	// Start is the first moment, End the one after the last; both whole
	// seconds. Datapoints begin at Start and every Period after it.
	Start, End time.Time
	Period     time.Duration
}

// Query returns datapoints in order of time, and of units within it. Periods
// without samples have none.
func (db *DB) Query(q Query) ([]Datapoint, error) {
	key := NewKey(q.Namespace, q.Name, q.Dimensions, "")
	metric := metricID(&key)
	g := gather{start: q.Start.Unix(), end: q.End.Unix(), period: max(1, int64(q.Period/time.Second))}

	db.mu.RLock()
	var wanted []*known
	for _, k := range db.metrics[metric] {
		if q.Unit == "" || k.key.Unit == q.Unit {
			wanted = append(wanted, k)
		}
	}
	merged := make([]run, len(wanted))
	for i, k := range wanted {
		for _, h := range []*head{db.flushing, db.head} {
			if h != nil && h.series[k.id] != nil {
				g.add(&merged[i], h.series[k.id][0])
				g.add(&merged[i], h.series[k.id][1])
			}
		}
	}
	var blocks []*block
	if len(wanted) > 0 {
		blocks = db.useLocked(g.start, g.end)
	}
	db.mu.RUnlock()

	defer func() {
		for _, b := range blocks {
			b.release()
		}
	}()
	var out []Datapoint
	for i, k := range wanted {
		for _, b := range blocks {
			e, ok := b.find(k.id)
			if !ok {
				continue
			}
			_, points, err := b.read(e, true)
			if errors.Is(err, errCorrupt) {
				db.cfg.Logger.Error("metrics are damaged and left out", "metric", k.key.Name, "error", err)
				continue
			}
			if err != nil {
				return nil, err
			}
			g.add(&merged[i], points)
		}
		for _, x := range merged[i] {
			out = append(out, Datapoint{Time: unix(x.t), Unit: k.key.Unit, Point: x.p})
		}
	}
	slices.SortStableFunc(out, func(a, b Datapoint) int {
		return cmp.Or(a.Time.Compare(b.Time), strings.Compare(a.Unit, b.Unit))
	})
	return out, nil
}

// useLocked returns the blocks of a range of time, to be released.
func (db *DB) useLocked(start, end int64) []*block {
	var out []*block
	for _, b := range db.blocks {
		if b.Start < end && b.end() > start {
			b.users.Add(1)
			out = append(out, b)
		}
	}
	return out
}

// gather merges runs into periods that begin at start.
type gather struct{ start, end, period int64 }

func (g gather) add(out *run, r run) {
	from, _ := slices.BinarySearchFunc(r, g.start, func(x timed, t int64) int { return cmp.Compare(x.t, t) })
	for _, x := range r[from:] {
		if x.t >= g.end {
			return
		}
		out.add(g.start+floor(x.t-g.start, g.period), x.p)
	}
}

// Filter selects series for List. Empty members select all.
type Filter struct {
	Namespace string
	Name      string
	// Dimensions must all be there, with their value unless it is "".
	Dimensions []Dimension
	Since      time.Time // of the latest period
}

// List returns the metrics that were written since a time, in the order of
// their names; units are not told apart.
func (db *DB) List(f Filter) []Listed {
	since := f.Since.Unix()
	var out []Listed
	db.mu.RLock()
	for _, units := range db.metrics {
		last := int64(0)
		for _, k := range units {
			last = max(last, k.last)
		}
		key := units[0].key
		if last >= since && f.matches(&key) {
			key.Unit = ""
			out = append(out, Listed{Key: key, Last: unix(last)})
		}
	}
	db.mu.RUnlock()
	slices.SortFunc(out, func(a, b Listed) int { return Compare(a.Key, b.Key) })
	return out
}

func (f Filter) matches(k *Key) bool {
	if f.Namespace != "" && k.Namespace != f.Namespace || f.Name != "" && k.Name != f.Name {
		return false
	}
	for _, want := range f.Dimensions {
		if !slices.ContainsFunc(k.Dimensions, func(d Dimension) bool {
			return d.Name == want.Name && (want.Value == "" || d.Value == want.Value)
		}) {
			return false
		}
	}
	return true
}

// Compare orders keys by namespace, name and dimensions.
func Compare(a, b Key) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name),
		slices.CompareFunc(a.Dimensions, b.Dimensions, func(x, y Dimension) int {
			return cmp.Or(strings.Compare(x.Name, y.Name), strings.Compare(x.Value, y.Value))
		}))
}
