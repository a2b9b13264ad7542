package proving

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/firn-run/firn/internal/lifecycle"
	"github.com/firn-run/firn/internal/telemetry"
)

func TestLayerArchive(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, mode os.FileMode) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("#!/bin/sh\n"), mode); err != nil {
			t.Fatal(err)
		}
		return file
	}
	single := write("agent", 0o755)
	write("layer/extensions/one", 0o755)
	write("layer/extensions/two", 0o644)
	write("layer/extensions/lib/three", 0o755)
	write("layer/bin/tool", 0o755)
	write("empty/bin/tool", 0o755)
	folder, _, err := layerArchive(filepath.Join(dir, "layer"))
	if err != nil {
		t.Fatal(err)
	}
	packed := filepath.Join(dir, "layer.zip")
	if err := os.WriteFile(packed, folder, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		path string
		want []string
	}{
		{single, []string{"agent"}},
		{filepath.Join(dir, "layer"), []string{"one", "two"}}, // below a folder nothing is started
		{packed, []string{"one", "two"}},
	} {
		archive, names, err := layerArchive(test.path)
		if err != nil || !slices.Equal(names, test.want) {
			t.Errorf("%s: %v, %v; want %v", test.path, names, err, test.want)
			continue
		}
		r, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range r.File {
			// What is not executable fails as it would on AWS.
			if want := f.Name != "extensions/two"; (f.Mode().Perm()&0o111 != 0) != want {
				t.Errorf("%s: %s has mode %v", test.path, f.Name, f.Mode())
			}
		}
	}
	for _, bad := range []string{filepath.Join(dir, "empty"), filepath.Join(dir, "nothing")} {
		if _, names, err := layerArchive(bad); err == nil {
			t.Errorf("%s is taken for a layer with %v", bad, names)
		}
	}
}

