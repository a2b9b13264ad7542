package e2e

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// The Extensions API as programs inside an environment meet it: section 2 of
// the specification.

func extensionTransition(from, to, subject string) string {
	return refusal(403, "Extension.InvalidExtensionState",
		"State transition from "+from+" to "+to+" failed for extension "+subject+". Error: State transition is not allowed")
}

const (
	register = "POST /2020-01-01/extension/register\n"
	named    = register + "Lambda-Extension-Name: "
	poll     = "GET /2020-01-01/extension/event/next\n"
	initErr  = "POST /2020-01-01/extension/init/error\n"
	exitErr  = "POST /2020-01-01/extension/exit/error\n"
	mine     = "Lambda-Extension-Identifier: ${ext}\n"
	ofNobody = "Lambda-Extension-Identifier: " + nobody + "\n"
	why      = "Lambda-Extension-Function-Error-Type: Extension.Mine\n"
)

func registered(account string) string {
	return `200 {"functionName":"f","functionVersion":"$LATEST","handler":"plain"` + account + `}`
}

// registrations is what the runtime's process gets for register, before its
// first next. The function has one external extension, logs.
func registrations() []row {
	noID := refusal(403, "Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header")
	badID := refusal(403, "Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier")
	unknown := refusal(403, "Extension.UnknownExtensionIdentifier", "Unknown extension <id>")
	format := func(message string) string { return refusal(403, "InvalidRequestFormat", message) }
	return []row{
		{"no name", step{Send: register + "\n{\"events\":[]}"}, refusal(403, "Extension.InvalidExtensionName", "Empty extension name")},
		{"empty name", step{Send: named + "\n\n{\"events\":[]}"}, refusal(403, "Extension.InvalidExtensionName", "Empty extension name")},
		{"no body", step{Send: named + "a\n\n"}, format("unexpected end of JSON input")},
		{"broken", step{Send: named + "a\n\n{\"events\":"}, format("unexpected end of JSON input")},
		{"list", step{Send: named + "a\n\n[]"}, "*"},
		{"events of another kind", step{Send: named + "a\n\n{\"events\":\"INVOKE\"}"}, "*"},
		{"configurationKeys", step{Send: named + "a\n\n{\"events\":[],\"configurationKeys\":[\"x\"]}"}, format("configurationKeys are deprecated; use environment variables instead")},
		{"unknown event", step{Send: named + "a\n\n{\"events\":[\"INVOKE\",\"INIT\"]}"}, refusal(403, "Extension.InvalidEventType", "INIT: ErrorInvalidEventType")},
		{"lower-case event", step{Send: named + "a\n\n{\"events\":[\"invoke\"]}"}, refusal(403, "Extension.InvalidEventType", "invoke: ErrorInvalidEventType")},
		{"internal with SHUTDOWN", step{Send: named + "a\n\n{\"events\":[\"INVOKE\",\"SHUTDOWN\"]}"}, refusal(403, "Extension.InvalidEventType", "SHUTDOWN: ShutdownEventNotSupportedForInternalExtension")},
		{"again, with an external's name", step{Send: named + "logs\n\n{\"events\":[]}"}, "*"},
		{"events missing", step{Send: named + "in1\n\n{}"}, registered("")},
		{"events null", step{Send: named + "in2\n\n{\"events\":null}"}, registered("")},
		{"events empty, lower-case header", step{Send: register + "lambda-extension-name: in3\n\n{\"events\":[]}"}, registered("")},
		{"events twice, content type of curl", step{Send: named + "in4\nContent-Type: application/x-www-form-urlencoded\n\n{\"events\":[\"INVOKE\",\"INVOKE\"]}"}, registered("")},
		{"accountId", step{Send: named + "in5\nLambda-Extension-Accept-Feature: other, accountId\n\n{\"events\":[]}"}, registered(`,"accountId":"123456789012"`)},
		{"other feature", step{Send: named + "in6\nLambda-Extension-Accept-Feature: other\n\n{\"events\":[]}"}, registered("")},
		{"name again", step{Send: named + "in1\n\n{\"events\":[]}"}, refusal(403, "Extension.InvalidExtensionState", "Extension with this name already registered")},
		{"next without id", step{Send: poll}, noID},
		{"next with a bad id", step{Send: poll + "Lambda-Extension-Identifier: x"}, badID},
		{"next with an unknown id", step{Send: poll + ofNobody}, unknown},
		{"init/error without id", step{Send: initErr + why}, noID},
		{"init/error without type", step{Send: initErr + mine + "\n{}"}, refusal(403, "Extension.MissingHeader", "Lambda-Extension-Function-Error-Type not found")},
		{"init/error with an unknown id", step{Send: initErr + ofNobody + why + "\n{}"}, unknown},
		{"exit/error without id", step{Send: exitErr + why}, noID},
		{"exit/error without type", step{Send: exitErr + mine + "\n{}"}, refusal(403, "Extension.MissingHeader", "Lambda-Extension-Function-Error-Type not found")},
		{"exit/error with an unknown id", step{Send: exitErr + ofNobody + why + "\n{}"}, unknown},
		{"7", step{Send: named + "in7\n\n{}"}, registered("")},
		{"8", step{Send: named + "in8\n\n{}"}, registered("")},
		{"9", step{Send: named + "in9\n\n{}"}, registered("")},
		{"11th", step{Send: named + "in10\n\n{}"}, refusal(403, "Extension.TooManyExtensions", "Extension limit (10) reached")},
	}
}

