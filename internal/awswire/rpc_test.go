package awswire

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	logstypes "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/smithy-go/encoding/cbor"
	"github.com/firn-run/firn"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func sha256Hex(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}

// ask calls an operation in a protocol without a network.
func ask(h http.Handler, protocol, operation, body string, headers ...string) *httptest.ResponseRecorder {
	switch protocol {
	case "logs":
		return call(h, "POST", "/", body, append(headers, "X-Amz-Target", "Logs_20140328."+operation, "Content-Type", "application/x-amz-json-1.1")...)
	case "json":
		return call(h, "POST", "/", body, append(headers, "X-Amz-Target", "GraniteServiceVersion20100801."+operation, "Content-Type", "application/x-amz-json-1.0")...)
	case "cbor":
		return call(h, "POST", "/service/GraniteServiceVersion20100801/operation/"+operation, body, append(headers, "Smithy-Protocol", "rpc-v2-cbor", "Content-Type", "application/cbor")...)
	}
	return call(h, "POST", "/", "Action="+operation+"&Version=2010-08-01&"+body, append(headers, "Content-Type", formType)...)
}

// TestErrorsOfServices has the exact answers of each protocol: status, body,
// and the header by which SDKs of today know the old codes.
func TestErrorsOfServices(t *testing.T) {
	var fail error
	logs, metrics := openService(CloudWatchLogs()), openService(CloudWatch())
	Handle(logs, func(context.Context, *cloudwatchlogs.DescribeLogGroupsInput) (*cloudwatchlogs.DescribeLogGroupsOutput, error) {
		return nil, fail
	})
	Handle(metrics, func(context.Context, *cloudwatch.ListMetricsInput) (*cloudwatch.ListMetricsOutput, error) {
		return nil, fail
	})
	for _, c := range []struct {
		protocol string
		err      error
		code     int
		body     string
		query    string // x-amzn-query-error
	}{
		{"logs", &logstypes.ResourceNotFoundException{Message: aws.String("m")}, 400, `{"__type":"ResourceNotFoundException","message":"m"}`, ""},
		{"logs", &logstypes.OperationAbortedException{}, 400, `{"__type":"OperationAbortedException"}`, ""},
		{"logs", &logstypes.DataAlreadyAcceptedException{Message: aws.String("m"), ExpectedSequenceToken: aws.String("7")}, 400, `{"__type":"DataAlreadyAcceptedException","message":"m","expectedSequenceToken":"7"}`, ""},
		{"logs", &logstypes.ServiceUnavailableException{Message: aws.String("m")}, 500, `{"__type":"ServiceUnavailableException","message":"m"}`, ""},
		{"logs", firn.Faultf("LimitExceededException", "m"), 400, `{"__type":"LimitExceededException","message":"m"}`, ""},
		{"logs", firn.Faultf(firn.AccessDenied, "m"), 400, `{"__type":"AccessDeniedException","message":"m"}`, ""},
		{"logs", firn.Faultf("OtherException", "/secret"), 500, `{"__type":"ServiceUnavailableException","message":"The AWS CloudWatch Logs service encountered an internal error."}`, ""},
		{"logs", errors.New("/secret"), 500, `{"__type":"ServiceUnavailableException","message":"The AWS CloudWatch Logs service encountered an internal error."}`, ""},
		{"json", &cwtypes.ResourceNotFound{Message: aws.String("m")}, 404, `{"__type":"ResourceNotFound","message":"m"}`, "ResourceNotFound;Sender"},
		{"json", &cwtypes.InvalidParameterValueException{Message: aws.String("m")}, 400, `{"__type":"InvalidParameterValueException","message":"m"}`, "InvalidParameterValue;Sender"},
		{"json", &cwtypes.MissingRequiredParameterException{Message: aws.String("m")}, 400, `{"__type":"MissingRequiredParameterException","message":"m"}`, "MissingParameter;Sender"},
		{"json", firn.Faultf("InvalidParameterCombination", "m"), 400, `{"__type":"InvalidParameterCombinationException","message":"m"}`, "InvalidParameterCombination;Sender"},
		{"json", errors.New("/secret"), 500, `{"__type":"InternalServiceFault","Message":"The AWS CloudWatch service encountered an internal error."}`, "InternalServiceError;Receiver"},
		{"json", firn.Faultf(firn.ExpiredToken, "m"), 400, `{"__type":"ExpiredTokenException","message":"m"}`, ""},
		{"cbor", &cwtypes.ResourceNotFound{Message: aws.String("m")}, 404, "\xa2\x66__type\x78\x29com.amazonaws.cloudwatch#ResourceNotFound\x67message\x61m", "ResourceNotFound;Sender"},
		{"cbor", firn.Faultf(firn.InvalidSignature, "m"), 400, "\xa2\x66__type\x78\x19InvalidSignatureException\x67message\x61m", ""},
		{"query", &cwtypes.ResourceNotFound{Message: aws.String("<m>")}, 404, `<Error><Type>Sender</Type><Code>ResourceNotFound</Code><Message>&lt;m&gt;</Message><message>&lt;m&gt;</message></Error>`, ""},
		{"query", &cwtypes.DashboardInvalidInputError{Message: aws.String("m"), DashboardValidationMessages: []cwtypes.DashboardValidationMessage{{DataPath: aws.String("/a")}}}, 400,
			`<Code>InvalidParameterInput</Code><Message>m</Message><message>m</message><dashboardValidationMessages><member><DataPath>/a</DataPath></member></dashboardValidationMessages></Error>`, ""},
		{"query", &cwtypes.LimitExceededFault{Message: aws.String("m")}, 400, `<Code>LimitExceeded</Code>`, ""},
		{"query", firn.Faultf(firn.InvalidSignature, "m"), 403, `<Code>SignatureDoesNotMatch</Code>`, ""},
		{"query", firn.Faultf(firn.UnrecognizedClient, "m"), 403, `<Code>InvalidClientTokenId</Code>`, ""},
		{"query", errors.New("/secret"), 500, `<Type>Receiver</Type><Code>InternalServiceError</Code>`, ""},
	} {
		fail = c.err
		mux, operation := metrics, "ListMetrics"
		if c.protocol == "logs" {
			mux, operation = logs, "DescribeLogGroups"
		}
		w := ask(mux, c.protocol, operation, "", "X-Amzn-Query-Mode", "true")
		body := w.Body.String()
		ok := body == c.body
		switch c.protocol {
		case "query":
			ok = strings.Contains(body, c.body) && wellFormed(body) == nil && strings.Contains(body, "<RequestId>"+w.Header().Get("X-Amzn-Requestid")+"</RequestId></ErrorResponse>")
		case "cbor":
			ok = sameCBOR(body, c.body) && w.Header().Get("Smithy-Protocol") == "rpc-v2-cbor"
		}
		if !ok || w.Code != c.code || w.Header().Get("X-Amzn-Query-Error") != c.query {
			t.Errorf("%s, %v: %d %s %q", c.protocol, c.err, w.Code, body, w.Header().Get("X-Amzn-Query-Error"))
		}
	}
	fail = &cwtypes.ResourceNotFound{}
	if w := ask(metrics, "json", "ListMetrics", ""); w.Header().Get("X-Amzn-Query-Error") != "" {
		t.Error("a client that did not ask for old codes gets them")
	}
	if got := logs.Status("ResourceNotFoundException"); got != 400 {
		t.Errorf("status %d", got)
	}
}

