// Package gateway serves function URLs: it answers HTTP requests by invoking
// functions. A request that a browser or any other client makes of a URL
// becomes an event of payload format 2.0, and what the function answers
// becomes the HTTP response, whole (invoke mode BUFFERED) or piece by piece as
// the function makes it (RESPONSE_STREAM).
//
// A URL is found by the host of a request, as on AWS, or by its path, for
// clients that cannot resolve the host:
//
//	<id>.lambda-url.<region>.localhost[:port]   what FunctionUrl says
//	<id>.lambda-url.<region>.on.aws             for who has AWS's names point here
//	<id>.<domain>                               and <id>.lambda-url.<region>.<domain>, of a domain of the operator's
//	/.firn/url/<id>/...                         on any host
//
// The steps of a request, in order: which URL (403 with a null message when
// there is none), the method, a preflight of CORS, who asks (signature, with
// AuthType AWS_IAM), whether the function's policy lets them, the body and its
// limit, the invocation. Two statements must let a caller in: one for
// lambda:InvokeFunctionUrl and one for lambda:InvokeFunction, the latter seen
// with the condition key lambda:InvokedViaFunctionUrl. AWS asks both of every
// URL made since October 2025, and so does this package of all.
//
// Where AWS's documents and recordings of the service differ, the recordings
// are followed; each such place says so.
//
// Everything that comes in is hostile, from either side: bodies, preludes and
// headers are bounded, header names and values of functions are checked before
// they are written, and a client that does not read loses its connection.
package gateway

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/invoke"
)

// The authentication types of function URLs.
const (
	AuthNone = "NONE"
	AuthIAM  = "AWS_IAM"
)

// URL is one function URL.
type URL struct {
	ID string
	// Function is what it invokes: its Qualifier is an alias or empty.
	Function firn.FunctionRef
	Auth     string // AuthNone or AuthIAM
	// Stream is true for the invoke mode RESPONSE_STREAM.
	Stream bool
	CORS   *CORS // nil when it is not configured
}

// CORS is the configuration of cross-origin resource sharing of a URL; empty
// lists allow nothing.
type CORS struct {
	AllowOrigins, AllowMethods, AllowHeaders, ExposeHeaders []string
	AllowCredentials                                        bool
	MaxAge                                                  int // seconds
}

// Access is the question whether a caller may invoke a URL.
type Access struct {
	URL    *URL
	Action string        // "lambda:InvokeFunctionUrl" or "lambda:InvokeFunction"
	Caller firn.Identity // zero for a caller without a signature
	// Conditions are the condition keys of the request and their values.
	Conditions map[string]string
}

// URLs finds URLs and decides who may use them. It answers from memory: it is
// on the path of every request.
type URLs interface {
	// URL returns the URL of an identity, or nil. It must not be changed.
	URL(id string) *URL
	// Allowed evaluates the policies that bear on the question.
	Allowed(Access) bool
}

// Invoker runs functions; *invoke.Invoker is one.
type Invoker interface {
	Invoke(context.Context, *invoke.Request) (*invoke.Response, error)
	Stream(context.Context, *invoke.Request, invoke.StreamWriter) (*invoke.StreamResult, error)
}

// Served is one answered request, for the metrics of URLs.
type Served struct {
	Function firn.FunctionRef
	Status   int // of the answer; 499 when the client had gone before there was one
	// Latency is from the head of the request to the end of the answer.
	Latency time.Duration
}

// Config describes a Gateway.
type Config struct {
	URLs    URLs
	Invoker Invoker
	// Auth verifies signatures for the service "lambda". Nil means that
	// authentication is off and that every request is made by Anonymous.
	Auth      *awswire.Authenticator
	Anonymous firn.Identity
	Region    string // "us-east-1"
	Account   string // of the functions
	// Endpoint is the base URL of the listener, "http://HOST:PORT".
	Endpoint func() string
	// Domain is the operator's own domain for URLs, "example.org" or, when
	// something in front of firn speaks TLS or listens at another port,
	// "https://example.org:8443"; empty for none.
	Domain string
	// Now is the clock; time.Now when nil.
	Now func() time.Time
	// Served is told of every request of a URL that exists; nil for nobody.
	// It is called concurrently and must not block.
	Served func(Served)
	Logger *slog.Logger
}

