package image

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

const (
	// inflateWorkers is how many entries of an archive are read at once.
	inflateWorkers = 8
	// inflateBuffer is each worker's buffer.
	inflateBuffer = 64 << 10
)

// onlyWriter hides every method but Write, so that io.CopyBuffer uses the
// buffer that it is given.
type onlyWriter struct{ io.Writer }

// inflate reads every file and hands its content to consume, several at a
// time, each with a buffer to use. It stops at the first error, and when
// the archive's limit has come out altogether, whatever it claimed. It returns
// the bytes.
func (a *archive) inflate(ctx context.Context, consume func(e *entry, content io.Reader, buf []byte) error) (int64, error) {
	var total atomic.Int64 // of all entries together
	for _, l := range a.links {
		total.Add(int64(len(l.target)))
	}
	group, ctx := errgroup.WithContext(ctx)
	next := make(chan *entry)
	group.Go(func() error {
		defer close(next)
		for _, e := range a.files {
			select {
			case next <- e:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range min(inflateWorkers, runtime.GOMAXPROCS(0), max(1, len(a.files))) {
		group.Go(func() error {
			buf := make([]byte, inflateBuffer)
			for e := range next {
				if err := e.inflate(&countingReader{ctx: ctx, total: &total, limit: a.limit}, func(r io.Reader) error { return consume(e, r, buf) }); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	return total.Load(), nil
}

// inflate runs consume on the content of e, read through r. Errors of reading
// blame the archive, those of consume are passed on.
func (e *entry) inflate(r *countingReader, consume func(io.Reader) error) error {
	content, err := e.zip.Open()
	if err != nil {
		return notZip("entry %.200q: %w", e.name, err)
	}
	defer func() { _ = content.Close() }()
	r.r = content
	err = consume(r)
	switch {
	case r.over:
		return tooLarge()
	case r.ctx.Err() != nil:
		return r.ctx.Err()
	case r.err != nil:
		return notZip("entry %.200q: %w", e.name, r.err)
	}
	return err
}

// countingReader counts into a total that all entries share.
type countingReader struct {
	ctx   context.Context
	r     io.Reader
	total *atomic.Int64
	limit int64
	over  bool
	err   error // of reading, but for io.EOF
}

func (c *countingReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(p)
	if c.total.Add(int64(n)) > c.limit {
		c.over = true
		return 0, errors.New("too large")
	}
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}
