package telemetryapi

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/firn-run/firn/internal/lifecycle"
	"github.com/firn-run/firn/internal/telemetry"
)

const (
	// maxRecordBytes is the longest encoded line: what the smallest maxBytes
	// allows in one delivery. A longer one is cut.
	maxRecordBytes = 2*minMaxBytes - 2
	// cutBytes is the text of each part: escaped to six times its size, it
	// still fits.
	cutBytes = 64 << 10
	// keepScratch is what the encoder keeps after a long line.
	keepScratch = 64 << 10
)

// form is how a record is written. Platform records have the form of the Logs
// API and that of the Telemetry API; lines are strings or objects.
type form int

const (
	formLogs form = iota
	formTelemetry
	forms

	formString = formLogs
	formObject = formTelemetry
)

// encoded is one thing that happened in one form: mostly one record, several
// where a schema has several, none where it has none.
type encoded struct {
	ready bool
	buf   []byte
	ends  []int // where each record ends in buf
}

func (e *encoded) reset() {
	e.ready = false
	if cap(e.buf) > keepScratch {
		e.buf = nil
	}
	e.buf, e.ends = e.buf[:0], e.ends[:0]
}

// end closes a record.
func (e *encoded) end() { e.ends = append(e.ends, len(e.buf)) }

// encoder writes what happens in every form that is asked for, once.
type encoder struct {
	objects bool // the function's log format is JSON
	clock   clock
	out     [forms]encoded
	json    bytes.Buffer
}

// next forgets the encodings of what happened before.
func (e *encoder) next() {
	for i := range e.out {
		e.out[i].reset()
	}
}

// begin writes an envelope up to the record.
func (e *encoder) begin(dst []byte, at time.Time, kind string) []byte {
	dst = append(dst, `{"time":"`...)
	dst = e.clock.append(dst, at)
	dst = append(dst, `","type":"`...)
	dst = append(dst, kind...)
	return append(dst, `","record":`...)
}

// wants says whether a schema has a platform record: section 3.4.
func (s schema) wants(rec lifecycle.Record) bool {
	switch rec.(type) {
	case lifecycle.RuntimeDone:
		return s != logs2020
	case lifecycle.InitStart:
		return s > logs2021
	}
	return true
}

func (s schema) platformForm() form {
	if s > logs2021 {
		return formTelemetry
	}
	return formLogs
}

func (s schema) lineForm() form {
	if s >= telemetry202212 {
		return formObject
	}
	return formString
}

// platform returns a record in a form.
func (e *encoder) platform(f form, rec lifecycle.Record) *encoded {
	out := &e.out[f]
	if out.ready {
		return out
	}
	out.ready = true
	if f == formTelemetry {
		e.record(out, rec.When(), rec.RecordType(), rec)
	} else {
		e.logsRecord(out, rec)
	}
	return out
}

// record appends one record of any shape that encoding/json can write.
func (e *encoder) record(out *encoded, at time.Time, kind string, value any) {
	e.json.Reset()
	j := json.NewEncoder(&e.json)
	j.SetEscapeHTML(false)
	if err := j.Encode(value); err != nil {
		return // only a number that JSON does not have; none of ours is
	}
	out.buf = e.begin(out.buf, at, kind)
	out.buf = append(out.buf, bytes.TrimSuffix(e.json.Bytes(), []byte{'\n'})...)
	out.buf = append(out.buf, '}')
	out.end()
}

// The records of the Logs API where they differ: fewer fields, and end and
// fault beside the report.
type (
	logsRequest struct {
		RequestID string `json:"requestId"`
	}
	logsStart struct {
		RequestID string           `json:"requestId"`
		Version   string           `json:"version,omitempty"`
		Tracing   *lifecycle.Trace `json:"tracing,omitempty"`
	}
	logsRuntimeDone struct {
		RequestID string `json:"requestId"`
		Status    string `json:"status"`
	}
	logsReport struct {
		RequestID string                  `json:"requestId"`
		Metrics   lifecycle.ReportMetrics `json:"metrics"`
		Tracing   *lifecycle.Trace        `json:"tracing,omitempty"`
	}
	logsInitRuntimeDone struct {
		InitializationType string `json:"initializationType"`
		Status             string `json:"status"`
	}
	logsInitReport struct {
		InitializationType string          `json:"initializationType"`
		Metrics            logsInitMetrics `json:"metrics"`
	}
	logsInitMetrics struct {
		DurationMs       float64 `json:"durationMs"`
		BilledDurationMs int64   `json:"billedDurationMs"`
	}
)

