//go:build linux

package cgroup

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/firn-run/firn/internal/sandbox"
)

// watcher holds the memory of all groups of a Manager under observation, with
// two goroutines however many groups there are: listen takes what the kernel
// tells, look samples the groups that need it and acts.
type watcher struct {
	m       *Manager
	epoll   int
	inotify int // -1 without version 2 memory
	stop    int // eventfd that ends listen
	wake    chan struct{}
	done    chan struct{}
	wg      sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	nextKey int32
	byKey   map[int32]*entry
	byWatch map[int32]*entry // inotify watch -> entry
	active  map[*entry]struct{}
	planned time.Time // when look comes to active by itself; zero: never
}

// entry is the observation of one group with one set of limits.
type entry struct {
	g     *Group
	watch watch // used by look only
	// asleep is set when the group left active only because it is frozen.
	asleep atomic.Bool
	gone   atomic.Bool
	// oomTold is set when the kernel reported an OOM, or on version 2 any
	// memory event.
	oomTold atomic.Bool

	// Guarded by watcher.mu.
	next time.Time
	told reports

	// The rest is used by look only.

	asked bool // ask was called
	// sampled is set when the kernel does not report the crossing of the
	// limit, so that the group has to be looked at while it runs; deaf when
	// it does not report OOMs.
	sampled, deaf bool

	kills int64     // by the kernel, as last seen
	fired time.Time // the last event
	dying []int     // members killed that were still there
}

// reports is what the kernel was asked to tell of a group.
type reports struct {
	key   int32 // in byKey; 0 is none
	fds   []int // eventfds, version 1
	watch int32 // inotify watch, version 2; 0 is none
}

func (r *reports) close() {
	for _, fd := range r.fds {
		_ = unix.Close(fd) // which also takes it out of the epoll set
	}
	*r = reports{}
}

// Kinds of eventfd, in the padding of the epoll event.
const (
	tellUsage = iota
	tellOOM
	tellInotify
	tellStop
)

func newWatcher(m *Manager) (*watcher, error) {
	w := &watcher{m: m, epoll: -1, inotify: -1, stop: -1, wake: make(chan struct{}, 1), done: make(chan struct{}),
		byKey: map[int32]*entry{}, byWatch: map[int32]*entry{}, active: map[*entry]struct{}{}}
	var err error
	if w.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("cgroup: epoll: %w", err)
	}
	if w.stop, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err == nil {
		err = w.add(w.stop, 0, tellStop)
	}
	if err == nil && m.lay.memory.v2 {
		if w.inotify, err = unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); err == nil {
			err = w.add(w.inotify, 0, tellInotify)
		}
	}
	if err != nil {
		w.closeFiles()
		return nil, fmt.Errorf("cgroup: watch: %w", err)
	}
	w.wg.Go(w.listen)
	w.wg.Go(w.look)
	return w, nil
}

func (w *watcher) add(fd int, key, kind int32) error {
	return unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: key, Pad: kind})
}

