//go:build linux

package cgroup

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// memoryNames are the control files of one version.
type memoryNames struct {
	current, peak, limit, stat string
	// swap bounds swap: on version 1 memory and swap together.
	swap string
	// kills holds the line "oom_kill N".
	kills string
	// prefix stands before the keys of stat that count whole subtrees.
	prefix string
}

func namesFor(v2 bool) memoryNames {
	if v2 {
		return memoryNames{current: "memory.current", peak: "memory.peak", limit: "memory.max", stat: "memory.stat",
			swap: "memory.swap.max", kills: "memory.events"}
	}
	return memoryNames{current: "memory.usage_in_bytes", peak: "memory.max_usage_in_bytes", limit: "memory.limit_in_bytes",
		stat: "memory.stat", swap: "memory.memsw.limit_in_bytes", kills: "memory.oom_control", prefix: "total_"}
}

// memoryFiles are the open files of the memory controller; all nil without it.
type memoryFiles struct {
	dir     string
	v2      bool
	names   memoryNames
	current *os.File
	stat    *os.File
	peak    *os.File // nil on version 2 before Linux 5.19
	// resettable is set when writing to peak begins a new one: always on
	// version 1, and on version 2 since Linux 6.12.
	resettable bool
}

func (f *memoryFiles) open(dir string, v2 bool) (err error) {
	if dir == "" {
		return nil
	}
	f.dir, f.v2, f.names = dir, v2, namesFor(v2)
	if f.current, err = openFile(filepath.Join(dir, f.names.current), unix.O_RDONLY); err != nil {
		return err
	}
	if f.stat, err = openFile(filepath.Join(dir, f.names.stat), unix.O_RDONLY); err != nil {
		return err
	}
	peak := filepath.Join(dir, f.names.peak)
	if f.peak, err = openFile(peak, unix.O_RDWR); err == nil {
		f.resettable = f.resetPeak() == nil
	}
	if !f.resettable && f.peak == nil {
		f.peak, _ = openFile(peak, unix.O_RDONLY)
	}
	return nil
}

// resetPeak begins a new peak. Version 2 takes any text, and the new peak is
// that of the descriptor written to.
func (f *memoryFiles) resetPeak() error { return rewrite(f.peak, "0") }

func (f *memoryFiles) all() []*os.File { return []*os.File{f.current, f.stat, f.peak} }

// kernelMemory reads what version 1 counts of kernel memory, 0 where it does not.
func (f *memoryFiles) kernelMemory() int64 {
	s, err := readString(filepath.Join(f.dir, "memory.kmem.usage_in_bytes"))
	if err != nil {
		return 0
	}
	n, err := parseNumber([]byte(s))
	if err != nil {
		return 0
	}
	return n
}

// memoryStat is what we use of memory.stat, in bytes and pages.
type memoryStat struct {
	anon     int64 // private memory of processes
	shared   int64 // tmpfs and shared anonymous memory
	file     int64 // file cache that can be given back
	kernel   int64 // kernel memory that cannot
	refaults int64 // pages read again soon after they were dropped
}

// parseMemoryStat reads memory.stat of either version. On version 1 kernel
// memory is in another file.
func parseMemoryStat(b []byte, v2 bool) memoryStat {
	get := func(key string) int64 {
		n, _ := keyed(b, namesFor(v2).prefix+key)
		return n
	}
	s := memoryStat{
		shared:   get("shmem"),
		file:     get("inactive_file") + get("active_file"),
		refaults: get("workingset_refault_file"),
	}
	if !v2 {
		s.anon = get("rss")
		return s
	}
	s.anon = get("anon")
	if s.refaults == 0 {
		s.refaults = get("workingset_refault") // Linux before 5.9
	}
	var ok bool
	if s.kernel, ok = keyed(b, "kernel"); !ok { // Linux before 5.18 has only the parts
		s.kernel = get("kernel_stack") + get("pagetables") + get("percpu") + get("sock") + get("slab_unreclaimable")
	} else {
		s.kernel -= get("slab_reclaimable")
	}
	return s
}

// statBuffers lends buffers for memory.stat, which is 1 to 2 kB long.
type statBuffers struct{ pool sync.Pool }

