//go:build linux

package cgroup

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Host is what [Detect] found: the trees that are mounted and where this
// process stands in each. It is a snapshot; nothing is changed by making it.
type Host struct {
	Mode Mode
	// Root is set when the process runs as user 0 of its user namespace.
	Root bool
	// Can is what a Manager should be able to do here. NewManager proves it.
	Can Can

	trees   []tree // version 1, each with at least one controller of ours
	unified *tree  // the cgroup2 mount, or nil
	base    base   // where in unified firn's directory would go
	proc    string // the proc file system
}

// tree is one mounted hierarchy.
type tree struct {
	controllers []string // of version 1; empty for the unified tree
	mount       string   // mount point
	own         string   // directory of this process, below mount
	problem     string   // why it cannot be used, or ""
}

// base is a directory of the unified tree below which firn may make its own.
type base struct {
	dir         string
	controllers []string // those that firn's directory can have
	moveSelf    bool     // this process has to leave dir for that
	problem     string   // why dir is "", or why controllers lacks some
}

// wanted are the controllers this package uses.
func wanted() []string { return []string{"memory", "cpu", "pids"} }

// Detect looks at the mounted hierarchies and at this process's place in
// them. An error means that /proc could not be read or understood; a host
// without control groups is Mode ModeNone and no error.
func Detect() (Host, error) { return detect("/") }

// detect is Detect for the file system below root, which tests make up.
func detect(root string) (Host, error) {
	h := Host{Mode: ModeNone, Root: os.Geteuid() == 0, proc: filepath.Join(root, "proc")}
	mounts, err := readMounts(filepath.Join(h.proc, "self/mountinfo"))
	if err != nil {
		return h, err
	}
	places, err := readPlaces(filepath.Join(h.proc, "self/cgroup"))
	if err != nil {
		return h, err
	}
	all := append(wanted(), "freezer", "cpuacct")
	for _, m := range mounts {
		if m.v2 {
			if h.unified == nil {
				t := m.tree(root, places[""])
				h.unified = &t
			}
			continue
		}
		ours := slices.DeleteFunc(slices.Clone(m.options), func(o string) bool { return !slices.Contains(all, o) })
		if len(ours) == 0 || slices.ContainsFunc(h.trees, func(t tree) bool { return slices.Equal(t.controllers, ours) }) {
			continue
		}
		t := m.tree(root, places[ours[0]])
		t.controllers = ours
		h.trees = append(h.trees, t)
	}
	h.setMode()
	if h.unified != nil {
		h.base = findBase(*h.unified, h.proc, os.Getpid())
	}
	h.estimate()
	return h, nil
}

func (h *Host) setMode() {
	switch {
	case h.unified != nil && len(h.trees) > 0:
		h.Mode = ModeHybrid
	case h.unified != nil:
		h.Mode = ModeV2
	case len(h.trees) > 0:
		h.Mode = ModeV1
	}
}

// v1 returns the version 1 tree with a controller that can be used, or nil.
func (h *Host) v1(controller string) *tree {
	for i, t := range h.trees {
		if slices.Contains(t.controllers, controller) && t.problem == "" {
			return &h.trees[i]
		}
	}
	return nil
}

func (h *Host) has(controller string) bool {
	return slices.Contains(h.base.controllers, controller) || h.v1(controller) != nil
}

// estimate fills in Can from what is visible without making a directory.
func (h *Host) estimate() {
	h.Can = Can{Memory: h.has("memory"), CPU: h.has("cpu"), Pids: h.has("pids")}
	if h.base.dir != "" {
		h.Can.CloneInto = true
		// The root of the tree has neither file; kernels that have
		// cgroup.kill (5.14) have cgroup.freeze (5.2) as well.
		atRoot := !exists(filepath.Join(h.base.dir, "cgroup.type"))
		h.Can.Freeze = atRoot || exists(filepath.Join(h.base.dir, "cgroup.freeze"))
		h.Can.KillAll = atRoot || exists(filepath.Join(h.base.dir, "cgroup.kill"))
		h.Can.CPUTime = exists(filepath.Join(h.base.dir, "cpu.stat"))
	}
	h.Can.Freeze = h.Can.Freeze || h.v1("freezer") != nil
	h.Can.CPUTime = h.Can.CPUTime || h.v1("cpuacct") != nil
	if slices.Contains(h.base.controllers, "memory") {
		fi, err := os.Stat(filepath.Join(h.base.dir, "memory.peak"))
		h.Can.ExactPeak = err == nil && fi.Mode().Perm()&0o200 != 0 // writable since 6.12
	} else {
		h.Can.ExactPeak = h.v1("memory") != nil
	}
}

// mountEntry is one line of mountinfo.
type mountEntry struct {
	v2      bool
	root    string // of the mount within the hierarchy
	point   string
	options []string // super block options: the controllers on version 1
}

// tree places a process, whose path in the hierarchy is given, in the mount.
func (m mountEntry) tree(root, place string) tree {
	t := tree{mount: filepath.Join(root, m.point)}
	rel, ok := below(m.root, place)
	if !ok {
		// The mount shows another part of the hierarchy than the one the
		// process is in (a container's mount without a cgroup namespace
		// of its own is the usual case): its top is what was given to us.
		rel = ""
	}
	t.own = filepath.Join(t.mount, rel)
	t.problem = unwritable(t.own)
	return t
}

// below strips the mount's root from a path in the hierarchy.
func below(root, path string) (string, bool) {
	if path == "" || strings.Contains(path, "..") || strings.Contains(root, "..") {
		return "", false
	}
	if root == "/" {
		return path, true
	}
	if path == root {
		return "", true
	}
	return strings.CutPrefix(path, root+"/")
}

// unwritable says why no directory can be made in dir, or "".
func unwritable(dir string) string {
	for _, p := range []string{dir, filepath.Join(dir, "cgroup.procs")} {
		if err := unix.Access(p, unix.W_OK); err != nil {
			return fmt.Sprintf("%s is not writable: %v", p, err)
		}
	}
	return ""
}

func readMounts(path string) ([]mountEntry, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cgroup: read mounts: %w", err)
	}
	defer f.Close()
	var out []mountEntry
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		if m, ok := parseMount(sc.Text()); ok {
			out = append(out, m)
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("cgroup: read mounts: %w", err)
	}
	return out, nil
}

// parseMount reads one line of mountinfo (proc(5)); ok is false for lines
// that are no control group mount.
func parseMount(line string) (m mountEntry, ok bool) {
	front, back, found := strings.Cut(line, " - ")
	fields, tail := strings.Fields(front), strings.Fields(back)
	if !found || len(fields) < 6 || len(tail) < 3 {
		return m, false
	}
	switch tail[0] {
	case "cgroup2":
		m.v2 = true
	case "cgroup":
		m.options = strings.Split(tail[2], ",")
	default:
		return m, false
	}
	m.root, m.point = unescape(fields[3]), unescape(fields[4])
	return m, true
}

// unescape undoes mountinfo's octal escapes of blanks and backslashes.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// readPlaces reads /proc/self/cgroup into controller -> path; the unified
// tree has the key "".
func readPlaces(path string) (map[string]string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cgroup: read own groups: %w", err)
	}
	return parsePlaces(string(b)), nil
}

func parsePlaces(s string) map[string]string {
	places := map[string]string{}
	for line := range strings.Lines(s) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for c := range strings.SplitSeq(parts[1], ",") {
			places[c] = parts[2]
		}
	}
	return places
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
