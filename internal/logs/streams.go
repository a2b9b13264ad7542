package logs

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"github.com/firn-run/firn/internal/logstore"
)

func (s *Service) createLogStream(_ context.Context, in *cloudwatchlogs.CreateLogStreamInput) (*cloudwatchlogs.CreateLogStreamOutput, error) {
	return nil, storeError(s.cfg.Store.CreateStream(*in.LogGroupName, *in.LogStreamName))
}

func (s *Service) deleteLogStream(_ context.Context, in *cloudwatchlogs.DeleteLogStreamInput) (*cloudwatchlogs.DeleteLogStreamOutput, error) {
	t, err := s.get(*in.LogGroupName)
	if err != nil {
		return nil, err
	}
	if t.Protected {
		return nil, protected()
	}
	return nil, storeError(s.cfg.Store.DeleteStream(*in.LogGroupName, *in.LogStreamName))
}

func (s *Service) describeLogStreams(_ context.Context, in *cloudwatchlogs.DescribeLogStreamsInput) (*cloudwatchlogs.DescribeLogStreamsOutput, error) {
	group, err := s.groupOf(in.LogGroupName, in.LogGroupIdentifier)
	if err != nil {
		return nil, err
	}
	byTime := in.OrderBy == types.OrderByLastEventTime
	if byTime && in.LogStreamNamePrefix != nil {
		return nil, invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")
	}
	after, err := afterToken(in.NextToken)
	if err != nil {
		return nil, err
	}
	list, next, err := s.cfg.Store.Streams(logstore.StreamQuery{
		Group: group, Prefix: deref(in.LogStreamNamePrefix), ByLastEvent: byTime,
		Descending: deref(in.Descending), After: after, Limit: pageSize(in.Limit),
	})
	if err != nil {
		return nil, storeError(err)
	}
	out := &cloudwatchlogs.DescribeLogStreamsOutput{LogStreams: make([]types.LogStream, 0, len(list))}
	for _, info := range list {
		one := types.LogStream{
			LogStreamName: &info.Name, Arn: new(s.streamARN(group, info.Name)), CreationTime: &info.Created,
			//lint:ignore SA1019 clients of all ages read it
			StoredBytes: new(int64(0)), // "always reported as zero" since 2019
		}
		if info.LastIngestion != 0 {
			one.FirstEventTimestamp, one.LastEventTimestamp = &info.FirstEvent, &info.LastEvent
			one.LastIngestionTime = &info.LastIngestion
			one.UploadSequenceToken = new(sequenceToken(info.LastIngestion))
		}
		out.LogStreams = append(out.LogStreams, one)
	}
	if next != "" {
		out.NextToken = pageToken(next)
	}
	return out, nil
}

// sequenceToken makes what older clients send back and nobody looks at: 56
// digits.
func sequenceToken(n int64) string { return fmt.Sprintf("%056d", n) }
