package trace

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/firn-run/firn/internal/telemetry"
	"github.com/firn-run/firn/internal/timeline"
)

// Bounds of one segment document. X-Ray takes documents of 64 KB, names of
// 200 characters and 50 annotations.
const (
	maxDatagram   = 64 << 10
	maxDepth      = 16
	maxName       = 200
	maxValue      = 512 // of an attribute, in bytes
	maxAttributes = 50
	maxHeader     = 128 // of the line before the document
)

// document is a segment or subsegment as the X-Ray daemon takes it.
type document struct {
	TraceID    string         `json:"trace_id"`
	ID         string         `json:"id"`
	ParentID   string         `json:"parent_id"`
	Name       string         `json:"name"`
	Namespace  string         `json:"namespace"`
	Start      *float64       `json:"start_time"` // seconds since 1970
	End        *float64       `json:"end_time"`
	InProgress bool           `json:"in_progress"`
	Error      bool           `json:"error"`
	Fault      bool           `json:"fault"`
	Throttle   bool           `json:"throttle"`
	HTTP       documentHTTP   `json:"http"`
	AWS        map[string]any `json:"aws"`
	SQL        map[string]any `json:"sql"`
	// Annotations are indexed values; metadata is not read.
	Annotations map[string]any    `json:"annotations"`
	Cause       json.RawMessage   `json:"cause"` // an object, or an exception's id
	Subsegments []json.RawMessage `json:"subsegments"`
}

type documentHTTP struct {
	Request  map[string]any `json:"request"`
	Response map[string]any `json:"response"`
}

type documentCause struct {
	Exceptions []struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	} `json:"exceptions"`
}

// Segments takes a datagram that a function sent to the X-Ray daemon's
// address: a line that says the format, and a document. What is malformed is
// counted and dropped, and so is what belongs to no invocation that is known
// here; the daemon does not answer either.
func (s *Store) Segments(src *telemetry.Source, datagram []byte) {
	segments, err := parse(datagram)
	if err != nil {
		s.refused.Add(1)
		return
	}
	env := s.environment(src)
	env.mu.Lock()
	defer env.mu.Unlock()
	e := env.find(segments[0].TraceID)
	if e == nil {
		s.refused.Add(int64(len(segments)))
		return
	}
	s.join(e, segments)
}

// find is the newest invocation of the environment that belongs to a trace.
func (env *environment) find(traceID string) *entry {
	id, ok := timeline.ParseRoot(traceID)
	if !ok {
		return nil
	}
	for _, e := range append([]*entry{env.cur}, env.recent[:]...) {
		if e != nil && e.trace.TraceID == id {
			return e
		}
	}
	return nil
}

// join adds segments to an invocation, and exports those that have ended; one
// that was in progress is replaced.
func (s *Store) join(e *entry, segments []timeline.Segment) {
	var ended []timeline.Segment
	for _, seg := range segments {
		size := segmentSize(&seg)
		i := slices.IndexFunc(e.segments, func(old timeline.Segment) bool { return old.ID == seg.ID })
		switch {
		case i >= 0 && !e.segments[i].End.IsZero():
			continue // sent again
		case e.segBytes+size > maxSegmentBytes, i < 0 && len(e.segments) >= maxSegments:
			s.refused.Add(1)
			continue
		case i >= 0:
			e.segments[i] = seg
		default:
			e.segments = append(e.segments, seg)
		}
		e.segBytes += size
		s.account(e, int64(size))
		if !seg.End.IsZero() {
			ended = append(ended, seg)
		}
	}
	s.exportSegments(e, ended)
}

func segmentSize(s *timeline.Segment) int {
	n := 256 + len(s.Name) + len(s.Cause)
	for _, a := range s.Attributes {
		n += 48 + len(a.Key)
		if v, ok := a.Value.(string); ok {
			n += len(v)
		}
	}
	return n
}

var errDatagram = errors.New("not a segment document")

// parse reads a datagram into at least one segment, its subsegments after it.
func parse(datagram []byte) ([]timeline.Segment, error) {
	if len(datagram) > maxDatagram {
		return nil, fmt.Errorf("%w: over %d bytes", errDatagram, maxDatagram)
	}
	head, body, found := bytes.Cut(datagram, []byte{'\n'})
	if !found || len(head) > maxHeader {
		return nil, fmt.Errorf("%w: no line with the format", errDatagram)
	}
	var format struct {
		Format  string `json:"format"`
		Version int    `json:"version"`
	}
	if err := json.Unmarshal(head, &format); err != nil || format.Format != "json" || format.Version != 1 {
		return nil, fmt.Errorf("%w: format %q", errDatagram, head)
	}
	p := parser{}
	if err := p.segment(body, "", "", 0); err != nil {
		return nil, err
	}
	return p.segments, nil
}

type parser struct {
	segments []timeline.Segment
}

