package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// sleepers is how many invocations are made at once.
const sleepers = 1000

// scaleWindow is the time in which a function may gain as many environments as
// a burst takes: a second burst within it would be throttled. The environments of
// the burst before are gone by then.
const scaleWindow = 10 * time.Second

// parallel makes 1,000 invocations at once of a function that holds each for
// a second, first with no environment there and then with all of them, and
// takes the time to the last answer and the highest memory of the machine.
func (l *lab) parallel(ctx context.Context) error {
	n := sleepers
	if l.quick {
		n = sleepers / 5
	}
	node, err := l.node(ctx, "--concurrency", fmt.Sprint(2*sleepers), "--network", "none")
	if err != nil {
		return err
	}
	if err := node.create(ctx, "sleeper", 128, l.archive); err != nil {
		return err
	}
	for i := range l.rounds {
		if err := node.renew(ctx, "sleeper", int(time.Now().UnixNano())); err != nil {
			return err
		}
		if i > 0 {
			select {
			case <-time.After(scaleWindow):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		for _, state := range []string{"cold", "warm"} {
			took, memory, err := burst(ctx, node, n)
			if err != nil {
				return err
			}
			r := row{Name: fmt.Sprintf("%d at once that take 1 s, %s: the last answer", n, state), Unit: "ms", Target: target{P50: 5000}}
			l.book.value(r, float64(took.Milliseconds()))
			l.book.value(row{Name: fmt.Sprintf("%d at once that take 1 s, %s: memory of the machine", n, state), Unit: "MB"}, memory)
		}
	}
	return nil
}

// burst invokes n times at once, each for a second from its begin.
func burst(ctx context.Context, node *node, n int) (took time.Duration, memoryMB float64, err error) {
	request, err := node.prepare(ctx, "sleeper", []byte(`{"sleep":1000}`))
	if err != nil {
		return 0, 0, err
	}
	request.answer = -1
	callers := make([]*caller, n)
	for i := range callers {
		if callers[i], err = dialCaller(ctx, request.addr); err != nil {
			return 0, 0, err
		}
		defer callers[i].conn.Close()
	}
	before := availableMB()
	lowest := before
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
				lowest = min(lowest, availableMB())
			}
		}
	}()
	errs := make([]error, n)
	begin := time.Now()
	var group sync.WaitGroup
	for i, c := range callers {
		group.Go(func() { errs[i] = c.invoke(request, io.Discard) })
	}
	group.Wait()
	took = time.Since(begin)
	close(stop)
	<-stopped
	return took, before - lowest, errors.Join(errs...)
}

// availableMB is the memory that the machine has left; 0 where that cannot be
// read.
func availableMB() float64 {
	raw, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(raw), "MemAvailable:")
	var kb float64
	if _, err := fmt.Sscan(rest, &kb); err != nil {
		return 0
	}
	return kb / 1024
}
