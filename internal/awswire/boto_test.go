package awswire

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	logstypes "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/firn-run/firn/internal/require"
)

// python finds an interpreter that has boto3.
func python(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("FIRN_CLIENTS")
	if cache, err := os.UserCacheDir(); dir == "" && err == nil {
		dir = filepath.Join(cache, "firn", "clients")
	}
	program := filepath.Join(dir, "python", "bin", "python")
	_, err := os.Stat(program)
	require.Feature(t, "clients", err == nil, "run .ci/install-clients to have boto3 in "+dir)
	return program
}

// noon is the time of the first value that the metrics double answers with.
func noon() time.Time { return time.Date(2026, 11, 1, 12, 0, 0, 250_000_000, time.UTC) }

// doubles are services that answer as testdata/services.py expects it, behind
// one door.
func doubles(t *testing.T) http.Handler {
	functions, _ := testMux()
	Handle(functions, func(context.Context, *lambda.GetAccountSettingsInput) (*lambda.GetAccountSettingsOutput, error) {
		return &lambda.GetAccountSettingsOutput{AccountUsage: &lambdatypes.AccountUsage{FunctionCount: 3}}, nil
	})
	return FrontDoor(functions, metricsDouble(), logsDouble(t))
}

func metricsDouble() *Mux {
	mux, _ := serviceMux(CloudWatch())
	Handle(mux, func(_ context.Context, in *cloudwatch.PutMetricDataInput) (*cloudwatch.PutMetricDataOutput, error) {
		d := in.MetricData[len(in.MetricData)-1]
		wrong := len(in.MetricData) != 200 && *in.Namespace == "ns/é" || !strings.HasSuffix(*d.MetricName, " é&=+") ||
			len(d.Values) != 3 || d.Values[1] != -1e300 || !d.Timestamp.Equal(noon()) || len(*d.Dimensions[0].Value) != 100
		if wrong {
			return nil, errors.New("not what was sent")
		}
		return nil, nil
	})
	Handle(mux, func(_ context.Context, in *cloudwatch.GetMetricDataInput) (*cloudwatch.GetMetricDataOutput, error) {
		if q := in.MetricDataQueries[0]; !in.StartTime.Equal(noon()) || *q.MetricStat.Period != 60 || !*q.ReturnData {
			return nil, errors.New("not what was sent")
		}
		return &cloudwatch.GetMetricDataOutput{MetricDataResults: []cwtypes.MetricDataResult{{
			Id: aws.String("a"), Label: aws.String("<&> \r\n é"), Values: []float64{1.5, 0, -2e-10},
			Timestamps: []time.Time{noon(), noon().Truncate(time.Second)},
		}}}, nil
	})
	Handle(mux, func(context.Context, *cloudwatch.ListMetricsInput) (*cloudwatch.ListMetricsOutput, error) {
		return &cloudwatch.ListMetricsOutput{Metrics: []cwtypes.Metric{}}, nil
	})
	Handle(mux, func(context.Context, *cloudwatch.DescribeAlarmsInput) (*cloudwatch.DescribeAlarmsOutput, error) {
		return nil, nil
	})
	Handle(mux, func(context.Context, *cloudwatch.GetDashboardInput) (*cloudwatch.GetDashboardOutput, error) {
		return nil, &cwtypes.DashboardNotFoundError{Message: aws.String("no <dashboard>")}
	})
	Handle(mux, func(context.Context, *cloudwatch.GetMetricStatisticsInput) (*cloudwatch.GetMetricStatisticsOutput, error) {
		return nil, &cwtypes.InvalidParameterCombinationException{Message: aws.String("Statistics or ExtendedStatistics")}
	})
	return mux
}

func logsDouble(t *testing.T) *Mux {
	mux, _ := serviceMux(CloudWatchLogs())
	Handle(mux, func(_ context.Context, in *cloudwatchlogs.CreateLogGroupInput) (*cloudwatchlogs.CreateLogGroupOutput, error) {
		if *in.LogGroupName == "twice" {
			return nil, &logstypes.ResourceAlreadyExistsException{Message: aws.String("The specified log group already exists")}
		}
		if in.Tags["a"] != "b" || len(in.Tags) != 2 {
			t.Errorf("tags %v", in.Tags)
		}
		return nil, nil
	})
	Handle(mux, func(_ context.Context, in *cloudwatchlogs.PutLogEventsInput) (*cloudwatchlogs.PutLogEventsOutput, error) {
		if *in.LogGroupName == "token" {
			return nil, &logstypes.InvalidSequenceTokenException{Message: aws.String("m"), ExpectedSequenceToken: aws.String("42")}
		}
		if *in.LogEvents[0].Message != "é\u2028\n\x01😀" {
			t.Errorf("message %q", *in.LogEvents[0].Message)
		}
		return &cloudwatchlogs.PutLogEventsOutput{NextSequenceToken: aws.String("t")}, nil
	})
	HandleStream(mux, func(_ context.Context, _ *cloudwatchlogs.StartLiveTailInput, s *EventStream) error {
		if err := s.Send("sessionStart", logstypes.LiveTailSessionStart{}); err != nil {
			return err
		}
		if err := s.Send("sessionUpdate", logstypes.LiveTailSessionUpdate{}); err != nil {
			return err
		}
		return &logstypes.SessionTimeoutException{Message: aws.String("over")}
	})
	return mux
}

// TestBoto3 lets boto3 use two services in all of their protocols.
func TestBoto3(t *testing.T) {
	program := python(t)
	address := serve(t, doubles(t))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, filepath.Join("testdata", "services.py"), address).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "boto3 is content") {
		t.Errorf("%v\n%s", err, out)
	}
}
