package statetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/firn-run/firn/internal/state"
)

func scripts() []script {
	return []script{
		{"record", []step{recordPut, recordOverwrite, recordDelete, recordGone}},
		{"optimistic", []step{optimisticCreate, optimisticReplace, optimisticDelete}},
		{"atomic", []step{atomicAbort, atomicNothing, atomicCommit, atomicAll}},
		{"list", []step{listFill, listRanges, listPages}},
		{"values", []step{valuesPut, valuesGet}},
		{"refused", []step{refusedRecords, refusedUses}},
		{"revisions", []step{revisionsFirst, revisionsGrow, revisionsGrow, revisionsGrow}},
		{"watch", []step{watchBegin, watchResume, watchFromZero}},
		{"items", []step{itemsAdd, itemsOrder, itemsMove, itemsMoved, itemsRefused}},
		{"lease", []step{leaseTake, leaseFenced, leaseTake, leaseFenced}},
	}
}

func put(ctx context.Context, s *state.Store, kind, key, value string) (state.Revision, error) {
	var rev state.Revision
	err := s.Update(ctx, func(tx state.Tx) (err error) {
		rev, err = tx.Put(kind, key, []byte(value))
		return err
	})
	return rev, err
}

// want compares a record with what it must be; the value "" means absent.
func want(ctx context.Context, s *state.Store, kind, key, value string) error {
	return s.View(ctx, func(tx state.Tx) error { return wantTx(tx, kind, key, value) })
}

func wantTx(tx state.Tx, kind, key, value string) error {
	r, ok, err := tx.Get(kind, key)
	switch {
	case err != nil:
		return err
	case ok != (value != ""):
		return fmt.Errorf("%s %q: exists is %t", kind, key, ok)
	case string(r.Value) != value:
		return fmt.Errorf("%s %q is %q, want %q", kind, key, r.Value, value)
	case ok && (r.Kind != kind || r.Key != key || r.Revision <= 0):
		return fmt.Errorf("%s %q came as %+v", kind, key, r)
	}
	return nil
}

// wantErr is nil if err is target.
func wantErr(what string, err, target error) error {
	if errors.Is(err, target) {
		return nil
	}
	return fmt.Errorf("%s: error is %v, want %v", what, err, target)
}

func recordPut(ctx context.Context, s *state.Store, _ map[string]int64) error {
	if err := want(ctx, s, "k", "a", ""); err != nil {
		return err
	}
	if _, err := put(ctx, s, "k", "a", "one"); err != nil {
		return err
	}
	_, err := put(ctx, s, "other", "a", "elsewhere")
	return errors.Join(err, want(ctx, s, "k", "a", "one"))
}

func recordOverwrite(ctx context.Context, s *state.Store, _ map[string]int64) error {
	if err := want(ctx, s, "k", "a", "one"); err != nil {
		return err
	}
	return s.Update(ctx, func(tx state.Tx) error {
		if err := wantTx(tx, "k", "a", "one"); err != nil {
			return err
		}
		if _, err := tx.Put("k", "a", []byte("two")); err != nil {
			return err
		}
		return wantTx(tx, "k", "a", "two") // sees its own write
	})
}

func recordDelete(ctx context.Context, s *state.Store, _ map[string]int64) error {
	if err := want(ctx, s, "k", "a", "two"); err != nil {
		return err
	}
	return s.Update(ctx, func(tx state.Tx) error {
		return errors.Join(tx.Delete("k", "a"), tx.Delete("k", "never was"), wantTx(tx, "k", "a", ""))
	})
}

func recordGone(ctx context.Context, s *state.Store, _ map[string]int64) error {
	return errors.Join(want(ctx, s, "k", "a", ""), want(ctx, s, "other", "a", "elsewhere"))
}

func putIf(ctx context.Context, s *state.Store, value string, rev int64) (int64, error) {
	var got state.Revision
	err := s.Update(ctx, func(tx state.Tx) (err error) {
		got, err = tx.PutIf("k", "o", []byte(value), state.Revision(rev))
		return err
	})
	return int64(got), err
}

func optimisticCreate(ctx context.Context, s *state.Store, memo map[string]int64) (err error) {
	_, err = putIf(ctx, s, "x", 7)
	if err := wantErr("PutIf of a missing record", err, state.ErrConflict); err != nil {
		return err
	}
	if memo["rev"], err = putIf(ctx, s, "one", 0); err != nil {
		return err
	}
	_, err = putIf(ctx, s, "x", 0)
	return errors.Join(wantErr("second create", err, state.ErrConflict), want(ctx, s, "k", "o", "one"))
}

