package queue

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/firn-run/firn/internal/state"
)

// List returns items of a lane in the order in which they are due, those
// behind after (the zero Item is the beginning), at most limit. They come
// without Body, claimed ones included.
func (q *Queue) List(ctx context.Context, lane string, after Item, limit int) ([]Item, error) {
	var rows []state.Item
	from := state.Item{ID: after.ID}
	if after.ID != 0 {
		from.Due = after.Due.UnixMilli()
	}
	err := q.cfg.Store.View(ctx, func(tx state.Tx) (err error) {
		rows, err = tx.Items(q.cfg.Name, lane, from, limit)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list lane %s of queue %s: %w", lane, q.cfg.Name, err)
	}
	list := make([]Item, len(rows))
	for i, r := range rows {
		list[i] = Item{ID: r.ID, Lane: r.Lane, Due: time.UnixMilli(r.Due), Note: r.Note}
	}
	return list, nil
}

// Get returns an item whole and whether it exists.
func (q *Queue) Get(ctx context.Context, id int64) (Item, bool, error) {
	r, ok, err := q.read(ctx, id)
	if !ok || err != nil {
		return Item{}, false, err
	}
	return Item{ID: r.ID, Lane: r.Lane, Due: time.UnixMilli(r.Due), Note: r.Note, Body: r.Body}, true, nil
}

// Claimed reports whether an item is claimed at the moment.
func (q *Queue) Claimed(id int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.claims[id]
	return c != nil && !c.settled
}

// Verdict is what Sweep does with an item.
type Verdict struct {
	Keep   bool // leave it as it is
	Remove bool
	Due    time.Time // else: when it is due
}

// sweepPage is how many items Sweep works on at once.
const sweepPage = 256

// Sweep asks about each waiting item of a lane in the order in which they are
// due (without Body; claimed ones are passed over) and does what it is told.
// It returns how many were changed, when that is on the disk. An item that is
// moved behind its place may be asked about again.
func (q *Queue) Sweep(ctx context.Context, lane string, judge func(Item) Verdict) (int, error) {
	changed := 0
	for after := (Item{}); ; {
		n, last, err := q.sweepPage(ctx, lane, after, judge)
		changed += n
		if err != nil || last.ID == 0 {
			return changed, err
		}
		after = last
	}
}

func (q *Queue) sweepPage(ctx context.Context, lane string, after Item, judge func(Item) Verdict) (int, Item, error) {
	q.reading.Lock()
	defer q.reading.Unlock()
	page, err := q.List(ctx, lane, after, sweepPage)
	if err != nil || len(page) == 0 {
		return 0, Item{}, err
	}
	saved := make(chan struct{}, len(page))
	n := 0
	for _, it := range page {
		v := judge(it)
		if v.Keep {
			continue
		}
		c := q.seize(it)
		if c == nil {
			continue
		}
		if err := q.settle(settlement{claim: c, remove: v.Remove, due: v.Due, saved: saved}); err != nil {
			return n, Item{}, err
		}
		n++
	}
	for range n {
		select {
		case <-saved:
		case <-q.ended:
			return n, Item{}, ErrClosed
		case <-ctx.Done():
			return n, Item{}, ctx.Err()
		}
	}
	return n, page[len(page)-1], nil
}

// seizeTime is far more than passes between seize and settle.
const seizeTime = time.Minute

// seize claims one item out of its turn, or returns nil when it is claimed.
func (q *Queue) seize(it Item) *Claim {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.claims[it.ID] != nil {
		return nil
	}
	l := q.laneLocked(it.Lane)
	if i := slices.IndexFunc(l.window, func(o entry) bool { return o.id == it.ID }); i >= 0 {
		q.dropLocked(l.window[i])
		l.window = slices.Delete(l.window, i, i+1)
	}
	e := entry{due: it.Due.UnixMilli(), id: it.ID}
	c := q.holdLocked(l, e, q.cfg.Now().Add(seizeTime).UnixMilli())
	c.silent = true
	q.placeLocked(l)
	return c
}