// sameCBOR compares two bodies, as the order in maps is free.
func sameCBOR(a, b string) bool {
	x, err := cbor.Decode([]byte(a))
	if err != nil {
		return false
	}
	y, err := cbor.Decode([]byte(b))
	return err == nil && cmp.Equal(x, y)
}

// TestRecordedForms reads requests as the AWS CLI 2.9.19 and older SDKs send
// them, and has the exact answer.
func TestRecordedForms(t *testing.T) {
	mux := openService(CloudWatch())
	var got any
	Handle(mux, func(_ context.Context, in *cloudwatch.GetMetricDataInput) (*cloudwatch.GetMetricDataOutput, error) {
		got = in
		return &cloudwatch.GetMetricDataOutput{
			Messages:          []cwtypes.MessageData{},
			MetricDataResults: []cwtypes.MetricDataResult{{Id: aws.String("a"), StatusCode: cwtypes.StatusCodeComplete, Timestamps: []time.Time{noon(), noon().Truncate(time.Second)}, Values: []float64{1, 2.5e-7}}},
		}, nil
	})
	Handle(mux, func(_ context.Context, in *cloudwatch.PutMetricDataInput) (*cloudwatch.PutMetricDataOutput, error) {
		got = in
		return nil, nil
	})
	w := ask(mux, "query", "GetMetricData", "MetricDataQueries.member.1.Id=a&MetricDataQueries.member.1.MetricStat.Metric.Namespace=n&MetricDataQueries.member.1.MetricStat.Period=60&MetricDataQueries.member.1.MetricStat.Stat=Sum&MetricDataQueries.member.1.ReturnData=true&StartTime=2026-11-01T12%3A00%3A00.250000Z&EndTime=2026-11-01T13%3A00%3A00Z")
	want := `<GetMetricDataResponse xmlns="http://monitoring.amazonaws.com/doc/2010-08-01/"><GetMetricDataResult><Messages></Messages><MetricDataResults><member><Id>a</Id><StatusCode>Complete</StatusCode><Timestamps><member>2026-11-01T12:00:00.25Z</member><member>2026-11-01T12:00:00Z</member></Timestamps><Values><member>1</member><member>2.5e-07</member></Values></member></MetricDataResults></GetMetricDataResult><ResponseMetadata><RequestId>` +
		w.Header().Get("X-Amzn-Requestid") + `</RequestId></ResponseMetadata></GetMetricDataResponse>`
	if w.Code != 200 || w.Body.String() != want || w.Header().Get("Content-Type") != "text/xml" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	ignore := cmpopts.IgnoreUnexported(cloudwatch.GetMetricDataInput{}, cwtypes.MetricDataQuery{}, cwtypes.MetricStat{}, cwtypes.Metric{}, cloudwatch.PutMetricDataInput{}, cwtypes.MetricDatum{}, cwtypes.Dimension{}, cwtypes.StatisticSet{})
	if diff := cmp.Diff(&cloudwatch.GetMetricDataInput{
		StartTime: aws.Time(noon()), EndTime: aws.Time(noon().Truncate(time.Second).Add(time.Hour)),
		MetricDataQueries: []cwtypes.MetricDataQuery{{Id: aws.String("a"), ReturnData: aws.Bool(true), MetricStat: &cwtypes.MetricStat{Metric: &cwtypes.Metric{Namespace: aws.String("n")}, Period: aws.Int32(60), Stat: aws.String("Sum")}}},
	}, got, ignore); diff != "" {
		t.Error(diff)
	}
	// Items out of order and with gaps, an empty list, epoch seconds, no zone.
	w = ask(mux, "query", "PutMetricData", "Namespace=a+b%2Fc&MetricData.member.10.MetricName=last&MetricData.member.2.MetricName=first&MetricData.member.2.Dimensions=&MetricData.member.2.Timestamp=1793534400.25&MetricData.member.10.Timestamp=2026-11-01T12:00:00&MetricData.member.10.Values.member.1=-1.5e3&MetricData.member.10.StatisticValues.Maximum=Infinity&X-Amz-Date=ignored&Other.member.x=ignored")
	want = `<PutMetricDataResponse xmlns="http://monitoring.amazonaws.com/doc/2010-08-01/"><ResponseMetadata>`
	if w.Code != 200 && w.Code != 400 || w.Code == 200 && !strings.HasPrefix(w.Body.String(), want) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	w = ask(mux, "query", "PutMetricData", "Namespace=a+b%2Fc&MetricData.member.10.MetricName=last&MetricData.member.2.MetricName=first&MetricData.member.2.Dimensions=&MetricData.member.2.Timestamp=1793534400.25&MetricData.member.10.Timestamp=2026-11-01T12:00:00&MetricData.member.10.Values.member.1=-1.5e3")
	if w.Code != 200 || !strings.HasPrefix(w.Body.String(), want) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if diff := cmp.Diff(&cloudwatch.PutMetricDataInput{Namespace: aws.String("a b/c"), MetricData: []cwtypes.MetricDatum{
		{MetricName: aws.String("first"), Dimensions: []cwtypes.Dimension{}, Timestamp: aws.Time(noon())},
		{MetricName: aws.String("last"), Timestamp: aws.Time(noon().Truncate(time.Second)), Values: []float64{-1500}},
	}}, got, ignore); diff != "" {
		t.Error(diff)
	}
}

