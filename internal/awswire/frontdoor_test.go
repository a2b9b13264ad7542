package awswire

import (
	"context"
	"encoding/xml"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/firn-run/firn"
)

// openService is a Mux of a service with authentication off.
func openService(service *Service) *Mux {
	return NewService(Config{Logger: slog.New(slog.DiscardHandler), Anonymous: firn.Identity{Account: "123456789012", Root: true}}, service)
}

// openDoor is three services, each with one operation, without authentication.
func openDoor() http.Handler {
	functions, logs, metrics := openMux(), openService(CloudWatchLogs()), openService(CloudWatch())
	Handle(functions, func(context.Context, *lambda.GetAccountSettingsInput) (*lambda.GetAccountSettingsOutput, error) {
		return nil, nil
	})
	Handle(logs, func(context.Context, *cloudwatchlogs.DescribeLogGroupsInput) (*cloudwatchlogs.DescribeLogGroupsOutput, error) {
		return nil, nil
	})
	Handle(metrics, func(_ context.Context, in *cloudwatch.ListMetricsInput) (*cloudwatch.ListMetricsOutput, error) {
		return &cloudwatch.ListMetricsOutput{NextToken: in.NextToken}, nil
	})
	return FrontDoor(functions, logs, metrics)
}

const formType = "application/x-www-form-urlencoded; charset=utf-8"

// TestFrontDoor finds the service of each kind of request, and answers in its
// protocol for those that firn does not have.
func TestFrontDoor(t *testing.T) {
	door := openDoor()
	scope := func(service string) string {
		return "AWS4-HMAC-SHA256 Credential=A/20261121/eu-central-1/" + service + "/aws4_request, SignedHeaders=host, Signature=0"
	}
	for _, c := range []struct {
		name, method, target, body string
		headers                    []string
		code                       int
		want                       string // in the body
		kind                       string // Content-Type
	}{
		{"REST", "GET", "/2016-08-19/account-settings", "", nil, 200, "{}", "application/json"},
		{"REST with curl's content type", "GET", "/2016-08-19/account-settings", "", []string{"Content-Type", "application/x-www-form-urlencoded"}, 200, "{}", "application/json"},
		{"REST, unknown", "GET", "/2016-08-19/nothing", "", nil, 404, "The operation GET /2016-08-19/nothing is unknown.", ""},
		{"REST of a foreign service", "GET", "/bucket/key", "", []string{"Authorization", scope("xray")}, 501, "firn does not serve xray", "application/json"},
		{"S3", "GET", "/", "", []string{"Authorization", scope("s3")}, 501, "<Message>firn does not serve s3;", "text/xml"},
		{"REST, signed for another of ours", "GET", "/2016-08-19/account-settings", "", []string{"Authorization", scope("logs")}, 200, "{}", "application/json"},
		{"target", "POST", "/", "{}", []string{"X-Amz-Target", "Logs_20140328.DescribeLogGroups", "Content-Type", "application/x-amz-json-1.1"}, 200, "{}", "application/x-amz-json-1.1"},
		{"target, JSON 1.0", "POST", "/", `{"NextToken":"n"}`, []string{"X-Amz-Target", "GraniteServiceVersion20100801.ListMetrics", "Content-Type", "application/x-amz-json-1.0"}, 200, `{"NextToken":"n"}`, "application/x-amz-json-1.0"},
		{"target, unknown operation", "POST", "/", "{}", []string{"X-Amz-Target", "Logs_20140328.Nothing"}, 400, `{"__type":"UnknownOperationException","message":"CloudWatch Logs has no operation \"Nothing\"."}`, "application/x-amz-json-1.1"},
		{"target, unknown service", "POST", "/", "{}", []string{"X-Amz-Target", "DynamoDB_20120810.ListTables", "Authorization", scope("dynamodb")}, 501, "firn does not serve dynamodb (DynamoDB_20120810);", "application/x-amz-json-1.0"},
		{"target without a dot", "POST", "/", "{}", []string{"X-Amz-Target", "x"}, 501, "firn does not serve", ""},
		{"target, GET", "GET", "/", "", []string{"X-Amz-Target", "Logs_20140328.DescribeLogGroups"}, 400, "is called with POST", ""},
		{"RPC v2", "POST", "/service/GraniteServiceVersion20100801/operation/ListMetrics", "\xa1\x69NextToken\x61n", nil, 200, "\xa1\x69NextToken\x61n", "application/cbor"},
		{"RPC v2, unknown operation", "POST", "/service/GraniteServiceVersion20100801/operation/X", "", nil, 400, "UnknownOperationException", "application/cbor"},
		{"RPC v2, unknown service", "POST", "/service/Other/operation/X", "", nil, 501, "firn does not serve Other;", "application/cbor"},
		{"RPC v2 of a service without it", "POST", "/service/Logs_20140328/operation/DescribeLogGroups", "", nil, 501, "firn does not serve Logs_20140328;", "application/cbor"},
		{"form", "POST", "/", "Action=ListMetrics&Version=2010-08-01&NextToken=a%26", []string{"Content-Type", formType, "Authorization", scope("monitoring")}, 200, "<NextToken>a&amp;</NextToken>", "text/xml"},
		{"form, unsigned", "POST", "/", "Action=ListMetrics&Version=2010-08-01&NextToken=a%26", []string{"Content-Type", formType}, 200, "<NextToken>a&amp;</NextToken>", "text/xml"},
		{"form in the query", "GET", "/?Action=ListMetrics&Version=2010-08-01&NextToken=b", "", nil, 200, "<NextToken>b</NextToken>", "text/xml"},
		{"form, foreign", "POST", "/", "Action=GetCallerIdentity&Version=2011-06-15", []string{"Content-Type", formType, "Authorization", scope("sts")}, 501, "<Code>NotImplementedException</Code><Message>firn does not serve sts;", "text/xml"},
		{"form, foreign and unsigned", "POST", "/", "Action=GetCallerIdentity&Version=2011-06-15", []string{"Content-Type", formType}, 400, "<Code>InvalidAction</Code><Message>Could not find operation GetCallerIdentity for version 2011-06-15</Message>", "text/xml"},
		{"form without an action", "POST", "/", "a=b", []string{"Content-Type", formType}, 400, "<Code>MissingAction</Code>", "text/xml"},
		{"form, broken", "POST", "/", "Action=%zz", []string{"Content-Type", formType}, 400, "<Code>MalformedInput</Code>", "text/xml"},
	} {
		w := call(door, c.method, c.target, c.body, c.headers...)
		if w.Code != c.code || !strings.Contains(w.Body.String(), c.want) || !strings.HasPrefix(w.Header().Get("Content-Type"), c.kind) {
			t.Errorf("%s: %d %s %s", c.name, w.Code, w.Header().Get("Content-Type"), w.Body)
		}
		if len(w.Header().Get("X-Amzn-Requestid")) != 36 {
			t.Errorf("%s: no request ID", c.name)
		}
		if strings.HasPrefix(w.Header().Get("Content-Type"), "text/xml") {
			if err := wellFormed(w.Body.String()); err != nil {
				t.Errorf("%s: %v in %s", c.name, err, w.Body)
			}
		}
	}
}

