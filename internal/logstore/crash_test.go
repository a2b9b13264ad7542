package logstore

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// envKill makes the test binary a child that writes into the directory until
// it is killed.
const envKill = "FIRN_LOGSTORE_TEST_KILL"

func TestMain(m *testing.M) {
	if dir := os.Getenv(envKill); dir != "" {
		fmt.Fprintln(os.Stderr, killChild(dir))
		os.Exit(1) // it is meant to be killed
	}
	if dir := os.Getenv(envDiskFull); dir != "" {
		os.Exit(diskFullChild(dir))
	}
	os.Exit(m.Run())
}

const killWriters = 4

// killChild has writers that each append numbered events to a stream of their
// own and print what was acknowledged, beside one whose events are not synced.
func killChild(dir string) error {
	s, err := Open(Config{Dir: dir, SegmentBytes: 32 << 10})
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	errs := make([]error, killWriters+1)
	for w := range killWriters {
		next, err := nextNumber(s, w)
		if err != nil {
			return err
		}
		wg.Go(func() {
			for n := next; errs[w] == nil; n++ {
				text := fmt.Sprintf("%d %s", n, strings.Repeat("x", rand.IntN(3000)))
				b := Batch{"g", fmt.Sprint(w), []Event{event(int64(n), text)}}
				if errs[w] = s.Append(b, Mode{Durable: true, Create: true}); errs[w] == nil {
					mu.Lock()
					_, errs[w] = fmt.Println(w, n)
					mu.Unlock()
				}
			}
		})
	}
	wg.Go(func() {
		for n := 0; errs[killWriters] == nil; n++ {
			errs[killWriters] = s.Append(Batch{"g", fmt.Sprint("noise", n/100), []Event{event(1, "noise")}}, Mode{Create: true})
		}
	})
	wg.Wait()
	return errors.Join(errs...)
}

// nextNumber is the number that the writer has not stored; the stored ones
// must be all up to it, in order.
func nextNumber(s *Store, w int) (int, error) {
	if !s.HasGroup("g") {
		return 0, nil
	}
	next := 0
	for q := (Query{Group: "g", Streams: []string{fmt.Sprint(w)}}); ; {
		page, err := s.Read(q)
		if err != nil {
			return 0, err
		}
		for _, e := range page.Events {
			var n int
			if _, err := fmt.Sscan(string(e.Message), &n); err != nil || n != next || e.Timestamp != int64(n) {
				return 0, fmt.Errorf("writer %d has %.20q where %d should be", w, e.Message, next)
			}
			next++
			q.After = e.Position()
		}
		if !page.More {
			return next, nil
		}
	}
}

