package awswire

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/firn-run/firn"
)

// getFunction mounts GetFunction so that it fails with err.
func getFunction(m *Mux, err error) {
	Handle(m, func(context.Context, *lambda.GetFunctionInput) (*lambda.GetFunctionOutput, error) { return nil, err })
}

// failWith serves one GetFunction that fails with err and returns what the
// SDK's client makes of it.
func failWith(t *testing.T, err error) (log string, got error) {
	t.Helper()
	mux, buffer := testMux()
	getFunction(mux, err)
	_, got = testClient(t, mux).GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: aws.String("f")})
	return buffer.String(), got
}

// TestTypedErrors: what an operation returns, the client's errors.As finds.
func TestTypedErrors(t *testing.T) {
	_, got := failWith(t, fmt.Errorf("get: %w", firn.Faultf(firn.ResourceNotFound, "Function not found: %s", "arn")))
	missing, ok := errors.AsType[*types.ResourceNotFoundException](got)
	if !ok || missing.ErrorMessage() != "Function not found: arn" || aws.ToString(missing.Type) != "User" {
		t.Errorf("got %v", got)
	}
	response, ok := errors.AsType[*smithyhttp.ResponseError](got)
	if !ok || response.HTTPStatusCode() != 404 || response.Response.Header.Get("X-Amzn-Requestid") == "" {
		t.Errorf("got %v", got)
	}

	_, got = failWith(t, &firn.Fault{Kind: firn.TooManyRequests, Message: "Rate Exceeded.", Reason: "ReservedFunctionConcurrentInvocationLimitExceeded", RetryAfterSeconds: 3})
	throttled, ok := errors.AsType[*types.TooManyRequestsException](got)
	if !ok || throttled.Reason != types.ThrottleReasonReservedFunctionConcurrentInvocationLimitExceeded ||
		throttled.ErrorMessage() != "Rate Exceeded." || aws.ToString(throttled.RetryAfterSeconds) != "3" {
		t.Errorf("got %+v", got)
	}

	_, got = failWith(t, &types.ResourceConflictException{Message: aws.String("exists"), Type: aws.String("Other")})
	conflict, ok := errors.AsType[*types.ResourceConflictException](got)
	if !ok || conflict.ErrorMessage() != "exists" || aws.ToString(conflict.Type) != "Other" {
		t.Errorf("got %v", got)
	}

	_, got = failWith(t, &types.TooManyRequestsException{Message: aws.String("m"), Reason: types.ThrottleReasonCallerRateLimitExceeded, RetryAfterSeconds: aws.String("7")})
	throttled, ok = errors.AsType[*types.TooManyRequestsException](got)
	if !ok || throttled.Reason != types.ThrottleReasonCallerRateLimitExceeded || aws.ToString(throttled.RetryAfterSeconds) != "7" {
		t.Errorf("got %+v", got)
	}
}

// TestBareErrors: some answers of AWS lack a member that others of their kind
// have.
func TestBareErrors(t *testing.T) {
	for want, fault := range map[string]*firn.Fault{
		`{"message":"m"}`:               {Kind: firn.InvalidParameterValue, Message: "m", Type: firn.NoType},
		`{"Type":"User","message":"m"}`: {Kind: firn.InvalidParameterValue, Message: "m"},
		`{"Message":null}`:              {Kind: firn.AccessDenied},
		`{"Message":"m"}`:               {Kind: firn.AccessDenied, Message: "m"},
	} {
		mux := openMux()
		Handle(mux, func(context.Context, *lambda.GetFunctionInput) (*lambda.GetFunctionOutput, error) { return nil, fault })
		if got := call(mux, "GET", "/2015-03-31/functions/f", "").Body.String(); got != want {
			t.Errorf("%+v: %s, want %s", fault, got, want)
		}
	}
}

// TestInternalErrors: what is not meant for callers is logged, with the
// request's ID, and not shown.
func TestInternalErrors(t *testing.T) {
	for _, err := range []error{
		errors.New("disk /secret is full"),
		&firn.Fault{Kind: "SecretException", Message: "/secret"},
		&firn.Fault{Kind: firn.Service, Cause: errors.New("/secret")},
		context.DeadlineExceeded,
	} {
		log, got := failWith(t, err)
		service, ok := errors.AsType[*types.ServiceException](got)
		if !ok || service.ErrorMessage() != "The AWS Lambda service encountered an internal error." || aws.ToString(service.Type) != "Service" {
			t.Errorf("%v: got %v", err, got)
		}
		response, ok := errors.AsType[*smithyhttp.ResponseError](got)
		if !ok || response.HTTPStatusCode() != 500 || !strings.Contains(log, response.Response.Header.Get("X-Amzn-Requestid")) {
			t.Errorf("%v: got %v, log %s", err, got, log)
		}
		if strings.Contains(got.Error(), "secret") || !strings.Contains(log, "level=ERROR") {
			t.Errorf("%v: got %v, log %s", err, got, log)
		}
	}
}

