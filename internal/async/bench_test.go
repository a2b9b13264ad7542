package async

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/invoke"
	"github.com/firn-run/firn/internal/state"
)

// BenchmarkAccept is durable acceptance of events of 1 KiB by 64 callers,
// while others are being processed by functions that take no time.
func BenchmarkAccept(b *testing.B) {
	d, err := state.OpenDir(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	store, err := state.Open(context.Background(), state.Config{Dir: d})
	if err != nil {
		b.Fatal(err)
	}
	w := &nothing{}
	e := New(Config{Store: store, Invoker: w, Configs: w, Metrics: w, Logger: slog.New(slog.DiscardHandler), Region: "us-east-1", Account: "123456789012"})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { e.Run(ctx) })
	payload := []byte(`{"x":"` + string(make([]byte, 1000)) + `"}`)
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ReportAllocs()
	b.ResetTimer()
	var callers sync.WaitGroup
	for range 64 {
		callers.Go(func() {
			for left.Add(-1) >= 0 {
				err := e.Accept(ctx, &invoke.Request{Function: firn.FunctionRef{Name: "f"}, RequestID: "8ec66a5e-0b1c-4b68-a1e5-7bd60a3b0d3d", Payload: payload})
				if err != nil {
					b.Error(err)
				}
			}
		})
	}
	callers.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(w.done.Load())/float64(b.N), "processed")
	cancel()
	running.Wait()
	store.Close()
	d.Close()
}

// nothing is everything that an engine needs, for free.
type nothing struct{ done atomic.Int64 }

func (*nothing) Check(*invoke.Request) error { return nil }
func (n *nothing) Invoke(context.Context, *invoke.Request) (*invoke.Response, error) {
	n.done.Add(1)
	return answerOf("1", ""), nil
}
func (*nothing) EventInvoke(firn.FunctionRef) (Settings, error) { return DefaultSettings(), nil }
func (*nothing) EventReceived(string)                           {}
func (*nothing) EventAge(string, time.Duration)                 {}
func (*nothing) EventDropped(string)                            {}
func (*nothing) DestinationFailed(string)                       {}
func (*nothing) DeadLetterFailed(string)                        {}
