package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// binDir is the variable that tells the tests, and the copies of this test
// binary that they start, where the programs under test are.
const binDir = "FIRN_E2E_BIN"

// TestMain builds the programs once, and cleans up after everything.
func TestMain(m *testing.M) {
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	if os.Getenv(binDir) == "" {
		dir, err := os.MkdirTemp("", "firn-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if err := buildAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		if err := os.Setenv(binDir, dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return m.Run()
}

// buildAll builds firn with the init of the same sources inside, as make does,
// and the programs that play functions. Everybody may execute them: one test
// runs firn as another user.
func buildAll(dir string) error {
	if err := goBuild("-ldflags=-s -w", "-o", dir+string(filepath.Separator), "../cmd/firn-init", "../internal/servertest/actor", "../internal/servertest/probe", "../internal/servertest/subscriber", "../internal/servertest/web"); err != nil {
		return err
	}
	inside, err := filepath.Abs("../internal/sandbox/linux/initbin/firn-init")
	if err != nil {
		return err
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {inside: filepath.Join(dir, "firn-init")}})
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		return err
	}
	if err := goBuild("-overlay", file, "-o", dir+string(filepath.Separator), "../cmd/firn"); err != nil {
		return err
	}
	return os.Chmod(dir, 0o755)
}

func goBuild(args ...string) error {
	cmd := exec.Command("go", append([]string{"build"}, args...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, msg)
	}
	return nil
}

// program is the path of a program under test.
func program(name string) string { return filepath.Join(os.Getenv(binDir), name) }

// backends runs a test on every sandbox that this host has.
func backends(t *testing.T, run func(t *testing.T, sandbox string)) {
	for _, sandbox := range []string{"linux", "process"} {
		t.Run(sandbox, func(t *testing.T) {
			t.Parallel()
			run(t, sandbox)
		})
	}
}

// lines counts the lines of text that hold a word.
func lines(text, word string) int {
	n := 0
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			n++
		}
	}
	return n
}
