package main

import (
	"fmt"
	"os"
	"sort"
	"strings"
)

// show tells what the process sees of itself.
func show(what string) string {
	switch what {
	case "env":
		env := os.Environ()
		sort.Strings(env)
		return strings.Join(env, "\n")
	case "limits":
		raw, err := os.ReadFile("/proc/self/limits")
		if err != nil {
			return err.Error()
		}
		return string(raw)
	case "process":
		dir, err := os.Getwd()
		if err != nil {
			dir = err.Error()
		}
		return fmt.Sprintf("dir=%s uid=%d gid=%d args=%q", dir, os.Getuid(), os.Getgid(), os.Args)
	}
	return "unknown: " + what
}
