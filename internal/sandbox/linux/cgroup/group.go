//go:build linux

package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Group is one directory in each tree: the resources of one sandbox. Methods
// are safe for concurrent use; after Destroy they return [ErrDestroyed].
type Group struct {
	m     *Manager
	name  string
	dirs  []string // one per tree
	files files    // open from create to Destroy
	// events is closed by Destroy, under mu.
	events chan Event
	frozen atomic.Bool
	// watched is the observation of the memory, or nil; ended by Destroy.
	watched atomic.Pointer[entry]
	// killed counts processes that this package killed for memory.
	killed   atomic.Uint64
	peak     sampledPeak
	lastStat lastStat
	cpu      cpuState

	mu        sync.Mutex
	limits    Limits
	exempt    []int
	destroyed bool
}

// files are the descriptors that stay open. nil means not available.
type files struct {
	dir     *os.File // of the unified tree
	freeze  *os.File
	quota   *os.File
	memory  memoryFiles
	cpuTime *os.File
}

func newGroup(m *Manager, name string) *Group {
	g := &Group{m: m, name: name, events: make(chan Event, 4)}
	for _, d := range m.lay.dirs {
		g.dirs = append(g.dirs, filepath.Join(d, name))
	}
	return g
}

// in is this group's directory below one of the manager's; "" stays "".
func (g *Group) in(parent string) string {
	if parent == "" {
		return ""
	}
	return filepath.Join(parent, g.name)
}

func (g *Group) unified() string { return g.in(g.m.lay.unified) }

// open makes the directories and opens the files.
func (g *Group) open() error {
	for _, d := range g.dirs {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
		if slices.Contains(g.m.lay.cpusets, filepath.Dir(d)) {
			inheritCpuset(d)
		}
	}
	lay, f := g.m.lay, &g.files
	var errs []error
	open := func(dst **os.File, flags int, dir string, name string, optional bool) {
		if *dst != nil || dir == "" {
			return
		}
		file, err := openFile(filepath.Join(dir, name), flags)
		if err == nil {
			*dst = file
		} else if !optional {
			errs = append(errs, err)
		}
	}
	open(&f.dir, unix.O_DIRECTORY|unix.O_RDONLY, g.unified(), ".", false)
	open(&f.freeze, unix.O_RDWR, g.unified(), "cgroup.freeze", true)
	open(&f.freeze, unix.O_RDWR, g.in(lay.freezer), "freezer.state", false)
	open(&f.cpuTime, unix.O_RDONLY, g.in(lay.cpuacct), "cpuacct.usage", false)
	open(&f.cpuTime, unix.O_RDONLY, g.unified(), "cpu.stat", true)
	if lay.cpu.v2 {
		open(&f.quota, unix.O_RDWR, g.in(lay.cpu.dir), "cpu.max", false)
	} else {
		open(&f.quota, unix.O_RDWR, g.in(lay.cpu.dir), "cpu.cfs_quota_us", false)
	}
	errs = append(errs, f.memory.open(g.in(lay.memory.dir), lay.memory.v2))
	return errors.Join(errs...)
}

func (f *files) close() {
	for _, x := range append(f.memory.all(), f.dir, f.freeze, f.quota, f.cpuTime) {
		if x != nil {
			_ = x.Close()
		}
	}
}

// FD returns the descriptor of the group's directory in the cgroup2 tree, for
// CLONE_INTO_CGROUP (SysProcAttr.CgroupFD), or -1 without one. It belongs to
// the Group and is valid until ReleaseFD or Destroy. A process started with it is in the
// version 2 group only: on a hybrid host Add still has to follow.
func (g *Group) FD() int {
	if g.files.dir == nil {
		return -1
	}
	return int(g.files.dir.Fd())
}

// ReleaseFD closes FD, when no further process is to be born in the group: among
// thousands of groups descriptors are scarce.
func (g *Group) ReleaseFD() {
	if g.files.dir != nil {
		_ = g.files.dir.Close() // Destroy closes it again
	}
}

