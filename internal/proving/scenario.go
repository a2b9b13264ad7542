package proving

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/lifecycle"
)

// scenario is one life of a function with the extension.
type scenario struct {
	name   string // also of its function
	about  string // for the report
	fault  fault
	events func(invocations int) []event
	judge  func(g *ground, p *play) []Check
}

// work is the usual event.
func work(n int) []event {
	return slices.Repeat([]event{{Do: doWork, Ms: 20}}, n)
}

func scenarios() []scenario {
	return []scenario{
		{name: "baseline", about: "the function alone", events: work},
		{name: "lifecycle", about: "init, invocations, shutdown", events: work, judge: (*ground).judgeLifecycle},
		{name: "timeout", about: "the function runs into its timeout", judge: (*ground).judgeReset,
			events: func(int) []event { return []event{{Do: doWork}, {Do: doHang}, {Do: doWork}} }},
		{name: "crash", about: "the runtime exits in an invocation", judge: (*ground).judgeReset,
			events: func(int) []event { return []event{{Do: doWork}, {Do: doExit}, {Do: doWork}} }},
		{name: "slow-listener", about: "each acknowledgement takes a second", fault: fault{delay: time.Second}, events: work, judge: (*ground).judgeDelivery},
		{name: "refusing-listener", about: "the first three connections to the listener are refused", fault: fault{refuse: 3}, events: work, judge: (*ground).judgeDelivery},
		{name: "late-subscription", about: "Telemetry.SubscriptionClosed", fault: fault{closed: true}, events: work, judge: (*ground).judgeLate},
	}
}

// play is what came of a scenario.
type play struct {
	scenario
	account  account
	outcomes []outcome
	counts   counts
}

// patience bounds the wait for the end of a function's environments: longer
// than the whole shutdown budget, on a busy machine.
const patience = 20 * time.Second

// play runs a scenario and adds its part to the report.
func (g *ground) play(ctx context.Context, s scenario) error {
	g.wire.begin(s.fault)
	if err := g.create(ctx, s.name, s.judge != nil); err != nil {
		return err
	}
	p := &play{scenario: s}
	for _, e := range s.events(g.cfg.Invocations) {
		o, err := g.invoke(ctx, s.name, e)
		if err != nil {
			return err
		}
		p.outcomes = append(p.outcomes, o)
	}
	if s.judge == nil && p.answers(0).Result != Pass {
		return fmt.Errorf("the function fails without any extension, so that nothing can be learnt: %s", p.answers(0).Detail)
	}
	// The last invocation's tail ends before the environment does.
	starts := len(p.outcomes)
	g.watcher.await(s.name, patience, func(a account) bool { return len(of[lifecycle.Report](a)) >= starts })
	if err := g.retire(ctx, s.name); err != nil {
		return err
	}
	g.watcher.await(s.name, patience, func(a account) bool {
		n := len(a.records)
		return n > 0 && isEnd(a.records[n-1])
	})
	p.account, p.counts = g.watcher.of(s.name), g.wire.counts()
	if s.judge == nil {
		g.report.base = p
		return nil
	}
	if s.name == "lifecycle" {
		g.report.subscribes = p.subscribed()
		g.report.Costs = costs(g.report.base, p, g.extensions)
	}
	checks := append(s.judge(g, p), refusals(p)...)
	g.report.Scenarios = append(g.report.Scenarios, Scenario{Name: s.name, About: s.about, Checks: checks})
	return nil
}

// isEnd says that nothing of the environment runs any more.
func isEnd(rec lifecycle.Record) bool {
	p, ok := rec.(lifecycle.Phase)
	return ok && (p.Name == lifecycle.PhaseResetDone || p.Name == lifecycle.PhaseSandboxFailed)
}

