package environment

import (
	"context"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/firn-run/firn/internal/telemetryapi"
)

// atOnce freezes without a grace, as the specification has it: what is not
// delivered before comes after the thaw.
func atOnce(c *Config) { c.FreezeGrace = 0 }

// never keeps an environment running, so that everything arrives by itself.
func never(c *Config) { c.FreezeGrace = -1 }

// initTrio is what every subscriber of the platform's records gets of an init,
// with the function's line in it; the line may come before the subscription.
func initTrio(phase string) string {
	return strings.ReplaceAll(`platform.initStart PHASE
platform.telemetrySubscription sub Subscribed
platform.extension sub Ready
platform.initRuntimeDone PHASE success
platform.initReport PHASE success`, "PHASE", phase)
}

// withoutInit takes the line that the runtime writes in its init out of a
// sequence, after a look at its place: it comes before initRuntimeDone.
func withoutInit(t *testing.T, list []got) string {
	t.Helper()
	var lines []string
	open := false
	for _, g := range list {
		switch s := g.String(); {
		case s == "function: init":
			if !open {
				t.Error("a line of the init comes outside of it")
			}
		default:
			lines = append(lines, s)
			if strings.HasPrefix(s, "platform.initStart") {
				open = true
			} else if strings.HasPrefix(s, "platform.initRuntimeDone") {
				open = false
			}
		}
	}
	return strings.Join(lines, "\n")
}

func compareSequence(t *testing.T, list []got, want string) {
	t.Helper()
	if got := withoutInit(t, list); got != want {
		t.Errorf("got\n%s\n\nwant\n%s", got, want)
	}
}

const good = `
platform.start
function: hello
platform.runtimeDone success
platform.report success`

// The records of a cold and of a warm invocation, over HTTP and TCP, to two
// listeners of one extension.
func TestSubscribersGetColdAndWarm(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	overTCP := everything()
	overTCP.TCP = true
	w := start(t, subscribed(c, fixture{config: never}, everything(), overTCP))
	for range 2 {
		w.invoke(command{Print: "hello\n"})
		w.waitReady()
	}
	for _, key := range []string{"sub/0", "sub/1"} {
		list := c.waitFor(t, key, "platform.report", 2)
		// Each has its own subscription, and that of the other one.
		compareSequence(t, list, strings.Replace(initTrio("init"), "Subscribed\n", "Subscribed\nplatform.telemetrySubscription sub Subscribed\n", 1)+good+good)
		checkTimes(t, list)
	}
	if got, want := c.replies(t, 2), []string{`200 "OK"`, `200 "OK"`}; !slices.Equal(got, want) {
		t.Errorf("answers %q", got)
	}
}

// checkTimes: what happens in an invocation is told in the order of time.
func checkTimes(t *testing.T, list []got) {
	t.Helper()
	var last time.Time
	for _, g := range list {
		if strings.HasPrefix(g.Type, "platform.init") || g.Type == "platform.extension" || g.Type == "platform.telemetrySubscription" {
			continue
		}
		if g.Time.IsZero() || g.Time.Before(last) {
			t.Errorf("%s is stamped %v, after %v", g, g.Time, last)
		}
		last = g.Time
	}
}

