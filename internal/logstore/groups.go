package logstore

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// group and stream are guarded by the store's mu; who changes them holds wmu
// as well.
type group struct {
	id      uint64
	name    string
	created int64
	horizon int64 // what is before is expired
	bytes   int64
	streams map[string]*stream
}

type stream struct {
	id      uint64
	group   *group
	name    string
	created int64
	auto    bool // goes with its last event
	spans   []*span
	summary summary // of its spans
}

// grow extends the stream by a part of a span, and bytes of its blocks.
func (st *stream) grow(by summary, bytes int64) {
	m := &st.summary
	if m.events == 0 {
		m.min, m.max = by.min, by.max
	}
	m.min, m.max, m.ingested = min(m.min, by.min), max(m.max, by.max), max(m.ingested, by.ingested)
	m.bytes += bytes
	m.events += by.events
	st.group.bytes += bytes
}

// shrink computes the summary again after spans went.
func (st *stream) shrink() {
	st.group.bytes -= st.summary.bytes
	st.summary = summary{}
	for _, sp := range st.spans {
		st.grow(sp.summary, sp.bytes)
	}
}

// catalogCost is about what a record of the catalog takes without its name.
const catalogCost = 32

// replay applies one record of the catalog when the store is opened.
func (s *Store) replay(r record) {
	s.nextID = max(s.nextID, r.id+1)
	switch r.kind {
	case recGroup:
		g := &group{id: r.id, name: r.name, created: r.when, streams: map[string]*stream{}}
		s.groups[g.name], s.byID[g.id] = g, g
	case recStream:
		if g := s.byID[r.group]; g != nil {
			if old := g.streams[r.name]; old != nil {
				s.forgetStreamLocked(old) // it had gone with its last event
			}
			st := &stream{id: r.id, group: g, name: r.name, created: r.when, auto: r.auto}
			g.streams[st.name], s.streams[st.id] = st, st
		}
	case recDropGroup:
		if g := s.byID[r.id]; g != nil {
			s.forgetGroupLocked(g)
		}
	case recDropStream:
		if st := s.streams[r.id]; st != nil {
			s.forgetStreamLocked(st)
		}
	case recHorizon:
		if g := s.byID[r.id]; g != nil {
			g.horizon = r.when
		}
	case recNext:
		s.nextSeq = max(s.nextSeq, r.seq)
	}
}

// CreateGroup makes a group, durably; ErrGroupExists, ErrTooMany.
func (s *Store) CreateGroup(name string) error {
	return s.change(func() error {
		if s.groups[name] != nil {
			return ErrGroupExists
		}
		_, err := s.makeGroupLocked(name)
		return err
	})
}

// CreateStream makes a stream, durably; ErrNoGroup, ErrStreamExists,
// ErrTooMany.
func (s *Store) CreateStream(groupName, name string) error {
	return s.change(func() error {
		g := s.groups[groupName]
		if g == nil {
			return ErrNoGroup
		}
		if g.streams[name] != nil {
			return ErrStreamExists
		}
		_, err := s.makeStreamLocked(g, name, false)
		return err
	})
}

// DeleteGroup removes a group with all its streams and events, durably;
// ErrNoGroup.
func (s *Store) DeleteGroup(name string) error {
	return s.change(func() error {
		g := s.groups[name]
		if g == nil {
			return ErrNoGroup
		}
		if err := s.catalog.append(record{kind: recDropGroup, id: g.id}); err != nil {
			return err
		}
		s.mu.Lock()
		s.forgetGroupLocked(g)
		s.mu.Unlock()
		return nil
	})
}

// DeleteStream removes a stream with its events, durably; ErrNoGroup,
// ErrNoStream.
func (s *Store) DeleteStream(groupName, name string) error {
	return s.change(func() error {
		st, err := s.find(groupName, name)
		if err != nil {
			return err
		}
		if err := s.catalog.append(record{kind: recDropStream, id: st.id}); err != nil {
			return err
		}
		s.mu.Lock()
		s.forgetStreamLocked(st)
		s.mu.Unlock()
		return nil
	})
}

