package timeline

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Measures of the drawing, in pixels.
const (
	svgWidth  = 1120
	svgMargin = 24
	svgNames  = 150 // of the lanes' names
	svgChart  = 700
	svgRow    = 34
	svgBar    = 20
	svgGap    = 26 // of a time that is left out
	svgChar   = 6.4
	svgLeft   = svgMargin + svgNames
	svgRight  = svgLeft + svgChart
)

// svgStyle is the drawing's style sheet: light by default, dark where the
// reader prefers it. Colours are told apart by lightness too.
const svgStyle = `
svg{font:12px ui-sans-serif,system-ui,"Segoe UI",Helvetica,Arial,sans-serif}
.page{fill:#ffffff}.ink{fill:#1f2328}.dim{fill:#59636e}.stripe{fill:#f6f8fa}
.head{font-size:14px;font-weight:600}.verdict{font-size:18px;font-weight:600}.bad{fill:#c21c2c}
.num{font-variant-numeric:tabular-nums}.grid{stroke:#d1d9e0;stroke-width:1}.answer{stroke:#1a7f37;stroke-width:1.5;stroke-dasharray:4 3}
.answertext{fill:#1a7f37;font-weight:600}.caller{fill:#1a7f37;fill-opacity:.07}.busy{fill:#8250df;fill-opacity:.06}.busytext{fill:#8250df;font-weight:600}
.prepare{fill:#9fb3c8}.init{fill:#e3a008}.starting{fill:#f3cf73}.readying{fill:#e3a008}.invoke,.latency,.along,.extension{fill:#2da44e}
.response{fill:#1b7f9e}.overhead,.tail{fill:#a475f9}.frozen{fill:#dde3e9}.shutdown{fill:#cf5a4a}.call{fill:#4d8df6}.failed{fill:#d1293d}
.blamed{stroke:#1f2328;stroke-width:2}.on{fill:#1f2328;font-weight:600}.onlight{fill:#ffffff;font-weight:600}.tick{stroke:#1f2328;stroke-opacity:.45;stroke-width:1}
.rest{fill:#ffffff;stroke:#aeb8c2;stroke-dasharray:2 3}
@media (prefers-color-scheme:dark){
.page{fill:#0d1117}.ink{fill:#e6edf3}.dim{fill:#9198a1}.stripe{fill:#151b23}.grid{stroke:#2a313c}.bad{fill:#ff7b72}
.answer{stroke:#3fb950}.answertext{fill:#3fb950}.caller{fill:#3fb950;fill-opacity:.1}.busy{fill:#a371f7;fill-opacity:.1}.busytext{fill:#b692f6}
.prepare{fill:#5b6b7d}.frozen{fill:#232a33}.blamed{stroke:#f0f6fc}.rest{fill:#0d1117;stroke:#4b5563}.tick{stroke:#e6edf3}
}`

// SVG draws the timeline as a file of its own: no script, nothing loaded,
// readable on light and dark pages, with a tooltip on every bar.
func SVG(t *Timeline) []byte {
	d := &svgDrawing{t: t, scale: newScale(t, svgChart, svgGap)}
	d.layout()
	d.printf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img">`, svgWidth, d.height, svgWidth, d.height)
	d.printf("<title>%s %s: %s</title>", escape(functionName(t)), escape(t.RequestID), escape(t.Verdict))
	d.printf("<style>%s</style>", svgStyle)
	d.printf(`<rect class="page" width="%d" height="%d"/>`, svgWidth, d.height)
	d.head()
	d.backdrop()
	for i := range t.Lanes {
		d.lane(&t.Lanes[i], d.top+i*svgRow)
	}
	d.answer()
	d.foot()
	d.printf("</svg>\n")
	return []byte(d.out.String())
}

type svgDrawing struct {
	t       *Timeline
	out     strings.Builder
	scale   *scale
	verdict []string
	top     int // of the first lane
	bottom  int // of the last
	height  int
}

