package gateway_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/gateway"
	"github.com/firn-run/firn/internal/invoke"
)

const denied = `{"Message":"Forbidden. For troubleshooting Function URL authorization issues, see: https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"}`

// people knows two access keys.
type people struct{}

func (people) Lookup(_ context.Context, key, token string, _ time.Time) (firn.Identity, string, error) {
	switch {
	case key == "AKIAROOT":
		return firn.Identity{ARN: "arn:aws:iam::" + account + ":root", Account: account, AccessKeyID: key, Root: true}, "secret", nil
	case key == "ASIAROLE" && token == "token":
		return firn.Identity{ARN: "arn:aws:sts::" + account + ":assumed-role/worker/me", Account: account, AccessKeyID: key}, "secret", nil
	}
	return firn.Identity{}, "", firn.Faultf(firn.UnrecognizedClient, "The security token included in the request is invalid.")
}

func iam(w *world) {
	w.url.Auth = gateway.AuthIAM
	w.cfg.Auth = awswire.NewAuthenticator(awswire.AuthConfig{Credentials: people{}, Region: "us-east-1", Service: "lambda"})
}

func sign(t *testing.T, r *http.Request, key, token, body string) {
	t.Helper()
	sum := sha256.Sum256([]byte(body))
	creds := aws.Credentials{AccessKeyID: key, SecretAccessKey: "secret", SessionToken: token}
	// A signer of AWS's signs the host that it sends to.
	r.URL.Host, r.Header["X-Dial"] = r.Host, []string{r.URL.Host}
	if err := v4.NewSigner().SignHTTP(t.Context(), creds, r, hex.EncodeToString(sum[:]), "lambda", "us-east-1", time.Now()); err != nil {
		t.Fatal(err)
	}
	r.URL.Host = r.Header["X-Dial"][0]
}

// TestIAM: with AuthType AWS_IAM the caller has to sign, and is told of.
func TestIAM(t *testing.T) {
	w := newWorld(t, iam)
	w.allow = func(a gateway.Access) bool { return a.Caller.ARN != "" }

	r := w.request("POST", "/signed%20path?b=2&a=1", strings.NewReader("hello"), "Content-Type", "text/plain")
	sign(t, r, "AKIAROOT", "", "hello")
	w.do(r).check(t, 200)
	e := w.last()
	if e.RequestContext.AccountID != account || e.RequestContext.Authorizer == nil || e.Body != "hello" {
		t.Fatalf("%+v", e)
	}
	got := *e.RequestContext.Authorizer.IAM
	if got.AccessKey != "AKIAROOT" || got.AccountID != account || got.CallerID != account || got.UserARN != "arn:aws:iam::"+account+":root" || got.UserID != account {
		t.Errorf("%+v", got)
	}

	r = w.request("GET", "/", nil)
	sign(t, r, "ASIAROLE", "token", "")
	w.do(r).check(t, 200)
	got = *w.last().RequestContext.Authorizer.IAM
	if !strings.HasPrefix(got.UserID, "AROA") || !strings.HasSuffix(got.UserID, ":me") || len(got.UserID) != 21+3 || got.CallerID != got.UserID {
		t.Errorf("%+v", got)
	}
	if text := string(w.events[1].Payload); !strings.Contains(text, `"cognitoIdentity":null`) || !strings.Contains(text, `"principalOrgId":null`) {
		t.Errorf("%s", text)
	}

	before := w.invocations()
	for name, tc := range map[string]struct {
		change func(*http.Request)
		body   string
		kind   string
	}{
		"unsigned":      {func(r *http.Request) { r.Header.Del("Authorization") }, denied, "AccessDeniedException"},
		"other body":    {func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("HELLO")) }, "", "InvalidSignatureException"},
		"other path":    {func(r *http.Request) { r.URL.Path = "/other" }, "", "InvalidSignatureException"},
		"other host":    {func(r *http.Request) { r.Host = strings.Replace(r.Host, "localhost", "on.aws", 1) }, "", "InvalidSignatureException"},
		"strange":       {func(r *http.Request) { sign(t, r, "AKIAWHO", "", "hello") }, `{"message":"The security token included in the request is invalid."}`, "UnrecognizedClientException"},
		"half a header": {func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=x") }, "", "IncompleteSignatureException"},
		"bearer":        {func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }, "", "IncompleteSignatureException"},
	} {
		t.Run(name, func(t *testing.T) {
			r := w.request("POST", "/", strings.NewReader("hello"))
			sign(t, r, "AKIAROOT", "", "hello")
			tc.change(r)
			out := w.do(r)
			out.check(t, 403, "X-Amzn-Errortype", tc.kind)
			if tc.body != "" && out.body != tc.body {
				t.Errorf("%s", out.body)
			}
		})
	}
	if w.invocations() != before {
		t.Error("the function was invoked")
	}
}

