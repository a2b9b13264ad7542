package statetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"

	"github.com/firn-run/firn/internal/state"
)

// In testKill each writer w repeats one Update with a sequence number: three
// records w/a, w/b, w/c that must always agree, one log record w/SEQ that
// must never be missing, and the removal of the one before the previous.
// Whatever was acknowledged is printed as "w seq revision".

const (
	killKind = "kill"
	logKind  = "log"
)

// write is the child's part, until it is killed.
func write(ctx context.Context, s *state.Store, writers int, out io.Writer) error {
	var mu sync.Mutex
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for w := range writers {
		wg.Go(func() {
			for errs[w] == nil {
				seq, rev, err := writeOnce(ctx, s, w)
				if err == nil {
					mu.Lock()
					_, err = fmt.Fprintf(out, "%d %d %d\n", w, seq, rev)
					mu.Unlock()
				}
				errs[w] = err
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func writeOnce(ctx context.Context, s *state.Store, w int) (seq int, rev state.Revision, err error) {
	err = s.Update(ctx, func(tx state.Tx) error {
		r, ok, err := tx.Get(killKind, fmt.Sprintf("%d/a", w))
		if err != nil {
			return err
		}
		seq = 1
		if ok {
			last, err := strconv.Atoi(string(r.Value))
			if err != nil {
				return err
			}
			seq = last + 1
		}
		for _, part := range []string{"a", "b", "c"} {
			if _, err := tx.Put(killKind, fmt.Sprintf("%d/%s", w, part), []byte(strconv.Itoa(seq))); err != nil {
				return err
			}
		}
		if err := tx.Delete(logKind, logKey(w, seq-2)); err != nil {
			return err
		}
		rev, err = tx.PutIf(logKind, logKey(w, seq), make([]byte, rand.IntN(2000)), 0)
		return err
	})
	return seq, rev, err
}

func logKey(w, seq int) string { return fmt.Sprintf("%d/%08d", w, seq) }

// testKill kills a writing process at arbitrary moments: what it acknowledged
// is there, what it did not is there whole or not at all.
func testKill(t *testing.T, open OpenFunc) {
	const writers = 8
	rounds := 20
	if testing.Short() {
		rounds = 5
	}
	dir := t.TempDir()
	acked := make([]int, writers)
	var last state.Revision
	for range rounds {
		p := startChild(t, "writer", childArgs{Dir: dir, Writers: writers})
		for range 1 + rand.IntN(300) {
			var w, seq int
			var rev state.Revision
			if _, err := fmt.Fscanf(p.stdout, "%d %d %d\n", &w, &seq, &rev); err != nil {
				p.cmd.Process.Kill()
				p.cmd.Wait()
				t.Fatalf("child: %v\n%s", err, p.stderr.b)
			}
			acked[w], last = seq, max(last, rev)
		}
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		// What it could still print was acknowledged too; a line may be cut.
		for {
			line, err := p.stdout.ReadString('\n')
			if err != nil {
				break
			}
			var w, seq int
			var rev state.Revision
			if _, err := fmt.Sscanf(line, "%d %d %d\n", &w, &seq, &rev); err != nil {
				t.Fatal(err)
			}
			acked[w], last = seq, max(last, rev)
		}
		p.kill(t)
		checkAfterKill(t, open, dir, acked, last)
	}
	total := 0
	for _, n := range acked {
		total += n
	}
	t.Logf("%d kills, %d acknowledged Updates", rounds, total)
}

func checkAfterKill(t *testing.T, open OpenFunc, dir string, acked []int, last state.Revision) {
	t.Helper()
	s, end, err := open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	err = s.View(t.Context(), func(tx state.Tx) error {
		for w, seq := range acked {
			if err := checkWriter(tx, w, seq); err != nil {
				return err
			}
		}
		if rev, err := tx.Revision(); err != nil || rev < last {
			return fmt.Errorf("revision is %d, acknowledged was %d: %v", rev, last, err)
		}
		return nil
	})
	if err := errors.Join(err, end()); err != nil {
		t.Fatal(err)
	}
}

// checkWriter: seq was acknowledged, and at most one Update more was under way.
func checkWriter(tx state.Tx, w, seq int) error {
	parts, err := tx.List(killKind, fmt.Sprintf("%d/", w), "", 0)
	if err != nil {
		return err
	}
	if len(parts) == 0 && seq == 0 {
		return nil
	}
	if len(parts) != 3 {
		return fmt.Errorf("writer %d has %d of 3 records", w, len(parts))
	}
	stored, err := strconv.Atoi(string(parts[0].Value))
	if err != nil || stored != seq && stored != seq+1 {
		return fmt.Errorf("writer %d has stored %d, acknowledged was %d: %v", w, stored, seq, err)
	}
	for _, p := range parts {
		if string(p.Value) != strconv.Itoa(stored) {
			return fmt.Errorf("writer %d is half-written: %q has %s, not %d", w, p.Key, p.Value, stored)
		}
	}
	logs, err := tx.List(logKind, fmt.Sprintf("%d/", w), "", 0)
	if err != nil {
		return err
	}
	for i, seq := 0, max(stored-1, 1); seq <= stored; i, seq = i+1, seq+1 {
		if i >= len(logs) || logs[i].Key != logKey(w, seq) || i == len(logs)-1 && seq != stored {
			return fmt.Errorf("writer %d has a wrong log after %d: %d entries", w, stored, len(logs))
		}
	}
	return nil
}