func (d *svgDrawing) printf(format string, args ...any) {
	fmt.Fprintf(&d.out, format, args...)
	d.out.WriteByte('\n')
}

// text writes a text; anchor is start, middle or end.
func (d *svgDrawing) text(class string, x float64, y int, anchor, text string) {
	if text == "" {
		return
	}
	d.printf(`<text class="%s" x="%.1f" y="%d" text-anchor="%s">%s</text>`, class, x, y, anchor, escape(text))
}

func (d *svgDrawing) layout() {
	d.verdict = wrap(d.t.Verdict, 92)
	d.verdict = d.verdict[:min(len(d.verdict), 4)]
	d.top = svgMargin + 26 + 26*len(d.verdict) + 22 + 62
	d.bottom = d.top + svgRow*len(d.t.Lanes)
	d.height = d.bottom + 54 + 20*len(d.t.Waits) + svgMargin
}

func (d *svgDrawing) head() {
	y := svgMargin + 12
	d.text("ink head", svgMargin, y, "start", functionName(d.t))
	d.text("dim num", svgWidth-svgMargin, y, "end", clean(d.t.RequestID)+" · environment "+clean(d.t.Environment))
	y += 6
	class := "ink verdict"
	if d.t.failed() {
		class = "bad verdict"
	}
	for _, line := range d.verdict {
		y += 26
		d.text(class, svgMargin, y, "start", line)
	}
	d.text("dim num", svgMargin, y+24, "start", particulars(d.t, time.UTC))
}

// x is the place of an offset on the page.
func (d *svgDrawing) x(o Offset) float64 { return svgLeft + d.scale.x(o) }

// backdrop draws what is behind the bars: rows, ticks, the caller's time.
func (d *svgDrawing) backdrop() {
	for i := range d.t.Lanes {
		if i%2 == 0 {
			d.printf(`<rect class="stripe" x="%d" y="%d" width="%d" height="%d"/>`, svgMargin-8, d.top+i*svgRow, svgWidth-2*svgMargin+16, svgRow)
		}
	}
	from, to, until := d.callerSpan()
	if to > from {
		d.printf(`<rect class="caller" x="%.1f" y="%d" width="%.1f" height="%d"/>`, d.x(from), d.top-22, d.x(to)-d.x(from), d.bottom-d.top+22)
	}
	if until > to && to > 0 {
		d.printf(`<rect class="busy" x="%.1f" y="%d" width="%.1f" height="%d"/>`, d.x(to), d.top-22, d.x(until)-d.x(to), d.bottom-d.top+22)
	}
	last := -1000.0
	for _, tick := range d.scale.ticks(90) {
		x := d.x(tick)
		if x-last < 60 {
			continue
		}
		last = x
		d.printf(`<line class="grid" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`, x, x, d.top-28, d.bottom)
		d.text("dim num", x, d.top-34, "middle", tickLabel(tick))
	}
	for _, g := range d.scale.gaps {
		x := d.x(g.Start)
		d.printf(`<g><title>%s in which nothing happened are left out</title><rect class="rest" x="%.1f" y="%d" width="%.1f" height="%d"/></g>`,
			escape(rest(g.End-g.Start)), x, d.top-28, max(1, d.x(g.End)-x), d.bottom-d.top+28)
		d.text("dim num", (x+d.x(g.End))/2, d.bottom+14, "middle", "≈ "+rest(g.End-g.Start))
	}
}

// callerSpan is from when to when the caller waited, and until when the
// environment was busy.
func (d *svgDrawing) callerSpan() (from, to, until Offset) {
	for _, m := range d.t.Marks {
		switch m.Kind {
		case MarkAnswered:
			to = m.At
		case MarkReport:
			until = m.At
		}
	}
	return max(0, to-d.t.Durations.Caller), to, until
}

