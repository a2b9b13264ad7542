package lifecycle

import (
	"encoding/json"
	"time"
)

// Record is a platform record of the Telemetry API's schema; the concrete
// types carry its fields by their documented names. Durations are
// milliseconds with at most three decimals.
type Record interface {
	// RecordType is the name on the wire, "platform.start" and so on.
	RecordType() string
	// When is the time of the envelope.
	When() time.Time
}

// Stamp is the time of a record, embedded in each.
type Stamp struct {
	Time time.Time `json:"-"`
}

// When returns the time.
func (s Stamp) When() time.Time { return s.Time }

// Status values of runtimeDone, report and the init records.
const (
	StatusSuccess = "success"
	StatusFailure = "failure"
	StatusError   = "error"
	StatusTimeout = "timeout"
)

// Phase values of the init records.
const (
	PhaseInit   = "init"
	PhaseInvoke = "invoke" // an init inside an invocation
)

// Span is one named part of a phase.
type Span struct {
	Name       string    `json:"name"`
	Start      time.Time `json:"start"`
	DurationMs float64   `json:"durationMs"`
}

// MarshalJSON writes the start in UTC with milliseconds, as all times of the
// schema are.
func (s Span) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Name       string  `json:"name"`
		Start      string  `json:"start"`
		DurationMs float64 `json:"durationMs"`
	}{s.Name, s.Start.UTC().Format("2006-01-02T15:04:05.000Z"), s.DurationMs})
}

// Trace is the tracing context of a record.
type Trace struct {
	SpanID string `json:"spanId,omitempty"`
	Type   string `json:"type"`
	Value  string `json:"value"`
}

// The records of Init. The stamp of InitRuntimeDone is the time of the runtime's
// first next, and that of an Extension which is ready the time of its own, both
// often before the record is made.
type (
	InitStart struct {
		Stamp
		InitializationType string `json:"initializationType"`
		Phase              string `json:"phase"`
		FunctionName       string `json:"functionName"`
		FunctionVersion    string `json:"functionVersion"`
		InstanceID         string `json:"instanceId,omitempty"`
		InstanceMaxMemory  int64  `json:"instanceMaxMemory,omitempty"` // in bytes
	}
	InitRuntimeDone struct {
		Stamp
		InitializationType string `json:"initializationType"`
		Phase              string `json:"phase"`
		Status             string `json:"status"`
		ErrorType          string `json:"errorType,omitempty"`
		Tracing            *Trace `json:"tracing,omitempty"` // of the invocation around it
	}
	InitReport struct {
		Stamp
		InitializationType string      `json:"initializationType"`
		Phase              string      `json:"phase"`
		Status             string      `json:"status"`
		ErrorType          string      `json:"errorType,omitempty"`
		Metrics            InitMetrics `json:"metrics"`
		Tracing            *Trace      `json:"tracing,omitempty"`
	}
	InitMetrics struct {
		DurationMs float64 `json:"durationMs"`
	}
)

// The records of Invoke.
type (
	Start struct {
		Stamp
		RequestID string `json:"requestId"`
		// InvokedARN is the function's ARN with the qualifier that the caller
		// used; TraceID is the whole trace header, sampled or not.
		InvokedARN string `json:"functionArn,omitempty"`
		Version    string `json:"version,omitempty"`
		Tracing    *Trace `json:"tracing,omitempty"`
		TraceID    string `json:"-"`
	}
	RuntimeDone struct {
		Stamp
		RequestID string              `json:"requestId"`
		Status    string              `json:"status"`
		ErrorType string              `json:"errorType,omitempty"`
		Metrics   *RuntimeDoneMetrics `json:"metrics,omitempty"`
		Spans     []Span              `json:"spans,omitempty"`
		Tracing   *Trace              `json:"tracing,omitempty"`
	}
	RuntimeDoneMetrics struct {
		DurationMs    float64 `json:"durationMs"`
		ProducedBytes int64   `json:"producedBytes"`
	}
	Report struct {
		Stamp
		RequestID string        `json:"requestId"`
		Status    string        `json:"status"`
		ErrorType string        `json:"errorType,omitempty"`
		Metrics   ReportMetrics `json:"metrics"`
		Spans     []Span        `json:"spans,omitempty"`
		Tracing   *Trace        `json:"tracing,omitempty"`
		// Fatal says that the invocation cost the environment, and not merely
		// that its function returned an error: the text log tells of the
		// status only then.
		Fatal bool `json:"-"`
		// InvokedARN and TraceID are those of Start.
		InvokedARN string `json:"-"`
		TraceID    string `json:"-"`
	}
	// ReportMetrics: the driver fills in MaxMemoryUsedMB.
	ReportMetrics struct {
		DurationMs       float64 `json:"durationMs"`
		BilledDurationMs int64   `json:"billedDurationMs"`
		MemorySizeMB     int     `json:"memorySizeMB"`
		MaxMemoryUsedMB  int     `json:"maxMemoryUsedMB"`
		InitDurationMs   float64 `json:"initDurationMs,omitempty"`
	}
)

