//lint:file-ignore SA1019 deprecated operations and members are served, and tested

package logs

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestPutLogEvents(t *testing.T) {
	n := newNode(t, config{})
	n.group("g", "s")
	const (
		hour     = 3_600_000
		fourteen = 14 * 24 * hour
	)
	large := strings.Repeat("x", maxBatchBytes-eventOverhead)
	var tenThousand []types.InputLogEvent
	for range 10_000 {
		tenThousand = append(tenThousand, n.event(0, "m"))
	}
	good := []struct {
		name     string
		events   []types.InputLogEvent
		rejected *types.RejectedLogEventsInfo
		stored   int
	}{
		{"one", []types.InputLogEvent{n.event(0, "a")}, nil, 1},
		{"same time", []types.InputLogEvent{n.event(0, "a"), n.event(0, "b")}, nil, 2},
		{"large", []types.InputLogEvent{n.event(0, large)}, nil, 1},
		{"escaped", []types.InputLogEvent{n.event(0, strings.Repeat("\x01", len(large)))}, nil, 1},
		{"unicode", []types.InputLogEvent{n.event(0, "🙀 - 参よ - \x01\n")}, nil, 1},
		{"ten thousand", tenThousand, nil, 10_000},
		{"a day", []types.InputLogEvent{n.event(-24*hour, "a"), n.event(0, "b")}, nil, 2},
		{"too old", []types.InputLogEvent{n.event(-fourteen-2, "a"), n.event(-fourteen-1, "b"), n.event(0, "c")}, &types.RejectedLogEventsInfo{TooOldLogEventEndIndex: aws.Int32(2)}, 1},
		{"fourteen days", []types.InputLogEvent{n.event(-fourteen, "a")}, nil, 1},
		{"two hours ahead", []types.InputLogEvent{n.event(2*hour, "a")}, nil, 1},
		{"too new", []types.InputLogEvent{n.event(0, "a"), n.event(2*hour+1, "b"), n.event(2*hour+2, "c")}, &types.RejectedLogEventsInfo{TooNewLogEventStartIndex: aws.Int32(1)}, 1},
		{"none left", []types.InputLogEvent{n.event(-fourteen-1, "a"), n.event(3*hour, "b")}, &types.RejectedLogEventsInfo{TooOldLogEventEndIndex: aws.Int32(1), TooNewLogEventStartIndex: aws.Int32(1)}, 0},
		{"all too new", []types.InputLogEvent{n.event(3*hour, "b")}, &types.RejectedLogEventsInfo{TooNewLogEventStartIndex: aws.Int32(0)}, 0},
	}
	in := func(events []types.InputLogEvent) *cloudwatchlogs.PutLogEventsInput {
		return &cloudwatchlogs.PutLogEventsInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("s"), LogEvents: events, SequenceToken: aws.String("whatever")}
	}
	for _, test := range good {
		before := n.cfg.Store.Stats().Appended
		out, err := n.PutLogEvents(t.Context(), in(test.events))
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if stored := n.cfg.Store.Stats().Appended - before; int(stored) != test.stored || len(*out.NextSequenceToken) != 56 {
			t.Errorf("%s: %d stored, want %d", test.name, stored, test.stored)
		}
		if diff := cmp.Diff(test.rejected, out.RejectedLogEventsInfo, cmpopts.IgnoreUnexported(types.RejectedLogEventsInfo{})); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
	bad := []struct {
		events        []types.InputLogEvent
		code, message string
	}{
		{[]types.InputLogEvent{n.event(1, "a"), n.event(0, "b")}, "InvalidParameterException", "Log events in a single PutLogEvents request must be in chronological order."},
		{[]types.InputLogEvent{n.event(-24*hour-1, "a"), n.event(0, "b")}, "InvalidParameterException", "The batch of log events in a single PutLogEvents request cannot span more than 24 hours."},
		{[]types.InputLogEvent{n.event(0, large+"x")}, "InvalidParameterException", "Log event too large: 1048577 bytes exceeds limit of 1048576"},
		{[]types.InputLogEvent{n.event(0, large[:maxBatchBytes-2*eventOverhead-1]), n.event(0, "ab")}, "InvalidParameterException", "Upload too large: 1048577 bytes exceeds limit of 1048576"},
	}
	for _, test := range bad {
		_, err := n.PutLogEvents(t.Context(), in(test.events))
		refused(t, err, test.code, test.message)
	}
	_, err := n.PutLogEvents(t.Context(), in(append(tenThousand, n.event(0, "m"))))
	if api, ok := err.(interface{ Unwrap() error }); !ok || !strings.Contains(err.Error(), "InvalidParameterException") || !strings.Contains(api.Unwrap().Error(), "10000") {
		t.Errorf("10,001 events: %v", err)
	}
	one := []types.InputLogEvent{n.event(0, "a")}
	_, err = n.PutLogEvents(t.Context(), &cloudwatchlogs.PutLogEventsInput{LogGroupName: aws.String("none"), LogStreamName: aws.String("s"), LogEvents: one})
	refused(t, err, "ResourceNotFoundException", noGroupText)
	_, err = n.PutLogEvents(t.Context(), &cloudwatchlogs.PutLogEventsInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("none"), LogEvents: one})
	refused(t, err, "ResourceNotFoundException", noStreamText)
}

