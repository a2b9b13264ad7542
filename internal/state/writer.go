package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// maxGroup is how many Updates share one commit at most: enough that a sync
// costs each of them little, few enough that the first does not wait long.
const maxGroup = 256

// slowTurn is writerConfig.slow of a store.
const slowTurn = 5 * time.Second

// writer owns the one connection that writes. Updates take turns on it, each
// in its caller's goroutine behind a savepoint of its own, and the writer's
// goroutine commits what the turns left: as many as were waiting, up to
// maxGroup, in one transaction and one sync.
//
// The connection passes from hand to hand with the turn, so its fields need
// no mutex: whoever has received from turns owns them until it sends on back,
// and the writer's goroutine owns them otherwise.
type writer struct {
	cfg   writerConfig
	turns chan *group   // unbuffered: a send is a turn taken by a waiting Update
	alone chan *group   // likewise, for Updates that want no company
	back  chan struct{} // the end of a turn
	quit  chan struct{} // closed by close
	ended chan struct{} // closed when the goroutine has ended

	session
	revision Revision // last one taken
	items    int64    // last ID of an item; those of lost commits are not used again
	pages    int64    // estimate of the log since the last checkpoint
	pruned   Revision // the last one when prune last looked
	broken   error    // a sync failed: nothing more can be promised
}

type writerConfig struct {
	log       *slog.Logger
	keep      Revision
	slow      time.Duration // a turn longer than this is reported
	committed func()        // called after each commit that changed records
}

// group is the Updates that share a commit.
type group struct {
	start Revision // the last one before the group
	ops   int      // turns that began; the transaction is open when there is one
	wrote bool     // some turn changed something
	bytes int64    // size of what was written
	alone bool
	lost  error // the database gave the transaction up in mid-turn

	done chan struct{} // closed after err is set
	err  error         // nil: committed
}

func newWriter(ctx context.Context, db *sql.DB, cfg writerConfig) (*writer, error) {
	w := &writer{
		cfg:   cfg,
		turns: make(chan *group), alone: make(chan *group), back: make(chan struct{}),
		quit: make(chan struct{}), ended: make(chan struct{}),
	}
	if err := w.open(ctx, db); err != nil {
		return nil, err
	}
	row := w.conn.QueryRowContext(ctx, `select value from meta where name = 'revision'`)
	if err := row.Scan(&w.revision); err != nil {
		return nil, errors.Join(fmt.Errorf("read revision: %w", err), w.session.close())
	}
	row = w.conn.QueryRowContext(ctx, `select coalesce(max(id), 0) from item`)
	if err := row.Scan(&w.items); err != nil {
		return nil, errors.Join(fmt.Errorf("read items: %w", err), w.session.close())
	}
	w.pruned = w.revision - cfg.keep // look at the first opportunity
	go w.run()
	return w, nil
}

func (w *writer) close() error {
	close(w.quit)
	<-w.ended
	return w.session.close()
}

// run hands out turns and commits, until close.
func (w *writer) run() {
	defer close(w.ended)
	slow := time.NewTimer(w.cfg.slow)
	defer slow.Stop()
	for {
		g := &group{start: w.revision, done: make(chan struct{})}
		select {
		case w.turns <- g:
		case w.alone <- g:
			g.alone = true
		case <-w.quit:
			return
		}
		w.await(slow)
		for w.another(g) {
			w.await(slow)
		}
		w.commit(g)
		close(g.done)
		if g.err != nil || !g.wrote {
			continue
		}
		if w.revision != g.start {
			w.cfg.committed()
		}
		w.maintain(g)
	}
}

// another gives the next waiting Update its turn in g, if there is one.
func (w *writer) another(g *group) bool {
	if g.alone || g.lost != nil || g.ops >= maxGroup {
		return false
	}
	select {
	case w.turns <- g:
		return true
	default:
		return false
	}
}

// await waits for the end of a turn. It cannot take the turn back: a function
// that never returns stops all writes, so at least it is named.
func (w *writer) await(slow *time.Timer) {
	slow.Reset(w.cfg.slow)
	select {
	case <-w.back:
		return
	case <-slow.C:
	}
	w.cfg.log.Warn("a function given to Update keeps the writer waiting; it must not wait itself nor call the store",
		"after", w.cfg.slow)
	<-w.back
}

// commit makes a group durable, or says in g.err that nothing of it happened.
func (w *writer) commit(g *group) {
	ctx := context.Background()
	g.err = g.lost
	if g.err == nil && g.ops == 0 {
		return
	}
	if g.err == nil && w.revision != g.start {
		_, g.err = w.exec(ctx, `update meta set value = $1 where name = 'revision'`, w.revision)
	}
	if g.err == nil {
		_, g.err = w.exec(ctx, `commit`)
	}
	if g.err == nil {
		return
	}
	if lostSync(g.err) {
		w.broken = fmt.Errorf("the disk could not be synced; check it, then restart firn: %w", g.err)
		w.cfg.log.Error("state accepts no more changes", "error", w.broken)
	}
	// Fails when the database has rolled back by itself; begin will tell if
	// it is neither.
	_, _ = w.exec(ctx, `rollback`)
	w.revision = g.start
}

