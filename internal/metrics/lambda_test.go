package metrics

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/google/go-cmp/cmp"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/lifecycle"
	"github.com/firn-run/firn/internal/telemetry"
)

// expect compares the sum and the number of samples of a metric of AWS/Lambda.
func (f *fixture) expect(t *testing.T, name string, d []types.Dimension, sum, samples float64) {
	t.Helper()
	p := f.stats(t, Namespace, name, d)
	if p == nil {
		if samples != 0 {
			t.Errorf("%s of %s has no datapoint", name, told(d))
		}
		return
	}
	if *p.Sum != sum || *p.SampleCount != samples {
		t.Errorf("%s of %s: sum %v of %v samples, want %v of %v", name, told(d), *p.Sum, *p.SampleCount, sum, samples)
	}
}

func told(d []types.Dimension) string {
	out := "{"
	for _, x := range d {
		out += *x.Name + "=" + *x.Value + " "
	}
	return out + "}"
}

func TestInvocationsCountForAllDimensions(t *testing.T) {
	f := newFixture(t)
	ms := time.Millisecond
	f.invoke(call{arn: functionARN("f", ""), duration: 10 * ms})
	f.invoke(call{arn: functionARN("f", "live"), version: "3", duration: 20 * ms, overhead: 5 * ms})
	f.invoke(call{arn: functionARN("f", "live"), version: "4", duration: 30 * ms, status: lifecycle.StatusTimeout})
	f.invoke(call{arn: functionARN("f", "4"), version: "4", duration: 40 * ms, status: lifecycle.StatusError})
	f.invoke(call{arn: functionARN("g", ""), duration: 50 * ms, status: lifecycle.StatusFailure})

	function := dims("FunctionName", "f")
	f.expect(t, "Invocations", function, 4, 4)
	f.expect(t, "Errors", function, 2, 4)
	f.expect(t, "Throttles", function, 0, 4)
	f.expect(t, "Duration", function, 100, 4)
	f.expect(t, "PostRuntimeExtensionsDuration", function, 5, 1)

	f.expect(t, "Invocations", dims("FunctionName", "f", "Resource", "f"), 1, 1)
	f.expect(t, "Invocations", dims("FunctionName", "f", "Resource", "f:live"), 2, 2)
	f.expect(t, "Errors", dims("FunctionName", "f", "Resource", "f:live"), 1, 2)
	f.expect(t, "Duration", dims("Resource", "f:4", "FunctionName", "f"), 40, 1)
	f.expect(t, "Invocations", dims("FunctionName", "f", "Resource", "f:live", "ExecutedVersion", "3"), 1, 1)
	f.expect(t, "Errors", dims("FunctionName", "f", "Resource", "f:live", "ExecutedVersion", "4"), 1, 1)
	f.expect(t, "Invocations", dims("FunctionName", "f", "Resource", "f:4", "ExecutedVersion", "4"), 0, 0)

	f.expect(t, "Invocations", nil, 5, 5)
	f.expect(t, "Errors", nil, 3, 5)
	f.expect(t, "Duration", nil, 150, 5)
	if p := f.stats(t, Namespace, "Duration", function, "p50", "p100"); p.ExtendedStatistics["p50"] != 20 || p.ExtendedStatistics["p100"] != 40 || p.Unit != types.StandardUnitMilliseconds {
		t.Errorf("percentiles of the duration: %+v", p)
	}
}

func TestThrottles(t *testing.T) {
	f := newFixture(t)
	v := &firn.FunctionVersion{Name: "f", Version: "7"}
	f.invoke(call{arn: functionARN("f", "live"), version: "7"})
	f.Throttled(v, functionARN("f", "live"))
	f.Throttled(v, functionARN("f", "live"))
	f.expect(t, "Throttles", dims("FunctionName", "f"), 2, 3)
	f.expect(t, "Throttles", dims("FunctionName", "f", "Resource", "f:live", "ExecutedVersion", "7"), 2, 3)
	f.expect(t, "Invocations", dims("FunctionName", "f"), 1, 1)
	f.expect(t, "Throttles", nil, 2, 3)
}

// An invocation counts in the minute in which it began, however late its
// report comes, and also when its start was never told.
func TestMinuteOfTheStart(t *testing.T) {
	for _, started := range []bool{true, false} {
		f := newFixture(t)
		c := call{arn: functionARN("f", ""), version: "$LATEST", status: lifecycle.StatusSuccess, duration: 10 * time.Minute, requestID: "a"}
		if started {
			f.start(&c)
		}
		f.clock.Advance(10 * time.Minute)
		f.report(&c)
		out, err := f.client.GetMetricStatistics(context.Background(), &cloudwatch.GetMetricStatisticsInput{
			Namespace: aws.String(Namespace), MetricName: aws.String("Invocations"), Dimensions: dims("FunctionName", "f"), Period: aws.Int32(60),
			StartTime: aws.Time(f.begin), EndTime: aws.Time(f.begin.Add(time.Hour)), Statistics: []types.Statistic{"Sum"},
		})
		if err != nil || len(out.Datapoints) != 1 || !out.Datapoints[0].Timestamp.Equal(f.begin) {
			t.Errorf("started %v: %+v, %v", started, out, err)
		}
	}
}

