package runtimeapi

import (
	"bytes"
	"crypto/subtle"
	"encoding/json"
	"strconv"

	"github.com/firn-run/firn"
)

// serveMetadata answers the metadata endpoint: where the environment is, to
// whoever knows the token, which stands in the variables of all processes
// inside. It guards against requests that somebody talks a function into.
func (c *conn) serveMetadata() {
	token, bearer := bytes.CutPrefix(c.head.authorization, []byte("Bearer "))
	want := c.server.cfg.MetadataToken
	if !bearer || want == "" || subtle.ConstantTimeCompare(token, []byte(want)) == 0 {
		c.writeStatus(401, "")
		return
	}
	body, err := json.Marshal(struct {
		Zone string `json:"AvailabilityZoneID"`
	}{c.server.cfg.AvailabilityZoneID})
	if err != nil { // cannot be: a string
		c.writeStatus(500, "")
		return
	}
	age := strconv.Itoa(int(firn.MetadataMaxAge.Seconds()))
	c.write(200, "application/json", "Cache-Control: private, max-age="+age+", immutable\r\n", body)
}

// writeStatus answers with the reason of a status as text, as net/http does.
func (c *conn) writeStatus(status int, headers string) {
	c.write(status, "text/plain; charset=utf-8", "X-Content-Type-Options: nosniff\r\n"+headers, []byte(statusText(status)+"\n"))
}
