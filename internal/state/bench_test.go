package state_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/firn-run/firn/internal/state"
	"github.com/firn-run/firn/internal/state/statetest"
)

// BenchmarkUpdate is one durable Put of 1 KiB, from one caller and from many
// at once, who share commits.
func BenchmarkUpdate(b *testing.B) {
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := statetest.Open(b)
			value := make([]byte, 1024)
			var left, key atomic.Int64
			left.Store(int64(b.N))
			done := make(chan error)
			b.ReportAllocs()
			b.ResetTimer()
			for range writers {
				go func() {
					var err error
					for err == nil && left.Add(-1) >= 0 {
						k := fmt.Sprintf("key/%08d", key.Add(1)%10_000)
						err = s.Update(b.Context(), func(tx state.Tx) error {
							_, err := tx.Put("bench", k, value)
							return err
						})
					}
					done <- err
				}()
			}
			for range writers {
				if err := <-done; err != nil {
					b.Error(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "updates/s")
		})
	}
}

// BenchmarkView is one snapshot with one Get of 1 KiB.
func BenchmarkView(b *testing.B) {
	s := statetest.Open(b)
	err := s.Update(b.Context(), func(tx state.Tx) error {
		_, err := tx.Put("bench", "key", make([]byte, 1024))
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		err := s.View(b.Context(), func(tx state.Tx) error {
			_, _, err := tx.Get("bench", "key")
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen is a start with an existing database.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		_, end, err := statetest.SQLite(b.Context(), dir)
		if err != nil {
			b.Fatal(err)
		}
		if err := end(); err != nil {
			b.Fatal(err)
		}
	}
}
