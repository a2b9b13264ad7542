package firn

import "time"

// Digest is the lower-case hexadecimal SHA-256 of a blob.
type Digest string

// FunctionVersion is everything that an execution environment must know of one
// version of a function. It is an immutable value made by the control plane
// from its records; the engine holds pointers to it and never a table. A
// change of code or configuration makes another FunctionVersion with another
// Key, and environments of different keys are never exchanged.
type FunctionVersion struct {
	// Key identifies code and configuration together: environments are
	// reused for requests of the same Key only.
	Key string

	ARN     string // unqualified: arn:aws:lambda:REGION:ACCOUNT:function:NAME
	Account string
	Region  string
	Name    string
	Version string // "$LATEST" or a number

	Runtime      string // "provided.al2023", ...
	Architecture string // "x86_64" or "arm64"
	Handler      string
	Role         string // ARN of the execution role

	MemoryMB           int
	Timeout            time.Duration
	EphemeralStorageMB int
	Environment        map[string]string

	Code   Digest   // zip archive of the function
	Layers []Digest // zip archives, in the order in which they overlay each other

	TracingActive       bool   // TracingConfig.Mode is Active
	LogFormatJSON       bool   // LoggingConfig.LogFormat is JSON
	ApplicationLogLevel string // with JSON only, else ""
	SystemLogLevel      string // with JSON only, else ""
	LogGroup            string // "/aws/lambda/NAME" unless configured
}
