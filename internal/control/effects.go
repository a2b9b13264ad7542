package control

import (
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/policy"
)

// Limits is what keeps reserved and provisioned concurrency (package fleet).
// The Control tells it what is set, also at the start, and never waits for an
// effect: the methods are called under a function's lock and must not block.
type Limits interface {
	// SetReserved sets how many invocations of a function, by its unqualified
	// ARN, may run at once, taken from the account's; nil for none, and when
	// the function was deleted.
	SetReserved(functionARN string, n *int)
	// SetProvisioned keeps environments ready under the ARN of a version or
	// an alias. It replaces what was asked before under that ARN; no shares
	// end it. The shares of an alias change with its versions and weights.
	SetProvisioned(qualifiedARN string, shares []Share)
	// Provisioned tells how far that is.
	Provisioned(qualifiedARN string) ProvisionStatus
}

// Share is how many environments of one version are to be ready.
type Share struct {
	Version *firn.FunctionVersion
	N       int
}

// ProvisionStatus is how far provisioned concurrency is allocated.
type ProvisionStatus struct {
	Allocated int // environments, also those that are still starting
	Available int // ready for an invocation, or running one
	// Status is "IN_PROGRESS", "READY" or "FAILED"; empty means IN_PROGRESS.
	Status string
	Reason string // of FAILED
}

// Effects says which settings have their effect on this node. A setting
// without one is refused by name, never stored and ignored.
type Effects struct {
	// Limits serves reserved and provisioned concurrency; nil refuses both.
	Limits Limits
	// Async serves the five operations of event-invoke configs and
	// DeadLetterConfig: who invokes asynchronously calls Control.EventInvoke.
	Async bool
	// FunctionURL makes the URL of an identity, and serves the five
	// operations of function URLs: who answers there calls Control.URL and
	// Control.Allowed. Nil refuses them.
	FunctionURL func(id string) string
	// Recursion serves PutFunctionRecursionConfig: who detects loops calls
	// Control.RecursionAllowed.
	Recursion bool
	// RuntimeVersions serves the modes Manual and FunctionUpdate of
	// PutRuntimeManagementConfig: who chooses runtimes calls
	// Control.RuntimeManagement.
	RuntimeVersions bool
}

// EventInvoke is how a function is invoked asynchronously.
type EventInvoke struct {
	MaximumRetryAttempts int           // 0 to 2
	MaximumEventAge      time.Duration // 60 s to 6 h
	// OnSuccess and OnFailure are the ARNs of destinations, DeadLetter that
	// of a queue or topic; empty for none.
	OnSuccess, OnFailure, DeadLetter string
}

// URL is a function URL.
type URL struct {
	ID string
	// Function is what it invokes: its Qualifier is an alias or empty.
	Function firn.FunctionRef
	// AuthIAM: the caller must sign; otherwise AuthType is NONE.
	AuthIAM   bool
	Streaming bool // InvokeMode is RESPONSE_STREAM
	Cors      *Cors
}

// Cors is the CORS configuration of a function URL.
type Cors struct {
	AllowCredentials                                        bool
	AllowHeaders, AllowMethods, AllowOrigins, ExposeHeaders []string
	MaxAge                                                  int // seconds
}

// Access asks whether somebody may do something with a function.
type Access struct {
	// Function is as invoked: with the qualifier that was used.
	Function firn.FunctionRef
	// Action is "lambda:InvokeFunction", "lambda:InvokeFunctionUrl", ...
	Action    string
	Principal policy.Principal
	// Context has the condition keys: aws:SourceArn, aws:SourceAccount,
	// lambda:EventSourceToken, lambda:FunctionUrlAuthType,
	// lambda:InvokedViaFunctionUrl, aws:PrincipalOrgID, aws:SourceIp, ...
	Context policy.Context
	// Identity are the policies of the principal; nil stands for all that
	// its account may do, which is what every principal may while there are
	// no identity policies.
	Identity []*policy.Document
}
