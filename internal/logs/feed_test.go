package logs

import (
	"bytes"
	stdcmp "cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/firn-run/firn"
)

const functionPrefix = "arn:aws:lambda:" + testRegion + ":" + testAccount + ":function:"

// fakeFunctions are functions of any name but "none".
type fakeFunctions struct {
	events  chan invoked
	invoke  func(ctx context.Context, attempt int) error // nil: accepted
	mu      sync.Mutex
	attempt int
	group   string // of all functions, if it is set
}

type invoked struct {
	function string
	payload  []byte
}

func (f *fakeFunctions) LogGroup(_ context.Context, arn string) (string, error) {
	name := strings.TrimPrefix(arn, functionPrefix)
	if name == "none" {
		return "", firn.Faultf(firn.ResourceNotFound, "Function not found: %s", arn)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return stdcmp.Or(f.group, "/aws/lambda/"+name), nil
}

func (f *fakeFunctions) writeTo(group string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.group = group
}

func (f *fakeFunctions) InvokeAsync(ctx context.Context, arn string, payload []byte) error {
	f.mu.Lock()
	f.attempt++
	attempt := f.attempt
	f.mu.Unlock()
	if f.invoke != nil {
		if err := f.invoke(ctx, attempt); err != nil {
			return err
		}
	}
	select {
	case f.events <- invoked{arn, payload}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *fakeFunctions) attempts() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.attempt
}

// next is the next event that a function accepted, decoded.
func (f *fakeFunctions) next(t *testing.T) (function string, m message, size int) {
	t.Helper()
	select {
	case one := <-f.events:
		var event struct {
			AWSLogs struct {
				Data []byte `json:"data"`
			} `json:"awslogs"`
		}
		err := json.Unmarshal(one.payload, &event)
		if err != nil {
			t.Fatal(err)
		}
		zip, err := gzip.NewReader(bytes.NewReader(event.AWSLogs.Data))
		if err != nil {
			t.Fatal(err)
		}
		plain, err := io.ReadAll(zip)
		if err == nil {
			err = json.Unmarshal(plain, &m)
		}
		if err != nil {
			t.Fatal(err)
		}
		return one.function, m, len(one.payload)
	case <-time.After(20 * time.Second):
		t.Fatal("no delivery")
		return "", m, 0
	}
}

// subscribe is a filter to the function "sink".
func subscribe(group, name, pattern string) *cloudwatchlogs.PutSubscriptionFilterInput {
	return &cloudwatchlogs.PutSubscriptionFilterInput{
		LogGroupName: &group, FilterName: &name, FilterPattern: &pattern, DestinationArn: aws.String(functionPrefix + "sink"),
	}
}

func TestSubscriptionFilters(t *testing.T) {
	n := newNode(t, config{functions: &fakeFunctions{}})
	n.group("g")
	n.group("/aws/lambda/sink")
	put := func(in *cloudwatchlogs.PutSubscriptionFilterInput, change func(*cloudwatchlogs.PutSubscriptionFilterInput)) error {
		if change != nil {
			change(in)
		}
		_, err := n.PutSubscriptionFilter(t.Context(), in)
		return err
	}
	n.must(put(subscribe("g", "two", ""), nil))
	created := n.clock.now().UnixMilli()
	n.clock.move(time.Second)
	n.must(put(subscribe("g", "one", "[a, b]"), func(in *cloudwatchlogs.PutSubscriptionFilterInput) { in.Distribution = types.DistributionRandom }))
	n.must(put(subscribe("g", "two", "ERROR"), nil))
	list := func(in *cloudwatchlogs.DescribeSubscriptionFiltersInput) (list []types.SubscriptionFilter) {
		t.Helper()
		in.LogGroupName = aws.String("g")
		for p := cloudwatchlogs.NewDescribeSubscriptionFiltersPaginator(n.Client, in); p.HasMorePages(); {
			page, err := p.NextPage(t.Context())
			n.must(err)
			list = append(list, page.SubscriptionFilters...)
		}
		return list
	}
	want := []types.SubscriptionFilter{{
		FilterName: aws.String("one"), FilterPattern: aws.String("[a, b]"), LogGroupName: aws.String("g"), Distribution: types.DistributionRandom,
		DestinationArn: aws.String(functionPrefix + "sink"), CreationTime: aws.Int64(created + 1000),
	}, {
		FilterName: aws.String("two"), FilterPattern: aws.String("ERROR"), LogGroupName: aws.String("g"), Distribution: types.DistributionByLogStream,
		DestinationArn: aws.String(functionPrefix + "sink"), CreationTime: &created,
	}}
	ignore := cmpopts.IgnoreUnexported(types.SubscriptionFilter{})
	if diff := cmp.Diff(want, list(&cloudwatchlogs.DescribeSubscriptionFiltersInput{}), ignore); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want, list(&cloudwatchlogs.DescribeSubscriptionFiltersInput{Limit: aws.Int32(1)}), ignore); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want[1:], list(&cloudwatchlogs.DescribeSubscriptionFiltersInput{FilterNamePrefix: aws.String("tw")}), ignore); diff != "" {
		t.Error(diff)
	}

	type input = cloudwatchlogs.PutSubscriptionFilterInput
	destination := func(arn string) func(*input) {
		return func(in *input) { in.DestinationArn = &arn }
	}
	const invalid = "InvalidParameterException"
	const notExecuted = "Could not execute the lambda function. Make sure you have given CloudWatch Logs permission to execute your function."
	bad := []struct {
		group, name, pattern string
		change               func(*input)
		code, message        string
	}{
		{"g", "three", "", nil, "LimitExceededException", "Resource limit exceeded."},
		{"none", "a", "", nil, "ResourceNotFoundException", noGroupText},
		{"g", "two", "a-b", nil, invalid, "Invalid character(s) in term 'a-b'"},
		{"/aws/lambda/sink", "a", "", nil, invalid, "The log group provided is reserved for the function logs of the destination function."},
		{"g", "two", "", destination(functionPrefix + "none"), invalid, notExecuted},
		{"g", "two", "", destination("arn:aws:lambda:us-east-1:" + testAccount + ":function:sink"), invalid, notExecuted},
		{"g", "two", "", destination("arn:aws:lambda:" + testRegion + ":999999999999:function:sink"), "AccessDeniedException", "Cross-account lambda invocation passing is not allowed. You must use DestinationPolicies to create cross account lambda triggers."},
		{"g", "two", "", destination("arn:aws:kinesis:" + testRegion + ":" + testAccount + ":stream/s"), invalid, "destinationArn for vendor kinesis cannot be used without roleArn"},
		{"g", "two", "", func(in *input) {
			in.DestinationArn = aws.String("arn:aws:kinesis:" + testRegion + ":" + testAccount + ":stream/s")
			in.RoleArn = aws.String("arn:aws:iam::123456789012:role/r")
		}, "NotImplementedException", "A destinationArn for vendor kinesis is not served by firn yet."},
		{"g", "two", "", func(in *input) { in.RoleArn = aws.String("arn:aws:iam::123456789012:role/r") }, invalid, "destinationArn for vendor lambda cannot be used with roleArn"},
		{"g", "two", "", destination("arn:aws:logs:" + testRegion + ":" + testAccount + ":destination:d"), "NotImplementedException", "A destinationArn for vendor logs is not served by firn yet."},
		{"g", "two", "", destination("sink"), invalid, "The destinationArn is not an ARN: sink"},
		{"g", "two", "", func(in *input) { in.ApplyOnTransformedLogs = true }, "NotImplementedException", "applyOnTransformedLogs is not served by firn yet."},
		{"g", "two", "", func(in *input) { in.EmitSystemFields = []string{"@aws.account"} }, "NotImplementedException", "emitSystemFields is not served by firn yet."},
	}
	for _, test := range bad {
		refused(t, put(subscribe(test.group, test.name, test.pattern), test.change), test.code, test.message)
	}
	remove := func(group, name string) error {
		_, err := n.DeleteSubscriptionFilter(t.Context(), &cloudwatchlogs.DeleteSubscriptionFilterInput{LogGroupName: &group, FilterName: &name})
		return err
	}
	refused(t, remove("none", "a"), "ResourceNotFoundException", noGroupText)
	refused(t, remove("g", "none"), "ResourceNotFoundException", "The specified subscription filter does not exist.")
	n.must(remove("g", "one"))
	if diff := cmp.Diff(want[1:], list(&cloudwatchlogs.DescribeSubscriptionFiltersInput{}), ignore); diff != "" {
		t.Error(diff)
	}
	_, err := n.DescribeSubscriptionFilters(t.Context(), &cloudwatchlogs.DescribeSubscriptionFiltersInput{LogGroupName: aws.String("none")})
	refused(t, err, "ResourceNotFoundException", noGroupText)
}

