package queue

import (
	"container/heap"
	"context"
	"fmt"
	"time"

	"github.com/firn-run/firn/internal/state"
)

// Gate decides whether one more item of a lane may be claimed, while busy of
// them are; it would be one that has been due since due. When it refuses, the lane is looked at again at the given time (if
// it is not zero), when something is settled, and on Wake. It is called with
// the queue locked: it must be quick, and must not call the queue.
type Gate func(lane string, busy int, due time.Time) (admit bool, again time.Time)

// Claim is an item that was handed out. Settle it with Ack or Return.
type Claim struct {
	Item
	lane    *lane
	expires int64 // milliseconds since 1970
	settled bool
	silent  bool // does not count as busy
}

// Claim waits until a lane has something due that the gate admits, and hands
// out the first such item of the lane whose turn it is.
func (q *Queue) Claim(ctx context.Context, gate Gate, lease time.Duration) (*Claim, error) {
	for {
		c, wait := q.tryClaim(gate, lease)
		if c != nil {
			ok, err := q.fill(ctx, c)
			switch {
			case err != nil:
				q.giveUp(c)
				return nil, err
			case ok:
				return c, nil
			}
			continue // it was removed meanwhile
		}
		if wait.read != nil {
			if err := q.readOn(ctx, wait.read); err != nil {
				return nil, err
			}
			continue
		}
		if err := q.sleep(ctx, wait.delay); err != nil {
			return nil, err
		}
	}
}

// waiting is why there is no claim: a lane must be read on, or nothing is due
// for a while.
type waiting struct {
	read  *lane
	delay time.Duration
}

// maxSleep bounds a wait, for the case that the clock is set.
const maxSleep = 30 * time.Second

// maxUnsaved bounds settlements that are not on the disk yet; beyond it
// nothing is handed out.
const maxUnsaved = 16384

// tryClaim goes round the lanes once.
func (q *Queue) tryClaim(gate Gate, lease time.Duration) (*Claim, waiting) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.cfg.Now().UnixMilli()
	q.expireLocked(now)
	if q.unsaved >= maxUnsaved {
		return nil, waiting{delay: maxSleep}
	}
	for len(q.timed) > 0 && q.timed[0].wake <= now {
		l := heap.Pop(&q.timed).(*lane)
		l.place = ready
		q.ready.push(l)
	}
	for l := q.ready.pop(); l != nil; l = q.ready.pop() {
		l.place = nowhere
		if len(l.window) == 0 {
			if l.more {
				l.reading = true
				return nil, waiting{read: l}
			}
			q.placeLocked(l)
			continue
		}
		if max(l.window[0].due, l.hold) > now {
			q.placeLocked(l)
			continue
		}
		admit, again := gate(l.name, l.busy, time.UnixMilli(l.window[0].due))
		if !admit {
			q.refuseLocked(l, again)
			continue
		}
		c := q.claimLocked(l, now, lease)
		if due, ok := l.next(); ok && due <= now {
			l.place = ready // behind the others
			q.ready.push(l)
		} else {
			q.placeLocked(l)
		}
		return c, waiting{}
	}
	return nil, waiting{delay: q.delayLocked(now)}
}

// delayLocked is how long nothing happens by itself.
func (q *Queue) delayLocked(now int64) time.Duration {
	delay := int64(maxSleep / time.Millisecond)
	if len(q.timed) > 0 {
		delay = min(delay, q.timed[0].wake-now)
	}
	if len(q.leases) > 0 {
		delay = min(delay, q.leases[0].expires-now)
	}
	return time.Duration(max(delay, 1)) * time.Millisecond
}

func (q *Queue) refuseLocked(l *lane, again time.Time) {
	if again.IsZero() {
		l.place = blocked
		q.blocked.push(l)
		return
	}
	l.hold = again.UnixMilli()
	q.placeLocked(l)
}

// releaseLocked has the lane of a settled claim looked at again, and one that
// was refused before: what held it back may have been the other.
func (q *Queue) releaseLocked(l *lane) {
	l.hold = 0
	q.placeLocked(l)
	if other := q.blocked.pop(); other != nil {
		other.place = nowhere
		q.placeLocked(other)
	}
	q.kickLocked()
}

func (q *Queue) claimLocked(l *lane, now int64, lease time.Duration) *Claim {
	e := q.takeLocked(l)
	c := q.holdLocked(l, e, now+lease.Milliseconds())
	l.busy++
	if e.kept {
		c.Note, c.Body = e.note, e.body
	}
	return c
}

// holdLocked makes a claim of an entry that is in the window no more.
func (q *Queue) holdLocked(l *lane, e entry, expires int64) *Claim {
	c := &Claim{
		Item: Item{ID: e.id, Lane: l.name, Due: time.UnixMilli(e.due)},
		lane: l, expires: expires,
	}
	q.claims[e.id] = c
	heap.Push(&q.leases, leaseEnd{expires, c})
	return c
}

// fill reads what Put did not keep, and reports whether the item still exists.
func (q *Queue) fill(ctx context.Context, c *Claim) (bool, error) {
	if c.Body != nil || c.Note != nil {
		return true, nil
	}
	it, ok, err := q.read(ctx, c.ID)
	if err != nil {
		return false, err
	}
	if !ok {
		q.forget(c)
		return false, nil
	}
	c.Note, c.Body = it.Note, it.Body
	return true, nil
}

