package async

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/invoke"
)

// ask asks the engine's own endpoints.
func ask[T any](b *bench, method, path string, want int) (out T) {
	b.t.Helper()
	w := httptest.NewRecorder()
	b.engine.Handler().ServeHTTP(w, httptest.NewRequest(method, path, nil))
	if w.Code != want {
		b.t.Fatalf("%s %s is %d %s, want %d", method, path, w.Code, w.Body, want)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
		b.t.Fatal(err)
	}
	return out
}

func TestEndpoints(t *testing.T) {
	run(t, nil, func(b *bench) {
		b.does(func(r *invoke.Request) (*invoke.Response, error) {
			switch r.Function.Name {
			case "bad":
				return failing(r)
			case "busy":
				return throttled(r)
			}
			time.Sleep(time.Hour) // archtest:sleep virtual time
			return answerOf("1", ""), nil
		})
		bad := b.accept("bad:live", `{"n":1}`)
		busy := b.accept("busy", `{}`)
		slow := b.accept("slow", `{}`)
		b.sleep(2500 * time.Millisecond)
		fresh := b.accept("busy", `{}`)
		b.settle()

		list := ask[Listing](b, "GET", Path, 200)
		if len(list.Functions) != 3 || list.Total != 4 || len(list.Events) != 4 || list.Functions[0].Function != arnPrefix+"bad:live" {
			t.Fatalf("listed %+v", list)
		}
		if h := list.Functions[1]; h.Function != arnPrefix+"busy:$LATEST" || h.Events != 2 || !h.Held.After(time.Now()) {
			t.Errorf("the throttled function is %+v", h)
		}
		why := map[string]Waiting{}
		for _, e := range list.Events {
			why[e.RequestID] = e
		}
		for id, want := range map[string]string{
			bad: "retry 1 of 2 after error: Boom: it broke", busy: "throttled: ConcurrentInvocationLimitExceeded", slow: "running", fresh: "new",
		} {
			if why[id].Why != want {
				t.Errorf("%s waits because %q, want %q", id, why[id].Why, want)
			}
		}
		if e := why[bad]; e.Attempts != 1 || e.Retries != 2 || !e.Accepted.Equal(b.began) || !e.Next.Equal(b.began.Add(time.Minute)) {
			t.Errorf("the failed event is %+v", e)
		}
		if !why[slow].Running || why[busy].Running || !why[fresh].Next.After(time.Now()) {
			t.Errorf("the others are %+v", why)
		}
		if l := ask[Listing](b, "GET", Path+"?function=busy&limit=1", 200); len(l.Functions) != 1 || l.Total != 2 || len(l.Events) != 1 {
			t.Errorf("of one function: %+v", l)
		}
		if l := ask[Listing](b, "GET", Path+"?function=bad:other", 200); l.Total != 0 {
			t.Errorf("of another alias: %+v", l)
		}
		d := ask[Detail](b, "GET", Path+"/"+bad, 200)
		if string(d.Payload) != `{"n":1}` || d.Why != why[bad].Why || !d.Expires.Equal(b.began.Add(6*time.Hour)) {
			t.Errorf("one event is %+v", d)
		}

		// Attempted now instead of in a minute, and again as its pacing says.
		if c := ask[Changed](b, "POST", Path+"/redrive?requestId="+bad, 200); c.Events != 1 {
			t.Errorf("redriven: %+v", c)
		}
		b.settle()
		if got := b.times(bad); len(got) != 2 || got[1] != 2500*time.Millisecond {
			t.Errorf("attempts at %v", got)
		}
		b.does(func(r *invoke.Request) (*invoke.Response, error) { return answerOf("1", ""), nil })
		if c := ask[Changed](b, "POST", Path+"/redrive?function=busy", 200); c.Events != 1 { // the other is due
			t.Errorf("redriven: %+v", c)
		}
		b.settle()
		if len(b.times(fresh)) != 1 || b.waiting() != 2 {
			t.Errorf("%d wait", b.waiting())
		}
		if c := ask[Changed](b, "POST", Path+"/purge?function="+arnPrefix+"bad", 200); c.Events != 1 {
			t.Errorf("purged: %+v", c)
		}
		if c := ask[Changed](b, "POST", Path+"/redrive?all=true", 200); c.Events != 0 || b.waiting() != 1 {
			t.Errorf("redriven %+v, %d wait", c, b.waiting())
		}
		b.sleep(2 * time.Hour)
	})
}

