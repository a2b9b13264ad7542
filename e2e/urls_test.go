package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// web makes a function that is a web application; handler is "buffered" or
// "stream".
func (n *node) web(name, handler string) {
	n.t.Helper()
	n.create(name, function{handler: handler, memory: 256, timeout: 20, files: map[string]file{"bootstrap": {from: program("web")}}})
}

// functionURL gives a function a URL and returns it.
func (n *node) functionURL(in *lambda.CreateFunctionUrlConfigInput) string {
	n.t.Helper()
	out, err := n.client.CreateFunctionUrlConfig(n.t.Context(), in)
	if err != nil {
		n.t.Fatal(err)
	}
	return *out.FunctionUrl
}

// permit adds one of the two statements that let everybody use a URL.
func (n *node) permit(name, action string) {
	n.t.Helper()
	in := &lambda.AddPermissionInput{FunctionName: &name, StatementId: aws.String(strings.ReplaceAll(action, ":", "-")), Action: &action, Principal: aws.String("*")}
	if action == "lambda:InvokeFunctionUrl" {
		in.FunctionUrlAuthType = types.FunctionUrlAuthTypeNone
	} else {
		in.InvokedViaFunctionUrl = aws.Bool(true)
	}
	if _, err := n.client.AddPermission(n.t.Context(), in); err != nil {
		n.t.Fatal(err)
	}
}

// permitAll adds both.
func (n *node) permitAll(name string) {
	n.t.Helper()
	n.permit(name, "lambda:InvokeFunctionUrl")
	n.permit(name, "lambda:InvokeFunction")
}

// visitor is an HTTP client for which every host is the node, as it is for
// browsers, which take all names below localhost for this machine.
func (n *node) visitor() *http.Client {
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, n.address())
	}}
	n.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// page is an HTTP response that was read.
type page struct {
	*http.Response
	body string
	err  error // of reading the body
}

