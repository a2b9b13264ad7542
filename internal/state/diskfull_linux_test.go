package state_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/firn-run/firn/internal/require"
	"github.com/firn-run/firn/internal/state"
)

const envDiskFull = "FIRN_STATE_TEST_DISKFULL"

// exitNoMount is what the child says when it may not mount.
const exitNoMount = 77

// TestDiskFull fills a real file system, a small tmpfs in a mount namespace
// of a child: writes fail with ErrFull, nothing acknowledged is lost, and
// when there is room again the same store goes on.
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

// diskFullChild is the child's main.
func diskFullChild(dir string) int {
	err := errors.Join(
		syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""),
		syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"))
	if err != nil {
		fmt.Println(err)
		return exitNoMount
	}
	if err := fillDisk(context.Background(), dir); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func fillDisk(ctx context.Context, dir string) error {
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 2<<20), 0o600); err != nil {
		return err
	}
	d, err := state.OpenDir(filepath.Join(dir, "data"))
	if err != nil {
		return err
	}
	defer d.Close()
	s, err := state.Open(ctx, state.Config{Dir: d})
	if err != nil {
		return err
	}
	defer s.Close()
	acked := map[string]bool{}
	fill := func(round string) error {
		for i := range 2000 {
			key := fmt.Sprint(round, i)
			err := put(s, key, bytes.Repeat([]byte(key), 1000))
			if errors.Is(err, state.ErrFull) {
				fmt.Printf("round %s: full after %d values: %v\n", round, i, err)
				if i == 0 {
					return errors.New("there is no room at all")
				}
				return check(ctx, s, acked)
			}
			if err != nil {
				return err
			}
			acked[key] = true
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
	// As after a crash: the log must be enough, and a start needs no room.
	if err := errors.Join(s.Close(), d.Close()); err != nil {
		fmt.Println("close:", err)
	}
	d2, err := state.OpenDir(d.Path())
	if err != nil {
		return err
	}
	defer d2.Close()
	s2, err := state.Open(ctx, state.Config{Dir: d2})
	if err != nil {
		return err
	}
	return errors.Join(check(ctx, s2, acked), s2.Close())
}

// check fails unless the store has exactly these, with their values.
func check(ctx context.Context, s *state.Store, keys map[string]bool) error {
	return s.View(ctx, func(tx state.Tx) error {
		list, err := tx.List("k", "", "", 0)
		if err != nil {
			return err
		}
		if len(list) != len(keys) {
			return fmt.Errorf("%d records, %d were acknowledged", len(list), len(keys))
		}
		for _, r := range list {
			if !keys[r.Key] || !bytes.Equal(r.Value, bytes.Repeat([]byte(r.Key), 1000)) {
				return fmt.Errorf("record %s was not acknowledged or has another value", r.Key)
			}
		}
		return nil
	})
}
