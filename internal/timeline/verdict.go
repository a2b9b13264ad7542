package timeline

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/firn-run/firn/internal/lifecycle"
)

func (b *builder) durations() {
	d := &b.t.Durations
	between := func(from, to time.Time) Offset {
		if from.IsZero() || to.IsZero() {
			return 0
		}
		return max(0, b.offset(to)-b.offset(from))
	}
	for i := range b.inits {
		d.Init += between(b.inits[i].begin, b.inits[i].end)
	}
	for _, l := range b.t.Lanes {
		for _, bar := range l.Bars {
			if bar.Kind == BarPrepare {
				d.Prepare += bar.Duration()
			}
			for _, p := range bar.Parts {
				switch {
				case l.Kind != Runtime:
				case p.Kind == BarLatency:
					d.Latency = p.Duration()
				case p.Kind == BarResponse:
					d.Response = p.Duration()
				case p.Kind == BarOverhead:
					d.Overhead = p.Duration()
				}
			}
		}
	}
	d.Caller = between(b.asked, cmp.Or(b.answered, b.runtimeDone, b.report))
	if b.durationMs >= 0 && b.durationMs < longest {
		d.Total = Offset(b.durationMs * 1e6)
	}
	d.Tail = between(cmp.Or(b.answered, b.runtimeDone), b.report)
	d.Billed = Offset(max(0, min(b.billedMs, longest))) * Offset(time.Millisecond)
}

// finish is when a party was through.
type finish struct {
	name    string
	runtime bool
	at      time.Time
}

// lastOf says who of all was the last, and by how much.
func (b *builder) lastOf(phase string, from time.Time, all []finish) (Wait, bool) {
	all = slices.DeleteFunc(all, func(f finish) bool { return f.at.IsZero() })
	if from.IsZero() || len(all) == 0 {
		return Wait{}, false
	}
	slices.SortStableFunc(all, func(x, y finish) int { return y.at.Compare(x.at) })
	w := Wait{Phase: phase, Party: all[0].name, Runtime: all[0].runtime, Took: max(0, b.offset(all[0].at)-b.offset(from))}
	if len(all) > 1 {
		w.Next = all[1].name
		w.Margin = b.offset(all[0].at) - b.offset(all[1].at)
	}
	return w, true
}

// waits is the critical path: the runtime starts when the last extension has
// registered, an init ends with the last party, and so does the invocation.
func (b *builder) waits() (waits []Wait) {
	add := func(w Wait, ok bool) {
		if ok {
			waits = append(waits, w)
		}
	}
	for i := range b.inits {
		n := &b.inits[i]
		var registered, ready []finish
		for _, p := range n.parties {
			if p.started.IsZero() {
				// An internal one: it begins within the runtime.
			} else if !n.runtime.started.IsZero() && !p.registered.After(n.runtime.started) {
				registered = append(registered, finish{name: p.name, at: p.registered})
			}
			ready = append(ready, finish{name: p.name, at: p.ready})
		}
		ready = append(ready, finish{name: "runtime", runtime: true, at: n.runtime.ready})
		add(b.lastOf("register", n.begin, registered))
		add(b.lastOf("init", n.begin, ready))
	}
	var done []finish
	done = append(done, finish{name: "runtime", runtime: true, at: b.runtimeDone})
	for _, t := range b.tails {
		end := t.end
		if end.IsZero() {
			end = b.report // it was waited for until then
		}
		if end.IsZero() {
			return waits // it still is
		}
		done = append(done, finish{name: t.name, at: end})
	}
	add(b.lastOf("invoke", b.start, done))
	return waits
}

// cause is something that took a part of the caller's time.
type cause struct {
	took Offset
	what string // a clause that says so, with the duration
	slow string // the same in a word or two, to which the duration is added
	part Offset // the duration to add, when it is not took
	init bool
	// The bars that show it: of which lane, and of which kinds.
	lane  LaneKind
	party string
	kinds []BarKind
}

// causes are the parts of the caller's wait, without overlap.
func (b *builder) causes() (all []cause) {
	if d := b.t.Durations.Prepare; d > 0 {
		all = append(all, cause{took: d, what: "it took " + ms(d) + " to get an environment", slow: "environment",
			init: len(b.inits) > 0, lane: Platform, kinds: []BarKind{BarPrepare}})
	}
	for i := range b.inits {
		all = append(all, b.causesOfInit(&b.inits[i])...)
	}
	if b.start.IsZero() {
		return all
	}
	done := cmp.Or(b.answered, b.runtimeDone, b.report, b.end)
	c := cause{took: b.waited(b.start, done), slow: "function", lane: Runtime, kinds: []BarKind{BarInvoke, BarLatency}}
	c.what = "the function took " + ms(c.took)
	if d := b.t.Durations.Response; d > c.took/2 {
		c.what += ", " + ms(d) + " of it for the body of its answer"
		c.kinds = []BarKind{BarResponse}
	} else if name, d := b.longestCall(); name != "" && d > c.took/2 {
		c.what += ", " + ms(d) + " of it in " + name
		c.slow, c.part, c.lane, c.party, c.kinds = name, d, Call, name, []BarKind{BarCall}
	}
	return append(all, c)
}

