package lifecycle

import (
	"testing"
	"time"
)

// The records of an init are made at its end, in the order of section 4; what
// they tell of has its own time.
func TestInitStamps(t *testing.T) {
	cfg := testConfig()
	cfg.Externals = []string{"early", "late", "never"}
	m := New(cfg)
	at := func(ms int) time.Time { return epoch().Add(time.Duration(ms) * time.Millisecond) }
	m.Step(at(0), Begin{})
	for i, name := range cfg.Externals {
		m.Step(at(1), Register{Call: Call(i + 1), Name: name, NewID: name})
	}
	m.Step(at(10), ExtensionNext{Call: 11, ID: "early"})
	m.Step(at(20), RuntimeNext{Call: 12})
	m.Step(at(30), ExtensionNext{Call: 13, ID: "late"})
	want := []struct {
		kind string
		ms   int
	}{{"platform.extension", 10}, {"platform.extension", 30}, {"platform.extension", 10000}, {"platform.initRuntimeDone", 20}, {"platform.initReport", 10000}}
	for _, a := range m.Step(at(10000), TimerFired{Timer: InitTimer}) {
		e, ok := a.(Emit)
		if !ok || e.Record.RecordType() == "firn.phase" {
			continue
		}
		if len(want) == 0 || e.Record.RecordType() != want[0].kind || !e.Record.When().Equal(at(want[0].ms)) {
			t.Fatalf("%s at %v, want %v", e.Record.RecordType(), e.Record.When().Sub(epoch()), want)
		}
		want = want[1:]
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}

// A trace is told when its root is known and the request is sampled; its span
// is the parent of the function's work.
func TestTracing(t *testing.T) {
	const root, parent = "1-5759e988-bd862e3fe1be46a994272793", "53995c3f42cd8ad8"
	for header, span := range map[string]string{
		"Root=" + root + ";Parent=" + parent + ";Sampled=1":                   parent,
		"Root=" + root + "; Parent=" + parent + "; Sampled=1;Lineage=a:0|b:1": parent,
		"Sampled=1;Root=" + root:                                              "",
		"Root=" + root + ";Parent=" + parent + ";Sampled=0":                   "-",
		"Root=" + root + ";Parent=" + parent:                                  "-",
		"Root=;Sampled=1":                                                     "-",
		"Parent=" + parent + ";Sampled=1":                                     "-",
		"Self=" + root + ";NotSampled=1":                                      "-",
		"":                                                                    "-",
		";;=;":                                                                "-",
	} {
		got := "-"
		if trace := tracing(header); trace != nil {
			got = trace.SpanID
			if trace.Value != header || trace.Type != "X-Amzn-Trace-Id" {
				t.Errorf("%q: %+v", header, trace)
			}
		}
		if got != span {
			t.Errorf("%q: span %q, want %q", header, got, span)
		}
	}
}
