package series

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/firn-run/firn/internal/require"
)

// fullDir is the environment variable that makes the test binary the child
// of TestDiskFull.
const fullDir = "FIRN_TEST_SERIES_FULL"

// exitNoMount is what the child says when it may not mount.
const exitNoMount = 77

// TestDiskFull fills a small tmpfs in a mount namespace of a child: additions
// fail with ErrFull, nothing acknowledged is lost, and when there is room again the
// same store goes on.
func TestDiskFull(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), fullDir+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == exitNoMount {
		require.Feature(t, "userns", false, fmt.Sprintf("no mount namespace of its own with tmpfs in it: %v %s", err, out))
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// diskFullChild is the child's main.
func diskFullChild(dir string) int {
	err := errors.Join(
		syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""),
		syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"))
	if err != nil {
		fmt.Println(err)
		return exitNoMount
	}
	if err := fillDisk(dir); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func fillDisk(dir string) error {
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 3<<20), 0o600); err != nil {
		return err
	}
	clock := newClock()
	begin := clock.Now()
	var log bytes.Buffer
	cfg := Config{Dir: filepath.Join(dir, "data"), Now: clock.Now, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	db, err := Open(cfg)
	if err != nil {
		return err
	}
	add := func(i int) error { return db.Add([]Sample{bulky(begin, i)}, true) }
	acked := 0
	for err == nil {
		if err = add(acked); err == nil {
			acked++
		}
	}
	if !errors.Is(err, ErrFull) || acked < 50 {
		return fmt.Errorf("after %d: %w, want ErrFull", acked, err)
	}
	clock.Advance(2 * time.Hour) // the flush is due, and has no room either
	db.Maintain()
	if err := db.Maintain(); err != nil {
		return fmt.Errorf("a flush is tried again at once: %w", err)
	}
	if err := os.Remove(ballast); err != nil {
		return err
	}
	clock.Advance(2 * time.Minute)
	if err := db.Maintain(); err != nil {
		return fmt.Errorf("with room again: %w", err)
	}
	if err := add(acked); err != nil {
		return fmt.Errorf("with room again: %w", err)
	}
	acked++
	if err := db.Close(); err != nil {
		return err
	}
	if db, err = Open(cfg); err != nil {
		return err
	}
	defer db.Close()
	for i := range acked {
		s := bulky(begin, i)
		points, err := db.Query(Query{Namespace: "Test", Name: s.Key.Name, Start: begin, End: begin.Add(time.Minute), Period: time.Minute})
		if err != nil || len(points) != 1 || i < acked-1 && points[0].Point.Count != 500 {
			return fmt.Errorf("sample %d of %d: %v, %w", i, acked, points, err)
		}
	}
	return nil
}

// bulky is a sample of some kilobytes, each in a series of its own.
func bulky(at time.Time, i int) Sample {
	s := sampleAt(fmt.Sprint("m", i), at, 0)
	s.Point = Point{}
	for n := range 500 {
		s.Point.Observe(float64(n*n), 1)
	}
	return s
}
