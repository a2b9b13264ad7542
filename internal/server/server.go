// Package server puts firn together: it is the one place that knows every
// part, names a concrete sandbox, and decides in which order things start and
// end. The program is a value: New checks a Config and touches nothing, Run
// starts, serves until its context ends, and returns when everything it
// started has ended.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/environment"
	"github.com/firn-run/firn/internal/gateway"
	"github.com/firn-run/firn/internal/keyring"
	"github.com/firn-run/firn/internal/logs"
	"github.com/firn-run/firn/internal/sandbox"
	"github.com/firn-run/firn/internal/telemetry"
)

// Auth says whether requests must be signed.
type Auth string

const (
	// AuthSigV4 verifies the signature of every request.
	AuthSigV4 Auth = "sigv4"
	// AuthNone serves everybody as the account's root user; on loopback only.
	AuthNone Auth = "none"
)

// Config is everything that can be chosen about a node. Zero values are
// replaced by the defaults named here.
type Config struct {
	Listen  string // HOST:PORT; default DefaultListen
	DataDir string // no default
	// RuntimesOf is the data directory whose managed runtimes the node uses;
	// default DataDir. Several nodes may use the same.
	RuntimesOf string
	// PullRuntimes has functions wait, Pending, while a managed runtime that is
	// missing is pulled, or else built; without it they are refused.
	// RuntimeRegistry has AWS's base images then; default AWS's own.
	PullRuntimes    bool
	RuntimeRegistry string
	Auth            Auth   // default AuthSigV4
	Sandbox         string // "linux" or "process"; default: linux on Linux, else process
	Region          string // default "us-east-1"
	Account         string // default "123456789012"

	Network     sandbox.Network // outbound policy of functions; default internet
	InitPath    string          // the sandbox's init program, "" for the one inside firn
	PoolSize    int             // prepared sandboxes kept; -1 for none; default DefaultPool
	Concurrency int             // the account's limit; default 1,000
	// MaxEnvironments bounds environments, idle ones included; default twice
	// the concurrency.
	MaxEnvironments int
	IdleTimeout     time.Duration // of an environment; default 10 minutes
	MaxAge          time.Duration // of an environment; default 2 hours
	// ImageIdle is how long a version of an image function may go without an
	// invocation before it becomes Inactive; default 14 days, negative never.
	ImageIdle   time.Duration
	FreezeGrace time.Duration // default DefaultFreezeGrace; negative never freezes
	// DrainTimeout is how long invocations in flight may take to finish after
	// Run's context has ended; default 30 seconds.
	DrainTimeout time.Duration

	Sink telemetry.Sink // what environments say, besides the log; default nowhere
	// LogBytes bounds the log store on disk; default 2 GiB.
	LogBytes int64
	// MetricsListen is an address, HOST:PORT, at which /metrics is served to
	// everybody; "" serves it at Listen, to this host only.
	MetricsListen string
	// OTLPEndpoint is the base URL of an OpenTelemetry collector that gets the
	// spans of sampled traces by OTLP over HTTP; "" exports none. OTLPHeaders
	// go with each request.
	OTLPEndpoint string
	OTLPHeaders  map[string]string
	// URLDomain is a domain of the operator's own for function URLs, NAME or
	// http[s]://NAME[:PORT]; "" serves them below localhost only.
	URLDomain string
	// Endpoints are the base URLs of the services that receive what becomes of
	// asynchronous invocations: "sqs", "sns", "events", "s3". Destinations in
	// a service without one cannot be reached.
	Endpoints map[string]string
	// AsyncPace multiplies the pauses between the attempts at asynchronous
	// invocations, which are AWS's; for test benches. Default 1.
	AsyncPace float64
	// StreamBurst bytes of a streamed answer go out as fast as they come, what
	// follows at StreamRate bytes per second; negative is no limit. Defaults
	// are AWS's: 6 MiB, then 2 MiB per second.
	StreamBurst, StreamRate int64
	// Permit decides what execution roles may do with logs; nil allows all.
	Permit  logs.Permit
	Version string // of the program, for the metrics

	// Environment may change the configuration of each environment before it
	// starts: faults, for test benches. Default: nobody does.
	Environment func(*environment.Config)
	Logger      *slog.Logger // default discards
	Now         func() time.Time
}

