package awswire

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	logstypes "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"
	"github.com/firn-run/firn"
)

// tailGroup is an input that passes the checks.
func tailGroup() *cloudwatchlogs.StartLiveTailInput {
	return &cloudwatchlogs.StartLiveTailInput{LogGroupIdentifiers: []string{"arn:aws:logs:eu-central-1:123456789012:log-group:g"}}
}

// TestLiveTail reads a stream of events through the SDK's client, each before
// the next is sent, and sees the operation end when the client goes.
func TestLiveTail(t *testing.T) {
	mux, _ := serviceMux(CloudWatchLogs())
	next, over := make(chan string), make(chan error, 1)
	HandleStream(mux, func(ctx context.Context, in *cloudwatchlogs.StartLiveTailInput, s *EventStream) error {
		if err := s.Send("sessionStart", logstypes.LiveTailSessionStart{SessionId: aws.String("s"), LogGroupIdentifiers: in.LogGroupIdentifiers}); err != nil {
			return err
		}
		for {
			select {
			case <-ctx.Done():
				over <- s.Send("sessionUpdate", &logstypes.LiveTailSessionUpdate{})
				return ctx.Err()
			case text := <-next:
				if err := s.Send("sessionUpdate", &logstypes.LiveTailSessionUpdate{
					SessionMetadata: &logstypes.LiveTailSessionMetadata{Sampled: true},
					SessionResults:  []logstypes.LiveTailSessionLogEvent{{Message: &text, Timestamp: aws.Int64(1)}},
				}); err != nil {
					return err
				}
			}
		}
	})
	out, err := logsClient(t, mux).StartLiveTail(t.Context(), tailGroup())
	if err != nil {
		t.Fatal(err)
	}
	stream := out.GetStream()
	start, ok := (<-stream.Events()).(*logstypes.StartLiveTailResponseStreamMemberSessionStart)
	if !ok || aws.ToString(start.Value.SessionId) != "s" || len(start.Value.LogGroupIdentifiers) != 1 {
		t.Fatalf("first event: %+v", start)
	}
	for _, want := range []string{"one", "two", strings.Repeat("long ", 100_000)} {
		next <- want
		update, ok := (<-stream.Events()).(*logstypes.StartLiveTailResponseStreamMemberSessionUpdate)
		if !ok || aws.ToString(update.Value.SessionResults[0].Message) != want || !update.Value.SessionMetadata.Sampled {
			t.Fatalf("got %+v, want %.20s", update, want)
		}
	}
	stream.Close()
	select {
	case err := <-over:
		if err == nil {
			t.Error("an event was sent to a client that has gone")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the operation goes on without a client")
	}
}

// TestStreamErrors: before the first event an error is an answer, after it the
// last event.
func TestStreamErrors(t *testing.T) {
	mux, log := serviceMux(CloudWatchLogs())
	var begin bool
	var fail error
	HandleStream(mux, func(_ context.Context, _ *cloudwatchlogs.StartLiveTailInput, s *EventStream) error {
		if begin {
			if err := s.Start(&cloudwatchlogs.StartLiveTailOutput{}); err != nil {
				return err
			}
		}
		return fail
	})
	client := logsClient(t, mux)
	for _, c := range []struct {
		begin bool
		err   error
		want  string
	}{
		{false, &logstypes.ResourceNotFoundException{Message: aws.String("no group")}, "ResourceNotFoundException: no group"},
		{false, firn.Faultf("LimitExceededException", "too many"), "LimitExceededException: too many"},
		{true, &logstypes.SessionTimeoutException{Message: aws.String("3 hours")}, "SessionTimeoutException: 3 hours"},
		{true, &logstypes.SessionStreamingException{Message: aws.String("broken")}, "SessionStreamingException: broken"},
		{true, firn.Faultf(firn.AccessDenied, "not you"), "AccessDeniedException: not you"},
		{true, errors.New("/secret"), "ServiceUnavailableException: The AWS CloudWatch Logs service encountered an internal error."},
		{true, nil, ""},
		{false, nil, ""},
	} {
		begin, fail = c.begin, c.err
		out, err := client.StartLiveTail(t.Context(), tailGroup())
		if err == nil {
			for range out.GetStream().Events() {
			}
			err = out.GetStream().Err()
			out.GetStream().Close()
		}
		got := ""
		if api, ok := errors.AsType[smithy.APIError](err); ok {
			got = api.ErrorCode() + ": " + api.ErrorMessage()
		} else if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%v, begun %t: %q, want %q", c.err, c.begin, got, c.want)
		}
	}
	if !strings.Contains(log.String(), "/secret") {
		t.Error("the internal error is not in the log")
	}
	_, err := client.StartLiveTail(t.Context(), &cloudwatchlogs.StartLiveTailInput{LogGroupIdentifiers: []string{}})
	if invalid, ok := errors.AsType[*logstypes.InvalidParameterException](err); !ok || !strings.Contains(invalid.ErrorMessage(), "1 validation error detected: Value '[]' at 'logGroupIdentifiers' failed to satisfy constraint") {
		t.Errorf("an input that breaks a constraint: %v", err)
	}
}

// TestStreamOfREST sends Lambda's streamed answer: members of the output in
// headers, raw payloads in events.
func TestStreamOfREST(t *testing.T) {
	mux, _ := testMux()
	HandleStream(mux, func(_ context.Context, in *lambda.InvokeWithResponseStreamInput, s *EventStream) error {
		if err := s.Start(&lambda.InvokeWithResponseStreamOutput{StatusCode: 200, ExecutedVersion: aws.String("7")}); err != nil {
			return err
		}
		if err := s.Send("PayloadChunk", lambdatypes.InvokeResponseStreamUpdate{Payload: append([]byte("got "), in.Payload...)}); err != nil {
			return err
		}
		return s.Send("InvokeComplete", lambdatypes.InvokeWithResponseStreamCompleteEvent{ErrorCode: aws.String("E"), LogResult: aws.String("bG9n")})
	})
	out, err := testClient(t, mux).InvokeWithResponseStream(t.Context(), &lambda.InvokeWithResponseStreamInput{FunctionName: aws.String("f"), Payload: []byte("\xff\x00")})
	if err != nil {
		t.Fatal(err)
	}
	defer out.GetStream().Close()
	if aws.ToString(out.ExecutedVersion) != "7" || aws.ToString(out.ResponseStreamContentType) != "application/vnd.amazon.eventstream" {
		t.Errorf("output %+v", out)
	}
	chunk, ok := (<-out.GetStream().Events()).(*lambdatypes.InvokeWithResponseStreamResponseEventMemberPayloadChunk)
	if !ok || string(chunk.Value.Payload) != "got \xff\x00" {
		t.Errorf("chunk %+v", chunk)
	}
	complete, ok := (<-out.GetStream().Events()).(*lambdatypes.InvokeWithResponseStreamResponseEventMemberInvokeComplete)
	if !ok || aws.ToString(complete.Value.ErrorCode) != "E" || aws.ToString(complete.Value.LogResult) != "bG9n" {
		t.Errorf("complete %+v", complete)
	}
}

// TestStreamMistakes: mistakes in the mounting code are seen at once.
func TestStreamMistakes(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("an operation without events was mounted as a stream")
		}
	}()
	mux, _ := serviceMux(CloudWatchLogs())
	HandleStream(mux, func(context.Context, *cloudwatchlogs.CreateLogGroupInput, *EventStream) error { return nil })
}
