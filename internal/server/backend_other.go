//go:build !linux

package server

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/firn-run/firn/internal/sandbox"
	"github.com/firn-run/firn/internal/sandbox/process"
)

// openBackend makes the sandbox backend that the configuration names.
func (s *Server) openBackend(context.Context) (sandbox.Backend, error) {
	if s.cfg.Sandbox == "process" {
		return process.New(process.Config{Dir: filepath.Join(s.cfg.DataDir, "process"), Logger: s.cfg.Logger.With("component", "sandbox")})
	}
	return nil, fmt.Errorf("the sandbox %q needs Linux; here there is process, which isolates nothing", s.cfg.Sandbox)
}

// Probe finds out what this host offers to sandboxes.
func Probe(context.Context) HostReport {
	return HostReport{Sandbox: "process", Why: "the linux sandbox needs Linux; process isolates nothing"}
}
