package main

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/environment"
	"github.com/firn-run/firn/internal/runtimeapi"
	"github.com/firn-run/firn/internal/sandbox"
	"github.com/firn-run/firn/internal/sandbox/linux"
)

// platform starts environments in this process: what is left of a cold start
// without the API around it.
type platform struct {
	pooled, single *linux.Backend
	task           string
	buffers        *runtimeapi.Buffers
	started        int
}

func newPlatform(ctx context.Context, l *lab) (_ *platform, err error) {
	p := &platform{task: filepath.Join(l.dir, "task"), buffers: new(runtimeapi.Buffers)}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if err := unpack(l.archive, p.task); err != nil {
		return nil, err
	}
	if p.pooled, err = linux.New(ctx, linux.Config{Name: "bench1", PoolSize: 4}); err != nil {
		return nil, err
	}
	p.single, err = linux.New(ctx, linux.Config{Name: "bench2"})
	return p, err
}

func (p *platform) close() error {
	var errs []error
	for _, b := range []*linux.Backend{p.pooled, p.single} {
		if b != nil {
			errs = append(errs, b.Close())
		}
	}
	return errors.Join(errs...)
}

// unpack puts the code where sandboxes mount it from.
func unpack(archive []byte, dir string) error {
	r, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, f := range r.File {
		in, err := f.Open()
		if err != nil {
			return err
		}
		content, err := io.ReadAll(in)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, f.Name), content, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// start makes an environment and waits until it is ready.
func (p *platform) start(ctx context.Context, b sandbox.Backend) (*environment.Environment, time.Duration, error) {
	ready := make(chan bool, 1)
	p.started++
	begin := time.Now()
	env, err := environment.Start(ctx, environment.Config{
		ID: fmt.Sprintf("bench%d", p.started), Backend: b, TaskDir: p.task, Network: sandbox.NetworkInternet,
		Version: &firn.FunctionVersion{
			Name: "bench", Version: "$LATEST", Runtime: "provided.al2023", Account: "123456789012", Handler: "bootstrap",
			ARN:      "arn:aws:lambda:us-east-1:123456789012:function:bench",
			MemoryMB: 1769, EphemeralStorageMB: 512, Timeout: 3 * time.Second,
		},
		Buffers: p.buffers, FreezeGrace: -1,
		OnReady: func(_ *environment.Environment, failed bool) { ready <- failed },
		OnEnded: func(*environment.Environment) {},
	})
	if err != nil {
		return nil, 0, err
	}
	select {
	case failed := <-ready:
		if failed {
			return nil, 0, errors.New("init failed")
		}
		return env, time.Since(begin), nil
	case <-time.After(10 * time.Second):
		return nil, 0, errors.New("init takes too long")
	}
}

// round measures the platform's part of cold starts, with and without a pool.
func (p *platform) round(ctx context.Context, book *book, floor string, samples int) error {
	for _, m := range []struct {
		backend sandbox.Backend
		row     row
	}{
		{p.pooled, row{Name: "cold, platform part, from the pool", Target: target{Over: 4, P99: 15}}},
		{p.single, row{Name: "cold, platform part, without the pool", Target: target{Over: 8, P99: 15}}},
	} {
		var took []time.Duration
		for range samples {
			<-time.After(settle / 3)
			env, d, err := p.start(ctx, m.backend)
			if err != nil {
				return err
			}
			took = append(took, d)
			env.Abort()
			<-env.Done()
		}
		m.row.Unit, m.row.Floor = "ms", floor
		book.durations(m.row, took, 0)
	}
	return nil
}

// freeze measures freezing and thawing a sandbox with the parked bootstrap in it.
func (l *lab) freeze(ctx context.Context) error {
	p, err := newPlatform(ctx, l)
	if err != nil {
		return err
	}
	defer p.close()
	for range l.rounds {
		if err := p.freezeRound(ctx, l.book); err != nil {
			return err
		}
	}
	return nil
}

func (p *platform) freezeRound(ctx context.Context, book *book) error {
	gauge := &gauged{Backend: p.pooled}
	env, _, err := p.start(ctx, gauge)
	if err != nil {
		return err
	}
	defer func() {
		env.Abort()
		<-env.Done()
	}()
	var freezes, thaws []time.Duration
	for range 200 {
		begin := time.Now()
		if err := gauge.box.Freeze(); err != nil {
			return err
		}
		freezes = append(freezes, time.Since(begin))
		<-time.After(time.Millisecond) // all have stopped
		begin = time.Now()
		if err := gauge.box.Thaw(); err != nil {
			return err
		}
		thaws = append(thaws, time.Since(begin))
	}
	book.durations(row{Name: "freeze", Unit: "µs"}, freezes, 0)
	book.durations(row{Name: "thaw", Unit: "µs"}, thaws, 0)
	return nil
}

// gauged keeps the last sandbox that was made.
type gauged struct {
	sandbox.Backend
	box sandbox.Sandbox
}

// Create makes a sandbox and remembers it.
func (g *gauged) Create(ctx context.Context, spec sandbox.Spec) (sandbox.Sandbox, error) {
	box, err := g.Backend.Create(ctx, spec)
	g.box = box
	return box, err
}