// TestValidationOfServices has the words for broken constraints.
func TestValidationOfServices(t *testing.T) {
	logs, metrics := openService(CloudWatchLogs()), openService(CloudWatch())
	Handle(logs, func(context.Context, *cloudwatchlogs.PutLogEventsInput) (*cloudwatchlogs.PutLogEventsOutput, error) {
		return nil, nil
	})
	Handle(metrics, func(context.Context, *cloudwatch.ListMetricsInput) (*cloudwatch.ListMetricsOutput, error) {
		return nil, nil
	})
	Handle(metrics, func(_ context.Context, in *cloudwatch.PutMetricDataInput) (*cloudwatch.PutMetricDataOutput, error) {
		return nil, &cwtypes.MissingRequiredParameterException{Message: aws.String(strconv.Itoa(len(in.MetricData)) + " data")}
	})
	long := strings.Repeat("a", 513)
	for _, c := range []struct{ protocol, operation, body, want string }{
		{"logs", "PutLogEvents", `{"logGroupName":"` + long + `","logStreamName":"s"}`,
			`{"__type":"InvalidParameterException","message":"Invalid LogGroup or LogStream, both must have length less than or equal to 512."}`},
		{"json", "PutMetricData", `{"MetricData":[{"Unit":"Furlongs","MetricName":""}]}`, `"message":"1 data"`},
		{"query", "PutMetricData", `MetricData.member.1.Unit=Furlongs`, "<Message>1 data</Message>"},
		{"cbor", "PutMetricData", "\xa0", "0 data"},
		{"logs", "PutLogEvents", `{"logGroupName":"a b","logStreamName":"s","logEvents":[{"timestamp":1,"message":"m"}]}`,
			`{"__type":"InvalidParameterException","message":"1 validation error detected: Value 'a b' at 'logGroupName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\.\\-_/#A-Za-z0-9]+"}`},
		{"logs", "PutLogEvents", `{"logGroupName":"g","logEvents":[{"timestamp":-1}]}`, "3 validation errors detected: "},
		{"logs", "PutLogEvents", `{`, `"__type":"SerializationException"`},
		{"json", "ListMetrics", `{"NextToken":"","MetricName":""}`, `{"__type":"ValidationException","message":"1 validation error detected: Value '' at 'metricName' failed to satisfy constraint: Member must have length greater than or equal to 1"}`},
		{"query", "ListMetrics", `MetricName=`, "<Code>ValidationError</Code><Message>1 validation error detected: Value &#39;&#39; at &#39;metricName&#39;"},
		{"query", "ListMetrics", `Dimensions.member.1.Value=v`, "Value null at &#39;dimensions.1.member.name&#39; failed to satisfy constraint: Member must not be null"},
		{"query", "ListMetrics", `Dimensions.member.x.Value=v`, "<Code>MalformedInput</Code>"},
		{"query", "ListMetrics", `IncludeLinkedAccounts=7`, "<Code>MalformedInput</Code>"},
		{"query", "ListMetrics", `Namespace.a=7`, "<Code>MalformedInput</Code>"},
		{"cbor", "ListMetrics", "\xa1\x6aMetricName\x60", "at 'metricName' failed to satisfy constraint"},
		{"cbor", "ListMetrics", "\xa1\x69Namespace\x01", "SerializationException"},
		{"cbor", "ListMetrics", "\xa1\x69Namespace\x61\xff", "SerializationException"},
		{"cbor", "ListMetrics", "\x80", "SerializationException"},
		{"cbor", "ListMetrics", "\xa1\x69Namespace", "SerializationException"},
	} {
		mux := metrics
		if c.protocol == "logs" {
			mux = logs
		}
		if w := ask(mux, c.protocol, c.operation, c.body); w.Code != 400 || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s %q: %d %s", c.protocol, c.body, w.Code, w.Body)
		}
	}
}

