package state

import (
	"context"
	"iter"
	"sync"
)

// A batch of Watch is bounded by both, so that neither many records nor large
// ones fill the memory.
const (
	watchRows  = 256
	watchBytes = 4 << 20
)

// Watch yields the changes after a revision, in the order of their revisions,
// then waits for more, until the context or the store ends or the consumer
// breaks off. The last pair has an error: the context's, ErrClosed,
// ErrCompacted, or the database's.
//
// From 0 it yields every record there is, then the changes: a cache filled
// from 0 is complete. Between two changes of one record a watcher may see
// only the later; it never misses the last. The changes of one Update are
// adjacent but may come in two batches.
func (s *Store) Watch(ctx context.Context, since Revision) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		for {
			// Taken before reading: a commit after the read closes it.
			more := s.commits.wait()
			batch, err := s.changes(ctx, since)
			if err != nil {
				yield(Change{}, err)
				return
			}
			for _, c := range batch {
				since = c.Revision
				if !yield(c, nil) {
					return
				}
			}
			if len(batch) > 0 {
				continue // there may be more than one batch
			}
			select {
			case <-more:
			case <-ctx.Done():
				yield(Change{}, ctx.Err())
				return
			case <-s.quit:
				yield(Change{}, ErrClosed)
				return
			}
		}
	}
}

// changes reads the next batch.
func (s *Store) changes(ctx context.Context, since Revision) ([]Change, error) {
	var batch []Change
	size := 0
	err := s.View(ctx, func(tx Tx) error {
		last, pruned, err := tx.t.horizon()
		if err != nil {
			return err
		}
		// Beyond the last one: the revision is of another, later, history, as
		// after a backup was restored.
		if since != 0 && (since < pruned || since > last) {
			return ErrCompacted
		}
		const query = `select revision, kind, key, value, 0 from record where revision > $1
			union all select revision, kind, key, null, 1 from tombstone where revision > $1
			order by 1 limit $2`
		return tx.t.rows("watch", query, []any{since, watchRows}, func(scan func(...any) error) (bool, error) {
			var c Change
			if err := scan(&c.Revision, &c.Kind, &c.Key, &c.Value, &c.Deleted); err != nil {
				return false, err
			}
			batch = append(batch, c)
			size += len(c.Value)
			return size < watchBytes, nil
		})
	})
	return batch, err
}

// broadcast wakes everyone who waits, each time.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{} // closed and replaced by send
}

func (b *broadcast) init() { b.ch = make(chan struct{}) }

func (b *broadcast) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ch
}

func (b *broadcast) send() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.ch)
	b.ch = make(chan struct{})
}
