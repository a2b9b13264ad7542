package async

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/invoke"
)

func TestSuccess(t *testing.T) {
	run(t, nil, func(b *bench) {
		id := b.accept("hello", `{"n":1}`)
		b.settle()
		if got := b.attempts; len(got) != 1 || got[0].id != id || got[0].payload != `{"n":1}` || got[0].arn != arnPrefix+"hello" {
			t.Errorf("attempts are %+v", got)
		}
		if b.waiting() != 0 || b.counts["received hello"] != 1 || b.counts["age hello"] != 1 || len(b.counts) != 2 {
			t.Errorf("%d wait, counts are %v", b.waiting(), b.counts)
		}
	})
}

// Two retries after a function's errors: one minute later, and two minutes
// after that, under one request id; then the destination and the dead-letter
// queue are told.
func TestRetries(t *testing.T) {
	for _, c := range []struct {
		retries int
		want    []time.Duration
	}{
		{2, []time.Duration{0, time.Minute, 3 * time.Minute}},
		{1, []time.Duration{0, time.Minute}},
		{0, []time.Duration{0}},
	} {
		run(t, nil, func(b *bench) {
			s := DefaultSettings()
			s.MaximumRetryAttempts = c.retries
			s.OnFailure, s.DeadLetter = "arn:aws:sqs:us-east-1:123456789012:failures", "arn:aws:sqs:us-east-1:123456789012:letters"
			b.settings["bad:live"] = s
			b.does(failing)
			id := b.accept("bad:live", `{"a":"<&>"}`)
			b.sleep(time.Hour)
			if got := b.times(id); !slices.Equal(got, c.want) {
				t.Fatalf("%d retries: attempts at %v, want %v", c.retries, got, c.want)
			}
			if b.waiting() != 0 || b.counts["dropped bad:live"] != 1 || b.counts["age bad:live"] != c.retries+1 {
				t.Errorf("%d wait, counts are %v", b.waiting(), b.counts)
			}
			sent := b.deliveries("sqs")
			if len(sent) != 2 {
				t.Fatalf("sent %+v", sent)
			}
			var record, letter struct {
				QueueUrl, MessageBody                      string
				MessageAttributes, MessageSystemAttributes map[string]map[string]string
			}
			if err := errors.Join(json.Unmarshal([]byte(sent[0].body), &record), json.Unmarshal([]byte(sent[1].body), &letter)); err != nil {
				t.Fatal(err)
			}
			want := fmt.Sprintf(`{"version":"1.0","timestamp":%q,"requestContext":{"requestId":%q,"functionArn":"`+arnPrefix+`bad:live","condition":"RetriesExhausted","approximateInvokeCount":%d},`+
				`"requestPayload":{"a":"<&>"},"responseContext":{"statusCode":200,"executedVersion":"$LATEST","functionError":"Unhandled"},"responsePayload":{"errorMessage":"it broke","errorType":"Boom"}}`,
				b.began.Add(sent[0].at).UTC().Format(recordTime), id, c.retries+1)
			if record.MessageBody != want || record.QueueUrl != "http://sqs.test/123456789012/failures" {
				t.Errorf("the record is\n%s, want\n%s", record.MessageBody, want)
			}
			wantAttributes := map[string]map[string]string{
				"RequestID": {"DataType": "String", "StringValue": id}, "ErrorCode": {"DataType": "Number", "StringValue": "200"},
				"ErrorMessage": {"DataType": "String", "StringValue": "it broke"},
			}
			// Recorded of a destination.
			for _, attributes := range []map[string]map[string]string{record.MessageSystemAttributes, letter.MessageSystemAttributes} {
				if got := attributes["AWSTraceHeader"]; len(attributes) != 1 || got["DataType"] != "String" || !strings.HasPrefix(got["StringValue"], "Root=1-5759e988-bd862e3fe1be46a994272793;Lineage=1:abc:1") {
					t.Errorf("the attributes of the system are %v", attributes)
				}
			}
			if letter.MessageBody != `{"a":"<&>"}` || letter.QueueUrl != "http://sqs.test/123456789012/letters" || fmt.Sprint(letter.MessageAttributes) != fmt.Sprint(wantAttributes) {
				t.Errorf("the dead letter is %+v", letter)
			}
		})
	}
}

