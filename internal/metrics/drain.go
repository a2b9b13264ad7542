package metrics

import (
	"maps"
	"time"

	"github.com/firn-run/firn/internal/metrics/series"
	"github.com/firn-run/firn/internal/telemetry/exposition"
)

// silence is after how long an accumulator that holds nothing may be dropped
// when there are many.
const silence = 6 * time.Hour

// drained is the numbers of one target in one minute, on their way to series.
type drained struct {
	function  string
	qualifier string
	version   string
	minute
}

// drain moves what accumulators hold to the datapoints. With durable it is on
// the disk afterwards.
func (s *Store) drain(durable bool) {
	s.drains.Lock()
	defer s.drains.Unlock()
	b := batch{store: s, durable: durable, account: map[int64]*accountMinute{}}
	now := s.cfg.Now().Unix()
	for name, v := range s.shards.Range {
		f := v.(*function)
		f.mu.Lock()
		taken := f.takeLocked(now)
		if len(f.targets) == 0 && s.known.Load() > maxFunctions/2 && now-f.used > int64(silence/time.Second) {
			f.gone = true
			s.shards.Delete(name)
			s.known.Add(-1)
		}
		f.mu.Unlock()
		for i := range taken {
			b.target(&taken[i])
		}
	}
	b.finish()
}

// takeLocked empties the accumulators of a function, and drops targets that
// have been silent for long, if the function has many or seems to be gone.
func (f *function) takeLocked(now int64) []drained {
	var out []drained
	for key, t := range f.targets {
		for _, m := range t.open {
			out = append(out, drained{f.name, key.qualifier, key.version, m})
		}
		t.open = t.open[:0:min(cap(t.open), 2)]
		quiet := now-t.used > int64(silence/time.Second)
		if quiet && t.running == 0 && (len(f.targets) > maxTargets/2 || now-f.used > int64(4*silence/time.Second)) {
			delete(f.targets, key)
		}
	}
	return out
}

// batch turns drained numbers into samples and adds them in portions.
type batch struct {
	store   *Store
	durable bool
	samples []series.Sample
	account map[int64]*accountMinute
}

// accountMinute adds up the functions of one minute.
type accountMinute struct {
	minute
	observed map[Measure]series.Point
}

// target adds the samples of one target: for the function, for the resource,
// for the version behind an alias; and notes them for the account.
func (b *batch) target(d *drained) {
	b.forAccount(d)
	if d.function == "" {
		return
	}
	function := []series.Dimension{{Name: "FunctionName", Value: d.function}}
	named := append(function[:1:1], series.Dimension{Name: "Resource", Value: resource(d.function, d.qualifier)})
	b.invocations(function, &d.minute)
	b.invocations(named, &d.minute)
	b.add("ConcurrentExecutions", "Count", function, d.start, d.minute.function)
	b.add("ConcurrentExecutions", "Count", named, d.start, d.resource)
	for m, p := range d.observed {
		b.add(m.String(), m.unit(), function, d.start, *p)
		b.add(m.String(), m.unit(), named, d.start, *p)
	}
	alias := d.qualifier != "" && d.qualifier != d.version && d.version != "" && d.qualifier != "$LATEST"
	if !alias {
		return
	}
	executed := append(named[:2:2], series.Dimension{Name: "ExecutedVersion", Value: d.version})
	b.invocations(executed, &d.minute)
	for m, p := range d.observed {
		b.add(m.String(), m.unit(), executed, d.start, *p)
	}
}

// invocations adds what every set of dimensions has.
func (b *batch) invocations(dims []series.Dimension, m *minute) {
	if m.invocations > 0 {
		b.add("Invocations", "Count", dims, m.start, series.PointOf(1, m.invocations))
		b.add("Errors", "Count", dims, m.start, yesNo(m.errors, m.invocations))
		b.add("Duration", "Milliseconds", dims, m.start, m.duration)
		b.add("PostRuntimeExtensionsDuration", "Milliseconds", dims, m.start, m.postRuntime)
	}
	if m.invocations+m.throttles > 0 {
		b.add("Throttles", "Count", dims, m.start, yesNo(m.throttles, m.invocations+m.throttles))
	}
}

