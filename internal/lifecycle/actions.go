package lifecycle

import "time"

// Timer names a timer; at most one of each name runs.
type Timer string

// The timers of an environment.
const (
	InitTimer            Timer = "init"             // end of the init limit
	InvokeTimer          Timer = "invoke"           // the function's deadline
	ShutdownRuntimeTimer Timer = "shutdown-runtime" // the runtime's share is over: SIGKILL
	ShutdownTimer        Timer = "shutdown"         // the whole budget is over
)

// Actions on processes and on the sandbox.
type (
	// Launch starts a party's process: bootstrap, or the extension's file.
	Launch struct{ Party Party }
	// Terminate sends SIGTERM to a party.
	Terminate struct{ Party Party }
	// Kill sends SIGKILL to a party. Its end is still reported by Exited.
	Kill struct{ Party Party }
	// ResetSandbox kills every process inside; ResetDone answers it. Calls
	// that are open get no reply any more: the driver closes all connections
	// between the two.
	ResetSandbox struct{}
	// FullSpeed lifts the processor limit (Init), LimitSpeed sets the
	// function's share again.
	FullSpeed  struct{}
	LimitSpeed struct{}
	// Freeze says that no party has work: processes may be frozen. Thaw
	// precedes every action that needs them to run.
	Freeze struct{}
	Thaw   struct{}
	// SetTimer arms a timer, replacing one of the same name.
	SetTimer struct {
		Timer Timer
		At    time.Time
	}
	// StopTimer disarms it.
	StopTimer struct{ Timer Timer }
)

// Replies to calls.
type (
	// Reply answers with {"status":"OK"} and the status (200, 202).
	Reply struct {
		Call   Call
		Status int
	}
	// Refuse answers with {"errorMessage","errorType"} and the status.
	Refuse struct {
		Call      Call
		Status    int
		ErrorType string
		Message   string
	}
	// AcceptBody lets the driver read the body of a response: whole, up to
	// firn.MaxPayloadBytes, or with Stream on to the invoker as it comes, up to
	// firn.MaxStreamedBytes.
	AcceptBody struct {
		Call   Call
		Stream bool
	}
	// ReplyRegistered answers register.
	ReplyRegistered struct {
		Call      Call
		ID        string
		AccountID bool
	}
	// AcceptSubscription lets the driver carry a subscription out and answer
	// it, with its success or with what is wrong with the body.
	AcceptSubscription struct {
		Call Call
		Name string // of the extension
		API  API
		Body []byte
	}
	// DeliverInvoke answers the runtime's next with the event.
	DeliverInvoke struct {
		Call       Call
		Invocation Invocation
		Deadline   time.Time
	}
	// DeliverExtensionInvoke answers an extension's next with INVOKE.
	DeliverExtensionInvoke struct {
		Call       Call
		Invocation Invocation
		Deadline   time.Time
	}
	// DeliverExtensionShutdown answers an extension's next with SHUTDOWN.
	DeliverExtensionShutdown struct {
		Call     Call
		Reason   Reason
		Deadline time.Time
	}
	// Drop closes the connection of a parked call without an answer (the
	// process behind it is dead or about to be killed).
	Drop struct{ Call Call }
)

// What the engine is told.
type (
	// Answer ends the caller's wait. Exactly one is given per Invoke.
	Answer struct {
		RequestID string
		Result    Result
	}
	// InvocationDone follows when runtime and extensions are through with
	// the invocation (or were ended) and its report was emitted.
	InvocationDone struct{ RequestID string }
	// Ready says that the next Invoke may come: after a successful Init, at
	// the end of an invocation, and after a reset (then the next invocation
	// begins with a suppressed init). InitFailed tells the difference once.
	Ready struct{ InitFailed bool }
	// Ended is the last action: the sandbox can be closed.
	Ended struct{}
	// Emit hands out a platform record. The driver adds what it alone knows
	// (memory used).
	Emit struct{ Record Record }
)

// Result is the outcome of an invocation for its caller.
type Result struct {
	// FromResponse is set when the payload is the body of the accepted
	// response, which the invoker has already when it was a stream; otherwise
	// Payload holds it. Of a stream that failed midway Payload is what the
	// runtime told of the error.
	FromResponse bool
	Payload      []byte
	// FunctionError is set when the caller sees X-Amz-Function-Error.
	FunctionError bool
	// ErrorType is the platform's name of the error, "" on success.
	ErrorType string
}

func (Launch) action()                   {}
func (Terminate) action()                {}
func (Kill) action()                     {}
func (ResetSandbox) action()             {}
func (FullSpeed) action()                {}
func (LimitSpeed) action()               {}
func (Freeze) action()                   {}
func (Thaw) action()                     {}
func (SetTimer) action()                 {}
func (StopTimer) action()                {}
func (Reply) action()                    {}
func (Refuse) action()                   {}
func (AcceptBody) action()               {}
func (ReplyRegistered) action()          {}
func (AcceptSubscription) action()       {}
func (DeliverInvoke) action()            {}
func (DeliverExtensionInvoke) action()   {}
func (DeliverExtensionShutdown) action() {}
func (Drop) action()                     {}
func (Answer) action()                   {}
func (InvocationDone) action()           {}
func (Ready) action()                    {}
func (Ended) action()                    {}
func (Emit) action()                     {}
