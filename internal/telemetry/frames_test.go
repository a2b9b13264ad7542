package telemetry

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// frame is a message as a managed runtime writes it.
func frame(kind byte, micro int64, text string) []byte {
	b := []byte{0xa5, 0x5a, 0x00, kind}
	b = binary.BigEndian.AppendUint32(b, uint32(len(text)))
	b = binary.BigEndian.AppendUint64(b, uint64(micro))
	return append(b, text...)
}

// seen is a Frame that outlives its call.
type seen struct {
	Level, Text string
	JSON        bool
	Micro       int64
}

// decode feeds stream in pieces of n bytes and flushes.
func decode(stream []byte, n int) (got []seen) {
	var f Frames
	each := func(fr Frame) {
		s := seen{Level: fr.Level, Text: string(fr.Text), JSON: fr.JSON}
		if !fr.Time.IsZero() {
			s.Micro = fr.Time.UnixMicro()
		}
		got = append(got, s)
	}
	for len(stream) > 0 {
		n = min(n, len(stream))
		f.Write(stream[:n], each)
		stream = stream[n:]
	}
	f.Flush(each)
	return got
}

const micro = 1_795_262_400_123_456

// The type words of Node's and Python's runtimes, section 10.
func TestFrameTypes(t *testing.T) {
	const text, object = 0x03, 0x02
	for name, kinds := range map[string][2]byte{
		"": {text, object}, "TRACE": {text | 0x04, object | 0x04}, "DEBUG": {text | 0x08, object | 0x08}, "INFO": {text | 0x0c, object | 0x0c},
		"WARN": {text | 0x10, object | 0x10}, "ERROR": {text | 0x14, object | 0x14}, "FATAL": {text | 0x18, object | 0x18},
	} {
		want := []seen{{Level: name, Text: "a message", Micro: micro}, {Level: name, Text: "{}", JSON: true, Micro: micro}}
		got := decode(append(frame(kinds[0], micro, "a message"), frame(kinds[1], micro, "{}")...), 1000)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Node's %q: %s", name, diff)
		}
	}
	for name, kinds := range map[string][2]byte{
		"DEBUG": {0x0b, 0x0a}, "INFO": {0x0f, 0x0e}, "WARN": {0x13, 0x12}, "ERROR": {0x17, 0x16}, "FATAL": {0x1b, 0x1a},
	} {
		got := decode(append(frame(kinds[0], micro, "x"), frame(kinds[1], micro, "x")...), 1000)
		if len(got) != 2 || got[0].Level != name || got[0].JSON || got[1].Level != name || !got[1].JSON {
			t.Errorf("Python's %s: %+v", name, got)
		}
	}
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestFrames(t *testing.T) {
	long := strings.Repeat("é", MaxEvent) // two bytes each
	half := strings.Repeat("é", MaxEvent/2)
	one := frame(0x0f, micro, "one")
	tests := []struct {
		name   string
		stream []byte
		want   []seen
	}{
		{"nothing", nil, nil},
		{"several, line feeds kept but the last", join(frame(0x0f, micro, "a\nb\n"), frame(0x17, micro+1, "c\n\n")),
			[]seen{{Level: "INFO", Text: "a\nb", Micro: micro}, {Level: "ERROR", Text: "c\n", Micro: micro + 1}}},
		{"empty", join(frame(0x0f, micro, ""), one), []seen{{Level: "INFO", Micro: micro}, {Level: "INFO", Text: "one", Micro: micro}}},
		{"empty at the end", join(one, frame(0x0f, micro, "")), []seen{{Level: "INFO", Text: "one", Micro: micro}, {Level: "INFO", Micro: micro}}},
		{"times that are none", join(frame(0x03, 0, "a"), frame(0x03, -1, "b"), frame(0x03, lastMicro+1, "c")),
			[]seen{{Text: "a"}, {Text: "b"}, {Text: "c"}}},
		{"plain lines", []byte("a\n\nb\nc"), []seen{{Text: "a"}, {}, {Text: "b"}, {Text: "c"}}},
		{"plain lines between", join([]byte("before\nand "), one, []byte("after\n"), one), []seen{
			{Text: "before"}, {Text: "and "}, {Level: "INFO", Text: "one", Micro: micro}, {Text: "after"}, {Level: "INFO", Text: "one", Micro: micro}}},
		{"broken magic", join([]byte{0xa5, 0x5a, 0x01, 0x0f, 0xa5, 0xa5, 0x5a}, one), []seen{
			{Text: "\xa5\x5a\x01\x0f\xa5\xa5\x5a"}, {Level: "INFO", Text: "one", Micro: micro}}},
		{"unknown types", join([]byte{0xa5, 0x5a, 0x00, 0x01}, []byte{0xa5, 0x5a, 0x00, 0x1f}, one), []seen{
			{Text: "\xa5\x5a\x00\x01\xa5\x5a\x00\x1f"}, {Level: "INFO", Text: "one", Micro: micro}}},
		{"absurd length", join([]byte{0xa5, 0x5a, 0x00, 0x0f, 0xff, 0xff, 0xff, 0xff}, one), []seen{
			{Text: "\xa5\x5a\x00\x0f\xff\xff\xff\xff"}, {Level: "INFO", Text: "one", Micro: micro}}},
		{"end within a header", join(one, one[:10]), []seen{{Level: "INFO", Text: "one", Micro: micro}, {Text: string(one[:10])}}},
		{"end behind a header", join(one, one[:16]), []seen{{Level: "INFO", Text: "one", Micro: micro}}},
		{"end within a message", join(one, one[:18]), []seen{{Level: "INFO", Text: "one", Micro: micro}, {Level: "INFO", Text: "on", Micro: micro}}},
		{"a message that looks like frames", frame(0x0f, micro, string(one)+"\n"), []seen{{Level: "INFO", Text: string(one), Micro: micro}}},
		{"the longest", frame(0x0f, micro, half), []seen{{Level: "INFO", Text: half, Micro: micro}}},
		{"longer", join(frame(0x0f, micro, long+"\n"), one), []seen{
			{Level: "INFO", Text: half, Micro: micro}, {Level: "INFO", Text: half, Micro: micro}, {Level: "INFO", Text: "one", Micro: micro}}},
		{"a character in two", frame(0x0f, micro, "x"+half+"\n"), []seen{
			{Level: "INFO", Text: "x" + half[:len(half)-2], Micro: micro}, {Level: "INFO", Text: "é", Micro: micro}}},
		{"a long line", join([]byte("x"+half+half+"y\nz\n"), one), []seen{
			{Text: "x" + half[:len(half)-2]}, {Text: half}, {Text: "éy"}, {Text: "z"}, {Level: "INFO", Text: "one", Micro: micro}}},
		{"a line of parts that fit", []byte(half + "\nz\n"), []seen{{Text: half}, {Text: "z"}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			sizes := []int{1 << 30, 4096, 7, 1}
			if len(test.stream) > 10_000 {
				sizes = []int{1 << 30, 64 << 10, 4093}
			}
			for _, n := range sizes {
				if diff := cmp.Diff(test.want, decode(test.stream, n)); diff != "" {
					t.Fatalf("in pieces of %d: %.2000s", n, diff)
				}
			}
		})
	}
}

