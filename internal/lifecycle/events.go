package lifecycle

// Events of the engine.
type (
	// Begin starts Init. It is the first event of an environment.
	Begin struct{}
	// Invoke hands over a request. It may come while Init still runs (the
	// machine holds it until then), but never while another is in flight.
	Invoke struct{ Invocation Invocation }
	// Shutdown asks for an orderly end (Spindown). With an invocation in
	// flight it takes effect when that invocation is over.
	Shutdown struct{}
	// Abort asks for an end at once: like Shutdown, but an invocation in
	// flight is answered with Sandbox.Failure first.
	Abort struct{}
	// TimerFired reports a timer set by SetTimer.
	TimerFired struct{ Timer Timer }
)

// Events of the sandbox.
type (
	// LaunchFailed reports that a party's program could not be executed.
	LaunchFailed struct {
		Party     Party
		ErrorType string // Runtime.InvalidEntrypoint, Runtime.InvalidWorkingDir, Extension.LaunchError, ...
		Message   string
	}
	// Exited reports the end of a party's process.
	Exited struct {
		Party       Party
		Code        int
		Signal      string // "killed", "segmentation fault", ...; empty when it exited by itself
		OutOfMemory bool
	}
	// OutOfMemory reports that the memory limit was passed and processes of
	// the environment were or are being killed.
	OutOfMemory struct{}
	// ResetDone answers the action ResetSandbox: no process is left.
	ResetDone struct{}
	// SandboxFailed reports that firn itself could not go on (creating the
	// sandbox, freezing it, a broken pipe to its init).
	SandboxFailed struct{ Message string }
)

// Events of the Runtime API.
type (
	// RuntimeNext is GET /runtime/invocation/next.
	RuntimeNext struct{ Call Call }
	// RuntimeResponse is the head of POST .../response: the driver reads the
	// body only after AcceptBody and then reports RuntimeResponseDone.
	RuntimeResponse struct {
		Call      Call
		RequestID string
		Streaming bool
		// BadMode says that the response's mode is none that there is. The
		// machine refuses it when nothing else is wrong; the invocation goes on.
		BadMode bool
	}
	// RuntimeResponseBegun is the first byte of a stream.
	RuntimeResponseBegun struct{ Call Call }
	// RuntimeResponseDone ends the body of an accepted response.
	RuntimeResponseDone struct {
		Call  Call
		Bytes int64
		Fault ResponseFault
		// ErrorType and ErrorBody are the trailers of a stream that failed
		// midway: any text, and the error document, decoded.
		ErrorType, ErrorBody string
	}
	// RuntimeError is POST .../error with its whole body.
	RuntimeError struct {
		Call      Call
		RequestID string
		ErrorType string // sanitised
		Payload   []byte
	}
	// RuntimeInitError is POST /runtime/init/error with its whole body.
	RuntimeInitError struct {
		Call      Call
		ErrorType string // sanitised
		Payload   []byte
	}
)

// ResponseFault is what was wrong with the body of a response.
type ResponseFault int

const (
	// ResponseComplete is a body that arrived whole.
	ResponseComplete ResponseFault = iota
	// ResponseTooLarge is a body over its limit.
	ResponseTooLarge
	// ResponseTruncated is a body shorter than declared, or a broken stream.
	ResponseTruncated
)

// API names one of the two interfaces that deliver telemetry; it is the first
// word of their error types.
type API string

// The Telemetry API (2022-07-01) and the older Logs API (2020-08-15).
const (
	TelemetryAPI API = "Telemetry"
	LogsAPI      API = "Logs"
)

// Events of the Extensions API, and of the Telemetry and Logs APIs. The driver has checked the syntax of header
// and body; the machine decides by state.
type (
	// Register is POST /extension/register.
	Register struct {
		Call      Call
		Name      string
		Events    []string // as sent; the machine refuses unknown ones
		AccountID bool     // the feature accountId was asked for
		NewID     string   // the identifier to give, a fresh UUID
	}
	// ExtensionNext is GET /extension/event/next.
	ExtensionNext struct {
		Call Call
		ID   string
	}
	// ExtensionInitError is POST /extension/init/error.
	ExtensionInitError struct {
		Call      Call
		ID        string
		ErrorType string
	}
	// ExtensionExitError is POST /extension/exit/error.
	ExtensionExitError struct {
		Call      Call
		ID        string
		ErrorType string
	}
	// Subscribe is PUT /2022-07-01/telemetry or PUT /2020-08-15/logs. The
	// machine decides who may subscribe and when; what the body asks for is
	// judged by the driver, after AcceptSubscription.
	Subscribe struct {
		Call Call
		ID   string
		API  API
		Body []byte
	}
	// Gone reports that the peer of an unanswered Call vanished.
	Gone struct{ Call Call }
)

func (Begin) event()                {}
func (Invoke) event()               {}
func (Shutdown) event()             {}
func (Abort) event()                {}
func (TimerFired) event()           {}
func (LaunchFailed) event()         {}
func (Exited) event()               {}
func (OutOfMemory) event()          {}
func (ResetDone) event()            {}
func (SandboxFailed) event()        {}
func (RuntimeNext) event()          {}
func (RuntimeResponse) event()      {}
func (RuntimeResponseBegun) event() {}
func (RuntimeResponseDone) event()  {}
func (RuntimeError) event()         {}
func (RuntimeInitError) event()     {}
func (Register) event()             {}
func (ExtensionNext) event()        {}
func (ExtensionInitError) event()   {}
func (ExtensionExitError) event()   {}
func (Subscribe) event()            {}
func (Gone) event()                 {}
