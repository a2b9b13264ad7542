//go:build linux

package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// openFile opens a control file. It bypasses os.Open because that would
// register each file with the runtime's poller: control files can be polled,
// and there are many.
func openFile(path string, flags int) (*os.File, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
		return os.NewFile(uintptr(fd), path), nil
	}
}

func readString(path string) (string, error) {
	b, err := os.ReadFile(path)
	return string(bytes.TrimSpace(b)), err
}

// writeString writes s in one write call to a file that exists.
func writeString(path, s string) error {
	f, err := openFile(path, unix.O_WRONLY)
	if err != nil {
		return err
	}
	_, err = f.WriteString(s)
	return errors.Join(err, f.Close())
}

// rewrite writes s at the beginning of an open control file.
func rewrite(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

// readNumber reads an open control file that holds one number; "max" is -1.
func readNumber(f *os.File) (int64, error) {
	var buf [32]byte
	n, err := f.ReadAt(buf[:], 0)
	if n == 0 && err != nil {
		return 0, err
	}
	return parseNumber(buf[:n])
}

func parseNumber(b []byte) (int64, error) {
	b = bytes.TrimSpace(b)
	if string(b) == "max" {
		return -1, nil
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("cgroup: not a number: %q", b)
	}
	return n, nil
}

// keyed finds the number after key in lines of "key number".
func keyed(b []byte, key string) (int64, bool) {
	for line := range bytes.Lines(b) {
		rest, ok := bytes.CutPrefix(line, []byte(key))
		if !ok || len(rest) == 0 || rest[0] != ' ' {
			continue
		}
		n, err := parseNumber(rest)
		return n, err == nil
	}
	return 0, false
}

// readKeyed reads one value of a file of "key number" lines; a missing key is 0.
func readKeyed(path, key string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n, _ := keyed(b, key)
	return n, nil
}

// readPids lists the processes directly in a group; a group that is gone has
// none. Processes outside of the reader's PID namespace read as 0.
func readPids(dir string) []int {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return nil
	}
	var out []int
	for f := range strings.FieldsSeq(string(b)) {
		if n, err := strconv.Atoi(f); err == nil {
			out = append(out, n)
		}
	}
	return out
}

// procStat is the part of /proc/PID/stat that tells processes apart.
type procStat struct {
	parent int
	start  uint64 // clock ticks after boot
}

func readStat(proc string, pid int) (procStat, error) {
	b, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "stat"))
	if err != nil {
		return procStat{}, err
	}
	return parseStat(string(b))
}

// parseStat reads a line of /proc/PID/stat. The name, second, is in
// parentheses and may itself hold blanks and parentheses.
func parseStat(s string) (procStat, error) {
	i := strings.LastIndexByte(s, ')')
	if i < 0 {
		return procStat{}, errors.New("cgroup: malformed process status")
	}
	f := strings.Fields(s[i+1:])
	if len(f) < 20 {
		return procStat{}, errors.New("cgroup: short process status")
	}
	parent, err := strconv.Atoi(f[1])
	if err != nil {
		return procStat{}, fmt.Errorf("cgroup: parent in process status: %w", err)
	}
	start, err := strconv.ParseUint(f[19], 10, 64)
	if err != nil {
		return procStat{}, fmt.Errorf("cgroup: start time in process status: %w", err)
	}
	return procStat{parent: parent, start: start}, nil
}

// isGone reports that the process or group meant no longer exists.
func isGone(err error) bool {
	return errors.Is(err, syscall.ESRCH) || errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENODEV)
}
