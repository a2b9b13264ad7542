package telemetry

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/firn-run/firn/internal/lifecycle"
)

func TestLiveStyles(t *testing.T) {
	src := &Source{Function: "hello", Version: "$LATEST", Environment: "e1"}
	at := lifecycle.Stamp{Time: time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.Local)}
	say := func(style Style) string {
		var out bytes.Buffer
		live := NewLive(&out, style)
		live.Record(src, "r1", lifecycle.Start{Stamp: at, RequestID: "r1"})
		live.Line(src, Line{Time: at.Time, Extension: "logger", RequestID: "r1", Text: []byte("seen \x1b[31mit\rand more\r")})
		live.Record(src, "r1", lifecycle.Report{Stamp: at, RequestID: "r1", Status: "timeout", ErrorType: "Sandbox.Timedout"})
		live.Record(src, "", lifecycle.Phase{Stamp: at, Name: lifecycle.PhaseShutdown, Detail: "timeout"})
		live.Record(src, "", lifecycle.Phase{Stamp: at, Name: lifecycle.PhaseAnswered})
		live.Record(src, "", lifecycle.TelemetrySubscription{Stamp: at, Name: "logger", State: "Subscribed", Types: []string{"platform", "function"}})
		live.Record(src, "", lifecycle.LogsSubscription{Stamp: at, Name: "old", State: "Subscribed", Types: []string{"platform"}})
		live.Record(src, "", lifecycle.LogsDropped{Stamp: at, Reason: "too slow", DroppedRecords: 3, DroppedBytes: 99})
		live.Close()
		live.Close() // idempotent
		live.Record(src, "r1", lifecycle.Start{Stamp: at})
		return out.String()
	}

	plain := say(Plain)
	for _, want := range []string{"03:04:05.006  hello            e1       · START r1\n", "│ [logger] seen �[31mit ↵ and more\n", "✗ REPORT r1", "timeout (Sandbox.Timedout)",
		"· shutdown: timeout\n", "· extension logger subscribed to the Telemetry API [platform function]\n",
		"· extension old subscribed to the Logs API [platform]\n", "✗ 3 records (99 bytes) of telemetry dropped: too slow\n"} {
		if !strings.Contains(plain, want) {
			t.Errorf("plain view lacks %q:\n%s", want, plain)
		}
	}
	if n := strings.Count(plain, "\n"); n != 7 {
		t.Errorf("%d lines, want 7:\n%s", n, plain)
	}
	if strings.Contains(plain, "\x1b") {
		t.Errorf("plain view holds escape sequences: %q", plain)
	}
	if colour := say(Colour); !strings.Contains(colour, "\x1b[31m✗") {
		t.Errorf("no red cross in %q", colour)
	}
	lines := strings.Split(strings.TrimSpace(say(JSON)), "\n")
	if len(lines) != 8 {
		t.Fatalf("%d JSON lines, want 8", len(lines))
	}
	for _, line := range lines {
		var got struct{ Type, Function, RequestID string }
		if err := json.Unmarshal([]byte(line), &got); err != nil || got.Function != "hello" {
			t.Errorf("line %s: %v", line, err)
		}
	}
}

// A reader that does not read costs lines, never time.
func TestLiveDropsInsteadOfBlocking(t *testing.T) {
	gate := make(chan struct{})
	var out bytes.Buffer
	live := NewLive(writerFunc(func(p []byte) (int, error) { <-gate; return out.Write(p) }), Plain)
	src := &Source{Function: "f", Environment: "e"}
	for range liveRing * 2 {
		live.Line(src, Line{Text: []byte("x")})
	}
	close(gate)
	live.Close()
	if !strings.Contains(out.String(), "lines of the live view dropped") {
		t.Error("the view does not say that lines were dropped")
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
