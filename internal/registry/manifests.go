package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/image/oci"
	"github.com/firn-run/firn/internal/state"
)

// pushed is a manifest to be stored.
type pushed struct {
	raw       []byte
	mediaType string        // as the client says, "" when it does not
	tag       string        // may be empty
	digest    firn.Digest   // as the client says, "sha256:..."; may be empty
	tags      []string      // more tags for the same
	typed     bool          // the client or the manifest must say the media type
	parsed    *oci.Manifest // set by putManifest
	stored    firn.Digest   // hexadecimal; set by putManifest
	changed   bool          // the image or one of its tags is new; set by putManifest
}

// putManifest stores a manifest and points its tags at it, all or nothing.
func (r *Registry) putManifest(ctx context.Context, k repoKey, p *pushed) error {
	parsed, err := oci.Describe(p.raw)
	if err != nil {
		return invalid("Invalid parameter at 'ImageManifest' failed to satisfy constraint: 'Invalid JSON syntax'")
	}
	if p.mediaType != "" && parsed.MediaType != "" && p.mediaType != parsed.MediaType {
		return invalid("The media type '%.200s' is not that of the manifest, '%.200s'", p.mediaType, parsed.MediaType)
	}
	if p.typed && p.mediaType == "" && parsed.MediaType == "" {
		return invalid("image manifest mediatype not provided in manifest or parameter")
	}
	p.parsed = parsed
	// Before the records: what refers to it must find it.
	if p.stored, _, err = r.blobs.Put(ctx, bytes.NewReader(p.raw), oci.MaxManifestBytes); err != nil {
		return err
	}
	if p.digest != "" && oci.Hex(p.digest) != p.stored {
		return &errStatus{http.StatusBadRequest, "DIGEST_INVALID", "provided digest did not match uploaded content"}
	}
	return r.cfg.State.Update(ctx, func(tx state.Tx) error { return r.recordImage(tx, k, p) })
}

// recordImage is the transaction of putManifest.
func (r *Registry) recordImage(tx state.Tx, k repoKey, p *pushed) error {
	p.changed = false
	repo, err := r.repository(tx, k)
	if err != nil {
		return err
	}
	if err := checkParts(tx, k, p.parsed); err != nil {
		return err
	}
	img, err := get[imageRecord](tx, kindImage, k.at(p.stored))
	if err != nil {
		return err
	}
	if img == nil {
		p.changed = true
		if err := put(tx, kindImage, k.at(p.stored), r.newImage(p)); err != nil {
			return err
		}
	}
	tags := p.tags
	if p.tag != "" {
		tags = append([]string{p.tag}, tags...)
	}
	for _, tag := range tags {
		old, err := get[tagRecord](tx, kindTag, k.tag(tag))
		switch {
		case err != nil:
			return err
		case old != nil && old.Digest == p.stored:
			continue
		case old != nil && repo.immutable(tag):
			return tagExists(k, tag)
		}
		p.changed = true
		if err := put(tx, kindTag, k.tag(tag), tagRecord{Digest: p.stored}); err != nil {
			return err
		}
	}
	return nil
}

func (r *Registry) newImage(p *pushed) *imageRecord {
	img := &imageRecord{
		MediaType: p.parsed.MediaType, Subject: p.parsed.Subject, Index: p.parsed.Index,
		Pushed: r.cfg.Now().UTC(), Bytes: int64(len(p.raw)), Size: p.parsed.Size,
	}
	if img.MediaType == "" {
		img.MediaType = p.mediaType
	}
	if img.ArtifactType = p.parsed.ArtifactType; img.ArtifactType == "" {
		img.ArtifactType = p.parsed.ConfigType
	}
	if img.Subject != "" {
		img.Annotations = p.parsed.Annotations
	}
	for _, part := range p.parsed.Parts {
		if !part.Elsewhere {
			img.Parts = append(img.Parts, part.Digest)
		}
	}
	return img
}

// checkParts sees to it that a repository has what a manifest refers to.
func checkParts(tx state.Tx, k repoKey, m *oci.Manifest) error {
	var missing []firn.Digest
	for _, part := range m.Parts {
		if part.Elsewhere {
			continue
		}
		kind := kindLayer
		if m.Index {
			kind = kindImage
		}
		_, ok, err := tx.Get(kind, k.at(part.Digest))
		if err != nil {
			return err
		}
		if !ok && !slices.Contains(missing, part.Digest) {
			missing = append(missing, part.Digest)
		}
	}
	if len(missing) > 0 {
		return partsMissing(k, m.Index, missing)
	}
	return nil
}

// serveManifest is /manifests/REFERENCE.
func (r *Registry) serveManifest(c *call) error {
	ref, ok := parseReference(c.arg)
	if !ok {
		return &errStatus{http.StatusBadRequest, "TAG_INVALID", "neither a tag nor a SHA-256 digest"}
	}
	switch c.Method {
	case http.MethodGet, http.MethodHead:
		return r.getManifest(c, ref)
	case http.MethodPut:
		return r.acceptManifest(c, ref)
	case http.MethodDelete:
		return r.deleteManifest(c, ref)
	}
	return notAllowed(c)
}

