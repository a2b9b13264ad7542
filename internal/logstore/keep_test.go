package logstore

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func diskUse(t *testing.T, dir string) int64 {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var n int64
	for _, e := range entries {
		if fi, err := e.Info(); err == nil {
			n += fi.Size()
		}
	}
	return n
}

// However much is written, in events of all sizes, the directory stays below
// its bound, the newest events are there, and what went is counted.
func TestMaxBytes(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir(), MaxBytes: minBytes, Flush: time.Hour})
	rng := rand.New(rand.NewPCG(3, 4))
	sent := 0
	for written := 0; written < 3*minBytes; {
		var events []Event
		for range 1 + rng.IntN(50) {
			size := rng.IntN(300)
			if rng.IntN(200) == 0 {
				size = rng.IntN(MaxMessage)
			}
			events = append(events, event(int64(sent), fmt.Sprint(sent, " ", strings.Repeat("x", size))))
			sent++
			written += size
		}
		put(t, s, "g", fmt.Sprint(sent/3000), events...)
		if rng.IntN(20) == 0 {
			s.tidy()
			if use := diskUse(t, s.cfg.Dir); use > minBytes || use > s.Stats().Bytes {
				t.Fatalf("%d bytes on disk, %d known", use, s.Stats().Bytes)
			}
		}
	}
	st := s.Stats()
	got := pages(t, s, Query{Group: "g"})
	if int64(len(got))+st.EvictedEvents != int64(sent) || st.EvictedEvents == 0 || st.Appended != int64(sent) {
		t.Errorf("%d of %d events are there, stats %+v", len(got), sent, st)
	}
	for i, text := range got {
		if !strings.HasPrefix(text, fmt.Sprint(sent-len(got)+i, " ")) {
			t.Fatalf("event %d from the end is %.20q", len(got)-i, text)
		}
	}
	if s.HasStream("g", "0") {
		t.Error("a stream without events is still there")
	}
	checkAccounts(t, s)
	s = reopen(t, s)
	if again := pages(t, s, Query{Group: "g"}); !slices.Equal(again, got) {
		t.Errorf("%d events after a restart, were %d", len(again), len(got))
	}
}

// Expired and deleted events are gone at once for readers, and soon from the
// disk, also where they share segments with others.
func TestExpireFreesRoom(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir(), SegmentBytes: 16 << 10, Flush: time.Hour})
	var kept []string
	for n := range 600 {
		put(t, s, "short", fmt.Sprint("s", n%3), event(int64(n), strings.Repeat("x", 500)))
		if n%10 == 0 {
			kept = append(kept, fmt.Sprint("kept ", n))
			put(t, s, "long", "s", event(int64(n), kept[len(kept)-1]))
		}
	}
	s.tidy()
	before := diskUse(t, s.cfg.Dir)
	reader := Query{Group: "short", Limit: 100}
	first := texts(t, s, reader)
	if err := s.Expire("short", 550); err != nil {
		t.Fatal(err)
	}
	if err := s.Expire("short", 10); err != nil { // earlier: no effect
		t.Fatal(err)
	}
	if got := texts(t, s, Query{Group: "short"}); len(got) != 50 || len(first) != 100 {
		t.Errorf("%d events are not expired, want 50", len(got))
	}
	s.tidy()
	if after := diskUse(t, s.cfg.Dir); after > before/4 {
		t.Errorf("%d bytes on disk, %d before", after, before)
	}
	if st := s.Stats(); st.EvictedEvents != 0 {
		t.Errorf("%d events count as evicted", st.EvictedEvents)
	}
	same(t, "the other group", texts(t, s, Query{Group: "long"}), kept)
	list, _, err := s.Streams(StreamQuery{Group: "short"})
	if err != nil || len(list) != 3 || list[0].FirstEvent < 550 {
		t.Errorf("streams: %+v, %v", list, err)
	}
	checkAccounts(t, s)
	if err := s.DeleteGroup("short"); err != nil {
		t.Fatal(err)
	}
	put(t, s, "other", "s", event(1, "not expired with the time of another group"))
	s = reopen(t, s)
	s.tidy()
	same(t, "the other group after a restart", texts(t, s, Query{Group: "long"}), kept)
	checkAccounts(t, s)
	if n, _ := filepath.Glob(s.path("*.log")); len(n) > 10 {
		t.Errorf("%d segments are left", len(n))
	}
}

