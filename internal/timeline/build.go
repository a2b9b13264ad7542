package timeline

import (
	"cmp"
	"slices"
	"time"

	"github.com/firn-run/firn/internal/lifecycle"
)

// maxLines is how many times of output lines a lane shows; maxCalls how many
// X-Ray segments have a lane.
const (
	maxLines = 500
	maxCalls = 40
)

// Build makes the timeline of one invocation. It takes any records.
func Build(in Input) *Timeline {
	f := read(&in)
	b := &builder{in: &in, facts: f, t: &Timeline{
		RequestID: in.RequestID, Function: in.Function, Version: f.version, Environment: in.Environment,
		TraceHeader: f.traceHeader, Status: f.status, ErrorType: f.errorType,
	}}
	b.bounds()
	b.lanes()
	b.calls()
	b.lines()
	b.marks()
	b.durations()
	b.t.Waits = b.waits()
	b.t.Verdict, b.t.Slow = b.verdict()
	b.t.Gaps = gaps(b.t)
	return b.t
}

type builder struct {
	*facts
	in  *Input
	t   *Timeline
	end time.Time
	// asked is when the caller began to wait, as far as it is known.
	asked time.Time
}

// bounds finds the begin and the end of all.
func (b *builder) bounds() {
	first := time.Time{}
	earlier := func(at time.Time) {
		if !at.IsZero() && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	for _, rec := range b.in.Records {
		earlier(rec.When())
	}
	earlier(b.in.Received)
	b.end = b.last
	later := func(at time.Time) {
		if at.After(b.end) {
			b.end = at
		}
	}
	later(b.in.Received)
	for _, line := range b.in.Lines {
		later(line.Time)
	}
	if b.report.IsZero() {
		later(b.in.Now)
	}
	if b.end.Sub(first) > maxBefore { // a clock that jumped, not a request
		first = b.end.Add(-maxBefore)
	}
	b.t.Begin = first
	b.t.End = Offset(b.end.Sub(first))

	b.asked = b.in.Received
	if b.asked.IsZero() {
		b.asked = b.start
		// An on-demand init begins for a request.
		if len(b.inits) > 0 && b.inits[0].onDemand() {
			b.asked = b.inits[0].begin
		}
	}
	b.t.Cold = len(b.inits) > 0 && b.inits[0].onDemand()
}

func (n *initFacts) onDemand() bool {
	return n.phase == lifecycle.PhaseInvoke || n.kind == "" || n.kind == "on-demand"
}

// offset is the place of a time, within the timeline.
func (b *builder) offset(at time.Time) Offset {
	return max(0, min(Offset(at.Sub(b.t.Begin)), b.t.End))
}

// bar makes a bar. Without a begin there is none; without an end it is open
// until the given limit.
func (b *builder) bar(kind BarKind, label string, from, to, limit time.Time) (Bar, bool) {
	if from.IsZero() {
		return Bar{}, false
	}
	bar := Bar{Kind: kind, Label: label, Start: b.offset(from)}
	if to.IsZero() {
		bar.Open = true
		if to = limit; to.IsZero() {
			to = b.end
		}
	}
	bar.End = max(bar.Start, b.offset(to))
	return bar, true
}

func (b *builder) lanes() {
	platform := Lane{Kind: Platform, Name: "platform", Bars: b.platform()}
	runtime := Lane{Kind: Runtime, Name: "runtime", Bars: b.runtime()}
	b.t.Lanes = append(b.t.Lanes, platform, runtime)
	for _, name := range b.extensions() {
		b.t.Lanes = append(b.t.Lanes, Lane{Kind: Extension, Name: name, Bars: b.extensionBars(name)})
	}
	for i := range b.t.Lanes {
		if b.t.Lanes[i].Bars == nil {
			b.t.Lanes[i].Bars = []Bar{}
		}
		tidy(b.t.Lanes[i].Bars)
	}
}

// tidy puts bars in order and ends their overlap: a later one begins where
// the earlier one ends.
func tidy(bars []Bar) {
	slices.SortStableFunc(bars, func(x, y Bar) int { return cmp.Compare(x.Start, y.Start) })
	for i := range bars {
		if i > 0 && bars[i].Start < bars[i-1].End {
			bars[i].Start = bars[i-1].End
			bars[i].End = max(bars[i].Start, bars[i].End)
		}
		var parts []Bar
		for _, p := range bars[i].Parts {
			p.Start = max(bars[i].Start, min(p.Start, bars[i].End))
			p.End = max(p.Start, min(p.End, bars[i].End))
			if n := len(parts); n > 0 && p.Start < parts[n-1].End {
				p.Start = parts[n-1].End
				p.End = max(p.Start, p.End)
			}
			parts = append(parts, p)
		}
		bars[i].Parts = parts
	}
}

// platform's bars: making the environment, the inits, the invocation, the end.
func (b *builder) platform() (bars []Bar) {
	add := func(bar Bar, ok bool) {
		if ok {
			bars = append(bars, bar)
		}
	}
	for i := range b.inits {
		n := &b.inits[i]
		bar, ok := b.bar(BarInit, "init", n.begin, n.end, b.start)
		if n.phase == lifecycle.PhaseInvoke {
			bar.Label = "init again"
		}
		bar.Failed, bar.Detail = n.failed(), n.errorType
		add(bar, ok)
	}
	if until := b.began(); !b.in.Received.IsZero() && b.in.Received.Before(until) {
		add(b.bar(BarPrepare, "environment", b.in.Received, until, until))
	}
	if !b.start.IsZero() {
		bar, ok := b.bar(BarInvoke, "invoke", b.start, b.report, time.Time{})
		bar.Failed, bar.Detail = b.failed(), b.errorType
		if !b.answered.IsZero() {
			if part, ok := b.bar(BarAlong, "until the answer", b.start, b.answered, b.answered); ok {
				bar.Parts = append(bar.Parts, part)
			}
			if part, ok := b.bar(BarTail, "after the answer", b.answered, b.report, b.end); ok {
				bar.Parts = append(bar.Parts, part)
			}
		}
		add(bar, ok)
	}
	for i := range b.downs {
		d := &b.downs[i]
		bar, ok := b.bar(BarShutdown, "shutdown", d.begin, d.end, b.end)
		bar.Detail = d.reason
		add(bar, ok)
	}
	return append(bars, b.frozen()...)
}

// began is when the environment did something for the request.
func (b *builder) began() time.Time {
	for i := range b.inits {
		if b.inits[i].end.IsZero() || b.inits[i].end.After(b.in.Received) {
			if b.inits[i].begin.Before(b.in.Received) {
				return time.Time{} // it had begun already
			}
			return b.inits[i].begin
		}
	}
	return b.start
}

func (b *builder) failed() bool { return b.status != "" && b.status != lifecycle.StatusSuccess }

func (n *initFacts) failed() bool { return n.status != "" && n.status != lifecycle.StatusSuccess }

// frozen are the times between a freeze and the thaw that followed.
func (b *builder) frozen() (bars []Bar) {
	var from time.Time
	for _, m := range b.facts.marks {
		switch {
		case m.kind == MarkFrozen && from.IsZero():
			from = m.at
		case m.kind == MarkThawed && !from.IsZero():
			if bar, ok := b.bar(BarFrozen, "frozen", from, m.at, b.end); ok {
				bars = append(bars, bar)
			}
			from = time.Time{}
		}
	}
	if bar, ok := b.bar(BarFrozen, "frozen", from, time.Time{}, b.end); ok {
		bars = append(bars, bar)
	}
	return bars
}

func (b *builder) runtime() (bars []Bar) {
	for i := range b.inits {
		n := &b.inits[i]
		p := &n.runtime
		bar, ok := b.bar(BarInit, "init", p.started, cmp.Or(p.ready, p.gone), cmp.Or(n.end, b.start))
		bar.Failed, bar.Detail = p.failed, p.errorType
		if ok {
			bars = append(bars, bar)
		}
	}
	if bar, ok := b.bar(BarInvoke, "invoke", b.start, b.runtimeDone, b.report); ok {
		bar.Failed = b.runtimeSeen && b.runtimeStatus != lifecycle.StatusSuccess
		bar.Detail = b.runtimeError
		bar.Parts = b.runtimeParts()
		bars = append(bars, bar)
	}
	return append(bars, b.ends("runtime")...)
}

// runtimeParts are the spans of runtimeDone, or, while it is awaited, what
// the answer's time tells.
func (b *builder) runtimeParts() (parts []Bar) {
	if b.runtimeSeen {
		kinds := map[string]BarKind{"responseLatency": BarLatency, "responseDuration": BarResponse, "runtimeOverhead": BarOverhead}
		for _, s := range b.spans[:min(len(b.spans), len(kinds))] {
			kind, known := kinds[s.Name]
			if !known || !(s.DurationMs >= 0 && s.DurationMs < longest) {
				continue
			}
			if bar, ok := b.bar(kind, s.Name, s.Start, s.Start.Add(time.Duration(s.DurationMs*1e6)), b.end); ok {
				parts = append(parts, bar)
			}
		}
		return parts
	}
	if !b.answered.IsZero() {
		if bar, ok := b.bar(BarLatency, "until the answer", b.start, b.answered, b.end); ok {
			parts = append(parts, bar)
		}
		if bar, ok := b.bar(BarOverhead, "runtimeOverhead", b.answered, time.Time{}, b.report); ok {
			parts = append(parts, bar)
		}
	}
	return parts
}

// extensions are the names of all extensions that did something.
func (b *builder) extensions() (names []string) {
	add := func(name string) {
		if name != "" && len(names) < maxParty && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for i := range b.inits {
		for _, p := range b.inits[i].parties {
			add(p.name)
		}
	}
	for _, e := range b.extension {
		add(e.Name)
	}
	for _, t := range b.tails {
		add(t.name)
	}
	return names
}

func (b *builder) extensionBars(name string) (bars []Bar) {
	for i := range b.inits {
		n := &b.inits[i]
		for j := range n.parties {
			if p := &n.parties[j]; p.name == name {
				bars = append(bars, b.extensionInit(n, p)...)
			}
		}
	}
	for _, t := range b.tails {
		if t.name != name {
			continue
		}
		if bar, ok := b.bar(BarExtension, "invoke", b.start, t.end, b.report); ok {
			if !b.answered.IsZero() && b.offset(b.answered) < bar.End {
				at := max(bar.Start, b.offset(b.answered))
				bar.Parts = []Bar{
					{Kind: BarAlong, Label: "until the answer", Start: bar.Start, End: at},
					{Kind: BarTail, Label: "after the answer", Start: at, End: bar.End, Open: bar.Open},
				}
			}
			bars = append(bars, bar)
		}
	}
	return append(bars, b.ends(name)...)
}

func (b *builder) extensionInit(n *initFacts, p *partyInit) []Bar {
	limit := cmp.Or(n.end, b.start)
	bar, ok := b.bar(BarInit, "init", cmp.Or(p.started, p.registered), cmp.Or(p.ready, p.gone), limit)
	if !ok {
		return nil
	}
	bar.Failed, bar.Detail = p.failed, p.errorType
	if !p.started.IsZero() && !p.registered.IsZero() {
		starting, _ := b.bar(BarStarting, "started → registered", p.started, p.registered, limit)
		readying, _ := b.bar(BarReadying, "registered → ready", p.registered, p.ready, limit)
		bar.Parts = []Bar{starting, readying}
	}
	return []Bar{bar}
}

// ends are a party's parts of the shutdowns.
func (b *builder) ends(name string) (bars []Bar) {
	for i := range b.downs {
		d := &b.downs[i]
		for _, p := range d.parties {
			if p.name != name {
				continue
			}
			if bar, ok := b.bar(BarShutdown, "shutdown", p.begin, cmp.Or(p.end, d.end), d.end); ok {
				bar.Failed = p.killed
				bars = append(bars, bar)
			}
		}
	}
	return bars
}

// calls puts the X-Ray segments below the runtime, each after its parent.
func (b *builder) calls() {
	children := map[string][]*Segment{}
	known := map[string]bool{}
	for i := range b.in.Segments {
		known[b.in.Segments[i].ID] = true
	}
	for i := range b.in.Segments {
		s := &b.in.Segments[i]
		parent := s.ParentID
		if !known[parent] || parent == s.ID {
			parent = ""
		}
		children[parent] = append(children[parent], s)
	}
	var lanes []Lane
	seen := map[*Segment]bool{}
	var walk func(parent string, depth int)
	walk = func(parent string, depth int) {
		list := children[parent]
		slices.SortStableFunc(list, func(x, y *Segment) int { return x.Start.Compare(y.Start) })
		for _, s := range list {
			if seen[s] || len(lanes) == maxCalls {
				continue
			}
			seen[s] = true
			bar, ok := b.bar(BarCall, s.Name, s.Start, s.End, cmp.Or(b.runtimeDone, b.report))
			if !ok {
				continue
			}
			bar.Failed, bar.Detail = s.Error || s.Fault || s.Throttle, s.Cause
			lanes = append(lanes, Lane{Kind: Call, Name: s.Name, Depth: min(depth, maxCalls), Bars: []Bar{bar}})
			walk(s.ID, depth+1)
		}
	}
	walk("", 0)
	b.t.Lanes = slices.Insert(b.t.Lanes, 2, lanes...)
}

// lines puts the times of output on the lane of whoever wrote it.
func (b *builder) lines() {
	lane := func(extension string) *Lane {
		for i := range b.t.Lanes {
			l := &b.t.Lanes[i]
			if extension == "" && l.Kind == Runtime || extension != "" && l.Kind == Extension && l.Name == extension {
				return l
			}
		}
		return nil
	}
	for _, line := range b.in.Lines {
		if l := lane(line.Extension); l != nil {
			l.LineCount++
			if len(l.Lines) < maxLines {
				l.Lines = append(l.Lines, b.offset(line.Time))
			}
		}
	}
	for extension, n := range b.in.MoreLines {
		if l := lane(extension); l != nil && n > 0 {
			l.LineCount += n
		}
	}
}

func (b *builder) marks() {
	all := slices.Clone(b.facts.marks)
	all = append(all,
		fact{MarkReceived, b.in.Received, ""}, fact{MarkStart, b.start, ""},
		fact{MarkAnswered, b.answered, ""}, fact{MarkReport, b.report, b.status})
	for _, m := range all {
		if !m.at.IsZero() {
			b.t.Marks = append(b.t.Marks, Mark{Kind: m.kind, At: b.offset(m.at), Detail: m.detail})
		}
	}
	slices.SortStableFunc(b.t.Marks, func(x, y Mark) int { return cmp.Compare(x.At, y.At) })
}
