// Package cors lets pages in browsers use the APIs of AWS with the SDK for
// JavaScript: the endpoints of AWS answer preflights of any origin, since what
// counts is the signature, and no cookie or other credential of the browser's
// takes part. It must not stand before an API that is served without signatures:
// then any page that somebody opens could use it.
package cors

import (
	"net/http"
	"strconv"
	"time"
)

const (
	// exposed are the headers of answers that a page may read.
	exposed = "x-amzn-RequestId,x-amzn-ErrorType,x-amzn-ErrorMessage,Date,x-amz-log-result,x-amz-function-error"
	// maxAge is for how long a browser may remember the answer to a preflight.
	maxAge = 48 * time.Hour
)

// Handler answers preflights and marks the answers of next as readable for
// pages. Requests that no page has sent pass as they are.
func Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Origin") == "" {
			next.ServeHTTP(w, r)
			return
		}
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Expose-Headers", exposed)
		method := r.Header.Get("Access-Control-Request-Method")
		if r.Method != http.MethodOptions || method == "" {
			next.ServeHTTP(w, r)
			return
		}
		h.Set("Access-Control-Allow-Methods", method)
		if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" {
			h.Set("Access-Control-Allow-Headers", asked)
		}
		h.Set("Access-Control-Max-Age", strconv.Itoa(int(maxAge/time.Second)))
		w.WriteHeader(http.StatusOK)
	})
}
