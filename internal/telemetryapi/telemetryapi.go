// Package telemetryapi delivers what happens in an execution environment to
// the extensions that subscribed to it: the Telemetry API (2022-07-01) and the
// older Logs API (2020-08-15), as section 3 of the execution environment's
// specification has them.
//
// A Hub is one environment's. It is told of every platform record and every
// line of output, in order, and encodes each once per form that some
// subscriber wants, into the subscriber's buffer. A goroutine per subscriber
// carries the batches to its listener inside the environment.
package telemetryapi

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/firn-run/firn/internal/lifecycle"
	"github.com/firn-run/firn/internal/telemetry"
)

// API tells the two interfaces apart.
type API int

const (
	// Telemetry is PUT /2022-07-01/telemetry.
	Telemetry API = iota
	// Logs is PUT /2020-08-15/logs.
	Logs
)

// Dialer connects to a TCP port on the environment's own loopback.
type Dialer func(ctx context.Context, port int) (net.Conn, error)

// Config describes a Hub.
type Config struct {
	Dial   Dialer
	Source *telemetry.Source
	Logger *slog.Logger
	// Emit hands a record that the Hub makes (subscriptions, drops) to the
	// other sinks of the environment. It is called with no lock of the Hub
	// held, and must not call the Hub: the Hub has had the record already.
	Emit func(rec lifecycle.Record)
}

// Answer is the reply to a subscription: a status and a JSON body.
type Answer struct {
	Status int
	Body   []byte
}

// Hub delivers to the subscribers of one environment. Methods are safe for
// concurrent use. No method blocks on a subscriber.
type Hub struct {
	cfg Config
}

// New makes a Hub without subscribers; it has no goroutine until there is one.
func New(cfg Config) *Hub { return &Hub{cfg: cfg} }

// BeginInit opens subscriptions and begins the history that later subscribers
// of this init get. EndInit closes both.
func (h *Hub) BeginInit() {}

// EndInit closes subscriptions.
func (h *Hub) EndInit() {}

// Subscribe serves one request of a registered extension. body is the whole
// request body.
func (h *Hub) Subscribe(extension string, api API, body []byte) Answer { return Answer{} }

// Record and Line take what happens, in order; see telemetry.Sink.
func (h *Hub) Record(requestID string, rec lifecycle.Record) {}

// Line takes a line of output.
func (h *Hub) Line(line telemetry.Line) {}

// Pause stops deliveries while the environment is frozen; Resume goes on.
// Neither waits.
func (h *Hub) Pause() {}

// Resume goes on after a thaw: what is due by the clock goes out at once.
func (h *Hub) Resume() {}

// Shutdown sends what is buffered at once, and from now on without delay: the
// processes have little time left.
func (h *Hub) Shutdown() {}

// Reset says that all processes are gone. Connections are closed; what an HTTP
// subscriber has not acknowledged is kept for the same extension's next
// subscription.
func (h *Hub) Reset() {}

// Close ends everything and waits for it, within a moment.
func (h *Hub) Close() {}

// Subscribed says whether anybody is subscribed: when not, callers may skip
// work for the Hub.
func (h *Hub) Subscribed() bool { return false }

// now is replaced by tests in a synctest bubble, where it is not needed.
func now() time.Time { return time.Now() }
