//go:build linux

package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// owner is what the name of a firn directory tells: the process that made it.
//
// The name is firn-NAME-PIDNS-PID-START-N: the PID namespace's number, the
// process in it, the time it started in clock ticks after boot, and a number
// that tells several managers of one process apart. A process number alone
// would not do: it may be in use again, and another firn, in a container of
// its own, has numbers that mean nothing here.
type owner struct {
	name  string
	pidns uint64
	pid   int
	start uint64
}

const namePrefix = "firn-"

func (o owner) dir(n int) string {
	return fmt.Sprintf("%s%s-%d-%d-%d-%d", namePrefix, o.name, o.pidns, o.pid, o.start, n)
}

// parseOwner is the inverse of dir.
func parseOwner(dir string) (o owner, ok bool) {
	rest, ok := strings.CutPrefix(dir, namePrefix)
	parts := strings.Split(rest, "-")
	if !ok || len(parts) != 5 || !validName(parts[0]) {
		return owner{}, false
	}
	var errs [4]error
	o.name = parts[0]
	o.pidns, errs[0] = strconv.ParseUint(parts[1], 10, 64)
	o.pid, errs[1] = strconv.Atoi(parts[2])
	o.start, errs[2] = strconv.ParseUint(parts[3], 10, 64)
	_, errs[3] = strconv.ParseUint(parts[4], 10, 31)
	return o, errors.Join(errs[:]...) == nil && o.pid > 0
}

func validName(s string) bool {
	if s == "" || len(s) > 32 {
		return false
	}
	for _, r := range s {
		ok := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '.'
		if !ok {
			return false
		}
	}
	return true
}

// self is the owner that this process is. pidns is 0 where /proc does not
// show this process's own PID namespace: then nothing can be proved of others.
func self(name, proc string) (owner, error) {
	pid := os.Getpid()
	st, err := readStat(proc, pid)
	if err != nil {
		return owner{}, fmt.Errorf("cgroup: own process status: %w", err)
	}
	o := owner{name: name, pid: pid, start: st.start}
	if link, err := os.Readlink(filepath.Join(proc, "self")); err != nil || link != strconv.Itoa(pid) {
		return o, nil
	}
	if link, err := os.Readlink(filepath.Join(proc, "self/ns/pid")); err == nil {
		num := strings.TrimSuffix(strings.TrimPrefix(link, "pid:["), "]")
		o.pidns, _ = strconv.ParseUint(num, 10, 64)
	}
	return o, nil
}

// dead reports whether the process o is certainly gone, judged by me.
func (o owner) dead(me owner, exclusive bool, proc string) bool {
	if o == me {
		return false
	}
	if exclusive && o.name == me.name {
		return true
	}
	if me.pidns == 0 || o.pidns != me.pidns {
		return false
	}
	st, err := readStat(proc, o.pid)
	if err == nil {
		return st.start != o.start
	}
	return errors.Is(err, os.ErrNotExist)
}

// Bounds on the search for orphans: a machine may have very many groups.
const (
	orphanDepth = 8
	orphanDirs  = 16384
	orphanTime  = 3 * time.Second
)

// findOrphans returns the directories below the mount points whose owner is
// dead. It looks at whole trees because a firn that is started anew may stand
// in another group than the one before.
func findOrphans(mounts []string, me owner, exclusive bool, proc string) []string {
	var out []string
	seen := 0
	for _, mount := range mounts {
		top := strings.Count(filepath.Clean(mount), "/")
		_ = filepath.WalkDir(mount, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return nil // groups vanish while we look
			}
			seen++
			if seen > orphanDirs {
				return fs.SkipAll
			}
			if o, ok := parseOwner(d.Name()); ok {
				if o.dead(me, exclusive, proc) {
					out = append(out, path)
				}
				return fs.SkipDir
			}
			if strings.Count(path, "/")-top >= orphanDepth {
				return fs.SkipDir
			}
			return nil
		})
	}
	return out
}

// holdsSelf reports whether this very process is in dir or below.
func holdsSelf(dir string) bool {
	return slices.ContainsFunc(subtree(dir), func(d string) bool { return slices.Contains(readPids(d), os.Getpid()) })
}

// removeTree kills what is in dir and below and removes it.
func removeTree(ctx context.Context, dir string) error {
	dirs := subtree(dir)
	for {
		var err error
		for i := len(dirs) - 1; i >= 0 && err == nil; i-- {
			err = removeOnce(dirs[i])
		}
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) {
			return err
		}
		if !pause(ctx, 2*time.Millisecond) {
			return fmt.Errorf("cgroup: remove %s: %w", dir, err)
		}
		dirs = subtree(dir)
	}
}

// removeOnce tries to remove one directory; when there are processes in it
// it kills them, and the caller comes again.
func removeOnce(dir string) error {
	err := unix.Rmdir(dir)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	killDir(dir)
	return &os.PathError{Op: "rmdir", Path: dir, Err: err}
}

// killDir kills what is directly in dir, frozen or not.
func killDir(dir string) {
	if writeString(filepath.Join(dir, "cgroup.kill"), "1") == nil {
		return
	}
	killMembers(dir, nil)
	if thaw := filepath.Join(dir, "freezer.state"); exists(thaw) {
		_ = writeString(thaw, "THAWED") // a frozen process does not die on version 1
	}
}

// subtree lists dir and the groups below, parents first.
func subtree(dir string) []string {
	var out []string
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			out = append(out, path)
		}
		return nil
	})
	return out
}

// pause waits for d and reports false when ctx ended first. It paces the
// polling of kernel state that gives no notice of its change.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
