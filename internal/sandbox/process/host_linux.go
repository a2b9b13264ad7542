package process

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn"
)

const (
	// tagMark fills the upper 16 bits of every tag: "fi".
	tagMark = 0x6669 << 48
	// tagSeqBits are the lower bits, which number the sandbox; those between
	// say whose it is, by a hash of the backend's directory.
	tagSeqBits = 20
	// clockTick is the unit of the times in /proc: USER_HZ is 100 on every
	// architecture that Go runs on.
	clockTick = 10 * time.Millisecond
	// leftoverLimit bounds the wait for killed leftovers.
	leftoverLimit = 5 * time.Second
)

// tag is the soft RLIMIT_LOCKS that every process of a sandbox inherits.
type tag uint64

// member is a process of a sandbox as /proc shows it.
type member struct {
	pid, parent, group int
	zombie             bool
	inherited          bool // its parent is this process
	resident           int64
	cpu                time.Duration // with that of the children it has waited for
}

// host is what the kernel does for the backend.
type host struct {
	self int
	base tag // tagMark and the directory's hash
	page int64

	untraced bool // tracing is forbidden here; only the spawner's thread uses it
}

// newHost makes this process the reaper of its orphaned descendants, and marks
// the descriptors that it was itself started with as close-on-exec: whoever
// started firn has not meant them for functions. Both are attributes of the
// whole process and stay after the backend.
func newHost(dir string) (*host, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become child subreaper: %w", err)
	}
	// Kernels before 5.11 do not know it; there is no other way that is free
	// of races with descriptors being opened.
	_ = unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(dir)) // a hash does not fail
	return &host{
		self: os.Getpid(),
		base: tagMark | tag(sum.Sum32()>>4)<<tagSeqBits,
		page: int64(os.Getpagesize()),
	}, nil
}

// tracks reports that members finds every process.
func (h *host) tracks() bool { return true }

func (h *host) childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// listen opens the Runtime API of sandbox number seq on an address of its own.
// All of 127.0.0.0/8 is loopback; 127.0.0.x is left to others.
func (h *host) listen(lc *net.ListenConfig, seq uint32) (net.Listener, tag, error) {
	n := 0x7f000100 + seq%(1<<24-0x200)
	addr := net.IPv4(byte(n>>24), byte(n>>16), byte(n>>8), byte(n)).String()
	l, err := listen(lc, net.JoinHostPort(addr, "9001"))
	return l, h.base | tag(seq&(1<<tagSeqBits-1)), err
}

// launch starts a program and holds it at its first instruction, by tracing it,
// until ready has returned: a program that forked before it was tagged could
// leave a process behind that nothing shows to be the sandbox's. Where tracing
// is forbidden (kernel.yama.ptrace_scope 3, some containers) a moment remains
// in which it could; the tree of its parents still shows most of them.
func (h *host) launch(job spawnJob) (*os.Process, error) {
	job.attr.Sys.Ptrace = !h.untraced
	p, err := os.StartProcess(job.path, job.args, job.attr)
	if errors.Is(err, syscall.EPERM) && !h.untraced {
		job.attr.Sys.Ptrace = false
		if p, err = os.StartProcess(job.path, job.args, job.attr); err == nil {
			h.untraced = true
		}
	}
	if err != nil {
		return nil, err
	}
	held := job.attr.Sys.Ptrace && stoppedByTrace(p.Pid)
	job.ready(p.Pid)
	if held {
		_ = syscall.PtraceDetach(p.Pid) // ESRCH: it was killed meanwhile
	}
	return p, nil
}

// stoppedByTrace waits for the stop at the end of exec. It only looks: if the
// process was killed instead, its status is left for whoever waits for it.
func stoppedByTrace(pid int) bool {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT, nil)
		if err == unix.EINTR {
			continue
		}
		const trapped, stopped = 4, 5 // CLD_TRAPPED, CLD_STOPPED of waitid(2)
		return err == nil && (info.Code == trapped || info.Code == stopped)
	}
}

// adopt tags a program just started and gives it Lambda's descriptor limit.
func (h *host) adopt(pid int, t tag) {
	var old unix.Rlimit
	if unix.Prlimit(pid, unix.RLIMIT_LOCKS, nil, &old) != nil {
		return // it has ended
	}
	_ = unix.Prlimit(pid, unix.RLIMIT_LOCKS, &unix.Rlimit{Cur: uint64(t), Max: old.Max}, nil)
	if unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &old) != nil {
		return
	}
	limit := min(firn.MaxOpenFiles, old.Max)
	_ = unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: limit}, nil)
}

// tagOf returns 0 for processes without a tag and those of other users.
func tagOf(pid int) tag {
	var lim unix.Rlimit
	if unix.Prlimit(pid, unix.RLIMIT_LOCKS, nil, &lim) != nil || lim.Cur == unix.RLIM_INFINITY {
		return 0
	}
	return tag(lim.Cur)
}

