package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"strings"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Everything that is SQLite's own stands in this file: how a database is
// opened, which settings make a commit durable, what its errors mean, when
// its log is folded back. The rest of the package is common SQL.

// bytesType is the column type of opaque bytes ("bytea" in PostgreSQL).
const bytesType = "blob"

// rowNumberType is the column type of a number that is its table's only key
// ("bigint" in PostgreSQL): SQLite then needs no second index for it.
const rowNumberType = "integer"

// engine is an open database: one connection that writes and several that
// read, each a database/sql pool of its own so that readers never wait for
// the writer.
type engine struct {
	write *sql.DB // one connection
	read  *sql.DB
	path  string
}

// durability are the settings without which an acknowledged commit could be
// lost, and the values that openEngine insists on reading back. FULL syncs
// the write-ahead log at every commit; the two fullfsync make macOS flush the
// drive's cache too and mean nothing elsewhere.
func durability() []setting {
	return []setting{
		{"journal_mode", "wal"},
		{"synchronous", "2"},
		{"fullfsync", "1"},
		{"checkpoint_fullfsync", "1"},
	}
}

type setting struct{ name, value string }

// openEngine opens or makes the database file and verifies the settings.
func openEngine(ctx context.Context, path string, maxBytes int64, settings []setting) (*engine, error) {
	// Made here and not by SQLite for its mode; -wal and -shm inherit it.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	f.Close()

	e := &engine{path: path}
	// The writer folds the log back itself (checkpoint), after its callers
	// have their answers and where an error is seen.
	e.write, err = openPool(path, 1, append([]setting{{"wal_autocheckpoint", "0"}}, settings...))
	if err != nil {
		return nil, err
	}
	e.read, err = openPool(path, maxViews(), append([]setting{{"query_only", "1"}}, settings...))
	if err != nil {
		return nil, errors.Join(err, e.write.Close())
	}
	if err := e.prepare(ctx, maxBytes); err != nil {
		return nil, errors.Join(err, e.close())
	}
	return e, nil
}

// maxViews is how many Views run at once: they read from the page cache, so
// more than there are processors would only share them.
func maxViews() int { return max(8, 2*runtime.NumCPU()) }

func (e *engine) prepare(ctx context.Context, maxBytes int64) error {
	if err := verify(ctx, e.write); err != nil {
		return fmt.Errorf("open database %s: %w", e.path, err)
	}
	if maxBytes <= 0 {
		return nil
	}
	var page int64
	if err := e.write.QueryRowContext(ctx, "pragma page_size").Scan(&page); err != nil {
		return fmt.Errorf("open database %s: %w", e.path, err)
	}
	// The writer's pool keeps its one connection for good (openPool), so a
	// setting of the connection holds.
	if _, err := e.write.ExecContext(ctx, "pragma max_page_count="+strconv.FormatInt(max(maxBytes/page, 1), 10)); err != nil {
		return fmt.Errorf("open database %s: %w", e.path, err)
	}
	return nil
}

func openPool(path string, conns int, settings []setting) (*sql.DB, error) {
	query := url.Values{"_txlock": {"immediate"}, "_error_rc": {"1"}}
	for _, s := range append([]setting{{"busy_timeout", "5000"}}, settings...) {
		query.Add("_pragma", s.name+"("+s.value+")")
	}
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}
	connector, err := sqlite.NewConnector(dsn.String())
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	db.SetConnMaxLifetime(0)
	return db, nil
}

// verify reads the settings back: a file system without shared memory, or
// another program's choice, can leave weaker ones in force without an error.
func verify(ctx context.Context, db *sql.DB) error {
	for _, s := range durability() {
		var got string
		if err := db.QueryRowContext(ctx, "pragma "+s.name).Scan(&got); err != nil {
			return fmt.Errorf("read %s: %w", s.name, err)
		}
		if !strings.EqualFold(got, s.value) {
			return fmt.Errorf("refused, since acknowledged changes could be lost: %s is %q and must be %q (is the data directory on a local file system?)",
				s.name, got, s.value)
		}
	}
	return nil
}

func (e *engine) close() error {
	return errors.Join(e.read.Close(), e.write.Close())
}

// Thresholds of the write-ahead log, in pages of 4 KiB. Folding back is worth
// it after some megabytes; beyond the second one readers have held it up for
// so long that the writer waits for them, lest the file grow without end.
const (
	checkpointPages = 2000
	forcePages      = 32000
)

// checkpoint folds the write-ahead log back into the database file.
func checkpoint(ctx context.Context, c *sql.Conn) error {
	var busy, log, done int
	run := func(mode string) error {
		return c.QueryRowContext(ctx, "pragma wal_checkpoint("+mode+")").Scan(&busy, &log, &done)
	}
	if err := run("passive"); err != nil {
		return err
	}
	if log < forcePages {
		return nil
	}
	return run("truncate")
}

// logPages estimates how many pages of the log one transaction wrote.
func logPages(ops int, bytes int64) int64 { return 4 + 3*int64(ops) + bytes/4096 }

// explain turns the engine's error into the package's where it has one.
func explain(err error) error {
	if e, ok := errors.AsType[*sqlite.Error](err); ok && e.Code()&0xff == sqlite3.SQLITE_FULL {
		return fmt.Errorf("%w (%w)", ErrFull, err)
	}
	return err
}

// lostSync tells that a sync failed. The kernel may have dropped the pages
// and marked them clean, so that a second sync would succeed without them:
// only a restart, which reads the log from the disk, knows what is there.
func lostSync(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && (e.Code() == sqlite3.SQLITE_IOERR_FSYNC || e.Code() == sqlite3.SQLITE_IOERR_DIR_FSYNC)
}
