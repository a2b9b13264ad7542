package telemetry

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firn-run/firn/internal/lifecycle"
)

func noon() time.Time { return time.Date(2026, 11, 21, 12, 0, 0, 123456789, time.UTC) }

func jsonSource(application, system string) *Source {
	return &Source{Format: LogFormat{JSON: true, Application: application, System: system}}
}

// The level table of section 9, by the levels at which each record is logged.
func TestRecordLevels(t *testing.T) {
	for _, test := range []struct {
		rec  lifecycle.Record
		want string // DEBUG, INFO, WARN or "" for never
	}{
		{lifecycle.InitStart{}, "DEBUG"},
		{lifecycle.InitRuntimeDone{Status: "success"}, "DEBUG"},
		{lifecycle.InitRuntimeDone{Status: "error"}, "WARN"},
		{lifecycle.InitRuntimeDone{Status: "timeout"}, "WARN"},
		{lifecycle.InitReport{Status: "success", InitializationType: "on-demand"}, "DEBUG"},
		{lifecycle.InitReport{Status: "success", InitializationType: "provisioned-concurrency"}, "INFO"},
		{lifecycle.InitReport{Status: "failure", InitializationType: "on-demand"}, "WARN"},
		{lifecycle.InitReport{Status: "timeout", InitializationType: "provisioned-concurrency"}, "WARN"},
		{lifecycle.Start{}, "INFO"},
		{lifecycle.RuntimeDone{Status: "success"}, "DEBUG"},
		{lifecycle.RuntimeDone{Status: "failure"}, "WARN"},
		{lifecycle.Report{Status: "success"}, "INFO"},
		{lifecycle.Report{Status: "timeout"}, "WARN"},
		{lifecycle.Extension{}, "INFO"},
		{lifecycle.TelemetrySubscription{}, "INFO"},
		{lifecycle.LogsSubscription{}, "INFO"},
		{lifecycle.LogsDropped{}, ""},
		{lifecycle.Phase{Name: lifecycle.PhaseFrozen}, ""},
	} {
		for _, system := range []string{"DEBUG", "INFO", "WARN", ""} {
			got := AppendRecord([]byte("kept"), jsonSource("FATAL", system), test.rec)
			want := test.want != "" && levelOf(test.want) >= least(system)
			if logged := len(got) > len("kept"); logged != want || !strings.HasPrefix(string(got), "kept") {
				t.Errorf("%T %+v at %q: %q, logged should be %t", test.rec, test.rec, system, got, want)
			}
		}
	}
}

func TestAppendRecordJSON(t *testing.T) {
	rec := lifecycle.Report{
		Stamp: lifecycle.Stamp{Time: noon().In(time.FixedZone("CET", 3600))}, RequestID: "id", Status: "error", ErrorType: "<A&B>",
		Metrics: lifecycle.ReportMetrics{DurationMs: 1.5, BilledDurationMs: 2, MemorySizeMB: 128, MaxMemoryUsedMB: 30},
		Spans:   []lifecycle.Span{{Name: "extensionOverhead", Start: noon(), DurationMs: 0.25}},
		Fatal:   true, InvokedARN: "secret",
	}
	want := `{"time":"2026-11-21T12:00:00.123Z","type":"platform.report","record":{"requestId":"id","status":"error","errorType":"<A&B>",` +
		`"metrics":{"durationMs":1.5,"billedDurationMs":2,"memorySizeMB":128,"maxMemoryUsedMB":30},` +
		`"spans":[{"name":"extensionOverhead","start":"2026-11-21T12:00:00.123Z","durationMs":0.25}]}}` + "\n"
	if diff := cmp.Diff(want, string(AppendRecord(nil, jsonSource("", ""), rec))); diff != "" {
		t.Error(diff)
	}
	// What has no JSON is left out, and what was there stays.
	rec.Metrics.DurationMs = math.NaN()
	if got := string(AppendRecord([]byte("kept"), jsonSource("", ""), rec)); got != "kept" {
		t.Errorf("%q", got)
	}
	text := &Source{Format: LogFormat{System: "WARN"}}
	if got, want := string(AppendRecord(nil, text, lifecycle.Start{RequestID: "id", Version: "1"})), "START RequestId: id Version: 1\n"; got != want {
		t.Errorf("text: %q", got)
	}
}

