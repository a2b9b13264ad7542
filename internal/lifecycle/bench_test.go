package lifecycle

import (
	"testing"
	"time"
)

// warmCycle is one warm invocation: four events with the runtime alone, five
// with an extension that subscribed to INVOKE.
func warmCycle(m *Machine, now time.Time, call Call, inv Event, extension bool) Call {
	m.Step(now, inv)
	m.Step(now, RuntimeResponse{Call: call, RequestID: "r1"})
	m.Step(now, RuntimeResponseDone{Call: call, Bytes: 2})
	call++
	if extension {
		m.Step(now, ExtensionNext{Call: call, ID: "id"})
		call++
	}
	m.Step(now, RuntimeNext{Call: call})
	return call + 1
}

func warmMachine(t testing.TB, extension bool) *Machine {
	cfg := testConfig()
	if extension {
		cfg.Externals = []string{"ext"}
	}
	m := New(cfg)
	m.Step(epoch(), Begin{})
	if extension {
		m.Step(epoch(), Register{Call: 1, Name: "ext", Events: []string{"INVOKE"}, NewID: "id"})
		m.Step(epoch(), ExtensionNext{Call: 2, ID: "id"})
	}
	m.Step(epoch(), RuntimeNext{Call: 3})
	if m.stage != stageIdle {
		t.Fatalf("not idle but in stage %d", m.stage)
	}
	return m
}

func BenchmarkWarmInvoke(b *testing.B) { benchmarkWarm(b, false) }

func BenchmarkWarmInvokeExtension(b *testing.B) { benchmarkWarm(b, true) }

func benchmarkWarm(b *testing.B, extension bool) {
	m := warmMachine(b, extension)
	var inv Event = Invoke{Invocation: Invocation{RequestID: "r1"}}
	now, call := epoch(), Call(1000)
	b.ReportAllocs()
	for b.Loop() {
		call = warmCycle(m, now, call, inv, extension)
	}
	if m.stage != stageIdle {
		b.Fatalf("not idle but in stage %d", m.stage)
	}
}

// TestWarmInvokeAllocations holds the warm path to what its actions are: each
// is a value in an interface, and nothing beside them is allocated.
func TestWarmInvokeAllocations(t *testing.T) {
	m := warmMachine(t, false)
	var inv Event = Invoke{Invocation: Invocation{RequestID: "r1"}}
	call := Call(1000)
	got := testing.AllocsPerRun(100, func() { call = warmCycle(m, epoch(), call, inv, false) })
	if got > maxWarmAllocations {
		t.Errorf("%v allocations, want at most %d", got, maxWarmAllocations)
	}
}

const maxWarmAllocations = 16 // twelve actions, four records in them
