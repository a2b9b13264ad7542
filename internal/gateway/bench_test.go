package gateway_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/firn-run/firn/internal/gateway"
	"github.com/firn-run/firn/internal/invoke"
)

// nothing is a response writer that forgets.
type nothing struct{ header http.Header }

func (n nothing) Header() http.Header         { return n.header }
func (n nothing) WriteHeader(int)             {}
func (n nothing) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkBuffered is what a URL costs on top of the invocation.
func BenchmarkBuffered(b *testing.B) {
	for _, size := range []int{100, 1 << 20} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			w := &world{t: b, url: &gateway.URL{ID: urlID, Auth: gateway.AuthNone}}
			response := `{"statusCode":200,"headers":{"content-type":"text/plain"},"body":"` + strings.Repeat("x", size) + `"}`
			w.answer = func(*invoke.Request) (*invoke.Response, error) { return returns(response), nil }
			g, err := gateway.New(gateway.Config{URLs: w, Invoker: w, Region: "us-east-1", Logger: discard(), Endpoint: func() string { return "" }})
			if err != nil {
				b.Fatal(err)
			}
			body := bytes.Repeat([]byte("y"), size)
			r := read(b, "POST /a/path?with=query HTTP/1.1\r\nHost: "+urlID+".lambda-url.us-east-1.localhost\r\nContent-Type: text/plain\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
			b.SetBytes(int64(2 * size))
			b.ReportAllocs()
			for b.Loop() {
				r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(size)
				g.ServeHTTP(nothing{http.Header{}}, r)
				w.events, w.asked = w.events[:0], w.asked[:0]
			}
		})
	}
}
