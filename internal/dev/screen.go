package dev

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/firn-run/firn/internal/telemetry"
)

// screen is what the user sees: the lines of the live view, and between them
// what became of each save.
type screen struct {
	style telemetry.Style

	mu  sync.Mutex
	out io.Writer
}

func newScreen(out io.Writer, style telemetry.Style) *screen {
	return &screen{out: out, style: style}
}

// Write writes whole lines.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(p)
}

// The colours of lines.
const (
	dim    = "2"
	bold   = "1"
	red    = "31"
	green  = "32"
	yellow = "33"
)

func (s *screen) paint(colour, text string) string {
	if s.style != telemetry.Colour {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

func (s *screen) line(format string, args ...any) { fmt.Fprintf(s, format+"\n", args...) }

// begin says what runs.
func (s *screen) begin(of *session) {
	p := &of.project
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s runs as %s (%s, handler %s)\n", s.paint(bold, "firn dev"), p.Folder, s.paint(bold, p.Name), p.Runtime, p.Handler)
	if p.Build != "" {
		fmt.Fprintf(&b, "  built by   %s\n", p.Build)
	}
	fmt.Fprintf(&b, "  invoke     aws lambda invoke --function-name %s --payload '{}' /dev/stdout\n", p.Name)
	if of.debugger != nil {
		fmt.Fprintf(&b, "  debugger   %s\n", of.debugger.about())
	}
	doing := "save a file and the next invocation runs it"
	if of.cfg.Input != nil {
		doing += "; Enter sends an event, JSON is one"
	}
	fmt.Fprintf(&b, "  %s; Ctrl-C ends\n", doing)
	if of.poll != "" {
		fmt.Fprintf(&b, "%s\n", s.paint(yellow, fmt.Sprintf("! the folder is looked at every %s: %s", pollStep, of.poll)))
	}
	b.WriteByte('\n')
	io.WriteString(s, b.String())
}

// namesShown is how many changed files are named.
const namesShown = 3

// reload is a reload that was done.
type reload struct {
	n       int
	changed []string
	built   time.Duration // of took; 0 without a build
	took    time.Duration // from the first sign of the save to the moment from which on invocations run it
}

func (s *screen) reloaded(r reload) {
	names := strings.Join(r.changed[:min(namesShown, len(r.changed))], ", ")
	if more := len(r.changed) - namesShown; more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	when := " · live " + short(r.took) + " after the save"
	if r.built > 0 {
		when += ", the build took " + short(r.built)
	}
	s.line("%s %s", s.paint(green, fmt.Sprintf("↻ reload %d:", r.n)), printable(names)+s.paint(dim, when))
}

func (s *screen) reloadFailed(err error) {
	s.line("%s %s", s.paint(red, "✗ no reload, the old code goes on:"), printable(err.Error()))
}

// buildFailed shows a build's own words; had says that there is older code.
func (s *screen) buildFailed(err error, took time.Duration, had bool) {
	after := "there is no code yet"
	if had {
		after = "the old code goes on"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", s.paint(red, fmt.Sprintf("✗ the build failed after %s, %s:", short(took), after)))
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintf(&b, "    %s\n", printable(line))
	}
	io.WriteString(s, b.String())
}

// note shows a line of firn's own.
func (s *screen) note(text string) { s.line("%s", s.paint(yellow, "! "+printable(text))) }

// shown is an answer with what is known of it.
type shown struct {
	answer    []byte
	failed    string // the function's error, "" for none
	err       error  // the service's
	took      time.Duration
	sinceSave time.Duration // 0 when it has nothing to do with a save
}

// answerShown bounds how much of an answer is shown.
const answerShown = 2000

func (s *screen) answered(a shown) {
	when := "in " + short(a.took)
	if a.sinceSave > 0 {
		when += ", " + short(a.sinceSave) + " after the save"
	}
	text := string(bytes.TrimSpace(a.answer))
	if len(text) > answerShown {
		text = strings.ToValidUTF8(text[:answerShown], "") + fmt.Sprintf("… (%d bytes)", len(a.answer))
	}
	sign := s.paint(green, "←")
	switch {
	case a.err != nil:
		sign, text = s.paint(red, "✗"), a.err.Error()
	case a.failed != "":
		sign = s.paint(red, "✗ "+a.failed+":")
	}
	s.line("%s %s", sign, printable(text)+s.paint(dim, " · "+when))
}

// short is a duration for people.
func short(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	case d < 10*time.Second:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(100 * time.Millisecond).String()
}

// printable keeps what functions and files are called from driving the
// terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '�'
		}
		return r
	}, text)
}