func (n *node) visit(r *http.Request) page {
	n.t.Helper()
	res, err := n.visitor().Do(r)
	if err != nil {
		n.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return page{res, string(body), err}
}

func (n *node) get(url string) page {
	n.t.Helper()
	r, err := http.NewRequestWithContext(n.t.Context(), http.MethodGet, url, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	return n.visit(r)
}

func (p page) expect(t testing.TB, status int, body string) {
	t.Helper()
	if p.err != nil || p.StatusCode != status || body != "" && p.body != body {
		t.Errorf("%s: status %d, want %d: %.300q, %v", p.Request.URL, p.StatusCode, status, p.body, p.err)
	}
}

// TestFunctionURL: a web application behind a URL, from nobody's permission to
// none again.
func TestFunctionURL(t *testing.T) {
	backends(t, func(t *testing.T, sandbox string) {
		n := start(t, options{sandbox: sandbox})
		n.web("web", "buffered")
		url := n.functionURL(&lambda.CreateFunctionUrlConfigInput{FunctionName: aws.String("web"), AuthType: types.FunctionUrlAuthTypeNone})
		if !regexp.MustCompile(`^http://[a-z0-9]{32}\.lambda-url\.us-east-1\.localhost:\d+/$`).MatchString(url) {
			t.Fatalf("the URL is %s", url)
		}
		const forbidden = `{"Message":"Forbidden. For troubleshooting Function URL authorization issues, see: https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"}`
		n.get(url).expect(t, 403, forbidden)
		n.permit("web", "lambda:InvokeFunctionUrl")
		n.get(url).expect(t, 403, forbidden)
		n.permit("web", "lambda:InvokeFunction")

		body := []byte{0xff, 0, 'a'}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, url+"echo?q=1&q=%2F", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Test", "seen")
		r.Header.Set("Cookie", "c=d; e=f")
		out := n.visit(r)
		out.expect(t, 202, "")
		var echo struct{ Method, URI, Body, Cookies string }
		if err := json.Unmarshal([]byte(out.body), &echo); err != nil {
			t.Fatalf("%v: %s", err, out.body)
		}
		if echo.Method != "PATCH" || echo.URI != "/echo?q=1&q=%2F" || echo.Body != "\ufffd\x00a" || echo.Cookies != "c=d; e=f" || out.Header.Get("X-Seen") != "seen" {
			t.Errorf("%+v", echo)
		}
		for _, name := range []string{"X-Amzn-Requestid", "X-Amzn-Trace-Id", "Date"} {
			if out.Header.Get(name) == "" {
				t.Errorf("no %s in %v", name, out.Header)
			}
		}
		out = n.get(url + "cookies")
		out.expect(t, 303, "")
		if got := out.Header.Values("Set-Cookie"); len(got) != 2 || got[0] != "a=1; Path=/" || got[1] != "b=2; HttpOnly" || out.Header.Get("Location") != "/elsewhere" {
			t.Errorf("%v", out.Header)
		}
		id := strings.SplitN(strings.TrimPrefix(url, "http://"), ".", 2)[0]
		n.get(n.url+"/.firn/url/"+id+"/cookies").expect(t, 303, "")
		n.get(url+"nowhere").expect(t, 404, "404 page not found\n")
		n.get(url+"panic").expect(t, 502, "Internal Server Error")
		n.get(url+"cookies").expect(t, 303, "")
		n.turnedOff(url)
		n.aliased()
		n.signed(url, id)

		if _, err := n.client.DeleteFunctionUrlConfig(t.Context(), &lambda.DeleteFunctionUrlConfigInput{FunctionName: aws.String("web")}); err != nil {
			t.Fatal(err)
		}
		n.get(url).expect(t, 403, `{"Message":null}`)
		n.stop()
	})
}

// turnedOff turns the function off and on again.
func (n *node) turnedOff(url string) {
	n.t.Helper()
	name := aws.String("web")
	if _, err := n.client.PutFunctionConcurrency(n.t.Context(), &lambda.PutFunctionConcurrencyInput{FunctionName: name, ReservedConcurrentExecutions: aws.Int32(0)}); err != nil {
		n.t.Fatal(err)
	}
	out := n.get(url + "cookies")
	out.expect(n.t, 429, `{"Reason":"ReservedFunctionConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}`)
	if got := out.Header.Get("X-Amzn-Errortype"); got != "TooManyRequestsException" {
		n.t.Errorf("the error's type is %q", got)
	}
	if _, err := n.client.DeleteFunctionConcurrency(n.t.Context(), &lambda.DeleteFunctionConcurrencyInput{FunctionName: name}); err != nil {
		n.t.Fatal(err)
	}
	n.get(url+"cookies").expect(n.t, 303, "")
}

// aliased gives an alias a URL of its own, with a policy of its own, and then
// takes the alias away.
func (n *node) aliased() {
	n.t.Helper()
	ctx, name, live := n.t.Context(), aws.String("web"), aws.String("live")
	version, err := n.client.PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: name})
	if err != nil {
		n.t.Fatal(err)
	}
	if _, err := n.client.CreateAlias(ctx, &lambda.CreateAliasInput{FunctionName: name, Name: live, FunctionVersion: version.Version}); err != nil {
		n.t.Fatal(err)
	}
	url := n.functionURL(&lambda.CreateFunctionUrlConfigInput{FunctionName: name, Qualifier: live, AuthType: types.FunctionUrlAuthTypeNone})
	n.get(url+"cookies").expect(n.t, 403, "") // the function's policy is not the alias's
	for _, in := range []*lambda.AddPermissionInput{
		{StatementId: aws.String("url"), Action: aws.String("lambda:InvokeFunctionUrl"), FunctionUrlAuthType: types.FunctionUrlAuthTypeNone},
		{StatementId: aws.String("invoke"), Action: aws.String("lambda:InvokeFunction"), InvokedViaFunctionUrl: aws.Bool(true)},
	} {
		in.FunctionName, in.Qualifier, in.Principal = name, live, aws.String("*")
		if _, err := n.client.AddPermission(ctx, in); err != nil {
			n.t.Fatal(err)
		}
	}
	eventually(n.t, "the version answers", func() (bool, any) { // it is prepared in the background
		out := n.get(url + "cookies")
		return out.StatusCode == 303, out.StatusCode
	})
	if _, err := n.client.DeleteFunctionUrlConfig(ctx, &lambda.DeleteFunctionUrlConfigInput{FunctionName: name, Qualifier: live}); err != nil {
		n.t.Fatal(err)
	}
	n.get(url+"cookies").expect(n.t, 403, `{"Message":null}`)
}

