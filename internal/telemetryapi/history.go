package telemetryapi

import (
	"bytes"
	"time"

	"github.com/firn-run/firn/internal/lifecycle"
	"github.com/firn-run/firn/internal/telemetry"
)

// The bounds of what is kept of an init for those who subscribe late.
const (
	maxHistoryBytes   = 1 << 20 // of the lines' text
	maxHistoryLines   = 4096
	maxHistoryRecords = 512 // platform records
)

// Reasons of platform.logsDropped. The first is AWS's.
const (
	reasonSlow    = "Consumer seems to have fallen behind as it has not acknowledged receipt of logs."
	reasonHistory = "The init phase produced more than is kept for a subscription that comes late."
)

// loss counts what did not reach a subscriber.
type loss struct{ records, bytes int64 }

func (l *loss) add(n int) { l.records++; l.bytes += int64(n) }

func (l *loss) record(reason string) lifecycle.LogsDropped {
	return lifecycle.LogsDropped{Stamp: lifecycle.Stamp{Time: time.Now()}, Reason: reason, DroppedRecords: l.records, DroppedBytes: l.bytes}
}

// happening is one thing that happened: a platform record, a line, or the
// place in the history from which on some are missing.
type happening struct {
	rec  lifecycle.Record // nil for a line
	line telemetry.Line
	gap  bool
}

func (w *happening) stream() streams {
	switch {
	case w.rec != nil || w.gap:
		return streamPlatform
	case w.line.Extension != "":
		return streamExtension
	}
	return streamFunction
}

// history is what happened since BeginInit, in order and within bounds.
type history struct {
	items   []happening
	bytes   int
	lines   int
	records int
	lost    map[streams]loss // beyond the bounds
	gapping bool             // items has its gap
}

func (h *history) add(w happening) {
	if w.rec != nil {
		if h.records >= maxHistoryRecords {
			h.lose(&w, 0)
			return
		}
		h.items = append(h.items, w)
		h.records++
		return
	}
	n := len(w.line.Text)
	if h.lines >= maxHistoryLines || h.bytes+n > maxHistoryBytes {
		h.lose(&w, n)
		return
	}
	w.line.Text = bytes.Clone(w.line.Text)
	h.items = append(h.items, w)
	h.lines++
	h.bytes += n
}

func (h *history) lose(w *happening, n int) {
	if !h.gapping {
		h.gapping = true
		h.items = append(h.items, happening{gap: true})
	}
	if h.lost == nil {
		h.lost = make(map[streams]loss, 3)
	}
	l := h.lost[w.stream()]
	l.add(n)
	h.lost[w.stream()] = l
}

// lostOf sums what is missing of some streams.
func (h *history) lostOf(of streams) loss {
	var sum loss
	for stream, l := range h.lost {
		if stream&of != 0 {
			sum.records += l.records
			sum.bytes += l.bytes
		}
	}
	return sum
}
