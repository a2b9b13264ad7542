package series

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
)

// When the head is written into blocks, and blocks into one.
const (
	flushAge     = 3600    // seconds since its first point
	flushJournal = 8 << 20 // bytes
	manyBlocks   = 8       // of one window that still grows
	settled      = 2 * 3600
)

// Maintain does what is due: it syncs the journal, flushes the head, merges
// blocks, rewrites those that have aged and removes what is too old or too
// much. Call it every few seconds.
func (db *DB) Maintain() error {
	db.maint.Lock()
	defer db.maint.Unlock()
	db.mu.RLock()
	closed := db.closed
	due := db.head.since != 0 && (db.cfg.Now().Unix()-db.head.since >= flushAge || db.head.cost > db.cfg.MaxHeadCost/2)
	db.mu.RUnlock()
	if closed {
		return nil
	}
	err := db.journal.sync()
	db.journal.syncing.Lock()
	due = due || db.journal.written >= flushJournal
	db.journal.syncing.Unlock()
	if due {
		if e := db.flush(); !errors.Is(e, errWait) {
			err = errors.Join(err, e)
		}
	}
	return errors.Join(err, db.merge(), db.bound())
}

// errWait: a flush has failed less than a minute ago.
var errWait = errors.New("series: no room on the disk a moment ago")

// piece is the points that go into one block.
type piece struct {
	tier  int
	start int64
}

