package logstore

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

// clock is a time that tests set.
type clock struct{ ms atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ms.Store(1_700_000_000_000)
	return c
}

func (c *clock) now() time.Time { return time.UnixMilli(c.ms.Load()) }

// open opens a store that the test closes.
func open(t testing.TB, cfg Config) *Store {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func reopen(t testing.TB, s *Store) *Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, s.cfg)
}

func event(at int64, text string) Event { return Event{Timestamp: at, Message: []byte(text)} }

func put(t testing.TB, s *Store, group, stream string, events ...Event) {
	t.Helper()
	if err := s.Append(Batch{group, stream, events}, Mode{Create: true}); err != nil {
		t.Fatal(err)
	}
}

// texts reads a query in one page and gives the messages.
func texts(t testing.TB, s *Store, q Query) []string {
	t.Helper()
	page, err := s.Read(q)
	if err != nil {
		t.Fatal(err)
	}
	return messages(page.Events)
}

func messages(events []Event) []string {
	list := []string{}
	for _, e := range events {
		list = append(list, string(e.Message))
	}
	return list
}

func same(t testing.TB, what string, got, want any) {
	t.Helper()
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestReadMergesStreamsInOrder(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	put(t, s, "g", "a", event(10, "a10"), event(30, "a30"), event(20, "a20"))
	put(t, s, "g", "b", event(15, "b15"), event(20, "b20"))
	put(t, s, "g", "other", event(12, "o12"))
	put(t, s, "h", "a", event(11, "h11"))
	all := []string{"a10", "o12", "b15", "a20", "b20", "a30"}
	for _, test := range []struct {
		name string
		q    Query
		want []string
		more bool
	}{
		{"all", Query{Group: "g"}, all, false},
		{"all, backward", Query{Group: "g", Backward: true}, all, false},
		{"first two", Query{Group: "g", Limit: 2}, all[:2], true},
		{"last two", Query{Group: "g", Limit: 2, Backward: true}, all[4:], true},
		{"streams by name", Query{Group: "g", Streams: []string{"b", "other", "none"}}, []string{"o12", "b15", "b20"}, false},
		{"streams by prefix", Query{Group: "g", StreamPrefix: "a"}, []string{"a10", "a20", "a30"}, false},
		{"from, to", Query{Group: "g", From: 12, To: 20}, all[1:3], false},
		{"by bytes", Query{Group: "g", MaxBytes: 2 * (3 + eventOverhead)}, all[:2], true},
		{"one event whatever its size", Query{Group: "g", MaxBytes: 1}, all[:1], true},
		{"nothing", Query{Group: "g", From: 100}, []string{}, false},
	} {
		page, err := s.Read(test.q)
		if err != nil {
			t.Fatal(err)
		}
		same(t, test.name, messages(page.Events), test.want)
		if page.More != test.more {
			t.Errorf("%s: More is %v", test.name, page.More)
		}
	}
	if _, err := s.Read(Query{Group: "none"}); !errors.Is(err, ErrNoGroup) {
		t.Errorf("a group that does not exist: %v", err)
	}
}

// A prefix stays a prefix: a small event does not slip in behind a large one
// that had no room.
func TestSelectionIsAPrefix(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	put(t, s, "g", "a", event(1, "first"), event(2, strings.Repeat("x", 500)), event(3, "small"))
	same(t, "page", texts(t, s, Query{Group: "g", MaxBytes: 200}), []string{"first"})
	same(t, "page", texts(t, s, Query{Group: "g", MaxBytes: 200, Backward: true}), []string{"small"})
}

// model is what a store should hold: events by group and stream.
type model struct {
	events  []Event // with their group in Stream, as "group/stream"
	horizon map[string]int64
}

func (m *model) read(q Query) []string {
	var list []Event
	for _, e := range m.events {
		group, stream, _ := strings.Cut(e.Stream, "/")
		if group == q.Group && e.Timestamp >= max(q.From, m.horizon[group]) && (q.To == 0 || e.Timestamp < q.To) &&
			(len(q.Streams) == 0 || slices.Contains(q.Streams, stream)) {
			list = append(list, e)
		}
	}
	slices.SortStableFunc(list, func(a, b Event) int { return cmp.Compare(a.Timestamp, b.Timestamp) })
	return messages(list)
}

// Random appends, expiries, deletions and restarts, in segments so small that
// all of it crosses many; read in pages of random size, both ways.
func TestAgainstModel(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runModel(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

func runModel(t *testing.T, rng *rand.Rand) {
	clk := newClock()
	cfg := Config{Dir: t.TempDir(), SegmentBytes: 4 << 10, Now: clk.now, Flush: time.Hour}
	s := open(t, cfg)
	m := &model{horizon: map[string]int64{}}
	group := func() string { return string(rune('a' + rng.IntN(3))) }
	for step := range 400 {
		clk.ms.Add(rng.Int64N(1000))
		switch op := rng.IntN(40); {
		case op < 30:
			g, st := group(), fmt.Sprint(rng.IntN(5))
			var events []Event
			for i := range 1 + rng.IntN(8) {
				e := event(clk.ms.Load()-rng.Int64N(5000), fmt.Sprintf("%s/%s %d.%d %s", g, st, step, i, strings.Repeat("x", rng.IntN(200))))
				events = append(events, e)
				e.Stream = g + "/" + st
				m.events = append(m.events, e)
			}
			put(t, s, g, st, events...)
		case op < 33:
			s.tidy()
		case op == 33:
			s = reopen(t, s)
		case op == 34:
			g, before := group(), clk.ms.Load()-rng.Int64N(60_000)
			if err := s.Expire(g, before); err == nil {
				m.horizon[g] = max(m.horizon[g], before)
			} else if !errors.Is(err, ErrNoGroup) {
				t.Fatal(err)
			}
		case op == 35:
			g, st := group(), fmt.Sprint(rng.IntN(5))
			if err := s.DeleteStream(g, st); err == nil {
				m.events = slices.DeleteFunc(m.events, func(e Event) bool { return e.Stream == g+"/"+st })
			}
		case op == 36 && rng.IntN(4) == 0:
			g := group()
			if err := s.DeleteGroup(g); err == nil {
				m.events = slices.DeleteFunc(m.events, func(e Event) bool { return strings.HasPrefix(e.Stream, g+"/") })
				delete(m.horizon, g)
			}
		default:
			q := Query{Group: group(), Limit: rng.IntN(100), Backward: rng.IntN(2) == 0}
			if rng.IntN(2) == 0 {
				q.From, q.To = clk.ms.Load()-rng.Int64N(200_000), clk.ms.Load()-rng.Int64N(20_000)
			}
			if rng.IntN(2) == 0 {
				q.Streams = []string{fmt.Sprint(rng.IntN(5)), fmt.Sprint(rng.IntN(5))}
			}
			if s.HasGroup(q.Group) {
				same(t, fmt.Sprintf("step %d %+v", step, q), pages(t, s, q), m.read(q))
			}
		}
		if t.Failed() {
			return
		}
		checkAccounts(t, s)
	}
}

// pages reads a query page by page.
func pages(t *testing.T, s *Store, q Query) []string {
	t.Helper()
	list := []string{}
	for {
		page, err := s.Read(q)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Events) == 0 {
			return list
		}
		if q.Backward {
			list = append(messages(page.Events), list...)
			q.After = page.Events[0].Position()
		} else {
			list = append(list, messages(page.Events)...)
			q.After = page.Events[len(page.Events)-1].Position()
		}
		if !page.More {
			q.Limit = 0
		}
	}
}

// checkAccounts recomputes every sum that the store keeps.
func checkAccounts(t *testing.T, s *Store) {
	t.Helper()
	s.wmu.Lock()
	defer s.wmu.Unlock()
	groups := map[*group]int64{}
	for _, seg := range s.segments {
		var live int64
		for i, sp := range seg.spans {
			live += sp.bytes
			groups[sp.of.group] += sp.bytes
			if sp.at != i || sp.seg != seg || s.streams[sp.of.id] != sp.of || !slices.Contains(sp.of.spans, sp) {
				t.Errorf("segment %v has a stray span of %s", seg.id, sp.of.name)
			}
		}
		if seg.live != live {
			t.Errorf("segment %v has %d live bytes, says %d", seg.id, live, seg.live)
		}
	}
	for _, g := range s.groups {
		if g.bytes != groups[g] {
			t.Errorf("group %s has %d bytes, says %d", g.name, groups[g], g.bytes)
		}
	}
	var disk, known int64
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if fi, err := e.Info(); err == nil {
			disk += fi.Size()
		}
	}
	for _, seg := range s.segments {
		known += seg.disk()
	}
	if disk > known+s.catalog.size.Load() {
		t.Errorf("%d bytes on disk, known are %d", disk, known+s.catalog.size.Load())
	}
	if tmp, _ := filepath.Glob(s.path("*.tmp")); len(tmp) > 0 {
		t.Errorf("left over: %v", tmp)
	}
}
