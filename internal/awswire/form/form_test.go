package form

import (
	"errors"
	"net/url"
	"strings"
	"testing"
)

// TestParse reads paths into a tree.
func TestParse(t *testing.T) {
	root, err := Parse("Action=A&L.member.1.Name=a%2Bb+c&&L.member.2=&L=&X&Twice=1&Twice=2&=e")
	if err != nil {
		t.Fatal(err)
	}
	list := root.Kid("L").Kid("member")
	for _, c := range []struct{ got, want string }{
		{root.Text("Action"), "A"},
		{list.Kid("1").Text("Name"), "a+b c"},
		{root.Text("Twice"), "2"},
		{root.Text(""), "e"},
		{root.Text("None"), ""},
		{root.Kid("None").Kid("Below").Text("None"), ""},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
	if !root.Kid("X").Has || !root.Kid("L").Has || !list.Kid("2").Has || list.Kid("1").Has || list.Has {
		t.Error("what has a value and what has none is mixed up")
	}
	for _, bad := range []string{"%", "a=%g1", "%zz=1"} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

// TestLimits bounds depth and number of nodes.
func TestLimits(t *testing.T) {
	if _, err := Parse(strings.Repeat("a.", maxSegments-1) + "a=1"); err != nil {
		t.Error(err)
	}
	if _, err := Parse(strings.Repeat("a.", maxSegments) + "a=1"); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	var wide strings.Builder
	for i := range maxNodes + 1 {
		wide.WriteString("&")
		for ; i > 0; i /= 26 {
			wide.WriteByte('a' + byte(i%26))
		}
	}
	if _, err := Parse(wide.String() + "&A&B&C&D"); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}

// FuzzParse holds single values against net/url.
func FuzzParse(f *testing.F) {
	f.Add("Action=A&L.member.1.Name=a%2Bb+c")
	f.Add("a.b=1&a=%zz&..=x")
	f.Fuzz(func(t *testing.T, text string) {
		root, err := Parse(text)
		if err != nil || strings.Contains(text, ";") {
			return
		}
		values, err := url.ParseQuery(text)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		for name, all := range values {
			n := root
			for segment := range strings.SplitSeq(name, ".") {
				n = n.Kid(segment)
			}
			if n == nil || !n.Has || n.Value != all[len(all)-1] {
				t.Fatalf("%q: %q is %+v, want %q", text, name, n, all)
			}
		}
	})
}
