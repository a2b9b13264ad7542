package async

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/queue"
)

// Path is where the engine's own endpoints are, for people and tools of the
// node; signed like every request.
//
//	GET  /.firn/async                 what waits: function, limit
//	GET  /.firn/async/{requestId}     one event with its payload; the beginning of the id will do
//	POST /.firn/async/purge           forget what waits of a function
//	POST /.firn/async/redrive         attempt what waits now: of a function, one requestId, or all=true
const Path = "/.firn/async"

// Bounds of a listing.
const (
	defaultListing = 100
	maxListing     = 10_000
)

// Waiting is an event in a listing.
type Waiting struct {
	RequestID string    `json:"requestId"`
	Function  string    `json:"function"` // its ARN, with a qualifier
	Accepted  time.Time `json:"accepted"`
	Next      time.Time `json:"next"`     // attempt, at the earliest
	Running   bool      `json:"running"`  // an attempt is under way
	Attempts  int       `json:"attempts"` // that were made
	Retries   int       `json:"retries"`  // that the function allows
	Why       string    `json:"why"`      // it waits
}

// Detail is one event.
type Detail struct {
	Waiting
	Expires       time.Time       `json:"expires"`
	ClientContext json.RawMessage `json:"clientContext,omitempty"`
	TraceHeader   string          `json:"traceHeader,omitempty"`
	Payload       json.RawMessage `json:"payload"`
}

// Backlog is how many events of a function there are.
type Backlog struct {
	Function string    `json:"function"` // its ARN, with a qualifier
	Events   int64     `json:"events"`
	Running  int       `json:"running"`
	Held     time.Time `json:"held,omitzero"` // nothing is attempted before
}

// Listing is the answer of GET /.firn/async.
type Listing struct {
	Functions []Backlog `json:"functions"` // by name
	Events    []Waiting `json:"events"`    // as they are due
	Total     int64     `json:"total"`     // events there are
}

// Changed is the answer of the other endpoints.
type Changed struct {
	Events int `json:"events"`
}

// Handler serves the endpoints. It does not authenticate: whoever mounts it
// does, and lets only the account's root user POST.
func (e *Engine) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Path, e.serveList)
	mux.HandleFunc("GET "+Path+"/{requestId}", e.serveOne)
	mux.HandleFunc("POST "+Path+"/purge", e.servePurge)
	mux.HandleFunc("POST "+Path+"/redrive", e.serveRedrive)
	return mux
}

// lanes are the lanes that a request names by function: a name or an ARN, with
// a qualifier or for all of them.
func (e *Engine) lanes(function string) ([]queue.Lane, error) {
	lanes := e.queue.Lanes()
	slices.SortFunc(lanes, func(a, b queue.Lane) int { return strings.Compare(a.Name, b.Name) })
	if function == "" {
		return lanes, nil
	}
	ref, err := firn.ParseFunction(function)
	if err != nil {
		return nil, fmt.Errorf("%q is not a function's name or ARN", function)
	}
	ref = e.ref(ref)
	return slices.DeleteFunc(lanes, func(l queue.Lane) bool {
		if ref.Qualifier != "" {
			return l.Name != qualifiedARN(ref)
		}
		return !strings.HasPrefix(l.Name, firn.FunctionARN(ref.Region, ref.Account, ref.Name)+":")
	}), nil
}

func (e *Engine) serveList(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	limit := defaultListing
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > maxListing {
			refuse(w, http.StatusBadRequest, "limit must be a number between 0 and %d", maxListing)
			return
		}
		limit = n
	}
	lanes, err := e.lanes(q.Get("function"))
	if err != nil {
		refuse(w, http.StatusBadRequest, "%s", err)
		return
	}
	list := Listing{Functions: []Backlog{}, Events: []Waiting{}}
	for _, l := range lanes {
		held, _ := e.pacer.held(l.Name)
		list.Functions = append(list.Functions, Backlog{Function: l.Name, Events: l.Items, Running: l.Busy, Held: held})
		list.Total += l.Items
		items, err := e.queue.List(r.Context(), l.Name, queue.Item{}, limit)
		if err != nil {
			e.broken(w, err)
			return
		}
		for _, it := range items {
			list.Events = append(list.Events, e.describeItem(it).Waiting)
		}
		if len(list.Events) > 2*limit {
			list.Events = earliest(list.Events, limit)
		}
	}
	list.Events = earliest(list.Events, limit)
	answer(w, http.StatusOK, list)
}

// earliest are the events that are due first.
func earliest(events []Waiting, limit int) []Waiting {
	slices.SortStableFunc(events, func(a, b Waiting) int { return a.Next.Compare(b.Next) })
	return events[:min(limit, len(events))]
}

// describeItem says what is known of a queued event.
func (e *Engine) describeItem(it queue.Item) Detail {
	var ev event
	if err := json.Unmarshal(it.Note, &ev); err != nil {
		return Detail{Waiting: Waiting{Function: it.Lane, Next: it.Due, Why: "unreadable: " + err.Error()}}
	}
	settings := e.pacer.remembered(it.Lane)
	if ref, err := firn.ParseFunction(it.Lane); err == nil {
		ref.Qualifier = ev.Qualifier
		if now, err := e.cfg.Configs.EventInvoke(ref); err == nil {
			settings = now
		}
	}
	d := Detail{
		Waiting: Waiting{
			RequestID: ev.RequestID, Function: it.Lane, Accepted: ev.accepted(), Next: it.Due,
			Running: e.queue.Claimed(it.ID), Attempts: ev.Attempts, Retries: settings.MaximumRetryAttempts,
		},
		Expires: ev.accepted().Add(settings.MaximumEventAge), TraceHeader: ev.Trace, Payload: jsonOrString(it.Body),
	}
	if ev.ClientContext != "" {
		d.ClientContext = jsonOrString([]byte(ev.ClientContext))
	}
	if held, ok := e.pacer.held(it.Lane); ok && held.After(it.Due) {
		d.Next = held
	}
	d.Why = why(&d.Waiting, &ev)
	return d
}