func gzipped(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(text))
	_ = z.Close()
	return b.String()
}

// TestCompressedBodies reads gzip within the limit of what it unpacks to, after
// the signature.
func TestCompressedBodies(t *testing.T) {
	mux := openService(CloudWatch())
	Handle(mux, func(_ context.Context, in *cloudwatch.ListMetricsInput) (*cloudwatch.ListMetricsOutput, error) {
		return &cloudwatch.ListMetricsOutput{NextToken: in.NextToken}, nil
	})
	for _, c := range []struct {
		body, encoding string
		code           int
		want           string
	}{
		{gzipped(`{"NextToken":"n"}`), "gzip", 200, `{"NextToken":"n"}`},
		{`{"NextToken":"n"}`, "identity", 200, `{"NextToken":"n"}`},
		{gzipped(strings.Repeat(" ", 9<<20)), "gzip", 413, "RequestEntityTooLargeException"},
		{gzipped(`{"NextToken":"n"}`)[:20], "gzip", 400, "SerializationException"},
		{"{}", "gzip", 400, "SerializationException"},
		{"{}", "br", 400, "Content-Encoding br is not supported"},
	} {
		w := ask(mux, "json", "ListMetrics", c.body, "Content-Encoding", c.encoding)
		if w.Code != c.code || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s: %d %s", c.encoding, w.Code, w.Body)
		}
	}
	signed, _ := serviceMux(CloudWatch())
	bomb := gzipped(strings.Repeat(" ", 64<<20))
	w := ask(signed, "json", "ListMetrics", bomb, "Content-Encoding", "gzip")
	if w.Code != 400 || !strings.Contains(w.Body.String(), "MissingAuthenticationToken") {
		t.Errorf("a stranger's bomb: %d %s", w.Code, w.Body)
	}
}

