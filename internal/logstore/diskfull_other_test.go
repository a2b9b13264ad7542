//go:build !linux

package logstore

const envDiskFull = "FIRN_LOGSTORE_TEST_DISKFULL"

// diskFullChild is Linux's: it needs a mount namespace.
func diskFullChild(string) int { return 1 }
