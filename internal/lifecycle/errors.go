package lifecycle

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Initialization types as records name them; the others need no telling apart.
const onDemand = "on-demand"

// Error types of the platform as invokers and records see them
// (specification, section 11).
const (
	errorTimedOut          = "Sandbox.Timedout"
	errorSandboxFailure    = "Sandbox.Failure"
	errorRuntimeExit       = "Runtime.ExitError"
	errorOutOfMemory       = "Runtime.OutOfMemory"
	errorTruncated         = "Runtime.TruncatedResponse"
	errorRuntimeUnknown    = "Runtime.Unknown"
	errorInvalidEntrypoint = "Runtime.InvalidEntrypoint"
	errorTooLarge          = "Function.ResponseSizeTooLarge"
	errorExtensionCrash    = "Extension.Crash"
	errorExtensionInit     = "Extension.InitError"
	errorExtensionExit     = "Extension.ExitError"
	errorExtensionLaunch   = "Extension.LaunchError"
)

// Error types of the two APIs themselves (sections 1.4 and 2.2).
const (
	refusedRequestID          = "InvalidRequestID"
	refusedTransition         = "InvalidStateTransition"
	refusedMode               = "InvalidFunctionResponseMode"
	refusedTruncated          = "TruncatedHTTPRequest"
	refusedTooLarge           = "RequestEntityTooLarge"
	refusedExtensionName      = "Extension.InvalidExtensionName"
	refusedExtensionEvent     = "Extension.InvalidEventType"
	refusedExtensionState     = "Extension.InvalidExtensionState"
	refusedRegistrationClosed = "Extension.RegistrationClosed"
	refusedTooManyExtensions  = "Extension.TooManyExtensions"
	refusedUnknownExtension   = "Extension.UnknownExtensionIdentifier"
)

// HTTP statuses of replies, by number because this package knows no HTTP.
const (
	statusAccepted        = 202
	statusBadRequest      = 400
	statusForbidden       = 403
	statusRequestTooLarge = 413
)

const messageKilled = "Runtime exited with error: signal: killed"

// fault is a fatal error: it ends the phase and resets the environment.
type fault struct {
	errorType string
	message   string // follows "RequestId: <id> Error: "
	payload   []byte // sent to the invoker verbatim when not empty
	timeout   bool
	spindown  bool // not the function's fault: firn ends the environment
}

// reason is what extensions are told by the SHUTDOWN that follows.
func (f *fault) reason() Reason {
	switch {
	case f.timeout:
		return TimedOut
	case f.spindown:
		return Spindown
	}
	return Failed
}

// status and errorType as records tell them: a timeout has no type, what is
// firn's own fault is a failure, anything else an error (section 4, rules).
func (f *fault) status() (status, errorType string) {
	switch {
	case f == nil:
		return StatusSuccess, ""
	case f.timeout:
		return StatusTimeout, ""
	case strings.HasPrefix(f.errorType, "Sandbox."):
		return StatusFailure, f.errorType
	}
	return StatusError, f.errorType
}

// result is the answer to the invoker of a failed invocation.
func (f *fault) result(requestID string) Result {
	r := Result{Payload: f.payload, FunctionError: true, ErrorType: f.errorType}
	if len(r.Payload) == 0 {
		r.Payload = errorPayload(f.errorType, requestID, f.message)
	}
	return r
}

// errorPayload is the platform's error document (section 11).
func errorPayload(errorType, requestID, message string) []byte {
	doc := struct {
		ErrorType    string `json:"errorType"`
		ErrorMessage string `json:"errorMessage"`
	}{errorType, fmt.Sprintf("RequestId: %s Error: %s", requestID, message)}
	b, err := json.Marshal(doc)
	if err != nil {
		panic("lifecycle: a struct of two strings must marshal: " + err.Error())
	}
	return b
}

// timeout is the end of an init's limit or of the function's deadline.
func (m *Machine) timeout() fault {
	return fault{
		errorType: errorTimedOut,
		message:   fmt.Sprintf("Task timed out after %.2f seconds", m.cfg.Timeout.Seconds()),
		timeout:   true,
	}
}

func truncated() fault {
	return fault{errorType: errorTruncated, message: "Response was truncated"}
}

// runtimeExit words the end of the runtime outside of a shutdown.
func runtimeExit(ev Exited) fault {
	f := fault{errorType: errorRuntimeExit}
	if ev.OutOfMemory {
		f.errorType = errorOutOfMemory
	}
	switch {
	case ev.Signal != "":
		f.message = "Runtime exited with error: signal: " + ev.Signal
	case ev.Code != 0:
		f.message = fmt.Sprintf("Runtime exited with error: exit status %d", ev.Code)
	default:
		f.message = "Runtime exited without providing a reason"
	}
	return f
}

// extensionExit words the end of an extension outside of a shutdown. Memory
// is the function's as a whole, so running out of it is told as that.
func extensionExit(ev Exited) fault {
	f := fault{errorType: errorExtensionCrash}
	if ev.OutOfMemory {
		f.errorType = errorOutOfMemory
	}
	switch {
	case ev.Signal != "":
		f.message = "signal: " + ev.Signal
	case ev.Code != 0:
		f.message = fmt.Sprintf("exit status %d", ev.Code)
	default:
		f.message = "exit code 0"
	}
	return f
}

// milliseconds rounds to the three decimals of the records.
func milliseconds(d time.Duration) float64 {
	return float64(d.Microseconds()) / 1000
}
