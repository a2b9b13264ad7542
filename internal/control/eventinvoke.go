package control

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn"
)

// What asynchronous invocation does unless it is configured (API_
// PutFunctionEventInvokeConfig).
const (
	defaultRetries  = 2
	defaultEventAge = 6 * time.Hour
)

// eventInvoke is an event-invoke config as it is stored.
type eventInvoke struct {
	Retries      *int32 `json:",omitempty"`
	AgeSeconds   *int32 `json:",omitempty"`
	OnSuccess    string `json:",omitempty"`
	OnFailure    string `json:",omitempty"`
	LastModified time.Time
}

// EventInvoke tells how a function is invoked asynchronously through the
// qualifier of ref: each version and alias has a configuration of its own.
// It answers from memory; what is not configured, or no longer exists, has the
// defaults.
func (c *Control) EventInvoke(ref firn.FunctionRef) EventInvoke {
	out := EventInvoke{MaximumRetryAttempts: defaultRetries, MaximumEventAge: defaultEventAge}
	f, err := c.function(ref)
	if err != nil {
		return out
	}
	if rec, err := c.find(ref); err == nil {
		out.DeadLetter = deadLetter(rec)
	}
	e := f.attachments().events[eventQualifier(ref)]
	if e == nil {
		return out
	}
	out.OnSuccess, out.OnFailure = e.OnSuccess, e.OnFailure
	if e.Retries != nil {
		out.MaximumRetryAttempts = int(*e.Retries)
	}
	if e.AgeSeconds != nil {
		out.MaximumEventAge = time.Duration(*e.AgeSeconds) * time.Second
	}
	return out
}

// eventQualifier is the qualifier under which a configuration is kept.
func eventQualifier(ref firn.FunctionRef) string {
	if ref.Qualifier == "" {
		return firn.Latest
	}
	return ref.Qualifier
}

func (c *Control) showEventInvoke(ref firn.FunctionRef, e *eventInvoke) *types.FunctionEventInvokeConfig {
	out := &types.FunctionEventInvokeConfig{
		FunctionArn: ptr(c.arnOf(ref)), LastModified: ptr(e.LastModified),
		MaximumRetryAttempts: e.Retries, MaximumEventAgeInSeconds: e.AgeSeconds,
		DestinationConfig: &types.DestinationConfig{OnSuccess: &types.OnSuccess{}, OnFailure: &types.OnFailure{}},
	}
	if e.OnSuccess != "" {
		out.DestinationConfig.OnSuccess.Destination = ptr(e.OnSuccess)
	}
	if e.OnFailure != "" {
		out.DestinationConfig.OnFailure.Destination = ptr(e.OnFailure)
	}
	return out
}

// eventRef reads what an operation is about; the qualifier is never empty.
func (c *Control) eventRef(function, qualifier *string) (firn.FunctionRef, error) {
	ref, err := c.reference(function, qualifier)
	ref.Qualifier = eventQualifier(ref)
	return ref, err
}

func (c *Control) noEventInvoke(ref firn.FunctionRef) error {
	return firn.Faultf(firn.ResourceNotFound, "The function %s doesn't have an EventInvokeConfig", c.arnOf(ref))
}

