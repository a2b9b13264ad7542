// Package queue keeps work that must not be lost and is not to be done yet:
// rows of package state with a due time, in lanes.
//
// An item is in one lane (a function, for asynchronous invocations), and the
// lanes take turns: Claim goes round among those that have something due, and
// a lane that its Gate holds back costs the others nothing. Within a lane the
// order is that of due times.
//
// Put returns when the item is on the disk. Claimed items stay there until
// they are acknowledged, or returned with another due time, so that a process
// that is killed finds them again: every item is handed out at least once. A
// claim has a lease, and whoever neither settles nor extends it in time loses
// the item to the next Claim. Claims themselves are not written: a data
// directory has one owner, and when that ends, so do its claims.
//
// Memory does not grow with the number of items: each lane knows the few that
// are due next and reads further ones when it gets there, and payloads are
// kept between Put and Claim only up to a bound for all of them.
//
// Puts share commits with each other, and so do settlements: a goroutine each
// collects what comes in during a commit and writes it with the next.
package queue

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/firn-run/firn/internal/state"
)

// Errors that callers tell apart, by errors.Is.
var (
	// ErrClosed: Run has ended, or is about to.
	ErrClosed = errors.New("the queue is closed")
	// ErrLost: the claim is not, or no longer, the item's: its lease ended or
	// it was settled already.
	ErrLost = errors.New("the claim was lost")
)

// Config describes a Queue. Store and Name are required.
type Config struct {
	Store *state.Store
	// Name tells queues of one store apart.
	Name string
	// Now is the clock; time.Now when nil.
	Now func() time.Time
	// Logger defaults to none.
	Logger *slog.Logger
	// Window is how many items of a lane are known in memory, about; default 128.
	Window int
	// CacheBytes bounds the notes and bodies that are kept in memory from Put
	// to Claim; default 16 MiB, negative none. The others are read from the disk.
	CacheBytes int64
}

// Item is one piece of work. Due has a precision of milliseconds. Note is for
// what changes from one claim to the next, Body for what does not.
type Item struct {
	ID   int64
	Lane string
	Due  time.Time
	Note []byte
	Body []byte
}

// Lane is how a lane stands.
type Lane struct {
	Name  string
	Items int64     // claimed ones included
	Busy  int       // claimed ones
	Next  time.Time // when it is looked at next; zero when nothing waits
}

// Queue is a durable queue. Its methods are safe for concurrent use; Claim is
// for one caller at a time.
type Queue struct {
	cfg   Config
	puts  inbox[*putting]
	done  inbox[settlement]
	kick  chan struct{} // has room for one; Claim looks again
	ended chan struct{} // closed when Run refuses Puts

	// reading is held while rows are read to become part of the memory, and
	// by those that work through rows. It is taken before mu.
	reading sync.Mutex

	mu      sync.Mutex
	lanes   map[string]*lane
	timed   laneHeap // lanes with something due later
	ready   fifo     // lanes with something due
	blocked fifo     // lanes that were refused until something is settled
	claims  map[int64]*Claim
	leases  leaseHeap
	cached  int64 // bytes
	unsaved int   // settlements that are not written yet
}

// New returns a queue; Load must be called before Claim.
func New(cfg Config) *Queue {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Window <= 0 {
		cfg.Window = 128
	}
	if cfg.CacheBytes == 0 {
		cfg.CacheBytes = 16 << 20
	}
	return &Queue{
		cfg: cfg, puts: newInbox[*putting](), done: newInbox[settlement](),
		kick: make(chan struct{}, 1), ended: make(chan struct{}),
		lanes: make(map[string]*lane), claims: make(map[int64]*Claim),
	}
}

// Load reads which lanes there are.
func (q *Queue) Load(ctx context.Context) error {
	return q.cfg.Store.View(ctx, func(tx state.Tx) error {
		lanes, err := tx.Lanes(q.cfg.Name)
		if err != nil {
			return err
		}
		q.mu.Lock()
		defer q.mu.Unlock()
		for _, found := range lanes {
			l := q.laneLocked(found.Name)
			l.items, l.more = found.Items, true // from the beginning on
			q.placeLocked(l)
		}
		return nil
	})
}

// Run writes what Put, Ack and Return ask for until ctx ends; then it writes
// what is left and returns. Whoever claims items settles them before.
func (q *Queue) Run(ctx context.Context) error {
	var writers sync.WaitGroup
	writers.Go(func() { q.writePuts(ctx) })
	writers.Go(func() { q.writeSettlements(ctx) })
	<-ctx.Done()
	close(q.ended)
	writers.Wait()
	return nil
}

// Put stores an item (its ID is given by the queue) and returns when it is on
// the disk. Note and Body must not be changed afterwards.
func (q *Queue) Put(ctx context.Context, it Item) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	p := &putting{item: it, written: make(chan error, 1)}
	q.puts.add(p)
	select {
	case err := <-p.written:
		return p.item.ID, err
	case <-q.ended:
	}
	// The last round of writing may still take it.
	if q.puts.remove(func(other *putting) bool { return other == p }) {
		return 0, ErrClosed
	}
	err := <-p.written
	return p.item.ID, err
}

// Lanes returns how all lanes stand, in no order.
func (q *Queue) Lanes() []Lane {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := make([]Lane, 0, len(q.lanes))
	for _, l := range q.lanes {
		entry := Lane{Name: l.name, Items: l.items, Busy: l.busy}
		if due, ok := l.next(); ok {
			entry.Next = time.UnixMilli(max(due, l.hold))
		}
		list = append(list, entry)
	}
	return list
}

// Wake has Claim look at a lane again whose Gate has refused it.
func (q *Queue) Wake(name string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if l := q.lanes[name]; l != nil {
		l.hold = 0
		q.placeLocked(l)
		q.kickLocked()
	}
}

func (q *Queue) kickLocked() {
	select {
	case q.kick <- struct{}{}:
	default:
	}
}
