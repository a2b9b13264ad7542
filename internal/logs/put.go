package logs

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"github.com/firn-run/firn/internal/logstore"
)

// Limits of PutLogEvents (API Reference).
const (
	maxBatchBytes = 1 << 20 // messages, and eventOverhead for each
	eventOverhead = 26
	maxBatchSpan  = 24 * time.Hour
	maxAge        = 14 * day
	maxAhead      = 2 * time.Hour
)

func (s *Service) putLogEvents(_ context.Context, in *cloudwatchlogs.PutLogEventsInput) (*cloudwatchlogs.PutLogEventsOutput, error) {
	group, stream := *in.LogGroupName, *in.LogStreamName
	if err := checkBatch(in.LogEvents); err != nil {
		return nil, err
	}
	t, err := s.get(group)
	if err != nil {
		return nil, err
	}
	if !s.cfg.Store.HasStream(group, stream) {
		return nil, noStream()
	}
	now := s.cfg.Now()
	events, rejected := t.accept(in.LogEvents, now)
	if len(events) > 0 {
		first, last := *events[0].Timestamp, *events[len(events)-1].Timestamp
		if last-first > maxBatchSpan.Milliseconds() {
			return nil, invalid("The batch of log events in a single PutLogEvents request cannot span more than 24 hours.")
		}
		batch := logstore.Batch{Group: group, Stream: stream, Events: make([]logstore.Event, len(events))}
		for i, e := range events {
			batch.Events[i] = logstore.Event{Timestamp: *e.Timestamp, Message: []byte(*e.Message)}
		}
		if err := s.cfg.Store.Append(batch, logstore.Mode{Durable: true}); err != nil {
			return nil, storeError(err)
		}
		if s.cfg.Published != nil {
			for _, e := range batch.Events {
				s.cfg.Published(e.Message, time.UnixMilli(e.Timestamp))
			}
		}
	}
	return &cloudwatchlogs.PutLogEventsOutput{
		NextSequenceToken: new(sequenceToken(now.UnixMilli())), RejectedLogEventsInfo: rejected,
	}, nil
}

// checkBatch checks what makes a whole batch fail.
func checkBatch(events []types.InputLogEvent) error {
	total := 0
	for i, e := range events {
		size := len(*e.Message) + eventOverhead
		if size > maxBatchBytes {
			return invalid(fmt.Sprintf("Log event too large: %d bytes exceeds limit of %d", size, maxBatchBytes))
		}
		total += size
		if i > 0 && *e.Timestamp < *events[i-1].Timestamp {
			return invalid("Log events in a single PutLogEvents request must be in chronological order.")
		}
	}
	if total > maxBatchBytes {
		return invalid(fmt.Sprintf("Upload too large: %d bytes exceeds limit of %d", total, maxBatchBytes))
	}
	return nil
}

// accept cuts events off a batch in chronological order that are too old, past
// the group's retention or too new, and says which (nil: none).
func (t *settings) accept(events []types.InputLogEvent, now time.Time) ([]types.InputLogEvent, *types.RejectedLogEventsInfo) {
	before := func(limit int64) int { // how many events are
		n := 0
		for n < len(events) && *events[n].Timestamp < limit {
			n++
		}
		return n
	}
	old := before(now.Add(-maxAge).UnixMilli())
	expired := before(t.oldest(now))
	ahead := before(now.Add(maxAhead).UnixMilli() + 1)
	if old == 0 && expired == 0 && ahead == len(events) {
		return events, nil
	}
	rejected := &types.RejectedLogEventsInfo{}
	if old > 0 {
		rejected.TooOldLogEventEndIndex = new(int32(old))
	}
	if expired > 0 {
		rejected.ExpiredLogEventEndIndex = new(int32(expired))
	}
	if ahead < len(events) {
		rejected.TooNewLogEventStartIndex = new(int32(ahead))
	}
	return events[max(old, expired):max(ahead, old, expired)], rejected
}
