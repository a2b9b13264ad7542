package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/blob"
	"github.com/firn-run/firn/internal/image/oci"
	"github.com/firn-run/firn/internal/state"
)

// Request is a question about the image of a function.
type Request struct {
	ImageURI     string // as the caller of Lambda wrote it, or a Reference
	FunctionARN  string // unqualified
	Account      string // of the function
	Architecture string // "x86_64" or "arm64"
	// Caller creates or updates the function. Nil is Lambda itself, which
	// fetches the image again for a function that was inactive.
	Caller *firn.Identity
}

// Resolved is what an ImageUri means now.
type Resolved struct {
	// Image has the image's own settings; ImageConfig is not applied. Its
	// Reference is the ImageUri with the digest, which is ResolvedImageUri.
	Image firn.Image
	Size  int64 // bytes of all its parts, as stored
	// Here is false for an image that Fetch has to bring first.
	Here bool
}

// Resolve finds the image that an ImageUri means and pins its digest: of an
// index that of the manifest for the architecture. Images are named
//
//	ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME:TAG   this registry, in its region
//	HOST:PORT/NAME:TAG                              this registry, where firn is reached
//	any other registry                              if the configuration allows it
//
// with @DIGEST instead of the tag, or "latest" without either. The error is a
// *firn.Fault in AWS's words; errors.Is tells oci.ErrNotFound (the image was
// deleted, or never was) and oci.ErrDenied (a policy is in the way).
func (r *Registry) Resolve(ctx context.Context, req Request) (*Resolved, error) {
	resolved, err := r.resolve(ctx, req)
	if err != nil {
		return nil, oci.Fault(req.ImageURI, err)
	}
	return resolved, nil
}

// location is a parsed ImageUri.
type location struct {
	host string // as written
	name string
	reference
	own  bool
	repo repoKey // if own
}

// locate parses an ImageUri.
func (r *Registry) locate(req Request) (*location, error) {
	parsed, err := name.ParseReference(req.ImageURI)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", oci.ErrReference, err)
	}
	host := parsed.Context().RegistryStr()
	if first, _, ok := strings.Cut(req.ImageURI, "/"); !ok || !strings.ContainsAny(first, ".:") && first != "localhost" {
		// The library thinks of Docker's registry; AWS wants one to be named.
		return nil, fmt.Errorf("%w: no registry is named", oci.ErrReference)
	}
	l := &location{host: host, name: parsed.Context().RepositoryStr()}
	switch ref := parsed.(type) {
	case name.Tag:
		l.tag = ref.TagStr()
	case name.Digest:
		l.digest = firn.Digest(ref.DigestStr())
		if !isDigest(l.digest) {
			return nil, fmt.Errorf("%w: not a SHA-256 digest", oci.ErrReference)
		}
	}
	account, region, isECR := parseECRHost(host)
	switch {
	case isECR && region == r.cfg.Region:
		l.own, l.repo = true, repoKey{account, l.name}
	case isECR && r.cfg.Foreign == nil:
		return nil, fmt.Errorf("%w: an image of another region", oci.ErrReference)
	case !isECR && r.isSelf(host):
		l.own, l.repo = true, repoKey{req.Account, l.name}
	}
	return l, nil
}

func (r *Registry) resolve(ctx context.Context, req Request) (*Resolved, error) {
	l, err := r.locate(req)
	if err != nil {
		return nil, err
	}
	platform := oci.Platform(req.Architecture)
	var img *oci.Image
	if l.own {
		img, err = r.resolveOwn(ctx, req, l, platform)
	} else {
		img, err = r.resolveForeign(ctx, req, l, platform)
	}
	if err != nil {
		return nil, err
	}
	_, here := r.cfg.Images.Image(img.Digest, platform)
	return &Resolved{
		Image: firn.Image{
			Digest: img.Digest, Reference: l.host + "/" + l.name + "@" + string(img.Digest),
			Entrypoint: img.Settings.Entrypoint, Command: img.Settings.Command,
			WorkingDir: img.Settings.WorkingDir, Env: slices.Clone(img.Settings.Env),
		},
		Size: img.Size, Here: here == nil,
	}, nil
}