// Defaults of Config.
const (
	DefaultListen      = "127.0.0.1:4580"
	DefaultRegion      = "us-east-1"
	DefaultAccount     = "123456789012" // the account of AWS's own examples
	DefaultPool        = 4
	DefaultFreezeGrace = 5 * time.Millisecond
)

// Server is one node.
type Server struct {
	cfg       Config
	ready     chan struct{}
	hurry     chan struct{} // closed by Hurry
	hurryOnce sync.Once

	// Valid once ready is closed.
	addr string
	root keyring.Credentials
}

// New checks cfg and fills in its defaults.
func New(cfg Config) (*Server, error) {
	cfg = withDefaults(cfg)
	if cfg.DataDir == "" {
		return nil, errors.New("no data directory given")
	}
	if cfg.Auth != AuthSigV4 && cfg.Auth != AuthNone {
		return nil, fmt.Errorf("unknown authentication %q: choose %s or %s", cfg.Auth, AuthSigV4, AuthNone)
	}
	if cfg.Network != sandbox.NetworkInternet && cfg.Network != sandbox.NetworkNone {
		return nil, fmt.Errorf("unknown network policy %q: choose %s or %s", cfg.Network, sandbox.NetworkInternet, sandbox.NetworkNone)
	}
	host, _, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen address %q: %w", cfg.Listen, err)
	}
	if cfg.Auth == AuthNone && !isLoopback(host) {
		return nil, fmt.Errorf("refusing to listen on %s without authentication: anybody who reaches it could run code here. Use a loopback address, or --auth %s", cfg.Listen, AuthSigV4)
	}
	if err := gateway.CheckDomain(cfg.URLDomain); err != nil {
		return nil, err
	}
	return &Server{cfg: cfg, ready: make(chan struct{}), hurry: make(chan struct{})}, nil
}

func withDefaults(cfg Config) Config {
	def(&cfg.Listen, DefaultListen)
	def(&cfg.RuntimesOf, cfg.DataDir)
	def(&cfg.Auth, AuthSigV4)
	def(&cfg.Sandbox, DefaultSandbox())
	def(&cfg.Region, DefaultRegion)
	def(&cfg.Account, DefaultAccount)
	def(&cfg.Network, sandbox.NetworkInternet)
	def(&cfg.PoolSize, DefaultPool)
	def(&cfg.Concurrency, firn.DefaultAccountConcurrency)
	def(&cfg.MaxEnvironments, 2*cfg.Concurrency)
	def(&cfg.IdleTimeout, 10*time.Minute)
	def(&cfg.MaxAge, 2*time.Hour)
	def(&cfg.FreezeGrace, DefaultFreezeGrace)
	def(&cfg.DrainTimeout, 30*time.Second)
	def(&cfg.Logger, slog.New(slog.DiscardHandler))
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return cfg
}