// setEventInvoke is what Put and Update have in common: Update keeps what the
// request leaves out, and needs that there is something.
func (c *Control) setEventInvoke(ctx context.Context, in *lambda.PutFunctionEventInvokeConfigInput, update bool) (*types.FunctionEventInvokeConfig, error) {
	if in.MaximumRetryAttempts == nil && in.MaximumEventAgeInSeconds == nil && in.DestinationConfig == nil {
		return nil, invalid("You must specify at least one of error handling or destination setting.")
	}
	ref, err := c.eventRef(in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	missing := firn.Faultf(firn.ResourceNotFound, "The function doesn't exist.")
	if _, err := c.function(ref); err != nil {
		return nil, missing
	}
	var next eventInvoke
	err = c.edit(ctx, ref, func(e *edit) error {
		if e.existing(ref) != nil {
			return missing
		}
		old := e.events[ref.Qualifier]
		if update && old == nil {
			return c.noEventInvoke(ref)
		}
		if update {
			next = *old
		}
		set(&next.Retries, in.MaximumRetryAttempts)
		set(&next.AgeSeconds, in.MaximumEventAgeInSeconds)
		if err := c.setDestinations(&next, ref, in.DestinationConfig); err != nil {
			return err
		}
		next.LastModified = c.cfg.Now().UTC().Truncate(time.Millisecond)
		put(e, &e.events, kindEventInvoke, ref.Qualifier, &next)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return c.showEventInvoke(ref, &next), nil
}

// setDestinations checks and sets the destinations of a request.
func (c *Control) setDestinations(e *eventInvoke, ref firn.FunctionRef, in *types.DestinationConfig) error {
	if in == nil {
		return nil
	}
	valid := true
	if in.OnSuccess != nil {
		e.OnSuccess = deref(in.OnSuccess.Destination)
		valid = takesEvents(e.OnSuccess, "lambda", "sqs", "sns", "events")
	}
	if in.OnFailure != nil {
		e.OnFailure = deref(in.OnFailure.Destination)
		valid = valid && takesEvents(e.OnFailure, "lambda", "sqs", "sns", "events", "s3")
	}
	if !valid {
		return invalid("The provided destination config DestinationConfig(onSuccess=%s, onFailure=%s) is invalid.",
			destinationText("OnSuccess", e.OnSuccess), destinationText("OnFailure", e.OnFailure))
	}
	for _, arn := range []string{e.OnSuccess, e.OnFailure} {
		if sourceOf(arn) != "lambda" {
			continue
		}
		target, err := firn.ParseFunction(arn)
		if err != nil {
			return invalid("The destination ARN %s is invalid.", arn)
		}
		if c.local(target) != nil {
			continue // another account's or Region's: it is asked when it is invoked
		}
		if _, err := c.find(target); err != nil {
			return invalid("The destination ARN %s is invalid.", arn)
		}
		if target.Name == ref.Name {
			return invalid("You can't specify the function as a destination for itself.")
		}
	}
	return nil
}

// takesEvents reports whether an ARN is of one of the services, and no queue
// or topic that wants an order of events; an empty one is no destination.
func takesEvents(arn string, services ...string) bool {
	return arn == "" || slices.Contains(services, sourceOf(arn)) && !strings.HasSuffix(arn, ".fifo")
}

func destinationText(kind, arn string) string {
	if arn == "" {
		return "null"
	}
	return fmt.Sprintf("%s(destination=%s)", kind, arn)
}

func (c *Control) putFunctionEventInvokeConfig(ctx context.Context, in *lambda.PutFunctionEventInvokeConfigInput) (*lambda.PutFunctionEventInvokeConfigOutput, error) {
	out, err := c.setEventInvoke(ctx, in, false)
	if err != nil {
		return nil, err
	}
	return convert[lambda.PutFunctionEventInvokeConfigOutput](out), nil
}

func (c *Control) updateFunctionEventInvokeConfig(ctx context.Context, in *lambda.UpdateFunctionEventInvokeConfigInput) (*lambda.UpdateFunctionEventInvokeConfigOutput, error) {
	out, err := c.setEventInvoke(ctx, convert[lambda.PutFunctionEventInvokeConfigInput](in), true)
	if err != nil {
		return nil, err
	}
	return convert[lambda.UpdateFunctionEventInvokeConfigOutput](out), nil
}

func (c *Control) getFunctionEventInvokeConfig(_ context.Context, in *lambda.GetFunctionEventInvokeConfigInput) (*lambda.GetFunctionEventInvokeConfigOutput, error) {
	ref, err := c.eventRef(in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	f, err := c.function(ref)
	if err != nil {
		return nil, c.noEventInvoke(ref)
	}
	e := f.attachments().events[ref.Qualifier]
	if e == nil {
		return nil, c.noEventInvoke(ref)
	}
	return convert[lambda.GetFunctionEventInvokeConfigOutput](c.showEventInvoke(ref, e)), nil
}

func (c *Control) listFunctionEventInvokeConfigs(_ context.Context, in *lambda.ListFunctionEventInvokeConfigsInput) (*lambda.ListFunctionEventInvokeConfigsOutput, error) {
	after, err := readMarker(in.Marker)
	if err != nil {
		return nil, err
	}
	ref, err := c.functionOnly(in.FunctionName)
	if err != nil {
		return nil, err
	}
	f, err := c.function(ref)
	if err != nil {
		return nil, firn.Faultf(firn.ResourceNotFound, "The function doesn't exist.")
	}
	events := f.attachments().events
	list := []types.FunctionEventInvokeConfig{}
	for _, q := range sortedKeys(events) {
		ref.Qualifier = q
		list = append(list, *c.showEventInvoke(ref, events[q]))
	}
	out := &lambda.ListFunctionEventInvokeConfigsOutput{}
	out.FunctionEventInvokeConfigs, out.NextMarker = page(list, after, in.MaxItems, func(e types.FunctionEventInvokeConfig) string { return *e.FunctionArn })
	return out, nil
}

func (c *Control) deleteFunctionEventInvokeConfig(ctx context.Context, in *lambda.DeleteFunctionEventInvokeConfigInput) (*lambda.DeleteFunctionEventInvokeConfigOutput, error) {
	ref, err := c.eventRef(in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	if _, err := c.function(ref); err != nil {
		return nil, c.noEventInvoke(ref)
	}
	err = c.edit(ctx, ref, func(e *edit) error {
		if e.events[ref.Qualifier] == nil {
			return c.noEventInvoke(ref)
		}
		drop(e, &e.events, kindEventInvoke, ref.Qualifier)
		return nil
	})
	return &lambda.DeleteFunctionEventInvokeConfigOutput{}, err
}