// hasty makes filters gather and wait for milliseconds only.
func hasty(s *Service) {
	s.patient = patience{linger: 100 * time.Millisecond, first: time.Millisecond, most: 2 * time.Millisecond}
}

func TestDelivery(t *testing.T) {
	functions := &fakeFunctions{events: make(chan invoked, 100)}
	n := newNode(t, config{functions: functions, run: true, change: hasty})
	n.group("g", "s", "other")
	n.group("elsewhere", "s")
	_, err := n.PutSubscriptionFilter(t.Context(), subscribe("g", "f", "ERROR"))
	n.must(err)
	n.put("elsewhere", "s", 0, "ERROR 0")
	n.put("g", "s", 0, "ERROR 1 <&>", "fine", "ERROR 2")
	n.put("g", "s", 5, "ERROR 3")
	function, m, _ := functions.next(t)
	now := n.clock.now().UnixMilli()
	for i := range m.LogEvents {
		if len(m.LogEvents[i].ID) != 56 {
			t.Error(m.LogEvents[i].ID)
		}
		m.LogEvents[i].ID = ""
	}
	want := message{
		MessageType: "DATA_MESSAGE", Owner: testAccount, LogGroup: "g", LogStream: "s", SubscriptionFilters: []string{"f"},
		LogEvents: []messageEvent{{Timestamp: now, Message: "ERROR 1 <&>"}, {Timestamp: now + 2, Message: "ERROR 2"}, {Timestamp: now + 5, Message: "ERROR 3"}},
	}
	if diff := cmp.Diff(want, m); diff != "" || function != functionPrefix+"sink" {
		t.Errorf("%s: %s", function, diff)
	}
	// A filter that was changed or deleted is served no longer.
	_, err = n.PutSubscriptionFilter(t.Context(), subscribe("g", "f", "WARN"))
	n.must(err)
	n.put("g", "other", 0, "ERROR 4", "WARN 1")
	if _, m, _ := functions.next(t); m.LogStream != "other" || len(m.LogEvents) != 1 || m.LogEvents[0].Message != "WARN 1" {
		t.Errorf("%+v", m)
	}
	_, err = n.DeleteSubscriptionFilter(t.Context(), &cloudwatchlogs.DeleteSubscriptionFilterInput{LogGroupName: aws.String("g"), FilterName: aws.String("f")})
	n.must(err)
	n.put("g", "s", 10, "WARN 2")
	_, err = n.PutSubscriptionFilter(t.Context(), subscribe("g", "again", ""))
	n.must(err)
	n.put("g", "s", 11, "last")
	if _, m, _ := functions.next(t); len(m.LogEvents) != 1 || m.LogEvents[0].Message != "last" {
		t.Errorf("%+v", m)
	}
	// With its group the filter goes.
	_, err = n.DeleteLogGroup(t.Context(), &cloudwatchlogs.DeleteLogGroupInput{LogGroupName: aws.String("g")})
	n.must(err)
	n.mu.RLock()
	defer n.mu.RUnlock()
	if len(n.feeds) != 0 {
		t.Errorf("%d feeds", len(n.feeds))
	}
}

