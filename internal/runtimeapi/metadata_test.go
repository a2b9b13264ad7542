package runtimeapi

import (
	"strings"
	"testing"
)

func TestMetadata(t *testing.T) {
	r := newRig(t, func(cfg *Config) {
		cfg.NoExtensions = true // it is not one of their APIs
		cfg.MetadataToken, cfg.AvailabilityZoneID = "the-token", "euc1-az1"
	})
	const target = "/2026-01-15/metadata/execution-environment"
	for _, test := range []struct {
		name, method, headers, status string
		want                          []string
	}{
		{"with the token", "GET", "Authorization: Bearer the-token\r\n", "200 OK", []string{
			"Content-Type: application/json\r\n", "Cache-Control: private, max-age=43200, immutable\r\n",
			"\r\n\r\n" + `{"AvailabilityZoneID":"euc1-az1"}`,
		}},
		{"header in lower case", "GET", "authorization: Bearer the-token\r\n", "200 OK", nil},
		{"without a token", "GET", "", "401 Unauthorized", []string{"\r\n\r\nUnauthorized\n"}},
		{"another token", "GET", "Authorization: Bearer the-tokens\r\n", "401 Unauthorized", nil},
		{"no scheme", "GET", "Authorization: the-token\r\n", "401 Unauthorized", nil},
		{"two headers", "GET", "Authorization: Bearer no\r\nAuthorization: Bearer the-token\r\n", "401 Unauthorized", nil},
		{"another method", "PUT", "Authorization: Bearer the-token\r\n", "405 Method Not Allowed", []string{"\r\n\r\nMethod Not Allowed\n"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := r.send(test.method + " " + target + " HTTP/1.1\r\nHost: x\r\n" + test.headers + "\r\n")
			if !strings.HasPrefix(got, "HTTP/1.1 "+test.status+"\r\n") {
				t.Errorf("got %q", got)
			}
			for _, want := range test.want {
				if !strings.Contains(got, want) {
					t.Errorf("%q is not in %q", want, got)
				}
			}
		})
	}
}

// Without a token nobody is served, not even with an empty one.
func TestMetadataWithoutToken(t *testing.T) {
	r := newRig(t)
	got := r.send("GET /2026-01-15/metadata/execution-environment HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 401 ") {
		t.Errorf("got %q", got)
	}
}
