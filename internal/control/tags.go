package control

import (
	"context"
	"maps"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire"
)

// taggable finds the function whose ARN a tag operation names.
func (c *Control) taggable(resource *string) (*record, error) {
	for part, kind := range map[string]string{":event-source-mapping:": "Event source mapping", ":capacity-provider:": "Capacity provider"} {
		if strings.Contains(deref(resource), part) {
			return nil, firn.Faultf(firn.ResourceNotFound, "%s not found: %s", kind, *resource) // there are none
		}
	}
	ref, err := firn.ParseFunction(deref(resource))
	if err != nil || !strings.HasPrefix(deref(resource), "arn:") {
		return nil, invalid("Tags are supported on functions only so far, by their ARN: %s", deref(resource))
	}
	if ref.Qualifier != "" {
		return nil, invalid("Tags on function aliases and versions are not supported. Please specify a function ARN.")
	}
	if err := c.local(ref); err != nil {
		return nil, err
	}
	return c.find(ref)
}

// checkTags applies the rules of "Using tags on Lambda functions" that are
// not in the model.
func checkTags(tags map[string]string) error {
	if len(tags) > firn.MaxTagsPerFunction {
		return invalid("Number of tags exceeds resource tag limit.")
	}
	for key, value := range tags {
		switch {
		case key == "" || utf8.RuneCountInString(key) > 128:
			return invalid("Tag keys must have 1 to 128 characters: %q", key)
		case utf8.RuneCountInString(value) > 256:
			return invalid("The value of the tag %s is longer than 256 characters", key)
		case strings.HasPrefix(strings.ToLower(key), "aws:"):
			return invalid("The tag key %s uses the reserved prefix aws:", key)
		}
	}
	return nil
}

// retag saves a function with other tags. Its revision changes, and its
// environments do not.
func (c *Control) retag(ctx context.Context, resource *string, edit func(map[string]string)) error {
	rec, err := c.taggable(resource)
	if err != nil {
		return err
	}
	unlock := c.lock(*rec.Config.FunctionName)
	defer unlock()
	if rec, err = c.taggable(resource); err != nil {
		return err
	}
	tags := maps.Clone(rec.Tags)
	if tags == nil {
		tags = make(map[string]string)
	}
	edit(tags)
	if err := checkTags(tags); err != nil {
		return err
	}
	next := *rec
	next.Tags = tags
	next.Config.RevisionId = ptr(awswire.NewRequestID())
	return c.save(ctx, &next)
}

func (c *Control) tagResource(ctx context.Context, in *lambda.TagResourceInput) (*lambda.TagResourceOutput, error) {
	if len(in.Tags) == 0 {
		return nil, invalid("An error occurred and the request cannot be processed.")
	}
	err := c.retag(ctx, in.Resource, func(tags map[string]string) { maps.Copy(tags, in.Tags) })
	return &lambda.TagResourceOutput{}, err
}

func (c *Control) untagResource(ctx context.Context, in *lambda.UntagResourceInput) (*lambda.UntagResourceOutput, error) {
	err := c.retag(ctx, in.Resource, func(tags map[string]string) {
		for _, key := range in.TagKeys {
			delete(tags, key)
		}
	})
	return &lambda.UntagResourceOutput{}, err
}

func (c *Control) listTags(_ context.Context, in *lambda.ListTagsInput) (*lambda.ListTagsOutput, error) {
	rec, err := c.taggable(in.Resource)
	if err != nil {
		return nil, err
	}
	tags := rec.Tags
	if tags == nil {
		tags = map[string]string{}
	}
	return &lambda.ListTagsOutput{Tags: tags}, nil
}
