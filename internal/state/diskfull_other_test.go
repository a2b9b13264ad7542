//go:build !linux

package state_test

// The test that fills a disk needs Linux's mount namespaces.

const envDiskFull = "FIRN_STATE_TEST_DISKFULL"

func diskFullChild(string) int { return 1 }
