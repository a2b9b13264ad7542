//go:build linux

package cgroup

import (
	"slices"
	"strings"

	"github.com/firn-run/firn/internal/sandbox"
)

// Problem says in one line why the host offers less than everything, or "".
func (h *Host) Problem() string {
	if h.Mode == ModeNone {
		return "no control group file system is mounted"
	}
	var why []string
	if h.unified != nil && h.base.problem != "" && h.Mode == ModeV2 {
		why = append(why, h.base.problem)
	}
	for _, t := range h.trees {
		if t.problem != "" {
			why = append(why, t.problem)
		}
	}
	return strings.Join(why, "; ")
}

// Features reports to `firn doctor` what control groups give here.
func (h *Host) Features() []sandbox.Feature {
	out := []sandbox.Feature{{Name: "control groups", OK: h.Mode != ModeNone, Detail: h.describe(), Fix: mountFix}}
	for _, f := range []struct {
		ok   bool
		name string
		lack string // what is done instead
	}{
		{h.Can.Memory, "memory limits", "functions are not held to their memory size by the kernel"},
		{h.Can.CPU, "processor limits", "functions run at full speed"},
		{h.Can.Pids, "process limits", "only the user's own limit bounds the number of processes"},
		{h.Can.Freeze, "cgroup freezer", "idle functions are stopped with SIGSTOP, which a process can evade"},
		{h.Can.CloneInto, "start inside a cgroup", "each sandbox takes 10 ms longer to prepare"},
		{h.Can.ExactPeak, "exact memory peak", "the peak is sampled every 10 to 50 ms"},
	} {
		feature := sandbox.Feature{Name: f.name, OK: f.ok}
		if !f.ok {
			feature.Detail = f.lack
			if why := h.Problem(); why != "" {
				feature.Detail += ": " + why
			}
			feature.Fix = h.fix(f.name)
		}
		out = append(out, feature)
	}
	if out[0].OK {
		out[0].Fix = ""
	}
	return out
}

const mountFix = "mount it: mount -t cgroup2 none /sys/fs/cgroup"

// describe is a line on the mode and the places used.
func (h *Host) describe() string {
	s := string(h.Mode)
	var at []string
	if h.base.dir != "" {
		at = append(at, "cgroup2 at "+h.base.dir+" with "+orNone(h.base.controllers))
	}
	for _, t := range h.trees {
		if t.problem == "" && slices.ContainsFunc(t.controllers, func(c string) bool { return slices.Contains(wanted(), c) }) {
			at = append(at, strings.Join(t.controllers, ",")+" at "+t.own)
		}
	}
	if len(at) == 0 {
		return s
	}
	return s + ": " + strings.Join(at, "; ")
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "no controllers"
	}
	return strings.Join(list, ", ")
}

// fix is the advice for a missing feature.
func (h *Host) fix(feature string) string {
	switch {
	case h.Mode == ModeNone:
		return mountFix
	case feature == "exact memory peak" && h.Can.Memory:
		return "needs Linux 6.12 or later"
	case !h.Root:
		return "run firn with a delegated control group: systemd-run --user --scope -p Delegate=yes firn up, or a service with Delegate=yes"
	case h.base.dir != "" && h.Mode == ModeV2:
		return "start firn in a group of its own: systemd-run --scope -p Delegate=yes firn up, or a service with Delegate=yes"
	case h.base.dir == "" && strings.Contains(h.Problem(), "read-only"):
		return "the control group file system is mounted read-only; in a container run it with --privileged, or with a writable /sys/fs/cgroup"
	}
	return "the kernel needs the controllers memory, cpu and pids, and a cgroup2 mount"
}