// resolveOwn finds an image of this registry, and checks the repository's
// policy: for the caller when a function is created or updated, for Lambda
// when it fetches the image again.
func (r *Registry) resolveOwn(ctx context.Context, req Request, l *location, platform string) (*oci.Image, error) {
	var img *found
	err := r.cfg.State.View(ctx, func(tx state.Tx) error {
		repo, err := get[repository](tx, kindRepository, l.repo.String())
		if err != nil {
			return err
		}
		if repo == nil {
			if l.repo.account != req.Account {
				return fmt.Errorf("%w: no repository %s", oci.ErrDenied, l.repo)
			}
			return fmt.Errorf("%w: no repository %s", oci.ErrNotFound, l.repo)
		}
		if err := r.permitImage(req, l.repo, repo); err != nil {
			return fmt.Errorf("%w: %w", oci.ErrDenied, err)
		}
		img, err = find(tx, l.repo, l.reference)
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case img == nil:
		return nil, fmt.Errorf("%w: no image %s in %s", oci.ErrNotFound, l.tag+string(l.digest), l.repo)
	}
	resolved, err := r.cfg.Images.Image(img.digest, platform)
	if err != nil {
		return nil, err
	}
	// The collector leaves it alone until the function's record tells of it.
	return resolved, r.touch(resolved.Digest)
}

// touch renews the parts of an image.
func (r *Registry) touch(d firn.Digest) error {
	parts, err := r.cfg.Images.Parts(d)
	for _, part := range parts {
		if err == nil {
			err = r.blobs.Touch(part)
		}
	}
	if errors.Is(err, blob.ErrNotFound) {
		err = fmt.Errorf("%w: %w", oci.ErrNotFound, err)
	}
	return err
}

func (r *Registry) permitImage(req Request, k repoKey, repo *repository) error {
	if req.Caller == nil {
		return r.allowLambda(k, repo, req.FunctionARN, req.Account)
	}
	for _, action := range pullActions() {
		if err := r.allow(k, repo, *req.Caller, action); err != nil {
			// Not a Fault of its own: AWS does not tell the caller more.
			return fmt.Errorf("%s", err)
		}
	}
	return nil
}

// resolveForeign asks another registry.
func (r *Registry) resolveForeign(ctx context.Context, req Request, l *location, platform string) (*oci.Image, error) {
	options, err := r.foreign(l.host)
	if err != nil {
		return nil, err
	}
	options.Platform = platform
	return r.cfg.Images.Resolve(ctx, req.ImageURI, options)
}

func (r *Registry) foreign(host string) (oci.PullOptions, error) {
	if r.cfg.Foreign != nil {
		if options, ok := r.cfg.Foreign(host); ok {
			return options, nil
		}
	}
	return oci.PullOptions{}, fmt.Errorf("%w: images of %s are not allowed here", oci.ErrReference, host)
}

// Fetch makes sure that an image which was resolved is here with all its
// layers, and pulls what is missing from where it came. An image of this
// registry is there as long as Config.InUse tells of it. Errors are as those
// of Resolve.
func (r *Registry) Fetch(ctx context.Context, img *firn.Image, architecture string) error {
	platform := oci.Platform(architecture)
	_, err := r.cfg.Images.Image(img.Digest, platform)
	if err == nil {
		return nil
	}
	l, locateErr := r.locate(Request{ImageURI: img.Reference})
	if locateErr != nil || l.own {
		return oci.Fault(img.Reference, err)
	}
	options, err := r.foreign(l.host)
	if err == nil {
		options.Platform = platform
		_, err = r.cfg.Images.Pull(ctx, img.Reference, options)
	}
	return oci.Fault(img.Reference, err)
}
