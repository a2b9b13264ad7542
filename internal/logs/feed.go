package logs

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/logpattern"
	"github.com/firn-run/firn/internal/logstore"
)

const (
	// feedBytes bounds what waits for a filter's function; what comes beyond
	// it is lost and counted.
	feedBytes = 8 << 20
	// payloadBytes bounds the messages of one delivery, so that the event fits
	// into an asynchronous invocation (1 MiB) even when they cannot be
	// compressed and grow by a third as base64.
	payloadBytes = 640 << 10
	// gatherBytes bounds what is gathered before a delivery.
	gatherBytes = 4 << 20
	// feedParallel is how many streams of one filter are delivered at once.
	feedParallel = 8
	// feedPatience is how long a delivery is tried (AWS: up to 24 hours).
	feedPatience = 24 * time.Hour
)

// patience is how a filter takes its time.
type patience struct {
	linger      time.Duration // events are gathered before they are delivered
	first, most time.Duration // between attempts: it doubles from first up to most
}

// feeding is what all feeds run under, while Run runs.
type feeding struct {
	ctx context.Context
	wg  sync.WaitGroup
}

// feed serves one subscription filter.
type feed struct {
	filter filter
	cancel context.CancelFunc
}

// startFeeds serves all filters from now on; stop ends that and waits.
func (s *Service) startFeeds(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	running := &feeding{ctx: ctx}
	s.mu.Lock()
	s.feeding = running
	s.feedLocked()
	s.mu.Unlock()
	return func() {
		cancel()
		s.mu.Lock()
		s.feeding = nil
		clear(s.feeds)
		s.mu.Unlock()
		running.wg.Wait()
	}
}

// feedLocked starts and ends feeds so that they are those of the settings. A
// filter that was changed ends and begins anew. The watcher is opened here, so
// that nothing is missed that is written after the filter was acknowledged.
func (s *Service) feedLocked() {
	if s.feeding == nil {
		return
	}
	wanted := map[feedKey]filter{}
	for group, t := range s.settings {
		for _, f := range t.Filters {
			wanted[feedKey{group, f.Name}] = f
		}
	}
	for key, running := range s.feeds {
		if f, ok := wanted[key]; ok && f == running.filter {
			delete(wanted, key)
			continue
		}
		running.cancel()
		delete(s.feeds, key)
	}
	for key, f := range wanted {
		s.feeds[key] = s.startFeedLocked(key, f)
	}
}

func (s *Service) startFeedLocked(key feedKey, f filter) *feed {
	log := s.cfg.Logger.With("group", key.group, "filter", f.Name, "function", f.Destination)
	ctx, cancel := context.WithCancel(s.feeding.ctx)
	fd := &feed{filter: f, cancel: cancel}
	d := &delivery{
		functions: s.cfg.Functions, owner: s.cfg.Account, group: key.group, filter: f, log: log, patient: s.patient,
		watcher: s.cfg.Store.Watch(logstore.WatchFilter{Groups: []string{key.group}, MaxBytes: feedBytes}),
	}
	s.feeding.wg.Go(func() {
		defer cancel()
		defer d.watcher.Close()
		d.run(ctx)
	})
	return fd
}

// delivery brings the events of a group to a filter's function.
type delivery struct {
	functions Functions
	owner     string
	group     string
	filter    filter
	pattern   *logpattern.Pattern
	watcher   *logstore.Watcher
	log       *slog.Logger
	patient   patience
}

func (d *delivery) run(ctx context.Context) {
	var err error
	if d.pattern, err = logpattern.Parse(d.filter.Pattern); err != nil || d.functions == nil {
		d.log.Error("subscription filter cannot be served", "error", err)
		return
	}
	for {
		streams, err := d.gather(ctx)
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, logstore.ErrClosed) {
				d.log.Error("subscription filter has lost its log", "error", err)
			}
			return
		}
		var group errgroup.Group
		group.SetLimit(feedParallel)
		for _, one := range streams {
			group.Go(func() error {
				d.deliverStream(ctx, one)
				return nil
			})
		}
		group.Wait() // no errors: what cannot be delivered is logged
	}
}

// streamEvents are events of one stream, in their order.
type streamEvents struct {
	stream string
	events []logstore.Event
}

// gathered is what is delivered in one go.
type gathered struct {
	streams []*streamEvents
	byName  map[string]*streamEvents
	size    int
}

