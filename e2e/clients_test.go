package e2e

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/firn-run/firn/internal/require"
)

// clientsDir is where .ci/install-clients puts the clients of other languages.
func clientsDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("FIRN_CLIENTS")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(cache, "firn", "clients")
	}
	_, err := os.Stat(filepath.Join(dir, "python", "bin", "aws"))
	require.Feature(t, "clients", err == nil, "run .ci/install-clients to have the AWS CLI 1, boto3 and the SDK for JavaScript in "+dir)
	return dir
}

// TestClients lets boto3 and the SDK for JavaScript use firn unmodified.
func TestClients(t *testing.T) {
	clients := clientsDir(t)
	built := build(t)
	dir := t.TempDir()
	zipped := filepath.Join(dir, "function.zip")
	zipFile(t, zipped, "bootstrap", filepath.Join(built.dir, "actor"))
	env := startFirn(t, built, dir)

	tests := []struct{ name, want, program, script string }{
		{"boto3", "boto3 is content", filepath.Join(clients, "python", "bin", "python"), "tour.py"},
		{"boto3 observes", "boto3 has seen it all", filepath.Join(clients, "python", "bin", "python"), "observe.py"},
		{"infrastructure", "what was written is what is read", filepath.Join(clients, "python", "bin", "python"), "infrastructure.py"},
		{"JavaScript", "the SDK for JavaScript is content", "node", "tour.mjs"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			args := []string{filepath.Join("clients", test.script)}
			if test.program == "node" {
				args = append(args, clients)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, test.program, append(args, zipped)...)
			cmd.Env = append(os.Environ(), env...)
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), test.want) {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// startFirn runs `firn up` until the test ends and returns the environment of
// its clients.
func startFirn(t *testing.T, built programs, dir string) []string {
	t.Helper()
	data := filepath.Join(dir, "data")
	cmd := exec.Command(filepath.Join(built.dir, "firn"), "up", "--listen", "127.0.0.1:0", "--data", data)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("firn up: %v", err)
		}
	})
	var env []string
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), "export ")
		if ok {
			env = append(env, strings.Fields(rest)...)
		}
		if strings.HasPrefix(rest, "AWS_SECRET_ACCESS_KEY=") {
			go func() { // the live view must be read, or it would fill the pipe
				for lines.Scan() {
				}
			}()
			return env
		}
	}
	t.Fatal("firn up ended without saying what to export")
	return nil
}
