package telemetryapi

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/firn-run/firn/internal/lifecycle"
	"github.com/firn-run/firn/internal/telemetry"
)

// checkEscaped compares with what encoding/json reads and would write.
func checkEscaped(t *testing.T, text []byte) {
	t.Helper()
	quoted := append(appendEscaped([]byte{'"'}, text), '"')
	var got string
	if err := json.Unmarshal(quoted, &got); err != nil {
		t.Fatalf("%q became %q: %v", text, quoted, err)
	}
	if want := strings.Join(runes(text), ""); got != want {
		t.Fatalf("%q reads as %q, want %q", text, got, want)
	}
	if !utf8.Valid(quoted) || bytes.ContainsAny(quoted, "\n\r\x00") {
		t.Fatalf("%q is not fit for a line", quoted)
	}
}

// runes are the characters of a text, each invalid byte being U+FFFD.
func runes(text []byte) []string {
	var out []string
	for _, r := range string(text) {
		out = append(out, string(r))
	}
	return out
}

func TestAppendEscaped(t *testing.T) {
	for _, text := range []string{
		"", "a", "plain text of more than eight bytes", `a "quoted" word and a \ slash`,
		"tab\tlf\ncr\rnul\x00esc\x1bdel\x7f", "grüße, 世界 and 🙂", "\xff", "a\xc3", "\xe4\xb8", "\xed\xa0\x80", "\u2028\u2029</script>",
		"1234567\x80", "12345678\x1f", "\"\"\"\"\"\"\"\"\"", "\x1f\x20\x21\x22\x23",
	} {
		checkEscaped(t, []byte(text))
		for pad := range 17 { // every offset in a word
			checkEscaped(t, []byte(strings.Repeat("x", pad)+text+strings.Repeat("y", pad)))
		}
	}
	// Every byte at every offset, and noise.
	for b := range 256 {
		for at := range 16 {
			text := []byte("0123456789abcdef")
			text[at] = byte(b)
			checkEscaped(t, text)
		}
	}
	noise := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		text := make([]byte, noise.IntN(60))
		for i := range text {
			text[i] = byte(noise.IntN(256)) >> noise.IntN(3)
		}
		checkEscaped(t, text)
	}
}

func FuzzAppendEscaped(f *testing.F) {
	f.Add([]byte("a \"line\" \\ \xff of text\n"))
	f.Fuzz(checkEscaped)
}

func TestClock(t *testing.T) {
	var c clock
	for at, want := range map[time.Time]string{
		time.Date(2026, 1, 2, 3, 4, 5, 6_999_999, time.UTC):         "2026-01-02T03:04:05.006Z",
		time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600)): "2026-01-02T02:04:05.000Z",
		time.Date(2026, 1, 2, 3, 4, 5, 999e6, time.UTC):             "2026-01-02T03:04:05.999Z",
		time.Unix(0, 0):           "1970-01-01T00:00:00.000Z",
		{}:                        "1970-01-01T00:00:00.000Z",
		time.UnixMicro(-1 << 62):  "1970-01-01T00:00:00.",
		time.UnixMicro(1<<63 - 1): "9999-12-31T23:59:59.",
		time.Date(2026, 12, 31, 23, 59, 59, 1e6, time.UTC): "2026-12-31T23:59:59.001Z",
	} {
		for range 2 { // from the cache, too
			if got := string(c.append(nil, at)); !strings.HasPrefix(got, want) || len(got) != len("2026-01-02T03:04:05.006Z") {
				t.Errorf("%v is written %s, want %s", at, got, want)
			}
		}
	}
}

func split(e *encoded) []string {
	var out []string
	from := 0
	for _, end := range e.ends {
		out = append(out, string(e.buf[from:end]))
		from = end
	}
	return out
}