// What subscribers get of invocations that fail, and that no one else's order
// of calls changes theirs.
func TestSubscribersGetFailures(t *testing.T) {
	for _, test := range []struct {
		name    string
		fixture fixture
		cmd     command
		want    string // after the init
		again   bool   // an init in the next invocation
	}{
		{name: "error", cmd: command{Print: "hello\n", Do: "error"}, want: `
platform.start
function: hello
platform.runtimeDone error Function.Bad
platform.report error Function.Bad`},
		{name: "timeout", fixture: fixture{timeout: time.Second}, cmd: command{Print: "hello\n", Do: "sleep", Millis: 60_000}, again: true, want: `
platform.start
function: hello
platform.runtimeDone timeout
platform.report timeout`},
		{name: "crash", cmd: command{Print: "hello\nlast words", Do: "exit", Code: 3}, again: true, want: `
platform.start
function: hello
function: last words
platform.runtimeDone error Runtime.ExitError
platform.report error Runtime.ExitError`},
		{name: "extension after the runtime", fixture: fixture{vars: map[string]string{"SLOW": "1"}}, cmd: command{Print: "hello\n"}, want: good},
		{name: "extension before the runtime", cmd: command{Print: "hello\n", Do: "sleep", Millis: 100}, want: good},
		{name: "work after the answer", cmd: command{Print: "hello\n", AfterMS: 50, After: "later\n"}, want: `
platform.start
function: hello
function: later
platform.runtimeDone success
platform.report success`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newCollector(t)
			test.fixture.config = never
			w := start(t, subscribed(c, test.fixture, everything()))
			w.waitReady()
			w.invoke(test.cmd)
			w.waitReady()
			w.invoke(command{Print: "hello\n"})
			w.waitReady()
			second := good
			if test.again {
				second = "\n" + initTrio("invoke") + good
			}
			list := c.waitFor(t, "sub/0", "platform.report", 2)
			compareSequence(t, list, initTrio("init")+test.want+second)
		})
	}
}

// With the freeze at the end of an invocation, its report waits for the next
// one, and the last one's for the shutdown.
func TestFreezeHoldsTheReportBack(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	frozen := make(chan struct{}, 100)
	plan := everything()
	plan.Buffering = map[string]int{"timeoutMs": 200} // longer than an invocation takes
	w := startOn(t, freezing{backend(t), frozen}, subscribed(c, fixture{config: atOnce}, plan))
	w.waitReady()
	<-frozen
	for i := range 3 {
		w.invoke(command{Print: "hello\n"})
		w.waitReady()
		<-frozen
		time.Sleep(300 * time.Millisecond) // archtest:sleep more than the subscriber's buffering; nothing must come
		if n := strings.Count(sequence(c.records("sub/0")), "platform.report"); n > i {
			t.Errorf("%d reports after invocation %d, before the next one", n, i+1)
		}
	}
	w.Shutdown()
	<-w.Done()
	list := c.records("sub/0")
	compareSequence(t, list, initTrio("init")+good+good+good)
}

// Everything that a function writes before it answers comes before its
// runtimeDone, and bears its number, however much it is.
func TestLinesPrecedeRuntimeDone(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	w := start(t, subscribed(c, fixture{config: never}, everything()))
	w.waitReady()
	const rounds, each = 5, 2000
	for i := range rounds {
		w.invoke(command{Print: strings.Repeat(fmt.Sprintf("line %d\n", i), each)})
		w.waitReady()
	}
	list := c.waitFor(t, "sub/0", "platform.report", rounds)
	round, lines := -1, 0
	for _, g := range list {
		switch s := g.String(); {
		case s == "platform.start":
			round, lines = round+1, 0
		case s == fmt.Sprintf("function: line %d", round):
			lines++
		case s == "platform.runtimeDone success":
			if lines != each {
				t.Errorf("%d lines before the end of invocation %d, want %d", lines, round, each)
			}
			lines = 0
		case s == "platform.report success":
			if lines != 0 {
				t.Errorf("%d lines after the end of invocation %d", lines, round)
			}
		}
	}
}

