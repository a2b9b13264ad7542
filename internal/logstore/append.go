package logstore

import (
	"errors"
	"fmt"
)

// Append stores events in the order given. Nothing of the batch is kept by
// the store. Without Mode.Create a name that does not exist is ErrNoGroup or
// ErrNoStream; a message over MaxMessage is ErrTooLarge, and nothing is
// stored then. Other errors are those of the disk, ErrFull among them: what
// was stored of the batch is then not known to the caller.
func (s *Store) Append(b Batch, m Mode) error {
	for _, e := range b.Events {
		if len(e.Message) > MaxMessage {
			s.count.failed.Add(int64(len(b.Events)))
			return fmt.Errorf("%w: a message of %d bytes", ErrTooLarge, len(e.Message))
		}
	}
	s.wmu.Lock()
	stored, err := s.appendLocked(b, m)
	var c *commit
	if m.Durable && err == nil {
		c = s.commitLocked()
	}
	s.wmu.Unlock()
	switch {
	case errors.Is(err, ErrNoGroup), errors.Is(err, ErrNoStream):
		return err
	case err != nil:
		s.count.failed.Add(int64(len(b.Events) - stored))
		return wrapFull(err)
	case m.Durable:
		return s.wait(c)
	}
	s.wake()
	return nil
}

// appendLocked tells how many events it stored; wmu is held.
func (s *Store) appendLocked(b Batch, m Mode) (int, error) {
	if s.closed {
		return 0, ErrClosed
	}
	left := b.Events
	for {
		stored := len(b.Events) - len(left)
		// Room first: what goes for it may be the stream's last event, and so
		// the stream.
		if err := s.roomLocked(chunkSize(left)); err != nil {
			return stored, err
		}
		st, err := s.streamLocked(b, m.Create)
		if err != nil || len(left) == 0 {
			return stored, err
		}
		n, err := s.writeLocked(st, left)
		if err != nil {
			return stored, err
		}
		if left = left[n:]; len(left) == 0 {
			return len(b.Events), nil
		}
	}
}

// chunkSize is about what the next write of these events takes at most, with
// its entries in the index.
func chunkSize(events []Event) int64 {
	size := int64(blockHeader + blockEntry + spanEntry)
	for _, e := range events {
		size += int64(len(e.Message)) + 12
		if size > chunkBytes {
			size += blockTarget
			break
		}
	}
	return size
}

// streamLocked finds the batch's stream, or makes it.
func (s *Store) streamLocked(b Batch, create bool) (*stream, error) {
	st, err := s.find(b.Group, b.Stream)
	if err == nil || !create {
		return st, err
	}
	g := s.groups[b.Group]
	if g == nil {
		if g, err = s.makeGroupLocked(b.Group); err != nil {
			return nil, err
		}
	}
	return s.makeStreamLocked(g, b.Stream, true)
}

// writeLocked writes a chunk of the events as blocks of the active segment
// and makes them readable.
func (s *Store) writeLocked(st *stream, events []Event) (int, error) {
	if s.active != nil && s.active.size >= s.cfg.SegmentBytes {
		s.rotateLocked()
	}
	if s.active == nil {
		if err := s.newSegmentLocked(); err != nil {
			return 0, fmt.Errorf("start a log segment: %w", err)
		}
	}
	seg, n, ingested := s.active, 0, s.now()
	check := newSealer(seg.salt)
	buf, blocks := s.buf[:0], make([]block, 0, 1)
	for n < len(events) && len(buf) < chunkBytes {
		var d block
		off := seg.size + int64(len(buf))
		buf, d = check.appendBlock(buf, blockOf{stream: st.id, seq: s.nextSeq + uint64(n), ingested: ingested}, events[n:])
		d.off = uint32(off)
		blocks = append(blocks, d)
		n += int(d.count)
	}
	if cap(buf) <= 4*chunkBytes {
		s.buf = buf
	}
	if _, err := seg.file.WriteAt(buf, seg.size); err != nil {
		// What is left of it must not stand behind the end, where a block of
		// another length could end before it does.
		if cut := seg.file.Truncate(seg.size); cut != nil {
			s.rotateLocked()
			err = errors.Join(err, cut)
		}
		return 0, fmt.Errorf("append to %s: %w", seg.id.log(), err)
	}
	s.nextSeq += uint64(n)
	seg.dirty = true
	s.publish(st, blocks, ingested)
	s.tell(st, events[:n], ingested)
	return n, nil
}

// publish makes blocks of the active segment readable.
func (s *Store) publish(st *stream, blocks []block, ingested int64) {
	seg := s.active
	add := summary{stream: st.id}
	s.mu.Lock()
	for _, d := range blocks {
		add.add(d, ingested)
		seg.table = append(seg.table, d)
		seg.last = d.seq + uint64(d.count) - 1
	}
	seg.size += add.bytes
	seg.blocks += len(blocks)
	if last := len(st.spans) - 1; last >= 0 && st.spans[last].seg == seg {
		st.spans[last].extend(add)
		seg.live += add.bytes
		st.grow(add, add.bytes)
	} else {
		seg.addSpan(st, add)
	}
	s.mu.Unlock()
	s.count.appended.Add(int64(add.events))
	s.count.appendedBytes.Add(add.bytes)
}

func (sp *span) extend(by summary) {
	sp.min, sp.max, sp.ingested = min(sp.min, by.min), max(sp.max, by.max), max(sp.ingested, by.ingested)
	sp.bytes += by.bytes
	sp.events += by.events
}