func wellFormed(text string) error {
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		if _, err := d.Token(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// TestDoorReadsNoStrangersBody: with authentication on, a form that is not
// signed is refused before its body is read.
func TestDoorReadsNoStrangersBody(t *testing.T) {
	functions, _ := testMux()
	metrics, _ := serviceMux(CloudWatch())
	read := false
	r := httptest.NewRequest("POST", "/", readerFunc(func([]byte) (int, error) { read = true; return 0, io.EOF }))
	r.Header.Set("Content-Type", formType)
	w := httptest.NewRecorder()
	FrontDoor(functions, metrics).ServeHTTP(w, r)
	if read || w.Code != 403 || !strings.Contains(w.Body.String(), "<Code>MissingAuthenticationToken</Code>") {
		t.Errorf("%d %s, read: %t", w.Code, w.Body, read)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// signedRequest is a request signed for a service by the SDK's signer.
func signedRequest(t *testing.T, service, method, url, body string, headers ...string) *http.Request {
	t.Helper()
	r := httptest.NewRequest(method, url, strings.NewReader(body))
	r.RequestURI = ""
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	if body != "" {
		r.Header.Set("Content-Length", strconv.Itoa(len(body)))
	}
	err := v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}, r, sha256Hex(body), service, testRegion, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestScope: a service accepts signatures for its own name only, behind a door
// too.
func TestScope(t *testing.T) {
	functions, _ := testMux()
	logs, _ := serviceMux(CloudWatchLogs())
	Handle(logs, func(context.Context, *cloudwatchlogs.DescribeLogGroupsInput) (*cloudwatchlogs.DescribeLogGroupsOutput, error) {
		return nil, nil
	})
	for service, want := range map[string]int{"logs": 200, "lambda": 400, "monitoring": 400} {
		w := httptest.NewRecorder()
		FrontDoor(functions, logs).ServeHTTP(w, signedRequest(t, service, "POST", "http://x/", "{}", "X-Amz-Target", "Logs_20140328.DescribeLogGroups"))
		if w.Code != want || want != 200 && !strings.Contains(w.Body.String(), "Credential should be scoped to correct service") {
			t.Errorf("%s: %d %s", service, w.Code, w.Body)
		}
	}
}

// TestAuthenticated guards an endpoint of firn's own.
func TestAuthenticated(t *testing.T) {
	auth := NewAuthenticator(AuthConfig{Credentials: oneKey{}, Region: testRegion, Service: "logs"})
	h := Authenticated(Config{Logger: slog.New(slog.DiscardHandler), Auth: auth}, func(w http.ResponseWriter, r *Request) error {
		if r.Identity.AccessKeyID != testKey || r.Label("FunctionName") != "" || len(r.ID) != 36 {
			t.Errorf("request %+v", r)
		}
		switch string(r.Body) {
		case "fault":
			return firn.Faultf(firn.ResourceNotFound, "no trace")
		case "panic":
			panic("x")
		}
		_, err := io.WriteString(w, r.Operation+" "+string(r.Body))
		return err
	})
	for body, want := range map[string]string{
		"b":                          "200 /.firn/x b",
		"fault":                      `404 {"Type":"User","Message":"no trace"}`,
		"panic":                      `500 {"Type":"Service","Message":"The AWS Lambda service encountered an internal error."}`,
		strings.Repeat("b", 1<<20+1): `413 {"Message":"Request must be smaller than 1048576 bytes for the requested operation"}`,
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, signedRequest(t, "lambda", "POST", "http://x/.firn/x", body))
		if got := w.Result().Status[:4] + w.Body.String(); got != want {
			t.Errorf("%.10s: %s, want %s", body, got, want)
		}
	}
	if w := call(h, "GET", "/.firn/x", ""); w.Code != 403 || !strings.Contains(w.Body.String(), "Missing Authentication Token") {
		t.Errorf("a stranger: %d %s", w.Code, w.Body)
	}
}
