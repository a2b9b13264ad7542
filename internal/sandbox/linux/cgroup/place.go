//go:build linux

package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// findBase looks for the directory of the unified tree that can give firn's
// groups the most controllers: the process's own, or the nearest above it.
// Above is allowed because an ordinary desktop session or a login shell runs
// in a group with other processes, which by the kernel's rule of no internal
// processes can have no child with controllers.
func findBase(t tree, proc string, pid int) base {
	best := base{problem: t.problem}
	for dir := t.own; ; dir = filepath.Dir(dir) {
		b := tryBase(dir, dir == t.own, proc, pid)
		if b.dir != "" && (best.dir == "" || len(b.controllers) > len(best.controllers)) {
			best = b
		}
		if best.dir == "" && best.problem == "" {
			best.problem = b.problem
		}
		if b.dir == "" || len(best.controllers) == len(wanted()) || dir == t.mount || len(dir) <= len(t.mount) {
			// A directory that cannot be written ends the search: moving
			// a process needs the right to write the common ancestor.
			return best
		}
	}
}

// tryBase says what firn could have below dir.
func tryBase(dir string, own bool, proc string, pid int) base {
	if why := unwritable(dir); why != "" {
		return base{problem: why}
	}
	typ, err := readString(filepath.Join(dir, "cgroup.type"))
	isRoot := errors.Is(err, os.ErrNotExist)
	if !isRoot && typ != "domain" {
		return base{problem: fmt.Sprintf("%s is a %q group", dir, typ)}
	}
	b := base{dir: dir}
	have, _ := readString(filepath.Join(dir, "cgroup.controllers"))
	passed, _ := readString(filepath.Join(dir, "cgroup.subtree_control"))
	available := slices.DeleteFunc(strings.Fields(have), func(c string) bool { return !slices.Contains(wanted(), c) })
	already := slices.DeleteFunc(strings.Fields(passed), func(c string) bool { return !slices.Contains(wanted(), c) })
	switch {
	case len(available) == 0:
		b.problem = dir + " has none of the controllers memory, cpu and pids"
	case len(already) == len(available) || isRoot:
		b.controllers = available
	default:
		mine, others := members(dir, proc, pid)
		switch {
		case others > 0:
			b.controllers = already
			b.problem = fmt.Sprintf("%s holds %d other processes, so it cannot pass controllers on", dir, others)
		default:
			b.controllers = available
			b.moveSelf = own && mine > 0
		}
	}
	return b
}

// members counts the processes directly in dir: this one and its
// descendants, and others.
func members(dir, proc string, pid int) (mine, others int) {
	for _, p := range readPids(dir) {
		if descends(proc, p, pid) {
			mine++
		} else {
			others++
		}
	}
	return mine, others
}

// descends reports whether p is ancestor or a process below it.
func descends(proc string, p, ancestor int) bool {
	for range 64 {
		if p == ancestor {
			return true
		}
		if p <= 1 {
			return false
		}
		st, err := readStat(proc, p)
		if err != nil {
			return false
		}
		p = st.parent
	}
	return false
}

// enable passes controllers on from dir to its children. It reports which of
// them were not passed on before.
func enable(dir string, controllers []string) (fresh []string, err error) {
	file := filepath.Join(dir, "cgroup.subtree_control")
	passed, err := readString(file)
	if err != nil {
		return nil, err
	}
	for _, c := range controllers {
		if slices.Contains(strings.Fields(passed), c) {
			continue
		}
		if err := writeString(file, "+"+c); err != nil {
			return fresh, fmt.Errorf("pass controller %s on from %s: %w", c, dir, err)
		}
		fresh = append(fresh, c)
	}
	return fresh, nil
}

// moveMembers moves every process that is directly in from to the group to.
// Processes that end meanwhile are no error.
func moveMembers(from, to string) error {
	for range 16 { // a process may fork while its parent is being moved
		pids := readPids(from)
		if len(pids) == 0 {
			return nil
		}
		for _, p := range pids {
			err := writeString(filepath.Join(to, "cgroup.procs"), strconv.Itoa(p))
			if err != nil && !isGone(err) {
				return fmt.Errorf("move process %d to %s: %w", p, to, err)
			}
		}
	}
	return fmt.Errorf("move processes from %s: new ones keep appearing", from)
}
