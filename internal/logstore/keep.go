package logstore

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"time"
)

// keep is the goroutine that syncs what nobody waits for, seals full
// segments, and frees what is expired or deleted.
func (s *Store) keep() {
	defer close(s.done)
	for {
		select {
		case <-s.stop:
			return
		case <-s.kick:
		}
		timer := time.NewTimer(s.cfg.Flush)
		select {
		case <-s.stop:
			timer.Stop()
			return
		case <-timer.C:
		}
		s.tidy()
	}
}

// tidy does once what keep does.
func (s *Store) tidy() {
	s.syncMu.Lock()
	s.syncLocked() // a failure is logged there, and told to who waits
	s.sealRotated()
	s.snapshotLocked()
	s.syncMu.Unlock()
	s.free()
}

// snapshotLocked writes the catalog anew if that is worth its while; syncMu
// is held.
func (s *Store) snapshotLocked() {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	if !s.catalog.stale() {
		return
	}
	b := record{kind: recNext, id: s.nextID - 1, seq: s.nextSeq}.append(nil)
	for _, g := range s.groups {
		b = record{kind: recGroup, id: g.id, when: g.created, name: g.name}.append(b)
		if g.horizon != 0 {
			b = record{kind: recHorizon, id: g.id, when: g.horizon}.append(b)
		}
	}
	for _, st := range s.streams {
		b = record{kind: recStream, id: st.id, group: st.group.id, when: st.created, auto: st.auto, name: st.name}.append(b)
	}
	if err := s.catalog.replace(b); err != nil {
		s.cfg.Logger.Error("catalog of the log store could not be written", "error", err)
		if s.catalog.broken {
			s.wake() // until it can
		}
	}
}

// catalogCostLocked is about what a snapshot takes.
func (s *Store) catalogCostLocked() int64 {
	var n int64
	for _, g := range s.groups {
		n += int64(len(g.name)) + catalogCost
	}
	for _, st := range s.streams {
		n += int64(len(st.name)) + catalogCost
	}
	return n
}

// usedLocked is what the store takes, with a snapshot of the catalog to come;
// wmu is held.
func (s *Store) usedLocked() int64 {
	used := s.catalog.size + s.catalog.live
	for _, seg := range s.segments {
		used += seg.disk()
	}
	return used
}

// roomLocked lets the oldest segments go until there is room for so many
// bytes; wmu is held.
func (s *Store) roomLocked(bytes int64) error {
	for s.usedLocked()+bytes > s.limit && len(s.segments) > 0 {
		seg := s.segments[0]
		if seg == s.active {
			s.rotateLocked()
		}
		if err := s.dropSegmentLocked(seg); err != nil {
			return fmt.Errorf("make room in the log store: %w", err)
		}
		s.cfg.Logger.Info("log segment let go of: the log store is full", "segment", seg.id.log())
	}
	return nil
}

// dropSegmentLocked removes a segment and counts what was alive in it; wmu is
// held.
func (s *Store) dropSegmentLocked(seg *segment) error {
	if err := s.removeFiles(seg.id); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	seg.gone = true
	s.segments = slices.DeleteFunc(s.segments, func(other *segment) bool { return other == seg })
	for _, sp := range seg.spans {
		s.count.evicted.Add(int64(sp.events))
		s.count.evictedBytes.Add(sp.bytes)
	}
	s.dropSpansLocked(slices.Values(slices.Clone(seg.spans)))
	return nil
}

// dropSpansLocked takes spans out of their segments and streams, and forgets
// the streams that go with their last event; wmu and mu are held.
func (s *Store) dropSpansLocked(spans iter.Seq[*span]) {
	touched := map[*stream]map[*span]bool{}
	for sp := range spans {
		sp.seg.remove(sp)
		if touched[sp.of] == nil {
			touched[sp.of] = map[*span]bool{}
		}
		touched[sp.of][sp] = true
	}
	for st, gone := range touched {
		st.spans = slices.DeleteFunc(st.spans, func(sp *span) bool { return gone[sp] })
		st.shrink()
		s.dropEmptyLocked(slices.Values([]*stream{st}))
	}
}

// dropEmptyLocked forgets the streams among these that go with their last
// event and have none. The catalog need not say so: opening the store does
// the same.
func (s *Store) dropEmptyLocked(streams iter.Seq[*stream]) {
	for st := range streams {
		if st.auto && len(st.spans) == 0 {
			s.forgetStreamLocked(st)
		}
	}
}

