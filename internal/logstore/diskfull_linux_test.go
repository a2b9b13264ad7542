package logstore

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/firn-run/firn/internal/require"
)

const envDiskFull = "FIRN_LOGSTORE_TEST_DISKFULL"

// exitNoMount is what the child says when it may not mount.
const exitNoMount = 77

// TestDiskFull fills a real file system, a small tmpfs in a mount namespace
// of a child: appends fail with ErrFull, nothing stored is lost, reading goes
// on, and when there is room again so does the same store.
func TestDiskFull(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), envDiskFull+"="+t.TempDir())
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
	t.Logf("%s", out)
}

func diskFullChild(dir string) int {
	err := errors.Join(
		syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""),
		syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"))
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
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); err != nil {
		return err
	}
	cfg := Config{Dir: filepath.Join(dir, "data"), SegmentBytes: 100 << 10, Flush: time.Hour}
	s, err := Open(cfg)
	if err != nil {
		return err
	}
	var want []string
	fill := func(round string) error {
		for n := range 2000 {
			text := fmt.Sprint(round, n, strings.Repeat("x", 2000))
			err := s.Append(Batch{"g", fmt.Sprint("s", n%7), []Event{event(int64(len(want)), text)}}, Mode{Create: true, Durable: n%5 == 0})
			if err == nil {
				want = append(want, text)
				if n%50 == 0 {
					s.tidy()
				}
				continue
			}
			fmt.Printf("round %s: full after %d events: %v\n", round, n, err)
			if !errors.Is(err, ErrFull) || n == 0 {
				return fmt.Errorf("append %d: %w", n, err)
			}
			if err := s.Append(Batch{"g", "another", []Event{event(0, strings.Repeat("x", 100_000))}}, Mode{Create: true}); !errors.Is(err, ErrFull) {
				return fmt.Errorf("an append to the full disk: %w", err)
			}
			s.tidy()
			return holds(s, want)
		}
		return errors.New("the disk never fills")
	}
	if err := fill("a"); err != nil {
		return err
	}
	if err := os.Remove(ballast); err != nil {
		return err
	}
	if err := fill("b"); err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		fmt.Println("close:", err)
	}
	// A start needs no room.
	if s, err = Open(cfg); err != nil {
		return err
	}
	defer s.Close()
	if err := holds(s, want); err != nil {
		return err
	}
	// What is freed by deleting can be used.
	if err := s.DeleteStream("g", "s1"); err != nil {
		return fmt.Errorf("delete on the full disk: %w", err)
	}
	s.tidy()
	return nil
}

// holds fails unless the store has exactly these events.
func holds(s *Store, want []string) error {
	page, err := s.Read(Query{Group: "g", MaxBytes: 1 << 30})
	if err != nil {
		return err
	}
	if len(page.Events) != len(want) {
		return fmt.Errorf("%d events, want %d", len(page.Events), len(want))
	}
	for n, e := range page.Events {
		if string(e.Message) != want[n] {
			return fmt.Errorf("event %d is %.20q, want %.20q", n, e.Message, want[n])
		}
	}
	return nil
}
