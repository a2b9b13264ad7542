package series

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// childDir is the environment variable that makes the test binary the writer
// that TestSurvivesKill kills.
const childDir = "FIRN_TEST_SERIES_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		writeUntilKilled(dir)
	}
	if dir := os.Getenv(fullDir); dir != "" {
		os.Exit(diskFullChild(dir))
	}
	os.Exit(m.Run())
}

func writeFile(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// writeUntilKilled adds samples and tells of each that was acknowledged. It
// flushes often, so that the kill falls into every phase.
func writeUntilKilled(dir string) {
	clock := newClock()
	db, err := Open(Config{Dir: dir, Now: clock.Now, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	for i := 0; err == nil; i++ {
		if err = db.Add([]Sample{sampleAt("m", clock.Now().Add(-time.Duration(i)*time.Minute), 1)}, true); err == nil {
			fmt.Println(i)
		}
		if i%5 == 4 && err == nil {
			db.maint.Lock()
			if err = db.flush(); err == nil {
				err = db.merge()
			}
			db.maint.Unlock()
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// What was acknowledged is there, once, after kill -9 at any moment.
func TestSurvivesKill(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	clock := newClock()
	for _, after := range []int{1, 4, 5, 17, 40} {
		dir := t.TempDir()
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines, acked := bufio.NewScanner(out), 0
		for acked < after && lines.Scan() {
			acked++
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			acked++
		}
		cmd.Wait()
		if acked < after {
			t.Fatalf("the child ended after %d: %s", acked, stderr.String())
		}
		db := open(t, Config{Dir: dir, Now: clock.Now, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
		from := clock.Now().Add(-13 * 24 * time.Hour)
		got := sums(t, db, "m", from, clock.Now().Add(time.Minute), time.Minute)
		for offset, v := range got {
			if v != 1 {
				t.Errorf("after %d: the sample at %d counts %v times", acked, offset, v)
			}
		}
		if len(got) != acked && len(got) != acked+1 {
			t.Errorf("%d were acknowledged, %d are there", acked, len(got))
		}
	}
}
