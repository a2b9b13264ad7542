package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/firn-run/firn/internal/state"
)

// Bounds of what is written in one transaction: other writers of the store
// wait for it.
const (
	maxBatch      = 512
	maxBatchBytes = 4 << 20
)

// inbox collects what is to be written next.
type inbox[T any] struct {
	mu    *sync.Mutex
	items *[]T
	kick  chan struct{}
}

func newInbox[T any]() inbox[T] {
	return inbox[T]{new(sync.Mutex), new([]T), make(chan struct{}, 1)}
}

func (b inbox[T]) add(v T) {
	b.mu.Lock()
	*b.items = append(*b.items, v)
	b.mu.Unlock()
	select {
	case b.kick <- struct{}{}:
	default:
	}
}

// take removes what is there.
func (b inbox[T]) take() []T {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := *b.items
	*b.items = nil
	return all
}

// remove takes back one that was not taken yet.
func (b inbox[T]) remove(is func(T) bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, v := range *b.items {
		if is(v) {
			*b.items = append((*b.items)[:i], (*b.items)[i+1:]...)
			return true
		}
	}
	return false
}

// putting is a Put on its way.
type putting struct {
	item    Item
	written chan error // gets the one result
}

// writePuts writes what comes in, until ctx ends and everything is written.
func (q *Queue) writePuts(ctx context.Context) {
	for {
		select {
		case <-q.puts.kick:
		case <-ctx.Done():
			q.savePuts(q.puts.take())
			return
		}
		q.savePuts(q.puts.take())
	}
}

func (q *Queue) savePuts(all []*putting) {
	for len(all) > 0 {
		n, size := 0, 0
		for n < len(all) && n < maxBatch && (n == 0 || size+len(all[n].item.Body) <= maxBatchBytes) {
			size += len(all[n].item.Body)
			n++
		}
		q.savePut(all[:n])
		all = all[n:]
	}
}

// savePut stores some items at once. When that fails, each is tried alone, so
// that only those fail that must.
func (q *Queue) savePut(batch []*putting) {
	err := q.cfg.Store.Update(context.Background(), func(tx state.Tx) (err error) {
		for _, p := range batch {
			it := state.Item{Lane: p.item.Lane, Due: p.item.Due.UnixMilli(), Note: p.item.Note, Body: p.item.Body}
			if p.item.ID, err = tx.AddItem(q.cfg.Name, it); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && len(batch) > 1 {
		for _, p := range batch {
			q.savePut([]*putting{p})
		}
		return
	}
	if err == nil {
		q.arrive(batch)
	} else {
		err = fmt.Errorf("put into queue %s: %w", q.cfg.Name, err)
	}
	for _, p := range batch {
		p.written <- err
	}
}

// arrive makes stored items known.
func (q *Queue) arrive(batch []*putting) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, p := range batch {
		l := q.laneLocked(p.item.Lane)
		l.items++
		e := entry{due: p.item.Due.UnixMilli(), id: p.item.ID, note: p.item.Note, body: p.item.Body}
		if e.kept = q.cached+e.size() <= q.cfg.CacheBytes; e.kept {
			q.cached += e.size()
		} else {
			e.note, e.body = nil, nil
		}
		q.insertLocked(l, e)
	}
	q.kickLocked()
}

// settlement is what is to become of a claimed item.
type settlement struct {
	claim  *Claim
	remove bool
	due    time.Time       // else
	note   []byte          // nil: as it was
	saved  chan<- struct{} // with room for this one; may be nil
	found  bool            // when it was written
}

// Ack removes an item that is done. It does not wait for the disk: an item
// whose removal is lost with the process is handed out once more.
func (q *Queue) Ack(c *Claim) error { return q.settle(settlement{claim: c, remove: true}) }

// Return puts an item back with another due time and note. It does not wait
// for the disk, but the item is not handed out before it is written.
func (q *Queue) Return(c *Claim, due time.Time, note []byte) error {
	return q.settle(settlement{claim: c, due: due, note: note})
}

func (q *Queue) settle(s settlement) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.claims[s.claim.ID] != s.claim || s.claim.settled {
		return fmt.Errorf("settle item %d of queue %s: %w", s.claim.ID, q.cfg.Name, ErrLost)
	}
	q.unclaimLocked(s.claim)
	q.unsaved++
	q.releaseLocked(s.claim.lane)
	q.done.add(s)
	return nil
}

// Pauses of writeSettlements after a failure.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 5 * time.Second
)

// writeSettlements writes what comes in, until ctx ends and everything is
// written. What cannot be written is tried again: the disk may be full.
func (q *Queue) writeSettlements(ctx context.Context) {
	for {
		select {
		case <-q.done.kick:
		case <-ctx.Done():
			q.saveSettlements(ctx, q.done.take())
			return
		}
		q.saveSettlements(ctx, q.done.take())
	}
}

func (q *Queue) saveSettlements(ctx context.Context, all []settlement) {
	pause := firstPause
	for len(all) > 0 {
		batch := all[:min(len(all), maxBatch)]
		err := q.saveSettlement(batch)
		if err == nil {
			all, pause = all[len(batch):], firstPause
			continue
		}
		q.cfg.Logger.Error("what became of queued items could not be written; it is tried again", "queue", q.cfg.Name, "items", len(all), "error", err)
		if ctx.Err() != nil || errors.Is(err, state.ErrClosed) {
			return // the next start hands them out again
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done(): // once more
		}
		timer.Stop()
		pause = min(2*pause, lastPause)
	}
}

func (q *Queue) saveSettlement(batch []settlement) error {
	err := q.cfg.Store.Update(context.Background(), func(tx state.Tx) error {
		for i := range batch {
			s := &batch[i]
			var err error
			if s.remove {
				s.found, err = tx.RemoveItem(s.claim.ID)
			} else {
				s.found, err = tx.MoveItem(s.claim.ID, s.due.UnixMilli(), s.note)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range batch {
		q.unsaved--
		c := s.claim
		delete(q.claims, c.ID)
		switch {
		case s.found && s.remove:
			c.lane.items--
			q.placeLocked(c.lane)
		case s.found:
			q.insertLocked(c.lane, entry{due: s.due.UnixMilli(), id: c.ID})
		default: // someone else has removed it, and counted that
			q.placeLocked(c.lane)
		}
		if s.saved != nil {
			s.saved <- struct{}{}
		}
	}
	q.kickLocked()
	return nil
}