// A throttled event is put back for 1, 2, 4, ... seconds, at most 5 minutes,
// for as long as its function allows: 6 hours by default.
func TestThrottledForSixHours(t *testing.T) {
	run(t, nil, func(b *bench) {
		s := DefaultSettings()
		s.OnFailure = "arn:aws:s3:::bucket"
		s.DeadLetter = "arn:aws:sns:eu-west-1:123456789012:topic"
		b.settings["busy"] = s
		b.does(throttled)
		id := b.accept("busy", `{}`)
		b.sleep(7 * time.Hour)
		times := b.times(id)
		for i := 1; i < len(times); i++ {
			want := min(time.Second<<min(i-1, 20), 5*time.Minute)
			if got := times[i] - times[i-1]; got < want || got > want+10*time.Second {
				t.Errorf("pause %d was %v, want %v", i, got, want)
			}
		}
		last := times[len(times)-1]
		if len(times) < 70 || last > 6*time.Hour || last < 6*time.Hour-6*time.Minute {
			t.Errorf("%d attempts, the last at %v", len(times), last)
		}
		if b.waiting() != 0 || b.counts["dropped busy"] != 1 {
			t.Errorf("%d wait, counts are %v", b.waiting(), b.counts)
		}
		objects := b.deliveries("s3")
		if len(objects) != 1 || !strings.HasPrefix(objects[0].path, "/bucket/aws/lambda/async/busy/2000/01/01/2000-01-01T05.") ||
			!strings.Contains(objects[0].body, `"condition":"EventAgeExceeded","approximateInvokeCount":0},"requestPayload":{},"responseContext":{"statusCode":429}}`) {
			t.Errorf("stored %+v", objects)
		}
		letters := b.deliveries("sns")
		if len(letters) != 1 || !strings.Contains(letters[0].body, "Rate+Exceeded.") || !strings.Contains(letters[0].body, "StringValue=429") ||
			!strings.Contains(letters[0].header.Get("Authorization"), "/eu-west-1/sns/aws4_request") {
			t.Errorf("published %+v", letters)
		}
	})
}

func TestMaximumAge(t *testing.T) {
	run(t, nil, func(b *bench) {
		s := DefaultSettings()
		s.MaximumEventAge = time.Minute
		b.settings["young"] = s
		b.does(failing)
		id := b.accept("young", `{}`)
		b.sleep(time.Hour) // the first retry would come too late
		if got := b.times(id); len(got) != 1 || b.waiting() != 0 || b.counts["dropped young"] != 1 {
			t.Errorf("attempts at %v, counts %v", got, b.counts)
		}
		// Behind one that takes its time, events grow too old; they are given
		// up without waiting for it.
		b.does(func(r *invoke.Request) (*invoke.Response, error) {
			time.Sleep(10 * time.Minute)
			return answerOf("1", ""), nil
		})
		for range firstLimit + 5 {
			b.accept("young", `{}`)
		}
		b.engine.pacer.mu.Lock()
		b.engine.pacer.lanes[arnPrefix+"young:$LATEST"].hold = time.Now().Add(time.Hour)
		b.engine.pacer.mu.Unlock()
		b.sleep(2 * time.Minute)
		if b.counts["dropped young"] != 1+5 || b.waiting() != firstLimit {
			t.Errorf("%d wait, counts are %v", b.waiting(), b.counts)
		}
		b.sleep(time.Hour)
		if b.waiting() != 0 {
			t.Errorf("%d wait", b.waiting())
		}
	})
}

func TestOff(t *testing.T) {
	run(t, nil, func(b *bench) {
		s := DefaultSettings()
		s.Off, s.OnFailure, s.DeadLetter = true, "arn:aws:sqs:us-east-1:123456789012:failures", "arn:aws:sqs:us-east-1:123456789012:letters"
		b.settings["off"] = s
		b.accept("off", `[]`)
		b.settle()
		sent := b.deliveries("sqs")
		if len(b.attempts) != 0 || len(sent) != 2 || b.waiting() != 0 {
			t.Fatalf("%d attempts, sent %+v", len(b.attempts), sent)
		}
		if !strings.Contains(sent[0].body, `\"condition\":\"ZeroReservedConcurrency\",\"approximateInvokeCount\":0},\"requestPayload\":[]}`) {
			t.Errorf("the record is %s", sent[0].body)
		}
		if strings.Contains(sent[1].body, "ErrorCode") || !strings.Contains(sent[1].body, "zero reserved concurrent executions") {
			t.Errorf("the dead letter is %s", sent[1].body)
		}
	})
}

