package environment

import (
	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/lifecycle"
)

// emitLocked hands out a record of the machine. What was written before it
// comes before it: the lines of the runtime before runtimeDone, those of all
// before the report.
func (e *Environment) emitLocked(rec lifecycle.Record) {
	requestID, tail := "", false
	f := e.flight
	if f != nil && ofInvocation(rec) {
		requestID, tail = f.inv.RequestID, f.inv.LogTail
	}
	switch r := rec.(type) {
	case lifecycle.InitRuntimeDone:
		e.drainLocked()
	case lifecycle.RuntimeDone:
		e.drainLocked()
		if f != nil && f.relay != nil && r.Metrics != nil && r.Metrics.ProducedBytes == 0 {
			// A stream that was not ended by its runtime.
			r.Metrics.ProducedBytes = f.relay.produced.Load()
		}
	case lifecycle.Report:
		e.drainLocked()
		r.Metrics.MaxMemoryUsedMB = e.peakMemoryLocked()
		e.out.record(requestID, r, tail)
		if f != nil {
			f.reported = true
			e.giveHeldLocked(f)
		}
		return
	}
	e.out.record(requestID, rec, tail)
}

// ofInvocation says whether a record belongs to the invocation in flight: one
// that waits for Init is not begun.
func ofInvocation(rec lifecycle.Record) bool {
	switch r := rec.(type) {
	case lifecycle.Start, lifecycle.RuntimeDone, lifecycle.Report:
		return true
	case lifecycle.InitStart:
		return r.Phase == lifecycle.PhaseInvoke
	case lifecycle.InitRuntimeDone:
		return r.Phase == lifecycle.PhaseInvoke
	case lifecycle.InitReport:
		return r.Phase == lifecycle.PhaseInvoke
	case lifecycle.Phase:
		return r.Name == lifecycle.PhaseAnswered // of a failure it comes after the report
	}
	return false
}

// noteLocked hands out a record of what only the driver knows.
func (e *Environment) noteLocked(name, detail string) {
	e.emitLocked(lifecycle.Phase{Stamp: lifecycle.Stamp{Time: e.cfg.Now()}, Name: name, Detail: detail})
}

// peakMemoryLocked reads the highest memory use of the invocation that ends,
// in MB rounded up, and begins anew for the next one: nothing runs for it
// before it begins, and reading now costs no caller time.
func (e *Environment) peakMemoryLocked() int {
	usage, err := e.box.Usage()
	if err != nil {
		e.cfg.Logger.Warn("read memory use", "error", err)
		return 0
	}
	if err := e.box.ResetPeak(); err != nil {
		e.cfg.Logger.Warn("reset peak memory", "error", err)
	}
	return int((usage.Peak + firn.MiB - 1) / firn.MiB)
}
