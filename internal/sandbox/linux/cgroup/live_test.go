//go:build linux

package cgroup

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/require"
	"github.com/firn-run/firn/internal/sandbox"
)

const mb = 1 << 20

// testWriter sends log lines to the test.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func testLogger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// until polls kernel state that gives no notice.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for !ok() {
		if !pause(ctx, time.Millisecond) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

// outOfMemory waits for the event.
func outOfMemory(t *testing.T, g *Group, within time.Duration) Event {
	t.Helper()
	select {
	case ev := <-g.Events():
		if ev.Kind != sandbox.OutOfMemory {
			t.Fatalf("event %+v", ev)
		}
		return ev
	case <-time.After(within):
		u, err := g.Usage()
		t.Fatalf("no OutOfMemory within %v; usage %+v, %v", within, u, err)
	}
	return Event{}
}

func noEvent(t *testing.T, g *Group, within time.Duration) {
	t.Helper()
	select {
	case ev := <-g.Events():
		t.Fatalf("unexpected event %+v", ev)
	case <-time.After(within):
	}
}

func needMemory(t *testing.T, m *Manager) {
	t.Helper()
	require.Feature(t, "cgroup", m.Can().Memory, "no memory controller: "+m.host.describe())
}

func TestLiveManager(t *testing.T) {
	m := live(t)
	t.Logf("%s; can %+v", m.host.describe(), m.Can())
	if m.host.Can.Memory != m.Can().Memory || m.host.Can.Freeze != m.Can().Freeze || m.host.Can.CPU != m.Can().CPU {
		t.Errorf("detected %+v, proved %+v", m.host.Can, m.Can())
	}
	if _, err := m.Create("../x"); err == nil {
		t.Error("a group id with a path was accepted")
	}
	g := liveGroup(t, m)
	if _, err := m.Create(strings.TrimPrefix(g.name, groupTag)); !errors.Is(err, os.ErrExist) {
		t.Errorf("second group of one id: %v", err)
	}
	if err := g.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := g.Destroy(t.Context()); err != nil {
		t.Errorf("second Destroy: %v", err)
	}
	if _, open := <-g.Events(); open {
		t.Error("Events is open after Destroy")
	}
	for name, err := range map[string]error{"thaw": g.Thaw(), "kill": g.Kill(), "add": g.Add(1), "limits": g.SetLimits(Limits{MemoryBytes: mb})} {
		if !errors.Is(err, ErrDestroyed) {
			t.Errorf("%s after Destroy: %v", name, err)
		}
	}
}

func TestLiveTwoManagers(t *testing.T) {
	a, b := live(t), live(t)
	ga, gb := liveGroup(t, a), liveGroup(t, b)
	if ga.dirs[0] == gb.dirs[0] {
		t.Error("two managers share a directory")
	}
}

func TestLiveLimit(t *testing.T) {
	m := live(t)
	needMemory(t, m)
	g := liveGroup(t, m)
	if err := g.SetLimits(Limits{MemoryBytes: 128 * mb, TmpBytes: 512 * mb}); err != nil {
		t.Fatal(err)
	}
	initial, hog := start(t, g, "sleep"), start(t, g, "obey")
	g.Exempt(initial.pid())
	hog.say("take 60")
	hog.expect("done")
	noEvent(t, g, 100*time.Millisecond)

	began := time.Now()
	hog.say("take 90")
	ev := outOfMemory(t, g, 5*time.Second)
	t.Logf("event after %v at %.1f MB", time.Since(began), float64(ev.Usage)/mb)
	if ev.Cause != CauseLimit || ev.Usage <= 128*mb || ev.At.Before(began.Add(-time.Millisecond)) {
		t.Errorf("event %+v", ev)
	}
	if sig := hog.wait(); sig != syscall.SIGKILL {
		t.Errorf("the hog ended by %v", sig)
	}
	t.Logf("dead after %v", time.Since(began))
	until(t, "only init left", func() bool { return len(g.Pids()) == 1 })
	if n, err := g.OOMKills(); n != 1 || err != nil {
		t.Errorf("OOMKills = %d, %v", n, err)
	}
	noEvent(t, g, 150*time.Millisecond)
	if u, err := g.Usage(); err != nil || u.Peak != 128*mb {
		t.Errorf("usage %+v, %v: the peak is not the limit", u, err)
	}

	// The group goes on to serve the next process, and to watch it.
	again := start(t, g, "obey")
	again.say("take 60")
	again.expect("done")
	again.say("take 90")
	outOfMemory(t, g, 5*time.Second)
	again.wait()
	if initial.cmd.Process.Signal(syscall.Signal(0)) != nil {
		t.Error("the exempt process is gone")
	}
}

