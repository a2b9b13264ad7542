package logstore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

// Everything at once: a reader never sees an error, a torn event or an order
// that is wrong, whatever is sealed, compacted, evicted or expired meanwhile.
func TestConcurrentUse(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir(), MaxBytes: minBytes, SegmentBytes: 64 << 10, Flush: time.Millisecond})
	if err := s.CreateGroup("g"); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var writers, others sync.WaitGroup
	for w := range 3 {
		writers.Go(func() {
			for n := range 3000 {
				at := int64(n * 10)
				err := s.Append(Batch{"g", fmt.Sprint(w), []Event{
					event(at, fmt.Sprint("w", w, " ", at)), event(at+1, "w"+strings.Repeat("x", rand.IntN(3000))),
				}}, Mode{Create: true, Durable: n%500 == 0})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	loop := func(do func() error) {
		others.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := do(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	loop(func() error {
		page, err := s.Read(Query{Group: "g", Backward: rand.IntN(2) == 0, Limit: 500})
		if err != nil {
			return err
		}
		for i, e := range page.Events {
			if !strings.HasPrefix(string(e.Message), "w") || i > 0 && !page.Events[i-1].Position().less(e.Position()) {
				return fmt.Errorf("event %d of %d is %+v", i, len(page.Events), e)
			}
		}
		return nil
	})
	loop(func() error {
		_, _, err := s.Streams(StreamQuery{Group: "g", ByLastEvent: true})
		s.Stats()
		s.Groups("", "", 0)
		return err
	})
	loop(func() error {
		name := fmt.Sprint("short", rand.IntN(3))
		if err := s.Append(Batch{name, "s", []Event{event(1, strings.Repeat("y", 5000)), event(1000, "y")}}, Mode{Create: true}); err != nil {
			return err
		}
		if rand.IntN(2) == 0 {
			return s.Expire(name, 500)
		}
		if err := s.DeleteGroup(name); err != nil && !errors.Is(err, ErrNoGroup) {
			return err
		}
		return nil
	})
	writers.Wait()
	close(stop)
	others.Wait()
	s.tidy()
	checkAccounts(t, s)
	if st := s.Stats(); st.Corrupt != 0 || st.Failed != 0 {
		t.Errorf("stats: %+v", st)
	}
	same(t, "events after a restart", len(pages(t, s, Query{Group: "g"})), len(pages(t, reopen(t, s), Query{Group: "g"})))
}