// TestPanics: an operation that panics answers like an internal error, and the
// server lives on.
func TestPanics(t *testing.T) {
	mux, log := testMux()
	Handle(mux, func(context.Context, *lambda.GetFunctionInput) (*lambda.GetFunctionOutput, error) { panic("oh") })
	HandleRaw[lambda.InvokeInput](mux, func(w http.ResponseWriter, r *Request) error {
		w.WriteHeader(200)
		return errors.New("half way")
	})
	client := testClient(t, mux)
	_, err := client.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: aws.String("f")})
	if _, ok := errors.AsType[*types.ServiceException](err); !ok || !strings.Contains(log.String(), "panic: oh") {
		t.Errorf("got %v, log %s", err, log)
	}
	if out, err := client.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("f")}); err == nil {
		t.Errorf("an answer that broke off was taken for a whole one: %+v", out)
	}
}

// TestEveryKindHasAStatus goes through the vocabulary.
func TestEveryKindHasAStatus(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../../fault.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	m := openMux()
	kinds := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); !ok || typ.Name != "Kind" {
			return true
		}
		for _, value := range spec.Values {
			if literal, ok := value.(*ast.BasicLit); ok && literal.Kind == token.STRING {
				kind, _ := strconv.Unquote(literal.Value)
				kinds++
				if _, ok := m.errors.shapes[kind]; !ok {
					t.Errorf("%s has no status", kind)
				}
			}
		}
		return true
	})
	if kinds < 20 {
		t.Errorf("only %d kinds were found", kinds)
	}
	for kind, want := range map[firn.Kind]int{
		firn.ResourceNotFound: 404, firn.ResourceConflict: 409, firn.InvalidParameterValue: 400, firn.PreconditionFailed: 412,
		firn.TooManyRequests: 429, firn.RequestTooLarge: 413, firn.RequestEntityTooLarge: 413, firn.UnsupportedMediaType: 415,
		firn.InvalidRuntime: 502, firn.Service: 500, firn.AccessDenied: 403, firn.NotImplemented: 501, "x": 500,
	} {
		if got := m.Status(kind); got != want {
			t.Errorf("%s: %d, want %d", kind, got, want)
		}
	}
}

// TestUnserved: an operation that nobody mounted, a path that AWS has not, and
// a method that the path has not.
func TestUnserved(t *testing.T) {
	mux, _ := testMux()
	_, err := testClient(t, mux).ListCapacityProviders(t.Context(), &lambda.ListCapacityProvidersInput{})
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok || api.ErrorCode() != "NotImplementedException" || api.ErrorMessage() != "firn does not serve ListCapacityProviders yet; see DIVERGENCES.md" {
		t.Errorf("got %v", err)
	}
	for _, tc := range []struct{ method, target string }{
		{"GET", "/"}, {"GET", "/favicon.ico"}, {"PATCH", "/2015-03-31/functions"}, {"POST", "/2015-03-31/functions/f/code"}, {"GET", "/2015-03-31/functions/f/../x"},
	} {
		w := call(mux, tc.method, tc.target, "")
		if w.Code != 404 || w.Header().Get("X-Amzn-Errortype") != "UnknownOperationException" || !strings.HasPrefix(w.Body.String(), `{"Message":"`) {
			t.Errorf("%s %s: %d %v %s", tc.method, tc.target, w.Code, w.Header(), w.Body)
		}
	}
}

// TestAnswerHeaders: what every answer has.
func TestAnswerHeaders(t *testing.T) {
	at := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	m := openMux()
	m.cfg.Now = func() time.Time { return at }
	var inside string
	Handle(m, func(ctx context.Context, _ *lambda.GetAccountSettingsInput) (*lambda.GetAccountSettingsOutput, error) {
		inside = RequestID(ctx)
		if id := IdentityOf(ctx); id.Account != "123456789012" || !id.Root {
			t.Errorf("identity %+v", id)
		}
		return &lambda.GetAccountSettingsOutput{AccountUsage: &types.AccountUsage{}}, nil
	})
	w := call(m, "GET", "/2016-08-19/account-settings/", "")
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Date") != "Fri, 20 Nov 2026 10:00:00 GMT" ||
		w.Header().Get("X-Amzn-Requestid") != inside || len(inside) != 36 {
		t.Errorf("%d %v, inside %s", w.Code, w.Header(), inside)
	}
	// Zero numbers that are no pointers are sent; nil pointers are not.
	if got := w.Body.String(); got != `{"AccountUsage":{"FunctionCount":0,"TotalCodeSize":0}}` {
		t.Errorf("body %s", got)
	}
	w = call(m, "GET", "/nothing", "")
	if w.Header().Get("X-Amzn-Requestid") == "" || w.Header().Get("Date") == "" {
		t.Errorf("headers of an error: %v", w.Header())
	}
	if RequestID(t.Context()) != "" || RequestOf(t.Context()) != nil || IdentityOf(t.Context()) != (firn.Identity{}) {
		t.Error("a context without a request has one")
	}
}

// TestMountMistakes: mistakes in the mounting code are seen at once.
func TestMountMistakes(t *testing.T) {
	panics := func(name string, f func()) {
		defer func() {
			if recover() == nil {
				t.Errorf("%s: no panic", name)
			}
		}()
		f()
	}
	m := openMux()
	getFunction(m, nil)
	panics("twice", func() { getFunction(m, nil) })
	panics("other output", func() {
		Handle(m, func(context.Context, *lambda.InvokeInput) (*lambda.GetFunctionOutput, error) { return nil, nil })
	})
	panics("no operation", func() {
		Handle(m, func(context.Context, *types.Environment) (*types.Environment, error) { return nil, nil })
	})
}
