package queue

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkPut is durable puts of events, from one caller and from many at
// once.
func BenchmarkPut(b *testing.B) {
	for _, size := range []int{1 << 10, 256 << 10, 1 << 20} {
		for _, callers := range []int{1, 64} {
			b.Run(fmt.Sprintf("bytes=%d/callers=%d", size, callers), func(b *testing.B) {
				q := open(b, Config{})
				body := make([]byte, size)
				var left atomic.Int64
				left.Store(int64(b.N))
				b.SetBytes(int64(size))
				b.ResetTimer()
				var group sync.WaitGroup
				for c := range callers {
					group.Go(func() {
						for left.Add(-1) >= 0 {
							if _, err := q.Put(context.Background(), Item{Lane: fmt.Sprint("lane", c%10), Due: time.Now(), Body: body}); err != nil {
								b.Error(err)
							}
						}
					})
				}
				group.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
			})
		}
	}
}

// BenchmarkCycle is put, claim and ack of 1 KiB, put by 32 callers and
// consumed by one dispatcher.
func BenchmarkCycle(b *testing.B) {
	q := open(b, Config{})
	body := make([]byte, 1024)
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	var group sync.WaitGroup
	for c := range 32 {
		group.Go(func() {
			for left.Add(-1) >= 0 {
				if _, err := q.Put(context.Background(), Item{Lane: fmt.Sprint("lane", c%10), Due: time.Now(), Body: body}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for range b.N {
		c, err := q.Claim(context.Background(), all, time.Hour)
		if err == nil {
			err = q.Ack(c)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	group.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "cycles/s")
}
