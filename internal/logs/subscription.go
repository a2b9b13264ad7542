package logs

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
)

// maxFilters is how many subscription filters a group may have
// (PutSubscriptionFilter, API Reference). No two of them reach the five that
// may have regular expressions.
const maxFilters = 2

func (s *Service) putSubscriptionFilter(ctx context.Context, in *cloudwatchlogs.PutSubscriptionFilterInput) (*cloudwatchlogs.PutSubscriptionFilterOutput, error) {
	switch {
	case in.ApplyOnTransformedLogs:
		return nil, unserved("applyOnTransformedLogs")
	case len(in.EmitSystemFields) > 0:
		return nil, unserved("emitSystemFields")
	case in.FieldSelectionCriteria != nil:
		return nil, unserved("fieldSelectionCriteria")
	}
	if err := s.checkDestination(*in.DestinationArn, in.RoleArn); err != nil {
		return nil, err
	}
	if _, err := parsePattern(in.FilterPattern); err != nil {
		return nil, err
	}
	group := *in.LogGroupName
	if _, err := s.get(group); err != nil {
		return nil, err
	}
	if err := s.checkFunction(ctx, *in.DestinationArn, group); err != nil {
		return nil, err
	}
	f := filter{
		Name: *in.FilterName, Pattern: *in.FilterPattern, Destination: *in.DestinationArn,
		Distribution: string(in.Distribution), Created: s.cfg.Now().UnixMilli(),
	}
	if f.Distribution == "" {
		f.Distribution = string(types.DistributionByLogStream)
	}
	return nil, s.change(ctx, group, func(t *settings) error { return t.subscribe(f) })
}

// checkDestination checks that an ARN is that of a function of this account.
func (s *Service) checkDestination(arn string, role *string) error {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) < 6 || parts[0] != "arn" {
		return invalid("The destinationArn is not an ARN: " + arn)
	}
	vendor, region, account, resource := parts[2], parts[3], parts[4], parts[5]
	switch vendor {
	case "lambda":
	case "kinesis", "firehose":
		if role == nil {
			return invalid("destinationArn for vendor " + vendor + " cannot be used without roleArn")
		}
		return unserved("A destinationArn for vendor " + vendor)
	default:
		return unserved("A destinationArn for vendor " + vendor)
	}
	switch {
	case role != nil:
		return invalid("destinationArn for vendor lambda cannot be used with roleArn")
	case account != s.cfg.Account:
		return &types.AccessDeniedException{Message: new("Cross-account lambda invocation passing is not allowed. You must use DestinationPolicies to create cross account lambda triggers.")}
	case region != s.cfg.Region || !strings.HasPrefix(resource, "function:"):
		return notExecutable()
	}
	return nil
}

func notExecutable() error {
	return invalid("Could not execute the lambda function. Make sure you have given CloudWatch Logs permission to execute your function.")
}

// checkFunction checks that the function exists and does not write to the
// group: each of its invocations would cause the next.
func (s *Service) checkFunction(ctx context.Context, arn, group string) error {
	if s.cfg.Functions == nil {
		return notExecutable()
	}
	own, err := s.cfg.Functions.LogGroup(ctx, arn)
	if err != nil {
		s.cfg.Logger.Info("subscription filter refused", "group", group, "function", arn, "error", err)
		return notExecutable()
	}
	if own == group {
		return invalid("The log group provided is reserved for the function logs of the destination function.")
	}
	return nil
}

// subscribe adds a filter or replaces the one of its name.
func (t *settings) subscribe(f filter) error {
	i := slices.IndexFunc(t.Filters, func(old filter) bool { return old.Name == f.Name })
	if i < 0 && len(t.Filters) == maxFilters {
		return limitExceeded()
	}
	if i >= 0 {
		f.Created = t.Filters[i].Created
		t.Filters[i] = f
	} else {
		t.Filters = append(t.Filters, f)
	}
	slices.SortFunc(t.Filters, func(a, b filter) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

func (s *Service) deleteSubscriptionFilter(ctx context.Context, in *cloudwatchlogs.DeleteSubscriptionFilterInput) (*cloudwatchlogs.DeleteSubscriptionFilterOutput, error) {
	return nil, s.change(ctx, *in.LogGroupName, func(t *settings) error {
		n := len(t.Filters)
		t.Filters = slices.DeleteFunc(t.Filters, func(f filter) bool { return f.Name == *in.FilterName })
		if len(t.Filters) == n {
			return &types.ResourceNotFoundException{Message: new("The specified subscription filter does not exist.")}
		}
		return nil
	})
}

func (s *Service) describeSubscriptionFilters(_ context.Context, in *cloudwatchlogs.DescribeSubscriptionFiltersInput) (*cloudwatchlogs.DescribeSubscriptionFiltersOutput, error) {
	t, err := s.get(*in.LogGroupName)
	if err != nil {
		return nil, err
	}
	after, err := afterToken(in.NextToken)
	if err != nil {
		return nil, err
	}
	out := &cloudwatchlogs.DescribeSubscriptionFiltersOutput{SubscriptionFilters: []types.SubscriptionFilter{}}
	for _, f := range t.Filters {
		if !strings.HasPrefix(f.Name, deref(in.FilterNamePrefix)) || f.Name <= after {
			continue
		}
		if n := len(out.SubscriptionFilters); n == pageSize(in.Limit) {
			out.NextToken = pageToken(*out.SubscriptionFilters[n-1].FilterName)
			break
		}
		out.SubscriptionFilters = append(out.SubscriptionFilters, types.SubscriptionFilter{
			FilterName: &f.Name, FilterPattern: &f.Pattern, DestinationArn: &f.Destination, LogGroupName: in.LogGroupName,
			Distribution: types.Distribution(f.Distribution), CreationTime: &f.Created,
		})
	}
	return out, nil
}

// feedKey names a subscription filter of the account.
type feedKey struct {
	group, filter string
}

func (k feedKey) String() string { return fmt.Sprintf("%s of %s", k.filter, k.group) }
