package logs

import (
	"context"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"github.com/firn-run/firn/internal/logstore"
)

func (s *Service) createLogGroup(ctx context.Context, in *cloudwatchlogs.CreateLogGroupInput) (*cloudwatchlogs.CreateLogGroupOutput, error) {
	name := *in.LogGroupName
	switch {
	case in.KmsKeyId != nil:
		return nil, unserved("kmsKeyId")
	case in.LogGroupClass != "" && in.LogGroupClass != types.LogGroupClassStandard:
		return nil, unserved("logGroupClass " + string(in.LogGroupClass))
	case strings.HasPrefix(strings.ToLower(name), "aws/"):
		return nil, invalid("Log groups starting with AWS/ are reserved for AWS.")
	}
	next := &settings{Protected: deref(in.DeletionProtectionEnabled)}
	if err := next.tag(in.Tags); err != nil {
		return nil, err
	}
	s.write.Lock()
	defer s.write.Unlock()
	if err := s.cfg.Store.CreateGroup(name); err != nil {
		return nil, storeError(err)
	}
	if next.empty() {
		return nil, nil
	}
	info, _ := s.cfg.Store.Group(name)
	next.Created = info.Created
	if err := s.saveLocked(ctx, name, next); err != nil {
		if undo := s.cfg.Store.DeleteGroup(name); undo != nil {
			s.cfg.Logger.Error("log group without its settings could not be removed", "group", name, "error", undo)
		}
		return nil, err
	}
	return nil, nil
}

func (s *Service) deleteLogGroup(ctx context.Context, in *cloudwatchlogs.DeleteLogGroupInput) (*cloudwatchlogs.DeleteLogGroupOutput, error) {
	name := *in.LogGroupName
	s.write.Lock()
	defer s.write.Unlock()
	t, err := s.get(name)
	if err != nil {
		return nil, err
	}
	if t.Protected {
		return nil, protected()
	}
	// The group first: the record of a group that is gone is never used.
	if err := s.cfg.Store.DeleteGroup(name); err != nil {
		return nil, storeError(err)
	}
	return nil, s.saveLocked(ctx, name, nil)
}

func protected() error {
	return &types.ValidationException{Message: new("Deletion protection is enabled for the log group. Disable it with PutLogGroupDeletionProtection first.")}
}

func (s *Service) putLogGroupDeletionProtection(ctx context.Context, in *cloudwatchlogs.PutLogGroupDeletionProtectionInput) (*cloudwatchlogs.PutLogGroupDeletionProtectionOutput, error) {
	name, err := s.groupOf(nil, in.LogGroupIdentifier)
	if err != nil {
		return nil, err
	}
	return nil, s.change(ctx, name, func(t *settings) error {
		t.Protected = *in.DeletionProtectionEnabled
		return nil
	})
}

func (s *Service) describeLogGroups(_ context.Context, in *cloudwatchlogs.DescribeLogGroupsInput) (*cloudwatchlogs.DescribeLogGroupsOutput, error) {
	prefix, pattern := deref(in.LogGroupNamePrefix), deref(in.LogGroupNamePattern)
	if prefix != "" && pattern != "" {
		return nil, invalid("LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.")
	}
	out := &cloudwatchlogs.DescribeLogGroupsOutput{LogGroups: []types.LogGroup{}}
	if !s.concerned(in.AccountIdentifiers, in.LogGroupClass) {
		return out, nil
	}
	if len(in.LogGroupIdentifiers) > 0 {
		if prefix+pattern != "" {
			return nil, invalid("LogGroup identifiers cannot be combined with other filters.")
		}
		for _, id := range in.LogGroupIdentifiers {
			name, err := s.existing(id)
			if err != nil {
				return nil, err
			}
			info, _ := s.cfg.Store.Group(name)
			out.LogGroups = append(out.LogGroups, s.describe(info))
		}
		return out, nil
	}
	after, err := afterToken(in.NextToken)
	if err != nil {
		return nil, err
	}
	list, more := s.groups(groupQuery{prefix: prefix, after: after, limit: pageSize(in.Limit), keep: func(info logstore.GroupInfo) bool {
		return strings.Contains(info.Name, pattern)
	}})
	for _, info := range list {
		one := s.describe(info)
		if pattern != "" { // then AWS says less
			one.StoredBytes, one.RetentionInDays, one.DeletionProtectionEnabled = nil, nil, nil
		}
		out.LogGroups = append(out.LogGroups, one)
	}
	if more {
		out.NextToken = pageToken(list[len(list)-1].Name)
	}
	return out, nil
}

