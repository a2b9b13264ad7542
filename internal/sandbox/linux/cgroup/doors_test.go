//go:build linux

package cgroup

import (
	"os"
	"os/exec"
	"runtime"
	"slices"
	"testing"
)

// What a thread forks while it is inside is in the group of every tree of
// version 1, and the thread leaves nothing behind that would keep the group.
func TestLiveDoors(t *testing.T) {
	m := live(t)
	g := liveGroup(t, m)
	in, back, err := g.Doors()
	if err != nil {
		t.Fatal(err)
	}
	defer closeFiles(in)
	if len(in) != len(m.lay.homes) || len(back) != len(in) {
		t.Fatalf("%d doors in and %d back for %d trees", len(in), len(back), len(m.lay.homes))
	}
	if len(in) == 0 {
		return // version 2 alone, where there is nothing to enter
	}
	cmd := exec.Command("sleep", "60")
	forked := make(chan error)
	go func() { // of its own thread, which ends
		runtime.LockOSThread()
		forked <- forkInside(cmd, in, back)
	}()
	if err := <-forked; err != nil {
		t.Fatal(err)
	}
	for _, d := range g.dirs {
		if d == g.unified() {
			continue // that is for FD
		}
		if pids := readPids(d); !slices.Equal(pids, []int{cmd.Process.Pid}) {
			t.Errorf("%s holds %v, want the child %d alone", d, pids, cmd.Process.Pid)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // by the signal
	if err := g.Destroy(t.Context()); err != nil {
		t.Error(err)
	}
	if _, _, err := g.Doors(); err == nil {
		t.Error("doors of a destroyed group")
	}
}

func forkInside(cmd *exec.Cmd, in, back []*os.File) error {
	for _, f := range in {
		if _, err := f.WriteString("0"); err != nil {
			return err
		}
	}
	err := cmd.Start()
	for _, f := range back {
		if _, err := f.WriteString("0"); err != nil {
			return err
		}
	}
	return err
}
