package environment

import (
	"bytes"
	"slices"
	"sync"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/lifecycle"
	"github.com/firn-run/firn/internal/telemetry"
	"github.com/firn-run/firn/internal/telemetryapi"
)

const (
	// maxLineBytes is where a line without an end is split: the size of a
	// CloudWatch Logs event, less its overhead.
	maxLineBytes = 256<<10 - 26
	// keepBytes is the capacity that an idle stream keeps.
	keepBytes = 1 << 10
)

// nowhere is the sink of those who gave none.
type nowhere struct{}

func (nowhere) Record(*telemetry.Source, string, lifecycle.Record) {}
func (nowhere) Line(*telemetry.Source, telemetry.Line)             {}

// output puts records and lines of an environment in one order, and keeps the
// tail of the log for the caller who asked for it.
type output struct {
	sink   telemetry.Sink
	source *telemetry.Source
	now    func() time.Time
	hub    *telemetryapi.Hub // nil when there are no extensions, by decree

	// mu is taken by the readers of the pipes, and by steps under
	// Environment.mu; calls of the sink and of the Hub are made with it, so
	// that both see one order. It is released by unlock.
	mu        sync.Mutex
	requestID string // between Start and Report
	streams   []*stream
	tailing   bool
	tail      []byte // at most twice firn.LogTailBytes
	scratch   []byte // of a line on its way into the tail; given back with it
	// listening says that the Hub must be told: an init runs, or somebody has
	// subscribed in the last one.
	listening bool

	made madeRecords
}

// stream cuts the output of one party into lines.
type stream struct {
	out       *output
	extension string
	part      []byte // a line without its end so far; guarded by out.mu
}

// stream returns the stream of an extension, or of the runtime ("").
func (o *output) stream(extension string) *stream {
	o.mu.Lock()
	defer o.unlock()
	for _, s := range o.streams {
		if s.extension == extension {
			return s
		}
	}
	s := &stream{out: o, extension: extension}
	o.streams = append(o.streams, s)
	return s
}

// write takes a chunk of a pipe. It blocks with the sink, which is what holds
// back a function that writes faster than lines can be taken.
func (s *stream) write(p []byte) {
	o := s.out
	o.mu.Lock()
	defer o.unlock()
	for len(p) > 0 {
		line, rest, found := bytes.Cut(p, []byte{'\n'})
		if room := maxLineBytes - len(s.part); len(line) > room {
			line, rest, found = p[:room], p[room:], true
		}
		p = rest
		if !found {
			s.part = append(s.part, line...)
			return
		}
		if len(s.part) > 0 {
			s.part = append(s.part, line...)
			line = s.part
		}
		o.lineLocked(telemetry.Line{Extension: s.extension, Text: line})
		s.forgetLocked()
	}
}

// forgetLocked empties the stream, and gives back what a long line took.
func (s *stream) forgetLocked() {
	if cap(s.part) > keepBytes {
		s.part = nil
	}
	s.part = s.part[:0]
}

// flushLocked writes a line that has no end.
func (s *stream) flushLocked() {
	if len(s.part) > 0 {
		s.out.lineLocked(telemetry.Line{Extension: s.extension, Text: s.part})
		s.forgetLocked()
	}
}

// lineLocked hands out a line; what it lacks is filled in.
func (o *output) lineLocked(line telemetry.Line) {
	line.RequestID = o.requestID
	if line.Time.IsZero() {
		line.Time = o.now()
	}
	if o.listening {
		o.hub.Line(line)
	}
	o.sink.Line(o.source, line)
	if o.tailing {
		o.scratch = telemetry.AppendLine(o.scratch[:0], o.source, line)
		o.appendTailLocked(o.scratch)
	}
}

// framed decodes the framed log of one runtime process.
type framed struct {
	out    *output
	frames telemetry.Frames // guarded by out.mu
}

// write takes a chunk of the pipe; like a stream's it blocks with the sink.
func (f *framed) write(p []byte) {
	f.out.mu.Lock()
	defer f.out.unlock()
	f.frames.Write(p, f.out.frameLocked)
}

// flush writes what is unfinished when the process is over.
func (f *framed) flush() {
	f.out.mu.Lock()
	defer f.out.unlock()
	f.frames.Flush(f.out.frameLocked)
}

// maxFrameAge bounds the time that a frame may claim: it was written on this
// host's clock, and can have waited in the pipe for not much longer than the
// longest invocation.
const maxFrameAge = time.Hour

func (o *output) frameLocked(frame telemetry.Frame) {
	line := telemetry.Line{Time: frame.Time, Text: frame.Text, Framed: true, Level: frame.Level, Open: frame.Open}
	if now := o.now(); line.Time.After(now) || now.Sub(line.Time) > maxFrameAge {
		line.Time = now
	}
	o.lineLocked(line)
}

// flush writes the unfinished line of a party.
func (o *output) flush(party lifecycle.Party) {
	extension := string(party)
	if party == lifecycle.RuntimeParty {
		extension = ""
	}
	o.mu.Lock()
	defer o.unlock()
	for _, s := range o.streams {
		if s.extension == extension {
			s.flushLocked()
		}
	}
}

// flushAll writes every unfinished line.
func (o *output) flushAll() {
	o.mu.Lock()
	defer o.unlock()
	o.flushAllLocked()
}

func (o *output) flushAllLocked() {
	for _, s := range o.streams {
		s.flushLocked()
	}
}

// record hands out a platform record. Start and Report are the borders of an
// invocation: lines between them carry its request id, and are its tail when
// tail is set, together with the log of the inits that it has waited for, but
// not with their beginnings: so it was recorded.
func (o *output) record(requestID string, rec lifecycle.Record, tail bool) {
	o.mu.Lock()
	defer o.unlock()
	switch r := rec.(type) {
	case lifecycle.InitStart:
		if o.flushAllLocked(); r.InitializationType == onDemand {
			if r.Phase == lifecycle.PhaseInit {
				o.tail = nil
			}
			o.tailing = true
		}
	case lifecycle.Start:
		o.flushAllLocked()
		o.requestID = requestID
		if o.tailing = tail; !tail {
			o.tail, o.scratch = nil, nil
		}
	case lifecycle.Report:
		o.flushAllLocked()
	}
	if requestID == "" {
		requestID = o.requestID
	}
	o.tellHubLocked(requestID, rec)
	o.tellSinkLocked(requestID, rec)
	if _, ok := rec.(lifecycle.Report); ok {
		o.requestID, o.tailing = "", false
	}
}

func (o *output) tellSinkLocked(requestID string, rec lifecycle.Record) {
	o.sink.Record(o.source, requestID, rec)
	if _, begins := rec.(lifecycle.InitStart); o.tailing && !begins {
		o.scratch = telemetry.AppendRecord(o.scratch[:0], o.source, rec)
		o.appendTailLocked(o.scratch)
	}
}

func (o *output) appendTailLocked(p []byte) {
	if len(p) > firn.LogTailBytes {
		p = p[len(p)-firn.LogTailBytes:]
	}
	if len(o.tail)+len(p) > 2*firn.LogTailBytes {
		o.tail = append(o.tail[:0], o.tail[len(o.tail)-firn.LogTailBytes:]...)
	}
	o.tail = append(o.tail, p...)
}

// takeTail returns the end of the invocation's log; the tail stops there.
func (o *output) takeTail() []byte {
	o.mu.Lock()
	defer o.unlock()
	tail := o.tail
	o.tailing, o.tail, o.scratch = false, nil, nil
	return slices.Clip(tail[max(0, len(tail)-firn.LogTailBytes):])
}
