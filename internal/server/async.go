package server

import (
	"net/http"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/async"
	"github.com/firn-run/firn/internal/async/deliver"
	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/control"
	"github.com/firn-run/firn/internal/invoke"
	"github.com/firn-run/firn/internal/keyring"
	"github.com/firn-run/firn/internal/metrics"
	"github.com/firn-run/firn/internal/state"
)

// newAsync makes the engine of asynchronous invocations.
func (s *Server) newAsync(store *state.Store, ctl *control.Control, invoker *invoke.Invoker, roles async.Roles, measures *metrics.Store) *async.Engine {
	cfg := &s.cfg
	return async.New(async.Config{
		Store: store, Invoker: invoker, Configs: eventConfigs{ctl}, Roles: roles, Metrics: eventMetrics{measures},
		Logger: cfg.Logger.With("component", "async"), Region: cfg.Region, Account: cfg.Account,
		Endpoints: cfg.Endpoints, Workers: cfg.Concurrency, Pace: cfg.AsyncPace, Now: cfg.Now, NewID: awswire.NewRequestID,
	})
}

// eventConfigs tells the engine what the control plane knows of a function.
type eventConfigs struct{ control *control.Control }

// EventInvoke implements async.Configs.
func (c eventConfigs) EventInvoke(ref firn.FunctionRef) (async.Settings, error) {
	v, _, err := c.control.Resolve(ref)
	if firn.KindOf(err) == firn.ResourceNotFound {
		return async.Settings{}, err
	}
	e := c.control.EventInvoke(ref)
	s := async.Settings{
		MaximumRetryAttempts: e.MaximumRetryAttempts, MaximumEventAge: e.MaximumEventAge,
		OnSuccess: e.OnSuccess, OnFailure: e.OnFailure, DeadLetter: e.DeadLetter,
		Off: c.control.TurnedOff(ref),
	}
	if v != nil {
		s.Role = v.Role
	}
	return s, nil
}

// roleSessions makes credentials that deliver what becomes of events.
type roleSessions struct {
	keys *keyring.Keyring
	now  func() time.Time
}

// deliveryCredentials is how long credentials for a delivery are good.
const deliveryCredentials = 15 * time.Minute

// Credentials implements async.Roles.
func (r roleSessions) Credentials(role, function string) (deliver.Credentials, error) {
	c, err := r.keys.Issue(role, function, r.now().Add(deliveryCredentials))
	if err != nil {
		return deliver.Credentials{}, err
	}
	return deliver.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.SessionToken}, nil
}

// eventMetrics counts events in the metrics of AWS/Lambda.
type eventMetrics struct{ store *metrics.Store }

func (m eventMetrics) count(measure metrics.Measure, arn string) {
	m.store.Observe(measure, metrics.Of{InvokedARN: arn}, 1)
}

// EventReceived implements async.Metrics.
func (m eventMetrics) EventReceived(arn string) { m.count(metrics.AsyncEventsReceived, arn) }

// EventAge implements async.Metrics.
func (m eventMetrics) EventAge(arn string, age time.Duration) {
	m.store.Observe(metrics.AsyncEventAge, metrics.Of{InvokedARN: arn}, metrics.Milliseconds(age))
}

// EventDropped implements async.Metrics.
func (m eventMetrics) EventDropped(arn string) { m.count(metrics.AsyncEventsDropped, arn) }

// DestinationFailed implements async.Metrics.
func (m eventMetrics) DestinationFailed(arn string) {
	m.count(metrics.DestinationDeliveryFailures, arn)
}

// DeadLetterFailed implements async.Metrics.
func (m eventMetrics) DeadLetterFailed(arn string) { m.count(metrics.DeadLetterErrors, arn) }

// serveAsync serves the engine's own endpoints to whoever has signed, and
// changes to the account's root user.
func (s *Server) serveAsync(engine *async.Engine, keys *keyring.Keyring) http.Handler {
	handler := engine.Handler()
	return awswire.Authenticated(s.wire("lambda", keys), func(w http.ResponseWriter, r *awswire.Request) error {
		if !r.Identity.Root && r.HTTP.Method != http.MethodGet {
			return firn.Faultf(firn.AccessDenied, "Only the account's root user may change what waits.")
		}
		handler.ServeHTTP(w, r.HTTP)
		return nil
	})
}
