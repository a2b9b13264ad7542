package logs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/firn-run/firn/internal/logpattern"
	"github.com/firn-run/firn/internal/logstore"
)

// fast makes live tails send every few milliseconds.
func fast(s *Service) { s.tick = 5 * time.Millisecond }

// tailing is a live tail seen by a client.
type tailing struct {
	t      *testing.T
	stream *cloudwatchlogs.StartLiveTailEventStream
	start  types.LiveTailSessionStart
}

func (n *node) tail(in *cloudwatchlogs.StartLiveTailInput) *tailing {
	n.t.Helper()
	// A client of its own: streams of one client share a buffer of the SDK.
	out, err := newClient(n.address).StartLiveTail(n.t.Context(), in)
	n.must(err)
	l := &tailing{t: n.t, stream: out.GetStream()}
	n.t.Cleanup(func() { l.stream.Close() })
	first, ok := (<-l.stream.Events()).(*types.StartLiveTailResponseStreamMemberSessionStart)
	if !ok {
		n.t.Fatalf("no session start: %v", l.stream.Err())
	}
	l.start = first.Value
	return l
}

// next waits for n events.
func (l *tailing) next(n int) (list []types.LiveTailSessionLogEvent, sampled bool) {
	l.t.Helper()
	timeout := time.After(20 * time.Second)
	for len(list) < n {
		select {
		case event, ok := <-l.stream.Events():
			if !ok {
				l.t.Fatalf("the tail has ended: %v", l.stream.Err())
			}
			update, ok := event.(*types.StartLiveTailResponseStreamMemberSessionUpdate)
			if !ok || len(update.Value.SessionResults) > maxUpdate {
				l.t.Fatalf("%T", event)
			}
			sampled = sampled || update.Value.SessionMetadata.Sampled
			list = append(list, update.Value.SessionResults...)
		case <-timeout:
			l.t.Fatalf("%d events of %d", len(list), n)
		}
	}
	return list, sampled
}

func messages(list []types.LiveTailSessionLogEvent) (texts []string) {
	for _, e := range list {
		texts = append(texts, *e.Message)
	}
	return texts
}