func TestPutExpiredEvents(t *testing.T) {
	n := newNode(t, config{})
	n.group("g", "s")
	_, err := n.PutRetentionPolicy(t.Context(), &cloudwatchlogs.PutRetentionPolicyInput{LogGroupName: aws.String("g"), RetentionInDays: aws.Int32(1)})
	n.must(err)
	const dayMS = 24 * 3_600_000
	out, err := n.PutLogEvents(t.Context(), &cloudwatchlogs.PutLogEventsInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("s"), LogEvents: []types.InputLogEvent{
		n.event(-20*dayMS, "a"), n.event(-2*dayMS, "b"), n.event(-dayMS, "c"),
	}})
	n.must(err)
	want := &types.RejectedLogEventsInfo{TooOldLogEventEndIndex: aws.Int32(1), ExpiredLogEventEndIndex: aws.Int32(2)}
	if diff := cmp.Diff(want, out.RejectedLogEventsInfo, cmpopts.IgnoreUnexported(types.RejectedLogEventsInfo{})); diff != "" {
		t.Error(diff)
	}
}

func TestGetLogEvents(t *testing.T) {
	n := newNode(t, config{})
	n.group("g", "s", "other", "empty")
	var all []string
	for i := range 25 {
		all = append(all, fmt.Sprint("m", i))
	}
	n.put("g", "s", 0, all...)
	n.put("g", "other", 0, "x")
	now := n.clock.now().UnixMilli()
	get := func(in cloudwatchlogs.GetLogEventsInput) (list []string, out *cloudwatchlogs.GetLogEventsOutput) {
		t.Helper()
		in.LogGroupName = aws.String("g")
		if in.LogStreamName == nil {
			in.LogStreamName = aws.String("s")
		}
		out, err := n.Client.GetLogEvents(t.Context(), &in)
		n.must(err)
		for _, e := range out.Events {
			if list = append(list, *e.Message); *e.IngestionTime != now {
				t.Errorf("ingestion time %d", *e.IngestionTime)
			}
		}
		return list, out
	}
	expect := func(what string, got, want []string) {
		t.Helper()
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	list, _ := get(cloudwatchlogs.GetLogEventsInput{})
	expect("all", list, all)
	list, _ = get(cloudwatchlogs.GetLogEventsInput{StartTime: aws.Int64(now + 3), EndTime: aws.Int64(now + 5)})
	expect("the end is not included", list, all[3:5])

	// Forward.
	list, out := get(cloudwatchlogs.GetLogEventsInput{StartFromHead: aws.Bool(true), Limit: aws.Int32(10)})
	expect("first", list, all[:10])
	list, out = get(cloudwatchlogs.GetLogEventsInput{StartFromHead: aws.Bool(true), Limit: aws.Int32(10), NextToken: out.NextForwardToken})
	expect("second", list, all[10:20])
	back, _ := get(cloudwatchlogs.GetLogEventsInput{NextToken: out.NextBackwardToken, Limit: aws.Int32(3)})
	expect("back from the second", back, all[7:10])
	list, out = get(cloudwatchlogs.GetLogEventsInput{StartFromHead: aws.Bool(true), Limit: aws.Int32(10), NextToken: out.NextForwardToken})
	expect("third", list, all[20:])
	end := out.NextForwardToken
	list, out = get(cloudwatchlogs.GetLogEventsInput{StartFromHead: aws.Bool(true), NextToken: end})
	if expect("end", list, nil); *out.NextForwardToken != *end {
		t.Errorf("the token at the end becomes %s, not %s again", *out.NextForwardToken, *end)
	}
	list, _ = get(cloudwatchlogs.GetLogEventsInput{NextToken: out.NextBackwardToken, Limit: aws.Int32(2)})
	expect("back from the end", list, all[23:])
	n.put("g", "s", 30, "later")
	list, _ = get(cloudwatchlogs.GetLogEventsInput{StartFromHead: aws.Bool(true), NextToken: end})
	expect("what came since", list, []string{"later"})

	// Backward.
	list, out = get(cloudwatchlogs.GetLogEventsInput{Limit: aws.Int32(6)})
	expect("last", list, append(slices.Clone(all[20:]), "later"))
	list, out = get(cloudwatchlogs.GetLogEventsInput{Limit: aws.Int32(20), NextToken: out.NextBackwardToken})
	expect("before the last", list, all[:20])
	start := out.NextBackwardToken
	list, out = get(cloudwatchlogs.GetLogEventsInput{NextToken: start})
	if expect("start", list, nil); *out.NextBackwardToken != *start {
		t.Errorf("the token at the start becomes %s, not %s again", *out.NextBackwardToken, *start)
	}
	list, _ = get(cloudwatchlogs.GetLogEventsInput{StartFromHead: aws.Bool(true), NextToken: out.NextForwardToken, Limit: aws.Int32(2)})
	expect("forward from the start", list, all[:2])

	// A stream that fills.
	for _, head := range []bool{true, false} {
		_, out := get(cloudwatchlogs.GetLogEventsInput{LogStreamName: aws.String("empty"), StartFromHead: &head})
		if list, again := get(cloudwatchlogs.GetLogEventsInput{LogStreamName: aws.String("empty"), NextToken: out.NextForwardToken}); len(list) > 0 || *again.NextForwardToken != *out.NextForwardToken {
			t.Error("the token of an empty stream changes")
		}
		stream := fmt.Sprint("fills-", head)
		_, err := n.CreateLogStream(t.Context(), &cloudwatchlogs.CreateLogStreamInput{LogGroupName: aws.String("g"), LogStreamName: &stream})
		n.must(err)
		_, out = get(cloudwatchlogs.GetLogEventsInput{LogStreamName: &stream, StartFromHead: &head})
		n.put("g", stream, 0, "a", "b")
		list, _ := get(cloudwatchlogs.GetLogEventsInput{LogStreamName: &stream, NextToken: out.NextForwardToken})
		expect("forward from empty", list, []string{"a", "b"})
		list, _ = get(cloudwatchlogs.GetLogEventsInput{LogStreamName: &stream, NextToken: out.NextBackwardToken})
		expect("backward from empty", list, nil)
	}
}

func TestGetLogEventsErrors(t *testing.T) {
	n := newNode(t, config{})
	n.group("g", "s")
	tests := []struct {
		in            cloudwatchlogs.GetLogEventsInput
		code, message string
	}{
		{cloudwatchlogs.GetLogEventsInput{LogGroupName: aws.String("none"), LogStreamName: aws.String("s")}, "ResourceNotFoundException", noGroupText},
		{cloudwatchlogs.GetLogEventsInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("none")}, "ResourceNotFoundException", noStreamText},
		{cloudwatchlogs.GetLogEventsInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("s"), NextToken: aws.String("invalid-token")}, "InvalidParameterException", "The specified nextToken is invalid."},
		{cloudwatchlogs.GetLogEventsInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("s"), NextToken: aws.String("f/zz")}, "InvalidParameterException", "The specified nextToken is invalid."},
		{cloudwatchlogs.GetLogEventsInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("s"), Limit: aws.Int32(10001)}, "InvalidParameterException", "1 validation error detected: Value '10001' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 10000"},
	}
	for _, test := range tests {
		_, err := n.GetLogEvents(t.Context(), &test.in)
		refused(t, err, test.code, test.message)
	}
}

