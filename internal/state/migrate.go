package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

// migrations is the history of the format, oldest first; the format's number
// is how many have run. An entry never changes once released: the next one
// corrects it. Add in version n, use in n+1, remove in n+2, so that nodes of
// neighbouring versions can share a database.
func migrations() []string {
	return []string{
		// 1: records with the log of changes folded in (the index over
		// revision is the log of writes, tombstone that of removals), and leases.
		`create table record (
			kind     text   not null,
			key      text   not null,
			revision bigint not null,
			value    BYTES  not null,
			primary key (kind, key)
		);
		create unique index record_revision on record (revision);
		create table tombstone (
			revision bigint not null primary key,
			kind     text   not null,
			key      text   not null
		);
		create table lease (
			name    text   not null primary key,
			epoch   bigint not null,
			owner   text   not null,
			expires bigint not null -- milliseconds since 1970, by the engine's clock
		);
		insert into meta (name, value) values ('revision', 0);
		insert into meta (name, value) values ('pruned', 0);`,

		// 2: the rows of queues.
		`create table item (
			id    ROWNUMBER not null primary key,
			queue text      not null,
			lane  text      not null,
			due   bigint    not null, -- milliseconds since 1970
			note  BYTES     not null,
			body  BYTES     not null
		);
		create index item_due on item (queue, lane, due, id);`,
	}
}

// NewerFormatError says that the database was written by a newer firn.
type NewerFormatError struct {
	Path         string
	Found, Known int // format numbers
}

// Error says what to do.
func (e *NewerFormatError) Error() string {
	return fmt.Sprintf("database %s has format %d and this firn knows formats up to %d: run the newer firn that wrote it, or restore a backup",
		e.Path, e.Found, e.Known)
}

// migrate brings the database to the newest format, each step in its own
// transaction together with its number.
func migrate(ctx context.Context, db *sql.DB, path string, steps []string) error {
	if _, err := db.ExecContext(ctx,
		`create table if not exists meta (name text not null primary key, value bigint not null)`); err != nil {
		return fmt.Errorf("prepare database %s: %w", path, err)
	}
	var found int
	err := db.QueryRowContext(ctx, `select value from meta where name = 'format'`).Scan(&found)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("read format of database %s: %w", path, err)
	}
	if found > len(steps) {
		return &NewerFormatError{Path: path, Found: found, Known: len(steps)}
	}
	for n := found; n < len(steps); n++ {
		if err := migrateStep(ctx, db, n+1, steps[n]); err != nil {
			return fmt.Errorf("bring database %s to format %d: %w", path, n+1, err)
		}
	}
	return nil
}

func migrateStep(ctx context.Context, db *sql.DB, format int, script string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // has no effect after Commit
	if _, err := tx.ExecContext(ctx, strings.NewReplacer("BYTES", bytesType, "ROWNUMBER", rowNumberType).Replace(script)); err != nil {
		return explain(err)
	}
	if _, err := tx.ExecContext(ctx, `insert into meta (name, value) values ('format', $1)
		on conflict (name) do update set value = excluded.value`, format); err != nil {
		return explain(err)
	}
	return explain(tx.Commit())
}
