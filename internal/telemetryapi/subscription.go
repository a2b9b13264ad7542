package telemetryapi

import (
	"slices"
	"time"

	"github.com/firn-run/firn/internal/lifecycle"
)

// batch is what goes to a listener at once: records, each with its separator
// behind it (a comma for HTTP, a line feed for TCP).
type batch struct {
	buf   []byte
	items int
	since time.Time // of the oldest record
	// sent is how much of buf a TCP listener has had, up to the end of a
	// record. Owned by the deliverer.
	sent int
}

// subscription is what one extension wants at one destination, and what waits
// for it. All fields are guarded by Hub.mu, but for the first batch of sealed
// while the deliverer has it.
type subscription struct {
	extension string
	set       settings
	// sealed are full or due; the first may be on its way. open is being
	// filled.
	sealed []*batch
	open   *batch
	spare  []byte // a buffer of a batch that was delivered
	usual  int    // length of the last batch, to begin the next with
	bytes  int    // in sealed and open
	lost   loss   // since the last logsDropped
	// to is the deliverer, or nil after a Reset.
	to *deliverer
	// last is closed when the newest deliverer has ended.
	last chan struct{}
}

func (s *subscription) separator() byte {
	if s.set.to.tcp {
		return '\n'
	}
	return ','
}

// limit is how many bytes may wait.
func (s *subscription) limit() int { return queueFactor * s.set.maxBytes }

// wants says whether a subscription with these settings gets something.
func (set *settings) wants(w *happening) bool {
	return set.streams&w.stream() != 0 && (w.rec == nil || set.schema.wants(w.rec))
}

// offerLocked gives something that happened to one subscription, in the form
// that it wants.
func (h *Hub) offerLocked(s *subscription, w *happening) {
	var out *encoded
	if w.rec != nil {
		out = h.enc.platform(s.set.schema.platformForm(), w.rec)
	} else {
		out = h.enc.line(s.set.schema.lineForm(), &w.line)
	}
	from := 0
	for _, end := range out.ends {
		h.appendLocked(s, out.buf[from:end])
		from = end
	}
}

// appendLocked puts one record into the open batch, or counts it as lost.
// After the first loss everything is lost until half of the queue is free, so
// that one logsDropped tells of it all.
func (h *Hub) appendLocked(s *subscription, record []byte) {
	n := len(record) + 1
	if s.lost.records > 0 || s.bytes+n > s.limit() || h.queued+n > maxHubBytes {
		s.lost.add(n - 1)
		h.stats.Dropped++
		if s.bytes == 0 {
			s.to.fullLocked() // nothing else would have it look for room
		}
		return
	}
	if s.open != nil && len(s.open.buf)+n > 2*s.set.maxBytes {
		s.sealLocked()
		s.to.fullLocked()
	}
	if s.open == nil {
		s.open = &batch{buf: s.spare, since: time.Now()}
		if s.spare = nil; s.open.buf == nil {
			s.open.buf = make([]byte, 0, max(s.usual, n))
		}
		s.to.startedLocked(h.shutdown)
	}
	b := s.open
	b.buf = append(append(b.buf, record...), s.separator())
	b.items++
	s.bytes += n
	h.queued += n
	if len(b.buf) >= s.set.maxBytes || b.items >= s.set.maxItems {
		s.sealLocked()
		s.to.fullLocked()
	}
}

// sealLocked closes the open batch. With others waiting, its buffer is cut to
// its size: what waits is bounded by its length, and must not hold much more.
func (s *subscription) sealLocked() {
	b := s.open
	s.open, s.usual = nil, len(b.buf)
	if len(s.sealed) > 1 && cap(b.buf) > 2*len(b.buf) {
		b.buf = slices.Clone(b.buf)
	}
	s.sealed = append(s.sealed, b)
}

// deliveredLocked takes the first batch away and keeps its buffer for the
// next, while there is a next: an idle subscription holds no memory.
func (h *Hub) deliveredLocked(s *subscription) {
	b := s.sealed[0]
	s.sealed = slices.Delete(s.sealed, 0, 1)
	s.bytes -= len(b.buf)
	h.queued -= len(b.buf)
	h.stats.Delivered += int64(b.items)
	s.spare = nil
	if s.bytes > 0 || cap(b.buf) <= keepScratch {
		s.spare = b.buf[:0]
	}
}

// closeGapLocked tells the subscriber what it has missed, once there is room
// again, and returns the record for the other sinks; nil when there is nothing
// to tell.
func (h *Hub) closeGapLocked(s *subscription) lifecycle.Record {
	if s.lost.records == 0 || s.bytes > s.limit()/2 || h.queued > maxHubBytes/2 {
		return nil
	}
	rec := s.lost.record(reasonSlow)
	s.lost = loss{}
	if s.set.streams&streamPlatform != 0 {
		h.enc.next()
		h.offerLocked(s, &happening{rec: rec})
	}
	return rec
}

// dropLocked forgets what waits for a subscription.
func (h *Hub) dropLocked(s *subscription) {
	h.queued -= s.bytes
	s.sealed, s.open, s.spare, s.bytes = nil, nil, nil, 0
}
