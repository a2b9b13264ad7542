package keyring

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/firn-run/firn"
)

// Prefixes of access key ids ("IAM identifiers", unique ID prefixes).
const (
	longTermPrefix  = "AKIA"
	temporaryPrefix = "ASIA"
)

// The messages of AWS for credentials that do not hold.
const (
	invalidToken = "The security token included in the request is invalid."
	expiredToken = "The security token included in the request is expired"
)

// Credentials are an access key, with a session token and an end when they
// are temporary. Printing or logging them shows the access key id only.
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string    // empty for the root user's
	Expiration      time.Time // zero for the root user's
}

// String shows what is not secret.
func (c Credentials) String() string {
	if c.Expiration.IsZero() {
		return c.AccessKeyID
	}
	return c.AccessKeyID + " until " + c.Expiration.UTC().Format(time.RFC3339)
}

// GoString is String: no verb of package fmt shows the secret.
func (c Credentials) GoString() string { return c.String() }

// LogValue is String for package slog.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// rootCredentials derives the root user's access key.
func rootCredentials(master []byte, account string) (Credentials, error) {
	id, err := derive(master, "root access key id "+account, 10)
	if err != nil {
		return Credentials{}, err
	}
	secret, err := derive(master, "root secret access key "+account, 30)
	if err != nil {
		return Credentials{}, err
	}
	return Credentials{
		AccessKeyID:     longTermPrefix + base32.StdEncoding.EncodeToString(id), // 16 characters, as AWS's
		SecretAccessKey: base64.StdEncoding.EncodeToString(secret),              // 40 characters, as AWS's
	}, nil
}

// Root is the root user's access key: the same at every start.
func (k *Keyring) Root() Credentials { return k.root }

// Issue makes temporary credentials for a session of a role, good until
// expires (in whole seconds; the rest is cut off). The role is the ARN of an
// IAM role; the session name is 1 to 64 of the characters that AssumeRole
// allows.
func (k *Keyring) Issue(roleARN, sessionName string, expires time.Time) (Credentials, error) {
	if _, err := assumedRole(roleARN, sessionName); err != nil {
		return Credentials{}, err
	}
	random := make([]byte, 10)
	rand.Read(random) // never fails
	c := Credentials{
		AccessKeyID: temporaryPrefix + base32.StdEncoding.EncodeToString(random),
		Expiration:  expires.UTC().Truncate(time.Second),
	}
	c.SecretAccessKey = k.temporarySecret(c.AccessKeyID)
	claims := session{role: roleARN, name: sessionName, expires: c.Expiration.Unix()}
	c.SessionToken = base64.StdEncoding.EncodeToString(k.session.Seal(nil, nil, claims.marshal(), []byte(c.AccessKeyID)))
	return c, nil
}

// temporarySecret is the secret of an access key id that Issue made. Anyone
// may name an id; only a session token sealed for it makes it count.
func (k *Keyring) temporarySecret(id string) string {
	mac := hmac.New(sha256.New, k.secrets)
	mac.Write([]byte(id))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil)[:30])
}

// Lookup returns whom an access key stands for and the secret that its
// signatures are made with. The error is a *firn.Fault: UnrecognizedClient
// for a key or token that is not of this keyring or do not belong together,
// ExpiredToken when the credentials ended at or before now.
//
// The identity is not proved before the signature is verified.
func (k *Keyring) Lookup(_ context.Context, accessKeyID, sessionToken string, now time.Time) (firn.Identity, string, error) {
	if accessKeyID == k.root.AccessKeyID && sessionToken == "" {
		return firn.Identity{
			ARN: "arn:aws:iam::" + k.account + ":root", Account: k.account, AccessKeyID: accessKeyID, Root: true,
		}, k.root.SecretAccessKey, nil
	}
	claims, err := k.openSession(accessKeyID, sessionToken)
	if err != nil {
		return firn.Identity{}, "", &firn.Fault{Kind: firn.UnrecognizedClient, Op: "look up access key", Message: invalidToken, Cause: err}
	}
	if !now.Before(time.Unix(claims.expires, 0)) {
		return firn.Identity{}, "", firn.Faultf(firn.ExpiredToken, expiredToken)
	}
	id, err := assumedRole(claims.role, claims.name)
	if err != nil {
		return firn.Identity{}, "", &firn.Fault{Kind: firn.UnrecognizedClient, Op: "look up access key", Message: invalidToken, Cause: err}
	}
	id.AccessKeyID = accessKeyID
	return id, k.temporarySecret(accessKeyID), nil
}

