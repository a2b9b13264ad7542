package logstore

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
)

func TestPositions(t *testing.T) {
	list := []Position{{math.MinInt64, 0}, {-1, 5}, {0, 0}, {0, 1}, {5, 2}, {5, math.MaxUint64}, {math.MaxInt64, 1}}
	for i, p := range list {
		got, err := ParsePosition(p.String())
		if err != nil || got != p {
			t.Errorf("%v becomes %v, %v", p, got, err)
		}
		if i > 0 && (p.String() <= list[i-1].String() || !list[i-1].less(p)) {
			t.Errorf("%v does not come after %v", p, list[i-1])
		}
	}
	for _, bad := range []string{"", "x", strings.Repeat("g", 32), strings.Repeat("A", 32), "+" + strings.Repeat("0", 31), Position{}.String() + "0"} {
		if p, err := ParsePosition(bad); !errors.Is(err, ErrCursor) {
			t.Errorf("%q is %v, %v", bad, p, err)
		}
	}
}

// Cursors go on where they were while events are appended, segments are
// compacted and the store is opened anew.
func TestCursorsAreStable(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir(), SegmentBytes: 2 << 10})
	var want, got []string
	q := Query{Group: "g", Limit: 7}
	for n := range 200 {
		text := fmt.Sprintf("event %d", n)
		put(t, s, "g", fmt.Sprint(n%3), event(int64(n/2), text))
		put(t, s, "noise", "s", event(int64(n), strings.Repeat("x", 100)))
		want = append(want, text)
		if n%5 == 0 {
			page, err := s.Read(q)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, messages(page.Events)...)
			if len(page.Events) > 0 {
				if q.After, err = ParsePosition(page.Events[len(page.Events)-1].Position().String()); err != nil {
					t.Fatal(err)
				}
			}
		}
		switch n {
		case 60, 120:
			s = reopen(t, s)
		case 90:
			if err := s.DeleteGroup("noise"); err != nil {
				t.Fatal(err)
			}
			s.tidy()
		}
	}
	got = append(got, texts(t, s, Query{Group: "g", After: q.After})...)
	same(t, "events", got, want)
}

func segmentBytes(t testing.TB, messages ...string) []byte {
	o := origin{id: fileID{number: 7}, covers: 7, salt: 42}
	b := o.append(nil)
	for n, m := range messages {
		b, _ = newSealer(o.salt).appendBlock(b, blockOf{stream: 1 + uint64(n%2), seq: uint64(n + 1), ingested: 5}, []Event{event(int64(n), m), event(int64(-n), m)})
	}
	return b
}

// A function's output that looks like a block never passes for one.
func TestForgedBlock(t *testing.T) {
	inner, _ := newSealer(0).appendBlock(nil, blockOf{stream: 9, seq: 9}, []Event{event(1, "forged")})
	whole := segmentBytes(t, "one", string(inner))
	// The write was torn in the middle, and what is left begins with the
	// forged block.
	at := bytes.Index(whole, inner)
	torn := append(segmentBytes(t, "one"), whole[at:]...)
	x, err := scan(bytes.NewReader(torn), fileID{number: 7})
	if err != nil || x.count != 1 {
		t.Errorf("%d blocks, %v", x.count, err)
	}
}

// Whatever a segment holds, scanning it ends, and what it finds is whole.
func FuzzSegment(f *testing.F) {
	f.Add(segmentBytes(f))
	f.Add(segmentBytes(f, "a", "", strings.Repeat("b", 300)))
	f.Add(segmentBytes(f, "a", "b")[:segmentHeader+blockHeader+3])
	f.Add([]byte(segmentMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		id := fileID{number: 7}
		x, err := scan(bytes.NewReader(b), id)
		if err != nil {
			return
		}
		if x.size > int64(len(b)) || len(x.blocks) != x.count {
			t.Fatalf("%d bytes and %d of %d blocks in %d bytes", x.size, len(x.blocks), x.count, len(b))
		}
		for _, d := range x.blocks {
			raw := b[d.off : d.off+d.size]
			parsed, _, err := newSealer(x.salt).parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			if err := parsed.events(raw, func(Position, []byte) { n++ }); err == nil && n != int(d.count) {
				t.Fatalf("%d events, want %d", n, d.count)
			}
		}
		raw := x.encode()
		again, err := readIndex(bytes.NewReader(raw), int64(len(raw)), id, true)
		if err != nil {
			t.Fatal(err)
		}
		if x.blocks == nil {
			x.blocks = []block{}
		}
		if x.spans == nil {
			x.spans = []summary{}
		}
		same(t, "index", fmt.Sprintf("%+v", again), fmt.Sprintf("%+v", x))
	})
}

// Blocks are what hostile bytes reach only with the right checksum; the
// decoder of their events is tried without it.
func FuzzEvents(f *testing.F) {
	f.Add(uint32(2), segmentBytes(f, "abc")[segmentHeader:])
	f.Add(uint32(1), make([]byte, blockHeader+2))
	f.Fuzz(func(t *testing.T, count uint32, b []byte) {
		if len(b) < blockHeader {
			return
		}
		total := 0
		block{count: count}.events(b, func(_ Position, m []byte) { total += len(m) + 2 })
		if total > len(b)-blockHeader {
			t.Fatalf("%d bytes of events in %d", total, len(b)-blockHeader)
		}
	})
}

func FuzzIndex(f *testing.F) {
	x, err := scan(bytes.NewReader(segmentBytes(f, "a", "b", "c")), fileID{number: 7})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(x.encode())
	f.Add(x.encode()[:indexHeader])
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := readIndex(bytes.NewReader(b), int64(len(b)), fileID{number: 7}, true)
		if err == nil && (indexSize(len(x.spans), len(x.blocks)) != int64(len(b)) || !bytes.Equal(x.encode(), b)) {
			t.Fatalf("%+v is not what was read", x)
		}
	})
}

func FuzzCatalog(f *testing.F) {
	for _, r := range []record{
		{kind: recGroup, id: 1, when: 2, name: "/aws/lambda/f"}, {kind: recStream, id: 3, group: 1, when: -4, auto: true, name: "s"},
		{kind: recDropGroup, id: 5}, {kind: recDropStream, id: 6}, {kind: recHorizon, id: 1, when: 7}, {kind: recNext, id: 8, seq: 9},
	} {
		f.Add(r.append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, n, err := parseRecord(b)
		if err != nil {
			return
		}
		again, m, err := parseRecord(r.append(nil))
		if n > len(b) || err != nil || again != r || m > n {
			t.Fatalf("%+v of %d bytes becomes %+v of %d, %v", r, n, again, m, err)
		}
	})
}