// change does something to the catalog under wmu, and syncs it.
func (s *Store) change(do func() error) error {
	s.wmu.Lock()
	if s.closed {
		s.wmu.Unlock()
		return ErrClosed
	}
	err := do()
	c := s.commitLocked()
	s.wmu.Unlock()
	if err != nil {
		return wrapFull(err)
	}
	s.wake() // there may be room to free
	return s.wait(c)
}

// find looks a stream up; wmu or mu is held.
func (s *Store) find(groupName, name string) (*stream, error) {
	g := s.groups[groupName]
	if g == nil {
		return nil, ErrNoGroup
	}
	st := g.streams[name]
	if st == nil {
		return nil, ErrNoStream
	}
	return st, nil
}

// makeGroupLocked and makeStreamLocked write the record; wmu is held.
func (s *Store) makeGroupLocked(name string) (*group, error) {
	if err := s.admitLocked(name); err != nil {
		return nil, err
	}
	g := &group{id: s.nextID, name: name, created: s.now(), streams: map[string]*stream{}}
	if err := s.catalog.append(record{kind: recGroup, id: g.id, when: g.created, name: name}); err != nil {
		return nil, err
	}
	s.nextID++
	s.catalog.live += int64(len(name)) + catalogCost
	s.mu.Lock()
	defer s.mu.Unlock()
	s.groups[name], s.byID[g.id] = g, g
	return g, nil
}

func (s *Store) makeStreamLocked(g *group, name string, auto bool) (*stream, error) {
	if err := s.admitLocked(name); err != nil {
		return nil, err
	}
	st := &stream{id: s.nextID, group: g, name: name, created: s.now(), auto: auto}
	if err := s.catalog.append(record{kind: recStream, id: st.id, group: g.id, when: st.created, auto: auto, name: name}); err != nil {
		return nil, err
	}
	s.nextID++
	s.catalog.live += int64(len(name)) + catalogCost
	s.mu.Lock()
	defer s.mu.Unlock()
	g.streams[name], s.streams[st.id] = st, st
	return st, nil
}

// admitLocked checks a new name, and makes room for it among the streams.
func (s *Store) admitLocked(name string) error {
	if len(name) > MaxName {
		return fmt.Errorf("%w: a name of %d bytes", ErrTooLarge, len(name))
	}
	if len(s.streams)+len(s.groups) < s.cfg.MaxStreams {
		return nil
	}
	var old []*stream
	for _, st := range s.streams {
		if st.auto {
			old = append(old, st)
		}
	}
	if len(old) == 0 {
		return ErrTooMany
	}
	slices.SortFunc(old, func(a, b *stream) int {
		return cmp.Or(cmp.Compare(a.summary.max, b.summary.max), cmp.Compare(a.id, b.id))
	})
	// Some at once, since finding them took a look at all.
	old = old[:max(1, len(old)/64)]
	records := make([]record, 0, len(old))
	for _, st := range old {
		records = append(records, record{kind: recDropStream, id: st.id})
	}
	if err := s.catalog.append(records...); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range old {
		s.count.evicted.Add(int64(st.summary.events))
		s.count.evictedBytes.Add(st.summary.bytes)
		s.forgetStreamLocked(st)
	}
	return nil
}

// forgetGroupLocked and forgetStreamLocked take it and its spans out of
// memory; mu is held.
func (s *Store) forgetGroupLocked(g *group) {
	for _, st := range g.streams {
		s.forgetStreamLocked(st)
	}
	delete(s.byID, g.id)
	delete(s.groups, g.name)
	s.catalog.forget(g.name)
}

