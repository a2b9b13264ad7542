// Package environment drives one execution environment: it turns what happens
// (requests at the Runtime and Extensions APIs, process exits, timers, calls
// of the fleet) into events of the pure machine in package lifecycle, and the
// machine's actions into calls on the sandbox and answers to those who wait.
//
// There is no event loop. Whoever brings an event steps the machine under the
// environment's mutex and then does, without the mutex, the writing that came
// of it: the goroutine that reads the runtime's response is the one that wakes
// the invoker, and the invoker is the one that writes the event to the
// runtime's socket. That saves a hop of goroutines in each direction of a warm
// invocation. DESIGN.md has the flow, the invariants and the lock order.
package environment

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/lifecycle"
	"github.com/firn-run/firn/internal/runtimeapi"
	"github.com/firn-run/firn/internal/sandbox"
	"github.com/firn-run/firn/internal/telemetry"
	"github.com/firn-run/firn/internal/telemetryapi"
)

// Errors of Invoke. Both mean that the invocation did not begin, so that the
// caller may take another environment.
var (
	// ErrEnded is returned when the environment is shutting down or gone.
	ErrEnded = errors.New("environment: ended")
	// ErrBusy is returned when an invocation is in flight already: a mistake
	// of the caller, who must wait for OnReady.
	ErrBusy = errors.New("environment: busy")
)

// Credentials are what the function signs its own requests with.
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string
}

// Config describes one environment. It is not changed after Start.
type Config struct {
	ID      string // short and unique in the node
	Version *firn.FunctionVersion
	Backend sandbox.Backend
	// TaskDir and OptDir are host directories with the unpacked code and the
	// merged layers; they stay as they are while the environment lives, as do
	// the following.
	TaskDir, OptDir string
	// RuntimeDir holds var/lang and var/runtime of a managed runtime that runs
	// over the host's libraries; RootDir is an unpacked image, a managed
	// runtime's or the function's own. At most one of them is set; neither is
	// for runtimes that the function brings along.
	RuntimeDir string
	RootDir    string
	Network    sandbox.Network
	// InitializationType is "on-demand" (also when empty) or
	// "provisioned-concurrency".
	InitializationType string
	Credentials        Credentials
	Sink               telemetry.Sink // nil drops everything
	// Segments gets what processes inside send to the X-Ray daemon, one
	// datagram at a time, valid during the call only; nil drops it. Calls for
	// one environment come one at a time; what they hold up is lost.
	Segments func(src *telemetry.Source, datagram []byte)
	Logger   *slog.Logger // nil drops everything
	// FreezeGrace is how long an environment without work runs on before it
	// is frozen. 0 freezes at once; negative never.
	FreezeGrace time.Duration
	// Buffers is the pool of response bodies, shared by the environments of a
	// node; nil makes one of its own.
	Buffers *runtimeapi.Buffers
	// Now is the clock; nil means time.Now.
	Now func() time.Time

	// Claimed says that the one who starts the environment will call Invoke
	// itself: OnReady is then not called before that invocation is over,
	// however early Init is.
	Claimed bool

	// OnReady is called each time that the next Invoke may come: after Init
	// (initFailed says that it failed; the next invocation repeats it), and
	// at the end of each invocation. OnEnded is called once, when the sandbox
	// is gone and nothing of the environment runs; no OnReady follows it.
	// Calls come one at a time, in order, with no lock held: they may call
	// methods of the environment, except that OnEnded must not wait for Done.
	OnReady func(e *Environment, initFailed bool)
	OnEnded func(e *Environment)

	// ClockStopped says for how long in all the clock of time limits has stood
	// still, a stop that lasts included: while a debugger is attached. The
	// limits of Init and of an invocation move by what is added to it after
	// they were set; the deadline that the function was told does not. nil:
	// the clock never stops. It is called with the environment's lock held and
	// must not call back.
	ClockStopped func() time.Duration

	// WrapDial and RefuseSubscriptions put faults between an environment and
	// its subscribers, for the test bench of extensions. WrapDial (nil leaves
	// things as they are) is called once, before any process starts, with the
	// way to the ports that processes inside listen at, and replaces the one
	// to the subscribers' listeners. With RefuseSubscriptions every
	// subscription is answered as one that comes too late.
	WrapDial            func(next telemetryapi.Dialer) telemetryapi.Dialer
	RefuseSubscriptions bool
}

