// Package timeline turns what an execution environment said around one
// invocation into a picture that answers one question at a glance: what made
// this invocation slow.
//
// Build reads platform records, firn's own records of the steps between them,
// the times of output lines and X-Ray segments, and returns a Timeline: a lane
// for the platform, the runtime and each extension, bars on them, the moments
// that matter, who was waited for, and a verdict in one sentence. Text draws
// it for a terminal, SVG as a file, Spans as what OpenTelemetry exports.
//
// The package is pure: values in, values out. A Timeline survives JSON, so
// that the node builds it and the command line draws it. Records may be
// missing anywhere (the invocation still runs, the environment died, an older
// part of the engine does not tell a step): whatever is not known is left out,
// never guessed, and every bar lies within the timeline.
package timeline

import (
	"encoding/json"
	"math"
	"strconv"
	"time"

	"github.com/firn-run/firn/internal/lifecycle"
)

// Offset is a moment, counted from the timeline's Begin, or a duration. In
// JSON it is a number of milliseconds with up to three decimals.
type Offset time.Duration

// MarshalJSON writes milliseconds.
func (o Offset) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, math.Round(float64(o)/1e3)/1e3, 'f', -1, 64), nil
}

// UnmarshalJSON reads milliseconds.
func (o *Offset) UnmarshalJSON(b []byte) error {
	var ms float64
	if err := json.Unmarshal(b, &ms); err != nil {
		return err
	}
	*o = Offset(math.Round(max(-longest, min(ms, longest)) * 1e6))
	return nil
}

// longest is the longest time that is shown, in milliseconds: a year.
const longest = 366 * 24 * 3600 * 1e3

// Timeline is one invocation and what its environment did for it.
type Timeline struct {
	RequestID   string `json:"requestId"`
	Function    string `json:"function"`
	Version     string `json:"version"`
	Environment string `json:"environment"`
	// TraceHeader is the X-Amzn-Trace-Id that the function saw.
	TraceHeader string `json:"traceHeader,omitempty"`

	// Begin is the time of offset 0, End the offset of the last thing shown.
	Begin time.Time `json:"begin"`
	End   Offset    `json:"endMs"`

	// Status is the report's; "" while the invocation runs.
	Status    string `json:"status,omitempty"`
	ErrorType string `json:"errorType,omitempty"`
	// Cold says that this is the first invocation after an init that was not
	// provisioned ahead.
	Cold bool `json:"cold"`

	// Verdict is one sentence: what made this invocation slow. Slow is the
	// same in a few words, for tables.
	Verdict string `json:"verdict"`
	Slow    string `json:"slow"`

	Durations Durations `json:"durations"`
	Lanes     []Lane    `json:"lanes"`
	Marks     []Mark    `json:"marks,omitempty"`
	// Gaps are times in which nothing happened; drawings leave them out.
	Gaps  []Gap  `json:"gaps,omitempty"`
	Waits []Wait `json:"waits,omitempty"`
}

// Durations are the figures of an invocation; what is not known is 0.
type Durations struct {
	Caller   Offset `json:"callerMs"`   // from the request to the answer
	Prepare  Offset `json:"prepareMs"`  // of it: until the environment began with the init, or the invocation
	Init     Offset `json:"initMs"`     // of all inits that belong to the invocation
	Latency  Offset `json:"latencyMs"`  // responseLatency
	Response Offset `json:"responseMs"` // responseDuration
	Overhead Offset `json:"overheadMs"` // runtimeOverhead
	Tail     Offset `json:"tailMs"`     // from the answer to the report
	Total    Offset `json:"totalMs"`    // the report's Duration
	Billed   Offset `json:"billedMs"`
}

// LaneKind says whose lane it is.
type LaneKind string

// The lanes, in their order.
const (
	Platform  LaneKind = "platform"
	Runtime   LaneKind = "runtime"
	Call      LaneKind = "call" // an X-Ray segment of the function's
	Extension LaneKind = "extension"
)

// Lane is a row of the picture.
type Lane struct {
	Kind LaneKind `json:"kind"`
	Name string   `json:"name"`
	// Depth is how deep an X-Ray segment is nested.
	Depth int   `json:"depth,omitempty"`
	Bars  []Bar `json:"bars"`
	// Lines are the times of output lines, the first of them; LineCount counts
	// all.
	Lines     []Offset `json:"lines,omitempty"`
	LineCount int      `json:"lineCount,omitempty"`
}

// BarKind says what went on; it chooses the colour.
type BarKind string