func (s *Store) forgetStreamLocked(st *stream) {
	for _, sp := range st.spans {
		sp.seg.remove(sp)
	}
	st.spans = nil
	st.shrink()
	delete(st.group.streams, st.name)
	delete(s.streams, st.id)
	s.catalog.forget(st.name)
}

// forget counts a record as out of date.
func (c *catalog) forget(name string) {
	if c != nil { // not while it is being opened
		c.live -= int64(len(name)) + catalogCost
	}
}

// HasGroup reports whether the group exists.
func (s *Store) HasGroup(name string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.groups[name] != nil
}

// HasStream reports whether the stream exists.
func (s *Store) HasStream(groupName, name string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, err := s.find(groupName, name)
	return err == nil
}

// Group describes a group; false when there is none.
func (s *Store) Group(name string) (GroupInfo, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	g := s.groups[name]
	if g == nil {
		return GroupInfo{}, false
	}
	return g.info(), true
}

func (g *group) info() GroupInfo {
	return GroupInfo{Name: g.name, Created: g.created, StoredBytes: g.bytes, Streams: len(g.streams)}
}

func (st *stream) info() StreamInfo {
	m := st.summary
	if m.events > 0 {
		m.min = max(m.min, st.group.horizon)
	}
	return StreamInfo{Name: st.name, Created: st.created, FirstEvent: m.min, LastEvent: m.max, LastIngestion: m.ingested, StoredBytes: m.bytes}
}

// Groups lists groups by name: those with the prefix, after the given name
// (which need not exist). A limit of 0 is none.
func (s *Store) Groups(prefix, after string, limit int) []GroupInfo {
	s.mu.RLock()
	var list []GroupInfo
	for name, g := range s.groups {
		if strings.HasPrefix(name, prefix) && (after == "" || name > after) {
			list = append(list, g.info())
		}
	}
	s.mu.RUnlock()
	slices.SortFunc(list, func(a, b GroupInfo) int { return strings.Compare(a.Name, b.Name) })
	if limit > 0 && len(list) > limit {
		list = list[:limit]
	}
	return list
}

// Streams lists streams of a group. next is what StreamQuery.After goes on
// from, "" when the list is at its end; ErrNoGroup, ErrCursor. A stream whose
// last event changes between two calls may be listed twice or be missed when
// the order is that of last events.
func (s *Store) Streams(q StreamQuery) (list []StreamInfo, next string, err error) {
	var after StreamInfo
	if q.After != "" {
		if after, err = parseStreamCursor(q.After); err != nil {
			return nil, "", err
		}
	}
	order := func(a, b StreamInfo) int {
		n := strings.Compare(a.Name, b.Name)
		if q.ByLastEvent {
			n = cmp.Or(cmp.Compare(a.LastEvent, b.LastEvent), n)
		}
		if q.Descending {
			n = -n
		}
		return n
	}
	s.mu.RLock()
	g := s.groups[q.Group]
	if g == nil {
		s.mu.RUnlock()
		return nil, "", ErrNoGroup
	}
	for name, st := range g.streams {
		if strings.HasPrefix(name, q.Prefix) {
			if info := st.info(); q.After == "" || order(info, after) > 0 {
				list = append(list, info)
			}
		}
	}
	s.mu.RUnlock()
	slices.SortFunc(list, order)
	if q.Limit > 0 && len(list) > q.Limit {
		list = list[:q.Limit]
		last := list[q.Limit-1]
		next = strconv.FormatInt(last.LastEvent, 36) + "/" + last.Name
	}
	return list, next, nil
}

func parseStreamCursor(s string) (StreamInfo, error) {
	first, name, ok := strings.Cut(s, "/")
	last, err := strconv.ParseInt(first, 36, 64)
	if !ok || err != nil {
		return StreamInfo{}, fmt.Errorf("%w: %q", ErrCursor, s)
	}
	return StreamInfo{Name: name, LastEvent: last}, nil
}

// now is the time in the store's unit.
func (s *Store) now() int64 { return s.cfg.Now().UnixMilli() }
