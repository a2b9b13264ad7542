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
	d.Total = between(b.start, b.report)
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
		done = append(done, finish{name: t.name, at: end})
	}
	add(b.lastOf("invoke", b.start, done))
	return waits
}

// cause is something that took a part of the caller's time.
type cause struct {
	took Offset
	what string // "the runtime's init took", "the function took"
	slow string // the same in a word or two
	init bool
}

// causes are the parts of the caller's wait, without overlap.
func (b *builder) causes() (all []cause) {
	from := b.offset(b.asked)
	// took is how much of a time the caller waited for.
	took := func(begin, end time.Time) Offset {
		if begin.IsZero() || end.IsZero() {
			return 0
		}
		return max(0, b.offset(end)-max(from, b.offset(begin)))
	}
	if d := b.t.Durations.Prepare; d > 0 {
		all = append(all, cause{took: d, what: "finding or making the environment took", slow: "environment", init: len(b.inits) > 0})
	}
	for i := range b.inits {
		n := &b.inits[i]
		end := cmp.Or(n.end, b.start, b.end)
		if n.failed() {
			all = append(all, cause{took: took(n.begin, end), what: "an init that ended in " + n.status + because(n.errorType) + " took", slow: "init failed", init: true})
			continue
		}
		ready := cmp.Or(n.runtime.ready, end)
		if n.runtime.started.IsZero() {
			all = append(all, cause{took: took(n.begin, end), what: "the init took", slow: "init", init: true})
			continue
		}
		gate := b.slowest(n, func(p *partyInit) time.Time { return p.registered }, n.runtime.started)
		if gate != "" {
			all = append(all, cause{took: took(n.begin, n.runtime.started), what: fmt.Sprintf("extension %s took until it registered", gate), slow: "init of " + gate, init: true})
		}
		all = append(all, cause{took: took(n.runtime.started, ready), what: "the runtime's init took", slow: "runtime init", init: true})
		if late := b.slowest(n, func(p *partyInit) time.Time { return p.ready }, time.Time{}); late != "" && end.After(ready) {
			all = append(all, cause{took: took(ready, end), what: fmt.Sprintf("extension %s was ready later than the runtime by", late), slow: "init of " + late, init: true})
		}
	}
	if done := cmp.Or(b.answered, b.runtimeDone, b.report); !b.start.IsZero() {
		c := cause{took: took(b.start, cmp.Or(done, b.end)), what: "the function took", slow: "function"}
		if name, d := b.longestCall(); name != "" && d > c.took/2 {
			c.what = fmt.Sprintf("%s of it in %s; the function took", ms(d), name)
			c.slow = name
		}
		all = append(all, c)
	}
	return all
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
// words for tables.
func (b *builder) verdict() (sentence, slow string) {
	if b.start.IsZero() {
		return b.verdictOfInit()
	}
	causes := b.causes()
	main := slices.MaxFunc(causes, func(x, y cause) int { return cmp.Compare(x.took, y.took) })
	d := &b.t.Durations
	slow = main.slow + " " + ms(main.took)
	switch {
	case b.report.IsZero():
		sentence = "still running after " + ms(b.t.End-b.offset(b.start)) + b.running()
		slow = "running"
	case b.status == lifecycle.StatusTimeout && b.answered.IsZero():
		sentence = fmt.Sprintf("timed out after %s: the function had not answered", ms(d.Total))
		if main.init && b.inits[len(b.inits)-1].end.After(b.asked) {
			sentence = fmt.Sprintf("timed out: %s %s of the caller's %s", main.what, ms(main.took), ms(d.Caller))
		}
		slow = "timeout"
	case b.status == lifecycle.StatusTimeout:
		sentence = fmt.Sprintf("timed out after %s: %s had not finished; the caller had its answer after %s", ms(d.Total), b.unfinished(), ms(d.Caller))
		slow = "timeout of " + b.unfinished()
	default:
		sentence = b.sentence(causes, main)
		if tail, party := d.Tail, b.lastParty(); tail > d.Caller {
			slow = party + " " + ms(tail)
		}
	}
	return sentence, slow
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
		return fmt.Sprintf("init ended in %s%s after %s", n.status, because(n.errorType), ms(b.offset(n.end)-b.offset(n.begin))), "init failed"
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
		fmt.Fprintf(&s, "cold start %s: %s %s", ms(cold), main.what, ms(main.took))
	case cold > 0 && b.t.Cold:
		fmt.Fprintf(&s, "the caller waited %s: %s %s, after a cold start of %s", ms(d.Caller), main.what, ms(main.took), ms(cold))
	case main.slow == "function":
		fmt.Fprintf(&s, "the caller waited %s for the function", ms(d.Caller))
		if d.Response > d.Caller/2 {
			fmt.Fprintf(&s, ", %s of it for the body of the answer", ms(d.Response))
		}
	default:
		fmt.Fprintf(&s, "the caller waited %s: %s %s", ms(d.Caller), main.what, ms(main.took))
	}
	if d.Tail > tailShown && d.Tail > d.Caller/10 {
		fmt.Fprintf(&s, "; the environment was busy %s more for %s", ms(d.Tail), b.lastParty())
	}
	return s.String()
}

// tailShown is the shortest time after the answer that the verdict mentions.
const tailShown = Offset(5 * time.Millisecond)

// lastParty is who was through last: "extension logger", "the runtime".
func (b *builder) lastParty() string {
	for _, w := range b.t.Waits {
		if w.Phase == "invoke" && !w.Runtime {
			return "extension " + clean(w.Party)
		}
	}
	return "the runtime"
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
		return b.lastParty()
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
