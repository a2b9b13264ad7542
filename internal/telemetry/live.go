package telemetry

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firn-run/firn/internal/lifecycle"
)

// Style is how the live view is written.
type Style int

const (
	// Plain is text without escape sequences, for pipes and files.
	Plain Style = iota
	// Colour is text for a terminal.
	Colour
	// JSON is one object a line.
	JSON
)

// liveRing bounds what waits for a slow terminal; beyond it lines are dropped
// and counted, since an invocation never waits for its own log.
const liveRing = 4096

// Live writes what environments say as a readable stream, one line per
// lifecycle event and per line of output. It is a Sink; Close flushes.
type Live struct {
	out     io.Writer
	style   Style
	lines   chan []byte
	dropped atomic.Int64
	done    chan struct{}

	mu     sync.RWMutex // guards closed against a send on a closed channel
	closed bool
}

// NewLive starts the writer; the caller closes it.
func NewLive(out io.Writer, style Style) *Live {
	l := &Live{out: out, style: style, lines: make(chan []byte, liveRing), done: make(chan struct{})}
	go l.write()
	return l
}

// Close writes what is queued and waits for it.
func (l *Live) Close() error {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.lines)
	}
	l.mu.Unlock()
	<-l.done
	return nil
}

func (l *Live) write() {
	defer close(l.done)
	for line := range l.lines {
		l.out.Write(line)
		if n := l.dropped.Swap(0); n > 0 {
			fmt.Fprintf(l.out, "… %d lines of the live view dropped: the reader is too slow\n", n)
		}
	}
}

func (l *Live) send(line []byte) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return
	}
	select {
	case l.lines <- line:
	default:
		l.dropped.Add(1)
	}
}

// Record implements Sink.
func (l *Live) Record(src *Source, requestID string, rec lifecycle.Record) {
	if l.style == JSON {
		l.sendJSON(src, requestID, rec.When(), rec.RecordType(), rec)
		return
	}
	mark, text := describe(rec)
	if text == "" {
		return
	}
	l.send(l.format(src, rec.When(), mark, printable(text))) // names are the extensions' own
}

// Line implements Sink.
func (l *Live) Line(src *Source, line Line) {
	kind := "function"
	if line.Extension != "" {
		kind = "extension"
	}
	if l.style == JSON {
		l.sendJSON(src, line.RequestID, line.Time, kind, struct {
			Name string `json:"name,omitempty"`
			Line string `json:"line"`
		}{line.Extension, string(line.Text)})
		return
	}
	// Managed runtimes write a line's inner line ends as carriage returns.
	text := strings.ReplaceAll(strings.TrimRight(string(line.Text), "\r"), "\r", " ↵ ")
	if line.Extension != "" {
		text = "[" + line.Extension + "] " + text
	}
	l.send(l.format(src, line.Time, markOutput, printable(text)))
}

func (l *Live) sendJSON(src *Source, requestID string, at time.Time, kind string, record any) {
	line, err := json.Marshal(struct {
		Time        time.Time `json:"time"`
		Type        string    `json:"type"`
		Function    string    `json:"function"`
		Version     string    `json:"version"`
		Environment string    `json:"environment"`
		RequestID   string    `json:"requestId,omitempty"`
		Record      any       `json:"record"`
	}{at.UTC(), kind, src.Function, src.Version, src.Environment, requestID, record})
	if err != nil {
		return // only a record that cannot be encoded; none of ours is
	}
	l.send(append(line, '\n'))
}

// mark is what a line is about; it chooses the sign and the colour.
type mark int

const (
	markOutput mark = iota
	markPhase
	markGood
	markBad
)

func (m mark) sign() string { return [...]string{"│", "·", "✓", "✗"}[m] }

func (m mark) colour() string { return [...]string{"", "\x1b[2m", "\x1b[32m", "\x1b[31m"}[m] }

