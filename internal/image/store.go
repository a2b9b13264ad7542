package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/image/layer"
	"github.com/firn-run/firn/internal/image/oci"
)

const (
	tmpPrefix    = "tmp-"     // being made or removed; Open clears them away
	zipPrefix    = "zip-"     // one archive: zip-DIGEST
	mergedPrefix = "layers-"  // several layers: layers-SHA256 of the list
	tarPrefix    = "tar-"     // one layer of container images: tar-DIGEST
	imagePrefix  = "image-"   // several of those: image-SHA256 of the list
	rootName     = "root"     // the directory that is handed out
	markerName   = "complete" // beside it: a marker
	dirMode      = 0o755      // of every directory below root
	maxUnpacking = 2          // archives at once; each uses several workers
	bootIDFile   = "/proc/sys/kernel/random/boot_id"
)

// ErrClosed is returned by calls on a store that was closed.
var ErrClosed = errors.New("image: store closed")

// Store keeps unpacked archives. Safe for concurrent use.
//
// On disk it is one directory per content:
//
//	zip-DIGEST/root/...       what is handed out
//	zip-DIGEST/complete       a marker, written last
//	layers-SHA256/root/...    several layers, hard links into their zip-DIGESTs
//	tar-DIGEST/root/...       one layer of container images
//	image-SHA256/root/...     an image's layers, hard links into their tar-DIGESTs
//	tmp-.../                  one of these on its way in or out
type Store struct {
	dir        string
	blobs      Blobs
	images     *oci.Store // may be nil
	log        *slog.Logger
	root       *os.Root // of dir; all writing goes through it
	bootID     string   // "" where the system has none
	limit      int64    // firn.MaxUnzippedBytes
	imageLimit int64    // firn.MaxImageBytes

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	flights singleflight.Group // by directory name
	slots   chan struct{}      // maxUnpacking

	mu     sync.Mutex
	closed bool
	work   sync.WaitGroup         // flights and sweeps; Add under mu while !closed
	ready  map[string]bool        // directories found complete; true when handed out since the last Sweep
	roots  map[firn.Digest]string // names of images' directories, by manifest
}

// marker is the content of markerName. Nothing is synced to disk, so after a
// crash of the whole machine, which shows by another boot, files may be short:
// the directory is then compared with these figures before it is used.
type marker struct {
	BootID string
	Files  int
	Bytes  int64
	// Removed is what a layer of a container image hides of those below it.
	Removed layer.Removed
}

// Open prepares cfg.Dir and removes what an earlier process has left half done.
func Open(cfg Config) (*Store, error) {
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	s := &Store{
		dir: dir, blobs: cfg.Blobs, images: cfg.Images, log: cfg.Logger, root: root,
		limit: firn.MaxUnzippedBytes, imageLimit: firn.MaxImageBytes, roots: make(map[firn.Digest]string),
		slots: make(chan struct{}, maxUnpacking),
		ready: make(map[string]bool),
	}
	if id, err := os.ReadFile(bootIDFile); err == nil {
		s.bootID = strings.TrimSpace(string(id))
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	names, err := s.names()
	for _, name := range names {
		if strings.HasPrefix(name, tmpPrefix) {
			err = errors.Join(err, root.RemoveAll(name))
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open image store: %w", err), s.Close())
	}
	return s, nil
}

// Close stops the unpacking under way, waits for it, and leaves the
// directories for the next Open. Idempotent.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.work.Wait()
	return s.root.Close()
}

// names lists the entries of the store's directory.
func (s *Store) names() ([]string, error) {
	d, err := s.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	return d.Readdirnames(-1)
}

// Inspect is the function Inspect.
func (s *Store) Inspect(ctx context.Context, r io.ReaderAt, size int64) (Info, error) {
	return Inspect(ctx, r, size)
}

// Function returns the directory of an archive, unpacking it first when it is
// not there yet. The directory is shared: nobody may write to it. It stays
// until a Sweep that is not told of it.
func (s *Store) Function(ctx context.Context, code firn.Digest) (dir string, err error) {
	dir, err = s.zip(ctx, code)
	if err != nil {
		return "", fmt.Errorf("unpack %s: %w", code, err)
	}
	return dir, nil
}

// Layers returns a directory with the given archives unpacked over each other
// in this order, or "" when there are none. For the rest it is as Function.
func (s *Store) Layers(ctx context.Context, layers []firn.Digest) (dir string, err error) {
	switch len(layers) {
	case 0:
		return "", nil
	case 1:
		return s.Function(ctx, layers[0])
	}
	for _, d := range layers {
		if err := checkDigest(d); err != nil {
			return "", err
		}
	}
	dir, err = s.get(ctx, mergedName(layers), func(ctx context.Context, tmp string) (marker, error) {
		return s.merge(ctx, tmp, layers)
	})
	if err != nil {
		return "", fmt.Errorf("merge %d layers: %w", len(layers), err)
	}
	return dir, nil
}

func (s *Store) zip(ctx context.Context, d firn.Digest) (string, error) {
	if err := checkDigest(d); err != nil {
		return "", err
	}
	return s.get(ctx, zipPrefix+string(d), func(ctx context.Context, tmp string) (marker, error) {
		return s.unpack(ctx, tmp, d)
	})
}

// mergedName depends on the digests and their order.
func mergedName(layers []firn.Digest) string {
	h := sha256.New()
	for _, d := range layers {
		_, _ = io.WriteString(h, string(d)+"\n") // a hash does not fail
	}
	return mergedPrefix + hex.EncodeToString(h.Sum(nil))
}

// checkDigest keeps anything but a digest out of file names.
func checkDigest(d firn.Digest) error {
	if raw, err := hex.DecodeString(string(d)); err != nil || len(raw) != sha256.Size || strings.ToLower(string(d)) != string(d) {
		return fmt.Errorf("%.80q is not a SHA-256 digest", string(d))
	}
	return nil
}

// get returns the root of the directory called name, made by fill when it is
// not there. Callers at the same time share one making, which goes on when
// they give up: somebody will want it.
func (s *Store) get(ctx context.Context, name string, fill func(ctx context.Context, tmp string) (marker, error)) (string, error) {
	for !s.isReady(name) {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		made := s.flights.DoChan(name, func() (any, error) { return nil, s.make(name, fill) })
		select {
		case r := <-made:
			if r.Err != nil {
				return "", r.Err
			}
			// Once more: the flight may have been a Sweep's.
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	return filepath.Join(s.dir, name, rootName), nil
}

// make runs in name's flight.
func (s *Store) make(name string, fill func(ctx context.Context, tmp string) (marker, error)) error {
	if !s.begin() {
		return ErrClosed
	}
	defer s.work.Done()
	if s.isReady(name) {
		return nil
	}
	if err := s.ensure(name, fill); err != nil {
		if s.ctx.Err() != nil {
			return ErrClosed
		}
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready[name] = true
	return nil
}

func (s *Store) isReady(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.ready[name]
	if ok {
		s.ready[name] = true
	}
	return ok && !s.closed
}

// begin registers work that Close waits for; false after Close.
func (s *Store) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.work.Add(1)
	return true
}

// ensure finds name complete on disk, or makes it in a temporary directory
// that is renamed when it is complete.
func (s *Store) ensure(name string, fill func(ctx context.Context, tmp string) (marker, error)) (err error) {
	if s.complete(name) {
		return nil
	}
	if err := s.discard(name); err != nil {
		return err
	}
	start := time.Now()
	tmp, err := s.newTmp()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.root.RemoveAll(tmp))
		}
	}()
	if err := s.mkdir(path.Join(tmp, rootName)); err != nil {
		return err
	}
	m, err := fill(s.ctx, tmp)
	if err != nil {
		return err
	}
	if err := s.writeMarker(tmp, m); err != nil {
		return err
	}
	if err := s.root.Rename(tmp, name); err != nil {
		return err
	}
	s.log.Debug("unpacked", "directory", name, "files", m.Files, "bytes", m.Bytes, "took", time.Since(start))
	return nil
}

