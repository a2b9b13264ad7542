package telemetryapi

import (
	"slices"
	"strings"
	"time"

	"github.com/firn-run/firn/internal/lifecycle"
	"github.com/firn-run/firn/internal/telemetry"
)

// BeginInit opens subscriptions and begins the history that later subscribers
// of this init get. EndInit closes both.
func (h *Hub) BeginInit() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	h.open, h.history = true, history{}
	h.activeLocked()
}

// EndInit closes subscriptions and forgets the history, and with it what was
// kept for extensions that have not come back.
func (h *Hub) EndInit() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open, h.history = false, history{}
	for _, s := range h.kept {
		h.dropLocked(s)
	}
	h.kept = nil
	h.activeLocked()
}

func (h *Hub) activeLocked() {
	h.active.Store(!h.closed && (h.open || len(h.subs) > 0 || len(h.kept) > 0))
}

// Subscribed says whether anybody is subscribed, or may still subscribe: when
// not, callers may skip work for the Hub.
func (h *Hub) Subscribed() bool { return h.active.Load() }

// Stats returns the counts of this moment.
func (h *Hub) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	st := h.stats
	st.Subscriptions, st.QueuedBytes = len(h.subs), h.queued
	return st
}

// Record takes a platform record; records that are not of AWS's schema are
// passed over. requestID is not needed: the records name it.
func (h *Hub) Record(requestID string, rec lifecycle.Record) {
	if !h.active.Load() || !strings.HasPrefix(rec.RecordType(), "platform.") {
		return
	}
	h.mu.Lock()
	h.takeLocked(&happening{rec: rec})
	h.mu.Unlock()
}

// Line takes a line of output.
func (h *Hub) Line(line telemetry.Line) {
	if !h.active.Load() {
		return
	}
	h.mu.Lock()
	h.takeLocked(&happening{line: line})
	h.mu.Unlock()
}

func (h *Hub) takeLocked(w *happening) {
	if h.open {
		h.history.add(*w)
	}
	h.enc.next()
	for _, s := range h.subs {
		if s.set.wants(w) {
			h.offerLocked(s, w)
		}
	}
	if h.open {
		return // who comes back reads it in the history
	}
	for _, s := range h.kept {
		if s.set.wants(w) {
			h.offerLocked(s, w)
		}
	}
}

// Subscribe serves one request of a registered extension. body is the whole
// request body. It calls Config.Emit before it returns.
func (h *Hub) Subscribe(extension string, api API, body []byte) Answer {
	h.mu.Lock()
	open := h.open
	h.mu.Unlock()
	if !open {
		return closedRefusal(api).answer(api)
	}
	set, no := parseRequest(api, body)
	if no != nil {
		return no.answer(api)
	}
	h.mu.Lock()
	recs, no := h.subscribeLocked(extension, set)
	h.mu.Unlock()
	if no != nil {
		return no.answer(api)
	}
	for _, rec := range recs {
		h.emit(rec)
	}
	return accepted()
}

func (h *Hub) emit(rec lifecycle.Record) {
	if rec != nil && h.cfg.Emit != nil {
		h.cfg.Emit(rec)
	}
}

// subscribeLocked adds or changes a subscription, and returns records for the
// other sinks: none when nothing has changed.
func (h *Hub) subscribeLocked(extension string, set settings) ([]lifecycle.Record, *refusal) {
	if !h.open {
		return nil, closedRefusal(set.api)
	}
	had, own := h.findLocked(extension, &set)
	switch {
	case own > 0 && had == nil && h.otherAPILocked(extension, set.api):
		return nil, &refusal{400, "AccessDenied", "The extension is subscribed to the other one of Telemetry API and Logs API"}
	case had != nil && had.set.equal(&set):
		return nil, nil
	case had == nil && (own >= MaxPerExtension || len(h.subs) >= MaxSubscriptions):
		return nil, &refusal{400, "ValidationError", "Too many subscriptions"}
	}
	var before *settings
	var missed lifecycle.Record
	if had == nil {
		had = h.attachLocked(extension, set)
		missed = h.closeGapLocked(had)
	} else {
		old := had.set
		before, had.set = &old, set
	}
	h.replayLocked(had, before)
	rec := subscriptionRecord(extension, &set)
	h.takeLocked(&happening{rec: rec})
	h.activeLocked()
	return []lifecycle.Record{missed, rec}, nil
}

