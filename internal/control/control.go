// Package control is the Lambda API: the operations on functions, layers,
// tags and the account, and Invoke as callers see it.
//
// A function is one record of package state. Every change writes it before it
// is acknowledged, and what an invocation needs of it, a firn.FunctionVersion,
// is kept in memory and exchanged in one step. A created or changed function
// is first Pending (or its update InProgress) while its code is unpacked, then
// Active, as on AWS; a restart takes up where the process stopped.
package control

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash/maphash"
	"io"
	"iter"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/blob"
	"github.com/firn-run/firn/internal/image"
	"github.com/firn-run/firn/internal/invoke"
	"github.com/firn-run/firn/internal/state"
)

// Blobs stores archives by content (package blob).
type Blobs interface {
	Put(ctx context.Context, r io.Reader, limit int64) (firn.Digest, int64, error)
	Open(digest firn.Digest) (file *os.File, size int64, err error)
	List() iter.Seq2[blob.Info, error]
	Delete(digest firn.Digest) error
}

// Images checks archives and unpacks them (package image).
type Images interface {
	Inspect(ctx context.Context, r io.ReaderAt, size int64) (image.Info, error)
	Function(ctx context.Context, code firn.Digest) (dir string, err error)
	Layers(ctx context.Context, layers []firn.Digest) (dir string, err error)
}

// Sealer keeps secrets unreadable at rest (package keyring). The identity
// binds a secret to its place, so that records cannot be exchanged.
type Sealer interface {
	Seal(plain []byte, identity string) (sealed string)
	Open(sealed, identity string) (plain []byte, err error)
}

// Retirer ends the environments of versions that were replaced (package fleet).
type Retirer interface {
	Retire(key string)
}

// Config is what the control plane is made of.
type Config struct {
	Store   *state.Store
	Blobs   Blobs
	Images  Images
	Sealer  Sealer
	Retirer Retirer
	Logger  *slog.Logger

	Region       string
	Account      string
	Architecture string // of this host: "x86_64" or "arm64"
	Concurrency  int    // the account's limit
	// Endpoint is the base URL under which clients reach firn; Code.Location
	// begins with it.
	Endpoint func() string
	Now      func() time.Time
}

// Control serves the operations. Run settles functions in the background.
type Control struct {
	cfg     Config
	invoker *invoke.Invoker

	functions sync.Map // name -> *function
	settle    chan string

	// changes serialises changes of one function; functions share locks by
	// the hash of their name.
	changes [64]sync.Mutex
	seed    maphash.Seed

	mu     sync.Mutex
	usage  map[firn.Digest]*usage // archives that records refer to
	names  map[string]struct{}    // names of functions, for counting
	layers map[string]map[int64]*layerVersion
}

// usage counts the references to one archive.
type usage struct {
	refs int
	size int64
}

// New returns a control plane over its store; Load must be called before it
// serves, and SetInvoker before the first Invoke.
func New(cfg Config) *Control {
	return &Control{
		cfg:    cfg,
		settle: make(chan string, 1024),
		seed:   maphash.MakeSeed(),
		usage:  make(map[firn.Digest]*usage),
		names:  make(map[string]struct{}),
		layers: make(map[string]map[int64]*layerVersion),
	}
}

// SetInvoker closes the circle: the invoker resolves functions through the
// Control, and the operation Invoke runs them through the invoker.
func (c *Control) SetInvoker(i *invoke.Invoker) { c.invoker = i }

