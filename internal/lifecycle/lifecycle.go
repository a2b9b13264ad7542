// Package lifecycle is the execution environment as a pure state machine:
// an event goes in, actions come out, and nothing else happens. There is no
// goroutine, socket, process, timer or clock inside; package environment
// turns API calls, process exits and timers into events, and actions into
// calls on the sandbox and answers to waiting requests.
//
// The rules are those of AWS's pages "Lambda execution environment lifecycle",
// "Runtime API" and "Extensions API"; every one of them is a transcript in
// testdata. Variations (provisioned concurrency, snapshots, tenant isolation)
// are settings of this one machine.
package lifecycle

import "time"

// Config fixes what does not change while an environment lives.
type Config struct {
	// InitializationType is "on-demand" or "provisioned-concurrency".
	InitializationType string
	// InitLimit bounds Init outside of an invocation (10 s on demand).
	InitLimit time.Duration
	// Timeout is the function's timeout: it bounds a whole Invoke phase,
	// with a suppressed init and the extensions' tail in it.
	Timeout time.Duration
	// Externals are the file names in /opt/extensions, in launch order.
	Externals []string
	// AccountID answers an extension that asked for the feature accountId.
	AccountID string
	// FunctionName, FunctionVersion and Handler answer register.
	FunctionName, FunctionVersion, Handler string
	// InstanceID is the log stream's name; InstanceMaxMemoryMB the memory size.
	InstanceID          string
	InstanceMaxMemoryMB int
}

// Party names a process that takes part: RuntimeParty or the file name of an
// external extension.
type Party string

// RuntimeParty is the runtime (bootstrap and what it started).
const RuntimeParty Party = "\x00runtime"

// Call identifies one HTTP request at the Runtime or Extensions API, chosen by
// the driver and unique in the environment. Every Call that enters by an event
// leaves by exactly one reply action, at once or later (a parked next), unless
// the driver reports it Gone, or ResetSandbox comes first.
type Call uint64

// Reason is why an environment shuts down.
type Reason string

// Shutdown reasons as extensions see them (lower case on the wire).
const (
	Spindown Reason = "spindown"
	TimedOut Reason = "timeout"
	Failed   Reason = "failure"
)

// Invocation is what the machine must know of one request; the payload stays
// with the driver.
type Invocation struct {
	RequestID string
	ARN       string // as invoked, with the qualifier the caller used
	TraceID   string // value of X-Amzn-Trace-Id, may be empty
	// Stream says that the invoker takes the response as it comes, whatever
	// mode the runtime gives it; otherwise every response is buffered.
	Stream bool
}

// Event is what happened. The concrete types are in events.go.
type Event interface{ event() }

// Action is what the driver must do, in the order given. The concrete types
// are in actions.go.
type Action interface{ action() }
