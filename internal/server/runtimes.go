package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/firn-run/firn/internal/control"
	"github.com/firn-run/firn/internal/runtimes"
)

// runtimesOf is what the control plane knows of managed runtimes: those of the
// store, or with Config.PullRuntimes all that can be brought into it.
func (s *Server) runtimesOf(store *runtimes.Store) control.Runtimes {
	if !s.cfg.PullRuntimes {
		return store
	}
	return &bringer{
		Store: store, turn: make(chan struct{}, 1), buildOnly: s.cfg.Sandbox == "process",
		opt: runtimes.PullOptions{Registry: s.cfg.RuntimeRegistry}, log: s.cfg.Logger.With("component", "runtimes"),
	}
}

// bringer brings runtimes that functions are made for, one after the other.
type bringer struct {
	*runtimes.Store
	turn chan struct{} // holds the one who brings
	// buildOnly: the sandbox cannot give a function a root of its own.
	buildOnly bool
	opt       runtimes.PullOptions
	log       *slog.Logger
}

// Bring implements control.Bringer.
func (b *bringer) Bring(ctx context.Context, name string) error {
	if b.Has(name) == nil {
		return nil
	}
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	missing, ok := errors.AsType[*runtimes.MissingError](b.Has(name))
	if !ok {
		return b.Has(name) // somebody has brought it meanwhile, or it is damaged
	}
	b.log.Warn("a runtime is missing; firn brings it, which may take minutes", "runtime", name)
	err := b.bring(ctx, name)
	switch {
	case err == nil:
		b.log.Warn("the runtime is here", "runtime", name)
	case ctx.Err() == nil && b.Has(name) == nil:
		b.log.Warn("the runtime is here", "runtime", name, "error", err)
		return nil
	case ctx.Err() == nil:
		err = fmt.Errorf("%w (by hand: %s)", err, missing.Command)
	}
	return err
}

func (b *bringer) bring(ctx context.Context, name string) error {
	if b.buildOnly {
		_, err := b.Build(ctx, name, runtimes.Options{})
		return err
	}
	return b.Store.Bring(ctx, name, b.opt)
}
