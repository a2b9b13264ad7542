package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/async"
	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/awswire/cors"
	"github.com/firn-run/firn/internal/blob"
	"github.com/firn-run/firn/internal/control"
	"github.com/firn-run/firn/internal/environment"
	"github.com/firn-run/firn/internal/fleet"
	"github.com/firn-run/firn/internal/gateway"
	"github.com/firn-run/firn/internal/identity"
	"github.com/firn-run/firn/internal/image"
	"github.com/firn-run/firn/internal/invoke"
	"github.com/firn-run/firn/internal/keyring"
	"github.com/firn-run/firn/internal/logs"
	"github.com/firn-run/firn/internal/registry"
	"github.com/firn-run/firn/internal/runtimeapi"
	"github.com/firn-run/firn/internal/runtimes"
	"github.com/firn-run/firn/internal/sandbox"
	"github.com/firn-run/firn/internal/state"
	"github.com/firn-run/firn/internal/telemetry"
	"github.com/firn-run/firn/internal/trace"
)

// node holds the parts that serve needs again.
type node struct {
	control  *control.Control
	logs     *logs.Service
	fleet    *fleet.Fleet
	async    *async.Engine
	urls     *gateway.Gateway
	registry *registry.Registry
	handler  http.Handler
	metrics  http.Handler // for scrapes
	// background is what runs while the node serves.
	background []func(context.Context) error
}

