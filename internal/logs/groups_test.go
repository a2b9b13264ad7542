//lint:file-ignore SA1019 deprecated operations and members are served, and tested

package logs

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/firn-run/firn/internal/logstore"
	"github.com/firn-run/firn/internal/state"
)

const (
	noGroupText  = "The specified log group does not exist."
	noStreamText = "The specified log stream does not exist."
)

func (n *node) describe1(name string) types.LogGroup {
	n.t.Helper()
	out, err := n.DescribeLogGroups(n.t.Context(), &cloudwatchlogs.DescribeLogGroupsInput{LogGroupNamePrefix: &name})
	n.must(err)
	if len(out.LogGroups) != 1 {
		n.t.Fatalf("%d groups", len(out.LogGroups))
	}
	return out.LogGroups[0]
}

func TestCreateLogGroup(t *testing.T) {
	n := newNode(t, config{})
	_, err := n.CreateLogGroup(t.Context(), &cloudwatchlogs.CreateLogGroupInput{
		LogGroupName: aws.String("/app/a"), Tags: map[string]string{"k": "v"}, LogGroupClass: types.LogGroupClassStandard,
	})
	n.must(err)
	created := n.clock.now().UnixMilli()
	want := types.LogGroup{
		LogGroupName: aws.String("/app/a"), CreationTime: &created, StoredBytes: aws.Int64(0),
		Arn:           aws.String("arn:aws:logs:eu-central-1:123456789012:log-group:/app/a:*"),
		LogGroupArn:   aws.String("arn:aws:logs:eu-central-1:123456789012:log-group:/app/a"),
		LogGroupClass: types.LogGroupClassStandard, MetricFilterCount: aws.Int32(0), DeletionProtectionEnabled: aws.Bool(false),
	}
	if diff := cmp.Diff(want, n.describe1("/app/a"), cmpopts.IgnoreUnexported(types.LogGroup{})); diff != "" {
		t.Error(diff)
	}
	tests := []struct {
		in            *cloudwatchlogs.CreateLogGroupInput
		code, message string
	}{
		{&cloudwatchlogs.CreateLogGroupInput{LogGroupName: aws.String("/app/a")}, "ResourceAlreadyExistsException", "The specified log group already exists"},
		{&cloudwatchlogs.CreateLogGroupInput{LogGroupName: aws.String("AWS/x")}, "InvalidParameterException", "Log groups starting with AWS/ are reserved for AWS."},
		{&cloudwatchlogs.CreateLogGroupInput{LogGroupName: aws.String("b"), KmsKeyId: aws.String("arn:aws:kms:eu-central-1:123456789012:key/1")}, "NotImplementedException", "kmsKeyId is not served by firn yet."},
		{&cloudwatchlogs.CreateLogGroupInput{LogGroupName: aws.String("b"), LogGroupClass: types.LogGroupClassDelivery}, "NotImplementedException", "logGroupClass DELIVERY is not served by firn yet."},
		{&cloudwatchlogs.CreateLogGroupInput{LogGroupName: aws.String("b"), Tags: map[string]string{"aws:x": "y"}}, "InvalidParameterException", "Tag keys starting with aws: are reserved for AWS."},
	}
	for _, test := range tests {
		_, err := n.CreateLogGroup(t.Context(), test.in)
		refused(t, err, test.code, test.message)
	}
	if _, ok := n.cfg.Store.Group("b"); ok {
		t.Error("a refused group was made")
	}
}

