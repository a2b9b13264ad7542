package logs

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// The queue against a list: nothing is lost, mixed up or written over while
// it waits to be released, and what fits is always taken.
func TestQueueIsFirstInFirstOut(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	q := queue{buf: make([]byte, 1000)}
	var want []entry
	held, heldBytes := []entry(nil), 0
	pushed := 0
	for step := range 20_000 {
		switch {
		case rng.IntN(3) > 0:
			message := bytes.Repeat([]byte{byte(step)}, rng.IntN(120))
			before := q.free()
			if q.push(uint32(step), int64(step), message) {
				want = append(want, entry{uint32(step), int64(step), message})
				pushed++
			} else if before > 2*(entryHeader+len(message)) {
				t.Fatalf("step %d: %d bytes do not fit into %d", step, len(message), before)
			}
		case heldBytes == 0:
			held, heldBytes = q.peek(nil, 1+rng.IntN(400))
		default:
			for i, e := range held {
				if e.speaker != want[i].speaker || e.at != want[i].at || !bytes.Equal(e.message, want[i].message) {
					t.Fatalf("step %d: entry %d is %v, want %v", step, i, e, want[i])
				}
			}
			q.release(heldBytes)
			want = want[len(held):]
			held, heldBytes = nil, 0
		}
		used := 0
		for _, e := range want {
			used += entryHeader + len(e.message)
		}
		if q.used < used || q.used > len(q.buf) {
			t.Fatalf("step %d: %d bytes used by %d of entries", step, q.used, used)
		}
	}
	if pushed < 5000 {
		t.Errorf("only %d of 20000 steps pushed", pushed)
	}
	all, n := q.peek(nil, 1<<20)
	q.release(n)
	if len(all) != len(want) || q.used != 0 {
		t.Errorf("%d entries at the end, want %d; %d bytes used", len(all), len(want), q.used)
	}
	if !q.push(1, 1, make([]byte, 1000-entryHeader)) || q.push(1, 1, nil) {
		t.Error("an empty queue has not its whole size")
	}
}
