//go:build linux

package cgroup

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/firn-run/firn/internal/sandbox/linux/guest"
)

// TestGuest runs the live tests on kernels with control groups of version 2
// alone, as most hosts of today have.
func TestGuest(t *testing.T) {
	if os.Getenv(envGuest) != "" {
		t.Skip("this is the guest")
	}
	guest.Require(t)
	for _, kernel := range guest.Kernels() {
		t.Run(filepath.Base(kernel), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			guest.RunTests(ctx, t, guest.Tests{Package: "github.com/firn-run/firn/internal/sandbox/linux/cgroup", Run: "^TestLive"},
				guest.Config{Kernel: kernel, Env: []string{
					envGuest + "=1",
					"FIRN_REQUIRE=root,cgroup,cgroup v2",
				}})
		})
	}
}
