package e2e

import "syscall"

// dieWithTest has a process get SIGTERM when the test binary dies of a
// timeout, which runs no clean-up. The signal follows the thread that started
// the process; those of the Go runtime live as long as the program.
func dieWithTest(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGTERM }
