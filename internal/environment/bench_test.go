package environment

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/firn-run/firn/internal/sandbox"
)

// unmetered is a backend whose sandboxes know nothing of memory: reading it
// costs the process backend walks through /proc.
type unmetered struct{ sandbox.Backend }

func (u unmetered) Create(ctx context.Context, spec sandbox.Spec) (sandbox.Sandbox, error) {
	box, err := u.Backend.Create(ctx, spec)
	return unmeteredBox{box}, err
}

type unmeteredBox struct{ sandbox.Sandbox }

func (unmeteredBox) Usage() (sandbox.Usage, error) { return sandbox.Usage{}, nil }
func (unmeteredBox) ResetPeak() error              { return nil }

// BenchmarkWarmInvoke measures Invoke to a runtime over a bare socket, in one
// environment and in eight at once, with the memory accounting of the process
// backend and without. p50-µs is the median.
func BenchmarkWarmInvoke(b *testing.B) {
	for _, n := range []int{1, 8} {
		for _, metered := range []bool{true, false} {
			b.Run(fmt.Sprintf("environments=%d/metered=%v", n, metered), func(b *testing.B) {
				back := backend(b)
				if !metered {
					back = unmetered{back}
				}
				benchmarkWarm(b, back, n)
			})
		}
	}
}

func benchmarkWarm(b *testing.B, back sandbox.Backend, n int) {
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
}