// Expire lets the group's events before the time (milliseconds since 1970)
// go: they are not read any more, and their room is freed when it can be, at
// the latest when MaxBytes is reached. A time before that of a former call
// has no effect. ErrNoGroup.
func (s *Store) Expire(groupName string, before int64) error {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	if s.closed {
		return ErrClosed
	}
	g := s.groups[groupName]
	if g == nil {
		return ErrNoGroup
	}
	if before <= g.horizon {
		return nil
	}
	if err := s.catalog.append(record{kind: recHorizon, id: g.id, when: before}); err != nil {
		return fmt.Errorf("expire events of %s: %w", groupName, wrapFull(err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g.horizon = before
	var old []*span
	for _, st := range g.streams {
		for _, sp := range st.spans {
			if sp.max < before {
				old = append(old, sp)
			}
		}
	}
	s.dropSpansLocked(slices.Values(old))
	s.wake()
	return nil
}

// free removes the sealed segments in which nothing lives, and writes those
// anew in which less than half does.
func (s *Store) free() {
	s.wmu.Lock()
	var sparse []*segment
	for _, seg := range slices.Clone(s.segments) {
		switch {
		case seg.file != nil || 2*seg.live >= seg.size-segmentHeader:
		case len(seg.spans) == 0:
			if err := s.dropSegmentLocked(seg); err != nil {
				s.cfg.Logger.Error("log segment could not be removed", "error", err)
			}
		default:
			sparse = append(sparse, seg)
		}
	}
	s.wmu.Unlock()
	for _, seg := range sparse {
		select {
		case <-s.stop:
			return
		default:
		}
		if err := s.compact(seg); err != nil {
			s.cfg.Logger.Warn("log segment could not be compacted", "segment", seg.id.log(), "error", err)
		}
	}
}

// compact writes the next generation of a sealed segment, with only what
// lives in it, and puts it in its place. Only keep calls it.
func (s *Store) compact(seg *segment) error {
	s.mu.RLock()
	old, salt := seg.id, seg.salt
	horizons := map[uint64]int64{} // of the streams that live in it
	for _, sp := range seg.spans {
		horizons[sp.stream] = sp.of.group.horizon
	}
	s.mu.RUnlock()
	blocks, err := s.cache.get(s.cfg.Dir, old)
	if err != nil {
		return err
	}
	x := &index{id: fileID{old.number, old.generation + 1}, salt: salt, size: segmentHeader}
	keep := func(d block) bool {
		horizon, ok := horizons[d.stream]
		return ok && d.max >= horizon
	}
	err = s.copyBlocks(x, old, blocks, keep)
	if err == nil {
		err = s.writeIndex(x)
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
	if seg.gone {
		return s.removeFiles(x.id)
	}
	s.mu.Lock()
	s.swapLocked(seg, x)
	s.mu.Unlock()
	return s.removeFiles(old)
}

// copyBlocks writes the segment of x with those of the blocks that are kept.
func (s *Store) copyBlocks(x *index, from fileID, blocks []block, keep func(block) bool) (err error) {
	src, err := os.Open(s.path(from.log()))
	if err != nil {
		return err
	}
	defer src.Close()
	f, err := os.OpenFile(s.path(x.id.log()), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, chunkBytes)
	w.Write(appendSegmentHeader(nil, x.id, x.salt)) // its error stays until Flush
	check, at := newSealer(x.salt), map[uint64]int{}
	for _, d := range blocks {
		if !keep(d) {
			continue
		}
		b := make([]byte, d.size)
		if _, err := io.ReadFull(io.NewSectionReader(src, int64(d.off), int64(d.size)), b); err != nil {
			return err
		}
		_, ingested, err := check.parse(b)
		if err != nil {
			s.count.corrupt.Add(1)
			continue
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		x.add(d, ingested, at)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Sync()
}

// swapLocked makes x what the segment is; wmu and mu are held.
func (s *Store) swapLocked(seg *segment, x *index) {
	kept := map[uint64]summary{}
	for _, sum := range x.spans {
		kept[sum.stream] = sum
	}
	var gone []*span
	for _, sp := range seg.spans {
		sum, ok := kept[sp.stream]
		if !ok {
			gone = append(gone, sp) // also a second span of a stream
			continue
		}
		delete(kept, sp.stream)
		seg.live += sum.bytes - sp.bytes
		sp.summary = sum
		sp.of.shrink()
	}
	seg.id, seg.size, seg.index, seg.blocks = x.id, x.size, indexSize(len(x.spans), x.count), x.count
	s.dropSpansLocked(slices.Values(gone))
}
