package invoke

import (
	"context"
	"time"
)

// pacer is the bandwidth of one streamed answer: a bucket that holds burst
// bytes in the beginning and is filled at the rate ("Response streaming";
// AWS's emulator has the bucket). It may be overdrawn by one piece, which the
// one after it waits for.
type pacer struct {
	rate, burst float64 // bytes per second, bytes; a negative rate is no limit
	now         func() time.Time

	level float64 // bytes that may be sent at the time at
	at    time.Time
}

func (i *Invoker) pace() *pacer {
	burst := float64(i.cfg.StreamBurst)
	return &pacer{rate: float64(i.cfg.StreamRate), burst: burst, now: i.cfg.Now, level: burst, at: i.cfg.Now()}
}

// wait takes n bytes out of the bucket when there is something in it. An error
// is ctx's.
func (p *pacer) wait(ctx context.Context, n int) error {
	if p.rate < 0 {
		return nil
	}
	p.fill()
	for p.level <= 0 {
		timer := time.NewTimer(max(time.Millisecond, time.Duration(-p.level/p.rate*float64(time.Second))))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		p.fill()
	}
	p.level -= float64(n)
	return nil
}

func (p *pacer) fill() {
	now := p.now()
	p.level = min(p.burst, p.level+now.Sub(p.at).Seconds()*p.rate)
	p.at = now
}
