package awswire

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"
	"github.com/firn-run/firn"
)

// echo mounts Invoke so that it answers with its payload.
func echo(m *Mux) {
	HandleRaw[lambda.InvokeInput](m, func(w http.ResponseWriter, r *Request) error {
		w.Header().Set("X-Amz-Executed-Version", "$LATEST")
		w.Header().Set("X-Amz-Function-Error", r.Header("X-Amz-Client-Context"))
		_, err := io.Copy(w, bytes.NewReader(r.Body))
		return err
	})
}

// TestInvokeThroughClient carries payloads of every size that is allowed, and
// refuses the first that is not.
func TestInvokeThroughClient(t *testing.T) {
	mux, _ := testMux()
	echo(mux)
	client := testClient(t, mux)
	for _, size := range []int{0, 1, 64<<10 - 1, 64 << 10, 64<<10 + 1, 1 << 20, firn.MaxPayloadBytes} {
		payload := bytes.Repeat([]byte("x"), size)
		out, err := client.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("f"), Payload: payload, ClientContext: aws.String("e30=")})
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if !bytes.Equal(out.Payload, payload) || aws.ToString(out.ExecutedVersion) != "$LATEST" || aws.ToString(out.FunctionError) != "e30=" || out.StatusCode != 200 {
			t.Errorf("%d bytes: status %d, %d bytes back", size, out.StatusCode, len(out.Payload))
		}
	}
	_, err := client.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("f"), Payload: make([]byte, firn.MaxPayloadBytes+1)})
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok || api.ErrorCode() != "RequestEntityTooLargeException" || api.ErrorMessage() != "Request must be smaller than 6291456 bytes for the InvokeFunction operation" {
		t.Errorf("one byte over: %v", err)
	}
}

// TestReadBody reads bodies that come in pieces, lie about their length, or
// break off.
func TestReadBody(t *testing.T) {
	limit := bodyLimit{200 << 10, 200 << 10, "X"}
	for _, tc := range []struct {
		sent, announced int64
		read            func(io.Reader) io.Reader
		kind            firn.Kind
	}{
		{0, -1, nil, ""},
		{1, 1, iotest.DataErrReader, ""},
		{200 << 10, 200 << 10, nil, ""},
		{200 << 10, -1, nil, ""},
		{200 << 10, -1, iotest.HalfReader, ""},
		{130, -1, iotest.OneByteReader, ""},
		{200<<10 + 1, -1, nil, firn.RequestEntityTooLarge},
		{0, 200<<10 + 1, nil, firn.RequestEntityTooLarge},
	} {
		body := bytes.Repeat([]byte("y"), int(tc.sent))
		var source io.Reader = bytes.NewReader(body)
		if tc.read != nil {
			source = tc.read(source)
		}
		r := httptest.NewRequest("POST", "/", io.NopCloser(source))
		r.ContentLength = tc.announced
		got, err := readBody(httptest.NewRecorder(), r, limit)
		if firn.KindOf(err) != tc.kind || err == nil && !bytes.Equal(got, body) {
			t.Errorf("%d of %d: %d bytes, %v", tc.sent, tc.announced, len(got), err)
		}
	}
	r := httptest.NewRequest("POST", "/", iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("xx"))))
	if _, err := readBody(httptest.NewRecorder(), r, limit); !errors.Is(err, errClientGone) {
		t.Errorf("broken off: %v", err)
	}
}

// TestBodyLimits: each operation's own limit, by what it announces.
func TestBodyLimits(t *testing.T) {
	m := openMux()
	for _, tc := range []struct {
		method, target string
		size           int64
		message        string
	}{
		{"POST", "/2015-03-31/functions", 70167212, "Request must be smaller than 70167211 bytes for the CreateFunction operation"},
		{"PUT", "/2015-03-31/functions/f/code", 70167212, "Request must be smaller than 70167211 bytes for the UpdateFunctionCode operation"},
		{"POST", "/2018-10-31/layers/l/versions", 70167212, "Request must be smaller than 70167211 bytes for the PublishLayerVersion operation"},
		{"PUT", "/2015-03-31/functions/f/configuration", 1<<20 + 1, "Request must be smaller than 1048576 bytes for the UpdateFunctionConfiguration operation"},
		{"POST", "/2014-11-13/functions/f/invoke-async", 1<<20 + 1, "Request must be smaller than 1048576 bytes for the InvokeAsync operation"},
	} {
		r := httptest.NewRequest(tc.method, tc.target, strings.NewReader("{}"))
		r.ContentLength = tc.size
		w := httptest.NewRecorder()
		m.ServeHTTP(w, r)
		if kind, message := answerOf(t, w); w.Code != 413 || kind != "RequestEntityTooLargeException" || message != tc.message {
			t.Errorf("%s %s: %d %s: %s", tc.method, tc.target, w.Code, kind, message)
		}
	}
}