// Invocation is one request to the function.
type Invocation struct {
	RequestID       string // UUID
	ARN             string // as invoked, with the qualifier the caller used
	TraceID         string // value of X-Amzn-Trace-Id, or ""
	ClientContext   string // decoded JSON, or ""
	CognitoIdentity string // JSON, or ""
	// Payload is the event. It must not be changed from the call of Invoke
	// on, not even after its return: a runtime that lost its connection gets
	// it again. Do not pool it.
	Payload []byte
	// LogTail asks for Outcome.LogTail.
	LogTail bool
	// Stream takes the response as it comes; nil has it buffered. Errors are
	// in the Outcome in either case.
	Stream StreamSink
}

// Outcome is what the caller of an invocation gets.
type Outcome struct {
	// Payload is the function's response or the error as JSON. It is valid
	// until Release.
	Payload []byte
	// Streamed says that a response went to Invocation.Stream, or a part of
	// it. Payload is empty then, or the error that ended it.
	Streamed bool
	// FunctionError is "Unhandled" when the function or its environment
	// failed, else "".
	FunctionError string
	// ErrorType is the platform's name of the error ("Sandbox.Timedout"), ""
	// on success and for errors that the runtime posted without one.
	ErrorType string
	// LogTail is the end of the invocation's log, at most
	// firn.LogTailBytes, when it was asked for.
	LogTail []byte
	// ContentType is the one that the runtime gave to its response, "" when
	// it gave none or the payload is not a response.
	ContentType string
	// Release returns the buffer of Payload to its pool. Never nil;
	// idempotent; optional.
	Release func()
}

// Environment is one execution environment. Methods are safe for concurrent
// use.
type Environment struct {
	cfg    Config
	source telemetry.Source
	box    sandbox.Sandbox
	api    *runtimeapi.Server
	hub    *telemetryapi.Hub
	out    *output
	daemon sync.Once // opens the X-Ray daemon's socket
	// metadataToken opens the metadata endpoint to processes inside.
	metadataToken string

	done chan struct{}
	// group holds every goroutine but those of connections (api waits for
	// them). It grows under mu while ended is false, or from its own members.
	group sync.WaitGroup

	// mu is taken before output.mu and any lock of api and box; Handle of
	// the API takes it with no other lock held.
	mu        sync.Mutex
	machine   *lifecycle.Machine
	flight    *flight // the invocation between Invoke and InvocationDone, or nil
	claimed   bool    // the first Invoke is still to come, from who started it
	closing   bool    // no further Invoke is taken
	ended     bool    // the machine has said Ended; events are ignored
	timers    timers
	freezer   freezer
	programs  []*program // started since the last reset
	jobs      []func()   // for the worker, in order
	working   bool       // the worker runs
	notices   []func()   // calls of OnReady and OnEnded, in order
	notifying bool
}

// Start creates the sandbox and begins Init in the background. ctx bounds the
// creation only. An error means that nothing is left behind, and neither
// OnReady nor OnEnded is called.
func Start(ctx context.Context, cfg Config) (*Environment, error) {
	cfg = cfg.withDefaults()
	externals, disabled, err := listExtensions(cfg.OptDir, cfg.RootDir)
	if err != nil {
		return nil, fmt.Errorf("list extensions: %w", err)
	}
	v := cfg.Version
	box, err := cfg.Backend.Create(ctx, sandbox.Spec{
		ID:                 cfg.ID,
		TaskDir:            cfg.TaskDir,
		OptDir:             cfg.OptDir,
		RuntimeDir:         cfg.RuntimeDir,
		RootDir:            cfg.RootDir,
		MemoryMB:           v.MemoryMB,
		EphemeralStorageMB: v.EphemeralStorageMB,
		Network:            cfg.Network,
	})
	if err != nil {
		return nil, fmt.Errorf("create sandbox: %w", err)
	}
	e := &Environment{cfg: cfg, box: box, claimed: cfg.Claimed, metadataToken: uuid.NewString(), done: make(chan struct{})}
	e.source = telemetry.Source{
		Function:    v.Name,
		Version:     v.Version,
		ARN:         v.ARN,
		Environment: cfg.ID,
		LogGroup:    v.LogGroup,
		LogStream:   logStream(cfg.Now(), v),
		MemoryMB:    v.MemoryMB,
		Account:     v.Account,
		Region:      v.Region,
		Role:        v.Role,
		Format:      telemetry.LogFormat{JSON: v.LogFormatJSON, Application: v.ApplicationLogLevel, System: v.SystemLogLevel},
	}
	e.out = &output{sink: cfg.Sink, source: &e.source, now: cfg.Now}
	e.hub = e.newHub()
	if !disabled {
		e.out.hub = e.hub
	}
	e.machine = lifecycle.New(e.machineConfig(externals))
	e.api = runtimeapi.New(runtimeapi.Config{
		Handler:         apiHandler{e},
		FunctionName:    v.Name,
		FunctionVersion: v.Version,
		FunctionHandler: v.Handler,
		AccountID:       v.Account,
		NoExtensions:    disabled,
		MetadataToken:   e.metadataToken,
		Buffers:         cfg.Buffers,
		Logger:          cfg.Logger,
		Now:             cfg.Now,

		AvailabilityZoneID: zoneID(v.Region),
		Alive:              e.runtimeAlive,
	})
	e.group.Go(e.serve)
	e.group.Go(e.watchSandbox)
	if cfg.Segments != nil && v.TracingActive {
		e.hearSegments()
	}
	e.step(lifecycle.Begin{})
	return e, nil
}

