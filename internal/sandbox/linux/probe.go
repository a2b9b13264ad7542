//go:build linux

package linux

import (
	"context"

	"github.com/firn-run/firn/internal/sandbox"
)

// Probe finds out what the host offers.
func Probe(ctx context.Context, cfg Config) []sandbox.Feature {
	return nil
}