// The schemas have their own records; both kinds of output, and the exclusion
// of the two APIs.
func TestSchemasAndStreams(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	old := subscriptionPlan{API: "logs", Types: []string{"platform", "function", "extension"}, Buffering: map[string]int{"timeoutMs": 25}}
	wrong := everything()
	w := start(t, subscribed(c, fixture{config: never}, old, wrong))
	w.waitReady()
	w.invoke(command{Print: "hello\n"})
	w.waitReady()
	list := c.waitFor(t, "sub/0", "platform.report", 1)
	types := sequence(list)
	for _, want := range []string{"platform.start", "platform.logsSubscription sub Subscribed", "platform.end", "platform.report", "function: hello"} {
		if !strings.Contains(types, want) {
			t.Errorf("no %q in\n%s", want, types)
		}
	}
	for _, unwanted := range []string{"platform.runtimeDone", "firn."} {
		if strings.Contains(types, unwanted) {
			t.Errorf("%q in\n%s", unwanted, types)
		}
	}
	answers := c.replies(t, 2)
	if len(answers) != 2 || answers[0] != `200 "OK"` || !strings.HasPrefix(answers[1], "4") {
		t.Errorf("answers %q", answers)
	}
	if got := c.records("sub/1"); len(got) > 0 {
		t.Errorf("the refused subscription got %s", sequence(got))
	}
}

// A subscription in an invocation comes too late, for either API.
func TestLateSubscription(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	late := everything()
	late.Late = true
	old := late
	old.API, old.Schema = "logs", ""
	w := start(t, subscribed(c, fixture{config: never}, late, old))
	w.waitReady()
	w.invoke(command{})
	w.waitReady()
	want := []string{
		`403 {"errorMessage":"Telemetry API subscription is closed","errorType":"Telemetry.SubscriptionClosed"}`,
		`403 {"errorMessage":"Logs API subscription is closed","errorType":"Logs.SubscriptionClosed"}`,
	}
	if got := c.replies(t, 2); !slices.Equal(got, want) {
		t.Errorf("answers %q", got)
	}
}

// With provisioned concurrency the init's report comes with the first
// invocation.
func TestSubscribersOfProvisionedConcurrency(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	w := start(t, subscribed(c, fixture{config: func(cfg *Config) {
		never(cfg)
		cfg.InitializationType = "provisioned-concurrency"
	}}, everything()))
	w.waitReady()
	const report = "\nplatform.initReport init success"
	before := c.waitFor(t, "sub/0", "platform.initRuntimeDone", 1)
	compareSequence(t, before, strings.TrimSuffix(initTrio("init"), report))
	w.invoke(command{Print: "hello\n"})
	w.waitReady()
	compareSequence(t, c.waitFor(t, "sub/0", "platform.report", 1), initTrio("init")+good)
}

// firn's own records tell a timeline the rest: what ran when, and when nothing
// did. Subscribers do not get them.
func TestPhases(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	frozen := make(chan struct{}, 100)
	w := startOn(t, freezing{backend(t), frozen}, subscribed(c, fixture{config: atOnce}, everything("platform")))
	w.waitReady()
	<-frozen
	w.invoke(command{})
	w.waitReady()
	<-frozen
	w.Shutdown()
	<-w.Done()
	want := `platform.initStart
(extension started)
(extension registered)
(runtime started)
platform.telemetrySubscription
(extension ready)
(runtime ready)
platform.extension
platform.initRuntimeDone
platform.initReport init success
(frozen)
(thawed)
platform.start
(answered)
(extension ready)
platform.runtimeDone success
platform.report success
(frozen)
(thawed)
(shutdown)
(sigterm)
(shutdown event)
(extension exited)
(reset)
(reset done)`
	var list []string
	for _, s := range w.log.entries {
		if !strings.Contains(s, ": ") {
			list = append(list, s)
		}
	}
	// The runtime and the extension call next in any order.
	slices.Sort(list)
	sorted := strings.Split(want, "\n")
	slices.Sort(sorted)
	if !slices.Equal(list, sorted) {
		t.Errorf("got\n%s\n\nwant\n%s", strings.Join(w.log.entries, "\n"), want)
	}
	at := func(s string, n int) int {
		for i, entry := range w.log.entries {
			if entry == s {
				if n--; n == 0 {
					return i
				}
			}
		}
		t.Fatalf("no %s", s)
		return 0
	}
	for _, pair := range [][2]int{
		{at("(thawed)", 1), at("platform.start", 1)}, {at("platform.start", 1), at("(answered)", 1)},
		{at("(answered)", 1), at("platform.runtimeDone success", 1)}, {at("(extension ready)", 2), at("platform.report success", 1)},
		{at("platform.report success", 1), at("(frozen)", 2)}, {at("(frozen)", 2), at("(thawed)", 2)}, {at("(thawed)", 2), at("(shutdown)", 1)},
	} {
		if pair[0] >= pair[1] {
			t.Errorf("%s comes before %s", w.log.entries[pair[1]], w.log.entries[pair[0]])
		}
	}
	for _, g := range c.records("sub/0") {
		if !strings.HasPrefix(g.Type, "platform.") {
			t.Errorf("a subscriber got %s", g.Type)
		}
	}
}

