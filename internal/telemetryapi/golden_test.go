package telemetryapi

import (
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firn-run/firn/internal/lifecycle"
	"github.com/firn-run/firn/internal/telemetry"
)

var update = flag.Bool("update", false, "rewrite the golden record sequences")

// script is an init, an invocation that succeeds and one that costs the
// environment, 10 ms apart each step.
func script(t *testing.T, h *Hub, subscribeAll func()) {
	t.Helper()
	stamp := func() lifecycle.Stamp {
		time.Sleep(10 * time.Millisecond) // archtest:sleep virtual time
		return lifecycle.Stamp{Time: time.Now()}
	}
	line := func(extension, text string) {
		h.Line(telemetry.Line{Time: stamp().Time, Extension: extension, RequestID: "r1", Text: []byte(text)})
	}
	trace := &lifecycle.Trace{SpanID: "53995c3f42cd8ad8", Type: "X-Amzn-Trace-Id", Value: "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"}

	h.BeginInit()
	h.Record("", lifecycle.InitStart{Stamp: stamp(), InitializationType: "on-demand", Phase: "init", FunctionName: "hello",
		FunctionVersion: "$LATEST", InstanceID: "2026/01/01/[$LATEST]0123", InstanceMaxMemory: 128 << 20})
	line("logger", "starting")
	line("logger", `{"level":"info","message":"starting"}`)
	subscribeAll()
	line("", "init of the function")
	h.Record("", lifecycle.Extension{Stamp: stamp(), Name: "logger", State: "Ready", Events: []string{"INVOKE", "SHUTDOWN"}})
	h.Record("", lifecycle.InitRuntimeDone{Stamp: stamp(), InitializationType: "on-demand", Phase: "init", Status: "success"})
	h.Record("", lifecycle.InitReport{Stamp: stamp(), InitializationType: "on-demand", Phase: "init", Status: "success",
		Metrics: lifecycle.InitMetrics{DurationMs: 125.334}})
	h.EndInit()
	h.Record("", lifecycle.Phase{Stamp: stamp(), Name: "frozen"})

	h.Record("r1", lifecycle.Start{Stamp: stamp(), RequestID: "r1", InvokedARN: "arn:aws:lambda:us-east-1:123456789012:function:hello:live", Version: "$LATEST", Tracing: trace})
	line("", "Function: a <line> & more")
	line("", `{"level":"INFO","message":"as an object"}`)
	line("logger", "seen")
	h.Record("r1", lifecycle.RuntimeDone{Stamp: stamp(), RequestID: "r1", Status: "success", Tracing: trace,
		Metrics: &lifecycle.RuntimeDoneMetrics{DurationMs: 200.5, ProducedBytes: 15},
		Spans:   []lifecycle.Span{{Name: "responseLatency", Start: time.Now(), DurationMs: 23.02}, {Name: "responseDuration", Start: time.Now(), DurationMs: 20}}})
	h.Record("r1", lifecycle.Report{Stamp: stamp(), RequestID: "r1", Status: "success", Tracing: trace,
		Metrics: lifecycle.ReportMetrics{DurationMs: 220.123, BilledDurationMs: 346, MemorySizeMB: 128, MaxMemoryUsedMB: 90, InitDurationMs: 125.334},
		Spans:   []lifecycle.Span{{Name: "extensionOverhead", Start: time.Now(), DurationMs: 19.6}}})

	h.Record("r2", lifecycle.Start{Stamp: stamp(), RequestID: "r2", Version: "$LATEST"})
	h.Record("r2", lifecycle.RuntimeDone{Stamp: stamp(), RequestID: "r2", Status: "error", ErrorType: "Runtime.ExitError",
		Metrics: &lifecycle.RuntimeDoneMetrics{DurationMs: 1.5}})
	h.Record("r2", lifecycle.Report{Stamp: stamp(), RequestID: "r2", Status: "error", ErrorType: "Runtime.ExitError", Fatal: true,
		Metrics: lifecycle.ReportMetrics{DurationMs: 2, BilledDurationMs: 2, MemorySizeMB: 128, MaxMemoryUsedMB: 90}})
	h.Shutdown()
	synctest.Wait()
}

// Every schema version, over HTTP and TCP: the same records in the same order.
// One extension is subscribed to each transport.
func TestGoldenSequences(t *testing.T) {
	for _, api := range []API{Telemetry, Logs} {
		names, _ := schemas(api)
		for _, name := range names {
			t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { golden(t, api, name) }) })
		}
	}
}

func golden(t *testing.T, api API, schema string) {
	var b box
	var web webListener
	var tcp lineListener
	var told emitted
	b.listen(4243, web.serve)
	b.listen(4244, tcp.serve)
	h := b.hub(t, told.add)
	script(t, h, func() {
		subscribe(t, h, "logger", api, body{schema: schema, uri: uri1})
		subscribe(t, h, "shipper", api, body{schema: schema, tcp: 4244})
	})
	got := strings.Join(web.records(), "\n") + "\n"
	path := filepath.Join("testdata", schema+".ndjson")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("over HTTP (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(strings.Join(tcp.records(), "\n")+"\n", "\n")); diff != "" {
		t.Errorf("over TCP (-want +got):\n%s", diff)
	}
	kind := map[API]string{Telemetry: "platform.telemetrySubscription", Logs: "platform.logsSubscription"}[api]
	if got := told.types(); got != kind+" "+kind {
		t.Errorf("the other sinks were told %q", got)
	}
	head := web.heads[0]
	if head.Method != http.MethodPost || head.Host != "sandbox.localdomain:4243" || head.Header.Get("Content-Type") != "application/json" {
		t.Errorf("delivered by %s to %s as %s", head.Method, head.Host, head.Header.Get("Content-Type"))
	}
	checkMatrix(t, schema, got)
}

// checkMatrix checks section 3.4 apart from the golden files, which somebody
// may rewrite without a look.
func checkMatrix(t *testing.T, schema, got string) {
	t.Helper()
	logs := strings.HasPrefix(schema, "2020") || strings.HasPrefix(schema, "2021")
	for what, want := range map[string]bool{
		`"platform.start"`:       true,
		`"platform.report"`:      true,
		`"platform.extension"`:   true,
		`"platform.end"`:         logs,
		`"platform.fault"`:       logs,
		`"platform.runtimeDone"`: schema != "2020-08-15",
		`"platform.initStart"`:   !logs,
		`"platform.initReport"`:  true,
		`"record":{"level"`:      schema >= "2022-12-13",
		`"record":"{\"level\"`:   schema < "2022-12-13",
		`"status":"error"`:       !logs,
		`"extensionOverhead"`:    !logs,
		`\n"}`:                   true,
		`firn.`:                  false,
		`\u003c`:                 false,
	} {
		if strings.Contains(got, what) != want {
			t.Errorf("%s in schema %s: %v", what, schema, !want)
		}
	}
}
