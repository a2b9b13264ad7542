package oci

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sync/errgroup"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/blob"
)

// Pulling.
const (
	pullLayers   = 4 // at once
	pullAttempts = 5 // of one part
	firstBackoff = 300 * time.Millisecond
	// stallTimeout ends a transfer of which nothing comes.
	stallTimeout = 60 * time.Second
)

// Auth is what a registry is shown. The zero value is nobody.
type Auth struct {
	Username, Password string
	Token              string // a registry token, instead of a name
	// Keychain asks the user's own configuration of Docker when nothing else
	// is given.
	Keychain bool
}

// PullOptions are how to pull. The zero value pulls for the host's platform,
// as nobody, over TLS.
type PullOptions struct {
	Auth     Auth
	Insecure bool   // plain HTTP is tried too
	Platform string // "linux/arm64"; "" is the host's
	// Progress is called while layers come, from several goroutines but never
	// twice at once. It must not block.
	Progress func(Progress)
}

// Progress is how far a pull has come, in bytes of layers as they travel.
type Progress struct {
	Done, Total int64 // with what was there before
	Reused      int64 // of Done: was there before
	Layers      int
}

// Pull brings an image from a registry. ref is the usual REGISTRY/NAME:TAG or
// REGISTRY/NAME@DIGEST. What is stored already is not fetched again, so that a
// pull that failed goes on where it stopped. Errors are ErrReference,
// ErrNotFound, ErrDenied, ErrUnsupported, ErrInvalid or a *PlatformError,
// wrapped, or the network's after some attempts.
func (s *Store) Pull(ctx context.Context, ref string, o PullOptions) (*Image, error) {
	if o.Platform == "" {
		o.Platform = HostPlatform()
	}
	img, err := s.pull(ctx, ref, o)
	if err != nil {
		return nil, fmt.Errorf("pull %.300s: %w", ref, err)
	}
	return img, nil
}

// Resolve finds out which image a reference means now, as Pull does, without
// its layers: Pull of its Reference at its digest brings those.
func (s *Store) Resolve(ctx context.Context, ref string, o PullOptions) (*Image, error) {
	if o.Platform == "" {
		o.Platform = HostPlatform()
	}
	p, err := s.newPuller(ref, o)
	if err == nil {
		err = p.resolve(ctx, o.Platform)
	}
	if err != nil {
		return nil, fmt.Errorf("resolve %.300s: %w", ref, err)
	}
	return p.image, nil
}

func (s *Store) pull(ctx context.Context, ref string, o PullOptions) (*Image, error) {
	p, err := s.newPuller(ref, o)
	if err != nil {
		return nil, err
	}
	if err := p.resolve(ctx, o.Platform); err != nil {
		return nil, err
	}
	if err := p.layers(ctx, p.parsed.image.Layers); err != nil {
		return nil, err
	}
	// The manifest last: what has it, has the rest.
	if _, err := s.putSmall(ctx, p.raw); err != nil {
		return nil, err
	}
	return p.image, nil
}

// resolve fetches the manifest, through indexes, and the configuration.
func (p *puller) resolve(ctx context.Context, platform string) error {
	raw, err := p.manifest(ctx, p.ref)
	if err != nil {
		return err
	}
	m, err := parseManifest(raw)
	for depth := 0; err == nil && m.index != nil; depth++ {
		var child v1.Descriptor
		if child, err = choose(m.index, platform, depth); err != nil {
			break
		}
		if raw, err = p.manifest(ctx, p.ref.Context().Digest(child.Digest.String())); err != nil {
			break
		}
		m, err = parseManifest(raw)
	}
	if err != nil {
		return err
	}
	config, err := p.small(ctx, m.image.Config)
	if err != nil {
		return err
	}
	img, err := m.assemble(config, platform)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(raw)
	img.Digest, img.Size = Prefixed(firn.Digest(hex.EncodeToString(sum[:]))), img.Size+int64(len(raw))
	p.raw, p.parsed, p.image = raw, m, img
	return nil
}

