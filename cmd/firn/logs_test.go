package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/google/go-cmp/cmp"

	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/keyring"
	"github.com/firn-run/firn/internal/logs"
	"github.com/firn-run/firn/internal/logstore"
	"github.com/firn-run/firn/internal/server"
	"github.com/firn-run/firn/internal/state"
)

// logsNode is a data directory whose node serves logs, with signatures.
type logsNode struct {
	t     *testing.T
	dir   string
	store *logstore.Store
}

func newLogsNode(t *testing.T) *logsNode {
	t.Helper()
	dir := t.TempDir()
	check := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	data, err := state.OpenDir(dir)
	check(err)
	records, err := state.Open(t.Context(), state.Config{Dir: data})
	check(err)
	keys, err := keyring.Open(keyring.Config{Path: data.KeyFile(), Account: server.DefaultAccount})
	check(err)
	store, err := logstore.Open(logstore.Config{Dir: filepath.Join(dir, "logs")})
	check(err)
	auth := awswire.NewAuthenticator(awswire.AuthConfig{Credentials: keys, Region: server.DefaultRegion, Service: "logs"})
	mux := awswire.NewService(awswire.Config{Logger: slog.New(slog.DiscardHandler), Auth: auth}, awswire.CloudWatchLogs())
	logs.New(logs.Config{Store: store, State: records, Region: server.DefaultRegion, Account: server.DefaultAccount}).Mount(mux)
	api := httptest.NewServer(mux)
	t.Cleanup(func() {
		api.Close()
		if err := errors.Join(store.Close(), records.Close(), data.Close()); err != nil {
			t.Error(err)
		}
	})
	check(os.WriteFile(filepath.Join(dir, "endpoint"), []byte(api.URL+"\n"), 0o600))
	return &logsNode{t: t, dir: dir, store: store}
}

// log writes as a function does, so long ago.
func (n *logsNode) log(function string, ago time.Duration, messages ...string) {
	n.t.Helper()
	at := time.Now().Add(-ago).UnixMilli()
	for _, m := range messages {
		batch := logstore.Batch{Group: groupOf(function), Stream: "2026/01/01/[$LATEST]abc", Events: []logstore.Event{{Timestamp: at, Message: []byte(m)}}}
		if err := n.store.Append(batch, logstore.Mode{Create: true}); err != nil {
			n.t.Fatal(err)
		}
		at++
	}
}

