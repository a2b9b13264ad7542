package logs

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
)

// maxTags is how many tags a group may have (TagResource, API Reference).
const maxTags = 50

// tag adds tags.
func (t *settings) tag(tags map[string]string) error {
	if t.Tags == nil {
		t.Tags = map[string]string{}
	}
	for key, value := range tags {
		if strings.HasPrefix(strings.ToLower(key), "aws:") {
			return invalid("Tag keys starting with aws: are reserved for AWS.")
		}
		t.Tags[key] = value
	}
	if len(t.Tags) > maxTags {
		return &types.TooManyTagsException{Message: new("A log group can have at most 50 tags.")}
	}
	return nil
}

func (t *settings) untag(keys []string) {
	for _, key := range keys {
		delete(t.Tags, key)
	}
}

func (s *Service) tagLogGroup(ctx context.Context, in *cloudwatchlogs.TagLogGroupInput) (*cloudwatchlogs.TagLogGroupOutput, error) {
	return nil, s.change(ctx, *in.LogGroupName, func(t *settings) error { return t.tag(in.Tags) })
}

func (s *Service) untagLogGroup(ctx context.Context, in *cloudwatchlogs.UntagLogGroupInput) (*cloudwatchlogs.UntagLogGroupOutput, error) {
	return nil, s.change(ctx, *in.LogGroupName, func(t *settings) error {
		t.untag(in.Tags)
		return nil
	})
}

func (s *Service) listTagsLogGroup(_ context.Context, in *cloudwatchlogs.ListTagsLogGroupInput) (*cloudwatchlogs.ListTagsLogGroupOutput, error) {
	t, err := s.get(*in.LogGroupName)
	if err != nil {
		return nil, err
	}
	return &cloudwatchlogs.ListTagsLogGroupOutput{Tags: t.allTags()}, nil
}

// allTags is never nil, since AWS answers with an empty map.
func (t *settings) allTags() map[string]string {
	if t.Tags == nil {
		return map[string]string{}
	}
	return t.Tags
}

// resource returns the group that an ARN names.
func (s *Service) resource(arn *string) (string, error) {
	if !strings.HasPrefix(*arn, "arn:") {
		return "", invalid("The resourceArn is not an ARN: " + *arn)
	}
	return s.existing(*arn)
}

func (s *Service) tagResource(ctx context.Context, in *cloudwatchlogs.TagResourceInput) (*cloudwatchlogs.TagResourceOutput, error) {
	name, err := s.resource(in.ResourceArn)
	if err != nil {
		return nil, err
	}
	return nil, s.change(ctx, name, func(t *settings) error { return t.tag(in.Tags) })
}

func (s *Service) untagResource(ctx context.Context, in *cloudwatchlogs.UntagResourceInput) (*cloudwatchlogs.UntagResourceOutput, error) {
	name, err := s.resource(in.ResourceArn)
	if err != nil {
		return nil, err
	}
	return nil, s.change(ctx, name, func(t *settings) error {
		t.untag(in.TagKeys)
		return nil
	})
}

func (s *Service) listTagsForResource(_ context.Context, in *cloudwatchlogs.ListTagsForResourceInput) (*cloudwatchlogs.ListTagsForResourceOutput, error) {
	name, err := s.resource(in.ResourceArn)
	if err != nil {
		return nil, err
	}
	t, err := s.get(name)
	if err != nil {
		return nil, err
	}
	return &cloudwatchlogs.ListTagsForResourceOutput{Tags: t.allTags()}, nil
}
