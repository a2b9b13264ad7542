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
		`"\x"`, `"\u12"`, `"\u12g4"`, `"\u`, `"\`, "Hello World", "\xc2\x27", "[NaN, 1]", "\"\xe2\x82", "++", strings.Repeat("x", 300), "\"a\nb\"", `"abc`, `"abc\`, `tru`, `nul`, `truex`, `{} {}`, `]`, `}`, `[}`, `{]`, ` `, "\x00",
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
	const redacted = "[Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: "
	const values = "(JSON String, Number, Array, Object or token 'null', 'true' or 'false')"
	for _, c := range []struct{ payload, what, at string }{
		// As recorded from AWS.
		{"n\x87r\x9e\xe9\xb5\xd7I\xee\x9bmt", "Invalid UTF-8 start byte 0x87", "1, column: 3]"},
		{"\x99\xeb,j\x07\xa1zYh", "Unexpected character ((CTRL-CHAR, code 153)): expected a valid value " + values, "1, column: 1]"},
		{"{conversation:1}", "Unexpected character ('c' (code 99)): was expecting double-quote to start field name", "1, column: 2]"},
		// Recorded with the places of older answers.
		{"'{}'", "Unexpected character (''' (code 39)): expected a valid value " + values, "1, column: 1]"},
		{"\xb7", "Unexpected character ('·' (code 183)): expected a valid value " + values, "1, column: 1]"},
		{"Hello World", "Unrecognized token 'Hello': was expecting " + values, "1, column: 7]"},
		{"\xc2\x27", "Unrecognized token 'Â': was expecting " + values, "1, column: 3]"},
		{"0D", "Unexpected character ('D' (code 68)): Expected space separating root-level values", "1, column: 2]"},
		{"--x", "Unexpected character ('-' (code 45)) in numeric value: expected digit (0-9) to follow minus sign, for valid numeric value", "1, column: 2]"},
		// As the parser has it.
		{"hello", "Unrecognized token 'hello': was expecting " + values, "1, column: 6]"},
		{"[truex]", "Unrecognized token 'truex': was expecting " + values, "1, column: 8]"},
		{"[NaN]", "Non-standard token 'NaN': enable `JsonReadFeature.ALLOW_NON_NUMERIC_NUMBERS` to allow", "1, column: 6]"},
		{"{\"a\":1\r\n b", "Unexpected character ('b' (code 98)): was expecting comma to separate Object entries", "2, column: 2]"},
		{"[1 2]", "Unexpected character ('2' (code 50)): was expecting comma to separate Array entries", "1, column: 4]"},
		{"{\"a\" 1", "Unexpected character ('1' (code 49)): was expecting a colon to separate field name and value", "1, column: 6]"},
		{"[1,]", "Unexpected character (']' (code 93)): expected a value", "1, column: 4]"},
		{"[1,}", "Unexpected character ('}' (code 125)): expected a value", "1, column: 4]"},
		{" [1}", "Unexpected close marker '}': expected ']' (for Array starting at " + redacted + "1, column: 2])", "1, column: 4]"},
		{"{ ]", "Unexpected close marker ']': expected '}' (for Object starting at " + redacted + "1, column: 1])", "1, column: 3]"},
		{"01", "Invalid numeric value: Leading zeroes not allowed", "1, column: 2]"},
		{"1.x", "Unexpected character ('x' (code 120)) in numeric value: Decimal point not followed by a digit", "1, column: 3]"},
		{"1e+x", "Unexpected character ('x' (code 120)) in numeric value: Exponent indicator not followed by a digit", "1, column: 4]"},
		{"\"\x01\"", "Illegal unquoted character ((CTRL-CHAR, code 1)): has to be escaped using backslash to be included in string value", "1, column: 2]"},
		{"\"\\x\"", "Unrecognized character escape 'x' (code 120)", "1, column: 3]"},
		{"\"\\u12g4\"", "Unexpected character ('g' (code 103)): expected a hex-digit for character escape sequence", "1, column: 6]"},
		{"\"\x87\"", "Invalid UTF-8 start byte 0x87", "1, column: 3]"},
		{"[\"\xc3\", x", "Invalid UTF-8 middle byte 0x22", "1, column: 5]"},
		{"[1", "Unexpected end-of-input: expected close marker for Array (start marker at " + redacted + "1, column: 1])", "1, column: 3]"},
		{"[{\"a]\":[]", "Unexpected end-of-input: expected close marker for Object (start marker at " + redacted + "1, column: 2])", "1, column: 10]"},
		{"[1, ", "Unexpected end-of-input within/between Array entries", "1, column: 5]"},
		{"{\"a\":", "Unexpected end-of-input within/between Object entries", "1, column: 6]"},
		{"{\"a\"", "Unexpected end-of-input within/between Object entries", "1, column: 5]"},
		{"{\"a", "Unexpected end-of-input in field name", "1, column: 4]"},
		{"\"a", "Unexpected end-of-input in VALUE_STRING", "1, column: 3]"},
		{"\"\\", "Unexpected end-of-input in character escape sequence", "1, column: 3]"},
		{"-", "Unexpected end-of-input in a Number value", "1, column: 2]"},
	} {
		err := checkJSON([]byte(c.payload))
		want := prefix + c.what + "\n at " + redacted + c.at
		fault, ok := err.(*firn.Fault)
		if !ok || fault.Message != want || fault.Kind != firn.InvalidRequestContent {
			t.Errorf("%q:\n got %v\nwant %s", c.payload, err, want)
		}
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
