package logstore

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func groupNames(list []GroupInfo) []string {
	names := []string{}
	for _, g := range list {
		names = append(names, g.Name)
	}
	return names
}

func TestGroupsAndStreams(t *testing.T) {
	clk := newClock()
	s := open(t, Config{Dir: t.TempDir(), Now: clk.now})
	for _, name := range []string{"/aws/b", "/aws/a", "other"} {
		if err := s.CreateGroup(name); err != nil {
			t.Fatal(err)
		}
		clk.ms.Add(1)
	}
	for _, test := range []struct {
		what string
		err  error
		want error
	}{
		{"group twice", s.CreateGroup("other"), ErrGroupExists},
		{"stream", s.CreateStream("other", "s"), nil},
		{"stream twice", s.CreateStream("other", "s"), ErrStreamExists},
		{"stream of no group", s.CreateStream("none", "s"), ErrNoGroup},
		{"delete stream of no group", s.DeleteStream("none", "s"), ErrNoGroup},
		{"delete no stream", s.DeleteStream("other", "none"), ErrNoStream},
		{"delete no group", s.DeleteGroup("none"), ErrNoGroup},
		{"expire in no group", s.Expire("none", 1), ErrNoGroup},
		{"long name", s.CreateGroup(strings.Repeat("x", MaxName+1)), ErrTooLarge},
		{"append to no group", s.Append(Batch{"none", "s", []Event{event(1, "x")}}, Mode{}), ErrNoGroup},
		{"append to no stream", s.Append(Batch{"other", "none", []Event{event(1, "x")}}, Mode{Durable: true}), ErrNoStream},
		{"append too much", s.Append(Batch{"other", "s", []Event{event(1, strings.Repeat("x", MaxMessage+1))}}, Mode{}), ErrTooLarge},
		{"append as much as may be", s.Append(Batch{"other", "s", []Event{event(1, strings.Repeat("x", MaxMessage))}}, Mode{}), nil},
	} {
		if !errors.Is(test.err, test.want) {
			t.Errorf("%s: %v, want %v", test.what, test.err, test.want)
		}
	}
	s = reopen(t, s)
	same(t, "all groups", groupNames(s.Groups("", "", 0)), []string{"/aws/a", "/aws/b", "other"})
	same(t, "by prefix", groupNames(s.Groups("/aws", "", 1)), []string{"/aws/a"})
	same(t, "after", groupNames(s.Groups("", "/aws/a", 0)), []string{"/aws/b", "other"})
	if g, ok := s.Group("/aws/a"); !ok || g.Created != 1_700_000_000_001 || g.StoredBytes != 0 {
		t.Errorf("group is %+v, %v", g, ok)
	}
	if g, ok := s.Group("other"); !ok || g.Streams != 1 || g.StoredBytes < MaxMessage {
		t.Errorf("group is %+v, %v", g, ok)
	}
	if err := s.DeleteGroup("other"); err != nil {
		t.Fatal(err)
	}
	s = reopen(t, s)
	if s.HasGroup("other") || s.HasStream("other", "s") || !s.HasGroup("/aws/b") {
		t.Error("a deleted group is back, or another is gone")
	}
	if err := s.CreateGroup("other"); err != nil {
		t.Fatal(err)
	}
	if g, _ := s.Group("other"); g.Streams != 0 || g.StoredBytes != 0 {
		t.Errorf("the group made again has %+v", g)
	}
}

