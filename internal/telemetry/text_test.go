package telemetry

import (
	"testing"

	"github.com/firn-run/firn/internal/lifecycle"
)

// The lines of section 9 of the execution environment's specification.
func TestAppendText(t *testing.T) {
	const id = "8ec66a5e-0b1c-4b68-a1e5-7bd60a3b0d3d"
	tests := []struct {
		name string
		rec  lifecycle.Record
		want string
	}{
		{"start", lifecycle.Start{RequestID: id, Version: "$LATEST"}, "START RequestId: " + id + " Version: $LATEST\n"},
		{"report, cold", lifecycle.Report{RequestID: id, Status: "success", Metrics: lifecycle.ReportMetrics{
			DurationMs: 3.009, BilledDurationMs: 114, MemorySizeMB: 128, MaxMemoryUsedMB: 36, InitDurationMs: 110.1}},
			"END RequestId: " + id + "\nREPORT RequestId: " + id + "\tDuration: 3.01 ms\tBilled Duration: 114 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\tInit Duration: 110.10 ms\t\n"},
		{"report, warm", lifecycle.Report{RequestID: id, Status: "success", Metrics: lifecycle.ReportMetrics{
			DurationMs: 0.8, BilledDurationMs: 1, MemorySizeMB: 128, MaxMemoryUsedMB: 36}},
			"END RequestId: " + id + "\nREPORT RequestId: " + id + "\tDuration: 0.80 ms\tBilled Duration: 1 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\t\n"},
		{"report, timeout", lifecycle.Report{RequestID: id, Fatal: true, Status: "timeout", ErrorType: "Sandbox.Timedout", Metrics: lifecycle.ReportMetrics{
			DurationMs: 1000, BilledDurationMs: 1000, MemorySizeMB: 128, MaxMemoryUsedMB: 36}},
			"END RequestId: " + id + "\nREPORT RequestId: " + id + "\tDuration: 1000.00 ms\tBilled Duration: 1000 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\tStatus: timeout\n"},
		{"report, crash", lifecycle.Report{RequestID: id, Fatal: true, Status: "error", ErrorType: "Runtime.ExitError", Metrics: lifecycle.ReportMetrics{
			DurationMs: 5.5, BilledDurationMs: 6, MemorySizeMB: 128, MaxMemoryUsedMB: 36}},
			"END RequestId: " + id + "\nREPORT RequestId: " + id + "\tDuration: 5.50 ms\tBilled Duration: 6 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\tStatus: error\tError Type: Runtime.ExitError\n"},
		{"report, error of the handler", lifecycle.Report{RequestID: id, Status: "error", ErrorType: "Function.Mine", Metrics: lifecycle.ReportMetrics{
			DurationMs: 5.5, BilledDurationMs: 6, MemorySizeMB: 128, MaxMemoryUsedMB: 36}},
			"END RequestId: " + id + "\nREPORT RequestId: " + id + "\tDuration: 5.50 ms\tBilled Duration: 6 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\t\n"},
		{"report, timeout in a cold start, traced", lifecycle.Report{RequestID: id, Fatal: true, Status: "timeout", Metrics: lifecycle.ReportMetrics{
			DurationMs: 600000, BilledDurationMs: 600517, MemorySizeMB: 1024, MaxMemoryUsedMB: 1024, InitDurationMs: 516.31},
			Tracing: &lifecycle.Trace{Type: "X-Amzn-Trace-Id", Value: "Root=1-6ac7d74a-019546e11f8bb3cd382c293c;Parent=f8f17b1699891cfe;Sampled=1"}},
			"END RequestId: " + id + "\nREPORT RequestId: " + id + "\tDuration: 600000.00 ms\tBilled Duration: 600517 ms\tMemory Size: 1024 MB\tMax Memory Used: 1024 MB\tInit Duration: 516.31 ms\tStatus: timeout\n" +
				"XRAY TraceId: 1-6ac7d74a-019546e11f8bb3cd382c293c\tSegmentId: f8f17b1699891cfe\tSampled: true\t\n"},
		{"init report, error", lifecycle.InitReport{InitializationType: "on-demand", Phase: "init", Status: "error", ErrorType: "Runtime.ExitError",
			Metrics: lifecycle.InitMetrics{DurationMs: 1236.04}},
			"INIT_REPORT Init Duration: 1236.04 ms\tPhase: init\tStatus: error\tError Type: Runtime.ExitError\n"},
		{"init report, timeout", lifecycle.InitReport{InitializationType: "on-demand", Phase: "init", Status: "timeout",
			Metrics: lifecycle.InitMetrics{DurationMs: 10007.22}},
			"INIT_REPORT Init Duration: 10007.22 ms\tPhase: init\tStatus: timeout\n"},
		{"init report, on-demand success has no line", lifecycle.InitReport{InitializationType: "on-demand", Phase: "init", Status: "success"}, ""},
		{"extension", lifecycle.Extension{Name: "logger", State: "Ready", Events: []string{"INVOKE", "SHUTDOWN"}},
			"EXTENSION\tName: logger\tState: Ready\tEvents: [INVOKE, SHUTDOWN]\n"},
		{"subscription to the Telemetry API", lifecycle.TelemetrySubscription{Name: "collector", State: "Subscribed", Types: []string{"platform", "function"}},
			"TELEMETRY\tName: collector\tState: Subscribed\tTypes: [Platform, Function]\n"},
		{"subscription to the Logs API", lifecycle.LogsSubscription{Name: "logger", State: "Subscribed", Types: []string{"extension"}},
			"LOGS\tName: logger\tState: Subscribed\tTypes: [Extension]\n"},
		{"initStart without a runtime version has no line", lifecycle.InitStart{InitializationType: "on-demand"}, ""},
		{"logsDropped has no line", lifecycle.LogsDropped{DroppedRecords: 1}, ""},
		{"runtimeDone has no line", lifecycle.RuntimeDone{RequestID: id}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := string(AppendText(nil, test.rec)); got != test.want {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}
