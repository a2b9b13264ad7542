package timeline

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"time"
)

// TraceContext is what an X-Amzn-Trace-Id says.
type TraceContext struct {
	TraceID [16]byte // the Root, its two numbers one after the other; zero when there is none
	Parent  [8]byte
	Sampled bool
}

// ParseTrace reads an X-Amzn-Trace-Id. What is malformed stays zero, and
// without a root nothing is sampled.
func ParseTrace(header string) (c TraceContext) {
	for field := range strings.SplitSeq(header, ";") {
		switch key, value, _ := strings.Cut(strings.TrimSpace(field), "="); key {
		case "Root":
			c.TraceID, _ = ParseRoot(value)
		case "Parent":
			c.Parent, _ = ParseSegmentID(value)
		case "Sampled":
			c.Sampled = value == "1"
		}
	}
	c.Sampled = c.Sampled && c.TraceID != [16]byte{}
	return c
}

// ParseRoot reads an X-Ray trace identity, 1-8hex-24hex, as the 128 bits that
// it is in OpenTelemetry.
func ParseRoot(s string) (id [16]byte, ok bool) {
	if len(s) != 35 || s[:2] != "1-" || s[10] != '-' {
		return id, false
	}
	if _, err := hex.Decode(id[:4], []byte(s[2:10])); err != nil {
		return [16]byte{}, false
	}
	if _, err := hex.Decode(id[4:], []byte(s[11:])); err != nil {
		return [16]byte{}, false
	}
	return id, id != [16]byte{}
}

// ParseSegmentID reads the 16 hexadecimal digits of a segment's identity.
func ParseSegmentID(s string) (id [8]byte, ok bool) {
	if len(s) != 16 {
		return id, false
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return [8]byte{}, false
	}
	return id, id != [8]byte{}
}

// SpanKind is OpenTelemetry's.
type SpanKind int

// Kinds of spans.
const (
	SpanInternal SpanKind = iota
	SpanServer
	SpanClient
)

// Span is a finished span, in OpenTelemetry's terms.
type Span struct {
	TraceID [16]byte
	ID      [8]byte
	Parent  [8]byte // zero: a root
	// Remote says that the parent was made elsewhere.
	Remote     bool
	Name       string
	Kind       SpanKind
	Start, End time.Time
	// Failed spans have the status Error with the message; others none.
	Failed     bool
	Message    string
	Attributes []Attribute
}

// Resource is who speaks in a set of spans: one execution environment.
type Resource struct {
	Function, Version, ARN, Account, Region string
	Instance                                string // the log stream
	LogGroup                                string
	MemoryMB                                int
}

// SpanSet are spans of one environment.
type SpanSet struct {
	Resource Resource
	Spans    []Span
}

// SpanOptions say where the spans of an invocation belong.
type SpanOptions struct {
	TraceID [16]byte
	// ID is the invocation's own span: the Parent in the function's trace
	// header, when that is a segment of ours, so that what the function sends
	// joins it.
	ID [8]byte
	// Parent is the caller's span, or zero.
	Parent     [8]byte
	ARN        string // unqualified
	InvokedARN string
}

// Spans maps an invocation to OpenTelemetry's spans in the way that AWS
// documents for the Telemetry API, with child spans: one span of kind server
// from start to report; below it the inits with each party's own, the three
// spans of runtimeDone, and each extension's work on the event. An invocation
// without a report has none yet.
func Spans(t *Timeline, o SpanOptions) []Span {
	from, to, done := t.moments()
	if !done {
		return nil
	}
	m := &spanMaker{t: t, o: o}
	status := t.Status
	root := Span{TraceID: o.TraceID, ID: o.ID, Parent: o.Parent, Remote: true, Name: t.Function, Kind: SpanServer,
		Start: t.at(from), End: t.at(to), Failed: t.failed(), Attributes: []Attribute{
			{"faas.invocation_id", t.RequestID},
			{"faas.coldstart", t.Cold},
			{"faas.name", t.Function},
			{"faas.version", t.Version},
			{"cloud.resource_id", qualified(o.ARN, t.Version)},
			{"aws.lambda.invoked_arn", o.InvokedARN},
			{"firn.status", status},
			{"firn.verdict", t.Verdict},
			{"firn.billed_ms", int64(t.Durations.Billed / Offset(time.Millisecond))},
		}}
	if root.Failed {
		root.Message = t.ErrorType
		root.Attributes = append(root.Attributes, Attribute{"error.type", cmp.Or(t.ErrorType, status)})
	}
	m.spans = append(m.spans, root)
	inits := map[int][8]byte{} // of the platform's bars that are inits
	for i := range t.Lanes {
		if t.Lanes[i].Kind == Platform {
			for j := range t.Lanes[i].Bars {
				switch b := &t.Lanes[i].Bars[j]; b.Kind {
				case BarInit:
					inits[j] = m.child(o.ID, "init", b)
				case BarPrepare:
					m.child(o.ID, "environment", b)
				}
			}
		}
	}
	for i := range t.Lanes {
		m.lane(&t.Lanes[i], inits)
	}
	return m.spans
}

