package main

// entry is where the program begins when it is linked with -E main.entry, as
// the Makefile does: see rest.go. It is not to be called.
//
//lint:ignore U1000 the linker is told of it
func entry()

// stillborn starts a process that has ended when it returns, and returns its
// number, or a negated error number.
func stillborn() int

// restable says that the program did begin at entry.
func restable() bool
