package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"
)

// settle is how long a measurement of single cold starts waits before each,
// so that the pool is full and the last environment is gone.
const settle = 150 * time.Millisecond

// payload is a JSON string of n bytes.
func payload(n int) []byte {
	p := bytes.Repeat([]byte{'a'}, n)
	p[0], p[n-1] = '"', '"'
	return p
}

// cold measures cold starts: the platform's part, in this process, and the
// whole, through the API of a firn of its own.
func (l *lab) cold(ctx context.Context) error {
	samples := 30
	if l.quick {
		samples = 10
	}
	pooled, err := l.node(ctx)
	if err != nil {
		return err
	}
	if err := pooled.create(ctx, "small", 128, l.archive); err != nil {
		return err
	}
	bare, err := l.node(ctx, "--pool", "-1")
	if err != nil {
		return err
	}
	platform, err := newPlatform(ctx, l)
	if err != nil {
		return err
	}
	defer platform.close()
	const floor = "floor: fork, exec, first request"
	for range l.rounds {
		took, err := l.bare.cold(2 * samples)
		if err != nil {
			return err
		}
		l.book.durations(row{Name: floor, Unit: "ms"}, took, 0)
		if err := platform.round(ctx, l.book, floor, samples); err != nil {
			return err
		}
		for _, total := range []struct {
			node     *node
			function string
			row      row
		}{
			{pooled, "bench", row{Name: "cold, total through the API, from the pool", Target: target{Over: 4, P99: 15}}},
			{bare, "bench", row{Name: "cold, total through the API, without the pool", Target: target{Over: 8, P99: 15}}},
			{pooled, "small", row{Name: "cold, total, from the pool, 128 MB"}},
		} {
			took, err := coldTotals(ctx, total.node, total.function, samples)
			if err != nil {
				return err
			}
			total.row.Unit, total.row.Floor = "ms", floor
			l.book.durations(total.row, took, 0)
		}
	}
	return nil
}

// coldTotals changes the configuration and takes the time of the next invocation.
func coldTotals(ctx context.Context, n *node, function string, samples int) ([]time.Duration, error) {
	request, err := n.prepare(ctx, function, payload(1<<10))
	if err != nil {
		return nil, err
	}
	c, err := dialCaller(ctx, request.addr)
	if err != nil {
		return nil, err
	}
	defer c.conn.Close()
	var took []time.Duration
	for i := range samples {
		if err := n.renew(ctx, function, int(time.Now().UnixNano())+i); err != nil {
			return nil, fmt.Errorf("renew: %w", err)
		}
		<-time.After(settle)
		begin := time.Now()
		if err := c.invoke(request, io.Discard); err != nil {
			return nil, err
		}
		took = append(took, time.Since(begin))
	}
	return took, nil
}

// warmRow is one measurement of warm invocations.
type warmRow struct {
	node     *node
	function string
	bytes    int
	load     load
	row      row
}

// warm measures warm invocations through the API.
func (l *lab) warm(ctx context.Context) error {
	usual, err := l.node(ctx)
	if err != nil {
		return err
	}
	if err := usual.create(ctx, "small", 128, l.archive); err != nil {
		return err
	}
	frozen, err := l.node(ctx, "--freeze-grace", "0")
	if err != nil {
		return err
	}
	d := 2 * time.Second
	if l.quick {
		d = 500 * time.Millisecond
	}
	const two, spaced, big, huge = "floor: two bare round trips, 1 KB", "floor: same, every 20 ms", "floor: same, 100 KB", "floor: same, 6 MB"
	rows := []warmRow{
		{usual, "bench", 1 << 10, load{callers: 1, duration: d}, row{Name: "warm, 1 caller, 1 KB", Floor: two, Target: target{P50: 0.40, P99: 2}}},
		{frozen, "bench", 1 << 10, load{callers: 1, duration: d}, row{Name: "warm, 1 caller, frozen at once (--freeze-grace 0)", Floor: two, Target: target{P50: 0.40, P99: 2}}},
		{usual, "bench", 1 << 10, load{callers: 1, duration: d, space: 20 * time.Millisecond}, row{Name: "warm, 1 caller, every 20 ms, thawed each time", Floor: spaced, Target: target{P99: 2}}},
		{usual, "bench", 1 << 10, load{callers: 8, duration: d}, row{Name: "warm, 8 callers, 1 KB", Floor: two, Target: target{Rate: 4400}}},
		{usual, "bench", 1 << 10, load{callers: 64, duration: d}, row{Name: "warm, 64 callers, 1 KB", Floor: two}},
		{usual, "bench", 100 << 10, load{callers: 1, duration: d}, row{Name: "warm, 1 caller, 100 KB both ways", Floor: big}},
		{usual, "bench", 6 << 20, load{callers: 1, duration: d}, row{Name: "warm, 1 caller, 6 MB both ways", Floor: huge}},
		{usual, "small", 1 << 10, load{callers: 1, duration: d}, row{Name: "warm, 1 caller, 1 KB, 128 MB function (7% of a processor)", Floor: two}},
	}
	for range l.rounds {
		for _, f := range []struct {
			name  string
			bytes int
			n     int
			space time.Duration
		}{{two, 1 << 10, 3000, 0}, {spaced, 1 << 10, int(d / (20 * time.Millisecond)), 20 * time.Millisecond}, {big, 100 << 10, 1000, 0}, {huge, 6 << 20, 40, 0}} {
			took, err := l.bare.warm(f.n, payload(f.bytes), f.space)
			if err != nil {
				return err
			}
			l.book.durations(row{Name: f.name, Unit: "ms"}, took, 0)
		}
		for _, r := range rows {
			if err := l.warmRound(ctx, r); err != nil {
				return fmt.Errorf("%s: %w", r.row.Name, err)
			}
		}
	}
	return nil
}

func (l *lab) warmRound(ctx context.Context, r warmRow) error {
	request, err := r.node.prepare(ctx, r.function, payload(r.bytes))
	if err != nil {
		return err
	}
	got, err := r.load.run(ctx, request)
	if err != nil {
		return err
	}
	r.row.Unit = "ms"
	if r.load.space > 0 {
		got.elapsed = 0
	}
	l.book.durations(r.row, got.took, got.elapsed)
	return nil
}
