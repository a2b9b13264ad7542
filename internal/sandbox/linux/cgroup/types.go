//go:build linux

package cgroup

import (
	"errors"
	"log/slog"
	"time"

	"github.com/firn-run/firn/internal/sandbox"
)

// Allowance is added to the kernel's hard memory limit over the sizes of the
// function and its /tmp, in bytes: room for the sandbox's init, for kernel
// memory, and for program text, which would otherwise be read again and
// again by a function close to its limit.
const Allowance = 32 << 20

// ErrUnavailable is returned by [NewManager] where the host lets this process
// use no cgroup at all; callers fall back to other means.
var ErrUnavailable = errors.New("cgroup: no usable control group")

// ErrUnsupported is returned by methods of a [Group] that need a controller
// or a kernel feature which is not there. See [Manager.Can].
var ErrUnsupported = errors.New("cgroup: not supported on this host")

// ErrDestroyed is returned by methods of a [Group] after Destroy.
var ErrDestroyed = errors.New("cgroup: group destroyed")

// Mode is the arrangement of control groups on a host.
type Mode string

// The modes of a host.
const (
	ModeNone   Mode = "none"   // no cgroup file system is mounted
	ModeV1     Mode = "v1"     // version 1 trees only
	ModeV2     Mode = "v2"     // the unified tree only
	ModeHybrid Mode = "hybrid" // version 1 controllers and a cgroup2 mount
)

// Can says what a host or a manager can do. Without any of these the means
// that are left are resource limits, SIGSTOP and sampling /proc.
type Can struct {
	Memory    bool // memory limit, OOM events, usage and peak
	CPU       bool // processor quota
	Pids      bool // limit on the number of processes and threads
	Freeze    bool // freezing by the kernel
	CloneInto bool // CLONE_INTO_CGROUP with Group.FD
	KillAll   bool // cgroup.kill; without it Kill signals one by one
	CPUTime   bool // processor time used
	ExactPeak bool // the kernel can begin a new peak; otherwise sampled
}

// Config configures a [Manager].
type Config struct {
	// Name tells this firn from others on the machine, in directory names:
	// letters, digits, '_' and '.', at most 32 ("" is "main").
	Name string
	// Exclusive is the caller's word that no other live process uses Name
	// (it holds a lock of the data directory): directories of that name are
	// then removed whoever made them. Without it only those whose owner, a
	// process of this PID namespace, is gone.
	Exclusive bool
	// Logger is told of orphans removed and of things that failed behind.
	Logger *slog.Logger
	// Host is what to use; nil means Detect.
	Host *Host
	// Now is the clock for the times of events; nil means time.Now.
	Now func() time.Time
}

// Limits are the sizes of a group. Zero means no limit.
type Limits struct {
	MemoryBytes int64 // the function's memory size
	TmpBytes    int64 // size of /tmp, charged on top
	Pids        int   // processes and threads; above it fork gives EAGAIN
}

// Usage is what a group used.
type Usage struct {
	// Current is the memory in use now, in bytes, without shared memory
	// (where /tmp lies) and without file cache.
	Current int64
	// Peak is the highest since ResetPeak, counted the same way as far as
	// the kernel tells, and never more than Limits.MemoryBytes.
	Peak int64
	// Shared is the shared memory charged to the group: /tmp.
	Shared int64
}

// Cause says what made a group run out of memory.
type Cause string

// Causes of an OutOfMemory event.
const (
	CauseLimit  Cause = "limit"  // the function went over MemoryBytes
	CauseKernel Cause = "kernel" // the kernel's OOM killer acted at the hard limit
	CauseThrash Cause = "thrash" // the group lived at the hard limit without progress
)

// Event says that a group ran out of memory and that its processes are being
// killed. Kind is always sandbox.OutOfMemory so far. It is sent before the
// processes are killed (for CauseKernel: as soon as the kernel tells).
type Event struct {
	Kind  sandbox.EventKind
	At    time.Time
	Cause Cause
	Usage int64 // function memory when seen, in bytes
}
