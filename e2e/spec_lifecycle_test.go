package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// Init, Invoke, Reset and Shutdown from outside: sections 5, 9 and 11 of the
// specification.

const (
	anyID   = `[0-9a-f-]{36}`
	started = `^START RequestId: ` + anyID + ` Version: \$LATEST\n`
	ended   = `END RequestId: ` + anyID + `\nREPORT RequestId: ` + anyID + `\tDuration: \d+\.\d\d ms\tBilled Duration: \d+ ms\tMemory Size: 128 MB\tMax Memory Used: \d+ MB\t`
	first   = `Init Duration: \d+\.\d\d ms\t`
)

// afterInits is the beginning of a log whose invocation has waited for inits
// that left these reports.
func afterInits(reports ...string) string {
	text := "^"
	for _, r := range reports {
		text += `INIT_REPORT Init Duration: \d+\.\d\d ms\t` + r + `\n`
	}
	return text + started[1:]
}

func TestLifecycle(t *testing.T) {
	needLinux(t)
	t.Parallel()
	n := startJSON(t)
	t.Run("report", func(t *testing.T) { reports(t, n) })
	t.Run("init fails", func(t *testing.T) { initFails(t, n) })
	t.Run("init times out", func(t *testing.T) { initTimesOut(t, n) })
	t.Run("invoke fails", func(t *testing.T) { invokeFails(t, n) })
	t.Run("tail", func(t *testing.T) { timesOutInTail(t, n) })
	t.Run("order", func(t *testing.T) { initOrder(t, n) })
	t.Run("shutdown events", func(t *testing.T) { shutdownEvents(t, n) })
	t.Run("sizes", func(t *testing.T) { largeEvents(t, n) })
	n.end()
}

// startJSON is start with a live view that programs can read, which does not
// tell when firn is up.
func startJSON(t *testing.T) *node {
	t.Helper()
	n := launch(t, options{args: []string{"--network", "none", "--log-format", "json"}})
	eventually(t, "firn env", func() (bool, any) {
		text, err := exec.Command(program("firn"), "env", "--data", n.data).Output()
		n.out.Write(text)
		return err == nil, err
	})
	n.connect()
	return n
}

// end is stop for startJSON.
func (n *node) end() {
	n.t.Helper()
	n.signal(syscall.SIGINT)
	if err := n.wait(); err != nil {
		n.t.Errorf("firn ended with: %v", err)
	}
}

// reports: the lines of a cold and a warm invocation and of an error of the
// handler, byte for byte, and what is billed.
func reports(t *testing.T, n *node) {
	n.probe("r", probed{plan: plan{"bootstrap": {Init: []step{{Sleep: 20}}}}})
	cold := n.send("r", event{Steps: []step{{Print: "line\nand a half"}}})
	match(t, "cold log", started+`line\nand a half\n`+ended+first+`\n$`, cold.log)
	billed(t, cold.log)
	warm := n.send("r", event{})
	match(t, "warm log", started+ended+`\n$`, warm.log)
	billed(t, warm.log)
	failed := n.send("r", event{Quiet: true, Steps: []step{{Send: "POST " + invocation + "${id}/error\n\n{}"}}})
	match(t, "log of a handler's error", started+ended+`\n$`, failed.log)
	if failed.failure != "Unhandled" || failed.payload != "{}" {
		t.Errorf("the invoker gets %s %s", failed.failure, failed.payload)
	}
}

var figures = regexp.MustCompile(`\tDuration: ([\d.]+) ms\tBilled Duration: (\d+) ms\t.*MB\t(?:Init Duration: ([\d.]+) ms)?`)

// billed checks that the sum of Duration and Init Duration is billed, rounded
// up to the millisecond.
func billed(t *testing.T, log string) {
	t.Helper()
	m := figures.FindStringSubmatch(log)
	if m == nil {
		t.Errorf("no report in %q", log)
		return
	}
	var ms [3]float64
	for i, text := range []string{m[1], m[2], m[3] + "0"} {
		ms[i], _ = strconv.ParseFloat(text, 64)
	}
	// The figures are rounded to two places, the sum before that.
	if low, high := math.Ceil(ms[0]+ms[2]-0.01), math.Ceil(ms[0]+ms[2]+0.01); ms[1] < low || ms[1] > high {
		t.Errorf("billed %v for %v and %v", ms[1], ms[0], ms[2])
	}
}

