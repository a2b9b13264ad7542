package otlp

import (
	"compress/gzip"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/firn-run/firn/internal/lifecycle"
	"github.com/firn-run/firn/internal/timeline"
)

// double is a collector that decodes what it gets.
type double struct {
	*httptest.Server
	answer func(n int, w http.ResponseWriter, r *http.Request) // nil: 200

	mu       sync.Mutex
	requests int
	headers  http.Header
	path     string
	spans    map[string]*tracepb.Span // by id
	resource map[string]map[string]any
	got      chan struct{} // one for each request that was taken
}

func newDouble(t *testing.T) *double {
	d := &double{spans: map[string]*tracepb.Span{}, resource: map[string]map[string]any{}, got: make(chan struct{}, 1000)}
	d.Server = httptest.NewServer(http.HandlerFunc(d.serve))
	t.Cleanup(d.Close)
	return d
}

func (d *double) serve(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	d.requests++
	n := d.requests
	d.headers, d.path = r.Header.Clone(), r.URL.Path
	d.mu.Unlock()
	if d.answer != nil {
		d.answer(n, w, r)
		return
	}
	d.take(w, r)
}

func (d *double) take(w http.ResponseWriter, r *http.Request) {
	body, err := gzip.NewReader(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	raw, err := io.ReadAll(body)
	var req collectorpb.ExportTraceServiceRequest
	if err = errors.Join(err, proto.Unmarshal(raw, &req)); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	d.mu.Lock()
	for _, rs := range req.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			for _, s := range ss.Spans {
				id := hex.EncodeToString(s.SpanId)
				d.spans[id] = s
				d.resource[id] = values(rs.Resource.Attributes)
			}
		}
	}
	d.mu.Unlock()
	d.got <- struct{}{}
}

func values(list []*commonpb.KeyValue) map[string]any {
	m := map[string]any{}
	for _, kv := range list {
		switch v := kv.Value.Value.(type) {
		case *commonpb.AnyValue_StringValue:
			m[kv.Key] = v.StringValue
		case *commonpb.AnyValue_BoolValue:
			m[kv.Key] = v.BoolValue
		case *commonpb.AnyValue_IntValue:
			m[kv.Key] = v.IntValue
		case *commonpb.AnyValue_DoubleValue:
			m[kv.Key] = v.DoubleValue
		}
	}
	return m
}

func start(t *testing.T, cfg Config) *Exporter {
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Shutdown(canceled()) })
	return e
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func epoch() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 123456789, time.UTC) }

func at(ms float64) lifecycle.Stamp {
	return lifecycle.Stamp{Time: epoch().Add(time.Duration(ms * 1e6))}
}

func step(ms float64, name, detail string) lifecycle.Phase {
	return lifecycle.Phase{Stamp: at(ms), Name: name, Detail: detail}
}

// cold is a cold start with an extension, its function's error and its tail.
func cold() *timeline.Timeline {
	return timeline.Build(timeline.Input{
		RequestID: "r1", Function: "hello", Version: "7", Environment: "e1", Received: epoch(),
		Records: []lifecycle.Record{
			lifecycle.InitStart{Stamp: at(1), InitializationType: "on-demand", Phase: "init"},
			step(1, lifecycle.PhaseExtensionStarted, "logger"),
			step(3, lifecycle.PhaseExtensionRegistered, "logger"),
			step(3, lifecycle.PhaseRuntimeStarted, ""),
			step(4, lifecycle.PhaseExtensionReady, "logger"),
			step(10, lifecycle.PhaseRuntimeReady, ""),
			lifecycle.Extension{Stamp: at(10), Name: "logger", State: "Ready", Events: []string{"INVOKE"}},
			lifecycle.InitRuntimeDone{Stamp: at(10), InitializationType: "on-demand", Phase: "init", Status: "success"},
			lifecycle.InitReport{Stamp: at(10), InitializationType: "on-demand", Phase: "init", Status: "success", Metrics: lifecycle.InitMetrics{DurationMs: 9}},
			lifecycle.Start{Stamp: at(11), RequestID: "r1", Version: "7"},
			step(20, lifecycle.PhaseAnswered, ""),
			lifecycle.RuntimeDone{Stamp: at(21), RequestID: "r1", Status: "error", ErrorType: "Function.Mine", Spans: []lifecycle.Span{
				{Name: "responseLatency", Start: at(11).Time, DurationMs: 8},
				{Name: "responseDuration", Start: at(19).Time, DurationMs: 1},
				{Name: "runtimeOverhead", Start: at(20).Time, DurationMs: 1},
			}},
			step(30, lifecycle.PhaseExtensionReady, "logger"),
			lifecycle.Report{Stamp: at(30), RequestID: "r1", Status: "error", ErrorType: "Function.Mine", Metrics: lifecycle.ReportMetrics{DurationMs: 19, BilledDurationMs: 28}},
		},
	})
}