func (e *Environment) newHub() *telemetryapi.Hub {
	dial := telemetryapi.Dialer(e.box.Dial)
	if e.cfg.WrapDial != nil {
		dial = e.cfg.WrapDial(dial)
	}
	return telemetryapi.New(telemetryapi.Config{Dial: dial, Source: &e.source, Logger: e.cfg.Logger, Emit: e.out.emit})
}

func (cfg Config) withDefaults() Config {
	if cfg.InitializationType == "" {
		cfg.InitializationType = onDemand
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Logger = cfg.Logger.With("environment", cfg.ID)
	if cfg.Buffers == nil {
		cfg.Buffers = new(runtimeapi.Buffers)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Sink == nil {
		cfg.Sink = nowhere{}
	}
	return cfg
}

// onDemand is the default initialization type.
const onDemand = "on-demand"

func (e *Environment) machineConfig(externals []string) lifecycle.Config {
	v := e.cfg.Version
	limit := firn.OnDemandInitLimit
	if e.cfg.InitializationType != onDemand {
		limit = max(firn.ExtendedInitLimit, v.Timeout)
	}
	return lifecycle.Config{
		InitializationType:  e.cfg.InitializationType,
		InitLimit:           limit,
		Timeout:             v.Timeout,
		Externals:           externals,
		AccountID:           v.Account,
		FunctionName:        v.Name,
		FunctionVersion:     v.Version,
		Handler:             v.Handler,
		InstanceID:          e.source.LogStream,
		InstanceMaxMemoryMB: v.MemoryMB,
	}
}

// ID is the identity given by the Config.
func (e *Environment) ID() string { return e.cfg.ID }

// Version is the function version that the environment runs.
func (e *Environment) Version() *firn.FunctionVersion { return e.cfg.Version }

// Cold reports whether the environment was reset, so that its next invocation
// begins with an init. It may be asked in OnReady.
func (e *Environment) Cold() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.machine.Cold()
}

// Shutdown asks for an orderly end: after the invocation in flight, with
// SIGTERM and the SHUTDOWN event as far as extensions are registered. It does
// not wait.
func (e *Environment) Shutdown() { e.step(lifecycle.Shutdown{}) }

// Abort asks for an end at once; an invocation in flight is answered with
// Sandbox.Failure. It does not wait.
func (e *Environment) Abort() { e.step(lifecycle.Abort{}) }

// Done is closed when the sandbox is gone, every goroutine of the environment
// has ended and OnEnded has returned.
func (e *Environment) Done() <-chan struct{} { return e.done }

// serve runs the API until the sandbox closes its listener.
func (e *Environment) serve() {
	if err := e.api.Serve(e.box.Listener()); err != nil {
		e.cfg.Logger.Error("serve the Runtime API", "error", err)
		e.step(lifecycle.SandboxFailed{Message: "the Runtime API's listener failed"})
	}
}

// watchSandbox turns what happens to the sandbox as a whole into events.
func (e *Environment) watchSandbox() {
	for ev := range e.box.Events() {
		if ev.Kind == sandbox.OutOfMemory {
			e.step(lifecycle.OutOfMemory{})
		}
	}
}

// finish is the end: everything is closed and waited for. It runs in a
// goroutine of its own, begun at the machine's Ended.
func (e *Environment) finish() {
	e.api.Close()
	if err := e.box.Close(); err != nil {
		e.cfg.Logger.Error("close sandbox", "error", err)
	}
	e.group.Wait()
	e.closePrograms()
	e.hub.Close()
	e.notify(func() {
		if e.cfg.OnEnded != nil {
			e.cfg.OnEnded(e)
		}
		close(e.done)
	})
}
