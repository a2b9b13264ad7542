package metrics

import (
	"context"
	"io"
	"log/slog"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/lifecycle"
	"github.com/firn-run/firn/internal/metrics/series"
	"github.com/firn-run/firn/internal/telemetry"
)

// testClock is a clock that tests move.
type testClock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *testClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *testClock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

const accountID = "123456789012"

// fixture is a store behind the real client.
type fixture struct {
	*Store
	clock  *testClock
	client *cloudwatch.Client
	begin  time.Time
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func newFixture(t *testing.T, change ...func(*Config)) *fixture {
	t.Helper()
	clock := &testClock{t: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
	cfg := Config{Dir: t.TempDir(), Now: clock.Now, Logger: quiet(), Region: "us-east-1", Account: accountID}
	for _, f := range change {
		f(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	mux := awswire.NewService(awswire.Config{Logger: quiet()}, awswire.CloudWatch())
	s.Mount(mux)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	client := cloudwatch.New(cloudwatch.Options{
		BaseEndpoint: aws.String(server.URL), Region: "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
		Retryer:     aws.NopRetryer{},
	})
	return &fixture{Store: s, clock: clock, client: client, begin: clock.Now()}
}

// call is an invocation that a test plays.
type call struct {
	arn       string // with a qualifier
	version   string
	status    string
	duration  time.Duration
	overhead  time.Duration // of extensions; 0 means that there are none
	requestID string
}

func functionARN(name, qualifier string) string {
	arn := "arn:aws:lambda:us-east-1:" + accountID + ":function:" + name
	if qualifier != "" {
		arn += ":" + qualifier
	}
	return arn
}

func source(c *call) *telemetry.Source {
	return &telemetry.Source{Function: functionName(c.arn), Version: c.version}
}

func (f *fixture) start(c *call) {
	f.Sink().Record(source(c), c.requestID, lifecycle.Start{Stamp: lifecycle.Stamp{Time: f.clock.Now()}, RequestID: c.requestID, InvokedARN: c.arn})
}

func (f *fixture) report(c *call) {
	r := lifecycle.Report{Stamp: lifecycle.Stamp{Time: f.clock.Now()}, RequestID: c.requestID, InvokedARN: c.arn, Status: c.status}
	r.Metrics.DurationMs = float64(c.duration) / float64(time.Millisecond)
	if c.overhead > 0 {
		r.Spans = []lifecycle.Span{{Name: "extensionOverhead", DurationMs: float64(c.overhead) / float64(time.Millisecond)}}
	}
	f.Sink().Record(source(c), c.requestID, r)
}

func (f *fixture) invoke(c call) {
	if c.version == "" {
		c.version = "$LATEST"
	}
	if c.status == "" {
		c.status = lifecycle.StatusSuccess
	}
	if c.requestID == "" {
		c.requestID = "one"
	}
	f.start(&c)
	f.clock.Advance(c.duration)
	f.report(&c)
}

func dims(pairs ...string) []types.Dimension {
	out := []types.Dimension{}
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, types.Dimension{Name: aws.String(pairs[i]), Value: aws.String(pairs[i+1])})
	}
	return out
}

// stats asks for one hour around now, as one datapoint.
func (f *fixture) stats(t *testing.T, namespace, name string, dimensions []types.Dimension, extended ...string) *types.Datapoint {
	t.Helper()
	in := &cloudwatch.GetMetricStatisticsInput{
		Namespace: &namespace, MetricName: &name, Dimensions: dimensions, Period: aws.Int32(86400),
		StartTime: aws.Time(f.begin.Add(-12 * time.Hour)), EndTime: aws.Time(f.begin.Add(12 * time.Hour)),
		Statistics: []types.Statistic{"Sum", "SampleCount", "Minimum", "Maximum", "Average"},
	}
	if len(extended) > 0 {
		in.Statistics, in.ExtendedStatistics = nil, extended
	}
	out, err := f.client.GetMetricStatistics(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Datapoints) == 0 {
		return nil
	}
	if len(out.Datapoints) > 1 {
		t.Fatalf("%s has %d datapoints", name, len(out.Datapoints))
	}
	return &out.Datapoints[0]
}

// put sends data of the namespace Test.
func (f *fixture) put(t *testing.T, data ...types.MetricDatum) {
	t.Helper()
	if _, err := f.client.PutMetricData(context.Background(), &cloudwatch.PutMetricDataInput{Namespace: aws.String("Test"), MetricData: data}); err != nil {
		t.Fatal(err)
	}
}

func filterAll() series.Filter { return series.Filter{} }