// errShared says that a group's commit failed for reasons that may be another
// member's: each is tried again alone.
var errShared = errors.New("the shared commit failed")

// update runs fn in a turn and waits for the commit.
func (w *writer) update(ctx context.Context, fn func(*txn) error) error {
	err := w.try(ctx, w.turns, fn)
	if errors.Is(err, errShared) {
		err = w.try(ctx, w.alone, fn)
	}
	return err
}

// try waits for one turn. The answer of fn, also an error, may rest on what
// earlier members of the group wrote, so it is given only when they are
// durable.
func (w *writer) try(ctx context.Context, turns chan *group, fn func(*txn) error) error {
	var g *group
	select {
	case <-w.quit: // of several ready cases select picks any; closed wins
		return ErrClosed
	default:
	}
	select {
	case g = <-turns:
	case <-ctx.Done():
		return ctx.Err()
	case <-w.quit:
		return ErrClosed
	}
	err := w.turn(ctx, g, fn)
	<-g.done
	switch {
	case g.err == nil:
		return err
	case turns != w.alone:
		return errShared
	case err != nil:
		return err
	default:
		return fmt.Errorf("commit: %w", explain(g.err))
	}
}

// turn runs fn behind a savepoint. It gives the turn back however fn ends: a
// panic, or a test's FailNow, unwinds the caller and undoes fn's writes only.
func (w *writer) turn(ctx context.Context, g *group, fn func(*txn) error) (err error) {
	defer func() { w.back <- struct{}{} }()
	if w.broken != nil {
		g.lost = w.broken
		return w.broken
	}
	if err := ctx.Err(); err != nil {
		return err // ended while this was waiting; no part of the group
	}
	if err := w.savepoint(g); err != nil {
		g.lost = err
		return err
	}
	before := w.revision
	t := &txn{ctx: context.Background(), db: &w.session, writable: true, revision: &w.revision, items: &w.items}
	kept := false
	defer func() {
		t.done = true
		if !kept {
			w.revision = before
			w.undo(g)
		}
	}()
	if err := fn(t); err != nil {
		return err
	}
	if t.err != nil {
		return t.err // fn has overlooked it
	}
	if _, err := w.exec(t.ctx, `release op`); err != nil {
		return explain(err)
	}
	kept = true
	g.wrote = g.wrote || t.wrote
	g.bytes += t.bytes
	return nil
}

func (w *writer) savepoint(g *group) error {
	ctx := context.Background()
	if g.ops == 0 {
		if _, err := w.exec(ctx, `begin immediate`); err != nil {
			return fmt.Errorf("begin: %w", explain(err))
		}
	}
	g.ops++
	if _, err := w.exec(ctx, `savepoint op`); err != nil {
		return fmt.Errorf("begin: %w", explain(err))
	}
	return nil
}

// undo goes back to the savepoint. When that is gone the database has rolled
// back everything (it does so when it is full, for one), and with it the
// other members of the group.
func (w *writer) undo(g *group) {
	ctx := context.Background()
	_, err := w.exec(ctx, `rollback to op`)
	if err == nil {
		_, err = w.exec(ctx, `release op`)
	}
	if err != nil {
		g.lost = err
	}
}

// maintain runs between groups, when the callers have their answers.
func (w *writer) maintain(g *group) {
	ctx := context.Background()
	if w.revision-w.pruned > w.cfg.keep/8 {
		w.pruned = w.revision
		if err := w.prune(ctx, w.revision-w.cfg.keep); err != nil {
			w.cfg.log.Warn("old removals could not be forgotten; it is tried again later", "error", err)
		}
	}
	w.pages += logPages(g.ops, g.bytes)
	if w.pages < checkpointPages {
		return
	}
	w.pages = 0
	if err := checkpoint(ctx, w.conn); err != nil {
		if lostSync(err) {
			w.broken = fmt.Errorf("the disk could not be synced; check it, then restart firn: %w", err)
		}
		w.cfg.log.Error("the log could not be folded into the database", "error", err)
	}
}

// prune forgets removals up to a revision and notes the last one forgotten,
// from where on Watch cannot resume.
func (w *writer) prune(ctx context.Context, upTo Revision) (err error) {
	if upTo <= 0 {
		return nil
	}
	if _, err := w.exec(ctx, `begin immediate`); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_, _ = w.exec(ctx, `rollback`) // see commit
		}
	}()
	if _, err = w.exec(ctx, `update meta set value = (select max(revision) from tombstone where revision <= $1)
		where name = 'pruned' and exists (select 1 from tombstone where revision <= $1)`, upTo); err != nil {
		return err
	}
	if _, err = w.exec(ctx, `delete from tombstone where revision <= $1`, upTo); err != nil {
		return err
	}
	_, err = w.exec(ctx, `commit`)
	return err
}
