package process_test

import (
	"bufio"
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/firn-run/firn/internal/sandbox"
	"github.com/firn-run/firn/internal/sandbox/process"
)

// A program dies with firn's kill -9; what it had left behind, and its files,
// are gone when the next backend on the directory has begun.
func TestKilledFirnLeavesNothing(t *testing.T) {
	if _, err := exec.LookPath("setsid"); err != nil {
		t.Skip("setsid(1) is missing")
	}
	dir := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), victimVariable+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var daemon, shell int
	line, err := bufio.NewReader(out).ReadString('\n')
	if _, scanErr := fmt.Sscan(line, &daemon, &shell); err != nil || scanErr != nil {
		t.Fatalf("%q, %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	waitFor(t, "the program's death", func() bool { return ended(shell) })
	if ended(daemon) {
		t.Fatal("the daemon died by itself: the test proves nothing")
	}

	b, err := process.New(process.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	waitFor(t, "the daemon's death", func() bool { return ended(daemon) })
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
}

// ended reports that pid does not run: it is gone, or a zombie that the
// machine's init has not reaped.
func ended(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	return f[0] == "Z" || f[0] == "X"
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("%s has not come", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// Each sandbox has an address of its own with the usual port.
func TestAddresses(t *testing.T) {
	b := newBackend(t)
	seen := map[string]bool{}
	for range 5 {
		sb, err := b.Create(t.Context(), sandbox.Spec{ID: "x", TaskDir: "/"})
		if err != nil {
			t.Fatal(err)
		}
		addr := sb.APIAddr()
		if !strings.HasPrefix(addr, "127.0.") || !strings.HasSuffix(addr, ":9001") || seen[addr] {
			t.Errorf("address %s", addr)
		}
		seen[addr] = true
	}
}

// A program that is still open for writing in another fork is tried again.
func TestBusyProgramIsRetried(t *testing.T) {
	b := newBackend(t)
	dir := t.TempDir()
	sb, err := b.Create(t.Context(), sandbox.Spec{ID: "x", TaskDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "program")
	data, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Skip("/bin/true is missing")
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
	cmd := sandbox.Command{Path: path, Args: []string{path}, Dir: dir}
	if _, err := sb.Start(t.Context(), cmd); err == nil || !strings.Contains(err.Error(), syscall.ETXTBSY.Error()) {
		t.Fatalf("a busy program: %v", err)
	}
	closed := make(chan error, 1)
	go func() { closed <- f.Close() }()
	p, err := sb.Start(t.Context(), cmd)
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if err := <-closed; err != nil || p.Exit().Code != 0 {
		t.Errorf("%v, %+v", err, p.Exit())
	}
}
