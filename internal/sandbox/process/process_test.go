package process_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/firn-run/firn/internal/sandbox"
	"github.com/firn-run/firn/internal/sandbox/process"
	"github.com/firn-run/firn/internal/sandbox/sandboxtest"
)

func TestMain(m *testing.M) {
	sandboxtest.Main()
	if dir := os.Getenv(victimVariable); dir != "" {
		os.Exit(victim(dir))
	}
	os.Exit(m.Run())
}

// victimVariable makes the test binary a firn that is killed: it starts a
// program that leaves a daemon behind, prints their numbers, and waits.
const victimVariable = "FIRN_PROCESS_TEST_VICTIM"

func victim(dir string) int {
	b, err := process.New(process.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	sb, err := b.Create(context.Background(), sandbox.Spec{ID: "victim", TaskDir: "/", MemoryMB: 128})
	if err == nil {
		_, err = sb.Start(context.Background(), sandbox.Command{
			Path: "/bin/sh",
			Args: []string{"sh", "-c", "setsid sleep 1000 & echo $! $$; wait"},
			Env:  []string{"PATH=/usr/bin:/bin"}, Dir: "/", Stdout: os.Stdout, Stderr: os.Stderr,
		})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	select {} // until it is killed
}

func newBackend(t *testing.T) *process.Backend {
	t.Helper()
	b, err := process.New(process.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// The caller's TMPDIR is kept; without one the sandbox's directory stands in
// for /tmp.
func TestTMPDIR(t *testing.T) {
	sb, err := newBackend(t).Create(t.Context(), sandbox.Spec{ID: "x", TaskDir: "/"})
	if err != nil {
		t.Fatal(err)
	}
	for env, want := range map[string]string{"A=b": sb.Paths().Tmp, "TMPDIR=/mine": "/mine"} {
		var got strings.Builder
		pipe, w, err := sandbox.NewPipe(func(p []byte) { got.Write(p) })
		if err != nil {
			t.Fatal(err)
		}
		p, err := sb.Start(t.Context(), sandbox.Command{
			Path: "/bin/sh", Args: []string{"sh", "-c", "echo $TMPDIR"}, Env: []string{env}, Dir: "/", Stdout: w,
		})
		_ = w.Close()
		if err != nil {
			t.Fatal(err)
		}
		<-p.Done()
		<-pipe.Done()
		if got.String() != want+"\n" {
			t.Errorf("%s: TMPDIR %q, want %q", env, got.String(), want)
		}
	}
}

// Close removes what a function has locked away.
func TestCloseRemovesLockedDirectories(t *testing.T) {
	sb, err := newBackend(t).Create(t.Context(), sandbox.Spec{ID: "x", TaskDir: "/"})
	if err != nil {
		t.Fatal(err)
	}
	p, err := sb.Start(t.Context(), sandbox.Command{
		Path: "/bin/sh",
		Args: []string{"sh", "-c", "mkdir -p $TMPDIR/a/b && touch $TMPDIR/a/b/c && chmod 0 $TMPDIR/a/b $TMPDIR/a"},
		Env:  []string{"PATH=/usr/bin:/bin"}, Dir: "/",
	})
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if err := sb.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(sb.Paths().Tmp); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", sb.Paths().Tmp, err)
	}
}

// The isolation that is missing is said in the log.
func TestWarnsThatItIsolatesNothing(t *testing.T) {
	var text strings.Builder
	b, err := process.New(process.Config{Logger: slog.New(slog.NewTextHandler(&text, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text.String(), "level=WARN") || !strings.Contains(text.String(), "ISOLATES NOTHING") {
		t.Errorf("log: %s", text.String())
	}
}

func BenchmarkStart(b *testing.B) {
	backend, err := process.New(process.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = backend.Close() }()
	sb, err := backend.Create(b.Context(), sandbox.Spec{ID: "x", TaskDir: "/", MemoryMB: 128})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		p, err := sb.Start(b.Context(), sandbox.Command{Path: "/bin/true", Args: []string{"true"}, Dir: "/"})
		if err != nil {
			b.Fatal(err)
		}
		<-p.Done()
	}
}

func BenchmarkFreezeThaw(b *testing.B) {
	backend, err := process.New(process.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = backend.Close() }()
	sb, err := backend.Create(b.Context(), sandbox.Spec{ID: "x", TaskDir: "/", MemoryMB: 128})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := sb.Start(b.Context(), sandbox.Command{Path: "/bin/sleep", Args: []string{"sleep", "1000"}, Dir: "/"}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := sb.Freeze(); err != nil {
			b.Fatal(err)
		}
		if err := sb.Thaw(); err != nil {
			b.Fatal(err)
		}
	}
}

func TestConformance(t *testing.T) {
	linux := runtime.GOOS == "linux"
	sandboxtest.Run(t, sandboxtest.Config{
		New: func(t *testing.T) sandbox.Backend {
			b, err := process.New(process.Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			return b
		},
		Strays:        linux,
		MemoryFigures: linux,
		MemoryLimits:  linux,
		OpenFiles:     linux,
	})
}