func TestLiveTail(t *testing.T) {
	n := newNode(t, config{change: fast})
	n.group("a", "s1", "s2", "x")
	n.group("b", "s1")
	n.put("a", "s1", 0, "before")
	all := n.tail(&cloudwatchlogs.StartLiveTailInput{LogGroupIdentifiers: []string{n.groupARN("a"), n.groupARN("b")}})
	errorsOnly := n.tail(&cloudwatchlogs.StartLiveTailInput{LogGroupIdentifiers: []string{n.groupARN("a")}, LogEventFilterPattern: aws.String("ERROR")})
	named := n.tail(&cloudwatchlogs.StartLiveTailInput{LogGroupIdentifiers: []string{n.groupARN("a")}, LogStreamNames: []string{"s2"}})
	prefixed := n.tail(&cloudwatchlogs.StartLiveTailInput{LogGroupIdentifiers: []string{n.groupARN("a")}, LogStreamNamePrefixes: []string{"q", "s"}})
	want := types.LiveTailSessionStart{LogGroupIdentifiers: []string{n.groupARN("a")}, LogStreamNamePrefixes: []string{"q", "s"}}
	if prefixed.start.RequestId == nil || prefixed.start.SessionId == nil {
		t.Error("the session has no ids")
	}
	ignore := cmpopts.IgnoreFields(types.LiveTailSessionStart{}, "RequestId", "SessionId")
	if diff := cmp.Diff(want, prefixed.start, ignore, cmpopts.IgnoreUnexported(types.LiveTailSessionStart{}), cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
	if *errorsOnly.start.LogEventFilterPattern != "ERROR" {
		t.Error("the pattern is not told")
	}

	n.put("a", "x", 0, "one")
	n.put("a", "s1", 0, "ERROR two")
	n.put("b", "s1", 0, "three")
	n.put("a", "s2", 0, "four")
	got, sampled := all.next(4)
	if diff := cmp.Diff([]string{"one", "ERROR two", "three", "four"}, messages(got)); diff != "" || sampled {
		t.Error(sampled, diff)
	}
	now := n.clock.now().UnixMilli()
	first := types.LiveTailSessionLogEvent{
		LogGroupIdentifier: aws.String(n.groupARN("a")), LogStreamName: aws.String("x"), Message: aws.String("one"), Timestamp: &now, IngestionTime: &now,
	}
	if diff := cmp.Diff(first, got[0], cmpopts.IgnoreUnexported(types.LiveTailSessionLogEvent{})); diff != "" {
		t.Error(diff)
	}
	for _, test := range []struct {
		tail *tailing
		want []string
	}{{errorsOnly, []string{"ERROR two"}}, {named, []string{"four"}}, {prefixed, []string{"ERROR two", "four"}}} {
		got, _ := test.tail.next(len(test.want))
		if diff := cmp.Diff(test.want, messages(got)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestLiveTailErrors(t *testing.T) {
	n := newNode(t, config{change: fast})
	n.group("a")
	n.group("b")
	a, b := n.groupARN("a"), n.groupARN("b")
	tests := []struct {
		in            cloudwatchlogs.StartLiveTailInput
		code, message string
	}{
		{cloudwatchlogs.StartLiveTailInput{LogGroupIdentifiers: []string{n.groupARN("none")}}, "ResourceNotFoundException", noGroupText},
		{cloudwatchlogs.StartLiveTailInput{LogGroupIdentifiers: []string{a}, LogEventFilterPattern: aws.String("a.b")}, "InvalidParameterException", "Invalid character(s) in term 'a.b'"},
		{cloudwatchlogs.StartLiveTailInput{LogGroupIdentifiers: []string{a, b}, LogStreamNames: []string{"s"}}, "InvalidParameterException", "LogStreamNames and LogStreamNamePrefixes can be specified only with one log group."},
		{cloudwatchlogs.StartLiveTailInput{LogGroupIdentifiers: []string{a}, LogStreamNames: []string{"s"}, LogStreamNamePrefixes: []string{"s"}}, "InvalidParameterException", "LogStreamNames and LogStreamNamePrefixes are mutually exclusive parameters."},
	}
	for _, test := range tests {
		_, err := n.StartLiveTail(t.Context(), &test.in)
		refused(t, err, test.code, test.message)
	}
	for range maxTails {
		n.tail(&cloudwatchlogs.StartLiveTailInput{LogGroupIdentifiers: []string{a}})
	}
	_, err := n.StartLiveTail(t.Context(), &cloudwatchlogs.StartLiveTailInput{LogGroupIdentifiers: []string{a}})
	refused(t, err, "LimitExceededException", "Resource limit exceeded.")
}

// More than 500 events in one update are sampled, and a client that goes away
// frees its place.
func TestLiveTailSample(t *testing.T) {
	n := newNode(t, config{change: func(s *Service) { s.tick = 300 * time.Millisecond }})
	n.group("a", "s")
	l := n.tail(&cloudwatchlogs.StartLiveTailInput{LogGroupIdentifiers: []string{n.groupARN("a")}})
	var many []string
	for i := range 5000 {
		many = append(many, fmt.Sprint(i))
	}
	n.put("a", "s", 0, many...)
	got, sampled := l.next(maxUpdate)
	if !sampled || len(got) != maxUpdate {
		t.Errorf("%d events, sampled %t", len(got), sampled)
	}
	if !slices.IsSortedFunc(got, func(a, b types.LiveTailSessionLogEvent) int { return int(*a.Timestamp - *b.Timestamp) }) {
		t.Error("the sample is out of order")
	}
	if *got[maxUpdate-1].Timestamp-*got[0].Timestamp < 3000 {
		t.Error("the sample is of one part of the second only")
	}
	l.stream.Close()
	eventually(t, "the tail goes on without its client", func() bool {
		n.mu.RLock()
		defer n.mu.RUnlock()
		return n.tails == 0
	})
}

// The end of the node ends tails in good order.
func TestLiveTailEnds(t *testing.T) {
	n := newNode(t, config{change: fast, run: true})
	n.group("a", "s")
	l := n.tail(&cloudwatchlogs.StartLiveTailInput{LogGroupIdentifiers: []string{n.groupARN("a")}})
	n.stop()
	for range l.stream.Events() {
	}
	if err := l.stream.Err(); err != nil {
		t.Error(err)
	}
}

// The messages of one update are bounded, whatever is thrown away for it.
func TestSampleBytes(t *testing.T) {
	everything, err := logpattern.Parse("")
	if err != nil {
		t.Fatal(err)
	}
	tl := &tail{pattern: everything}
	for i := range 3000 {
		size := 1 + i%7*3000
		tl.add(logstore.Batch{Group: "g", Stream: "s", Events: []logstore.Event{{Timestamp: int64(i), Seq: uint64(i), Message: []byte(strings.Repeat("x", size))}}})
		total := 0
		for _, e := range tl.sample {
			total += len(e.Message)
		}
		if total != tl.bytes || total > maxUpdateBytes || len(tl.sample) > maxUpdate {
			t.Fatalf("%d bytes, counted %d, of %d events", total, tl.bytes, len(tl.sample))
		}
	}
	if u := tl.update(""); !u.SessionMetadata.Sampled || tl.seen+tl.bytes+len(tl.sample) != 0 {
		t.Errorf("sampled %t, %d left", u.SessionMetadata.Sampled, len(tl.sample))
	}
}

// A flood does not keep a tail from its updates.
func TestCollectUnderFlood(t *testing.T) {
	n := newNode(t, config{})
	n.group("a", "s")
	everything, _ := logpattern.Parse("")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	w := n.cfg.Store.Watch(logstore.WatchFilter{})
	defer w.Close()
	flooded := make(chan struct{})
	go func() {
		defer close(flooded)
		for ctx.Err() == nil {
			err := n.cfg.Store.Append(logstore.Batch{Group: "a", Stream: "s", Events: []logstore.Event{{Timestamp: 1, Message: []byte("x")}}}, logstore.Mode{})
			if err != nil {
				t.Error(err)
				return
			}
		}
	}()
	tl := &tail{pattern: everything}
	if !tl.collect(ctx, w, 20*time.Millisecond) || ctx.Err() != nil {
		t.Error("the second does not end")
	}
	cancel()
	<-flooded
	w.Close()
	if tl.collect(t.Context(), w, time.Minute) {
		t.Error("a closed watcher has more to come")
	}
}

// A session ends after three hours, with AWS's exception.
func TestLiveTailTimeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := tailContext(t.Context())
		defer cancel()
		start := time.Now()
		<-ctx.Done()
		if took := time.Since(start); took != 3*time.Hour {
			t.Errorf("after %s", took)
		}
		if _, ok := errors.AsType[*types.SessionTimeoutException](context.Cause(ctx)); !ok {
			t.Error(context.Cause(ctx))
		}
	})
}
