package awswire

import (
	"cmp"
	"errors"
	"log/slog"
	"net/http"
	"reflect"
	"strconv"

	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/encoding/cbor"
	"github.com/aws/smithy-go/traits"
	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire/model"
)

// errorShape says how an exception looks on the wire.
type errorShape struct {
	name    string
	modeled bool   // by the service, not common to all
	id      string // with the namespace of the model, where it has one
	status  int
	message string // name of the member: "Message" or "message"
	typed   bool   // the body has a member Type: "User" or "Service"
	reason  bool   // the body has a member Reason
	code    string // in the query protocol
	// queryStatus is the status in the query protocol.
	queryStatus int
}

// errorTable is the one place where an exception gets its status. Exceptions
// of a service's model take it from their schema; commonErrors adds those that
// all services of AWS have.
type errorTable struct {
	shapes map[string]errorShape
}

// commonError is an exception outside the models.
type commonError struct {
	rest  int    // status in REST protocols
	rpc   int    // status in AWS-JSON and CBOR
	query int    // status in the query protocol
	code  string // name in the query protocol
}

// commonErrors are exceptions outside the models ("Common errors" of each API
// reference, with the status that services answer today).
func commonErrors() map[firn.Kind]commonError {
	return map[firn.Kind]commonError{
		firn.Validation:            {400, 400, 400, "ValidationError"},
		firn.Serialization:         {400, 400, 400, "MalformedInput"},
		firn.AccessDenied:          {403, 400, 403, "AccessDenied"},
		firn.MissingAuthentication: {403, 400, 403, "MissingAuthenticationToken"},
		firn.IncompleteSignature:   {403, 400, 403, "IncompleteSignature"},
		firn.InvalidSignature:      {403, 400, 403, "SignatureDoesNotMatch"},
		firn.UnrecognizedClient:    {403, 400, 403, "InvalidClientTokenId"},
		firn.ExpiredToken:          {403, 400, 403, "ExpiredToken"},
		firn.UnknownOperation:      {404, 400, 400, "InvalidAction"},
		firn.NotImplemented:        {501, 501, 501, "NotImplementedException"},
		firn.RequestEntityTooLarge: {413, 413, 413, "RequestEntityTooLarge"},
		firn.ServiceUnavailable:    {503, 503, 503, "ServiceUnavailable"},
		missingAction:              {400, 400, 400, "MissingAction"},
	}
}

// capitalMessage are the common errors whose body Lambda writes with
// "Message".
func capitalMessage(k firn.Kind) bool {
	return k == firn.AccessDenied || k == firn.UnknownOperation || k == firn.NotImplemented ||
		k == firn.RequestEntityTooLarge
}

func newErrorTable(service *Service) *errorTable {
	t := &errorTable{shapes: map[string]errorShape{}}
	rest := service.Speaks(model.RESTJSON)
	for kind, common := range commonErrors() {
		shape := errorShape{name: string(kind), id: string(kind), status: common.rpc, message: "message", code: common.code, queryStatus: common.query}
		if rest {
			shape.status = common.rest
		}
		if rest && capitalMessage(kind) {
			shape.message = "Message"
		}
		t.shapes[string(kind)] = shape
	}
	byCode := map[string]errorShape{}
	for _, entry := range service.Types.Entries {
		shape, ok := modeledError(entry.Schema)
		if !ok || rest && t.shapes[shape.name].name != "" {
			continue // Lambda answers the common ones in its own way
		}
		t.shapes[shape.name] = shape
		byCode[shape.code] = shape
	}
	// A Fault may name an exception as the query protocol does.
	for code, shape := range byCode {
		if _, taken := t.shapes[code]; !taken {
			t.shapes[code] = shape
		}
	}
	return t
}

// modeledError reads the schema of an exception. ok is false when s is none.
func modeledError(s *smithy.Schema) (shape errorShape, ok bool) {
	fault, ok := smithy.SchemaTrait[*traits.Error](s)
	if !ok {
		return shape, false
	}
	shape = errorShape{name: s.ID().Name, modeled: true, id: s.ID().Namespace + "#" + s.ID().Name, status: http.StatusBadRequest, message: "Message", code: s.ID().Name}
	if fault.Type == "server" {
		shape.status = http.StatusInternalServerError
	}
	if status, ok := smithy.SchemaTrait[*traits.HTTPError](s); ok {
		shape.status = status.Code
	}
	shape.queryStatus = shape.status
	if query, ok := smithy.SchemaTrait[*traits.AWSQueryError](s); ok {
		shape.code, shape.queryStatus = query.ErrorCode, query.StatusCode
	}
	shape.typed, shape.reason = s.Member("Type") != nil, s.Member("Reason") != nil
	if s.Member("message") != nil {
		shape.message = "message"
	}
	return shape, true
}

// failure is an error that is about to be told.
type failure struct {
	shape errorShape
	fault *firn.Fault
	// plan and value are those of the SDK's exception, when the error is one.
	plan  *plan
	value reflect.Value
}

// Status returns the HTTP status with which an error of this kind is answered;
// 500 for a kind that is no exception of the service.
func (m *Mux) Status(k firn.Kind) int {
	if shape, ok := m.errors.shapes[string(k)]; ok {
		return shape.status
	}
	return http.StatusInternalServerError
}

