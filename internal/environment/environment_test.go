package environment

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/sandbox"
)

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
	w.log.wait("platform.initReport init success")
	w.invoke(command{})
	w.Shutdown()
	<-w.Done()
	calls := 0
	for range w.ready {
		calls++
	}
	if calls > 1 {
		t.Errorf("OnReady was called %d times", calls)
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
// order, even though the lines come by a pipe and the answer by a socket. The
// first one begins with the log of the init.
func TestLogTail(t *testing.T) {
	w := start(t, fixture{})
	want := regexp.MustCompile(`^START RequestId: ID Version: \$LATEST\nhello\nEND RequestId: ID\nREPORT RequestId: ID\tDuration: .*\tMemory Size: 256 MB\tMax Memory Used: [1-9][0-9]* MB\t.*\n$`)
	for n := range 20 {
		out := w.invoke(command{Print: "hello\n"}, tail)
		got, init := strings.CutPrefix(plain(out.LogTail), "init\n")
		if !want.MatchString(got) || init != (n == 0) {
			t.Fatalf("tail:\n%s", out.LogTail)
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

// With the JSON format the tail is JSON: records of their levels, and the lines that
// are objects with a level by theirs.
func TestLogTailInJSON(t *testing.T) {
	w := start(t, fixture{config: func(c *Config) {
		c.Version.LogFormatJSON, c.Version.ApplicationLogLevel, c.Version.SystemLogLevel = true, "WARN", "INFO"
	}})
	w.waitReady()
	out := w.invoke(command{Print: "{\"timestamp\":\"2026-01-01T00:00:00Z\",\"level\":\"ERROR\",\"message\":\"seen\"}\n" +
		"{\"timestamp\":\"2026-01-01T00:00:00Z\",\"level\":\"INFO\",\"message\":\"unseen\"}\n"}, tail)
	got := string(out.LogTail)
	for _, want := range []string{`"type":"platform.start"`, `"message":"seen"`, `"type":"platform.report"`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
	for _, unwanted := range []string{"unseen", "platform.runtimeDone", "START"} {
		if strings.Contains(got, unwanted) {
			t.Errorf("%s in %s", unwanted, got)
		}
	}
	for line := range strings.Lines(strings.TrimPrefix(got, "init\n")) {
		if !json.Valid([]byte(line)) {
			t.Errorf("no JSON: %s", line)
		}
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

// Search paths of the custom runtimes, as recorded.
func TestSearchPaths(t *testing.T) {
	for runtime, want := range map[string][2]string{
		"provided.al2":    {"/usr/local/bin:", "/lib64:"},
		"provided.al2023": {"/var/lang/bin:/usr/local/bin:", "/var/lang/lib:/lib64:"},
	} {
		w := start(t, fixture{config: func(c *Config) { c.Version.Runtime = runtime }})
		vars := w.defaultVariables()
		if !strings.HasPrefix(vars["PATH"], want[0]) || !strings.HasPrefix(vars["LD_LIBRARY_PATH"], want[1]) {
			t.Errorf("%s: %q and %q", runtime, vars["PATH"], vars["LD_LIBRARY_PATH"])
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

// The tail does not hold back an answer while the runtime works on.
func TestLogTailDoesNotWaitForEver(t *testing.T) {
	w := start(t, fixture{})
	w.waitReady()
	began := time.Now()
	out := w.invoke(command{Print: "x\n", AfterMS: 2500}, tail)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the answer took %v", took)
	}
	if got := plain(out.LogTail); got != "init\nSTART RequestId: ID Version: $LATEST\nx\n" {
		t.Errorf("tail: %q", got)
	}
}

// freezing is a backend whose sandboxes tell when they are frozen.
type freezing struct {
	sandbox.Backend
	frozen chan struct{}
}

func (f freezing) Create(ctx context.Context, spec sandbox.Spec) (sandbox.Sandbox, error) {
	box, err := f.Backend.Create(ctx, spec)
	return freezingBox{box, f.frozen}, err
}

type freezingBox struct {
	sandbox.Sandbox
	frozen chan struct{}
}

func (b freezingBox) Freeze() error {
	err := b.Sandbox.Freeze()
	b.frozen <- struct{}{}
	return err
}

func TestFreeze(t *testing.T) {
	for _, grace := range []time.Duration{0, 5 * time.Millisecond} {
		frozen := make(chan struct{}, 100)
		w := startOn(t, freezing{backend(t), frozen}, fixture{config: func(c *Config) { c.FreezeGrace = grace }})
		for i := 1; i < 10; i++ {
			if out := w.invoke(command{Do: "counter"}); string(out.Payload) != fmt.Sprint(i) {
				t.Fatalf("got %s", out.Payload)
			}
			w.waitReady()
			if i%3 == 0 { // the other rounds come before the grace is over, or not
				<-frozen
			}
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