// The records of extensions, and the end of the environment.
type (
	Extension struct {
		Stamp
		Name      string   `json:"name"`
		State     string   `json:"state"`
		Events    []string `json:"events"`
		ErrorType string   `json:"errorType,omitempty"`
	}
	// TelemetrySubscription and LogsSubscription say that an extension has
	// subscribed; the driver makes them.
	TelemetrySubscription struct {
		Stamp
		Name  string   `json:"name"`
		State string   `json:"state"` // "Subscribed"
		Types []string `json:"types"`
	}
	LogsSubscription TelemetrySubscription
	// LogsDropped goes to the one subscriber that was too slow.
	LogsDropped struct {
		Stamp
		Reason         string `json:"reason"`
		DroppedRecords int64  `json:"droppedRecords"`
		DroppedBytes   int64  `json:"droppedBytes"`
	}
	// Phase is firn's own record for the live view and the timeline, never
	// sent to subscribers: what no record of AWS's tells. Its stamp is exact.
	Phase struct {
		Stamp
		Name   string `json:"name"` // one of the constants
		Detail string `json:"detail,omitempty"`
	}
)

// Names of Phase records. Where the Detail is said to be an extension, it is
// its name. Records that belong to an invocation carry its request id.
const (
	// PhaseExtensionStarted and PhaseRuntimeStarted: the process is launched.
	// Detail: the extension; none for the runtime.
	PhaseExtensionStarted = "extension started"
	PhaseRuntimeStarted   = "runtime started"
	// PhaseExtensionRegistered: register was answered. Detail: the extension,
	// internal ones too.
	PhaseExtensionRegistered = "extension registered"
	// PhaseExtensionReady: next was called, for the first time in an init or
	// after an INVOKE event; then it is the end of that extension's tail.
	// Detail: the extension.
	PhaseExtensionReady = "extension ready"
	// PhaseRuntimeReady: the runtime's first next of an init.
	PhaseRuntimeReady = "runtime ready"
	// PhaseAnswered: the response is complete and the caller has its answer.
	PhaseAnswered = "answered"
	// PhaseFrozen and PhaseThawed are made by the driver, when it has done so.
	PhaseFrozen = "frozen"
	PhaseThawed = "thawed"
	// PhaseShutdown begins a shutdown or a reset. Detail: the Reason.
	PhaseShutdown = "shutdown"
	// PhaseSigterm and PhaseSigkill: the signal was ordered. Detail: "runtime",
	// or the extension.
	PhaseSigterm = "sigterm"
	PhaseSigkill = "sigkill"
	// PhaseShutdownEvent: SHUTDOWN was delivered. Detail: the extension.
	PhaseShutdownEvent = "shutdown event"
	// PhaseExtensionExited and PhaseShutdownFailed: the end of an extension's
	// shutdown, in time or not. Detail: the extension.
	PhaseExtensionExited = "extension exited"
	PhaseShutdownFailed  = "shutdown failed"
	// PhaseReset: what is left is being killed; PhaseResetDone: nothing runs.
	PhaseReset     = "reset"
	PhaseResetDone = "reset done"
	// PhaseRefused is made by the driver: a call was answered with an error.
	// Detail: the error.
	PhaseRefused = "refused"
	// PhaseSandboxFailed: firn itself could not go on. Detail: why.
	PhaseSandboxFailed = "sandbox failed"
)

// RecordType methods name each record as on the wire.
func (InitStart) RecordType() string       { return "platform.initStart" }
func (InitRuntimeDone) RecordType() string { return "platform.initRuntimeDone" }
func (InitReport) RecordType() string      { return "platform.initReport" }
func (Start) RecordType() string           { return "platform.start" }
func (RuntimeDone) RecordType() string     { return "platform.runtimeDone" }
func (Report) RecordType() string          { return "platform.report" }
func (Extension) RecordType() string       { return "platform.extension" }
func (TelemetrySubscription) RecordType() string {
	return "platform.telemetrySubscription"
}
func (LogsSubscription) RecordType() string { return "platform.logsSubscription" }
func (LogsDropped) RecordType() string      { return "platform.logsDropped" }
func (Phase) RecordType() string            { return "firn.phase" }