func TestFilterLogEvents(t *testing.T) {
	n := newNode(t, config{})
	n.group("g", "a", "b", "c")
	n.group("empty")
	n.put("g", "a", 0, "hello", "ERROR one", "x")
	n.put("g", "b", 1, "ERROR two", `{"level":"error"}`)
	n.put("g", "c", 10, "last")
	now := n.clock.now().UnixMilli()
	at := func(after int64) *int64 { return aws.Int64(now + after) }
	all := []string{"hello", "ERROR one", "ERROR two", "x", `{"level":"error"}`, "last"}
	tests := []struct {
		name string
		in   cloudwatchlogs.FilterLogEventsInput
		want []string
	}{
		{"all", cloudwatchlogs.FilterLogEventsInput{}, all},
		{"pages", cloudwatchlogs.FilterLogEventsInput{Limit: aws.Int32(1)}, all},
		{"interleaved is ignored", cloudwatchlogs.FilterLogEventsInput{Interleaved: aws.Bool(false)}, all},
		{"pattern", cloudwatchlogs.FilterLogEventsInput{FilterPattern: aws.String("ERROR")}, []string{"ERROR one", "ERROR two"}},
		{"pattern in pages", cloudwatchlogs.FilterLogEventsInput{FilterPattern: aws.String("ERROR"), Limit: aws.Int32(1)}, []string{"ERROR one", "ERROR two"}},
		{"JSON pattern", cloudwatchlogs.FilterLogEventsInput{FilterPattern: aws.String(`{ $.level = "error" }`)}, []string{`{"level":"error"}`}},
		{"nothing matches", cloudwatchlogs.FilterLogEventsInput{FilterPattern: aws.String("none")}, nil},
		{"streams", cloudwatchlogs.FilterLogEventsInput{LogStreamNames: []string{"c", "a"}}, []string{"hello", "ERROR one", "x", "last"}},
		{"prefix", cloudwatchlogs.FilterLogEventsInput{LogStreamNamePrefix: aws.String("b")}, []string{"ERROR two", `{"level":"error"}`}},
		{"the end is included", cloudwatchlogs.FilterLogEventsInput{StartTime: at(1), EndTime: at(2)}, []string{"ERROR one", "ERROR two", "x", `{"level":"error"}`}},
		{"one moment", cloudwatchlogs.FilterLogEventsInput{StartTime: at(10), EndTime: at(10)}, []string{"last"}},
		{"end before start", cloudwatchlogs.FilterLogEventsInput{StartTime: at(10), EndTime: at(9)}, nil},
		{"end at zero", cloudwatchlogs.FilterLogEventsInput{EndTime: aws.Int64(0)}, nil},
		{"latest first", cloudwatchlogs.FilterLogEventsInput{StartTime: at(0), StartFromHead: aws.Bool(false), Limit: aws.Int32(2)}, reversed(all)},
		{"latest first with a pattern", cloudwatchlogs.FilterLogEventsInput{StartTime: at(0), StartFromHead: aws.Bool(false), FilterPattern: aws.String("ERROR")}, []string{"ERROR two", "ERROR one"}},
		{"group by ARN", cloudwatchlogs.FilterLogEventsInput{LogGroupIdentifier: aws.String(n.groupARN("g"))}, all},
		{"empty group", cloudwatchlogs.FilterLogEventsInput{LogGroupIdentifier: aws.String("empty")}, nil},
	}
	for _, test := range tests {
		if test.in.LogGroupIdentifier == nil {
			test.in.LogGroupName = aws.String("g")
		}
		var got []string
		ids := map[string]bool{}
		for p := cloudwatchlogs.NewFilterLogEventsPaginator(n.Client, &test.in); p.HasMorePages(); {
			out, err := p.NextPage(t.Context())
			if err != nil {
				t.Fatalf("%s: %v", test.name, err)
			}
			if limit := test.in.Limit; limit != nil && len(out.Events) > int(*limit) || out.SearchedLogStreams == nil || len(out.SearchedLogStreams) > 0 {
				t.Errorf("%s: a page of %d events, streams %v", test.name, len(out.Events), out.SearchedLogStreams)
			}
			for _, e := range out.Events {
				got = append(got, *e.Message)
				ids[*e.EventId] = true
				if len(*e.EventId) != 56 || *e.IngestionTime != now || *e.LogStreamName == "" {
					t.Errorf("%s: %s of %s at %d", test.name, *e.EventId, *e.LogStreamName, *e.IngestionTime)
				}
			}
		}
		if diff := cmp.Diff(test.want, got); diff != "" || len(ids) != len(got) {
			t.Errorf("%s: %d ids, %s", test.name, len(ids), diff)
		}
	}
}