// Mount serves the operations on mux.
func (c *Control) Mount(mux *awswire.Mux) {
	awswire.Handle(mux, c.createFunction)
	awswire.Handle(mux, c.getFunction)
	awswire.Handle(mux, c.getFunctionConfiguration)
	awswire.Handle(mux, c.listFunctions)
	awswire.Handle(mux, c.updateFunctionCode)
	awswire.Handle(mux, c.updateFunctionConfiguration)
	awswire.Handle(mux, c.deleteFunction)
	awswire.Handle(mux, c.publishLayerVersion)
	awswire.Handle(mux, c.getLayerVersion)
	awswire.Handle(mux, c.getLayerVersionByArn)
	awswire.Handle(mux, c.listLayers)
	awswire.Handle(mux, c.listLayerVersions)
	awswire.Handle(mux, c.deleteLayerVersion)
	awswire.Handle(mux, c.tagResource)
	awswire.Handle(mux, c.untagResource)
	awswire.Handle(mux, c.listTags)
	awswire.Handle(mux, c.getAccountSettings)
	c.mountInvoke(mux)
}

// lock serialises changes of one name until the returned function is called.
func (c *Control) lock(name string) (unlock func()) {
	m := &c.changes[maphash.String(c.seed, name)%uint64(len(c.changes))]
	m.Lock()
	return m.Unlock
}

// timestamp is LastModified's and CreatedDate's form.
func (c *Control) timestamp() *string {
	s := c.cfg.Now().UTC().Format("2006-01-02T15:04:05.000+0000")
	return &s
}

// codeSha256 is the base64 form in which AWS shows a digest.
func codeSha256(d firn.Digest) string {
	raw, err := hex.DecodeString(string(d))
	if err != nil || len(raw) != sha256.Size {
		return ""
	}
	return base64.StdEncoding.EncodeToString(raw)
}

// notServed is the answer to a setting that AWS has and firn does not serve
// yet: refusing is honest, storing and ignoring is not.
func notServed(setting, hint string) error {
	return firn.Faultf(firn.NotImplemented, "firn does not serve %s yet%s; see DIVERGENCES.md", setting, hint)
}

func invalid(format string, args ...any) error {
	return firn.Faultf(firn.InvalidParameterValue, format, args...)
}

// page cuts a sorted list at the caller's Marker and MaxItems.
func page[T any](items []T, marker *string, maxItems *int32, limit int, key func(T) string) (out []T, next *string) {
	if marker != nil && *marker != "" {
		raw, err := base64.RawURLEncoding.DecodeString(*marker)
		if err == nil {
			for len(items) > 0 && key(items[0]) <= string(raw) {
				items = items[1:]
			}
		}
	}
	if maxItems != nil && int(*maxItems) < limit {
		limit = int(*maxItems)
	}
	if len(items) > limit {
		items = items[:limit]
		token := base64.RawURLEncoding.EncodeToString([]byte(key(items[limit-1])))
		next = &token
	}
	return items, next
}

func checkMarker(marker *string) error {
	if marker == nil || *marker == "" {
		return nil
	}
	if _, err := base64.RawURLEncoding.DecodeString(*marker); err != nil {
		return invalid("Invalid Marker: %s", *marker)
	}
	return nil
}

// store puts an archive of a request into the blobs after checking it.
func (c *Control) storeZip(ctx context.Context, zip []byte) (firn.Digest, image.Info, error) {
	info, err := c.cfg.Images.Inspect(ctx, readerAt(zip), int64(len(zip)))
	if err != nil {
		return "", info, err
	}
	c.mu.Lock()
	var total int64
	for _, u := range c.usage {
		total += u.size
	}
	c.mu.Unlock()
	if total+int64(len(zip)) > firn.MaxCodeStorageBytes {
		return "", info, firn.Faultf(firn.CodeStorageExceeded, "Code storage limit exceeded.")
	}
	digest, _, err := c.cfg.Blobs.Put(ctx, reader(zip), firn.MaxZipUploadBytes*2)
	if err != nil {
		return "", info, fmt.Errorf("store archive: %w", err)
	}
	return digest, info, nil
}

// hold counts a reference to an archive, drop ends it.
func (c *Control) hold(digest firn.Digest, size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.usage[digest]
	if u == nil {
		u = &usage{size: size}
		c.usage[digest] = u
	}
	u.refs++
}

func (c *Control) release(digest firn.Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if u := c.usage[digest]; u != nil {
		if u.refs--; u.refs == 0 {
			delete(c.usage, digest)
		}
	}
}
