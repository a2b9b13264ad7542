package guest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// module is the path of the packages built here.
const module = "github.com/firn-run/firn/internal/sandbox/linux/guest"

// goTool runs the go command for a static Linux program of the guest's kind.
func goTool(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("guest: go %v: %w\n%s", args, err, out)
	}
	return nil
}

func buildInit(ctx context.Context, dir string) (string, error) {
	file := filepath.Join(dir, "init")
	return file, goTool(ctx, "build", "-ldflags=-s -w", "-o", file, module+"/guestinit")
}

// Build compiles the program in package pkg (an import path) for the guest
// and returns the file.
func Build(ctx context.Context, t testing.TB, pkg string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "program")
	if err := goTool(ctx, "build", "-o", file, pkg); err != nil {
		t.Fatal(err)
	}
	return file
}

// Tests is the test binary of a package, to be run in a guest.
type Tests struct {
	Package string   // import path
	Run     string   // pattern of the tests to run; "" means all
	Args    []string // more arguments of the test binary
}

// RunTests compiles the tests of a package, runs them in a guest and fails t
// when they fail there. cfg.Command is made here; what else the tests need is
// in cfg, among it FIRN_REQUIRE in Env to turn skips in the guest into
// failures. Their output goes to t's log, or to cfg.Output.
func RunTests(ctx context.Context, t testing.TB, tests Tests, cfg Config) Result {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "tests")
	if err := goTool(ctx, "test", "-c", "-ldflags=-s -w", "-o", binary, tests.Package); err != nil {
		t.Fatal(err)
	}
	if cfg.Kernel == "" {
		cfg.Kernel = Kernels()[0]
	}
	files := map[string]string{"/root/tests": binary}
	for to, from := range cfg.Files {
		files[to] = from
	}
	cfg.Files = files
	cfg.Command = []string{"/root/tests", "-test.v", "-test.timeout=10m"}
	if tests.Run != "" {
		cfg.Command = append(cfg.Command, "-test.run="+tests.Run)
	}
	cfg.Command = append(cfg.Command, tests.Args...)
	res := Run(ctx, t, cfg)
	t.Logf("guest %s: command started after %.1f s, ended after %.1f s, exit status %d",
		filepath.Base(cfg.Kernel), res.Boot.Seconds(), res.Total.Seconds(), res.Code)
	if res.Code != 0 {
		t.Errorf("the tests of %s failed in the guest", tests.Package)
	}
	return res
}
