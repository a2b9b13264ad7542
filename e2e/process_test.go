package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// process is what /proc tells of one process.
type process struct {
	pid, parent int
	state       string
	cpu         int64 // ticks of 10 ms, user and system
	start       int64 // clock ticks after boot: with pid, an identity
	name        string
}

// processes lists every process that is visible here.
func processes(t testing.TB) map[int]process {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	out := map[int]process{}
	for _, dir := range dirs {
		raw, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			continue // ended meanwhile
		}
		open, end := strings.IndexByte(string(raw), '('), strings.LastIndexByte(string(raw), ')')
		f := strings.Fields(string(raw[end+1:]))
		number := func(i int) int64 { v, _ := strconv.ParseInt(f[i], 10, 64); return v }
		pid, _ := strconv.Atoi(filepath.Base(dir))
		out[pid] = process{
			pid: pid, parent: int(number(1)), state: f[0], cpu: number(11) + number(12), start: number(19), name: string(raw[open+1 : end]),
		}
	}
	return out
}

// below lists the living descendants of a process.
func below(t testing.TB, pid int) []process {
	t.Helper()
	all := processes(t)
	var out []process
	for _, p := range all {
		for up := p.parent; up > 1; up = all[up].parent {
			if up == pid {
				out = append(out, p)
				break
			}
		}
	}
	slices.SortFunc(out, func(a, b process) int { return a.pid - b.pid })
	return out
}

// running counts the descendants of a node that were started as name.
func (n *node) running(name string) int {
	count := 0
	for _, p := range below(n.t, n.cmd.Process.Pid) {
		raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.pid), "cmdline"))
		if first, _, _ := strings.Cut(string(raw), "\x00"); err == nil && first == name {
			count++
		}
	}
	return count
}

// idleCPU demands that no descendant of the node uses processor time for a
// while, and firn itself hardly any. Freezing follows the end of an invocation
// after a moment, so it waits for a first stretch without any.
func (n *node) idleCPU(t testing.TB) {
	t.Helper()
	const stretch = 700 * time.Millisecond
	used := func() int64 {
		own := processes(t)[n.cmd.Process.Pid].cpu
		before := map[int]process{}
		for _, p := range below(t, n.cmd.Process.Pid) {
			before[p.pid] = p
		}
		time.Sleep(stretch) // archtest:sleep the time in which nothing may run
		sum := int64(0)
		for _, p := range below(t, n.cmd.Process.Pid) {
			if old, ok := before[p.pid]; ok {
				sum += p.cpu - old.cpu
			}
		}
		// firn's timers may run; 3 % of a processor would be polling.
		return sum + max(0, processes(t)[n.cmd.Process.Pid].cpu-own-2)
	}
	eventually(t, "no processor time is used between invocations", func() (bool, any) {
		ticks := used()
		return ticks == 0, ticks
	})
	if ticks := used(); ticks != 0 {
		t.Errorf("%d ms of processor time used while idle", ticks*10)
	}
}

// resident is the memory of firn itself in MB, now and at its highest.
func (n *node) resident() (now, peak int) {
	n.t.Helper()
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(n.cmd.Process.Pid), "status"))
	if err != nil {
		n.t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kb, _ := strconv.Atoi(f[1])
		switch f[0] {
		case "VmRSS:":
			now = kb >> 10
		case "VmHWM:":
			peak = kb >> 10
		}
	}
	return now, peak
}