func TestAppendLine(t *testing.T) {
	const stamp = `"timestamp":"2026-11-21T12:00:00.123Z"`
	const ts = `"timestamp":"2024-11-02T16:51:31.587199Z"`
	tests := []struct {
		name, level, text, want string // want "" is filtered, "=" as it is
	}{
		{"plain text", "FATAL", "hello", "="},
		{"empty", "INFO", "", "="},
		{"AWS's example", "INFO", `{"level": "debug", "msg": "my debug log", ` + ts + `}`, ""},
		{"AWS's example at DEBUG", "DEBUG", `{"level": "debug", "msg": "my debug log", ` + ts + `}`, "="},
		{"in any case", "WARN", `{` + ts + `,"level":"ErRoR"}`, "="},
		{"below", "ERROR", `{` + ts + `,"level":"WARN"}`, ""},
		{"Python's names", "ERROR", `{` + ts + `,"level":"CRITICAL"}`, "="},
		{"Python's names below", "ERROR", `{` + ts + `,"level":"WARNING"}`, ""},
		{".NET's names", "INFO", `{` + ts + `,"level":"Information"}`, "="},
		{"no level is INFO", "WARN", `{` + ts + `,"msg":"x"}`, ""},
		{"no level is INFO, logged", "INFO", `{` + ts + `,"msg":"x"}`, "="},
		{"bad level is INFO", "WARN", `{` + ts + `,"level":"LOUD"}`, ""},
		{"number as level is INFO", "WARN", `{` + ts + `,"level":50}`, ""},
		{"no time is INFO", "WARN", `{"level":"FATAL"}`, ""},
		{"no time", "INFO", `{"level":"DEBUG"}`, `{"level":"DEBUG",` + stamp + `}`},
		{"no time, spaces", "INFO", ` { "a" : 1 } `, ` { "a" : 1 ,` + stamp + `}`},
		{"empty object", "INFO", `{}`, `{` + stamp + `}`},
		{"bad time is replaced", "INFO", `{"timestamp":"yesterday","level":"DEBUG"}`, `{` + stamp + `,"level":"DEBUG"}`},
		{"number as time is replaced", "INFO", `{"level":"DEBUG", "timestamp" : 1700000000 }`, `{"level":"DEBUG", "timestamp" : "2026-11-21T12:00:00.123Z" }`},
		{"another name for the time", "ERROR", `{"time":"2024-11-02T16:51:31+01:00","level":"INFO"}`, ""},
		{"slog", "INFO", `{"time":"2024-11-02T16:51:31.587199Z","level":"INFO","msg":"x"}`, "="},
		{"the level of an inner object does not count", "DEBUG", `{"inner":{"level":"TRACE"},"list":[{"level":"TRACE"}],` + ts + `}`, "="},
		{"escapes", "ERROR", `{"msg":"quote \" and \\","level":"INFO",` + ts + `}`, ""},
		{"brackets in strings", "ERROR", `{"msg":"}]{[","a":["}"],"level":"INFO",` + ts + `}`, ""},
		{"not closed", "FATAL", `{"level":"DEBUG",` + ts, "="},
		{"something behind it", "FATAL", `{"level":"DEBUG",` + ts + `} x`, "="},
		{"wrong bracket", "FATAL", `{"a":[1},"level":"DEBUG"}`, "="},
		{"no comma", "FATAL", `{"a":1 "level":"DEBUG"}`, "="},
		{"no JSON", "FATAL", `{level: debug}`, "="},
		{"no value", "FATAL", `{"level":}`, "="},
		{"a word", "FATAL", `{"level":"DEBUG","a":nil}`, "="},
		{"an array", "FATAL", `[{"level":"DEBUG"}]`, "="},
		{"too deep", "FATAL", `{"a":` + strings.Repeat("[", 300) + strings.Repeat("]", 300) + `}`, "="},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			want := test.want
			if want == "=" {
				want = test.text
			}
			if test.want != "" || test.text == "" {
				want += "\n"
			}
			line := Line{Time: noon(), Text: []byte(test.text)}
			got := string(AppendLine([]byte("kept "), jsonSource(test.level, ""), line))
			if got != "kept "+want {
				t.Errorf("%s\ngot  %q\nwant %q", test.text, got, "kept "+want)
			}
			// The text format filters nothing.
			if got := string(AppendLine(nil, &Source{Format: LogFormat{Application: "FATAL"}}, line)); got != test.text+"\n" {
				t.Errorf("text: %q", got)
			}
			line.Extension = "logger"
			if got := string(AppendLine(nil, jsonSource("FATAL", ""), line)); got != test.text+"\n" {
				t.Errorf("extension: %q", got)
			}
		})
	}
}

