//go:build !linux

package series

const fullDir = "FIRN_TEST_SERIES_FULL"

func diskFullChild(string) int { return 1 }
