//go:build linux

package cgroup

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestWatchLimit(t *testing.T) {
	at := time.Unix(1000, 0)
	for _, tt := range []struct {
		name  string
		usage int64
		stat  memoryStat
		want  Cause
	}{
		{"all of it in /tmp", 500 * mb, memoryStat{anon: 60 * mb, shared: 430 * mb, kernel: 5 * mb}, ""},
		{"all of it file cache", 500 * mb, memoryStat{anon: 60 * mb, file: 430 * mb, kernel: 5 * mb}, ""},
		{"private memory", 140 * mb, memoryStat{anon: 130 * mb, kernel: 5 * mb}, CauseLimit},
		{"kernel memory", 140 * mb, memoryStat{anon: 30 * mb, kernel: 105 * mb}, CauseLimit},
		{"exactly the size", 128 * mb, memoryStat{anon: 120 * mb, kernel: 8 * mb}, ""},
		// /tmp grows and its statistics lag: the sum looks too high.
		{"lagging statistics of /tmp", 300 * mb, memoryStat{anon: 60 * mb, shared: 150 * mb, kernel: 5 * mb}, ""},
		// Memory was freed and its statistics lag.
		{"lagging statistics of private memory", 100 * mb, memoryStat{anon: 150 * mb}, ""},
	} {
		w := watch{limit: 128 * mb, hard: hardLimit(Limits{MemoryBytes: 128 * mb, TmpBytes: 512 * mb})}
		cause, next := w.observe(sample{at: at, usage: tt.usage, stat: tt.stat})
		if cause != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, cause, tt.want)
		}
		if next < minAbove || next > maxAbove {
			t.Errorf("%s: next look in %v", tt.name, next)
		}
	}
}

// thrashLook is one sample of TestWatchThrash, ms after the start.
type thrashLook struct {
	ms, usage, file, refaults int64
}

func TestWatchThrash(t *testing.T) {
	const hard = 640 * mb
	every := func(n int, f func(i int64) thrashLook) (out []thrashLook) {
		for i := range int64(n) {
			l := f(i)
			l.ms = i * 20
			out = append(out, l)
		}
		return out
	}
	for _, tt := range []struct {
		name  string
		looks []thrashLook
		after int64 // ms at which it is found out; 0: never
	}{
		{"text read again and again", every(100, func(i int64) thrashLook { return thrashLook{0, hard, 4 * mb, i * 1000} }), 1000},
		{"at the limit, at peace", every(100, func(i int64) thrashLook { return thrashLook{0, hard, 4 * mb, i} }), 0},
		{"streaming through much cache", every(100, func(i int64) thrashLook { return thrashLook{0, hard, 200 * mb, i * 1000} }), 0},
		{"below the limit", every(100, func(i int64) thrashLook { return thrashLook{0, hard / 2, 4 * mb, i * 1000} }), 0},
		{"it recovers now and then", every(200, func(i int64) thrashLook {
			l := thrashLook{0, hard, 4 * mb, i * 1000}
			if i%40 == 39 {
				l.usage = hard / 2
			}
			return l
		}), 0},
	} {
		w := watch{limit: 64 * mb, hard: hard}
		found := int64(0)
		for _, l := range tt.looks {
			s := sample{at: time.UnixMilli(5_000_000 + l.ms), usage: l.usage, stat: memoryStat{file: l.file, shared: l.usage - l.file - mb, refaults: l.refaults}}
			if cause, _ := w.observe(s); cause != "" {
				if cause != CauseThrash {
					t.Errorf("%s: %s", tt.name, cause)
				}
				found = l.ms
				break
			}
			if l.usage < hard {
				w.calm()
			}
		}
		if found != tt.after {
			t.Errorf("%s: found after %d ms, want %d", tt.name, found, tt.after)
		}
	}
}