// def replaces a zero value by its default.
func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// DefaultSandbox is the backend used when none is named.
func DefaultSandbox() string {
	if runtime.GOOS == "linux" {
		return "linux"
	}
	return "process"
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// Ready is closed when the node serves. If Run fails before, it never is.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Endpoint is the base URL of the node; valid once Ready.
func (s *Server) Endpoint() string { return "http://" + s.addr }

// Credentials are the root user's; valid once Ready.
func (s *Server) Credentials() keyring.Credentials { return s.root }

// Config is the configuration in force, with its defaults.
func (s *Server) Config() Config { return s.cfg }

// Hurry cuts the drain short: what still runs once Run's context has ended is
// told and ended now. It returns at once, and Run still leaves nothing behind.
func (s *Server) Hurry() { s.hurryOnce.Do(func() { close(s.hurry) }) }

// Run serves until ctx ends. Invocations in flight then have DrainTimeout to
// finish; what remains is told and ended. Nothing that Run started outlives
// it: no process, mount, control group or temporary file.
func (s *Server) Run(ctx context.Context) error {
	var undo cleanup
	defer undo.run(s.cfg.Logger)
	node, err := s.assemble(ctx, &undo)
	if err != nil {
		return err
	}
	inner, err := net.Listen("tcp", s.cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	listener := limitListener(inner, maxConnections)
	undo.add("listener", func() error { return ignoreClosed(listener.Close()) })
	s.addr = listener.Addr().String()
	if s.cfg.MetricsListen != "" {
		scrapes, err := net.Listen("tcp", s.cfg.MetricsListen)
		if err != nil {
			return fmt.Errorf("listen for scrapes of metrics: %w", err)
		}
		undo.add("metrics listener", func() error { return ignoreClosed(scrapes.Close()) })
		node.background = append(node.background, func(ctx context.Context) error { return s.serveScrapes(ctx, scrapes, node.metrics) })
	}
	if err := s.publishEndpoint(&undo); err != nil {
		return err
	}
	if err := node.control.Load(ctx); err != nil {
		return err
	}
	if err := node.logs.Load(ctx); err != nil {
		return err
	}
	if err := node.async.Load(ctx); err != nil {
		return err
	}
	if err := node.registry.Load(ctx); err != nil {
		return err
	}
	node.control.Sweep(ctx)
	return s.serve(ctx, node, listener)
}

// tellTime is how long requests may take, once all invocations have ended, to
// be sent and answered: a caller has to read that its invocation was ended.
const tellTime = 5 * time.Second

// serve runs the HTTP server and the background work until ctx ends or one of
// them fails, and then ends them in order.
func (s *Server) serve(ctx context.Context, n *node, listener net.Listener) error {
	front := awswire.NewServer(n.handler, s.cfg.Logger)
	group, working := errgroup.WithContext(context.WithoutCancel(ctx))
	background, stop := context.WithCancel(working)
	defer stop()
	for _, run := range n.background {
		group.Go(func() error { return run(background) })
	}
	group.Go(func() error {
		if err := front.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve: %w", err)
		}
		return nil
	})
	close(s.ready)

	select {
	case <-ctx.Done():
	case <-working.Done(): // one of them failed
	}
	s.drain(context.WithoutCancel(ctx), n, front)
	stop()
	return group.Wait()
}

// drain ends invocations and requests: in their own time, at the latest after
// DrainTimeout, or when Hurry is called.
func (s *Server) drain(ctx context.Context, n *node, front *http.Server) {
	n.async.Stop() // what waits does so until the next start
	drain, cancel := context.WithTimeout(ctx, s.cfg.DrainTimeout)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel()
	watch.Go(func() {
		select {
		case <-s.hurry:
			cancel()
		case <-drain.Done():
		}
	})
	// No more requests; those that are here end as their invocations end.
	telling, done := context.WithCancel(ctx)
	defer done()
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		if err := front.Shutdown(telling); err != nil {
			front.Close()
		}
	}()
	working := n.fleet.Stats().InFlight
	if err := n.fleet.Close(drain); err != nil && working > 0 {
		s.cfg.Logger.Warn("invocations were ended before they had finished", "at most", working, "drain timeout", s.cfg.DrainTimeout)
	}
	// After a moment for the answers to go out, what is left are clients that
	// do not read, or do not send.
	moment := time.AfterFunc(tellTime, done)
	defer moment.Stop()
	<-finished
}

// endpointFile tells other commands (firn env) where the node of a data
// directory listens.
const endpointFile = "endpoint"

func (s *Server) publishEndpoint(undo *cleanup) error {
	path := filepath.Join(s.cfg.DataDir, endpointFile)
	if err := os.WriteFile(path, []byte(s.Endpoint()+"\n"), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	undo.add("endpoint file", func() error { return os.Remove(path) })
	return nil
}

// ReadEndpoint returns the base URL of the node that serves a data directory.
func ReadEndpoint(dataDir string) (string, error) {
	raw, err := os.ReadFile(filepath.Join(dataDir, endpointFile))
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("no firn is running on %s; start one with: firn up --data %s", dataDir, dataDir)
	}
	if err != nil {
		return "", err
	}
	return string(raw[:len(raw)-1]), nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// cleanup is a stack of things to end, the newest first.
type cleanup struct {
	steps []step
}

type step struct {
	what string
	end  func() error
}

func (c *cleanup) add(what string, end func() error) {
	c.steps = append(c.steps, step{what, end})
}

func (c *cleanup) run(log *slog.Logger) {
	for i := len(c.steps) - 1; i >= 0; i-- {
		if err := c.steps[i].end(); err != nil {
			log.Error("could not end cleanly", "what", c.steps[i].what, "error", err)
		}
	}
	c.steps = nil
}
