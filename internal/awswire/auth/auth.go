// Package auth verifies who made a request: AWS Signature Version 4, in the
// header and in the presigned form, with the secrets that a Credentials finds.
//
// A request is checked in two halves, so that a stranger is turned away before
// a byte of the body is read: Begin checks all that needs no body, and the
// signature too where the client declared the body's hash; Finish checks the
// body. The cryptography is package sigv4's; here are the keys, which one cache
// keeps for all services of a listener.
package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/sigv4"
)

// Credentials finds the secret of an access key. It is implemented by package
// keyring.
type Credentials interface {
	// Lookup returns whose the access key is and its secret. sessionToken is
	// that of the request, or empty. The error is a *firn.Fault that the caller
	// of the API sees: UnrecognizedClient for a key or token that is not known,
	// ExpiredToken for one whose time is over. Lookup must be quick: it is
	// called for every request.
	Lookup(ctx context.Context, accessKeyID, sessionToken string, now time.Time) (id firn.Identity, secret string, err error)
}

// Config is what an Authenticator needs.
type Config struct {
	// Credentials finds secrets.
	Credentials Credentials
	// Region and Service are the only scope that is accepted, for example
	// "eu-central-1" and "lambda".
	Region, Service string
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// Authenticator verifies AWS Signature Version 4 on requests, in the header
// and in the presigned form. It is safe for concurrent use.
type Authenticator struct {
	cfg  Config
	keys *keyCache
}

// New makes an Authenticator.
func New(cfg Config) *Authenticator {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Authenticator{cfg: cfg, keys: &keyCache{}}
}

// For returns an Authenticator that accepts signatures for another service, by
// its signing name, and is the same otherwise. Both share one cache of keys.
func (a *Authenticator) For(service string) *Authenticator {
	cfg := a.cfg
	cfg.Service = service
	return &Authenticator{cfg: cfg, keys: a.keys}
}

// Authenticate verifies the signature of a request whose body has been read.
// The error is a *firn.Fault.
func (a *Authenticator) Authenticate(r *http.Request, body []byte) (firn.Identity, error) {
	p, err := a.Begin(r)
	if err != nil {
		return firn.Identity{}, err
	}
	if err := p.Finish(r, body); err != nil {
		return firn.Identity{}, err
	}
	return p.Identity, nil
}

// Proof is a signature that has been checked as far as is possible without the
// body.
type Proof struct {
	claim *sigv4.Claim
	key   [sha256.Size]byte
	// Identity is whose key signed the request. It is not to be trusted before
	// Finish has returned nil.
	Identity firn.Identity
	// declared is the body's hash if the signature over the client's own
	// declaration has been verified already.
	declared string
}

// Begin checks everything that needs no body: form, clock, scope, key, and the
// signature too where the client declared the body's hash.
func (a *Authenticator) Begin(r *http.Request) (*Proof, error) {
	signed := signedPart(r)
	claim, err := sigv4.Parse(&signed)
	if err != nil {
		return nil, err
	}
	now := a.cfg.Now()
	if err := claim.Check(now, a.cfg.Region, a.cfg.Service); err != nil {
		return nil, err
	}
	p := &Proof{claim: claim}
	var secret string
	p.Identity, secret, err = a.cfg.Credentials.Lookup(r.Context(), claim.AccessKeyID, claim.SessionToken, now)
	if err != nil {
		return nil, err
	}
	p.key = a.keys.get(keyOf{claim.AccessKeyID, claim.Date, claim.Region, claim.Service}, secret)
	if claim.PayloadHash != "" {
		if err := claim.Verify(&signed, &p.key, claim.PayloadHash); err != nil {
			return nil, err
		}
		p.declared = claim.PayloadHash
	}
	return p, nil
}

// Finish checks the body. The error is a *firn.Fault.
func (p *Proof) Finish(r *http.Request, body []byte) error {
	if p.declared == sigv4.UnsignedPayload {
		return nil
	}
	sum := sha256.Sum256(body)
	var text [2 * sha256.Size]byte
	hex.Encode(text[:], sum[:])
	if p.declared == "" {
		signed := signedPart(r)
		return p.claim.Verify(&signed, &p.key, string(text[:]))
	}
	if subtle.ConstantTimeCompare(text[:], []byte(strings.ToLower(p.declared))) != 1 {
		return firn.Faultf(firn.InvalidSignature, "The value of x-amz-content-sha256 is not the SHA-256 of the body.")
	}
	return nil
}

// signedPart is the view of a request that package sigv4 has.
func signedPart(r *http.Request) sigv4.Request {
	return sigv4.Request{
		Method:      r.Method,
		EscapedPath: r.URL.EscapedPath(),
		RawQuery:    r.URL.RawQuery,
		Host:        r.Host,
		Header:      r.Header,
	}
}

// maxKeys bounds the cache of signing keys: some hundred kilobytes.
const maxKeys = 4096

// keyCache keeps signing keys, which change once a day, so that a request
// costs one HMAC in place of five. It is emptied when full, which costs less
// than an order of use would for every request.
type keyCache struct {
	mu   sync.RWMutex
	keys map[keyOf]cachedKey // guarded by mu
}

// keyOf names a signing key.
type keyOf struct{ accessKeyID, date, region, service string }

// cachedKey is a signing key with the secret it was derived from: another
// secret for the same access key must not meet the old key.
type cachedKey struct {
	secret string
	key    [sha256.Size]byte
}

// get returns the signing key, from the cache if it is there.
func (c *keyCache) get(name keyOf, secret string) [sha256.Size]byte {
	c.mu.RLock()
	cached, ok := c.keys[name]
	c.mu.RUnlock()
	if ok && cached.secret == secret {
		return cached.key
	}
	key := sigv4.SigningKey(secret, name.date, name.region, name.service)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys == nil || len(c.keys) >= maxKeys {
		c.keys = make(map[keyOf]cachedKey)
	}
	c.keys[name] = cachedKey{secret, key}
	return key
}
