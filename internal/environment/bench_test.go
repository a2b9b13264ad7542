package environment

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

// BenchmarkWarmInvoke measures Invoke to a runtime over a bare socket, in one
// environment and in eight at once. p50-µs is the median.
func BenchmarkWarmInvoke(b *testing.B) {
	for _, n := range []int{1, 8} {
		b.Run(fmt.Sprintf("environments=%d", n), func(b *testing.B) {
			back := backend(b)
			worlds := make([]*world, n)
			for i := range worlds {
				worlds[i] = startOn(b, back, fixture{
					vars:   map[string]string{"INIT": "fast"},
					config: func(c *Config) { c.FreezeGrace = -1; c.Sink = nil },
				})
				worlds[i].waitReady()
			}
			took := make([][]time.Duration, n)
			b.ResetTimer()
			b.ReportAllocs()
			var group sync.WaitGroup
			for i, w := range worlds {
				group.Go(func() {
					for range b.N / n {
						inv := &Invocation{RequestID: uuid.NewString(), ARN: w.Version().ARN, Payload: []byte(`{"key":"value"}`)}
						began := time.Now()
						out, err := w.Invoke(b.Context(), inv)
						if err != nil || out.FunctionError != "" {
							b.Error(err)
							return
						}
						took[i] = append(took[i], time.Since(began))
						out.Release()
						<-w.ready
					}
				})
			}
			group.Wait()
			b.StopTimer()
			all := slices.Concat(took...)
			slices.Sort(all)
			if len(all) > 0 {
				b.ReportMetric(float64(all[len(all)/2].Nanoseconds())/1000, "p50-µs")
				b.ReportMetric(float64(all[len(all)*99/100].Nanoseconds())/1000, "p99-µs")
			}
		})
	}
}