func TestExtensionsAPI(t *testing.T) {
	needLinux(t)
	t.Parallel()
	n := start(t, options{args: []string{"--network", "none"}})
	t.Run("register", func(t *testing.T) { registers(t, n) })
	t.Run("states", func(t *testing.T) { extensionStates(t, n) })
	t.Run("events", func(t *testing.T) { extensionEvents(t, n) })
	t.Run("launch", func(t *testing.T) { launches(t, n) })
	t.Run("ends", func(t *testing.T) { extensionEnds(t, n) })
	n.stop()
}

// registers: every internal extension is awaited in Init, so that each is made
// to poll, on a connection of its own.
func registers(t *testing.T, n *node) {
	rows := registrations()
	var do []step
	for _, s := range steps(rows) {
		do = append(do, s)
		if strings.HasPrefix(rowWant(rows, s.Name), "200") {
			do = append(do, step{Send: poll + mine, Conn: "parked " + s.Name, Park: true})
		}
	}
	n.probe("f", probed{timeout: 2, plan: plan{"bootstrap": {Init: do}, "logs": {Register: `{"events":["INVOKE"]}`}}})
	all := n.take("f")
	for i := range rows {
		if rows[i].want == "*" { // the words are the decoder's, or depend on the state
			got := of(all, "bootstrap", rows[i].name)[0]
			match(t, rows[i].name, `^403 \{"errorMessage":"(json: cannot unmarshal|State transition from (Registered|Ready) to Registered failed for extension logs).*","errorType":"(InvalidRequestFormat|Extension\.InvalidExtensionState)"\}$`, got.brief())
			rows[i].want = uuid.ReplaceAllString(got.brief(), "<id>")
		}
	}
	check(t, all, "bootstrap", rows)
	got := of(all, "bootstrap", "events missing")[0]
	match(t, "identifier", "^"+uuid.String()+"$", got.Header["Lambda-Extension-Identifier"])
}

func rowWant(rows []row, name string) string {
	for _, r := range rows {
		if r.name == name {
			return r.want
		}
	}
	return ""
}

