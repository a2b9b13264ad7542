package gateway

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"
)

// FuzzMembers compares with package encoding/json: the same texts are objects,
// and they have the same members.
func FuzzMembers(f *testing.F) {
	for _, seed := range []string{
		`{}`, ` { "a" : 1 , "b\"\\" : [ {"]":"}"} ] , "a" : null } `, `{"a":"\\"}`, `{"a":"\\\""}x`, `{"a":1,}`, `{"a"}`, `[]`, `{"a":tru}`, `{"a":}`,
		`{"":{"b":["\"",{}]}}`, `{"a":1 2}`, `{"a":"` + "\x01" + `"}`, `{"a":[}`, `{1:2}`, `{`, `{"a":"`, "{\"\xff\":1}", `{"\ud800":1}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := map[string]json.RawMessage{}
		err := members([]byte(text), func(name string, value []byte) error {
			if !json.Valid(value) {
				return errNotJSON
			}
			got[name] = value
			return nil
		})
		if !utf8.ValidString(text) {
			return // encoding/json replaces what is not UTF-8
		}
		var want map[string]json.RawMessage
		object := len(bytes.TrimSpace([]byte(text))) > 0 && bytes.TrimSpace([]byte(text))[0] == '{'
		if wrong := json.Unmarshal([]byte(text), &want); object && (wrong == nil) != (err == nil) || !object && err == nil {
			t.Fatalf("%q: %v, encoding/json says %v", text, err, wrong)
		}
		if err != nil {
			return
		}
		if len(got) != len(want) {
			t.Fatalf("%q: %d members, want %d", text, len(got), len(want))
		}
		for name, value := range want {
			if !bytes.Equal(got[name], value) {
				t.Errorf("%q: %q is %s, want %s", text, name, got[name], value)
			}
		}
	})
}
