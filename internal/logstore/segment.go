package logstore

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// segment is one file of blocks, and what is in memory of it.
type segment struct {
	// Under the store's wmu: the file is nil when it is sealed.
	file  *os.File
	dirty bool // not synced

	// Under the store's mu for readers; written with wmu held as well.
	origin
	size   int64
	index  int64 // size of the index file
	blocks int
	last   uint64
	table  []block // of a segment without an index file
	spans  []*span // live ones; a stream may have several
	live   int64   // bytes of the blocks of the spans
	gone   bool    // removed, or merged into another; its file may still be open
	// evicted: removed with what was in it.
	evicted bool
}

// disk is what its files take, or will when it is sealed.
func (seg *segment) disk() int64 {
	if seg.table == nil {
		return seg.size + seg.index
	}
	return seg.size + indexSize(len(seg.spans), seg.blocks)
}

// span is what a segment has of a stream, as long as it is not expired or
// deleted.
type span struct {
	summary
	seg *segment
	of  *stream
	at  int // its place in seg.spans
}

// loadSegments finds the segments of the directory, the last of which is
// written on to.
func (s *Store) loadSegments() error {
	ids, err := s.listSegments()
	if err != nil {
		return err
	}
	numbers := slices.Sorted(maps.Keys(ids))
	covered := uint64(0) // by a segment before
	for i, number := range numbers {
		s.nextNumber = number + 1
		if i > 0 && number <= covered {
			if err := s.removeFiles(ids[number]...); err != nil {
				return err
			}
			continue
		}
		x, err := s.loadSegment(ids[number], i == len(numbers)-1)
		if err != nil {
			return err
		}
		if x == nil {
			continue
		}
		s.adopt(x)
		covered = x.covers
		if x.blocks != nil {
			if err := s.resume(s.segments[len(s.segments)-1]); err != nil {
				return err
			}
		}
	}
	return nil
}

// listSegments gives the generations of each segment, the oldest first, and
// removes what belongs to none.
func (s *Store) listSegments() (map[uint64][]fileID, error) {
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return nil, err
	}
	ids := map[uint64][]fileID{}
	names := map[string]bool{}
	for _, e := range entries {
		if id, ok := parseLogName(e.Name()); ok {
			ids[id.number] = append(ids[id.number], id)
			names[id.index()] = true
		}
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasSuffix(name, ".tmp") || strings.HasSuffix(name, ".idx") && !names[name] {
			if err := os.Remove(s.path(name)); err != nil {
				return nil, err
			}
		}
	}
	return ids, nil
}

func parseLogName(name string) (fileID, bool) {
	base, ok := strings.CutSuffix(name, ".log")
	first, second, ok2 := strings.Cut(base, "-")
	number, err1 := strconv.ParseUint(first, 16, 64)
	generation, err2 := strconv.ParseUint(second, 16, 32)
	id := fileID{number, uint32(generation)}
	return id, ok && ok2 && err1 == nil && err2 == nil && id.log() == name
}

// loadSegment reads the index of the newest whole generation and removes the
// others: a generation beyond the first is whole when it has an index file,
// which compaction makes last. The result is nil when there is nothing left.
func (s *Store) loadSegment(ids []fileID, last bool) (*index, error) {
	slices.SortFunc(ids, func(a, b fileID) int { return int(b.generation) - int(a.generation) })
	var found *index
	for i, id := range ids {
		if found != nil || i < len(ids)-1 && !s.hasIndex(id) {
			if err := s.removeFiles(id); err != nil {
				return nil, err
			}
			continue
		}
		x, err := s.loadGeneration(id, last)
		if err != nil {
			return nil, err
		}
		found = x
	}
	return found, nil
}

func (s *Store) hasIndex(id fileID) bool {
	x, err := readIndexFile(s.cfg.Dir, id, false)
	return err == nil && s.fileSize(id) == x.size
}

func (s *Store) fileSize(id fileID) int64 {
	fi, err := os.Stat(s.path(id.log()))
	if err != nil {
		return -1
	}
	return fi.Size()
}