// answer draws the moment of the answer over the lanes.
func (d *svgDrawing) answer() {
	from, to, until := d.callerSpan()
	if to == 0 {
		return
	}
	x := d.x(to)
	d.printf(`<line class="answer" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`, x, x, d.top-22, d.bottom)
	waited, busy := "caller waited "+ms(d.t.Durations.Caller), "busy "+ms(until-to)+" more"
	y := d.top - 9
	switch {
	case width(waited) < x-d.x(from):
		d.text("answertext num", x-6, y, "end", waited)
	case x-svgLeft > width(waited):
		d.text("answertext num", x-6, y, "end", waited)
	default:
		d.text("answertext num", x+6, y, "start", waited)
		if until > to && d.x(until)-x > width(waited)+width(busy)+24 {
			d.text("busytext num", x+width(waited)+20, y, "start", busy)
		}
		return
	}
	if until > to && (svgRight-x > width(busy) || d.x(until)-x > width(busy)) {
		d.text("busytext num", x+6, y, "start", busy)
	}
}

func (d *svgDrawing) lane(l *Lane, y int) {
	name, indent := clean(l.Name), 0
	class := "ink"
	switch l.Kind {
	case Platform:
		class = "dim"
	case Call:
		indent = 10 + 10*min(l.Depth, textIndents)
		name = "↳ " + name
	}
	d.printf(`<g><title>%s</title>`, escape(laneTitle(l)))
	d.text(class, float64(svgMargin+indent), y+22, "start", cut(name, 21-indent/7))
	d.printf(`</g>`)
	for i := range l.Bars {
		if l.Bars[i].Kind == BarFrozen {
			d.bar(&l.Bars[i], y)
		}
	}
	for i := range l.Bars {
		if l.Bars[i].Kind != BarFrozen {
			d.bar(&l.Bars[i], y)
		}
	}
	for _, at := range l.Lines[:min(len(l.Lines), maxLines)] {
		x := d.x(at)
		d.printf(`<line class="tick" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`, x, x, y+svgRow-6, y+svgRow-2)
	}
	d.text("ink num", svgRight+14, y+22, "start", cut(strings.TrimPrefix(laneFigures(l, d.t.End), "◀ "), 34))
}

func laneTitle(l *Lane) string {
	text := string(l.Kind) + " " + clean(l.Name)
	if l.Kind == Platform || l.Kind == Runtime {
		text = clean(l.Name)
	}
	switch {
	case l.LineCount == 1:
		text += ", 1 line of output"
	case l.LineCount > 1:
		text += fmt.Sprintf(", %d lines of output", l.LineCount)
	}
	return text
}

// bar draws a bar or its parts, with the label inside of the longest when it
// fits.
func (d *svgDrawing) bar(b *Bar, y int) {
	leaves := b.Parts
	if len(leaves) == 0 {
		leaves = []Bar{*b}
	}
	for i := range leaves {
		leaf := leaves[i]
		leaf.Failed = leaf.Failed || b.Failed && (leaf.Kind == BarLatency || leaf.Kind == BarInvoke || leaf.Kind == BarInit || leaf.Kind == BarCall)
		if leaf.Detail == "" {
			leaf.Detail = b.Detail
		}
		d.leaf(&leaf, y)
	}
}

func (d *svgDrawing) leaf(b *Bar, y int) {
	from, to := d.x(b.Start), d.x(b.End)
	w := max(1.5, to-from)
	class := string(b.Kind)
	if !slices.Contains(svgKinds(), b.Kind) { // only from JSON that is not ours
		class = string(BarFrozen)
	}
	if b.Failed {
		class += " failed"
	}
	if b.Blamed {
		class += " blamed"
	}
	top, height := y+(svgRow-svgBar)/2-1, svgBar
	if b.Kind == BarFrozen {
		top, height = y+svgRow/2-3, 4
	}
	d.printf(`<g><title>%s</title><rect class="%s" x="%.1f" y="%d" width="%.1f" height="%d" rx="2"/>`, escape(barTitle(b)), class, min(from, svgRight-w), top, w, height)
	if label := barLabel(b); b.Kind != BarFrozen && width(label)+10 < w {
		on := "on"
		switch b.Kind {
		case BarInvoke, BarLatency, BarAlong, BarExtension, BarResponse, BarOverhead, BarTail, BarShutdown, BarCall:
			on = "onlight"
		}
		if b.Failed {
			on = "onlight"
		}
		d.text(on, from+6, y+21, "start", label)
	}
	d.printf("</g>")
}

