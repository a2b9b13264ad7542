package telemetry

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/firn-run/firn/internal/lifecycle"
)

// TimeLayout is how AWS writes times in records and logs, in UTC.
const TimeLayout = "2006-01-02T15:04:05.000Z"

// AppendRecord appends what CloudWatch shows of a platform record in the
// function's log format: the lines of AppendText, or one line of JSON as the
// Telemetry API has it, if its level is one that the function logs. END has no
// JSON, and what only subscribers get has no line at all.
func AppendRecord(dst []byte, src *Source, rec lifecycle.Record) []byte {
	if !src.Format.JSON {
		return AppendText(dst, rec)
	}
	l := recordLevel(rec)
	if l == levelNone || l < least(src.Format.System) {
		return dst
	}
	out := bytes.NewBuffer(dst)
	before := out.Len()
	out.WriteString(`{"time":"`)
	out.Write(rec.When().UTC().AppendFormat(out.AvailableBuffer(), TimeLayout))
	out.WriteString(`","type":"`)
	out.WriteString(rec.RecordType())
	out.WriteString(`","record":`)
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(rec); err != nil {
		return out.Bytes()[:before] // a NaN; records hold nothing else that has no JSON
	}
	line := out.Bytes()
	line[len(line)-1] = '}' // instead of the encoder's line feed
	return append(line, '\n')
}

// recordLevel is the level that AWS gives a record in the JSON format (section
// 9), or levelNone for those that are not logged.
func recordLevel(rec lifecycle.Record) level {
	switch r := rec.(type) {
	case lifecycle.InitStart:
		return levelDebug // INFO with the version of a managed runtime, which is told nowhere yet
	case lifecycle.InitRuntimeDone:
		return unless(r.Status, levelDebug)
	case lifecycle.InitReport:
		if r.InitializationType != "on-demand" {
			return unless(r.Status, levelInfo)
		}
		return unless(r.Status, levelDebug)
	case lifecycle.Start:
		return levelInfo
	case lifecycle.RuntimeDone:
		return unless(r.Status, levelDebug)
	case lifecycle.Report:
		return unless(r.Status, levelInfo)
	case lifecycle.Extension, lifecycle.TelemetrySubscription, lifecycle.LogsSubscription:
		return levelInfo
	}
	return levelNone
}

// unless is l for a success, else WARN.
func unless(status string, l level) level {
	if status == lifecycle.StatusSuccess {
		return l
	}
	return levelWarn
}

// AppendLine appends what CloudWatch shows of a line of output, ended by a line
// feed; nothing when its level is below the function's. Only with the JSON
// format is there any filtering, and it sees what tells of its level: frames of
// managed runtimes, and JSON objects with the keys "level" and "timestamp". An
// object without a valid level and time counts as INFO, and gets a timestamp.
// Plain text has no level and is always logged, as are the lines of extensions:
// the application level is the function's.
func AppendLine(dst []byte, src *Source, line Line) []byte {
	if !src.Format.JSON || line.Extension != "" {
		dst = append(dst, line.Text...)
		if line.Open {
			return dst
		}
		return append(dst, '\n')
	}
	if line.Framed && line.Level != "" {
		if levelOf(line.Level) < least(src.Format.Application) {
			return dst
		}
		return append(append(dst, line.Text...), '\n')
	}
	object, ok := scanObject(line.Text)
	if !ok {
		return append(append(dst, line.Text...), '\n')
	}
	l := levelOf(object.level)
	timed := validTime(object.timestamp)
	if l == levelNone || !timed {
		l = levelInfo
	}
	if l < least(src.Format.Application) {
		return dst
	}
	if timed {
		return append(append(dst, line.Text...), '\n')
	}
	return appendStamped(dst, line, object)
}

// validTime says whether CloudWatch could use the timestamp: RFC 3339.
func validTime(text []byte) bool {
	const longest = len("2006-01-02T15:04:05.123456789+00:00")
	if len(text) < len("2006-01-02T15:04:05Z") || len(text) > longest {
		return false
	}
	_, err := time.Parse(time.RFC3339, string(text))
	return err == nil
}

// appendStamped gives an object a timestamp: at its end, or in the place of the
// one that is none.
func appendStamped(dst []byte, line Line, object object) []byte {
	text := line.Text
	if object.stampEnd > 0 {
		dst = append(dst, text[:object.stampBegin]...)
		dst = append(dst, '"')
		dst = line.Time.UTC().AppendFormat(dst, TimeLayout)
		dst = append(dst, '"')
		return append(append(dst, text[object.stampEnd:]...), '\n')
	}
	dst = append(dst, text[:object.end]...)
	if object.members > 0 {
		dst = append(dst, ',')
	}
	dst = append(dst, `"timestamp":"`...)
	dst = line.Time.UTC().AppendFormat(dst, TimeLayout)
	return append(dst, "\"}\n"...)
}
