// Package runtimes keeps the managed runtimes of a node: Python, Node.js,
// Java and the others, under the names that AWS gives them.
//
// A runtime is a read-only directory tree and a start command. The tree has
// the interpreter in var/lang and, in var/runtime, the official runtime
// interface client of the language with the file bootstrap, which is the start
// command. A sandbox shows the two over the host's system libraries, at
// /var/lang and /var/runtime. The other form of a runtime is a whole root file
// system with the same two directories and the same start command in it: Pull
// unpacks it from one of AWS's base images, from a registry or from a file.
// The files of layers that several have in common are there once (hard links),
// and are fetched once.
//
// Build makes a tree from what the machine has: a copy of the host's own
// interpreter or JDK, or, for Node.js, the one that npm has, and the client as
// the language's own package manager brings it. Nothing of the client is
// changed. What lies beside it is ours (folder files): a shell script that does
// what the scripts of that name do on AWS, for search paths, memory sizes and
// AWS_LAMBDA_EXEC_WRAPPER, and a few lines that hand over to the client.
//
// The catalogue is data: one row for every name that AWS ever used, with its
// state of support, so that the control plane can tell a runtime that is gone
// from one that is missing here.
//
// On disk, below the store's directory:
//
//	trees/DIGEST/var/...   a tree by the digest of its content
//	names/NAME.json        which tree a name stands for, and its origin
//	work/NAME/             a build or pull under way; locked
//	images/                parts of pulled images and their unpacked layers; locked
//	cache/                 what builds have brought and compiled
//
// A tree that was handed out is locked (flock) by the process that uses it, so
// that no other process removes it.
package runtimes
