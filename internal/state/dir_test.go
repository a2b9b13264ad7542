package state_test

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/firn-run/firn/internal/state"
)

func TestDirOneOwner(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), envHold+"="+dir)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "held\n" {
		t.Fatal(line, err)
	}
	_, err = state.OpenDir(dir)
	inUse, ok := errors.AsType[*state.DirInUseError](err)
	if !ok || inUse.Dir != dir || inUse.PID != cmd.Process.Pid {
		t.Errorf("error is %v", err)
	}
	t.Log(err)
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}

	d, err := state.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	// Within one process too.
	if _, err := state.OpenDir(dir); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("second owner: %v", err)
	}
	if err := errors.Join(d.Close(), d.Close()); err != nil {
		t.Error(err)
	}
	d, err = state.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// TestDirFresh: until a database is there, and never again.
func TestDirFresh(t *testing.T) {
	dir := t.TempDir()
	for i, want := range []bool{true, true, false} {
		d, err := state.OpenDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if d.Fresh() != want {
			t.Errorf("at opening %d it is fresh: %t", i, !want)
		}
		if i == 1 {
			s, err := state.Open(t.Context(), state.Config{Dir: d})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDirLayout(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	d, err := state.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	fi, err := os.Stat(dir)
	if err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	sub, err := d.Sub("logs")
	if err != nil || sub != filepath.Join(dir, "logs") {
		t.Error(sub, err)
	}
	if fi, err := os.Stat(sub); err != nil || !fi.IsDir() {
		t.Error(err)
	}
	for _, bad := range []string{"../x", "", "/x"} {
		if _, err := d.Sub(bad); err == nil {
			t.Errorf("Sub(%q) is accepted", bad)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := state.OpenDir(file); err == nil {
		t.Error("a file is accepted as a data directory")
	}
}