func optimisticReplace(ctx context.Context, s *state.Store, memo map[string]int64) error {
	old := memo["rev"]
	_, err := putIf(ctx, s, "x", old+1)
	if err := wantErr("PutIf of another revision", err, state.ErrConflict); err != nil {
		return err
	}
	if memo["rev"], err = putIf(ctx, s, "two", old); err != nil {
		return err
	}
	_, err = putIf(ctx, s, "x", old)
	return errors.Join(wantErr("PutIf of the old revision", err, state.ErrConflict), want(ctx, s, "k", "o", "two"))
}

func optimisticDelete(ctx context.Context, s *state.Store, memo map[string]int64) error {
	del := func(rev int64) error {
		return s.Update(ctx, func(tx state.Tx) error { return tx.DeleteIf("k", "o", state.Revision(rev)) })
	}
	if err := wantErr("DeleteIf of another revision", del(memo["rev"]-1), state.ErrConflict); err != nil {
		return err
	}
	if err := del(memo["rev"]); err != nil {
		return err
	}
	return errors.Join(wantErr("DeleteIf of a missing record", del(memo["rev"]), state.ErrConflict), want(ctx, s, "k", "o", ""))
}

func atomicAbort(ctx context.Context, s *state.Store, _ map[string]int64) error {
	if _, err := put(ctx, s, "k", "kept", "before"); err != nil {
		return err
	}
	reason := errors.New("changed my mind")
	err := s.Update(ctx, func(tx state.Tx) error {
		_, err1 := tx.Put("k", "kept", []byte("after"))
		_, err2 := tx.Put("k", "new", []byte("after"))
		return errors.Join(err1, err2, tx.Delete("k", "kept"), reason)
	})
	return wantErr("aborted Update", err, reason)
}

func atomicNothing(ctx context.Context, s *state.Store, _ map[string]int64) error {
	return errors.Join(want(ctx, s, "k", "kept", "before"), want(ctx, s, "k", "new", ""))
}

func atomicCommit(ctx context.Context, s *state.Store, _ map[string]int64) error {
	return s.Update(ctx, func(tx state.Tx) error {
		for i := range 100 {
			if _, err := tx.Put("k", fmt.Sprintf("all/%02d", i), []byte("x")); err != nil {
				return err
			}
		}
		// A conflict that the function gets over keeps the rest.
		_, err := tx.PutIf("k", "kept", []byte("no"), 0)
		return errors.Join(wantErr("PutIf", err, state.ErrConflict), tx.Delete("k", "kept"))
	})
}

func atomicAll(ctx context.Context, s *state.Store, _ map[string]int64) error {
	return s.View(ctx, func(tx state.Tx) error {
		list, err := tx.List("k", "", "", 0)
		if err != nil || len(list) != 100 {
			return fmt.Errorf("%d records: %v", len(list), err)
		}
		return nil
	})
}

// listKeys are in the order of their bytes.
func listKeys() []string {
	return []string{"A", "a", "a/", "a/1", "a/10", "a/2", "a/\u007f", "a/é", "a/日本", "a/\U0001F600", "a0", "b", "é"}
}

func listFill(ctx context.Context, s *state.Store, _ map[string]int64) error {
	keys := listKeys()
	slices.Reverse(keys)
	return s.Update(ctx, func(tx state.Tx) error {
		for _, k := range keys {
			if _, err := tx.Put("l", k, []byte("value of "+k)); err != nil {
				return err
			}
		}
		_, err := tx.Put("l2", "a/3", nil)
		return err
	})
}

func listRanges(ctx context.Context, s *state.Store, _ map[string]int64) error {
	return s.View(ctx, func(tx state.Tx) error {
		for _, prefix := range []string{"", "a", "a/", "a/1", "a/é", "c", "%", "a_"} {
			for _, after := range append(listKeys(), "", "a/11", "zzz") {
				for _, limit := range []int{0, 1, 3, 100} {
					if err := listOnce(tx, prefix, after, limit); err != nil {
						return err
					}
				}
			}
		}
		return nil
	})
}

func listOnce(tx state.Tx, prefix, after string, limit int) error {
	var expect []string
	for _, k := range listKeys() {
		if strings.HasPrefix(k, prefix) && k > after && (limit == 0 || len(expect) < limit) {
			expect = append(expect, k)
		}
	}
	list, err := tx.List("l", prefix, after, limit)
	if err != nil {
		return err
	}
	var got []string
	for _, r := range list {
		if string(r.Value) != "value of "+r.Key || r.Kind != "l" || r.Revision <= 0 {
			return fmt.Errorf("list yields %+v", r)
		}
		got = append(got, r.Key)
	}
	if !slices.Equal(got, expect) {
		return fmt.Errorf("List(%q, after %q, %d) = %q, want %q", prefix, after, limit, got, expect)
	}
	return nil
}

