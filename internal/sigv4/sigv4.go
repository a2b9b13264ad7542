// Package sigv4 verifies AWS Signature Version 4 on requests, in the header
// form and in the presigned form of the query. It is the server's half of what
// the SDKs call a signer.
//
// The package is pure: values in, values out. A caller verifies in three
// steps, and does its own work between them:
//
//	claim, err := sigv4.Parse(req)                    // who says to have signed, when, for what
//	err = claim.Check(now, region, service)           // clock and credential scope
//	secret := ...                                     // of claim.AccessKeyID
//	key := sigv4.SigningKey(secret, claim.Date, region, service) // may be kept for the day
//	err = claim.Verify(req, &key, payloadHash)        // the signature itself
//
// Everything up to Verify needs no body, so that strangers are turned away
// before one is read. Errors are *firn.Fault of AWS's kinds with AWS's words.
//
// The rules are those of "Create a signed AWS API request" (AWS IAM User
// Guide) for services other than S3, which encode the path a second time.
// Clients have differed in how they do that and in how they sort the query;
// Verify accepts each form of which it can be said that no second request has
// the same.
package sigv4

import (
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/firn-run/firn"
)

// Algorithm is the only algorithm that is served.
const Algorithm = "AWS4-HMAC-SHA256"

// UnsignedPayload is what a client declares in place of the hash of a body
// that it does not sign.
const UnsignedPayload = "UNSIGNED-PAYLOAD"

// ClockSkew is how far the time of a request may be from the server's, either
// way (AWS's messages name 5 minutes).
const ClockSkew = 5 * time.Minute

// MaxExpires is the longest life of a presigned request.
const MaxExpires = 7 * 24 * time.Hour

// timeLayout is the form of X-Amz-Date.
const timeLayout = "20060102T150405Z"

// Request is the part of an HTTP request that is signed.
type Request struct {
	Method string
	// EscapedPath is the path as it came on the wire.
	EscapedPath string
	// RawQuery is the query as it came on the wire, without the question mark.
	RawQuery string
	// Host is the value of the Host header.
	Host string
	// Header has the other headers under their canonical names (X-Amz-Date).
	Header map[string][]string
}

// Claim is what a request says about its signature. Nothing of it is proved
// before Verify.
type Claim struct {
	AccessKeyID string
	// Date, Region and Service are the credential scope; Date is YYYYMMDD.
	Date, Region, Service string
	// Time is when the request was signed, to the second.
	Time time.Time
	// SessionToken is that of temporary credentials, or empty.
	SessionToken string
	// PayloadHash is the hexadecimal SHA-256 of the body that the client
	// declared, or UnsignedPayload, or empty when it declared none.
	PayloadHash string
	// Presigned is true for the form in the query; Expires is how long it
	// lives, or 0 when it does not say.
	Presigned bool
	Expires   time.Duration

	signedHeaders string // as given: lower case, parted by semicolons
	signature     string
	timeText      string // Time, in the form that was signed
}

// Parse reads the claim of a request. The errors are MissingAuthentication
// when there is no claim at all, and IncompleteSignature.
func Parse(r *Request) (*Claim, error) {
	if text := first(r.Header, "Authorization"); text != "" {
		return parseHeader(r, text)
	}
	if strings.Contains(r.RawQuery, "X-Amz-Algorithm=") || strings.Contains(r.RawQuery, "X-Amz-Signature=") {
		return parseQuery(r)
	}
	return nil, firn.Faultf(firn.MissingAuthentication, "Missing Authentication Token")
}

// parseHeader reads the Authorization header.
func parseHeader(r *Request, text string) (*Claim, error) {
	algorithm, rest, _ := strings.Cut(text, " ")
	c := &Claim{
		SessionToken: first(r.Header, "X-Amz-Security-Token"),
		PayloadHash:  first(r.Header, "X-Amz-Content-Sha256"),
	}
	if algorithm != Algorithm {
		if strings.HasPrefix(algorithm, "AWS4-") {
			return nil, firn.Faultf(firn.IncompleteSignature, "Unsupported AWS 'algorithm': '%s'.", algorithm)
		}
		rest = ""
	}
	var credential string
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "Credential":
			credential = value
		case "SignedHeaders":
			c.signedHeaders = value
		case "Signature":
			c.signature = value
		}
	}
	date := first(r.Header, "X-Amz-Date")
	if date == "" {
		date = first(r.Header, "Date")
	}
	var missing []string
	for _, p := range [...]struct{ value, text string }{
		{credential, "Authorization header requires 'Credential' parameter."},
		{c.signature, "Authorization header requires 'Signature' parameter."},
		{c.signedHeaders, "Authorization header requires 'SignedHeaders' parameter."},
		{date, "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."},
	} {
		if p.value == "" {
			missing = append(missing, p.text)
		}
	}
	if len(missing) > 0 {
		sum := sha256.Sum256([]byte(text)) // not the text: it may hold a secret
		return nil, firn.Faultf(firn.IncompleteSignature, "%s (Hashed with SHA-256 and encoded with Base64) Authorization=%s",
			strings.Join(missing, " "), base64.StdEncoding.EncodeToString(sum[:]))
	}
	return c.complete(credential, date)
}

