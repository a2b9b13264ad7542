package registry

import (
	"errors"
	"net/http"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/blob"
	"github.com/firn-run/firn/internal/image/oci"
	"github.com/firn-run/firn/internal/state"
)

// Slow readers get the time that package awswire gives them.
const (
	answerTime  = 30 * time.Second
	answerSpeed = 64 << 10 // bytes a second
)

func noBlob() error {
	return &errStatus{http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry"}
}

// serveBlob is /blobs/DIGEST.
func (r *Registry) serveBlob(c *call) error {
	d := firn.Digest(c.arg)
	if !isDigest(d) {
		return &errStatus{http.StatusBadRequest, "DIGEST_INVALID", "not a SHA-256 digest"}
	}
	switch c.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodDelete:
		return r.deleteBlob(c, d)
	default:
		return notAllowed(c)
	}
	action := "ecr:GetDownloadUrlForLayer"
	if c.Method == http.MethodHead {
		action = "ecr:BatchCheckLayerAvailability"
	}
	if _, err := r.permitted(c.Context(), c.repo, c.id, action); err != nil {
		return err
	}
	_, ok, err := r.linked(c.Context(), c.repo, d)
	if err != nil {
		return err
	}
	if !ok {
		return noBlob()
	}
	if c.Method == http.MethodHead {
		// Whoever asks will push an image that refers to it.
		if err := r.blobs.Touch(oci.Hex(d)); err != nil && !errors.Is(err, blob.ErrNotFound) {
			return err
		}
	}
	return r.sendBlob(c, d, "application/octet-stream")
}

// sendBlob answers with a blob, or a range of it.
func (r *Registry) sendBlob(c *call, d firn.Digest, contentType string) error {
	f, size, err := r.blobs.Open(oci.Hex(d))
	if errors.Is(err, blob.ErrNotFound) {
		return noBlob()
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	h := c.w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Docker-Content-Digest", string(oci.Prefixed(d)))
	h.Set("ETag", `"`+string(oci.Prefixed(d))+`"`)
	h.Set("Cache-Control", "max-age=31536000")
	control := http.NewResponseController(c.w)
	_ = control.SetWriteDeadline(time.Now().Add(answerTime + time.Duration(size/answerSpeed)*time.Second))
	http.ServeContent(c.w, c.Request, "", time.Time{}, f)
	_ = control.SetWriteDeadline(time.Time{})
	return nil
}

// deleteBlob takes a blob from a repository, unless an image needs it.
func (r *Registry) deleteBlob(c *call, d firn.Digest) error {
	if _, err := r.permitted(c.Context(), c.repo, c.id, "ecr:BatchDeleteImage"); err != nil {
		return err
	}
	err := r.cfg.State.Update(c.Context(), func(tx state.Tx) error {
		l, err := get[layerRecord](tx, kindLayer, c.repo.at(d))
		if err != nil {
			return err
		}
		if l == nil {
			return noBlob()
		}
		needed, err := neededParts(tx, c.repo)
		if err != nil {
			return err
		}
		if needed[oci.Hex(d)] {
			return &errStatus{http.StatusMethodNotAllowed, "UNSUPPORTED", "an image of the repository needs the blob"}
		}
		return tx.Delete(kindLayer, c.repo.at(d))
	})
	if err != nil {
		return err
	}
	r.deleted()
	c.w.WriteHeader(http.StatusAccepted)
	return nil
}

// neededParts are the parts of all images of a repository.
func neededParts(tx state.Tx, k repoKey) (map[firn.Digest]bool, error) {
	list, err := tx.List(kindImage, k.at(""), "", 0)
	if err != nil {
		return nil, err
	}
	needed := make(map[firn.Digest]bool)
	for _, rec := range list {
		img, err := decode[imageRecord](rec)
		if err != nil {
			return nil, err
		}
		for _, part := range img.Parts {
			needed[part] = true
		}
	}
	return needed, nil
}