// initFails: what is posted or done in both inits comes out of the second.
func initFails(t *testing.T, n *node) {
	one, zero := 1, 0
	post := "POST /2018-06-01/runtime/init/error\n"
	for _, test := range []struct {
		name    string
		init    []step
		payload string
		kind    string
	}{
		{"i-verbatim", []step{{Send: post + "Lambda-Runtime-Function-Error-Type: Runtime.ImportModuleError\n\n{ \"any\": \"form\" }"}, {Exit: &one}}, `{ "any": "form" }`, "Runtime.ImportModuleError"},
		{"i-no-type", []step{{Send: post + "\n{}"}, {Exit: &one}}, `{}`, "Runtime.Unknown"},
		{"i-odd-type", []step{{Send: post + "Lambda-Runtime-Function-Error-Type: no.Such\n\n{}"}, {Exit: &zero}}, `{}`, "Runtime.Unknown"},
		{"i-exit-1", []step{{Exit: &one}}, `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: <id> Error: Runtime exited with error: exit status 1"}`, "Runtime.ExitError"},
		{"i-exit-0", []step{{Exit: &zero}}, `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: <id> Error: Runtime exited without providing a reason"}`, "Runtime.ExitError"},
		{"i-signal", []step{{Kill: 15}}, `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: <id> Error: Runtime exited with error: signal: terminated"}`, "Runtime.ExitError"},
	} {
		n.probe(test.name, probed{plan: plan{"bootstrap": {Init: test.init}}})
		a := n.send(test.name, event{})
		if got := uuid.ReplaceAllString(a.payload, "<id>"); got != test.payload || a.failure != "Unhandled" {
			t.Errorf("%s: the invoker gets %s %s", test.name, a.failure, a.payload)
		}
		status := `Status: error\tError Type: ` + regexp.QuoteMeta(test.kind)
		match(t, test.name+": log", afterInits(`Phase: init\t`+status, `Phase: invoke\t`+status)+ended+status+`\n$`, a.log)
		n.initReports(test.name, "init error "+test.kind, "invoke error "+test.kind)
	}
	// The second init may succeed: its time is in Duration, there is no Init
	// Duration, and /tmp is as the first one left it.
	n.probe("i-once", probed{plan: plan{"bootstrap": {Once: true, Init: []step{{Name: "first", Show: "process"}, {Exit: &one}}}}})
	a := n.send("i-once", event{})
	match(t, "log", afterInits(`Phase: init\tStatus: error\tError Type: Runtime.ExitError`)+ended+`\n$`, a.log)
	if all := n.take("i-once"); len(of(all, "bootstrap", "first")) != 1 {
		t.Errorf("results: %+v", all)
	}
}

// initReports demands the reports of a function's inits, as phase, status and
// error type. They come a moment after the answer.
func (n *node) initReports(name string, want ...string) {
	n.t.Helper()
	eventually(n.t, "init reports of "+name, func() (bool, any) {
		var got []string
		for _, r := range n.records("platform.initReport", name) {
			got = append(got, strings.TrimSpace(r.str("phase")+" "+r.str("status")+" "+r.str("errorType")))
		}
		return slices.Equal(got, want), got
	})
}

// initTimesOut: Init has ten seconds, and begins again inside the invocation.
func initTimesOut(t *testing.T, n *node) {
	n.probe("slow", probed{timeout: 20, plan: plan{"bootstrap": {Once: true, Init: []step{{Spin: true}}}}})
	begun := time.Now()
	a := n.send("slow", event{})
	if took := time.Since(begun); took < 9*time.Second || took > 16*time.Second || a.failure != "" {
		t.Errorf("after %v the invoker gets %s %s", took, a.failure, a.payload)
	}
	match(t, "log", afterInits(`Phase: init\tStatus: timeout`)+ended+`\n$`, a.log)
	n.initReports("slow", "init timeout", "invoke success")
	// Both time out: the function's timeout bounds the second one.
	n.probe("slower", probed{timeout: 1, plan: plan{"bootstrap": {Init: []step{{Spin: true}}}}})
	a = n.send("slower", event{})
	match(t, "answer", `^\{"errorType":"Sandbox\.Timedout","errorMessage":"RequestId: `+anyID+` Error: Task timed out after 1\.00 seconds"\}$`, a.payload)
	match(t, "log", afterInits(`Phase: init\tStatus: timeout`, `Phase: invoke\tStatus: timeout`)+`END RequestId: `+anyID+`\nREPORT RequestId: `+anyID+`\tDuration: 1000\.00 ms\tBilled Duration: 1000 ms\t.*\tStatus: timeout\n$`, a.log)
}

