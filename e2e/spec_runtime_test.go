package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// The Runtime API as a program inside an environment meets it: sections 1 and
// 6 of the specification of the execution environment, as tables of requests.

const (
	invocation = "/2018-06-01/runtime/invocation/"
	nobody     = "11111111-2222-3333-4444-555555555555"
	okBody     = `{"status":"OK"}`
)

func refusal(status int, errorType, message string) string {
	return fmt.Sprintf(`%d {"errorMessage":"%s","errorType":"%s"}`, status, message, errorType)
}

func transition(from, to string) string {
	return refusal(403, "InvalidStateTransition", "State transition from "+from+" to "+to+" failed for runtime. Error: State transition is not allowed")
}

func badID() string { return refusal(400, "InvalidRequestID", "Invalid request ID") }

// beforeNext is what a runtime may and may not do before its first next
// (state Started), and what does not depend on the state.
func beforeNext() []row {
	post := "POST " + invocation + nobody
	return []row{
		{"ping", step{Send: "GET /2018-06-01/ping"}, "200 text/plain; charset=utf-8 pong"},
		{"response", step{Send: post + "/response\n\n{}"}, badID()},
		{"error", step{Send: post + "/error\n\n{}"}, badID()},
		{"response, id that is no UUID", step{Send: "POST " + invocation + "x/response\n\n{}"}, badID()},
		{"unknown route", step{Send: "GET /2018-06-01/runtime/nothing"}, "404 text/plain; charset=utf-8 404 page not found"},
		{"root", step{Send: "GET /"}, "404 text/plain; charset=utf-8 404 page not found"},
		{"slash at the end", step{Send: "GET " + invocation + "next/"}, "404 text/plain; charset=utf-8 404 page not found"},
		{"unknown version", step{Send: "GET /2018-06-02/runtime/invocation/next"}, "404 text/plain; charset=utf-8 404 page not found"},
		{"POST next", step{Send: "POST " + invocation + "next\n\n{}"}, "405 Allow=GET"},
		{"HEAD next", step{Send: "HEAD " + invocation + "next"}, "405 Allow=GET"},
		{"GET response", step{Send: "GET " + invocation + nobody + "/response"}, "405 Allow=POST"},
		{"PUT init/error", step{Send: "PUT /2018-06-01/runtime/init/error\n\n{}"}, "405 Allow=POST"},
		{"GET register", step{Send: "GET /2020-01-01/extension/register"}, "405 Allow=POST"},
		{"snapstart", step{Send: "GET /2018-06-01/runtime/restore/next"}, "404 text/plain; charset=utf-8 404 page not found"},
		{"absolute form", step{Raw: "GET http://${api}/2018-06-01/ping HTTP/1.1\r\nHost: ${api}\r\n\r\n"}, "200 text/plain; charset=utf-8 pong"},
		{"other host", step{Raw: "GET /2018-06-01/ping HTTP/1.1\r\nHost: localhost:9001\r\n\r\n"}, "200 text/plain; charset=utf-8 pong"},
		{"empty host", step{Raw: "GET /2018-06-01/ping HTTP/1.1\r\nhost:\r\n\r\n"}, "200 text/plain; charset=utf-8 pong"},
		{"no host", step{Raw: "GET /2018-06-01/ping HTTP/1.1\r\n\r\n"}, "400 text/plain; charset=utf-8 400 Bad Request: missing required Host header (closed)"},
		{"HTTP/1.0", step{Raw: "GET /2018-06-01/ping HTTP/1.0\r\n\r\n"}, "200 text/plain; charset=utf-8 pong (closed)"},
		{"HTTP/1.0 that stays", step{Raw: "GET /2018-06-01/ping HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"}, "200 Connection=keep-alive text/plain; charset=utf-8 pong"},
		{"Connection: close", step{Raw: "GET /2018-06-01/ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"}, "200 text/plain; charset=utf-8 pong (closed)"},
		{"HTTP/2.0", step{Raw: "GET /2018-06-01/ping HTTP/2.0\r\nHost: x\r\n\r\n"}, "505 text/plain; charset=utf-8 505 HTTP Version Not Supported (closed)"},
		{"query", step{Send: "GET /2018-06-01/ping?x=1"}, "200 text/plain; charset=utf-8 pong"},
		{"pipelined", step{Raw: strings.Repeat("GET /2018-06-01/ping HTTP/1.1\r\nHost: x\r\n\r\n", 3), Also: 2},
			"200 text/plain; charset=utf-8 pong + 200 text/plain; charset=utf-8 pong + 200 text/plain; charset=utf-8 pong"},
		{"next without an extension", step{Send: "GET /2020-01-01/extension/event/next"},
			refusal(403, "Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header")},
	}
}

