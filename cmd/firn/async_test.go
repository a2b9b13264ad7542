package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/async"
	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/keyring"
	"github.com/firn-run/firn/internal/server"
	"github.com/firn-run/firn/internal/state"
)

// asyncNode is a data directory of a running node whose answers are given, by
// method and path with query. It verifies signatures as a node does.
func asyncNode(t *testing.T, answers map[string]any) (dataDir string) {
	dataDir = t.TempDir()
	if err := os.MkdirAll(filepath.Dir(state.KeyFile(dataDir)), 0o700); err != nil {
		t.Fatal(err)
	}
	keys, err := keyring.Open(keyring.Config{Path: state.KeyFile(dataDir), Account: server.DefaultAccount})
	if err != nil {
		t.Fatal(err)
	}
	root := firn.Identity{ARN: "arn:aws:iam::" + server.DefaultAccount + ":root", Account: server.DefaultAccount, Root: true}
	auth := awswire.NewAuthenticator(awswire.AuthConfig{Credentials: keys, Region: server.DefaultRegion, Service: "lambda", Now: time.Now})
	node := httptest.NewServer(awswire.Authenticated(awswire.Config{Auth: auth, Anonymous: root, Now: time.Now},
		func(w http.ResponseWriter, r *awswire.Request) error {
			body, ok := answers[r.HTTP.Method+" "+r.HTTP.URL.RequestURI()]
			if !ok {
				w.WriteHeader(http.StatusNotFound)
				body = async.Problem{Message: "not expected: " + r.HTTP.Method + " " + r.HTTP.URL.RequestURI()}
			}
			return json.NewEncoder(w).Encode(body)
		}))
	t.Cleanup(node.Close)
	if err := os.WriteFile(filepath.Join(dataDir, "endpoint"), []byte(node.URL+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dataDir
}

func TestAsync(t *testing.T) {
	at := time.Now().Truncate(time.Second)
	event := async.Waiting{
		RequestID: "8ec66a5e-0b1c-4b68-a1e5-7bd60a3b0d3d", Function: "arn:aws:lambda:us-east-1:123456789012:function:hello:$LATEST",
		Accepted: at, Next: at.Add(time.Minute), Attempts: 1, Retries: 2, Why: "retry 1 of 2 after error: Boom: it\nbroke",
	}
	running := event
	running.RequestID, running.Running, running.Why = "aaaaaaaa-0b1c-4b68-a1e5-7bd60a3b0d3d", true, "running"
	full := async.Listing{
		Functions: []async.Backlog{{Function: event.Function, Events: 3, Running: 1}},
		Events:    []async.Waiting{running, event}, Total: 3,
	}
	data := "--data=" + asyncNode(t, map[string]any{
		"GET /.firn/async?limit=25":                full,
		"GET /.firn/async?function=other&limit=2":  async.Listing{},
		"GET /.firn/async/8ec6":                    async.Detail{Waiting: event, Expires: at.Add(6 * time.Hour), Payload: json.RawMessage(`{"n":1}`)},
		"POST /.firn/async/purge?function=hello":   async.Changed{Events: 3},
		"POST /.firn/async/redrive?function=hello": async.Changed{Events: 2},
		"POST /.firn/async/redrive?requestId=8ec6": async.Changed{Events: 1},
		"POST /.firn/async/redrive?all=true":       async.Changed{Events: 7},
	})
	clock := at.Local().Format("15:04:05")
	next := at.Add(time.Minute).Local().Format("15:04:05")
	list := "FUNCTION  EVENTS  RUNNING  HELD UNTIL\nhello     3       1        -\n\n" +
		"SINCE     FUNCTION  REQUEST ID                            NEXT      WHY\n" +
		clock + "  hello     aaaaaaaa-0b1c-4b68-a1e5-7bd60a3b0d3d  -         running\n" +
		clock + "  hello     8ec66a5e-0b1c-4b68-a1e5-7bd60a3b0d3d  " + next + "  retry 1 of 2 after error: Boom: it�broke\n"
	for _, c := range []struct {
		args      []string
		status    int
		out, errs string // errs is a part
	}{
		{[]string{}, 0, list, "and 1 more"},
		{[]string{"list"}, 0, list, "and 1 more"},
		{[]string{"--function", "other", "--limit=2"}, 0, "", "no asynchronous invocation waits"},
		{[]string{"purge", "--function", "hello"}, 0, "3 events are forgotten\n", ""},
		{[]string{"redrive", "--function", "hello"}, 0, "2 events are attempted now\n", ""},
		{[]string{"redrive", "8ec6"}, 0, "1 events are attempted now\n", ""},
		{[]string{"redrive", "--all"}, 0, "7 events are attempted now\n", ""},
		{[]string{"redrive"}, 1, "", "give one of"},
		{[]string{"redrive", "x", "--all"}, 1, "", "give one of"},
		{[]string{"purge"}, 1, "", "--function NAME"},
		{[]string{"show", "../x"}, 1, "", "is not a request id"},
		{[]string{"show", "none"}, 1, "", "not expected"},
		{[]string{"-o", "yaml"}, 1, "", "choose text or json"},
	} {
		status, out, errs := command(append([]string{"async", data}, c.args...)...)
		if status != c.status || out != c.out || !strings.Contains(errs, c.errs) {
			t.Errorf("%v: %d\n%s%s, want\n%s", c.args, status, out, errs, c.out)
		}
	}
	status, out, errs := command("async", "show", "8ec6", data)
	for _, part := range []string{event.RequestID, "1 made, 2 retries allowed", "retry 1 of 2", `{"n":1}`} {
		if status != 0 || !strings.Contains(out, part) {
			t.Errorf("show: %d %s%s lacks %s", status, out, errs, part)
		}
	}
	var listing async.Listing
	if _, out, _ := command("async", data, "-o", "json"); json.Unmarshal([]byte(out), &listing) != nil || len(listing.Events) != 2 {
		t.Errorf("as JSON: %s", out)
	}
}

func TestEndpointFlags(t *testing.T) {
	got := defaultEndpoints(func(name string) string {
		return map[string]string{"AWS_ENDPOINT_URL_SQS": "http://q", "AWS_ENDPOINT_URL_LAMBDA": "http://l", "AWS_ENDPOINT_URL_EVENTBRIDGE": "https://e"}[name]
	})
	if len(got) != 2 || got["sqs"] != "http://q" || got["events"] != "https://e" || checkEndpoints(got) != nil {
		t.Errorf("endpoints are %v", got)
	}
	for _, bad := range []map[string]string{{"kinesis": "http://k"}, {"sqs": "localhost:9324"}, {"s3": "ftp://x"}, {"sns": "http://"}} {
		if checkEndpoints(bad) == nil {
			t.Errorf("%v was taken", bad)
		}
	}
}