// invokeFails: the ends of a runtime in an invocation, and the next one works.
func invokeFails(t *testing.T, n *node) {
	zero, nine := 0, 9
	n.probe("v", probed{timeout: 1, plan: plan{"bootstrap": {}}})
	n.send("v", event{})
	for _, test := range []struct {
		name          string
		event         event
		payload, tail string
	}{
		{"exit 0", event{Steps: []step{{Exit: &zero}}}, `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: <id> Error: Runtime exited without providing a reason"}`, `Status: error\tError Type: Runtime\.ExitError\n$`},
		{"exit 9", event{Steps: []step{{Exit: &nine}}}, `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: <id> Error: Runtime exited with error: exit status 9"}`, `Status: error\tError Type: Runtime\.ExitError\n$`},
		{"SIGKILL", event{Steps: []step{{Kill: 9}}}, `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: <id> Error: Runtime exited with error: signal: killed"}`, `Status: error\tError Type: Runtime\.ExitError\n$`},
		{"timeout", event{Steps: []step{{Spin: true}}}, `{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: <id> Error: Task timed out after 1.00 seconds"}`, `\tDuration: 1000\.00 ms\tBilled Duration: 1000 ms\t.*MB\tStatus: timeout\n$`},
		{"exit after the answer", event{After: []step{{Exit: &nine}}}, `"done"`, `Status: error\tError Type: Runtime\.ExitError\n$`},
		{"timeout after the answer", event{After: []step{{Spin: true}}}, `"done"`, `Status: timeout\n$`},
		{"half a response", event{Quiet: true, Steps: []step{{Raw: "POST " + invocation + "${id}/response HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf", Half: true}, {Spin: true}}},
			`{"errorType":"Runtime.TruncatedResponse","errorMessage":"RequestId: <id> Error: Response was truncated"}`, `Status: error\tError Type: Runtime\.TruncatedResponse\n$`},
	} {
		a := n.send("v", test.event)
		want := strings.ReplaceAll(test.payload, `"done"`, answerOf(test.event))
		if got := uuid.ReplaceAllString(a.payload, "<id>"); got != want || (a.failure == "") != (test.payload == `"done"`) {
			t.Errorf("%s: the invoker gets %s %s", test.name, a.failure, a.payload)
		}
		if test.name != "timeout after the answer" { // its report comes too late for the tail
			match(t, test.name+": log", test.tail, a.log)
		}
		a = n.send("v", event{})
		match(t, test.name+": log of the next", started+ended+`(`+first+`)?\n$`, a.log)
	}
	// What was written before a timeout is there after the reset, if the
	// environment is through with that and so takes the next invocation.
	attempt := 0
	eventually(t, "a reset environment with its /tmp", func() (bool, any) {
		attempt++
		name := fmt.Sprintf("kept-%d", attempt)
		n.probe(name, probed{timeout: 1, plan: plan{"bootstrap": {}}})
		n.send(name, event{Steps: []step{{Name: "before", Show: "process"}, {Spin: true}}})
		eventually(t, "the reset", func() (bool, any) {
			return slices.ContainsFunc(n.records("firn.phase", name), func(r record) bool { return r.str("name") == "reset" }), nil
		})
		return len(of(n.take(name), "bootstrap", "before")) == 1, nil
	})
}

