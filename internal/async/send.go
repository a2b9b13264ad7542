package async

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

// target is the parts of a destination's ARN.
type target struct {
	arn, service, region, account, name string
}

// parseTarget reads the ARN of a destination.
func parseTarget(arn string) (target, error) {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" || parts[2] == "" || parts[5] == "" {
		return target{}, fmt.Errorf("%q is not the ARN of a destination", arn)
	}
	return target{arn: arn, service: parts[2], region: parts[3], account: parts[4], name: parts[5]}, nil
}

// message is what is sent to a service, each of which uses its part of it.
type message struct {
	body       []byte
	attributes []attribute // SQS, SNS
	detailType string      // EventBridge
	resources  []string    // EventBridge
	time       time.Time   // EventBridge
	key        string      // S3
}

type attribute struct{ name, kind, value string }

// sender speaks to SQS, SNS, EventBridge and S3, one operation of each.
type sender struct {
	client    *http.Client
	endpoints map[string]string
	region    string
	now       func() time.Time
}

// Bounds of a delivery.
const (
	deliveryTimeout = 10 * time.Second
	maxAnswer       = 64 << 10 // bytes that are read of an answer
)

// newClient is a client that keeps to itself: no proxies, no redirects.
func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute,
			TLSHandshakeTimeout: deliveryTimeout, ForceAttemptHTTP2: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// send sends a message to its destination. Errors that may pass are passing.
func (s *sender) send(ctx context.Context, to target, creds Credentials, m message) error {
	endpoint := strings.TrimSuffix(s.endpoints[to.service], "/")
	build := map[string]func(string, target, message) (*http.Request, error){
		"sqs": sqsRequest, "sns": snsRequest, "events": eventsRequest, "s3": s3Request,
	}[to.service]
	switch {
	case build == nil:
		return fmt.Errorf("firn cannot deliver to %s", to.arn)
	case endpoint == "":
		return fmt.Errorf("firn was given no endpoint for %s, which %s is in: start it with --endpoint %s=URL", to.service, to.arn, to.service)
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
	resp, err := s.client.Do(req.WithContext(ctx))
	if err != nil {
		return passing{fmt.Errorf("%s does not answer: %w", to.service, err)}
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return passing{fmt.Errorf("the answer of %s: %w", to.service, err)}
	}
	return judge(to, resp.StatusCode, answer)
}

// sign signs a request whose body can be read again.
func (s *sender) sign(ctx context.Context, req *http.Request, to target, creds Credentials) error {
	body, err := req.GetBody()
	if err != nil {
		return err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, body); err != nil {
		return err
	}
	digest := hex.EncodeToString(sum.Sum(nil))
	region := to.region
	if region == "" {
		region = s.region
	}
	var options []func(*v4.SignerOptions)
	if to.service == "s3" {
		req.Header.Set("X-Amz-Content-Sha256", digest)
		options = append(options, func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	}
	err = v4.NewSigner().SignHTTP(ctx, aws.Credentials{
		AccessKeyID: creds.AccessKeyID, SecretAccessKey: creds.SecretAccessKey, SessionToken: creds.SessionToken,
	}, req, digest, to.service, region, s.now(), options...)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	return nil
}

// judge tells from an answer whether the message was taken.
func judge(to target, status int, answer []byte) error {
	if status/100 == 2 {
		if to.service != "events" {
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
				return fmt.Errorf("events refused the record: %s: %s", oneLine(entry.ErrorCode, 100), oneLine(entry.ErrorMessage, maxReason))
			}
		}
		return fmt.Errorf("events refused the record")
	}
	err := fmt.Errorf("%s answered with HTTP %d: %s", to.service, status, oneLine(string(answer[:min(len(answer), maxReason)]), maxReason))
	throttled := slices.ContainsFunc([]string{"Throttl", "SlowDown", "TooManyRequests", "RequestLimitExceeded"}, func(word string) bool {
		return bytes.Contains(answer, []byte(word))
	})
	if status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout || throttled {
		return passing{err}
	}
	return err
}

// sqsRequest is SendMessage in AWS-JSON 1.0.
func sqsRequest(endpoint string, to target, m message) (*http.Request, error) {
	in := map[string]any{"QueueUrl": endpoint + "/" + to.account + "/" + to.name, "MessageBody": string(m.body)}
	if len(m.attributes) > 0 {
		attributes := map[string]any{}
		for _, a := range m.attributes {
			attributes[a.name] = map[string]string{"DataType": a.kind, "StringValue": a.value}
		}
		in["MessageAttributes"] = attributes
	}
	return jsonRequest(endpoint, "AmazonSQS.SendMessage", "application/x-amz-json-1.0", in)
}

// eventsRequest is PutEvents in AWS-JSON 1.1.
func eventsRequest(endpoint string, to target, m message) (*http.Request, error) {
	return jsonRequest(endpoint, "AWSEvents.PutEvents", "application/x-amz-json-1.1", map[string]any{"Entries": []any{map[string]any{
		"Source": "lambda", "DetailType": m.detailType, "Detail": string(m.body), "EventBusName": to.arn,
		"Resources": m.resources, "Time": m.time.Unix(),
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
func snsRequest(endpoint string, to target, m message) (*http.Request, error) {
	form := url.Values{"Action": {"Publish"}, "Version": {"2010-03-31"}, "TopicArn": {to.arn}, "Message": {string(m.body)}}
	for i, a := range m.attributes {
		prefix := "MessageAttributes.entry." + strconv.Itoa(i+1)
		form.Set(prefix+".Name", a.name)
		form.Set(prefix+".Value.DataType", a.kind)
		form.Set(prefix+".Value.StringValue", a.value)
	}
	req, err := http.NewRequest(http.MethodPost, endpoint+"/", strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	return req, nil
}

// s3Request is PutObject, with the bucket in the path.
func s3Request(endpoint string, to target, m message) (*http.Request, error) {
	req, err := http.NewRequest(http.MethodPut, endpoint+"/"+url.PathEscape(to.name)+"/"+m.key, bytes.NewReader(m.body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	return req, nil
}
