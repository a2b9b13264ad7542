package cors_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firn-run/firn/internal/awswire/cors"
)

func TestHandler(t *testing.T) {
	const exposed = "x-amzn-RequestId,x-amzn-ErrorType,x-amzn-ErrorMessage,Date,x-amz-log-result,x-amz-function-error"
	h := cors.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	for _, c := range []struct {
		name, method string
		headers      http.Header
		code         int
		want         http.Header
	}{
		{"no page", "POST", nil, http.StatusTeapot, http.Header{}},
		{"no page asks for options", "OPTIONS", http.Header{"Access-Control-Request-Method": {"POST"}}, http.StatusTeapot, http.Header{}},
		{"page", "POST", http.Header{"Origin": {"https://example.com"}}, http.StatusTeapot, http.Header{
			"Access-Control-Allow-Origin": {"*"}, "Access-Control-Expose-Headers": {exposed},
		}},
		{"options without a question", "OPTIONS", http.Header{"Origin": {"null"}}, http.StatusTeapot, http.Header{
			"Access-Control-Allow-Origin": {"*"}, "Access-Control-Expose-Headers": {exposed},
		}},
		{"preflight", "OPTIONS", http.Header{
			"Origin": {"https://example.com"}, "Access-Control-Request-Method": {"POST"},
			"Access-Control-Request-Headers": {"amz-sdk-invocation-id,authorization,x-amz-date"},
		}, http.StatusOK, http.Header{
			"Access-Control-Allow-Origin": {"*"}, "Access-Control-Expose-Headers": {exposed}, "Access-Control-Max-Age": {"172800"},
			"Access-Control-Allow-Methods": {"POST"}, "Access-Control-Allow-Headers": {"amz-sdk-invocation-id,authorization,x-amz-date"},
		}},
	} {
		r := httptest.NewRequest(c.method, "/2015-03-31/functions/f/invocations", nil)
		for name, values := range c.headers {
			r.Header[name] = values
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if diff := cmp.Diff(c.want, w.Header()); w.Code != c.code || diff != "" {
			t.Errorf("%s: %d%s", c.name, w.Code, diff)
		}
	}
}
