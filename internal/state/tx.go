package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

// Tx is a transaction inside View or Update. It is valid until the function
// it was given to returns and belongs to that function's goroutine.
type Tx struct{ t *txn }

// txn is what a Tx stands for.
type txn struct {
	ctx  context.Context // of the statements; never cancelled in Update
	db   *session
	node string
	now  func() int64 // the engine's clock, milliseconds

	// The rest is for Update.
	writable bool
	revision *Revision // the store's counter
	items    *int64    // likewise, of IDs of items
	wrote    bool      // some row was changed
	bytes    int64     // size of the values written
	err      error     // the first failure of the engine: the transaction cannot succeed
	done     bool
}

// begin checks that the transaction may be used.
func (t *txn) begin(write bool) error {
	switch {
	case t.done:
		return ErrTxDone
	case t.err != nil:
		return t.err
	case write && !t.writable:
		return ErrReadOnly
	}
	return nil
}

// fail notes a failure of the engine and returns it for the caller.
func (t *txn) fail(op string, err error) error {
	err = fmt.Errorf("%s: %w", op, explain(err))
	if t.err == nil {
		t.err = err
	}
	return err
}

// exec runs a statement and returns how many rows it changed.
func (t *txn) exec(op, query string, args ...any) (int64, error) {
	stmt, err := t.db.prepare(t.ctx, query)
	if err != nil {
		return 0, t.fail(op, err)
	}
	res, err := stmt.ExecContext(t.ctx, args...)
	if err != nil {
		return 0, t.fail(op, err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return 0, t.fail(op, err)
	}
	t.wrote = t.wrote || n > 0
	return n, nil
}

// row runs a query of at most one row and reports whether there was one.
func (t *txn) row(op, query string, args []any, dest ...any) (bool, error) {
	stmt, err := t.db.prepare(t.ctx, query)
	if err != nil {
		return false, t.fail(op, err)
	}
	err = stmt.QueryRowContext(t.ctx, args...).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, t.fail(op, err)
	}
	return true, nil
}

// rows runs a query and calls each for its rows until it returns false.
func (t *txn) rows(op, query string, args []any, each func(scan func(...any) error) (bool, error)) error {
	stmt, err := t.db.prepare(t.ctx, query)
	if err != nil {
		return t.fail(op, err)
	}
	rows, err := stmt.QueryContext(t.ctx, args...)
	if err != nil {
		return t.fail(op, err)
	}
	defer rows.Close()
	for rows.Next() {
		more, err := each(rows.Scan)
		if err != nil {
			return t.fail(op, err)
		}
		if !more {
			return nil
		}
	}
	if err := rows.Err(); err != nil {
		return t.fail(op, err)
	}
	return nil
}

// next takes the next revision.
func (t *txn) next() Revision {
	*t.revision++
	return *t.revision
}

// Revision is the greatest revision that the transaction sees. What was read
// in a View together with its Revision is where Watch can go on from.
func (tx Tx) Revision() (Revision, error) {
	t := tx.t
	if err := t.begin(false); err != nil {
		return 0, err
	}
	if t.writable {
		return *t.revision, nil
	}
	rev, _, err := t.horizon()
	return rev, err
}

// horizon reads the revision of the last commit, and the revision of the last
// removal that was forgotten.
func (t *txn) horizon() (last, pruned Revision, err error) {
	var ok bool
	const query = `select a.value, b.value from meta a, meta b where a.name = 'revision' and b.name = 'pruned'`
	if ok, err = t.row("read revision", query, nil, &last, &pruned); err == nil && !ok {
		err = t.fail("read revision", errors.New("the rows of meta are missing"))
	}
	return last, pruned, err
}

// Get returns a record and whether it exists.
func (tx Tx) Get(kind, key string) (Record, bool, error) {
	t := tx.t
	if err := t.begin(false); err != nil {
		return Record{}, false, err
	}
	r := Record{Kind: kind, Key: key}
	ok, err := t.row("get", `select revision, value from record where kind = $1 and key = $2`,
		[]any{kind, key}, &r.Revision, &r.Value)
	if !ok || err != nil {
		return Record{}, false, err
	}
	return r, true, nil
}

