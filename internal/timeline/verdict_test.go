package timeline

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firn-run/firn/internal/lifecycle"
)

// What the sentence says of each script, and of which bars.
func TestVerdicts(t *testing.T) {
	type verdict struct{ Sentence, Slow, Blamed string }
	want := map[string]verdict{
		"cold":            {"cold start 395 ms: the runtime's init took 380 ms", "runtime init 380 ms", "runtime init"},
		"tail":            {"the caller waited 12.0 ms for the function; the environment was busy 3,001 ms more for extension logger", "extension logger 3,001 ms", "logger tail"},
		"extension-init":  {"cold start 910 ms: extension vault took 420 ms to register, and was ready 350 ms after the runtime", "init of vault 770 ms", "vault starting, vault readying"},
		"timeout":         {"timed out after 3,000 ms: the function had not answered", "timeout", "runtime invoke"},
		"timeout-in-tail": {"timed out after 3,000 ms: extension logger had not finished; the caller had its answer after 11.0 ms", "timeout of extension logger", "logger tail"},
		"xray":            {"the caller waited 61.0 ms: the function took 60.7 ms, 49.0 ms of it in DynamoDB", "DynamoDB 49.0 ms", "DynamoDB call"},
		"provisioned":     {"the caller waited 30.0 ms for the function", "function 29.8 ms", "runtime latency"},
		"init-twice":      {"failed (Function.Mine): cold start 258 ms: an init that ended in error (Runtime.ExitError) took 148 ms", "failed init 148 ms", "platform init, platform init"},
		"records-only":    {"cold start 120 ms: the init took 120 ms; the environment was busy 20.0 ms more for extension logger", "init 120 ms", "platform init"},
		"crash":           {"failed (Runtime.ExitError): the caller waited 40.0 ms for the function", "function 39.0 ms", "runtime invoke"},
		"warm":            {"the caller waited 0.60 ms for the function", "function 0.56 ms", "runtime latency"},
		"running":         {"still running after 79.0 ms: the caller has its answer, extension logger has not come back", "running", ""},
	}
	for name, in := range scripts(t) {
		tl := Build(in)
		var blamed []string
		for _, l := range tl.Lanes {
			for _, b := range append(l.Bars, parts(l.Bars)...) {
				if b.Blamed {
					blamed = append(blamed, l.Name+" "+string(b.Kind))
				}
			}
		}
		if diff := cmp.Diff(want[name], verdict{tl.Verdict, tl.Slow, strings.Join(blamed, ", ")}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func parts(bars []Bar) (all []Bar) {
	for _, b := range bars {
		all = append(all, b.Parts...)
	}
	return all
}

// Who was waited for, with the margins of the specification's example: the
// register gate, the init, the invocation.
func TestWaits(t *testing.T) {
	got := Build(scripts(t)["extension-init"]).Waits
	ms := func(n int) Offset { return Offset(time.Duration(n) * time.Millisecond) }
	want := []Wait{
		{Phase: "register", Party: "vault", Took: ms(420), Margin: ms(415), Next: "logger"},
		{Phase: "init", Party: "vault", Took: ms(875), Margin: ms(350), Next: "runtime"},
		{Phase: "invoke", Party: "logger", Took: ms(9), Margin: ms(1), Next: "runtime"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDurations(t *testing.T) {
	us := func(n int) Offset { return Offset(time.Duration(n) * time.Microsecond) }
	for name, want := range map[string]Durations{
		"cold": {Caller: us(412_000), Prepare: us(900), Init: us(393_700), Latency: us(16_200), Response: us(800), Overhead: us(400),
			Tail: us(19_100), Total: us(36_100), Billed: us(430_000)},
		// The caller waited for nothing of the init of a provisioned environment.
		"provisioned": {Caller: us(30_000), Prepare: us(200), Init: us(210_000), Latency: us(19_800), Response: us(10_000), Overhead: us(1000),
			Tail: us(1000), Total: us(30_800), Billed: us(31_000)},
	} {
		if diff := cmp.Diff(want, Build(scripts(t)[name]).Durations); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// Times of rest are left out: of a picture of eleven minutes, the 200 ms that
// count take nearly all.
func TestGaps(t *testing.T) {
	tl := Build(scripts(t)["provisioned"])
	if len(tl.Gaps) != 2 {
		t.Fatalf("gaps %v, want 2", tl.Gaps)
	}
	s := newScale(tl, 100, 3)
	if x := s.x(tl.Gaps[0].Start); x < 60 {
		t.Errorf("the init of 210 ms takes %.0f of 100", x)
	}
	if got := s.x(tl.Gaps[0].End) - s.x(tl.Gaps[0].Start); got < 2.9 || got > 3.1 {
		t.Errorf("a gap takes %f, want 3", got)
	}
}

func TestFormat(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.00 ms", 1234 * time.Microsecond: "1.23 ms", 12345 * time.Microsecond: "12.3 ms", 99960 * time.Microsecond: "100 ms",
		380 * time.Millisecond: "380 ms", 3001 * time.Millisecond: "3,001 ms", 59999 * time.Millisecond: "59,999 ms", 90 * time.Second: "90.0 s",
	} {
		if got := Offset(d).String(); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "0", 20 * time.Microsecond: "20 µs", time.Second: "1,000 ms", 660050 * time.Millisecond: "660.05 s", 20 * time.Nanosecond: "0.02 µs"} {
		if got := tickLabel(Offset(d)); got != want {
			t.Errorf("tick %s: %q, want %q", d, got, want)
		}
	}
	if got := clean("a\x1b[31mb\nc\u202ed\xff"); got != "a�[31mb�c�d�" {
		t.Errorf("%q", got)
	}
}

// Without any record there is a picture still.
func TestEmpty(t *testing.T) {
	tl := Build(Input{})
	if tl.Verdict != "nothing has run yet" || tl.End != 0 {
		t.Errorf("%+v", tl)
	}
	Text(tl, TextOptions{})
	wellFormed(t, SVG(tl))
}

// An environment that never came to its invocation says how its init went.
func TestInitOnly(t *testing.T) {
	in := scripts(t)["cold"]
	in.Records = in.Records[:2]
	if got := Build(in).Verdict; !strings.HasPrefix(got, "init has been running for") {
		t.Error(got)
	}
	failed := scripts(t)["init-twice"]
	failed.Records = failed.Records[:7]
	if got := Build(failed).Verdict; got != "init ended in error (Runtime.ExitError) after 148 ms" {
		t.Error(got)
	}
}

// Colours only paint: without them the text is the same.
func TestColours(t *testing.T) {
	for name, in := range scripts(t) {
		tl := Build(in)
		coloured := Text(tl, TextOptions{Width: 100, Colour: true})
		for {
			i := strings.Index(coloured, "\x1b[")
			if i < 0 {
				break
			}
			coloured = coloured[:i] + coloured[i+strings.IndexByte(coloured[i:], 'm')+1:]
		}
		if diff := cmp.Diff(Text(tl, TextOptions{Width: 100}), coloured); diff != "" {
			t.Errorf("%s (-plain +coloured):\n%s", name, diff)
		}
	}
}

func TestSpansOnlyWhenReported(t *testing.T) {
	if got := Spans(Build(scripts(t)["running"]), SpanOptions{}); got != nil {
		t.Errorf("%d spans of an invocation that runs", len(got))
	}
	seen := map[[8]byte]string{}
	for _, s := range Spans(Build(scripts(t)["init-twice"]), SpanOptions{TraceID: [16]byte{1}, ID: [8]byte{2}}) {
		if other, ok := seen[s.ID]; ok {
			t.Errorf("%s and %s have one id", s.Name, other)
		}
		seen[s.ID] = s.Name
	}
	if len(seen) < 7 {
		t.Errorf("spans %v", seen)
	}
}

func TestParseIDs(t *testing.T) {
	c := ParseTrace("Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1;Lineage=x")
	want := TraceContext{TraceID: [16]byte{0x57, 0x59, 0xe9, 0x88, 0xbd, 0x86, 0x2e, 0x3f, 0xe1, 0xbe, 0x46, 0xa9, 0x94, 0x27, 0x27, 0x93},
		Parent: [8]byte{0x53, 0x99, 0x5c, 0x3f, 0x42, 0xcd, 0x8a, 0xd8}, Sampled: true}
	if c != want {
		t.Errorf("%+v", c)
	}
	for _, bad := range []string{"", "1-5759e988-bd862e3fe1be46a99427279", "2-5759e988-bd862e3fe1be46a994272793", "1-5759e98g-bd862e3fe1be46a994272793", "1-00000000-000000000000000000000000"} {
		if _, ok := ParseRoot(bad); ok {
			t.Errorf("%q is a root", bad)
		}
	}
}

// Only what is an extension's own tail is on its lane, whoever tells it when.
func TestTailOfUnknownExtension(t *testing.T) {
	at := func(ms int) lifecycle.Stamp {
		return lifecycle.Stamp{Time: epoch().Add(time.Duration(ms) * time.Millisecond)}
	}
	tl := Build(Input{Records: []lifecycle.Record{
		lifecycle.Start{Stamp: at(0)}, lifecycle.Phase{Stamp: at(5), Name: lifecycle.PhaseExtensionReady, Detail: "x"},
		lifecycle.Phase{Stamp: at(9), Name: lifecycle.PhaseExtensionReady, Detail: "x"}, // polls again: the first one counts
		lifecycle.Report{Stamp: at(10), Status: "success", Metrics: lifecycle.ReportMetrics{DurationMs: 10}},
	}})
	l := tl.Lanes[len(tl.Lanes)-1]
	if l.Name != "x" || len(l.Bars) != 1 || l.Bars[0].End != Offset(5*time.Millisecond) {
		t.Errorf("%+v", l)
	}
}