// The whole way: an invocation and an X-Ray segment of its function, at the
// collector, with the right parents, times, kinds and words.
func TestSpanTree(t *testing.T) {
	d := newDouble(t)
	e := start(t, Config{Endpoint: d.URL + "/base", Headers: map[string]string{"x-team": "ice"}, Delay: time.Hour})
	header := timeline.ParseTrace("Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1")
	place := timeline.SpanOptions{TraceID: header.TraceID, ID: header.Parent, Parent: [8]byte{0xca, 0x11},
		ARN: "arn:aws:lambda:eu-west-1:123456789012:function:hello", InvokedARN: "arn:aws:lambda:eu-west-1:123456789012:function:hello:live"}
	resource := timeline.Resource{Function: "hello", Version: "7", Account: "123456789012", Region: "eu-west-1",
		Instance: "2026/01/02/[7]abc", LogGroup: "/aws/lambda/hello", MemoryMB: 128}
	e.Export(func() timeline.SpanSet {
		return timeline.SpanSet{Resource: resource, Spans: timeline.Spans(cold(), place)}
	})
	segment := timeline.Segment{TraceID: "1-5759e988-bd862e3fe1be46a994272793", ID: "00000000000000a1", ParentID: "53995c3f42cd8ad8",
		Name: "DynamoDB", Namespace: "aws", Start: at(12).Time, End: at(18).Time, Throttle: true, Cause: "Slow: down",
		Attributes: []timeline.Attribute{{Key: "http.response.status_code", Value: int64(400)}}}
	e.Export(func() timeline.SpanSet {
		span, ok := timeline.SegmentSpan(&segment)
		if !ok {
			t.Error("the segment is no span")
		}
		return timeline.SpanSet{Resource: resource, Spans: []timeline.Span{span}}
	})
	if err := e.Shutdown(within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}

	names := map[string]string{"ca11000000000000": "the caller"}
	for id, s := range d.spans {
		names[id] = s.Name
	}
	type fact struct {
		Parent     string
		From, To   float64 // ms
		Kind       tracepb.Span_SpanKind
		Status     tracepb.Status_StatusCode
		StatusText string
	}
	const internal, server, client, failed = tracepb.Span_SPAN_KIND_INTERNAL, tracepb.Span_SPAN_KIND_SERVER, tracepb.Span_SPAN_KIND_CLIENT, tracepb.Status_STATUS_CODE_ERROR
	want := map[string]fact{
		"hello":                 {"the caller", 11, 30, server, failed, "Function.Mine"},
		"environment":           {"hello", 0, 1, internal, 0, ""},
		"init":                  {"hello", 1, 10, internal, 0, ""},
		"runtime init":          {"init", 3, 10, internal, 0, ""},
		"extension logger init": {"init", 1, 4, internal, 0, ""},
		"responseLatency":       {"hello", 11, 19, internal, 0, ""},
		"responseDuration":      {"hello", 19, 20, internal, 0, ""},
		"runtimeOverhead":       {"hello", 20, 21, internal, 0, ""},
		"extension logger tail": {"hello", 11, 30, internal, 0, ""},
		"DynamoDB":              {"hello", 12, 18, client, failed, "Slow: down"},
	}
	got := map[string]fact{}
	for id, s := range d.spans {
		if trace := hex.EncodeToString(s.TraceId); trace != "5759e988bd862e3fe1be46a994272793" {
			t.Errorf("%s is in trace %s", s.Name, trace)
		}
		ms := func(nano uint64) float64 { return float64(int64(nano)-epoch().UnixNano()) / 1e6 }
		got[s.Name] = fact{names[hex.EncodeToString(s.ParentSpanId)], ms(s.StartTimeUnixNano), ms(s.EndTimeUnixNano), s.Kind, s.Status.GetCode(), s.Status.GetMessage()}
		if d.resource[id]["service.name"] != "hello" || d.resource[id]["faas.instance"] != "2026/01/02/[7]abc" || d.resource[id]["cloud.platform"] != "aws_lambda" ||
			d.resource[id]["telemetry.sdk.name"] != "opentelemetry" || d.resource[id]["telemetry.sdk.language"] != "go" {
			t.Errorf("resource of %s: %v", s.Name, d.resource[id])
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
	root := d.spans["53995c3f42cd8ad8"]
	if root == nil || root.Name != "hello" {
		t.Fatalf("the invocation's span does not have the id that the function was given: %v", root)
	}
	attributes := values(root.Attributes)
	for key, want := range map[string]any{
		"faas.invocation_id": "r1", "faas.coldstart": true, "faas.version": "7", "error.type": "Function.Mine",
		"cloud.resource_id":      "arn:aws:lambda:eu-west-1:123456789012:function:hello:7",
		"aws.lambda.invoked_arn": "arn:aws:lambda:eu-west-1:123456789012:function:hello:live",
		"firn.billed_ms":         int64(28),
	} {
		if attributes[key] != want {
			t.Errorf("%s is %v, want %v", key, attributes[key], want)
		}
	}
	if got := values(d.spans["00000000000000a1"].Attributes)["http.response.status_code"]; got != int64(400) {
		t.Errorf("status code of the segment: %v", got)
	}
	if d.path != "/base/v1/traces" || d.headers.Get("X-Team") != "ice" {
		t.Errorf("sent to %s with %v", d.path, d.headers)
	}
	if s := e.Stats(); s.Exported != 10 || s.Failed != 0 || s.DroppedSets != 0 {
		t.Errorf("%+v", s)
	}
}

// one is a set with one span.
func one(n byte) func() timeline.SpanSet {
	return func() timeline.SpanSet {
		return timeline.SpanSet{Spans: []timeline.Span{{TraceID: [16]byte{1}, ID: [8]byte{n, 1}, Name: "n", Start: epoch(), End: epoch()}}}
	}
}

// A batch goes out by its delay, without anybody's asking.
func TestDelay(t *testing.T) {
	d := newDouble(t)
	e := start(t, Config{Endpoint: d.URL, Delay: 10 * time.Millisecond})
	e.Export(one(1))
	select {
	case <-d.got:
	case <-time.After(10 * time.Second):
		t.Fatal("nothing came")
	}
}

// A collector that says "later" gets the batch again.
func TestRetry(t *testing.T) {
	d := newDouble(t)
	d.answer = func(n int, w http.ResponseWriter, r *http.Request) {
		if n == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		d.take(w, r)
	}
	e := start(t, Config{Endpoint: d.URL, Delay: time.Millisecond})
	e.Export(one(1))
	if err := e.Shutdown(within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	if s := e.Stats(); s.Exported != 1 || s.Failed != 0 {
		t.Errorf("%+v", s)
	}
}

// A collector that refuses costs the spans, which are counted.
func TestRefused(t *testing.T) {
	d := newDouble(t)
	d.answer = func(_ int, w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) }
	e := start(t, Config{Endpoint: d.URL, Delay: time.Millisecond})
	e.Export(one(1))
	if err := e.Shutdown(within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	if s := e.Stats(); s.Exported != 0 || s.Failed != 1 {
		t.Errorf("%+v", s)
	}
}

// A collector that does not answer costs spans and never time: Export returns
// at once with a full queue, and Shutdown within its bound.
func TestSlowCollector(t *testing.T) {
	d := newDouble(t)
	asked, free := make(chan struct{}, 1), make(chan struct{})
	d.answer = func(int, http.ResponseWriter, *http.Request) {
		select {
		case asked <- struct{}{}:
		default:
		}
		<-free
	}
	defer close(free)
	e := start(t, Config{Endpoint: d.URL, Queue: 4, Batch: 1})
	e.Export(one(1))
	<-asked // the goroutine waits for the collector now
	for n := range byte(10) {
		e.Export(one(n))
	}
	if s := e.Stats(); s.DroppedSets != 6 {
		t.Errorf("%d sets dropped of 10 with room for 4, want 6", s.DroppedSets)
	}
	begin := time.Now()
	err := e.Shutdown(within(t, 50*time.Millisecond))
	if took := time.Since(begin); !errors.Is(err, context.DeadlineExceeded) || took > 5*time.Second {
		t.Errorf("shutdown took %s: %v", took, err)
	}
	if s := e.Stats(); s.Failed+s.DroppedSets != 11 || s.Exported != 0 {
		t.Errorf("not everything is accounted for: %+v", s)
	}
	e.Export(one(1))
	if s := e.Stats(); s.Failed+s.DroppedSets != 12 {
		t.Error("a set after the end was not counted")
	}
	if err := e.Shutdown(context.Background()); err != nil {
		t.Errorf("shutdown again: %v", err)
	}
}

// Without a collector firn runs as ever.
func TestNobodyListens(t *testing.T) {
	e := start(t, Config{Endpoint: "http://127.0.0.1:1", Timeout: 300 * time.Millisecond, Batch: 1})
	e.Export(one(1))
	if err := e.Shutdown(within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	if s := e.Stats(); s.Failed != 1 {
		t.Errorf("%+v", s)
	}
}

func TestConcurrentUse(t *testing.T) {
	d := newDouble(t)
	e := start(t, Config{Endpoint: d.URL, Delay: time.Millisecond})
	var wg sync.WaitGroup
	for n := range byte(8) {
		wg.Go(func() {
			for i := range byte(50) {
				e.Export(one(n*50 + i))
				e.Stats()
			}
		})
	}
	wg.Wait()
	if err := e.Shutdown(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	if s := e.Stats(); s.Exported+s.DroppedSets != 400 || s.Failed != 0 {
		t.Errorf("%+v", s)
	}
}

// Providers of many environments are bounded, and each span has its own.
func TestManyResources(t *testing.T) {
	d := newDouble(t)
	e := start(t, Config{Endpoint: d.URL})
	for n := range maxProviders + 10 {
		e.Export(func() timeline.SpanSet {
			set := one(0)()
			set.Spans[0].ID = [8]byte{1, byte(n >> 8), byte(n)}
			set.Resource.Function = hex.EncodeToString([]byte{byte(n >> 8), byte(n)})
			return set
		})
	}
	if err := e.Shutdown(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	if len(d.spans) != maxProviders+10 || len(e.makers.byResource) > maxProviders {
		t.Errorf("%d spans, %d providers", len(d.spans), len(e.makers.byResource))
	}
	for id := range d.spans {
		if d.resource[id]["service.name"] != id[2:6] {
			t.Errorf("span %s has resource %v", id, d.resource[id])
		}
	}
}

func TestConfig(t *testing.T) {
	for endpoint, want := range map[string]string{
		"http://localhost:4318":    "http://localhost:4318/v1/traces",
		"https://c.example/otlp/":  "https://c.example/otlp/v1/traces",
		"localhost:4318":           "",
		"grpc://localhost:4317":    "",
		"http://":                  "",
		"http://user:pw@localhost": "",
		"http://h/?x=1":            "",
		"http://h:port":            "",
	} {
		got, err := target(endpoint)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%s: %q, %v; want %q", endpoint, got, err, want)
		}
		if _, err := New(Config{Endpoint: endpoint}); want == "" && err == nil {
			t.Errorf("%s was taken", endpoint)
		}
	}
	headers, err := ParseHeaders("api-key=a%20b, x=1,,y=a=b")
	if diff := cmp.Diff(map[string]string{"api-key": "a b", "x": "1", "y": "a=b"}, headers); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	for _, bad := range []string{"x", "=1", "x=%zz"} {
		if _, err := ParseHeaders(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
