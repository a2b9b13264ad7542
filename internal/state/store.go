package state

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"
)

// Config is what Open needs. Only Dir is required.
type Config struct {
	// Dir owns the directory of the database. It stays the caller's, who
	// closes it after the store.
	Dir *DataDir
	// Logger defaults to none.
	Logger *slog.Logger
	// Node names the holder of leases in messages; default "local".
	Node string
	// MaxBytes bounds the database file; writes beyond fail with ErrFull. 0
	// is no bound but the disk's.
	MaxBytes int64
	// KeepRevisions is how far back, counted in revisions, removals are
	// remembered for a Watch that resumes; default 100,000.
	KeepRevisions int64
	// Now is the clock of leases; default time.Now.
	Now func() time.Time
}

// Store is an open store. Its methods are safe for concurrent use.
type Store struct {
	engine *engine
	writer *writer
	node   string
	now    func() int64

	readers *readers
	commits broadcast

	mu     sync.Mutex
	closed bool
	views  sync.WaitGroup // Adds only while closed is false, under mu
	quit   chan struct{}  // closed by Close

	closeOnce sync.Once
	closeErr  error
}

// Open opens the store in a data directory, makes it if it is not there,
// brings an older format up to date and refuses a newer one with a
// *NewerFormatError. It refuses to run when the database does not confirm the
// settings that make a commit durable.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Dir == nil {
		return nil, errors.New("state: Config.Dir is missing")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Node == "" {
		cfg.Node = "local"
	}
	if cfg.KeepRevisions <= 0 {
		cfg.KeepRevisions = 100_000
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	path := filepath.Join(cfg.Dir.Path(), databaseName)
	e, err := openEngine(ctx, path, cfg.MaxBytes, durability())
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	s, err := start(ctx, cfg, e)
	if err != nil {
		return nil, fmt.Errorf("state: %w", errors.Join(err, e.close()))
	}
	return s, nil
}

func start(ctx context.Context, cfg Config, e *engine) (*Store, error) {
	if err := migrate(ctx, e.write, e.path, migrations()); err != nil {
		return nil, err
	}
	if err := syncDir(cfg.Dir.Path()); err != nil {
		return nil, err
	}
	// The lock on the directory proves that whoever held a lease is gone.
	if _, err := e.write.ExecContext(ctx, `update lease set expires = 0 where expires <> 0`); err != nil {
		return nil, fmt.Errorf("end leases of the last run: %w", explain(err))
	}
	s := &Store{engine: e, node: cfg.Node, quit: make(chan struct{})}
	s.now = func() int64 { return cfg.Now().UnixMilli() }
	s.readers = newReaders(e.read, maxViews())
	s.commits.init()
	var err error
	s.writer, err = newWriter(ctx, e.write, writerConfig{
		log: cfg.Logger, keep: Revision(cfg.KeepRevisions), slow: slowTurn, committed: s.commits.send,
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Close ends the store: Updates that have not begun fail with ErrClosed, the
// others are committed, Views are waited for, and Watches end. It may be
// called more than once; never from inside View or Update.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		close(s.quit)
		err := s.writer.close()
		s.views.Wait()
		s.closeErr = errors.Join(err, s.readers.close(), s.engine.close())
		if s.closeErr != nil {
			s.closeErr = fmt.Errorf("state: close: %w", s.closeErr)
		}
	})
	return s.closeErr
}

// View calls fn with a consistent snapshot of everything that was
// acknowledged before, for reading only. Keep it short: the database cannot
// shrink its log while a snapshot is open, and Views beyond a few at once
// wait. So fn must not call View itself.
func (s *Store) View(ctx context.Context, fn func(Tx) error) error {
	if err := s.enterView(); err != nil {
		return err
	}
	defer s.views.Done()
	db, err := s.readers.begin(ctx)
	if err != nil {
		return fmt.Errorf("begin view: %w", err)
	}
	defer s.readers.end(db)
	t := &txn{ctx: ctx, db: db, now: s.now}
	defer func() { t.done = true }()
	if err := fn(Tx{t}); err != nil {
		return err
	}
	return t.err
}

func (s *Store) enterView() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.views.Add(1)
	return nil
}

// Update calls fn in a transaction of its own and returns nil when its writes
// are on disk. When fn returns an error nothing of it is kept and Update
// returns that error.
//
// fn may be called more than once, if the commit it shared with others was
// lost, so it must change nothing but through tx. It runs while every other
// Update waits: it must not wait for anything, and must not call the store
// (an Update inside fn never ends). A context that ends before fn began
// prevents it; from then on it has no effect.
func (s *Store) Update(ctx context.Context, fn func(Tx) error) error {
	return s.writer.update(ctx, func(t *txn) error {
		t.node, t.now = s.node, s.now
		return fn(Tx{t})
	})
}