func listPages(ctx context.Context, s *state.Store, _ map[string]int64) error {
	var got []string
	for after := ""; ; after = got[len(got)-1] {
		n := len(got)
		err := s.View(ctx, func(tx state.Tx) error {
			page, err := tx.List("l", "", after, 4)
			for _, r := range page {
				got = append(got, r.Key)
			}
			return err
		})
		if err != nil {
			return err
		}
		if len(got) == n {
			break
		}
	}
	if !slices.Equal(got, listKeys()) {
		return fmt.Errorf("pages add up to %q", got)
	}
	return nil
}

func values() map[string][]byte {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	return map[string][]byte{
		"empty": {}, "nil": nil, "zero": {0}, "all bytes": all,
		"page":                                 bytes.Repeat([]byte("p"), 4096),
		"greatest":                             bytes.Repeat([]byte{0xff, 0}, state.MaxValueBytes/2),
		strings.Repeat("k", state.MaxKeyBytes): []byte("long key"),
	}
}

func valuesPut(ctx context.Context, s *state.Store, _ map[string]int64) error {
	for k, v := range values() {
		if _, err := put(ctx, s, "v", k, string(v)); err != nil {
			return err
		}
		err := s.Update(ctx, func(tx state.Tx) error { _, err := tx.Put("v", k, v); return err })
		if err != nil {
			return err
		}
	}
	return nil
}

func valuesGet(ctx context.Context, s *state.Store, _ map[string]int64) error {
	return s.View(ctx, func(tx state.Tx) error {
		for k, v := range values() {
			r, ok, err := tx.Get("v", k)
			if err != nil || !ok || !bytes.Equal(r.Value, v) {
				return fmt.Errorf("value %.20q has %d bytes, exists %t: %v", k, len(r.Value), ok, err)
			}
		}
		return nil
	})
}

func refusedRecords(ctx context.Context, s *state.Store, _ map[string]int64) error {
	for _, r := range []state.Record{
		{Kind: "", Key: "a"}, {Kind: "k", Key: ""},
		{Kind: strings.Repeat("k", state.MaxKindBytes+1), Key: "a"},
		{Kind: "k", Key: strings.Repeat("k", state.MaxKeyBytes+1)},
		{Kind: "k", Key: "a\x00b"}, {Kind: "k", Key: "a\xff"}, {Kind: "k", Key: "a\U0010FFFF"},
		{Kind: "k", Key: "a", Value: make([]byte, state.MaxValueBytes+1)},
	} {
		err := s.Update(ctx, func(tx state.Tx) error { _, err := tx.Put(r.Kind, r.Key, r.Value); return err })
		if err := wantErr(fmt.Sprintf("Put(%.20q, %.20q)", r.Kind, r.Key), err, state.ErrInvalid); err != nil {
			return err
		}
	}
	return nil
}

