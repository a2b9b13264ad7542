package registry

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"

	"github.com/firn-run/firn"
)

// Handler serves the distribution API; mount it at /v2/.
func (r *Registry) Handler() http.Handler { return http.HandlerFunc(r.serve) }

// call is one request of the distribution API.
type call struct {
	*http.Request
	w    http.ResponseWriter
	id   firn.Identity
	repo repoKey
	arg  string // digest, reference or upload id
}

func (r *Registry) serve(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	id, ok := r.authenticate(w, req)
	if !ok {
		return
	}
	c := &call{Request: req, w: w, id: id}
	if err := r.route(c); err != nil {
		answer, expected := distributionError(err)
		if !expected && !errors.Is(err, req.Context().Err()) && !isTimeout(err) {
			r.cfg.Logger.Error("registry", "method", req.Method, "path", req.URL.Path, "error", err)
		}
		writeError(w, answer)
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// route finds what a path means. Names have slashes, so paths are read from
// their ends.
func (r *Registry) route(c *call) error {
	rest, ok := strings.CutPrefix(c.URL.Path, "/v2/")
	switch {
	case c.URL.Path == "/v2" || ok && rest == "":
		return r.serveRoot(c)
	case !ok:
		return &errStatus{http.StatusNotFound, "NAME_UNKNOWN", "there is nothing here"}
	case rest == "_catalog":
		c.repo.account = r.accountOf(c)
		return r.serveCatalog(c)
	}
	for _, kind := range []struct {
		mark  string
		serve func(*call) error
	}{
		{"/blobs/uploads/", r.serveUpload},
		{"/blobs/uploads", r.serveUpload},
		{"/blobs/", r.serveBlob},
		{"/manifests/", r.serveManifest},
		{"/referrers/", r.serveReferrers},
		{"/tags/list", r.serveTags},
	} {
		i := strings.LastIndex(rest, kind.mark)
		if i < 0 || strings.Contains(rest[i+len(kind.mark):], "/") {
			continue
		}
		if !strings.HasSuffix(kind.mark, "/") && i+len(kind.mark) != len(rest) {
			continue
		}
		c.repo, c.arg = repoKey{r.accountOf(c), rest[:i]}, rest[i+len(kind.mark):]
		if !validRepo(c.repo.name) {
			return &errStatus{http.StatusBadRequest, "NAME_INVALID", "invalid repository name"}
		}
		return kind.serve(c)
	}
	return &errStatus{http.StatusNotFound, "NAME_UNKNOWN", "there is nothing here"}
}

// accountOf is whose registry is addressed: ECR's name for it says so, else it
// is the caller's own.
func (r *Registry) accountOf(c *call) string {
	host := c.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if account, region, ok := parseECRHost(host); ok && region == r.cfg.Region {
		return account
	}
	return c.id.Account
}

// serveRoot tells clients that this is a registry, and that they may use it.
func (r *Registry) serveRoot(c *call) error {
	if c.Method != http.MethodGet && c.Method != http.MethodHead {
		return notAllowed(c)
	}
	return writeJSON(c.w, http.StatusOK, struct{}{})
}

func notAllowed(c *call) error {
	return &errStatus{http.StatusMethodNotAllowed, "UNSUPPORTED", "The operation is unsupported: " + c.Method}
}

// writeJSON answers with a value.
func writeJSON(w http.ResponseWriter, status int, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(status)
	_, _ = w.Write(data) // the client may be gone
	return nil
}

// writeError answers as the specification wants errors.
func writeError(w http.ResponseWriter, e *errStatus) {
	type item struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	for _, name := range []string{"Content-Length", "Content-Range", "ETag", "Docker-Content-Digest", "Cache-Control"} {
		w.Header().Del(name)
	}
	_ = writeJSON(w, e.status, map[string][]item{"errors": {{e.code, e.message}}})
}
