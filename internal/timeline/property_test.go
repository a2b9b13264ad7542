package timeline

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/firn-run/firn/internal/lifecycle"
)

// anyInput draws records in any order, of any times, with hostile names.
func anyInput(t *rapid.T) Input {
	names := rapid.SampledFrom([]string{"logger", "guard", "a\x1b[31m\nb", "<script>&\"'", strings.Repeat("ü", 300), "\xff\xfe", ""})
	at := func() time.Time {
		return epoch().Add(time.Duration(rapid.Int64Range(-1e9, 20e9).Draw(t, "at")))
	}
	words := rapid.SampledFrom([]string{"success", "error", "timeout", "failure", "", "\x00"})
	ms := rapid.SampledFrom([]float64{0, 0.001, 3, 1e4, -5, 1e300})
	phases := rapid.SampledFrom([]string{
		lifecycle.PhaseExtensionStarted, lifecycle.PhaseExtensionRegistered, lifecycle.PhaseExtensionReady, lifecycle.PhaseRuntimeStarted,
		lifecycle.PhaseRuntimeReady, lifecycle.PhaseAnswered, lifecycle.PhaseFrozen, lifecycle.PhaseThawed, lifecycle.PhaseShutdown,
		lifecycle.PhaseSigterm, lifecycle.PhaseSigkill, lifecycle.PhaseShutdownEvent, lifecycle.PhaseExtensionExited,
		lifecycle.PhaseShutdownFailed, lifecycle.PhaseReset, lifecycle.PhaseResetDone, lifecycle.PhaseSandboxFailed, "?",
	})
	in := Input{RequestID: names.Draw(t, "id"), Function: names.Draw(t, "function"), Version: "$LATEST"}
	if rapid.Bool().Draw(t, "received") {
		in.Received = at()
	}
	for range rapid.IntRange(0, 40).Draw(t, "records") {
		stamp := lifecycle.Stamp{Time: at()}
		status, name := words.Draw(t, "status"), names.Draw(t, "name")
		var rec lifecycle.Record
		switch rapid.IntRange(0, 9).Draw(t, "kind") {
		case 0:
			rec = lifecycle.InitStart{Stamp: stamp, InitializationType: rapid.SampledFrom([]string{"on-demand", "provisioned-concurrency"}).Draw(t, "type"),
				Phase: rapid.SampledFrom([]string{"init", "invoke"}).Draw(t, "phase")}
		case 1:
			rec = lifecycle.Extension{Stamp: stamp, Name: name, Events: []string{"INVOKE"}, ErrorType: status}
		case 2:
			rec = lifecycle.InitRuntimeDone{Stamp: stamp, Status: status, ErrorType: name}
		case 3:
			rec = lifecycle.InitReport{Stamp: stamp, Status: status, ErrorType: name, Metrics: lifecycle.InitMetrics{DurationMs: ms.Draw(t, "ms")}}
		case 4:
			rec = lifecycle.Start{Stamp: stamp, RequestID: "r1"}
		case 5:
			rec = lifecycle.RuntimeDone{Stamp: stamp, Status: status, ErrorType: name, Spans: []lifecycle.Span{
				{Name: "responseLatency", Start: at(), DurationMs: ms.Draw(t, "ms")}, {Name: "responseDuration", Start: at(), DurationMs: ms.Draw(t, "ms")},
				{Name: name, Start: at(), DurationMs: ms.Draw(t, "ms")}}}
		case 6:
			rec = lifecycle.Report{Stamp: stamp, Status: status, ErrorType: name, Metrics: lifecycle.ReportMetrics{DurationMs: ms.Draw(t, "ms"), BilledDurationMs: rapid.Int64().Draw(t, "billed")}}
		default:
			rec = lifecycle.Phase{Stamp: stamp, Name: phases.Draw(t, "step"), Detail: name}
		}
		in.Records = append(in.Records, rec)
	}
	for range rapid.IntRange(0, 5).Draw(t, "segments") {
		id := rapid.SampledFrom([]string{"00000000000000a1", "00000000000000a2", "00000000000000a3"})
		s := Segment{TraceID: "1-5759e988-bd862e3fe1be46a994272793", ID: id.Draw(t, "id"), ParentID: id.Draw(t, "parent"), Name: names.Draw(t, "name"), Start: at()}
		if rapid.Bool().Draw(t, "ended") {
			s.End = at()
		}
		in.Segments = append(in.Segments, s)
	}
	for range rapid.IntRange(0, 3).Draw(t, "lines") {
		in.Lines = append(in.Lines, Line{Time: at(), Extension: names.Draw(t, "extension")})
	}
	return in
}

// Whatever the records are, the picture is sound: bars lie within it and
// within each other, nothing is negative, and every drawing is well formed.
func TestProperties(t *testing.T) { rapid.Check(t, checkProperties) }

func FuzzBuild(f *testing.F) { f.Fuzz(rapid.MakeFuzz(checkProperties)) }

