package awswire

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/smithy-go"
	"github.com/firn-run/firn"
)

// whoami mounts GetFunction so that it tells who called.
func whoami(m *Mux) {
	Handle(m, func(ctx context.Context, _ *lambda.GetFunctionInput) (*lambda.GetFunctionOutput, error) {
		return &lambda.GetFunctionOutput{Tags: map[string]string{"arn": IdentityOf(ctx).ARN}}, nil
	})
}

// TestAuthentication has what a client sees of each kind of bad credential.
func TestAuthentication(t *testing.T) {
	mux, _ := testMux()
	whoami(mux)
	for _, tc := range []struct {
		name, key, secret, token, region string
		code, message                    string
	}{
		{"right", testKey, testSecret, "", testRegion, "", ""},
		{"session", testKey, testSecret, "session", testRegion, "", ""},
		{"unknown key", "AKIDOTHER", testSecret, "", testRegion, "UnrecognizedClientException", "The security token included in the request is invalid."},
		{"unknown session", testKey, testSecret, "other", testRegion, "UnrecognizedClientException", "The security token included in the request is invalid."},
		{"wrong secret", testKey, "wrong", "", testRegion, "InvalidSignatureException", "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."},
		{"wrong region", testKey, testSecret, "", "us-east-1", "InvalidSignatureException", "Credential should be scoped to a valid region."},
	} {
		client := testClient(t, mux, func(o *lambda.Options) {
			o.Region = tc.region
			o.Credentials = credentials.NewStaticCredentialsProvider(tc.key, tc.secret, tc.token)
		})
		for _, name := range []string{"f", "arn:aws:lambda:eu-central-1:123456789012:function:f:$LATEST"} {
			out, err := client.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: &name})
			if tc.code == "" {
				if err != nil || out.Tags["arn"] != "arn:aws:iam::123456789012:root" {
					t.Errorf("%s: %v %v", tc.name, out, err)
				}
				continue
			}
			api, ok := errors.AsType[smithy.APIError](err)
			if !ok || api.ErrorCode() != tc.code || api.ErrorMessage() != tc.message {
				t.Errorf("%s: %v", tc.name, err)
			}
		}
	}
	w := call(mux, "GET", "/2015-03-31/functions/f", "")
	if w.Code != 403 || w.Header().Get("X-Amzn-Errortype") != "MissingAuthenticationTokenException" || w.Body.String() != `{"message":"Missing Authentication Token"}` {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}

// signed is a request of the SDK's signer, with the hash that is declared and
// signed in place of the body's when it is not empty.
func signed(t testing.TB, method, target, body, declared string, at time.Time) *http.Request {
	t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	sum := sha256.Sum256([]byte(body))
	hash := hex.EncodeToString(sum[:])
	if declared != "" {
		r.Header.Set("X-Amz-Content-Sha256", declared)
		hash = declared
	}
	r.URL.Host = r.Host
	if err := v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}, r, hash, "lambda", testRegion, at); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestBodyHash: the body must be the one that was signed, by whichever way its
// hash is known.
func TestBodyHash(t *testing.T) {
	const target = "/2015-03-31/functions/f/invocations"
	sum := sha256.Sum256([]byte("{}"))
	right := hex.EncodeToString(sum[:])
	mux, _ := testMux()
	HandleRaw[lambda.InvokeInput](mux, func(w http.ResponseWriter, r *Request) error {
		_, err := w.Write(r.Body)
		return err
	})
	for _, tc := range []struct {
		name, declared, sent string
		code                 int
	}{
		{"computed", "", "{}", 200},
		{"computed, changed", "", "[]", 403},
		{"declared", right, "{}", 200},
		{"declared, changed", right, "[]", 403},
		{"unsigned", "UNSIGNED-PAYLOAD", "[]", 200},
		{"declared, in chunks", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "{}", 403},
	} {
		r := signed(t, "POST", target, "{}", tc.declared, time.Now())
		r.Body, r.ContentLength = http.NoBody, 0
		fresh := httptest.NewRequest("POST", target, strings.NewReader(tc.sent))
		fresh.Header = r.Header
		fresh.Header.Del("Content-Length")
		fresh.Header.Set("Content-Length", "2") // which the signer signed
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, fresh)
		if w.Code != tc.code || tc.code == 200 && w.Body.String() != tc.sent {
			t.Errorf("%s: %d %s", tc.name, w.Code, w.Body)
		}
	}
}

// TestPresigned runs a presigned request through the server.
func TestPresigned(t *testing.T) {
	now := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	mux := New(Config{Logger: slog.New(slog.DiscardHandler), Auth: NewAuthenticator(AuthConfig{
		Credentials: oneKey{}, Region: testRegion, Service: "lambda", Now: func() time.Time { return now },
	})})
	whoami(mux)
	r := httptest.NewRequest("GET", "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-central-1%3A123456789012%3Afunction%3Af?X-Amz-Expires=3600&Qualifier=%24LATEST", nil)
	r.URL.Host, r.URL.Scheme = r.Host, "http"
	empty := sha256.Sum256(nil)
	target, _, err := v4.NewSigner().PresignHTTP(t.Context(), aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret, SessionToken: "session"}, r, hex.EncodeToString(empty[:]), "lambda", testRegion, now)
	if err != nil {
		t.Fatal(err)
	}
	if w := call(mux, "GET", target, ""); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := call(mux, "GET", strings.Replace(target, "LATEST", "LATEST1", 1), ""); w.Code != 403 {
		t.Errorf("with another qualifier: %d %s", w.Code, w.Body)
	}
	now = now.Add(time.Hour + 2*time.Second)
	if w := call(mux, "GET", target, ""); w.Code != 403 || !strings.Contains(w.Body.String(), "Signature expired") {
		t.Errorf("an hour later: %d %s", w.Code, w.Body)
	}
}

// TestAuthenticate is the form for listeners other than a Mux.
func TestAuthenticate(t *testing.T) {
	a := NewAuthenticator(AuthConfig{Credentials: oneKey{}, Region: testRegion, Service: "lambda"})
	r := signed(t, "POST", "/x", "body", "", time.Now())
	r.Header.Set("Content-Length", "4")
	id, err := a.Authenticate(r, []byte("body"))
	if err != nil || id.AccessKeyID != testKey {
		t.Errorf("%+v, %v", id, err)
	}
	if id, err = a.Authenticate(r, []byte("other")); firn.KindOf(err) != firn.InvalidSignature || id != (firn.Identity{}) {
		t.Errorf("%+v, %v", id, err)
	}
	if _, err = a.Authenticate(httptest.NewRequest("GET", "/", nil), nil); firn.KindOf(err) != firn.MissingAuthentication {
		t.Error(err)
	}
}
