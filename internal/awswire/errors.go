package awswire

import (
	"cmp"
	"errors"
	"log/slog"
	"net/http"
	"reflect"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/traits"
	"github.com/firn-run/firn"
)

// internalMessage is all that a caller learns of an error that is not meant
// for it.
const internalMessage = "The AWS Lambda service encountered an internal error."

// errorShape says how an exception looks on the wire.
type errorShape struct {
	status  int
	message string // name of the member: "Message" or "message"
	typed   bool   // the body has a member Type: "User" or "Service"
	reason  bool   // the body has a member Reason
}

// errorTable is the one place where an exception gets its status. Exceptions
// of the Lambda model take it from their schema; commonErrors adds those that
// all services of AWS have.
type errorTable struct {
	shapes map[string]errorShape
}

// commonErrors are exceptions outside the Lambda model ("Common errors" of the
// Lambda API reference, with the status that services answer today).
func commonErrors() map[firn.Kind]int {
	return map[firn.Kind]int{
		firn.Validation:            http.StatusBadRequest,
		firn.Serialization:         http.StatusBadRequest,
		firn.AccessDenied:          http.StatusForbidden,
		firn.MissingAuthentication: http.StatusForbidden,
		firn.IncompleteSignature:   http.StatusForbidden,
		firn.InvalidSignature:      http.StatusForbidden,
		firn.UnrecognizedClient:    http.StatusForbidden,
		firn.ExpiredToken:          http.StatusForbidden,
		firn.UnknownOperation:      http.StatusNotFound,
		firn.NotImplemented:        http.StatusNotImplemented,
		firn.RequestEntityTooLarge: http.StatusRequestEntityTooLarge,
		firn.ServiceUnavailable:    http.StatusServiceUnavailable,
	}
}

// capitalMessage are the common errors whose body AWS writes with "Message".
func capitalMessage(k firn.Kind) bool {
	return k == firn.AccessDenied || k == firn.UnknownOperation || k == firn.NotImplemented ||
		k == firn.RequestEntityTooLarge
}

func newErrorTable() *errorTable {
	t := &errorTable{shapes: map[string]errorShape{}}
	for _, entry := range lambda.TypeRegistry.Entries {
		s := entry.Schema
		status, ok := smithy.SchemaTrait[*traits.HTTPError](s)
		if !ok {
			continue // not an exception
		}
		shape := errorShape{status: status.Code, message: "Message", typed: s.Member("Type") != nil, reason: s.Member("Reason") != nil}
		if s.Member("message") != nil {
			shape.message = "message"
		}
		t.shapes[s.ID().Name] = shape
	}
	for kind, status := range commonErrors() {
		shape := errorShape{status: status, message: "message"}
		if capitalMessage(kind) {
			shape.message = "Message"
		}
		t.shapes[string(kind)] = shape
	}
	return t
}

// Status returns the HTTP status with which an error of this kind is answered;
// 500 for a kind that is no exception of AWS.
func (m *Mux) Status(k firn.Kind) int {
	if shape, ok := m.errors.shapes[string(k)]; ok {
		return shape.status
	}
	return http.StatusInternalServerError
}

// WriteError answers a request with an error as the API does: status,
// x-amzn-ErrorType and a JSON body that the SDKs parse into their typed
// exceptions. A *firn.Fault and the SDK's exceptions are shown; any other error
// is logged and answered as ServiceException without detail. Nothing may have
// been written to w before.
func (m *Mux) WriteError(w http.ResponseWriter, r *Request, err error) {
	fault := m.faultOf(err)
	shape, known := m.errors.shapes[string(fault.Kind)]
	if !known || fault.Kind == firn.Service && fault.Message == "" {
		m.log(r, slog.LevelError, "internal error", err)
		fault = &firn.Fault{Kind: firn.Service, Message: internalMessage}
		shape = m.errors.shapes[string(firn.Service)]
	} else if fault.Cause != nil || shape.status >= http.StatusInternalServerError && fault.Kind != firn.NotImplemented {
		m.log(r, slog.LevelInfo, "request failed", err)
	}
	body := appendFault(make([]byte, 0, 256), shape, fault)
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Amzn-ErrorType", string(fault.Kind))
	if fault.RetryAfterSeconds > 0 {
		h.Set("Retry-After", strconv.Itoa(fault.RetryAfterSeconds))
	}
	w.WriteHeader(shape.status)
	_, _ = w.Write(body) // a caller that went away does not wait for it
}

// appendFault appends the body of an error.
func appendFault(b []byte, shape errorShape, fault *firn.Fault) []byte {
	b = append(b, '{')
	if shape.typed {
		side := "User"
		if shape.status >= http.StatusInternalServerError {
			side = "Service"
		}
		b = append(b, `"Type":`...)
		b = append(appendString(b, cmp.Or(fault.Type, side)), ',')
	}
	if shape.reason && fault.Reason != "" {
		b = append(b, `"Reason":`...)
		b = append(appendString(b, fault.Reason), ',')
	}
	b = append(appendString(b, shape.message), ':')
	b = appendString(b, fault.Message)
	return append(b, '}')
}

// faultOf turns any error into a Fault. An error that is not meant for callers
// has no kind afterwards.
func (m *Mux) faultOf(err error) *firn.Fault {
	if f, ok := errors.AsType[*firn.Fault](err); ok {
		return f
	}
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return &firn.Fault{}
	}
	f := &firn.Fault{Kind: firn.Kind(api.ErrorCode()), Message: api.ErrorMessage()}
	// The generated exceptions have their other members as plain fields.
	v := reflect.Indirect(reflect.ValueOf(api))
	if v.Kind() == reflect.Struct {
		f.Type = textField(v, "Type")
		f.Reason = textField(v, "Reason")
		f.RetryAfterSeconds, _ = strconv.Atoi(textField(v, "RetryAfterSeconds"))
	}
	return f
}

// textField returns the string of a field that is a string or points to one,
// or "".
func textField(v reflect.Value, name string) string {
	f := reflect.Indirect(v.FieldByName(name))
	if f.IsValid() && f.Kind() == reflect.String {
		return f.String()
	}
	return ""
}

// log writes one line about a request.
func (m *Mux) log(r *Request, level slog.Level, what string, err error) {
	m.cfg.Logger.Log(r.HTTP.Context(), level, what, "operation", r.Operation, "requestId", r.ID, "error", err)
}
