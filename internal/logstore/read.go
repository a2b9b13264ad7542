package logstore

import (
	"bytes"
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"strings"
)

// Defaults of a Query, and what CloudWatch counts for an event beside its
// message.
const (
	defaultLimit    = 10_000
	defaultMaxBytes = 1 << 20
	eventOverhead   = 26
)

// Read answers a query; ErrNoGroup. Blocks that cannot be read any more are
// passed over, and counted in Stats.Corrupt.
//
// It takes time in proportion to the blocks that overlap the answer, and
// memory in proportion to the answer and to one segment's list of blocks.
func (s *Store) Read(q Query) (Page, error) {
	if q.Limit <= 0 {
		q.Limit = defaultLimit
	}
	if q.MaxBytes <= 0 {
		q.MaxBytes = defaultMaxBytes
	}
	for attempt := 0; ; attempt++ {
		page, err := s.read(q)
		// A segment was compacted since its place was looked up.
		if errors.Is(err, fs.ErrNotExist) && attempt < 100 {
			continue
		}
		if err != nil && !errors.Is(err, ErrNoGroup) {
			err = fmt.Errorf("read log events: %w", err)
		}
		return page, err
	}
}

func (s *Store) read(q Query) (Page, error) {
	parts, w, err := s.choose(q)
	if err != nil {
		return Page{}, err
	}
	sweep := &sweep{store: s, window: w, sel: selection{limit: q.Limit, maxBytes: q.MaxBytes}}
	defer sweep.close()
	for _, p := range parts {
		sweep.queue = append(sweep.queue, &run{part: p, next: p.first})
	}
	heap.Init(&sweep.queue)
	if err := sweep.all(); err != nil {
		return Page{}, err
	}
	return sweep.page(), nil
}

// part is what a query looks at in one segment.
type part struct {
	segment *segment
	id      fileID
	salt    uint64
	table   []block // nil when it is to be loaded
	streams map[uint64]string
	first   int64 // least time in the direction of reading
}

// window is the range of a query, in the direction of reading: forward, time
// and number are as they are; backward, both are complemented, so that what
// is later comes first and one algorithm serves both.
type window struct {
	backward bool
	from, to int64    // timestamps, as they are: from <= t <= to
	after    Position // in the direction of reading
	started  bool     // after counts
}

func (w *window) turn(p Position) Position {
	if w.backward {
		return Position{Timestamp: ^p.Timestamp, Seq: ^p.Seq}
	}
	return p
}

// ends gives the block's first and last time in the direction of reading.
func (w *window) ends(low, high int64) (first, last int64) {
	if w.backward {
		return ^high, ^low
	}
	return low, high
}

// touches reports whether something between these times may be asked for.
func (w *window) touches(low, high int64) bool {
	_, last := w.ends(low, high)
	return high >= w.from && low <= w.to && (!w.started || last >= w.after.Timestamp)
}

// choose finds the segments and streams of the query.
func (s *Store) choose(q Query) ([]*part, *window, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	g := s.groups[q.Group]
	if g == nil {
		return nil, nil, ErrNoGroup
	}
	w := &window{backward: q.Backward, from: max(q.From, g.horizon), to: math.MaxInt64, started: !q.After.IsZero()}
	if q.To != 0 {
		w.to = q.To - 1
	}
	w.after = w.turn(q.After)
	parts := map[*segment]*part{}
	add := func(st *stream) {
		for _, sp := range st.spans {
			if !w.touches(sp.min, sp.max) {
				continue
			}
			first, _ := w.ends(sp.min, sp.max)
			p := parts[sp.seg]
			if p == nil {
				p = &part{segment: sp.seg, id: sp.seg.id, salt: sp.seg.salt, table: sp.seg.table, streams: map[uint64]string{}, first: first}
				parts[sp.seg] = p
			}
			p.streams[st.id] = st.name
			p.first = min(p.first, first)
		}
	}
	if len(q.Streams) > 0 {
		for _, name := range q.Streams {
			if st := g.streams[name]; st != nil && strings.HasPrefix(name, q.StreamPrefix) {
				add(st)
			}
		}
	} else {
		for name, st := range g.streams {
			if strings.HasPrefix(name, q.StreamPrefix) {
				add(st)
			}
		}
	}
	list := make([]*part, 0, len(parts))
	for _, p := range parts {
		list = append(list, p)
	}
	return list, w, nil
}

// run is a part's blocks in the order of their first times; before they are
// loaded it stands for the earliest that there can be.
type run struct {
	*part
	next   int64 // first time of blocks[0]
	loaded bool
	blocks []block
	file   *os.File
	buf    []byte // a piece of the file, which begins at off
	off    int64
}

// runs is a heap by next.
type runs []*run

func (r runs) Len() int           { return len(r) }
func (r runs) Less(i, j int) bool { return r[i].next < r[j].next }
func (r runs) Swap(i, j int)      { r[i], r[j] = r[j], r[i] }

// Push and Pop are heap.Interface's.
func (r *runs) Push(x any) { *r = append(*r, x.(*run)) }

// Pop takes the last one off.
func (r *runs) Pop() any {
	old := *r
	x := old[len(old)-1]
	*r = old[:len(old)-1]
	return x
}

// sweep goes over the blocks in the order of their first times, until none
// can hold an event that is still wanted.
type sweep struct {
	store  *Store
	window *window
	queue  runs
	sel    selection
	opened []*run
}

func (s *sweep) close() {
	for _, r := range s.opened {
		r.file.Close()
	}
}

