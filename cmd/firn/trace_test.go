package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/keyring"
	"github.com/firn-run/firn/internal/lifecycle"
	"github.com/firn-run/firn/internal/server"
	"github.com/firn-run/firn/internal/state"
	"github.com/firn-run/firn/internal/telemetry"
	"github.com/firn-run/firn/internal/timeline"
	"github.com/firn-run/firn/internal/trace"
)

// tracedNode is a data directory of a running node that has only traces. It
// verifies signatures as a node does.
func tracedNode(t *testing.T) (dataDir string, store *trace.Store) {
	dataDir = t.TempDir()
	if err := os.MkdirAll(filepath.Dir(state.KeyFile(dataDir)), 0o700); err != nil {
		t.Fatal(err)
	}
	keys, err := keyring.Open(keyring.Config{Path: state.KeyFile(dataDir), Account: server.DefaultAccount})
	if err != nil {
		t.Fatal(err)
	}
	store = trace.New(trace.Config{})
	handler := store.Handler()
	root := firn.Identity{ARN: "arn:aws:iam::" + server.DefaultAccount + ":root", Account: server.DefaultAccount, Root: true}
	auth := awswire.NewAuthenticator(awswire.AuthConfig{Credentials: keys, Region: server.DefaultRegion, Service: "lambda", Now: time.Now})
	node := httptest.NewServer(awswire.Authenticated(awswire.Config{Auth: auth, Anonymous: root, Now: time.Now},
		func(w http.ResponseWriter, r *awswire.Request) error { handler.ServeHTTP(w, r.HTTP); return nil }))
	t.Cleanup(node.Close)
	if err := os.WriteFile(filepath.Join(dataDir, "endpoint"), []byte(node.URL+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dataDir, store
}

// traceRun is an invocation of a millisecond per second of its turn.
func traceRun(store *trace.Store, function, id string, turn int, status, errorType string) {
	src := &telemetry.Source{Function: function, Version: "$LATEST", Environment: "e" + id}
	at := func(ms int) lifecycle.Stamp {
		return lifecycle.Stamp{Time: time.Date(2026, 1, 2, 3, 4, turn, ms*1e6, time.Local)}
	}
	store.Record(src, "", lifecycle.InitStart{Stamp: at(0), InitializationType: "on-demand", Phase: "init"})
	store.Record(src, "", lifecycle.InitReport{Stamp: at(100), InitializationType: "on-demand", Phase: "init", Status: "success", Metrics: lifecycle.InitMetrics{DurationMs: 100}})
	store.Record(src, id, lifecycle.Start{Stamp: at(100), RequestID: id})
	store.Record(src, id, lifecycle.Phase{Stamp: at(112), Name: lifecycle.PhaseAnswered})
	store.Record(src, id, lifecycle.Report{Stamp: at(112), RequestID: id, Status: status, ErrorType: errorType, Metrics: lifecycle.ReportMetrics{DurationMs: float64(12 * turn), BilledDurationMs: 12}})
}

const (
	traceFirst  = "8ec66a5e-0b1c-4b68-a1e5-7bd60a3b0d3d"
	traceSecond = "8ec77777-0b1c-4b68-a1e5-7bd60a3b0d3d"
)

// command runs firn and returns what it prints.
func command(args ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	status = run(context.Background(), args, &out, &errs)
	return status, out.String(), errs.String()
}

func TestTrace(t *testing.T) {
	dir, store := tracedNode(t)
	traceRun(store, "hello", traceFirst, 1, "success", "")
	traceRun(store, "other", traceSecond, 2, "error", "Bad\x1b[31mType")
	data := "--data=" + dir

	t.Run("list", func(t *testing.T) {
		status, out, errs := command("trace", data)
		want := "TIME          FUNCTION  REQUEST ID                            DURATION  INIT    STATUS                SLOW\n" +
			"03:04:01.100  hello     " + traceFirst + "  12.0 ms   100 ms  success               init 100 ms\n" +
			"03:04:02.100  other     " + traceSecond + "  24.0 ms   100 ms  error (Bad�[31mType)  init 100 ms\n"
		if status != 0 || out != want || errs != "" {
			t.Errorf("%d %s\n%s\nwant\n%s", status, errs, out, want)
		}
	})
	t.Run("filters", func(t *testing.T) {
		for _, args := range [][]string{{"--function", "hello"}, {"--slow", "1ns", "--function=hello"}, {"--function=hello", "--limit=1"}} {
			if _, out, errs := command(append([]string{"trace", data}, args...)...); !strings.Contains(out, traceFirst) || strings.Contains(out, traceSecond) {
				t.Errorf("%v: %s%s", args, out, errs)
			}
		}
		if status, out, errs := command("trace", data, "--slow=1h"); status != 0 || out != "" || !strings.Contains(errs, "no invocation") {
			t.Errorf("%d %q %q", status, out, errs)
		}
	})
	t.Run("list as JSON", func(t *testing.T) {
		var listing trace.Listing
		if _, out, _ := command("trace", data, "-o", "json"); json.Unmarshal([]byte(out), &listing) != nil || len(listing.Invocations) != 2 {
			t.Errorf("%s", out)
		}
	})
	t.Run("one", func(t *testing.T) {
		for _, args := range [][]string{{traceFirst}, {"8ec66"}, {"--last", "--function=hello"}} {
			status, out, errs := command(append([]string{"trace", data}, args...)...)
			if status != 0 || !strings.Contains(out, "cold start 100 ms: the init took 100 ms") || !strings.HasPrefix(out, "hello  "+traceFirst) {
				t.Errorf("%v: %d %s%s", args, status, errs, out)
			}
		}
	})
	t.Run("SVG", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "slow.svg")
		status, out, errs := command("trace", data, traceFirst, "--svg", file)
		svg, err := os.ReadFile(file)
		if status != 0 || err != nil || !bytes.HasPrefix(svg, []byte("<svg")) || !strings.Contains(out, "cold start") || !strings.Contains(errs, file) {
			t.Errorf("%d %v %s%s", status, err, errs, out)
		}
		if _, out, _ := command("trace", data, "--last", "--svg=-"); !strings.HasPrefix(out, "<svg") || strings.Contains(out, "hello") {
			t.Errorf("%s", out)
		}
		if status, _, errs := command("trace", data, traceFirst, "--svg", filepath.Join(dir, "none", "x.svg")); status != 1 || !strings.Contains(errs, "cannot write the drawing") {
			t.Errorf("%d %s", status, errs)
		}
	})
	t.Run("one as JSON", func(t *testing.T) {
		_, out, _ := command("trace", data, traceFirst, "--output=json")
		var tl timeline.Timeline
		if err := json.Unmarshal([]byte(out), &tl); err != nil || tl.RequestID != traceFirst || len(tl.Lanes) == 0 {
			t.Errorf("%v %s", err, out)
		}
	})
}

