package control

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/firn-run/firn"
)

// LocationPath is where archives are downloaded, outside of the Lambda API.
const LocationPath = "/firn/code/"

// locationValid is how long a download location works, as AWS's ten minutes
// (API_GetFunction: "a link to download the deployment package that's valid
// for 10 minutes").
const locationValid = 10 * time.Minute

// location is a URL from which an archive can be fetched for a while without
// credentials: whoever may read the function's description may read its code.
func (c *Control) location(digest firn.Digest) string {
	expires := strconv.FormatInt(c.cfg.Now().Add(locationValid).Unix(), 10)
	token := c.cfg.Sealer.Seal([]byte(expires), locationOf(digest))
	return c.cfg.Endpoint() + LocationPath + string(digest) + "?token=" + url.QueryEscape(token)
}

// locationOf is the identity under which a location's token is sealed.
func locationOf(digest firn.Digest) string { return "location/" + string(digest) }

// ServeLocation answers GET of a location.
func (c *Control) ServeLocation(w http.ResponseWriter, r *http.Request) {
	digest := firn.Digest(strings.TrimPrefix(r.URL.Path, LocationPath))
	expires, err := c.cfg.Sealer.Open(r.URL.Query().Get("token"), locationOf(digest))
	if err != nil {
		http.Error(w, "the token of this download location is not valid", http.StatusForbidden)
		return
	}
	until, err := strconv.ParseInt(string(expires), 10, 64)
	if err != nil || c.cfg.Now().Unix() > until {
		http.Error(w, "this download location has expired; call GetFunction or GetLayerVersion again", http.StatusForbidden)
		return
	}
	archive, _, err := c.cfg.Blobs.Open(digest)
	if err != nil {
		http.Error(w, "the archive is gone", http.StatusNotFound)
		return
	}
	defer archive.Close()
	w.Header().Set("Content-Type", "application/zip")
	http.ServeContent(w, r, "", time.Time{}, archive)
}