// parseQuery reads the parameters of a presigned request.
func parseQuery(r *Request) (*Claim, error) {
	query, err := url.ParseQuery(r.RawQuery)
	if err != nil {
		return nil, firn.Faultf(firn.IncompleteSignature, "The query string is malformed.")
	}
	var missing []string
	need := func(name string) string {
		value := query.Get(name)
		if value == "" {
			missing = append(missing, "AWS query-string parameters must include '"+name+"'.")
		}
		return value
	}
	algorithm, credential, signature := need("X-Amz-Algorithm"), need("X-Amz-Credential"), need("X-Amz-Signature")
	headers, date := need("X-Amz-SignedHeaders"), need("X-Amz-Date")
	if len(missing) > 0 {
		return nil, firn.Faultf(firn.IncompleteSignature, "%s Re-examine the query-string parameters.", strings.Join(missing, " "))
	}
	if algorithm != Algorithm {
		return nil, firn.Faultf(firn.IncompleteSignature, "Unsupported AWS 'algorithm': '%s'.", algorithm)
	}
	c := &Claim{
		Presigned:     true,
		SessionToken:  query.Get("X-Amz-Security-Token"),
		PayloadHash:   query.Get("X-Amz-Content-Sha256"),
		signedHeaders: headers,
		signature:     signature,
	}
	if c.PayloadHash == "" {
		c.PayloadHash = first(r.Header, "X-Amz-Content-Sha256")
	}
	if text := query.Get("X-Amz-Expires"); text != "" {
		seconds, err := strconv.ParseInt(text, 10, 64)
		switch {
		case err != nil:
			return nil, firn.Faultf(firn.IncompleteSignature, "X-Amz-Expires should be a number")
		case seconds < 0:
			return nil, firn.Faultf(firn.IncompleteSignature, "X-Amz-Expires must be non-negative")
		case seconds > int64(MaxExpires/time.Second):
			return nil, firn.Faultf(firn.IncompleteSignature,
				"X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds")
		}
		c.Expires = time.Duration(seconds) * time.Second
	}
	return c.complete(credential, date)
}

// complete reads the credential and the date, which both forms have.
func (c *Claim) complete(credential, date string) (*Claim, error) {
	parts := strings.Split(credential, "/")
	if len(parts) < 5 {
		return nil, firn.Faultf(firn.IncompleteSignature,
			"Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '%s'", credential)
	}
	// A key may not, but could, hold a slash: the scope is the last four.
	scope := parts[len(parts)-4:]
	c.AccessKeyID = strings.Join(parts[:len(parts)-4], "/")
	c.Date, c.Region, c.Service = scope[0], scope[1], scope[2]
	if scope[3] != "aws4_request" {
		return nil, firn.Faultf(firn.InvalidSignature,
			"Credential should be scoped with a valid terminator: 'aws4_request', not '%s'.", scope[3])
	}
	t, err := parseTime(date)
	if err != nil {
		return nil, firn.Faultf(firn.IncompleteSignature,
			"Date must be in ISO-8601 'basic format'. Got '%s'. See http://en.wikipedia.org/wiki/ISO_8601", date)
	}
	c.Time, c.timeText = t, t.Format(timeLayout)
	if !signsHost(c.signedHeaders) {
		return nil, firn.Faultf(firn.InvalidSignature, "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	}
	return c, nil
}

// parseTime reads the time of a request: X-Amz-Date, or what a Date header may
// hold.
func parseTime(text string) (time.Time, error) {
	if t, err := time.Parse(timeLayout, text); err == nil {
		return t, nil
	}
	if t, err := time.Parse("Mon, 02 Jan 2006 15:04:05 GMT", text); err == nil {
		return t, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	return t.UTC().Truncate(time.Second), err
}

// signsHost reports whether the signed headers include the host.
func signsHost(signed string) bool {
	for name := range strings.SplitSeq(signed, ";") {
		if name == "host" || name == ":authority" {
			return true
		}
	}
	return false
}

// Check compares the claim with the server's clock and the only scope it
// accepts. The errors are InvalidSignature.
func (c *Claim) Check(now time.Time, region, service string) error {
	if err := c.checkClock(now.UTC()); err != nil {
		return err
	}
	switch {
	case c.timeText[:8] != c.Date:
		return firn.Faultf(firn.InvalidSignature,
			"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%s' != '%s', from '%s'.",
			c.Date, c.timeText[:8], c.timeText)
	case c.Region != region:
		return firn.Faultf(firn.InvalidSignature, "Credential should be scoped to a valid region.")
	case c.Service != service:
		return firn.Faultf(firn.InvalidSignature, "Credential should be scoped to correct service: '%s'.", service)
	}
	return nil
}

// checkClock refuses requests of the past and of the future.
func (c *Claim) checkClock(now time.Time) error {
	window := ClockSkew
	if c.Presigned && c.Expires > 0 {
		window = c.Expires
	}
	if oldest := now.Add(-window); c.Time.Before(oldest.Truncate(time.Second)) {
		return firn.Faultf(firn.InvalidSignature, "Signature expired: %s is now earlier than %s (%s - %d min.)",
			c.timeText, oldest.Format(timeLayout), now.Format(timeLayout), int(window.Minutes()))
	}
	if newest := now.Add(ClockSkew); c.Time.After(newest) {
		return firn.Faultf(firn.InvalidSignature, "Signature not yet current: %s is still later than %s (%s + %d min.)",
			c.timeText, newest.Format(timeLayout), now.Format(timeLayout), int(ClockSkew.Minutes()))
	}
	return nil
}

// first returns the first value of a header.
func first(h map[string][]string, name string) string {
	if values := h[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}
