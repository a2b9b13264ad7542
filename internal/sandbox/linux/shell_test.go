//go:build linux

package linux

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/firn-run/firn/internal/sandbox"
)

// create makes a sandbox that the test closes at its end.
func create(t testing.TB, b *Backend, change func(*sandbox.Spec)) sandbox.Sandbox {
	t.Helper()
	spec := sandbox.Spec{ID: t.Name(), TaskDir: publicDir(t), MemoryMB: 256, EphemeralStorageMB: 512, Network: sandbox.NetworkNone}
	if change != nil {
		change(&spec)
	}
	s, err := b.Create(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// publicDir is a temporary directory that everybody may read.
func publicDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// shell runs a script inside and returns what it printed and how it ended.
func shell(t testing.TB, s sandbox.Sandbox, script string) (string, sandbox.Exit) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := s.Start(t.Context(), sandbox.Command{
		Path: "/bin/sh", Args: []string{"sh", "-c", script}, Dir: "/var/task",
		Env: []string{"PATH=/usr/bin:/bin"}, Stdout: w, Stderr: w,
	})
	_ = w.Close()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := r.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(&out, r); err != nil {
		t.Fatalf("%v, after %q", err, out.String())
	}
	select {
	case <-p.Done():
	case <-time.After(20 * time.Second):
		t.Fatalf("the script does not end: %s", script)
	}
	return out.String(), p.Exit()
}

// runInside runs the hostile function from the task directory.
func runInside(t *testing.T, s sandbox.Sandbox, task string, port int) findings {
	t.Helper()
	copyFile(t, "/proc/self/exe", filepath.Join(task, "inside"))
	// Were it not inert, it would run as the sandbox's root.
	if err := os.Chmod(filepath.Join(task, "inside"), 0o755|os.ModeSetuid|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := s.Start(t.Context(), sandbox.Command{
		Path: "/var/task/inside", Args: []string{"inside"}, Dir: "/var/task", Stdout: w, Stderr: w,
		Env: []string{insideVariable + "=127.0.0.1:" + strconv.Itoa(port)},
	})
	_ = w.Close()
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	var f findings
	if err := json.Unmarshal(out, &f); err != nil {
		t.Fatalf("%v: %q, %+v", err, out, p.Exit())
	}
	return f
}
