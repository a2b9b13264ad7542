package environment

import (
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/firn-run/firn/internal/lifecycle"
	"github.com/firn-run/firn/internal/telemetryapi"
)

// tellHubLocked gives a record to the subscribers, and tells the Hub of the
// borders that it must know. firn's own records are not for subscribers.
func (o *output) tellHubLocked(requestID string, rec lifecycle.Record) {
	switch r := rec.(type) {
	case lifecycle.Phase:
		if r.Name == lifecycle.PhaseShutdown && o.listening {
			o.hub.Shutdown()
		}
		return
	case lifecycle.InitStart:
		if o.hub == nil {
			return
		}
		o.hub.BeginInit()
		o.listening = true
	}
	if !o.listening {
		return
	}
	o.hub.Record(requestID, rec)
	if _, ok := rec.(lifecycle.InitRuntimeDone); ok {
		// The machine takes no subscription any more. What follows, the
		// init's report first, goes to those there are.
		o.hub.EndInit()
		o.listening = o.hub.Subscribed()
	}
}

// subscribe carries out a subscription. No record and no line comes between
// what the Hub replays and what it will be told.
func (o *output) subscribe(a lifecycle.AcceptSubscription) telemetryapi.Answer {
	api := telemetryapi.Telemetry
	if a.API == lifecycle.LogsAPI {
		api = telemetryapi.Logs
	}
	o.mu.Lock()
	defer o.unlock()
	return o.hub.Subscribe(a.Name, api, a.Body)
}

// subscription is the answer to a subscription, on its way to be written.
type subscription struct {
	call   lifecycle.Call
	answer telemetryapi.Answer
}

func (e *Environment) subscribeLocked(s *step, a lifecycle.AcceptSubscription) {
	if e.cfg.RefuseSubscriptions {
		refusal := lifecycle.RefuseSubscription(a.Call, a.API)
		e.noteLocked(lifecycle.PhaseRefused, refusal.ErrorType+": "+refusal.Message)
		e.writeLocked(s, refusal)
		return
	}
	s.subscription = &subscription{call: a.Call, answer: e.out.subscribe(a)}
	if answer := s.subscription.answer; answer.Status != http.StatusOK {
		e.noteLocked(lifecycle.PhaseRefused, string(answer.Body))
	}
}

// madeRecords are records that the Hub has made and the sink has not had. The
// Hub makes them within our calls, under output.mu, and by itself, without it.
type madeRecords struct {
	any  atomic.Bool
	mu   sync.Mutex
	list []lifecycle.Record
}

// take returns what there is.
func (r *madeRecords) take() []lifecycle.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.list
	r.list = nil
	r.any.Store(false)
	return list
}

// emit takes a record of the Hub. It waits for nobody: whoever holds mu now
// hands the record out before he is through (see unlock).
func (o *output) emit(rec lifecycle.Record) {
	o.made.mu.Lock()
	o.made.list = append(o.made.list, rec)
	o.made.any.Store(true)
	o.made.mu.Unlock()
	if o.mu.TryLock() {
		o.unlock()
	}
}

// unlock releases mu, after the records that the Hub has made meanwhile have
// gone to the sink. One that is made between the look and the release finds mu
// taken, so that there is a second look after it.
func (o *output) unlock() {
	for {
		if o.made.any.Load() {
			for _, rec := range o.made.take() {
				o.tellSinkLocked(o.requestID, rec)
			}
		}
		o.mu.Unlock()
		if !o.made.any.Load() || !o.mu.TryLock() {
			return
		}
	}
}
