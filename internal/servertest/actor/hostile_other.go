//go:build !linux

package main

// What can only be tried on Linux.

func escapes() map[string]string        { return nil }
func survey() map[string]any            { return nil }
func connects(string) map[string]string { return nil }
func leak(int)                          {}
func bomb() map[string]any              { return nil }
func setID(string) map[string]any       { return nil }
func shared() string                    { return "not on this system" }
