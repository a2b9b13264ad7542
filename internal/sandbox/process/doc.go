// Package process is the sandbox backend that isolates nothing: the processes
// of a function are ordinary children of firn, run as firn's user, and see and
// reach whatever that user does. It exists for development on any Unix, macOS
// included, where it starts functions at the speed of fork and exec.
//
// What it does keep of the contract, because functions and extensions cannot
// work without: every sandbox has its own Runtime API listener (on Linux its
// own address out of 127.0.0.0/8 with the usual port 9001, elsewhere its own
// port), its own directory in the place of /tmp, and the power to stop,
// continue and kill all of its processes, also those that left their process
// group and session.
//
// # Whose process is it
//
// Without namespaces the kernel does not know what belongs to a sandbox. Each
// started program leads a process group of its own; that covers nearly all. On
// Linux the backend makes firn a child subreaper, so that a process whose
// parents have ended becomes a child of firn instead of vanishing to init, and
// recognises it by a tag: the soft limit RLIMIT_LOCKS, which Linux has not
// enforced since 2.4.25, is inherited by every descendant and stays readable
// until the process is reaped. The tag also names the backend's directory, so
// that New can end what a killed firn has left there. A program is held at its
// first instruction until it carries the tag. Orphans of other children of firn
// come to firn as well and are left alone. Elsewhere a process that calls setsid
// escapes Freeze, Reset and Close.
//
// # What it does not do
//
// SetCPU has no effect, the size of /tmp is not limited, the network policy is
// not enforced, pids are not limited, TaskDir and OptDir are as writable as
// their owner left them. On Linux memory is the sum of the resident sizes of
// the processes, sampled while they run, and a watchdog ends a sandbox that
// outgrows its size; elsewhere there are no memory figures and no limit.
//
// # firn's own death
//
// Every program is started from one locked thread that lives as long as the
// backend, because the signal that a Linux parent's death sends follows the
// thread, not the process. Programs die with firn at once; what they had
// started themselves, at the next New on the same directory.
package process
