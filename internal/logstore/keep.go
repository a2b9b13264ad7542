package logstore

import (
	"fmt"
	"iter"
	"maps"
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
	used := s.catalog.size.Load() + s.catalog.live
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
	mark := func(evicted bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		seg.evicted = evicted
	}
	mark(true) // first, so that a reader who misses the files knows why
	if err := s.removeFiles(seg.id); err != nil {
		mark(false)
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
	s.dropEmptyLocked(maps.Keys(s.takeSpansLocked(spans)))
}

// takeSpansLocked takes spans out of their segments and streams, and gives
// the streams with what each lost.
func (s *Store) takeSpansLocked(spans iter.Seq[*span]) map[*stream]map[*span]bool {
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
	}
	return touched
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