func checkProperties(t *rapid.T) {
	tl := Build(anyInput(t))
	if tl.End < 0 || tl.Verdict == "" {
		t.Fatalf("end %d, verdict %q", tl.End, tl.Verdict)
	}
	for _, d := range []Offset{tl.Durations.Caller, tl.Durations.Prepare, tl.Durations.Init, tl.Durations.Latency, tl.Durations.Response,
		tl.Durations.Overhead, tl.Durations.Tail, tl.Durations.Total, tl.Durations.Billed} {
		if d < 0 {
			t.Fatalf("a negative duration: %+v", tl.Durations)
		}
	}
	for _, l := range tl.Lanes {
		checkBars(t, l.Bars, 0, tl.End)
		for _, at := range l.Lines {
			if at < 0 || at > tl.End {
				t.Fatalf("a line at %d of %d", at, tl.End)
			}
		}
	}
	for _, w := range tl.Waits {
		if w.Took < 0 || w.Margin < 0 {
			t.Fatalf("%+v", w)
		}
	}
	last := Offset(0)
	for _, g := range tl.Gaps {
		if g.Start < last || g.End <= g.Start || g.End > tl.End {
			t.Fatalf("gaps %v", tl.Gaps)
		}
		last = g.End
	}
	checkScale(t, tl)
	checkDrawings(t, tl)
	for _, s := range Spans(tl, SpanOptions{TraceID: [16]byte{1}, ID: [8]byte{1}}) {
		if s.End.Before(s.Start) || s.ID == [8]byte{} {
			t.Fatalf("span %+v", s)
		}
	}
}

func checkBars(t *rapid.T, bars []Bar, from, to Offset) {
	at := from
	for _, b := range bars {
		if b.Start < at || b.End < b.Start || b.End > to {
			t.Fatalf("bar %s from %d to %d is not within %d and %d, after %d", b.Label, b.Start, b.End, from, to, at)
		}
		at = b.End
		checkBars(t, b.Parts, b.Start, b.End)
	}
}

func checkScale(t *rapid.T, tl *Timeline) {
	s := newScale(tl, 80, 3)
	last := 0.0
	for i := range Offset(50) {
		x := s.x(tl.End / 49 * i)
		if x < last-1e-9 || x > 80 {
			t.Fatalf("the axis goes back or beyond: %f after %f", x, last)
		}
		last = x
	}
	if ticks := s.ticks(10); len(ticks) > 81/10*2+2 {
		t.Fatalf("%d ticks", len(ticks))
	}
}

func checkDrawings(t *rapid.T, tl *Timeline) {
	width := rapid.IntRange(0, 250).Draw(t, "width")
	text := Text(tl, TextOptions{Width: width})
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if n := utf8.RuneCountInString(line); n > max(minText, min(width, maxText)) {
			t.Fatalf("a line of %d columns in a terminal of %d:\n%s", n, width, text)
		}
		if strings.ContainsFunc(line, unicode.IsControl) || !utf8.ValidString(line) {
			t.Fatalf("control characters in %q", line)
		}
	}
	svg := SVG(tl)
	wellFormed(t, svg)
	raw, err := json.Marshal(tl)
	if err != nil {
		t.Fatal(err)
	}
	var back, again Timeline // the first way replaces what is not UTF-8
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	if raw, err = json.Marshal(&back); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(back, again); diff != "" {
		t.Fatalf("JSON does not survive: %s", diff)
	}
}

// wellFormed checks that a drawing is XML without anything that runs or loads.
func wellFormed(t interface{ Fatalf(string, ...any) }, svg []byte) {
	dec := xml.NewDecoder(bytes.NewReader(svg))
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("not XML: %v\n%s", err, svg)
			return
		}
		if e, ok := token.(xml.StartElement); ok {
			switch e.Name.Local {
			case "svg", "g", "rect", "text", "line", "title", "style":
			default:
				t.Fatalf("an element %s", e.Name.Local)
			}
			for _, a := range e.Attr {
				if strings.HasPrefix(a.Name.Local, "on") || a.Name.Local == "href" {
					t.Fatalf("an attribute %s", a.Name.Local)
				}
			}
		}
	}
}

// A timeline that comes from elsewhere, as JSON, is drawn whatever it holds.
func FuzzDraw(f *testing.F) {
	for _, in := range scripts(f) {
		raw, err := json.Marshal(Build(in))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte(`{"endMs":-1,"lanes":[{"kind":"runtime","bars":[{"startMs":1e300,"endMs":-5,"parts":[{}]}]}],"gaps":[{"startMs":5,"endMs":1}]}`))
	f.Add([]byte(`{"endMs":1e9,"gaps":[{"startMs":0,"endMs":1e9}],"marks":[{"kind":"answered","atMs":-7}],"waits":[{}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var tl Timeline
		if json.Unmarshal(raw, &tl) != nil {
			return
		}
		Text(&tl, TextOptions{Width: 80, Colour: true})
		wellFormed(t, SVG(&tl))
	})
}

func FuzzParseTrace(f *testing.F) {
	f.Add("Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1")
	f.Add("Sampled=1; Root=1-zzzzzzzz-bd862e3fe1be46a994272793;Parent=;=;")
	f.Fuzz(func(t *testing.T, header string) {
		c := ParseTrace(header)
		if c.Sampled && c.TraceID == [16]byte{} {
			t.Errorf("%q is sampled and has no trace", header)
		}
	})
}