// Add moves a process, and with it what it starts from then on, into the
// group. On version 1 this waits for a grace period of the kernel: 10 ms and
// more when done rarely. Where the process is in already nothing is done.
func (g *Group) Add(pid int) error {
	if g.isDestroyed() {
		return ErrDestroyed
	}
	for _, d := range g.dirs {
		if slices.Contains(readPids(d), pid) {
			continue
		}
		if err := writeString(filepath.Join(d, "cgroup.procs"), strconv.Itoa(pid)); err != nil {
			return g.fail("add process", err)
		}
	}
	return nil
}

// Doors opens the files by which a thread moves itself into the group in each
// tree of version 1, and those by which it goes back to where this process is.
// What a thread forks while it is inside is born in the group, and that needs
// no grace period: only a whole process that is moved does. There are none on
// version 2, where FD serves. The caller closes in; back is the Manager's.
func (g *Group) Doors() (in, back []*os.File, err error) {
	if back, err = g.m.exits(); err != nil {
		return nil, nil, g.fail("open tasks", err)
	}
	for _, home := range g.m.lay.homes {
		f, err := openFile(filepath.Join(home, filepath.Base(g.m.lay.dirs[0]), g.name, "tasks"), unix.O_WRONLY)
		if err != nil {
			closeFiles(in)
			return nil, nil, g.fail("open tasks", err)
		}
		in = append(in, f)
	}
	return in, back, nil
}

// exits are the files by which a thread goes back to where this process is.
func (m *Manager) exits() ([]*os.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, os.ErrClosed
	}
	for _, home := range m.lay.homes[len(m.back):] {
		f, err := openFile(filepath.Join(home, "tasks"), unix.O_WRONLY)
		if err != nil {
			return nil, err
		}
		m.back = append(m.back, f)
	}
	return m.back, nil
}

func closeFiles(list []*os.File) {
	for _, f := range list {
		_ = f.Close()
	}
}

// Pids lists the processes in the group, as numbered in this process's PID
// namespace.
func (g *Group) Pids() []int {
	return readPids(g.dirs[0])
}

// Exempt names a process that running out of memory does not kill: the
// sandbox's init. Kill and Destroy do kill it.
func (g *Group) Exempt(pid int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !slices.Contains(g.exempt, pid) {
		g.exempt = append(g.exempt, pid)
	}
}

// Processor quota. The period is a compromise: a function with 7% of a
// processor waits at most 19 ms for its next slice, and the kernel's least
// quota of 1 ms is not undercut until 5%.
const (
	cpuPeriod   = 20 * time.Millisecond
	minCPUQuota = time.Millisecond
	maxPeriod   = time.Second
)

// cpuQuota returns the quota and period for a share of processors.
func cpuQuota(vcpus float64) (quota, period time.Duration) {
	period = cpuPeriod
	quota = time.Duration(vcpus * float64(period))
	if quota < minCPUQuota {
		quota = minCPUQuota
		period = min(time.Duration(float64(quota)/vcpus), maxPeriod)
	}
	return quota, period
}

// cpuState is the bound that was set last, in microseconds. The kernel looks at
// every group of the machine for each word about a bound, so that among a
// thousand of them none is written that says nothing new.
type cpuState struct {
	mu     sync.Mutex
	quota  int64 // 0 and -1: none
	period int64 // 0: the kernel's
}

// SetCPU bounds the processor time of the group to vcpus processors' worth;
// 0 means no bound.
func (g *Group) SetCPU(vcpus float64) error {
	if g.files.quota == nil {
		return g.fail("set cpu", ErrUnsupported)
	}
	if g.isDestroyed() {
		return g.fail("set cpu", ErrDestroyed)
	}
	c := &g.cpu
	c.mu.Lock()
	defer c.mu.Unlock()
	if vcpus <= 0 {
		if c.quota <= 0 {
			return nil
		}
		return g.fail("set cpu", g.setQuota(-1, c.period))
	}
	q, p := cpuQuota(vcpus)
	if quota, period := q.Microseconds(), p.Microseconds(); quota != c.quota || period != c.period {
		return g.fail("set cpu", g.setQuota(quota, period))
	}
	return nil
}

