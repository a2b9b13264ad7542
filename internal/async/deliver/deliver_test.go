package deliver

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// request is what a service saw.
type request struct {
	method, path string
	header       http.Header
	body         string
}

// serve is a service of the test that answers with status and text.
func serve(t *testing.T, status int, text string) (endpoint string, seen *request) {
	seen = &request{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		*seen = request{r.Method, r.URL.Path, r.Header, string(body)}
		w.WriteHeader(status)
		io.WriteString(w, text)
	}))
	t.Cleanup(s.Close)
	return s.URL, seen
}

func send(t *testing.T, endpoint, arn string, m Message) error {
	t.Helper()
	to, err := Parse(arn)
	if err != nil {
		t.Fatal(err)
	}
	s := Sender{
		Client: NewClient(), Endpoints: map[string]string{to.Service: endpoint + "/"}, Region: "us-east-1",
		Now: func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) },
	}
	return s.Send(t.Context(), to, Credentials{"ASIAX", "secret", "token"}, m)
}

func TestRequests(t *testing.T) {
	m := Message{
		Body: []byte(`{"a":"<&> ü"}`), Attributes: []Attribute{{"RequestID", "String", "id 1"}, {"ErrorCode", "Number", "200"}},
		DetailType: "type", Resources: []string{"r1", "r2"}, Time: time.Unix(5, 0), Key: "aws/lambda/async/f/x", Trace: "Root=1",
	}
	for _, c := range []struct {
		arn, answer, scope string
		check              func(request) bool
	}{
		{"arn:aws:sqs:eu-central-1:123456789012:q", `{}`, "20260102/eu-central-1/sqs/aws4_request", func(r request) bool {
			var in struct {
				QueueUrl, MessageBody                      string
				MessageAttributes, MessageSystemAttributes map[string]struct{ DataType, StringValue string }
			}
			return json.Unmarshal([]byte(r.body), &in) == nil && strings.HasSuffix(in.QueueUrl, "/123456789012/q") && in.MessageBody == string(m.Body) &&
				len(in.MessageAttributes) == 2 && in.MessageAttributes["ErrorCode"].DataType == "Number" && in.MessageAttributes["RequestID"].StringValue == "id 1" &&
				len(in.MessageSystemAttributes) == 1 && in.MessageSystemAttributes["AWSTraceHeader"] == struct{ DataType, StringValue string }{"String", "Root=1"} &&
				r.header.Get("X-Amz-Target") == "AmazonSQS.SendMessage" && r.header.Get("Content-Type") == "application/x-amz-json-1.0" && r.method == "POST" && r.path == "/"
		}},
		{"arn:aws:sns:eu-central-1:123456789012:topic", "<PublishResponse/>", "20260102/eu-central-1/sns/aws4_request", func(r request) bool {
			form, err := url.ParseQuery(r.body)
			return err == nil && form.Get("Action") == "Publish" && form.Get("Version") == "2010-03-31" && form.Get("Message") == string(m.Body) &&
				form.Get("TopicArn") == "arn:aws:sns:eu-central-1:123456789012:topic" && form.Get("MessageAttributes.entry.2.Name") == "ErrorCode" &&
				form.Get("MessageAttributes.entry.2.Value.DataType") == "Number" && form.Get("MessageAttributes.entry.1.Value.StringValue") == "id 1"
		}},
		{"arn:aws:events:eu-central-1:123456789012:event-bus/bus", `{"FailedEntryCount":0}`, "20260102/eu-central-1/events/aws4_request", func(r request) bool {
			var in struct {
				Entries []struct {
					Source, DetailType, Detail, EventBusName string
					Time                                     float64
				}
			}
			return json.Unmarshal([]byte(r.body), &in) == nil && len(in.Entries) == 1 && in.Entries[0].Detail == string(m.Body) && in.Entries[0].Time == 5 &&
				in.Entries[0].Source == "lambda" && in.Entries[0].DetailType == "type" && r.header.Get("X-Amz-Target") == "AWSEvents.PutEvents"
		}},
		{"arn:aws:s3:::bucket", "", "20260102/us-east-1/s3/aws4_request", func(r request) bool {
			return r.method == "PUT" && r.path == "/bucket/aws/lambda/async/f/x" && r.body == string(m.Body) && len(r.header.Get("X-Amz-Content-Sha256")) == 64
		}},
	} {
		endpoint, seen := serve(t, 200, c.answer)
		if err := send(t, endpoint, c.arn, m); err != nil {
			t.Errorf("%s: %v", c.arn, err)
		}
		if !c.check(*seen) {
			t.Errorf("%s got %+v", c.arn, seen)
		}
		if auth := seen.header.Get("Authorization"); !strings.Contains(auth, "Credential=ASIAX/"+c.scope) || seen.header.Get("X-Amz-Security-Token") != "token" {
			t.Errorf("%s: signed %q", c.arn, auth)
		}
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		status  int
		answer  string
		passing bool
		says    string
	}{
		{400, `{"__type":"com.amazonaws.sqs#QueueDoesNotExist"}`, false, "QueueDoesNotExist"},
		{403, "Access\nDenied", false, "HTTP 403: Access Denied"},
		{302, "", false, "302"},
		{429, "", true, "429"},
		{400, "ThrottlingException", true, "Throttling"},
		{500, strings.Repeat("x", 100_000), true, "HTTP 500"},
		{503, "SlowDown", true, "SlowDown"},
	} {
		endpoint, _ := serve(t, c.status, c.answer)
		err := send(t, endpoint, "arn:aws:sqs:us-east-1:123456789012:q", Message{Body: []byte("{}")})
		if _, passing := errors.AsType[Passing](err); err == nil || passing != c.passing || !strings.Contains(err.Error(), c.says) || len(err.Error()) > 500 {
			t.Errorf("%d: passing is %t: %.600v", c.status, passing, err)
		}
	}
	endpoint, _ := serve(t, 200, "not JSON")
	if err := send(t, endpoint, "arn:aws:events:us-east-1:123456789012:event-bus/b", Message{Body: []byte("{}")}); err == nil {
		t.Error("an answer that is none was believed")
	}
	closed := httptest.NewServer(nil)
	closed.Close()
	if err := send(t, closed.URL, "arn:aws:sqs:us-east-1:123456789012:q", Message{}); !errors.As(err, new(Passing)) {
		t.Errorf("nobody there: %v", err)
	}
	if err := send(t, "", "arn:aws:kinesis:us-east-1:123456789012:stream/s", Message{}); err == nil {
		t.Error("delivered to a service without an operation")
	}
	s := Sender{Client: NewClient(), Now: time.Now}
	to, err := Parse("arn:aws:sqs:us-east-1:123456789012:q")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(context.Background(), to, Credentials{}, Message{}); err == nil || !strings.Contains(err.Error(), "--endpoint sqs=URL") {
		t.Errorf("no endpoint: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "arn:aws:s3:::b", "arn:aws:sqs:us-east-1:123456789012:q", "arn:::::", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, arn string) {
		to, err := Parse(arn)
		if err == nil && (to.Service == "" || to.Name == "" || to.ARN != arn || !strings.HasSuffix(arn, to.Name)) {
			t.Errorf("%q is %+v", arn, to)
		}
	})
}