func refusedUses(ctx context.Context, s *state.Store, _ map[string]int64) error {
	var kept state.Tx
	err := s.View(ctx, func(tx state.Tx) error {
		kept = tx
		_, err := tx.Put("k", "a", nil)
		return errors.Join(wantErr("Put in View", err, state.ErrReadOnly),
			wantErr("Delete in View", tx.Delete("k", "a"), state.ErrReadOnly))
	})
	if err != nil {
		return err
	}
	_, _, err = kept.Get("k", "a")
	if err := wantErr("Get after View", err, state.ErrTxDone); err != nil {
		return err
	}
	if err := s.Update(ctx, func(tx state.Tx) error { kept = tx; return nil }); err != nil {
		return err
	}
	_, err = kept.Put("k", "a", nil)
	if err := wantErr("Put after Update", err, state.ErrTxDone); err != nil {
		return err
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	err = s.Update(ended, func(state.Tx) error { return errors.New("was called") })
	return errors.Join(wantErr("Update after its context", err, context.Canceled),
		wantErr("View after its context", s.View(ended, func(state.Tx) error { return nil }), context.Canceled))
}

func revisionsFirst(ctx context.Context, s *state.Store, memo map[string]int64) error {
	return s.View(ctx, func(tx state.Tx) error {
		rev, err := tx.Revision()
		if rev != 0 {
			return fmt.Errorf("an empty store has revision %d: %v", rev, err)
		}
		return err
	})
}

func revisionsGrow(ctx context.Context, s *state.Store, memo map[string]int64) error {
	last := state.Revision(memo["last"])
	err := s.Update(ctx, func(tx state.Tx) error {
		begin, err := tx.Revision()
		if err != nil || begin != last {
			return fmt.Errorf("begins with revision %d, want %d: %v", begin, last, err)
		}
		for _, key := range []string{"a", "b", "a"} {
			rev, err := tx.Put("k", key, nil)
			if err != nil || rev <= last {
				return fmt.Errorf("revision %d after %d: %v", rev, last, err)
			}
			last = rev
		}
		if err := tx.Delete("k", "b"); err != nil {
			return err
		}
		rev, err := tx.Revision()
		if rev <= last {
			return fmt.Errorf("after Delete the revision is %d, before it was %d", rev, last)
		}
		last = rev
		return err
	})
	if err != nil {
		return err
	}
	memo["last"] = int64(last)
	return s.View(ctx, func(tx state.Tx) error {
		rev, err := tx.Revision()
		if rev != last {
			return fmt.Errorf("in View the revision is %d, want %d", rev, last)
		}
		return err
	})
}

// watch collects n changes and describes them.
func watch(ctx context.Context, s *state.Store, since int64, n int) (string, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var b strings.Builder
	last := since
	for c, err := range s.Watch(ctx, state.Revision(since)) {
		if err != nil {
			return b.String(), last, err
		}
		if int64(c.Revision) <= last {
			return "", 0, fmt.Errorf("revision %d after %d", c.Revision, last)
		}
		last = int64(c.Revision)
		if c.Deleted {
			fmt.Fprintf(&b, "-%s/%s ", c.Kind, c.Key)
		} else {
			fmt.Fprintf(&b, "%s/%s=%s ", c.Kind, c.Key, c.Value)
		}
		if n--; n == 0 {
			break
		}
	}
	return b.String(), last, nil
}

func wantWatch(ctx context.Context, s *state.Store, since int64, n int, expect string) (int64, error) {
	got, last, err := watch(ctx, s, since, n)
	if err == nil && got != expect {
		err = fmt.Errorf("watch from %d yields %q, want %q", since, got, expect)
	}
	return last, err
}

func watchBegin(ctx context.Context, s *state.Store, memo map[string]int64) (err error) {
	for _, kv := range []string{"a1", "b2", "a3", "c4"} {
		if _, err := put(ctx, s, "w", kv[:1], kv[1:]); err != nil {
			return err
		}
	}
	// The first write of a is superseded.
	memo["seen"], err = wantWatch(ctx, s, 0, 3, "w/b=2 w/a=3 w/c=4 ")
	return err
}

func watchResume(ctx context.Context, s *state.Store, memo map[string]int64) error {
	err := s.Update(ctx, func(tx state.Tx) error { return tx.Delete("w", "b") })
	if err != nil {
		return err
	}
	if _, err := put(ctx, s, "w", "d", "5"); err != nil {
		return err
	}
	_, err = wantWatch(ctx, s, memo["seen"], 2, "-w/b w/d=5 ")
	if err != nil {
		return err
	}
	_, _, err = watch(ctx, s, 1<<40, 1)
	return wantErr("watch from the future", err, state.ErrCompacted)
}

func watchFromZero(ctx context.Context, s *state.Store, memo map[string]int64) error {
	if _, err := wantWatch(ctx, s, memo["seen"], 2, "-w/b w/d=5 "); err != nil {
		return err
	}
	_, err := wantWatch(ctx, s, 0, 4, "w/a=3 w/c=4 -w/b w/d=5 ")
	return err
}

func leaseTake(ctx context.Context, s *state.Store, memo map[string]int64) error {
	epoch, err := s.Lease(ctx, "job", time.Hour)
	if err != nil || int64(epoch) <= memo["epoch"] {
		return fmt.Errorf("epoch %d after %d: %v", epoch, memo["epoch"], err)
	}
	_, err = s.Lease(ctx, "job", time.Hour)
	if err := wantErr("second Lease", err, state.ErrLeaseHeld); err != nil {
		return err
	}
	fence := func(e state.Epoch) error {
		return s.Update(ctx, func(tx state.Tx) error {
			if _, err := tx.Put("k", "fenced", nil); err != nil {
				return err
			}
			return tx.Fence("job", e)
		})
	}
	memo["epoch"] = int64(epoch)
	return errors.Join(fence(epoch), s.RenewLease(ctx, "job", epoch, time.Hour), fence(epoch),
		wantErr("fence of the former", fence(epoch-1), state.ErrLeaseLost),
		s.ReleaseLease(ctx, "job", epoch),
		wantErr("fence after release", fence(epoch), state.ErrLeaseLost),
		wantErr("second release", s.ReleaseLease(ctx, "job", epoch), state.ErrLeaseLost))
}

func leaseFenced(ctx context.Context, s *state.Store, memo map[string]int64) error {
	old := state.Epoch(memo["epoch"])
	err := s.Update(ctx, func(tx state.Tx) error { return tx.Fence("job", old) })
	return errors.Join(wantErr("fence of a released lease", err, state.ErrLeaseLost),
		wantErr("renewal of a released lease", s.RenewLease(ctx, "job", old, time.Hour), state.ErrLeaseLost))
}
