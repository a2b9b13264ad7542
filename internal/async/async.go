// Package async invokes functions whose callers do not wait.
//
// Accept returns when the event is on the disk (package queue); from then on
// the event is the engine's, over restarts and crashes, until its function has
// processed it or it was given up. It is invoked at least once, always under
// the request id of its acceptance.
//
// What becomes of an attempt follows AWS's description ("How Lambda handles
// errors and retries with asynchronous invocation"):
//
//	function error      again after 1 minute, then after 2, as often as the
//	                    function's configuration allows (twice by default)
//	throttle, failure   put back, for 1 second and twice as long each time up
//	of the service      to 5 minutes; that is no attempt
//	too old             given up: MaximumEventAge, 6 hours by default
//	reserved            given up at once
//	concurrency is 0
//
// Successes and what is given up go to the function's destinations and to its
// dead-letter queue, in AWS's formats. An event that waits holds a row of the
// queue and nothing else: no goroutine, no environment.
//
// Each function (with its qualifier) is a lane of the queue, and lanes do not
// wait for each other: whoever has many events or slow ones gets a share of
// the workers that leaves some for everybody else, and a throttled function is
// asked less and less often until it answers. pace.go has the rules.
package async

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/async/deliver"
	"github.com/firn-run/firn/internal/invoke"
	"github.com/firn-run/firn/internal/queue"
	"github.com/firn-run/firn/internal/state"
)

// Invoker runs functions (package invoke).
type Invoker interface {
	// Check says whether a request could be invoked now.
	Check(*invoke.Request) error
	Invoke(context.Context, *invoke.Request) (*invoke.Response, error)
}

// Settings is how a function is invoked asynchronously.
type Settings struct {
	MaximumRetryAttempts int           // 0 to 2
	MaximumEventAge      time.Duration // 60 s to 6 h
	// OnSuccess and OnFailure are the ARNs of destinations, DeadLetter that
	// of a queue or topic; empty for none.
	OnSuccess, OnFailure, DeadLetter string
	Role                             string // ARN of the execution role, which delivers
	// Off says that the function's reserved concurrency is 0.
	Off bool
}

// DefaultSettings is what holds for a function that has none of its own.
func DefaultSettings() Settings {
	return Settings{MaximumRetryAttempts: 2, MaximumEventAge: 6 * time.Hour}
}

// Configs tells the settings of a function (package control). ref is complete;
// its Qualifier is as the caller of the function wrote it, or empty. It
// answers from memory. An error says that the function, or what its qualifier
// names, is gone.
type Configs interface {
	EventInvoke(ref firn.FunctionRef) (Settings, error)
}

// Roles makes credentials of a session of a function's execution role.
type Roles interface {
	Credentials(role, function string) (deliver.Credentials, error)
}

// Metrics counts what happens; see the metrics of these names at AWS.
// invokedARN has the qualifier that the caller used.
type Metrics interface {
	EventReceived(invokedARN string)
	EventAge(invokedARN string, age time.Duration)
	EventDropped(invokedARN string)
	DestinationFailed(invokedARN string)
	DeadLetterFailed(invokedARN string)
}

// Config is what an Engine is made of. Endpoints, Client, Workers, Pace, Now
// and Logger may be left out.
type Config struct {
	Store   *state.Store
	Invoker Invoker
	Configs Configs
	Roles   Roles
	Metrics Metrics
	Logger  *slog.Logger

	Region, Account string
	// Endpoints are the base URLs of the services that destinations are in:
	// "sqs", "sns", "events", "s3". A destination in another one fails.
	Endpoints map[string]string
	// Client sends to destinations; default a client of its own.
	Client *http.Client
	// Workers is how many events are invoked at once at most; default 1,000,
	// an account's concurrency.
	Workers int
	// Pace multiplies the pauses between attempts; default 1.
	Pace float64
	Now  func() time.Time
	// NewID makes request ids.
	NewID func() string
}

// Engine accepts events and works on them while Run runs.
type Engine struct {
	cfg    Config
	queue  *queue.Queue
	sender deliver.Sender
	pacer  *pacer

	stopping context.Context
	stop     context.CancelFunc
}

// New returns an engine; Load must be called before Run.
func New(cfg Config) *Engine {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Workers <= 0 {
		cfg.Workers = firn.DefaultAccountConcurrency
	}
	if cfg.Pace <= 0 {
		cfg.Pace = 1
	}
	if cfg.Client == nil {
		cfg.Client = deliver.NewClient()
	}
	e := &Engine{
		cfg:    cfg,
		queue:  queue.New(queue.Config{Store: cfg.Store, Name: "async", Now: cfg.Now, Logger: cfg.Logger}),
		sender: deliver.Sender{Client: cfg.Client, Endpoints: cfg.Endpoints, Region: cfg.Region, Now: cfg.Now},
	}
	e.stopping, e.stop = context.WithCancel(context.Background())
	e.pacer = newPacer(cfg.Workers, cfg.Pace, cfg.Now)
	return e
}

// Load reads what waits since the last run.
func (e *Engine) Load(ctx context.Context) error {
	if err := e.queue.Load(ctx); err != nil {
		return fmt.Errorf("load asynchronous events: %w", err)
	}
	return nil
}

