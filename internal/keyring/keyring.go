// Package keyring owns the one secret of a data directory, its key file, and
// everything derived from it: the sealing of secrets at rest, the root user's
// access key, and the temporary credentials of execution roles.
//
// Nothing but the key file is stored. The root access key is a function of
// the key, so that it survives restarts; temporary credentials are stateless:
// their session token carries, sealed, whom it stands for and until when, and
// their secret is a function of their access key id. Looking one up is two
// short computations and no table, which the invoke path needs.
//
// Each use has a key of its own, derived by HKDF from the file's with the
// use's name. Whoever has the file has everything: it is made with mode 0600
// and refused when others can read it. No method's output that is meant for
// people contains a secret.
package keyring

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// ErrSealed is what Open returns for data that was not sealed by this key for
// this identity, or was changed.
var ErrSealed = errors.New("sealed data cannot be opened")

// sealedPrefix marks and versions what Seal returns.
const sealedPrefix = "firn1:"

// Config is what Open needs.
type Config struct {
	// Path is the key file, made if it does not exist.
	Path string
	// Account is the account, twelve digits, whose root user the keyring
	// makes the access key of.
	Account string
	// MustExist refuses to make a key file: where there is data already, a
	// missing key is a loss to be told and not the beginning of another.
	MustExist bool
}

// Keyring holds the keys of an open key file. It is immutable and safe for
// concurrent use.
type Keyring struct {
	account string
	id      string // fingerprint, not secret
	sealing cipher.AEAD
	session cipher.AEAD
	secrets []byte // HMAC key of the secrets of temporary credentials
	root    Credentials
}

// Open reads the key file, or makes it with a new random key. It refuses a
// file that users other than its owner can read or write, and one that is
// damaged.
func Open(cfg Config) (*Keyring, error) {
	if !isAccount(cfg.Account) {
		return nil, fmt.Errorf("keyring: %q is not an account of twelve digits", cfg.Account)
	}
	master, err := loadKey(cfg.Path, cfg.MustExist)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	k := &Keyring{account: cfg.Account}
	id, err := derive(master, "key id", 8)
	if err != nil {
		return nil, err
	}
	k.id = fmt.Sprintf("%x", id)
	if k.sealing, err = deriveAEAD(master, "secrets at rest"); err != nil {
		return nil, err
	}
	if k.session, err = deriveAEAD(master, "session tokens"); err != nil {
		return nil, err
	}
	if k.secrets, err = derive(master, "secret access keys", sha256.Size); err != nil {
		return nil, err
	}
	if k.root, err = rootCredentials(master, cfg.Account); err != nil {
		return nil, err
	}
	return k, nil
}

// derive makes the key of one use.
func derive(master []byte, use string, size int) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, master, nil, "firn "+use, size)
	if err != nil {
		return nil, fmt.Errorf("keyring: derive key: %w", err)
	}
	return key, nil
}

// deriveAEAD makes the AES-256-GCM of one use. Its nonces are random, good
// for 2^32 messages: a hundred a second for a year.
func deriveAEAD(master []byte, use string) (cipher.AEAD, error) {
	key, err := derive(master, use, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// ID is a fingerprint of the key, not secret: a store that was sealed with
// another key can be told before anything fails to open.
func (k *Keyring) ID() string { return k.id }

// Seal encrypts a secret for storage in text. identity names what the secret
// belongs to (such as kind and key of its record): it is not stored, and Open
// needs the same, so that a sealed value moved to another record is useless.
func (k *Keyring) Seal(plaintext []byte, identity string) string {
	return sealedPrefix + base64.RawStdEncoding.EncodeToString(k.sealing.Seal(nil, nil, plaintext, []byte(identity)))
}

// Open decrypts what Seal returned for the same identity, else it fails with
// ErrSealed.
func (k *Keyring) Open(sealed, identity string) ([]byte, error) {
	text, ok := strings.CutPrefix(sealed, sealedPrefix)
	if !ok {
		return nil, fmt.Errorf("%w: unknown format", ErrSealed)
	}
	raw, ok := decode(base64.RawStdEncoding, text)
	if !ok {
		return nil, fmt.Errorf("%w: not base64", ErrSealed)
	}
	plaintext, err := k.sealing.Open(nil, nil, raw, []byte(identity))
	if err != nil {
		return nil, fmt.Errorf("%w: another key, another owner or damaged (this key is %s)", ErrSealed, k.id)
	}
	return plaintext, nil
}

// decode accepts the one encoding of each value: the standard decoder lets
// line ends pass, even when strict.
func decode(enc *base64.Encoding, s string) ([]byte, bool) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, false
	}
	b, err := enc.Strict().DecodeString(s)
	return b, err == nil
}

// String shows the fingerprint only.
func (k *Keyring) String() string { return "keyring " + k.id }

// GoString is String: no verb of package fmt shows a key.
func (k *Keyring) GoString() string { return k.String() }

// LogValue is String for package slog.
func (k *Keyring) LogValue() slog.Value { return slog.StringValue(k.String()) }