// TestSmallBodiesOfMuchMemory: what is short on the wire and large in memory
// is refused before the memory is taken.
func TestSmallBodiesOfMuchMemory(t *testing.T) {
	logs, metrics := openService(CloudWatchLogs()), openService(CloudWatch())
	Handle(logs, func(context.Context, *cloudwatchlogs.PutLogEventsInput) (*cloudwatchlogs.PutLogEventsOutput, error) {
		return nil, nil
	})
	Handle(metrics, func(context.Context, *cloudwatch.PutMetricDataInput) (*cloudwatch.PutMetricDataOutput, error) {
		return nil, nil
	})
	const n = 2 << 20
	for name, c := range map[string]struct{ protocol, operation, body string }{
		"empty objects": {"logs", "PutLogEvents", `{"logGroupName":"g","logStreamName":"s","logEvents":[` + strings.Repeat("{},", n) + `{}]}`},
		"nulls":         {"logs", "PutLogEvents", `{"logGroupName":"g","logStreamName":"s","logEvents":[` + strings.Repeat("null,", n/2) + `null]}`},
		"empty maps":    {"cbor", "PutMetricData", "\xa1\x6aMetricData\x9a\x00\x20\x00\x00" + strings.Repeat("\xa0", n)},
		"unending list": {"cbor", "PutMetricData", "\xa1\x6aMetricData\x9f" + strings.Repeat("\x80", n) + "\xff"},
		"a long list":   {"cbor", "PutMetricData", "\xa1\x6aMetricData\x9b\x7f\xff\xff\xff\xff\xff\xff\xff"},
		"a long text":   {"cbor", "PutMetricData", "\xa1\x7b\x7f\xff\xff\xff\xff\xff\xff\xff"},
		"deep lists":    {"cbor", "PutMetricData", "\xa1\x6aMetricData" + strings.Repeat("\x81", n/8)},
		"pairs":         {"query", "PutMetricData", strings.Repeat("a", 1) + manyPairs(500_000)},
		"a deep path":   {"query", "PutMetricData", strings.Repeat("a.", n) + "a=1"},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		w := ask(map[string]*Mux{"logs": logs}[c.protocol].or(metrics), c.protocol, c.operation, c.body)
		runtime.ReadMemStats(&after)
		if w.Code != 400 {
			t.Errorf("%s: %d %.200s", name, w.Code, w.Body)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 400<<20 {
			t.Errorf("%s: took %d MiB for %d KiB", name, took>>20, len(c.body)>>10)
		}
		if w.Body.Len() > 64<<10 {
			t.Errorf("%s: the answer has %d bytes", name, w.Body.Len())
		}
	}
}

// or returns m, or other when m is nil.
func (m *Mux) or(other *Mux) *Mux {
	if m == nil {
		return other
	}
	return m
}

func manyPairs(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("&a")
		b.WriteString(hex.EncodeToString([]byte{byte(i >> 16), byte(i >> 8), byte(i)}))
		b.WriteString("=")
	}
	return b.String()
}