func (r *Registry) getManifest(c *call, ref reference) error {
	if _, err := r.permitted(c.Context(), c.repo, c.id, "ecr:BatchGetImage"); err != nil {
		return err
	}
	img, err := r.lookup(c.Context(), c.repo, ref)
	if err != nil {
		return err
	}
	return r.sendBlob(c, img.digest, img.MediaType)
}

// lookup finds an image or fails with ECR's exception.
func (r *Registry) lookup(ctx context.Context, k repoKey, ref reference) (img *found, err error) {
	err = r.cfg.State.View(ctx, func(tx state.Tx) error {
		img, err = find(tx, k, ref)
		return err
	})
	if err == nil && img == nil {
		err = noImage(k, ref)
	}
	return img, err
}

func (r *Registry) acceptManifest(c *call, ref reference) error {
	if err := r.forPush(c, "ecr:PutImage"); err != nil {
		return err
	}
	body := &steadyReader{r: c.Body, control: http.NewResponseController(c.w)}
	defer body.relax()
	raw, err := io.ReadAll(io.LimitReader(body, oci.MaxManifestBytes+1))
	switch {
	case body.err != nil:
		return &errStatus{http.StatusBadRequest, "MANIFEST_INVALID", "the body broke off"}
	case err != nil:
		return err
	case len(raw) > oci.MaxManifestBytes:
		return &errStatus{http.StatusRequestEntityTooLarge, "SIZE_INVALID", fmt.Sprintf("a manifest may have %d bytes", oci.MaxManifestBytes)}
	}
	p := &pushed{raw: raw, tag: ref.tag, digest: ref.digest}
	if p.mediaType, _, err = mime.ParseMediaType(c.Header.Get("Content-Type")); err != nil || !strings.HasPrefix(p.mediaType, "application/vnd.") {
		p.mediaType = "" // the manifest will say
	}
	for _, tag := range c.URL.Query()["tag"] { // distribution specification 1.2
		if !tagName.MatchString(tag) || len(p.tags) == 16 {
			return &errStatus{http.StatusBadRequest, "TAG_INVALID", "invalid tag"}
		}
		p.tags = append(p.tags, tag)
	}
	if err := r.putManifest(c.Context(), c.repo, p); err != nil {
		return err
	}
	h := c.w.Header()
	digest := string(oci.Prefixed(p.stored))
	h.Set("Location", c.repo.path("manifests", digest))
	h.Set("Docker-Content-Digest", digest)
	if p.parsed.Subject != "" {
		h.Set("OCI-Subject", string(p.parsed.Subject))
	}
	c.w.WriteHeader(http.StatusCreated)
	return nil
}

func (r *Registry) deleteManifest(c *call, ref reference) error {
	if _, err := r.permitted(c.Context(), c.repo, c.id, "ecr:BatchDeleteImage"); err != nil {
		return err
	}
	err := r.cfg.State.Update(c.Context(), func(tx state.Tx) error {
		_, err := deleteImage(tx, c.repo, ref)
		return err
	})
	if err != nil {
		return err
	}
	r.deleted()
	c.w.WriteHeader(http.StatusAccepted)
	return nil
}

var errReferenced = errors.New("an index of the repository refers to the image")

// deleteImage takes a tag away, or an image with all its tags if it is named
// by its digest. The last tag of an image that was named by it takes the image
// along, as with ECR. It returns the image's digest.
func deleteImage(tx state.Tx, k repoKey, ref reference) (firn.Digest, error) {
	img, err := find(tx, k, ref)
	if err != nil {
		return "", err
	}
	if img == nil {
		return "", noImage(k, ref)
	}
	byImage, err := tagsOf(tx, k)
	if err != nil {
		return "", err
	}
	tags := byImage[img.digest]
	if ref.tag != "" && len(tags) > 1 {
		return img.digest, tx.Delete(kindTag, k.tag(ref.tag))
	}
	inIndex, err := referredByIndex(tx, k, img.digest)
	if err != nil {
		return "", err
	}
	if inIndex {
		if ref.tag != "" {
			return img.digest, tx.Delete(kindTag, k.tag(ref.tag))
		}
		return "", &errStatus{http.StatusMethodNotAllowed, "DENIED", errReferenced.Error()}
	}
	for _, tag := range tags {
		if err := tx.Delete(kindTag, k.tag(tag)); err != nil {
			return "", err
		}
	}
	return img.digest, tx.Delete(kindImage, k.at(img.digest))
}

// referredByIndex reports whether an index of the repository has the image.
func referredByIndex(tx state.Tx, k repoKey, d firn.Digest) (bool, error) {
	list, err := tx.List(kindImage, k.at(""), "", 0)
	if err != nil {
		return false, err
	}
	for _, rec := range list {
		img, err := decode[imageRecord](rec)
		if err != nil {
			return false, err
		}
		if img.Index && slices.Contains(img.Parts, d) {
			return true, nil
		}
	}
	return false, nil
}