// findLocked returns the subscription of the same API and destination, and
// counts all of the extension.
func (h *Hub) findLocked(extension string, set *settings) (same *subscription, own int) {
	for _, s := range h.subs {
		if s.extension != extension {
			continue
		}
		own++
		if s.set.api == set.api && s.set.to == set.to {
			same = s
		}
	}
	return same, own
}

func (h *Hub) otherAPILocked(extension string, api API) bool {
	return slices.ContainsFunc(h.subs, func(s *subscription) bool { return s.extension == extension && s.set.api != api })
}

// attachLocked makes a subscription with a deliverer; it goes on where the
// same extension's last one to the same destination had to stop.
func (h *Hub) attachLocked(extension string, set settings) *subscription {
	s := &subscription{extension: extension}
	i := slices.IndexFunc(h.kept, func(k *subscription) bool {
		return k.extension == extension && k.set.schema == set.schema && k.set.to == set.to
	})
	if i >= 0 {
		s = h.kept[i]
		h.kept = slices.Delete(h.kept, i, i+1)
	}
	s.set = set
	h.subs = append(h.subs, s)
	h.startLocked(s)
	return s
}

// replayLocked gives the history of the init to a subscription; before are
// its settings until now, what these wanted it has had.
func (h *Hub) replayLocked(s *subscription, before *settings) {
	for i := range h.history.items {
		w := &h.history.items[i]
		if !s.set.wants(w) || before != nil && before.wants(w) {
			continue
		}
		if w.gap {
			lost := h.history.lostOf(s.set.streams)
			if lost.records == 0 {
				continue
			}
			w = &happening{rec: lost.record(reasonHistory)}
		}
		h.enc.next()
		h.offerLocked(s, w)
	}
}

func subscriptionRecord(extension string, set *settings) lifecycle.Record {
	rec := lifecycle.TelemetrySubscription{
		Stamp: lifecycle.Stamp{Time: time.Now()}, Name: extension, State: "Subscribed", Types: slices.Clone(set.types),
	}
	if set.api == Logs {
		return lifecycle.LogsSubscription(rec)
	}
	return rec
}

// Pause stops deliveries while the environment is frozen: what is on its way
// may arrive, its time does not run. Resume goes on. Neither waits.
func (h *Hub) Pause() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.paused {
		return
	}
	h.paused = true
	h.pauses++
	for _, s := range h.subs {
		s.to.deadlineLocked()
	}
}

// Resume goes on after a thaw: what is due by the clock goes out at once.
func (h *Hub) Resume() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.paused {
		return
	}
	h.paused = false
	now := time.Now()
	for _, s := range h.subs {
		s.to.deadlineLocked()
		if _, ready := s.to.readyLocked(now); ready || s.to.parked == parkedFrozen {
			s.to.wakeLocked()
		}
	}
}

// Shutdown sends what is buffered at once, and from now on without delay: the
// processes have little time left. It lasts until Reset or Close.
func (h *Hub) Shutdown() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.shutdown {
		return
	}
	h.shutdown = true
	for _, s := range h.subs {
		s.to.retryAt, s.to.backoff = time.Time{}, 0
		s.to.wakeLocked()
	}
}

// Reset says that all processes are gone. Connections are closed; what an HTTP
// subscriber has not acknowledged is kept for the same extension's next
// subscription.
func (h *Hub) Reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open, h.history, h.paused, h.shutdown = false, history{}, false, false
	for _, s := range h.subs {
		s.to.endLocked(lastWords)
		s.to = nil
		if s.set.to.tcp || s.bytes == 0 && s.lost.records == 0 {
			h.dropLocked(s)
			continue
		}
		h.kept = append(h.kept, s)
	}
	h.subs = nil
	for len(h.kept) > MaxSubscriptions {
		h.dropLocked(h.kept[0])
		h.kept = slices.Delete(h.kept, 0, 1)
	}
	h.activeLocked()
}

// Close ends everything and waits for it, within a moment. The caller must
// hold no lock that Config.Emit takes.
func (h *Hub) Close() {
	h.mu.Lock()
	h.closed, h.open, h.history = true, false, history{}
	for _, s := range h.subs {
		s.to.endLocked(0)
		h.dropLocked(s)
	}
	for _, s := range h.kept {
		h.dropLocked(s)
	}
	h.subs, h.kept = nil, nil
	h.activeLocked()
	h.mu.Unlock()
	h.deliverers.Wait()
}