// An environment's stream goes with its last event, a client's stays.
func TestEmptyStreams(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir(), Flush: time.Hour})
	if err := s.CreateGroup("g"); err != nil {
		t.Fatal(err)
	}
	if err := s.CreateStream("g", "made"); err != nil {
		t.Fatal(err)
	}
	put(t, s, "g", "made", event(1, "x"))
	put(t, s, "g", "auto", event(1, "x"))
	if err := s.Expire("g", 2); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if s.HasStream("g", "auto") || !s.HasStream("g", "made") {
			t.Errorf("auto: %v, made: %v", s.HasStream("g", "auto"), s.HasStream("g", "made"))
		}
		s = reopen(t, s)
	}
	put(t, s, "g", "auto", event(3, "again"))
	s = reopen(t, s)
	same(t, "events", texts(t, s, Query{Group: "g"}), []string{"again"})
}

// A sync is shared by those who wait for it, and what is not waited for is
// synced within Config.Flush.
func TestGroupCommit(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir(), Flush: time.Hour})
	put(t, s, "g", "s", event(1, "x"))
	before := s.Stats().Syncs
	s.syncMu.Lock() // as if a sync were under way
	var wg sync.WaitGroup
	for n := range 20 {
		wg.Go(func() {
			if err := s.Append(Batch{"g", "s", []Event{event(int64(n), "x")}}, Mode{Durable: true}); err != nil {
				t.Error(err)
			}
		})
	}
	for s.Stats().Appended < 21 {
		time.Sleep(time.Millisecond) // archtest:sleep polls a counter that tells nobody
	}
	s.syncMu.Unlock()
	wg.Wait()
	if n := s.Stats().Syncs - before; n != 1 {
		t.Errorf("%d syncs for 20 appends that waited together", n)
	}

	quick := open(t, Config{Dir: t.TempDir(), Flush: time.Millisecond})
	put(t, quick, "g", "s", event(1, "x"))
	for deadline := time.Now().Add(10 * time.Second); quick.Stats().Syncs == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing is synced")
		}
	}
}

// A disk that fails gives errors to those who wait, and the store goes on in
// other files.
func TestFailingFiles(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir(), Flush: time.Hour})
	durable := func(text string) error {
		return s.Append(Batch{"g", "s", []Event{event(1, text)}}, Mode{Durable: true, Create: true})
	}
	if err := durable("one"); err != nil {
		t.Fatal(err)
	}
	s.active.file.Close() // neither writing nor cutting off works
	if err := durable("lost"); err == nil {
		t.Error("a failed write is not told")
	}
	if err := durable("two"); err != nil {
		t.Error(err)
	}
	s.syncMu.Lock() // so that the sync comes after the file is broken
	result := make(chan error)
	go func() { result <- durable("three, perhaps") }()
	for s.Stats().Appended < 3 {
		time.Sleep(time.Millisecond)
	}
	s.wmu.Lock()
	s.active.file.Close()
	s.wmu.Unlock()
	s.syncMu.Unlock()
	if err := <-result; err == nil {
		t.Error("a failed sync is not told")
	}
	s.catalog.file.Close()
	if err := s.CreateGroup("h"); err == nil {
		t.Error("a failed write of the catalog is not told")
	}
	if err := durable("four"); err != nil {
		t.Error(err)
	}
	if st := s.Stats(); st.Failed != 1 {
		t.Errorf("stats: %+v", st)
	}
	s.tidy() // writes the catalog anew
	if err := s.CreateGroup("h"); err != nil {
		t.Error(err)
	}
	s = reopen(t, s)
	same(t, "events", texts(t, s, Query{Group: "g"}), []string{"one", "two", "three, perhaps", "four"})
	if !s.HasGroup("h") {
		t.Error("the group is gone")
	}
}

// A block that goes bad costs its own events.
func TestCorruptBlockIsPassedOver(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir(), SegmentBytes: 1, Flush: time.Hour})
	for n := range 3 {
		put(t, s, "g", "s", event(int64(n), fmt.Sprint("event ", n)))
	}
	s.tidy()
	name := s.path(fileID{number: 1}.log())
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	same(t, "events", texts(t, s, Query{Group: "g"}), []string{"event 0", "event 2"})
	if st := s.Stats(); st.Corrupt != 1 {
		t.Errorf("stats: %+v", st)
	}
}

func TestClosedStore(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	put(t, s, "g", "s", event(1, "x"))
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	for what, err := range map[string]error{
		"append": s.Append(Batch{"g", "s", []Event{event(1, "x")}}, Mode{}),
		"create": s.CreateGroup("h"),
		"expire": s.Expire("g", 5),
	} {
		if err != ErrClosed {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := Open(Config{Dir: t.TempDir(), MaxBytes: 1}); err == nil {
		t.Error("a store of one byte opens")
	}
}
