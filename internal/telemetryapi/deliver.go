package telemetryapi

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"github.com/firn-run/firn/internal/lifecycle"
)

// The times of delivery. All stand still while the environment is frozen, but
// for the dial's, whose failure then does not count.
const (
	dialTime     = 5 * time.Second
	writeTime    = 30 * time.Second
	responseTime = 30 * time.Second
	// restTime is for what follows the status line of a response.
	restTime = time.Second
	// lastWords is for an acknowledgement that was sent just before a Reset.
	lastWords = 50 * time.Millisecond

	firstBackoff = 50 * time.Millisecond
	lastBackoff  = 2 * time.Second
)

// parked says what a deliverer waits for; who gives it work learns from it
// whether to wake it, and wakes it only once.
type parked int

const (
	parkedNot    parked = iota // at work, or woken
	parkedIdle                 // for a first record; the timer is not set
	parkedTimer                // for the open batch to be due
	parkedRetry                // for the next attempt
	parkedFrozen               // for Resume
)

// deliverer carries the batches of one subscription to its listener, in order,
// each until it has arrived. It is one goroutine, from Subscribe to Reset or
// Close.
type deliverer struct {
	hub    *Hub
	sub    *subscription
	before <-chan struct{} // closed when the subscription's last deliverer has ended; may be nil
	ctx    context.Context // ends with the deliverer
	cancel context.CancelFunc
	wake   chan struct{} // one token
	timer  *time.Timer

	// Guarded by Hub.mu.
	parked  parked
	ended   bool
	last    time.Time // deadline of all I/O, once ended
	conn    net.Conn
	limit   time.Duration // of the I/O under way; 0 for none
	retryAt time.Time
	backoff time.Duration

	// The goroutine's own.
	batch  *batch
	set    settings
	client client
}

// startLocked starts the deliverer of a subscription that has none.
func (h *Hub) startLocked(s *subscription) {
	d := &deliverer{hub: h, sub: s, before: s.last, wake: make(chan struct{}, 1)}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	s.to, s.last = d, make(chan struct{})
	d.timer = time.NewTimer(time.Hour)
	d.timer.Stop()
	done := s.last
	h.deliverers.Go(func() {
		defer close(done)
		d.run()
	})
}

func (d *deliverer) run() {
	defer d.cancel()
	if d.before != nil {
		<-d.before // ends within lastWords
	}
	defer d.disconnect()
	for d.next() {
		d.settle(d.send())
	}
	d.timer.Stop()
}

