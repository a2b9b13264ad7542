package server

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/firn-run/firn/internal/sandbox"
	"github.com/firn-run/firn/internal/sandbox/linux"
	"github.com/firn-run/firn/internal/sandbox/process"
)

// openBackend makes the sandbox backend that the configuration names.
func (s *Server) openBackend(ctx context.Context) (sandbox.Backend, error) {
	switch s.cfg.Sandbox {
	case "process":
		return process.New(process.Config{Dir: filepath.Join(s.cfg.DataDir, "process"), Logger: s.cfg.Logger.With("component", "sandbox")})
	case "linux":
		return linux.New(ctx, linux.Config{
			InitPath: s.cfg.InitPath, PoolSize: max(s.cfg.PoolSize, 0), Network: s.cfg.Network,
			// Rather no network, with a warning, than no firn: an ordinary user
			// often gets no TUN device.
			DegradeNetwork: true,
			Logger:         s.cfg.Logger.With("component", "sandbox"),
		})
	}
	return nil, fmt.Errorf("unknown sandbox %q: choose linux or process", s.cfg.Sandbox)
}

// Probe finds out what this host offers to sandboxes.
func Probe(ctx context.Context) HostReport {
	report := HostReport{Features: linux.Probe(ctx, linux.Config{Logger: slog.New(slog.DiscardHandler)}), Sandbox: "linux"}
	report.Features = append(report.Features, openFiles())
	report.Why = "everything it needs is here"
	for _, f := range report.Features {
		if f.Needed && !f.OK {
			report.Why = "but it will not start, since " + f.Name + " is missing; --sandbox process works anywhere and isolates nothing"
		}
	}
	return report
}
