package control_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn"
)

// post invokes over plain HTTP, where headers and bodies are as they are.
func (w *world) post(name string, header map[string]string, payload string) (*http.Response, string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), "POST", w.server.URL+"/2015-03-31/functions/"+name+"/invocations", strings.NewReader(payload))
	if err != nil {
		w.t.Fatal(err)
	}
	for key, value := range header {
		req.Header.Set(key, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp, string(body)
}

// seen is what the actor answers to the order "info".
type seen struct {
	Invocation int
	Header     map[string]string
}

func (w *world) info(name string, header map[string]string) (s seen) {
	w.t.Helper()
	resp, body := w.post(name, header, `{"do":"info"}`)
	if err := json.Unmarshal([]byte(body), &s); err != nil || resp.StatusCode != http.StatusOK {
		w.t.Fatal(resp.Status, body)
	}
	return s
}

func TestInvoke(t *testing.T) {
	w := newWorld(t, options{})
	w.create("f", actorZip(t))
	t.Run("answer", func(t *testing.T) {
		resp, body := w.post("f", nil, `{"a": 1}`)
		h := resp.Header
		if resp.StatusCode != http.StatusOK || body != `{"a": 1}` || h.Get("Content-Type") != "application/json" || h.Get("X-Amz-Executed-Version") != "$LATEST" || h.Get("X-Amzn-Remapped-Content-Length") != "0" {
			t.Error(resp.Status, h, body)
		}
		for _, absent := range []string{"X-Amz-Function-Error", "X-Amz-Log-Result"} {
			if h.Get(absent) != "" {
				t.Errorf("%s: %s", absent, h.Get(absent))
			}
		}
		if !regexp.MustCompile(`^[0-9a-f-]{36}$`).MatchString(h.Get("X-Amzn-Requestid")) {
			t.Error(h)
		}
	})
	t.Run("empty payload", func(t *testing.T) {
		if _, body := w.post("f", nil, ""); body != "{}" {
			t.Error(body)
		}
	})
	t.Run("function error", func(t *testing.T) {
		out, err := w.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("f"), Payload: []byte(`{"do":"error","arg":"bad"}`)})
		if err != nil || out.StatusCode != 200 || aws.ToString(out.FunctionError) != "Unhandled" || string(out.Payload) != `{"errorMessage":"bad","errorType":"TestError"}` {
			t.Errorf("%+v, %v", out, err)
		}
	})
	t.Run("log tail", func(t *testing.T) {
		resp, _ := w.post("f", map[string]string{"X-Amz-Log-Type": "Tail"}, `{"print":"a line of mine"}`)
		tail, err := base64.StdEncoding.DecodeString(resp.Header.Get("X-Amz-Log-Result"))
		if err != nil || !strings.Contains(string(tail), "a line of mine\n") || !strings.Contains(string(tail), "START RequestId: "+resp.Header.Get("X-Amzn-Requestid")) {
			t.Errorf("%s, %v", tail, err)
		}
		resp, _ = w.post("f", map[string]string{"X-Amz-Log-Type": "None"}, `{}`)
		if resp.Header.Get("X-Amz-Log-Result") != "" {
			t.Error(resp.Header)
		}
	})
	t.Run("what the function sees", func(t *testing.T) {
		resp, _ := w.post("f:$LATEST", nil, "{}")
		if resp.StatusCode != http.StatusOK {
			t.Error(resp.Status)
		}
		s := w.info("f", map[string]string{"X-Amz-Client-Context": base64.StdEncoding.EncodeToString([]byte("{\n \"custom\": {\"k\": \"v\"}}"))})
		if s.Header["Lambda-Runtime-Client-Context"] != `{"custom":{"k":"v"}}` || s.Header["Lambda-Runtime-Invoked-Function-Arn"] != functionARN("f") {
			t.Error(s.Header)
		}
		s = w.info("f:%24LATEST", nil)
		if s.Header["Lambda-Runtime-Invoked-Function-Arn"] != functionARN("f")+":$LATEST" {
			t.Error(s.Header)
		}
	})
	t.Run("dry run", func(t *testing.T) {
		w.create("dry", actorZip(t))
		out, err := w.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("dry"), InvocationType: types.InvocationTypeDryRun})
		if err != nil || out.StatusCode != 204 || len(out.Payload) != 0 {
			t.Errorf("%+v, %v", out, err)
		}
		if n := w.info("dry", nil).Invocation; n != 1 { // of its environment, which there was none of before
			t.Errorf("the first invocation after the dry run is number %d", n)
		}
	})
	t.Run("limit of the request", func(t *testing.T) {
		exact := `"` + strings.Repeat("x", 6<<20-2) + `"`
		resp, body := w.post("f", nil, exact)
		if resp.StatusCode != http.StatusOK || body != exact {
			t.Error(resp.Status, len(body))
		}
	})
}