// TestNegativeMatrixOfServices sends wrong bodies to every operation in every
// protocol: none is answered with 5xx.
func TestNegativeMatrixOfServices(t *testing.T) {
	bodies := map[string][]string{
		"json":  {"", "{", "[]", "null", "7", `""`, "{}", `{"a":1}`, strings.Repeat(`{"a":`, 200), "\xff"},
		"cbor":  {"", "\xff", "\x80", "\xf6", "\x07", "\x60", "\xa0", "\xa1\x61a\x01", strings.Repeat("\x81", 2000), "\xc1\x00"},
		"query": {"", "%", "a=%zz", "a.b.c=1", "&&&", "=", "a", ".=1", "a.=1", "\xff=\xff"},
	}
	values := map[string][]string{
		"json":  {`null`, `7`, `-1.5`, `1e999`, `""`, `"x"`, `[]`, `[null]`, `[[]]`, `{}`, `{"a":null}`, `{"a":{}}`, `true`, `"NaN"`},
		"cbor":  {"\xf6", "\x07", "\xf9\x7e\x00", "\xfb\x7f\xf0\x00\x00\x00\x00\x00\x00", "\x3b\xff\xff\xff\xff\xff\xff\xff\xff", "\x60", "\x41\x00", "\x80", "\x81\xf6", "\x81\x80", "\xa0", "\xa1\x61a\xf6", "\xf5", "\xc1\xfb\x7f\xf0\x00\x00\x00\x00\x00\x00", "\xc1\x1b\xff\xff\xff\xff\xff\xff\xff\xff", "\xc2\x40"},
		"query": {"=", "=x", ".member.1=x", ".member.1=", ".member.x=1", ".entry.1.key=a", ".entry.1.value=a", ".a.b.c=1", ".member=1", ".1=1", ".member.-1=1", ".member.99999999999999999999=1"},
	}
	for _, service := range []*Service{CloudWatchLogs(), CloudWatch()} {
		mux := openService(service)
		client := any(&cloudwatch.Client{})
		protocols := map[string]string{"json": "json", "cbor": "cbor", "query": "query"}
		if service.SigningName == "logs" {
			client, protocols = &cloudwatchlogs.Client{}, map[string]string{"json": "logs"}
		}
		for name, types := range operationsOf(client) {
			mux.mountReflected(name, types, func(context.Context, any, any) error { return nil })
			p := mux.codec.rootPlan(types[0])
			for kind, protocol := range protocols {
				all := slices.Clone(bodies[kind])
				for _, member := range slices.Sorted(maps.Keys(p.byName)) {
					for _, value := range values[kind] {
						switch kind {
						case "json":
							all = append(all, `{"`+member+`":`+value+`}`)
						case "cbor":
							all = append(all, "\xa1"+string(cbor.Encode(cbor.String(member)))+value)
						case "query":
							all = append(all, member+value)
						}
					}
				}
				for _, body := range all {
					if w := ask(mux, protocol, name, body); w.Code >= 500 {
						t.Errorf("%s %s %q: %d %s", protocol, name, body, w.Code, w.Body)
					}
				}
			}
		}
	}
}

