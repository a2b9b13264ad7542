package control

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
)

// FuzzClientContext: what becomes the value of a header is one line of JSON.
func FuzzClientContext(f *testing.F) {
	for _, s := range []string{`{}`, "{\r\n \"a\": [1]}", `[]`, ``, " {}", "{\"a\":\"\x01\"}", "{\"é\":\"\u2028\"}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := decodeClientContext(base64.StdEncoding.EncodeToString(raw))
		if err != nil || got == "" && len(raw) == 0 {
			return
		}
		var object map[string]any
		if strings.ContainsAny(got, "\r\n\x00") || json.Unmarshal([]byte(got), &object) != nil || object == nil {
			t.Errorf("%q gives %q", raw, got)
		}
	})
}

// FuzzMarker: a marker is refused or read, and what page gives is read back.
func FuzzMarker(f *testing.F) {
	f.Add("")
	f.Add("Zg")
	f.Add("!!")
	f.Fuzz(func(t *testing.T, s string) {
		if after, err := readMarker(&s); err == nil {
			page([]string{"a", "b", "c"}, after, ptr(int32(1)), func(s string) string { return s })
		}
		one := int32(1)
		_, next := page([]string{s, s + "x"}, "", &one, func(s string) string { return s })
		if after, err := readMarker(next); err != nil || after != s {
			t.Errorf("%q comes back as %q, %v", s, after, err)
		}
	})
}

func FuzzLayerRef(f *testing.F) {
	c := New(Config{Region: "us-east-1", Account: "123456789012"})
	for _, s := range []string{"l", "l:1", "arn:aws:lambda:us-east-1:123456789012:layer:l", "arn:aws:lambda:us-east-1:123456789012:layer:l:99999999999999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if ref, err := c.layerRef(context.Background(), s); err == nil && (ref.name == "" || strings.ContainsAny(ref.name, "/:") || ref.number < 0) {
			t.Errorf("%q gives %+v", s, ref)
		}
	})
}