func reversed(list []string) []string {
	list = slices.Clone(list)
	slices.Reverse(list)
	return list
}

func TestFilterLogEventsErrors(t *testing.T) {
	n := newNode(t, config{})
	n.group("g", "s")
	g := aws.String("g")
	tests := []struct {
		in            cloudwatchlogs.FilterLogEventsInput
		code, message string
	}{
		{cloudwatchlogs.FilterLogEventsInput{LogGroupName: aws.String("none")}, "ResourceNotFoundException", noGroupText},
		{cloudwatchlogs.FilterLogEventsInput{LogGroupIdentifier: aws.String("arn:aws:logs:us-east-1:123456789012:log-group:g")}, "ResourceNotFoundException", noGroupText},
		{cloudwatchlogs.FilterLogEventsInput{LogGroupName: g, LogStreamNames: []string{"none"}}, "ResourceNotFoundException", noStreamText},
		{cloudwatchlogs.FilterLogEventsInput{LogGroupName: g, LogStreamNames: []string{"s"}, LogStreamNamePrefix: aws.String("s")}, "InvalidParameterException", "LogStreamNames and LogStreamNamePrefix are mutually exclusive parameters."},
		{cloudwatchlogs.FilterLogEventsInput{LogGroupName: g, FilterPattern: aws.String("a-b")}, "InvalidParameterException", "Invalid character(s) in term 'a-b'"},
		{cloudwatchlogs.FilterLogEventsInput{LogGroupName: g, FilterPattern: aws.String("{")}, "InvalidParameterException", "If a filter pattern starts with '{' it must end with '}'"},
		{cloudwatchlogs.FilterLogEventsInput{LogGroupName: g, NextToken: aws.String("invalid-token")}, "InvalidParameterException", "The specified nextToken is invalid."},
		{cloudwatchlogs.FilterLogEventsInput{LogGroupName: g, StartFromHead: aws.Bool(false)}, "InvalidParameterException", "startFromHead can be false only when startTime is on or after January 1, 2024."},
		{cloudwatchlogs.FilterLogEventsInput{LogGroupName: g, Limit: aws.Int32(10001)}, "InvalidParameterException", "1 validation error detected: Value '10001' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 10000"},
	}
	for _, test := range tests {
		_, err := n.FilterLogEvents(t.Context(), &test.in)
		refused(t, err, test.code, test.message)
	}
}

