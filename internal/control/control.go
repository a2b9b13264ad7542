// Package control is the Lambda API: the operations on functions, layers,
// tags and the account, and Invoke as callers see it.
//
// A function as it is edited is one record of package state, and each of its
// versions, aliases and settings another one. Every change writes them before it
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
	"hash/maphash"
	"io"
	"iter"
	"log/slog"
	"os"
	"sort"
	"sync"
	"sync/atomic"
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
	Sweep(ctx context.Context, live image.Live) (removed int, err error)
}

// Sealer keeps secrets unreadable at rest (package keyring). The identity
// binds a secret to its place, so that records cannot be exchanged.
type Sealer interface {
	Seal(plain []byte, identity string) (sealed string)
	Open(sealed, identity string) (plain []byte, err error)
}

// Retirer ends the environments of versions that were replaced, and tells
// which unpacked directories environments still run from (package fleet).
type Retirer interface {
	Retire(key string)
	InUse() []string
}

// Config is what the control plane is made of.
type Config struct {
	Store  *state.Store
	Blobs  Blobs
	Images Images
	// Runtimes and Registry may be nil: managed runtimes and container images
	// are refused then.
	Runtimes Runtimes
	Registry Registry
	// ImageIdle is how long a version of an image function may go without an
	// invocation before it becomes Inactive; 0 is 14 days, negative never.
	ImageIdle time.Duration
	Sealer    Sealer
	Retirer   Retirer
	Logger    *slog.Logger

	Region       string
	Account      string
	Architecture string // of this host: "x86_64" or "arm64"
	Concurrency  int    // the account's limit
	// Endpoint is the base URL under which clients reach firn; Code.Location
	// begins with it.
	Endpoint func() string
	Now      func() time.Time
	// Random returns a number of [0, 1), concurrently; math/rand/v2's when
	// nil. It picks the version that a weighted alias runs.
	Random func() float64
	// Effects says which settings have their effect on this node.
	Effects Effects
}

// Control serves the operations. Run settles functions in the background.
//
// Locks, in the order in which they are taken: gc, one of changes, mu. Nothing
// waits for a queue or for another lock of its kind while it holds one.
type Control struct {
	cfg      Config
	invoker  *invoke.Invoker
	acceptor Acceptor // nil: asynchronous invocations are refused

	functions sync.Map // name -> *function
	settling  *queue
	loaded    atomic.Bool
	urls      sync.Map // identity of a function URL -> firn.FunctionRef

	// gc is held for reading from the storing of an archive, or the look-up
	// of a layer, until the record that refers to it is saved; for writing
	// while an archive is deleted that no record refers to.
	gc sync.RWMutex

	// changes serialises changes of one function; functions share locks by
	// the hash of their name.
	changes [64]sync.Mutex
	seed    maphash.Seed

	mu     sync.Mutex
	usage  map[firn.Digest]*usage // archives that records refer to
	stored int64                  // their bytes
	layers map[string]map[int64]*layerVersion
	// layerPolicies are by layerKey.
	layerPolicies map[string]*layerPolicy
	numbers       map[string]int64 // the last version's, by function name
	claims        map[string]int   // of the account's concurrency, by function name
}