// initOrder: extensions start together, the runtime when all have registered.
func initOrder(t *testing.T, n *node) {
	late := part{Init: []step{{Sleep: 300}}, Register: `{"events":["INVOKE"]}`}
	n.probe("order", probed{plan: plan{"a": late, "b": late, "c": late}})
	n.send("order", event{})
	eventually(t, "the report", func() (bool, any) { return len(n.records("platform.report", "order")) > 0, nil })
	var got []string
	var begun, launched time.Time
	for _, r := range n.records("firn.phase", "order") {
		if name := r.str("name"); name == "extension started" || name == "extension registered" || name == "runtime started" {
			got = append(got, strings.TrimPrefix(name, "extension "))
		}
		switch r.str("name") {
		case "extension started":
			begun = r.Time
		case "runtime started":
			launched = r.Time
		}
	}
	if want := "started started started registered registered registered runtime started"; strings.Join(got, " ") != want {
		t.Errorf("order: %v", got)
	}
	if took := launched.Sub(begun); took < 300*time.Millisecond || took > 700*time.Millisecond {
		t.Errorf("the runtime starts %v after the extensions, which take 300 ms each", took)
	}
}

// shutdownEvents: the reason and the deadline, as extensions get them.
func shutdownEvents(t *testing.T, n *node) {
	two := 2
	n.probe("events", probed{timeout: 1, plan: plan{"ext": {Register: `{"events":["SHUTDOWN"]}`}, "blind": {Register: `{"events":["INVOKE"]}`}}})
	for _, test := range []struct {
		reason string
		event  event
	}{{"timeout", event{Steps: []step{{Spin: true}}}}, {"failure", event{Steps: []step{{Exit: &two}}}}} {
		n.send("events", test.event)
		var line record
		eventually(t, "SHUTDOWN for "+test.reason, func() (bool, any) {
			for _, r := range n.records("extension", "events") {
				if strings.Contains(r.str("line"), test.reason) {
					line = r
					return true, nil
				}
			}
			return false, nil
		})
		match(t, "event", `^probe ext gets \{"eventType":"SHUTDOWN","deadlineMs":\d{13},"shutdownReason":"`+test.reason+`"\}$`, line.str("line"))
		var body struct{ DeadlineMs int64 }
		if err := json.Unmarshal([]byte(strings.TrimPrefix(line.str("line"), "probe ext gets ")), &body); err != nil {
			t.Fatal(err)
		}
		if left := time.UnixMilli(body.DeadlineMs).Sub(line.Time); left < time.Second || left > 2*time.Second {
			t.Errorf("%s: %v to the deadline", test.reason, left)
		}
	}
}

