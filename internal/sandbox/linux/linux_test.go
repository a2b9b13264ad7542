//go:build linux

package linux

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/firn-run/firn/internal/sandbox"
	"github.com/firn-run/firn/internal/sandbox/sandboxtest"
)

// initVariable tells tests, and those that run in a child, where firn-init is.
// The program of testdata/first lies beside it.
const initVariable = "FIRN_TEST_INIT"

func TestMain(m *testing.M) {
	sandboxtest.Main()
	if os.Getenv(grantVariable) != "" {
		fmt.Fprintln(os.Stderr, grantTUN()) // returns on failure only
		os.Exit(1)
	}
	if mark := os.Getenv(ownerVariable); mark != "" {
		os.Exit(owner(mark))
	}
	if os.Getenv(insideVariable) != "" {
		os.Exit(inside())
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if os.Getenv(initVariable) != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "firn-init-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, initName)
	for file, pkg := range map[string]string{path: "github.com/firn-run/firn/cmd/firn-init", filepath.Join(dir, "first"): "./testdata/first"} {
		flags := "-s -w"
		if file == path && runtime.GOARCH == "amd64" {
			flags += " -E main.entry" // as the Makefile links it
		}
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags="+flags, "-o", file, pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build %s: %v\n%s", pkg, err, out)
			return 1
		}
	}
	_ = os.Chmod(dir, 0o755)
	if err := os.Setenv(initVariable, path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// testLog writes to the test's own log.
func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
}

// open makes a backend that the test closes at its end.
func open(t testing.TB, change func(*Config)) *Backend {
	t.Helper()
	cfg := Config{Logger: testLog(t), InitPath: os.Getenv(initVariable), Name: "gotest", DegradeNetwork: true}
	if change != nil {
		change(&cfg)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	b, err := New(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error("close the backend:", err)
		}
	})
	return b
}

func conformance(t *testing.T, change func(*Config)) {
	b := open(t, change)
	can, network := b.can, b.cfg.Network
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	sandboxtest.Run(t, sandboxtest.Config{
		New:      func(t *testing.T) sandbox.Backend { return open(t, change) },
		Isolated: true, Strays: true, MemoryFigures: true, MemoryLimits: true, PidLimits: true,
		TmpLimit: true, CPULimits: can.CPU, OpenFiles: true,
		OutboundInternet: network == sandbox.NetworkInternet,
	})
}

func TestConformance(t *testing.T) {
	conformance(t, nil)
}
