// Command web is a test function that is a web application: net/http handlers
// behind a function URL, by AWS's own adapter where the URL streams (handler
// "stream"), and by one of three dozen lines where it does not ("buffered").
package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdaurl"
)

func app() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", echo)
	mux.HandleFunc("GET /stream", stream)
	mux.HandleFunc("GET /bytes", manyBytes)
	mux.HandleFunc("GET /break", breakOff)
	mux.HandleFunc("GET /panic", func(http.ResponseWriter, *http.Request) { os.Exit(7) })
	mux.HandleFunc("GET /sleep", func(http.ResponseWriter, *http.Request) { time.Sleep(time.Hour) }) // archtest:sleep the function is to time out
	mux.HandleFunc("GET /cookies", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "a", Value: "1", Path: "/"})
		http.SetCookie(w, &http.Cookie{Name: "b", Value: "2", HttpOnly: true})
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(http.StatusSeeOther)
	})
	return mux
}

// echo tells what came.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Seen", r.Header.Get("X-Test"))
	w.WriteHeader(http.StatusAccepted)
	out := map[string]any{"method": r.Method, "uri": r.URL.RequestURI(), "body": string(body), "cookies": r.Header.Get("Cookie"), "query": r.URL.Query()["q"]}
	_ = json.NewEncoder(w).Encode(out) // the caller has gone otherwise
}

// number is a parameter of the query.
func number(r *http.Request, name string) int {
	n, _ := strconv.Atoi(r.URL.Query().Get(name)) // 0 for none
	return n
}

// stream writes n pieces, ms apart.
func stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	for i := range number(r, "n") {
		if i > 0 {
			time.Sleep(time.Duration(number(r, "ms")) * time.Millisecond) // archtest:sleep the pieces are to come one after the other
		}
		fmt.Fprintf(w, "data: piece %d\n\n", i)
	}
}

// manyBytes writes mb MiB.
func manyBytes(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/octet-stream")
	block := []byte(strings.Repeat("0123456789abcdef", 4096))
	for range number(r, "mb") * 16 {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

// breakOff ends in the middle of its answer.
func breakOff(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprint(w, "half")
	time.Sleep(300 * time.Millisecond) // archtest:sleep the half is to arrive first
	os.Exit(3)
}

// buffered serves one event with the application.
func buffered(ctx context.Context, e events.LambdaFunctionURLRequest) (events.LambdaFunctionURLResponse, error) {
	body := []byte(e.Body)
	if e.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(e.Body); err != nil {
			return events.LambdaFunctionURLResponse{}, err
		}
	}
	target := e.RawPath
	if e.RawQueryString != "" {
		target += "?" + e.RawQueryString
	}
	r := httptest.NewRequestWithContext(ctx, e.RequestContext.HTTP.Method, target, strings.NewReader(string(body)))
	for name, value := range e.Headers {
		r.Header.Set(name, value)
	}
	rec := httptest.NewRecorder()
	app().ServeHTTP(rec, r)
	out := events.LambdaFunctionURLResponse{StatusCode: rec.Code, Headers: map[string]string{}, Cookies: rec.Header().Values("Set-Cookie")}
	rec.Header().Del("Set-Cookie")
	for name, values := range rec.Header() {
		out.Headers[name] = strings.Join(values, ",")
	}
	out.Body, out.IsBase64Encoded = base64.StdEncoding.EncodeToString(rec.Body.Bytes()), true
	return out, nil
}

func main() {
	if os.Getenv("_HANDLER") == "stream" {
		lambdaurl.Start(app(), lambdaurl.WithDetectContentType(true))
		return
	}
	lambda.Start(buffered)
}