// why says in a few words why an event waits.
func why(w *Waiting, ev *event) string {
	switch {
	case w.Running && w.Attempts == 0:
		return "running"
	case w.Running:
		return fmt.Sprintf("running: retry %d of %d", w.Attempts, w.Retries)
	case ev.Waits > 0:
		return ev.Last
	case w.Attempts > 0:
		return fmt.Sprintf("retry %d of %d after %s", w.Attempts, w.Retries, ev.Last)
	}
	return "new"
}

// find looks for events by the beginning of their request ids, until there are two.
func (e *Engine) find(ctx context.Context, id string) (found []queue.Item, err error) {
	for _, l := range e.queue.Lanes() {
		for after := (queue.Item{}); ; {
			items, err := e.queue.List(ctx, l.Name, after, 1000)
			if err != nil {
				return nil, err
			}
			for _, it := range items {
				var ev event
				if json.Unmarshal(it.Note, &ev) == nil && strings.HasPrefix(ev.RequestID, id) { // the unreadable have no id
					found = append(found, it)
				}
			}
			if len(items) < 1000 || len(found) > 1 {
				break
			}
			after = items[len(items)-1]
		}
	}
	return found, nil
}

// one finds the event that a request means, or answers why there is none.
func (e *Engine) one(w http.ResponseWriter, r *http.Request, id string) (queue.Item, bool) {
	found, err := e.find(r.Context(), id)
	switch {
	case err != nil:
		e.broken(w, err)
	case len(found) == 0:
		refuse(w, http.StatusNotFound, "no event with the request id %s waits", id)
	case len(found) > 1:
		refuse(w, http.StatusConflict, "several events have request ids that begin with %s", id)
	default:
		return found[0], true
	}
	return queue.Item{}, false
}

func (e *Engine) serveOne(w http.ResponseWriter, r *http.Request) {
	short, ok := e.one(w, r, r.PathValue("requestId"))
	if !ok {
		return
	}
	it, ok, err := e.queue.Get(r.Context(), short.ID)
	switch {
	case err != nil:
		e.broken(w, err)
	case !ok:
		refuse(w, http.StatusNotFound, "the event was finished meanwhile")
	default:
		answer(w, http.StatusOK, e.describeItem(it))
	}
}

func (e *Engine) servePurge(w http.ResponseWriter, r *http.Request) {
	function := r.URL.Query().Get("function")
	if function == "" {
		refuse(w, http.StatusBadRequest, "name the function whose events are to be forgotten")
		return
	}
	lanes, err := e.lanes(function)
	if err != nil {
		refuse(w, http.StatusBadRequest, "%s", err)
		return
	}
	e.sweep(w, r, lanes, func(queue.Item) queue.Verdict { return queue.Verdict{Remove: true} })
}

func (e *Engine) serveRedrive(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	function, id := q.Get("function"), q.Get("requestId")
	if function == "" && id == "" && q.Get("all") != "true" {
		refuse(w, http.StatusBadRequest, "name a function or a request id, or say all=true")
		return
	}
	now := e.cfg.Now()
	judge := func(it queue.Item) queue.Verdict { return queue.Verdict{Keep: !it.Due.After(now), Due: now} }
	if id != "" {
		it, ok := e.one(w, r, id)
		if !ok {
			return
		}
		e.sweep(w, r, []queue.Lane{{Name: it.Lane}}, func(other queue.Item) queue.Verdict {
			v := judge(other)
			v.Keep = v.Keep || other.ID != it.ID
			return v
		})
		return
	}
	lanes, err := e.lanes(function)
	if err != nil {
		refuse(w, http.StatusBadRequest, "%s", err)
		return
	}
	e.sweep(w, r, lanes, judge)
}

// sweep changes what waits in some lanes and has them looked at.
func (e *Engine) sweep(w http.ResponseWriter, r *http.Request, lanes []queue.Lane, judge func(queue.Item) queue.Verdict) {
	changed := Changed{}
	for _, l := range lanes {
		n, err := e.queue.Sweep(r.Context(), l.Name, judge)
		changed.Events += n
		if err != nil {
			e.broken(w, err)
			return
		}
		e.pacer.resume(l.Name)
		e.queue.Wake(l.Name)
	}
	answer(w, http.StatusOK, changed)
}

func (e *Engine) broken(w http.ResponseWriter, err error) {
	e.cfg.Logger.Error("queued events cannot be read or changed", "error", err)
	refuse(w, http.StatusInternalServerError, "the queue of events cannot be read or changed; firn's log says why")
}

// Problem is the body of a refusal.
type Problem struct {
	Message string `json:"message"`
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body) // fails only when the client is gone
}

func refuse(w http.ResponseWriter, status int, format string, args ...any) {
	answer(w, status, Problem{fmt.Sprintf(format, args...)})
}
