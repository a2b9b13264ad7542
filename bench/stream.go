package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// stream compares answers that are streamed with buffered ones: the time to the
// first byte, and the time for each megabyte.
func (l *lab) stream(ctx context.Context) error {
	node, err := l.node(ctx, "--stream-mbps", "0")
	if err != nil {
		return err
	}
	const (
		buffered = "/2015-03-31/functions/bench/invocations"
		streamed = "/2021-11-15/functions/bench/response-streaming-invocations"
		mb       = 1_000_000
	)
	samples := 300
	if l.quick {
		samples = 50
	}
	for range l.rounds {
		for _, m := range []struct{ name, path, floor string }{
			{"1 kB buffered, to its first byte", buffered, ""},
			{"1 kB streamed, to its first byte", streamed, "1 kB buffered, to its first byte"},
		} {
			took := make([]time.Duration, samples)
			for i := range took {
				if took[i], _, err = node.fetch(ctx, m.path, 1000); err != nil {
					return err
				}
			}
			l.book.durations(row{Name: m.name, Unit: "ms", Floor: m.floor}, took, 0)
		}
		for _, m := range []struct {
			name, path string
			mb         int
		}{{"buffered, each MB of 6", buffered, 6}, {"streamed, each MB of 200", streamed, 200}} {
			first, all, err := node.fetch(ctx, m.path, m.mb*mb)
			if err != nil {
				return err
			}
			each := all.Seconds() / float64(m.mb)
			l.book.add(row{Name: m.name, Unit: "ms"}, round{p50: 1000 * each, p99: nan(), rate: 1 / each, n: 1})
			l.book.value(row{Name: m.name + ", to its first byte", Unit: "ms"}, float64(first)/float64(time.Millisecond))
		}
	}
	return nil
}

// fetch has the function stream n bytes and reads the answer: first is the time
// to its first byte, all to its last.
func (n *node) fetch(ctx context.Context, path string, size int) (first, all time.Duration, err error) {
	req, err := n.request(ctx, path, fmt.Appendf(nil, `{"stream":%d}`, size))
	if err != nil {
		return 0, 0, err
	}
	begin := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	buf := make([]byte, 256<<10)
	got, err := io.ReadAtLeast(resp.Body, buf, 1)
	if err != nil {
		return 0, 0, err
	}
	first = time.Since(begin)
	for err == nil {
		var k int
		k, err = resp.Body.Read(buf)
		got += k
	}
	if err != io.EOF || resp.StatusCode != http.StatusOK || got < size {
		return 0, 0, fmt.Errorf("%s: %s, %d bytes of %d, %w", path, resp.Status, got, size, err)
	}
	return first, time.Since(begin), nil
}