// putSmall stores what is in memory.
func (s *Store) putSmall(ctx context.Context, data []byte) (firn.Digest, error) {
	w, err := s.blobs.Create()
	if err != nil {
		return "", err
	}
	defer func() { _ = w.Close() }()
	if _, err := w.Write(data); err != nil {
		return "", err
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	return w.Commit("")
}

// puller is one pull.
type puller struct {
	store  *Store
	ref    name.Reference
	remote *remote.Puller

	// What resolve has found.
	raw    []byte
	parsed *manifest
	image  *Image

	mu       sync.Mutex
	progress Progress
	report   func(Progress)
}

func (s *Store) newPuller(ref string, o PullOptions) (*puller, error) {
	var naming []name.Option
	if o.Insecure {
		naming = append(naming, name.Insecure)
	}
	parsed, err := name.ParseReference(ref, naming...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReference, err)
	}
	options := []remote.Option{
		remote.WithTransport(s.transport), remote.WithUserAgent("firn"), remote.WithJobs(pullLayers),
		// Attempts are made here, where the body's failures are seen too.
		remote.WithRetryBackoff(remote.Backoff{Steps: 1}),
	}
	switch a := o.Auth; {
	case a.Token != "" || a.Username != "":
		options = append(options, remote.WithAuth(authn.FromConfig(authn.AuthConfig{
			Username: a.Username, Password: a.Password, RegistryToken: a.Token,
		})))
	case a.Keychain:
		options = append(options, remote.WithAuthFromKeychain(authn.DefaultKeychain))
	}
	client, err := remote.NewPuller(options...)
	if err != nil {
		return nil, err
	}
	return &puller{store: s, ref: parsed, remote: client, report: o.Progress}, nil
}

// manifest fetches a manifest or index, and proves its digest.
func (p *puller) manifest(ctx context.Context, ref name.Reference) ([]byte, error) {
	if d, ok := ref.(name.Digest); ok {
		if raw, err := p.store.read(Hex(firn.Digest(d.DigestStr()))); err == nil {
			return raw, p.store.blobs.Touch(Hex(firn.Digest(d.DigestStr())))
		}
	}
	var raw []byte
	err := p.retry(ctx, func() error {
		desc, err := p.remote.Get(ctx, ref) // which verifies a digest in ref
		if err != nil {
			return err
		}
		raw = desc.Manifest
		return nil
	})
	if len(raw) > MaxManifestBytes {
		return nil, fmt.Errorf("%w: a manifest of %d bytes", ErrInvalid, len(raw))
	}
	return raw, err
}

// small fetches a configuration, stores it and returns it.
func (p *puller) small(ctx context.Context, d v1.Descriptor) ([]byte, error) {
	if d.Size > MaxManifestBytes {
		return nil, fmt.Errorf("%w: a configuration of %d bytes", ErrInvalid, d.Size)
	}
	if err := p.fetch(ctx, d, func(int64) {}); err != nil {
		return nil, err
	}
	return p.store.read(firn.Digest(d.Digest.Hex))
}

// layers fetches the layers that are not there, several at a time.
func (p *puller) layers(ctx context.Context, layers []v1.Descriptor) error {
	p.progress.Layers = len(layers)
	var total int64
	for _, l := range layers {
		if err := checkLayerType(l.MediaType); err != nil {
			return err
		}
		if total += l.Size; l.Size > firn.MaxImageBytes || total > firn.MaxImageBytes {
			return fmt.Errorf("%w: layers of more than %d bytes", ErrInvalid, int64(firn.MaxImageBytes))
		}
	}
	p.progress.Total = total
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(pullLayers)
	for i, l := range layers {
		if again(layers[:i], l) {
			p.advance(l.Size, l.Size)
			continue
		}
		group.Go(func() error { return p.layer(ctx, l) })
	}
	return group.Wait()
}

// again reports whether a layer stands in the list already: empty ones do.
func again(list []v1.Descriptor, l v1.Descriptor) bool {
	for _, other := range list {
		if other.Digest == l.Digest {
			return true
		}
	}
	return false
}