// What cannot reach the function: its deletion counts as an attempt, a loop
// ends the event at once, an error of the service is waited out.
func TestNotInvoked(t *testing.T) {
	fault := func(kind firn.Kind) func(*invoke.Request) (*invoke.Response, error) {
		return func(*invoke.Request) (*invoke.Response, error) { return nil, firn.Faultf(kind, "no %s", kind) }
	}
	run(t, nil, func(b *bench) {
		s := DefaultSettings()
		s.MaximumRetryAttempts, s.OnFailure = 1, "arn:aws:events:us-east-1:123456789012:event-bus/bus"
		for _, name := range []string{"deleted", "loop", "ill"} {
			b.settings[name] = s
		}
		b.accept("deleted", `{}`)
		b.settle()
		b.does(fault(firn.ResourceNotFound))
		id := b.accept("deleted", `{}`)
		b.settle()
		b.mu.Lock()
		b.gone["deleted"] = true // and with it its settings, which hold on
		b.mu.Unlock()
		b.sleep(time.Hour)
		events := b.deliveries("events")
		if got := b.times(id); len(got) != 2 || got[1]-got[0] != time.Minute || len(events) != 1 {
			t.Fatalf("attempts at %v, sent %+v", got, events)
		}
		var put struct {
			Entries []struct {
				Source, DetailType, Detail, EventBusName string
				Resources                                []string
				Time                                     float64
			}
		}
		if err := json.Unmarshal([]byte(events[0].body), &put); err != nil || len(put.Entries) != 1 {
			t.Fatalf("%v in %s", err, events[0].body)
		}
		e := put.Entries[0]
		if e.Source != "lambda" || e.DetailType != "Lambda Function Invocation Result - Failure" || e.EventBusName != s.OnFailure ||
			!slices.Equal(e.Resources, []string{s.OnFailure, arnPrefix + "deleted:$LATEST"}) || e.Time != float64(b.began.Add(events[0].at).Unix()) ||
			!strings.Contains(e.Detail, `"condition":"RetriesExhausted","approximateInvokeCount":2},"requestPayload":{},"responseContext":{"statusCode":404}}`) ||
			events[0].header.Get("X-Amz-Target") != "AWSEvents.PutEvents" {
			t.Errorf("the event is %+v", e)
		}

		b.does(fault(firn.RecursiveInvocation))
		id = b.accept("loop", `{}`)
		b.settle()
		events = b.deliveries("events")
		if len(b.times(id)) != 1 || len(events) != 2 || !strings.Contains(events[1].body, `\"condition\":\"RecursiveInvocation\"`) {
			t.Errorf("sent %+v", events)
		}

		b.does(fault(firn.Service))
		id = b.accept("ill", `{}`)
		b.sleep(2 * time.Second)
		b.does(func(*invoke.Request) (*invoke.Response, error) { return answerOf("1", ""), nil })
		b.sleep(time.Minute)
		if got := b.times(id); len(got) < 3 || b.waiting() != 0 || b.counts["dropped ill"] != 0 {
			t.Errorf("attempts at %v, counts %v", got, b.counts)
		}
	})
}