// moments are the start and the report.
func (t *Timeline) moments() (from, to Offset, done bool) {
	started := false
	for _, m := range t.Marks {
		switch m.Kind {
		case MarkStart:
			from, started = m.At, true
		case MarkReport:
			to, done = m.At, true
		}
	}
	return from, max(from, to), started && done
}

func (t *Timeline) at(o Offset) time.Time { return t.Begin.Add(time.Duration(o)) }

type spanMaker struct {
	t     *Timeline
	o     SpanOptions
	spans []Span
}

// lane makes the spans of the runtime and of extensions.
func (m *spanMaker) lane(l *Lane, inits map[int][8]byte) {
	if l.Kind != Runtime && l.Kind != Extension {
		return
	}
	name := "runtime"
	if l.Kind == Extension {
		name = "extension " + clean(l.Name)
	}
	for i := range l.Bars {
		b := &l.Bars[i]
		switch {
		case b.Kind == BarInit:
			m.child(m.initOf(b, inits), name+" init", b)
		case b.Kind == BarExtension:
			m.child(m.o.ID, name+" tail", b)
		case b.Kind == BarInvoke && l.Kind == Runtime:
			for j := range b.Parts {
				m.child(m.o.ID, b.Parts[j].Label, &b.Parts[j])
			}
		}
	}
}

// initOf is the span of the init that a party's bar lies in.
func (m *spanMaker) initOf(b *Bar, inits map[int][8]byte) [8]byte {
	for i := range m.t.Lanes[0].Bars {
		if whole := &m.t.Lanes[0].Bars[i]; whole.Kind == BarInit && whole.Start <= b.Start && b.Start <= whole.End {
			return inits[i]
		}
	}
	return m.o.ID
}

func (m *spanMaker) child(parent [8]byte, name string, b *Bar) [8]byte {
	s := Span{TraceID: m.o.TraceID, Parent: parent, Name: name, Start: m.t.at(b.Start), End: m.t.at(b.End), Failed: b.Failed}
	s.ID = m.id(name)
	if b.Failed {
		s.Message = b.Detail
		if b.Detail != "" {
			s.Attributes = append(s.Attributes, Attribute{"error.type", b.Detail})
		}
	}
	if b.Blamed {
		s.Attributes = append(s.Attributes, Attribute{"firn.slow", true})
	}
	m.spans = append(m.spans, s)
	return s.ID
}

// id makes a span's identity: the same for the same span, another one for any
// other.
func (m *spanMaker) id(name string) (id [8]byte) {
	h := sha256.New()
	h.Write(m.o.TraceID[:])
	h.Write(m.o.ID[:])
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(m.spans))))
	h.Write([]byte(name))
	copy(id[:], h.Sum(nil))
	id[0] |= 1 // never zero
	return id
}

// SegmentSpan maps an X-Ray segment that has ended; ok is false when it has
// not, or has no identity.
func SegmentSpan(s *Segment) (span Span, ok bool) {
	span = Span{Name: clean(s.Name), Start: s.Start, End: s.End, Failed: s.Error || s.Fault || s.Throttle, Message: s.Cause, Attributes: s.Attributes}
	var known, identified bool
	span.TraceID, known = ParseRoot(s.TraceID)
	span.ID, identified = ParseSegmentID(s.ID)
	span.Parent, _ = ParseSegmentID(s.ParentID)
	if s.Namespace != "" {
		span.Kind = SpanClient
	}
	if s.Throttle {
		span.Attributes = append(span.Attributes[:len(span.Attributes):len(span.Attributes)], Attribute{"aws.xray.throttle", true})
	}
	return span, known && identified && !s.End.IsZero()
}

func qualified(arn, version string) string {
	if arn == "" || version == "" || version == "$LATEST" {
		return arn
	}
	return arn + ":" + version
}