// The way to the listener refuses, delays and counts as it was told to.
func TestWire(t *testing.T) {
	answers := []int{200, 500, 200}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(answers[0])
		answers = answers[1:]
	}))
	defer server.Close()
	w := &wire{}
	w.begin(fault{refuse: 2, delay: 30 * time.Millisecond})
	dial := w.wrap(func(ctx context.Context, _ int) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", server.Listener.Addr().String())
	})
	for range 2 {
		if _, err := dial(t.Context(), 1); err != syscall.ECONNREFUSED {
			t.Fatalf("a connection that is to be refused: %v", err)
		}
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, 1) }}}
	defer client.CloseIdleConnections()
	begin := time.Now()
	for range 3 {
		resp, err := client.Post(server.URL, "application/json", strings.NewReader("[]"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	if took := time.Since(begin); took < 90*time.Millisecond {
		t.Errorf("three delayed answers took %v", took)
	}
	if got := w.counts(); got.refused != 2 || got.acknowledged != 2 || got.failed != 1 || got.connections < 1 {
		t.Errorf("counted %+v", got)
	}
	w.begin(fault{closed: true})
	if got := w.counts(); got != (counts{}) || !w.closed() {
		t.Errorf("the next scenario begins with %+v", got)
	}
}

// life makes the records of a function's environments.
type life struct {
	watcher *watcher
	at      time.Time
}

func (l *life) say(recs ...lifecycle.Record) {
	for _, rec := range recs {
		l.watcher.Record(&telemetry.Source{Function: "f"}, "", rec)
	}
}

func (l *life) phase(after time.Duration, name, detail string) lifecycle.Phase {
	l.at = l.at.Add(after)
	return lifecycle.Phase{Stamp: lifecycle.Stamp{Time: l.at}, Name: name, Detail: detail}
}

// What is found wrong with extensions of several kinds.
func TestJudge(t *testing.T) {
	both := []string{"INVOKE", "SHUTDOWN"}
	good := func(l *life) {
		l.say(l.phase(0, lifecycle.PhaseExtensionStarted, "x"), l.phase(time.Millisecond, lifecycle.PhaseExtensionRegistered, "x"),
			l.phase(time.Millisecond, lifecycle.PhaseExtensionReady, "x"), lifecycle.Extension{Name: "x", State: "Ready", Events: both})
	}
	ready := func(l *life, n int) {
		for range n {
			l.say(l.phase(time.Millisecond, lifecycle.PhaseExtensionReady, "x"))
		}
	}
	end := func(l *life) {
		l.say(l.phase(0, lifecycle.PhaseShutdownEvent, "x"), l.phase(time.Millisecond, lifecycle.PhaseExtensionExited, "x"))
	}
	for _, test := range []struct {
		name   string
		life   func(*life)
		judge  func(*ground, *play) []Check
		counts counts
		bad    string // what the failed checks say, "" for none
	}{
		{"a good one", func(l *life) { good(l); ready(l, 2); end(l) }, (*ground).judgeLifecycle, counts{}, ""},
		{"never registers", func(l *life) { l.say(l.phase(0, lifecycle.PhaseExtensionStarted, "x")) }, (*ground).judgeLifecycle, counts{}, "POST /2020-01-01/extension/register"},
		{"ends at once", func(l *life) {
			l.say(l.phase(0, lifecycle.PhaseExtensionStarted, "x"), lifecycle.Extension{Name: "x", State: "Exited", ErrorType: "Extension.Crash"})
		}, (*ground).judgeLifecycle, counts{}, "it ended with Extension.Crash"},
		{"takes one event of two", func(l *life) { good(l); ready(l, 1); end(l) }, (*ground).judgeLifecycle, counts{}, "1 of 2"},
		{"does not exit", func(l *life) {
			good(l)
			ready(l, 2)
			l.say(l.phase(0, lifecycle.PhaseShutdownEvent, "x"), l.phase(2*time.Second, lifecycle.PhaseShutdownFailed, "x"))
		}, (*ground).judgeLifecycle, counts{}, "killed at the deadline"},
		{"does not come back", func(l *life) { good(l); end(l) }, (*ground).judgeReset, counts{}, "did not register again"},
		{"comes back", func(l *life) { good(l); end(l); good(l) }, (*ground).judgeReset, counts{}, ""},
		{"answers 500", func(l *life) { good(l); l.say(lifecycle.TelemetrySubscription{Name: "x"}) }, (*ground).judgeDelivery, counts{acknowledged: 2, failed: 1}, "1 answers were others"},
		{"loses records", func(l *life) {
			good(l)
			l.say(lifecycle.LogsSubscription{Name: "x"}, lifecycle.LogsDropped{DroppedRecords: 7})
		}, (*ground).judgeDelivery, counts{acknowledged: 2}, "7 records were dropped"},
		{"dies of a refused subscription", func(l *life) { l.say(lifecycle.Extension{Name: "x", ErrorType: "Extension.Crash"}) }, (*ground).judgeLate, counts{}, "x ended with Extension.Crash"},
		{"asks for what there is not", func(l *life) {
			l.say(lifecycle.Phase{Name: lifecycle.PhaseRefused, Detail: "Extension.InvalidEventType: X"}, lifecycle.Phase{Name: lifecycle.PhaseRefused, Detail: "Extension.InvalidEventType: X"},
				lifecycle.Phase{Name: lifecycle.PhaseRefused, Detail: "InvalidStateTransition: State transition from Started to Ready failed for runtime"})
		}, func(_ *ground, p *play) []Check { return refusals(p) }, counts{}, "Extension.InvalidEventType: X"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := &life{watcher: newWatcher(), at: time.Unix(1, 0)}
			test.life(l)
			g := &ground{extensions: []string{"x"}, report: &Report{subscribes: true}}
			p := &play{account: l.watcher.of("f"), outcomes: make([]outcome, 2), counts: test.counts}
			var bad []string
			for _, c := range test.judge(g, p) {
				if c.Name == "" || c.Detail == "" {
					t.Errorf("a check without words: %+v", c)
				}
				if c.Result == Fail {
					bad = append(bad, c.Detail)
				}
			}
			if got := strings.Join(bad, "; "); test.bad == "" && got != "" || !strings.Contains(got, test.bad) {
				t.Errorf("found wrong: %q, want %q", got, test.bad)
			}
			if strings.Count(strings.Join(bad, ";"), test.bad) != 1 && test.bad != "" {
				t.Errorf("said more than once: %q", bad)
			}
		})
	}
}

func TestAnswers(t *testing.T) {
	p := &play{outcomes: []outcome{{}, {failure: `{"errorType":"Sandbox.Timedout"}`}, {}}}
	if c := p.answers(1); c.Result != Pass {
		t.Errorf("a failure of the script: %+v", c)
	}
	p.outcomes[2].failure = `{"errorType":"Extension.Crash"}`
	if c := p.answers(1); c.Result != Fail || !strings.Contains(c.Detail, "Extension.Crash") {
		t.Errorf("the extension's failure: %+v", c)
	}
}

func TestReport(t *testing.T) {
	r := &Report{Extensions: []string{"x"}, Costs: []Cost{{"Init Duration", "ms", 10, 12.5}},
		Scenarios: []Scenario{{Name: "lifecycle", About: "init", Checks: []Check{{"registers", Pass, "after 1ms"}, {"sleeps", Note, "well"}}}}}
	var out strings.Builder
	if err := r.Write(&out, false); err != nil || !r.OK() {
		t.Fatal(err)
	}
	for _, want := range []string{"extension x", "+2.50 ms", "✓ registers  after 1ms", "· sleeps", "Nothing that Lambda would object to"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Error("colours where none were asked for")
	}
	r.Scenarios[0].Checks[0].Result = Fail
	out.Reset()
	if err := r.Write(&out, true); err != nil || r.OK() || !strings.Contains(out.String(), "Not ready for production") {
		t.Errorf("%v: %s", err, out.String())
	}
	if raw, err := json.Marshal(r); err != nil || !bytes.Contains(raw, []byte(`"result":"fail"`)) {
		t.Errorf("%s, %v", raw, err)
	}
}

// The scripted runtime does what its events say.
func TestRuntime(t *testing.T) {
	events := []string{`{"do":"work","ms":1}`, `{"do":"exit"}`}
	var answered []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/response") {
			answered = append(answered, r.URL.Path)
			w.WriteHeader(http.StatusAccepted)
			return
		}
		w.Header().Set("Lambda-Runtime-Aws-Request-Id", "r1")
		io.WriteString(w, events[0])
		events = events[1:]
	}))
	defer server.Close()
	var out bytes.Buffer
	if status := Runtime(server.Listener.Addr().String(), &out); status != 1 {
		t.Errorf("status %d", status)
	}
	if len(answered) != 1 || answered[0] != "/2018-06-01/runtime/invocation/r1/response" || !strings.Contains(out.String(), "works for 1 ms") {
		t.Errorf("answered %v, said %q", answered, out.String())
	}
}