func svgKinds() []BarKind {
	return []BarKind{BarPrepare, BarInit, BarStarting, BarReadying, BarInvoke, BarLatency, BarResponse, BarOverhead,
		BarExtension, BarAlong, BarTail, BarFrozen, BarShutdown, BarCall}
}

// barLabel is what a bar says inside.
func barLabel(b *Bar) string {
	label := clean(b.Label)
	switch b.Kind {
	case BarLatency:
		label = "working"
	case BarResponse:
		label = "answering"
	case BarOverhead:
		label = "overhead"
	case BarStarting:
		label = "until registered"
	case BarReadying:
		label = "until ready"
	}
	return label + " " + ms(b.Duration())
}

func barTitle(b *Bar) string {
	text := fmt.Sprintf("%s: %s, from %s to %s", clean(b.Label), ms(b.Duration()), ms(b.Start), ms(b.End))
	if b.Open {
		text += ", not ended"
	}
	if b.Failed {
		text += ", failed"
	}
	if b.Detail != "" {
		text += " (" + clean(b.Detail) + ")"
	}
	if b.Blamed {
		text += ": this made the invocation slow"
	}
	return text
}

func (d *svgDrawing) foot() {
	y := d.bottom + 36
	for i, w := range d.t.Waits {
		if i == 0 {
			d.text("dim", svgMargin, y, "start", "Who was waited for")
		}
		d.text("ink num", svgLeft, y, "start", waitText(w))
		y += 20
	}
	// The legend, with the kinds that are there.
	var used []BarKind
	for i := range d.t.Lanes {
		for j := range d.t.Lanes[i].Bars {
			b := &d.t.Lanes[i].Bars[j]
			if len(b.Parts) == 0 && d.seen(b) {
				used = append(used, b.Kind)
			}
			for k := range b.Parts {
				if d.seen(&b.Parts[k]) {
					used = append(used, b.Parts[k].Kind)
				}
			}
		}
	}
	x, seen := float64(svgLeft), map[string]bool{}
	y = d.height - svgMargin + 4
	for _, kind := range svgKinds() {
		legend := lookOf(kind).legend
		if !slices.Contains(used, kind) || seen[legend] || x+width(legend)+24 > svgWidth-svgMargin {
			continue
		}
		seen[legend] = true
		d.printf(`<rect class="%s" x="%.1f" y="%d" width="10" height="10" rx="2"/>`, kind, x, y-9)
		d.text("dim", x+15, y, "start", legend)
		x += width(legend) + 36
	}
}

// seen says whether a bar is wide enough to be told from a line.
func (d *svgDrawing) seen(b *Bar) bool { return d.x(b.End)-d.x(b.Start) > 1.5 }

// width is about how wide a text is, in pixels.
func width(text string) float64 { return svgChar * float64(utf8.RuneCountInString(text)) }

// escape makes a text fit for XML: markup is escaped, and what XML 1.0 does
// not allow replaced.
func escape(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '<':
			b.WriteString("&lt;")
		case r == '>':
			b.WriteString("&gt;")
		case r == '&':
			b.WriteString("&amp;")
		case r == '"':
			b.WriteString("&quot;")
		case r == '\'':
			b.WriteString("&#39;")
		case r < 0x20 && r != '\t', r == 0x7f, r == 0xfffe, r == 0xffff:
			b.WriteRune('�')
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
