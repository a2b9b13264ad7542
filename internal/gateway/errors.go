package gateway

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/firn-run/firn"
)

// refusal is an answer of the front itself.
type refusal struct {
	status int
	kind   string // of x-amzn-ErrorType; empty for none
	body   string
	retry  int // seconds of Retry-After; 0 for none
}

// message is the body that most refusals have.
func message(text string) string {
	b, _ := json.Marshal(map[string]string{"Message": text}) // text always marshals
	return string(b)
}

// errForbidden stands for every reason why a caller may not invoke a URL.
var errForbidden = errors.New("the caller may not invoke this function URL")

// forbidden is its text, as recorded.
const forbidden = "Forbidden. For troubleshooting Function URL authorization issues, see: https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"

func errDenied() *refusal {
	return &refusal{status: http.StatusForbidden, kind: string(firn.AccessDenied), body: message(forbidden)}
}

// errUnknownURL is the answer for a URL that does not exist, as recorded.
func errUnknownURL() *refusal {
	return &refusal{status: http.StatusForbidden, kind: string(firn.AccessDenied), body: `{"Message":null}`}
}

// errFunction is the answer for a function that failed, timed out or returned
// what is no response, as recorded: it is not JSON.
func errFunction() *refusal {
	return &refusal{status: http.StatusBadGateway, body: "Internal Server Error"}
}

// fail answers with what an error means to the caller.
func (x *exchange) fail(err error) {
	if x.r.Context().Err() != nil || errors.Is(err, errClientGone) {
		panic(http.ErrAbortHandler) // nobody reads an answer
	}
	if errors.Is(err, errForbidden) {
		x.refuse(errDenied())
		return
	}
	fault, ok := errors.AsType[*firn.Fault](err)
	if !ok {
		x.g.cfg.Logger.Error("request of a function URL failed", "function", x.url.Function.Name, "requestId", x.id, "error", err)
		x.refuse(&refusal{status: http.StatusInternalServerError, kind: string(firn.Service), body: message("Internal Server Error")})
		return
	}
	if fault.Cause != nil {
		x.g.cfg.Logger.Info("request of a function URL refused", "function", x.url.Function.Name, "requestId", x.id, "error", fault)
	}
	x.refuse(refusalOf(fault))
}

// refusalOf gives a fault its status. That a function is not there, or its
// alias, is not told (recorded of a deleted alias).
func refusalOf(f *firn.Fault) *refusal {
	out := &refusal{kind: string(f.Kind), body: message(f.Message), retry: f.RetryAfterSeconds}
	switch f.Kind {
	case firn.ResourceNotFound:
		return errDenied()
	case firn.AccessDenied:
		return errDenied()
	case firn.MissingAuthentication, firn.IncompleteSignature, firn.InvalidSignature, firn.UnrecognizedClient, firn.ExpiredToken:
		out.status = http.StatusForbidden
		b, _ := json.Marshal(map[string]string{"message": f.Message}) // text always marshals
		out.body = string(b)
	case firn.TooManyRequests:
		out.status = http.StatusTooManyRequests
		kind := f.Type
		if kind == "" {
			kind = "User"
		}
		b, _ := json.Marshal(struct {
			Reason  string
			Type    string
			Message string `json:"message"`
		}{f.Reason, kind, f.Message}) // text always marshals
		out.body = string(b)
	case firn.RequestEntityTooLarge, firn.RequestTooLarge:
		out.status = http.StatusRequestEntityTooLarge
	case firn.ResourceConflict:
		out.status = http.StatusConflict
	case firn.ServiceUnavailable:
		out.status = http.StatusServiceUnavailable
	case firn.NotImplemented:
		out.status = http.StatusNotImplemented
	case firn.Service:
		out.status = http.StatusInternalServerError
	default: // something about the function keeps it from running
		out.status = http.StatusBadGateway
	}
	return out
}

// refuse writes an answer of the front.
func (x *exchange) refuse(e *refusal) {
	h := x.w.Header()
	h["Content-Type"] = []string{defaultType}
	if e.kind != "" {
		h["x-amzn-ErrorType"] = []string{e.kind}
	}
	if e.retry > 0 {
		h.Set("Retry-After", strconv.Itoa(e.retry))
	}
	if x.url != nil {
		x.url.CORS.decorate(x.r, h)
	}
	setLength(h, len(e.body))
	x.writeHeader(e.status)
	x.write([]byte(e.body))
}
