package logstore

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func batchOf(n, size int) Batch {
	b := Batch{Group: "/aws/lambda/f", Stream: "s"}
	for range n {
		b.Events = append(b.Events, event(time.Now().UnixMilli(), strings.Repeat("x", size)))
	}
	return b
}

func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("events=%d", size), func(b *testing.B) {
			s := open(b, Config{Dir: b.TempDir(), MaxBytes: 256 << 20})
			batch := batchOf(size, 120)
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Append(batch, Mode{Create: true}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// One page of a thousand interleaved streams.
func BenchmarkReadPage(b *testing.B) {
	s := open(b, Config{Dir: b.TempDir(), MaxBytes: 256 << 20, SegmentBytes: 4 << 20})
	start := time.Now().UnixMilli()
	for n := range 100_000 {
		if err := s.Append(Batch{"g", fmt.Sprint(n % 1000), []Event{event(start+int64(n), strings.Repeat("x", 120))}}, Mode{Create: true}); err != nil {
			b.Fatal(err)
		}
	}
	for name, q := range map[string]Query{
		"group tail": {Group: "g", From: start + 99_000},
		"group all":  {Group: "g"},
		"one stream": {Group: "g", Streams: []string{"500"}, Backward: true},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if page, err := s.Read(q); err != nil || len(page.Events) == 0 {
					b.Fatal(len(page.Events), err)
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	s := open(b, Config{Dir: b.TempDir(), MaxBytes: 512 << 20})
	for n := range 20_000 {
		batch := batchOf(100, 120)
		batch.Stream = fmt.Sprint(n / 10)
		if err := s.Append(batch, Mode{Create: true}); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(s.Stats().Bytes)/(1<<20), "MiB")
	for b.Loop() {
		again, err := Open(s.cfg)
		if err != nil {
			b.Fatal(err)
		}
		again.Close()
	}
}
