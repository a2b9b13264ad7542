package logs

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"github.com/firn-run/firn/internal/logpattern"
	"github.com/firn-run/firn/internal/logstore"
)

const (
	// maxEvents and maxPageBytes bound a page of events (API Reference).
	maxEvents    = 10_000
	maxPageBytes = 1 << 20
	// maxScanBytes and maxScanTime are how much one FilterLogEvents looks at,
	// and how long, before it answers with what it has and a token.
	maxScanBytes = 64 << 20
	maxScanTime  = 5 * time.Second
)

// cursor is where reading goes on, and in which direction. As a token it is
// f/POSITION or b/POSITION; the event at the position is not read again.
type cursor struct {
	backward bool
	at       logstore.Position
}

func (c cursor) String() string {
	if c.backward {
		return "b/" + c.at.String()
	}
	return "f/" + c.at.String()
}

// parseCursor reads a token; nil is the start of the given direction.
func parseCursor(token *string, backward bool) (cursor, error) {
	if token == nil {
		return cursor{backward: backward}, nil
	}
	position, back := strings.CutPrefix(*token, "b/")
	if !back {
		var ok bool
		if position, ok = strings.CutPrefix(*token, "f/"); !ok {
			return cursor{}, badToken()
		}
	}
	at, err := logstore.ParsePosition(position)
	if err != nil {
		return cursor{}, badToken()
	}
	return cursor{backward: back, at: at}, nil
}

// turned is the cursor for the other direction from the same place: what was
// the last event read is the first one then.
func (c cursor) turned() cursor {
	at := c.at
	switch {
	case at.IsZero(): // before everything, in both directions
	case !c.backward:
		at.Seq++
	case at.Seq > 0:
		at.Seq--
	default:
		at = logstore.Position{Timestamp: at.Timestamp - 1, Seq: math.MaxUint64}
	}
	return cursor{backward: !c.backward, at: at}
}

func (s *Service) getLogEvents(_ context.Context, in *cloudwatchlogs.GetLogEventsInput) (*cloudwatchlogs.GetLogEventsOutput, error) {
	group, err := s.groupOf(in.LogGroupName, in.LogGroupIdentifier)
	if err != nil {
		return nil, err
	}
	if !s.cfg.Store.HasStream(group, *in.LogStreamName) {
		return nil, noStream()
	}
	from, err := parseCursor(in.NextToken, !deref(in.StartFromHead))
	if err != nil {
		return nil, err
	}
	var page logstore.Page
	// A token that goes back from before everything has nothing to come; for
	// the store it would be the end of the stream.
	if !(in.NextToken != nil && from.backward && from.at.IsZero()) {
		page, err = s.cfg.Store.Read(logstore.Query{
			Group: group, Streams: []string{*in.LogStreamName},
			From: deref(in.StartTime), To: deref(in.EndTime),
			After: from.at, Backward: from.backward, Limit: eventLimit(in.Limit), MaxBytes: maxPageBytes,
		})
		if err != nil {
			return nil, storeError(err)
		}
	}
	out := &cloudwatchlogs.GetLogEventsOutput{Events: make([]types.OutputLogEvent, 0, len(page.Events))}
	for _, e := range page.Events {
		out.Events = append(out.Events, types.OutputLogEvent{
			Timestamp: &e.Timestamp, IngestionTime: &e.Ingestion, Message: new(string(e.Message)),
		})
	}
	forward, backward := from, from.turned()
	if from.backward {
		forward, backward = backward, forward
	}
	if n := len(page.Events); n > 0 {
		forward.at, backward.at = page.Events[n-1].Position(), page.Events[0].Position()
	}
	out.NextForwardToken, out.NextBackwardToken = new(forward.String()), new(backward.String())
	return out, nil
}

func eventLimit(limit *int32) int {
	if limit == nil {
		return maxEvents
	}
	return int(*limit)
}

// latestFirst is the earliest startTime with which FilterLogEvents reads from
// the end (API Reference: January 1, 2024).
func latestFirst() int64 { return time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli() }

