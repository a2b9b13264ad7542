package series

import (
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"
)

func benchDB(b *testing.B) (*DB, *testClock) {
	b.Helper()
	clock := newClock()
	db, err := Open(Config{Dir: b.TempDir(), Now: clock.Now, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	return db, clock
}

// BenchmarkAddDurable is PutMetricData with 20 metrics by concurrent callers.
func BenchmarkAddDurable(b *testing.B) {
	db, clock := benchDB(b)
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		batch := make([]Sample, 20)
		for i := range batch {
			batch[i] = sampleAt(fmt.Sprint("m", i), clock.Now(), float64(i))
		}
		for pb.Next() {
			if err := db.Add(batch, true); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkQueryDay reads a day of minutes of one of 1,000 series from blocks.
func BenchmarkQueryDay(b *testing.B) {
	db, clock := benchDB(b)
	begin := clock.Now()
	for m := range 1440 {
		batch := make([]Sample, 0, 100)
		for i := range 100 {
			batch = append(batch, sampleAt(fmt.Sprint("m", i), begin.Add(time.Duration(m)*time.Minute), float64(m%17)))
		}
		if err := db.Add(batch, false); err != nil {
			b.Fatal(err)
		}
	}
	db.maint.Lock()
	err := db.flush()
	db.maint.Unlock()
	if err != nil {
		b.Fatal(err)
	}
	size := int64(0)
	for _, block := range db.blocks {
		size += block.Size
	}
	b.ResetTimer()
	b.ReportMetric(float64(size)/(1440*100), "B/datapoint")
	for i := range b.N {
		points, err := db.Query(Query{Namespace: "Test", Name: fmt.Sprint("m", i%100), Start: begin, End: begin.Add(24 * time.Hour), Period: 5 * time.Minute})
		if err != nil || len(points) != 288 {
			b.Fatal(len(points), err)
		}
	}
}
