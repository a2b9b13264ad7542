package logstore

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Store is the node's log store. Its methods are safe for concurrent use.
//
// Locks are taken in the order syncMu, wmu, mu. Files are written under wmu
// and synced under syncMu, so that neither holds up a reader, who needs mu
// for a moment only.
type Store struct {
	cfg   Config
	limit int64 // MaxBytes less what a compaction may need for a moment

	syncMu sync.Mutex // held while files are synced, sealed or replaced

	wmu        sync.Mutex // guards what follows, and everything that is written
	closed     bool
	catalog    *catalog
	active     *segment   // nil after a failure, until the next append
	rotated    []*segment // full, not sealed yet; synced and closed under syncMu
	pending    *commit    // what the next sync is waited for; nil when nobody does
	dirtyNames bool       // a segment was made since the directory was synced
	nextID     uint64
	nextSeq    uint64
	nextNumber uint64
	buf        []byte

	mu       sync.RWMutex // guards what follows
	groups   map[string]*group
	byID     map[uint64]*group
	streams  map[uint64]*stream
	segments []*segment // by number
	cache    tableCache // has a lock of its own

	watchMu  sync.Mutex
	watchers map[*Watcher]struct{} // nil when closed

	count counters
	kick  chan struct{} // something is to be synced, sealed or freed
	stop  chan struct{}
	done  chan struct{}
}

// counters are Stats as they grow.
type counters struct {
	appended, appendedBytes, failed, evicted, evictedBytes, watchDropped, corrupt, syncs atomic.Int64
}

// commit is what durable writers wait for; syncMu guards it.
type commit struct {
	done bool
	err  error
}

// Smallest sizes, and the greatest that an offset in a block allows.
const (
	minBytes          = 8 << 20
	minSegment        = 128 << 10
	maxSegment        = 1 << 30
	chunkBytes        = 256 << 10 // what one write takes, and one message more
	defaultBytes      = 2 << 30
	defaultStreams    = 250_000
	defaultFlush      = time.Second
	segmentsPerStore  = 128
	largestSegment    = 64 << 20
	compactionReserve = 2 << 20
)

func (cfg Config) withDefaults() Config {
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = defaultBytes
	}
	if cfg.SegmentBytes == 0 {
		cfg.SegmentBytes = min(max(cfg.MaxBytes/segmentsPerStore, minSegment), largestSegment)
	}
	if cfg.MaxStreams == 0 {
		cfg.MaxStreams = defaultStreams
	}
	if cfg.Flush == 0 {
		cfg.Flush = defaultFlush
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return cfg
}