// WriteError answers a request with an error as the service does, in the
// protocol of the request, so that the SDKs parse it into their typed
// exceptions. A *firn.Fault of a kind that the service has and the SDK's
// exceptions are shown; any other error is logged and answered as an internal
// one without detail. Nothing may have been written to w before.
func (m *Mux) WriteError(w http.ResponseWriter, r *Request, err error) {
	f := m.failureOf(r, err)
	h := w.Header()
	if f.fault.RetryAfterSeconds > 0 {
		h.Set("Retry-After", strconv.Itoa(f.fault.RetryAfterSeconds))
	}
	if m.service.QueryCompatible && f.shape.modeled && r.protocol != model.Query && r.HTTP.Header.Get("X-Amzn-Query-Mode") == "true" {
		h.Set("X-Amzn-Query-Error", f.shape.code+";"+f.side())
	}
	status := f.shape.status
	var body []byte
	switch r.protocol {
	case model.Query:
		h.Set("Content-Type", "text/xml")
		status = f.shape.queryStatus
		body = m.errorXML(r, f)
	case model.CBOR:
		h.Set("Content-Type", "application/cbor")
		h.Set(smithyHeader, smithyCBOR)
		h.Set("X-Amzn-ErrorType", f.shape.name)
		body = errorCBOR(f)
	case model.AWSJSON:
		h.Set("Content-Type", "application/x-amz-json-"+r.json)
		h.Set("X-Amzn-ErrorType", f.shape.name)
		body = errorJSON(f)
	default:
		h.Set("Content-Type", "application/json")
		h.Set("X-Amzn-ErrorType", f.shape.name)
		body = appendFault(make([]byte, 0, 256), f.shape, f.fault)
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // a caller that went away does not wait for it
}

// side is who is to blame, in the words of the query protocol.
func (f *failure) side() string {
	if f.shape.status >= http.StatusInternalServerError {
		return "Receiver"
	}
	return "Sender"
}

// failureOf makes an error ready to be told, and logs what is not told.
func (m *Mux) failureOf(r *Request, err error) *failure {
	f := m.read(err)
	shape, known := m.errors.shapes[string(f.fault.Kind)]
	if !known || f.fault.Kind == m.service.Internal && f.fault.Message == "" {
		m.log(r, slog.LevelError, "internal error", err)
		message := "The AWS " + m.service.Name + " service encountered an internal error."
		return &failure{shape: m.errors.shapes[string(m.service.Internal)], fault: &firn.Fault{Message: message}}
	}
	if f.fault.Cause != nil || shape.status >= http.StatusInternalServerError && f.fault.Kind != firn.NotImplemented {
		m.log(r, slog.LevelInfo, "request failed", err)
	}
	f.shape = shape
	return f
}

// read finds what of an error is meant for callers. One that is not has no
// kind afterwards.
func (m *Mux) read(err error) *failure {
	if f, ok := errors.AsType[*firn.Fault](err); ok {
		return &failure{fault: f}
	}
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return &failure{fault: &firn.Fault{}}
	}
	f := &failure{fault: &firn.Fault{Kind: firn.Kind(api.ErrorCode()), Message: api.ErrorMessage()}}
	v := reflect.Indirect(reflect.ValueOf(api))
	if v.Kind() != reflect.Struct {
		return f
	}
	// The generated exceptions have their other members as plain fields.
	f.fault.Type = textField(v, "Type")
	f.fault.Reason = textField(v, "Reason")
	f.fault.RetryAfterSeconds, _ = strconv.Atoi(textField(v, "RetryAfterSeconds"))
	if _, ok := api.(smithy.Serializable); ok && m.service.Types != nil {
		f.plan, f.value = m.codec.rootPlan(v.Type()), v
		if f.plan.shape != "" {
			f.fault.Kind = firn.Kind(f.plan.shape)
		}
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

// appendFault appends the body of an error of REST-JSON.
func appendFault(b []byte, shape errorShape, fault *firn.Fault) []byte {
	b = append(b, '{')
	if shape.typed && fault.Type != firn.NoType {
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
	if fault.Kind == firn.AccessDenied && fault.Message == "" {
		return append(b, "null}"...) // as AWS refuses what is another account's
	}
	b = appendString(b, fault.Message)
	return append(b, '}')
}

// errorJSON is the body of an error of AWS-JSON.
func errorJSON(f *failure) []byte {
	b := append(make([]byte, 0, 256), `{"__type":`...)
	b = appendString(b, f.shape.name)
	if f.plan == nil {
		b = append(appendString(append(b, ','), f.shape.message), ':')
		b = appendString(b, f.fault.Message)
	} else if members := appendStruct(nil, f.plan, f.value); len(members) > len("{}") {
		b = append(append(b, ','), members[1:len(members)-1]...)
	}
	return append(b, '}')
}

// errorCBOR is the body of an error of Smithy RPC v2.
func errorCBOR(f *failure) []byte {
	body := cbor.Map{f.shape.message: cbor.String(f.fault.Message)}
	if f.plan != nil {
		body = cborStruct(f.plan, f.value)
	}
	body["__type"] = cbor.String(f.shape.id)
	return cbor.Encode(body)
}

// log writes one line about a request.
func (m *Mux) log(r *Request, level slog.Level, what string, err error) {
	m.cfg.Logger.Log(r.HTTP.Context(), level, what, "service", m.service.SigningName, "operation", r.Operation, "requestId", r.ID, "error", err)
}