// duringInvocation is state Running, then RuntimeResponseSent.
func duringInvocation() []row {
	mine := "POST " + invocation + "${id}"
	return []row{
		{"next again", step{Send: "GET " + invocation + "next"}, `200 {"quiet":true,"steps":"..."}`},
		{"unknown id", step{Send: "POST " + invocation + nobody + "/response\n\n{}"}, badID()},
		{"unknown id of an error", step{Send: "POST " + invocation + nobody + "/error\n\n{}"}, badID()},
		{"init/error", step{Send: "POST /2018-06-01/runtime/init/error\n\n{}"}, transition("Running", "InitError")},
		{"bad mode", step{Send: mine + "/response\nLambda-Runtime-Function-Response-Mode: loud\n\n{}"},
			refusal(400, "InvalidFunctionResponseMode", "Invalid function response mode")},
		{"bad mode, unknown id", step{Send: "POST " + invocation + nobody + "/response\nLambda-Runtime-Function-Response-Mode: loud\n\n{}"}, badID()},
		{"register", step{Send: "POST /2020-01-01/extension/register\nLambda-Extension-Name: late\n\n{\"events\":[]}"},
			refusal(403, "Extension.RegistrationClosed", "Extension registration closed already")},
		{"response", step{Send: mine + "/response\ncontent-type: text/plain\n\n\"good\""}, "202 " + okBody},
		{"second response", step{Send: mine + "/response\n\n\"bad\""}, transition("RuntimeResponseSentState", "InvocationResponse")},
		{"error after response", step{Send: mine + "/error\n\n\"bad\""}, transition("RuntimeResponseSentState", "InvocationErrorResponse")},
		{"init/error after response", step{Send: "POST /2018-06-01/runtime/init/error\n\n{}"}, transition("RuntimeResponseSentState", "InitError")},
		{"unknown id after response", step{Send: "POST " + invocation + nobody + "/response\n\n{}"}, badID()},
	}
}

func TestRuntimeAPI(t *testing.T) {
	needLinux(t)
	t.Parallel()
	n := start(t, options{args: []string{"--network", "none"}})
	n.probe("f", probed{plan: plan{"bootstrap": {Init: steps(beforeNext())}}})
	t.Run("before next", func(t *testing.T) { check(t, n.take("f"), "bootstrap", beforeNext()) })
	t.Run("during an invocation", func(t *testing.T) {
		rows := duringInvocation()
		ev := event{Quiet: true, Steps: steps(rows)}
		a := n.send("f", ev)
		if a.payload != `"good"` || a.failure != "" {
			t.Errorf("the invoker gets %s %s", a.payload, a.failure)
		}
		all := n.take("f")
		for i := range all { // the event of the first row is this very table
			if all[i].Name == "next again" {
				if !strings.Contains(all[i].Body, `"second response"`) {
					t.Errorf("next again brings %s", all[i].brief())
				}
				all[i].Body = `{"quiet":true,"steps":"..."}`
			}
		}
		check(t, all, "bootstrap", rows)
	})
	t.Run("headers", func(t *testing.T) { runtimeHeaders(t, n) })
	t.Run("answers", func(t *testing.T) { answers(t, n) })
	t.Run("lost polls", func(t *testing.T) { lostPolls(t, n) })
	n.stop()
}

// runtimeHeaders compares the headers of next and of the answers.
func runtimeHeaders(t *testing.T, n *node) {
	n.send("f", event{Steps: []step{
		{Name: "next", Send: "GET " + invocation + "next"},
		{Name: "refused", Send: "POST " + invocation + nobody + "/response\n\n{}"},
	}})
	all := n.take("f")
	next := of(all, "bootstrap", "next")[0].Header
	for name, want := range map[string]string{
		"Content-Type":                        `^application/json$`,
		"Lambda-Runtime-Aws-Request-Id":       `^` + uuid.String() + `$`,
		"Lambda-Runtime-Deadline-Ms":          `^[0-9]{13}$`,
		"Lambda-Runtime-Invoked-Function-Arn": `^arn:aws:lambda:us-east-1:[0-9]{12}:function:f$`,
		"Lambda-Runtime-Trace-Id":             `^Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=[01]`,
	} {
		match(t, name, want, next[name])
	}
	for name := range next {
		switch name {
		case "Content-Type", "Content-Length", "Date", "Lambda-Runtime-Aws-Request-Id", "Lambda-Runtime-Deadline-Ms",
			"Lambda-Runtime-Invoked-Function-Arn", "Lambda-Runtime-Trace-Id":
		default:
			t.Errorf("next has a header %s", name)
		}
	}
	match(t, "type of a refusal", "^application/json$", of(all, "bootstrap", "refused")[0].Header["Content-Type"])
}

