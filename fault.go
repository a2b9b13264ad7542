package firn

import (
	"errors"
	"fmt"
	"strings"
)

// Kind says what went wrong in the terms of the Lambda API: each kind is the
// name of one exception of AWS's model. The HTTP status belongs to the name
// and is added at the edge (package awswire).
type Kind string

// The kinds that firn itself produces. Names are the exception names of the
// AWS Lambda API model, version 2015-03-31, or of AWS's common errors.
const (
	ResourceNotFound      Kind = "ResourceNotFoundException"
	ResourceConflict      Kind = "ResourceConflictException"
	ResourceInUse         Kind = "ResourceInUseException"
	ResourceNotReady      Kind = "ResourceNotReadyException"
	InvalidParameterValue Kind = "InvalidParameterValueException"
	InvalidRequestContent Kind = "InvalidRequestContentException"
	PreconditionFailed    Kind = "PreconditionFailedException"
	CodeStorageExceeded   Kind = "CodeStorageExceededException"
	TooManyRequests       Kind = "TooManyRequestsException"
	RecursiveInvocation   Kind = "RecursiveInvocationException"
	RequestTooLarge       Kind = "RequestTooLargeException"
	UnsupportedMediaType  Kind = "UnsupportedMediaTypeException"
	InvalidRuntime        Kind = "InvalidRuntimeException"
	InvalidZipFile        Kind = "InvalidZipFileException"
	Service               Kind = "ServiceException"
	Validation            Kind = "ValidationException"
	Serialization         Kind = "SerializationException"
	AccessDenied          Kind = "AccessDeniedException"
	MissingAuthentication Kind = "MissingAuthenticationTokenException"
	IncompleteSignature   Kind = "IncompleteSignatureException"
	InvalidSignature      Kind = "InvalidSignatureException"
	UnrecognizedClient    Kind = "UnrecognizedClientException"
	ExpiredToken          Kind = "ExpiredTokenException"
	UnknownOperation      Kind = "UnknownOperationException"
	NotImplemented        Kind = "NotImplementedException" // firn's own: an operation or option that AWS has and firn does not serve yet
	RequestEntityTooLarge Kind = "RequestEntityTooLargeException"
	ServiceUnavailable    Kind = "ServiceUnavailableException"
)

// Fault is the one error type that crosses package borders with a meaning for
// the caller of an API. Message is shown to that caller as it stands, so it
// must be AWS's wording where AWS has one, and must say what to do next where
// it is ours. Cause is for the log only.
type Fault struct {
	Kind    Kind
	Op      string // operation or step, for the log; optional
	Message string // shown to the caller
	Reason  string // the Reason member of TooManyRequestsException; else empty
	Type    string // the Type member ("User" or "Service"); empty means "User" below status 500, NoType none
	// RetryAfterSeconds is sent as the Retry-After header when it is positive.
	RetryAfterSeconds int
	Cause             error
}

// NoType as the Type of a Fault leaves the member out: the parts of Lambda that
// look after concurrency and code signing write none, as recorded from AWS.
const NoType = "-"

// Faultf makes a Fault with a formatted message.
func Faultf(kind Kind, format string, args ...any) *Fault {
	return &Fault{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// Error renders operation, kind, message and cause on one line.
func (f *Fault) Error() string {
	var b strings.Builder
	if f.Op != "" {
		b.WriteString(f.Op)
		b.WriteString(": ")
	}
	b.WriteString(string(f.Kind))
	if f.Message != "" {
		b.WriteString(": ")
		b.WriteString(f.Message)
	}
	if f.Cause != nil {
		b.WriteString(": ")
		b.WriteString(f.Cause.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (f *Fault) Unwrap() error { return f.Cause }

// KindOf returns the kind of the first Fault in err's chain, or "" when there
// is none (then the error is internal and must not be shown to a caller).
func KindOf(err error) Kind {
	if f, ok := errors.AsType[*Fault](err); ok {
		return f.Kind
	}
	return ""
}