// A function as destination gets the record as its event, in the same trace.
func TestFunctionAsDestination(t *testing.T) {
	run(t, nil, func(b *bench) {
		s := DefaultSettings()
		s.OnSuccess = arnPrefix + "next:7"
		b.settings["first"] = s
		b.accept("first", `{"x":1}`)
		b.settle()
		if len(b.attempts) != 2 || b.counts["received next:7"] != 1 {
			t.Fatalf("attempts are %+v, counts %v", b.attempts, b.counts)
		}
		next := b.attempts[1]
		if next.arn != arnPrefix+"next:7" || !strings.Contains(next.trace, "Lineage=1:abc:1") ||
			!strings.Contains(next.payload, `"condition":"Success","approximateInvokeCount":1},"requestPayload":{"x":1},"responseContext":{"statusCode":200,"executedVersion":"$LATEST"},"responsePayload":"done"}`) {
			t.Errorf("the second event is %+v", next)
		}
		// A record that is too large for an event is not delivered.
		b.does(func(*invoke.Request) (*invoke.Response, error) {
			return answerOf(`"`+strings.Repeat("x", firn.MaxEventPayloadBytes)+`"`, ""), nil
		})
		b.accept("first", `{}`)
		b.settle()
		if b.counts["undelivered first"] != 1 || b.waiting() != 0 {
			t.Errorf("counts are %v", b.counts)
		}
	})
}

// Deliveries are tried again when that may help, and counted when they fail.
func TestDeliveryFails(t *testing.T) {
	const queueARN = "arn:aws:sqs:us-east-1:123456789012:q"
	for _, c := range []struct {
		name, target string
		status       int
		answer       string
		tries        int
	}{
		{"unreachable", queueARN, 0, "", 3},
		{"internal", queueARN, 500, "oops", 3},
		{"throttled", queueARN, 400, `{"__type":"ThrottlingException"}`, 3},
		{"denied", queueARN, 403, "AccessDenied", 1},
		{"refused entry", "arn:aws:events:us-east-1:123456789012:event-bus/default", 200, `{"FailedEntryCount":1,"Entries":[{"ErrorCode":"NotAuthorized","ErrorMessage":"no"}]}`, 1},
		{"unknown service", "arn:aws:kinesis:us-east-1:123456789012:stream/s", 200, "", 0},
		{"no ARN", "nonsense", 200, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			run(t, nil, func(b *bench) {
				s := DefaultSettings()
				s.OnSuccess = c.target
				b.settings["f"] = s
				b.service = func(*http.Request, []byte) (int, string) { return c.status, c.answer }
				b.accept("f", `{}`)
				b.sleep(time.Minute)
				if len(b.sent) != c.tries || b.counts["undelivered f"] != 1 || b.waiting() != 0 || len(b.attempts) != 1 {
					t.Errorf("%d deliveries, %d wait, counts are %v", len(b.sent), b.waiting(), b.counts)
				}
			})
		})
	}
	run(t, func(c *Config) { c.Endpoints = nil }, func(b *bench) {
		s := DefaultSettings()
		s.MaximumRetryAttempts, s.DeadLetter = 0, queueARN
		b.settings["f"] = s
		b.does(failing)
		b.accept("f", `{}`)
		b.settle()
		if b.counts["dead letter lost f"] != 1 || b.waiting() != 0 {
			t.Errorf("counts are %v", b.counts)
		}
	})
}

func TestAcceptRefuses(t *testing.T) {
	run(t, nil, func(b *bench) {
		big := &invoke.Request{Function: firn.FunctionRef{Name: "f"}, Payload: make([]byte, firn.MaxEventPayloadBytes+1)}
		err := b.engine.Accept(t.Context(), big)
		if f, ok := errors.AsType[*firn.Fault](err); !ok || f.Kind != firn.RequestEntityTooLarge || f.Message != "1048577 byte payload is too large for the Event invocation type (limit 1048576 bytes)" {
			t.Errorf("too large: %v", err)
		}
		b.checks = func(*invoke.Request) error { return firn.Faultf(firn.ResourceNotFound, "gone") }
		if err := b.engine.Accept(t.Context(), &invoke.Request{Function: firn.FunctionRef{Name: "f"}}); firn.KindOf(err) != firn.ResourceNotFound {
			t.Errorf("no function: %v", err)
		}
		if b.waiting() != 0 || len(b.counts) != 0 {
			t.Errorf("%d wait, counts are %v", b.waiting(), b.counts)
		}
	})
	dir := t.TempDir()
	b := newBench(t)
	b.start(dir, nil)
	b.stop()
	if err := b.engine.Accept(t.Context(), &invoke.Request{Function: firn.FunctionRef{Name: "f"}}); firn.KindOf(err) != firn.ServiceUnavailable {
		t.Errorf("after the end: %v", err)
	}
}