func TestInvokeTrace(t *testing.T) {
	w := newWorld(t, options{})
	w.create("through", actorZip(t))
	w.create("active", actorZip(t), func(in *lambda.CreateFunctionInput) {
		in.TracingConfig = &types.TracingConfig{Mode: types.TracingModeActive}
	})
	// With Active the first request of a second is sampled.
	for name, sampled := range map[string]string{"through": "0", "active": "1"} {
		made := regexp.MustCompile(`^Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=` + sampled + `;Lineage=1:[0-9a-f]{8}:0$`)
		if got := w.info(name, nil).Header["Lambda-Runtime-Trace-Id"]; !made.MatchString(got) {
			t.Errorf("%s: %q", name, got)
		}
	}
	const sent = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
	if got := w.info("through", map[string]string{"X-Amzn-Trace-Id": sent}).Header["Lambda-Runtime-Trace-Id"]; !strings.HasPrefix(got, sent+";Lineage=") {
		t.Errorf("%q", got)
	}
	got := w.info("active", map[string]string{"X-Amzn-Trace-Id": sent}).Header["Lambda-Runtime-Trace-Id"]
	if !regexp.MustCompile(`^Root=1-5759e988-bd862e3fe1be46a994272793;Parent=[0-9a-f]{16};Sampled=1;Lineage=1:[0-9a-f]{8}:0$`).MatchString(got) || strings.HasPrefix(got, sent) {
		t.Errorf("%q", got)
	}
	resp, _ := w.post("through", map[string]string{"X-Amzn-Trace-Id": sent}, "")
	if got := resp.Header.Get("X-Amzn-Trace-Id"); !strings.HasPrefix(got, sent+";Lineage=") {
		t.Errorf("answered %q", got)
	}
}