// assemble makes every part, lowest first; undo ends them in reverse.
func (s *Server) assemble(ctx context.Context, undo *cleanup) (*node, error) {
	cfg := &s.cfg
	dir, err := state.OpenDir(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	undo.add("data directory", dir.Close)
	keys, err := keyring.Open(keyring.Config{Path: dir.KeyFile(), Account: cfg.Account, MustExist: !dir.Fresh()})
	if err != nil {
		return nil, err
	}
	s.root = keys.Root()
	store, err := state.Open(ctx, state.Config{Dir: dir, Logger: cfg.Logger.With("component", "state")})
	if err != nil {
		return nil, err
	}
	undo.add("state", store.Close)
	blobs, err := blob.Open(dir.Blobs())
	if err != nil {
		return nil, err
	}
	containerImages, err := s.openImages(dir)
	if err != nil {
		return nil, err
	}
	images, err := image.Open(image.Config{
		Dir: filepath.Join(dir.Path(), "roots"), Blobs: blobs, Images: containerImages, Logger: cfg.Logger.With("component", "image"),
	})
	if err != nil {
		return nil, err
	}
	undo.add("images", images.Close)
	managed, err := runtimes.Open(RuntimesDir(cfg.RuntimesOf), "firn runtime build NAME --data "+cfg.RuntimesOf)
	if err != nil {
		return nil, err
	}
	undo.add("runtimes", managed.Close)
	backend, err := s.openBackend(ctx)
	if err != nil {
		return nil, err
	}
	undo.add("sandboxes", backend.Close)

	seen, err := s.observe(dir, undo)
	if err != nil {
		return nil, err
	}
	maker := &maker{cfg: cfg, backend: backend, keys: keys, buffers: new(runtimeapi.Buffers), sink: seen.sink, segments: seen.traces.Segments}
	flt := fleet.New(fleet.Config{
		Start: maker.start, Roots: images, Runtimes: managedRuntimes{managed}, Images: roots{images},
		AccountConcurrency: cfg.Concurrency, MaxEnvironments: cfg.MaxEnvironments,
		IdleTimeout: cfg.IdleTimeout, MaxAge: cfg.MaxAge, Now: cfg.Now, Used: countUse(seen.metrics),
	})
	seen.aside.fleet.Store(flt)
	undo.add("fleet", func() error {
		ended, cancel := context.WithCancel(context.WithoutCancel(ctx))
		cancel() // only reached with invocations in flight when start-up failed
		flt.Close(ended)
		return nil
	})
	n := &node{fleet: flt}
	n.registry = s.newRegistry(store, containerImages, keys, func() []firn.Digest { return n.control.ImagesInUse() })
	ctl := control.New(control.Config{
		Store: store, Blobs: blobs, Images: images, Sealer: keys, Retirer: flt,
		Runtimes: s.runtimesOf(managed), Registry: containers{n.registry, images}, ImageIdle: cfg.ImageIdle,
		Logger: cfg.Logger.With("component", "control"),
		Region: cfg.Region, Account: cfg.Account, Architecture: hostArchitecture(),
		Concurrency: cfg.Concurrency, Endpoint: s.Endpoint, Now: cfg.Now,
		Effects: control.Effects{
			FunctionURL: func(id string) string { return n.urls.URLFor(id) },
			Limits:      limits{flt},
			Recursion:   true,
			Async:       true,
		},
	})
	invoker := invoke.New(invoke.Config{
		Resolver: ctl, Fleet: flt, Now: cfg.Now, StreamBurst: cfg.StreamBurst, StreamRate: cfg.StreamRate,
		RecursionAllowed: func(v *firn.FunctionVersion) bool { return ctl.RecursionAllowed(v.Name) },
		Looped:           countLoop(seen.metrics),
		Throttled:        seen.metrics.Throttled, Received: seen.traces.Received, Finished: seen.traces.Finished,
	})
	ctl.SetInvoker(invoker)
	n.async = s.newAsync(store, ctl, invoker, roleSessions{keys, cfg.Now}, seen.metrics)
	ctl.SetAcceptor(n.async)
	n.control = ctl
	if n.urls, err = s.serveURLs(ctl, invoker, s.wire("lambda", keys), seen.metrics); err != nil {
		return nil, err
	}
	n.logs = logs.New(logs.Config{
		Store: seen.lines, State: store, Functions: functions{ctl, n.async}, Published: seen.metrics.EMF, Logger: cfg.Logger.With("component", "logs"),
		Region: cfg.Region, Account: cfg.Account, Now: cfg.Now,
	})
	n.metrics = s.exposition(seen, n)
	n.background = []func(context.Context) error{ctl.Run, n.async.Run, n.logs.Run, seen.metrics.Run, n.registry.Run}
	n.handler = s.routes(n, seen, keys)
	return n, nil
}

// RuntimesDir is where a data directory has its managed runtimes.
func RuntimesDir(dataDir string) string { return filepath.Join(dataDir, "runtimes") }

// routes is what the listener serves: function URLs, the APIs of AWS, and
// firn's own.
func (s *Server) routes(n *node, seen *observatory, keys *keyring.Keyring) http.Handler {
	lambda := awswire.New(s.wire("lambda", keys))
	n.control.Mount(lambda)
	lines := awswire.NewService(s.wire("logs", keys), awswire.CloudWatchLogs())
	n.logs.Mount(lines)
	measures := awswire.NewService(s.wire("monitoring", keys), awswire.CloudWatch())
	seen.metrics.Mount(measures)
	callers := awswire.NewService(s.wire("sts", keys), awswire.STS())
	identity.Mount(callers)
	api := awswire.FrontDoor(lambda, lines, measures, s.serveRegistry(n.registry, keys), callers)
	if s.cfg.Auth == AuthSigV4 {
		api = cors.Handler(api)
	}
	images := n.registry.Handler()
	serveTraces := seen.traces.Handler()
	traces := awswire.Authenticated(s.wire("lambda", keys), func(w http.ResponseWriter, r *awswire.Request) error {
		serveTraces.ServeHTTP(w, r.HTTP)
		return nil
	})
	events := s.serveAsync(n.async, keys)
	scrapes := local(n.metrics)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := n.urls.Match(r); ok { // whatever the path is then
			n.urls.ServeHTTP(w, r)
			return
		}
		get := r.Method == http.MethodGet
		switch path := r.URL.Path; {
		case get && len(path) > len(control.LocationPath) && strings.HasPrefix(path, control.LocationPath):
			n.control.ServeLocation(w, r)
		case (get || r.Method == http.MethodHead) && path == scrapePath && s.cfg.MetricsListen == "":
			scrapes.ServeHTTP(w, r)
		case isDistribution(r):
			images.ServeHTTP(w, r)
		case path == trace.Path || strings.HasPrefix(path, trace.Path+"/"):
			traces.ServeHTTP(w, r)
		case path == async.Path || strings.HasPrefix(path, async.Path+"/"):
			events.ServeHTTP(w, r)
		default:
			api.ServeHTTP(w, r)
		}
	})
}

