package awswire

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"net/url"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire/form"
	"github.com/firn-run/firn/internal/awswire/model"
)

// maxLabels is the number of labels of the longest route of the API, and one
// to spare.
const maxLabels = 4

// Request is one request that has been routed, authenticated and read whole.
// It belongs to the goroutine that serves it and is not to be kept after the
// answer; Body may be kept, since it is never reused.
type Request struct {
	// HTTP is the request as it came. Its body has been read.
	HTTP *http.Request
	// Operation is the name in the API, for example "Invoke".
	Operation string
	// ID is the value of x-amzn-RequestId in the answer, a UUID.
	ID string
	// Identity is who signed the request.
	Identity firn.Identity
	// Body is the whole body, within the operation's limit.
	Body []byte

	op     *operation
	labels [maxLabels]string // decoded, in the order of op.labels
	query  url.Values        // parsed at first use

	protocol model.Protocol
	json     string     // version of AWS-JSON
	form     *form.Node // of the query protocol
}

// requestKey is the context key of the *Request.
type requestKey struct{}

// Context is the context of the request: it ends when the caller goes away.
func (r *Request) Context() context.Context { return r.HTTP.Context() }

// Label returns a part of the path by its name in the API model, decoded:
// Label("FunctionName"). It is empty when the route has no such label.
func (r *Request) Label(name string) string {
	if r.op == nil {
		return ""
	}
	for i, label := range r.op.labels {
		if label == name {
			return r.labels[i]
		}
	}
	return ""
}

// Query returns the first value of a query parameter and whether it is there.
func (r *Request) Query(name string) (value string, ok bool) {
	values := r.queryValues()[name]
	if len(values) == 0 {
		return "", false
	}
	return values[0], true
}

// Header returns the first value of a header of the request.
func (r *Request) Header(name string) string { return r.HTTP.Header.Get(name) }

// queryValues parses the query once. Malformed pairs are left out.
func (r *Request) queryValues() url.Values {
	if r.query == nil && r.HTTP.URL.RawQuery != "" {
		r.query, _ = url.ParseQuery(r.HTTP.URL.RawQuery)
	}
	return r.query
}

// RequestOf returns the request that an operation serves, or nil when ctx is
// not of an operation.
func RequestOf(ctx context.Context) *Request {
	r, _ := ctx.Value(requestKey{}).(*Request)
	return r
}

// RequestID returns the ID of the request that an operation serves, or "".
func RequestID(ctx context.Context) string {
	if r := RequestOf(ctx); r != nil {
		return r.ID
	}
	return ""
}

// IdentityOf returns who made the request that an operation serves, or the
// zero Identity, to whom nothing is allowed.
func IdentityOf(ctx context.Context) firn.Identity {
	if r := RequestOf(ctx); r != nil {
		return r.Identity
	}
	return firn.Identity{}
}

// NewRequestID makes a random UUID (version 4).
func NewRequestID() string {
	var raw [16]byte
	rand.Read(raw[:]) // never fails: it ends the program instead
	raw[6] = raw[6]&0x0f | 0x40
	raw[8] = raw[8]&0x3f | 0x80
	var text [36]byte
	hex.Encode(text[0:], raw[0:4])
	hex.Encode(text[9:], raw[4:6])
	hex.Encode(text[14:], raw[6:8])
	hex.Encode(text[19:], raw[8:10])
	hex.Encode(text[24:], raw[10:16])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}
