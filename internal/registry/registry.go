// Package registry is firn's own registry of container images: an OCI
// distribution registry under /v2/, so that docker, crane and every other
// client push to it and pull from it, and the API of Amazon ECR beside it, so
// that `aws ecr`, SAM and SDKs manage it. It also tells what the ImageUri of a
// function means (Resolve) and brings what it means (Fetch), from here or, if
// the operator allows it, from other registries.
//
// Blobs, manifests among them, lie in a blob store by content. Everything else
// is a record in package state: repositories, the images and tags of each, and
// which blobs a repository has, since having one is what allows to read it.
// There is no copy of the records in memory: nothing here is on the path of an
// invocation. A manifest is stored in one transaction that checks what it
// refers to, so that an image that was acknowledged is complete, also after
// kill -9. Uploads are temporary files of the blob store and end with the
// process; clients begin them anew.
//
// Clients prove who they are by the password that GetAuthorizationToken gives
// them, which is a sealed text and no record. Repositories of another account
// are open to whom their policy says.
//
// Blobs that no repository and no function needs are collected by Run. Whoever
// is about to refer to a blob that is there touches it first, and the collector
// leaves young blobs alone (see package blob), so there is no moment at which
// the two could miss each other.
package registry

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/image/oci"
	"github.com/firn-run/firn/internal/state"
)

// Sealer keeps tokens unreadable and unforgeable (package keyring).
type Sealer interface {
	Seal(plain []byte, identity string) (sealed string)
	Open(sealed, identity string) (plain []byte, err error)
}

// Config is what a Registry needs. State, Images, Region and Account are
// required.
type Config struct {
	State  *state.Store
	Images *oci.Store // its blobs belong to this registry: Run collects them
	// Sealer makes and checks passwords. Nil serves everybody as Anonymous,
	// as --auth none does.
	Sealer    Sealer
	Anonymous firn.Identity

	Region  string
	Account string
	// Endpoint is the base URL under which clients reach firn.
	Endpoint func() string
	// Names are further HOST or HOST:PORT under which they do; addresses of
	// this machine with the endpoint's port are known without.
	Names []string

	// InUse lists the manifests that functions (all versions) and runtimes
	// refer to: their blobs stay whatever happens to repositories. Nil means
	// that there are none.
	InUse func() []firn.Digest
	// Foreign says how to pull from a registry that is not this one; false
	// refuses it. Nil refuses all.
	Foreign func(host string) (oci.PullOptions, bool)
	// CreateOnPush makes a repository when something is pushed to it, which
	// ECR does not do by itself.
	CreateOnPush bool

	// Grace is how long a blob may be there without anybody referring to it,
	// such as a layer whose image is still being pushed; default 24 hours.
	Grace time.Duration
	// UploadIdle ends an upload of which nothing comes; default 1 hour.
	UploadIdle time.Duration

	Logger *slog.Logger     // default discards
	Now    func() time.Time // default time.Now
}

// Registry serves the repositories of one node. Its methods are safe for
// concurrent use.
type Registry struct {
	cfg   Config
	blobs blobStore
	kick  chan struct{} // something was deleted

	mu      sync.Mutex
	uploads map[string]*upload
}

// sweepEvery is how often garbage is looked for when nothing was deleted.
const sweepEvery = time.Hour

// New makes a Registry; it touches nothing.
func New(cfg Config) *Registry {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Grace == 0 {
		cfg.Grace = 24 * time.Hour
	}
	if cfg.UploadIdle == 0 {
		cfg.UploadIdle = time.Hour
	}
	if cfg.Endpoint == nil {
		cfg.Endpoint = func() string { return "" }
	}
	return &Registry{cfg: cfg, blobs: cfg.Images.Blobs(), kick: make(chan struct{}, 1), uploads: map[string]*upload{}}
}

// Mount mounts the operations that are served on a Mux of the service ECR.
func (r *Registry) Mount(m *awswire.Mux) {
	awswire.Handle(m, r.createRepository)
	awswire.Handle(m, r.describeRepositories)
	awswire.Handle(m, r.deleteRepository)
	awswire.Handle(m, r.putImageTagMutability)
	awswire.Handle(m, r.putImageScanningConfiguration)
	awswire.Handle(m, r.setRepositoryPolicy)
	awswire.Handle(m, r.getRepositoryPolicy)
	awswire.Handle(m, r.deleteRepositoryPolicy)
	awswire.Handle(m, r.tagResource)
	awswire.Handle(m, r.untagResource)
	awswire.Handle(m, r.listTagsForResource)

	awswire.Handle(m, r.getAuthorizationToken)
	awswire.Handle(m, r.describeRegistry)

	awswire.Handle(m, r.describeImages)
	awswire.Handle(m, r.listImages)
	awswire.Handle(m, r.batchGetImage)
	awswire.Handle(m, r.batchDeleteImage)
	awswire.Handle(m, r.putImage)

	awswire.Handle(m, r.batchCheckLayerAvailability)
	awswire.Handle(m, r.getDownloadUrlForLayer)
	awswire.Handle(m, r.initiateLayerUpload)
	awswire.Handle(m, r.uploadLayerPart)
	awswire.Handle(m, r.completeLayerUpload)

	r.mountAbsent(m)
}