// extensionStates is the table of section 6, walked by one extension.
func extensionStates(t *testing.T, n *node) {
	first := []row{
		{"early next", step{Send: poll + ofNobody}, refusal(403, "Extension.UnknownExtensionIdentifier", "Unknown extension <id>")},
		{"register", step{Send: named + "walker\n\n{\"events\":[\"INVOKE\"]}"}, `200 {"functionName":"states","functionVersion":"$LATEST","handler":"plain"}`},
		{"register again", step{Send: named + "walker\n\n{\"events\":[\"INVOKE\"]}"}, extensionTransition("Registered", "Registered", "walker")},
	}
	running := []row{
		{"init/error, running", step{Send: initErr + mine + why + "\n{}"}, extensionTransition("Running", "InitError", "<id>")},
		{"register, running", step{Send: named + "walker\n\n{\"events\":[]}"}, extensionTransition("Running", "Registered", "walker")},
		{"exit/error", step{Send: exitErr + mine + why + "\n{\"errorMessage\":\"m\"}"}, "202 " + okBody},
		{"exit/error again", step{Send: exitErr + mine + why + "\n{}"}, "202 " + okBody},
		{"init/error after it", step{Send: initErr + mine + why + "\n{}"}, extensionTransition("ExitError", "InitError", "<id>")},
		{"next after it", step{Send: poll + mine}, extensionTransition("ExitError", "Ready", "<id>")},
	}
	zero := 0
	n.probe("states", probed{plan: plan{"walker": {Once: true, Register: `{}`, Init: steps(first), On: map[string][]step{
		"INVOKE": append(steps(running), step{Exit: &zero}),
	}}}})
	a := n.send("states", event{Steps: []step{{Sleep: 500}}})
	if want := `{"errorType":"Extension.ExitError","errorMessage":"RequestId: <id> Error: exit code 0"}`; uuid.ReplaceAllString(a.payload, "<id>") != want {
		t.Errorf("the invoker gets %s", a.payload)
	}
	match(t, "log", `Status: error\tError Type: Extension\.ExitError\n`, a.log)
	all := n.takeOf("states", "walker", "next after it")
	check(t, all, "walker", append(first[:2:2], running...))

	failing := []row{
		{"init/error", step{Send: initErr + mine + why + "\nno JSON"}, "202 " + okBody},
		{"init/error again", step{Send: initErr + mine + why}, "202 " + okBody},
		{"exit/error after init/error", step{Send: exitErr + mine + why}, extensionTransition("InitError", "Exited", "<id>")},
		{"next after init/error", step{Send: poll + mine}, extensionTransition("InitError", "Ready", "<id>")},
	}
	n.probe("init-error", probed{plan: plan{"walker": {Register: `{}`, Once: true, Init: append(steps([]row{{"register", step{Send: named + "walker\n\n{}"}, ""}}), append(steps(failing), step{Exit: &zero})...)}}})
	check(t, n.take("init-error"), "walker", failing)
}

// extensionEvents compares the bodies and headers of INVOKE.
func extensionEvents(t *testing.T, n *node) {
	n.probe("events", probed{plan: plan{"ext": {Register: `{"events":["INVOKE","SHUTDOWN"]}`}, "quiet": {Register: `{"events":["SHUTDOWN"]}`}}})
	n.send("events", event{Steps: []step{{Name: "x", Send: "GET " + invocation + "next"}}})
	all := n.take("events")
	got := of(all, "ext", "event")
	if len(got) == 0 || len(of(all, "quiet", "event")) != 0 {
		t.Fatalf("events: %+v", all)
	}
	match(t, "event", `^\{"eventType":"INVOKE","deadlineMs":\d{13},"requestId":"[0-9a-f-]{36}","invokedFunctionArn":"arn:aws:lambda:us-east-1:\d{12}:function:events","tracing":\{"type":"X-Amzn-Trace-Id","value":"Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=[01];Lineage=1:[0-9a-f]{8}:0"\}\}\n?$`, got[0].Body)
	match(t, "event's identifier", "^"+uuid.String()+"$", got[0].Header["Lambda-Extension-Event-Identifier"])
	match(t, "extension's identifier", "^"+uuid.String()+"$", got[0].Header["Lambda-Extension-Identifier"])
	var ev struct {
		DeadlineMs int64
		RequestID  string
		Tracing    struct{ Value string }
	}
	if err := json.Unmarshal([]byte(got[0].Body), &ev); err != nil {
		t.Fatal(err)
	}
	next := of(all, "bootstrap", "x")[0].Header
	for name, want := range map[string]string{
		"Lambda-Runtime-Deadline-Ms": fmt.Sprint(ev.DeadlineMs), "Lambda-Runtime-Aws-Request-Id": ev.RequestID, "Lambda-Runtime-Trace-Id": ev.Tracing.Value,
	} {
		if next[name] != want {
			t.Errorf("%s: the runtime has %s, the extension %s", name, next[name], want)
		}
	}
}