// wakeLocked has the deliverer look again at what there is to do.
func (d *deliverer) wakeLocked() {
	d.parked = parkedNot
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// startedLocked is told of the first record of a batch. The one timer per
// batch is set here, without waking the goroutine.
func (d *deliverer) startedLocked(now bool) {
	switch {
	case d == nil || d.parked != parkedIdle:
	case now:
		d.wakeLocked()
	default:
		d.parked = parkedTimer
		d.timer.Reset(d.sub.set.timeout)
	}
}

// fullLocked is told of a batch that can go.
func (d *deliverer) fullLocked() {
	if d != nil && (d.parked == parkedIdle || d.parked == parkedTimer) {
		d.wakeLocked()
	}
}

// endLocked ends the deliverer; I/O under way has so much time left.
func (d *deliverer) endLocked(left time.Duration) {
	d.ended, d.last = true, time.Now().Add(left)
	d.cancel()
	d.deadlineLocked()
	d.wakeLocked()
}

// readyLocked says whether a batch can go now, and if not, how long to wait
// (negative: until woken).
func (d *deliverer) readyLocked(now time.Time) (time.Duration, bool) {
	h, s := d.hub, d.sub
	if h.paused {
		return -1, false
	}
	if wait := d.retryAt.Sub(now); wait > 0 {
		return wait, false
	}
	switch {
	case len(s.sealed) > 0:
		return 0, true
	case s.open == nil:
		return -1, false
	case h.shutdown:
		return 0, true
	}
	wait := s.open.since.Add(s.set.timeout).Sub(now)
	return wait, wait <= 0
}

// next waits for the next batch, and returns false at the end.
func (d *deliverer) next() bool {
	for {
		d.hub.mu.Lock()
		ended := d.ended
		var missed lifecycle.Record
		if !ended {
			missed = d.hub.closeGapLocked(d.sub)
		}
		wait, ready := d.prepareLocked()
		d.hub.mu.Unlock()
		d.missed(missed)
		switch {
		case ended:
			return false
		case ready:
			return true
		}
		if wait >= 0 {
			d.timer.Reset(wait)
		}
		select {
		case <-d.wake:
			d.timer.Stop()
		case <-d.timer.C:
		}
	}
}

// prepareLocked takes the first batch, sealing the open one when it is due, or
// parks the deliverer. Until the deliverer sets its timer somebody may have
// woken it; then the timer is stopped again.
func (d *deliverer) prepareLocked() (time.Duration, bool) {
	if d.ended {
		return -1, false
	}
	now := time.Now()
	wait, ready := d.readyLocked(now)
	switch {
	case ready:
		if len(d.sub.sealed) == 0 {
			d.sub.sealLocked()
		}
		d.batch, d.set = d.sub.sealed[0], d.sub.set
		d.parked = parkedNot
	case d.hub.paused:
		d.parked = parkedFrozen
	case d.retryAt.After(now):
		d.parked = parkedRetry
	case d.sub.open == nil:
		d.parked = parkedIdle
	default:
		d.parked = parkedTimer
	}
	return wait, ready
}

// settle takes note of how an attempt went.
func (d *deliverer) settle(err error) {
	h, s := d.hub, d.sub
	var missed lifecycle.Record
	h.mu.Lock()
	ours := len(s.sealed) > 0 && s.sealed[0] == d.batch // not after Close
	switch {
	case err == nil && ours:
		h.deliveredLocked(s)
		if !d.ended {
			missed = h.closeGapLocked(s)
		}
		d.backoff, d.retryAt = 0, time.Time{}
	case err != nil && !d.ended && !errors.Is(err, errAgain):
		d.failedLocked(err)
	}
	d.batch = nil
	h.mu.Unlock()
	d.missed(missed)
}

// failedLocked puts the next attempt off. In Shutdown there is no time for
// long waits.
func (d *deliverer) failedLocked(err error) {
	if d.backoff == 0 {
		d.backoff = firstBackoff
		d.hub.log.Debug("telemetry was not delivered; it is tried again",
			"extension", d.sub.extension, "port", d.set.to.port, "err", err)
	} else {
		d.backoff = min(2*d.backoff, lastBackoff)
	}
	if d.hub.shutdown {
		d.backoff = firstBackoff
	}
	d.retryAt = time.Now().Add(d.backoff)
}

// missed tells the other sinks of a gap.
func (d *deliverer) missed(rec lifecycle.Record) {
	if lost, ok := rec.(lifecycle.LogsDropped); ok {
		d.hub.log.Info("an extension is too slow for its telemetry",
			"extension", d.sub.extension, "records", lost.DroppedRecords, "bytes", lost.DroppedBytes)
		d.hub.emit(rec)
	}
}

// begin gives the I/O that follows so much time.
func (d *deliverer) begin(limit time.Duration) {
	d.hub.mu.Lock()
	defer d.hub.mu.Unlock()
	d.limit = limit
	d.deadlineLocked()
}

// deadlineLocked lets the time of the I/O under way begin anew; in a frozen
// environment it does not run.
func (d *deliverer) deadlineLocked() {
	switch {
	case d.conn == nil || d.limit == 0:
	case d.ended:
		d.conn.SetDeadline(d.last)
	case d.hub.paused:
		d.conn.SetDeadline(time.Time{})
	default:
		d.conn.SetDeadline(time.Now().Add(d.limit))
	}
}

// errEnded and errAgain say that an attempt did not count: the deliverer has
// ended, or was frozen in the middle.
var (
	errEnded = errors.New("the environment's processes are gone")
	errAgain = errors.New("frozen while connecting")
)

// connect makes a connection where there is none.
func (d *deliverer) connect() error {
	if d.conn != nil { // written by this goroutine only
		return nil
	}
	d.hub.mu.Lock()
	pauses, ended := d.hub.pauses, d.ended
	d.hub.mu.Unlock()
	if ended {
		return errEnded
	}
	ctx, cancel := context.WithTimeout(d.ctx, dialTime)
	defer cancel()
	conn, err := d.hub.cfg.Dial(ctx, d.set.to.port)
	d.hub.mu.Lock()
	defer d.hub.mu.Unlock()
	switch {
	case err != nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)) && d.hub.pauses != pauses:
		return errAgain
	case err != nil:
		return err
	case d.ended:
		conn.Close()
		return errEnded
	}
	d.conn = conn
	d.client.reset(conn)
	return nil
}

func (d *deliverer) disconnect() {
	d.hub.mu.Lock()
	conn := d.conn
	d.conn = nil
	d.hub.mu.Unlock()
	if conn != nil {
		conn.Close()
	}
}
