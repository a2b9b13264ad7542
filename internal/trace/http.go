package trace

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/firn-run/firn/internal/timeline"
)

// Path is where the store's own endpoints are, for people and tools of the
// node; signed like every request.
//
//	GET /.firn/traces                 recent invocations: function, slow, limit
//	GET /.firn/traces/{requestId}     one timeline; format=json or svg
const Path = "/.firn/traces"

// Bounds of a listing.
const (
	defaultLimit = 50
	maxLimit     = 1000
)

// Summary is an invocation in a listing.
type Summary struct {
	Time        time.Time       `json:"time"`
	Function    string          `json:"function"`
	Version     string          `json:"version"`
	RequestID   string          `json:"requestId"`
	Environment string          `json:"environment"`
	Status      string          `json:"status"` // "" while it runs
	ErrorType   string          `json:"errorType,omitempty"`
	Cold        bool            `json:"cold"`
	Caller      timeline.Offset `json:"callerMs"`
	Duration    timeline.Offset `json:"durationMs"`
	Init        timeline.Offset `json:"initMs"`
	Tail        timeline.Offset `json:"tailMs"`
	Slow        string          `json:"slow"`
	Verdict     string          `json:"verdict"`
}

// Listing is the answer of GET /.firn/traces, oldest first.
type Listing struct {
	Invocations []Summary `json:"invocations"`
}

// Problem is the body of a refusal.
type Problem struct {
	Message string `json:"message"`
}

// Handler serves the endpoints. It does not authenticate: whoever mounts it
// does.
func (s *Store) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Path, s.serveList)
	mux.HandleFunc("GET "+Path+"/{requestId}", s.serveOne)
	return mux
}

func (s *Store) serveOne(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("requestId")
	t, ok := s.Timeline(id)
	if !ok {
		refuse(w, http.StatusNotFound, "no invocation with this request id is kept; the newest %d are", s.cfg.Invocations)
		return
	}
	switch format := r.URL.Query().Get("format"); format {
	case "", "json":
		answer(w, http.StatusOK, t)
	case "svg":
		w.Header().Set("Content-Type", "image/svg+xml; charset=utf-8")
		// Names in the picture come from functions: nothing in it may run.
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Write(timeline.SVG(t))
	default:
		refuse(w, http.StatusBadRequest, "unknown format %q: choose json or svg", format)
	}
}

func (s *Store) serveList(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	f := Filter{Function: q.Get("function"), Limit: defaultLimit}
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxLimit {
			refuse(w, http.StatusBadRequest, "limit must be a number between 1 and %d", maxLimit)
			return
		}
		f.Limit = n
	}
	if text := q.Get("slow"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			refuse(w, http.StatusBadRequest, "slow must be a duration such as 250ms")
			return
		}
		f.Slow = d
	}
	list := Listing{Invocations: []Summary{}}
	for _, t := range s.Recent(f) {
		list.Invocations = append(list.Invocations, Summary{
			Time: t.Began(), Function: t.Function, Version: t.Version, RequestID: t.RequestID, Environment: t.Environment,
			Status: t.Status, ErrorType: t.ErrorType, Cold: t.Cold,
			Caller: t.Durations.Caller, Duration: t.Durations.Total, Init: t.Durations.Init, Tail: t.Durations.Tail,
			Slow: t.Slow, Verdict: t.Verdict,
		})
	}
	answer(w, http.StatusOK, list)
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body) // fails only when the client is gone
}

func refuse(w http.ResponseWriter, status int, format string, args ...any) {
	answer(w, status, Problem{fmt.Sprintf(format, args...)})
}