func TestStreamsInOrder(t *testing.T) {
	clk := newClock()
	s := open(t, Config{Dir: t.TempDir(), Now: clk.now})
	put(t, s, "g", "b", event(300, "x"), event(100, "x"))
	put(t, s, "g", "a", event(500, "x"))
	put(t, s, "g", "c1", event(400, "x"))
	if err := s.CreateStream("g", "c/2"); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		q    StreamQuery
		want string
	}{
		{"by name", StreamQuery{}, "a b c/2 c1"},
		{"descending", StreamQuery{Descending: true}, "c1 c/2 b a"},
		{"by last event", StreamQuery{ByLastEvent: true}, "c/2 b c1 a"},
		{"by last event, descending", StreamQuery{ByLastEvent: true, Descending: true}, "a c1 b c/2"},
		{"prefix", StreamQuery{Prefix: "c"}, "c/2 c1"},
	} {
		for limit := range 5 {
			q := test.q
			q.Group, q.Limit = "g", limit
			var names []string
			for {
				list, next, err := s.Streams(q)
				if err != nil {
					t.Fatal(err)
				}
				for _, st := range list {
					names = append(names, st.Name)
				}
				if q.After = next; next == "" {
					break
				}
			}
			same(t, fmt.Sprintf("%s, limit %d", test.name, limit), strings.Join(names, " "), test.want)
		}
	}
	list, _, err := s.Streams(StreamQuery{Group: "g", Prefix: "b"})
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	now := clk.ms.Load()
	same(t, "stream", list[0], StreamInfo{Name: "b", Created: now, FirstEvent: 100, LastEvent: 300, LastIngestion: now, StoredBytes: blockHeader + 7})
	if _, _, err := s.Streams(StreamQuery{Group: "none"}); !errors.Is(err, ErrNoGroup) {
		t.Errorf("no group: %v", err)
	}
	if _, _, err := s.Streams(StreamQuery{Group: "g", After: "nonsense"}); !errors.Is(err, ErrCursor) {
		t.Errorf("a wrong cursor: %v", err)
	}
}

// Streams that output made are let go of to make room for others; those that
// a client made are not.
func TestMaxStreams(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir(), MaxStreams: 10})
	put(t, s, "g", "old", event(1, "x"))
	for n := range 20 {
		put(t, s, "g", fmt.Sprint(n), event(int64(10+n), "x"))
	}
	if st := s.Stats(); st.Streams+st.Groups != 10 || st.EvictedEvents != 12 {
		t.Errorf("stats: %+v", st)
	}
	if s.HasStream("g", "old") || !s.HasStream("g", "11") {
		t.Error("not the oldest streams went")
	}
	for n := range 9 {
		if err := s.CreateStream("g", fmt.Sprint("kept", n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.CreateStream("g", "more"); !errors.Is(err, ErrTooMany) {
		t.Errorf("one stream too many: %v", err)
	}
	if err := s.Append(Batch{"g", "more", []Event{event(1, "x")}}, Mode{Create: true}); !errors.Is(err, ErrTooMany) {
		t.Errorf("one stream too many: %v", err)
	}
	s = reopen(t, s)
	same(t, "events", texts(t, s, Query{Group: "g"}), []string{})
	checkAccounts(t, s)
}

// The catalog does not grow with what was and is no more.
func TestCatalogIsRewritten(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir(), Flush: time.Hour})
	put(t, s, "g", "kept", event(1, "x"))
	for n := range 1000 {
		name := fmt.Sprint(strings.Repeat("n", 100), n)
		put(t, s, "g", name, event(int64(n), "x"))
		st, err := s.find("g", name)
		if err == nil {
			err = s.catalog.append(record{kind: recDropStream, id: st.id})
		}
		if err != nil {
			t.Fatal(err)
		}
		s.mu.Lock()
		s.forgetStreamLocked(st)
		s.mu.Unlock()
	}
	before, next := s.catalog.size.Load(), s.nextSeq
	s.tidy()
	if s.catalog.size.Load() > 200 || before < 64<<10 {
		t.Errorf("the catalog went from %d to %d bytes", before, s.catalog.size.Load())
	}
	id := s.nextID
	s = reopen(t, s)
	same(t, "events", texts(t, s, Query{Group: "g"}), []string{"x"})
	if s.nextID != id || s.nextSeq < next {
		t.Errorf("numbers begin anew: %d and %d, were %d and %d", s.nextID, s.nextSeq, id, next)
	}
}