// format lays one line out: time, function, environment, sign, text.
func (l *Live) format(src *Source, at time.Time, m mark, text string) []byte {
	name := src.Function
	if src.Version != "$LATEST" {
		name += ":" + src.Version
	}
	head := fmt.Sprintf("%s  %-16s %-8s ", at.Local().Format("15:04:05.000"), name, src.Environment)
	if l.style == Colour {
		return []byte("\x1b[2m" + head + "\x1b[0m" + m.colour() + m.sign() + " " + text + "\x1b[0m\n")
	}
	return []byte(head + m.sign() + " " + text + "\n")
}

// describe says a record in one readable line; "" when it adds nothing.
func describe(rec lifecycle.Record) (mark, string) {
	switch r := rec.(type) {
	case lifecycle.InitStart:
		if r.Phase == lifecycle.PhaseInvoke {
			return markPhase, "init again, inside the invocation"
		}
		return markPhase, "init"
	case lifecycle.Extension:
		return markPhase, fmt.Sprintf("extension %s %s [%s]%s", r.Name, strings.ToLower(r.State), strings.Join(r.Events, " "), because(r.ErrorType))
	case lifecycle.InitRuntimeDone:
		if r.Status == lifecycle.StatusSuccess {
			return markPhase, "runtime ready"
		}
		return markBad, "runtime init " + r.Status + because(r.ErrorType)
	case lifecycle.InitReport:
		if r.Status == lifecycle.StatusSuccess {
			return markPhase, fmt.Sprintf("init done in %.2f ms", r.Metrics.DurationMs)
		}
		return markBad, fmt.Sprintf("init %s after %.2f ms%s", r.Status, r.Metrics.DurationMs, because(r.ErrorType))
	case lifecycle.Start:
		return markPhase, "START " + r.RequestID
	case lifecycle.RuntimeDone:
		if r.Status == lifecycle.StatusSuccess {
			return markPhase, "runtime done" + elapsed(r.Metrics)
		}
		return markBad, "runtime " + r.Status + elapsed(r.Metrics) + because(r.ErrorType)
	case lifecycle.Report:
		text := fmt.Sprintf("REPORT %s  %.2f ms, billed %d ms, %d of %d MB", r.RequestID, r.Metrics.DurationMs,
			r.Metrics.BilledDurationMs, r.Metrics.MaxMemoryUsedMB, r.Metrics.MemorySizeMB)
		if r.Metrics.InitDurationMs > 0 {
			text += fmt.Sprintf(", init %.2f ms", r.Metrics.InitDurationMs)
		}
		if r.Status != lifecycle.StatusSuccess {
			return markBad, text + ", " + r.Status + because(r.ErrorType)
		}
		return markGood, text
	case lifecycle.TelemetrySubscription:
		return markPhase, fmt.Sprintf("extension %s subscribed to the Telemetry API [%s]", r.Name, strings.Join(r.Types, " "))
	case lifecycle.LogsSubscription:
		return markPhase, fmt.Sprintf("extension %s subscribed to the Logs API [%s]", r.Name, strings.Join(r.Types, " "))
	case lifecycle.LogsDropped:
		return markBad, fmt.Sprintf("%d records (%d bytes) of telemetry dropped: %s", r.DroppedRecords, r.DroppedBytes, r.Reason)
	case lifecycle.Phase:
		switch r.Name {
		case lifecycle.PhaseAnswered, lifecycle.PhaseExtensionReady, lifecycle.PhaseRuntimeReady,
			lifecycle.PhaseFrozen, lifecycle.PhaseThawed, lifecycle.PhaseResetDone:
			return markPhase, "" // for the timeline: each invocation has some of them
		}
		if r.Detail != "" {
			return markPhase, r.Name + ": " + r.Detail
		}
		return markPhase, r.Name
	}
	return markPhase, ""
}

func because(errorType string) string {
	if errorType == "" {
		return ""
	}
	return " (" + errorType + ")"
}

func elapsed(m *lifecycle.RuntimeDoneMetrics) string {
	if m == nil {
		return ""
	}
	return fmt.Sprintf(" in %.2f ms", m.DurationMs)
}

// printable replaces control characters, so that a function's output cannot
// drive the operator's terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '�'
		}
		return r
	}, s)
}