// New returns a control plane over its store; Load must be called before it
// serves, and SetInvoker before the first Invoke.
func New(cfg Config) *Control {
	return &Control{
		cfg:      cfg,
		settling: newQueue(),
		seed:     maphash.MakeSeed(),
		usage:    make(map[firn.Digest]*usage),
		layers:   make(map[string]map[int64]*layerVersion),

		layerPolicies: make(map[string]*layerPolicy),
		numbers:       make(map[string]int64),
		claims:        make(map[string]int),
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
	c.mountPublished(mux)
	c.mountSettings(mux)
	c.mountAbsent(mux)
	c.mountInvoke(mux)
}

// mountPublished serves versions, aliases and permissions.
func (c *Control) mountPublished(mux *awswire.Mux) {
	awswire.Handle(mux, c.publishVersion)
	awswire.Handle(mux, c.listVersionsByFunction)
	awswire.Handle(mux, c.createAlias)
	awswire.Handle(mux, c.updateAlias)
	awswire.Handle(mux, c.getAlias)
	awswire.Handle(mux, c.listAliases)
	awswire.Handle(mux, c.deleteAlias)
	awswire.Handle(mux, c.addPermission)
	awswire.Handle(mux, c.removePermission)
	awswire.Handle(mux, c.getPolicy)
	awswire.Handle(mux, c.putResourcePolicy)
	awswire.Handle(mux, c.getResourcePolicy)
	awswire.Handle(mux, c.deleteResourcePolicy)
	awswire.Handle(mux, c.addLayerVersionPermission)
	awswire.Handle(mux, c.removeLayerVersionPermission)
	awswire.Handle(mux, c.getLayerVersionPolicy)
	awswire.Handle(mux, c.putRuntimeManagementConfig)
	awswire.Handle(mux, c.getRuntimeManagementConfig)
}

// mountSettings serves what has its effect on this node. The operations of
// the rest are refused by name.
func (c *Control) mountSettings(mux *awswire.Mux) {
	effects := &c.cfg.Effects
	if effects.Limits != nil {
		awswire.Handle(mux, c.putFunctionConcurrency)
		awswire.Handle(mux, c.getFunctionConcurrency)
		awswire.Handle(mux, c.deleteFunctionConcurrency)
		awswire.Handle(mux, c.putProvisionedConcurrencyConfig)
		awswire.Handle(mux, c.getProvisionedConcurrencyConfig)
		awswire.Handle(mux, c.listProvisionedConcurrencyConfigs)
		awswire.Handle(mux, c.deleteProvisionedConcurrencyConfig)
	}
	if effects.Async {
		awswire.Handle(mux, c.putFunctionEventInvokeConfig)
		awswire.Handle(mux, c.updateFunctionEventInvokeConfig)
		awswire.Handle(mux, c.getFunctionEventInvokeConfig)
		awswire.Handle(mux, c.listFunctionEventInvokeConfigs)
		awswire.Handle(mux, c.deleteFunctionEventInvokeConfig)
	}
	if effects.FunctionURL != nil {
		awswire.Handle(mux, c.createFunctionURLConfig)
		awswire.Handle(mux, c.updateFunctionURLConfig)
		awswire.Handle(mux, c.getFunctionURLConfig)
		awswire.Handle(mux, c.listFunctionURLConfigs)
		awswire.Handle(mux, c.deleteFunctionURLConfig)
	}
	if effects.Recursion {
		awswire.Handle(mux, c.putFunctionRecursionConfig)
		awswire.Handle(mux, c.getFunctionRecursionConfig)
	}
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

// untyped is invalid where AWS's answer has no member Type.
func untyped(format string, args ...any) error {
	fault := firn.Faultf(firn.InvalidParameterValue, format, args...)
	fault.Type = firn.NoType
	return fault
}

// page cuts a list, sorted by key, at the caller's marker and MaxItems. A
// marker is the key of the last item shown, so that items which come or go
// between two pages shift nothing.
func page[T any](items []T, after string, maxItems *int32, key func(T) string) (out []T, next *string) {
	limit := listLimit
	if maxItems != nil && int(*maxItems) < limit {
		limit = int(*maxItems)
	}
	if after != "" {
		first := sort.Search(len(items), func(i int) bool { return key(items[i]) > after })
		items = items[first:]
	}
	if len(items) > limit {
		items = items[:limit]
		next = ptr(base64.RawURLEncoding.EncodeToString([]byte(key(items[limit-1]))))
	}
	return items, next
}

// readMarker opens a marker of page; "" begins at the beginning.
func readMarker(marker *string) (after string, err error) {
	raw, err := base64.RawURLEncoding.DecodeString(deref(marker))
	if err != nil {
		return "", invalid("Invalid Marker: %s", *marker)
	}
	return string(raw), nil
}