func TestInvokeErrors(t *testing.T) {
	w := newWorld(t, options{})
	w.create("f", hello())
	b64 := base64.StdEncoding.EncodeToString
	const notObject = "Client context must be a valid Base64-encoded JSON object."
	for _, test := range []struct {
		name, function string
		header         map[string]string
		payload        string
		status         int
		code, message  string
	}{
		{"no function", "no", nil, "", 404, "ResourceNotFoundException", "Function not found: " + functionARN("no") + ":$LATEST"},
		{"no version", "f:7", nil, "", 404, "ResourceNotFoundException", "Function not found: " + functionARN("f") + ":7"},
		{"not JSON", "f", nil, "'{}'", 400, "InvalidRequestContentException",
			"Could not parse request body into json: Could not parse payload into json: Unexpected character (''' (code 39)): expected a valid value (JSON String, Number, Array, Object or token 'null', 'true' or 'false')\n at [Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: 1, column: 1]"},
		{"not JSON, dry", "f", map[string]string{"X-Amz-Invocation-Type": "DryRun"}, "[", 400, "InvalidRequestContentException",
			"Could not parse request body into json: Could not parse payload into json: Unexpected end-of-input: expected close marker for Array (start marker at [Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: 1, column: 1])\n at [Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: 1, column: 2]"},
		{"too large", "f", nil, `"` + strings.Repeat("x", firn.MaxPayloadBytes) + `"`, 413, "RequestEntityTooLargeException", "Request must be smaller than 6291456 bytes for the InvokeFunction operation"},
		{"asynchronous", "f", map[string]string{"X-Amz-Invocation-Type": "Event"}, "", 501, "NotImplementedException",
			"firn does not serve asynchronous invocations (X-Amz-Invocation-Type Event) yet; see DIVERGENCES.md"},
		{"tenant", "f", map[string]string{"X-Amz-Tenant-Id": "t"}, "", 501, "NotImplementedException", "firn does not serve the header X-Amz-Tenant-Id yet; see DIVERGENCES.md"},
		{"durable", "f", map[string]string{"X-Amz-Durable-Execution-Name": "t"}, "", 501, "NotImplementedException", "firn does not serve the header X-Amz-Durable-Execution-Name yet; see DIVERGENCES.md"},
		{"type", "f", map[string]string{"X-Amz-Invocation-Type": "Sometimes"}, "", 400, "ValidationException",
			"1 validation error detected: Value 'Sometimes' at 'invocationType' failed to satisfy constraint: Member must satisfy enum value set: [Event, RequestResponse, DryRun]"},
		{"log type", "f", map[string]string{"X-Amz-Log-Type": "Head"}, "", 400, "ValidationException",
			"1 validation error detected: Value 'Head' at 'logType' failed to satisfy constraint: Member must satisfy enum value set: [None, Tail]"},
		{"context not base64", "f", map[string]string{"X-Amz-Client-Context": "%"}, "", 400, "InvalidRequestContentException", notObject},
		{"context not JSON", "f", map[string]string{"X-Amz-Client-Context": b64([]byte("x"))}, "", 400, "InvalidRequestContentException", notObject},
		{"context no object", "f", map[string]string{"X-Amz-Client-Context": b64([]byte("[1]"))}, "", 400, "InvalidRequestContentException", notObject},
		{"context of nothing", "f", map[string]string{"X-Amz-Client-Context": b64([]byte(" "))}, "", 400, "InvalidRequestContentException", notObject},
		{"context too long", "f", map[string]string{"X-Amz-Client-Context": b64([]byte(`{"k":"` + strings.Repeat("v", 2700) + `"}`))}, "", 400,
			"InvalidRequestContentException", "Client context must be at most 3583 bytes when base64-encoded."},
	} {
		t.Run(test.name, func(t *testing.T) {
			resp, body := w.post(test.function, test.header, test.payload)
			var answer struct{ Message string }
			if err := json.Unmarshal([]byte(body), &answer); err != nil {
				t.Fatal(body)
			}
			if resp.StatusCode != test.status || resp.Header.Get("X-Amzn-Errortype") != test.code || answer.Message != test.message {
				t.Errorf("%d %s: %s\nwant %d %s: %s", resp.StatusCode, resp.Header.Get("X-Amzn-Errortype"), answer.Message, test.status, test.code, test.message)
			}
		})
	}
	if n := w.fleet.Stats().Environments; n != 0 {
		t.Errorf("%d environments were started", n)
	}
}

// during begins an invocation that takes a while and runs do when it is under
// way; the answer must be that of the code it began with.
func (w *world) during(name string, do func()) {
	w.t.Helper()
	var invoked sync.WaitGroup
	invoked.Go(func() {
		out, err := w.Invoke(w.t.Context(), &lambda.InvokeInput{FunctionName: &name, Payload: []byte(`{"do":"sleep","ms":700}`)})
		if err != nil || out.FunctionError != nil || string(out.Payload) != `"done"` {
			w.t.Errorf("the invocation in flight: %+v, %v", out, err)
		}
	})
	eventually(w.t, func() bool { return w.fleet.Stats().InFlight == 1 && w.fleet.Stats().Environments == 1 })
	do()
	invoked.Wait()
	eventually(w.t, func() bool { return w.fleet.Stats().InFlight == 0 })
}

