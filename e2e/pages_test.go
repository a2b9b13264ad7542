package e2e

import (
	"net/http"
	"testing"
)

// TestPages: pages of any origin may use the API, as on AWS, as long as each
// request is signed; where signatures are off they may not.
func TestPages(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ auth, want string }{"signed": {"sigv4", "*"}, "open": {"none", ""}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := start(t, options{sandbox: "process", args: []string{"--auth", c.auth}})
			for _, method := range []string{http.MethodOptions, http.MethodGet} {
				req, err := http.NewRequestWithContext(t.Context(), method, n.url+"/2015-03-31/functions", nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Origin", "https://example.com")
				req.Header.Set("Access-Control-Request-Method", http.MethodGet)
				res, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				res.Body.Close()
				if got := res.Header.Get("Access-Control-Allow-Origin"); got != c.want {
					t.Errorf("%s: %d, allowed to %q", method, res.StatusCode, got)
				}
			}
			n.stop()
		})
	}
}
