package lifecycle

import (
	"strings"
	"time"
)

// initRecords tells the end of an init in the order of section 4: extensions,
// runtime, report. f is nil on success.
func (m *Machine) initRecords(f *fault) {
	for i := range m.extensions {
		e := &m.extensions[i]
		events := e.events
		if events == nil {
			events = []string{}
		}
		at := m.now
		if e.state == extensionReady {
			at = e.readyAt
		}
		m.emit(Extension{Stamp: Stamp{at}, Name: e.name, State: e.state.String(), Events: events, ErrorType: e.errorType})
	}
	status, errorType := f.status()
	phase := m.initPhase()
	var trace *Trace
	if phase == PhaseInvoke {
		trace = m.invocation.trace
	}
	done := InitRuntimeDone{Stamp: m.stamp(), InitializationType: m.cfg.InitializationType, Phase: phase, Status: status, ErrorType: errorType, Tracing: trace}
	if !m.runtimeReadyAt.IsZero() { // even if another party failed
		done.Time, done.Status, done.ErrorType = m.runtimeReadyAt, StatusSuccess, ""
	}
	m.emit(done)
	report := InitReport{
		Stamp:              m.stamp(),
		InitializationType: m.cfg.InitializationType,
		Phase:              phase,
		Status:             status,
		ErrorType:          errorType,
		Metrics:            InitMetrics{DurationMs: milliseconds(m.now.Sub(m.initStarted))},
		Tracing:            trace,
	}
	if f == nil && phase == PhaseInit && m.cfg.InitializationType != onDemand {
		m.initReport = &report
		return
	}
	m.emit(report)
}

// lateInitReport emits the report that provisioned concurrency holds back
// until its first invocation.
func (m *Machine) lateInitReport() {
	if m.initReport != nil {
		m.emit(*m.initReport)
		m.initReport = nil
	}
}

// startRecord opens the records of an invocation; after a suppressed init it
// follows that init's records.
func (m *Machine) startRecord() {
	m.lateInitReport()
	m.emit(Start{Stamp: m.stamp(), RequestID: m.invocation.RequestID, Version: m.cfg.FunctionVersion, Tracing: m.invocation.trace,
		InvokedARN: m.invocation.ARN, TraceID: m.invocation.TraceID})
}

// outcome is what the records say of an invocation: a fatal error, or else
// what the function itself reported.
func (inv *invocation) outcome(f *fault) (status, errorType string) {
	if f != nil {
		return f.status()
	}
	if inv.status == "" {
		return StatusSuccess, ""
	}
	return inv.status, inv.errorType
}

// end is the time that durations are counted to: now, but not beyond the
// deadline when that was the cause of the end, however late its timer fired.
func (inv *invocation) end(now time.Time, status string) time.Time {
	if status == StatusTimeout && now.After(inv.deadline) {
		return inv.deadline
	}
	return now
}

// runtimeDone emits platform.runtimeDone, once per invocation.
func (m *Machine) runtimeDone(f *fault) {
	inv := &m.invocation
	if inv.runtimeDone {
		return
	}
	inv.runtimeDone = true
	inv.runtimeDoneAt = m.now
	r := RuntimeDone{Stamp: m.stamp(), RequestID: inv.RequestID, Tracing: inv.trace}
	r.Status, r.ErrorType = inv.outcome(f)
	if !inv.delivered.IsZero() {
		r.Metrics = &RuntimeDoneMetrics{DurationMs: milliseconds(inv.end(m.now, r.Status).Sub(inv.delivered)), ProducedBytes: inv.producedBytes}
	}
	r.Spans = inv.spans(m.now)
	m.emit(r)
}

// spans are the parts of the runtime's work as far as it got.
func (inv *invocation) spans(now time.Time) []Span {
	if inv.responseAt.IsZero() {
		return nil
	}
	spans := make([]Span, 1, 3)
	spans[0] = span("responseLatency", inv.delivered, inv.responseAt)
	if !inv.respondedAt.IsZero() {
		spans = append(spans,
			span("responseDuration", inv.responseAt, inv.respondedAt),
			span("runtimeOverhead", inv.respondedAt, now))
	}
	return spans
}

func span(name string, from, to time.Time) Span {
	return Span{Name: name, Start: from, DurationMs: milliseconds(to.Sub(from))}
}

// report emits platform.report, the last record of an invocation. Time spent
// in the shutdown of a reset is not in it.
func (m *Machine) report(f *fault) {
	inv := &m.invocation
	r := Report{Stamp: m.stamp(), RequestID: inv.RequestID, Tracing: inv.trace, Fatal: f != nil, InvokedARN: inv.ARN, TraceID: inv.TraceID}
	r.Status, r.ErrorType = inv.outcome(f)
	duration := inv.end(m.now, r.Status).Sub(inv.started)
	r.Metrics = ReportMetrics{
		DurationMs:       milliseconds(duration),
		BilledDurationMs: billed(duration + m.initDuration),
		MemorySizeMB:     m.cfg.InstanceMaxMemoryMB,
		InitDurationMs:   milliseconds(m.initDuration),
	}
	m.initDuration = 0
	end := inv.end(m.now, r.Status)
	if tail := f == nil || end.After(inv.runtimeDoneAt); tail && len(m.extensions) > 0 {
		r.Spans = []Span{span("extensionOverhead", inv.runtimeDoneAt, end)}
	}
	m.emit(r)
}

// billed rounds up to whole milliseconds, at least one.
func billed(d time.Duration) int64 {
	ms := (d.Truncate(time.Microsecond) + time.Millisecond - 1) / time.Millisecond
	return max(1, int64(ms))
}

// tracing is the trace context of records: told only when the root is known
// and the request is sampled (section 13). The span is the parent of what the
// function does.
func tracing(value string) *Trace {
	if value == "" {
		return nil
	}
	var root, sampled bool
	t := Trace{Type: "X-Amzn-Trace-Id", Value: value}
	for field := range strings.SplitSeq(value, ";") {
		switch key, v, _ := strings.Cut(strings.TrimSpace(field), "="); key {
		case "Root":
			root = v != ""
		case "Parent":
			t.SpanID = v
		case "Sampled":
			sampled = v == "1"
		}
	}
	if !root || !sampled {
		return nil
	}
	return &t
}
