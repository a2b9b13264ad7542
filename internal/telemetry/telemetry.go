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
}

// Line is one line of output. Text has no line feed at its end.
type Line struct {
	Time time.Time
	// Extension is the file name of the extension that wrote the line, or ""
	// when the runtime or the function did.
	Extension string
	RequestID string // of the invocation in flight; "" during init and shutdown
	Text      []byte // valid during the call only
}

// Sink receives what environments say. Calls for one Source come one at a
// time and in order; calls for different sources come concurrently.
type Sink interface {
	Record(src *Source, requestID string, rec lifecycle.Record)
	Line(src *Source, line Line)
}