func TestChangesDuringAnInvocation(t *testing.T) {
	w := newWorld(t, options{})
	w.create("f", actorZip(t), func(in *lambda.CreateFunctionInput) { in.Timeout = aws.Int32(30) })
	w.during("f", func() {
		_, err := w.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{
			FunctionName: aws.String("f"), Environment: &types.Environment{Variables: map[string]string{"NEW": "1"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		w.active("f")
	})
	eventually(t, func() bool { return w.fleet.Stats().Environments == 0 }) // the one of the old configuration has ended
	if out := w.call("f", `{"do":"info"}`); !strings.Contains(out, `"NEW=1"`) {
		t.Error("an invocation after the update runs the old configuration")
	}
	eventually(t, func() bool { return w.fleet.Stats().InFlight == 0 })
	w.during("f", func() {
		if _, err := w.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: aws.String("f")}); err != nil {
			t.Fatal(err)
		}
		_, err := w.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("f")})
		wantFault(t, err, "ResourceNotFoundException", "Function not found: "+functionARN("f")+":$LATEST")
		dirs := w.fleet.InUse()
		if len(dirs) == 0 {
			t.Error("no directory is in use")
		}
		for range 3 {
			w.control.Sweep(t.Context())
		}
		for _, dir := range dirs {
			if _, err := os.Stat(filepath.Join(dir, "bootstrap")); err != nil {
				t.Error("swept under a running environment:", err)
			}
		}
	})
	eventually(t, func() bool { return w.fleet.Stats().Environments == 0 })
	w.control.Sweep(t.Context())
	if left, err := filepath.Glob(filepath.Join(w.path, "roots", "*")); err != nil || len(left) > 0 {
		t.Errorf("unpacked archives are left: %q, %v", left, err)
	}
	if n := w.countBlobs(); n != 0 {
		t.Errorf("%d archives are left", n)
	}
}

// TestActiveMeansInvocable invokes in the moment that a function is seen to be
// settled, over and over: state and code change together.
func TestActiveMeansInvocable(t *testing.T) {
	w := newWorld(t, options{})
	w.create("f", hello())
	for n := range int32(50) {
		if _, err := w.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("f"), Timeout: aws.Int32(n + 10)}); err != nil {
			t.Fatal(err)
		}
		for w.configuration("f").LastUpdateStatus != types.LastUpdateStatusSuccessful {
		}
		v, _, err := w.control.Resolve(firn.FunctionRef{Name: "f"})
		if err != nil || v.Timeout != time.Duration(n+10)*time.Second {
			t.Fatalf("update %d was seen to be settled, and an invocation runs %v, %v", n, v, err)
		}
	}
}

// TestResolveIsCheap: it is on the path of every invocation.
func TestResolveIsCheap(t *testing.T) {
	w := newWorld(t, options{})
	w.create("f", hello())
	n := testing.AllocsPerRun(100, func() {
		ref, err := firn.ParseFunction("f")
		if err == nil {
			_, _, err = w.control.Resolve(ref)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	if n > 1 {
		t.Errorf("%v allocations", n)
	}
}

func TestConcurrencyLimit(t *testing.T) {
	w := newWorld(t, options{concurrency: 1})
	w.create("f", actorZip(t))
	w.during("f", func() {
		_, err := w.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("f")})
		var throttle *types.TooManyRequestsException
		if !errors.As(err, &throttle) {
			t.Fatal(err)
		}
		if *throttle.Message != "Rate Exceeded." || throttle.Reason != types.ThrottleReasonConcurrentInvocationLimitExceeded ||
			aws.ToString(throttle.Type) != "User" || throttle.RetryAfterSeconds != nil {
			t.Errorf("%+v", throttle)
		}
		resp, _ := w.post("f", nil, "")
		if resp.StatusCode != 429 || resp.Header["Retry-After"] != nil {
			t.Error(resp.Status, resp.Header)
		}
	})
	if got := w.call("f", "1"); got != "1" {
		t.Error(got)
	}
}

// TestCallerGone: a function runs to its end without its caller.
func TestCallerGone(t *testing.T) {
	w := newWorld(t, options{})
	w.create("f", actorZip(t))
	first := w.info("f", nil).Invocation
	eventually(t, func() bool { return w.fleet.Stats().InFlight == 0 })
	ctx, cancel := context.WithCancel(t.Context())
	var invoked sync.WaitGroup
	invoked.Go(func() {
		if _, err := w.Invoke(ctx, &lambda.InvokeInput{FunctionName: aws.String("f"), Payload: []byte(`{"do":"sleep","ms":300}`)}); err == nil {
			t.Error("a cancelled call succeeded")
		}
	})
	eventually(t, func() bool { return w.fleet.Stats().InFlight == 1 })
	cancel()
	invoked.Wait()
	eventually(t, func() bool { return w.fleet.Stats().InFlight == 0 })
	if got := w.info("f", nil).Invocation; got != first+2 {
		t.Errorf("the environment has seen %d invocations, want %d", got, first+2)
	}
}
