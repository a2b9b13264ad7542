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

	// Image is set for functions of PackageType Image; Code and Layers are
	// empty then, and Runtime too.
	Image *Image

	Code   Digest   // zip archive of the function
	Layers []Digest // zip archives, in the order in which they overlay each other

	TracingActive       bool   // TracingConfig.Mode is Active
	LogFormatJSON       bool   // LoggingConfig.LogFormat is JSON
	ApplicationLogLevel string // with JSON only, else ""
	SystemLogLevel      string // with JSON only, else ""
	LogGroup            string // "/aws/lambda/NAME" unless configured
}

// Image is the container image of a function, pinned when the function was
// created or updated, with the function's ImageConfig applied.
type Image struct {
	Digest     Digest // of the manifest, as in the registry: "sha256:" and hexadecimal
	Reference  string // REGISTRY/REPOSITORY@DIGEST, for people
	Entrypoint []string
	Command    []string
	WorkingDir string   // "" is the image's own, else /
	Env        []string // of the image, KEY=VALUE
}

// DefaultLogGroup is the log group of a function that has no other configured.
func DefaultLogGroup(function string) string { return "/aws/lambda/" + function }
