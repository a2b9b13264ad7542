package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	span "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/firn-run/firn/internal/require"
	"github.com/firn-run/firn/internal/sandbox"
	"github.com/firn-run/firn/internal/server"
	"github.com/firn-run/firn/internal/telemetry"
)

// environ is what a client program needs to find the node.
func (n *node) environ() []string {
	n.t.Helper()
	out, err := exec.Command(program("firn"), "env", "--data", n.data).Output()
	if err != nil {
		n.t.Fatal(err)
	}
	env := os.Environ()
	for word := range strings.FieldsSeq(string(out)) {
		if strings.Contains(word, "=") {
			env = append(env, word)
		}
	}
	return env
}

// TestLogsTail follows the log of a function with the AWS CLI and with firn,
// while it is written.
func TestLogsTail(t *testing.T) {
	cli := "/usr/bin/aws"
	_, err := os.Stat(cli)
	require.Feature(t, "clients", err == nil, "the AWS CLI 2 is Debian's package awscli")
	n := start(t, options{})
	n.create("tailed", function{})
	n.succeed("tailed", order{Print: "before"})
	endpoint := n.url
	for name, argv := range map[string][]string{
		"AWS CLI": {cli, "logs", "tail", "/aws/lambda/tailed", "--follow", "--since", "5m", "--format", "short", "--endpoint-url", endpoint},
		"firn":    {program("firn"), "logs", "tailed", "--follow", "--data", n.data},
	} {
		t.Run(name, func(t *testing.T) {
			out := newTranscript()
			cmd := exec.Command(argv[0], argv[1:]...)
			cmd.Env = append(n.environ(), "AWS_PAGER=")
			cmd.Stdout, cmd.Stderr = out, out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				cmd.Process.Signal(os.Interrupt)
				cmd.Wait()
			}()
			see := func(text string) {
				t.Helper()
				select {
				case <-out.await(text):
				case <-time.After(patience):
					t.Fatalf("%q is not shown:\n%s", text, out)
				}
			}
			see("before")
			n.succeed("tailed", order{Print: "while " + name + " looks on"})
			see("while " + name + " looks on")
			n.succeed("tailed", order{Print: "and once more for " + name})
			see("and once more for " + name)
			if got := lines(out.String(), "while "+name); got != 1 {
				t.Errorf("a line is shown %d times:\n%s", got, out)
			}
		})
	}
}

// TestScrape reads the metrics as Prometheus does, with its own parser.
func TestScrape(t *testing.T) {
	n := start(t, options{})
	n.create("counted", function{})
	for range 3 {
		n.succeed("counted", order{})
	}
	n.invoke("counted", order{Do: "error", Arg: "once"})
	var total, failed float64
	eventually(t, "four invocations", func() (bool, any) {
		resp, err := http.Get(n.url + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		parser := expfmt.NewTextParser(model.UTF8Validation)
		families, err := parser.TextToMetricFamilies(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		value := func(name string) float64 {
			sum := 0.0
			for _, m := range families[name].GetMetric() {
				for _, l := range m.GetLabel() {
					if l.GetName() == "function" && l.GetValue() == "counted" {
						sum += m.GetCounter().GetValue()
					}
				}
			}
			return sum
		}
		total, failed = value("firn_lambda_invocations_total"), value("firn_lambda_errors_total")
		return total == 4, families["firn_lambda_invocations_total"]
	})
	if failed != 1 {
		t.Errorf("%v errors, want 1", failed)
	}
}

// otlpDouble is an OpenTelemetry collector that keeps what it gets.
type otlpDouble struct {
	mu    sync.Mutex
	spans []*span.Span
}

func (d *otlpDouble) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	unzipped, err := gzip.NewReader(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnsupportedMediaType)
		return
	}
	body, err := io.ReadAll(unzipped)
	if err != nil {
		return
	}
	var req collector.ExportTraceServiceRequest
	if err := proto.Unmarshal(body, &req); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, resource := range req.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			d.spans = append(d.spans, scope.Spans...)
		}
	}
}

// of returns the spans of a trace.
func (d *otlpDouble) of(trace string) []*span.Span {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(d.spans), func(s *span.Span) bool { return hex.EncodeToString(s.TraceId) != trace })
}