func (s *Service) filterLogEvents(ctx context.Context, in *cloudwatchlogs.FilterLogEventsInput) (*cloudwatchlogs.FilterLogEventsOutput, error) {
	group, err := s.groupOf(in.LogGroupName, in.LogGroupIdentifier)
	if err != nil {
		return nil, err
	}
	if len(in.LogStreamNames) > 0 && in.LogStreamNamePrefix != nil {
		return nil, invalid("LogStreamNames and LogStreamNamePrefix are mutually exclusive parameters.")
	}
	for _, stream := range in.LogStreamNames {
		if !s.cfg.Store.HasStream(group, stream) {
			return nil, noStream()
		}
	}
	backward := in.StartFromHead != nil && !*in.StartFromHead
	if backward && deref(in.StartTime) < latestFirst() {
		return nil, invalid("startFromHead can be false only when startTime is on or after January 1, 2024.")
	}
	pattern, err := parsePattern(in.FilterPattern)
	if err != nil {
		return nil, err
	}
	from, err := parseCursor(in.NextToken, backward)
	if err != nil {
		return nil, err
	}
	q := logstore.Query{
		Group: group, Streams: in.LogStreamNames, StreamPrefix: deref(in.LogStreamNamePrefix),
		From: deref(in.StartTime), After: from.at, Backward: from.backward, MaxBytes: maxPageBytes,
	}
	if in.EndTime != nil {
		if q.To = *in.EndTime + 1; q.To <= q.From { // the end is included here
			return &cloudwatchlogs.FilterLogEventsOutput{Events: []types.FilteredLogEvent{}, SearchedLogStreams: []types.SearchedLogStream{}}, nil
		}
	}
	found, next, err := s.scan(ctx, q, pattern, eventLimit(in.Limit))
	if err != nil {
		return nil, err
	}
	out := &cloudwatchlogs.FilterLogEventsOutput{
		Events:             make([]types.FilteredLogEvent, 0, len(found)),
		SearchedLogStreams: []types.SearchedLogStream{}, // empty since 2020
	}
	for _, e := range found {
		out.Events = append(out.Events, types.FilteredLogEvent{
			EventId: new(eventID(e)), LogStreamName: &e.Stream, Timestamp: &e.Timestamp,
			IngestionTime: &e.Ingestion, Message: new(string(e.Message)),
		})
	}
	if !next.IsZero() {
		out.NextToken = new(cursor{backward: from.backward, at: next}.String())
	}
	return out, nil
}

// eventID is an event's name everywhere in the API: 56 digits, unique, and
// sorted as the events are.
func eventID(e logstore.Event) string { return fmt.Sprintf("%019d%037d", e.Timestamp, e.Seq) }

// scan reads events until the page is full, the end is reached or enough has
// been looked at. It returns those that match, in the direction of the query,
// and where to go on, which is zero at the end.
func (s *Service) scan(ctx context.Context, q logstore.Query, pattern *logpattern.Pattern, limit int) ([]logstore.Event, logstore.Position, error) {
	var found []logstore.Event
	var none logstore.Position
	size, looked := 0, 0
	until := s.cfg.Now().Add(maxScanTime)
	all := pattern.String() == ""
	for {
		q.Limit = maxEvents
		if all {
			q.Limit = limit - len(found)
		}
		page, err := s.cfg.Store.Read(q)
		if err != nil {
			return nil, none, storeError(err)
		}
		if q.Backward {
			slices.Reverse(page.Events)
		}
		for i, e := range page.Events {
			q.After = e.Position()
			looked += len(e.Message) + eventOverhead
			if all || pattern.Match(string(e.Message)) {
				bytes := len(e.Message) + eventOverhead
				if len(found) > 0 && size+bytes > maxPageBytes {
					return found, found[len(found)-1].Position(), nil
				}
				found, size = append(found, e), size+bytes
			}
			if len(found) == limit || looked >= maxScanBytes || s.cfg.Now().After(until) {
				if page.More || i < len(page.Events)-1 {
					return found, q.After, nil
				}
				return found, none, nil
			}
			if ctx.Err() != nil {
				return nil, none, ctx.Err()
			}
		}
		if !page.More || len(page.Events) == 0 {
			return found, none, nil
		}
	}
}

// testMetricFilter tells which of some messages a pattern matches.
func (s *Service) testMetricFilter(_ context.Context, in *cloudwatchlogs.TestMetricFilterInput) (*cloudwatchlogs.TestMetricFilterOutput, error) {
	pattern, err := parsePattern(in.FilterPattern)
	if err != nil {
		return nil, err
	}
	out := &cloudwatchlogs.TestMetricFilterOutput{Matches: []types.MetricFilterMatchRecord{}}
	for i, message := range in.LogEventMessages {
		if values, ok := pattern.Extract(message); ok {
			out.Matches = append(out.Matches, types.MetricFilterMatchRecord{
				EventNumber: int64(i + 1), EventMessage: &message, ExtractedValues: values,
			})
		}
	}
	return out, nil
}