func (p *statBuffers) read(f *os.File, use func([]byte)) error {
	buf, _ := p.pool.Get().(*[8192]byte)
	if buf == nil {
		buf = new([8192]byte)
	}
	defer p.pool.Put(buf)
	n, err := f.ReadAt(buf[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	use(buf[:n])
	return nil
}

// readMemory reads usage and statistics. Kernel memory of version 1 is left
// out: only the watch needs it.
func (g *Group) readMemory() (usage int64, st memoryStat, err error) {
	f := &g.files.memory
	if f.current == nil {
		return 0, st, ErrUnsupported
	}
	if usage, err = readNumber(f.current); err != nil {
		return 0, st, err
	}
	err = g.m.stats.read(f.stat, func(b []byte) { st = parseMemoryStat(b, f.v2) })
	return usage, st, err
}

// A reading of memory.stat makes the kernel add up counters of all processors,
// which costs more than all other readings of an invocation together. So one is
// used again for statFresh as long as neither figure beside it has moved by
// statSlack, which is twice what the kernel charges ahead for a processor:
// within that, what is /tmp or file cache has not moved by more either, unless
// the function turned the one kind of memory into the other on the spot.
const (
	statFresh = 100 * time.Millisecond
	statSlack = 512 << 10
)

// lastStat is the last reading of memory.stat by readUsage.
type lastStat struct {
	mu          sync.Mutex
	at          time.Time
	usage, peak int64
	st          memoryStat
}

// readUsage reads usage, the kernel's peak and the statistics, the last of
// which may be statFresh old.
func (g *Group) readUsage() (usage, peak int64, st memoryStat, err error) {
	f, c := &g.files.memory, &g.lastStat
	if f.current == nil {
		return 0, 0, st, ErrUnsupported
	}
	if usage, err = readNumber(f.current); err != nil {
		return 0, 0, st, err
	}
	peak = f.kernelPeak()
	now := g.m.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	age := now.Sub(c.at)
	if age < 0 || age > statFresh || apart(usage, c.usage) > statSlack || apart(peak, c.peak) > statSlack {
		if err := g.m.stats.read(f.stat, func(b []byte) { c.st = parseMemoryStat(b, f.v2) }); err != nil {
			c.at = time.Time{}
			return 0, 0, st, err
		}
		c.at, c.usage, c.peak = now, usage, peak
	}
	return usage, peak, c.st, nil
}

func apart(a, b int64) int64 { return max(a-b, b-a) }

// functionMemory is the usage that counts against the function's size.
func functionMemory(usage int64, st memoryStat) int64 {
	return max(0, usage-st.shared-st.file)
}

// sampledPeak finds the highest usage by looking, where the kernel's own peak
// cannot be reset.
type sampledPeak struct {
	highest atomic.Int64
	// atReset is the kernel's peak when this one began. A kernel's peak
	// above it was reached since and is exact.
	atReset atomic.Int64
}

func (p *sampledPeak) see(usage int64) {
	for {
		old := p.highest.Load()
		if usage <= old || p.highest.CompareAndSwap(old, usage) {
			return
		}
	}
}

func (p *sampledPeak) reset(usage, kernelPeak int64) {
	p.atReset.Store(kernelPeak)
	p.highest.Store(usage)
}

func (p *sampledPeak) value(kernelPeak int64) int64 {
	if kernelPeak > p.atReset.Load() {
		return kernelPeak
	}
	return p.highest.Load()
}

func (g *Group) exactPeak() bool { return g.files.memory.resettable }

// ResetPeak begins a new peak at the present usage.
func (g *Group) ResetPeak() error {
	f := &g.files.memory
	if f.current == nil {
		return g.fail("reset peak", ErrUnsupported)
	}
	if f.resettable {
		return g.fail("reset peak", f.resetPeak())
	}
	usage, err := readNumber(f.current)
	if err != nil {
		return g.fail("reset peak", err)
	}
	g.peak.reset(usage, f.kernelPeak())
	return nil
}

// kernelPeak is the kernel's peak, or 0 where there is none.
func (f *memoryFiles) kernelPeak() int64 {
	if f.peak == nil {
		return 0
	}
	n, err := readNumber(f.peak)
	if err != nil {
		return 0
	}
	return n
}

// Usage reads what the group used. The kernel keeps one peak of all memory
// together; what is shared memory or file cache at the time of the call is
// taken off it.
func (g *Group) Usage() (Usage, error) {
	var u Usage
	usage, peak, st, err := g.readUsage()
	switch {
	case errors.Is(err, ErrUnsupported):
	case err != nil:
		return u, g.fail("usage", err)
	default:
		u.Current, u.Shared = functionMemory(usage, st), st.shared
		if !g.files.memory.resettable {
			g.peak.see(usage)
			peak = g.peak.value(peak)
		}
		u.Peak = max(u.Current, functionMemory(peak, st))
		if limit := g.memoryLimit(); limit > 0 {
			u.Peak = min(u.Peak, limit)
		}
	}
	return u, nil
}

func (g *Group) memoryLimit() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.limits.MemoryBytes
}

// CPUTime is the processor time used since Create.
func (g *Group) CPUTime() (time.Duration, error) {
	if g.files.cpuTime == nil {
		return 0, g.fail("processor time", ErrUnsupported)
	}
	if g.m.lay.cpuacct != "" {
		n, err := readNumber(g.files.cpuTime)
		return time.Duration(n), g.fail("processor time", err)
	}
	var us int64
	err := g.m.stats.read(g.files.cpuTime, func(b []byte) { us, _ = keyed(b, "usage_usec") })
	return time.Duration(us) * time.Microsecond, g.fail("processor time", err)
}

// OOMKills is how many processes were killed for lack of memory since Create,
// by the kernel or by this package. It tells at once, when a process is seen
// to have ended by SIGKILL, whether memory was the cause. Only its change has
// a meaning: some kernels count one victim twice.
func (g *Group) OOMKills() (uint64, error) {
	n, err := g.kernelKills()
	return uint64(n) + g.killed.Load(), g.fail("oom kills", err)
}

func (g *Group) kernelKills() (int64, error) {
	f := &g.files.memory
	if f.dir == "" {
		return 0, ErrUnsupported
	}
	return readKeyed(filepath.Join(f.dir, f.names.kills), "oom_kill")
}

// ForksRefused is how often the limit of processes made a fork fail.
func (g *Group) ForksRefused() (uint64, error) {
	dir := g.in(g.m.lay.pids.dir)
	if dir == "" {
		return 0, g.fail("forks refused", ErrUnsupported)
	}
	n, err := readKeyed(filepath.Join(dir, "pids.events"), "max")
	return uint64(n), g.fail("forks refused", err)
}

// SetLimits sets the sizes of the group, any number of times. Limits whose
// controller is missing give ErrUnsupported after the others were set.
// Lowering the memory below what is in use fails, or kills, as the kernel
// pleases.
func (g *Group) SetLimits(l Limits) error {
	if g.isDestroyed() {
		return ErrDestroyed
	}
	var errs []error
	if g.files.memory.current != nil {
		errs = append(errs, g.setMemory(l))
	} else if l.MemoryBytes > 0 {
		errs = append(errs, ErrUnsupported)
	}
	if dir := g.in(g.m.lay.pids.dir); dir != "" {
		s := "max"
		if l.Pids > 0 {
			s = strconv.Itoa(l.Pids)
		}
		errs = append(errs, writeString(filepath.Join(dir, "pids.max"), s))
	} else if l.Pids > 0 {
		errs = append(errs, ErrUnsupported)
	}
	return g.fail("set limits", errors.Join(errs...))
}

// hardLimit is the kernel's limit for l, or -1 for none.
func hardLimit(l Limits) int64 {
	if l.MemoryBytes <= 0 {
		return -1
	}
	return l.MemoryBytes + l.TmpBytes + Allowance
}

// memoryHard is the kernel's limit as it was set last.
func (g *Group) memoryHard() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return hardLimit(g.limits)
}

