package async

import (
	"sync"
	"time"
)

// How a lane's share of the workers moves. Events may wait, so a lane begins
// small, and is given more only while that makes it faster.
const (
	firstLimit = 8           // invocations of a lane at once, at the beginning
	growEvery  = time.Second // at most
	// keepGain is how much faster twice as many workers must be for them to
	// be kept; otherwise the lane stays at half of them for holdGrowth.
	keepGain   = 1.2
	holdGrowth = 30 * time.Second
	// calmAfter is how long after a throttle a lane grows by one at a time.
	calmAfter = 30 * time.Second
	// A lane of which nothing runs after a throttle is asked again after
	// firstProbe, and then after twice as long each time up to lastProbe.
	firstProbe = time.Second
	lastProbe  = 10 * time.Second
	// maxLanes is how many lanes are remembered that have nothing running.
	maxLanes = 4096
)

// pacer says how many events of each lane may be invoked at once. Its lock is
// taken inside that of the queue.
//
// The workers are shared in proportion to what is free: a lane may have as
// many as are free after it. One busy lane gets half of them, two get a third
// each, and there is always a worker for the next.
type pacer struct {
	workers int
	scale   float64
	now     func() time.Time

	mu    sync.Mutex
	busy  int
	lanes map[string]*pace
}

// pace is what is known of one lane.
type pace struct {
	busy    int
	limit   int
	known   Settings  // of its function, the last time that it was asked about
	since   time.Time // of the counting
	ended   int       // attempts since
	rate    float64   // attempts per second, in the time before
	doubled bool      // then limit grew
	hold    time.Time // limit does not grow before
	calm    time.Time // limit grows slowly before
	probes  int       // throttles in a row without anything running
	until   time.Time // nothing is invoked before
}

func newPacer(workers int, scale float64, now func() time.Time) *pacer {
	return &pacer{workers: workers, scale: scale, now: now, lanes: make(map[string]*pace)}
}

func (p *pacer) laneLocked(name string) *pace {
	l := p.lanes[name]
	if l == nil {
		if len(p.lanes) >= maxLanes {
			p.forgetLocked()
		}
		l = &pace{limit: min(firstLimit, p.workers), known: DefaultSettings()}
		p.lanes[name] = l
	}
	return l
}

// forgetLocked drops the lanes that are at rest.
func (p *pacer) forgetLocked() {
	now := p.now()
	for name, l := range p.lanes {
		if l.busy == 0 && !now.Before(l.until) {
			delete(p.lanes, name)
		}
	}
}

// gate is the queue's Gate.
func (p *pacer) gate(lane string, _ int, due time.Time) (bool, time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.laneLocked(lane)
	now := p.now()
	if now.Sub(due) >= l.known.MaximumEventAge {
		return true, time.Time{} // to be given up, which takes no environment
	}
	if now.Before(l.until) {
		return false, l.until
	}
	if l.busy == 0 {
		l.since, l.ended, l.rate, l.doubled = now, 0, 0, false
	}
	if l.busy >= l.limit {
		if now.Sub(l.since) < growEvery {
			return false, l.since.Add(growEvery)
		}
		p.growLocked(l, now)
		if l.busy >= l.limit {
			return false, now.Add(growEvery)
		}
	}
	if free := p.workers - p.busy; l.busy > 0 && l.busy >= free {
		return false, time.Time{}
	}
	return true, time.Time{}
}

// growLocked changes the limit of a lane that has been at it.
func (p *pacer) growLocked(l *pace, now time.Time) {
	rate := float64(l.ended) / now.Sub(l.since).Seconds()
	short := l.ended >= l.limit // else the attempts are too long to tell
	switch {
	case now.Before(l.calm):
		l.limit, l.doubled = l.limit+1, false
	case now.Before(l.hold):
		l.doubled = false
	case l.doubled && short && rate < keepGain*l.rate:
		l.limit, l.doubled, l.hold = max(l.limit/2, 1), false, now.Add(holdGrowth)
	default:
		l.limit, l.doubled = 2*l.limit, true
	}
	l.limit = min(l.limit, p.workers)
	l.rate, l.since, l.ended = rate, now, 0
}

// began counts an event that a worker has.
func (p *pacer) began(lane string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy++
	p.laneLocked(lane).busy++
}

// finished counts one that it has no more, and what its attempt came to.
func (p *pacer) finished(lane string, refused bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.laneLocked(lane)
	p.busy--
	l.busy--
	l.ended++
	if !refused {
		l.probes = 0
		return
	}
	now := p.now()
	l.calm = now.Add(calmAfter)
	l.limit = max(l.limit-1, 1)
	if l.busy == 0 {
		l.until = now.Add(p.scaled(backoff(l.probes, firstProbe, lastProbe)))
		l.probes++
	}
}

// learn notes the settings of a lane's function: the gate lets pass what is too
// old, and they hold on for what waits when the function is deleted.
func (p *pacer) learn(lane string, s Settings) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.laneLocked(lane).known = s
}

func (p *pacer) remembered(lane string) Settings {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.laneLocked(lane).known
}

// held tells until when a lane waits because it was refused, if it does.
func (p *pacer) held(lane string) (time.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.lanes[lane]
	if l == nil || !p.now().Before(l.until) {
		return time.Time{}, false
	}
	return l.until, true
}

// resume ends the wait of a lane.
func (p *pacer) resume(lane string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.lanes[lane]; l != nil {
		l.until, l.probes = time.Time{}, 0
	}
}

func (p *pacer) scaled(d time.Duration) time.Duration { return time.Duration(float64(d) * p.scale) }

// backoff is first, doubled n times, but not more than last.
func backoff(n int, first, last time.Duration) time.Duration {
	d := first
	for range n {
		if d *= 2; d >= last {
			return last
		}
	}
	return d
}
