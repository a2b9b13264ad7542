//go:build linux && !amd64

package main

// restable says that init can rest. The code for that is written for amd64.
func restable() bool { return false }

// stillborn is for an init that can rest.
func stillborn() int { return -1 }
