package sigv4

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/url"
	"slices"
	"strings"

	"github.com/firn-run/firn"
)

// SigningKey derives the key with which requests of one day, region and
// service are signed. date is YYYYMMDD, as in Claim.Date.
func SigningKey(secret, date, region, service string) [sha256.Size]byte {
	key := hmacSHA256([]byte("AWS4"+secret), date)
	key = hmacSHA256(key[:], region)
	key = hmacSHA256(key[:], service)
	return hmacSHA256(key[:], "aws4_request")
}

// Verify compares the signature with the one that key gives. payloadHash is
// the hexadecimal SHA-256 of the body, or what the client declared in its
// place, when the caller has made sure that the declaration is true. The error
// is InvalidSignature.
func (c *Claim) Verify(r *Request, key *[sha256.Size]byte, payloadHash string) error {
	var given [sha256.Size]byte
	if n, err := hex.Decode(given[:], []byte(c.signature[:min(len(c.signature), 2*sha256.Size)])); err == nil &&
		n == sha256.Size && len(c.signature) == 2*sha256.Size {
		for form := range forms {
			if !form.applies(r) {
				continue
			}
			computed := c.sign(r, key, payloadHash, form)
			if subtle.ConstantTimeCompare(computed[:], given[:]) == 1 {
				return nil
			}
		}
	}
	return firn.Faultf(firn.InvalidSignature, "The request signature we calculated does not match the signature you provided. "+
		"Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
}

// form is one way in which clients have written the same request for signing.
// The zero form is that of today's SDKs.
type form struct {
	path        pathForm
	decodedSort bool // the query is sorted before it is encoded, as the Go SDK does
}

type pathForm uint8

const (
	// encodedTwice is the rule: the path of the wire, encoded again.
	encodedTwice pathForm = iota
	// asSent takes the path of the wire as it is.
	asSent
	// encodedOnce encodes the decoded path.
	encodedOnce
)

// forms yields all forms, the likeliest first.
func forms(yield func(form) bool) {
	for _, path := range [...]pathForm{encodedTwice, asSent, encodedOnce} {
		if !yield(form{path, false}) || !yield(form{path, true}) {
			return
		}
	}
}

// applies reports whether a form can differ from those before it, and is
// safe. A path with an encoded percent sign has the rule's form only: of the
// others it could not be told from a path that was encoded once more.
func (f form) applies(r *Request) bool {
	if f.path != encodedTwice && (plain(r.EscapedPath) || strings.Contains(r.EscapedPath, "%25")) {
		return false
	}
	return !f.decodedSort || strings.Contains(r.RawQuery, "&") && strings.Contains(r.RawQuery, "%")
}

// plain reports whether encoding a path changes nothing.
func plain(path string) bool {
	for i := range len(path) {
		if !unreserved(path[i]) && path[i] != '/' {
			return false
		}
	}
	return true
}

// sign computes the signature of a request.
func (c *Claim) sign(r *Request, key *[sha256.Size]byte, payloadHash string, f form) [sha256.Size]byte {
	var space [1024]byte // keeps ordinary requests off the heap
	canonical := c.appendCanonical(space[:0], r, payloadHash, f)
	sum := sha256.Sum256(canonical)

	var text [256]byte
	b := append(text[:0], Algorithm...)
	b = append(append(b, '\n'), c.timeText...)
	b = append(append(b, '\n'), c.Date...)
	b = append(append(b, '/'), c.Region...)
	b = append(append(b, '/'), c.Service...)
	b = append(b, "/aws4_request\n"...)
	b = hex.AppendEncode(b, sum[:])
	return hmacSHA256(key[:], b)
}

// appendCanonical appends the canonical request.
func (c *Claim) appendCanonical(b []byte, r *Request, payloadHash string, f form) []byte {
	b = append(append(b, r.Method...), '\n')
	b = append(appendPath(b, r.EscapedPath, f.path), '\n')
	b = append(appendQuery(b, r.RawQuery, c.Presigned, f.decodedSort), '\n')
	for name := range strings.SplitSeq(c.signedHeaders, ";") {
		b = append(append(b, name...), ':')
		b = append(appendHeader(b, r, name), '\n')
	}
	b = append(b, '\n')
	b = append(append(b, c.signedHeaders...), '\n')
	return append(b, payloadHash...)
}

// appendPath appends the canonical path.
func appendPath(b []byte, path string, f pathForm) []byte {
	if path == "" {
		path = "/"
	}
	switch f {
	case asSent:
		return append(b, path...)
	case encodedOnce:
		if decoded, err := url.PathUnescape(path); err == nil {
			path = decoded
		}
	}
	return appendEncoded(b, path, true)
}

// pair is one parameter of a query.
type pair struct{ name, value string }

// appendQuery appends the canonical query: decoded, encoded by AWS's rule, and
// sorted.
func appendQuery(b []byte, raw string, presigned, decodedSort bool) []byte {
	if raw == "" {
		return b
	}
	var pairs []pair
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		p := pair{unescape(name), unescape(value)}
		if presigned && p.name == "X-Amz-Signature" {
			continue
		}
		if !decodedSort {
			p = pair{string(appendEncoded(nil, p.name, false)), string(appendEncoded(nil, p.value, false))}
		}
		pairs = append(pairs, p)
	}
	slices.SortFunc(pairs, func(x, y pair) int {
		if c := strings.Compare(x.name, y.name); c != 0 {
			return c
		}
		return strings.Compare(x.value, y.value)
	})
	for i, p := range pairs {
		if i > 0 {
			b = append(b, '&')
		}
		if decodedSort {
			b = appendEncoded(b, p.name, false)
			b = appendEncoded(append(b, '='), p.value, false)
		} else {
			b = append(append(append(b, p.name...), '='), p.value...)
		}
	}
	return b
}