// loadGeneration gives a segment's index, without its blocks where it has an
// index file, and with them where it was scanned. A scanned segment is cut
// off after its last whole block, and gets its index file at once unless it
// is the last segment, which is written on to.
func (s *Store) loadGeneration(id fileID, last bool) (*index, error) {
	if x, err := readIndexFile(s.cfg.Dir, id, false); err == nil && s.fileSize(id) == x.size {
		return x, nil
	}
	f, err := os.OpenFile(s.path(id.log()), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	x, err := scan(bufio.NewReaderSize(f, 256<<10), id)
	if err != nil {
		if _, ok := errors.AsType[*fs.PathError](err); ok {
			return nil, err // the disk, not the content
		}
		// A crash while it was made, before it had a block; or no segment.
		s.cfg.Logger.Warn("log segment is unreadable and removed", "error", err)
		return nil, s.removeFiles(id)
	}
	if cut := s.fileSize(id) - x.size; cut > 0 {
		s.cfg.Logger.Warn("log segment had a torn end", "segment", id.log(), "bytes", cut)
		if err := f.Truncate(x.size); err != nil {
			return nil, err
		}
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	if x.count == 0 {
		return nil, s.removeFiles(id)
	}
	if !last {
		if err := s.writeIndex(x, false); err != nil {
			s.cfg.Logger.Warn("log segment has no index", "segment", id.log(), "error", err)
		}
		x.blocks = nil
	}
	return x, nil
}

// writeIndex makes the index file, by way of a temporary one. It needs no sync
// where one that does not survive is made again.
func (s *Store) writeIndex(x *index, sync bool) error {
	name := s.path(x.id.index())
	err := os.WriteFile(name+".tmp", x.encode(), 0o600)
	if err == nil && sync {
		err = syncFile(name + ".tmp")
	}
	if err == nil {
		err = os.Rename(name+".tmp", name)
	}
	if err != nil {
		os.Remove(name + ".tmp")
	}
	return err
}

// syncFile syncs a file, or the names of a directory.
func syncFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func (s *Store) removeFiles(ids ...fileID) error {
	for _, id := range ids {
		for _, name := range []string{id.index(), id.log()} {
			if err := os.Remove(s.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// adopt takes a segment in when the store is opened.
func (s *Store) adopt(x *index) {
	seg := &segment{origin: x.origin, size: x.size, index: indexSize(len(x.spans), x.count), blocks: x.count, last: x.last, table: x.blocks}
	for _, sum := range x.spans {
		s.nextID = max(s.nextID, sum.stream+1) // not to be used again, even if the catalog lost it
		st := s.streams[sum.stream]
		if st != nil && sum.max >= st.group.horizon {
			seg.addSpan(st, sum)
		}
	}
	s.nextSeq = max(s.nextSeq, x.last+1)
	s.segments = append(s.segments, seg)
}

// addSpan makes a new span; the stream has it as its last one, unless the
// segment is an old one that was written anew.
func (seg *segment) addSpan(st *stream, sum summary) {
	sp := &span{summary: sum, seg: seg, of: st, at: len(seg.spans)}
	seg.spans = append(seg.spans, sp)
	seg.live += sum.bytes
	if seg.id.generation == 0 {
		st.spans = append(st.spans, sp)
	} else {
		st.spans = slices.Insert(st.spans, 0, sp)
	}
	st.grow(sum, sum.bytes)
}

// remove takes a span out of the segment; what the stream knows of it is the
// caller's to put right.
func (seg *segment) remove(sp *span) {
	last := len(seg.spans) - 1
	seg.spans[sp.at] = seg.spans[last]
	seg.spans[sp.at].at = sp.at
	seg.spans[last] = nil
	seg.spans = seg.spans[:last]
	seg.live -= sp.bytes
}

// resume takes the last segment up again, which was not sealed.
func (s *Store) resume(seg *segment) error {
	f, err := os.OpenFile(s.path(seg.id.log()), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	seg.file = f
	s.active = seg
	return nil
}

// newSegmentLocked starts the next segment; wmu is held.
func (s *Store) newSegmentLocked() error {
	seg := &segment{
		origin: origin{id: fileID{number: s.nextNumber}, covers: s.nextNumber, salt: newSalt()},
		size:   segmentHeader, dirty: true,
	}
	name := s.path(seg.id.log())
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(seg.origin.append(nil)); err != nil {
		f.Close()
		return errors.Join(err, os.Remove(name))
	}
	seg.file = f
	s.nextNumber++
	s.active, s.dirtyNames = seg, true
	s.mu.Lock()
	s.segments = append(s.segments, seg)
	s.mu.Unlock()
	return nil
}

// rotateLocked ends the active segment; the keeper seals it. wmu is held.
func (s *Store) rotateLocked() {
	s.rotated = append(s.rotated, s.active)
	s.active = nil
	s.wake()
}

// sealRotated writes the index files of full segments and closes them; syncMu
// is held. One whose index cannot be written does without: then its blocks
// are found by scanning it.
func (s *Store) sealRotated() {
	s.wmu.Lock()
	list := s.rotated
	s.rotated = nil
	s.wmu.Unlock()
	for _, seg := range list {
		s.mu.RLock()
		x := seg.indexLocked()
		s.mu.RUnlock()
		tmp := s.path(x.id.index()) + ".tmp"
		err := os.WriteFile(tmp, x.encode(), 0o600)
		s.wmu.Lock()
		if err == nil && !seg.gone {
			err = os.Rename(tmp, s.path(x.id.index()))
		}
		if err != nil || seg.gone {
			os.Remove(tmp)
		}
		seg.file.Close()
		seg.file = nil
		s.mu.Lock()
		seg.table, seg.index = nil, indexSize(len(x.spans), x.count)
		s.mu.Unlock()
		s.wmu.Unlock()
		if err != nil {
			s.cfg.Logger.Warn("log segment has no index", "segment", x.id.log(), "error", err)
		}
	}
}

// indexLocked is what the index file of an unsealed segment holds; mu is held.
func (seg *segment) indexLocked() *index {
	x := &index{origin: seg.origin, size: seg.size, last: seg.last, blocks: seg.table, count: seg.blocks}
	for _, sp := range seg.spans {
		x.spans = append(x.spans, sp.summary)
	}
	return x
}

// tableCache keeps the blocks of the sealed segments that were read last.
type tableCache struct {
	mu     sync.Mutex
	recent []*index // the last one used at the end
	blocks int
}

// maxCachedBlocks bounds the cache to about 24 MB, or to one segment.
const maxCachedBlocks = 500_000

// get gives the blocks of a sealed segment.
func (c *tableCache) get(dir string, id fileID) ([]block, error) {
	c.mu.Lock()
	for i, x := range c.recent {
		if x.id == id {
			c.recent = append(slices.Delete(c.recent, i, i+1), x)
			c.mu.Unlock()
			return x.blocks, nil
		}
	}
	c.mu.Unlock()
	x, err := readIndexFile(dir, id, true)
	if err != nil {
		if x, err = scanFile(dir, id); err != nil {
			return nil, err
		}
	}
	x.spans = nil
	c.mu.Lock()
	defer c.mu.Unlock()
	c.recent = append(c.recent, x)
	c.blocks += len(x.blocks)
	for len(c.recent) > 1 && c.blocks > maxCachedBlocks {
		c.blocks -= len(c.recent[0].blocks)
		c.recent = slices.Delete(c.recent, 0, 1)
	}
	return x.blocks, nil
}

func scanFile(dir string, id fileID) (*index, error) {
	f, err := os.Open(dir + "/" + id.log())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	x, err := scan(bufio.NewReaderSize(f, 256<<10), id)
	if err != nil {
		return nil, fmt.Errorf("scan: %w", err)
	}
	return x, nil
}
