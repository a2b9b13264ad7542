package timeline

import (
	"slices"
	"time"

	"github.com/firn-run/firn/internal/lifecycle"
)

// facts are the times that the records tell, before anything is drawn. A zero
// time is one that they do not tell.
type facts struct {
	inits []initFacts

	start, answered, runtimeDone, report time.Time
	version                              string
	traceHeader                          string
	spans                                []lifecycle.Span
	runtimeStatus, runtimeError          string
	runtimeSeen, gaveUp                  bool
	status, errorType                    string
	fatal                                bool
	billedMs                             int64
	durationMs                           float64

	tails []tail

	marks     []fact
	downs     []shutdown
	last      time.Time // of all records
	extension []lifecycle.Extension
}

// initFacts is one init; there are several when the first one failed.
type initFacts struct {
	begin, end        time.Time
	phase             string
	kind              string // "on-demand", ...
	status, errorType string
	runtime           partyInit
	parties           []partyInit // the extensions, in the order of their start
}

// partyInit is what one party did in an init.
type partyInit struct {
	name                             string
	started, registered, ready, gone time.Time
	failed                           bool
	errorType                        string
}

// tail is an extension's work on the event.
type tail struct {
	name string
	end  time.Time // zero: it had not called next
}

// shutdown is a reset or the end of the environment.
type shutdown struct {
	begin, end time.Time
	reason     string
	parties    []partyEnd
}

type partyEnd struct {
	name       string // "runtime", or an extension's
	begin, end time.Time
	killed     bool
}

type fact struct {
	kind   MarkKind
	at     time.Time
	detail string
}

// maxInits and maxMarks bound what one invocation shows: an environment whose
// init fails is asked again and again, and one may freeze often.
const (
	maxInits  = 8
	maxMarks  = 64
	maxDowns  = 8
	maxParty  = 32 // Lambda allows 10 extensions
	maxBefore = 366 * 24 * time.Hour
)

// read goes through the records once.
func read(in *Input) *facts {
	f := &facts{version: in.Version, traceHeader: in.TraceHeader, extension: in.Extensions}
	fresh := false
	for _, rec := range in.Records {
		at := rec.When()
		if at.After(f.last) {
			f.last = at
		}
		switch r := rec.(type) {
		case lifecycle.InitStart:
			if len(f.inits) < maxInits {
				f.inits = append(f.inits, initFacts{begin: at, phase: r.Phase, kind: r.InitializationType})
			}
			fresh = false
		case lifecycle.Extension:
			if !fresh {
				f.extension, fresh = nil, true
			}
			if len(f.extension) < maxParty {
				f.extension = append(f.extension, r)
			}
			f.extensionState(r)
		case lifecycle.InitRuntimeDone:
			f.initRuntimeDone(r)
		case lifecycle.InitReport:
			if n := f.init(); n != nil && n.end.IsZero() {
				n.status, n.errorType = r.Status, r.ErrorType
				n.end = initEnd(n, r)
			}
		case lifecycle.Start:
			f.start, f.version = at, r.Version
			if r.TraceID != "" {
				f.traceHeader = r.TraceID
			}
			f.tails = f.tails[:0]
			for _, e := range f.extension {
				if slices.Contains(e.Events, "INVOKE") {
					f.tails = append(f.tails, tail{name: e.Name})
				}
			}
		case lifecycle.RuntimeDone:
			f.runtimeDone, f.spans, f.runtimeSeen = at, r.Spans, true
			f.runtimeStatus, f.runtimeError = r.Status, r.ErrorType
		case lifecycle.Report:
			f.report, f.status, f.errorType, f.fatal = at, r.Status, r.ErrorType, r.Fatal
			f.billedMs, f.durationMs = r.Metrics.BilledDurationMs, r.Metrics.DurationMs
		case lifecycle.Phase:
			f.step(r)
		}
	}
	return f
}

// init is the init that the last records belong to.
func (f *facts) init() *initFacts {
	if len(f.inits) == 0 || !f.start.IsZero() {
		return nil
	}
	return &f.inits[len(f.inits)-1]
}

// initEnd is the time of an init's end. The report of a provisioned init is
// held back until the first invocation, so that its duration counts rather
// than its time.
func initEnd(n *initFacts, r lifecycle.InitReport) time.Time {
	ms := r.Metrics.DurationMs
	if !(ms >= 0 && ms < longest) {
		return r.When()
	}
	if end := n.begin.Add(time.Duration(ms * 1e6)); end.Before(r.When()) {
		return end
	}
	return r.When()
}