// waited is how much of a time the caller waited for.
func (b *builder) waited(begin, end time.Time) Offset {
	if begin.IsZero() || end.IsZero() {
		return 0
	}
	return max(0, b.offset(end)-max(b.offset(b.asked), b.offset(begin)))
}

// causesOfInit are the parts of an init: until the last extension registered,
// the runtime's own, and what extensions took longer than the runtime.
func (b *builder) causesOfInit(n *initFacts) (all []cause) {
	end := cmp.Or(n.end, b.start, b.end)
	whole := cause{took: b.waited(n.begin, end), init: true, lane: Platform, kinds: []BarKind{BarInit}, slow: "init"}
	switch {
	case n.failed():
		whole.slow = "failed init"
		whole.what = fmt.Sprintf("an init that ended in %s%s took %s", clean(n.status), because(n.errorType), ms(whole.took))
		return []cause{whole}
	case n.runtime.started.IsZero():
		whole.what = "the init took " + ms(whole.took)
		return []cause{whole}
	}
	ready := cmp.Or(n.runtime.ready, end)
	own := cause{took: b.waited(n.runtime.started, ready), slow: "runtime init", init: true, lane: Runtime, kinds: []BarKind{BarInit}}
	own.what = "the runtime's init took " + ms(own.took)
	all = append(all, own)

	gate := b.slowest(n, func(p *partyInit) time.Time { return p.registered }, n.runtime.started)
	late := b.slowest(n, func(p *partyInit) time.Time { return p.ready }, time.Time{})
	gated, lated := b.waited(n.begin, n.runtime.started), b.waited(ready, end)
	extension := func(name string) cause {
		return cause{slow: "init of " + name, init: true, lane: Extension, party: name, kinds: []BarKind{BarInit, BarStarting, BarReadying}}
	}
	if gate != "" && gate == late && lated > 0 {
		c := extension(gate)
		c.took = gated + lated
		c.what = fmt.Sprintf("extension %s took %s to register, and was ready %s after the runtime", gate, ms(gated), ms(lated))
		return append(all, c)
	}
	if gate != "" {
		c := extension(gate)
		c.took, c.kinds = gated, []BarKind{BarInit, BarStarting}
		c.what = fmt.Sprintf("extension %s took %s to register", gate, ms(gated))
		all = append(all, c)
	}
	if late != "" && lated > 0 {
		c := extension(late)
		c.took, c.kinds = lated, []BarKind{BarInit, BarReadying}
		c.what = fmt.Sprintf("extension %s was ready %s after the runtime", late, ms(lated))
		all = append(all, c)
	}
	return all
}

// blame marks the bars that show a cause.
func (b *builder) blame(lane LaneKind, party string, kinds []BarKind) {
	for i := range b.t.Lanes {
		l := &b.t.Lanes[i]
		if l.Kind != lane || party != "" && clean(l.Name) != party {
			continue
		}
		for j := range l.Bars {
			bar := &l.Bars[j]
			if !slices.Contains(kinds, bar.Kind) && !slices.ContainsFunc(bar.Parts, func(p Bar) bool { return slices.Contains(kinds, p.Kind) }) {
				continue
			}
			if len(bar.Parts) == 0 {
				bar.Blamed = true
			}
			for k := range bar.Parts {
				bar.Parts[k].Blamed = bar.Parts[k].Blamed || slices.Contains(kinds, bar.Parts[k].Kind)
			}
		}
	}
}

// slowest is the external extension with the latest of a time, not after a
// limit when there is one.
func (b *builder) slowest(n *initFacts, of func(*partyInit) time.Time, limit time.Time) (name string) {
	var latest time.Time
	for i := range n.parties {
		p := &n.parties[i]
		at := of(p)
		if at.IsZero() || !limit.IsZero() && (p.started.IsZero() || at.After(limit)) {
			continue
		}
		if name == "" || at.After(latest) {
			name, latest = clean(p.name), at
		}
	}
	return name
}

// longestCall is the longest of the X-Ray segments that call another service,
// or of those at the top.
func (b *builder) longestCall() (name string, d Offset) {
	remote := slices.ContainsFunc(b.in.Segments, func(s Segment) bool { return s.Namespace != "" })
	for i := range b.in.Segments {
		s := &b.in.Segments[i]
		if s.End.IsZero() || remote && s.Namespace == "" {
			continue
		}
		if took := b.offset(s.End) - b.offset(s.Start); took > d {
			name, d = clean(s.Name), took
		}
	}
	return name, d
}

