//go:build linux

// Package linux isolates sandboxes with the kernel's own means, as root or as
// an ordinary user: namespaces, a root file system of its own, user ids of
// its own, no capabilities, seccomp, Landlock, control groups, and a network
// that leads through firn.
//
// Three kinds of processes work together. firn holds a [Backend]. It starts
// one spawner, the small program firn-init, which forks the inits, because a
// fork from firn's own large address space takes tens of milliseconds. An
// init, the same program, is PID 1 of each sandbox; it makes the mounts, opens
// the Runtime API's listener inside and hands it to firn, starts processes and
// reaps them. All of them end when their control socket closes: whatever
// becomes of firn, nothing is left running.
//
// A sandbox is made in two steps. A blank one has everything that does not
// depend on the function, and takes some milliseconds; a pool keeps some
// ready. Create gives a blank one to a function: code and layers are attached,
// limits set, in a fraction of a millisecond.
//
// DESIGN.md has the whole, with what was refused and why.
package linux