// wire is what the API of a service needs, by its name in signatures.
func (s *Server) wire(service string, keys *keyring.Keyring) awswire.Config {
	cfg := awswire.Config{
		Logger: s.cfg.Logger.With("component", "api", "service", service), Now: s.cfg.Now,
		Anonymous: firn.Identity{ARN: "arn:aws:iam::" + s.cfg.Account + ":root", Account: s.cfg.Account, Root: true},
	}
	if s.cfg.Auth == AuthSigV4 {
		cfg.Auth = awswire.NewAuthenticator(awswire.AuthConfig{Credentials: keys, Region: s.cfg.Region, Service: service, Now: s.cfg.Now})
	}
	return cfg
}

// credentialsValid is how long an environment's credentials are: longer than
// any environment lives.
const credentialsValid = 12 * time.Hour

// maker starts environments with what all of them share.
type maker struct {
	cfg     *Config
	backend sandbox.Backend
	keys    *keyring.Keyring
	buffers *runtimeapi.Buffers
	sink    telemetry.Sink
	// segments takes what functions send to the X-Ray daemon.
	segments func(*telemetry.Source, []byte)
}

func (m *maker) start(ctx context.Context, cfg environment.Config) (*environment.Environment, error) {
	creds, err := m.keys.Issue(cfg.Version.Role, cfg.Version.Name, m.cfg.Now().Add(credentialsValid))
	if err != nil {
		return nil, fmt.Errorf("credentials of role %s: %w", cfg.Version.Role, err)
	}
	cfg.ID = newID()
	cfg.Backend = m.backend
	cfg.Network = m.cfg.Network
	cfg.Credentials = environment.Credentials{AccessKeyID: creds.AccessKeyID, SecretAccessKey: creds.SecretAccessKey, SessionToken: creds.SessionToken}
	cfg.Sink = m.sink
	cfg.Segments = m.segments
	cfg.Logger = m.cfg.Logger.With("component", "environment", "environment", cfg.ID, "function", cfg.Version.Name)
	cfg.FreezeGrace = m.cfg.FreezeGrace
	cfg.Buffers = m.buffers
	cfg.Now = m.cfg.Now
	if m.cfg.Environment != nil {
		m.cfg.Environment(&cfg)
	}
	return environment.Start(ctx, cfg)
}

// newID names an environment: eight hexadecimal digits.
func newID() string {
	var raw [4]byte
	rand.Read(raw[:])
	return hex.EncodeToString(raw[:])
}

// hostArchitecture is the host's in AWS's terms.
func hostArchitecture() string {
	if runtime.GOARCH == "arm64" {
		return "arm64"
	}
	return "x86_64"
}

// RootCredentials reads the root user's access key of a data directory.
func RootCredentials(dataDir, account string) (keyring.Credentials, error) {
	path := state.KeyFile(dataDir)
	if _, err := os.Stat(path); err != nil {
		return keyring.Credentials{}, fmt.Errorf("no firn has run on %s yet: %w", dataDir, err)
	}
	keys, err := keyring.Open(keyring.Config{Path: path, Account: account})
	if err != nil {
		return keyring.Credentials{}, err
	}
	return keys.Root(), nil
}
