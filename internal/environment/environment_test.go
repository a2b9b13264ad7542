package environment

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/lifecycle"
	"github.com/firn-run/firn/internal/sandbox"
	"github.com/firn-run/firn/internal/sandbox/process"
	"github.com/firn-run/firn/internal/telemetry"
)

// journal is a sink that remembers.
type journal struct {
	mu      sync.Mutex
	entries []string
}

func (j *journal) add(s string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.entries) < 100_000 {
		j.entries = append(j.entries, s)
	}
}

func (j *journal) Record(_ *telemetry.Source, requestID string, rec lifecycle.Record) {
	s := rec.RecordType()
	switch r := rec.(type) {
	case lifecycle.Report:
		s += " " + r.Status
		if r.ErrorType != "" {
			s += " " + r.ErrorType
		}
	case lifecycle.InitReport:
		s += " " + r.Phase + " " + r.Status
	case lifecycle.RuntimeDone:
		s += " " + r.Status
	case lifecycle.Phase:
		s = "(" + r.Name + ")"
	}
	j.add(s)
}

func (j *journal) Line(_ *telemetry.Source, line telemetry.Line) {
	who := line.Extension
	if who == "" {
		who = "fn"
	}
	j.add(who + ": " + string(line.Text))
}

// list returns what was seen, without firn's own records.
func (j *journal) list() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(j.entries), func(s string) bool { return strings.HasPrefix(s, "(") })
}

func (j *journal) has(s string) bool { return slices.Contains(j.list(), s) }

// fixture describes the environment of a test.
type fixture struct {
	vars       map[string]string
	timeout    time.Duration
	extensions []string
	noBoot     bool
	prepare    func(taskDir, optDir string)
	config     func(*Config)
}

type world struct {
	*Environment
	t     testing.TB
	log   *journal
	ready chan bool
}

