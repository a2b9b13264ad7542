package gateway_test

import (
	"net/http"
	"testing"

	"github.com/firn-run/firn/internal/gateway"
	"github.com/firn-run/firn/internal/invoke"
)

// TestPreflight: with CORS configured the front answers, without signatures
// and policies; otherwise the function does.
func TestPreflight(t *testing.T) {
	some := &gateway.CORS{
		AllowOrigins: []string{"https://app.example", "http://localhost:3000/"}, AllowMethods: []string{"GET", "POST"},
		AllowHeaders: []string{"content-type", "x-a"}, ExposeHeaders: []string{"x-b"}, MaxAge: 300,
	}
	all := &gateway.CORS{AllowOrigins: []string{"*"}, AllowMethods: []string{"*"}, AllowHeaders: []string{"*"}, ExposeHeaders: []string{"*"}}
	credentials := &gateway.CORS{AllowOrigins: []string{"*"}, AllowMethods: []string{"*"}, AllowHeaders: []string{"*"}, AllowCredentials: true}
	for _, tc := range []struct {
		name    string
		cors    *gateway.CORS
		request []string
		front   bool
		want    []string
	}{
		{"allowed", some, []string{"Origin", "https://app.example", "Access-Control-Request-Method", "POST"}, true, []string{
			"Access-Control-Allow-Origin", "https://app.example", "Access-Control-Allow-Methods", "GET,POST", "Access-Control-Allow-Headers", "content-type,x-a",
			"Access-Control-Expose-Headers", "x-b", "Access-Control-Max-Age", "300", "Access-Control-Allow-Credentials", "", "Vary", "Origin"}},
		{"configured with a slash", some, []string{"Origin", "http://localhost:3000", "Access-Control-Request-Method", "GET"}, true, []string{"Access-Control-Allow-Origin", "http://localhost:3000"}},
		{"other origin", some, []string{"Origin", "https://evil.example", "Access-Control-Request-Method", "POST"}, true, []string{
			"Access-Control-Allow-Origin", "", "Access-Control-Allow-Methods", "", "Access-Control-Max-Age", "", "Vary", "Origin"}},
		{"all", all, []string{"Origin", "https://x", "Access-Control-Request-Method", "PUT"}, true, []string{
			"Access-Control-Allow-Origin", "*", "Access-Control-Allow-Methods", "*", "Access-Control-Allow-Headers", "*", "Vary", "", "Access-Control-Max-Age", ""}},
		{"all with credentials", credentials, []string{"Origin", "https://x", "Access-Control-Request-Method", "PUT", "Access-Control-Request-Headers", "x-q"}, true, []string{
			"Access-Control-Allow-Origin", "https://x", "Access-Control-Allow-Methods", "PUT", "Access-Control-Allow-Headers", "x-q",
			"Access-Control-Allow-Credentials", "true", "Vary", "Origin"}},
		{"a scheme", &gateway.CORS{AllowOrigins: []string{"https://*"}}, []string{"Origin", "https://any.example", "Access-Control-Request-Method", "GET"}, true, []string{"Access-Control-Allow-Origin", "https://any.example"}},
		{"another scheme", &gateway.CORS{AllowOrigins: []string{"https://*"}}, []string{"Origin", "http://any.example", "Access-Control-Request-Method", "GET"}, true, []string{"Access-Control-Allow-Origin", ""}},
		{"not a preflight", some, []string{"Origin", "https://app.example"}, false, []string{"Access-Control-Allow-Origin", "https://app.example"}},
		{"no origin", some, []string{"Access-Control-Request-Method", "GET"}, false, []string{"Access-Control-Allow-Origin", ""}},
		{"not configured", nil, []string{"Origin", "https://app.example", "Access-Control-Request-Method", "POST"}, false, []string{"Access-Control-Allow-Origin", ""}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			w.url.CORS = tc.cors
			out := w.do(w.request("OPTIONS", "/", nil, tc.request...))
			out.check(t, 200, tc.want...)
			if front := w.invocations() == 0; front != tc.front || front && (out.body != "" || len(w.asked) != 0) {
				t.Errorf("answered by the front: %v; %q", front, out.body)
			}
		})
	}
}

// TestDecorated: an actual response has the configured headers beside the
// function's own, and so have refusals.
func TestDecorated(t *testing.T) {
	w := newWorld(t)
	w.url.CORS = &gateway.CORS{AllowOrigins: []string{"https://app.example"}, ExposeHeaders: []string{"x-b", "date"}, AllowCredentials: true, MaxAge: 5}
	w.answer = func(*invoke.Request) (*invoke.Response, error) {
		return returns(`{"statusCode":200,"headers":{"Access-Control-Allow-Origin":"*","vary":"Accept"},"body":""}`), nil
	}
	w.do(w.request("GET", "/", nil, "Origin", "https://app.example")).check(t, 200,
		"Access-Control-Allow-Origin", "* | https://app.example", "Access-Control-Expose-Headers", "x-b,date",
		"Access-Control-Allow-Credentials", "true", "Access-Control-Max-Age", "", "Vary", "Accept | Origin")
	w.do(w.request("GET", "/", nil, "Origin", "https://other.example")).check(t, 200, "Access-Control-Allow-Origin", "*", "Vary", "Accept | Origin")
	w.do(w.request("GET", "/", nil)).check(t, 200, "Access-Control-Allow-Origin", "*", "Vary", "Accept")
	w.allow = func(gateway.Access) bool { return false }
	w.do(w.request("GET", "/", nil, "Origin", "https://app.example")).check(t, http.StatusForbidden, "Access-Control-Allow-Origin", "https://app.example")
}