// logsStatus is a status in the Logs API, which has no "error".
func logsStatus(status string) string {
	if status == lifecycle.StatusError {
		return lifecycle.StatusFailure
	}
	return status
}

func (e *encoder) logsRecord(out *encoded, rec lifecycle.Record) {
	at, kind := rec.When(), rec.RecordType()
	switch r := rec.(type) {
	case lifecycle.Start:
		e.record(out, at, kind, logsStart{r.RequestID, r.Version, r.Tracing})
	case lifecycle.RuntimeDone:
		e.record(out, at, kind, logsRuntimeDone{r.RequestID, logsStatus(r.Status)})
	case lifecycle.Report:
		if r.Fatal {
			e.record(out, at, "platform.fault", fault(&r))
		}
		e.record(out, at, "platform.end", logsRequest{r.RequestID})
		e.record(out, at, kind, logsReport{r.RequestID, r.Metrics, r.Tracing})
	case lifecycle.InitRuntimeDone:
		e.record(out, at, kind, logsInitRuntimeDone{r.InitializationType, logsStatus(r.Status)})
	case lifecycle.InitReport:
		e.record(out, at, kind, logsInitReport{r.InitializationType,
			logsInitMetrics{r.Metrics.DurationMs, int64(math.Ceil(r.Metrics.DurationMs))}})
	default:
		e.record(out, at, kind, rec)
	}
}

// fault is the text of platform.fault in the newer style.
func fault(r *lifecycle.Report) string {
	var b strings.Builder
	b.WriteString("RequestId: " + r.RequestID + " Status: " + r.Status)
	if r.ErrorType != "" {
		b.WriteString("\tErrorType: " + r.ErrorType)
	}
	return b.String()
}

// line returns a line in a form.
func (e *encoder) line(f form, line *telemetry.Line) *encoded {
	if f == formObject && (!e.objects || len(line.Text) == 0) {
		f = formString
	}
	out := &e.out[f]
	switch {
	case out.ready && len(out.ends) > 0:
		return out
	case out.ready: // an object was looked for, in vain
		return e.line(formString, line)
	}
	out.ready = true
	kind := "function"
	if line.Extension != "" {
		kind = "extension"
	}
	if f == formObject {
		object, ok := jsonObject(line.Text)
		if !ok || len(object) > maxRecordBytes-len(`{"time":"2006-01-02T15:04:05.000Z","type":"extension","record":}`) {
			return e.line(formString, line)
		}
		out.buf = append(append(e.begin(out.buf, line.Time, kind), object...), '}')
		out.end()
		return out
	}
	if !e.text(out, line.Time, kind, line.Text) {
		e.parts(out, line, kind)
	}
	return out
}

// text appends one string record, with a line feed at its end, and says
// whether it was short enough.
func (e *encoder) text(out *encoded, at time.Time, kind string, text []byte) bool {
	from := len(out.buf)
	out.buf = append(e.begin(out.buf, at, kind), '"')
	out.buf = appendEscaped(out.buf, text)
	if len(text) == 0 || text[len(text)-1] != '\n' {
		out.buf = append(out.buf, `\n`...)
	}
	out.buf = append(out.buf, `"}`...)
	if len(out.buf)-from > maxRecordBytes {
		out.buf = out.buf[:from]
		return false
	}
	out.end()
	return true
}

// parts appends a line that no delivery could hold as several records, cut
// between characters.
func (e *encoder) parts(out *encoded, line *telemetry.Line, kind string) {
	for text := line.Text; len(text) > 0; {
		n := min(len(text), cutBytes)
		for back := 0; n < len(text) && back < utf8.UTFMax-1 && !utf8.RuneStart(text[n]); back++ {
			n--
		}
		e.text(out, line.Time, kind, text[:n])
		text = text[n:]
	}
}

// jsonObject returns a text that is one JSON object, fit for one line of valid
// UTF-8.
func jsonObject(text []byte) ([]byte, bool) {
	text = bytes.TrimSpace(text)
	if len(text) < 2 || text[0] != '{' || text[len(text)-1] != '}' || !json.Valid(text) {
		return nil, false
	}
	if !utf8.Valid(text) {
		text = bytes.ToValidUTF8(text, []byte("\ufffd"))
	}
	if bytes.ContainsAny(text, "\r\n") { // between tokens only: strings cannot hold them
		text = bytes.Map(func(r rune) rune {
			if r == '\r' || r == '\n' {
				return ' '
			}
			return r
		}, text)
	}
	return text, true
}