// The test bench can refuse subscriptions, and put itself in the way.
func TestFaultsForSubscribers(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	w := start(t, subscribed(c, fixture{config: func(c *Config) { c.RefuseSubscriptions = true }}, everything()))
	w.waitReady()
	if got := c.replies(t, 1); len(got) != 1 || !strings.HasPrefix(got[0], "403 ") {
		t.Errorf("answers %q", got)
	}
}

// A listener that refuses for a while loses nothing, and the function does not
// notice.
func TestListenerComesLate(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	var dialled atomic.Int32
	w := start(t, subscribed(c, fixture{config: func(cfg *Config) {
		never(cfg)
		cfg.WrapDial = func(next telemetryapi.Dialer) telemetryapi.Dialer {
			return func(ctx context.Context, port int) (net.Conn, error) {
				if dialled.Add(1) < 4 {
					return nil, syscall.ECONNREFUSED
				}
				return next(ctx, port)
			}
		}
	}}, everything()))
	w.waitReady()
	w.invoke(command{Print: "hello\n"})
	w.waitReady()
	compareSequence(t, c.waitFor(t, "sub/0", "platform.report", 1), initTrio("init")+good)
	if dialled.Load() < 4 {
		t.Errorf("dialled %d times", dialled.Load())
	}
}

// Records carry the identity of the invocation and its numbers.
func TestRecordsOfAnInvocation(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	w := start(t, subscribed(c, fixture{config: never}, everything("platform")))
	w.waitReady()
	id := uuid.NewString()
	const trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
	w.invoke(command{}, func(inv *Invocation) { inv.RequestID, inv.TraceID = id, trace })
	w.waitReady()
	tracing := `"tracing":{"spanId":"53995c3f42cd8ad8","type":"X-Amzn-Trace-Id","value":"` + trace + `"}`
	date, ms := `"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d\d\dZ"`, `\d+(\.\d{1,3})?`
	span := func(name string) string {
		return `\{"name":"` + name + `","start":` + date + `,"durationMs":` + ms + `\}`
	}
	want := map[string]string{
		"platform.start": `^\{"requestId":"` + id + `","functionArn":"arn:aws:lambda:eu-central-1:123456789012:function:fn:live","version":"\$LATEST",` + regexp.QuoteMeta(tracing) + `\}$`,
		"platform.runtimeDone": `^\{"requestId":"` + id + `","status":"success","metrics":\{"durationMs":` + ms + `,"producedBytes":\d+\},"spans":\[` +
			span("responseLatency") + "," + span("responseDuration") + "," + span("runtimeOverhead") + `\],` + regexp.QuoteMeta(tracing) + `\}$`,
		"platform.report": `^\{"requestId":"` + id + `","status":"success","metrics":\{"durationMs":` + ms + `,"billedDurationMs":\d+,"memorySizeMB":256,"maxMemoryUsedMB":\d+,"initDurationMs":` + ms + `\},"spans":\[` +
			span("extensionOverhead") + `\],` + regexp.QuoteMeta(tracing) + `\}$`,
	}
	for _, g := range c.waitFor(t, "sub/0", "platform.report", 1) {
		if want[g.Type] != "" && !regexp.MustCompile(want[g.Type]).Match(g.Record) {
			t.Errorf("%s: %s\nwant %s", g.Type, g.Record, want[g.Type])
		}
		delete(want, g.Type)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}