// openSession opens a session token. Its messages quote neither part of it.
func (k *Keyring) openSession(accessKeyID, token string) (session, error) {
	if !strings.HasPrefix(accessKeyID, temporaryPrefix) || token == "" {
		return session{}, errors.New("unknown access key id")
	}
	if len(token) > maxToken {
		return session{}, errors.New("session token is too long")
	}
	raw, ok := decode(base64.StdEncoding, token)
	if !ok {
		return session{}, errors.New("session token is not base64")
	}
	plain, err := k.session.Open(nil, nil, raw, []byte(accessKeyID))
	if err != nil {
		return session{}, errors.New("session token is not of this key")
	}
	return parseSession(plain)
}

// maxToken bounds a session token that is tried: longer than any of ours.
const maxToken = 4096

// session is what a session token carries, sealed with the access key id as
// additional data.
type session struct {
	role    string
	name    string
	expires int64 // seconds since 1970
}

// sessionVersion is the first byte of a marshalled session.
const sessionVersion = 1

// marshal is: version, expires as 8 bytes big-endian, length of role as 2
// bytes, role, name.
func (s session) marshal() []byte {
	b := make([]byte, 0, 11+len(s.role)+len(s.name))
	b = append(b, sessionVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(s.expires))
	b = binary.BigEndian.AppendUint16(b, uint16(len(s.role)))
	b = append(b, s.role...)
	return append(b, s.name...)
}

func parseSession(b []byte) (session, error) {
	if len(b) < 11 || b[0] != sessionVersion {
		return session{}, errors.New("unknown format of session")
	}
	n := int(binary.BigEndian.Uint16(b[9:]))
	if len(b) < 11+n {
		return session{}, errors.New("truncated session")
	}
	return session{
		expires: int64(binary.BigEndian.Uint64(b[1:])),
		role:    string(b[11 : 11+n]),
		name:    string(b[11+n:]),
	}, nil
}

// assumedRole names a session of a role: the role's path is left out, as AWS
// does.
func assumedRole(roleARN, sessionName string) (firn.Identity, error) {
	parts := strings.SplitN(roleARN, ":", 6)
	if len(parts) != 6 || len(roleARN) > 2048 || parts[0] != "arn" || parts[1] == "" || parts[2] != "iam" || parts[3] != "" ||
		!isAccount(parts[4]) {
		return firn.Identity{}, fmt.Errorf("%q is not the ARN of a role", roleARN[:min(len(roleARN), 200)])
	}
	path, ok := strings.CutPrefix(parts[5], "role/")
	name := path[strings.LastIndexByte(path, '/')+1:]
	if !ok || name == "" {
		return firn.Identity{}, fmt.Errorf("%q is not the ARN of a role", roleARN)
	}
	if !isSessionName(sessionName) {
		return firn.Identity{}, fmt.Errorf("%q is not the name of a session: 1 to 64 characters of a-z, A-Z, 0-9 and _=,.@-", sessionName[:min(len(sessionName), 200)])
	}
	return firn.Identity{
		ARN:     "arn:" + parts[1] + ":sts::" + parts[4] + ":assumed-role/" + name + "/" + sessionName,
		Account: parts[4],
	}, nil
}

func isAccount(s string) bool {
	if len(s) != 12 {
		return false
	}
	return strings.Trim(s, "0123456789") == ""
}

// isSessionName is the pattern [\w+=,.@-]{2,64} of AssumeRole's model, but
// for the least length: Lambda names sessions after functions, whose names
// may be of one character.
func isSessionName(s string) bool {
	if len(s) < 1 || len(s) > 64 {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', strings.IndexByte("_+=,.@-", c) >= 0:
		default:
			return false
		}
	}
	return true
}