// TestLargeUpload carries 50 MiB of zip in one CreateFunction.
func TestLargeUpload(t *testing.T) {
	mux, _ := testMux()
	var got int
	Handle(mux, func(_ context.Context, in *lambda.CreateFunctionInput) (*lambda.CreateFunctionOutput, error) {
		got = len(in.Code.ZipFile)
		return &lambda.CreateFunctionOutput{}, nil
	})
	client := testClient(t, mux)
	in := &lambda.CreateFunctionInput{FunctionName: aws.String("f"), Role: aws.String("arn:aws:iam::123456789012:role/r"), Code: &types.FunctionCode{ZipFile: make([]byte, firn.MaxZipUploadBytes)}}
	if _, err := client.CreateFunction(t.Context(), in); err != nil || got != firn.MaxZipUploadBytes {
		t.Errorf("%d bytes arrived, %v", got, err)
	}
	in.Code.ZipFile = make([]byte, firn.MaxZipUploadBytes+1<<20)
	_, err := client.CreateFunction(t.Context(), in)
	if api, ok := errors.AsType[smithy.APIError](err); !ok || api.ErrorCode() != "RequestEntityTooLargeException" {
		t.Errorf("one MiB over: %v", err)
	}
}

// TestStrangersAreNotRead: without a credential nothing of a body is read.
func TestStrangersAreNotRead(t *testing.T) {
	mux, _ := testMux()
	echo(mux)
	r := httptest.NewRequest("POST", "/2015-03-31/functions/f/invocations", iotest.ErrReader(errors.New("read")))
	r.ContentLength = 100
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	if w.Code != 403 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestServerLimits holds a real listener to the table of NewServer.
func TestServerLimits(t *testing.T) {
	mux := openMux()
	echo(mux)
	server := httptest.NewUnstartedServer(mux)
	server.Config = NewServer(mux, slog.New(slog.DiscardHandler))
	server.Start()
	defer server.Close()
	if c := server.Config; c.ReadHeaderTimeout != 10*time.Second || c.IdleTimeout != 120*time.Second || c.WriteTimeout != 0 {
		t.Errorf("limits %+v", c)
	}
	status := func(request string) string {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		go io.WriteString(conn, request) // ends with the connection
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return err.Error()
		}
		defer response.Body.Close()
		return fmt.Sprint(response.StatusCode)
	}
	const line = "POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nHost: h\r\n"
	if got := status(line + "X: " + strings.Repeat("x", 80<<10) + "\r\n\r\n"); got != "431" {
		t.Errorf("80 KiB of header: %s", got)
	}
	if got := status(line + "Content-Length: 3\r\n\r\n[1]"); got != "200" {
		t.Errorf("an ordinary request: %s", got)
	}
	if got := status(line + "Transfer-Encoding: chunked\r\n\r\nzz\r\n"); got == "200" {
		t.Errorf("a bad chunk: %s", got)
	}
}

// nobody is a connection that takes any answer.
type nobody struct{ header http.Header }

func (n *nobody) Header() http.Header         { return n.header }
func (n *nobody) Write(b []byte) (int, error) { return len(b), nil }
func (n *nobody) WriteHeader(int)             {}

// BenchmarkInvoke is all that the wire adds to a warm invocation: route,
// authentication, body, checks, answer; without net/http itself.
func BenchmarkInvoke(b *testing.B) {
	for _, size := range []int{1 << 10, 100 << 10} {
		b.Run(fmt.Sprint(size>>10, "KiB"), func(b *testing.B) {
			at := time.Now()
			mux := New(Config{Logger: slog.New(slog.DiscardHandler), Auth: NewAuthenticator(AuthConfig{
				Credentials: oneKey{}, Region: testRegion, Service: "lambda", Now: func() time.Time { return at },
			})})
			HandleRaw[lambda.InvokeInput](mux, func(w http.ResponseWriter, r *Request) error { _, err := w.Write(r.Body); return err })
			body := strings.Repeat("x", size)
			r := signed(b, "POST", "/2015-03-31/functions/hello/invocations", body, "", at)
			r.Header.Set("Content-Length", fmt.Sprint(size))
			b.ReportAllocs()
			for b.Loop() {
				r.Body = io.NopCloser(strings.NewReader(body))
				mux.ServeHTTP(&nobody{http.Header{}}, r)
			}
		})
	}
}

// BenchmarkGetFunction is the same for an operation of the codec.
func BenchmarkGetFunction(b *testing.B) {
	m := openMux()
	Handle(m, func(context.Context, *lambda.GetFunctionInput) (*lambda.GetFunctionOutput, error) {
		return &lambda.GetFunctionOutput{Configuration: &types.FunctionConfiguration{
			FunctionName: aws.String("f"), FunctionArn: aws.String("arn"), MemorySize: aws.Int32(128), Timeout: aws.Int32(3), Runtime: types.RuntimeProvidedal2023,
			Environment: &types.EnvironmentResponse{Variables: map[string]string{"A": "B"}},
		}}, nil
	})
	r := httptest.NewRequest("GET", "/2015-03-31/functions/hello", nil)
	b.ReportAllocs()
	for b.Loop() {
		m.ServeHTTP(&nobody{http.Header{}}, r)
	}
}
