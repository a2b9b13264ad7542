// Package cgroup limits, measures, freezes and kills the processes of a
// sandbox with the kernel's control groups, by plain file access.
//
// # Hosts
//
// A host has the version 1 hierarchies (one directory tree per controller),
// the version 2 hierarchy (one tree for all), or both: "hybrid", version 1
// controllers beside a cgroup2 mount that has none. Freezing, killing and
// starting a process inside a group need no controller, so on a hybrid host
// they use the cgroup2 mount, and limits the version 1 trees. [Detect] says
// what the host has and what of it this process may use: everything as root,
// a delegated subtree as an ordinary user, or nothing. A [Manager] owns one
// directory in each tree it uses, and a [Group] one directory below that.
//
// Directories are made at the process's own place in each tree, so that
// limits which the administrator put on firn hold for its functions too. On
// version 2 a group with processes in it cannot pass controllers on; firn
// then moves itself into a leaf of its own directory, and when other
// processes share its group it takes the nearest group above it that it may
// use.
//
// # Memory
//
// What a function writes to /tmp lies in a tmpfs, and the kernel charges it
// to the function's group; it is not function memory. So the hard limit of
// the kernel is MemoryBytes + TmpBytes + [Allowance], and this package itself
// holds the function to MemoryBytes, counting usage less shared memory less
// file cache: that is, what the function cannot give back. The watch costs
// nothing below the limit on version 1 (the kernel reports the crossing) and
// one short read per 10 to 50 ms and running group on version 2; while usage
// is above, it looks every few milliseconds. When the function is over, every
// member of the group except those given to [Group.Exempt] is killed and an
// [Event] is sent, the event first. The kernel's own OOM kills end the same
// way, and so does the thrashing that comes when a group lives for a second
// at its hard limit with next to no file cache left, where the kernel may
// take long to decide.
//
// Memory that a function shares by other means than /tmp (memfd, anonymous
// shared mappings) cannot be told from /tmp in the kernel's figures; it is
// bounded by the hard limit.
//
// # Hot path
//
// A warm invocation calls Thaw, ResetPeak, Freeze and Usage; each is a read
// or write or two on descriptors that stay open. Create and Destroy are for
// the pool.
package cgroup
