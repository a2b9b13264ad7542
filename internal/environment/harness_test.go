package environment

import (
	"context"
	"encoding/json"
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
	changed chan struct{} // closed at the next entry; nil when nobody waits
}

// wait returns when s is in the journal. A test that waits in vain ends with
// the test's own time.
func (j *journal) wait(s string) {
	for {
		j.mu.Lock()
		if slices.Contains(j.entries, s) {
			j.mu.Unlock()
			return
		}
		if j.changed == nil {
			j.changed = make(chan struct{})
		}
		changed := j.changed
		j.mu.Unlock()
		<-changed
	}
}

func (j *journal) add(s string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.entries) < 100_000 {
		j.entries = append(j.entries, s)
	}
	if j.changed != nil {
		close(j.changed)
		j.changed = nil
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
	w := &world{t: t, log: &journal{}, ready: make(chan bool, 64)}
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
	if Managed(cfg.Version) && cfg.RuntimeDir == "" && !f.noBoot {
		cfg.RuntimeDir = t.TempDir()
		link(filepath.Join(cfg.RuntimeDir, "var/runtime/bootstrap"))
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