// verdict says in a sentence what made the invocation slow, and in a few
// words for tables; it marks the bars that show it.
func (b *builder) verdict() (sentence, slow string) {
	if b.start.IsZero() {
		return b.verdictOfInit()
	}
	causes := b.causes()
	main := slices.MaxFunc(causes, func(x, y cause) int { return cmp.Compare(x.took, y.took) })
	d := &b.t.Durations
	slow = main.slow + " " + ms(cmp.Or(main.part, main.took))
	party, runtime := b.lastParty()
	switch {
	case b.report.IsZero():
		return "still running after " + ms(b.t.End-b.offset(b.start)) + b.running(), "running"
	case b.status == lifecycle.StatusTimeout && (b.answered.IsZero() || b.gaveUp):
		sentence = fmt.Sprintf("timed out after %s: the function had not answered", ms(d.Total))
		if main.init {
			sentence = fmt.Sprintf("timed out, the caller waited %s: %s", ms(d.Caller), main.what)
		}
		slow = "timeout"
	case b.status == lifecycle.StatusTimeout:
		sentence = fmt.Sprintf("timed out after %s: %s had not finished; the caller had its answer after %s", ms(d.Total), b.unfinished(), ms(d.Caller))
		slow = "timeout of " + b.unfinished()
		b.blameTails(func(t *tail) bool { return t.end.IsZero() })
		return sentence, slow
	default:
		sentence = b.sentence(causes, main)
		if d.Tail > d.Caller && d.Tail > tailShown {
			slow = party + " " + ms(d.Tail)
			if runtime {
				b.blame(Runtime, "", []BarKind{BarOverhead})
			} else {
				b.blameTails(func(t *tail) bool { return "extension "+clean(t.name) == party })
			}
			return sentence, slow
		}
	}
	b.blame(main.lane, main.party, main.kinds)
	return sentence, slow
}

func (b *builder) blameTails(of func(*tail) bool) {
	for i := range b.tails {
		if of(&b.tails[i]) {
			b.blame(Extension, clean(b.tails[i].name), []BarKind{BarTail, BarExtension})
		}
	}
}

// verdictOfInit is for an environment that did not come to an invocation.
func (b *builder) verdictOfInit() (sentence, slow string) {
	if len(b.inits) == 0 {
		return "nothing has run yet", ""
	}
	n := &b.inits[len(b.inits)-1]
	switch {
	case n.end.IsZero():
		return "init has been running for " + ms(b.t.End-b.offset(n.begin)), "init running"
	case n.failed():
		return fmt.Sprintf("init ended in %s%s after %s", clean(n.status), because(n.errorType), ms(b.offset(n.end)-b.offset(n.begin))), "init failed"
	}
	return "init took " + ms(b.offset(n.end)-b.offset(n.begin)), "init"
}

// sentence is the verdict on an invocation that ended by itself.
func (b *builder) sentence(causes []cause, main cause) string {
	d := &b.t.Durations
	var s strings.Builder
	if b.failed() {
		fmt.Fprintf(&s, "failed%s: ", because(b.errorType))
	}
	cold := Offset(0)
	for _, c := range causes {
		if c.init {
			cold += c.took
		}
	}
	switch {
	case main.init && b.t.Cold:
		fmt.Fprintf(&s, "cold start %s: %s", ms(cold), main.what)
	case cold > 0 && b.t.Cold:
		fmt.Fprintf(&s, "the caller waited %s: %s, after a cold start of %s", ms(d.Caller), main.what, ms(cold))
	case main.lane == Runtime && len(main.kinds) > 1:
		fmt.Fprintf(&s, "the caller waited %s for the function", ms(d.Caller))
	default:
		fmt.Fprintf(&s, "the caller waited %s: %s", ms(d.Caller), main.what)
	}
	if d.Tail > tailShown && d.Tail > d.Caller/10 {
		party, _ := b.lastParty()
		fmt.Fprintf(&s, "; the environment was busy %s more for %s", ms(d.Tail), party)
	}
	return s.String()
}

// tailShown is the shortest time after the answer that the verdict mentions.
const tailShown = Offset(5 * time.Millisecond)

// lastParty is who was through last: "extension logger", "the runtime".
func (b *builder) lastParty() (name string, runtime bool) {
	for _, w := range b.t.Waits {
		if w.Phase == "invoke" && !w.Runtime {
			return "extension " + clean(w.Party), false
		}
	}
	return "the runtime", true
}

// unfinished is who had not called next when the time was over.
func (b *builder) unfinished() string {
	if b.runtimeDone.IsZero() || b.runtimeStatus == lifecycle.StatusTimeout {
		return "the runtime"
	}
	var names []string
	for _, t := range b.tails {
		if t.end.IsZero() {
			names = append(names, clean(t.name))
		}
	}
	switch len(names) {
	case 0:
		name, _ := b.lastParty()
		return name
	case 1:
		return "extension " + names[0]
	}
	return "extensions " + strings.Join(names[:min(len(names), 5)], ", ")
}

// running is who is awaited now.
func (b *builder) running() string {
	switch {
	case b.answered.IsZero() && b.runtimeDone.IsZero():
		return ": the function has not answered yet"
	case b.runtimeDone.IsZero():
		return ": the caller has its answer, the runtime has not come back"
	}
	return ": the caller has its answer, " + b.unfinished() + " has not come back"
}

func because(errorType string) string {
	if errorType == "" {
		return ""
	}
	return " (" + clean(errorType) + ")"
}