// Kinds of bars.
const (
	BarPrepare   BarKind = "prepare"   // platform: an environment is found, or made
	BarInit      BarKind = "init"      // platform: the whole init; a party: its own
	BarStarting  BarKind = "starting"  // part of an extension's init: until it registered
	BarReadying  BarKind = "readying"  // part of an extension's init: from there to its first next
	BarInvoke    BarKind = "invoke"    // platform: from start to report; runtime: to runtimeDone
	BarLatency   BarKind = "latency"   // part of the runtime's: until it began to answer
	BarResponse  BarKind = "response"  // part of the runtime's: the answer
	BarOverhead  BarKind = "overhead"  // part of the runtime's: from the answer to its next
	BarExtension BarKind = "extension" // an extension's work on the event
	BarAlong     BarKind = "along"     // part of it: while the caller waited
	BarTail      BarKind = "tail"      // part of it, or the platform's: after the answer
	BarFrozen    BarKind = "frozen"
	BarShutdown  BarKind = "shutdown"
	BarCall      BarKind = "call"
)

// Bar is a time in which a party did something. Parts lie within it, in order
// and without overlap.
type Bar struct {
	Kind  BarKind `json:"kind"`
	Label string  `json:"label"`
	Start Offset  `json:"startMs"`
	End   Offset  `json:"endMs"`
	// Open says that it had not ended; End is then as far as is known.
	Open   bool `json:"open,omitempty"`
	Failed bool `json:"failed,omitempty"`
	// Blamed says that this is what made the invocation slow.
	Blamed bool   `json:"blamed,omitempty"`
	Detail string `json:"detail,omitempty"`
	Parts  []Bar  `json:"parts,omitempty"`
}

// Duration is how long the bar is.
func (b *Bar) Duration() Offset { return b.End - b.Start }

// MarkKind says what a moment is.
type MarkKind string

// Kinds of marks.
const (
	MarkReceived MarkKind = "received"
	MarkStart    MarkKind = "start"
	MarkAnswered MarkKind = "answered"
	MarkReport   MarkKind = "report"
	MarkFrozen   MarkKind = "frozen"
	MarkThawed   MarkKind = "thawed"
	MarkReset    MarkKind = "reset"
	MarkEnded    MarkKind = "ended"
)

// Mark is a moment.
type Mark struct {
	Kind   MarkKind `json:"kind"`
	At     Offset   `json:"atMs"`
	Detail string   `json:"detail,omitempty"`
}

// Gap is a time in which nothing happened.
type Gap struct {
	Start Offset `json:"startMs"`
	End   Offset `json:"endMs"`
}

// Wait says who was waited for: the party of a phase that was through last.
type Wait struct {
	// Phase is "register" (the runtime starts when all extensions have
	// registered), "init" or "invoke".
	Phase string `json:"phase"`
	// Party is "runtime" or an extension's name; Runtime tells them apart.
	Party   string `json:"party"`
	Runtime bool   `json:"runtime,omitempty"`
	// Took is from the phase's begin to the party's end.
	Took Offset `json:"tookMs"`
	// Margin is how much later it was than Next, the second last; Next is ""
	// when there was nobody else.
	Margin Offset `json:"marginMs"`
	Next   string `json:"next,omitempty"`
}

// Input is what one invocation is built from. Records are those of the
// environment's init, when it belongs to the invocation, and of everything up
// to the next one, in order.
type Input struct {
	RequestID   string
	Function    string
	Version     string
	Environment string
	TraceHeader string
	// Received is when the request came; zero when that is not known. Now is
	// how far an invocation that still runs is drawn, or zero.
	Received, Now time.Time
	Records       []lifecycle.Record
	// Extensions are the environment's, for invocations that came after the
	// init that tells them.
	Extensions []lifecycle.Extension
	Lines      []Line
	// MoreLines counts those of which the time was not kept, per extension
	// ("" for the runtime).
	MoreLines map[string]int
	Segments  []Segment
}

// Line is one line of output, of which the time matters only.
type Line struct {
	Time      time.Time
	Extension string // "" for the runtime
}

// Segment is an X-Ray segment or subsegment that the function sent.
type Segment struct {
	TraceID  string // 1-8hex-24hex
	ID       string // 16 hexadecimal digits
	ParentID string
	Name     string
	// Namespace is "aws" or "remote" for calls of other services, else "".
	Namespace string
	Start     time.Time
	End       time.Time // zero while it is in progress
	Error     bool      // the client's fault
	Fault     bool      // the server's
	Throttle  bool
	Cause     string // the first exception's type and message
	// Attributes are what the document says of a request (http, aws, sql) and
	// its annotations, flat, in order.
	Attributes []Attribute
}

// Attribute is a name with a string, an int64, a float64 or a bool.
type Attribute struct {
	Key   string
	Value any
}

// Began is when the request came, as far as that is known: the first of
// received and start.
func (t *Timeline) Began() time.Time {
	for _, m := range t.Marks {
		if m.Kind == MarkReceived || m.Kind == MarkStart {
			return t.Begin.Add(time.Duration(m.At))
		}
	}
	return t.Begin
}