func (w *watcher) closeFiles() {
	for _, fd := range []int{w.epoll, w.inotify, w.stop} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// close ends both goroutines and waits for them. Idempotent.
func (w *watcher) close() {
	w.mu.Lock()
	was := w.closed
	w.closed = true
	w.mu.Unlock()
	if was {
		return
	}
	close(w.done)
	_, _ = unix.Write(w.stop, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	w.wg.Wait()
	w.closeFiles()
}

// armDelay is the time from SetLimits to the first look, in which the kernel's
// reports are asked for: it takes as long as setting the limits does, and need
// not be on the path of a cold start.
const armDelay = 5 * time.Millisecond

// arm begins the observation of g; limit 0 means none. The caller holds g.mu.
func (w *watcher) arm(g *Group, limit, hard int64) *entry {
	if limit <= 0 {
		return nil
	}
	e := &entry{g: g, watch: watch{limit: limit, hard: hard}, sampled: true, deaf: true}
	if g.watched.Load() != nil {
		e.kills, _ = g.kernelKills()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.activateLocked(e, time.Now().Add(armDelay))
	}
	return e
}

// disarm ends the observation.
func (w *watcher) disarm(e *entry) {
	if e == nil {
		return
	}
	e.gone.Store(true)
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.active, e)
	if e.told.key != 0 {
		delete(w.byKey, e.told.key)
	}
	if wd := e.told.watch; wd != 0 && w.byWatch[wd] == e {
		delete(w.byWatch, wd)
		if !w.closed {
			_, _ = unix.InotifyRmWatch(w.inotify, uint32(wd))
		}
	}
	e.told.close()
}

// resume has a group looked at again that was left alone while frozen. It is
// on the path of every invocation and does nothing as a rule.
func (w *watcher) resume(e *entry) {
	if e == nil || !e.asleep.Load() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	e.asleep.Store(false)
	if !e.gone.Load() {
		w.activateLocked(e, time.Now().Add(minAbove))
	}
}

// activateLocked has e looked at no later than at.
func (w *watcher) activateLocked(e *entry, at time.Time) {
	if _, ok := w.active[e]; !ok || at.Before(e.next) {
		e.next = at
	}
	w.active[e] = struct{}{}
	if w.planned.IsZero() || e.next.Before(w.planned) {
		w.planned = e.next
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// listen waits for the kernel's reports and passes them on to look.
func (w *watcher) listen() {
	events := make([]unix.EpollEvent, 64)
	for {
		n, err := unix.EpollWait(w.epoll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			w.m.log.Error("memory events are lost", "error", err)
			return
		}
		for _, ev := range events[:max(n, 0)] {
			switch ev.Pad {
			case tellStop:
				return
			case tellInotify:
				w.drainInotify()
			default:
				w.told(ev.Fd, ev.Pad == tellOOM)
			}
		}
	}
}

func (w *watcher) told(key int32, oom bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.byKey[key]
	if e == nil {
		return
	}
	if oom {
		e.oomTold.Store(true)
	}
	w.activateLocked(e, time.Now())
}

func (w *watcher) drainInotify() {
	var buf [4096]byte
	for {
		n, err := unix.Read(w.inotify, buf[:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n < unix.SizeofInotifyEvent {
			return
		}
		w.mu.Lock()
		for _, wd := range inotifyWatches(buf[:n]) {
			if e := w.byWatch[wd]; e != nil {
				e.oomTold.Store(true)
				w.activateLocked(e, time.Now())
			}
		}
		w.mu.Unlock()
	}
}

// look samples the active groups when each is due.
func (w *watcher) look() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		for _, e := range w.due(time.Now()) {
			next, again := w.lookAt(e)
			w.mu.Lock()
			// Something may have asked for an earlier look meanwhile.
			if _, ok := w.active[e]; again && !ok && !e.gone.Load() {
				w.active[e], e.next = struct{}{}, time.Now().Add(next)
			}
			w.mu.Unlock()
		}
		timer.Reset(w.plan())
		select {
		case <-w.done:
			return
		case <-w.wake:
		case <-timer.C:
		}
	}
}

// due takes the entries whose time has come out of active.
func (w *watcher) due(now time.Time) []*entry {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []*entry
	for e := range w.active {
		if !e.next.After(now) {
			out = append(out, e)
			delete(w.active, e)
		}
	}
	return out
}

// plan returns the time until the next look.
func (w *watcher) plan() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.planned = time.Time{}
	for e := range w.active {
		if w.planned.IsZero() || e.next.Before(w.planned) {
			w.planned = e.next
		}
	}
	if w.planned.IsZero() {
		return time.Hour
	}
	return time.Until(w.planned)
}

// lookAt looks at one group, acts, and says when to look again, if at all
// before the kernel tells something.
func (w *watcher) lookAt(e *entry) (next time.Duration, again bool) {
	if e.gone.Load() {
		return 0, false
	}
	if e.g.frozen.Load() {
		e.asleep.Store(true)
		if e.g.frozen.Load() { // else a thaw came in between and missed it
			return 0, false
		}
		e.asleep.Store(false)
	}
	if !e.asked {
		e.asked = true
		w.ask(e)
	}
	if w.kernelKilled(e) {
		w.outOfMemory(e, CauseKernel, 0)
		return minAbove, true
	}
	f := &e.g.files.memory
	usage, err := readNumber(f.current)
	if err != nil {
		return 0, false // destroyed meanwhile
	}
	e.g.peak.see(usage)
	if usage < e.watch.limit {
		e.watch.calm()
		return e.watch.quiet(usage), e.sampled || e.watch.near(usage)
	}
	usage, st, err := e.g.readMemory()
	if err != nil {
		return 0, false
	}
	if !f.v2 {
		st.kernel = f.kernelMemory()
	}
	s := sample{at: time.Now(), usage: usage, stat: st}
	cause, next := e.watch.observe(s)
	if cause != "" {
		w.outOfMemory(e, cause, e.watch.functionMemory(s))
	}
	return next, true
}

// kernelKilled reports whether the kernel's OOM killer acted since the last
// look. Version 1 tells of an OOM alone, and before it kills; version 2 tells
// of several things, and after.
func (w *watcher) kernelKilled(e *entry) bool {
	told := e.oomTold.Swap(false)
	if !told && !e.deaf {
		return false
	}
	n, err := e.g.kernelKills()
	if err != nil {
		return false
	}
	rose := n > e.kills
	e.kills = n
	return rose || told && !e.g.files.memory.v2
}

// repeat is the time within which a further alarm of the same group belongs
// to the same event: the kernel may report late what was dealt with.
const repeat = 50 * time.Millisecond

// outOfMemory sends the event and kills the members that are not exempt.
// Those that were killed before and take their time to die, a large process
// needs 100 ms and more to give its memory back, are no new event.
func (w *watcher) outOfMemory(e *entry, cause Cause, usage int64) {
	now := time.Now()
	e.watch.calm()
	g := e.g
	members := slices.DeleteFunc(g.Pids(), g.isExempt)
	e.dying = slices.DeleteFunc(e.dying, func(p int) bool { return !slices.Contains(members, p) })
	recent := now.Sub(e.fired) < repeat
	if len(members) == len(e.dying) && (cause != CauseKernel || recent) {
		return
	}
	if !recent {
		e.fired = now
		g.emit(Event{Kind: sandbox.OutOfMemory, At: w.m.now(), Cause: cause, Usage: usage})
	}
	killed := g.killForMemory()
	e.dying = killed
	w.m.log.Debug("out of memory", "group", g.name, "cause", cause, "killed", len(killed))
}

func (g *Group) isExempt(pid int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Contains(g.exempt, pid)
}

// killForMemory kills the members that are not exempt.
func (g *Group) killForMemory() []int {
	killed, complete := killMembers(g.dirs[0], g.isExempt)
	if !complete && g.files.freeze != nil {
		// Something forks faster than we look. Frozen, it cannot.
		_ = g.setFrozen("1", "FROZEN", "freeze")
		more, _ := killMembers(g.dirs[0], g.isExempt)
		killed = append(killed, more...)
		if !g.frozen.Load() {
			_ = g.setFrozen("0", "THAWED", "thaw")
		}
	}
	g.killed.Add(uint64(len(killed)))
	return killed
}