func TestDeleteLogGroup(t *testing.T) {
	n := newNode(t, config{})
	in := &cloudwatchlogs.DeleteLogGroupInput{LogGroupName: aws.String("g")}
	_, err := n.DeleteLogGroup(t.Context(), in)
	refused(t, err, "ResourceNotFoundException", noGroupText)

	_, err = n.CreateLogGroup(t.Context(), &cloudwatchlogs.CreateLogGroupInput{LogGroupName: in.LogGroupName, DeletionProtectionEnabled: aws.Bool(true), Tags: map[string]string{"a": "b"}})
	n.must(err)
	if !*n.describe1("g").DeletionProtectionEnabled {
		t.Error("protection is not shown")
	}
	const text = "Deletion protection is enabled for the log group. Disable it with PutLogGroupDeletionProtection first."
	_, err = n.DeleteLogGroup(t.Context(), in)
	refused(t, err, "ValidationException", text)
	_, err = n.DeleteLogStream(t.Context(), &cloudwatchlogs.DeleteLogStreamInput{LogGroupName: in.LogGroupName, LogStreamName: aws.String("s")})
	refused(t, err, "ValidationException", text)
	protect := &cloudwatchlogs.PutLogGroupDeletionProtectionInput{LogGroupIdentifier: aws.String(n.groupARN("g")), DeletionProtectionEnabled: aws.Bool(false)}
	_, err = n.PutLogGroupDeletionProtection(t.Context(), protect)
	n.must(err)
	protect.LogGroupIdentifier = aws.String("none")
	_, err = n.PutLogGroupDeletionProtection(t.Context(), protect)
	refused(t, err, "ResourceNotFoundException", noGroupText)
	_, err = n.DeleteLogGroup(t.Context(), in)
	n.must(err)

	// A group of the same name begins without what the former one had.
	n.clock.move(time.Second)
	n.group("g")
	tags, err := n.ListTagsLogGroup(t.Context(), &cloudwatchlogs.ListTagsLogGroupInput{LogGroupName: in.LogGroupName})
	if n.must(err); len(tags.Tags) != 0 {
		t.Errorf("tags %v", tags.Tags)
	}
}

func TestDescribeLogGroups(t *testing.T) {
	n := newNode(t, config{})
	for i := range 60 {
		n.must(n.cfg.Store.CreateGroup(fmt.Sprintf("/aws/lambda/f%02d", i)))
	}
	n.group("other")
	list := func(in *cloudwatchlogs.DescribeLogGroupsInput) (names []string, pages int) {
		t.Helper()
		p := cloudwatchlogs.NewDescribeLogGroupsPaginator(n.Client, in)
		for p.HasMorePages() {
			page, err := p.NextPage(t.Context())
			n.must(err)
			pages++
			for _, g := range page.LogGroups {
				names = append(names, *g.LogGroupName)
			}
		}
		if !slices.IsSorted(names) {
			t.Errorf("not sorted: %v", names)
		}
		return names, pages
	}
	tests := []struct {
		name         string
		in           cloudwatchlogs.DescribeLogGroupsInput
		names, pages int
	}{
		{"all", cloudwatchlogs.DescribeLogGroupsInput{}, 61, 2},
		{"prefix", cloudwatchlogs.DescribeLogGroupsInput{LogGroupNamePrefix: aws.String("/aws/lambda/f1")}, 10, 1},
		{"exactly a page", cloudwatchlogs.DescribeLogGroupsInput{LogGroupNamePrefix: aws.String("/aws/lambda/f1"), Limit: aws.Int32(5)}, 10, 2},
		{"limit", cloudwatchlogs.DescribeLogGroupsInput{Limit: aws.Int32(25)}, 61, 3},
		{"pattern", cloudwatchlogs.DescribeLogGroupsInput{LogGroupNamePattern: aws.String("a/f2"), Limit: aws.Int32(3)}, 10, 4},
		{"case", cloudwatchlogs.DescribeLogGroupsInput{LogGroupNamePattern: aws.String("OTHER")}, 0, 1},
		{"class", cloudwatchlogs.DescribeLogGroupsInput{LogGroupClass: types.LogGroupClassInfrequentAccess}, 0, 1},
		{"account", cloudwatchlogs.DescribeLogGroupsInput{AccountIdentifiers: []string{"999999999999"}}, 0, 1},
		{"identifiers", cloudwatchlogs.DescribeLogGroupsInput{LogGroupIdentifiers: []string{"/aws/lambda/f00", n.groupARN("other")}}, 2, 1},
	}
	for _, test := range tests {
		if names, pages := list(&test.in); len(names) != test.names || pages != test.pages {
			t.Errorf("%s: %d names on %d pages, want %d on %d", test.name, len(names), pages, test.names, test.pages)
		}
	}
	out, err := n.DescribeLogGroups(t.Context(), &cloudwatchlogs.DescribeLogGroupsInput{LogGroupNamePattern: aws.String("other")})
	if n.must(err); out.LogGroups[0].StoredBytes != nil {
		t.Error("a pattern gives a short description only")
	}
	bad := []struct {
		in            cloudwatchlogs.DescribeLogGroupsInput
		code, message string
	}{
		{cloudwatchlogs.DescribeLogGroupsInput{LogGroupNamePrefix: aws.String("a"), LogGroupNamePattern: aws.String("b")}, "InvalidParameterException", "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters."},
		{cloudwatchlogs.DescribeLogGroupsInput{NextToken: aws.String("???")}, "InvalidParameterException", "The specified nextToken is invalid."},
		{cloudwatchlogs.DescribeLogGroupsInput{LogGroupIdentifiers: []string{"none"}}, "ResourceNotFoundException", noGroupText},
		{cloudwatchlogs.DescribeLogGroupsInput{LogGroupIdentifiers: []string{"other"}, LogGroupNamePrefix: aws.String("o")}, "InvalidParameterException", "LogGroup identifiers cannot be combined with other filters."},
	}
	for _, test := range bad {
		_, err := n.DescribeLogGroups(t.Context(), &test.in)
		refused(t, err, test.code, test.message)
	}
}

