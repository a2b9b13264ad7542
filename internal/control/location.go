package control

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
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
	return c.cfg.Endpoint() + LocationPath + string(digest) + "?Expires=" + expires + "&Signature=" + c.signLocation(digest, expires)
}

func (c *Control) signLocation(digest firn.Digest, expires string) string {
	mac := hmac.New(sha256.New, c.cfg.LocationKey)
	mac.Write([]byte(string(digest) + "\n" + expires))
	return hex.EncodeToString(mac.Sum(nil))
}

// ServeLocation answers GET of a location.
func (c *Control) ServeLocation(w http.ResponseWriter, r *http.Request) {
	digest := firn.Digest(strings.TrimPrefix(r.URL.Path, LocationPath))
	expires := r.URL.Query().Get("Expires")
	until, err := strconv.ParseInt(expires, 10, 64)
	if err != nil || !hmac.Equal([]byte(r.URL.Query().Get("Signature")), []byte(c.signLocation(digest, expires))) {
		http.Error(w, "the signature of this download location is not valid", http.StatusForbidden)
		return
	}
	if c.cfg.Now().Unix() > until {
		http.Error(w, "this download location has expired; call GetFunction or GetLayerVersion again", http.StatusForbidden)
		return
	}
	blob, err := c.cfg.Blobs.OpenBlob(digest)
	if err != nil {
		http.Error(w, "the archive is gone", http.StatusNotFound)
		return
	}
	defer blob.Close()
	w.Header().Set("Content-Type", "application/zip")
	http.ServeContent(w, r, "", time.Time{}, blob)
}