// flush writes the head into blocks and begins a new journal. If it fails, the
// points are in the head again and the journals stay; the next attempt is made
// a minute later. maint must be held.
func (db *DB) flush() error {
	now := db.cfg.Now().Unix()
	if now < db.retry {
		return errWait
	}
	db.retry = now + 60
	if err := db.switchHead(); err != nil {
		return err
	}
	db.mu.RLock()
	old := db.flushing
	db.mu.RUnlock()
	blocks, err := db.writeHead(old)
	if err == nil {
		first := db.firstJournal
		db.firstJournal = db.thisJournal
		if err = db.commit(change{add: blocks, flushed: true}); err == nil {
			db.retry = 0
			for n := first; n < db.thisJournal; n++ {
				db.removeFile(filepath.Base(journalPath("", n)))
			}
			return nil
		}
		db.firstJournal = first
	}
	for _, b := range blocks {
		b.release()
		db.removeFile(b.File)
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	for id, rows := range db.flushing.series {
		for row := range rows {
			for _, x := range rows[row] {
				db.head.add(id, row, x.t, old.since, x.p)
			}
		}
	}
	db.flushing = nil
	return fmt.Errorf("the newest metrics cannot be written: %w", err)
}

// switchHead makes the head the one that is being flushed and begins a new
// head and journal: a point is in both new ones or in both old ones.
func (db *DB) switchHead() error {
	j := &db.journal
	j.syncing.Lock()
	defer j.syncing.Unlock()
	next, err := newJournalFile(db.cfg.Dir, db.thisJournal+1)
	if err != nil {
		return err
	}
	db.mu.Lock()
	queued, g := j.take()
	db.flushing, db.head = db.head, newHead()
	db.mu.Unlock()
	j.syncLocked(queued, g)
	j.file.Close()
	j.file, j.written = next, 0
	db.thisJournal++
	return nil
}

// writeHead writes the blocks of a head that no longer changes.
func (db *DB) writeHead(h *head) (blocks []*block, err error) {
	now := db.cfg.Now().Unix()
	pieces := map[piece]map[uint64]run{}
	for id, rows := range h.series {
		for row := range rows {
			for _, x := range rows[row] {
				tier := tierFor(row, x.t, now)
				if tier < 0 {
					continue
				}
				at := piece{tier, floor(x.t, tiers()[tier].window)}
				if pieces[at] == nil {
					pieces[at] = map[uint64]run{}
				}
				r := pieces[at][id]
				r.add(floor(x.t, tiers()[tier].period), x.p)
				pieces[at][id] = r
			}
		}
	}
	for at, runs := range pieces {
		ids := make([]uint64, 0, len(runs))
		for id := range runs {
			ids = append(ids, id)
		}
		slices.Sort(ids)
		b, err := db.writeBlock(at, func(w *blockWriter) error {
			for _, id := range ids {
				db.mu.RLock()
				k := db.series[id]
				db.mu.RUnlock()
				if err := w.add(id, &k.key, runs[id]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return blocks, err
		}
		blocks = append(blocks, b)
	}
	return blocks, nil
}

// tierFor is the tier of a point that old, -1 when it is beyond all.
func tierFor(first int, t, now int64) int {
	for i, tier := range tiers() {
		if i >= first && floor(t, tier.window)+tier.window > now-tier.keep {
			return i
		}
	}
	return -1
}

// writeBlock makes a block that is not yet in force.
func (db *DB) writeBlock(at piece, fill func(*blockWriter) error) (*block, error) {
	d := described{File: fmt.Sprintf("block-%08d", db.nextFile), Tier: at.tier, Start: at.start}
	db.nextFile++
	w, err := newBlockWriter(filepath.Join(db.cfg.Dir, d.File))
	if w == nil {
		return nil, err
	}
	if err == nil {
		err = fill(w)
	}
	if err != nil {
		w.abandon()
		return nil, err
	}
	if d.Size, err = w.finish(); err != nil {
		db.removeFile(d.File)
		return nil, err
	}
	return openBlock(db.cfg.Dir, d, nil)
}

// change is what a commit changes.
type change struct {
	add, remove []*block
	flushed     bool // add holds all of db.flushing
}

// commit puts blocks in force and others out of it, at one moment for who
// reads and for who starts after a crash.
func (db *DB) commit(c change) error {
	db.mu.RLock()
	kept := slices.DeleteFunc(slices.Clone(db.blocks), func(b *block) bool { return slices.Contains(c.remove, b) })
	db.mu.RUnlock()
	kept = append(kept, c.add...)
	m := manifest{NextFile: db.nextFile, FirstJournal: db.firstJournal}
	for _, b := range kept {
		m.Blocks = append(m.Blocks, b.described)
	}
	named, err := m.write(db.cfg.Dir)
	if !named {
		return err
	}
	if err != nil { // in force, but a power failure may undo it: no more promises
		db.journal.mu.Lock()
		db.journal.broken = fmt.Errorf("%w: %w", ErrBroken, err)
		db.journal.mu.Unlock()
	}
	db.mu.Lock()
	db.blocks = kept
	if c.flushed {
		db.flushing = nil // its points are in the new blocks from now on
	}
	db.mu.Unlock()
	for _, b := range c.remove {
		db.removeFile(b.File)
		b.release()
	}
	return nil
}

// merge rewrites windows that have aged into the next tier's, merges the
// blocks of windows that no longer grow or have many, and removes what is
// older than all tiers keep.
func (db *DB) merge() error {
	now := db.cfg.Now().Unix()
	groups := map[piece][]*block{}
	var gone []*block
	db.mu.RLock()
	for _, b := range db.blocks {
		tier := tierFor(b.Tier, b.Start, now)
		if tier < 0 {
			gone = append(gone, b)
			continue
		}
		at := piece{tier, floor(b.Start, tiers()[tier].window)}
		groups[at] = append(groups[at], b)
	}
	db.mu.RUnlock()
	if len(gone) > 0 {
		if err := db.commit(change{remove: gone}); err != nil {
			return err
		}
	}
	for at, blocks := range groups {
		aged := slices.ContainsFunc(blocks, func(b *block) bool { return b.Tier != at.tier })
		closed := at.start+tiers()[at.tier].window+settled < now
		if !aged && (len(blocks) < 2 || !closed && len(blocks) < manyBlocks) {
			continue
		}
		b, err := db.writeBlock(at, func(w *blockWriter) error { return combine(w, blocks, tiers()[at.tier].period) })
		if err != nil {
			return fmt.Errorf("metrics of %s cannot be merged: %w", unix(at.start).Format("2006-01-02"), err)
		}
		if err := db.commit(change{add: []*block{b}, remove: blocks}); err != nil {
			b.release()
			db.removeFile(b.File)
			return err
		}
	}
	return nil
}

// combine writes the points of several blocks as one. What is damaged is left
// out: its file's other series are worth more.
func combine(w *blockWriter, blocks []*block, period int64) error {
	type cursor struct {
		b    *block
		next int
	}
	cursors := make([]cursor, len(blocks))
	for i, b := range blocks {
		cursors[i].b = b
	}
	for {
		id, some := uint64(0), false
		for _, c := range cursors {
			if c.next < len(c.b.entries) && (!some || c.b.entries[c.next].id < id) {
				id, some = c.b.entries[c.next].id, true
			}
		}
		if !some {
			return nil
		}
		var key Key
		var merged run
		for i := range cursors {
			c := &cursors[i]
			if c.next >= len(c.b.entries) || c.b.entries[c.next].id != id {
				continue
			}
			k, points, err := c.b.read(c.b.entries[c.next], true)
			c.next++
			if err != nil && !errors.Is(err, errCorrupt) {
				return err
			}
			for _, x := range points {
				key = k
				merged.add(floor(x.t, period), x.p)
			}
		}
		if err := w.add(id, &key, merged); err != nil {
			return err
		}
	}
}

// bound keeps the disk's limit: the oldest blocks go.
func (db *DB) bound() error {
	db.mu.RLock()
	blocks := slices.Clone(db.blocks)
	db.mu.RUnlock()
	db.journal.syncing.Lock()
	total := db.journal.written
	db.journal.syncing.Unlock()
	for _, b := range blocks {
		total += b.Size
	}
	slices.SortFunc(blocks, func(a, b *block) int { return cmp.Compare(a.end(), b.end()) })
	n := 0
	for ; n < len(blocks) && total > db.cfg.MaxDiskBytes; n++ {
		total -= blocks[n].Size
	}
	if n == 0 {
		return nil
	}
	db.cfg.Logger.Warn("metrics take more disk than they may; the oldest are removed", "files", n, "limit", db.cfg.MaxDiskBytes)
	return db.commit(change{remove: blocks[:n]})
}