func TestListLogGroups(t *testing.T) {
	n := newNode(t, config{})
	for i, name := range []string{"/aws/lambda/one", "/aws/lambda/two", "discovery", "the/discovery"} {
		_, err := n.CreateLogGroup(t.Context(), &cloudwatchlogs.CreateLogGroupInput{LogGroupName: &name, Tags: map[string]string{"n": fmt.Sprint(i % 2)}})
		n.must(err)
	}
	tests := []struct {
		pattern string
		tags    []types.TagFilter
		want    []string
	}{
		{"", nil, []string{"/aws/lambda/one", "/aws/lambda/two", "discovery", "the/discovery"}},
		{"^/aws/lambda|discovery", nil, []string{"/aws/lambda/one", "/aws/lambda/two", "discovery", "the/discovery"}},
		{"^disc", nil, []string{"discovery"}},
		{"two|^the", nil, []string{"/aws/lambda/two", "the/discovery"}},
		{"disc", []types.TagFilter{{Key: aws.String("n"), Values: []string{"1"}}}, []string{"the/discovery"}},
		{"", []types.TagFilter{{Key: aws.String("n")}, {Key: aws.String("x")}}, nil},
	}
	for _, test := range tests {
		in := &cloudwatchlogs.ListLogGroupsInput{LogGroupTags: test.tags, Limit: aws.Int32(3)}
		if test.pattern != "" {
			in.LogGroupNamePattern = &test.pattern
		}
		var names []string
		for {
			page, err := n.ListLogGroups(t.Context(), in)
			n.must(err)
			for _, g := range page.LogGroups {
				if names = append(names, *g.LogGroupName); *g.LogGroupArn != n.groupARN(*g.LogGroupName) {
					t.Error(*g.LogGroupArn)
				}
			}
			if in.NextToken = page.NextToken; in.NextToken == nil {
				break
			}
		}
		if diff := cmp.Diff(test.want, names); diff != "" {
			t.Errorf("%s: %s", test.pattern, diff)
		}
	}
	_, err := n.ListLogGroups(t.Context(), &cloudwatchlogs.ListLogGroupsInput{FieldIndexNames: []string{"x"}})
	refused(t, err, "NotImplementedException", "fieldIndexNames is not served by firn yet.")
}

