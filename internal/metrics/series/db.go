package series

import (
	"container/list"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// DB is the store of one directory. It is safe for concurrent use.
//
// Locks are taken in the order maint, journal.syncing, mu, journal.mu.
type DB struct {
	cfg     Config
	journal journal

	// maint is held by whoever flushes, merges or removes blocks. It guards
	// the numbers of files.
	maint        sync.Mutex
	nextFile     uint64
	firstJournal uint64 // the oldest that holds points of the head
	thisJournal  uint64
	retry        int64 // time before which no flush is tried again

	mu       sync.RWMutex
	closed   bool
	series   map[uint64]*known   // by id
	metrics  map[uint64][]*known // by metric: one per unit
	silent   *list.List          // of *known, the one longest without a write first
	names    int64               // bytes of the keys
	head     *head
	flushing *head // what is being written into blocks, else nil
	blocks   []*block

	dropped atomic.Uint64
	evicted atomic.Uint64
}

// known is a series that List and Query find.
type known struct {
	id, metric uint64
	key        Key
	last       int64 // begin of its latest period
	wrote      int64 // time of the last write
	bytes      int64
	place      *list.Element // in silent
}

// head is the newest points: per series those of seconds and of minutes.
type head struct {
	series map[uint64]*[2]run
	cost   int64
	since  int64 // time of the first point
}

func newHead() *head { return &head{series: map[uint64]*[2]run{}} }

// add merges a point into the head.
func (h *head) add(id uint64, row int, t, now int64, p Point) {
	rows := h.series[id]
	if rows == nil {
		rows = new([2]run)
		h.series[id] = rows
		h.cost += 128
	}
	if h.since == 0 {
		h.since = now
	}
	n, before := len(rows[row]), int64(0)
	if n > 0 && rows[row][n-1].t == t {
		before = rows[row][n-1].p.cost()
	}
	at := rows[row].add(t, p)
	h.cost += at.p.cost() - before
}

// Open opens or makes the store in cfg.Dir and reads what an earlier run has
// left there.
func Open(cfg Config) (*DB, error) {
	if cfg.MaxSeries == 0 {
		cfg.MaxSeries = defaultMaxSeries
	}
	if cfg.MaxNameBytes == 0 {
		cfg.MaxNameBytes = defaultMaxNameBytes
	}
	if cfg.MaxHeadCost == 0 {
		cfg.MaxHeadCost = defaultMaxHeadCost
	}
	if cfg.MaxDiskBytes == 0 {
		cfg.MaxDiskBytes = defaultMaxDiskBytes
	}
	db := &DB{
		cfg: cfg, head: newHead(), silent: list.New(),
		series: map[uint64]*known{}, metrics: map[uint64][]*known{},
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	if err := db.load(); err != nil {
		db.closeBlocks()
		return nil, err
	}
	return db, nil
}

// load reads manifest, blocks and journals and begins a new journal.
func (db *DB) load() error {
	m, err := readManifest(db.cfg.Dir)
	if err != nil {
		return err
	}
	db.nextFile, db.firstJournal = m.NextFile, m.FirstJournal
	if err := db.loadBlocks(m.Blocks); err != nil {
		return err
	}
	journals, err := db.loadJournals()
	if err != nil {
		return err
	}
	db.thisJournal = db.firstJournal
	if len(journals) > 0 {
		db.thisJournal = journals[len(journals)-1] + 1
	}
	if db.journal.file, err = newJournalFile(db.cfg.Dir, db.thisJournal); err != nil {
		return err
	}
	const many = 16 // starts without a flush between
	if len(journals) > many {
		return db.flush()
	}
	return nil
}

// loadBlocks opens the blocks of the manifest. One that is damaged is set
// aside, with a word in the log: the rest is worth more than a refusal.
func (db *DB) loadBlocks(list []described) error {
	last := map[uint64]int64{}
	where := map[uint64]*block{}
	for _, d := range list {
		b, err := openBlock(db.cfg.Dir, d, func(e entry, t int64, b *block) {
			if old, ok := last[e.id]; !ok || t > old {
				last[e.id], where[e.id] = t, b
			}
		})
		if err != nil && !errors.Is(err, errCorrupt) && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err != nil {
			db.cfg.Logger.Error("a file of metrics is damaged and left out", "file", d.File, "error", err)
			os.Rename(filepath.Join(db.cfg.Dir, d.File), filepath.Join(db.cfg.Dir, "damaged-"+d.File))
			continue
		}
		db.blocks = append(db.blocks, b)
	}
	ids := make([]uint64, 0, len(last))
	for id := range last {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b uint64) int { return int(min(max(last[a]-last[b], -1), 1)) })
	for _, id := range ids[max(0, len(ids)-db.cfg.MaxSeries):] {
		b := where[id]
		e, ok := b.find(id)
		if !ok {
			continue
		}
		key, _, err := b.read(e, false)
		if err != nil {
			db.cfg.Logger.Error("a series of metrics is damaged and left out", "error", err)
			continue
		}
		if k := db.admitLocked(key, last[id]); k != nil {
			k.last = max(k.last, last[id])
		}
	}
	return nil
}

// loadJournals replays what is in no block yet and removes files that an
// interrupted change has left.
func (db *DB) loadJournals() ([]uint64, error) {
	names, err := os.ReadDir(db.cfg.Dir)
	if err != nil {
		return nil, err
	}
	live := map[string]bool{manifestName: true}
	for _, b := range db.blocks {
		live[b.File] = true
	}
	var journals []uint64
	for _, name := range names {
		var n uint64
		if _, err := fmt.Sscanf(name.Name(), "journal-%d", &n); err == nil && n >= db.firstJournal {
			journals = append(journals, n)
			continue
		}
		if managed(name.Name()) && !live[name.Name()] {
			os.Remove(filepath.Join(db.cfg.Dir, name.Name()))
		}
	}
	slices.Sort(journals)
	now := db.cfg.Now().Unix()
	for _, n := range journals {
		cut, err := replay(journalPath(db.cfg.Dir, n), func(s Sample) { db.applyLocked(&s, now) })
		if err != nil {
			return nil, fmt.Errorf("journal %d: %w", n, err)
		}
		if cut > 0 {
			db.cfg.Logger.Warn("the unfinished end of a journal of metrics was cut off", "journal", n, "bytes", cut)
		}
	}
	return journals, nil
}

// applyLocked puts a sample into the head. It is false when there is no room
// for its series.
func (db *DB) applyLocked(s *Sample, now int64) bool {
	if s.Point.Count <= 0 {
		return true
	}
	k := db.admitLocked(s.Key, now)
	if k == nil {
		return false
	}
	t, row := s.Time.Unix(), 0
	if !s.HighResolution {
		t, row = floor(t, 60), 1
	}
	k.last = max(k.last, t)
	db.head.add(k.id, row, t, now, s.Point)
	return true
}

// admitLocked finds or registers a series, or returns nil when there is no
// room and none has been silent for long.
func (db *DB) admitLocked(key Key, now int64) *known {
	metric := metricID(&key)
	for _, k := range db.metrics[metric] {
		if k.key.Unit == key.Unit {
			k.wrote = max(k.wrote, now)
			db.silent.MoveToBack(k.place)
			return k
		}
	}
	bytes := int64(len(key.Namespace) + len(key.Name) + len(key.Unit) + 200)
	for _, d := range key.Dimensions {
		bytes += int64(len(d.Name) + len(d.Value) + 32)
	}
	// A fifth is kept for AWS's own namespaces, so that what functions publish
	// cannot crowd them out.
	most, mostBytes := db.cfg.MaxSeries, db.cfg.MaxNameBytes
	if !strings.HasPrefix(key.Namespace, "AWS/") {
		most, mostBytes = most*4/5, mostBytes*4/5
	}
	for len(db.series) >= most || db.names+bytes > mostBytes {
		if !db.evictLocked(now) {
			return nil
		}
	}
	k := &known{id: seriesID(metric, key.Unit), metric: metric, key: key, wrote: now, bytes: bytes}
	if db.series[k.id] != nil {
		return nil
	}
	k.place = db.silent.PushBack(k)
	db.series[k.id] = k
	db.metrics[metric] = append(db.metrics[metric], k)
	db.names += bytes
	return k
}

// evictLocked forgets the series that was silent longest, if it has been for
// three hours and nothing of it waits for a flush. Its blocks stay until their
// time is over, and it is found again when it is written again.
func (db *DB) evictLocked(now int64) bool {
	front := db.silent.Front()
	if front == nil {
		return false
	}
	k := front.Value.(*known)
	waits := db.head.series[k.id] != nil || db.flushing != nil && db.flushing.series[k.id] != nil
	if waits || k.wrote > now-3*3600 {
		return false
	}
	db.silent.Remove(front)
	delete(db.series, k.id)
	db.metrics[k.metric] = slices.DeleteFunc(db.metrics[k.metric], func(o *known) bool { return o == k })
	if len(db.metrics[k.metric]) == 0 {
		delete(db.metrics, k.metric)
	}
	db.names -= k.bytes
	db.evicted.Add(1)
	return true
}

// Add adds samples. With durable it returns when they are on the disk;
// otherwise they get there with the next that are, or with the next call of
// Maintain. Samples of series for which there is no room are dropped and
// counted. An error says that the batch was not acknowledged; it may still be
// seen.
func (db *DB) Add(samples []Sample, durable bool) error {
	if len(samples) == 0 {
		return nil
	}
	if err := db.makeRoom(durable); err != nil {
		db.dropped.Add(uint64(len(samples)))
		return err
	}
	payload := make([]byte, 0, 64*len(samples))
	ends := make([]int, len(samples))
	for i := range samples {
		payload = appendSample(payload, &samples[i])
		ends[i] = len(payload)
	}
	now := db.cfg.Now().Unix()
	db.mu.Lock()
	if db.closed {
		db.mu.Unlock()
		return ErrClosed
	}
	kept, begin := payload[:0], 0
	for i := range samples {
		if db.applyLocked(&samples[i], now) {
			kept = append(kept, payload[begin:ends[i]]...)
		} else {
			db.dropped.Add(1)
		}
		begin = ends[i]
	}
	if len(kept) == 0 {
		db.mu.Unlock()
		return nil
	}
	frame := db.journal.append(kept)
	db.mu.Unlock()
	if !durable {
		return nil
	}
	return db.journal.wait(frame)
}

// makeRoom flushes when the head is at its limit. Those who cannot wait for it are
// refused.
func (db *DB) makeRoom(wait bool) error {
	db.mu.RLock()
	cost := db.head.cost
	db.mu.RUnlock()
	switch {
	case cost < db.cfg.MaxHeadCost:
		return nil
	case !wait:
		return ErrFull
	}
	db.maint.Lock()
	defer db.maint.Unlock()
	db.mu.RLock()
	cost = db.head.cost
	closed := db.closed
	db.mu.RUnlock()
	if cost < db.cfg.MaxHeadCost || closed {
		return nil
	}
	if err := db.flush(); err != nil {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return nil
}

// Counters tells how many samples were dropped for lack of room and how many
// silent series were forgotten to make some.
func (db *DB) Counters() (dropped, evicted uint64) {
	return db.dropped.Load(), db.evicted.Load()
}

// Close syncs the journal. The head is read from there at the next start.
func (db *DB) Close() error {
	db.maint.Lock()
	defer db.maint.Unlock()
	db.mu.Lock()
	if db.closed {
		db.mu.Unlock()
		return nil
	}
	db.closed = true
	db.mu.Unlock()
	err := db.journal.sync()
	db.journal.syncing.Lock()
	defer db.journal.syncing.Unlock()
	err = errors.Join(err, db.journal.file.Close())
	db.closeBlocks()
	return err
}

func (db *DB) closeBlocks() {
	db.mu.Lock()
	blocks := db.blocks
	db.blocks = nil
	db.mu.Unlock()
	for _, b := range blocks {
		b.release()
	}
}

func unix(t int64) time.Time { return time.Unix(t, 0).UTC() }

// removeFile removes a file that may be gone already.
func (db *DB) removeFile(name string) {
	if err := os.Remove(filepath.Join(db.cfg.Dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		db.cfg.Logger.Warn("a file of metrics cannot be removed", "error", err)
	}
}