// backend makes a process backend of the test's own.
func backend(t testing.TB) sandbox.Backend {
	t.Helper()
	b, err := process.New(process.Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func start(t testing.TB, f fixture) *world {
	t.Helper()
	return startOn(t, backend(t), f)
}

func startOn(t testing.TB, b sandbox.Backend, f fixture) *world {
	t.Helper()
	task, opt := t.TempDir(), t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	link := func(file string) {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(self, file); err != nil {
			t.Fatal(err)
		}
	}
	if !f.noBoot {
		link(filepath.Join(task, "bootstrap"))
	}
	for _, name := range f.extensions {
		link(filepath.Join(opt, "extensions", name))
	}
	if f.prepare != nil {
		f.prepare(task, opt)
	}
	if f.timeout == 0 {
		f.timeout = 20 * time.Second
	}
	w := &world{t: t, log: &journal{}, ready: make(chan bool, 10_000)}
	cfg := Config{
		ID:      "env-" + uuid.NewString()[:8],
		Backend: b,
		TaskDir: task,
		OptDir:  opt,
		Network: sandbox.NetworkNone,
		Version: &firn.FunctionVersion{
			Key: "k", ARN: "arn:aws:lambda:eu-central-1:123456789012:function:fn", Account: "123456789012", Region: "eu-central-1",
			Name: "fn", Version: "$LATEST", Runtime: "provided.al2023", Handler: "index.handler",
			MemoryMB: 256, Timeout: f.timeout, EphemeralStorageMB: 512, Environment: f.vars, LogGroup: "/aws/lambda/fn",
		},
		Credentials: Credentials{AccessKeyID: "AKID", SecretAccessKey: "SECRET", SessionToken: "TOKEN"},
		Sink:        w.log,
		Logger:      slog.New(slog.NewTextHandler(t.Output(), nil)),
		OnReady:     func(_ *Environment, failed bool) { w.ready <- failed },
		OnEnded:     func(*Environment) { close(w.ready) },
	}
	if f.config != nil {
		f.config(&cfg)
	}
	e, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.Environment = e
	t.Cleanup(func() {
		e.Abort()
		select {
		case <-e.Done():
		case <-time.After(20 * time.Second):
			t.Error("the environment does not end")
		}
		if t.Failed() {
			t.Logf("journal:\n%s", strings.Join(w.log.list(), "\n"))
		}
	})
	return w
}

// invoke runs one invocation; it waits for OnReady before when it is not the
// first.
func (w *world) invoke(cmd command, change ...func(*Invocation)) *Outcome {
	w.t.Helper()
	p, err := json.Marshal(cmd)
	if err != nil {
		w.t.Fatal(err)
	}
	inv := &Invocation{
		RequestID: uuid.NewString(),
		ARN:       w.Version().ARN + ":live",
		Payload:   p,
	}
	for _, c := range change {
		c(inv)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), 15*time.Second)
	defer cancel()
	out, err := w.Invoke(ctx, inv)
	if err != nil {
		w.t.Fatalf("invoke %+v: %v", cmd, err)
	}
	return out
}

func (w *world) waitReady() (initFailed bool) {
	w.t.Helper()
	select {
	case failed, ok := <-w.ready:
		if !ok {
			w.t.Fatal("the environment has ended")
		}
		return failed
	case <-time.After(10 * time.Second):
		w.t.Fatal("not ready")
	}
	return false
}

// uid is what stands for request ids in expectations.
var uid = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

func plain(p []byte) string { return uid.ReplaceAllString(string(p), "ID") }

func tail(inv *Invocation) { inv.LogTail = true }

func TestColdAndWarm(t *testing.T) {
	w := start(t, fixture{})
	out := w.invoke(command{Do: "counter"})
	if string(out.Payload) != "1" || out.FunctionError != "" || out.ContentType != "application/test" {
		t.Fatalf("cold: %+v", out)
	}
	out.Release()
	w.waitReady()
	for i := 2; i < 10; i++ {
		out := w.invoke(command{Do: "counter"})
		if got := string(out.Payload); got != fmt.Sprint(i) {
			t.Fatalf("warm: %s", got)
		}
		out.Release()
		out.Release() // idempotent
		w.waitReady()
	}
	w.Shutdown()
	<-w.Done()
	if _, err := w.Invoke(t.Context(), &Invocation{}); !errors.Is(err, ErrEnded) {
		t.Errorf("invoke after the end: %v", err)
	}
}

func TestClaimed(t *testing.T) {
	w := start(t, fixture{config: func(c *Config) { c.Claimed = true }})
	time.Sleep(200 * time.Millisecond) // Init is over by now, or the test proves less
	if len(w.ready) != 0 {
		t.Error("ready before the invocation of who started it")
	}
	w.invoke(command{})
	w.waitReady()
	if len(w.ready) != 0 {
		t.Error("ready twice")
	}
}

func TestRecordsAndLinesComeInOrder(t *testing.T) {
	w := start(t, fixture{})
	w.waitReady()
	w.invoke(command{Print: "one\ntwo\npart", AfterMS: 20, After: "ial"})
	w.waitReady()
	want := []string{
		"platform.initStart", "fn: init", "platform.initRuntimeDone", "platform.initReport init success",
		"platform.start", "fn: one", "fn: two",
		"platform.runtimeDone success", "fn: partial", "platform.report success",
	}
	if got := w.log.list(); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// An answer with a tail has START, the lines and END and REPORT in it, in one
// order, even though the lines come by a pipe and the answer by a socket.
func TestLogTail(t *testing.T) {
	w := start(t, fixture{})
	want := regexp.MustCompile(`^START RequestId: ID Version: \$LATEST\nhello\nEND RequestId: ID\nREPORT RequestId: ID\tDuration: .*\tMemory Size: 256 MB\tMax Memory Used: [1-9][0-9]* MB\t.*\n$`)
	for range 20 {
		out := w.invoke(command{Print: "hello\n"}, tail)
		if got := plain(out.LogTail); !want.MatchString(got) {
			t.Fatalf("tail:\n%s", got)
		}
		w.waitReady()
	}
	out := w.invoke(command{Do: "flood", Code: 50_000}, tail)
	if len(out.LogTail) != firn.LogTailBytes || !bytes.Contains(out.LogTail, []byte("END RequestId")) {
		t.Errorf("long tail: %d bytes\n%s", len(out.LogTail), out.LogTail)
	}
	w.waitReady()
	if out := w.invoke(command{Print: "hello\n"}); out.LogTail != nil {
		t.Errorf("tail that nobody asked for: %s", out.LogTail)
	}
}

func TestSlowExtensionDoesNotDelayTheAnswer(t *testing.T) {
	w := start(t, fixture{extensions: []string{"one"}, vars: map[string]string{"EXT": "slow"}})
	w.waitReady()
	for _, change := range [][]func(*Invocation){nil, {tail}} {
		began := time.Now()
		out := w.invoke(command{Print: "x\n"}, change...)
		if took := time.Since(began); took > 350*time.Millisecond {
			t.Errorf("the answer took %v", took)
		}
		if change != nil && !bytes.Contains(out.LogTail, []byte("\nx\n")) {
			t.Errorf("tail: %s", out.LogTail)
		}
		w.waitReady()
		if took := time.Since(began); took < 400*time.Millisecond {
			t.Errorf("ready after %v, before the extension", took)
		}
	}
}

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

func TestLargestResponse(t *testing.T) {
	w := start(t, fixture{})
	for _, do := range []string{"big", "chunked"} {
		for _, n := range []int{0, 1, 4096, 100_000, firn.MaxPayloadBytes} {
			out := w.invoke(command{Do: do, Code: n})
			if len(out.Payload) != n || out.FunctionError != "" {
				t.Errorf("%s %d: got %d bytes, %q", do, n, len(out.Payload), out.FunctionError)
			}
			out.Release()
			w.waitReady()
		}
	}
}

func TestLargestEvent(t *testing.T) {
	w := start(t, fixture{})
	big := strings.Repeat("e", firn.MaxPayloadBytes-100)
	out := w.invoke(command{Arg: big})
	if len(out.Payload) < len(big) {
		t.Errorf("got %d bytes back", len(out.Payload))
	}
}

func TestTimeoutKeepsTmp(t *testing.T) {
	w := start(t, fixture{timeout: time.Second})
	w.invoke(command{Do: "touch", Arg: "kept"})
	w.waitReady()
	w.invoke(command{Do: "sleep", Millis: 60_000})
	w.waitReady()
	if out := w.invoke(command{Do: "exists", Arg: "kept"}); string(out.Payload) != "true" {
		t.Errorf("after the reset: %s", out.Payload)
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

func TestExtensions(t *testing.T) {
	w := start(t, fixture{extensions: []string{"b", "a"}, vars: map[string]string{"INIT": "internal"}})
	w.waitReady()
	w.Shutdown()
	<-w.Done()
	got := w.log.list()
	for _, want := range []string{"a: a registered", "b: b registered", "fn: runtime got SIGTERM", "a: a SHUTDOWN spindown", "b: b SHUTDOWN spindown"} {
		if !slices.Contains(got, want) {
			t.Errorf("no %q", want)
		}
	}
	before := func(first, second string) {
		t.Helper()
		if slices.Index(got, first) > slices.Index(got, second) {
			t.Errorf("%q comes after %q", first, second)
		}
	}
	before("a: a registered", "fn: init")
	before("b: b registered", "fn: init")
	before("fn: runtime got SIGTERM", "a: a SHUTDOWN spindown")
}

func TestTimeoutTellsExtensions(t *testing.T) {
	w := start(t, fixture{extensions: []string{"a"}, timeout: time.Second})
	w.waitReady()
	w.invoke(command{Do: "sleep", Millis: 60_000})
	w.waitReady()
	if !w.log.has("a: a SHUTDOWN timeout") {
		t.Error("no SHUTDOWN event")
	}
}

func TestBadCallsOfTheRuntime(t *testing.T) {
	w := start(t, fixture{})
	out := w.invoke(command{Do: "wrong-id"})
	if got := string(out.Payload); got != `400 {"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}`+"\n" {
		t.Errorf("wrong id: %s", got)
	}
	w.waitReady()
	w.invoke(command{Do: "twice"})
	w.waitReady()
	want := `fn: second response: 403 {"errorMessage":"State transition from RuntimeResponseSentState to InvocationResponse failed for runtime. Error: State transition is not allowed","errorType":"InvalidStateTransition"}`
	if !w.log.has(want) {
		t.Error("the second response was not refused")
	}
}

// A runtime polls for its event again on a connection that it never reads,
// and answers over another one.
func TestUnreadEventHoldsUpNobody(t *testing.T) {
	w := start(t, fixture{})
	w.waitReady()
	out := w.invoke(command{Do: "overtake", Arg: strings.Repeat("e", 5<<20)})
	if out.FunctionError != "" {
		t.Errorf("got %s", out.Payload)
	}
	w.waitReady()
	if out := w.invoke(command{Do: "counter"}); string(out.Payload) != "2" {
		t.Errorf("the next invocation: %s", out.Payload)
	}
}

func TestNextHeadersAndVariables(t *testing.T) {
	w := start(t, fixture{vars: map[string]string{"MINE": "1", "TZ": "Europe/Vienna", "_HIDDEN": "x", "AWS_REGION": "mars"}})
	out := w.invoke(command{Do: "header"}, func(inv *Invocation) {
		inv.TraceID, inv.ClientContext = "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1", "{\"a\":\n1}"
	})
	var h map[string][]string
	must(json.Unmarshal(out.Payload, &h))
	for k, want := range map[string]string{
		"Content-Type":                        "application/json",
		"Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:eu-central-1:123456789012:function:fn:live",
		"Lambda-Runtime-Trace-Id":             "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1",
		"Lambda-Runtime-Client-Context":       `{"a": 1}`,
	} {
		if got := strings.Join(h[k], ","); got != want {
			t.Errorf("%s: %q", k, got)
		}
	}
	if _, ok := h["Lambda-Runtime-Cognito-Identity"]; ok {
		t.Error("an empty header was sent")
	}
	w.waitReady()

	out = w.invoke(command{Do: "environ"})
	var env []string
	must(json.Unmarshal(out.Payload, &env))
	for _, want := range []string{
		"MINE=1", "TZ=Europe/Vienna", "AWS_REGION=eu-central-1", "AWS_DEFAULT_REGION=eu-central-1", "_HANDLER=index.handler",
		"AWS_ACCESS_KEY_ID=AKID", "AWS_SECRET_ACCESS_KEY=SECRET", "AWS_SESSION_TOKEN=TOKEN", "LANG=en_US.UTF-8",
		"AWS_LAMBDA_FUNCTION_NAME=fn", "AWS_LAMBDA_FUNCTION_VERSION=$LATEST", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=256",
		"AWS_LAMBDA_INITIALIZATION_TYPE=on-demand", "AWS_LAMBDA_LOG_GROUP_NAME=/aws/lambda/fn",
		"LAMBDA_TASK_ROOT=" + w.box.Paths().Task,
		"PATH=/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:" + w.box.Paths().Opt + "/bin",
	} {
		if !slices.Contains(env, want) {
			t.Errorf("no %s", want)
		}
	}
	for _, kv := range env {
		if strings.HasPrefix(kv, "_HIDDEN") || strings.HasPrefix(kv, "AWS_EXECUTION_ENV") {
			t.Errorf("%s", kv)
		}
	}
	if !regexp.MustCompile(`^\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}$`).MatchString(w.source.LogStream) {
		t.Errorf("log stream %s", w.source.LogStream)
	}
	for _, kv := range w.extensionVariables() {
		name, _, _ := strings.Cut(kv, "=")
		if hiddenFromExtensions(name) || name == "_HANDLER" {
			t.Errorf("an extension gets %s", kv)
		}
	}
}

func TestCallerGone(t *testing.T) {
	w := start(t, fixture{})
	w.waitReady()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	p, _ := json.Marshal(command{Do: "sleep", Millis: 300, Print: "worked\n"})
	inv := &Invocation{RequestID: uuid.NewString(), Payload: p}
	if _, err := w.Invoke(ctx, inv); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	if _, err := w.Invoke(t.Context(), inv); !errors.Is(err, ErrBusy) {
		t.Errorf("second invocation: %v", err)
	}
	w.waitReady()
	if !w.log.has("platform.report success") {
		t.Error("the invocation did not go on")
	}
}

func TestAbortAnswers(t *testing.T) {
	w := start(t, fixture{})
	w.waitReady()
	time.AfterFunc(100*time.Millisecond, w.Abort)
	if out := w.invoke(command{Do: "sleep", Millis: 60_000}); out.ErrorType != "Sandbox.Failure" {
		t.Errorf("got %s", out.Payload)
	}
	<-w.Done()
}

func TestShutdownLetsTheInvocationFinish(t *testing.T) {
	w := start(t, fixture{})
	w.waitReady()
	time.AfterFunc(50*time.Millisecond, w.Shutdown)
	if out := w.invoke(command{Do: "sleep", Millis: 300}); out.FunctionError != "" {
		t.Errorf("got %s", out.Payload)
	}
	<-w.Done()
}

func TestFlood(t *testing.T) {
	w := start(t, fixture{})
	out := w.invoke(command{Do: "flood", Code: 8 << 20})
	if out.FunctionError != "" {
		t.Fatalf("got %s", out.Payload)
	}
	w.waitReady()
	n := 0
	for _, s := range w.log.list() {
		if strings.HasPrefix(s, "fn: yyy") {
			n++
		}
	}
	if want := (8 << 20) / 100; n != want {
		t.Errorf("%d lines, want %d", n, want)
	}
}

func TestFreeze(t *testing.T) {
	w := start(t, fixture{config: func(c *Config) { c.FreezeGrace = 5 * time.Millisecond }})
	for i := 1; i < 20; i++ {
		if out := w.invoke(command{Do: "counter"}); string(out.Payload) != fmt.Sprint(i) {
			t.Fatalf("got %s", out.Payload)
		}
		w.waitReady()
		if i%3 == 0 {
			time.Sleep(10 * time.Millisecond) // so that it is frozen in some rounds
		}
	}
}

// failing is a backend that cannot make sandboxes.
type failing struct{ sandbox.Backend }

func (failing) Create(context.Context, sandbox.Spec) (sandbox.Sandbox, error) {
	return nil, errors.New("no room")
}

func TestCreateFails(t *testing.T) {
	_, err := Start(t.Context(), Config{Backend: failing{}, Version: &firn.FunctionVersion{}})
	if err == nil || !strings.Contains(err.Error(), "no room") {
		t.Errorf("got %v", err)
	}
}
