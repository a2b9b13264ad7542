//go:build linux && !amd64

package main

// restable says that init can rest. The code for that is written for amd64.
func restable() bool { return false }