func TestTags(t *testing.T) {
	n := newNode(t, config{})
	_, err := n.CreateLogGroup(t.Context(), &cloudwatchlogs.CreateLogGroupInput{LogGroupName: aws.String("g"), Tags: map[string]string{"env": "test"}})
	n.must(err)
	arn := n.groupARN("g")
	expect := func(want map[string]string) {
		t.Helper()
		old, err := n.ListTagsLogGroup(t.Context(), &cloudwatchlogs.ListTagsLogGroupInput{LogGroupName: aws.String("g")})
		n.must(err)
		now, err := n.ListTagsForResource(t.Context(), &cloudwatchlogs.ListTagsForResourceInput{ResourceArn: &arn})
		n.must(err)
		if diff := cmp.Diff(want, old.Tags) + cmp.Diff(want, now.Tags); diff != "" {
			t.Error(diff)
		}
	}
	expect(map[string]string{"env": "test"})
	_, err = n.TagResource(t.Context(), &cloudwatchlogs.TagResourceInput{ResourceArn: &arn, Tags: map[string]string{"a": "1", "env": "prod"}})
	n.must(err)
	_, err = n.TagLogGroup(t.Context(), &cloudwatchlogs.TagLogGroupInput{LogGroupName: aws.String("g"), Tags: map[string]string{"b": "2"}})
	n.must(err)
	expect(map[string]string{"env": "prod", "a": "1", "b": "2"})
	_, err = n.UntagResource(t.Context(), &cloudwatchlogs.UntagResourceInput{ResourceArn: &arn, TagKeys: []string{"a", "none"}})
	n.must(err)
	_, err = n.UntagLogGroup(t.Context(), &cloudwatchlogs.UntagLogGroupInput{LogGroupName: aws.String("g"), Tags: []string{"env"}})
	n.must(err)
	expect(map[string]string{"b": "2"})

	many := map[string]string{}
	for i := range 50 {
		many[fmt.Sprint("t", i)] = ""
	}
	_, err = n.TagResource(t.Context(), &cloudwatchlogs.TagResourceInput{ResourceArn: &arn, Tags: many})
	refused(t, err, "TooManyTagsException", "A log group can have at most 50 tags.")
	expect(map[string]string{"b": "2"})

	_, err = n.TagLogGroup(t.Context(), &cloudwatchlogs.TagLogGroupInput{LogGroupName: aws.String("none"), Tags: map[string]string{"b": "2"}})
	refused(t, err, "ResourceNotFoundException", noGroupText)
	_, err = n.UntagLogGroup(t.Context(), &cloudwatchlogs.UntagLogGroupInput{LogGroupName: aws.String("none"), Tags: []string{"b"}})
	refused(t, err, "ResourceNotFoundException", noGroupText)
	_, err = n.ListTagsLogGroup(t.Context(), &cloudwatchlogs.ListTagsLogGroupInput{LogGroupName: aws.String("none")})
	refused(t, err, "ResourceNotFoundException", noGroupText)
	for _, other := range []string{n.groupARN("none"), "arn:aws:logs:us-east-1:123456789012:log-group:g", "arn:aws:logs:eu-central-1:999999999999:log-group:g", "arn:aws:logs:eu-central-1:123456789012:destination:g"} {
		_, err = n.ListTagsForResource(t.Context(), &cloudwatchlogs.ListTagsForResourceInput{ResourceArn: &other})
		refused(t, err, "ResourceNotFoundException", noGroupText)
		_, err = n.TagResource(t.Context(), &cloudwatchlogs.TagResourceInput{ResourceArn: &other, Tags: map[string]string{"b": "2"}})
		refused(t, err, "ResourceNotFoundException", noGroupText)
		_, err = n.UntagResource(t.Context(), &cloudwatchlogs.UntagResourceInput{ResourceArn: &other, TagKeys: []string{"b"}})
		refused(t, err, "ResourceNotFoundException", noGroupText)
	}
	_, err = n.ListTagsForResource(t.Context(), &cloudwatchlogs.ListTagsForResourceInput{ResourceArn: aws.String("g")})
	refused(t, err, "InvalidParameterException", "The resourceArn is not an ARN: g")
}