// TestSpans has a collector receive the span tree of a cold invocation with an
// extension: an invocation within its trace, and all else below it.
func TestSpans(t *testing.T) {
	double := &otlpDouble{}
	server := httptest.NewServer(double)
	defer server.Close()
	n := start(t, options{args: []string{"--otlp-endpoint", server.URL}})
	layer := n.layer("spans", "plain-extension")
	n.create("traced", function{layers: []string{layer}})
	if _, err := n.client.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{
		FunctionName: aws.String("traced"), TracingConfig: &types.TracingConfig{Mode: types.TracingModeActive},
	}); err != nil {
		t.Fatal(err)
	}
	if err := lambda.NewFunctionUpdatedV2Waiter(n.client, func(o *lambda.FunctionUpdatedV2WaiterOptions) { o.MinDelay = 20 * time.Millisecond }).
		Wait(t.Context(), &lambda.GetFunctionInput{FunctionName: aws.String("traced")}, patience); err != nil {
		t.Fatal(err)
	}
	before := time.Now()
	var seen struct{ Header map[string]string }
	n.succeed("traced", order{Do: "info", AfterMs: 30}).into(t, &seen)
	header := seen.Header["Lambda-Runtime-Trace-Id"]
	root, parent := headerField(header, "Root"), headerField(header, "Parent")
	if headerField(header, "Sampled") != "1" {
		t.Fatalf("the first request of a second is not sampled: %q", header)
	}
	trace := strings.ReplaceAll(strings.TrimPrefix(root, "1-"), "-", "")
	byName := map[string]*span.Span{}
	eventually(t, "the spans", func() (bool, any) {
		all := double.of(trace)
		for _, s := range all {
			byName[s.Name] = s
		}
		return len(all) >= 5, all
	})
	top := byName["traced"]
	if top == nil || hex.EncodeToString(top.SpanId) != parent {
		t.Fatalf("no span of the invocation with the id %s among %v", parent, double.of(trace))
	}
	if start := time.Unix(0, int64(top.StartTimeUnixNano)); start.Before(before.Add(-time.Second)) || start.After(time.Now()) {
		t.Errorf("the invocation began at %v, it was made after %v", start, before)
	}
	for _, s := range double.of(trace) {
		if s != top && !bytes.Equal(s.ParentSpanId, top.SpanId) && !slices.ContainsFunc(double.of(trace), func(p *span.Span) bool { return bytes.Equal(p.SpanId, s.ParentSpanId) }) {
			t.Errorf("%s has the parent %x, which nobody is", s.Name, s.ParentSpanId)
		}
		if s.EndTimeUnixNano < s.StartTimeUnixNano {
			t.Errorf("%s ends before it begins", s.Name)
		}
		if s != top && !strings.Contains(s.Name, "init") && s.StartTimeUnixNano < top.StartTimeUnixNano {
			t.Logf("%s begins before the invocation", s.Name)
		}
	}
}

// headerField is a field of a trace header.
func headerField(header, name string) string {
	for field := range strings.SplitSeq(header, ";") {
		if key, value, _ := strings.Cut(field, "="); key == name {
			return value
		}
	}
	return ""
}

