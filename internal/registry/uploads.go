package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecr/types"
	"github.com/google/uuid"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/blob"
	"github.com/firn-run/firn/internal/image/oci"
	"github.com/firn-run/firn/internal/state"
)

const (
	maxUploads = 1024
	// bodyStall ends a request of which nothing comes.
	bodyStall    = 60 * time.Second
	uploadBuffer = 256 << 10
)

// upload is a blob on its way in.
type upload struct {
	repo repoKey
	busy sync.Mutex // held by the request that writes; tried, never waited for
	w    *blob.Writer

	// Guarded by Registry.mu.
	touched time.Time
}

// begin starts an upload.
func (r *Registry) begin(k repoKey) (string, *upload, error) {
	w, err := r.blobs.Create()
	if err != nil {
		return "", nil, err
	}
	u := &upload{repo: k, w: w, touched: r.cfg.Now()}
	id := uuid.NewString()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.uploads) >= maxUploads {
		return "", nil, errors.Join(limitExceeded("There are %d uploads under way already.", maxUploads), w.Close())
	}
	r.uploads[id] = u
	return id, u, nil
}

// take returns an upload for the caller alone; release gives it back.
func (r *Registry) take(k repoKey, id string) (u *upload, release func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	u = r.uploads[id]
	if u == nil || u.repo != k {
		return nil, nil, noUpload(k, id)
	}
	if !u.busy.TryLock() {
		return nil, nil, &errStatus{http.StatusConflict, "BLOB_UPLOAD_INVALID", "another request is writing to this upload"}
	}
	return u, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		u.touched = r.cfg.Now()
		u.busy.Unlock()
	}, nil
}

// end removes an upload that the caller has taken, and what was not committed
// of it.
func (r *Registry) end(id string, u *upload) error {
	r.mu.Lock()
	delete(r.uploads, id)
	r.mu.Unlock()
	return u.w.Close()
}

// endUploads ends those that nobody has touched since; all of them if since is
// zero.
func (r *Registry) endUploads(since time.Time) {
	r.mu.Lock()
	var idle []*upload
	for id, u := range r.uploads {
		if (since.IsZero() || u.touched.Before(since)) && u.busy.TryLock() {
			delete(r.uploads, id)
			idle = append(idle, u)
		}
	}
	r.mu.Unlock()
	for _, u := range idle {
		if err := u.w.Close(); err != nil {
			r.cfg.Logger.Error("end an upload", "repository", u.repo.String(), "error", err)
		}
	}
}

// commit makes the upload a blob of its repository.
func (r *Registry) commit(ctx context.Context, u *upload, want firn.Digest) error {
	size := u.w.Size()
	digest, err := u.w.Commit(oci.Hex(want))
	if err != nil {
		return err
	}
	return r.link(ctx, u.repo, digest, size)
}

// link records that a repository has a blob, which was stored or touched a
// moment ago.
func (r *Registry) link(ctx context.Context, k repoKey, d firn.Digest, size int64) error {
	return r.cfg.State.Update(ctx, func(tx state.Tx) error {
		if _, err := r.repository(tx, k); err != nil {
			return err
		}
		return put(tx, kindLayer, k.at(d), layerRecord{Size: size})
	})
}

// linked reports whether a repository has a blob, and its size.
func (r *Registry) linked(ctx context.Context, k repoKey, d firn.Digest) (size int64, ok bool, err error) {
	err = r.cfg.State.View(ctx, func(tx state.Tx) error {
		l, err := get[layerRecord](tx, kindLayer, k.at(d))
		if l != nil {
			size, ok = l.Size, true
		}
		return err
	})
	return size, ok, err
}

