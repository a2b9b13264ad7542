package telemetry

import (
	"strconv"
	"strings"

	"github.com/firn-run/firn/internal/lifecycle"
)

// AppendText appends the log lines that AWS writes for a platform record in
// the text log format, each ended by a line feed; records that have no line
// append nothing. The lines are those of recorded CloudWatch logs: fields are
// separated by tabs, and a REPORT without status ends in a tab.
//
// END has no record of its own: it is written with the report, when the whole
// Invoke phase is over.
func AppendText(dst []byte, rec lifecycle.Record) []byte {
	switch r := rec.(type) {
	case lifecycle.Start:
		dst = append(dst, "START RequestId: "...)
		dst = append(dst, r.RequestID...)
		dst = append(dst, " Version: "...)
		dst = append(dst, r.Version...)
		return append(dst, '\n')
	case lifecycle.Report:
		return appendReport(dst, &r)
	case lifecycle.InitReport:
		return appendInitReport(dst, &r)
	case lifecycle.Extension:
		dst = append(dst, "EXTENSION\tName: "...)
		dst = append(dst, r.Name...)
		dst = append(dst, "\tState: "...)
		dst = append(dst, r.State...)
		dst = append(dst, "\tEvents: ["...)
		dst = append(dst, strings.Join(r.Events, ", ")...)
		dst = append(dst, ']')
		if r.ErrorType != "" {
			dst = append(dst, "\tError Type: "...)
			dst = append(dst, r.ErrorType...)
		}
		return append(dst, '\n')
	case lifecycle.TelemetrySubscription:
		return appendSubscription(dst, "TELEMETRY", &r)
	case lifecycle.LogsSubscription:
		return appendSubscription(dst, "LOGS", (*lifecycle.TelemetrySubscription)(&r))
	}
	return dst
}

func appendSubscription(dst []byte, api string, r *lifecycle.TelemetrySubscription) []byte {
	dst = append(dst, api...)
	dst = append(dst, "\tName: "...)
	dst = append(dst, r.Name...)
	dst = append(dst, "\tState: "...)
	dst = append(dst, r.State...)
	dst = append(dst, "\tTypes: ["...)
	for i, kind := range r.Types {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		if kind != "" { // platform, function, extension: in capitals here
			dst = append(dst, strings.ToUpper(kind[:1])...)
			dst = append(dst, kind[1:]...)
		}
	}
	return append(dst, "]\n"...)
}

func appendReport(dst []byte, r *lifecycle.Report) []byte {
	dst = append(dst, "END RequestId: "...)
	dst = append(dst, r.RequestID...)
	dst = append(dst, "\nREPORT RequestId: "...)
	dst = append(dst, r.RequestID...)
	dst = append(dst, "\tDuration: "...)
	dst = strconv.AppendFloat(dst, r.Metrics.DurationMs, 'f', 2, 64)
	dst = append(dst, " ms\tBilled Duration: "...)
	dst = strconv.AppendInt(dst, r.Metrics.BilledDurationMs, 10)
	dst = append(dst, " ms\tMemory Size: "...)
	dst = strconv.AppendInt(dst, int64(r.Metrics.MemorySizeMB), 10)
	dst = append(dst, " MB\tMax Memory Used: "...)
	dst = strconv.AppendInt(dst, int64(r.Metrics.MaxMemoryUsedMB), 10)
	dst = append(dst, " MB\t"...)
	if r.Metrics.InitDurationMs > 0 {
		dst = append(dst, "Init Duration: "...)
		dst = strconv.AppendFloat(dst, r.Metrics.InitDurationMs, 'f', 2, 64)
		dst = append(dst, " ms\t"...)
	}
	// An error that the function's code returned is not told: recorded logs
	// have the status for what ended the environment only.
	if r.Fatal {
		dst = appendStatus(dst, r.Status, r.ErrorType)
	} else {
		dst = append(dst, '\n')
	}
	return appendTrace(dst, r.Tracing)
}

// appendTrace writes the line that follows the REPORT of a sampled request.
func appendTrace(dst []byte, trace *lifecycle.Trace) []byte {
	if trace == nil {
		return dst
	}
	var root, parent string
	for field := range strings.SplitSeq(trace.Value, ";") {
		switch key, value, _ := strings.Cut(field, "="); key {
		case "Root":
			root = value
		case "Parent":
			parent = value
		}
	}
	dst = append(dst, "XRAY TraceId: "...)
	dst = append(dst, root...)
	dst = append(dst, "\tSegmentId: "...)
	dst = append(dst, parent...)
	return append(dst, "\tSampled: true\t\n"...)
}

// appendInitReport writes the line only where AWS does: an on-demand Init that
// succeeded shows up as Init Duration in the first REPORT instead.
func appendInitReport(dst []byte, r *lifecycle.InitReport) []byte {
	if r.Status == lifecycle.StatusSuccess && r.InitializationType == "on-demand" {
		return dst
	}
	dst = append(dst, "INIT_REPORT Init Duration: "...)
	dst = strconv.AppendFloat(dst, r.Metrics.DurationMs, 'f', 2, 64)
	dst = append(dst, " ms\tPhase: "...)
	dst = append(dst, r.Phase...)
	dst = append(dst, '\t')
	return appendStatus(dst, r.Status, r.ErrorType)
}

func appendStatus(dst []byte, status, errorType string) []byte {
	if status != "" && status != lifecycle.StatusSuccess {
		dst = append(dst, "Status: "...)
		dst = append(dst, status...)
		if errorType != "" && status != lifecycle.StatusTimeout {
			dst = append(dst, "\tError Type: "...)
			dst = append(dst, errorType...)
		}
	}
	return append(dst, '\n')
}
