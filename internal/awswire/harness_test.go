package awswire

import (
	"bytes"
	"context"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/firn-run/firn"
)

var update = flag.Bool("update", false, "rewrite golden files")

const (
	testKey    = "AKIDEXAMPLE"
	testSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	testRegion = "eu-central-1"
)

// oneKey knows one access key, and sessions of it.
type oneKey struct{}

func (oneKey) Lookup(_ context.Context, key, token string, _ time.Time) (firn.Identity, string, error) {
	if key != testKey || token != "" && token != "session" {
		return firn.Identity{}, "", firn.Faultf(firn.UnrecognizedClient, "The security token included in the request is invalid.")
	}
	return firn.Identity{ARN: "arn:aws:iam::123456789012:root", Account: "123456789012", AccessKeyID: key, Root: true}, testSecret, nil
}

// syncBuffer is a log that several goroutines write.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// testMux is a Mux with authentication on, and its log.
func testMux() (*Mux, *syncBuffer) {
	log := &syncBuffer{}
	return New(Config{
		Logger: slog.New(slog.NewTextHandler(log, nil)),
		Auth:   NewAuthenticator(AuthConfig{Credentials: oneKey{}, Region: testRegion, Service: "lambda"}),
	}), log
}

// openMux is a Mux with authentication off.
func openMux() *Mux {
	return New(Config{Logger: slog.New(slog.DiscardHandler), Anonymous: firn.Identity{Account: "123456789012", Root: true}})
}

// testClient starts a server for h and returns the SDK's client of it.
func testClient(t testing.TB, h http.Handler, options ...func(*lambda.Options)) *lambda.Client {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config = NewServer(h, slog.New(slog.DiscardHandler))
	server.Start()
	t.Cleanup(server.Close)
	return lambda.New(lambda.Options{
		BaseEndpoint: aws.String(server.URL),
		Region:       testRegion,
		Credentials:  credentials.NewStaticCredentialsProvider(testKey, testSecret, ""),
		Retryer:      aws.NopRetryer{},
		HTTPClient:   steadyClient(),
	}, options...)
}

// steadyClient works around a race of the SDK: it closes the body of a request
// when the answer begins, and if net/http has not yet seen the end of that body
// its WriteTo fails with EOF and the connection is closed in the middle of the
// answer. Only a server on the same machine is quick enough.
func steadyClient() *http.Client {
	return &http.Client{Transport: plainBodies{&http.Transport{}}}
}

// plainBodies hides that bodies have a method WriteTo.
type plainBodies struct{ *http.Transport }

func (p plainBodies) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = struct{ io.ReadCloser }{r.Body}
	}
	return p.Transport.RoundTrip(r)
}

// call runs one request against h without a network.
func call(h http.Handler, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, bytes.NewReader([]byte(body)))
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}