func (q *Queue) read(ctx context.Context, id int64) (it state.Item, ok bool, err error) {
	err = q.cfg.Store.View(ctx, func(tx state.Tx) error {
		it, ok, err = tx.Item(q.cfg.Name, id)
		return err
	})
	if err != nil {
		return it, false, fmt.Errorf("read item %d of queue %s: %w", id, q.cfg.Name, err)
	}
	return it, ok, nil
}

// forget ends the claim of an item that does not exist on the disk.
func (q *Queue) forget(c *Claim) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.claims[c.ID] == c {
		q.unclaimLocked(c)
		delete(q.claims, c.ID)
		c.lane.items--
		q.releaseLocked(c.lane)
	}
}

// giveUp puts an item back that was claimed and not handed out.
func (q *Queue) giveUp(c *Claim) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.claims[c.ID] == c {
		q.unclaimLocked(c)
		delete(q.claims, c.ID)
		q.insertLocked(c.lane, entry{due: c.Due.UnixMilli(), id: c.ID})
		q.releaseLocked(c.lane)
	}
}

// unclaimLocked ends what a claim occupies; the item stays in claims until its
// fate is written.
func (q *Queue) unclaimLocked(c *Claim) {
	if !c.settled {
		c.settled = true
		if !c.silent {
			c.lane.busy--
		}
	}
}

// readOn reads the items of a lane that come behind what is known.
func (q *Queue) readOn(ctx context.Context, l *lane) error {
	q.reading.Lock()
	defer q.reading.Unlock()
	q.mu.Lock()
	after := state.Item{Due: l.edge.due, ID: l.edge.id}
	q.mu.Unlock()
	var rows []state.Item
	err := q.cfg.Store.View(ctx, func(tx state.Tx) (err error) {
		rows, err = tx.Items(q.cfg.Name, l.name, after, q.cfg.Window)
		return err
	})
	q.mu.Lock()
	defer q.mu.Unlock()
	l.reading = false
	arrived := l.arrived
	l.arrived = nil
	defer func() {
		for _, e := range arrived {
			q.insertLocked(l, e)
		}
		q.placeLocked(l)
	}()
	if err != nil {
		return fmt.Errorf("read lane %s of queue %s: %w", l.name, q.cfg.Name, err)
	}
	here := make(map[int64]bool, len(arrived))
	for _, e := range arrived {
		here[e.id] = true
	}
	for _, row := range rows {
		if q.claims[row.ID] == nil && !here[row.ID] {
			l.window = append(l.window, entry{due: row.Due, id: row.ID})
		}
	}
	l.more = len(rows) == q.cfg.Window
	if l.more {
		l.edge = entry{due: rows[len(rows)-1].Due, id: rows[len(rows)-1].ID}
	}
	return nil
}

// sleep waits for a while, or until something has changed.
func (q *Queue) sleep(ctx context.Context, delay time.Duration) error {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-q.kick:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// Extend gives a claim another lease, from now on.
func (q *Queue) Extend(c *Claim, lease time.Duration) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.claims[c.ID] != c || c.settled {
		return ErrLost
	}
	c.expires = q.cfg.Now().UnixMilli() + lease.Milliseconds()
	heap.Push(&q.leases, leaseEnd{c.expires, c})
	return nil
}

// expireLocked puts back what was neither settled nor extended in time.
func (q *Queue) expireLocked(now int64) {
	for len(q.leases) > 0 && q.leases[0].expires <= now {
		end := heap.Pop(&q.leases).(leaseEnd)
		c := end.claim
		if c.settled || c.expires > now || q.claims[c.ID] != c {
			continue
		}
		q.cfg.Logger.Warn("a claim was neither settled nor extended; its item is handed out again", "queue", q.cfg.Name, "lane", c.Lane, "item", c.ID)
		q.unclaimLocked(c)
		delete(q.claims, c.ID)
		q.insertLocked(c.lane, entry{due: c.Due.UnixMilli(), id: c.ID})
		q.releaseLocked(c.lane)
	}
	// Most leases end long after their claims: do not let those pile up.
	if len(q.leases) > 1024 && len(q.leases) > 4*len(q.claims) {
		live := make(leaseHeap, 0, len(q.claims))
		for _, c := range q.claims {
			if !c.settled {
				live = append(live, leaseEnd{c.expires, c})
			}
		}
		heap.Init(&live)
		q.leases = live
	}
}

// leaseEnd is when a lease ended at the time of its writing down.
type leaseEnd struct {
	expires int64
	claim   *Claim
}

// leaseHeap orders leases by their ends.
type leaseHeap []leaseEnd

func (h leaseHeap) Len() int           { return len(h) }
func (h leaseHeap) Less(i, j int) bool { return h[i].expires < h[j].expires }
func (h leaseHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *leaseHeap) Push(x any) { *h = append(*h, x.(leaseEnd)) }

// Pop implements heap.Interface.
func (h *leaseHeap) Pop() any {
	old := *h
	end := old[len(old)-1]
	old[len(old)-1] = leaseEnd{}
	*h = old[:len(old)-1]
	return end
}