// One function that is slow and one that is throttled, with many events each:
// a third function's event does not wait for them.
func TestNobodyWaitsForOthers(t *testing.T) {
	run(t, func(c *Config) { c.Workers = 32 }, func(b *bench) {
		b.does(func(r *invoke.Request) (*invoke.Response, error) {
			switch r.Function.Name {
			case "slow":
				time.Sleep(15 * time.Minute)
			case "throttled":
				return throttled(r)
			}
			return answerOf("1", ""), nil
		})
		for range 500 {
			b.accept("slow", `{}`)
			b.accept("throttled", `{}`)
		}
		for i := range 20 {
			b.sleep(7 * time.Second)
			before := time.Since(b.began)
			id := b.accept(fmt.Sprint("quick", i%2), `{}`)
			b.settle()
			if got := b.times(id); len(got) != 1 || got[0]-before > time.Millisecond {
				t.Fatalf("at %v: invoked at %v", before, got)
			}
		}
		if b.most > 32 || b.most < 16 {
			t.Errorf("%d ran at once", b.most)
		}
		b.engine.Stop()
		b.sleep(16 * time.Minute) // those that run end
	})
}

// A lane gets more workers while that helps: for functions that wait, not for
// those that share a processor.
func TestPace(t *testing.T) {
	for _, c := range []struct {
		name      string
		function  func(*bench) func(*invoke.Request) (*invoke.Response, error)
		low, high int
	}{
		{"sleeper", func(*bench) func(*invoke.Request) (*invoke.Response, error) {
			return func(*invoke.Request) (*invoke.Response, error) {
				time.Sleep(time.Second)
				return answerOf("1", ""), nil
			}
		}, 64, 256},
		{"processor", func(*bench) func(*invoke.Request) (*invoke.Response, error) {
			processor := make(chan struct{}, 1) // time stands still for who waits for a mutex
			return func(*invoke.Request) (*invoke.Response, error) {
				processor <- struct{}{}
				defer func() { <-processor }()
				time.Sleep(10 * time.Millisecond)
				return answerOf("1", ""), nil
			}
		}, 8, 16},
	} {
		run(t, func(cfg *Config) { cfg.Workers = 256 }, func(b *bench) {
			b.does(c.function(b))
			for range 800 {
				b.accept("f", `{}`)
			}
			b.sleep(time.Minute)
			if b.waiting() != 0 || b.most < c.low || b.most > c.high {
				t.Errorf("%s: %d ran at once, %d are left", c.name, b.most, b.waiting())
			}
		})
	}
}

// A function with little concurrency is not asked for more for long.
func TestThrottlesAreFew(t *testing.T) {
	run(t, nil, func(b *bench) {
		var running, refusals atomic.Int64
		b.does(func(r *invoke.Request) (*invoke.Response, error) {
			defer running.Add(-1)
			if running.Add(1) > 2 {
				refusals.Add(1)
				return throttled(r)
			}
			time.Sleep(100 * time.Millisecond)
			return answerOf("1", ""), nil
		})
		for range 400 {
			b.accept("two", `{}`)
		}
		b.sleep(40 * time.Second) // 20 s are the least
		if b.waiting() != 0 || refusals.Load() > 100 {
			t.Errorf("%d are left after %d throttles", b.waiting(), refusals.Load())
		}
	})
}

// What waits, and what was running, goes on after a restart.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	b := newBench(t)
	b.start(dir, func(c *Config) { c.Pace = 0.002 })
	b.does(failing)
	id := b.accept("f", `{"keep":"me"}`)
	waitFor(t, func() bool { return len(b.times(id)) == 1 && !b.engine.queue.Claimed(1) })
	b.stop()
	b.start(dir, func(c *Config) { c.Pace = 0.002 })
	waitFor(t, func() bool { return b.waiting() == 0 })
	b.stop()
	if got := b.times(id); len(got) != 3 || b.attempts[2].payload != `{"keep":"me"}` || b.counts["dropped f"] != 1 {
		t.Errorf("attempts are %+v, counts %v", b.attempts, b.counts)
	}
}

func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for !done() {
		if ctx.Err() != nil {
			t.Fatal("it did not come to that")
		}
		time.Sleep(time.Millisecond) // archtest:sleep polls: what is written tells nobody
	}
}
