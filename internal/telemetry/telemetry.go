// Package telemetry is what environments say about themselves: platform
// records and the lines that functions and extensions write. It formats the
// log lines of the text format, keeps the tail of an invocation's log for the
// caller who asked for it, and draws the live view of `firn up`.
//
// Everything here is off the answer's path: a sink must not block for long,
// and what is slow (a terminal, a disk) is decoupled by a bounded ring.
package telemetry

import (
	"time"

	"github.com/firn-run/firn/internal/lifecycle"
)

// Source says which environment speaks. It is made once per environment and
// never changes.
type Source struct {
	Function    string // name
	Version     string // "$LATEST" or a number
	ARN         string // unqualified function ARN
	Environment string // id of the environment, short and unique in the node
	LogGroup    string
	LogStream   string
	MemoryMB    int
	Account     string
	Region      string
	Role        string // ARN of the execution role
	Format      LogFormat
}

// LogFormat is the function's LoggingConfig: how its log in CloudWatch looks.
// It has no bearing on what subscribers of the Telemetry API get, but for
// JSON, which lets a function's JSON lines be objects there.
type LogFormat struct {
	JSON bool
	// Application and System are the least levels that are logged, with JSON
	// only: TRACE, DEBUG, INFO, WARN, ERROR, FATAL, and DEBUG, INFO, WARN.
	Application, System string
}

// Line is one line of output. Text has no line feed at its end.
type Line struct {
	Time time.Time
	// Extension is the file name of the extension that wrote the line, or ""
	// when the runtime or the function did.
	Extension string
	RequestID string // of the invocation in flight; "" during init and shutdown
	Text      []byte // valid during the call only
	// Framed says that the line came as a frame of a managed runtime (section
	// 10 of the specification): Text may hold line feeds, and Level is the
	// frame's ("TRACE" to "FATAL", or "" when it has none).
	Framed bool
	Level  string
	// Open says that the frame had no line feed at its end. The log gives it
	// none: so Python's errors were recorded.
	Open bool
}

// Fanout is a Sink that hands everything to several, in their order.
type Fanout []Sink

// Record implements Sink.
func (f Fanout) Record(src *Source, requestID string, rec lifecycle.Record) {
	for _, s := range f {
		s.Record(src, requestID, rec)
	}
}

// Line implements Sink.
func (f Fanout) Line(src *Source, line Line) {
	for _, s := range f {
		s.Line(src, line)
	}
}

// Sink receives what environments say. Calls for one Source come one at a
// time and in order; calls for different sources come concurrently.
type Sink interface {
	Record(src *Source, requestID string, rec lifecycle.Record)
	Line(src *Source, line Line)
}
