// Package sandbox is the contract between an execution environment and the
// isolation around it. A sandbox is the box: a file system, a network with the
// Runtime API's listener in it, resource limits, and the processes started
// inside. It knows nothing of invocations, extensions or phases.
//
// Implementations are process (development anywhere, isolates nothing) and
// linux (namespaces, cgroups, seccomp, Landlock). What the contract means is
// package sandboxtest, which every implementation passes.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

// ErrClosed is returned by calls on a sandbox or backend that was closed.
var ErrClosed = errors.New("sandbox: closed")

// ErrNoImages is returned by Create of a backend that cannot give a sandbox
// another root file system than the host's.
var ErrNoImages = errors.New("sandbox: this kind of sandbox cannot run from an image (Spec.RootDir)")

// Backend makes sandboxes. It owns what they share: a spawner, a pool of
// prepared sandboxes, cgroup directories. Safe for concurrent use.
type Backend interface {
	// Name is "process", "linux", ...
	Name() string
	// Create returns a sandbox for spec with no process of the function in
	// it; it may come from a pool of prepared ones. The caller closes it.
	Create(ctx context.Context, spec Spec) (Sandbox, error)
	// Close destroys every sandbox left, the pool and the helpers, waits for
	// them to be gone, and leaves no process, mount, cgroup or file behind.
	Close() error
}

// Network is the outbound network policy of a sandbox.
type Network string

const (
	// NetworkNone lets nothing out: only the sandbox's own loopback works.
	NetworkNone Network = "none"
	// NetworkInternet lets connections out to public addresses; private
	// ranges, the host itself and the cloud metadata address are refused.
	NetworkInternet Network = "internet"
)

// Spec describes one sandbox. Directories are host paths that stay unchanged
// while the sandbox lives; they appear read-only inside.
type Spec struct {
	ID string // unique in the node; used in names of cgroups and logs
	// TaskDir becomes /var/task and OptDir /opt. "" means what RootDir has
	// there, or an empty directory.
	TaskDir, OptDir string
	// RuntimeDir holds var/lang and var/runtime of a managed runtime, which
	// become /var/lang and /var/runtime; "" means what RootDir has there, or
	// nothing.
	RuntimeDir string
	// RootDir is an unpacked image that is the whole file system; "" means the
	// host's system libraries. /tmp, /proc, /dev, /etc/hosts and
	// /etc/resolv.conf are the sandbox's in both cases. Backends that do not
	// isolate refuse it with ErrNoImages.
	RootDir            string
	MemoryMB           int
	EphemeralStorageMB int // size of /tmp
	Network            Network
}

// Paths says where the parts of the file system stand as seen by processes
// inside: /var/task, /opt, /var/lang, /var/runtime and /tmp on an isolating
// backend, host directories on the process backend.
type Paths struct {
	Task    string
	Opt     string
	Lang    string
	Runtime string
	Tmp     string
}

// Sandbox is one box. Methods are safe for concurrent use unless said.
type Sandbox interface {
	// Listener accepts the connections that processes inside make to APIAddr.
	// The sandbox owns it and closes it in Close.
	Listener() net.Listener
	// APIAddr is the Runtime API's address as seen inside, host:port.
	APIAddr() string
	Paths() Paths

	// Dial connects to a TCP port on the sandbox's own loopback: to whoever
	// listens there inside. It is refused at once (ECONNREFUSED) when nobody
	// does. A frozen sandbox may be dialled: the connection is made, or the
	// call waits for Thaw; ctx bounds it. The caller closes the connection,
	// also after Close; Freeze, Thaw and Close never wait for a Dial.
	Dial(ctx context.Context, port int) (net.Conn, error)
	// DaemonAddr is the UDP address, host:port, at which processes inside
	// reach the X-Ray daemon; Daemon receives what they send there. The socket
	// is one per sandbox: later calls return the same, and Close closes it.
	// Call it before a process runs that could take the address itself.
	DaemonAddr() string
	Daemon(ctx context.Context) (net.PacketConn, error)

	// Start runs a process inside. The error is a *StartError when the
	// program itself could not be executed.
	Start(ctx context.Context, cmd Command) (Process, error)

	// SetCPU sets the processor share in units of one virtual processor;
	// 0 means full speed (used during init).
	SetCPU(vcpus float64) error

	// Freeze stops every process inside from running; it may return before
	// the last one has stopped. Thaw lets them run again. Both idempotent.
	Freeze() error
	Thaw() error

	// Usage reads memory figures. ResetPeak starts a new peak at the
	// present usage (called at the start of each invocation).
	Usage() (Usage, error)
	ResetPeak() error
	// CPUTime is the processor time used since the sandbox was made. It is
	// apart from Usage, since the kernel adds it up over all processors for
	// whoever asks.
	CPUTime() (time.Duration, error)

	// Events delivers OutOfMemory (and nothing else so far). The channel has
	// a buffer, drops when it is full, and is closed by Close.
	Events() <-chan Event

	// Reset kills every process of the function and waits until they are
	// gone. /tmp, the network, the listener and the limits stay.
	Reset(ctx context.Context) error

	// Close kills everything and releases all. Idempotent; it returns once
	// nothing of the sandbox can run any more (unmounting may go on behind).
	Close() error
}

