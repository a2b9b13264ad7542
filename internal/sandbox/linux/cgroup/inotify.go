//go:build linux

package cgroup

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// inotifyWatches returns the watch of each event in what inotify gave.
func inotifyWatches(b []byte) []int32 {
	var out []int32
	for len(b) >= unix.SizeofInotifyEvent {
		out = append(out, int32(binary.NativeEndian.Uint32(b)))
		name := uint64(binary.NativeEndian.Uint32(b[12:]))
		if name > uint64(len(b)-unix.SizeofInotifyEvent) {
			break
		}
		b = b[unix.SizeofInotifyEvent+int(name):]
	}
	return out
}