// serveUpload is everything below /blobs/uploads.
func (r *Registry) serveUpload(c *call) error {
	action := "ecr:UploadLayerPart"
	if c.arg == "" {
		action = "ecr:InitiateLayerUpload"
	}
	if err := r.forPush(c, action); err != nil {
		return err
	}
	if c.arg == "" {
		if c.Method != http.MethodPost {
			return notAllowed(c)
		}
		return r.postUpload(c)
	}
	u, release, err := r.take(c.repo, c.arg)
	if err != nil {
		return err
	}
	defer release()
	switch c.Method {
	case http.MethodGet:
		return c.progress(u, http.StatusNoContent)
	case http.MethodPatch:
		if err := c.receive(u); err != nil {
			return err
		}
		return c.progress(u, http.StatusAccepted)
	case http.MethodPut:
		return r.finish(c, u)
	case http.MethodDelete:
		if err := r.end(c.arg, u); err != nil {
			return err
		}
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return notAllowed(c)
}

// forPush checks the repository and the caller's right to push to it; where
// the operator wants it, a missing repository is made.
func (r *Registry) forPush(c *call, action string) error {
	_, err := r.permitted(c.Context(), c.repo, c.id, action)
	if err != nil && r.cfg.CreateOnPush && c.id.Account == c.repo.account && isMissing(err) {
		err = r.create(c.Context(), c.repo, &repository{})
		if _, made := errors.AsType[*types.RepositoryAlreadyExistsException](err); made {
			err = nil // by another layer of the same push
		}
	}
	return err
}

// postUpload begins an upload, or does without one: the blob is in another
// repository already, or comes with this request.
func (r *Registry) postUpload(c *call) error {
	query := c.URL.Query()
	if d := firn.Digest(query.Get("mount")); d != "" && isDigest(d) {
		ok, err := r.mount(c, d, query.Get("from"))
		if err != nil || ok {
			return err
		}
	}
	id, u, err := r.begin(c.repo)
	if err != nil {
		return err
	}
	c.arg = id
	if !query.Has("digest") {
		return c.progress(u, http.StatusAccepted)
	}
	u, release, err := r.take(c.repo, id)
	if err != nil {
		return err
	}
	defer release()
	err = r.finish(c, u)
	return errors.Join(err, r.end(id, u))
}

// mount gives the repository a blob that another one has; without naming one,
// any of the same account will do.
func (r *Registry) mount(c *call, d firn.Digest, from string) (bool, error) {
	if !validRepo(from) {
		return false, nil
	}
	source := repoKey{c.repo.account, from}
	if _, err := r.permitted(c.Context(), source, c.id, "ecr:GetDownloadUrlForLayer"); err != nil {
		return false, nil // then the client uploads
	}
	size, ok, err := r.linked(c.Context(), source, d)
	if err != nil || !ok {
		return false, err
	}
	if err := r.blobs.Touch(oci.Hex(d)); err != nil {
		return false, nil
	}
	if err := r.link(c.Context(), c.repo, oci.Hex(d), size); err != nil {
		return false, err
	}
	c.created(d)
	return true, nil
}

// created answers that a blob is there.
func (c *call) created(d firn.Digest) {
	h := c.w.Header()
	h.Set("Location", c.repo.path("blobs", string(d)))
	h.Set("Docker-Content-Digest", string(d))
	c.w.WriteHeader(http.StatusCreated)
}

// progress tells where an upload stands.
func (c *call) progress(u *upload, status int) error {
	h := c.w.Header()
	h.Set("Location", c.repo.path("blobs", "uploads", c.arg))
	h.Set("Docker-Upload-UUID", c.arg)
	h.Set("Range", "0-"+strconv.FormatInt(max(0, u.w.Size()-1), 10))
	h.Set("OCI-Chunk-Min-Length", "1")
	c.w.WriteHeader(status)
	return nil
}

// receive appends the body. What has come before the body broke off stays, and
// the client can ask how much that is.
func (c *call) receive(u *upload) error {
	if first, ok, err := contentRange(c.Header.Get("Content-Range")); err != nil {
		return err
	} else if ok && first != u.w.Size() {
		_ = c.progress(u, http.StatusRequestedRangeNotSatisfiable)
		return nil
	}
	left := maxLayerBytes - u.w.Size()
	if c.ContentLength > left {
		return tooLarge()
	}
	body := &steadyReader{r: c.Body, control: http.NewResponseController(c.w)}
	defer body.relax()
	n, err := io.CopyBuffer(struct{ io.Writer }{u.w}, io.LimitReader(body, left+1), make([]byte, uploadBuffer))
	switch {
	case body.err != nil:
		return &errStatus{http.StatusBadRequest, "BLOB_UPLOAD_INVALID", "the body broke off"}
	case err != nil:
		return fmt.Errorf("write an upload: %w", err)
	case n > left:
		return tooLarge()
	}
	return nil
}

func tooLarge() error {
	return &errStatus{http.StatusRequestEntityTooLarge, "SIZE_INVALID", fmt.Sprintf("a layer may have %d bytes", int64(maxLayerBytes))}
}

// contentRange reads "FIRST-LAST", with or without the unit.
func contentRange(s string) (first int64, ok bool, err error) {
	if s == "" {
		return 0, false, nil
	}
	from, _, _ := strings.Cut(strings.TrimPrefix(s, "bytes "), "-")
	first, err = strconv.ParseInt(strings.TrimSpace(from), 10, 64)
	if err != nil || first < 0 {
		return 0, false, &errStatus{http.StatusBadRequest, "BLOB_UPLOAD_INVALID", "invalid Content-Range"}
	}
	return first, true, nil
}

// steadyReader ends a body that stalls.
type steadyReader struct {
	r       io.Reader
	control *http.ResponseController
	err     error // of reading, but for io.EOF
}

func (s *steadyReader) Read(p []byte) (int, error) {
	// Not every connection can; then nothing is bounded.
	_ = s.control.SetReadDeadline(time.Now().Add(bodyStall))
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// relax lifts the deadline for the connection's next request.
func (s *steadyReader) relax() { _ = s.control.SetReadDeadline(time.Time{}) }

// finish ends an upload with what is left of it and its digest.
func (r *Registry) finish(c *call, u *upload) error {
	d := firn.Digest(c.URL.Query().Get("digest"))
	if !isDigest(d) {
		return &errStatus{http.StatusBadRequest, "DIGEST_INVALID", "provided digest is not a SHA-256 digest"}
	}
	if err := c.receive(u); err != nil {
		return err
	}
	err := r.commit(c.Context(), u, d)
	switch {
	case errors.Is(err, blob.ErrMismatch):
		return errors.Join(&errStatus{http.StatusBadRequest, "DIGEST_INVALID", "provided digest did not match uploaded content"}, r.end(c.arg, u))
	case err != nil:
		return errors.Join(err, r.end(c.arg, u))
	}
	if err := r.end(c.arg, u); err != nil {
		return err
	}
	c.created(d)
	return nil
}
