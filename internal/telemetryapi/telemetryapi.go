// Package telemetryapi delivers what happens in an execution environment to
// the extensions that subscribed to it: the Telemetry API (2022-07-01) and the
// older Logs API (2020-08-15), as sections 3 and 4 of the execution
// environment's specification have them.
//
// A Hub is one environment's. It is told of every platform record and every
// line of output, in order, and encodes each once per form that some
// subscriber wants, into the subscriber's open batch. A batch that is full, or
// old enough, goes to the subscriber's deliverer: one goroutine that carries
// batches to a listener inside the environment, over HTTP or TCP, again and
// again until the listener has taken them. What a slow listener leaves behind
// is bounded: beyond the bound records are dropped and counted, and the
// subscriber reads platform.logsDropped in the place of the gap.
//
// Listeners are hostile input: whatever they answer, or do not answer, costs
// the stated buffers and one goroutine, and never time of the function.
// DESIGN.md has the flow, the bounds and the invariants.
package telemetryapi

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"

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

// The bounds of a Hub.
const (
	// MaxSubscriptions is how many subscriptions an environment may have, and
	// MaxPerExtension how many of them one extension.
	MaxSubscriptions = 16
	MaxPerExtension  = 4
	// queueFactor times maxBytes is what waits for one subscriber: 2 MiB by
	// default.
	queueFactor = 8
	// maxHubBytes bounds what waits for all subscribers together.
	maxHubBytes = 32 << 20
)

// Dialer connects to a TCP port on the environment's own loopback. It must
// give up when its context ends.
type Dialer func(ctx context.Context, port int) (net.Conn, error)

// Config describes a Hub.
type Config struct {
	Dial   Dialer
	Source *telemetry.Source
	Logger *slog.Logger
	// Emit hands a record that the Hub makes (subscriptions, drops) to the
	// other sinks of the environment. It is called with no lock of the Hub
	// held, from Subscribe and from deliverers (which Close waits for), and
	// must not call the Hub: the Hub has had the record already.
	Emit func(rec lifecycle.Record)
}

// Answer is the reply to a subscription: a status and a JSON body.
type Answer struct {
	Status int
	Body   []byte
}

// Stats counts what a Hub has done since it was made.
type Stats struct {
	Subscriptions int   // now
	QueuedBytes   int   // now, over all subscriptions
	Delivered     int64 // records: acknowledged (HTTP) or written (TCP)
	Dropped       int64 // records that a subscriber was too slow for
}

// Hub delivers to the subscribers of one environment. Methods are safe for
// concurrent use. No method but Close waits for a subscriber.
type Hub struct {
	cfg Config
	log *slog.Logger

	// active is false when nobody listens and nobody can subscribe: then
	// Record and Line return at once.
	active atomic.Bool
	// deliverers are waited for by Close.
	deliverers sync.WaitGroup

	// mu guards everything below, and the state of subscriptions and
	// deliverers. It is never held over I/O or a call of Emit.
	mu       sync.Mutex
	open     bool // subscriptions are accepted, history is written
	paused   bool
	pauses   int // counts pauses, so that a dial knows of one
	shutdown bool
	closed   bool
	history  history
	subs     []*subscription
	// kept are HTTP subscriptions of before a Reset with what was not
	// acknowledged; they wait for their extension to come back.
	kept   []*subscription
	queued int // bytes, over subs and kept
	enc    encoder
	stats  Stats
}

// New makes a Hub without subscribers; it has no goroutine until there is one.
func New(cfg Config) *Hub {
	h := &Hub{cfg: cfg, log: cfg.Logger}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if cfg.Source != nil {
		h.enc.objects = cfg.Source.Format.JSON
	}
	return h
}