// A page ends at 1 MB, and following the tokens gives everything once.
func TestFilterPagesBySize(t *testing.T) {
	n := newNode(t, config{})
	n.group("g", "s")
	for i := range 5 {
		n.put("g", "s", i, strings.Repeat(string(rune('a'+i)), 600_000))
	}
	for _, pattern := range []string{"", "%.%"} {
		got, pages := "", 0
		p := cloudwatchlogs.NewFilterLogEventsPaginator(n.Client, &cloudwatchlogs.FilterLogEventsInput{LogGroupName: aws.String("g"), FilterPattern: &pattern})
		for ; p.HasMorePages(); pages++ {
			out, err := p.NextPage(t.Context())
			n.must(err)
			for _, e := range out.Events {
				got += (*e.Message)[:1]
			}
		}
		if got != "abcde" || pages < 5 {
			t.Errorf("pattern %q: %s on %d pages", pattern, got, pages)
		}
	}
}

// A search that takes long answers with a token after a while, from which it
// goes on.
func TestFilterTime(t *testing.T) {
	n := newNode(t, config{})
	n.group("g", "s")
	n.put("g", "s", 0, "a", "b", "c")
	slow := n.cfg.Now
	n.cfg.Now = func() time.Time {
		n.clock.move(4 * time.Second)
		return slow()
	}
	var got []string
	pages := 0
	p := cloudwatchlogs.NewFilterLogEventsPaginator(n.Client, &cloudwatchlogs.FilterLogEventsInput{LogGroupName: aws.String("g"), FilterPattern: aws.String("c")})
	for ; p.HasMorePages(); pages++ {
		out, err := p.NextPage(t.Context())
		n.must(err)
		for _, e := range out.Events {
			got = append(got, *e.Message)
		}
	}
	if len(got) != 1 || got[0] != "c" || pages != 2 {
		t.Errorf("%q on %d pages", got, pages)
	}
}