func TestLiveChangeLimits(t *testing.T) {
	m := live(t)
	needMemory(t, m)
	g := liveGroup(t, m)
	f := &g.files.memory
	for _, size := range []int64{64, 256, 32, 0, 128} {
		l := Limits{MemoryBytes: size * mb, TmpBytes: 10 * mb}
		if err := g.SetLimits(l); err != nil {
			t.Fatalf("%d MB: %v", size, err)
		}
		s, err := readString(filepath.Join(f.dir, f.names.limit))
		if err != nil {
			t.Fatal(err)
		}
		n, err := parseNumber([]byte(s))
		if size == 0 && n < 1<<60 && n != -1 || size > 0 && n != (size+10)*mb+Allowance || err != nil {
			t.Errorf("%d MB: the kernel's limit is %s, %v", size, s, err)
		}
		both, err := readString(filepath.Join(f.dir, f.names.swap))
		if err == nil && (f.v2 && (both == "0") != (size > 0) || !f.v2 && both != s) {
			t.Errorf("%d MB: the limit of swap is %s", size, both)
		}
	}
}

func TestLiveTmpIsNotFunctionMemory(t *testing.T) {
	m := live(t)
	needMemory(t, m)
	g := liveGroup(t, m)
	tmp := t.TempDir()
	if err := unix.Mount("tmpfs", tmp, "tmpfs", 0, "size=64m"); err != nil {
		require.Feature(t, "root", false, err.Error())
	}
	defer unix.Unmount(tmp, unix.MNT_DETACH)
	if err := g.SetLimits(Limits{MemoryBytes: 64 * mb, TmpBytes: 64 * mb}); err != nil {
		t.Fatal(err)
	}
	p := start(t, g, "obey")
	p.say("write " + filepath.Join(tmp, "file"))
	p.expect("done")
	noEvent(t, g, 300*time.Millisecond)
	u, err := g.Usage()
	if err != nil || u.Shared < 47*mb || u.Current > 48*mb || u.Peak > 64*mb {
		t.Errorf("usage %.1f, shared %.1f, peak %.1f MB, %v", float64(u.Current)/mb, float64(u.Shared)/mb, float64(u.Peak)/mb, err)
	}
	p.say("take 80")
	if ev := outOfMemory(t, g, 5*time.Second); ev.Cause != CauseLimit {
		t.Errorf("event %+v", ev)
	}
	p.wait()
	if fi, err := os.Stat(filepath.Join(tmp, "file")); err != nil || fi.Size() != 48*mb {
		t.Errorf("/tmp did not survive: %v", err)
	}
}

// Shared memory outside of /tmp is bounded by the kernel alone.
func TestLiveHardLimit(t *testing.T) {
	m := live(t)
	needMemory(t, m)
	g := liveGroup(t, m)
	if err := g.SetLimits(Limits{MemoryBytes: 32 * mb, TmpBytes: 32 * mb}); err != nil {
		t.Fatal(err)
	}
	initial, p := start(t, g, "sleep"), start(t, g, "obey")
	g.Exempt(initial.pid())
	began := time.Now()
	p.say("share 200")
	ev := outOfMemory(t, g, 20*time.Second)
	t.Logf("%s after %v", ev.Cause, time.Since(began))
	if ev.Cause == CauseLimit {
		t.Errorf("event %+v", ev)
	}
	if sig := p.wait(); sig != syscall.SIGKILL {
		t.Errorf("ended by %v", sig)
	}
	if n, err := g.OOMKills(); n == 0 || err != nil {
		t.Errorf("OOMKills = %d, %v", n, err)
	}
	noEvent(t, g, 100*time.Millisecond)
}

func TestLivePeak(t *testing.T) {
	m := live(t)
	needMemory(t, m)
	t.Logf("exact peak: %v", m.Can().ExactPeak)
	g := liveGroup(t, m)
	if err := g.SetLimits(Limits{MemoryBytes: 128 * mb}); err != nil {
		t.Fatal(err)
	}
	p := start(t, g, "obey")
	p.say("take 60")
	p.expect("done")
	if !m.Can().ExactPeak {
		noEvent(t, g, 2*maxBelow) // give the sampling a chance
	}
	p.say("free")
	p.expect("done")
	u, err := g.Usage()
	if err != nil || u.Peak < 60*mb || u.Peak > 100*mb || u.Current > 40*mb {
		t.Errorf("after 60 MB: %+v, %v", u, err)
	}
	if err := g.ResetPeak(); err != nil {
		t.Fatal(err)
	}
	u, err = g.Usage()
	if err != nil || u.Peak > 40*mb || u.Peak < u.Current {
		t.Errorf("after reset: %+v, %v", u, err)
	}
	p.say("take 20")
	p.expect("done")
	if u, err = g.Usage(); err != nil || u.Peak < 20*mb || u.Peak > 55*mb {
		t.Errorf("after 20 MB: %+v, %v", u, err)
	}
}