func TestConcurrency(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Reserved = func() map[string]int { return map[string]int{"held": 10, "idle": 5} } })
	calls := []call{}
	for i := range 4 {
		name := "f"
		if i == 3 {
			name = "held"
		}
		calls = append(calls, call{arn: functionARN(name, ""), version: "$LATEST", status: lifecycle.StatusSuccess, requestID: fmt.Sprint(i)})
		f.start(&calls[i])
	}
	check := func(name string, d []types.Dimension, greatest float64) {
		t.Helper()
		if p := f.stats(t, Namespace, name, d); p == nil || *p.Maximum != greatest {
			t.Errorf("%s of %s is %+v, want at most %v", name, told(d), p, greatest)
		}
	}
	check("ConcurrentExecutions", dims("FunctionName", "f"), 3)
	check("ConcurrentExecutions", dims("FunctionName", "f", "Resource", "f"), 3)
	check("ConcurrentExecutions", nil, 4)
	check("UnreservedConcurrentExecutions", nil, 3)
	check("ClaimedAccountConcurrency", nil, 18)
	for i := range calls {
		f.report(&calls[i])
	}
	if n := f.account.running.Load(); n != 0 {
		t.Errorf("%d invocations run when all have ended", n)
	}
	if n := f.account.unreserved.Load(); n != 0 {
		t.Errorf("%d unreserved invocations run when all have ended", n)
	}
}

// A start without a report does not count as running for ever, and one that is
// told twice counts once.
func TestLostReports(t *testing.T) {
	f := newFixture(t)
	c := call{arn: functionARN("f", ""), version: "$LATEST", requestID: "a"}
	f.start(&c)
	f.start(&c)
	if n := f.account.running.Load(); n != 1 {
		t.Errorf("%d invocations run, want 1", n)
	}
	f.clock.Advance(forgotten + time.Second)
	f.sampleRunning()
	if n := f.account.running.Load(); n != 0 {
		t.Errorf("%d invocations run after %v", n, forgotten)
	}
}

func TestMeasures(t *testing.T) {
	f := newFixture(t)
	of := Of{InvokedARN: functionARN("f", "live"), Version: &firn.FunctionVersion{Name: "f", Version: "3"}}
	for m := range Measure(measures) {
		if p := f.stats(t, Namespace, m.String(), nil); p != nil {
			t.Errorf("%v is published before it was observed", m)
		}
		f.Observe(m, of, 2)
		f.Observe(m, Of{InvokedARN: functionARN("f", "")}, 3)
		f.expect(t, m.String(), dims("FunctionName", "f"), 5, 2)
		f.expect(t, m.String(), dims("FunctionName", "f", "Resource", "f:live", "ExecutedVersion", "3"), 2, 1)
		f.expect(t, m.String(), nil, 5, 2)
	}
	if p := f.stats(t, Namespace, "IteratorAge", nil); p.Unit != types.StandardUnitMilliseconds {
		t.Errorf("IteratorAge has the unit %s", p.Unit)
	}
	f.Observe(Measure(measures), of, 1) // ignored
}

func TestQualifier(t *testing.T) {
	for arn, want := range map[string]string{
		functionARN("f", ""): "", functionARN("f", "live"): "live", functionARN("f", "$LATEST"): "$LATEST", "": "", "f": "", "a:b:c:d:e:f:g:h:i": "h:i",
	} {
		if got := qualifier(arn); got != want {
			t.Errorf("the qualifier of %q is %q, want %q", arn, got, want)
		}
	}
}

func TestTargetsAreBounded(t *testing.T) {
	f := newFixture(t)
	for i := range maxTargets + 50 {
		f.invoke(call{arn: functionARN("f", fmt.Sprint("a", i)), version: "1"})
	}
	snap := f.Exposition()
	total := uint64(0)
	for _, x := range snap.Functions {
		total += x.Invocations
	}
	if len(snap.Functions) > maxTargets+1 || total != maxTargets+50 {
		t.Errorf("%d targets, %d invocations", len(snap.Functions), total)
	}
	f.expect(t, "Invocations", dims("FunctionName", "f"), maxTargets+50, maxTargets+50)
	f.clock.Advance(4*silence + time.Hour)
	f.drain(false)
	if n := len(f.Exposition().Functions); n != 0 {
		t.Errorf("%d targets remain after a long silence", n)
	}
}

