package dev

import (
	"context"
	"fmt"
	"reflect"
	"testing"
	"testing/synctest"
	"time"
)

// act plays hints at their times and returns the batches with the times at which
// they came; the reader is away until readFrom.
func act(t *testing.T, hints []timed, readFrom time.Duration) (got []string) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		in, out := make(chan hint), make(chan batch)
		ended := make(chan error, 1)
		go func() { ended <- gather(ctx, in, out) }()
		begin := time.Now()
		go func() {
			for _, h := range hints {
				<-time.After(time.Until(begin.Add(h.at)))
				in <- h.hint
			}
		}()
		<-time.After(readFrom)
		for {
			select {
			case b := <-out:
				what := fmt.Sprint(b.paths)
				if len(b.paths) > 5 {
					what = fmt.Sprintf("%d paths", len(b.paths))
				}
				if b.all {
					what += " all"
				}
				got = append(got, fmt.Sprintf("%s at %s since %s", what, time.Since(begin), b.first.Sub(begin)))
			case <-ctx.Done():
				if err := <-ended; err != ctx.Err() {
					t.Errorf("gather: %v", err)
				}
				return
			}
		}
	})
	return got
}

type timed struct {
	at time.Duration
	hint
}

func TestGather(t *testing.T) {
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	var flood, endless []timed
	for i := range many + 1 {
		flood = append(flood, timed{ms(i), hint{path: fmt.Sprint(i)}})
	}
	for i := range 1000 { // none of them when the limit is over
		endless = append(endless, timed{ms(7 * i), hint{path: "log"}})
	}
	for _, test := range []struct {
		name     string
		hints    []timed
		readFrom time.Duration
		want     []string
	}{
		{"a save of three steps", []timed{{0, hint{path: "a"}}, {ms(1), hint{path: "b"}}, {ms(20), hint{path: "a"}}}, 0, []string{"[a b] at 45ms since 0s"}},
		{"two saves", []timed{{0, hint{path: "a"}}, {ms(100), hint{path: "a"}}}, 0, []string{"[a] at 25ms since 0s", "[a] at 125ms since 100ms"}},
		{"a package manager", []timed{{0, hint{path: "node_modules", bulk: true}}, {ms(300), hint{path: "node_modules", bulk: true}}}, 0, []string{"[node_modules] at 700ms since 0s"}},
		{"many files", flood, 0, []string{"101 paths at 500ms since 0s"}},
		{"an overflow", []timed{{0, hint{all: true, bulk: true}}}, 0, []string{"[] all at 400ms since 0s"}},
		{"a file that never rests", endless, 0, []string{"[log] at 5s since 0s", "[log] at 7.018s since 5.005s"}},
		{"a reader who builds", []timed{{0, hint{path: "a"}}, {ms(500), hint{path: "b"}}, {ms(995), hint{path: "c"}}}, time.Second, []string{"[a b c] at 1.02s since 0s"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := act(t, test.hints, test.readFrom); !reflect.DeepEqual(got, test.want) {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}