// A function that is throttled gets its events when it is not any more.
func TestDeliveryRetries(t *testing.T) {
	functions := &fakeFunctions{events: make(chan invoked, 100), invoke: func(_ context.Context, attempt int) error {
		switch attempt {
		case 1:
			return firn.Faultf(firn.TooManyRequests, "Rate Exceeded.")
		case 2:
			return errors.New("broken")
		}
		return nil
	}}
	n := newNode(t, config{functions: functions, run: true, change: hasty})
	n.group("g", "s")
	_, err := n.PutSubscriptionFilter(t.Context(), subscribe("g", "f", ""))
	n.must(err)
	n.put("g", "s", 0, "one")
	if _, m, _ := functions.next(t); m.LogEvents[0].Message != "one" || functions.attempts() != 3 {
		t.Errorf("%+v after %d attempts", m, functions.attempts())
	}
}

// What a function refuses for good is dropped, and later events are not held
// up by it.
func TestDeliveryRefused(t *testing.T) {
	for _, kind := range []firn.Kind{firn.ResourceNotFound, firn.RequestTooLarge} {
		functions := &fakeFunctions{events: make(chan invoked, 100), invoke: func(_ context.Context, attempt int) error {
			if attempt == 1 {
				return firn.Faultf(kind, "no")
			}
			return nil
		}}
		refused := make(chan struct{})
		inner := functions.invoke
		functions.invoke = func(ctx context.Context, attempt int) error {
			if attempt == 1 {
				defer close(refused)
			}
			return inner(ctx, attempt)
		}
		n := newNode(t, config{functions: functions, run: true, change: hasty})
		n.group("g", "s")
		_, err := n.PutSubscriptionFilter(t.Context(), subscribe("g", "f", ""))
		n.must(err)
		n.put("g", "s", 0, "one")
		<-refused
		n.put("g", "s", 1, "two")
		if _, m, _ := functions.next(t); len(m.LogEvents) != 1 || m.LogEvents[0].Message != "two" {
			t.Errorf("%+v", m)
		}
		n.stop()
	}
}

