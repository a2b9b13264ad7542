//go:build linux

package linux

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Two firns on one host never have an id in common, and what one gave up
// another may have.
func TestClaims(t *testing.T) {
	dir := t.TempDir()
	claim := func() *claims { return &claims{log: slog.New(slog.DiscardHandler), dir: dir, origin: defaultFirstUID} }
	one, two := newSlots(300, claim()), newSlots(10, claim())
	seen := map[uint32]bool{}
	take := func(s *slots, n int) {
		t.Helper()
		for range n {
			slot, err := s.take()
			if err != nil {
				t.Fatal(err)
			}
			id := s.firstID(slot)
			if seen[id] || id < defaultFirstUID || id%idsPerSandbox != 0 {
				t.Fatalf("slot %d has ids from %#x", slot, id)
			}
			seen[id] = true
		}
	}
	take(one, 200)
	take(two, 10)
	take(one, 100)
	for _, s := range []*slots{one, two} {
		if _, err := s.take(); err == nil || !strings.Contains(err.Error(), "the most that are configured") {
			t.Errorf("beyond the most: %v", err)
		}
	}
	if err := one.ids.close(); err != nil {
		t.Fatal(err)
	}
	three := newSlots(1, claim())
	slot, err := three.take()
	if err != nil || three.firstID(slot) != defaultFirstUID {
		t.Errorf("after the end of the first: %v, ids from %#x", err, three.firstID(slot))
	}
}

func TestClaimsRunOut(t *testing.T) {
	dir := t.TempDir()
	const origin = 1<<32 - 1<<25
	one := &claims{log: slog.New(slog.DiscardHandler), dir: dir, origin: origin}
	if err := one.another(); err != nil {
		t.Fatal(err)
	}
	two := &claims{log: slog.New(slog.DiscardHandler), dir: dir, origin: origin}
	if err := two.another(); err == nil || !strings.Contains(err.Error(), "end one of them") {
		t.Errorf("with all in use: %v", err)
	}
}

// A host without a place for the locks runs functions all the same, and says
// so.
func TestClaimsWithoutPlace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	c := &claims{log: slog.New(slog.NewTextHandler(&said, nil)), dir: filepath.Join(file, "x"), origin: defaultFirstUID}
	s := newSlots(1000, c)
	for i := range 600 {
		slot, err := s.take()
		if err != nil || s.firstID(slot) != defaultFirstUID+uint32(i)*idsPerSandbox {
			t.Fatalf("%v, slot %d", err, slot)
		}
	}
	if strings.Count(said.String(), "level=WARN") != 1 {
		t.Errorf("said: %s", said.String())
	}
}
