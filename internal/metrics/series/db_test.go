package series

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// testClock is a clock that tests move.
type testClock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *testClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *testClock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func newClock() *testClock {
	return &testClock{t: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
}

func open(t *testing.T, cfg Config) *DB {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	db, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func sampleAt(name string, at time.Time, v float64) Sample {
	return Sample{Key: NewKey("Test", name, nil, "Count"), Time: at, Point: PointOf(v, 1)}
}

func mustAdd(t *testing.T, db *DB, samples ...Sample) {
	t.Helper()
	if err := db.Add(samples, true); err != nil {
		t.Fatal(err)
	}
}

// sums reads the sums of a metric by the offset of their period in seconds.
func sums(t *testing.T, db *DB, name string, from, to time.Time, period time.Duration) map[int]float64 {
	t.Helper()
	points, err := db.Query(Query{Namespace: "Test", Name: name, Start: from, End: to, Period: period})
	if err != nil {
		t.Fatal(err)
	}
	out := map[int]float64{}
	for _, p := range points {
		out[int(p.Time.Sub(from)/time.Second)] = p.Point.Sum
	}
	return out
}

func TestMergesWhateverTheOrder(t *testing.T) {
	clock := newClock()
	db := open(t, Config{Dir: t.TempDir(), Now: clock.Now})
	begin := clock.Now()
	mustAdd(t, db, sampleAt("m", begin.Add(90*time.Second), 4), sampleAt("m", begin, 1))
	mustAdd(t, db, sampleAt("m", begin.Add(59*time.Second), 2))
	if got, want := sums(t, db, "m", begin, begin.Add(time.Hour), time.Minute), (map[int]float64{0: 3, 60: 4}); !cmp.Equal(got, want) {
		t.Errorf("minutes %v, want %v", got, want)
	}
	if got, want := sums(t, db, "m", begin.Add(-time.Minute), begin.Add(time.Hour), 5*time.Minute), (map[int]float64{0: 7}); !cmp.Equal(got, want) {
		t.Errorf("five minutes %v, want %v", got, want)
	}
	if got := sums(t, db, "m", begin, begin.Add(time.Minute), time.Minute); !cmp.Equal(got, map[int]float64{0: 3}) {
		t.Errorf("the end is not exclusive: %v", got)
	}
}

func TestUnitsAreApart(t *testing.T) {
	clock := newClock()
	db := open(t, Config{Dir: t.TempDir(), Now: clock.Now})
	for _, unit := range []string{"Bytes", "", "Bytes"} {
		mustAdd(t, db, Sample{Key: NewKey("Test", "m", nil, unit), Time: clock.Now(), Point: PointOf(1, 1)})
	}
	points, err := db.Query(Query{Namespace: "Test", Name: "m", Start: clock.Now(), End: clock.Now().Add(time.Hour), Period: time.Minute})
	if err != nil || len(points) != 2 || points[0].Unit != "Bytes" || points[0].Point.Sum != 2 || points[1].Unit != "None" {
		t.Errorf("got %+v, %v", points, err)
	}
	if listed := db.List(Filter{}); len(listed) != 1 {
		t.Errorf("a metric with two units is listed %d times", len(listed))
	}
}

// A datapoint must be the same from the head, from blocks, after a restart,
// and in part from each.
func TestSurvivesFlushAndRestart(t *testing.T) {
	clock := newClock()
	dir := t.TempDir()
	begin := clock.Now().Add(-30 * time.Hour)
	want := map[int]float64{}
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 6 {
		db := open(t, Config{Dir: dir, Now: clock.Now})
		for range 50 {
			minute := r.IntN(30 * 60)
			v := float64(r.IntN(100))
			mustAdd(t, db, sampleAt("m", begin.Add(time.Duration(minute)*time.Minute), v))
			want[minute*60] += v
		}
		if round%2 == 1 {
			db.maint.Lock()
			if err := db.flush(); err != nil {
				t.Fatal(err)
			}
			db.maint.Unlock()
			if db.head.cost != 0 {
				t.Error("the head is not empty after a flush")
			}
		}
		if got := sums(t, db, "m", begin, clock.Now(), time.Minute); !cmp.Equal(got, want) {
			t.Fatalf("round %d: %s", round, cmp.Diff(want, got))
		}
		if round == 4 {
			clock.Advance(time.Minute)
			if err := db.Maintain(); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	names, err := filepath.Glob(filepath.Join(dir, "journal-*"))
	if err != nil || len(names) > 3 {
		t.Errorf("journals remain: %v %v", names, err)
	}
}

func TestRollsUpWithAge(t *testing.T) {
	clock := newClock()
	dir := t.TempDir()
	db := open(t, Config{Dir: dir, Now: clock.Now})
	begin := clock.Now()
	total := 0.0
	for i := range 3600 {
		s := sampleAt("m", begin.Add(time.Duration(i)*time.Second), float64(i%7))
		s.HighResolution = true
		total += float64(i % 7)
		mustAdd2(t, db, s)
	}
	count := func(period time.Duration) int {
		return len(sums(t, db, "m", begin, begin.Add(time.Hour), period))
	}
	check := func(age time.Duration, finest time.Duration, want int) {
		t.Helper()
		for clock.Now().Before(begin.Add(age)) {
			clock.Advance(min(begin.Add(age).Sub(clock.Now()), 12*time.Hour))
			if err := db.Maintain(); err != nil {
				t.Fatal(err)
			}
		}
		if n := count(time.Second); n != want {
			t.Errorf("after %v there are %d datapoints, want %d", age, n, want)
		}
		sum := 0.0
		for _, v := range sums(t, db, "m", begin, begin.Add(time.Hour), finest) {
			sum += v
		}
		if want > 0 && sum != total {
			t.Errorf("after %v the sum is %v, want %v", age, sum, total)
		}
	}
	check(2*time.Hour, time.Second, 3600)
	check(5*time.Hour, time.Minute, 60)
	check(15*24*time.Hour-time.Hour, time.Minute, 60)
	check(17*24*time.Hour, 5*time.Minute, 12)
	check(71*24*time.Hour, time.Hour, 1)
	check(455*24*time.Hour-time.Hour, time.Hour, 1)
	check(485*24*time.Hour, time.Hour, 0)
	if blocks, _ := filepath.Glob(filepath.Join(dir, "block-*")); len(blocks) != 0 {
		t.Errorf("files remain when all is too old: %v", blocks)
	}
}

func mustAdd2(t *testing.T, db *DB, s Sample) {
	t.Helper()
	if err := db.Add([]Sample{s}, false); err != nil {
		t.Fatal(err)
	}
}

func TestMergesBlocksOfAWindow(t *testing.T) {
	clock := newClock()
	dir := t.TempDir()
	db := open(t, Config{Dir: dir, Now: clock.Now})
	begin := clock.Now()
	for i := range 20 {
		mustAdd(t, db, sampleAt("m", clock.Now(), 1), sampleAt(fmt.Sprint("m", i), clock.Now(), 1))
		clock.Advance(61 * time.Minute)
		if err := db.Maintain(); err != nil {
			t.Fatal(err)
		}
	}
	clock.Advance(24 * time.Hour)
	if err := db.Maintain(); err != nil {
		t.Fatal(err)
	}
	if blocks, _ := filepath.Glob(filepath.Join(dir, "block-*")); len(blocks) != 2 {
		t.Errorf("two days have %d blocks", len(blocks))
	}
	if got := sums(t, db, "m", begin, clock.Now(), 24*time.Hour); got[0] != 20 {
		t.Errorf("%v of 20 remain", got)
	}
	if got := len(db.List(Filter{})); got != 21 {
		t.Errorf("%d series are listed, want 21", got)
	}
}

func TestTornTailIsCutOff(t *testing.T) {
	for _, cut := range []int{1, 7, 20} {
		clock := newClock()
		dir := t.TempDir()
		db := open(t, Config{Dir: dir, Now: clock.Now})
		mustAdd(t, db, sampleAt("m", clock.Now(), 1))
		path := journalPath(dir, db.thisJournal)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		mustAdd(t, db, sampleAt("m", clock.Now(), 2))
		db.Close()
		both, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, both[:len(whole)+cut], 0o600); err != nil {
			t.Fatal(err)
		}
		again := open(t, Config{Dir: dir, Now: clock.Now})
		if got := sums(t, again, "m", clock.Now(), clock.Now().Add(time.Minute), time.Minute); got[0] != 1 {
			t.Errorf("with %d bytes of the second frame: %v", cut, got)
		}
		if info, err := os.Stat(path); err != nil || info.Size() != int64(len(whole)) {
			t.Errorf("the torn tail is still there: %v %v", info, err)
		}
	}
}

// What a crash leaves between writing blocks and naming them must count once.
func TestCrashBetweenBlocksAndManifest(t *testing.T) {
	clock := newClock()
	dir := t.TempDir()
	db := open(t, Config{Dir: dir, Now: clock.Now})
	mustAdd(t, db, sampleAt("m", clock.Now(), 5))
	db.maint.Lock()
	if err := db.switchHead(); err != nil {
		t.Fatal(err)
	}
	if _, err := db.writeHead(db.flushing); err != nil {
		t.Fatal(err)
	}
	db.maint.Unlock()
	mustAdd(t, db, sampleAt("m", clock.Now(), 7))
	db.Close()
	again := open(t, Config{Dir: dir, Now: clock.Now})
	if got := sums(t, again, "m", clock.Now(), clock.Now().Add(time.Minute), time.Minute); got[0] != 12 {
		t.Errorf("after the crash the sum is %v, want 12", got)
	}
	if blocks, _ := filepath.Glob(filepath.Join(dir, "block-*")); len(blocks) != 0 {
		t.Errorf("blocks that nothing names remain: %v", blocks)
	}
}

func TestFailedFlushKeepsEverything(t *testing.T) {
	clock := newClock()
	dir := t.TempDir()
	db := open(t, Config{Dir: dir, Now: clock.Now})
	mustAdd(t, db, sampleAt("m", clock.Now(), 5))
	obstacle := filepath.Join(dir, fmt.Sprintf("block-%08d", db.nextFile))
	if err := os.Mkdir(obstacle, 0o700); err != nil {
		t.Fatal(err)
	}
	db.maint.Lock()
	err := db.flush()
	db.maint.Unlock()
	if err == nil {
		t.Fatal("a flush onto a directory succeeds")
	}
	mustAdd(t, db, sampleAt("m", clock.Now(), 7))
	check := func(db *DB) {
		t.Helper()
		if got := sums(t, db, "m", clock.Now(), clock.Now().Add(time.Minute), time.Minute); got[0] != 12 {
			t.Errorf("the sum is %v, want 12", got)
		}
	}
	check(db)
	db.Close()
	os.Remove(obstacle)
	check(open(t, Config{Dir: dir, Now: clock.Now}))
}

func TestSeriesAreBounded(t *testing.T) {
	clock := newClock()
	db := open(t, Config{Dir: t.TempDir(), Now: clock.Now, MaxSeries: 13})
	for i := range 15 {
		mustAdd(t, db, sampleAt(fmt.Sprint("m", i), clock.Now(), 1))
	}
	if dropped, _ := db.Counters(); dropped != 5 || len(db.List(Filter{})) != 10 {
		t.Errorf("%d dropped, %d known", dropped, len(db.List(Filter{})))
	}
	for i := range 5 { // what is AWS's own has room left
		mustAdd(t, db, Sample{Key: NewKey("AWS/Lambda", fmt.Sprint("m", i), nil, ""), Time: clock.Now(), Point: PointOf(1, 1)})
	}
	if own := len(db.List(Filter{Namespace: "AWS/Lambda"})); own != 3 {
		t.Errorf("%d series of AWS/Lambda are known, want 3", own)
	}
	clock.Advance(2 * time.Hour)
	mustAdd(t, db, sampleAt("m0", clock.Now(), 1))
	clock.Advance(2 * time.Hour)
	if err := db.Maintain(); err != nil {
		t.Fatal(err)
	}
	mustAdd(t, db, sampleAt("new", clock.Now(), 1))
	dropped, evicted := db.Counters()
	if dropped != 7 || evicted != 4 {
		t.Errorf("%d dropped, %d evicted; want 7, and 13 known down to 10 with the new one", dropped, evicted)
	}
	names := map[string]bool{}
	for _, l := range db.List(Filter{Namespace: "Test"}) {
		names[l.Key.Name] = true
	}
	if !names["new"] || !names["m0"] || names["m1"] {
		t.Errorf("known are %v: those longest silent should have gone", names)
	}
	// It comes back with its past when it is written again.
	clock.Advance(4 * time.Hour)
	if err := db.Maintain(); err != nil {
		t.Fatal(err)
	}
	mustAdd(t, db, sampleAt("m1", clock.Now(), 1))
	if got := sums(t, db, "m1", clock.Now().Add(-24*time.Hour), clock.Now().Add(time.Minute), 48*time.Hour); got[0] != 2 {
		t.Errorf("the series that came back has the sum %v, want 2", got)
	}
}

func TestNamesAreBounded(t *testing.T) {
	clock := newClock()
	db := open(t, Config{Dir: t.TempDir(), Now: clock.Now, MaxNameBytes: 10_000})
	for i := range 100 {
		mustAdd(t, db, sampleAt(fmt.Sprint(strings.Repeat("x", 200), i), clock.Now(), 1))
	}
	if dropped, _ := db.Counters(); dropped < 50 || db.names > 10_000 {
		t.Errorf("%d dropped, %d bytes of names", dropped, db.names)
	}
}

func TestHeadIsBounded(t *testing.T) {
	clock := newClock()
	db := open(t, Config{Dir: t.TempDir(), Now: clock.Now, MaxHeadCost: 50_000})
	for i := range 2000 {
		mustAdd(t, db, sampleAt("m", clock.Now().Add(-time.Duration(i)*time.Minute), 1))
		if db.head.cost > 60_000 {
			t.Fatalf("the head costs %d", db.head.cost)
		}
	}
	if got := sums(t, db, "m", clock.Now().Add(-48*time.Hour), clock.Now().Add(time.Hour), 72*time.Hour); got[0] != 2000 {
		t.Errorf("the sum is %v, want 2000", got)
	}
}

func TestDiskIsBounded(t *testing.T) {
	clock := newClock()
	dir := t.TempDir()
	db := open(t, Config{Dir: dir, Now: clock.Now, MaxDiskBytes: 20_000})
	for range 20 {
		for i := range 100 {
			mustAdd2(t, db, sampleAt(fmt.Sprint("m", i), clock.Now(), 1))
		}
		clock.Advance(26 * time.Hour)
		if err := db.Maintain(); err != nil {
			t.Fatal(err)
		}
	}
	total := int64(0)
	for _, b := range db.blocks {
		total += b.Size
	}
	if total > 20_000 || total == 0 {
		t.Errorf("blocks take %d bytes", total)
	}
	if got := sums(t, db, "m1", clock.Now().Add(-27*time.Hour), clock.Now(), 48*time.Hour); got[0] != 1 {
		t.Errorf("the newest are gone: %v", got)
	}
}

func TestDamagedBlockIsLeftOut(t *testing.T) {
	clock := newClock()
	dir := t.TempDir()
	db := open(t, Config{Dir: dir, Now: clock.Now})
	mustAdd(t, db, sampleAt("m", clock.Now(), 5))
	db.maint.Lock()
	err := db.flush()
	db.maint.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	mustAdd(t, db, sampleAt("n", clock.Now(), 1))
	path := filepath.Join(dir, db.blocks[0].File)
	db.Close()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-trailerSize-3] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	again := open(t, Config{Dir: dir, Now: clock.Now})
	if got := sums(t, again, "n", clock.Now(), clock.Now().Add(time.Minute), time.Minute); got[0] != 1 {
		t.Errorf("what is whole is gone too: %v", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "damaged-"+filepath.Base(path))); err != nil {
		t.Errorf("the damaged file is not kept aside: %v", err)
	}
}

func TestDamagedManifestIsRefused(t *testing.T) {
	clock := newClock()
	dir := t.TempDir()
	db := open(t, Config{Dir: dir, Now: clock.Now})
	mustAdd(t, db, sampleAt("m", clock.Now(), 5))
	db.maint.Lock()
	err := db.flush()
	db.maint.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
	if err := os.WriteFile(filepath.Join(dir, manifestName), []byte("00000000\n{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: dir, Now: clock.Now, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}); err == nil {
		t.Error("a store with a damaged manifest opens")
	}
}

func TestConcurrentUse(t *testing.T) {
	clock := newClock()
	db := open(t, Config{Dir: t.TempDir(), Now: clock.Now, MaxHeadCost: 20_000})
	begin := clock.Now().Add(-time.Hour)
	var writers, others sync.WaitGroup
	stop := make(chan struct{})
	for w := range 4 {
		writers.Go(func() {
			for i := range 100 {
				if err := db.Add([]Sample{sampleAt("m", begin.Add(time.Duration(i)*time.Minute), 1)}, i%3 == w%3); err != nil && !errors.Is(err, ErrFull) {
					t.Error(err)
				}
			}
		})
	}
	others.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			clock.Advance(time.Second)
			if err := db.Maintain(); err != nil {
				t.Error(err)
			}
			sums(t, db, "m", begin, clock.Now(), time.Minute)
			db.List(Filter{Namespace: "Test"})
		}
	})
	writers.Wait()
	close(stop)
	others.Wait()
	total := 0.0
	for _, v := range sums(t, db, "m", begin, clock.Now().Add(24*time.Hour), time.Minute) {
		total += v
	}
	dropped, _ := db.Counters()
	if total+float64(dropped) != 400 {
		t.Errorf("%v samples and %d dropped, want 400 together", total, dropped)
	}
}

func TestClosed(t *testing.T) {
	clock := newClock()
	db := open(t, Config{Dir: t.TempDir(), Now: clock.Now})
	db.Close()
	if err := db.Add([]Sample{sampleAt("m", clock.Now(), 1)}, true); err != ErrClosed {
		t.Errorf("Add after Close: %v", err)
	}
	if err := db.Maintain(); err != nil {
		t.Errorf("Maintain after Close: %v", err)
	}
}
