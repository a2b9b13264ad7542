package lifecycle

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestAnyEvents feeds random events, likely and absurd ones, to environments
// with up to three externals; the auditor knows what must hold.
func TestAnyEvents(t *testing.T) { rapid.Check(t, anyEvents) }

// FuzzEvents is the same property for the fuzzer.
func FuzzEvents(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"))
	f.Fuzz(rapid.MakeFuzz(anyEvents))
}

func anyEvents(t *rapid.T) {
	cfg := testConfig()
	for i := range rapid.IntRange(0, 3).Draw(t, "externals") {
		cfg.Externals = append(cfg.Externals, fmt.Sprintf("e%d", i))
	}
	if rapid.IntRange(0, 4).Draw(t, "provisioned") == 0 {
		cfg.InitializationType = "provisioned-concurrency"
	}
	a := newAuditor(cfg)
	var log []string
	step := func(ev Event) {
		log = append(log, fmt.Sprintf("> %v %T%+v", a.now.Sub(epoch()), ev, ev))
		if err := a.step(ev); err != nil {
			t.Fatalf("%v\nafter %v", err, log)
		}
	}
	if rapid.IntRange(0, 9).Draw(t, "begin") > 0 {
		step(Begin{})
	}
	for range rapid.IntRange(0, 60).Draw(t, "events") {
		if a.ended {
			break
		}
		a.now = a.now.Add(time.Duration(rapid.SampledFrom([]int{0, 1, 1, 50, 300, 3000}).Draw(t, "ms")) * time.Millisecond)
		step(drawEvent(t, a))
	}
	if err := a.finish(); err != nil {
		t.Fatalf("%v\nat the end of %v", err, log)
	}
}

// drawEvent draws an event. Calls come with open bodies and known identifiers
// more often than not, so that deep states are reached.
func drawEvent(t *rapid.T, a *auditor) Event {
	for call, body := range a.calls {
		if body && rapid.IntRange(0, 5).Draw(t, "begun") == 0 {
			return RuntimeResponseBegun{Call: call}
		}
		if body && rapid.IntRange(0, 2).Draw(t, "body") == 0 {
			return RuntimeResponseDone{Call: call, Bytes: 1, Fault: rapid.SampledFrom([]ResponseFault{0, 0, 0, 1, 2}).Draw(t, "fault")}
		}
	}
	kind := rapid.IntRange(0, 32).Draw(t, "kind")
	switch {
	case kind < 16:
		return drawCall(t, a, kind)
	case kind < 20:
		inv := a.invocation()
		inv.Stream = rapid.Bool().Draw(t, "stream")
		return Invoke{Invocation: inv}
	case kind < 23:
		return drawTimer(t, a)
	case kind < 26:
		return ResetDone{}
	}
	switch kind {
	case 26:
		return Exited{Party: drawParty(t, a), Code: rapid.IntRange(0, 1).Draw(t, "code")}
	case 27:
		return drawGone(t, a)
	case 28:
		return LaunchFailed{Party: drawParty(t, a), Message: "no such file"}
	case 29:
		return Shutdown{}
	case 30:
		return OutOfMemory{}
	case 31:
		return Subscribe{Call: a.call(), ID: drawID(t, a), API: rapid.SampledFrom([]API{TelemetryAPI, LogsAPI}).Draw(t, "api")}
	}
	return rapid.SampledFrom([]Event{Abort{}, SandboxFailed{Message: "broken"}, Begin{}, RuntimeResponseDone{}, RuntimeResponseBegun{}}).Draw(t, "rare")
}

func drawCall(t *rapid.T, a *auditor, kind int) Event {
	switch kind {
	case 0, 1, 2, 3:
		return RuntimeNext{Call: a.call()}
	case 4, 5, 6:
		return RuntimeResponse{Call: a.call(), RequestID: drawRequest(t, a), Streaming: rapid.Bool().Draw(t, "streaming"), BadMode: rapid.IntRange(0, 5).Draw(t, "mode") == 0}
	case 7:
		return RuntimeError{Call: a.call(), RequestID: drawRequest(t, a), ErrorType: "Function.Boom", Payload: []byte("{}")}
	case 8:
		return RuntimeInitError{Call: a.call(), ErrorType: "Runtime.ImportModuleError"}
	case 9, 10, 11:
		name := rapid.SampledFrom([]string{"e0", "e1", "e2", "internal", ""}).Draw(t, "name")
		events := rapid.SliceOfN(rapid.SampledFrom([]string{"INVOKE", "INVOKE", "SHUTDOWN"}), 0, 2).Draw(t, "subscribed")
		return Register{Call: a.call(), Name: name, Events: events, NewID: fmt.Sprintf("id-%d", a.lastCall)}
	case 12, 13, 14:
		return ExtensionNext{Call: a.call(), ID: drawID(t, a)}
	}
	if rapid.Bool().Draw(t, "init error") {
		return ExtensionInitError{Call: a.call(), ID: drawID(t, a), ErrorType: "X"}
	}
	return ExtensionExitError{Call: a.call(), ID: drawID(t, a), ErrorType: "X"}
}

func drawRequest(t *rapid.T, a *auditor) string {
	if rapid.IntRange(0, 5).Draw(t, "request") == 0 {
		return "r0"
	}
	return a.running
}

func drawID(t *rapid.T, a *auditor) string {
	return rapid.SampledFrom(append([]string{"nobody"}, a.ids...)).Draw(t, "id")
}

func drawParty(t *rapid.T, a *auditor) Party {
	parties := []Party{RuntimeParty, RuntimeParty, "stranger"}
	for _, name := range a.cfg.Externals {
		parties = append(parties, Party(name))
	}
	return rapid.SampledFrom(parties).Draw(t, "party")
}

// drawTimer lets the earliest timer fire in time, or any timer falsely.
func drawTimer(t *rapid.T, a *auditor) Event {
	if timer, ok := a.earliest(); ok && rapid.IntRange(0, 3).Draw(t, "true timer") > 0 {
		if at := a.timers[timer]; at.After(a.now) {
			a.now = at
		}
		return TimerFired{Timer: timer}
	}
	return TimerFired{Timer: rapid.SampledFrom([]Timer{InitTimer, InvokeTimer, ShutdownRuntimeTimer, ShutdownTimer, "unknown"}).Draw(t, "timer")}
}

func drawGone(t *rapid.T, a *auditor) Event {
	if a.lastCall == 0 {
		return Gone{Call: 1 << 40}
	}
	return Gone{Call: Call(rapid.Uint64Range(1, uint64(a.lastCall)).Draw(t, "gone"))}
}