func TestFunctionsAreBounded(t *testing.T) {
	f := newFixture(t)
	f.known.Store(maxFunctions - 1)
	f.invoke(call{arn: functionARN("a", "")})
	f.invoke(call{arn: functionARN("b", "")})
	f.invoke(call{arn: functionARN("c", "")})
	f.expect(t, "Invocations", nil, 3, 3)
	f.expect(t, "Invocations", dims("FunctionName", "a"), 1, 1)
	f.expect(t, "Invocations", dims("FunctionName", "c"), 0, 0)
	names := map[string]uint64{}
	snap := f.Exposition()
	for _, x := range snap.Functions {
		names[x.Name] += x.Invocations
	}
	if want := (map[string]uint64{"a": 1, "_other": 2}); !cmp.Equal(names, want) {
		t.Errorf("exposed are %v, want %v", names, want)
	}
	if snap.Dropped["too_many_functions"] == 0 {
		t.Error("nothing tells of the functions beyond the limit")
	}
	f.clock.Advance(5 * silence)
	f.drain(false)
	f.drain(false)
	if _, ok := f.shards.Load("a"); ok {
		t.Error("the accumulator of a silent function remains")
	}
	f.invoke(call{arn: functionARN("a", "")})
	f.expect(t, "Invocations", dims("FunctionName", "a"), 1, 1) // the day of the first has ended
}

// Minutes are on the disk when they are over, without a query or a Close.
func TestRunWritesMinutes(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{Dir: dir, Now: time.Now, Logger: quiet(), Account: accountID}
		s, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		src := &telemetry.Source{Function: "f", Version: "1"}
		s.Sink().Record(src, "a", lifecycle.Start{Stamp: lifecycle.Stamp{Time: time.Now()}, RequestID: "a", InvokedARN: functionARN("f", "")})
		s.Sink().Record(src, "a", lifecycle.Report{Stamp: lifecycle.Stamp{Time: time.Now()}, RequestID: "a", Status: "success"})
		time.Sleep(70 * time.Second) // archtest:sleep virtual time
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := s.db.Close(); err != nil { // a crash: the store itself is not closed
			t.Error(err)
		}
		again, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		out, err := again.listMetrics(t.Context(), &cloudwatch.ListMetricsInput{MetricName: aws.String("Invocations")})
		if err != nil || len(out.Metrics) != 3 {
			t.Errorf("after the restart there are %+v, %v", out, err)
		}
	})
}

func TestCloseWritesTheLastMinute(t *testing.T) {
	dir := t.TempDir()
	f := newFixture(t, func(c *Config) { c.Dir = dir })
	f.invoke(call{arn: functionARN("f", "")})
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	again := newFixture(t, func(c *Config) { c.Dir = dir })
	again.expect(t, "Invocations", dims("FunctionName", "f"), 1, 1)
}

func TestConcurrentRecords(t *testing.T) {
	f := newFixture(t)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 200 {
				c := call{arn: functionARN(fmt.Sprint("f", i%3), ""), version: "$LATEST", status: lifecycle.StatusSuccess, requestID: fmt.Sprint(w, "-", i)}
				f.start(&c)
				f.report(&c)
				if i%50 == 0 {
					f.drain(false)
					f.Exposition()
				}
			}
		})
	}
	wg.Wait()
	f.expect(t, "Invocations", nil, 800, 800)
}

func BenchmarkSink(b *testing.B) {
	s, err := New(Config{Dir: b.TempDir(), Now: time.Now, Logger: quiet()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	sink := s.Sink()
	src := &telemetry.Source{Function: "f", Version: "$LATEST"}
	now := time.Now()
	var start lifecycle.Record = lifecycle.Start{Stamp: lifecycle.Stamp{Time: now}, RequestID: "a", InvokedARN: functionARN("f", "live")}
	reports := make([]lifecycle.Record, 64)
	for i := range reports {
		r := lifecycle.Report{Stamp: lifecycle.Stamp{Time: now}, RequestID: "a", Status: "success", InvokedARN: functionARN("f", "live")}
		r.Metrics.DurationMs = 1.5 + float64(i*i%97)/7
		reports[i] = r
	}
	b.Run("invocation", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			sink.Record(src, "a", start)
			sink.Record(src, "a", reports[i%64])
		}
	})
	line := telemetry.Line{Time: now, Text: []byte(`{"level":"info","msg":"an ordinary line of a function that logs in JSON, two hundred characters long or so, with a few fields","requestId":"6f8f7d26-3b5e-4c0c-9a55-6f5c1d8f7a11","n":12345,"ok":true}`)}
	b.Run("line", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			sink.Line(src, line)
		}
	})
}