func TestLivePids(t *testing.T) {
	m := live(t)
	require.Feature(t, "cgroup", m.Can().Pids, "no pids controller: "+m.host.describe())
	g := liveGroup(t, m)
	p := start(t, g, "obey")
	now, err := readString(filepath.Join(g.in(m.lay.pids.dir), "pids.current"))
	if err != nil {
		t.Fatal(err)
	}
	n, err := parseNumber([]byte(now))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.SetLimits(Limits{Pids: int(n) + 3}); err != nil {
		t.Fatal(err)
	}
	p.say("fork 10")
	if got := p.line(); got == "failed 0" {
		t.Errorf("10 forks where 3 were allowed: %s", got)
	}
	if n, err := g.ForksRefused(); n == 0 || err != nil {
		t.Errorf("ForksRefused = %d, %v", n, err)
	}
	if err := g.SetLimits(Limits{}); err != nil {
		t.Fatal(err)
	}
	p.say("fork 3")
	p.expect("failed 0")
	if err := g.Kill(); err != nil {
		t.Fatal(err)
	}
	p.wait()
	until(t, "children dead", func() bool { return len(g.Pids()) == 0 })
}

// Processes that fork all the time do not escape, and init lives on.
func TestLiveForkBomb(t *testing.T) {
	m := live(t)
	require.Feature(t, "cgroup", m.Can().Pids && m.Can().CPU, "no pids or cpu controller: "+m.host.describe())
	g := liveGroup(t, m)
	initial := start(t, g, "sleep")
	g.Exempt(initial.pid())
	bomb := start(t, g, "obey")
	if err := errors.Join(g.SetLimits(Limits{Pids: 80}), g.SetCPU(0.5)); err != nil {
		t.Fatal(err)
	}
	bomb.say("bomb")
	until(t, "many processes", func() bool { return len(g.Pids()) > 30 })
	killed := g.killForMemory()
	if len(killed) < 30 {
		t.Errorf("killed %d", len(killed))
	}
	until(t, "all but init dead", func() bool { return len(g.Pids()) <= 1 })
	if got := g.Pids(); !slices.Equal(got, []int{initial.pid()}) {
		t.Errorf("left: %v, want init, %d", got, initial.pid())
	}
	if n, err := g.OOMKills(); m.Can().Memory && (n != uint64(len(killed)) || err != nil) {
		t.Errorf("OOMKills = %d, %v after %d", n, err, len(killed))
	}
	bomb.wait()
}

func TestLiveCPU(t *testing.T) {
	m := live(t)
	require.Feature(t, "cgroup", m.Can().CPU && m.Can().CPUTime, "no cpu controller: "+m.host.describe())
	g := liveGroup(t, m)
	p := start(t, g, "obey")
	for _, share := range []float64{0.2, 0.04} {
		if err := g.SetCPU(share); err != nil {
			t.Fatal(err)
		}
		before, err := g.CPUTime()
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		p.say("spin 600")
		p.expect("done")
		after, err := g.CPUTime()
		if err != nil {
			t.Fatal(err)
		}
		used, took := after-before, time.Since(began)
		got := used.Seconds() / took.Seconds()
		t.Logf("share %.3f: used %v of %v: %.3f", share, used, took, got)
		if got > share*1.5+0.02 || used <= 0 {
			t.Errorf("share %.3f, got %.3f", share, got)
		}
	}
	if err := g.SetCPU(0); err != nil {
		t.Fatal(err)
	}
}

func TestLiveFreeze(t *testing.T) {
	m := live(t)
	require.Feature(t, "cgroup", m.Can().Freeze, "no freezer: "+m.host.describe())
	g := liveGroup(t, m)
	p := start(t, g, "obey")
	ticks := make(chan struct{}, 1000)
	p.say("tick")
	p.expect("tick")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for p.out.Scan() {
			ticks <- struct{}{}
		}
	}()
	if err := errors.Join(g.Freeze(), g.Freeze()); err != nil {
		t.Fatal(err)
	}
	until(t, "frozen", func() bool { return isFrozen(t, g) })
	drain := func() {
		for {
			select {
			case <-ticks:
				continue
			case <-time.After(50 * time.Millisecond):
			}
			return
		}
	}
	drain()
	select {
	case <-ticks:
		t.Error("a frozen process ran")
	case <-time.After(100 * time.Millisecond):
	}
	if err := errors.Join(g.Thaw(), g.Thaw()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ticks:
	case <-time.After(5 * time.Second):
		t.Error("no life after Thaw")
	}
	// Frozen processes can be killed.
	if err := errors.Join(g.Freeze(), g.Kill()); err != nil {
		t.Fatal(err)
	}
	<-done
	if sig := p.wait(); sig != syscall.SIGKILL {
		t.Errorf("ended by %v", sig)
	}
}