// TestTraceCommand looks at an invocation with firn trace.
func TestTraceCommand(t *testing.T) {
	n := start(t, options{})
	layer := n.layer("look", "slow-extension")
	n.create("looked", function{layers: []string{layer}})
	n.succeed("looked", order{Print: "hello"})
	firn := func(args ...string) string {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		out, err := exec.CommandContext(ctx, program("firn"), append(args, "--data", n.data)...).CombinedOutput()
		if err != nil {
			t.Fatalf("firn %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	var list string
	eventually(t, "the invocation", func() (bool, any) {
		list = firn("trace")
		return strings.Contains(list, "looked"), list
	})
	id := uuid.FindString(list)
	tail := regexp.MustCompile(`was\s+busy\s+\d+,\d{3}\s+ms\s+more\s+for`) // 2 s at least, and lines wrap
	eventually(t, "the tail", func() (bool, any) {
		picture := firn("trace", id)
		return tail.MatchString(picture), picture
	})
	svg := t.TempDir() + "/picture.svg"
	firn("trace", id, "--svg", svg)
	raw, err := os.ReadFile(svg)
	if err != nil || !bytes.Contains(raw, []byte("<svg")) {
		t.Errorf("%v: %.200s", err, raw)
	}
}

// TestDeniedLogs has the execution role deny the logs actions: the log group
// gets nothing, and an extension everything (posts-extensions, 000-1).
func TestDeniedLogs(t *testing.T) {
	var denied atomic.Bool
	watch := newTranscript()
	srv, err := server.New(server.Config{
		Listen: "127.0.0.1:0", DataDir: t.TempDir(), Sandbox: "linux", Network: sandbox.NetworkNone, InitPath: program("firn-init"),
		Permit: func(role, action, resource string) bool {
			return !denied.Load() || !strings.HasPrefix(action, "logs:")
		},
		Sink: telemetry.NewLive(watch, telemetry.Plain),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	select {
	case <-srv.Ready():
	case <-time.After(patience):
		t.Fatal("the node does not come up")
	}
	key := credentials.NewStaticCredentialsProvider(srv.Credentials().AccessKeyID, srv.Credentials().SecretAccessKey, "")
	n := &node{t: t, out: watch, url: srv.Endpoint(), client: lambda.New(lambda.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(srv.Endpoint()), RetryMaxAttempts: 1, Credentials: key,
	})}
	lines := cloudwatchlogs.New(cloudwatchlogs.Options{Region: "us-east-1", BaseEndpoint: aws.String(srv.Endpoint()), Credentials: key})
	groups := func(name string) int {
		out, err := lines.DescribeLogGroups(ctx, &cloudwatchlogs.DescribeLogGroupsInput{LogGroupNamePrefix: aws.String("/aws/lambda/" + name)})
		if err != nil {
			t.Fatal(err)
		}
		return len(out.LogGroups)
	}
	layer := n.publish("subscriber", map[string]file{"extensions/logs.2021-03-18.http": {from: program("subscriber")}})
	n.create("allowed", function{handler: "quiet", layers: []string{layer}})
	n.succeed("allowed", order{Print: "seen by both"})
	eventually(t, "the log group of a role that may", func() (bool, any) { return groups("allowed") == 1, nil })

	denied.Store(true)
	n.create("denied", function{handler: "quiet", layers: []string{layer}})
	n.succeed("denied", order{Print: "seen by the extension"})
	if _, err := n.client.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: aws.String("denied")}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-watch.await(`"record":"seen by the extension`):
	case <-time.After(patience):
		t.Errorf("the extension was not told:\n%s", watch)
	}
	select {
	case <-watch.await("RECORDS "):
	case <-time.After(patience):
	}
	if groups("denied") != 0 {
		t.Error("a role that may not create log groups has one")
	}
}

// TestTelemetryFlood has a function write 100,000 lines to an extension that does not
// take them: the function ends in its time, and firn does not grow.
func TestTelemetryFlood(t *testing.T) {
	n := start(t, options{args: []string{"--quiet"}})
	for _, mode := range []string{"stuck", "slow"} {
		layer := n.publish(mode, map[string]file{"extensions/telemetry.2022-07-01.http." + mode: {from: program("subscriber")}})
		n.create("flood-"+mode, function{handler: "quiet", memory: 1769, timeout: 60, layers: []string{layer}})
		n.succeed("flood-"+mode, order{})
		before := residentKB(t, n.cmd.Process.Pid)
		a := n.succeed("flood-"+mode, order{Do: "flood", N: 100_000})
		after := residentKB(t, n.cmd.Process.Pid)
		t.Logf("%s: 100,000 lines in %v, firn from %d to %d KB", mode, a.took, before, after)
		if grown := after - before; grown > 96<<10 {
			t.Errorf("%s: firn grew by %d KB", mode, grown)
		}
	}
	// The slow one is told, in its own stream, how much it has missed: in the
	// place of the gap, for which it needs some time to arrive at.
	n.succeed("flood-slow", order{Do: "sleep", Ms: 3000})
	if _, err := n.client.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: aws.String("flood-slow")}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a report of what was dropped", func() (bool, any) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		out, err := exec.CommandContext(ctx, program("firn"), "logs", "flood-slow", "--filter", "droppedRecords", "--data", n.data).CombinedOutput()
		return err == nil && bytes.Contains(out, []byte(`"reason":"Consumer seems to have fallen behind`)), tail(string(out), 500)
	})
}

// residentKB is a process's resident memory.
func residentKB(t *testing.T, pid int) int {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	var kb int
	_, rest, _ := strings.Cut(string(raw), "VmRSS:")
	if _, err := fmt.Sscan(rest, &kb); err != nil {
		t.Fatal(err)
	}
	return kb
}