// answerOf is what a probe answers to an event without steps: the event.
func answerOf(e event) string {
	if len(e.Steps) > 0 {
		return `"done"`
	}
	raw, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

// timesOutInTail: an extension that works beyond the function's timeout.
func timesOutInTail(t *testing.T, n *node) {
	n.probe("t", probed{timeout: 1, plan: plan{"slow": {Once: true, Register: `{"events":["INVOKE","SHUTDOWN"]}`, On: map[string][]step{"INVOKE": {{Sleep: 1500}}}}}})
	a := n.send("t", event{Steps: []step{{Sleep: 10}}})
	if a.failure != "" || a.payload != `"done"` || a.took > 900*time.Millisecond {
		t.Errorf("after %v the invoker gets %s %s", a.took, a.failure, a.payload)
	}
	b := n.send("t", event{Steps: []step{{Sleep: 10}}})
	if b.failure != "" {
		t.Errorf("the next invoker gets %s", b.payload)
	}
	var report record
	eventually(t, "the report", func() (bool, any) {
		got := n.records("platform.report", "t")
		if len(got) > 0 {
			report = got[0]
		}
		return len(got) > 0, got
	})
	if report.str("status") != "timeout" {
		t.Errorf("report: %v", report)
	}
}

// largeEvents: the largest event and client context, in whole.
func largeEvents(t *testing.T, n *node) {
	n.probe("large", probed{plan: plan{"bootstrap": {}}})
	payload := []byte(`"` + strings.Repeat("é", 3_000_000) + `"`)
	if a := n.send("large", payload); a.payload != string(payload) {
		t.Errorf("an event of %d bytes comes back as %d: %.200s", len(payload), len(a.payload), a.payload)
	}
	custom := `{"custom":{"k":"` + strings.Repeat("v", 2660) + `é\t"}}`
	encoded := base64.StdEncoding.EncodeToString([]byte(custom))
	if len(encoded) > 3583 {
		t.Fatalf("the context has %d bytes", len(encoded))
	}
	raw, err := json.Marshal(event{Steps: []step{{Name: "ctx", Send: "GET " + invocation + "next"}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := n.client.Invoke(ctx, &lambda.InvokeInput{FunctionName: aws.String("large"), Payload: raw, ClientContext: &encoded, LogType: types.LogTypeTail}); err != nil {
		t.Fatal(err)
	}
	header := of(n.take("large"), "bootstrap", "ctx")[0].Header
	if got := header["Lambda-Runtime-Client-Context"]; got != custom {
		t.Errorf("the client context comes as %.80s", got)
	}
	if _, ok := header["Lambda-Runtime-Cognito-Identity"]; ok {
		t.Error("there is a Cognito identity")
	}
}

// TestShutdownBudgets measures the three tiers of section 5.6 at the end of firn.
func TestShutdownBudgets(t *testing.T) {
	needLinux(t)
	t.Parallel()
	hold := part{Register: `{"events":["SHUTDOWN"]}`, Deaf: true, On: map[string][]step{"SHUTDOWN": {{Spin: true}}}}
	internal := []step{{Send: named + "in\n\n{}"}, {Send: poll + mine, Conn: "parked", Park: true}}
	for _, test := range []struct {
		name    string
		plan    plan
		least   time.Duration
		most    time.Duration
		sigterm bool // a signal is sent
	}{
		{"none", plan{"bootstrap": {Deaf: true}}, 0, 300 * time.Millisecond, false},
		{"internal", plan{"bootstrap": {Deaf: true, Init: internal}}, 500 * time.Millisecond, 800 * time.Millisecond, true},
		{"internal that ends", plan{"bootstrap": {Init: internal, Term: []step{{Print: "terminated\n"}}}}, 0, 300 * time.Millisecond, true},
		{"external that holds", plan{"ext": hold}, 2 * time.Second, 2300 * time.Millisecond, true},
		{"external and deaf runtime", plan{"ext": {Register: `{"events":["SHUTDOWN"]}`}, "bootstrap": {Deaf: true}}, 300 * time.Millisecond, 600 * time.Millisecond, true},
		{"external without SHUTDOWN", plan{"ext": {Register: `{"events":["INVOKE"]}`, Deaf: true}}, 0, 300 * time.Millisecond, true},
		{"external, no events", plan{"ext": {Register: `{}`, Deaf: true}, "bootstrap": {Deaf: true}}, 300 * time.Millisecond, 600 * time.Millisecond, true},
		{"both end", plan{"ext": {Register: `{"events":["SHUTDOWN"]}`}}, 0, 300 * time.Millisecond, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			n := startJSON(t)
			n.probe("f", probed{plan: test.plan})
			n.send("f", event{})
			n.end()
			var begin, end time.Time
			sigterm := false
			for _, r := range n.records("firn.phase", "f") {
				switch r.str("name") {
				case "shutdown":
					begin = r.Time
					if r.str("detail") != "spindown" {
						t.Errorf("shutdown for %s", r.str("detail"))
					}
				case "reset":
					end = r.Time
				case "sigterm":
					sigterm = true
				}
			}
			if took := end.Sub(begin); took < test.least || took > test.most {
				t.Errorf("the shutdown takes %v, not %v to %v", took, test.least, test.most)
			}
			if sigterm != test.sigterm {
				t.Errorf("SIGTERM sent: %v", sigterm)
			}
			if strings.Contains(n.out.String(), "probe bootstrap:") {
				t.Error("the runtime sees its connection break before it dies")
			}
		})
	}
}

// record is one line of the live view as JSON.
type record struct {
	Time     time.Time
	Type     string
	Function string
	Record   map[string]any
}

func (r record) str(key string) string {
	s, _ := r.Record[key].(string)
	return s
}

// records finds the records of a type and function in firn's output.
func (n *node) records(kind, name string) []record {
	var found []record
	for line := range bytes.Lines([]byte(n.out.String())) {
		var r record
		if json.Unmarshal(line, &r) == nil && r.Type == kind && r.Function == name {
			found = append(found, r)
		}
	}
	return found
}