// FuzzCBOR runs any body through PutMetricData: no 5xx, and what is accepted
// is the same again when it is written and read.
func FuzzCBOR(f *testing.F) {
	f.Add([]byte("\xa2\x69Namespace\x61n\x6aMetricData\x81\xa2\x6aMetricName\x61m\x65Value\xfb\x3f\xf8\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte("\xbf\x69Namespace\x7f\x61a\x61b\xff\x6aMetricData\x9f\xa1\x69Timestamp\xc1\xfb\x41\xd9\x00\x00\x00\x00\x00\x00\xff\xff"))
	mux := openService(CloudWatch())
	var got *cloudwatch.PutMetricDataInput
	Handle(mux, func(_ context.Context, in *cloudwatch.PutMetricDataInput) (*cloudwatch.PutMetricDataOutput, error) {
		got = in
		return nil, nil
	})
	p := mux.codec.rootPlan(reflect.TypeFor[cloudwatch.PutMetricDataInput]())
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > 1<<12 {
			return
		}
		got = nil
		if w := ask(mux, "cbor", "PutMetricData", string(body)); w.Code >= 500 {
			t.Fatalf("%x: %d %s", body, w.Code, w.Body)
		}
		if got == nil {
			return
		}
		first := got
		got = nil
		ask(mux, "cbor", "PutMetricData", string(cbor.Encode(cborStruct(p, reflect.ValueOf(first).Elem()))))
		if diff := cmp.Diff(first, got, sameStructures(), cmpopts.EquateNaNs()); diff != "" {
			t.Fatalf("%x: (-first +second)\n%s", body, diff)
		}
	})
}

// FuzzQuery runs any form through PutMetricAlarm: no 5xx, and XML that can be
// read.
func FuzzQuery(f *testing.F) {
	f.Add("AlarmName=a&Dimensions.member.1.Name=n&Dimensions.member.1.Value=v&EvaluationPeriods=1&ComparisonOperator=GreaterThanThreshold&Tags.member.1.Key=k")
	f.Add("AlarmName=%00%zz&Metrics.member.x.Id=1&Threshold=1e999&ActionsEnabled=TRUE&EvaluationCriteria.PromQLCriteria.Query=q")
	mux := openService(CloudWatch())
	Handle(mux, func(_ context.Context, in *cloudwatch.PutMetricAlarmInput) (*cloudwatch.PutMetricAlarmOutput, error) {
		return nil, &cwtypes.LimitExceededFault{Message: in.AlarmName}
	})
	f.Fuzz(func(t *testing.T, body string) {
		if len(body) > 1<<12 {
			return
		}
		w := ask(mux, "query", "PutMetricAlarm", body)
		if w.Code >= 500 {
			t.Fatalf("%q: %d %s", body, w.Code, w.Body)
		}
		if err := wellFormed(w.Body.String()); err != nil {
			t.Fatalf("%q: %v in %s", body, err, w.Body)
		}
	})
}
