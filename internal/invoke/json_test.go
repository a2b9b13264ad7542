package invoke

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/firn-run/firn"
)

// valid is what checkJSON must agree with.
func valid(b []byte) bool { return len(b) == 0 || json.Valid(b) && utf8.Valid(b) }

func seeds() []string {
	return []string{
		`{}`, `[]`, `null`, `true`, `false`, `0`, `-0`, `-1.5e+10`, `1E-2`, `""`, ` {"a" : [1, 2, {"b":null}] } `,
		`"é\u00e9\n\"\\\/"`, `{"a":1,}`, `[1,]`, `[1 2]`, `{"a" 1}`, `{a:1}`, `{"a":}`, `01`, `1.`, `.5`, `-`, `1e`, `+1`,
		`"\x"`, `"\u12"`, `"\u12g4"`, "\"a\nb\"", `"abc`, `"abc\`, `tru`, `nul`, `truex`, `{} {}`, `]`, `}`, `[}`, `{]`, ` `, "\x00",
		"\"\xff\"", "\"\xc3\"", "\xef\xbb\xbf{}", `{"a":1`, `[[[[`, `{"":{"":{}}}`, `"0123456"`, `"01234567"`, `"0123456\"8"`, `"0123456é"`,
		"{\"k\":\"" + strings.Repeat("x", 100) + "\"}", "\"\x7f\"", "\"1234567\x1f\"", "\"\x80234567\x1f\"",
	}
}

func TestCheckJSONAgrees(t *testing.T) {
	for _, text := range seeds() {
		// At every offset, so that each byte meets each place of the eight
		// that are looked at together.
		for pad := range 9 {
			b := []byte(strings.Repeat(" ", pad) + text)
			if got := checkJSON(b) == nil; got != valid(b) {
				t.Errorf("%q: %v, want %v", b, got, valid(b))
			}
		}
	}
}

func TestCheckJSONDepth(t *testing.T) {
	for _, n := range []int{maxDepth, maxDepth + 1} {
		b := []byte(strings.Repeat("[", n) + strings.Repeat("]", n))
		if got := checkJSON(b) == nil; got != valid(b) {
			t.Errorf("depth %d: %v, want %v", n, got, valid(b))
		}
		b = []byte(strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n))
		if got := checkJSON(b) == nil; got != valid(b) {
			t.Errorf("objects of depth %d: %v, want %v", n, got, valid(b))
		}
	}
}

func FuzzCheckJSON(f *testing.F) {
	for _, s := range seeds() {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		err := checkJSON(b)
		if got := err == nil; got != valid(b) {
			t.Errorf("%q: %v, want %v", b, err, valid(b))
		}
		if err != nil && (firn.KindOf(err) != firn.InvalidRequestContent || !utf8.ValidString(err.Error())) {
			t.Errorf("%q: %v", b, err)
		}
	})
}

func TestCheckJSONWords(t *testing.T) {
	const prefix = "Could not parse request body into json: Could not parse payload into json: "
	for payload, want := range map[string]string{
		// As recorded from AWS.
		`'{}'`: "Unexpected character (''' (code 39)): expected a valid value (JSON String, Number, Array, Object or token 'null', 'true' or 'false')\n at [Source: (byte[])\"'{}'\"; line: 1, column: 2]",

		`hello`:        "Unrecognized token 'hello': was expecting (JSON String, Number, Array, Object or token 'null', 'true' or 'false')\n at [Source: (byte[])\"hello\"; line: 1, column: 2]",
		"{\"a\":1\n b": "Unexpected character ('b' (code 98)): was expecting comma to separate Object entries\n at [Source: (byte[])\"{\"a\":1\n b\"; line: 2, column: 3]",
		`[1`:           "Unexpected end-of-input\n at [Source: (byte[])\"[1\"; line: 1, column: 3]",
		`[1 2]`:        "Unexpected character ('2' (code 50)): was expecting comma to separate Array entries\n at [Source: (byte[])\"[1 2]\"; line: 1, column: 5]",
		`{a`:           "Unexpected character ('a' (code 97)): was expecting double-quote to start field name\n at [Source: (byte[])\"{a\"; line: 1, column: 3]",
		`{"a" 1`:       "Unexpected character ('1' (code 49)): was expecting a colon to separate field name and value\n at [Source: (byte[])\"{\"a\" 1\"; line: 1, column: 7]",
		"\"\x01\"":     "Illegal unquoted character ((CTRL-CHAR, code 1)): has to be escaped using backslash to be included in string value\n at [Source: (byte[])\"\"\x01\"\"; line: 1, column: 3]",
		`"\x"`:         "Unrecognized character escape 'x' (code 120)\n at [Source: (byte[])\"\"\\x\"\"; line: 1, column: 4]",
		"\"\x87\"":     "Invalid UTF-8 start byte 0x87\n at [Source: (byte[])\"\"\uFFFD\"\"; line: 1, column: 3]",
	} {
		err := checkJSON([]byte(payload))
		fault, ok := err.(*firn.Fault)
		if !ok || fault.Message != prefix+want || fault.Kind != firn.InvalidRequestContent {
			t.Errorf("%q:\n got %v\nwant %s", payload, err, prefix+want)
		}
	}
	long := checkJSON([]byte(strings.Repeat("[", 600))).(*firn.Fault).Message
	if !strings.Contains(long, strings.Repeat("[", 500)+`"[truncated 100 bytes]; line: 1, column: 601]`) {
		t.Errorf("a long payload gives %s", long)
	}
}

func TestCheckJSONAllocatesNothing(t *testing.T) {
	payload := []byte(`{"key":"value","list":[1,2,3]}`)
	if n := testing.AllocsPerRun(100, func() { checkJSON(payload) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// payloads are 6 MB of one long string, and of many small values.
func payloads() map[string][]byte {
	records := append([]byte{'['}, bytes.Repeat([]byte(`{"messageId":"059f36b4-87a3-44ab-83d2-661975830a7d","count":-12.5e3,"ok":true},`), 6<<20/80)...)
	records = append(records, "null]"...)
	return map[string][]byte{
		"string":  []byte(`"` + strings.Repeat("x", 6<<20) + `"`),
		"records": records,
		"accents": []byte(`"` + strings.Repeat("déjà vu ", 6<<20/10) + `"`),
	}
}

func BenchmarkCheckJSON(b *testing.B) {
	for name, payload := range payloads() {
		b.Run(name+"/firn", func(b *testing.B) {
			b.SetBytes(int64(len(payload)))
			for b.Loop() {
				if checkJSON(payload) != nil {
					b.Fatal("refused")
				}
			}
		})
		b.Run(name+"/encoding", func(b *testing.B) {
			b.SetBytes(int64(len(payload)))
			for b.Loop() {
				if !json.Valid(payload) {
					b.Fatal("refused")
				}
			}
		})
	}
}