// lostPolls: a next whose connection is cut, during an invocation and after
// one, costs neither the event nor the one after it.
func lostPolls(t *testing.T, n *node) {
	next := "GET " + invocation + "next"
	for _, ev := range []event{
		{Steps: []step{{Send: next, Hang: true}, {Name: "again", Send: next}}},
		{After: []step{{Send: next, Hang: true}}},
		{After: []step{{Raw: "GET " + invocation + "ne", Hang: true}}},
	} {
		for range 3 {
			if a := n.send("f", ev); a.failure != "" || a.payload != answerOf(ev) {
				t.Errorf("%+v: %s %s\n%s", ev, a.failure, a.payload, a.log)
			}
		}
	}
	n.take("f")
}

// answers are the ways in which a response or an error may come, and what the
// invoker gets of them.
func answers(t *testing.T, n *node) {
	mine := "POST " + invocation + "${id}"
	for _, test := range []struct {
		row
		payload, failure string
	}{
		{row{"no content type", step{Send: mine + "/response\n\n{\"a\": 1}"}, "202 " + okBody}, `{"a": 1}`, ""},
		{row{"form, as curl -d sends", step{Send: mine + "/response\nContent-Type: application/x-www-form-urlencoded\n\ntwo\nlines"}, "202 " + okBody}, "two\nlines", ""},
		{row{"empty", step{Send: mine + "/response\n\n"}, "202 " + okBody}, "", ""},
		{row{"chunked", step{Raw: mine + "/response HTTP/1.1\r\nHost: x\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\n\"ab\r\n2\r\nc\"\r\n0\r\n\r\n"}, "202 " + okBody}, `"abc"`, ""},
		{row{"chunked with trailer, buffered", step{Raw: mine + "/response HTTP/1.1\r\nHost: x\r\nTrailer: X-Other\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Other: y\r\n\r\n"}, "202 " + okBody}, "{}", ""},
		{row{"streamed", step{Raw: mine + "/response HTTP/1.1\r\nHost: x\r\nlambda-runtime-function-response-mode: streaming\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"}, "202 " + okBody}, "{}", ""},
		{row{"HTTP/1.0", step{Raw: mine + "/response HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}"}, "202 " + okBody + " (closed)"}, "{}", ""},
		{row{"lower-case names", step{Raw: mine + "/response http/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"}, "400 text/plain; charset=utf-8 400 Bad Request (closed)"}, "", "Unhandled"},
		{row{"Expect", step{Raw: mine + "/response HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}"}, "202 (continued)=1 " + okBody}, "{}", ""},
		{row{"Expect, 2 MB", step{Raw: mine + "/response HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2000000\r\n\r\n", Fill: 2000000}, "202 (continued)=1 " + okBody}, strings.Repeat("x", 2000000), ""},
		{row{"largest", step{Send: mine + "/response\n\n", Fill: 6291556}, "202 " + okBody}, strings.Repeat("x", 6291556), ""},
		{row{"too large", step{Send: mine + "/response\n\n", Fill: 6291557},
			refusal(413, "RequestEntityTooLarge", "Exceeded maximum allowed payload size (6291556 bytes).")},
			`{"errorMessage":"Response payload size exceeded maximum allowed payload size (6291556 bytes).","errorType":"Function.ResponseSizeTooLarge"}`, "Unhandled"},
		{row{"error", step{Send: mine + "/error\nlambda-runtime-function-error-type: Function.Mine\n\n{\"errorType\": \"X\", \"requestId\":\"\"}"}, "202 " + okBody}, `{"errorType": "X", "requestId":""}`, "Unhandled"},
		{row{"error of any form", step{Send: mine + "/error\nContent-Type: text/plain\n\nplain words"}, "202 " + okBody}, `plain words`, "Unhandled"},
		{row{"error with cause", step{Send: mine + "/error\nContent-Type: application/vnd.aws.lambda.error.cause+json\nLambda-Runtime-Function-XRay-Error-Cause: {}\n\n{\"errorMessage\":\"m\",\"errorType\":\"T\",\"errorCause\":{\"x\":1}}"}, "202 " + okBody}, `{"errorMessage":"m","errorType":"T"}`, "Unhandled"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.step.Name = test.name
			ev := event{Quiet: true, Steps: []step{test.step}}
			if strings.HasPrefix(test.want, "400") { // the invocation is still to be answered
				ev.Steps = append(ev.Steps, step{Send: mine + "/error\n\n"})
				test.payload = `{"errorType":"Runtime.Unknown","errorMessage":"RequestId: <id> Error: Runtime.Unknown"}`
			}
			a := n.send("f", ev)
			if got := uuid.ReplaceAllString(a.payload, "<id>"); got != test.payload || a.failure != test.failure {
				t.Errorf("the invoker gets %d bytes: %.300s %s\n%s", len(a.payload), a.payload, a.failure, a.log)
			}
			check(t, n.take("f"), "bootstrap", []row{test.row})
		})
	}
}
