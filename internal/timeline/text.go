package timeline

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// TextOptions say how a timeline is drawn for a terminal.
type TextOptions struct {
	// Width is the terminal's, in columns; between minText and maxText.
	Width int
	// Colour allows escape sequences.
	Colour bool
	// Local is the zone of the time that is shown; UTC when nil.
	Local *time.Location
}

// Widths of the drawing, in columns.
const (
	minText     = 60
	maxText     = 200
	textName    = 22 // of the lanes' names, at the most
	textGap     = 3  // of a time that is left out
	textTick    = 13 // between ticks, at least
	textIndents = 4  // levels of X-Ray segments that are indented
)

// look is how a kind of bar is drawn in a terminal: a sign that is told apart
// without colours, a colour, and what the legend says.
type look struct {
	sign   rune
	colour string
	legend string
}

func lookOf(kind BarKind) look {
	switch kind {
	case BarPrepare:
		return look{'░', "36", "environment"}
	case BarInit, BarReadying:
		return look{'▓', "33", "init"}
	case BarStarting:
		return look{'▂', "33", "registering"}
	case BarInvoke, BarLatency, BarAlong, BarExtension:
		return look{'█', "32", "working, caller waits"}
	case BarResponse:
		return look{'▆', "36", "answer's body"}
	case BarOverhead, BarTail:
		return look{'▒', "35", "after the answer"}
	case BarShutdown:
		return look{'▞', "31", "shutdown"}
	case BarCall:
		return look{'■', "34", "X-Ray segment"}
	}
	return look{'·', "90", "frozen"}
}

// textCell is one column of a lane.
type textCell struct {
	sign   rune
	colour string
}

// Text draws the timeline for a terminal, in lines of the given width at the
// most. It ends in a line feed.
func Text(t *Timeline, opts TextOptions) string {
	opts.Width = max(minText, min(opts.Width, maxText))
	d := &textDrawing{t: t, opts: opts}
	d.columns()
	d.head()
	d.axis()
	for i := range t.Lanes {
		d.lane(&t.Lanes[i])
	}
	d.legend()
	d.waits()
	return d.out.String()
}

type textDrawing struct {
	t     *Timeline
	opts  TextOptions
	out   strings.Builder
	names int // width of the names
	chart int // width of the chart
	scale *scale
	used  []BarKind
}

// columns divides the width: names, the chart, durations.
func (d *textDrawing) columns() {
	figures := 0
	for i := range d.t.Lanes {
		l := &d.t.Lanes[i]
		d.names = max(d.names, min(textName, utf8.RuneCountInString(textLaneName(l))))
		figures = max(figures, utf8.RuneCountInString(laneFigures(l, d.t.End)))
	}
	d.names = max(d.names, 8)
	figures = min(figures, d.opts.Width*2/5)
	d.chart = max(20, d.opts.Width-d.names-figures-4)
	d.scale = newScale(d.t, float64(d.chart), textGap)
}

func textLaneName(l *Lane) string {
	switch l.Kind {
	case Call:
		return strings.Repeat(" ", min(l.Depth, textIndents)) + "↳ " + clean(l.Name)
	}
	return clean(l.Name)
}