// Put stores a value whether or not the record exists and returns the
// record's new revision. The value is not kept: the caller may reuse it.
func (tx Tx) Put(kind, key string, value []byte) (Revision, error) {
	return tx.put(kind, key, value, `insert into record (kind, key, revision, value) values ($1, $2, $3, $4)
		on conflict (kind, key) do update set revision = excluded.revision, value = excluded.value`)
}

// PutIf stores a value if the record has the revision want, and fails with
// ErrConflict otherwise. A want of 0 means that the record must not exist.
func (tx Tx) PutIf(kind, key string, value []byte, want Revision) (Revision, error) {
	if want == 0 {
		return tx.put(kind, key, value, `insert into record (kind, key, revision, value) values ($1, $2, $3, $4)
			on conflict (kind, key) do nothing`)
	}
	return tx.put(kind, key, value,
		`update record set revision = $3, value = $4 where kind = $1 and key = $2 and revision = $5`, want)
}

// put runs one of the statements above; no row changed is a conflict.
func (tx Tx) put(kind, key string, value []byte, query string, more ...any) (Revision, error) {
	t := tx.t
	if err := t.begin(true); err != nil {
		return 0, err
	}
	if err := checkRecord(kind, key, value); err != nil {
		return 0, err
	}
	if value == nil {
		value = []byte{} // nil would be SQL's null
	}
	rev := t.next()
	n, err := t.exec("put", query, append([]any{kind, key, rev, value}, more...)...)
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, fmt.Errorf("%s %q: %w", kind, key, ErrConflict)
	}
	t.bytes += int64(len(key) + len(value))
	return rev, nil
}

// Delete removes a record. Removing one that does not exist is no error and
// no change.
func (tx Tx) Delete(kind, key string) error {
	_, err := tx.remove(kind, key, `delete from record where kind = $1 and key = $2`)
	return err
}

// DeleteIf removes a record that has the revision want and fails with
// ErrConflict otherwise, also when it does not exist.
func (tx Tx) DeleteIf(kind, key string, want Revision) error {
	n, err := tx.remove(kind, key, `delete from record where kind = $1 and key = $2 and revision = $3`, want)
	if err == nil && n == 0 {
		return fmt.Errorf("%s %q: %w", kind, key, ErrConflict)
	}
	return err
}

func (tx Tx) remove(kind, key, query string, more ...any) (int64, error) {
	t := tx.t
	if err := t.begin(true); err != nil {
		return 0, err
	}
	n, err := t.exec("delete", query, append([]any{kind, key}, more...)...)
	if err != nil || n == 0 {
		return 0, err
	}
	t.bytes += int64(len(key))
	_, err = t.exec("delete", `insert into tombstone (revision, kind, key) values ($1, $2, $3)`, t.next(), kind, key)
	return n, err
}

// List returns records of a kind in the order of their keys' bytes: those
// whose key starts with prefix and sorts after the key after ("" is the
// beginning), at most limit of them (0 or less is all). The last key of a
// page is the after of the next.
func (tx Tx) List(kind, prefix, after string, limit int) ([]Record, error) {
	t := tx.t
	if err := t.begin(false); err != nil {
		return nil, err
	}
	if strings.Contains(prefix, maxRune) {
		return nil, nil
	}
	var list []Record
	const query = `select key, revision, value from record
		where kind = $1 and key >= $2 and key < $3 and key > $4 order by key limit $5`
	if limit <= 0 {
		limit = 1 << 30
	}
	err := t.rows("list", query, []any{kind, prefix, prefix + maxRune, after, limit}, func(scan func(...any) error) (bool, error) {
		r := Record{Kind: kind}
		if err := scan(&r.Key, &r.Revision, &r.Value); err != nil {
			return false, err
		}
		list = append(list, r)
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}