func (g *Group) setMemory(l Limits) error {
	hard := hardLimit(l)
	var err error
	if g.files.memory.v2 {
		err = g.files.memory.setV2(hard)
	} else {
		err = g.files.memory.setV1(hard, g.memoryHard())
	}
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.destroyed {
		return ErrDestroyed
	}
	g.limits = l
	g.m.watch.disarm(g.watched.Swap(g.m.watch.arm(g, l.MemoryBytes, hard)))
	return nil
}

func (f *memoryFiles) setV2(hard int64) error {
	s, swap := "max", "max"
	if hard >= 0 {
		s, swap = strconv.FormatInt(hard, 10), "0"
	}
	// Absent without swap accounting; then the kernel swaps as it likes.
	_ = writeString(filepath.Join(f.dir, f.names.swap), swap)
	return writeString(filepath.Join(f.dir, f.names.limit), s)
}

// setV1 keeps to the rule that memory and swap together are never limited to
// less than memory alone: which is written first depends on the direction from
// the old limit.
func (f *memoryFiles) setV1(hard, old int64) error {
	limit, both := filepath.Join(f.dir, f.names.limit), filepath.Join(f.dir, f.names.swap)
	s := strconv.FormatInt(hard, 10)
	if !exists(both) {
		_ = writeString(filepath.Join(f.dir, "memory.swappiness"), "0")
		return writeString(limit, s)
	}
	first, second := limit, both
	if old >= 0 && (hard < 0 || hard > old) {
		first, second = both, limit
	}
	return errors.Join(writeString(first, s), writeString(second, s))
}