func TestLogStreams(t *testing.T) {
	n := newNode(t, config{})
	n.group("g", "b", "a", "c")
	n.put("g", "b", 5, "x", "y")
	n.put("g", "a", 3, "x")
	names := func(in cloudwatchlogs.DescribeLogStreamsInput) (list []string) {
		t.Helper()
		if in.LogGroupIdentifier == nil {
			in.LogGroupName = aws.String("g")
		}
		for p := cloudwatchlogs.NewDescribeLogStreamsPaginator(n.Client, &in); p.HasMorePages(); {
			page, err := p.NextPage(t.Context())
			n.must(err)
			for _, one := range page.LogStreams {
				list = append(list, *one.LogStreamName)
			}
		}
		return list
	}
	tests := []struct {
		in   cloudwatchlogs.DescribeLogStreamsInput
		want []string
	}{
		{cloudwatchlogs.DescribeLogStreamsInput{}, []string{"a", "b", "c"}},
		{cloudwatchlogs.DescribeLogStreamsInput{Limit: aws.Int32(1)}, []string{"a", "b", "c"}},
		{cloudwatchlogs.DescribeLogStreamsInput{Descending: aws.Bool(true), OrderBy: types.OrderByLogStreamName}, []string{"c", "b", "a"}},
		{cloudwatchlogs.DescribeLogStreamsInput{LogStreamNamePrefix: aws.String("b")}, []string{"b"}},
		{cloudwatchlogs.DescribeLogStreamsInput{OrderBy: types.OrderByLastEventTime}, []string{"c", "a", "b"}},
		{cloudwatchlogs.DescribeLogStreamsInput{OrderBy: types.OrderByLastEventTime, Descending: aws.Bool(true), Limit: aws.Int32(1)}, []string{"b", "a", "c"}},
		{cloudwatchlogs.DescribeLogStreamsInput{LogGroupIdentifier: aws.String("g")}, []string{"a", "b", "c"}},
		{cloudwatchlogs.DescribeLogStreamsInput{LogGroupIdentifier: aws.String(n.groupARN("g"))}, []string{"a", "b", "c"}},
	}
	for i, test := range tests {
		if diff := cmp.Diff(test.want, names(test.in)); diff != "" {
			t.Errorf("%d: %s", i, diff)
		}
	}
	out, err := n.DescribeLogStreams(t.Context(), &cloudwatchlogs.DescribeLogStreamsInput{LogGroupName: aws.String("g"), LogStreamNamePrefix: aws.String("b")})
	n.must(err)
	now := n.clock.now().UnixMilli()
	want := types.LogStream{
		LogStreamName: aws.String("b"), Arn: aws.String(n.groupARN("g") + ":log-stream:b"), CreationTime: &now, StoredBytes: aws.Int64(0),
		FirstEventTimestamp: aws.Int64(now + 5), LastEventTimestamp: aws.Int64(now + 6), LastIngestionTime: &now,
		UploadSequenceToken: aws.String(fmt.Sprintf("%056d", now)),
	}
	if diff := cmp.Diff(want, out.LogStreams[0], cmpopts.IgnoreUnexported(types.LogStream{})); diff != "" {
		t.Error(diff)
	}

	_, err = n.CreateLogStream(t.Context(), &cloudwatchlogs.CreateLogStreamInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("a")})
	refused(t, err, "ResourceAlreadyExistsException", "The specified log stream already exists")
	_, err = n.CreateLogStream(t.Context(), &cloudwatchlogs.CreateLogStreamInput{LogGroupName: aws.String("none"), LogStreamName: aws.String("a")})
	refused(t, err, "ResourceNotFoundException", noGroupText)
	_, err = n.DeleteLogStream(t.Context(), &cloudwatchlogs.DeleteLogStreamInput{LogGroupName: aws.String("none"), LogStreamName: aws.String("a")})
	refused(t, err, "ResourceNotFoundException", noGroupText)
	_, err = n.DeleteLogStream(t.Context(), &cloudwatchlogs.DeleteLogStreamInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("none")})
	refused(t, err, "ResourceNotFoundException", noStreamText)
	_, err = n.DeleteLogStream(t.Context(), &cloudwatchlogs.DeleteLogStreamInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("a")})
	n.must(err)
	if diff := cmp.Diff([]string{"b", "c"}, names(cloudwatchlogs.DescribeLogStreamsInput{})); diff != "" {
		t.Error(diff)
	}
	bad := []struct {
		in            cloudwatchlogs.DescribeLogStreamsInput
		code, message string
	}{
		{cloudwatchlogs.DescribeLogStreamsInput{LogGroupName: aws.String("none")}, "ResourceNotFoundException", noGroupText},
		{cloudwatchlogs.DescribeLogStreamsInput{LogGroupName: aws.String("g"), LogGroupIdentifier: aws.String("g")}, "ValidationException", "LogGroup name and LogGroup ARN are mutually exclusive parameters."},
		{cloudwatchlogs.DescribeLogStreamsInput{}, "ValidationException", "Either logGroupName or logGroupIdentifier must be specified."},
		{cloudwatchlogs.DescribeLogStreamsInput{LogGroupName: aws.String("g"), OrderBy: types.OrderByLastEventTime, LogStreamNamePrefix: aws.String("x")}, "InvalidParameterException", "Cannot order by LastEventTime with a logStreamNamePrefix."},
		{cloudwatchlogs.DescribeLogStreamsInput{LogGroupName: aws.String("g"), NextToken: aws.String("!!")}, "InvalidParameterException", "The specified nextToken is invalid."},
		{cloudwatchlogs.DescribeLogStreamsInput{LogGroupName: aws.String("g"), NextToken: aws.String("bm9uc2Vuc2U")}, "InvalidParameterException", "The specified nextToken is invalid."},
	}
	for _, test := range bad {
		_, err := n.DescribeLogStreams(t.Context(), &test.in)
		refused(t, err, test.code, test.message)
	}
}

