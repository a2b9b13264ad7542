package logstore

import (
	"context"
	"errors"
)

var errUnfinished = errors.New("not built yet")

// Store is the node's log store. Its methods are safe for concurrent use.
type Store struct{}

// Open opens the store, or makes it.
func Open(cfg Config) (*Store, error) { return nil, errUnfinished }

// Close syncs what was appended and ends the store; it is idempotent.
func (s *Store) Close() error { return errUnfinished }

// CreateGroup makes a group, durably; ErrGroupExists.
func (s *Store) CreateGroup(name string) error { return errUnfinished }

// DeleteGroup removes a group with all its streams and events, durably; ErrNoGroup.
func (s *Store) DeleteGroup(name string) error { return errUnfinished }

// Group describes a group; false when there is none.
func (s *Store) Group(name string) (GroupInfo, bool) { return GroupInfo{}, false }

// HasStream reports whether the stream exists.
func (s *Store) HasStream(group, stream string) bool { return false }

// Groups lists groups by name: those with the prefix, after the given name.
// A limit of 0 is none.
func (s *Store) Groups(prefix, after string, limit int) []GroupInfo { return nil }

// CreateStream makes a stream, durably; ErrNoGroup, ErrStreamExists.
func (s *Store) CreateStream(group, stream string) error { return errUnfinished }

// DeleteStream removes a stream with its events, durably; ErrNoGroup, ErrNoStream.
func (s *Store) DeleteStream(group, stream string) error { return errUnfinished }

// Streams lists streams of a group; next is for StreamQuery.After, "" at the end. ErrNoGroup, ErrCursor.
func (s *Store) Streams(q StreamQuery) (list []StreamInfo, next string, err error) {
	return nil, "", errUnfinished
}

// Append stores events in the order given. The batch is not kept.
func (s *Store) Append(b Batch, m Mode) error { return errUnfinished }

// Read answers a query; ErrNoGroup.
func (s *Store) Read(q Query) (Page, error) { return Page{}, errUnfinished }

// Expire lets the group's events before the time (milliseconds) go: they are not read any more, and their room is freed when it can be. ErrNoGroup.
func (s *Store) Expire(group string, before int64) error { return errUnfinished }

// Stats counts.
func (s *Store) Stats() Stats { return Stats{} }

// Watch lets the caller see what is appended from now on; the caller closes the watcher.
func (s *Store) Watch(f WatchFilter) *Watcher { return nil }

// WatchFilter chooses what a watcher sees.
type WatchFilter struct {
	Groups       []string // any of them; empty is all
	Streams      []string // any of them; empty is all that StreamPrefix lets through
	StreamPrefix string
	MaxBytes     int // what may wait for the watcher; default 4 MiB. Beyond it events are dropped and counted
}

// Watcher receives what is appended.
type Watcher struct{}

// Next waits for the next batch. dropped is how many events were lost right before it because the watcher was too slow. The batch is the
// caller's to read, not to change. The error is the context's, or ErrClosed after Close of the watcher or the store.
func (w *Watcher) Next(ctx context.Context) (b Batch, dropped int64, err error) {
	return Batch{}, 0, errUnfinished
}

// Close ends the watcher; it is idempotent.
func (w *Watcher) Close() {}
