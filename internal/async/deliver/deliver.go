// Package deliver sends messages to destinations in other services through the
// public API of each, at endpoints that are configured: SQS (SendMessage), SNS
// (Publish), EventBridge (PutEvents) and S3 (PutObject). Requests are signed
// with the credentials that come with each message, and nothing is tried twice:
// errors tell whether it might help (Passing).
package deliver

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Target is a destination by the parts of its ARN.
type Target struct {
	ARN, Service, Region, Account, Name string
}

// Parse reads the ARN of a destination.
func Parse(arn string) (Target, error) {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" || parts[2] == "" || parts[5] == "" {
		return Target{}, fmt.Errorf("%q is not the ARN of a destination", arn)
	}
	return Target{ARN: arn, Service: parts[2], Region: parts[3], Account: parts[4], Name: parts[5]}, nil
}

// Credentials sign requests.
type Credentials struct {
	AccessKeyID, SecretAccessKey, SessionToken string
}

// Passing is an error that may not come again: no answer, a throttle, a fault
// of the service.
type Passing struct{ Err error }

// Error is that of the error itself.
func (p Passing) Error() string { return p.Err.Error() }

// Unwrap returns the error itself.
func (p Passing) Unwrap() error { return p.Err }

// Message is what is sent to a service, each of which uses its part of it.
type Message struct {
	Body       []byte      // UTF-8
	Attributes []Attribute // SQS, SNS
	Trace      string      // SQS: a valid X-Amzn-Trace-Id, or empty
	DetailType string      // EventBridge
	Resources  []string    // EventBridge
	Time       time.Time   // EventBridge
	Key        string      // S3: letters, digits and -_./ only
}

// Attribute is an attribute of a message. Value is not empty.
type Attribute struct {
	Name  string
	Type  string // "String" or "Number"
	Value string
}

// Sender speaks to the services. Endpoints are base URLs by "sqs", "sns",
// "events" and "s3"; Region signs for destinations that name none.
type Sender struct {
	Client    *http.Client
	Endpoints map[string]string
	Region    string
	Now       func() time.Time
}

// Bounds of a delivery.
const (
	deliveryTimeout = 10 * time.Second
	maxAnswer       = 64 << 10 // bytes that are read of an answer
)

// NewClient returns a client that keeps to itself: no proxies, no redirects.
func NewClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute,
			TLSHandshakeTimeout: deliveryTimeout, ForceAttemptHTTP2: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Send sends a message to its destination. Errors that may pass are Passing.
func (s *Sender) Send(ctx context.Context, to Target, creds Credentials, m Message) error {
	endpoint := strings.TrimSuffix(s.Endpoints[to.Service], "/")
	build := map[string]func(string, Target, Message) (*http.Request, error){
		"sqs": sqsRequest, "sns": snsRequest, "events": eventsRequest, "s3": s3Request,
	}[to.Service]
	switch {
	case build == nil:
		return fmt.Errorf("firn cannot deliver to %s", to.ARN)
	case endpoint == "":
		return fmt.Errorf("firn was given no endpoint for %s, which %s is in: start it with --endpoint %s=URL", to.Service, to.ARN, to.Service)
	}
	req, err := build(endpoint, to, m)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, deliveryTimeout)
	defer cancel()
	if err := s.sign(ctx, req, to, creds); err != nil {
		return err
	}
	resp, err := s.Client.Do(req.WithContext(ctx))
	if err != nil {
		return Passing{fmt.Errorf("%s does not answer: %w", to.Service, err)}
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return Passing{fmt.Errorf("the answer of %s: %w", to.Service, err)}
	}
	return judge(to, resp.StatusCode, answer)
}