// TestPresigned: a URL may carry its signature.
func TestPresigned(t *testing.T) {
	w := newWorld(t, iam)
	r := w.request("GET", "/?x=1&X-Amz-Expires=60", nil)
	dial := r.URL.Host
	r.URL.Host = r.Host
	target, _, err := v4.NewSigner().PresignHTTP(t.Context(), aws.Credentials{AccessKeyID: "AKIAROOT", SecretAccessKey: "secret"},
		r, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "lambda", "us-east-1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	again, err := http.NewRequest("GET", strings.Replace(target, r.URL.Host, dial, 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	again.Host = r.Host
	w.do(again).check(t, 200)
}

// TestTwoStatements: both actions are asked for, with the condition keys, and
// neither alone is enough.
func TestTwoStatements(t *testing.T) {
	w := newWorld(t)
	w.do(w.request("GET", "/", nil, "User-Agent", "agent", "Referer", "http://r/")).check(t, 200)
	if len(w.asked) != 2 {
		t.Fatalf("%+v", w.asked)
	}
	for i, action := range []string{"lambda:InvokeFunctionUrl", "lambda:InvokeFunction"} {
		a := w.asked[i]
		if a.Action != action || a.Caller != (firn.Identity{}) || a.URL.ID != urlID {
			t.Errorf("%+v", a)
		}
		for key, want := range map[string]string{
			"lambda:FunctionUrlAuthType": "NONE", "lambda:InvokedViaFunctionUrl": "true", "aws:SourceIp": "127.0.0.1",
			"aws:UserAgent": "agent", "aws:Referer": "http://r/", "aws:SecureTransport": "false",
		} {
			if a.Conditions[key] != want {
				t.Errorf("%s: %q", key, a.Conditions[key])
			}
		}
	}
	for _, only := range []string{"lambda:InvokeFunctionUrl", "lambda:InvokeFunction", ""} {
		w.allow = func(a gateway.Access) bool { return a.Action == only }
		out := w.do(w.request("GET", "/", nil))
		out.check(t, 403, "X-Amzn-Errortype", "AccessDeniedException", "Content-Length", "144")
		if out.body != denied {
			t.Errorf("with %q: %s", only, out.body)
		}
	}
	if w.invocations() != 1 {
		t.Error("the function was invoked")
	}
}

// TestUnsignedURL: with AuthType NONE nobody looks at signatures, and the
// function gets its own Authorization header.
func TestUnsignedURL(t *testing.T) {
	w := newWorld(t, func(w *world) {
		iam(w)
		w.url.Auth = gateway.AuthNone
	})
	w.do(w.request("GET", "/", nil, "Authorization", "Bearer x")).check(t, 200)
	if e := w.last(); e.Headers["authorization"] != "Bearer x" || e.RequestContext.Authorizer != nil {
		t.Errorf("%+v", e)
	}
}

// TestWithoutAuthentication: with authentication off everybody is the root
// user.
func TestWithoutAuthentication(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.url.Auth = gateway.AuthIAM
		w.cfg.Anonymous = firn.Identity{ARN: "arn:aws:iam::" + account + ":root", Account: account, Root: true}
	})
	w.do(w.request("GET", "/", nil)).check(t, 200)
	if got := w.last().RequestContext.Authorizer; got == nil || got.IAM.UserID != account || !w.asked[0].Caller.Root {
		t.Errorf("%+v", got)
	}
}

// TestUnknownURL: as recorded.
func TestUnknownURL(t *testing.T) {
	w := newWorld(t)
	for _, host := range []string{
		"0123456789abcdefghijklmnopqrstuv.lambda-url.us-east-1.localhost", urlID + ".lambda-url.eu-west-1.localhost", "-.lambda-url.us-east-1.on.aws",
	} {
		r := w.request("GET", "/", nil)
		r.Host = host
		out := w.do(r)
		out.check(t, 403, "Content-Type", "application/json", "X-Amzn-Errortype", "AccessDeniedException")
		if out.body != `{"Message":null}` || len(w.asked) != 0 {
			t.Errorf("%s: %s", host, out.body)
		}
	}
	r := w.request("GET", "/", nil)
	r.Host = ""
	w.do(r).check(t, http.StatusTeapot) // the API's
	r = w.request("GET", gateway.PathPrefix+urlID+"/x?y=z", nil)
	r.Host = ""
	w.do(r).check(t, 200)
	if e := w.last(); e.RawPath != "/x" || e.RawQueryString != "y=z" || e.RequestContext.DomainName != urlID+".lambda-url.us-east-1.localhost" {
		t.Errorf("%+v", e)
	}
}

// TestClientGoneWhileSending: half a body invokes nothing.
func TestClientGoneWhileSending(t *testing.T) {
	w := newWorld(t)
	w.answer = func(*invoke.Request) (*invoke.Response, error) {
		t.Error("invoked")
		return returns("{}"), nil
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s.lambda-url.us-east-1.localhost\r\nContent-Length: 100\r\n\r\nhalf", urlID); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if s := w.told(1); s[0].Status != 499 {
		t.Errorf("%+v", s)
	}
}