// concerned reports whether filters on account and class let anything through:
// all groups are of this account and of the standard class.
func (s *Service) concerned(accounts []string, class types.LogGroupClass) bool {
	return (len(accounts) == 0 || slices.Contains(accounts, s.cfg.Account)) && (class == "" || class == types.LogGroupClassStandard)
}

func (s *Service) describe(info logstore.GroupInfo) types.LogGroup {
	t := s.of(info.Name, info.Created)
	arn := s.groupARN(info.Name)
	g := types.LogGroup{
		LogGroupName: &info.Name, LogGroupArn: &arn, Arn: new(arn + ":*"),
		CreationTime: &info.Created, StoredBytes: &info.StoredBytes,
		LogGroupClass: types.LogGroupClassStandard, MetricFilterCount: new(int32(0)),
		DeletionProtectionEnabled: &t.Protected,
	}
	if t.Retention > 0 {
		g.RetentionInDays = &t.Retention
	}
	return g
}

// groupQuery chooses groups.
type groupQuery struct {
	prefix, after string
	limit         int
	keep          func(logstore.GroupInfo) bool
}

// groups returns the groups of a page, and whether there is another page.
func (s *Service) groups(q groupQuery) (list []logstore.GroupInfo, more bool) {
	const step = 1000
	for after := q.after; ; {
		batch := s.cfg.Store.Groups(q.prefix, after, step)
		for _, info := range batch {
			if !q.keep(info) {
				continue
			}
			if len(list) == q.limit {
				return list, true
			}
			list = append(list, info)
		}
		if len(batch) < step {
			return list, false
		}
		after = batch[len(batch)-1].Name
	}
}

func (s *Service) listLogGroups(_ context.Context, in *cloudwatchlogs.ListLogGroupsInput) (*cloudwatchlogs.ListLogGroupsOutput, error) {
	if len(in.DataSources) > 0 {
		return nil, unserved("dataSources")
	}
	if len(in.FieldIndexNames) > 0 {
		return nil, unserved("fieldIndexNames")
	}
	out := &cloudwatchlogs.ListLogGroupsOutput{LogGroups: []types.LogGroupSummary{}}
	if !s.concerned(in.AccountIdentifiers, in.LogGroupClass) {
		return out, nil
	}
	after, err := afterToken(in.NextToken)
	if err != nil {
		return nil, err
	}
	list, more := s.groups(groupQuery{after: after, limit: pageSize(in.Limit), keep: func(info logstore.GroupInfo) bool {
		return named(info.Name, deref(in.LogGroupNamePattern)) && s.of(info.Name, info.Created).tagged(in.LogGroupTags)
	}})
	for _, info := range list {
		out.LogGroups = append(out.LogGroups, types.LogGroupSummary{
			LogGroupName: &info.Name, LogGroupArn: new(s.groupARN(info.Name)), LogGroupClass: types.LogGroupClassStandard,
		})
	}
	if more {
		out.NextToken = pageToken(list[len(list)-1].Name)
	}
	return out, nil
}

// named reports whether a name matches the pattern of ListLogGroups: texts to
// be found in it, or at its start after a ^, separated by |.
func named(name, pattern string) bool {
	for part := range strings.SplitSeq(pattern, "|") {
		if start, ok := strings.CutPrefix(part, "^"); ok && strings.HasPrefix(name, start) || !ok && strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// tagged reports whether the tags pass all filters; a filter without values is
// passed by any.
func (t *settings) tagged(filters []types.TagFilter) bool {
	for _, f := range filters {
		value, ok := t.Tags[deref(f.Key)]
		if !ok || len(f.Values) > 0 && !slices.Contains(f.Values, value) {
			return false
		}
	}
	return true
}
