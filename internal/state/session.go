package state

import (
	"context"
	"database/sql"
	"errors"
)

// session is one connection with its prepared statements, each prepared on
// first use and kept: the texts are a handful of constants. One goroutine
// uses it at a time.
type session struct {
	conn  *sql.Conn // nil until the first use
	stmts map[string]*sql.Stmt
}

func (s *session) open(ctx context.Context, db *sql.DB) error {
	if s.conn != nil {
		return nil
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	s.conn, s.stmts = conn, map[string]*sql.Stmt{}
	return nil
}

func (s *session) prepare(ctx context.Context, query string) (*sql.Stmt, error) {
	if stmt := s.stmts[query]; stmt != nil {
		return stmt, nil
	}
	stmt, err := s.conn.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	s.stmts[query] = stmt
	return stmt, nil
}

func (s *session) exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	stmt, err := s.prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	return stmt.ExecContext(ctx, args...)
}

// close ends the connection; another open begins anew.
func (s *session) close() error {
	if s.conn == nil {
		return nil
	}
	var errs []error
	for _, stmt := range s.stmts {
		errs = append(errs, stmt.Close())
	}
	errs = append(errs, s.conn.Close())
	s.conn, s.stmts = nil, nil
	return errors.Join(errs...)
}

// readers are the sessions of Views. A session is in the channel or with one
// View.
type readers struct {
	db   *sql.DB
	free chan *session
}

func newReaders(db *sql.DB, n int) *readers {
	r := &readers{db: db, free: make(chan *session, n)}
	for range n {
		r.free <- &session{}
	}
	return r
}

// begin waits for a session and opens a snapshot in it.
func (r *readers) begin(ctx context.Context) (*session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var s *session
	select {
	case s = <-r.free:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	err := s.open(ctx, r.db)
	if err == nil {
		_, err = s.exec(ctx, `begin`)
	}
	if err != nil {
		r.end(s)
		return nil, err
	}
	return s, nil
}

// end gives a session back without its snapshot. One that cannot even end
// it is replaced.
func (r *readers) end(s *session) {
	if s.conn != nil {
		if _, err := s.exec(context.Background(), `rollback`); err != nil {
			_ = s.close() // of use to nobody
		}
	}
	r.free <- s
}

// close waits for the sessions in use.
func (r *readers) close() error {
	var errs []error
	for range cap(r.free) {
		s := <-r.free
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}