func TestLineForms(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)
	tests := []struct {
		name    string
		text    string
		objects bool
		form    form
		want    string // the record
	}{
		{"text", "hello", true, formString, `"hello\n"`},
		{"text with LF", "hello\n", true, formString, `"hello\n"`},
		{"frame", "a\nb", true, formObject, `"a\nb\n"`},
		{"empty", "", true, formObject, `"\n"`},
		{"invalid UTF-8", "a\xff", true, formObject, "\"a\ufffd\\n\""},
		{"object", `{"a":"b"}`, true, formObject, `{"a":"b"}`},
		{"object as string", `{"a":"b"}`, true, formString, `"{\"a\":\"b\"}\n"`},
		{"object of a text function", `{"a":"b"}`, false, formObject, `"{\"a\":\"b\"}\n"`},
		{"object with blanks", " {\"a\" :\r\n1}\n", true, formObject, `{"a" :  1}`},
		{"object with invalid UTF-8", "{\"a\":\"\xff\"}", true, formObject, "{\"a\":\"\ufffd\"}"},
		{"two objects", `{} {}`, true, formObject, `"{} {}\n"`},
		{"array", `[1]`, true, formObject, `"[1]\n"`},
		{"cut object", `{"a":`, true, formObject, `"{\"a\":\n"`},
		{"nearly an object", `{"a":}`, true, formObject, `"{\"a\":}\n"`},
	}
	for _, test := range tests {
		for _, extension := range []string{"", "logger"} {
			kind := "function"
			if extension != "" {
				kind = "extension"
			}
			e := encoder{objects: test.objects}
			line := telemetry.Line{Time: at, Extension: extension, Text: []byte(test.text)}
			for range 2 { // the second time it is there already
				got := split(e.line(test.form, &line))
				want := `{"time":"2026-01-02T03:04:05.006Z","type":"` + kind + `","record":` + test.want + `}`
				if len(got) != 1 || got[0] != want {
					t.Errorf("%s: got %s\nwant %s", test.name, got, want)
				}
				if !json.Valid([]byte(got[0])) || strings.Contains(got[0], "\n") {
					t.Errorf("%s: %q is not one line of JSON", test.name, got)
				}
			}
			// In the other form as well, of the same line.
			if got := split(e.line(formString, &line)); len(got) != 1 || !strings.Contains(got[0], `"record":"`) {
				t.Errorf("%s: as a string: %s", test.name, got)
			}
		}
	}
}

// A line that no delivery could hold comes in parts, none of its text lost.
func TestLongLine(t *testing.T) {
	for name, text := range map[string]string{
		"plain, short enough": strings.Repeat("x", 256<<10),
		"controls":            strings.Repeat("\x01", 256<<10),
		"characters":          strings.Repeat("世", 300<<10),
		"invalid":             strings.Repeat("\x80", 300<<10),
		"object":              `{"a":"` + strings.Repeat("y", 600<<10) + `"}`,
	} {
		e := encoder{objects: true}
		parts := split(e.line(formObject, &telemetry.Line{Text: []byte(text)}))
		if one := len(parts) == 1; one != (name == "plain, short enough") {
			t.Errorf("%s: %d parts", name, len(parts))
		}
		var whole strings.Builder
		for _, part := range parts {
			var rec struct{ Record string }
			if err := json.Unmarshal([]byte(part), &rec); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if len(part) > maxRecordBytes || strings.Count(rec.Record, "\n") != 1 {
				t.Errorf("%s: a part of %d bytes and %d line feeds", name, len(part), strings.Count(rec.Record, "\n"))
			}
			whole.WriteString(strings.TrimSuffix(rec.Record, "\n"))
		}
		if want := strings.Join(runes([]byte(text)), ""); whole.String() != want {
			t.Errorf("%s: the parts are not the whole", name)
		}
		if e.next(); cap(e.out[formString].buf) > keepScratch {
			t.Errorf("%s: %d bytes are kept", name, cap(e.out[formString].buf))
		}
	}
}

func TestFault(t *testing.T) {
	for _, test := range []struct {
		report lifecycle.Report
		want   string
	}{
		{lifecycle.Report{RequestID: "r", Status: "error", ErrorType: "Runtime.ExitError"}, "RequestId: r Status: error\tErrorType: Runtime.ExitError"},
		{lifecycle.Report{RequestID: "r", Status: "timeout"}, "RequestId: r Status: timeout"},
	} {
		if got := fault(&test.report); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}