func isFrozen(t *testing.T, g *Group) bool {
	t.Helper()
	if f := g.in(g.m.lay.freezer); f != "" {
		s, err := readString(filepath.Join(f, "freezer.state"))
		return err == nil && s == "FROZEN"
	}
	n, err := readKeyed(filepath.Join(g.unified(), "cgroup.events"), "frozen")
	return err == nil && n == 1
}

func TestLiveFrozenOverLimit(t *testing.T) {
	m := live(t)
	needMemory(t, m)
	require.Feature(t, "cgroup", m.Can().Freeze, "no freezer: "+m.host.describe())
	g := liveGroup(t, m)
	p := start(t, g, "obey")
	p.say("take 40")
	p.expect("done")
	if err := g.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := g.SetLimits(Limits{MemoryBytes: 30 * mb, TmpBytes: 100 * mb}); err != nil {
		t.Fatal(err)
	}
	noEvent(t, g, 100*time.Millisecond) // a frozen group is left alone
	if err := g.Thaw(); err != nil {
		t.Fatal(err)
	}
	outOfMemory(t, g, 5*time.Second)
	p.wait()
}

func TestLiveOrphans(t *testing.T) {
	m := live(t)
	o := start(t, nil, "owner")
	dir, pidText, _ := strings.Cut(o.line(), " ")
	pid, err := strconv.Atoi(pidText)
	if err != nil {
		t.Fatal(dir, pidText)
	}
	find := func() (found int) {
		for _, d := range m.lay.dirs {
			for _, place := range []string{filepath.Dir(d), filepath.Join(d, selfDir)} {
				if exists(filepath.Join(place, dir)) {
					found++
				}
			}
		}
		return found
	}
	if find() == 0 {
		t.Fatalf("the owner's directory %s is not where it was looked for", dir)
	}
	live(t) // sees a living owner and leaves it alone
	if find() == 0 || !exists("/proc/"+pidText) {
		t.Fatal("the group of a living owner was removed")
	}
	if err := o.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	o.wait()
	if !exists("/proc/" + pidText) {
		t.Fatal("the process in the orphaned group is gone already")
	}
	live(t)
	if n := find(); n != 0 {
		t.Errorf("%d orphaned directories are left", n)
	}
	// Process 1, the test, adopted the process; it has to reap it.
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &ws, 0, nil); err == nil && ws.Signal() != syscall.SIGKILL {
		t.Errorf("the process in the orphaned group ended with %v", ws)
	}
}

// A firn that is alone in its group has to leave it to get controllers, and
// goes back when it ends.
func TestLiveMoveAside(t *testing.T) {
	m := live(t)
	require.Feature(t, "cgroup v2", m.host.Mode == ModeV2 && m.Can().Memory, "the controllers are of version 1 here")
	dir := filepath.Join(m.host.unified.mount, "delegated-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	p := start(t, nil, "delegated", dir)
	for _, want := range []string{"moved aside", "closed", "back"} {
		p.expect(want)
	}
	_ = p.in.Close()
	p.wait()
	until(t, "the delegated group is empty", func() bool { return unix.Rmdir(dir) == nil })
}

func BenchmarkHotPath(b *testing.B) {
	if os.Getenv(envInside) == "" {
		b.Skip("needs a PID namespace")
	}
	m, err := NewManager(Config{Name: "bench"})
	if err != nil {
		b.Skip(err)
	}
	defer m.Close()
	g, err := m.Create("bench")
	if err != nil {
		b.Fatal(err)
	}
	if err := g.SetLimits(Limits{MemoryBytes: 128 * mb, TmpBytes: 512 * mb, Pids: 100}); err != nil {
		b.Fatal(err)
	}
	for _, op := range []struct {
		name string
		do   func() error
	}{
		{"Thaw", g.Thaw}, {"ResetPeak", g.ResetPeak}, {"Freeze", g.Freeze},
		{"Usage", func() error { _, err := g.Usage(); return err }},
		{"SetLimits", func() error { return g.SetLimits(Limits{MemoryBytes: 128 * mb, TmpBytes: 512 * mb, Pids: 100}) }},
		{"SetCPU", func() error { return g.SetCPU(0.07) }},
	} {
		b.Run(op.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := op.do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	n := 0
	b.Run("CreateDestroy", func(b *testing.B) {
		for b.Loop() {
			n++
			g, err := m.Create(strconv.Itoa(n))
			if err != nil {
				b.Fatal(err)
			}
			if err := g.Destroy(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
}
