// Package awswire speaks the wire protocols of AWS from the server's side:
// REST-JSON (Lambda), AWS-JSON 1.0 and 1.1, the query protocol with its answers
// in XML, Smithy RPC v2 in CBOR, and event streams over them.
//
// Nothing of the API is written down here a second time: routes, shapes,
// member locations, status codes and exceptions come from the schemas that the
// AWS SDK for Go publishes, and the constraints (required, length, range,
// pattern, enum) from a table generated from AWS's own model. What is left to
// the caller is one typed Go function per operation:
//
//	mux := awswire.New(awswire.Config{Logger: log, Auth: auth})
//	awswire.Handle(mux, func(ctx context.Context, in *lambda.GetFunctionInput) (*lambda.GetFunctionOutput, error) {
//		...
//	})
//
// The function sees an input that has passed authentication, the size limit
// and every constraint of the model; it answers with an output, with a
// *firn.Fault or with one of the SDK's exceptions. Any other error is
// logged and answered as an internal one, without detail.
//
// The order of a request is AWS's: route, authentication, size, syntax of the
// body, constraints, operation. Operations that must not pay for reflection
// (Invoke above all) are mounted raw and go through the same steps.
//
// There is one Mux for each service and one mechanism for all: what tells
// services apart is a value of package model. FrontDoor puts several of them
// behind one address, as clients with a single endpoint need it.
//
// The package knows the protocols and nothing of the services' rules. DESIGN.md
// tells how it works and what was refused.
package awswire

import (
	"context"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire/model"
)

// Config is what a Mux needs. The zero value of every field but Logger is
// usable.
type Config struct {
	// Logger receives errors that are not shown to callers. It must not be nil.
	Logger *slog.Logger
	// Auth verifies signatures. Nil means that authentication is off and every
	// request is made by Anonymous.
	Auth *Authenticator
	// Anonymous is the identity of every request when Auth is nil.
	Anonymous firn.Identity
	// Now is the clock for the Date header. Nil means time.Now.
	Now func() time.Time
}

// Mux serves one AWS service: it routes a request to the operation mounted for
// it and answers everything else as AWS does. Mount all operations before the
// first request; a Mux is safe for concurrent requests after that.
type Mux struct {
	cfg     Config
	service *Service
	router  *router // of REST-JSON; empty for other protocols
	ops     map[string]*operation
	codec   *codec
	errors  *errorTable
}

// Service is one AWS service as its clients know it; see package model.
type Service = model.Service

// Lambda is the Lambda API: REST-JSON, signed for "lambda".
func Lambda() *Service { return model.Lambda() }

// CloudWatchLogs is the CloudWatch Logs API: AWS-JSON 1.1, signed for "logs".
func CloudWatchLogs() *Service { return model.CloudWatchLogs() }

// CloudWatch is the CloudWatch API for metrics: Smithy RPC v2 in CBOR, AWS-JSON
// 1.0 and the query protocol, signed for "monitoring".
func CloudWatch() *Service { return model.CloudWatch() }

// ECR is the Elastic Container Registry API: AWS-JSON 1.1, signed for "ecr".
func ECR() *Service { return model.ECR() }

// STS is the Security Token Service: the query protocol, signed for "sts".
func STS() *Service { return model.STS() }

// New makes a Mux that knows all operations of the Lambda API and serves none
// of them yet: each answers NotImplementedException until it is mounted.
func New(cfg Config) *Mux { return NewService(cfg, Lambda()) }

// NewService makes a Mux that knows all operations of a service and serves
// none of them yet. cfg.Auth may be shared by all services: the scope that a
// Mux accepts is that of its own service.
func NewService(cfg Config, service *Service) *Mux {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Auth != nil {
		cfg.Auth = cfg.Auth.For(service.SigningName)
	}
	m := &Mux{cfg: cfg, service: service, router: newRouter(), ops: map[string]*operation{}, codec: newCodec(service), errors: newErrorTable(service)}
	for _, schema := range service.Operations {
		op := newOperation(service, schema)
		m.ops[op.name] = op
		if service.Speaks(model.RESTJSON) {
			m.router.add(op)
		}
	}
	return m
}

// Service returns the service that the Mux serves.
func (m *Mux) Service() *Service { return m.service }

// Handle mounts fn as the operation whose input type it takes: a function of
// *lambda.CreateFunctionInput serves CreateFunction. It panics when In and Out
// are not the input and output of one operation of the service, or when the
// operation is mounted already.
//
// fn may use RequestOf, RequestID and IdentityOf on its context. Slices that
// AWS always sends (the list of a List operation) must not be nil in the
// output, since a nil slice is left out.
func Handle[In, Out any](m *Mux, fn func(context.Context, *In) (*Out, error)) {
	in, out := reflect.TypeFor[In](), reflect.TypeFor[Out]()
	name := strings.TrimSuffix(in.Name(), "Input")
	op := m.mustMount(name)
	if out.Name() != name+"Output" {
		panic("awswire: the output of " + name + " cannot be " + out.String())
	}
	input := m.codec.rootPlan(in)
	output := m.codec.rootPlan(out)
	op.serve = func(w http.ResponseWriter, r *Request) error {
		v := new(In)
		if err := m.codec.decode(input, reflect.ValueOf(v).Elem(), r); err != nil {
			return err
		}
		result, err := fn(context.WithValue(r.HTTP.Context(), requestKey{}, r), v)
		if err != nil {
			return err
		}
		if result == nil {
			result = new(Out)
		}
		return m.writeOutput(w, r, output, reflect.ValueOf(result).Elem())
	}
}

// HandleRaw mounts fn as the named operation without the codec: fn finds
// labels, query, headers and the whole body in the Request and writes the
// answer itself. In is the operation's input type (lambda.InvokeInput): its
// members in the path, the query and the headers have been checked against the
// model's constraints when fn is called; the body has not been looked at.
//
// An error that fn returns before it has written anything is answered like
// that of a typed operation. The request ID header is set already.
func HandleRaw[In any](m *Mux, fn func(http.ResponseWriter, *Request) error) {
	in := reflect.TypeFor[In]()
	op := m.mustMount(strings.TrimSuffix(in.Name(), "Input"))
	bound := m.codec.rootPlan(in)
	op.serve = func(w http.ResponseWriter, r *Request) error {
		if err := m.codec.checkBound(bound, r); err != nil {
			return err
		}
		return fn(w, r)
	}
}

// mustMount returns the named operation, which nothing serves yet.
func (m *Mux) mustMount(name string) *operation {
	op := m.ops[name]
	if op == nil {
		panic("awswire: " + name + " is not an operation of " + m.service.Name)
	}
	if op.serve != nil {
		panic("awswire: " + name + " is mounted twice")
	}
	return op
}

// Mounted returns the names of the operations that are served, unordered.
func (m *Mux) Mounted() []string {
	var names []string
	for name, op := range m.ops {
		if op.serve != nil {
			names = append(names, name)
		}
	}
	return names
}