func (f *facts) extensionState(r lifecycle.Extension) {
	n := f.init()
	if n == nil || r.ErrorType == "" {
		return
	}
	if p := n.party(r.Name); p != nil {
		p.failed, p.errorType = true, r.ErrorType
	}
}

func (f *facts) initRuntimeDone(r lifecycle.InitRuntimeDone) {
	n := f.init()
	if n == nil {
		return
	}
	if r.Status != lifecycle.StatusSuccess {
		n.runtime.failed, n.runtime.errorType = true, r.ErrorType
		n.runtime.gone = r.When()
	}
	// The record comes with the end of the whole init, the step "runtime
	// ready" at the time itself: without the step the time is not known.
}

// party finds or makes an extension of the init.
func (n *initFacts) party(name string) *partyInit {
	for i := range n.parties {
		if n.parties[i].name == name {
			return &n.parties[i]
		}
	}
	if len(n.parties) == maxParty {
		return nil
	}
	n.parties = append(n.parties, partyInit{name: name})
	return &n.parties[len(n.parties)-1]
}

// step takes one of firn's own records.
func (f *facts) step(r lifecycle.Phase) {
	at, init := r.When(), f.init()
	switch r.Name {
	case lifecycle.PhaseExtensionStarted, lifecycle.PhaseExtensionRegistered:
		if init == nil {
			return
		}
		if p := init.party(r.Detail); p != nil {
			if r.Name == lifecycle.PhaseExtensionStarted {
				p.started = at
			} else {
				p.registered = at
			}
		}
	case lifecycle.PhaseExtensionReady:
		if init != nil {
			if p := init.party(r.Detail); p != nil && p.ready.IsZero() {
				p.ready = at
			}
		} else if f.report.IsZero() && !f.start.IsZero() {
			f.tailEnd(r.Detail, at)
		}
	case lifecycle.PhaseRuntimeStarted:
		if init != nil {
			init.runtime.started = at
		}
	case lifecycle.PhaseRuntimeReady:
		if init != nil && init.runtime.ready.IsZero() {
			init.runtime.ready = at
		}
	case lifecycle.PhaseAnswered:
		if !f.start.IsZero() && f.answered.IsZero() {
			f.answered = at
			// An answer that the function did not give comes after the end of
			// its runtime, and is an error of the platform's.
			f.gaveUp = f.runtimeSeen && f.runtimeStatus != lifecycle.StatusSuccess
		}
	case lifecycle.PhaseFrozen:
		f.mark(MarkFrozen, at, "")
	case lifecycle.PhaseThawed:
		f.mark(MarkThawed, at, "")
	default:
		f.down(r)
	}
}

// tailEnd says that an extension has called next; the first time counts.
func (f *facts) tailEnd(name string, at time.Time) {
	for i := range f.tails {
		if f.tails[i].name == name {
			if f.tails[i].end.IsZero() {
				f.tails[i].end = at
			}
			return
		}
	}
	if len(f.tails) < maxParty {
		f.tails = append(f.tails, tail{name: name, end: at})
	}
}

func (f *facts) mark(kind MarkKind, at time.Time, detail string) {
	if len(f.marks) < maxMarks {
		f.marks = append(f.marks, fact{kind, at, detail})
	}
}

// down takes the steps of a shutdown.
func (f *facts) down(r lifecycle.Phase) {
	at := r.When()
	if r.Name == lifecycle.PhaseShutdown || r.Name == lifecycle.PhaseReset && len(f.downs) == 0 {
		if len(f.downs) < maxDowns {
			f.downs = append(f.downs, shutdown{begin: at, reason: r.Detail})
		}
	}
	if len(f.downs) == 0 {
		return
	}
	d := &f.downs[len(f.downs)-1]
	d.end = at
	switch r.Name {
	case lifecycle.PhaseSigterm, lifecycle.PhaseShutdownEvent:
		d.party(r.Detail, at)
	case lifecycle.PhaseSigkill:
		if p := d.party(r.Detail, at); p != nil {
			p.killed = true
		}
	case lifecycle.PhaseExtensionExited, lifecycle.PhaseShutdownFailed:
		if p := d.party(r.Detail, at); p != nil {
			p.end = at
			p.killed = p.killed || r.Name == lifecycle.PhaseShutdownFailed
		}
	case lifecycle.PhaseReset:
		f.mark(MarkReset, at, d.reason)
	}
}

func (d *shutdown) party(name string, at time.Time) *partyEnd {
	for i := range d.parties {
		if d.parties[i].name == name {
			return &d.parties[i]
		}
	}
	if len(d.parties) == maxParty {
		return nil
	}
	d.parties = append(d.parties, partyEnd{name: name, begin: at})
	return &d.parties[len(d.parties)-1]
}