// firn runs the command and returns its status and what it printed.
func (n *logsNode) firn(args ...string) (code int, out, errors string) {
	n.t.Helper()
	var stdout, stderr bytes.Buffer
	code = run(n.t.Context(), append([]string{"logs", "--data", n.dir}, args...), &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

// messages cuts the time off lines.
func messages(out string) []string {
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	for i, line := range lines {
		if len(line) > 24 {
			lines[i] = line[24:]
		}
	}
	return lines
}

func TestLogs(t *testing.T) {
	n := newLogsNode(t)
	n.log("one", 30*time.Minute, "old")
	n.log("one", 3*time.Minute, "START RequestId: x", "ERROR here\n", `{"level":"error"}`)
	n.log("two", 2*time.Minute, "of two")
	n.log("one", time.Minute, "two\nlines")
	n.log("/other/group", time.Minute, "elsewhere")
	tests := []struct {
		args []string
		want []string
	}{
		{[]string{"one"}, []string{"START RequestId: x", "ERROR here", `{"level":"error"}`, "two", "lines"}},
		{[]string{}, []string{"one START RequestId: x", "one ERROR here", `one {"level":"error"}`, "two of two", "one two", "lines"}},
		{[]string{"one", "--since", "1h", "--filter", "-%^START% -two"}, []string{"old", "ERROR here", `{"level":"error"}`}},
		{[]string{"one", "--filter", `{ $.level = "error" }`}, []string{`{"level":"error"}`}},
		{[]string{"/other/group"}, []string{"elsewhere"}},
		{[]string{"/aws/lambda/two"}, []string{"of two"}},
		{[]string{"one", "--since", time.Now().Add(-90 * time.Second).Format(time.RFC3339)}, []string{"two", "lines"}},
		{[]string{"one", "--since", "0s"}, []string{""}},
	}
	for _, test := range tests {
		code, out, problems := n.firn(test.args...)
		if diff := cmp.Diff(test.want, messages(out)); code != 0 || problems != "" || diff != "" {
			t.Errorf("%q: status %d, %s%s", test.args, code, problems, diff)
		}
	}

	code, out, _ := n.firn("one", "--output", "json", "--filter", "lines")
	var event map[string]any
	if err := json.Unmarshal([]byte(out), &event); code != 0 || err != nil {
		t.Fatalf("status %d: %s", code, out)
	}
	if event["message"] != "two\nlines" || event["logGroup"] != "/aws/lambda/one" || event["logStream"] != "2026/01/01/[$LATEST]abc" || len(event["eventId"].(string)) != 56 {
		t.Errorf("%v", event)
	}
}

func TestLogsErrors(t *testing.T) {
	n := newLogsNode(t)
	refuse := func(want string, args ...string) {
		t.Helper()
		if code, _, problems := n.firn(args...); code != 1 || !strings.Contains(problems, want) {
			t.Errorf("%q: status %d, %s", args, code, problems)
		}
	}
	refuse("hello has no log; a function has one from its first invocation on, and none has been invoked yet", "hello")
	n.log("one", 0, "x")
	n.log("two", 0, "x")
	refuse("hello has no log; a function has one from its first invocation on. There are logs of: one, two", "hello")
	refuse("on has no log", "on") // a prefix is not a name
	refuse("Invalid character(s) in term 'a-b' (InvalidParameterException)", "one", "--filter", "a-b")
	refuse(`--since "soon" is neither a period`, "--since", "soon")
	refuse(`--since "-5m" is neither`, "--since", "-5m")
	refuse(`unknown output "yaml"`, "--output", "yaml")
	refuse("accepts at most 1 arg", "one", "two")
	refuse("Credential should be scoped to a valid region. (InvalidSignatureException)", "--account", "999999999999", "--region", "xx-yy-1")

	if err := os.WriteFile(filepath.Join(n.dir, "endpoint"), []byte("http://127.0.0.1:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refuse("firn does not answer at http://127.0.0.1:1; is it still running?", "one")
	if err := os.Remove(filepath.Join(n.dir, "endpoint")); err != nil {
		t.Fatal(err)
	}
	refuse("no firn is running on", "one")
}

// screen is what a command has printed so far.
type screen struct {
	mu    sync.Mutex
	text  strings.Builder
	wrote chan struct{}
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.wrote <- struct{}{}:
	default:
	}
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// shows waits for a text.
func (s *screen) shows(t *testing.T, text string) {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for !strings.Contains(s.String(), text) {
		select {
		case <-s.wrote:
		case <-timeout:
			t.Fatalf("%q does not come:\n%s", text, s.String())
		}
	}
}

func TestLogsFollow(t *testing.T) {
	n := newLogsNode(t)
	n.log("one", time.Minute, "first")
	follow := func(args ...string) (out, problems *screen, stop func()) {
		out, problems = &screen{wrote: make(chan struct{}, 1)}, &screen{wrote: make(chan struct{}, 1)}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan int, 1)
		go func() { ended <- run(ctx, append([]string{"logs", "--data", n.dir, "-f"}, args...), out, problems) }()
		return out, problems, func() {
			t.Helper()
			cancel()
			if code := <-ended; code != 0 {
				t.Errorf("status %d: %s", code, problems)
			}
		}
	}
	all, _, stopAll := follow()
	late, waiting, stopLate := follow("late")
	all.shows(t, "one first")
	waiting.shows(t, "late has no log; a function has one from its first invocation on. There are logs of: one. Waiting for it.")
	n.log("one", 0, "second")
	all.shows(t, "second")
	n.log("late", 0, "third") // a group that was not there
	n.log("one", 5*time.Second, "belated")
	all.shows(t, "third")
	all.shows(t, "belated")
	late.shows(t, "third")
	stopAll()
	stopLate()
	for _, message := range []string{"first", "second", "third", "belated"} {
		if count := strings.Count(all.String(), message); count != 1 {
			t.Errorf("%s is printed %d times:\n%s", message, count, all)
		}
	}
	if strings.Contains(late.String(), "second") {
		t.Error("the log of another function is shown")
	}
}

func TestLogColours(t *testing.T) {
	var out bytes.Buffer
	text := &logText{out: &out, colour: true, named: true}
	show := func(message string) string {
		t.Helper()
		out.Reset()
		at := time.UnixMilli(0).UnixMilli()
		if err := text.print(logEvent{FilteredLogEvent: types.FilteredLogEvent{Message: &message, Timestamp: &at}, group: "/aws/lambda/f"}); err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(out.String(), fmt.Sprintf("\x1b[%dmf\x1b[0m ", 31+hash("f")%6))
		return rest
	}
	for message, want := range map[string]string{
		"plain":                                  "plain" + reset + "\n",
		"START RequestId: a":                     dim + "START RequestId: a" + reset + "\n",
		"REPORT RequestId: a\tStatus: timeout":   red + "REPORT RequestId: a\tStatus: timeout" + reset + "\n",
		"\x1b[31mred\x1b[0m\tok":                 "\x1b[31mred\x1b[0m\tok" + reset + "\n",
		"\x1b[2J\x1b]0;title\x07\rx":             `\x1b[2J\x1b]0;title\x07\x0dx` + reset + "\n",
		"\x1b[" + strings.Repeat("1;", 20) + "m": `\x1b[` + strings.Repeat("1;", 20) + "m" + reset + "\n",
		"ünï\u009b31m":                           `ünï\x9b31m` + reset + "\n",
	} {
		if got := show(message); got != want {
			t.Errorf("%q: %q, want %q", message, got, want)
		}
	}
}

func TestParseSince(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"90s": now.Add(-90 * time.Second), "1.5d": now.Add(-36 * time.Hour), "0": now, "2026-01-01T00:00:00+01:00": time.Date(2025, 12, 31, 23, 0, 0, 0, time.UTC),
	} {
		if got, err := parseSince(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%s is %s, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "d", "-1d", "1w", "yesterday"} {
		if _, err := parseSince(bad, now); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