// judgeLifecycle looks at a life without accidents.
func (g *ground) judgeLifecycle(p *play) []Check {
	var checks []Check
	for _, name := range g.extensions {
		checks = append(checks, registration(p, name)...)
		if !p.registered(name) {
			continue
		}
		ext, _ := p.account.extension(name)
		checks = append(checks, invocations(p, ext)...)
		checks = append(checks, shutdown(p, ext)...)
	}
	checks = append(checks, p.answers(0))
	return append(checks, deliveries(p)...)
}

func (p *play) registered(name string) bool {
	return len(p.account.phases(lifecycle.PhaseExtensionRegistered, name)) > 0
}

// registration is the extension's part of Init.
func registration(p *play, name string) []Check {
	register := Check{Name: name + " registers under its file name"}
	took, ok := p.account.between(lifecycle.PhaseExtensionStarted, lifecycle.PhaseExtensionRegistered, name)
	register.pass(ok, fmt.Sprintf("after %s", short(took)), whyNot(p.account, name))
	ready := Check{Name: name + " asks for its next event in Init"}
	took, ok = p.account.between(lifecycle.PhaseExtensionStarted, lifecycle.PhaseExtensionReady, name)
	ready.pass(ok, fmt.Sprintf("after %s", short(took)), "it never called event/next: Init cannot end before every registered extension has")
	return []Check{register, ready}
}

// whyNot says what is known of an extension that did not register.
func whyNot(a account, name string) string {
	if ext, ok := a.extension(name); ok && ext.ErrorType != "" {
		return "it ended with " + ext.ErrorType
	}
	return fmt.Sprintf("it did not within %s: POST /2020-01-01/extension/register with Lambda-Extension-Name: %s", firn.OnDemandInitLimit, name)
}

// invocations looks at what the extension did with INVOKE events.
func invocations(p *play, ext lifecycle.Extension) []Check {
	if !slices.Contains(ext.Events, "INVOKE") {
		return []Check{{Name: ext.Name + " is not subscribed to INVOKE", Result: Note, Detail: "invocations do not wait for it"}}
	}
	c := Check{Name: ext.Name + " takes every INVOKE and asks for the next"}
	want := len(p.outcomes)
	got := len(p.account.phases(lifecycle.PhaseExtensionReady, ext.Name)) - 1 // the first is of Init
	c.pass(got >= want, fmt.Sprintf("%d of %d", got, want), fmt.Sprintf("%d of %d: the invocation lasts until it does, up to the function's timeout", max(got, 0), want))
	return []Check{c}
}

// shutdown looks at the end.
func shutdown(p *play, ext lifecycle.Extension) []Check {
	if !slices.Contains(ext.Events, "SHUTDOWN") {
		return []Check{{Name: ext.Name + " is not subscribed to SHUTDOWN", Result: Note, Detail: "it is killed at the end, and what it holds is lost"}}
	}
	c := Check{Name: ext.Name + " exits by itself at SHUTDOWN"}
	took, ok := p.account.between(lifecycle.PhaseShutdownEvent, lifecycle.PhaseExtensionExited, ext.Name)
	failed := len(p.account.phases(lifecycle.PhaseShutdownFailed, ext.Name)) > 0
	c.pass(ok && !failed, fmt.Sprintf("after %s", short(took)),
		fmt.Sprintf("killed at the deadline: %s for runtime and extensions together. To be done is to exit; event/next is no answer", firn.ShutdownExternal))
	return []Check{c}
}

// answers says whether the callers were served; failures is how many
// invocations fail by the script.
func (p *play) answers(failures int) Check {
	c := Check{Name: "every caller gets the function's answer"}
	failed, why := 0, ""
	for _, o := range p.outcomes {
		if o.failure != "" {
			failed++
			if why == "" || strings.Contains(o.failure, "Extension.") {
				why = o.failure
			}
		}
	}
	c.pass(failed <= failures, fmt.Sprintf("%d of %d, as the script has it", len(p.outcomes)-failed, len(p.outcomes)),
		fmt.Sprintf("%d failed, %d were to: %s", failed, failures, why))
	return c
}

