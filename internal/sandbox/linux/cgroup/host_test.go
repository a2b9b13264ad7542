//go:build linux

package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fakeFS writes files (path -> content) below a new root; a path that ends in
// "/" is a directory.
func fakeFS(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		p := filepath.Join(root, name)
		dir := filepath.Dir(p)
		if strings.HasSuffix(name, "/") {
			dir = p
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if dir == p {
			continue
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// v2Group adds the files of a version 2 group to files.
func v2Group(files map[string]string, dir, controllers, passed string, pids ...int) {
	files[dir+"/cgroup.type"] = "domain\n"
	files[dir+"/cgroup.freeze"] = "0\n"
	files[dir+"/cgroup.kill"] = ""
	files[dir+"/cpu.stat"] = "usage_usec 5\n"
	files[dir+"/cgroup.controllers"] = controllers + "\n"
	files[dir+"/cgroup.subtree_control"] = passed + "\n"
	files[dir+"/cgroup.procs"] = lines(pids)
	if strings.Contains(controllers, "memory") {
		files[dir+"/memory.peak"] = "0\n"
	}
}

func lines(pids []int) string {
	var b strings.Builder
	for _, p := range pids {
		fmt.Fprintln(&b, p)
	}
	return b.String()
}

const (
	mountV2     = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
	mountHybrid = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
38 31 0:34 / /sys/fs/cgroup/net rw,relatime - cgroup cgroup rw,net_cls
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
`
)

func TestDetect(t *testing.T) {
	me, ppid := os.Getpid(), os.Getppid()
	full := Can{Memory: true, CPU: true, Pids: true, Freeze: true, CloneInto: true, KillAll: true, CPUTime: true, ExactPeak: true}
	for _, tt := range []struct {
		name     string
		mounts   string
		places   string
		tree     func(f map[string]string)
		mode     Mode
		can      Can
		base     string // in /sys/fs/cgroup
		moveSelf bool
		problem  string
	}{
		{
			name: "none", mounts: "22 1 8:1 / / rw - ext4 /dev/root rw\n", places: "", mode: ModeNone,
			tree: func(map[string]string) {}, problem: "no control group",
		},
		{
			name: "v2 service of its own", mounts: mountV2, places: "0::/system.slice/firn.service\n", mode: ModeV2, can: full,
			tree: func(f map[string]string) {
				v2Group(f, "sys/fs/cgroup/system.slice/firn.service", "cpuset cpu memory pids", "", me)
			},
			base: "system.slice/firn.service", moveSelf: true,
		},
		{
			name: "v2 login shell as root", mounts: mountV2, places: "0::/user.slice/session-1.scope\n", mode: ModeV2, can: full,
			tree: func(f map[string]string) {
				v2Group(f, "sys/fs/cgroup/user.slice/session-1.scope", "cpu memory pids", "", me, ppid)
				v2Group(f, "sys/fs/cgroup/user.slice", "cpu memory pids", "cpu memory pids")
			},
			base: "user.slice",
		},
		{
			name: "v2 nothing delegated", mounts: mountV2, places: "0::/user.slice/session-1.scope\n", mode: ModeV2,
			tree: func(f map[string]string) {
				f["sys/fs/cgroup/user.slice/session-1.scope/cgroup.controllers"] = "memory\n"
			},
			problem: "not writable",
		},
		{
			name: "v2 desktop terminal, processor not passed on", mounts: mountV2, places: "0::/u/app.slice/term.scope\n", mode: ModeV2,
			tree: func(f map[string]string) {
				v2Group(f, "sys/fs/cgroup/u/app.slice/term.scope", "memory pids", "", me, ppid)
				v2Group(f, "sys/fs/cgroup/u/app.slice", "memory pids", "memory pids")
				f["sys/fs/cgroup/u/cgroup.controllers"] = "cpu memory pids\n" // root's
			},
			can:  Can{Memory: true, Pids: true, Freeze: true, CloneInto: true, KillAll: true, CPUTime: true, ExactPeak: true},
			base: "u/app.slice",
		},
		{
			name: "v2 real root", mounts: mountV2, places: "0::/\n", mode: ModeV2,
			tree: func(f map[string]string) {
				v2Group(f, "sys/fs/cgroup", "cpu memory pids", "", me, ppid)
				delete(f, "sys/fs/cgroup/cgroup.type")
				delete(f, "sys/fs/cgroup/memory.peak")
			},
			can:  Can{Memory: true, CPU: true, Pids: true, Freeze: true, CloneInto: true, KillAll: true, CPUTime: true},
			base: ".",
		},
		{
			name: "v2 shared group and nothing above", mounts: mountV2, places: "0::/shared\n", mode: ModeV2,
			tree: func(f map[string]string) {
				v2Group(f, "sys/fs/cgroup/shared", "cpu memory pids", "", me, ppid)
			},
			can:  Can{Freeze: true, CloneInto: true, KillAll: true, CPUTime: true},
			base: "shared", problem: "1 other processes",
		},
		{
			name: "v2 threaded", mounts: mountV2, places: "0::/thr\n", mode: ModeV2,
			tree: func(f map[string]string) {
				v2Group(f, "sys/fs/cgroup/thr", "cpu pids", "", me)
				f["sys/fs/cgroup/thr/cgroup.type"] = "threaded\n"
			},
			problem: `"threaded" group`,
		},
		{
			name: "hybrid in a group", mounts: mountHybrid, mode: ModeHybrid, can: full,
			places: "8:pids:/\n6:freezer:/\n4:memory:/jobs/a:b\n1:cpu,cpuacct:/\n9:name=systemd:/\n0::/\n",
			tree: func(f map[string]string) {
				for _, d := range []string{"cpu,cpuacct", "memory/jobs/a:b", "freezer", "pids", "unified"} {
					f["sys/fs/cgroup/"+d+"/cgroup.procs"] = ""
				}
				f["sys/fs/cgroup/unified/cgroup.controllers"] = "hugetlb\n"
				f["sys/fs/cgroup/unified/cpu.stat"] = "usage_usec 1\n"
			},
			base: "unified",
		},
		{
			name: "v1 in a container without a namespace", mode: ModeV1, places: "4:memory:/docker/abc\n3:cpu:/elsewhere\n",
			mounts: "35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n36 31 0:33 /docker/abc /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n",
			tree: func(f map[string]string) {
				f["sys/fs/cgroup/memory/cgroup.procs"] = ""
				f["sys/fs/cgroup/cpu/"] = ""
			},
			can: Can{Memory: true, ExactPeak: true}, problem: "cpu",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := map[string]string{"proc/self/mountinfo": tt.mounts, "proc/self/cgroup": tt.places}
			for _, p := range []int{me, ppid} {
				files[fmt.Sprintf("proc/%d/stat", p)] = fmt.Sprintf("%d (a) b) S 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 0", p)
			}
			tt.tree(files)
			root := fakeFS(t, files)
			h, err := detect(root)
			if err != nil {
				t.Fatal(err)
			}
			if h.Mode != tt.mode {
				t.Errorf("mode %s, want %s", h.Mode, tt.mode)
			}
			if diff := cmp.Diff(tt.can, h.Can); diff != "" {
				t.Errorf("can (-want +got):\n%s", diff)
			}
			want := ""
			if tt.base != "" {
				want = filepath.Join(root, "sys/fs/cgroup", tt.base)
			}
			if h.base.dir != want || h.base.moveSelf != tt.moveSelf {
				t.Errorf("base %q move %v, want %q move %v", h.base.dir, h.base.moveSelf, want, tt.moveSelf)
			}
			if got := h.Problem(); (tt.problem == "") != (got == "") || !strings.Contains(got, tt.problem) {
				t.Errorf("problem %q, want %q", got, tt.problem)
			}
			checkFeatures(t, &h)
		})
	}
}

// checkFeatures: what is missing has advice, what is there has none.
func checkFeatures(t *testing.T, h *Host) {
	t.Helper()
	names := map[string]bool{}
	for _, f := range h.Features() {
		if f.OK != (f.Fix == "") || !f.OK && f.Detail == "" || names[f.Name] {
			t.Errorf("feature %+v", f)
		}
		names[f.Name] = true
	}
}

func TestHybridPlaces(t *testing.T) {
	files := map[string]string{"proc/self/mountinfo": mountHybrid, "proc/self/cgroup": "4:memory:/jobs/a\n1:cpu,cpuacct:/\n0::/\n"}
	root := fakeFS(t, files)
	h, err := detect(root)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, tr := range h.trees {
		rel, _ := filepath.Rel(root, tr.own)
		got = append(got, strings.Join(tr.controllers, "+")+" "+rel)
	}
	slices.Sort(got)
	want := []string{"cpu+cpuacct sys/fs/cgroup/cpu,cpuacct", "freezer sys/fs/cgroup/freezer", "memory sys/fs/cgroup/memory/jobs/a", "pids sys/fs/cgroup/pids"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("trees (-want +got):\n%s", diff)
	}
}

func TestNoCgroupIsUnavailable(t *testing.T) {
	root := fakeFS(t, map[string]string{"proc/self/mountinfo": "", "proc/self/cgroup": ""})
	h, err := detect(root)
	if err != nil {
		t.Fatal(err)
	}
	h.proc = "/proc"
	if _, err := NewManager(Config{Host: &h}); err == nil || !strings.Contains(err.Error(), ErrUnavailable.Error()) {
		t.Errorf("NewManager: %v", err)
	}
	if _, err := NewManager(Config{Name: "a/b", Host: &h}); err == nil {
		t.Error("a name with a slash was accepted")
	}
	if _, err := detect(t.TempDir()); err == nil {
		t.Error("no error without /proc")
	}
}

func TestParseMount(t *testing.T) {
	for _, tt := range []struct {
		line string
		want mountEntry
		ok   bool
	}{
		{mountV2, mountEntry{v2: true, root: "/", point: "/sys/fs/cgroup"}, true},
		{`1 2 0:3 /a\040b /mnt/c\134d rw - cgroup x rw,memory`, mountEntry{root: "/a b", point: `/mnt/c\d`, options: []string{"rw", "memory"}}, true},
		{"1 2 0:3 / /proc rw - proc proc rw", mountEntry{}, false},
		{"1 2 0:3 / /x rw cgroup2", mountEntry{}, false},
		{"", mountEntry{}, false},
	} {
		got, ok := parseMount(strings.TrimSpace(tt.line))
		if ok != tt.ok || ok && cmp.Diff(tt.want, got, cmp.AllowUnexported(mountEntry{})) != "" {
			t.Errorf("%q: %+v %v", tt.line, got, ok)
		}
	}
}

func TestOwner(t *testing.T) {
	root := fakeFS(t, map[string]string{
		"10/stat": "10 (firn) S 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 500 0",
	})
	me := owner{name: "main", pidns: 4026531836, pid: 77, start: 900}
	for _, tt := range []struct {
		name      string
		o         owner
		exclusive bool
		dead      bool
	}{
		{"alive", owner{"main", me.pidns, 10, 500}, false, false},
		{"number in use again", owner{"main", me.pidns, 10, 499}, false, true},
		{"gone", owner{"other", me.pidns, 11, 1}, false, true},
		{"of another PID namespace", owner{"main", 5, 11, 1}, false, false},
		{"of another PID namespace, but the name is ours", owner{"main", 5, 11, 1}, true, true},
		{"another name in another PID namespace", owner{"other", 5, 11, 1}, true, false},
		{"self", me, true, false},
	} {
		if got := tt.o.dead(me, tt.exclusive, root); got != tt.dead {
			t.Errorf("%s: dead %v", tt.name, got)
		}
		back, ok := parseOwner(tt.o.dir(3))
		if !ok || back != tt.o {
			t.Errorf("%s: %+v came back as %+v, %v", tt.name, tt.o, back, ok)
		}
	}
	unknown := me
	unknown.pidns = 0
	if (owner{"main", 0, 11, 1}).dead(unknown, false, root) {
		t.Error("judged without knowing the PID namespace")
	}
	for _, name := range []string{"firn-", "firn-main", "firn-main-1-2-3", "firn-main-1-2-3-4-5", "firn-main-1-x-3-4", "firn--1-2-3-4", "firn-m-1-0-3-4", "x-main-1-2-3-4", "firn-m-1--2-3-4"} {
		if o, ok := parseOwner(name); ok {
			t.Errorf("%q was taken for ours: %+v", name, o)
		}
	}
}

func TestFindOrphansStaysAway(t *testing.T) {
	me := owner{name: "main", pidns: 1, pid: 77, start: 900}
	gone := owner{name: "main", pidns: 1, pid: 99, start: 1}
	root := fakeFS(t, map[string]string{
		"tree/slice/" + gone.dir(0) + "/e-1/": "",
		"tree/" + me.dir(0) + "/":             "",
		"tree/firn-of-somebody/":              "",
		"tree/docker/abc/":                    "",
		"proc/":                               "",
	})
	got := findOrphans([]string{filepath.Join(root, "tree")}, me, false, filepath.Join(root, "proc"))
	if want := []string{filepath.Join(root, "tree/slice", gone.dir(0))}; cmp.Diff(want, got) != "" {
		t.Errorf("orphans %v, want %v", got, want)
	}
}

func FuzzDecoders(f *testing.F) {
	for _, s := range []string{mountHybrid, "4:memory:/a:b\n0::/\n", "1 (a) b) S 2 1 1 0 -1 1 1 0 0 0 0 0 0 0 20 0 1 0 500 0",
		"firn-main-1-2-3-4", "anon 1\nshmem 2\nkernel 7\n", "low 0\noom_kill 3\n", "max\n", `\777\04`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for line := range strings.Lines(s) {
			_, _ = parseMount(line)
		}
		_ = parsePlaces(s)
		_, _ = parseStat(s)
		if o, ok := parseOwner(s); ok {
			if back, ok := parseOwner(o.dir(0)); !ok || back != o {
				t.Errorf("%q: %+v came back as %+v", s, o, back)
			}
		}
		_ = parseMemoryStat([]byte(s), true)
		_, _ = keyed([]byte(s), "oom_kill")
		_, _ = parseNumber([]byte(s))
		_ = inotifyWatches([]byte(s))
		_ = unescape(s)
	})
}
