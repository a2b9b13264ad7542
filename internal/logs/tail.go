package logs

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/logpattern"
	"github.com/firn-run/firn/internal/logstore"
)

const (
	// maxTails is how many live tails there are at once (CloudWatch Logs
	// quotas), tailLimit how long one may last (StartLiveTail, API Reference).
	maxTails  = 15
	tailLimit = 3 * time.Hour
	// tailPause is before the first event. The SDK for Go closes its request
	// body when an answer begins; if its transport has not looked for the
	// body's end by then it takes that for an error and cuts the connection.
	// Next to the server, with a pause for garbage, that does happen.
	tailPause = 20 * time.Millisecond
	// maxUpdate is how many events an update has; of more a sample is taken.
	maxUpdate = 500
	// maxUpdateBytes bounds their messages: escaped as JSON they must still
	// fit into a frame that clients read, of 16 MiB.
	maxUpdateBytes = 2 << 20
)

// startLiveTail sends what is written to the groups from now on, once a
// second, until the client goes away, the session's time is over or Run ends.
func (s *Service) startLiveTail(ctx context.Context, in *cloudwatchlogs.StartLiveTailInput, out *awswire.EventStream) error {
	t, filter, err := s.newTail(in)
	if err != nil {
		return err
	}
	if !s.enterTail() {
		return limitExceeded()
	}
	defer s.leaveTail()
	watcher := s.cfg.Store.Watch(filter)
	defer watcher.Close()
	select {
	case <-time.After(tailPause):
	case <-ctx.Done():
	}
	err = out.Send("sessionStart", types.LiveTailSessionStart{
		RequestId: new(awswire.RequestID(ctx)), SessionId: new(awswire.NewRequestID()),
		LogGroupIdentifiers: in.LogGroupIdentifiers, LogStreamNames: in.LogStreamNames,
		LogStreamNamePrefixes: in.LogStreamNamePrefixes, LogEventFilterPattern: in.LogEventFilterPattern,
	})
	if err != nil {
		return err
	}
	ctx, cancel := tailContext(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	for {
		more := t.collect(ctx, watcher, s.tick)
		switch {
		case s.life.Err() != nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		if err := out.Send("sessionUpdate", t.update(s.prefix())); err != nil || !more {
			return err
		}
	}
}

// tailContext ends when a session's time is over, with AWS's exception.
func tailContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, tailLimit, &types.SessionTimeoutException{Message: new("The Live Tail session has timed out after three hours.")})
}

func (s *Service) enterTail() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tails == maxTails {
		return false
	}
	s.tails++
	return true
}

func (s *Service) leaveTail() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tails--
}

// tail is one session: what it lets through and the sample of this second.
type tail struct {
	pattern  *logpattern.Pattern
	prefixes []string

	seen   int // events that matched, this second
	bytes  int // of the sample's messages
	sample []tailEvent
	missed bool // some events were not even seen
}

type tailEvent struct {
	group string
	logstore.Event
}

// newTail checks a request and returns what the session is to watch.
func (s *Service) newTail(in *cloudwatchlogs.StartLiveTailInput) (*tail, logstore.WatchFilter, error) {
	none := logstore.WatchFilter{}
	filtered := len(in.LogStreamNames) > 0 || len(in.LogStreamNamePrefixes) > 0
	switch {
	case len(in.LogStreamNames) > 0 && len(in.LogStreamNamePrefixes) > 0:
		return nil, none, invalid("LogStreamNames and LogStreamNamePrefixes are mutually exclusive parameters.")
	case filtered && len(in.LogGroupIdentifiers) > 1:
		return nil, none, invalid("LogStreamNames and LogStreamNamePrefixes can be specified only with one log group.")
	}
	pattern, err := parsePattern(in.LogEventFilterPattern)
	if err != nil {
		return nil, none, err
	}
	filter := logstore.WatchFilter{Streams: in.LogStreamNames}
	for _, id := range in.LogGroupIdentifiers {
		group, err := s.existing(id)
		if err != nil {
			return nil, none, err
		}
		filter.Groups = append(filter.Groups, group)
	}
	return &tail{pattern: pattern, prefixes: in.LogStreamNamePrefixes}, filter, nil
}

// collect takes what comes in the next second. It returns false when nothing
// will come any more.
func (t *tail) collect(ctx context.Context, w *logstore.Watcher, tick time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, tick)
	defer cancel()
	for {
		batch, dropped, err := w.Next(ctx)
		if err != nil {
			return !errors.Is(err, logstore.ErrClosed)
		}
		t.missed = t.missed || dropped > 0
		if t.wants(batch.Stream) {
			t.add(batch)
		}
		if ctx.Err() != nil { // a watcher with something to give does not look
			return true
		}
	}
}

func (t *tail) wants(stream string) bool {
	return len(t.prefixes) == 0 || slices.ContainsFunc(t.prefixes, func(p string) bool { return strings.HasPrefix(stream, p) })
}

// add takes events into the sample, each of this second's with the same
// chance.
func (t *tail) add(batch logstore.Batch) {
	for _, e := range batch.Events {
		if !t.pattern.Match(string(e.Message)) {
			continue
		}
		t.seen++
		e.Stream = batch.Stream
		place := len(t.sample)
		if place == maxUpdate {
			if place = rand.IntN(t.seen); place >= maxUpdate {
				continue
			}
			t.bytes -= len(t.sample[place].Message)
		}
		if t.bytes+len(e.Message) > maxUpdateBytes {
			if place < len(t.sample) { // the one in this place stays
				t.bytes += len(t.sample[place].Message)
			}
			t.missed = true
			continue
		}
		t.bytes += len(e.Message)
		one := tailEvent{group: batch.Group, Event: e}
		if place == len(t.sample) {
			t.sample = append(t.sample, one)
		} else {
			t.sample[place] = one
		}
	}
}

// update returns the event for this second and begins the next.
func (t *tail) update(prefix string) *types.LiveTailSessionUpdate {
	slices.SortStableFunc(t.sample, func(a, b tailEvent) int {
		return cmp.Or(cmp.Compare(a.Ingestion, b.Ingestion), cmp.Compare(a.Seq, b.Seq))
	})
	u := &types.LiveTailSessionUpdate{
		SessionMetadata: &types.LiveTailSessionMetadata{Sampled: t.missed || t.seen > len(t.sample)},
		SessionResults:  make([]types.LiveTailSessionLogEvent, 0, len(t.sample)),
	}
	for _, e := range t.sample {
		u.SessionResults = append(u.SessionResults, types.LiveTailSessionLogEvent{
			LogGroupIdentifier: new(prefix + e.group), LogStreamName: &e.Stream,
			Timestamp: &e.Timestamp, IngestionTime: &e.Ingestion, Message: new(string(e.Message)),
		})
	}
	t.seen, t.bytes, t.missed, t.sample = 0, 0, false, nil
	return u
}
