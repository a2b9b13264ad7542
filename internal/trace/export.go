package trace

import (
	"crypto/sha256"
	"strconv"
	"time"

	"github.com/firn-run/firn/internal/telemetry"
	"github.com/firn-run/firn/internal/timeline"
)

// export hands over the spans of an invocation that was reported, under the
// environment's mutex.
func (s *Store) export(e *entry) {
	if s.cfg.Exporter == nil || !e.trace.Sampled {
		return
	}
	o := e.place()
	s.cfg.Exporter.Export(func() timeline.SpanSet {
		return timeline.SpanSet{Resource: resource(e.env.src), Spans: timeline.Spans(e.timeline(time.Time{}), o)}
	})
}

// place is where the invocation belongs in its trace. With active tracing the
// function was given a segment of ours as its parent: that is the invocation.
// With PassThrough it was given the caller's, of which the invocation is one
// child and what the function sends are others, as on AWS.
func (e *entry) place() timeline.SpanOptions {
	o := timeline.SpanOptions{TraceID: e.trace.TraceID, ARN: e.env.src.ARN, InvokedARN: e.invokedARN}
	if e.received.Segment && e.trace.Parent != [8]byte{} {
		o.ID = e.trace.Parent
		o.Parent, _ = timeline.ParseSegmentID(e.received.CallerParent)
		return o
	}
	o.Parent = e.trace.Parent
	sum := sha256.Sum256(strconv.AppendInt([]byte(e.requestID+"\x00"+e.header+"\x00"), e.turn, 10))
	copy(o.ID[:], sum[:])
	o.ID[0] |= 1 // never zero
	return o
}

func resource(src *telemetry.Source) timeline.Resource {
	return timeline.Resource{
		Function: src.Function, Version: src.Version, ARN: src.ARN, Account: src.Account, Region: src.Region,
		Instance: src.LogStream, LogGroup: src.LogGroup, MemoryMB: src.MemoryMB,
	}
}

// exportSegments hands over segments that have ended.
func (s *Store) exportSegments(e *entry, ended []timeline.Segment) {
	if s.cfg.Exporter == nil || !e.trace.Sampled || len(ended) == 0 {
		return
	}
	src := e.env.src
	s.cfg.Exporter.Export(func() timeline.SpanSet {
		set := timeline.SpanSet{Resource: resource(src)}
		for i := range ended {
			if span, ok := timeline.SegmentSpan(&ended[i]); ok {
				set.Spans = append(set.Spans, span)
			}
		}
		return set
	})
}