func TestTraceErrors(t *testing.T) {
	dir, store := tracedNode(t)
	if status, out, errs := command("trace", "--data", dir); status != 0 || out != "" || !strings.Contains(errs, "nothing was invoked") {
		t.Errorf("an empty node: %d %q %q", status, out, errs)
	}
	traceRun(store, "hello", traceFirst, 1, "success", "")
	traceRun(store, "hello", traceSecond, 2, "success", "")
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"8ec"}, "several request ids begin with 8ec"},
		{[]string{"nope"}, "begins with nope"},
		{[]string{strings.Repeat("0", 36)}, "firn remembers no invocation"},
		{[]string{"a/../b?c"}, "not a request id"},
		{[]string{traceFirst, "--last"}, "a request id says which"},
		{[]string{"--svg=x"}, "--svg draws one invocation"},
		{[]string{"--output=yaml"}, "choose text or json"},
		{[]string{"--limit=0"}, "limit must be"},
		{[]string{"--last", "--function=none"}, "no invocation that firn remembers"},
		{[]string{"--region=mars-1"}, "--region and --account"},
	} {
		status, out, errs := command(append([]string{"trace", "--data", dir}, test.args...)...)
		if status != 1 || out != "" || !strings.Contains(errs, test.want) {
			t.Errorf("%v: %d %q %q, want %q", test.args, status, out, errs, test.want)
		}
	}
	if status, _, errs := command("trace", "--data", t.TempDir()); status != 1 || !strings.Contains(errs, "no firn is running") {
		t.Errorf("no node: %d %s", status, errs)
	}
	if err := os.WriteFile(filepath.Join(dir, "endpoint"), []byte("http://127.0.0.1:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _, errs := command("trace", "--data", dir); status != 1 || !strings.Contains(errs, "is it still running?") {
		t.Errorf("a node that has gone: %d %s", status, errs)
	}
}
