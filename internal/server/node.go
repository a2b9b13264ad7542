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
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/blob"
	"github.com/firn-run/firn/internal/control"
	"github.com/firn-run/firn/internal/environment"
	"github.com/firn-run/firn/internal/fleet"
	"github.com/firn-run/firn/internal/image"
	"github.com/firn-run/firn/internal/invoke"
	"github.com/firn-run/firn/internal/keyring"
	"github.com/firn-run/firn/internal/runtimeapi"
	"github.com/firn-run/firn/internal/sandbox"
	"github.com/firn-run/firn/internal/state"
)

// node holds the parts that serve needs again.
type node struct {
	control *control.Control
	fleet   *fleet.Fleet
	handler http.Handler
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
	images, err := image.Open(image.Config{
		Dir: filepath.Join(dir.Path(), "roots"), Blobs: blobs, Logger: cfg.Logger.With("component", "image"),
	})
	if err != nil {
		return nil, err
	}
	undo.add("images", images.Close)
	backend, err := s.openBackend(ctx)
	if err != nil {
		return nil, err
	}
	undo.add("sandboxes", backend.Close)

	maker := &maker{cfg: cfg, backend: backend, keys: keys, buffers: new(runtimeapi.Buffers)}
	flt := fleet.New(fleet.Config{
		Start: maker.start, Roots: images,
		AccountConcurrency: cfg.Concurrency, MaxEnvironments: cfg.MaxEnvironments,
		IdleTimeout: cfg.IdleTimeout, MaxAge: cfg.MaxAge, Now: cfg.Now,
	})
	undo.add("fleet", func() error {
		ended, cancel := context.WithCancel(context.WithoutCancel(ctx))
		cancel() // only reached with invocations in flight when start-up failed
		flt.Close(ended)
		return nil
	})
	ctl := control.New(control.Config{
		Store: store, Blobs: blobs, Images: images, Sealer: keys, Retirer: flt,
		Logger: cfg.Logger.With("component", "control"),
		Region: cfg.Region, Account: cfg.Account, Architecture: hostArchitecture(),
		Concurrency: cfg.Concurrency, Endpoint: s.Endpoint, Now: cfg.Now,
	})
	ctl.SetInvoker(invoke.New(invoke.Config{Resolver: ctl, Fleet: flt, Now: cfg.Now}))
	return &node{control: ctl, fleet: flt, handler: s.routes(ctl, keys)}, nil
}

// routes is what the listener serves.
func (s *Server) routes(ctl *control.Control, keys *keyring.Keyring) http.Handler {
	root := firn.Identity{ARN: "arn:aws:iam::" + s.cfg.Account + ":root", Account: s.cfg.Account, Root: true}
	wire := awswire.Config{Logger: s.cfg.Logger.With("component", "api"), Anonymous: root, Now: s.cfg.Now}
	if s.cfg.Auth == AuthSigV4 {
		wire.Auth = awswire.NewAuthenticator(awswire.AuthConfig{Credentials: keys, Region: s.cfg.Region, Service: "lambda", Now: s.cfg.Now})
	}
	api := awswire.New(wire)
	ctl.Mount(api)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.URL.Path) > len(control.LocationPath) && r.URL.Path[:len(control.LocationPath)] == control.LocationPath && r.Method == http.MethodGet {
			ctl.ServeLocation(w, r)
			return
		}
		api.ServeHTTP(w, r)
	})
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
	cfg.Sink = m.cfg.Sink
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
