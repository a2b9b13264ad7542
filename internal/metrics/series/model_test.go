package series

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// model is what a DB should hold: per metric and hour the number, the sum and
// the greatest of the samples.
type model map[string]map[int64][3]float64

func (m model) add(name string, t int64, v float64) {
	if m[name] == nil {
		m[name] = map[int64][3]float64{}
	}
	hour := floor(t, 3600)
	x := m[name][hour]
	m[name][hour] = [3]float64{x[0] + 1, x[1] + v, max(x[2], v)}
}

func (m model) compare(t *rapid.T, db *DB, from, to time.Time) {
	for name, want := range m {
		points, err := db.Query(Query{Namespace: "Test", Name: name, Start: from, End: to, Period: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		got := map[int64][3]float64{}
		for _, p := range points {
			got[p.Time.Unix()] = [3]float64{p.Point.Count, p.Point.Sum, p.Point.Max}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("%s: %s", name, d)
		}
	}
	if n := len(db.List(Filter{})); n != len(m) {
		t.Fatalf("%d metrics are listed, want %d", n, len(m))
	}
}

// Whatever is added, flushed, merged, rolled up and reopened, in any order and
// over weeks: the hours are those of the samples.
func TestAgainstModel(t *testing.T) {
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		if runs++; runs > 25 {
			return // each syncs files a dozen times
		}
		dir, err := os.MkdirTemp("", "series")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		clock := newClock()
		begin := clock.Now().Add(-14 * 24 * time.Hour)
		cfg := Config{Dir: dir, Now: clock.Now, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
		db, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { db.Close() }()
		want := model{}
		add := func(t *rapid.T) {
			var batch []Sample
			for range rapid.IntRange(1, 30).Draw(t, "n") {
				age := rapid.SampledFrom([]time.Duration{time.Minute, 4 * time.Hour, 14 * 24 * time.Hour}).Draw(t, "age")
				at := clock.Now().Add(-time.Duration(rapid.Int64Range(0, int64(age/time.Second)).Draw(t, "before")) * time.Second)
				s := sampleAt(fmt.Sprint("m", rapid.IntRange(0, 3).Draw(t, "name")), at, float64(rapid.IntRange(0, 9).Draw(t, "v")))
				s.HighResolution = rapid.Bool().Draw(t, "high")
				want.add(s.Key.Name, at.Unix(), s.Point.Sum)
				batch = append(batch, s)
			}
			if err := db.Add(batch, rapid.Bool().Draw(t, "durable")); err != nil {
				t.Fatal(err)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"add":  add,
			"more": add,
			"flush": func(t *rapid.T) {
				db.maint.Lock()
				defer db.maint.Unlock()
				if err := db.flush(); err != nil {
					t.Fatal(err)
				}
			},
			"maintain": func(t *rapid.T) {
				if err := db.Maintain(); err != nil {
					t.Fatal(err)
				}
			},
			"time": func(t *rapid.T) {
				if clock.Now().Sub(begin) < 60*24*time.Hour {
					clock.Advance(time.Duration(rapid.IntRange(1, 96).Draw(t, "hours")) * time.Hour)
				}
			},
			"reopen": func(t *rapid.T) {
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
				if db, err = Open(cfg); err != nil {
					t.Fatal(err)
				}
			},
			"": func(t *rapid.T) { want.compare(t, db, begin.Truncate(time.Hour), clock.Now().Add(time.Hour)) },
		})
	})
}

// After a failed write nothing is acknowledged any more, and reading goes on.
func TestBrokenJournal(t *testing.T) {
	clock := newClock()
	db := open(t, Config{Dir: t.TempDir(), Now: clock.Now})
	mustAdd(t, db, sampleAt("m", clock.Now(), 1))
	db.journal.file.Close()
	for range 2 {
		if err := db.Add([]Sample{sampleAt("n", clock.Now(), 1)}, true); !errors.Is(err, ErrBroken) {
			t.Errorf("onto a closed file: %v, want ErrBroken", err)
		}
	}
	if got := sums(t, db, "m", clock.Now(), clock.Now().Add(time.Minute), time.Minute); got[0] != 1 {
		t.Errorf("what was there is %v", got)
	}
	file, err := os.OpenFile(journalPath(db.cfg.Dir, db.thisJournal), os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	db.journal.file = file // for Close
}
