// Package state keeps firn's durable records: functions, layers, policies,
// mappings, leases. It is the only package that knows a database.
//
// A record is a kind, a key and opaque bytes (JSON by convention). Each write
// gives the record a new revision from one counter of the whole store, which
// serves three purposes at once: optimistic concurrency (PutIf, DeleteIf),
// change propagation (Watch resumes after a revision), and cache validation.
//
// What Update acknowledged is on disk: it returns nil only after the commit
// was synced. Many concurrent Updates share one commit; each of them is
// atomic on its own, and one that fails leaves the others alone.
//
// The engine is SQLite today, in the process, with one writer. The statements
// stay inside the subset that PostgreSQL and its relatives understand too
// (insert on conflict, returning, keyset paging, integers for time), what is
// SQLite's own stands in sqlite.go, and what the API means is package
// statetest, which every engine has to pass. DESIGN.md has the reasons.
package state

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// Limits of a record, enforced by every write.
const (
	MaxKindBytes  = 64      // a kind is a table's name in spirit: short
	MaxKeyBytes   = 2048    // an ARN with room to spare
	MaxValueBytes = 4 << 20 // larger things belong into package blob
)

// Revision numbers the writes of a store. It only grows; it has gaps; 0 is
// before every write and stands for "does not exist" in PutIf.
type Revision int64

// Epoch is the fencing number of a lease: each new holder gets a greater one.
type Epoch int64

// Record is one stored value.
type Record struct {
	Kind     string
	Key      string
	Value    []byte
	Revision Revision // of the write that stored Value
}

// Change is one step of Watch: a record as it stands after a write, or, when
// Deleted, the kind, key and revision of its removal without a value.
type Change struct {
	Record
	Deleted bool
}

// Errors that callers tell apart, by errors.Is.
var (
	// ErrConflict: PutIf or DeleteIf found another revision than wanted.
	ErrConflict = errors.New("the record was changed by someone else")
	// ErrCompacted: Watch cannot resume there, since removals after that
	// revision are forgotten already. Drop what was cached and watch from 0.
	ErrCompacted = errors.New("the revision is too old to resume from")
	// ErrReadOnly: a write inside View.
	ErrReadOnly = errors.New("write in a read-only transaction")
	// ErrTxDone: a Tx was used after its function returned.
	ErrTxDone = errors.New("transaction used after its end")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("the store is closed")
	// ErrFull: the disk, or Config.MaxBytes, has no room for the write. What
	// was acknowledged before is intact and the store stays usable.
	ErrFull = errors.New("no space left for the database")
	// ErrLeaseHeld: someone else has the lease and it has not expired.
	ErrLeaseHeld = errors.New("the lease is held")
	// ErrLeaseLost: the epoch is not, or no longer, the lease's.
	ErrLeaseLost = errors.New("the lease was lost")
	// ErrInvalid: a kind, key or value outside the limits above.
	ErrInvalid = errors.New("invalid record")
)

// maxRune is the greatest code point. Keys never contain it, so that every
// key with a prefix sorts below prefix+maxRune: a range that any database
// understands, where incrementing the last byte would leave UTF-8.
const maxRune = "\U0010FFFF"

// checkName refuses what some engine could not store or sort: PostgreSQL has
// no NUL and no broken UTF-8 in text.
func checkName(what, s string, limit int) error {
	switch {
	case s == "":
		return fmt.Errorf("%w: empty %s", ErrInvalid, what)
	case len(s) > limit:
		return fmt.Errorf("%w: %s of %d bytes, at most %d", ErrInvalid, what, len(s), limit)
	case !utf8.ValidString(s):
		return fmt.Errorf("%w: %s %q is not UTF-8", ErrInvalid, what, s)
	}
	for _, r := range s {
		if r == 0 || r == utf8.MaxRune {
			return fmt.Errorf("%w: %s %q contains %U", ErrInvalid, what, s, r)
		}
	}
	return nil
}

func checkRecord(kind, key string, value []byte) error {
	if err := checkName("kind", kind, MaxKindBytes); err != nil {
		return err
	}
	if err := checkName("key", key, MaxKeyBytes); err != nil {
		return err
	}
	if len(value) > MaxValueBytes {
		return fmt.Errorf("%w: value of %s %q has %d bytes, at most %d", ErrInvalid, kind, key, len(value), MaxValueBytes)
	}
	return nil
}