// A hostile writer cannot make the decoder hold more than a message, whether
// it sends one line without end or announces what never comes.
// Whether a message ends in a line feed is told.
func TestFramesTellTheirEnds(t *testing.T) {
	var got []bool
	var f Frames
	f.Write(join(frame(0x0f, micro, "a"), frame(0x0f, micro, "b\n"), []byte("plain\n"), frame(0x0f, micro, "")), func(fr Frame) { got = append(got, fr.Open) })
	if diff := cmp.Diff([]bool{true, false, false, true}, got); diff != "" {
		t.Error(diff)
	}
}

func TestFramesAreBounded(t *testing.T) {
	var f Frames
	most := 0
	each := func(fr Frame) { most = max(most, len(fr.Text)) }
	block := bytes.Repeat([]byte{'x'}, 64<<10)
	f.Write([]byte{0xa5, 0x5a, 0x00, 0x0f, 0x03, 0xff, 0xff, 0xff}, each)
	for range 2 * maxFrame / len(block) {
		f.Write(block, each)
		if cap(f.held) > 2*(MaxEvent+frameHeader) {
			t.Fatalf("holds %d bytes", cap(f.held))
		}
	}
	if most > MaxEvent {
		t.Errorf("a message of %d bytes", most)
	}
	f.Flush(each)
	f.Write(append(block, '\n'), func(Frame) {})
	if cap(f.held) > keptBuffer {
		t.Errorf("keeps %d bytes after a long line", cap(f.held))
	}
}

// However a stream is cut, the frames are the same; and none is too long.
func FuzzFrames(f *testing.F) {
	f.Add(join(frame(0x0f, micro, "one\n"), []byte("raw\n"), frame(0x02, micro, "{}")), 3)
	f.Add([]byte{0xa5, 0x5a, 0x00, 0x0f, 0xff, 0xff, 0xff, 0xff, 0xa5, 0x5a, 0x00, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 1)
	f.Add([]byte("\xa5\xa5\x5a\xa5\x5a\x00\n\n"), 2)
	f.Fuzz(func(t *testing.T, stream []byte, n int) {
		whole := decode(stream, 1<<30)
		if diff := cmp.Diff(whole, decode(stream, 1+(n&0xff))); diff != "" {
			t.Error(diff)
		}
		for _, s := range whole {
			if len(s.Text) > MaxEvent {
				t.Errorf("a message of %d bytes", len(s.Text))
			}
			if s.Micro != 0 && (s.Micro < 0 || time.UnixMicro(s.Micro).UTC().Year() > 9999) {
				t.Errorf("time %d", s.Micro)
			}
		}
	})
}

func TestWholeRunes(t *testing.T) {
	for _, s := range []string{"", "a", "é", "€", "𝄞", "a𝄞"} {
		for n := range len(s) + 1 {
			if got := wholeRunes([]byte(s[:n])); got > n || !utf8.ValidString(s[:got]) || n == len(s) && got != n {
				t.Errorf("%q: %d", s[:n], got)
			}
		}
	}
	if got := wholeRunes([]byte("\x80\x80\x80\x80\x80")); got != 5 {
		t.Errorf("no characters at all: %d", got)
	}
}

func BenchmarkFrames(b *testing.B) {
	stream := bytes.Repeat(frame(0x0f, micro, strings.Repeat("x", 120)), 500)
	b.SetBytes(int64(len(stream)))
	b.ReportAllocs()
	var f Frames
	for b.Loop() {
		f.Write(stream, func(Frame) {})
	}
}
