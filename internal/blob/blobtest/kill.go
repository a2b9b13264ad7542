package blobtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/firn-run/firn"
)

// envDir makes the test binary a child that writes into the directory.
const envDir = "FIRN_BLOBTEST_DIR"

// Main runs the tests, or the part of a child when a test started it so. Its
// result is the exit code.
func Main(m *testing.M, open OpenFunc) int {
	dir := os.Getenv(envDir)
	if dir == "" {
		return m.Run()
	}
	if err := child(dir, open); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return 1 // it is meant to be killed
}

// child puts blobs, some of them many times over, and prints the digest of
// each that was acknowledged.
func child(dir string, open OpenFunc) error {
	s, err := open(dir)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for w := range errs {
		wg.Go(func() {
			for errs[w] == nil {
				src := io.LimitReader(rand.NewChaCha8([32]byte{byte(rand.IntN(256)), byte(rand.IntN(3))}), 1+rand.Int64N(1<<20))
				if rand.IntN(4) == 0 {
					src = io.LimitReader(rand.NewChaCha8([32]byte{1}), 1<<18)
				}
				d, _, err := s.Put(context.Background(), src, -1)
				if err == nil {
					mu.Lock()
					_, err = fmt.Println(d)
					mu.Unlock()
				}
				errs[w] = err
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// testKill kills a process that writes: what it acknowledged is there, and
// everything that is there is whole.
func testKill(t *testing.T, open OpenFunc) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	rounds := 10
	if testing.Short() {
		rounds = 3
	}
	dir := t.TempDir()
	acked := map[firn.Digest]bool{}
	for range rounds {
		killOnce(t, exe, dir, acked)
		s, err := open(dir)
		if err != nil {
			t.Fatal(err)
		}
		stored := map[firn.Digest]bool{}
		for _, d := range list(t, s) {
			stored[d] = true
			if err := s.Verify(t.Context(), d); err != nil {
				t.Error(err)
			}
		}
		for d := range acked {
			if !stored[d] {
				t.Fatalf("acknowledged blob %s is gone", d)
			}
		}
		// Keeps the test short, and deletion honest.
		for d := range stored {
			if err := s.Delete(d); err != nil {
				t.Fatal(err)
			}
		}
		clear(acked)
	}
}

// killOnce runs a child until some blobs are acknowledged.
func killOnce(t *testing.T, exe, dir string, acked map[firn.Digest]bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), envDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	for n := 1 + rand.IntN(20); ; n-- {
		line, err := lines.ReadString('\n')
		if err != nil {
			break // killed; a line that was cut off counts for nothing
		}
		acked[firn.Digest(line[:len(line)-1])] = true
		if n == 0 {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	err = cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.Exited() {
		t.Fatalf("child ended by itself before the kill: %v", err)
	}
}
