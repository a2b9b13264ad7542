package logstore

import (
	"bufio"
	"io"
	"maps"
	"os"
	"slices"
)

// mergeRun is how many small segments in a row are made one, and smallPart
// what part of a full segment is small: so many small ones are never more
// than a full one.
const (
	mergeRun  = 8
	smallPart = 8
)

// free removes the sealed segments in which nothing lives, writes those anew
// in which less than half does, and makes one of several small ones: what is
// kept for long would otherwise keep a file for every full segment there was.
func (s *Store) free() {
	for _, list := range s.compactable() {
		select {
		case <-s.stop:
			return
		default:
		}
		if err := s.compact(list); err != nil {
			s.cfg.Logger.Warn("log segments could not be compacted", "first", list[0].id.log(), "segments", len(list), "error", err)
		}
	}
}

// compactable removes dead segments, and gives the lists of neighbours that
// are to be written anew as one.
func (s *Store) compactable() (lists [][]*segment) {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	var run []*segment
	flush := func() {
		for _, seg := range run {
			if 2*seg.live < seg.size-segmentHeader {
				lists = append(lists, []*segment{seg})
			}
		}
		run = nil
	}
	for _, seg := range slices.Clone(s.segments) {
		sealed := seg.file == nil
		if sealed && len(seg.spans) == 0 {
			if err := s.dropSegmentLocked(seg); err != nil {
				s.cfg.Logger.Error("log segment could not be removed", "error", err)
			}
			continue
		}
		if sealed {
			run = append(run, seg)
		}
		if !sealed || seg.live >= s.cfg.SegmentBytes/smallPart {
			flush()
		}
		if len(run) == mergeRun {
			lists, run = append(lists, run), nil
		}
	}
	flush()
	return lists
}

// compact writes sealed segments that follow each other anew, as the next
// generation of the first, with only what lives in them. Only keep calls it.
//
// The files that it replaces go when all of the new one is on the disk: until
// then a crash leaves the old ones, and after it the new one covers them.
func (s *Store) compact(list []*segment) error {
	x := &index{size: segmentHeader}
	olds := make([]origin, 0, len(list))
	horizons := make([]map[uint64]int64, len(list)) // of the streams that live in each
	s.mu.RLock()
	for n, seg := range list {
		olds = append(olds, seg.origin)
		x.covers = max(x.covers, seg.covers)
		horizons[n] = map[uint64]int64{}
		for _, sp := range seg.spans {
			horizons[n][sp.stream] = sp.of.group.horizon
		}
	}
	s.mu.RUnlock()
	x.id, x.salt = fileID{olds[0].id.number, olds[0].id.generation + 1}, newSalt()
	err := s.writeAnew(x, olds, horizons)
	if err == nil {
		err = s.writeIndex(x, true)
	}
	if err == nil {
		err = syncDir(s.cfg.Dir)
	}
	if err != nil {
		s.removeFiles(x.id)
		return err
	}
	s.wmu.Lock()
	defer s.wmu.Unlock()
	if slices.ContainsFunc(list, func(seg *segment) bool { return seg.gone }) {
		return s.removeFiles(x.id) // one was let go of meanwhile; the next time
	}
	s.mu.Lock()
	s.swapLocked(list, x)
	s.mu.Unlock()
	for _, old := range olds {
		if err := s.removeFiles(old.id); err != nil {
			return err
		}
	}
	return nil
}

// writeAnew writes the segment of x.
func (s *Store) writeAnew(x *index, olds []origin, horizons []map[uint64]int64) error {
	f, err := os.OpenFile(s.path(x.id.log()), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, chunkBytes)
	w.Write(x.origin.append(nil)) // its error stays until Flush
	at := map[uint64]int{}
	for n, old := range olds {
		keep := func(d block) bool {
			horizon, ok := horizons[n][d.stream]
			return ok && d.max >= horizon
		}
		if err := s.copyBlocks(w, x, old, keep, at); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Sync()
}

// copyBlocks adds the blocks of an old segment that are kept to x.
func (s *Store) copyBlocks(w io.Writer, x *index, old origin, keep func(block) bool, at map[uint64]int) error {
	blocks, err := s.cache.get(s.cfg.Dir, old.id)
	if err != nil {
		return err
	}
	src, err := os.Open(s.path(old.id.log()))
	if err != nil {
		return err
	}
	defer src.Close()
	from, to := newSealer(old.salt), newSealer(x.salt)
	for _, d := range blocks {
		if !keep(d) {
			continue
		}
		b := make([]byte, d.size)
		if _, err := io.ReadFull(io.NewSectionReader(src, int64(d.off), int64(d.size)), b); err != nil {
			return err
		}
		_, ingested, err := from.parse(b)
		if err != nil {
			s.count.corrupt.Add(1)
			continue
		}
		to.reseal(b)
		if _, err := w.Write(b); err != nil {
			return err
		}
		x.add(d, ingested, at)
	}
	return nil
}

// swapLocked makes x what the first of the segments is, and takes the others
// out; wmu and mu are held.
func (s *Store) swapLocked(list []*segment, x *index) {
	alive := map[uint64]*stream{} // what died meanwhile is dead in x too
	var spans []*span
	for _, seg := range list {
		for _, sp := range seg.spans {
			alive[sp.stream] = sp.of
			spans = append(spans, sp)
		}
	}
	first := list[0]
	touched := s.takeSpansLocked(slices.Values(spans))
	first.origin, first.size, first.blocks, first.index = x.origin, x.size, x.count, indexSize(len(x.spans), x.count)
	for _, sum := range x.spans {
		if st := alive[sum.stream]; st != nil {
			first.addSpan(st, sum)
		}
	}
	s.dropEmptyLocked(maps.Keys(touched))
	for _, seg := range list[1:] {
		seg.gone = true
	}
	s.segments = slices.DeleteFunc(s.segments, func(seg *segment) bool { return seg.gone })
}