func (s *Store) newTmp() (string, error) {
	dir, err := os.MkdirTemp(s.dir, tmpPrefix)
	if err != nil {
		return "", err
	}
	tmp := filepath.Base(dir)
	return tmp, s.root.Chmod(tmp, dirMode)
}

// mkdir makes a directory with dirMode whatever the umask.
func (s *Store) mkdir(name string) error {
	if err := s.root.Mkdir(name, dirMode); err != nil {
		return err
	}
	return s.root.Chmod(name, dirMode)
}

func (s *Store) writeMarker(dir string, m marker) error {
	m.BootID = s.bootID
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return s.root.WriteFile(path.Join(dir, markerName), data, 0o644)
}

func (s *Store) readMarker(name string) (m marker, err error) {
	data, err := s.root.ReadFile(path.Join(name, markerName))
	if err != nil {
		return marker{}, err
	}
	return m, json.Unmarshal(data, &m)
}

// complete reports whether name is there and whole. Within one boot the rename
// vouches for it; after another boot its files are counted once.
func (s *Store) complete(name string) bool {
	want, err := s.readMarker(name)
	if err != nil {
		return false
	}
	if want.BootID == s.bootID && s.bootID != "" {
		return true
	}
	got, err := s.count(path.Join(name, rootName))
	if err != nil || got.Files != want.Files || got.Bytes != want.Bytes {
		s.log.Warn("an unpacked archive is damaged and is made again", "directory", name)
		return false
	}
	got.Removed = want.Removed
	return s.writeMarker(name, got) == nil
}

// count sums up the files and links below dir.
func (s *Store) count(dir string) (m marker, err error) {
	err = s.walk(s.ctx, dir, func(_ string, d fs.DirEntry) error {
		if d.IsDir() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		m.Files++
		m.Bytes += info.Size()
		return nil
	})
	return m, err
}

// walk visits what is below dir (a path in the store), directories before
// their entries, with paths in the store. It follows no links. (A walk of
// root.FS would refuse names that are not UTF-8.)
func (s *Store) walk(ctx context.Context, dir string, visit func(name string, d fs.DirEntry) error) error {
	top := filepath.Join(s.dir, dir)
	return filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		if err = errors.Join(err, ctx.Err()); err != nil || p == top {
			return err
		}
		return visit(dir+strings.TrimPrefix(p, top), d)
	})
}

// discard removes a directory so that it is either there as a whole or not at
// all under its name.
func (s *Store) discard(name string) error {
	if _, err := s.root.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	tmp, err := s.newTmp()
	if err != nil {
		return err
	}
	if err := s.root.Rename(name, path.Join(tmp, "removed")); err != nil {
		return err
	}
	return s.root.RemoveAll(tmp)
}

// slot waits for the right to unpack.
func (s *Store) slot(ctx context.Context) (release func(), err error) {
	select {
	case s.slots <- struct{}{}:
		return func() { <-s.slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