// judgeReset looks at a failure in the middle: the extension is told, ends,
// and begins anew.
func (g *ground) judgeReset(p *play) []Check {
	var checks []Check
	for _, name := range g.extensions {
		ext, known := p.account.extension(name)
		if !known || !p.registered(name) {
			checks = append(checks, registration(p, name)[0])
			continue
		}
		checks = append(checks, shutdown(p, ext)...)
		again := Check{Name: name + " comes back in the next invocation"}
		n := len(p.account.phases(lifecycle.PhaseExtensionRegistered, name))
		again.pass(n >= 2, "it registered again", "it did not register again after the reset: it must not rely on anything but /tmp")
		checks = append(checks, again)
	}
	return append(checks, p.answers(1))
}

// subscribed says whether anybody subscribed to telemetry.
func (p *play) subscribed() bool {
	return len(of[lifecycle.TelemetrySubscription](p.account))+len(of[lifecycle.LogsSubscription](p.account)) > 0
}

func noSubscription() Check {
	return Check{Name: "no subscription to telemetry", Result: Note, Detail: "nothing to try here"}
}

// judgeDelivery looks at a listener that is out of order for a while.
func (g *ground) judgeDelivery(p *play) []Check {
	if !p.subscribed() {
		return []Check{noSubscription()}
	}
	return append(deliveries(p), p.answers(0), g.alive(p))
}

// deliveries looks at what the listener answered.
func deliveries(p *play) []Check {
	if !p.subscribed() {
		return []Check{noSubscription()}
	}
	c := Check{Name: "the listener acknowledges every batch with 200"}
	c.pass(p.counts.failed == 0, fmt.Sprintf("%d acknowledgements over %d connection(s)%s", p.counts.acknowledged, p.counts.connections, refusedFirst(p.counts.refused)),
		fmt.Sprintf("%d answers were others: such a batch is sent again, and records are dropped when too many wait", p.counts.failed))
	lost := Check{Name: "no record is lost"}
	var dropped int64
	for _, d := range of[lifecycle.LogsDropped](p.account) {
		dropped += d.DroppedRecords
	}
	lost.pass(dropped == 0, "no platform.logsDropped", fmt.Sprintf("%d records were dropped while the listener did not take them", dropped))
	return []Check{c, lost}
}

func refusedFirst(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", after %d refused", n)
}

// alive says whether the extension lived through the scenario.
func (g *ground) alive(p *play) Check {
	c := Check{Name: "the extension lives through it"}
	for _, name := range g.extensions {
		if ext, ok := p.account.extension(name); ok && ext.ErrorType != "" {
			c.pass(false, "", name+" ended with "+ext.ErrorType)
			return c
		}
	}
	c.pass(true, "one environment, one init", "")
	return c
}

// judgeLate looks at an extension whose subscription is refused.
func (g *ground) judgeLate(p *play) []Check {
	if !g.report.subscribes {
		return []Check{noSubscription()}
	}
	return []Check{g.alive(p), p.answers(0)}
}

// refusals are the calls that were refused, with Lambda's own words.
func refusals(p *play) []Check {
	var checks []Check
	seen := map[string]bool{}
	for _, r := range p.account.phases(lifecycle.PhaseRefused, "") {
		if seen[r.Detail] || ofRuntime(r.Detail) || p.fault.closed && strings.Contains(r.Detail, "SubscriptionClosed") {
			continue
		}
		seen[r.Detail] = true
		checks = append(checks, Check{Name: "Lambda refuses a call", Result: Fail, Detail: r.Detail})
	}
	return checks
}

// ofRuntime says that a refusal is the Runtime API's: the function's runtime
// called while its environment was being ended.
func ofRuntime(refusal string) bool {
	return strings.HasPrefix(refusal, "InvalidStateTransition:") || strings.HasPrefix(refusal, "InvalidRequestID:")
}

// short is a duration for people.
func short(d time.Duration) string {
	if d < 100*time.Millisecond {
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(time.Millisecond).String()
}
