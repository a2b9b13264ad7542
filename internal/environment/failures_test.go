package environment

import (
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/telemetry"
)

func TestFailures(t *testing.T) {
	for _, test := range []struct {
		name      string
		fixture   fixture
		cmd       command
		payload   string
		errorType string
		log       string // must be in the journal
		resets    bool   // the next invocation finds a new process
	}{
		{name: "error", cmd: command{Do: "error"},
			payload: `{"errorMessage":"bad","errorType":"Bad"}`, errorType: "Function.Bad", log: "platform.report error Function.Bad"},
		{name: "exit 0", cmd: command{Do: "exit"}, resets: true,
			payload: `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: ID Error: Runtime exited without providing a reason"}`, errorType: "Runtime.ExitError"},
		{name: "exit 42", cmd: command{Print: "last words", Do: "exit", Code: 42}, resets: true, log: "fn: last words",
			payload: `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: ID Error: Runtime exited with error: exit status 42"}`, errorType: "Runtime.ExitError"},
		{name: "panic", cmd: command{Do: "panic"}, resets: true, log: "fn: panic: the function panics",
			payload: `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: ID Error: Runtime exited with error: exit status 2"}`, errorType: "Runtime.ExitError"},
		{name: "killed", cmd: command{Do: "kill"}, resets: true,
			payload: `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: ID Error: Runtime exited with error: signal: killed"}`, errorType: "Runtime.ExitError"},
		{name: "timeout", fixture: fixture{timeout: time.Second}, cmd: command{Do: "sleep", Millis: 60_000}, resets: true, log: "platform.report timeout",
			payload: `{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: ID Error: Task timed out after 1.00 seconds"}`, errorType: "Sandbox.Timedout"},
		{name: "too large", cmd: command{Do: "big", Code: firn.MaxPayloadBytes + 1},
			payload:   `{"errorMessage":"Response payload size exceeded maximum allowed payload size (6291556 bytes).","errorType":"Function.ResponseSizeTooLarge"}`,
			errorType: "Function.ResponseSizeTooLarge", log: `fn: response: 413 {"errorMessage":"Exceeded maximum allowed payload size (6291556 bytes).","errorType":"RequestEntityTooLarge"}`},
		{name: "streamed too large", cmd: command{Do: "chunked", Code: firn.MaxPayloadBytes + 1},
			payload:   `{"errorMessage":"Response payload size exceeded maximum allowed payload size (6291556 bytes).","errorType":"Function.ResponseSizeTooLarge"}`,
			errorType: "Function.ResponseSizeTooLarge"},
		{name: "truncated", cmd: command{Do: "truncated"}, resets: true,
			payload: `{"errorType":"Runtime.TruncatedResponse","errorMessage":"RequestId: ID Error: Response was truncated"}`, errorType: "Runtime.TruncatedResponse"},
		{name: "extension crash", fixture: fixture{extensions: []string{"ext"}, vars: map[string]string{"EXT": "crash"}}, cmd: command{Do: "sleep", Millis: 60_000}, resets: true,
			payload: `{"errorType":"Extension.Crash","errorMessage":"RequestId: ID Error: exit status 5"}`, errorType: "Extension.Crash"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := start(t, test.fixture)
			w.waitReady()
			out := w.invoke(test.cmd)
			if got := plain(out.Payload); got != test.payload {
				t.Errorf("payload %.300s\nwant    %s", got, test.payload)
			}
			if out.FunctionError != "Unhandled" || out.ErrorType != test.errorType {
				t.Errorf("function error %q, type %q", out.FunctionError, out.ErrorType)
			}
			w.waitReady()
			if test.log != "" && !w.log.has(test.log) {
				t.Errorf("no %q in the log", test.log)
			}
			if test.fixture.vars["EXT"] == "crash" {
				return // it would do so again
			}
			want := "2"
			if test.resets {
				want = "1"
			}
			if out := w.invoke(command{Do: "counter"}); string(out.Payload) != want {
				t.Errorf("the next invocation: %s, want %s", out.Payload, want)
			}
		})
	}
}