// A function that hangs holds up neither writers nor the end, and what waits
// for it is bounded.
func TestDeliveryStuck(t *testing.T) {
	stuck := make(chan struct{})
	functions := &fakeFunctions{invoke: func(ctx context.Context, attempt int) error {
		if attempt == 1 {
			close(stuck)
		}
		<-ctx.Done()
		return ctx.Err()
	}}
	n := newNode(t, config{functions: functions, run: true, change: hasty})
	n.group("g", "s")
	_, err := n.PutSubscriptionFilter(t.Context(), subscribe("g", "f", ""))
	n.must(err)
	n.put("g", "s", 0, "one")
	<-stuck
	big := strings.Repeat("x", 1_000_000)
	for i := range 12 {
		n.put("g", "s", i, big)
	}
	if dropped := n.cfg.Store.Stats().WatchDropped; dropped == 0 {
		t.Error("12 MB wait for a function that takes none")
	}
	start := time.Now()
	n.stop()
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("the end takes %s", took)
	}
}

// No delivery is larger than an asynchronous invocation may be, whatever the
// messages are.
func TestDeliverySize(t *testing.T) {
	functions := &fakeFunctions{events: make(chan invoked, 100)}
	n := newNode(t, config{functions: functions, run: true, change: hasty})
	n.group("g", "s")
	_, err := n.PutSubscriptionFilter(t.Context(), subscribe("g", "f", ""))
	n.must(err)
	random := rand.New(rand.NewPCG(1, 2))
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	var messages []string
	for i := range 100 {
		noise := make([]byte, 10_000)
		for j := range noise {
			noise[j] = letters[random.IntN(64)]
		}
		messages = append(messages, fmt.Sprintf("%03d%s", i, noise))
	}
	n.put("g", "s", 0, messages...)
	var got []string
	for len(got) < len(messages) {
		_, m, size := functions.next(t)
		if size > firn.MaxEventPayloadBytes {
			t.Errorf("an event of %d bytes", size)
		}
		for _, e := range m.LogEvents {
			got = append(got, e.Message)
		}
	}
	if diff := cmp.Diff(messages, got); diff != "" {
		t.Error("events are lost or out of order")
	}
}

// A function that comes to write to the group that it is subscribed to does not
// run in circles.
func TestDeliveryLoop(t *testing.T) {
	functions := &fakeFunctions{events: make(chan invoked, 100)}
	n := newNode(t, config{functions: functions, run: true, change: hasty})
	n.group("g", "s")
	n.group("other", "s")
	for _, group := range []string{"g", "other"} {
		_, err := n.PutSubscriptionFilter(t.Context(), subscribe(group, "f", ""))
		n.must(err)
	}
	functions.writeTo("g")
	n.put("g", "s", 0, "one")
	n.put("other", "s", 0, "two")
	if _, m, _ := functions.next(t); m.LogGroup != "other" || functions.attempts() != 1 {
		t.Errorf("%+v", m)
	}
}

// Without functions nothing can be subscribed.
func TestNoFunctions(t *testing.T) {
	n := newNode(t, config{})
	n.group("g")
	_, err := n.PutSubscriptionFilter(t.Context(), subscribe("g", "f", ""))
	refused(t, err, "InvalidParameterException", "Could not execute the lambda function. Make sure you have given CloudWatch Logs permission to execute your function.")
}