// gather waits for events that match and takes what comes shortly after them.
func (d *delivery) gather(ctx context.Context) ([]*streamEvents, error) {
	g := &gathered{byName: map[string]*streamEvents{}}
	for g.size == 0 {
		if err := d.next(ctx, g); err != nil {
			return nil, err
		}
	}
	wait, cancel := context.WithTimeout(ctx, d.patient.linger)
	defer cancel()
	for g.size < gatherBytes {
		if err := d.next(wait, g); err != nil {
			break // linger is over, or the next wait will tell
		}
	}
	return g.streams, ctx.Err()
}

// next waits for one batch and takes what matches of it.
func (d *delivery) next(ctx context.Context, g *gathered) error {
	if err := ctx.Err(); err != nil { // a watcher with something to give does not look
		return err
	}
	batch, dropped, err := d.watcher.Next(ctx)
	if dropped > 0 {
		d.log.Warn("log events were lost to a subscription filter: its function is too slow", "events", dropped)
	}
	if err != nil {
		return err
	}
	for _, e := range batch.Events {
		if !d.pattern.Match(string(e.Message)) {
			continue
		}
		one := g.byName[batch.Stream]
		if one == nil {
			one = &streamEvents{stream: batch.Stream}
			g.byName[batch.Stream] = one
			g.streams = append(g.streams, one)
		}
		one.events = append(one.events, e)
		g.size += len(e.Message) + eventOverhead
	}
	return nil
}

// deliverStream delivers events of one stream in as many parts as they need.
func (d *delivery) deliverStream(ctx context.Context, one *streamEvents) {
	for start := 0; start < len(one.events); {
		end, size := start, 0
		for end < len(one.events) {
			size += len(one.events[end].Message) + eventOverhead
			if end > start && size > payloadBytes {
				break
			}
			end++
		}
		d.deliver(ctx, one.stream, one.events[start:end])
		start = end
	}
}

// message is what a subscriber gets, compressed and encoded.
type message struct {
	MessageType         string         `json:"messageType"`
	Owner               string         `json:"owner"`
	LogGroup            string         `json:"logGroup"`
	LogStream           string         `json:"logStream"`
	SubscriptionFilters []string       `json:"subscriptionFilters"`
	LogEvents           []messageEvent `json:"logEvents"`
}

type messageEvent struct {
	ID        string `json:"id"`
	Timestamp int64  `json:"timestamp"`
	Message   string `json:"message"`
}

// payload is the event of the invocation.
func (d *delivery) payload(stream string, events []logstore.Event) ([]byte, error) {
	m := message{
		MessageType: "DATA_MESSAGE", Owner: d.owner, LogGroup: d.group, LogStream: stream,
		SubscriptionFilters: []string{d.filter.Name}, LogEvents: make([]messageEvent, len(events)),
	}
	for i, e := range events {
		m.LogEvents[i] = messageEvent{ID: eventID(e), Timestamp: e.Timestamp, Message: string(e.Message)}
	}
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	plain := json.NewEncoder(zip)
	plain.SetEscapeHTML(false)
	if err := errors.Join(plain.Encode(m), zip.Close()); err != nil {
		return nil, fmt.Errorf("encode log events: %w", err)
	}
	var event struct {
		AWSLogs struct {
			Data []byte `json:"data"`
		} `json:"awslogs"`
	}
	event.AWSLogs.Data = packed.Bytes()
	return json.Marshal(event)
}

// deliver offers events to the function until it takes them, refuses them for
// good, or patience is over.
func (d *delivery) deliver(ctx context.Context, stream string, events []logstore.Event) {
	payload, err := d.payload(stream, events)
	if own, unknown := d.functions.LogGroup(ctx, d.filter.Destination); unknown == nil && own == d.group {
		err = errors.New("the function has come to write to this log group: each delivery would cause the next")
	}
	ctx, cancel := context.WithTimeout(ctx, feedPatience)
	defer cancel()
	wait := d.patient.first
	for attempt := 1; err == nil; attempt++ {
		err = d.functions.InvokeAsync(ctx, d.filter.Destination, payload)
		if err == nil {
			return
		}
		if kind := firn.KindOf(err); kind == firn.ResourceNotFound || kind == firn.RequestTooLarge || ctx.Err() != nil {
			break
		}
		if attempt == 1 {
			d.log.Info("subscription filter waits for its function", "error", err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
			err = nil
		case <-ctx.Done():
			timer.Stop()
		}
		wait = min(2*wait, d.patient.most)
	}
	if !errors.Is(context.Cause(ctx), context.Canceled) {
		d.log.Warn("log events were not delivered to a subscription filter's function", "stream", stream, "events", len(events), "error", err)
	}
}
