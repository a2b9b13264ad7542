package main

// entry is where the program begins when it is linked with -E main.entry, as
// the Makefile does: see rest.go. It is not to be called.
//
//lint:ignore U1000 the linker is told of it
func entry()

// restable says that the program did begin at entry.
func restable() bool
