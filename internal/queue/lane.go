package queue

import (
	"container/heap"
	"slices"
)

// entry is an item that is known in memory.
type entry struct {
	due, id int64 // milliseconds since 1970
	// note and body are kept when there was room for them.
	kept       bool
	note, body []byte
}

func (e entry) size() int64 { return int64(len(e.note) + len(e.body)) }

// before is the order of a lane.
func (e entry) before(o entry) bool { return e.due < o.due || e.due == o.due && e.id < o.id }

// lane is the items of one name. Guarded by Queue.mu.
//
// Of the items that are not claimed, those up to edge are in window; more says
// that there may be others behind it, on the disk only. Without more, edge
// means nothing: all are in window.
type lane struct {
	name   string
	window []entry // sorted
	more   bool
	edge   entry // its position only

	items   int64 // rows on the disk
	busy    int   // claims that count
	hold    int64 // not looked at before, milliseconds since 1970
	reading bool  // rows behind edge are being read: what arrives waits
	arrived []entry

	place place
	index int // in the heap of lanes
	wake  int64
}

// place says which collection a lane is in.
type place uint8

const (
	nowhere place = iota // nothing waits, or it is being looked at
	timed
	ready
	blocked
)

// next is the due time of what comes first, at the earliest.
func (l *lane) next() (int64, bool) {
	switch {
	case len(l.window) > 0:
		return l.window[0].due, true
	case l.more:
		return l.edge.due, true
	}
	return 0, false
}

// laneLocked finds or makes a lane.
func (q *Queue) laneLocked(name string) *lane {
	l := q.lanes[name]
	if l == nil {
		l = &lane{name: name}
		q.lanes[name] = l
	}
	return l
}

// placeLocked puts a lane where it belongs after a change, and forgets it when
// it is empty.
func (q *Queue) placeLocked(l *lane) {
	due, waits := l.next()
	if l.reading {
		return // the reader does it
	}
	if !waits {
		q.unplaceLocked(l)
		if l.items == 0 && l.busy == 0 {
			delete(q.lanes, l.name)
		}
		return
	}
	wake := max(due, l.hold)
	if l.place == ready && wake <= q.cfg.Now().UnixMilli() {
		return // it keeps its turn
	}
	q.unplaceLocked(l)
	l.wake, l.place = wake, timed
	heap.Push(&q.timed, l)
}

// unplaceLocked takes a lane out of its collection.
func (q *Queue) unplaceLocked(l *lane) {
	switch l.place {
	case timed:
		heap.Remove(&q.timed, l.index)
	case ready:
		q.ready.remove(l)
	case blocked:
		q.blocked.remove(l)
	}
	l.place = nowhere
}

// insertLocked adds an item to what is known of a lane, or leaves it to the
// disk.
func (q *Queue) insertLocked(l *lane, e entry) {
	switch {
	case l.reading:
		l.arrived = append(l.arrived, e)
		return
	case l.more && l.edge.before(e):
		q.dropLocked(e)
		q.placeLocked(l)
		return
	}
	at, _ := slices.BinarySearchFunc(l.window, e, func(a, b entry) int {
		if a.before(b) {
			return -1
		}
		return 1
	})
	l.window = slices.Insert(l.window, at, e)
	if len(l.window) > 2*q.cfg.Window {
		q.shrinkLocked(l)
	}
	q.placeLocked(l)
}

// shrinkLocked leaves the later half of a window to the disk.
func (q *Queue) shrinkLocked(l *lane) {
	for _, e := range l.window[q.cfg.Window:] {
		q.dropLocked(e)
	}
	l.window = slices.Clone(l.window[:q.cfg.Window])
	l.more, l.edge = true, position(l.window[q.cfg.Window-1])
}

func position(e entry) entry { return entry{due: e.due, id: e.id} }

// dropLocked gives the room of a payload back.
func (q *Queue) dropLocked(e entry) {
	if e.kept {
		q.cached -= e.size()
	}
}

// takeLocked removes the first entry of a window.
func (q *Queue) takeLocked(l *lane) entry {
	e := l.window[0]
	l.window[0] = entry{}
	l.window = l.window[1:]
	if len(l.window) == 0 {
		l.window = nil
	}
	q.dropLocked(e)
	return e
}

// laneHeap orders lanes by the time at which they are looked at.
type laneHeap []*lane

func (h laneHeap) Len() int           { return len(h) }
func (h laneHeap) Less(i, j int) bool { return h[i].wake < h[j].wake }
func (h laneHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *laneHeap) Push(x any) {
	l := x.(*lane)
	l.index = len(*h)
	*h = append(*h, l)
}

// Pop implements heap.Interface.
func (h *laneHeap) Pop() any {
	old := *h
	l := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return l
}

// fifo is lanes in the order in which they came. Removal from the middle
// leaves a hole, which pop passes over.
type fifo struct {
	lanes []*lane
	holes int
}

func (f *fifo) push(l *lane) { f.lanes = append(f.lanes, l) }

func (f *fifo) pop() *lane {
	for len(f.lanes) > 0 {
		l := f.lanes[0]
		f.lanes[0] = nil
		f.lanes = f.lanes[1:]
		if l != nil {
			return l
		}
		f.holes--
	}
	f.lanes = nil
	return nil
}

func (f *fifo) remove(l *lane) {
	if i := slices.Index(f.lanes, l); i >= 0 {
		f.lanes[i] = nil
		f.holes++
	}
}
