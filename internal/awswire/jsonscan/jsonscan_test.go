package jsonscan

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzScanner holds the scanner against encoding/json: both accept the same
// texts, but for nesting and for UTF-8, where the scanner is strict.
func FuzzScanner(f *testing.F) {
	for _, seed := range []string{`{"a":[1,-2.5e+3,"x\u00e9\ud83d\ude00\ud800\n",true,false,null,{}]}`, ` [ ] `, `01`, `-`, `1.`, `"\x"`, `{"a":1,}`, `"\ud800\u0041"`, `""x`, `tru`, `{"a"`, "\"\x7f\"", `1e5`, `[1 2]`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<12 || !utf8.Valid(data) {
			return
		}
		s := &Scanner{Data: data}
		err := s.Skip(0)
		if err == nil {
			err = s.End()
		}
		if err != nil && strings.Contains(err.Error(), "too deep") {
			return
		}
		if valid := json.Valid(data); valid != (err == nil) {
			t.Fatalf("%q: %v, but encoding/json says %t", data, err, valid)
		}
		if text, isString := any(nil), false; err == nil {
			if json.Unmarshal(data, &text) != nil {
				return // a number out of range
			}
			var want string
			if want, isString = text.(string); isString {
				s := &Scanner{Data: data}
				s.Peek()
				if got, err := s.Text(); got != want || err != nil {
					t.Fatalf("%q: %q, %v, want %q", data, got, err, want)
				}
			}
		}
	})
}