// sign signs a request whose body can be read again.
func (s *Sender) sign(ctx context.Context, req *http.Request, to Target, creds Credentials) error {
	body, err := req.GetBody()
	if err != nil {
		return err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, body); err != nil {
		return err
	}
	digest := hex.EncodeToString(sum.Sum(nil))
	region := to.Region
	if region == "" {
		region = s.Region
	}
	var options []func(*v4.SignerOptions)
	if to.Service == "s3" {
		req.Header.Set("X-Amz-Content-Sha256", digest)
		options = append(options, func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	}
	err = v4.NewSigner().SignHTTP(ctx, aws.Credentials{
		AccessKeyID: creds.AccessKeyID, SecretAccessKey: creds.SecretAccessKey, SessionToken: creds.SessionToken,
	}, req, digest, to.Service, region, s.Now(), options...)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	return nil
}

// judge tells from an answer whether the message was taken.
func judge(to Target, status int, answer []byte) error {
	if status/100 == 2 {
		if to.Service != "events" {
			return nil
		}
		var put struct {
			FailedEntryCount int
			Entries          []struct{ ErrorCode, ErrorMessage string }
		}
		if err := json.Unmarshal(answer, &put); err != nil {
			return fmt.Errorf("the answer of events: %w", err)
		}
		if put.FailedEntryCount == 0 {
			return nil
		}
		for _, entry := range put.Entries {
			if entry.ErrorCode != "" {
				return fmt.Errorf("events refused the record: %s: %s", oneLine(entry.ErrorCode), oneLine(entry.ErrorMessage))
			}
		}
		return fmt.Errorf("events refused the record")
	}
	err := fmt.Errorf("%s answered with HTTP %d: %s", to.Service, status, oneLine(string(answer)))
	throttled := slices.ContainsFunc([]string{"Throttl", "SlowDown", "TooManyRequests", "RequestLimitExceeded"}, func(word string) bool {
		return bytes.Contains(answer, []byte(word))
	})
	if status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout || throttled {
		return Passing{err}
	}
	return err
}

// sqsRequest is SendMessage in AWS-JSON 1.0.
func sqsRequest(endpoint string, to Target, m Message) (*http.Request, error) {
	in := map[string]any{"QueueUrl": endpoint + "/" + to.Account + "/" + to.Name, "MessageBody": string(m.Body)}
	if len(m.Attributes) > 0 {
		attributes := map[string]any{}
		for _, a := range m.Attributes {
			attributes[a.Name] = map[string]string{"DataType": a.Type, "StringValue": a.Value}
		}
		in["MessageAttributes"] = attributes
	}
	if m.Trace != "" {
		in["MessageSystemAttributes"] = map[string]any{"AWSTraceHeader": map[string]string{"DataType": "String", "StringValue": m.Trace}}
	}
	return jsonRequest(endpoint, "AmazonSQS.SendMessage", "application/x-amz-json-1.0", in)
}

// eventsRequest is PutEvents in AWS-JSON 1.1.
func eventsRequest(endpoint string, to Target, m Message) (*http.Request, error) {
	return jsonRequest(endpoint, "AWSEvents.PutEvents", "application/x-amz-json-1.1", map[string]any{"Entries": []any{map[string]any{
		"Source": "lambda", "DetailType": m.DetailType, "Detail": string(m.Body), "EventBusName": to.ARN,
		"Resources": m.Resources, "Time": m.Time.Unix(),
	}}})
}

func jsonRequest(endpoint, operation, contentType string, in any) (*http.Request, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequest(http.MethodPost, endpoint+"/", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("X-Amz-Target", operation)
	return req, nil
}

// snsRequest is Publish in the query protocol.
func snsRequest(endpoint string, to Target, m Message) (*http.Request, error) {
	form := url.Values{"Action": {"Publish"}, "Version": {"2010-03-31"}, "TopicArn": {to.ARN}, "Message": {string(m.Body)}}
	for i, a := range m.Attributes {
		prefix := "MessageAttributes.entry." + strconv.Itoa(i+1)
		form.Set(prefix+".Name", a.Name)
		form.Set(prefix+".Value.DataType", a.Type)
		form.Set(prefix+".Value.StringValue", a.Value)
	}
	req, err := http.NewRequest(http.MethodPost, endpoint+"/", strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	return req, nil
}

// s3Request is PutObject, with the bucket in the path.
func s3Request(endpoint string, to Target, m Message) (*http.Request, error) {
	req, err := http.NewRequest(http.MethodPut, endpoint+"/"+url.PathEscape(to.Name)+"/"+m.Key, bytes.NewReader(m.Body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	return req, nil
}

// maxReason bounds, in bytes, what of an answer goes into an error.
const maxReason = 300

// oneLine cuts the words of a service short, and keeps them on one line.
func oneLine(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), maxReason)], "\uFFFD")
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
