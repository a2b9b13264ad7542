package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// asyncEvents is the variable that has TestAsyncCrash send another number of
// events than its own, in as many lives of firn as asyncKills says.
const (
	asyncEvents = "FIRN_E2E_ASYNC_EVENTS"
	asyncKills  = "FIRN_E2E_ASYNC_KILLS"
)

func number(t *testing.T, variable string, otherwise int) int {
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

// TestAsyncCrash kills firn again and again while it accepts and works on
// events of a function that fails for one in ten: each that was accepted has
// been processed in the end, with all of its retries, and its destination was
// told.
func TestAsyncCrash(t *testing.T) {
	t.Parallel()
	if !inside(t) {
		return
	}
	events, kills := number(t, asyncEvents, 600), number(t, asyncKills, 2)
	sink := newRecordSink(t)
	data := t.TempDir() + "/data"
	args := []string{"--network", "none", "--auth", "none", "--quiet", "--async-pace", "0.01", "--endpoint", "sqs=" + sink.url}

	n := start(t, options{data: data, args: args})
	n.tolerate = true
	n.create("work", function{})
	n.destinations("work")
	todo := make([]int, events)
	for i := range todo {
		todo[i] = i
	}
	begun := time.Now()
	for life := range kills {
		before := len(todo)
		share := events / (kills + 1)
		target := sink.count() + share/3
		var accepted atomic.Int64
		todo = n.sendEvents("work", todo, func() {
			if accepted.Add(1) >= int64(share) && sink.count() >= target {
				n.cmd.Process.Kill() // seen by whoever waits for its end
			}
		})
		n.cmd.Process.Kill()
		<-n.done
		t.Logf("killed after %v: %d events accepted, %d records", time.Since(begun).Round(time.Millisecond), before-len(todo), sink.count())
		n = start(t, options{data: data, args: args})
		n.tolerate = life < kills-1
	}
	if left := n.sendEvents("work", todo, func() {}); len(left) > 0 {
		t.Fatalf("%d events were not accepted", len(left))
	}
	t.Logf("all accepted after %v, %d records", time.Since(begun).Round(time.Millisecond), sink.count())
	eventually(t, "every event ends", func() (bool, any) { return sink.count() >= events, sink.count() })
	eventually(t, "nothing waits", func() (bool, any) {
		out, err := exec.Command(program("firn"), "async", "--data", data, "-o", "json").Output()
		return err == nil && strings.Contains(string(out), `"total": 0`), fmt.Sprint(err, " ", string(out))
	})
	t.Logf("all done after %v", time.Since(begun).Round(time.Millisecond))
	sink.check(t, events)
	n.stop()
}

// destinations has what becomes of a function's events sent to two queues.
func (n *node) destinations(name string) {
	n.t.Helper()
	queueARN := func(name string) *types.OnSuccess {
		return &types.OnSuccess{Destination: aws.String("arn:aws:sqs:us-east-1:123456789012:" + name)}
	}
	_, err := n.client.PutFunctionEventInvokeConfig(n.t.Context(), &lambda.PutFunctionEventInvokeConfigInput{
		FunctionName: &name, DestinationConfig: &types.DestinationConfig{
			OnSuccess: queueARN("good"), OnFailure: &types.OnFailure{Destination: queueARN("bad").Destination},
		},
	})
	if err != nil {
		n.t.Fatalf("destinations of %s: %v", name, err)
	}
}

// sendEvents sends events, not too fast for some of them to be processed
// meanwhile, and calls accepted for each that was. It returns those that were
// not.
func (n *node) sendEvents(name string, events []int, accepted func()) (left []int) {
	var mu sync.Mutex
	next := 0
	var senders sync.WaitGroup
	for range 8 {
		senders.Go(func() {
			for {
				mu.Lock()
				if next == len(events) {
					mu.Unlock()
					return
				}
				i := events[next]
				next++
				mu.Unlock()
				if !n.event(name, i) {
					mu.Lock()
					left = append(left, i)
					mu.Unlock()
					continue
				}
				accepted()
				time.Sleep(10 * time.Millisecond) // archtest:sleep the pace of the senders
			}
		})
	}
	senders.Wait()
	return left
}

// event invokes a function asynchronously; every tenth event is one that it
// fails for.
func (n *node) event(name string, i int) bool {
	o := order{Do: "sleep", Ms: 2, Arg: strconv.Itoa(i)}
	if i%10 == 0 {
		o.Do = "error"
	}
	payload, err := json.Marshal(o)
	if err != nil {
		n.t.Error(err)
		return false
	}
	out, err := n.client.Invoke(n.t.Context(), &lambda.InvokeInput{FunctionName: &name, InvocationType: types.InvocationTypeEvent, Payload: payload})
	return err == nil && out.StatusCode == http.StatusAccepted
}

// recordSink is a queue service that keeps invocation records.
type recordSink struct {
	url string

	mu      sync.Mutex
	records map[int][]outcome // by number of the event
}

type outcome struct {
	queue, condition string
	attempts         int
}

func newRecordSink(t *testing.T) *recordSink {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &recordSink{url: "http://" + listener.Addr().String(), records: map[int][]outcome{}}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.take(r); err != nil {
			t.Error(err)
			w.WriteHeader(http.StatusBadRequest)
		}
		io.WriteString(w, "{}")
	})}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(listener) }()
	t.Cleanup(func() { server.Close(); <-done })
	return s
}

func (s *recordSink) take(r *http.Request) error {
	var in struct{ QueueUrl, MessageBody string }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return err
	}
	var record struct {
		RequestContext struct {
			Condition              string
			ApproximateInvokeCount int
		}
		RequestPayload order
	}
	if err := json.Unmarshal([]byte(in.MessageBody), &record); err != nil {
		return fmt.Errorf("%w in %s", err, in.MessageBody)
	}
	if target := r.Header.Get("X-Amz-Target"); target != "AmazonSQS.SendMessage" || !strings.Contains(r.Header.Get("Authorization"), "/us-east-1/sqs/aws4_request") {
		return fmt.Errorf("a request for %q, signed %q", target, r.Header.Get("Authorization"))
	}
	i, err := strconv.Atoi(record.RequestPayload.Arg)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records[i] = append(s.records[i], outcome{in.QueueUrl[strings.LastIndexByte(in.QueueUrl, '/')+1:], record.RequestContext.Condition, record.RequestContext.ApproximateInvokeCount})
	return nil
}

// count is how many events have a record.
func (s *recordSink) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.records)
}

// check demands the right end of every event. Twice is allowed.
func (s *recordSink) check(t *testing.T, events int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	twice := 0
	for i := range events {
		ends := s.records[i]
		if len(ends) == 0 {
			t.Errorf("event %d is lost", i)
		}
		twice += max(0, len(ends)-1)
		for _, end := range ends {
			// What a kill interrupted counts less than the function has seen.
			want := outcome{"good", "Success", 1}
			if i%10 == 0 {
				want = outcome{"bad", "RetriesExhausted", 3}
			}
			if end != want {
				t.Errorf("event %d ended with %+v, want %+v", i, end, want)
			}
		}
	}
	t.Logf("%d records were sent more than once", twice)
}