func TestRetention(t *testing.T) {
	n := newNode(t, config{})
	n.group("g", "s")
	n.put("g", "s", 0, "old")
	set := func(days int32) error {
		_, err := n.PutRetentionPolicy(t.Context(), &cloudwatchlogs.PutRetentionPolicyInput{LogGroupName: aws.String("g"), RetentionInDays: &days})
		return err
	}
	for _, days := range retentionDays() {
		n.must(set(days))
		if got := n.describe1("g").RetentionInDays; got == nil || *got != days {
			t.Errorf("retention of %d days is shown as %v", days, got)
		}
	}
	_, ok := errors.AsType[*types.InvalidParameterException](set(2))
	if !ok {
		t.Error("2 days are allowed")
	}
	_, err := n.PutRetentionPolicy(t.Context(), &cloudwatchlogs.PutRetentionPolicyInput{LogGroupName: aws.String("none"), RetentionInDays: aws.Int32(1)})
	refused(t, err, "ResourceNotFoundException", noGroupText)
	_, err = n.DeleteRetentionPolicy(t.Context(), &cloudwatchlogs.DeleteRetentionPolicyInput{LogGroupName: aws.String("none")})
	refused(t, err, "ResourceNotFoundException", noGroupText)

	count := func() int {
		t.Helper()
		out, err := n.FilterLogEvents(t.Context(), &cloudwatchlogs.FilterLogEventsInput{LogGroupName: aws.String("g")})
		n.must(err)
		return len(out.Events)
	}
	n.must(set(1))
	n.clock.move(23 * time.Hour)
	n.put("g", "s", 0, "new")
	n.expire()
	if n := count(); n != 2 {
		t.Errorf("%d events after 23 hours, want 2", n)
	}
	n.clock.move(time.Hour + time.Second)
	n.expire()
	if n := count(); n != 1 {
		t.Errorf("%d events after a day, want 1", n)
	}
	_, err = n.DeleteRetentionPolicy(t.Context(), &cloudwatchlogs.DeleteRetentionPolicyInput{LogGroupName: aws.String("g")})
	n.must(err)
	if n.describe1("g").RetentionInDays != nil {
		t.Error("a deleted retention is shown")
	}
	n.clock.move(10 * day)
	n.expire()
	if n := count(); n != 1 {
		t.Errorf("%d events without a retention, want 1", n)
	}
}