func (p *puller) layer(ctx context.Context, l v1.Descriptor) error {
	var come atomic.Int64 // of this layer, told already
	err := p.fetch(ctx, l, func(n int64) {
		p.advance(n-come.Load(), 0) // less than before when an attempt begins anew
		come.Store(n)
	})
	if err == nil && come.Load() == 0 {
		p.advance(l.Size, l.Size)
	}
	return err
}

func (p *puller) advance(n, reused int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.progress.Done += n
	p.progress.Reused += reused
	if p.report != nil {
		p.report(p.progress)
	}
}

// fetch stores a part unless it is there. told hears how many bytes of it have
// come in the present attempt.
func (p *puller) fetch(ctx context.Context, d v1.Descriptor, told func(int64)) error {
	digest := firn.Digest(d.Digest.Hex)
	if info, err := p.store.blobs.Stat(digest); err == nil && info.Size == d.Size {
		return p.store.blobs.Touch(digest)
	}
	return p.retry(ctx, func() error {
		told(0)
		return p.transfer(ctx, d, told)
	})
}

// transfer is one attempt.
func (p *puller) transfer(ctx context.Context, d v1.Descriptor, told func(int64)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(stallTimeout, func() { cancel(errStalled) })
	defer stalled.Stop()

	layer, err := p.remote.Layer(ctx, p.ref.Context().Digest(d.Digest.String()))
	if err != nil {
		return err
	}
	body, err := layer.Compressed()
	if err != nil {
		return cause(ctx, err)
	}
	defer func() { _ = body.Close() }()
	w, err := p.store.blobs.Create()
	if err != nil {
		return final{err}
	}
	defer func() { _ = w.Close() }()
	buf := make([]byte, 256<<10)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			stalled.Reset(stallTimeout)
			if w.Size()+int64(n) > d.Size {
				return fmt.Errorf("%w: %s has more than its %d bytes", ErrInvalid, d.Digest, d.Size)
			}
			if _, err := w.Write(buf[:n]); err != nil {
				return final{err}
			}
			told(w.Size())
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return cause(ctx, err)
		}
	}
	if _, err = w.Commit(firn.Digest(d.Digest.Hex)); err != nil && !errors.Is(err, blob.ErrMismatch) {
		return final{err}
	}
	return err
}

var errStalled = errors.New("the transfer has stalled")

// cause tells a stall from the end of the caller's context.
func cause(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errStalled) {
		return errStalled
	}
	return err
}

// final is an error that no other attempt mends: this machine's own.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

// retry makes attempts, with growing pauses, as long as another may help.
func (p *puller) retry(ctx context.Context, attempt func() error) error {
	pause := p.store.backoff
	for n := 1; ; n++ {
		err := attempt()
		if err == nil {
			return nil
		}
		err, again := explain(err)
		if !again || n == pullAttempts || ctx.Err() != nil {
			return err
		}
		timer := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		pause *= 3
	}
}

// explain gives a registry's answer one of our errors, and reports whether
// another attempt may help.
func explain(err error) (_ error, again bool) {
	var answer *transport.Error
	var ours final
	switch {
	case errors.As(err, &ours), errors.Is(err, ErrInvalid), errors.Is(err, context.Canceled):
		return err, false
	case errors.As(err, &answer):
		switch answer.StatusCode {
		case http.StatusNotFound:
			return fmt.Errorf("%w: %w", ErrNotFound, err), false
		case http.StatusUnauthorized, http.StatusForbidden:
			return fmt.Errorf("%w: %w", ErrDenied, err), false
		}
		busy := answer.StatusCode == http.StatusTooManyRequests || answer.StatusCode == http.StatusRequestTimeout
		return err, busy || answer.StatusCode >= 500
	}
	return err, true
}

// newTransport is http.DefaultTransport with limits of its own.
func newTransport() http.RoundTripper {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   pullLayers,
		IdleConnTimeout:       30 * time.Second,
		TLSHandshakeTimeout:   15 * time.Second,
		ResponseHeaderTimeout: stallTimeout,
	}
}
