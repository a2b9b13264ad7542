package lifecycle

import (
	"strings"
	"testing"
	"time"
)

// The tables of the specification, section 6, without the columns and rows of
// restore. A word is the state after the call, "-" is a refusal.
const (
	runtimeSpec = `
Started                  Ready   -                  -                       InitError
Ready                    Ready   -                  -                       -
Running                  Running InvocationResponse InvocationErrorResponse -
InvocationResponse       -       -                  -                       -
InvocationErrorResponse  -       -                  -                       -
RuntimeResponseSentState Ready   -                  -                       -
InitError                -       -                  -                       -`

	extensionSpec = `
Started        Registered -     -         -
Registered     -          Ready InitError ExitError
Ready          -          -     -         ExitError
Running        -          Ready -         ExitError
InitError      -          -     InitError -
ExitError      -          -     -         ExitError
ShutdownFailed -          -     -         -
Exited         -          -     -         -
LaunchError    -          -     -         -`
)

func TestRuntimeTable(t *testing.T) {
	var got strings.Builder
	for s, row := range runtimeTable() {
		if s == 0 {
			continue
		}
		got.WriteString("\n" + runtimeState(s).String())
		for _, to := range row {
			got.WriteString(" " + orDash(to != 0, to.String()))
		}
	}
	compareTable(t, runtimeSpec, got.String())
}

func TestExtensionTable(t *testing.T) {
	var got strings.Builder
	for s, row := range extensionTable() {
		if s == 0 {
			continue
		}
		got.WriteString("\n" + extensionState(s).String())
		for _, to := range row {
			got.WriteString(" " + orDash(to != 0, to.String()))
		}
	}
	compareTable(t, extensionSpec, got.String())
}

func orDash(ok bool, s string) string {
	if ok {
		return s
	}
	return "-"
}

func compareTable(t *testing.T, spec, got string) {
	t.Helper()
	var want []string
	for line := range strings.SplitSeq(spec, "\n") {
		want = append(want, strings.Join(strings.Fields(line), " "))
	}
	if w := strings.Join(want, "\n"); w != got {
		t.Errorf("want %s\ngot %s", w, got)
	}
}

// TestRuntimeRefusals takes a machine to every state that the runtime can be
// seen in and makes every call; the table says which are refused, and how.
func TestRuntimeRefusals(t *testing.T) {
	ready := []Event{Begin{}, RuntimeNext{Call: 1}}
	running := append(ready[:2:2], Invoke{Invocation: Invocation{RequestID: "r1"}})
	states := map[runtimeState][]Event{
		runtimeStarted:            {Begin{}},
		runtimeReady:              ready,
		runtimeRunning:            running,
		runtimeInvocationResponse: append(running[:3:3], RuntimeResponse{Call: 2, RequestID: "r1"}),
		runtimeResponseSent:       append(running[:3:3], RuntimeError{Call: 2, RequestID: "r1"}),
		runtimeInitErr:            {Begin{}, RuntimeInitError{Call: 1}},
	}
	calls := [runtimeCalls]Event{RuntimeNext{Call: 9}, RuntimeResponse{Call: 9, RequestID: "r1"}, RuntimeError{Call: 9, RequestID: "r1"}, RuntimeInitError{Call: 9}}
	for state, before := range states {
		for call, ev := range calls {
			m := New(testConfig())
			for _, b := range before {
				m.Step(epoch(), b)
			}
			if m.runtime.state != state {
				t.Fatalf("%v leads to %v, not %v", before, m.runtime.state, state)
			}
			got := refusal(m.Step(epoch().Add(time.Second), ev), 9)
			to := runtimeTable()[state][call]
			switch response := runtimeCall(call) == runtimeResponse || runtimeCall(call) == runtimeError; {
			case response && (m.stage != stageInvoke):
				if got == nil || got.Status != 400 || got.ErrorType != "InvalidRequestID" || got.Message != "Invalid request ID" {
					t.Errorf("%v, call %d: %+v, want the id refused", state, call, got)
				}
			case to == 0:
				want := "State transition from " + state.String() + " to " + runtimeCall(call).target().String() + " failed for runtime. Error: State transition is not allowed"
				if got == nil || got.Status != 403 || got.ErrorType != "InvalidStateTransition" || got.Message != want {
					t.Errorf("%v, call %d: %+v, want a refusal: %s", state, call, got, want)
				}
				if m.runtime.state != state {
					t.Errorf("%v, call %d: refused, but the state is %v", state, call, m.runtime.state)
				}
			case got != nil:
				t.Errorf("%v, call %d: refused: %+v", state, call, got)
			}
		}
	}
}

// TestExtensionRefusals does the same for an external and, where it can be in
// that state, an internal extension.
func TestExtensionRefusals(t *testing.T) {
	registered := []Event{Begin{}, Register{Call: 1, Name: "ext", Events: []string{"INVOKE"}, NewID: "id"}}
	ready := append(registered[:2:2], ExtensionNext{Call: 2, ID: "id"})
	running := append(ready[:3:3], RuntimeNext{Call: 3}, Invoke{Invocation: Invocation{RequestID: "r1"}})
	states := map[extensionState][]Event{
		extensionRegistered: registered,
		extensionReady:      ready,
		extensionRunning:    running,
		extensionInitErr:    append(registered[:2:2], ExtensionInitError{Call: 2, ID: "id"}),
		extensionExitErr:    append(registered[:2:2], ExtensionExitError{Call: 2, ID: "id"}),
	}
	calls := [extensionCalls]Event{
		Register{Call: 9, Name: "ext", NewID: "other"}, ExtensionNext{Call: 9, ID: "id"},
		ExtensionInitError{Call: 9, ID: "id"}, ExtensionExitError{Call: 9, ID: "id"},
	}
	for _, externals := range [][]string{{"ext"}, nil} {
		for state, before := range states {
			for call, ev := range calls {
				cfg := testConfig()
				cfg.Externals = externals
				m := New(cfg)
				for _, b := range before {
					m.Step(epoch(), b)
				}
				if got := m.extensions[0].state; got != state {
					t.Fatalf("%v leads to %v, not %v", before, got, state)
				}
				got := refusal(m.Step(epoch().Add(time.Second), ev), 9)
				if to := extensionTable()[state][call]; to != 0 {
					if got != nil || m.extensions[0].state != to {
						t.Errorf("%v, call %d: %+v, state %v, want %v", state, call, got, m.extensions[0].state, to)
					}
					continue
				}
				if got == nil || got.Status != 403 || !strings.HasPrefix(got.ErrorType, "Extension.") {
					t.Errorf("%v, call %d: %+v, want a refusal", state, call, got)
				}
				if m.extensions[0].state != state {
					t.Errorf("%v, call %d: refused, but the state is %v", state, call, m.extensions[0].state)
				}
			}
		}
	}
}

func refusal(acts []Action, c Call) *Refuse {
	for _, a := range acts {
		if r, ok := a.(Refuse); ok && r.Call == c {
			return &r
		}
	}
	return nil
}