// signed turns a URL over to AWS_IAM.
func (n *node) signed(url, id string) {
	n.t.Helper()
	if _, err := n.client.UpdateFunctionUrlConfig(n.t.Context(), &lambda.UpdateFunctionUrlConfigInput{
		FunctionName: aws.String("web"), AuthType: types.FunctionUrlAuthTypeAwsIam,
	}); err != nil {
		n.t.Fatal(err)
	}
	n.get(url+"cookies").expect(n.t, 403, "")
	for _, at := range []string{url, n.url + "/.firn/url/" + id + "/"} {
		r, err := http.NewRequestWithContext(n.t.Context(), http.MethodPost, at+"echo", strings.NewReader("signed"))
		if err != nil {
			n.t.Fatal(err)
		}
		creds, err := n.client.Options().Credentials.Retrieve(n.t.Context())
		if err != nil {
			n.t.Fatal(err)
		}
		sum := sha256.Sum256([]byte("signed"))
		if err := v4.NewSigner().SignHTTP(n.t.Context(), creds, r, hex.EncodeToString(sum[:]), "lambda", "us-east-1", time.Now()); err != nil {
			n.t.Fatal(err)
		}
		n.visit(r).expect(n.t, 202, "")
	}
}

// TestStreamedURL: a web application that streams is seen piece by piece, and
// what breaks off looks broken.
func TestStreamedURL(t *testing.T) {
	backends(t, func(t *testing.T, sandbox string) {
		n := start(t, options{sandbox: sandbox})
		n.web("web", "stream")
		url := n.functionURL(&lambda.CreateFunctionUrlConfigInput{
			FunctionName: aws.String("web"), AuthType: types.FunctionUrlAuthTypeNone, InvokeMode: types.InvokeModeResponseStream,
		})
		n.permitAll("web")
		n.get(url+"cookies").expect(t, 303, "") // and the environment is warm

		const pieces, gap = 5, 200 * time.Millisecond
		res, err := n.visitor().Get(fmt.Sprintf("%sstream?n=%d&ms=%d", url, pieces, gap.Milliseconds()))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" || res.ContentLength != -1 {
			t.Errorf("%d %v", res.StatusCode, res.Header)
		}
		var came []time.Time
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			if lines.Text() == fmt.Sprintf("data: piece %d", len(came)) {
				came = append(came, time.Now())
			}
		}
		if len(came) != pieces {
			t.Fatalf("%d pieces", len(came))
		}
		if spread := came[pieces-1].Sub(came[0]); spread < (pieces-2)*gap {
			t.Errorf("the pieces came within %v: they were gathered", spread)
		}

		out := n.get(url + "break")
		if out.err == nil || out.body != "half" {
			t.Errorf("what broke off was read as %d %q, %v", out.StatusCode, out.body, out.err)
		}
		n.get(url+"panic").expect(t, 502, "Internal Server Error")
		out = n.get(url + "bytes?mb=5")
		if out.err != nil || len(out.body) != 5<<20 {
			t.Errorf("%d bytes of 5 MiB, %v", len(out.body), out.err)
		}
		n.stop()
	})
}
