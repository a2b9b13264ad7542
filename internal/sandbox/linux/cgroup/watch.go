//go:build linux

package cgroup

import "time"

// How often the watch looks, and what it takes for thrashing.
const (
	// A function is assumed to take memory no faster than this, in bytes a
	// second, when the time of the next look is chosen. One that is faster
	// is still bounded by the kernel's limit.
	fillRate = 2 << 30
	// Bounds on the time between two looks while usage is above the
	// function's size (file cache and /tmp included), and below it.
	minAbove = 4 * time.Millisecond
	maxAbove = 20 * time.Millisecond
	minBelow = 10 * time.Millisecond
	maxBelow = 50 * time.Millisecond

	// A group thrashes when, in each of thrashWindows windows on end, it
	// stood at its hard limit, had little file cache left, and had to read
	// many pages again that it had just given up.
	thrashWindow   = 100 * time.Millisecond
	thrashWindows  = 10
	thrashRefaults = 250 // pages a window: 10 MB a second
	// The shares of the hard limit: within 1/64 of it counts as standing
	// at it, and less than 1/8 of it in file cache as little.
	atLimitShare = 64
	littleShare  = 8
)

// sample is one look at a group.
type sample struct {
	at    time.Time
	usage int64
	stat  memoryStat
}

// watch decides whether a group is out of memory. It is a value fed with
// samples: no clock, no file.
type watch struct {
	limit, hard int64

	windowStart    time.Time
	windowRefaults int64
	bad            int // windows on end that looked like thrashing
}

// over reports whether the function holds more than its size. The kernel
// keeps its statistics a little behind the counter, by up to some hundred
// kilobytes per processor, so usage less the rest may be too high while /tmp
// is being written. What the processes and the kernel hold by name may be too
// low but never is too high while it grows: both have to be over.
func (w *watch) over(s sample) bool {
	return w.functionMemory(s) > w.limit
}

func (w *watch) functionMemory(s sample) int64 {
	return min(functionMemory(s.usage, s.stat), s.stat.anon+s.stat.kernel)
}

// observe takes a sample with usage above the limit and returns the cause, if
// the group is out of memory, and when to look again.
func (w *watch) observe(s sample) (Cause, time.Duration) {
	next := between(minAbove, w.limit-w.functionMemory(s), maxAbove)
	if w.over(s) {
		return CauseLimit, minAbove
	}
	if w.thrashes(s) {
		return CauseThrash, minAbove
	}
	return "", next
}

// quiet is the time to the next look for a usage below the limit.
func (w *watch) quiet(usage int64) time.Duration {
	return between(minBelow, w.limit-usage, maxBelow)
}

// near reports whether usage is so little below the limit that the kernel may
// not have noticed it went below. Version 1 compares only every 128 pages
// per processor, and reports a crossing only when it saw the other side.
func (w *watch) near(usage int64) bool { return usage >= w.limit-w.limit/8 }

func between(lo time.Duration, room int64, hi time.Duration) time.Duration {
	return min(max(time.Duration(float64(room)/fillRate*float64(time.Second)), lo), hi)
}

func (w *watch) thrashes(s sample) bool {
	tight := s.usage >= w.hard-w.hard/atLimitShare && s.stat.file < w.hard/littleShare
	if !tight {
		w.windowStart, w.bad = time.Time{}, 0
		return false
	}
	if w.windowStart.IsZero() {
		w.windowStart, w.windowRefaults = s.at, s.stat.refaults
		return false
	}
	if s.at.Sub(w.windowStart) < thrashWindow {
		return false
	}
	windows := int64(s.at.Sub(w.windowStart) / thrashWindow)
	if s.stat.refaults-w.windowRefaults >= thrashRefaults*windows {
		w.bad += int(windows)
	} else {
		w.bad = 0
	}
	w.windowStart, w.windowRefaults = s.at, s.stat.refaults
	return w.bad >= thrashWindows
}

// calm forgets what led to an alarm.
func (w *watch) calm() { w.windowStart, w.bad = time.Time{}, 0 }