// unescape decodes a part of a query; what is malformed stays as it is.
func unescape(s string) string {
	if decoded, err := url.QueryUnescape(s); err == nil {
		return decoded
	}
	return s
}

// appendHeader appends the canonical value of a signed header: trimmed, runs
// of spaces made one, several values joined by commas.
func appendHeader(b []byte, r *Request, name string) []byte {
	if name == "host" || name == ":authority" {
		return append(b, strings.TrimSpace(r.Host)...)
	}
	var space [64]byte
	key := appendCanonicalName(space[:0], name)
	for i, value := range r.Header[string(key)] {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendTrimmed(b, value)
	}
	return b
}

// appendCanonicalName appends a header's name as net/http keeps it.
func appendCanonicalName(b []byte, name string) []byte {
	upper := true
	for i := range len(name) {
		c := name[i]
		if upper && 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		upper = c == '-'
		b = append(b, c)
	}
	return b
}

// appendTrimmed appends a header's value without spaces around it and with
// single ones inside.
func appendTrimmed(b []byte, value string) []byte {
	value = strings.Trim(value, " \t")
	if !strings.Contains(value, "  ") {
		return append(b, value...)
	}
	for i := range len(value) {
		if value[i] == ' ' && value[i-1] == ' ' { // the first is no space
			continue
		}
		b = append(b, value[i])
	}
	return b
}

// unreserved reports whether a byte is never encoded (RFC 3986).
func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '_' || c == '.' || c == '~'
}

// appendEncoded appends s in percent encoding, with slashes kept or not.
func appendEncoded(b []byte, s string, keepSlash bool) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; unreserved(c) || keepSlash && c == '/' {
			b = append(b, c)
		} else {
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return b
}

// hmacSHA256 is HMAC (RFC 2104) over short messages, without the allocations
// of crypto/hmac.
func hmacSHA256[T string | []byte](key []byte, message T) [sha256.Size]byte {
	const block = sha256.BlockSize
	if len(key) > block {
		sum := sha256.Sum256(key)
		key = sum[:]
	}
	var space [block + 512]byte
	inner := space[:block]
	var outer [block + sha256.Size]byte
	for i := range block {
		var k byte
		if i < len(key) {
			k = key[i]
		}
		inner[i], outer[i] = k^0x36, k^0x5c
	}
	sum := sha256.Sum256(append(inner, message...))
	copy(outer[block:], sum[:])
	return sha256.Sum256(outer[:])
}