// Open opens the store, or makes it. What a crash left half-written at the
// end of a file is cut off; everything before it is there.
func Open(cfg Config) (*Store, error) {
	cfg = cfg.withDefaults()
	s := &Store{
		cfg: cfg, limit: cfg.MaxBytes - cfg.SegmentBytes - compactionReserve,
		groups: map[string]*group{}, byID: map[uint64]*group{}, streams: map[uint64]*stream{},
		watchers: map[*Watcher]struct{}{}, nextID: 1,
		kick: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	if cfg.MaxBytes < minBytes || cfg.SegmentBytes > maxSegment-2*maxBlock || s.limit < cfg.SegmentBytes {
		return nil, fmt.Errorf("open log store: %d bytes in segments of %d: need at least %d, and room for two segments", cfg.MaxBytes, cfg.SegmentBytes, minBytes)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open log store: %w", err)
	}
	var err error
	s.catalog, err = openCatalog(cfg.Dir, s.replay)
	if err != nil {
		return nil, fmt.Errorf("open log store: catalog: %w", err)
	}
	if err := s.loadSegments(); err != nil {
		s.catalog.file.Close()
		return nil, fmt.Errorf("open log store: %w", err)
	}
	s.mu.Lock()
	s.dropEmptyLocked(maps.Values(s.streams))
	s.catalog.live = s.catalogCostLocked()
	s.mu.Unlock()
	// Numbers of events stay unique and ascending even when the last segment
	// is gone: each start leaves what a million events per millisecond
	// since 1970 would not have used.
	s.nextSeq = max(s.nextSeq, uint64(max(cfg.Now().UnixMilli(), 0))<<20, 1)
	go s.keep()
	s.wake()
	return s, nil
}

// Close syncs what was appended and ends the store; it is idempotent. The
// error is that of the sync.
func (s *Store) Close() error {
	s.wmu.Lock()
	was := s.closed
	s.closed = true
	s.wmu.Unlock()
	if was {
		<-s.done
		return nil
	}
	close(s.stop)
	<-s.done
	s.closeWatchers()
	s.syncMu.Lock()
	defer s.syncMu.Unlock()
	err := s.syncLocked()
	s.sealRotated()
	s.wmu.Lock()
	defer s.wmu.Unlock()
	for _, seg := range s.rotated { // could not be sealed
		seg.file.Close()
	}
	if s.active != nil {
		s.active.file.Close()
	}
	s.catalog.file.Close()
	if err != nil {
		return fmt.Errorf("close log store: %w", err)
	}
	return nil
}

// wake tells the keeper that there is work.
func (s *Store) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// commitLocked is what a durable writer waits for after it gave up wmu.
func (s *Store) commitLocked() *commit {
	if s.pending == nil {
		s.pending = &commit{}
	}
	return s.pending
}

// wait returns when everything that was written before c was taken is on the
// disk, or cannot be brought there. Whoever comes first syncs for all that
// have written by then.
func (s *Store) wait(c *commit) error {
	s.syncMu.Lock()
	defer s.syncMu.Unlock()
	if !c.done {
		s.syncLocked()
	}
	return c.err
}

// syncLocked syncs what is written so far; syncMu is held. The catalog comes
// first, so that no segment names a stream that is not there.
func (s *Store) syncLocked() error {
	s.wmu.Lock()
	c, catalogDirty, names := s.pending, s.catalog.dirty, s.dirtyNames
	s.pending, s.catalog.dirty, s.dirtyNames = nil, false, false
	var dirty []*segment
	for _, seg := range append(s.rotated[:len(s.rotated):len(s.rotated)], s.active) {
		if seg != nil && seg.dirty {
			seg.dirty = false
			dirty = append(dirty, seg)
		}
	}
	s.wmu.Unlock()
	var errs []error
	if catalogDirty {
		errs = append(errs, s.catalog.file.Sync())
	}
	catalogErr := errors.Join(errs...)
	var failed []*segment
	for _, seg := range dirty {
		if err := seg.file.Sync(); err != nil {
			failed, errs = append(failed, seg), append(errs, err)
		}
	}
	if names {
		errs = append(errs, syncDir(s.cfg.Dir))
	}
	err := errors.Join(errs...)
	if len(dirty) > 0 || catalogDirty {
		s.count.syncs.Add(1)
	}
	if err != nil {
		s.syncFailed(err, catalogErr != nil, failed)
	}
	if c != nil {
		c.done, c.err = true, wrapFull(err)
	}
	return wrapFull(err)
}

// syncFailed lets go of files that a sync failed on: what the kernel still
// has of them it may never write, and the next sync would not say so. What
// was read from them stays readable as long as it is.
func (s *Store) syncFailed(err error, catalog bool, failed []*segment) {
	s.cfg.Logger.Error("log store could not be synced", "error", err)
	s.wmu.Lock()
	defer s.wmu.Unlock()
	s.dirtyNames = true
	s.catalog.broken = s.catalog.broken || catalog
	for _, seg := range failed {
		if seg == s.active {
			s.rotateLocked()
		}
	}
}

// wrapFull gives the errors of a full disk their name.
func wrapFull(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// Stats counts.
func (s *Store) Stats() Stats {
	c := &s.count
	st := Stats{
		Appended: c.appended.Load(), AppendedBytes: c.appendedBytes.Load(), Failed: c.failed.Load(),
		EvictedEvents: c.evicted.Load(), EvictedBytes: c.evictedBytes.Load(), WatchDropped: c.watchDropped.Load(),
		Corrupt: c.corrupt.Load(), Syncs: c.syncs.Load(),
	}
	st.Bytes = s.catalog.size.Load()
	s.mu.RLock()
	defer s.mu.RUnlock()
	st.Segments, st.Streams, st.Groups = len(s.segments), len(s.streams), len(s.groups)
	for _, seg := range s.segments {
		st.Bytes += seg.disk()
	}
	return st
}

// path is the name of a file of the store.
func (s *Store) path(name string) string { return filepath.Join(s.cfg.Dir, name) }

// newSalt is a segment's secret: see sealer.
func newSalt() uint64 { return rand.Uint64() }