func (d *textDrawing) paint(colour, text string) string {
	if !d.opts.Colour || colour == "" || text == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// line writes one line, cut to the width; colours only for the whole of it.
func (d *textDrawing) line(colour, text string) {
	text = strings.TrimRight(cut(text, d.opts.Width), " ")
	d.out.WriteString(d.paint(colour, text))
	d.out.WriteByte('\n')
}

func (d *textDrawing) head() {
	t := d.t
	zone := d.opts.Local
	if zone == nil {
		zone = time.UTC
	}
	head := functionName(t) + "  " + clean(t.RequestID)
	if t.Environment != "" {
		head += "  environment " + clean(t.Environment)
	}
	d.line("1", head)
	for _, text := range wrap(printable(t.Verdict), d.opts.Width) {
		d.line(d.verdictColour(), text)
	}
	for _, text := range wrap(particulars(t, zone), d.opts.Width) {
		d.line("90", text)
	}
	d.out.WriteByte('\n')
}

func (d *textDrawing) verdictColour() string {
	switch {
	case d.t.failed():
		return "1;31"
	case d.t.Cold:
		return "1;33"
	}
	return "1;32"
}

func (t *Timeline) failed() bool { return t.Status != "" && t.Status != "success" }

func functionName(t *Timeline) string {
	if t.Version == "" || t.Version == "$LATEST" {
		return clean(t.Function)
	}
	return clean(t.Function) + ":" + clean(t.Version)
}

// particulars is one line of what else there is to know.
func particulars(t *Timeline, zone *time.Location) string {
	parts := []string{t.Begin.In(zone).Format("2006-01-02 15:04:05.000 MST")}
	switch {
	case t.Status != "":
		parts = append(parts, clean(t.Status)+because(t.ErrorType))
	default:
		parts = append(parts, "running")
	}
	if t.Durations.Caller > 0 {
		parts = append(parts, "caller "+ms(t.Durations.Caller))
	}
	if t.Durations.Total > 0 {
		parts = append(parts, "duration "+ms(t.Durations.Total))
	}
	if t.Durations.Billed > 0 {
		parts = append(parts, "billed "+ms(t.Durations.Billed))
	}
	return strings.Join(parts, " · ")
}

// axis writes the labels of the ticks, then the line with the ticks, the gaps
// and the moment of the answer.
func (d *textDrawing) axis() {
	labels := []rune(strings.Repeat(" ", d.chart+1))
	line := []rune(strings.Repeat("─", d.chart+1))
	for _, tick := range d.scale.ticks(textTick) {
		x := d.column(tick)
		line[x] = '┬'
		place(labels, x, tickLabel(tick), false)
	}
	for _, g := range d.t.Gaps {
		from, to := d.column(g.Start), d.column(g.End)
		for x := from; x < max(to, from+1); x++ {
			line[x] = '≈'
		}
	}
	d.line("90", strings.Repeat(" ", d.names+1)+string(labels))
	d.line("90", strings.Repeat(" ", d.names+1)+string(line))
	marks := []rune(strings.Repeat(" ", d.chart+1))
	if x, at := d.answered(); x >= 0 {
		text := "▼ answered " + ms(at)
		if x+utf8.RuneCountInString(text) > len(marks) {
			text = "answered " + ms(at) + " ▼"
			x -= utf8.RuneCountInString(text) - 1
		}
		place(marks, x, text, true)
	}
	if text := strings.TrimRight(string(marks), " "); text != "" {
		d.line("1", strings.Repeat(" ", d.names+1)+text)
	}
}

// rest says how long a gap is.
func rest(o Offset) string {
	switch d := time.Duration(o); {
	case d >= 2*time.Minute:
		return fmt.Sprintf("%.0f min", d.Minutes())
	case d >= 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return ms(o)
}

// place writes a text at a column where nothing is yet, or over what is.
func place(row []rune, x int, text string, over bool) {
	runes := []rune(text)
	if x < 0 || x+len(runes) > len(row) {
		return
	}
	if !over && strings.TrimSpace(string(row[max(0, x-1):min(len(row), x+len(runes)+1)])) != "" {
		return
	}
	copy(row[x:], runes)
}

// column is the column of a moment.
func (d *textDrawing) column(o Offset) int {
	return max(0, min(d.chart, int(d.scale.x(o))))
}

// answered is the column of the answer, or -1, and what the caller waited.
func (d *textDrawing) answered() (column int, at Offset) {
	for _, m := range d.t.Marks {
		if m.Kind == MarkAnswered {
			return d.column(m.At), d.t.Durations.Caller
		}
	}
	return -1, 0
}

func (d *textDrawing) lane(l *Lane) {
	cells := make([]textCell, d.chart+1)
	if x, _ := d.answered(); x >= 0 {
		cells[x] = textCell{'┊', "90"}
	}
	for i := range l.Bars {
		d.bar(cells, &l.Bars[i])
	}
	if laneFigures(l, d.t.End) == "" {
		for len(cells) > 0 && cells[len(cells)-1].sign == 0 {
			cells = cells[:len(cells)-1]
		}
	}
	name := cut(textLaneName(l), textName)
	d.out.WriteString(name)
	d.out.WriteString(strings.Repeat(" ", d.names-utf8.RuneCountInString(name)+1))
	for i := 0; i < len(cells); { // runs of one colour
		j := i
		var run strings.Builder
		for ; j < len(cells) && cells[j].colour == cells[i].colour; j++ {
			if cells[j].sign == 0 {
				run.WriteByte(' ')
			} else {
				run.WriteRune(cells[j].sign)
			}
		}
		d.out.WriteString(d.paint(cells[i].colour, run.String()))
		i = j
	}
	figures := cut(laneFigures(l, d.t.End), max(0, d.opts.Width-d.names-d.chart-3))
	d.out.WriteString(strings.TrimRight(" "+figures, " "))
	d.out.WriteByte('\n')
}

// bar draws a bar, its parts over it. The shortest takes a column.
func (d *textDrawing) bar(cells []textCell, b *Bar) {
	leaves := b.Parts
	if len(leaves) == 0 {
		leaves = []Bar{*b}
	}
	d.fill(cells, b, b.Failed)
	for i := range leaves {
		d.fill(cells, &leaves[i], b.Failed)
	}
}

func (d *textDrawing) fill(cells []textCell, b *Bar, failed bool) {
	from, to := d.column(b.Start), d.column(b.End)
	if from == to && b.Kind != BarInvoke && b.Kind != BarInit && b.Kind != BarExtension && b.Kind != BarCall && b.Kind != BarShutdown && b.Kind != BarLatency {
		return // a part that is too short to see
	}
	if from == len(cells)-1 {
		from--
	}
	look := lookOf(b.Kind)
	if failed && (b.Kind == BarInit || b.Kind == BarInvoke || b.Kind == BarLatency || b.Kind == BarCall) {
		look.colour = "31"
	}
	if !slices.Contains(d.used, b.Kind) {
		d.used = append(d.used, b.Kind)
	}
	for x := from; x < max(to, from+1); x++ {
		cells[x] = textCell{look.sign, look.colour}
	}
	if b.Open && to > from {
		cells[to-1].sign = '▸'
	}
}

// laneFigures are the durations of a lane's bars.
func laneFigures(l *Lane, end Offset) string {
	var parts []string
	for i := range l.Bars {
		b := &l.Bars[i]
		if b.Kind == BarFrozen || len(parts) == 4 || b.Kind == BarPrepare && b.Duration() < end/20 {
			continue
		}
		text := barFigure(l, b)
		if b.Open {
			text += "…"
		}
		if b.Failed {
			text = "✗ " + text
		}
		parts = append(parts, text)
	}
	text := strings.Join(parts, " · ")
	if slices.ContainsFunc(l.Bars, func(b Bar) bool {
		return b.Blamed || slices.ContainsFunc(b.Parts, func(p Bar) bool { return p.Blamed })
	}) {
		return "◀ " + text
	}
	return text
}

// barFigure is a bar's label and duration. What counts of an extension's work
// is how long it went on after the answer.
func barFigure(l *Lane, b *Bar) string {
	if l.Kind == Call {
		return ms(b.Duration())
	}
	if b.Kind == BarExtension {
		for i := range b.Parts {
			if p := &b.Parts[i]; p.Kind == BarTail {
				return "tail " + ms(p.Duration())
			}
		}
	}
	return clean(b.Label) + " " + ms(b.Duration())
}

// legend explains the signs that are used.
func (d *textDrawing) legend() {
	var parts []string
	plain := 0
	for _, kind := range d.used {
		look := lookOf(kind)
		text := string(look.sign) + " " + look.legend
		if slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(p, look.legend) }) {
			continue
		}
		if plain += utf8.RuneCountInString(text) + 3; plain > d.opts.Width-d.names {
			break
		}
		parts = append(parts, d.paint(look.colour, string(look.sign))+" "+look.legend)
	}
	var rests []string
	for _, g := range d.scale.gaps {
		rests = append(rests, rest(g.End-g.Start))
	}
	if len(parts) > 0 {
		d.out.WriteString("\n" + strings.Repeat(" ", d.names+1) + strings.Join(parts, "   ") + "\n")
	}
	if len(rests) > 0 {
		d.line("", strings.Repeat(" ", d.names+1)+"≈ "+strings.Join(rests, ", ")+" at rest left out")
	}
}

// waits says who was waited for in each phase.
func (d *textDrawing) waits() {
	for i, w := range d.t.Waits {
		head := strings.Repeat(" ", d.names)
		if i == 0 {
			head = "waited" + strings.Repeat(" ", max(0, d.names-6))
			d.out.WriteByte('\n')
		}
		d.line("", head+" "+waitText(w))
	}
}

// waitText is a Wait in words.
func waitText(w Wait) string {
	text := map[string]string{"register": "to start the runtime", "init": "in init", "invoke": "in invoke"}[w.Phase]
	who := clean(w.Party)
	if !w.Runtime {
		who = "extension " + who
	} else {
		who = "the runtime"
	}
	text += fmt.Sprintf(": for %s, %s", who, ms(w.Took))
	if w.Next != "" {
		text += fmt.Sprintf(" (%s longer than %s)", ms(w.Margin), clean(w.Next))
	}
	return text
}

// wrap breaks a text into lines of a width, at spaces.
func wrap(text string, width int) (lines []string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