func (s *sweep) all() error {
	for len(s.queue) > 0 {
		r := s.queue[0]
		if s.sel.cutOff && r.next > s.sel.cut.Timestamp {
			return nil
		}
		if !r.loaded {
			if err := s.load(r); err != nil {
				if !s.store.evicted(r.segment) {
					return err
				}
				r.blocks = nil
			}
		} else {
			s.take(r, r.blocks[0])
			r.blocks = r.blocks[1:]
		}
		if len(r.blocks) == 0 {
			heap.Pop(&s.queue)
			continue
		}
		r.next, _ = s.window.ends(r.blocks[0].min, r.blocks[0].max)
		heap.Fix(&s.queue, 0)
	}
	return nil
}

// evicted reports whether a segment went with all that was in it.
func (s *Store) evicted(seg *segment) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return seg.evicted
}

// load finds the blocks of a run and opens its file.
func (s *sweep) load(r *run) error {
	table := r.table
	if table == nil {
		var err error
		if table, err = s.store.cache.get(s.store.cfg.Dir, r.id); err != nil {
			return err
		}
	}
	for _, d := range table {
		if _, ok := r.streams[d.stream]; ok && s.window.touches(d.min, d.max) {
			r.blocks = append(r.blocks, d)
		}
	}
	slices.SortFunc(r.blocks, func(a, b block) int {
		first, _ := s.window.ends(a.min, a.max)
		second, _ := s.window.ends(b.min, b.max)
		return cmp.Compare(first, second)
	})
	r.loaded = true
	if len(r.blocks) == 0 {
		return nil
	}
	f, err := os.Open(s.store.path(r.id.log()))
	if err != nil {
		return err
	}
	r.file = f
	s.opened = append(s.opened, r)
	return nil
}

// take offers a block's events to the selection.
func (s *sweep) take(r *run, d block) {
	b, err := r.read(d, s.window.backward)
	var parsed block
	var ingested int64
	if err == nil {
		parsed, ingested, err = newSealer(r.salt).parse(b)
	}
	if err == nil && parsed.stream == d.stream {
		name := r.streams[d.stream]
		err = parsed.events(b, func(at Position, message []byte) {
			if at.Timestamp < s.window.from || at.Timestamp > s.window.to {
				return
			}
			turned := s.window.turn(at)
			if s.window.started && !s.window.after.less(turned) {
				return
			}
			s.sel.offer(turned, message, func() Event {
				return Event{Timestamp: at.Timestamp, Ingestion: ingested, Seq: at.Seq, Stream: name, Message: bytes.Clone(message)}
			})
		})
	}
	if err != nil {
		s.store.count.corrupt.Add(1)
		s.store.cfg.Logger.Error("log events are lost", "segment", r.id.log(), "offset", d.off, "error", err)
	}
}

// readAhead is the piece of a file that is read at once, since blocks that
// are read one after the other are mostly neighbours.
const readAhead = 32 << 10

func (r *run) read(d block, backward bool) ([]byte, error) {
	off, end := int64(d.off), int64(d.off)+int64(d.size)
	if off < r.off || end > r.off+int64(len(r.buf)) {
		start, size := off, max(int64(d.size), readAhead)
		if backward {
			start = max(0, end-size)
		}
		if int64(cap(r.buf)) < size {
			r.buf = make([]byte, size)
		}
		n, err := r.file.ReadAt(r.buf[:size], start)
		if int64(n) < end-start {
			r.buf = r.buf[:0]
			return nil, fmt.Errorf("block at %d of %s: %w", off, r.id.log(), err)
		}
		r.buf, r.off = r.buf[:n], start
	}
	return r.buf[off-r.off : end-r.off], nil
}

// selection keeps the first events that it is offered, in order of position,
// up to a number and a size: of whatever it is offered, it has a prefix.
type selection struct {
	limit, maxBytes int
	events          picks
	bytes           int
	cutOff          bool
	cut             Position // nothing from here on is wanted
}

type pick struct {
	at    Position
	event Event
}

func (s *selection) offer(at Position, message []byte, make func() Event) {
	size := len(message) + eventOverhead
	if s.cutOff && !at.less(s.cut) {
		return
	}
	full := len(s.events) >= s.limit || s.bytes+size > s.maxBytes
	if full && len(s.events) > 0 && s.events[0].at.less(at) {
		s.cutOff, s.cut = true, at
		return
	}
	heap.Push(&s.events, pick{at, make()})
	s.bytes += size
	for len(s.events) > 1 && (len(s.events) > s.limit || s.bytes > s.maxBytes) {
		last := heap.Pop(&s.events).(pick)
		s.bytes -= len(last.event.Message) + eventOverhead
		s.cutOff, s.cut = true, last.at
	}
}

// picks is a heap with the last position first.
type picks []pick

func (p picks) Len() int           { return len(p) }
func (p picks) Less(i, j int) bool { return p[j].at.less(p[i].at) }
func (p picks) Swap(i, j int)      { p[i], p[j] = p[j], p[i] }

// Push and Pop are heap.Interface's.
func (p *picks) Push(x any) { *p = append(*p, x.(pick)) }

// Pop takes the last one off.
func (p *picks) Pop() any {
	old := *p
	x := old[len(old)-1]
	*p = old[:len(old)-1]
	return x
}

// page gives what was selected, in ascending order.
func (s *sweep) page() Page {
	list := make([]Event, 0, len(s.sel.events))
	for _, p := range s.sel.events {
		list = append(list, p.event)
	}
	slices.SortFunc(list, func(a, b Event) int {
		return cmp.Or(cmp.Compare(a.Timestamp, b.Timestamp), cmp.Compare(a.Seq, b.Seq))
	})
	return Page{Events: list, More: s.sel.cutOff}
}