// Gateway serves function URLs.
type Gateway struct {
	cfg    Config
	domain domain
}

// New checks cfg and returns a Gateway.
func New(cfg Config) (*Gateway, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	d, err := parseDomain(cfg.Domain)
	if err != nil {
		return nil, err
	}
	return &Gateway{cfg: cfg, domain: d}, nil
}

// methods are those that function URLs have.
const methods = "GET, PUT, HEAD, POST, PATCH, DELETE, OPTIONS"

func knownMethod(method string) bool {
	switch method {
	case http.MethodGet, http.MethodPut, http.MethodHead, http.MethodPost, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return true
	}
	return false
}

// exchange is one request and its answer.
type exchange struct {
	g      *Gateway
	w      http.ResponseWriter
	r      *http.Request
	target Target
	url    *URL
	id     string // of the request, and of the invocation
	start  time.Time
	caller firn.Identity
	body   []byte
	status int // that was written; 0 before
}

// ServeHTTP answers a request that Match has told to be for a URL, and with
// 403 any other.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	target, _ := g.Match(r)
	x := &exchange{g: g, w: w, r: r, target: target, id: awswire.NewRequestID(), start: g.cfg.Now()}
	w.Header()["x-amzn-RequestId"] = []string{x.id}
	w.Header().Set("Date", x.start.UTC().Format(http.TimeFormat))
	if target.ID != "" {
		x.url = g.cfg.URLs.URL(target.ID)
	}
	if x.url == nil {
		x.refuse(errUnknownURL())
		x.settle()
		return
	}
	if g.cfg.Served != nil {
		defer func() {
			status := x.status
			if status == 0 {
				status = statusGone
			}
			g.cfg.Served(Served{Function: x.url.Function, Status: status, Latency: g.cfg.Now().Sub(x.start)})
		}()
	}
	x.serve()
	x.settle()
}

// statusGone stands for no answer: nginx's code for a client that closed the
// connection.
const statusGone = 499

// serve answers the request of a URL that exists.
func (x *exchange) serve() {
	if !knownMethod(x.r.Method) {
		x.w.Header().Set("Allow", methods)
		x.refuse(&refusal{status: http.StatusMethodNotAllowed, body: message("Method Not Allowed")})
		return
	}
	if x.url.CORS.preflight(x.r, x.w.Header()) {
		x.w.Header().Set("Content-Length", "0")
		x.writeHeader(http.StatusOK)
		return
	}
	if err := x.admit(); err != nil {
		x.fail(err)
		return
	}
	event, err := x.event()
	if err != nil {
		x.fail(err)
		return
	}
	request := &invoke.Request{Function: x.url.Function, RequestID: x.id, Payload: event.json, TraceHeader: event.trace}
	if x.url.Stream {
		x.stream(request)
		return
	}
	x.buffered(request)
}

// buffered invokes the function and answers with its whole response.
func (x *exchange) buffered(request *invoke.Request) {
	out, err := x.g.cfg.Invoker.Invoke(x.r.Context(), request)
	if err != nil {
		x.fail(err)
		return
	}
	defer out.Release()
	setTrace(x.w.Header(), out.TraceHeader)
	if out.FunctionError != "" {
		x.refuse(errFunction())
		return
	}
	a, err := parseAnswer(out.Payload)
	if err != nil {
		x.g.cfg.Logger.Debug("response of a function is not one of HTTP", "function", x.url.Function.Name, "requestId", x.id, "error", err)
		x.refuse(errFunction())
		return
	}
	x.head(a)
	x.write(a.body)
}

// head writes status and headers of a function's answer. What a proxy between
// client and function may not pass on is left out or renamed.
func (x *exchange) head(a *answer) {
	h := x.w.Header()
	a.headers(h)
	x.url.CORS.decorate(x.r, h)
	if a.length >= 0 && bodyAllowed(a.status) {
		setLength(h, a.length)
	}
	x.writeHeader(a.status)
}

// writeHeader begins the answer.
func (x *exchange) writeHeader(status int) {
	x.status = status
	x.w.WriteHeader(status)
}

// setTrace tells the client which trace its request belongs to.
func setTrace(h http.Header, trace string) {
	if trace != "" {
		h["X-Amzn-Trace-Id"] = []string{trace}
	}
}

// bodyAllowed reports whether an answer of this status has a body (RFC 9110).
func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}
