//go:build linux

package linux

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/firn-run/firn/internal/sandbox"
)

// BenchmarkIdle makes sandboxes, one after the other and without a pool, and
// keeps them: what each costs in time and memory.
func BenchmarkIdle(b *testing.B) {
	dir := firstRequest(b)
	backend := open(b, func(c *Config) { c.Network = sandbox.NetworkNone })
	slab := meminfo(b, "Slab:") + meminfo(b, "KernelStack:") + meminfo(b, "PageTables:") + meminfo(b, "Percpu:")
	var made []*box
	began := time.Now()
	for b.Loop() {
		s, err := backend.Create(b.Context(), sandbox.Spec{ID: "idle", TaskDir: dir, MemoryMB: 128, EphemeralStorageMB: 512})
		if err != nil {
			b.Fatal(err)
		}
		made = append(made, s.(*box))
	}
	took := time.Since(began)
	kernel := meminfo(b, "Slab:") + meminfo(b, "KernelStack:") + meminfo(b, "PageTables:") + meminfo(b, "Percpu:") - slab
	var private int
	for _, s := range made {
		private += rollup(b, s.pid, "Private_Dirty:") + rollup(b, s.pid, "Private_Clean:")
	}
	n := float64(len(made))
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(n/took.Seconds(), "made/s")
	b.ReportMetric(float64(private)/n, "init-kB")
	b.ReportMetric(float64(kernel)/n, "kernel-kB")
	began = time.Now()
	for _, s := range made {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	}
	b.ReportMetric(n/time.Since(began).Seconds(), "closed/s")
}

// meminfo reads a line of /proc/meminfo in kB.
func meminfo(t testing.TB, name string) int { return kilobytes(t, "/proc/meminfo", name) }

func rollup(t testing.TB, pid int, name string) int {
	return kilobytes(t, "/proc/"+strconv.Itoa(pid)+"/smaps_rollup", name)
}

func kilobytes(t testing.TB, path, name string) int {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 3 && f[0] == name {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	return 0
}