// yesNo is a sample of 1 for each yes and one of 0 for the rest: its average
// is a rate.
func yesNo(yes, all float64) series.Point {
	var p series.Point
	if all > yes {
		p.Observe(0, all-yes)
	}
	if yes > 0 {
		p.Observe(1, yes)
	}
	return p
}

func (b *batch) forAccount(d *drained) {
	a := b.account[d.start]
	if a == nil {
		a = &accountMinute{minute: minute{start: d.start}, observed: map[Measure]series.Point{}}
		b.account[d.start] = a
	}
	a.invocations += d.invocations
	a.errors += d.errors
	a.throttles += d.throttles
	a.duration.Merge(d.duration)
	a.postRuntime.Merge(d.postRuntime)
	a.minute.account.Merge(d.minute.account)
	a.unreserved.Merge(d.unreserved)
	a.claimed.Merge(d.claimed)
	for m, p := range d.observed {
		sum := a.observed[m]
		sum.Merge(*p)
		a.observed[m] = sum
	}
}

// finish adds the account's samples and what is left of the batch.
func (b *batch) finish() {
	for _, a := range b.account {
		b.invocations(nil, &a.minute)
		b.add("ConcurrentExecutions", "Count", nil, a.start, a.minute.account)
		b.add("UnreservedConcurrentExecutions", "Count", nil, a.start, a.unreserved)
		b.add("ClaimedAccountConcurrency", "Count", nil, a.start, a.claimed)
		for m, p := range a.observed {
			b.add(m.String(), m.unit(), nil, a.start, p)
		}
	}
	b.flush(b.durable)
}

func (b *batch) add(name, unit string, dims []series.Dimension, start int64, p series.Point) {
	const portion = 1000
	if p.Count == 0 {
		return
	}
	if len(b.samples) == portion {
		b.flush(false) // the last portion, never empty, waits for all before it too
	}
	b.samples = append(b.samples, series.Sample{
		Key:   series.NewKey(Namespace, name, dims, unit),
		Time:  time.Unix(start, 0),
		Point: p,
	})
}

func (b *batch) flush(durable bool) {
	if err := b.store.db.Add(b.samples, durable); err != nil {
		b.store.complain("functions", len(b.samples), err)
	}
	b.samples = b.samples[:0]
}

// Exposition is the counters of functions for a scrape.
func (s *Store) Exposition() exposition.Snapshot {
	snap := exposition.Snapshot{Running: map[string]int64{}}
	for _, v := range s.shards.Range {
		f := v.(*function)
		f.mu.Lock()
		for key, t := range f.targets {
			total := t.total
			if key.version == "" && !f.limit && total.Invocations+total.Throttles == 0 {
				continue // something else was observed of it: nothing that is counted here
			}
			total.Duration.Buckets = append([]uint64(nil), total.Duration.Buckets...)
			total.PostRuntime.Buckets = append([]uint64(nil), total.PostRuntime.Buckets...)
			if f.limit {
				total.Name, total.Resource, total.Version = "_other", "_other", "_other"
			}
			snap.Functions = append(snap.Functions, total)
		}
		name := f.name
		if f.limit {
			name = "_other"
		}
		snap.Running[name] += int64(len(f.running))
		f.mu.Unlock()
	}
	snap.Dropped = maps.Clone(s.dropped())
	return snap
}

// dropped is what was lost, by reason.
func (s *Store) dropped() map[string]uint64 {
	samples, _ := s.db.Counters()
	return map[string]uint64{
		"no_room":            samples,
		"emf_queue_full":     s.counts.emfQueue.Load(),
		"emf_invalid":        s.counts.emfInvalid.Load(),
		"too_many_functions": s.counts.functions.Load(),
	}
}
