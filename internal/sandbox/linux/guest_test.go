//go:build linux

package linux

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/firn-run/firn/internal/sandbox/linux/guest"
)

// guestVariable marks the tests that run in the virtual machine.
const guestVariable = "FIRN_TEST_GUEST"

// TestGuest runs the tests on kernels with control groups of version 2 alone,
// as most hosts of today have.
func TestGuest(t *testing.T) {
	if os.Getenv(guestVariable) != "" || os.Getenv(rootlessVariable) != "" {
		t.Skip("this is the guest, or the child")
	}
	if testing.Short() {
		t.Skip("a virtual machine takes a minute")
	}
	guest.Require(t)
	built := filepath.Dir(os.Getenv(initVariable))
	for _, kernel := range guest.Kernels() {
		t.Run(filepath.Base(kernel), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			tests := guest.Tests{
				Package: "github.com/firn-run/firn/internal/sandbox/linux",
				Run:     "^(TestConformance|TestInside|TestClose|TestOwner|TestFork|TestImage|TestPool)",
			}
			guest.RunTests(ctx, t, tests, guest.Config{
				Kernel: kernel, MemoryMB: 1536,
				Files: map[string]string{
					"/firn/" + initName: filepath.Join(built, initName),
					"/firn/first":       filepath.Join(built, "first"),
				},
				Env: []string{guestVariable + "=1", initVariable + "=/firn/" + initName, "FIRN_REQUIRE=root,cgroup,cgroup v2"},
			})
		})
	}
}
