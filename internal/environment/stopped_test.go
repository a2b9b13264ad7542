package environment

import (
	"testing"
	"time"
)

// While a debugger is attached the clock of time limits stands still: the
// limit moves by that time, and by no more.
func TestTimeLimitMovesWhileTheClockStands(t *testing.T) {
	const limit = 300 * time.Millisecond
	for _, test := range []struct {
		name    string
		stopped time.Duration // from the start of the invocation on
		sleep   int
		want    string // error type
		least   time.Duration
	}{
		{"never", 0, 5000, "Sandbox.Timedout", limit},
		{"for a while", 2 * limit, 5000, "Sandbox.Timedout", 3 * limit},
		{"all the time", time.Hour, 700, "", 700 * time.Millisecond},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var begin time.Time // written before the invocation begins
			w := start(t, fixture{timeout: limit, config: func(cfg *Config) {
				cfg.ClockStopped = func() time.Duration {
					if begin.IsZero() {
						return 0
					}
					return min(time.Since(begin), test.stopped)
				}
			}})
			w.waitReady()
			w.mu.Lock() // under which ClockStopped is called
			begin = time.Now()
			w.mu.Unlock()
			out := w.invoke(command{Do: "sleep", Millis: test.sleep})
			took := time.Since(begin)
			if out.ErrorType != test.want {
				t.Errorf("error type %q, want %q: %s", out.ErrorType, test.want, out.Payload)
			}
			if took < test.least || took > test.least+4*time.Second {
				t.Errorf("answered after %s, want %s at least", took, test.least)
			}
		})
	}
}