// Load does what has to be done before the first request: nothing yet, as
// records are read where they lie, but that the state can be read.
func (r *Registry) Load(ctx context.Context) error {
	return r.cfg.State.View(ctx, func(tx state.Tx) error {
		_, err := tx.List(kindRepository, "", "", 1)
		return err
	})
}

// Run collects garbage and ends uploads that rest until the context ends, and
// then ends all uploads. It is called once.
func (r *Registry) Run(ctx context.Context) error {
	defer r.endUploads(time.Time{})
	minute := time.NewTicker(time.Minute)
	defer minute.Stop()
	hour := time.NewTicker(sweepEvery)
	defer hour.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-minute.C:
			r.endUploads(r.cfg.Now().Add(-r.cfg.UploadIdle))
			continue
		case <-hour.C:
		case <-r.kick:
		}
		if err := r.Sweep(ctx); err != nil && ctx.Err() == nil {
			r.cfg.Logger.Error("collect garbage of the registry", "error", err)
		}
	}
}

// deleted wakes the collector.
func (r *Registry) deleted() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// ecrHost is how ECR calls the registry of an account.
func ecrHost(account, region string) string {
	return account + ".dkr.ecr." + region + ".amazonaws.com"
}

// parseECRHost reads such a name.
func parseECRHost(host string) (account, region string, ok bool) {
	account, rest, ok := strings.Cut(host, ".dkr.ecr.")
	if !ok || len(account) != 12 || strings.Trim(account, "0123456789") != "" {
		return "", "", false
	}
	for _, end := range []string{".amazonaws.com", ".amazonaws.com.cn"} {
		if region, ok := strings.CutSuffix(rest, end); ok && !strings.Contains(region, ".") {
			return account, region, true
		}
	}
	return "", "", false
}

// isSelf reports whether HOST:PORT is this node.
func (r *Registry) isSelf(host string) bool {
	for _, name := range r.cfg.Names {
		if strings.EqualFold(name, host) {
			return true
		}
	}
	_, own, _ := strings.Cut(r.cfg.Endpoint(), "://")
	if own == "" {
		return false
	}
	if strings.EqualFold(own, host) {
		return true
	}
	ownName, ownPort, err := net.SplitHostPort(own)
	if err != nil {
		return false
	}
	name, port, err := net.SplitHostPort(host)
	if err != nil || port != ownPort {
		return false
	}
	ip, ownIP := net.ParseIP(name), net.ParseIP(ownName)
	wild := ownIP == nil || ownIP.IsUnspecified()
	switch {
	case name == "localhost" || ip != nil && ip.IsLoopback():
		return wild || ownIP.IsLoopback()
	case ip != nil && wild:
		return isLocal(ip)
	}
	return false
}

// isLocal reports whether an address is one of this machine's.
func isLocal(ip net.IP) bool {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.Equal(ip) {
			return true
		}
	}
	return false
}

// host is the HOST:PORT that the client of a request has reached firn at, so
// that what it is told to go to is within its reach.
func (r *Registry) host(ctx context.Context) string {
	if req := awswire.RequestOf(ctx); req != nil && req.HTTP != nil && req.HTTP.Host != "" {
		return req.HTTP.Host
	}
	_, own, _ := strings.Cut(r.cfg.Endpoint(), "://")
	return own
}

// baseURL is where the client of a request reaches firn.
func (r *Registry) baseURL(ctx context.Context) string {
	scheme, _, ok := strings.Cut(r.cfg.Endpoint(), "://")
	if !ok {
		scheme = "http"
	}
	if req := awswire.RequestOf(ctx); req != nil && forwardedTLS(req.HTTP) {
		scheme = "https"
	}
	return scheme + "://" + r.host(ctx)
}

// forwardedTLS reports whether a proxy says that its client came by TLS.
func forwardedTLS(req *http.Request) bool {
	return req != nil && (req.TLS != nil || strings.EqualFold(req.Header.Get("X-Forwarded-Proto"), "https"))
}