func TestEndpointsRefuse(t *testing.T) {
	run(t, nil, func(b *bench) {
		b.does(throttled)
		b.accept("f", `{}`)
		b.accept("f", `{}`)
		b.settle()
		for _, c := range []struct {
			method, path string
			status       int
		}{
			{"GET", Path + "?limit=x", 400}, {"GET", Path + "?limit=10001", 400}, {"GET", Path + "?function=a%20b", 400},
			{"GET", Path + "/none", 404}, {"GET", Path + "/id-", 409},
			{"POST", Path + "/purge", 400}, {"POST", Path + "/purge?function=:", 400},
			{"POST", Path + "/redrive", 400}, {"POST", Path + "/redrive?function=:", 400}, {"POST", Path + "/redrive?requestId=none", 404},
		} {
			if p := ask[Problem](b, c.method, c.path, c.status); p.Message == "" {
				t.Errorf("%s %s says nothing", c.method, c.path)
			}
		}
		if b.waiting() != 2 {
			t.Errorf("%d wait", b.waiting())
		}
		b.engine.Stop()
	})
}

// A note that cannot be read is dropped, and stops nobody.
func TestUnreadableNote(t *testing.T) {
	run(t, nil, func(b *bench) {
		if _, err := b.engine.queue.Put(t.Context(), itemOf(arnPrefix+"f:$LATEST", `{"id":`)); err != nil {
			t.Fatal(err)
		}
		if _, err := b.engine.queue.Put(t.Context(), itemOf("not a function", `{}`)); err != nil {
			t.Fatal(err)
		}
		id := b.accept("f", `{}`)
		b.settle()
		if len(b.times(id)) != 1 || b.waiting() != 0 {
			t.Errorf("%d wait", b.waiting())
		}
	})
}

// Whatever a function answers, the record is JSON and has it.
func FuzzRecord(f *testing.F) {
	for _, s := range []string{"", "null", `{"a":1}`, "plain", "\xff\x00", `"<&>"`, strings.Repeat("[", 20000), `{"errorMessage":7}`} {
		f.Add([]byte(s), []byte(s))
	}
	f.Fuzz(func(t *testing.T, request, response []byte) {
		j := &job{ref: firn.FunctionRef{Region: "us-east-1", Account: "123456789012", Name: "f"}}
		j.claim = claimOf(request)
		out := answerOf(string(response), "Unhandled")
		raw, err := j.record(outcome{condition: exhausted, response: out}, time.Unix(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			RequestPayload, ResponsePayload json.RawMessage
			RequestContext                  struct{ FunctionArn string }
		}
		if err := json.Unmarshal(raw, &got); err != nil || got.RequestContext.FunctionArn != arnPrefix+"f:$LATEST" || got.ResponsePayload == nil {
			t.Fatalf("%v in %s", err, raw)
		}
		if text := describe(out); len(text) > maxReason || strings.ContainsAny(text, "\n\r\x00") {
			t.Fatalf("described as %q", text)
		}
	})
}

func TestPaths(t *testing.T) {
	// What is mounted is what the comment of Path says.
	e := New(Config{Store: nil})
	for _, c := range []string{"PUT " + Path, "DELETE " + Path + "/x", "GET " + Path + "/a/b"} {
		method, path, _ := strings.Cut(c, " ")
		w := httptest.NewRecorder()
		e.Handler().ServeHTTP(w, httptest.NewRequest(method, path, nil))
		if w.Code != http.StatusNotFound && w.Code != http.StatusMethodNotAllowed {
			t.Error(fmt.Sprint(c, " is ", w.Code))
		}
	}
}
