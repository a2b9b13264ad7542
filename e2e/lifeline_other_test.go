//go:build !linux

package e2e

import "syscall"

// dieWithTest is for Linux only.
func dieWithTest(*syscall.SysProcAttr) {}