func TestCPUQuota(t *testing.T) {
	for _, tt := range []struct {
		vcpus         float64
		quota, period time.Duration
	}{
		{1, 20 * time.Millisecond, 20 * time.Millisecond},
		{6, 120 * time.Millisecond, 20 * time.Millisecond},
		{128.0 / 1769, 1447 * time.Microsecond, 20 * time.Millisecond},
		{0.01, time.Millisecond, 100 * time.Millisecond},
		{0.0001, time.Millisecond, time.Second},
	} {
		q, p := cpuQuota(tt.vcpus)
		if q.Truncate(time.Microsecond) != tt.quota || p != tt.period {
			t.Errorf("%v vcpus: %v of %v", tt.vcpus, q, p)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.Float64Range(0.002, 64).Draw(t, "vcpus")
		q, p := cpuQuota(v)
		if got := q.Seconds() / p.Seconds(); got < v*0.999 || got > v*1.001 || q < minCPUQuota || p > maxPeriod {
			t.Fatalf("%v vcpus: %v of %v", v, q, p)
		}
	})
}

func TestParseMemoryStat(t *testing.T) {
	v2 := "anon 10\nfile 99\nkernel 30\nslab_reclaimable 4\nshmem 7\ninactive_anon 1\nactive_file 5\ninactive_file 6\nworkingset_refault_anon 1\nworkingset_refault_file 8\n"
	if diff := cmp.Diff(memoryStat{anon: 10, shared: 7, file: 11, kernel: 26, refaults: 8}, parseMemoryStat([]byte(v2), true), cmp.AllowUnexported(memoryStat{})); diff != "" {
		t.Error(diff)
	}
	old := "anon 10\nkernel_stack 1\npagetables 2\nsock 3\nslab_unreclaimable 4\nslab_reclaimable 9\nworkingset_refault 8\n"
	if diff := cmp.Diff(memoryStat{anon: 10, kernel: 10, refaults: 8}, parseMemoryStat([]byte(old), true), cmp.AllowUnexported(memoryStat{})); diff != "" {
		t.Error(diff)
	}
	v1 := "rss 1\nshmem 1\ninactive_file 1\ntotal_rss 10\ntotal_shmem 7\ntotal_inactive_file 5\ntotal_active_file 6\ntotal_workingset_refault_file 8\n"
	if diff := cmp.Diff(memoryStat{anon: 10, shared: 7, file: 11, refaults: 8}, parseMemoryStat([]byte(v1), false), cmp.AllowUnexported(memoryStat{})); diff != "" {
		t.Error(diff)
	}
	for in, want := range map[string]int64{"12\n": 12, "max\n": -1, "9223372036854771712\n": 9223372036854771712} {
		if n, err := parseNumber([]byte(in)); n != want || err != nil {
			t.Errorf("%q: %d, %v", in, n, err)
		}
	}
}

func TestSampledPeak(t *testing.T) {
	var p sampledPeak
	p.reset(50, 200) // the kernel's peak is from before
	p.see(70)
	p.see(60)
	if got := p.value(200); got != 70 {
		t.Errorf("peak %d, want the highest seen", got)
	}
	if got := p.value(210); got != 210 {
		t.Errorf("peak %d, want the kernel's, which rose since", got)
	}
}

func TestInotifyWatches(t *testing.T) {
	var b []byte
	event := func(wd int32, name string) {
		b = binary.NativeEndian.AppendUint32(b, uint32(wd))
		b = binary.NativeEndian.AppendUint32(b, 2)
		b = binary.NativeEndian.AppendUint32(b, 0)
		b = binary.NativeEndian.AppendUint32(b, uint32(len(name)))
		b = append(b, name...)
	}
	event(3, "")
	event(9, "name\x00\x00\x00\x00")
	event(4, "")
	if got := inotifyWatches(b); !slices.Equal(got, []int32{3, 9, 4}) {
		t.Errorf("watches %v", got)
	}
	if got := inotifyWatches(b[:len(b)-3]); !slices.Equal(got, []int32{3, 9}) {
		t.Errorf("cut short: %v", got)
	}
}
