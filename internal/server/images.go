package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/blob"
	"github.com/firn-run/firn/internal/control"
	"github.com/firn-run/firn/internal/image"
	"github.com/firn-run/firn/internal/image/oci"
	"github.com/firn-run/firn/internal/keyring"
	"github.com/firn-run/firn/internal/registry"
	"github.com/firn-run/firn/internal/runtimes"
	"github.com/firn-run/firn/internal/state"
)

// openImages opens where the parts of container images are. They are not among
// the archives of functions: the registry collects what is left over of them.
func (s *Server) openImages(dir *state.DataDir) (*oci.Store, error) {
	blobs, err := blob.Open(filepath.Join(dir.Path(), "images"))
	if err != nil {
		return nil, fmt.Errorf("open container images: %w", err)
	}
	return oci.New(oci.Config{Blobs: blobs, Logger: s.cfg.Logger.With("component", "image")}), nil
}

// newRegistry makes the registry of container images, which keeps what
// functions use.
func (s *Server) newRegistry(store *state.Store, images *oci.Store, keys *keyring.Keyring, inUse func() []firn.Digest) *registry.Registry {
	cfg := registry.Config{
		State: store, Images: images, Anonymous: s.wire("ecr", keys).Anonymous,
		Region: s.cfg.Region, Account: s.cfg.Account, Endpoint: s.Endpoint, InUse: inUse,
		Logger: s.cfg.Logger.With("component", "registry"), Now: s.cfg.Now,
	}
	if s.cfg.Auth == AuthSigV4 {
		cfg.Sealer = keys
	}
	return registry.New(cfg)
}

// serveRegistry is the API of ECR.
func (s *Server) serveRegistry(r *registry.Registry, keys *keyring.Keyring) *awswire.Mux {
	mux := awswire.NewService(s.wire("ecr", keys), awswire.ECR())
	r.Mount(mux)
	return mux
}

// isDistribution reports whether a request is for the registry itself.
func isDistribution(r *http.Request) bool {
	return r.URL.Path == "/v2" || strings.HasPrefix(r.URL.Path, "/v2/")
}

// containers finds container images and makes them ready for the control plane
// and the fleet.
type containers struct {
	registry *registry.Registry
	roots    *image.Store
}

// Resolve implements control.Registry.
func (c containers) Resolve(ctx context.Context, req control.ImageRequest) (*firn.Image, error) {
	found, err := c.registry.Resolve(ctx, registry.Request{
		ImageURI: req.URI, FunctionARN: req.FunctionARN, Account: req.Account, Architecture: req.Architecture, Caller: req.Caller,
	})
	if err != nil {
		return nil, err
	}
	return &found.Image, nil
}

// Prepare implements control.Registry.
func (c containers) Prepare(ctx context.Context, img *firn.Image, architecture string) error {
	if err := c.registry.Fetch(ctx, img, architecture); err != nil {
		return err
	}
	_, err := c.roots.Root(ctx, img.Digest)
	return err
}

// managedRuntimes gives the fleet the managed runtimes.
type managedRuntimes struct{ store *runtimes.Store }

// Runtime implements fleet.Runtimes. A runtime that was removed from under its
// functions is told to who invokes them.
func (m managedRuntimes) Runtime(ctx context.Context, name string) (dir string, whole bool, err error) {
	dir, whole, err = m.store.Runtime(ctx, name)
	if missing, ok := errors.AsType[*runtimes.MissingError](err); ok {
		return "", false, &firn.Fault{Kind: firn.InvalidRuntime, Message: missing.Error(), Cause: err}
	}
	return dir, whole, err
}

// roots gives the fleet the directories of images.
type roots struct{ images *image.Store }

// Image implements fleet.Images.
func (r roots) Image(ctx context.Context, digest firn.Digest) (rootDir string, err error) {
	return r.images.Root(ctx, digest)
}