func TestTestMetricFilter(t *testing.T) {
	n := newNode(t, config{})
	out, err := n.TestMetricFilter(t.Context(), &cloudwatchlogs.TestMetricFilterInput{
		FilterPattern: aws.String("[ip, ..., status=4*, bytes]"), LogEventMessages: []string{"1.1.1.1 a 200 5", "1.1.1.1 a 404 7"},
	})
	n.must(err)
	want := []types.MetricFilterMatchRecord{{
		EventNumber: 2, EventMessage: aws.String("1.1.1.1 a 404 7"),
		ExtractedValues: map[string]string{"$ip": "1.1.1.1", "$2": "a", "$status": "404", "$bytes": "7"},
	}}
	if diff := cmp.Diff(want, out.Matches, cmpopts.IgnoreUnexported(types.MetricFilterMatchRecord{})); diff != "" {
		t.Error(diff)
	}
	_, err = n.TestMetricFilter(t.Context(), &cloudwatchlogs.TestMetricFilterInput{FilterPattern: aws.String("{"), LogEventMessages: []string{"a"}})
	refused(t, err, "InvalidParameterException", "If a filter pattern starts with '{' it must end with '}'")
}

// What is not served says so by name.
func TestNotServed(t *testing.T) {
	n := newNode(t, config{})
	_, err := n.StartQuery(t.Context(), &cloudwatchlogs.StartQueryInput{
		LogGroupName: aws.String("g"), QueryString: aws.String("fields @message"), StartTime: aws.Int64(0), EndTime: aws.Int64(time.Now().Unix()),
	})
	if err == nil || !strings.Contains(err.Error(), "NotImplementedException") || !strings.Contains(err.Error(), "StartQuery") {
		t.Error(err)
	}
}
