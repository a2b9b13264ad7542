package initproto

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func samples() []Message {
	mounts := []Mount{{Dest: "/usr", FD: true}, {Dest: "/etc/ld.so.cache", Source: "/etc/ld.so.cache", File: true}}
	ids := []IDMap{{0, 0x10000000, 65536}}
	return []Message{
		&Failure{Step: "mount /proc", Errno: 1},
		&OK{},
		&Spawn{UIDs: ids, GIDs: ids, Unprivileged: true, InCgroup: true, Tasks: 5, Tree: true},
		&Spawned{PID: 4711, Tree: true, Entered: true},
		&Setup{Mounts: mounts, Links: []Link{{"/bin", "usr/bin"}}, Devices: mounts, Tree: true, Base: true, Hostname: "h", UID: 993, GID: 990,
			SetIDs: true, KeepHost: true, Processes: 1024, TUN: true},
		&Ready{},
		&Settle{Filter: "\x06\x00"},
		&Assign{Mounts: mounts, TmpBytes: 10 << 30},
		&Start{Path: "/var/task/bootstrap", Args: []string{"a", ""}, Env: []string{"A=b"}, Dir: "/", Stdout: true, Extra: 3},
		&Started{PID: 2, Errno: 13, BadDir: true},
		&Signal{PID: 2, Signal: 15},
		&SignalAll{Signal: 9},
		&Reset{},
		&Measure{},
		&Measured{Bytes: 1 << 40, Processes: 3, CPUTime: 5},
		&Exited{PID: 2, Status: 0x7f00},
		&Spilled{Length: MaxSpill},
		&Rest{},
		&Rested{},
		&Open{Streams: 2, Daemon: true},
		&Opened{},
		&Template{Mounts: mounts, Links: []Link{{"/bin", "usr/bin"}}},
	}
}

// The init that rests has this packet in assembly (rest_amd64.s).
func TestRestedOnTheWire(t *testing.T) {
	got, err := Append(nil, 0, &Rested{})
	if diff := cmp.Diff([]byte{19, 0, 0, 0, 0}, got); diff != "" || err != nil {
		t.Errorf("%s, %v", diff, err)
	}
}

func TestRoundTrip(t *testing.T) {
	for i, m := range samples() {
		if got := Kind(i + 1); m.Kind() != got {
			t.Errorf("%T: kind %d, want %d", m, m.Kind(), got)
		}
		packet, err := Append(nil, 77, m)
		if err != nil {
			t.Fatalf("%T: %v", m, err)
		}
		seq, got, err := Parse(packet)
		if err != nil || seq != 77 {
			t.Fatalf("%T: parse: seq %d, %v", m, seq, err)
		}
		if diff := cmp.Diff(m, got); diff != "" {
			t.Errorf("%T: %s", m, diff)
		}
		for n := range packet {
			if _, _, err := Parse(packet[:n]); !errors.Is(err, ErrMalformed) {
				t.Errorf("%T cut to %d bytes: %v", m, n, err)
			}
		}
		if _, _, err := Parse(append(packet, 0)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%T with a byte more: %v", m, err)
		}
	}
}

func TestTooLong(t *testing.T) {
	buf := []byte("kept")
	got, err := Append(buf, 1, &Start{Env: []string{strings.Repeat("x", MaxSpill)}})
	if !errors.Is(err, ErrTooLong) || string(got) != "kept" {
		t.Errorf("got %q, %v", got, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, m := range samples() {
		packet, err := Append(nil, 1, m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packet)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		seq, m, err := Parse(packet)
		if err != nil {
			return
		}
		again, err := Append(nil, seq, m)
		if err != nil {
			t.Fatal(err)
		}
		seq2, m2, err := Parse(again)
		if err != nil || seq2 != seq {
			t.Fatalf("second parse: %v", err)
		}
		if diff := cmp.Diff(m, m2); diff != "" {
			t.Error(diff)
		}
	})
}