// serveTags is /tags/list.
func (r *Registry) serveTags(c *call) error {
	if c.Method != http.MethodGet {
		return notAllowed(c)
	}
	if _, err := r.permitted(c.Context(), c.repo, c.id, "ecr:ListImages"); err != nil {
		return err
	}
	n, last, err := c.page()
	if err != nil {
		return err
	}
	names := []string{}
	err = r.cfg.State.View(c.Context(), func(tx state.Tx) error {
		list, err := tx.List(kindTag, c.repo.tag(""), c.repo.tag(last), n+1)
		for _, rec := range list {
			names = append(names, strings.TrimPrefix(rec.Key, c.repo.tag("")))
		}
		return err
	})
	if err != nil {
		return err
	}
	names = c.cut(names, n)
	return writeJSON(c.w, http.StatusOK, struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{c.repo.name, names})
}

// serveCatalog is /v2/_catalog.
func (r *Registry) serveCatalog(c *call) error {
	if c.Method != http.MethodGet {
		return notAllowed(c)
	}
	if c.id.Account != c.repo.account {
		return denied(c.id, "ecr:DescribeRepositories", "arn:aws:ecr:"+r.cfg.Region+":"+c.repo.account+":repository/*")
	}
	n, last, err := c.page()
	if err != nil {
		return err
	}
	prefix := repoKey{account: c.repo.account}.String()
	names := []string{}
	err = r.cfg.State.View(c.Context(), func(tx state.Tx) error {
		list, err := tx.List(kindRepository, prefix, prefix+last, n+1)
		for _, rec := range list {
			names = append(names, strings.TrimPrefix(rec.Key, prefix))
		}
		return err
	})
	if err != nil {
		return err
	}
	names = c.cut(names, n)
	return writeJSON(c.w, http.StatusOK, map[string][]string{"repositories": names})
}

const maxPage = 1000

// page reads n and last, of lists that come in parts.
func (c *call) page() (n int, last string, err error) {
	query := c.URL.Query()
	n = maxPage
	if s := query.Get("n"); s != "" {
		if n, err = strconv.Atoi(s); err != nil || n < 0 {
			return 0, "", &errStatus{http.StatusBadRequest, "PAGINATION_NUMBER_INVALID", "n is not a number"}
		}
		n = min(n, maxPage)
	}
	return n, query.Get("last"), nil
}

// cut shortens a list to a page and says where the next one is.
func (c *call) cut(names []string, n int) []string {
	if len(names) <= n {
		return names
	}
	names = names[:n]
	if n > 0 {
		next := url.URL{Path: c.URL.Path, RawQuery: url.Values{"n": {strconv.Itoa(n)}, "last": {names[n-1]}}.Encode()}
		c.w.Header().Set("Link", "<"+next.String()+`>; rel="next"`)
	}
	return names
}

// serveReferrers is /referrers/DIGEST: what is attached to an image.
func (r *Registry) serveReferrers(c *call) error {
	if c.Method != http.MethodGet {
		return notAllowed(c)
	}
	subject := firn.Digest(c.arg)
	if !isDigest(subject) {
		return &errStatus{http.StatusBadRequest, "DIGEST_INVALID", "not a SHA-256 digest"}
	}
	if _, err := r.permitted(c.Context(), c.repo, c.id, "ecr:BatchGetImage"); err != nil {
		return err
	}
	type descriptor struct {
		MediaType    string            `json:"mediaType"`
		Digest       firn.Digest       `json:"digest"`
		Size         int64             `json:"size"`
		ArtifactType string            `json:"artifactType,omitempty"`
		Annotations  map[string]string `json:"annotations,omitempty"`
	}
	wanted := c.URL.Query().Get("artifactType")
	list := []descriptor{}
	err := r.cfg.State.View(c.Context(), func(tx state.Tx) error {
		records, err := tx.List(kindImage, c.repo.at(""), "", 0)
		if err != nil {
			return err
		}
		for _, rec := range records {
			img, err := decode[imageRecord](rec)
			if err != nil {
				return err
			}
			if img.Subject != subject || wanted != "" && img.ArtifactType != wanted {
				continue
			}
			digest := oci.Prefixed(firn.Digest(strings.TrimPrefix(rec.Key, c.repo.at(""))))
			list = append(list, descriptor{img.MediaType, digest, img.Bytes, img.ArtifactType, img.Annotations})
		}
		return nil
	})
	if err != nil {
		return err
	}
	if wanted != "" {
		c.w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	const indexType = "application/vnd.oci.image.index.v1+json"
	c.w.Header().Set("Content-Type", indexType)
	return writeJSON(c.w, http.StatusOK, struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Manifests     []descriptor `json:"manifests"`
	}{2, indexType, list})
}