func TestInitFailures(t *testing.T) {
	for _, test := range []struct {
		name    string
		fixture fixture
		payload string
	}{
		{"exit", fixture{vars: map[string]string{"INIT": "exit"}},
			`{"errorType":"Runtime.ExitError","errorMessage":"RequestId: ID Error: Runtime exited with error: exit status 3"}`},
		{"error", fixture{vars: map[string]string{"INIT": "error"}},
			`{"errorMessage":"no module","errorType":"Runtime.ImportModuleError"}`},
		{"extension exits", fixture{extensions: []string{"ext"}, vars: map[string]string{"EXT": "exit"}},
			`{"errorType":"Extension.Crash","errorMessage":"RequestId: ID Error: exit status 7"}`},
		{"no bootstrap", fixture{noBoot: true},
			`{"errorType":"Runtime.InvalidEntrypoint","errorMessage":"RequestId: ID Error: Couldn't find valid bootstrap(s): [TASK/bootstrap OPT/bootstrap]"}`},
		{"not executable", fixture{noBoot: true, prepare: func(task, _ string) {
			must(os.WriteFile(filepath.Join(task, "bootstrap"), []byte("#!/bin/sh\n"), 0o644))
		}}, `{"errorType":"Runtime.InvalidEntrypoint","errorMessage":"RequestId: ID Error: fork/exec TASK/bootstrap: permission denied"}`},
		{"bad format", fixture{noBoot: true, prepare: func(task, _ string) {
			must(os.WriteFile(filepath.Join(task, "bootstrap"), []byte("garbage"), 0o755))
		}}, `{"errorType":"Runtime.InvalidEntrypoint","errorMessage":"RequestId: ID Error: fork/exec TASK/bootstrap: exec format error"}`},
		{"no interpreter", fixture{noBoot: true, prepare: func(task, _ string) {
			must(os.WriteFile(filepath.Join(task, "bootstrap"), []byte("#!/no/such/thing\n"), 0o755))
		}}, `{"errorType":"Runtime.InvalidEntrypoint","errorMessage":"RequestId: ID Error: fork/exec TASK/bootstrap: no such file or directory"}`},
		{"extension not executable", fixture{prepare: func(_, opt string) {
			must(os.MkdirAll(filepath.Join(opt, "extensions", "ignored"), 0o755))
			must(os.WriteFile(filepath.Join(opt, "extensions", "ext"), []byte("#!/bin/sh\n"), 0o644))
		}}, `{"errorType":"Extension.LaunchError","errorMessage":"RequestId: ID Error: fork/exec OPT/extensions/ext: permission denied"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := start(t, test.fixture)
			if !w.waitReady() {
				t.Error("init did not fail")
			}
			got := plain(w.invoke(command{}).Payload)
			got = strings.ReplaceAll(got, w.box.Paths().Task, "TASK")
			got = strings.ReplaceAll(got, w.box.Paths().Opt, "OPT")
			if got != test.payload {
				t.Errorf("payload %s\nwant    %s", got, test.payload)
			}
		})
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func TestInitIsRepeatedInTheFirstInvocation(t *testing.T) {
	w := start(t, fixture{vars: map[string]string{"INIT": "exit-once"}})
	if !w.waitReady() {
		t.Error("init did not fail")
	}
	if out := w.invoke(command{Do: "counter"}); string(out.Payload) != "1" {
		t.Errorf("got %s", out.Payload)
	}
	w.waitReady()
	if !w.log.has("platform.initReport init error") || !w.log.has("platform.initReport invoke success") {
		t.Error("the init reports are missing")
	}
}

// hostile is what a runtime does to the API besides its work.
func TestGarbageOnTheAPI(t *testing.T) {
	back := backend(t)
	other := startOn(t, back, fixture{})
	other.waitReady()
	w := startOn(t, back, fixture{})
	w.waitReady()
	for range 3 {
		if out := w.invoke(command{Do: "garbage"}); out.FunctionError != "" {
			t.Fatalf("got %s", out.Payload)
		}
		if out := other.invoke(command{}); out.FunctionError != "" {
			t.Errorf("another environment: %s", out.Payload)
		}
		w.waitReady()
		other.waitReady()
	}
}

// stuck is a sink that takes no line until it is told to.
type stuck struct {
	journal
	open chan struct{}
}

func (s *stuck) Line(src *telemetry.Source, line telemetry.Line) {
	<-s.open
	s.journal.Line(src, line)
}

// A function that writes faster than its lines are taken waits, with what the
// pipe holds; nobody else does.
func TestBackPressure(t *testing.T) {
	sink := &stuck{open: make(chan struct{})}
	back := backend(t)
	other := startOn(t, back, fixture{})
	w := startOn(t, back, fixture{vars: map[string]string{"INIT": "flood"}, config: func(c *Config) { c.Sink = sink }})
	other.waitReady()
	var before, after goruntime.MemStats
	goruntime.ReadMemStats(&before)
	for range 20 {
		other.invoke(command{}).Release()
		other.waitReady()
	}
	if len(w.ready) > 0 {
		t.Error("64 MB went nowhere")
	}
	goruntime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("%d bytes are held", grown)
	}
	close(sink.open)
	w.waitReady()
}