// setQuota writes what has changed. The caller holds g.cpu.mu.
func (g *Group) setQuota(quota, period int64) error {
	c := &g.cpu
	if g.m.lay.cpu.v2 {
		s := "max"
		if quota >= 0 {
			s = strconv.FormatInt(quota, 10)
		}
		if err := rewrite(g.files.quota, s+" "+strconv.FormatInt(period, 10)); err != nil {
			return err
		}
		c.quota, c.period = quota, period
		return nil
	}
	if period != c.period {
		// Lift the quota first: an old one with the new period may be refused.
		if c.quota > 0 {
			if err := rewrite(g.files.quota, "-1"); err != nil {
				return err
			}
			c.quota = -1
		}
		file := filepath.Join(g.in(g.m.lay.cpu.dir), "cpu.cfs_period_us")
		if err := writeString(file, strconv.FormatInt(period, 10)); err != nil {
			return err
		}
		c.period = period
	}
	if err := rewrite(g.files.quota, strconv.FormatInt(quota, 10)); err != nil {
		return err
	}
	c.quota = quota
	return nil
}

// Freeze stops every process of the group. It returns before the last one has
// stopped. Idempotent.
func (g *Group) Freeze() error {
	g.frozen.Store(true)
	return g.setFrozen("1", "FROZEN", "freeze")
}

// Thaw lets the processes run again. Idempotent.
func (g *Group) Thaw() error {
	g.frozen.Store(false)
	err := g.setFrozen("0", "THAWED", "thaw")
	g.m.watch.resume(g.watched.Load())
	return err
}

func (g *Group) setFrozen(v2, v1, doing string) error {
	if g.files.freeze == nil {
		return g.fail(doing, ErrUnsupported)
	}
	if g.m.lay.freezer != "" {
		v2 = v1
	}
	return g.fail(doing, rewrite(g.files.freeze, v2))
}

// Events delivers what happens to the group. The channel has a small buffer,
// drops when it is full, and is closed by Destroy.
func (g *Group) Events() <-chan Event { return g.events }

// emit sends an event unless the group is destroyed.
func (g *Group) emit(ev Event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.destroyed {
		return
	}
	select {
	case g.events <- ev:
	default:
	}
}

// Kill sends SIGKILL to every process in the group, frozen or not, exempt or
// not, without waiting for them to end.
func (g *Group) Kill() error {
	if g.isDestroyed() {
		return ErrDestroyed
	}
	return g.kill()
}

func (g *Group) kill() error {
	if u := g.unified(); u != "" && writeString(filepath.Join(u, "cgroup.kill"), "1") == nil {
		return nil
	}
	_, complete := killMembers(g.dirs[0], nil)
	if !complete && g.files.freeze != nil {
		// Something forks faster than we look. Frozen, it cannot.
		_ = g.Freeze()
		_, complete = killMembers(g.dirs[0], nil)
	}
	if g.m.lay.freezer != "" {
		_ = g.setFrozen("0", "THAWED", "thaw") // or the signal waits
	}
	if !complete {
		return g.fail("kill", errors.New("new processes appear faster than they can be killed"))
	}
	return nil
}

// Destroy kills what is left in the group, waits until it is gone, and
// removes the directories. It closes Events. When ctx ends first the error
// says so, and a later Destroy, or the next firn, finishes the work.
func (g *Group) Destroy(ctx context.Context) error {
	g.mu.Lock()
	first := !g.destroyed
	g.destroyed = true
	if first {
		close(g.events)
		g.m.watch.disarm(g.watched.Load())
	}
	g.mu.Unlock()
	if first {
		_ = g.kill()
		g.files.close()
	}
	for _, d := range g.dirs {
		if err := removeTree(ctx, d); err != nil {
			return g.fail("destroy", err)
		}
	}
	g.m.forget(g)
	return nil
}

func (g *Group) isDestroyed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.destroyed
}

// fail gives err context; nil stays nil, and the use of a closed file is
// ErrDestroyed.
func (g *Group) fail(doing string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, os.ErrClosed) {
		err = ErrDestroyed
	}
	return fmt.Errorf("cgroup %s: %s: %w", g.name, doing, err)
}