// What was acknowledged is there after a kill, and everything that is there
// is whole and in order.
func TestKill(t *testing.T) {
	rounds := 4
	if testing.Short() {
		rounds = 2
	}
	dir := t.TempDir()
	acked := make([]int, killWriters)
	for range rounds {
		killOnce(t, dir, acked)
		s, err := Open(Config{Dir: dir, SegmentBytes: 32 << 10})
		if err != nil {
			t.Fatal(err)
		}
		for w, n := range acked {
			if next, err := nextNumber(s, w); err != nil || next < n || next > n+1 {
				t.Fatalf("writer %d has %d events, acknowledged were %d: %v", w, next, n, err)
			}
		}
		if st := s.Stats(); st.Corrupt != 0 {
			t.Errorf("%d corrupt blocks", st.Corrupt)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("acknowledged: %v", acked)
}

// killOnce runs a child until it has acknowledged some events; acked are the
// numbers of events.
func killOnce(t *testing.T, dir string, acked []int) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), envKill+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	for n := 1 + rand.IntN(60); ; n-- {
		line, err := lines.ReadString('\n')
		if err != nil {
			break // killed; a line that was cut off counts for nothing
		}
		var w, number int
		if _, err := fmt.Sscan(line, &w, &number); err != nil {
			t.Fatal(err)
		}
		acked[w] = number + 1
		if n == 0 {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	err = cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.Exited() {
		t.Fatalf("child ended by itself before the kill: %v", err)
	}
}

// A power cut may leave any part of what was not synced: whatever the end of
// a segment or of the catalog looks like, what is before it is there, and the
// store can be written on.
func TestTornEnds(t *testing.T) {
	origin := t.TempDir()
	s := open(t, Config{Dir: origin})
	var all []string
	for n := range 40 {
		text := fmt.Sprint(n, strings.Repeat("y", n))
		put(t, s, "g", fmt.Sprint(n%3), event(int64(n), text))
		all = append(all, text)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	segment := fileID{}.log()
	for _, name := range []string{segment, catalogName} {
		whole, err := os.ReadFile(filepath.Join(origin, name))
		if err != nil {
			t.Fatal(err)
		}
		for cut := 0; cut <= len(whole); cut += 1 + len(whole)/60 {
			flipped := bytes.Clone(whole)
			if cut < len(whole) {
				flipped[cut] ^= 0x10
			}
			for kind, content := range [][]byte{whole[:cut], append(bytes.Clone(whole[:cut]), make([]byte, 500)...), flipped} {
				dir := t.TempDir()
				if err := os.CopyFS(dir, os.DirFS(origin)); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
					t.Fatal(err)
				}
				checkTorn(t, dir, all, fmt.Sprintf("%s at %d, kind %d", name, cut, kind))
			}
		}
	}
}

func checkTorn(t *testing.T, dir string, all []string, what string) {
	t.Helper()
	s, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	put(t, s, "g", "new", event(1000, "new"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err = Open(Config{Dir: dir})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	defer s.Close()
	got := texts(t, s, Query{Group: "g"})
	if len(got) == 0 || got[len(got)-1] != "new" {
		t.Fatalf("%s: what was written afterwards is not the last of %q", what, got)
	}
	// With a torn catalog some streams are unknown; with a torn segment the
	// events are a prefix.
	got = got[:len(got)-1]
	if strings.Contains(what, ".log") && !slices.Equal(got, all[:len(got)]) {
		t.Errorf("%s: %q is no prefix", what, got)
	}
	for _, text := range got {
		if !slices.Contains(all, text) {
			t.Errorf("%s: %q was never written", what, text)
		}
	}
}

// Index files are made again when they are lost, and files that belong to
// nothing go.
func TestIndexesAreRebuilt(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir(), SegmentBytes: 1 << 10})
	var all []string
	for n := range 100 {
		all = append(all, fmt.Sprintf("event %03d", n))
		put(t, s, "g", fmt.Sprint(n%4), event(int64(n), all[n]))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	names, _ := filepath.Glob(s.path("*.idx"))
	if len(names) < 5 {
		t.Fatalf("only %d index files", len(names))
	}
	for n, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		switch n % 5 {
		case 0:
			err = os.Remove(name)
		case 1: // its summary is read when the store is opened
			b[indexHeader+3] ^= 1
			err = os.WriteFile(name, b, 0o600)
		case 2: // its blocks later
			b[len(b)-20] ^= 1
			err = os.WriteFile(name, b, 0o600)
		case 3:
			err = os.Truncate(name, int64(len(b)-1))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	strays := []string{"0000000000000fff-00000000.idx", "catalog.tmp", names[0] + ".tmp"}
	for n, name := range strays {
		strays[n] = s.path(filepath.Base(name))
		if err := os.WriteFile(strays[n], []byte("stray"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, s.cfg)
	same(t, "events", texts(t, s, Query{Group: "g"}), all)
	for _, name := range strays {
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	checkAccounts(t, s)
}

// A compaction that a crash interrupted, at any point, leaves the old segments
// or the new one, and every event once.
func TestInterruptedCompaction(t *testing.T) {
	origin := open(t, Config{Dir: t.TempDir(), SegmentBytes: 1 << 10, Flush: time.Hour})
	for n := range 60 {
		put(t, origin, "g", "keep", event(int64(n), fmt.Sprintf("event %03d %s", n, strings.Repeat("z", 30))))
	}
	want := texts(t, origin, Query{Group: "g"})
	if err := origin.Close(); err != nil {
		t.Fatal(err)
	}
	before := t.TempDir()
	if err := os.CopyFS(before, os.DirFS(origin.cfg.Dir)); err != nil {
		t.Fatal(err)
	}
	s := open(t, origin.cfg)
	if err := s.compact(slices.Clone(s.segments[:3])); err != nil {
		t.Fatal(err)
	}
	checkAccounts(t, s)
	same(t, "events after compaction", texts(t, s, Query{Group: "g"}), want)
	s = reopen(t, s)
	same(t, "events after a restart", texts(t, s, Query{Group: "g"}), want)
	checkAccounts(t, s)
	s.Close()
	made := fileID{generation: 1}
	olds := []fileID{{number: 0}, {number: 1}, {number: 2}}
	for name, change := range map[string]func(dir string) error{
		"nothing removed": func(string) error { return nil },
		"first removed":   func(dir string) error { return os.Remove(filepath.Join(dir, olds[0].log())) },
		"second removed":  func(dir string) error { return os.Remove(filepath.Join(dir, olds[1].log())) },
		"all but an index removed": func(dir string) error {
			for _, id := range olds {
				if err := os.Remove(filepath.Join(dir, id.log())); err != nil {
					return err
				}
			}
			return os.Remove(filepath.Join(dir, olds[0].index()))
		},
		"the index not written":  func(dir string) error { return os.Remove(filepath.Join(dir, made.index())) },
		"the segment is a piece": func(dir string) error { return os.Truncate(filepath.Join(dir, made.log()), 300) },
	} {
		dir := t.TempDir()
		err := os.CopyFS(dir, os.DirFS(before))
		for _, file := range []string{made.log(), made.index()} {
			b, readErr := os.ReadFile(s.path(file))
			err = errors.Join(err, readErr, os.WriteFile(filepath.Join(dir, file), b, 0o600))
		}
		if err = errors.Join(err, change(dir)); err != nil {
			t.Fatal(err)
		}
		after := open(t, Config{Dir: dir, SegmentBytes: 1 << 10})
		same(t, name, texts(t, after, Query{Group: "g"}), want)
		checkAccounts(t, after)
		if files, _ := filepath.Glob(after.path("0000000000000000-*.log")); len(files) != 1 {
			t.Errorf("%s: generations: %v", name, files)
		}
	}
}