// Command is a program to start inside a sandbox.
type Command struct {
	Path string   // absolute path as seen inside
	Args []string // argv, including argv[0]
	Env  []string // the complete environment, KEY=VALUE
	Dir  string   // working directory as seen inside
	// Stdout and Stderr become descriptors 1 and 2. The caller keeps its
	// copy and closes it; nil means /dev/null. Descriptor 0 is /dev/null.
	Stdout, Stderr *os.File
	// Extra become descriptors 3, 4, ... in order; none may be nil. They are
	// the process's alone: no other one inherits them but its own children.
	// The caller keeps its copies and closes them. At most MaxExtra.
	Extra []*os.File
}

// MaxExtra is the most descriptors that a Command may have beyond 0, 1 and 2.
const MaxExtra = 16

// Check says what of a command no backend can carry out.
func (c *Command) Check() error {
	if len(c.Extra) > MaxExtra {
		return fmt.Errorf("start %s: %d extra descriptors, at most %d can be passed", c.Path, len(c.Extra), MaxExtra)
	}
	for i, f := range c.Extra {
		if f == nil {
			return fmt.Errorf("start %s: descriptor %d: %w", c.Path, 3+i, os.ErrInvalid)
		}
	}
	return nil
}

// Process is one process started by Start.
type Process interface {
	// Signal sends sig to the process (not to its children).
	Signal(sig syscall.Signal) error
	// Done is closed when the process has ended; then Exit is valid.
	Done() <-chan struct{}
	Exit() Exit
}

// Exit says how a process ended.
type Exit struct {
	Code        int            // exit status; meaningless when Signal is not 0
	Signal      syscall.Signal // the signal that ended it, or 0
	OutOfMemory bool           // the memory limit of the sandbox was the cause
	At          time.Time
}

// StartError says why a program could not be executed.
type StartError struct {
	Path string
	Err  error // a syscall.Errno: ENOENT, EACCES, ENOEXEC, ...
	// BadDir is set when the working directory, not the program, was at fault.
	BadDir bool
}

// Error names the path and the reason.
func (e *StartError) Error() string { return "start " + e.Path + ": " + e.Err.Error() }

// Unwrap returns the system's error.
func (e *StartError) Unwrap() error { return e.Err }

// Usage is memory in bytes. On backends without accounting it is the sum over
// the processes alive, sampled.
type Usage struct {
	Current int64
	Peak    int64 // highest since the last ResetPeak
}

// EventKind names an Event.
type EventKind string

// OutOfMemory: the processes inside went over the memory size (or lived for
// long at its very edge) and were killed.
const OutOfMemory EventKind = "OutOfMemory"

// Event is something that happened to the sandbox as a whole.
type Event struct {
	Kind EventKind
	At   time.Time
}

// Feature is one thing that a host offers to sandboxes, or lacks.
type Feature struct {
	Name   string `json:"name"` // "user namespaces", "cgroup v2", ...
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`        // what was found
	Fix    string `json:"fix,omitempty"` // what to do when it is missing; "" when OK
	// Needed is set when a backend cannot work without it.
	Needed bool `json:"needed"`
}