// members lists the processes that carry t or descend from a started one, and
// how many have vanished while it looked: their children may have been missed.
func (h *host) members(t tag, started func(pid int) bool, thorough bool) (found []member, vanished int) {
	seen := map[int]bool{}
	add := func(pid int) {
		if seen[pid] {
			return
		}
		seen[pid] = true
		if m, ok := h.stat(pid); ok {
			found = append(found, m)
		} else {
			vanished++
		}
	}
	for _, pid := range childrenOf(h.self) {
		if started(pid) || tagOf(pid) == t {
			add(pid)
		}
	}
	if thorough {
		for _, pid := range allPIDs() {
			if pid != h.self && tagOf(pid) == t && !h.buried(pid, t) {
				add(pid)
			}
		}
	}
	for i := 0; i < len(found); i++ { // grows while it is walked
		for _, pid := range childrenOf(found[i].pid) {
			add(pid)
		}
	}
	return found, vanished
}

// buried tells a dead process that belongs to nobody here: one that a killed
// firn has left, with the tag that is in use again, to a parent that does not
// collect it (the first process of a container often does not).
func (h *host) buried(pid int, t tag) bool {
	m, ok := h.stat(pid)
	return ok && m.zombie && !m.inherited && tagOf(m.parent) != t
}

// childrenOf reads the children of every thread of pid.
func childrenOf(pid int) (children []int) {
	root := "/proc/" + strconv.Itoa(pid) + "/task/"
	threads, err := os.ReadDir(root)
	if err != nil {
		return nil // it has ended
	}
	for _, thread := range threads {
		list, err := os.ReadFile(root + thread.Name() + "/children")
		if err != nil {
			continue
		}
		for field := range bytes.FieldsSeq(list) {
			if child, err := strconv.Atoi(string(field)); err == nil {
				children = append(children, child)
			}
		}
	}
	return children
}

func allPIDs() (pids []int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// stat reads /proc/PID/stat (proc_pid_stat(5)); the name in parentheses may
// hold anything, so fields are counted from the last parenthesis.
func (h *host) stat(pid int) (member, bool) {
	line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return member{}, false
	}
	f := bytes.Fields(line[bytes.LastIndexByte(line, ')')+1:])
	if len(f) < 22 {
		return member{}, false
	}
	number := func(i int) int64 {
		n, _ := strconv.ParseInt(string(f[i]), 10, 64)
		return n
	}
	m := member{
		pid:      pid,
		zombie:   f[0][0] == 'Z' || f[0][0] == 'X',
		parent:   int(number(1)),
		group:    int(number(2)),
		resident: number(21) * h.page,
		cpu:      time.Duration(number(11)+number(12)+number(13)+number(14)) * clockTick,
	}
	m.inherited = m.parent == h.self
	return m, true
}

// reap collects an ended orphan without waiting.
func (h *host) reap(pid int) (used time.Duration, ok bool) {
	var usage syscall.Rusage
	got, err := syscall.Wait4(pid, nil, syscall.WNOHANG, &usage)
	if err != nil || got != pid {
		return 0, false
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), true
}

// proportional sums the memory of the members with every shared page divided
// among its users. One that cannot be read counts with its resident size.
func (h *host) proportional(members []member) (sum int64) {
	for _, m := range members {
		if kb, ok := procField(m.pid, "smaps_rollup", "Pss:"); ok {
			sum += kb << 10
		} else {
			sum += m.resident
		}
	}
	return sum
}

// highest is the high-water mark of m's resident size.
func (h *host) highest(m member) int64 {
	if kb, ok := procField(m.pid, "status", "VmHWM:"); ok {
		return kb << 10
	}
	return m.resident
}

// resetHighest sets the mark to the present size (clear_refs, proc_pid_clear_refs(5)).
func (h *host) resetHighest(pid int) {
	_ = os.WriteFile("/proc/"+strconv.Itoa(pid)+"/clear_refs", []byte("5"), 0)
}

// procField returns the number after name in /proc/PID/file.
func procField(pid int, file, name string) (int64, bool) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/" + file)
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(data) {
		rest, ok := bytes.CutPrefix(line, []byte(name))
		if !ok {
			continue
		}
		fields := bytes.Fields(rest)
		if len(fields) == 0 {
			return 0, false
		}
		n, err := strconv.ParseInt(string(fields[0]), 10, 64)
		return n, err == nil
	}
	return 0, false
}

// killLeftovers ends the processes that carry the tags of this directory and
// returns their number. The directory has one owner at a time, so they belong
// to a backend that was killed.
func (h *host) killLeftovers() int {
	killed := map[int]bool{}
	for end := time.Now().Add(leftoverLimit); time.Now().Before(end); {
		left := 0
		for _, pid := range allPIDs() {
			if pid != h.self && tagOf(pid)>>tagSeqBits == h.base>>tagSeqBits && h.killLeftover(pid) {
				killed[pid] = true
				left++
			}
		}
		if left == 0 {
			break
		}
		<-time.After(killPause)
	}
	return len(killed)
}

// killLeftover kills through a pidfd, so that a number given to another
// process meanwhile is not hit, and reports whether pid was still running.
func (h *host) killLeftover(pid int) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	m, ok := h.stat(pid)
	if !ok || m.zombie || tagOf(pid)>>tagSeqBits != h.base>>tagSeqBits {
		return false
	}
	return unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) == nil
}
