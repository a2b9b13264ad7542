package gateway_test

import (
	"bufio"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/firn-run/firn/internal/gateway"
)

func newGateway(t *testing.T, domain, endpoint string) *gateway.Gateway {
	t.Helper()
	g, err := gateway.New(gateway.Config{
		Region: "us-east-1", Account: account, Domain: domain, Logger: slog.New(slog.DiscardHandler), Endpoint: func() string { return endpoint },
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestMatch(t *testing.T) {
	g := newGateway(t, "fn.example.org", "http://127.0.0.1:4580")
	for _, tc := range []struct {
		host, target string
		ok           bool
		id, path     string
		domain       string
	}{
		{"127.0.0.1:4580", "/2015-03-31/functions", false, "", "", ""},
		{"localhost", "/", false, "", "", ""},
		{"abc.lambda-url.us-east-1.localhost:4580", "/a/b?x=1", true, "abc", "/a/b", "abc.lambda-url.us-east-1.localhost"},
		{"abc.lambda-url.us-east-1.localhost", "/", true, "abc", "/", "abc.lambda-url.us-east-1.localhost"},
		{"ABC.Lambda-URL.us-east-1.on.AWS.:443", "/", true, "abc", "/", "abc.lambda-url.us-east-1.on.aws"},
		{"abc.lambda-url.us-east-1.fn.example.org", "/", true, "abc", "/", "abc.lambda-url.us-east-1.fn.example.org"},
		{"abc.fn.example.org:80", "/x", true, "abc", "/x", "abc.fn.example.org"},
		{"a.b.fn.example.org", "/", false, "", "", ""},
		{"fn.example.org", "/", false, "", "", ""},
		{"abc.lambda-url.eu-west-1.localhost", "/", true, "", "/", "abc.lambda-url.eu-west-1.localhost"},
		{"a-b.lambda-url.us-east-1.localhost", "/", true, "", "/", "a-b.lambda-url.us-east-1.localhost"},
		{"abc.lambda-url.us-east-1.example.com", "/", false, "", "", ""},
		{"abc.execute-api.us-east-1.localhost", "/", false, "", "", ""},
		{"127.0.0.1:4580", "/.firn/url/abc/p%20q/%2F?z", true, "abc", "/p%20q/%2F", "abc.lambda-url.us-east-1.localhost"},
		{"127.0.0.1:4580", "/.firn/url/ABC", true, "abc", "/", "abc.lambda-url.us-east-1.localhost"},
		{"127.0.0.1:4580", "/.firn/url/", true, "", "/", ".lambda-url.us-east-1.localhost"},
		{"127.0.0.1:4580", "/.firn/url/../../x", true, "", "/../x", ".lambda-url.us-east-1.localhost"},
		// The host decides, and the path is the function's own then.
		{"abc.lambda-url.us-east-1.localhost", "/.firn/url/def/", true, "abc", "/.firn/url/def/", "abc.lambda-url.us-east-1.localhost"},
		{"abc.lambda-url.us-east-1.localhost", "/2015-03-31/functions", true, "abc", "/2015-03-31/functions", "abc.lambda-url.us-east-1.localhost"},
		{"abc.lambda-url.us-east-1.localhost", "http://abc.lambda-url.us-east-1.localhost/a%2Fb?c", true, "abc", "/a%2Fb", "abc.lambda-url.us-east-1.localhost"},
		{"[::1]:4580", "/", false, "", "", ""},
	} {
		r := read(t, "GET "+tc.target+" HTTP/1.1\r\nHost: "+tc.host+"\r\n\r\n")
		got, ok := g.Match(r)
		if ok != tc.ok || got.ID != tc.id || got.RawPath != tc.path || got.Domain != tc.domain {
			t.Errorf("%s %s: %+v, %v", tc.host, tc.target, got, ok)
		}
	}
}

// read makes a request of what comes over the wire, as a server does.
func read(t testing.TB, text string) *http.Request {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
	if err != nil {
		t.Fatalf("%v: %.200q", err, text)
	}
	r.RemoteAddr = "203.0.113.9:5555"
	return r
}

func TestURLFor(t *testing.T) {
	for _, tc := range []struct{ domain, endpoint, want string }{
		{"", "http://127.0.0.1:4580", "http://abc.lambda-url.us-east-1.localhost:4580/"},
		{"", "http://127.0.0.1:80", "http://abc.lambda-url.us-east-1.localhost/"},
		{"", "http://[::1]:4580", "http://abc.lambda-url.us-east-1.localhost:4580/"},
		{"fn.example.org", "http://0.0.0.0:4580", "http://abc.fn.example.org:4580/"},
		{"fn.example.org:9000", "http://0.0.0.0:4580", "http://abc.fn.example.org:9000/"},
		{"https://FN.example.org", "http://0.0.0.0:4580", "https://abc.fn.example.org/"},
		{"https://fn.example.org:8443/", "http://0.0.0.0:4580", "https://abc.fn.example.org:8443/"},
	} {
		g := newGateway(t, tc.domain, tc.endpoint)
		if got := g.URLFor("abc"); got != tc.want {
			t.Errorf("%q at %s: %s, want %s", tc.domain, tc.endpoint, got, tc.want)
		}
		// What is told is found.
		r := read(t, "GET / HTTP/1.1\r\nHost: "+strings.Trim(strings.SplitN(tc.want, "://", 2)[1], "/")+"\r\n\r\n")
		if target, ok := g.Match(r); !ok || target.ID != "abc" {
			t.Errorf("%s is not found: %+v, %v", tc.want, target, ok)
		}
	}
}

func TestDomainRefused(t *testing.T) {
	for _, domain := range []string{"ftp://example.org", "https://example.org/path", "https://u@example.org", "127.0.0.1", "a b", "https://", "exa/mple"} {
		if _, err := gateway.New(gateway.Config{Domain: domain}); err == nil {
			t.Errorf("%q was accepted", domain)
		}
	}
}

// FuzzMatch: whatever host and path are, an identity that is found has only
// letters and digits, and the path begins with a slash.
func FuzzMatch(f *testing.F) {
	f.Add("abc.lambda-url.us-east-1.localhost:4580", "/x")
	f.Add("abc.fn.example.org", "/.firn/url/q/")
	f.Add("[::1]:80", "*")
	f.Add("..lambda-url..", "//")
	f.Fuzz(func(t *testing.T, host, target string) {
		g, err := gateway.New(gateway.Config{Region: "us-east-1", Domain: "fn.example.org"})
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		got, ok := g.Match(&http.Request{Method: "GET", Host: host, RequestURI: target, URL: u})
		if strings.Trim(got.ID, "abcdefghijklmnopqrstuvwxyz0123456789") != "" || len(got.ID) > 63 || ok && !strings.HasPrefix(got.RawPath, "/") || !ok && got != (gateway.Target{}) {
			t.Errorf("%q %q: %+v, %v", host, target, got, ok)
		}
	})
}