// launches: what may lie in /opt/extensions.
func launches(t *testing.T, n *node) {
	ext := part{Register: `{"events":["INVOKE"]}`}
	n.probe("dirs", probed{plan: plan{"good": ext}, layerFiles: map[string]file{
		"extensions/lib/helper": {text: "#!/bin/sh\nexit 9\n"}, "extensions/good.d/x": {text: "no program", mode: 0o644},
	}})
	n.take("dirs")
	n.probe("not-executable", probed{layerFiles: map[string]file{"extensions/plain": {text: "#!/bin/sh\nexit 0\n", mode: 0o644}}})
	a := n.send("not-executable", event{Take: true})
	match(t, "answer", `^\{"errorType":"Extension\.LaunchError","errorMessage":"RequestId: [0-9a-f-]+ Error: fork/exec /opt/extensions/plain: permission denied"\}$`, a.payload)
	match(t, "log", `Status: error\tError Type: Extension\.LaunchError\n`, a.log)

	// A script without an interpreter line is run by the shell.
	n.probe("no-shebang", probed{layerFiles: map[string]file{"extensions/plain": {text: "echo shell runs $0\nexit 3\n"}}})
	a = n.send("no-shebang", event{Take: true})
	match(t, "answer", `^\{"errorType":"Extension\.Crash","errorMessage":"RequestId: [0-9a-f-]+ Error: exit status 3"\}$`, a.payload)
	n.probe("no-shebang-runtime", probed{files: map[string]file{"bootstrap": {text: "exit 3\n"}}})
	a = n.send("no-shebang-runtime", event{})
	match(t, "answer", `^\{"errorType":"Runtime\.InvalidEntrypoint","errorMessage":"RequestId: [0-9a-f-]+ Error: fork/exec /var/task/bootstrap: exec format error"\}$`, a.payload)

	many := map[string]file{}
	for i := range 11 {
		many[fmt.Sprintf("extensions/e%d", i)] = file{text: "#!/bin/sh\nexit 0\n"}
	}
	n.probe("eleven", probed{layerFiles: many})
	a = n.send("eleven", event{})
	match(t, "answer", `^\{"errorType":"Extension\.LaunchError","errorMessage":"RequestId: [0-9a-f-]+ Error: Extension limit \(10\) reached"\}$`, a.payload)
}

// extensionEnds: an extension that ends, in each phase, with any code.
func extensionEnds(t *testing.T, n *node) {
	zero, seven := 0, 7
	invoke := part{Register: `{"events":["INVOKE"]}`}
	for _, test := range []struct {
		name, message string
		part          part
	}{
		{"init-0", "exit code 0", part{Init: []step{{Exit: &zero}}}},
		{"init-7", "exit status 7", part{Init: []step{{Exit: &seven}}}},
		{"registered-7", "exit status 7", part{Init: []step{{Send: named + "ext\n\n{}"}, {Exit: &seven}}}},
		{"invoke-0", "exit code 0", part{Register: invoke.Register, On: map[string][]step{"INVOKE": {{Exit: &zero}}}}},
		{"invoke-kill", "signal: killed", part{Register: invoke.Register, On: map[string][]step{"INVOKE": {{Kill: 9}}}}},
	} {
		n.probe(test.name, probed{plan: plan{"ext": test.part}})
		a := n.send(test.name, event{Steps: []step{{Sleep: 1000}}})
		want := `{"errorType":"Extension.Crash","errorMessage":"RequestId: <id> Error: ` + test.message + `"}`
		if got := uuid.ReplaceAllString(a.payload, "<id>"); got != want || a.failure != "Unhandled" {
			t.Errorf("%s: the invoker gets %s %s", test.name, a.payload, a.failure)
		}
		match(t, test.name+": log", `\tStatus: error\tError Type: Extension\.Crash\n$`, a.log)
	}
	// After the answer: the caller keeps it, the report tells.
	n.probe("tail-0", probed{plan: plan{"ext": {Register: invoke.Register, On: map[string][]step{"INVOKE": {{Sleep: 50}, {Exit: &zero}}}}}})
	a := n.send("tail-0", event{})
	if a.failure != "" {
		t.Errorf("an extension that ends after the answer takes it back: %s", a.payload)
	}
	report := regexp.MustCompile(`tail-0 .*REPORT .*error \(Extension\.Crash\)`) // it may be too late for the log tail
	eventually(t, "the report", func() (bool, any) { return report.MatchString(n.out.String()), nil })
}
