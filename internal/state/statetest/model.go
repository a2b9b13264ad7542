package statetest

import (
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/firn-run/firn/internal/state"
)

// model is a store as a map, with what a follower of Watch has seen.
type model struct {
	t    *rapid.T
	s    *state.Store
	recs map[string]state.Record // by key, of the one kind
	seen map[string]string
	at   state.Revision
}

// testModel compares the store with a map over random sequences of operations
// and restarts.
func testModel(t *testing.T, open OpenFunc) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		s, end, err := open(t.Context(), dir)
		if err != nil {
			rt.Fatal(err)
		}
		m := &model{t: rt, s: s, recs: map[string]state.Record{}, seen: map[string]string{}}
		defer func() {
			if err := end(); err != nil {
				rt.Error(err)
			}
		}()
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			switch rapid.IntRange(0, 9).Draw(rt, "step") {
			case 0:
				if err := end(); err != nil {
					rt.Fatal(err)
				}
				if m.s, end, err = open(t.Context(), dir); err != nil {
					end = func() error { return nil }
					rt.Fatal(err)
				}
			case 1:
				m.follow()
			case 2:
				m.list()
			default:
				m.update()
			}
		}
		m.follow()
	})
}

func (m *model) key() string {
	return rapid.SampledFrom([]string{"a", "a/b", "a/c", "ab", "b", "ü"}).Draw(m.t, "key")
}

// update runs some writes in one Update, which may fail in the end.
func (m *model) update() {
	recs := maps.Clone(m.recs)
	fails := rapid.IntRange(0, 4).Draw(m.t, "fails") == 0
	reason := errors.New("abort")
	err := m.s.Update(m.t.Context(), func(tx state.Tx) error {
		for range rapid.IntRange(1, 4).Draw(m.t, "writes") {
			if err := m.write(tx, recs); err != nil {
				return err
			}
		}
		if fails {
			return reason
		}
		return nil
	})
	switch {
	case fails && errors.Is(err, reason):
	case !fails && err == nil:
		m.recs = recs
	default:
		m.t.Fatalf("Update: %v", err)
	}
}

func (m *model) write(tx state.Tx, recs map[string]state.Record) error {
	key := m.key()
	value := rapid.StringN(0, 20, -1).Draw(m.t, "value")
	old, exists := recs[key]
	rev := old.Revision + state.Revision(rapid.IntRange(0, 1).Draw(m.t, "stale"))
	var err error
	conflict := false
	switch rapid.IntRange(0, 3).Draw(m.t, "write") {
	case 0:
		rev, err = tx.Put("k", key, []byte(value))
		recs[key] = state.Record{Kind: "k", Key: key, Value: []byte(value), Revision: rev}
	case 1:
		conflict = rev != old.Revision
		var got state.Revision
		if got, err = tx.PutIf("k", key, []byte(value), rev); err == nil {
			recs[key] = state.Record{Kind: "k", Key: key, Value: []byte(value), Revision: got}
		}
	case 2:
		err = tx.Delete("k", key)
		delete(recs, key)
	case 3:
		conflict = rev != old.Revision || !exists
		if err = tx.DeleteIf("k", key, rev); err == nil {
			delete(recs, key)
		}
	}
	if conflict != errors.Is(err, state.ErrConflict) {
		m.t.Fatalf("conflict should be %t: %v", conflict, err)
	}
	if conflict {
		return nil
	}
	return err
}

func (m *model) list() {
	prefix := rapid.SampledFrom([]string{"", "a", "a/", "z"}).Draw(m.t, "prefix")
	err := m.s.View(m.t.Context(), func(tx state.Tx) error {
		list, err := tx.List("k", prefix, "", 0)
		if err != nil {
			return err
		}
		keys := slices.Sorted(maps.Keys(m.recs))
		keys = slices.DeleteFunc(keys, func(k string) bool { return !strings.HasPrefix(k, prefix) })
		if len(keys) != len(list) {
			m.t.Fatalf("list of %q has %d records, want %q", prefix, len(list), keys)
		}
		for i, r := range list {
			w := m.recs[keys[i]]
			if r.Key != w.Key || r.Revision != w.Revision || string(r.Value) != string(w.Value) {
				m.t.Fatalf("record %+v, want %+v", r, w)
			}
		}
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
}

// follow resumes Watch where it was left, up to a write made for it, and
// compares what its changes add up to with what must be stored.
func (m *model) follow() {
	end, err := put(m.t.Context(), m.s, "k", "end", "!")
	if err != nil {
		m.t.Fatal(err)
	}
	m.recs["end"] = state.Record{Kind: "k", Key: "end", Value: []byte("!"), Revision: end}
	for c, err := range m.s.Watch(m.t.Context(), m.at) {
		if err != nil || c.Revision <= m.at || c.Revision > end {
			m.t.Fatalf("watch at %d of %d yields %+v: %v", m.at, end, c, err)
		}
		m.at = c.Revision
		if c.Deleted {
			delete(m.seen, c.Key)
		} else {
			m.seen[c.Key] = string(c.Value)
		}
		if m.at == end {
			break
		}
	}
	stored := map[string]string{}
	for k, r := range m.recs {
		stored[k] = string(r.Value)
	}
	if !maps.Equal(m.seen, stored) {
		m.t.Fatalf("the changes lead to %q, stored is %q", m.seen, stored)
	}
}