// segment reads a document and what is inside of it. A broken subsegment is
// left out, a broken document refused.
func (p *parser) segment(raw []byte, traceID, parent string, depth int) error {
	var d document
	if err := json.Unmarshal(raw, &d); err != nil {
		return fmt.Errorf("%w: %w", errDatagram, err)
	}
	if depth > 0 || d.TraceID == "" {
		d.TraceID = traceID // a subsegment's is that of its document
	}
	if d.ParentID == "" || depth > 0 {
		d.ParentID = parent
	}
	if _, ok := timeline.ParseRoot(d.TraceID); !ok {
		return fmt.Errorf("%w: trace_id %q", errDatagram, clip(d.TraceID, 64))
	}
	if _, ok := timeline.ParseSegmentID(d.ID); !ok {
		return fmt.Errorf("%w: id %q", errDatagram, clip(d.ID, 64))
	}
	if _, ok := timeline.ParseSegmentID(d.ParentID); !ok {
		d.ParentID = ""
	}
	start, ok := seconds(d.Start)
	if !ok || d.Name == "" {
		return fmt.Errorf("%w: no name or start_time", errDatagram)
	}
	seg := timeline.Segment{
		TraceID: d.TraceID, ID: strings.ToLower(d.ID), ParentID: strings.ToLower(d.ParentID), Name: clip(d.Name, maxName), Start: start,
		Error: d.Error, Fault: d.Fault, Throttle: d.Throttle, Cause: d.cause(), Attributes: d.attributes(),
	}
	if d.Namespace == "aws" || d.Namespace == "remote" {
		seg.Namespace = d.Namespace
	}
	if end, ok := seconds(d.End); ok && !d.InProgress {
		seg.End = end
		if end.Before(start) {
			seg.End = start
		}
	}
	p.segments = append(p.segments, seg)
	if depth == maxDepth {
		return nil
	}
	for _, sub := range d.Subsegments {
		if len(p.segments) >= maxSegments {
			break
		}
		_ = p.segment(sub, d.TraceID, d.ID, depth+1) // the others are good all the same
	}
	return nil
}

// seconds reads a time in seconds, which must be one of this age.
func seconds(v *float64) (time.Time, bool) {
	if v == nil || !(*v > 0 && *v < 1<<33) {
		return time.Time{}, false
	}
	whole, part := math.Modf(*v)
	// A float holds a second of today to a quarter of a microsecond.
	return time.Unix(int64(whole), int64(math.Round(part*1e6))*1000).UTC(), true
}

func (d *document) cause() string {
	var cause documentCause
	if len(d.Cause) == 0 || json.Unmarshal(d.Cause, &cause) != nil || len(cause.Exceptions) == 0 {
		return ""
	}
	text := cause.Exceptions[0].Type
	if message := cause.Exceptions[0].Message; message != "" {
		text = strings.TrimPrefix(text+": "+message, ": ")
	}
	return clip(text, maxValue)
}

// attributes flattens what the document says, under the names that
// OpenTelemetry has for it where there are such.
func (d *document) attributes() (list []timeline.Attribute) {
	add := func(prefix string, names map[string]string, from map[string]any) {
		keys := make([]string, 0, len(from))
		for key := range from {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		for _, key := range keys {
			name := prefix + clip(key, maxName)
			if known, ok := names[key]; ok {
				name = known
			}
			if len(list) == maxAttributes {
				return
			}
			switch v := from[key].(type) {
			case string:
				list = append(list, timeline.Attribute{Key: name, Value: clip(v, maxValue)})
			case bool:
				list = append(list, timeline.Attribute{Key: name, Value: v})
			case float64:
				if whole := int64(v); math.Abs(v) < 1<<53 && float64(whole) == v {
					list = append(list, timeline.Attribute{Key: name, Value: whole})
				} else {
					list = append(list, timeline.Attribute{Key: name, Value: v})
				}
			}
		}
	}
	add("http.request.", map[string]string{"method": "http.request.method", "url": "url.full", "user_agent": "user_agent.original", "client_ip": "client.address"}, d.HTTP.Request)
	add("http.response.", map[string]string{"status": "http.response.status_code", "content_length": "http.response.body.size"}, d.HTTP.Response)
	add("aws.", map[string]string{"operation": "rpc.method", "region": "cloud.region", "request_id": "aws.request_id", "table_name": "aws.dynamodb.table_name", "bucket_name": "aws.s3.bucket", "queue_url": "aws.sqs.queue.url"}, d.AWS)
	add("db.", map[string]string{"sanitized_query": "db.query.text", "database_type": "db.system.name", "user": "db.user", "url": "db.connection_string"}, d.SQL)
	add("annotation.", nil, d.Annotations)
	return list
}

// clip cuts a string to n bytes, at a rune, and makes it UTF-8.
func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
		for range utf8.UTFMax - 1 { // a rune that was cut
			if r, size := utf8.DecodeLastRuneInString(s); r != utf8.RuneError || size != 1 {
				break
			}
			s = s[:len(s)-1]
		}
	}
	return strings.ToValidUTF8(s, "�")
}