func TestAppendLineFramed(t *testing.T) {
	for _, test := range []struct {
		level, least string
		logged       bool
	}{
		{"DEBUG", "INFO", false}, {"INFO", "INFO", true}, {"FATAL", "FATAL", true}, {"ERROR", "FATAL", false}, {"TRACE", "TRACE", true},
		{"TRACE", "", false}, {"INFO", "", true}, {"", "FATAL", true},
	} {
		line := Line{Time: noon(), Framed: true, Level: test.level, Text: []byte("two\nlines")}
		if got := AppendLine(nil, jsonSource(test.least, ""), line); (string(got) == "two\nlines\n") != test.logged || !test.logged && len(got) > 0 {
			t.Errorf("%s at %q: %q", test.level, test.least, got)
		}
	}
}

// What scanObject takes for an object and json does too has the same members.
func FuzzAppendLine(f *testing.F) {
	for _, s := range []string{`{}`, `{"level":"debug","timestamp":"2024-11-02T16:51:31Z"}`, `{"a":{"b":[1,"\\\""]}} `, `{"timestamp":1}`, "{", `{"level":"WARN"`, `{"a":1,}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got := AppendLine(nil, jsonSource("TRACE", ""), Line{Time: noon(), Text: text})
		var in map[string]any
		if json.Unmarshal(text, &in) != nil || in == nil {
			return
		}
		var out map[string]any
		if err := json.Unmarshal(got, &out); err != nil {
			t.Fatalf("%q became %q: %v", text, got, err)
		}
		for key := range in {
			if _, kept := out[key]; !kept {
				t.Errorf("%q became %q", text, got)
			}
		}
	})
}

func BenchmarkAppendLine(b *testing.B) {
	source := jsonSource("INFO", "INFO")
	for name, text := range map[string]string{
		"text":     strings.Repeat("x", 120),
		"json":     `{"timestamp":"2024-11-02T16:51:31.587199Z","level":"INFO","message":"` + strings.Repeat("x", 60) + `"}`,
		"untimed":  `{"level":"INFO","message":"` + strings.Repeat("x", 60) + `"}`,
		"filtered": `{"timestamp":"2024-11-02T16:51:31.587199Z","level":"DEBUG","message":"` + strings.Repeat("x", 60) + `"}`,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			line := Line{Time: noon(), Text: []byte(text)}
			var buf []byte
			for b.Loop() {
				buf = AppendLine(buf[:0], source, line)
			}
		})
	}
}

func BenchmarkAppendRecord(b *testing.B) {
	rec := lifecycle.Report{RequestID: "8ec66a5e-0b1c-4b68-a1e5-7bd60a3b0d3d", Status: "success", Stamp: lifecycle.Stamp{Time: noon()}}
	for _, source := range []*Source{{}, jsonSource("", "")} {
		b.Run(fmt.Sprintf("JSON=%t", source.Format.JSON), func(b *testing.B) {
			b.ReportAllocs()
			var buf []byte
			for b.Loop() {
				buf = AppendRecord(buf[:0], source, rec)
			}
		})
	}
}