// event is the note of a queued item: what is known of an event besides its
// payload. The names are those on the disk.
type event struct {
	RequestID     string `json:"id"`
	Qualifier     string `json:"qualifier,omitempty"` // as the caller wrote it
	Accepted      int64  `json:"accepted"`            // milliseconds since 1970
	ClientContext string `json:"context,omitempty"`
	Trace         string `json:"trace,omitempty"`

	Attempts int    `json:"attempts,omitempty"` // that were made
	Waits    int    `json:"waits,omitempty"`    // times put back since the last attempt
	Last     string `json:"last,omitempty"`     // why it is here still
	Status   int    `json:"status,omitempty"`   // of the last answer that was no function's
}

func (ev *event) accepted() time.Time { return time.UnixMilli(ev.Accepted) }

// ref completes a reference with this node's region and account.
func (e *Engine) ref(ref firn.FunctionRef) firn.FunctionRef {
	if ref.Region == "" {
		ref.Region = e.cfg.Region
	}
	if ref.Account == "" {
		ref.Account = e.cfg.Account
	}
	return ref
}

// qualifiedARN is the ARN of what was invoked, always with a qualifier. It is
// also the name of the lane.
func qualifiedARN(ref firn.FunctionRef) string {
	qualifier := ref.Qualifier
	if qualifier == "" {
		qualifier = firn.Latest
	}
	return firn.FunctionARN(ref.Region, ref.Account, ref.Name) + ":" + qualifier
}

// invokedARN is the ARN as the caller wrote it.
func invokedARN(ref firn.FunctionRef) string {
	arn := firn.FunctionARN(ref.Region, ref.Account, ref.Name)
	if ref.Qualifier != "" {
		arn += ":" + ref.Qualifier
	}
	return arn
}

// Accept stores an event, and returns when it is on the disk. Errors are
// firn.Faults in AWS's words, where the event is the reason.
func (e *Engine) Accept(ctx context.Context, req *invoke.Request) error {
	if len(req.Payload) > firn.MaxEventPayloadBytes {
		return firn.Faultf(firn.RequestEntityTooLarge, "%d byte payload is too large for the Event invocation type (limit %d bytes)", len(req.Payload), firn.MaxEventPayloadBytes)
	}
	if err := e.cfg.Invoker.Check(req); err != nil {
		return err
	}
	ref := e.ref(req.Function)
	now := e.cfg.Now()
	note, err := json.Marshal(event{
		RequestID: req.RequestID, Qualifier: ref.Qualifier, Accepted: now.UnixMilli(),
		ClientContext: req.ClientContext, Trace: req.TraceHeader,
	})
	if err != nil {
		return fmt.Errorf("accept event %s: %w", req.RequestID, err)
	}
	if _, err := e.queue.Put(ctx, queue.Item{Lane: qualifiedARN(ref), Due: now, Note: note, Body: req.Payload}); err != nil {
		return acceptFault(ctx, err)
	}
	e.cfg.Metrics.EventReceived(invokedARN(ref))
	return nil
}

// acceptFault tells a caller that its event was not accepted.
func acceptFault(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return err
	case errors.Is(err, queue.ErrClosed), errors.Is(err, state.ErrClosed):
		return &firn.Fault{Kind: firn.ServiceUnavailable, Op: "accept event", Message: "firn is shutting down; the event was not accepted. Try again.", Type: "Service", Cause: err}
	case errors.Is(err, state.ErrFull):
		return &firn.Fault{Kind: firn.Service, Op: "accept event", Message: "The event was not accepted: no space is left for it on firn's disk.", Type: "Service", Cause: err}
	}
	return &firn.Fault{Kind: firn.Service, Op: "accept event", Message: "An error occurred and the event was not accepted.", Type: "Service", Cause: err}
}

// Stop has the engine begin no more attempts; those that run go on. Events are
// still accepted.
func (e *Engine) Stop() { e.stop() }

// claimLease is far longer than an attempt with all that follows may take.
const claimLease = 2 * time.Hour

// Run works on events until ctx ends, waits for the attempts that run, and
// writes what became of them.
func (e *Engine) Run(ctx context.Context) error {
	writing, written := context.WithCancel(context.WithoutCancel(ctx))
	var writers sync.WaitGroup
	writers.Go(func() { e.queue.Run(writing) })
	defer writers.Wait()
	defer written()

	claiming, enough := context.WithCancel(ctx)
	defer enough()
	defer context.AfterFunc(e.stopping, enough)()
	e.dispatch(ctx, claiming)
	<-ctx.Done() // events are accepted until then
	return nil
}

// dispatch hands claimed events to workers, each a goroutine of its own while
// it works, until claiming ends and they are done.
func (e *Engine) dispatch(ctx, claiming context.Context) {
	var workers sync.WaitGroup
	defer workers.Wait()
	slots := make(chan struct{}, e.cfg.Workers)
	for {
		select {
		case slots <- struct{}{}:
		case <-claiming.Done():
			return
		}
		claim, err := e.queue.Claim(claiming, e.pacer.gate, claimLease)
		if claiming.Err() != nil {
			if claim != nil {
				e.settled(claim, e.queue.Return(claim, claim.Due, nil))
			}
			return
		}
		if err != nil {
			e.cfg.Logger.Error("queued events cannot be read; it is tried again", "error", err)
			<-slots
			pause(claiming, time.Second)
			continue
		}
		e.pacer.began(claim.Lane)
		workers.Go(func() {
			defer func() { <-slots }()
			e.work(ctx, claim)
		})
	}
}

// pause waits, at most until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// settled reports what should not happen: an attempt outlived its lease.
func (e *Engine) settled(c *queue.Claim, err error) {
	if err != nil {
		e.cfg.Logger.Error("an event may be invoked once more than it should", "lane", c.Lane, "error", err)
	}
}