// Run expires at once when a retention is put.
func TestRetentionWhileRunning(t *testing.T) {
	n := newNode(t, config{run: true})
	n.group("g", "s")
	n.put("g", "s", 0, "old")
	n.clock.move(2 * day)
	_, err := n.PutRetentionPolicy(t.Context(), &cloudwatchlogs.PutRetentionPolicyInput{LogGroupName: aws.String("g"), RetentionInDays: aws.Int32(1)})
	n.must(err)
	eventually(t, "nothing is expired", func() bool {
		page, err := n.cfg.Store.Read(logstore.Query{Group: "g"})
		n.must(err)
		return len(page.Events) == 0
	})
}

// What was acknowledged is there after a restart, and a record that a crash
// left behind is nobody's.
func TestRestart(t *testing.T) {
	cfg := config{dir: t.TempDir(), clock: newClock(), functions: &fakeFunctions{}}
	n := newNode(t, cfg)
	n.group("g", "s")
	n.group("away")
	n.put("g", "s", 0, "one")
	for _, group := range []string{"g", "away"} {
		_, err := n.PutRetentionPolicy(t.Context(), &cloudwatchlogs.PutRetentionPolicyInput{LogGroupName: &group, RetentionInDays: aws.Int32(7)})
		n.must(err)
	}
	_, err := n.TagLogGroup(t.Context(), &cloudwatchlogs.TagLogGroupInput{LogGroupName: aws.String("g"), Tags: map[string]string{"a": "b"}})
	n.must(err)
	_, err = n.PutSubscriptionFilter(t.Context(), subscribe("g", "f", "ERROR"))
	n.must(err)
	before := n.describe1("g")
	n.must(n.cfg.Store.DeleteGroup("away")) // and then the process died
	n.stop()

	cfg.clock.move(time.Second)
	n = newNode(t, cfg)
	if diff := cmp.Diff(before, n.describe1("g"), cmpopts.IgnoreUnexported(types.LogGroup{})); diff != "" {
		t.Error(diff)
	}
	tags, err := n.ListTagsLogGroup(t.Context(), &cloudwatchlogs.ListTagsLogGroupInput{LogGroupName: aws.String("g")})
	if n.must(err); tags.Tags["a"] != "b" {
		t.Error(tags.Tags)
	}
	filters, err := n.DescribeSubscriptionFilters(t.Context(), &cloudwatchlogs.DescribeSubscriptionFiltersInput{LogGroupName: aws.String("g")})
	if n.must(err); len(filters.SubscriptionFilters) != 1 || *filters.SubscriptionFilters[0].FilterPattern != "ERROR" {
		t.Error(filters.SubscriptionFilters)
	}
	events, err := n.GetLogEvents(t.Context(), &cloudwatchlogs.GetLogEventsInput{LogGroupName: aws.String("g"), LogStreamName: aws.String("s")})
	if n.must(err); len(events.Events) != 1 || *events.Events[0].Message != "one" {
		t.Error(events.Events)
	}
	n.group("away")
	if n.describe1("away").RetentionInDays != nil {
		t.Error("a new group has the retention of the one before it")
	}
}

func TestLoadBrokenRecord(t *testing.T) {
	n := newNode(t, config{})
	n.must(n.cfg.State.Update(t.Context(), func(tx state.Tx) error {
		_, err := tx.Put(kindGroup, "g", []byte("{"))
		return err
	}))
	if err := n.Load(t.Context()); err == nil {
		t.Error("a broken record is passed over")
	}
}
