package firn

import (
	"strings"
	"testing"
)

func TestParseFunction(t *testing.T) {
	tests := []struct {
		in   string
		want FunctionRef
	}{
		{"hello", FunctionRef{Name: "hello"}},
		{"hello:prod", FunctionRef{Name: "hello", Qualifier: "prod"}},
		{"hello:$LATEST", FunctionRef{Name: "hello", Qualifier: "$LATEST"}},
		{"function:hello", FunctionRef{Name: "hello"}},
		{"123456789012:function:hello", FunctionRef{Account: "123456789012", Name: "hello"}},
		{"123456789012:function:hello:7", FunctionRef{Account: "123456789012", Name: "hello", Qualifier: "7"}},
		{"arn:aws:lambda:us-east-1:123456789012:function:hello", FunctionRef{"us-east-1", "123456789012", "hello", ""}},
		{"my.function", FunctionRef{Name: "my.function"}}, // there cannot be one, and AWS looks for it
		{"arn:aws:lambda:us-east-1:123456789012:function", FunctionRef{"us-east-1", "123456789012", "function", ""}},
		{strings.Repeat("a", 65) + ":1", FunctionRef{Name: strings.Repeat("a", 65), Qualifier: "1"}},
		{"arn:aws:lambda:us-gov-west-1:123456789012:function:hello:live", FunctionRef{"us-gov-west-1", "123456789012", "hello", "live"}},
	}
	for _, test := range tests {
		got, err := ParseFunction(test.in)
		if err != nil || got != test.want {
			t.Errorf("ParseFunction(%q) = %+v, %v; want %+v", test.in, got, err, test.want)
		}
	}
	for _, bad := range []string{"", "a b", "arn:aws:lambda:us-east-1:function:x", "arn:aws:s3:::bucket", "x:y:z:w:v", "hello:", "é"} {
		if got, err := ParseFunction(bad); KindOf(err) != Validation {
			t.Errorf("ParseFunction(%q) = %+v, %v; want a ValidationException", bad, got, err)
		}
	}
}

func TestWithQualifier(t *testing.T) {
	ref := FunctionRef{Name: "f", Qualifier: "1"}
	if _, err := ref.WithQualifier("2"); KindOf(err) != InvalidParameterValue {
		t.Errorf("a contradiction gives %v", err)
	}
	for _, q := range []string{"", "1"} {
		if got, err := ref.WithQualifier(q); err != nil || got.Qualifier != "1" {
			t.Errorf("WithQualifier(%q) = %+v, %v", q, got, err)
		}
	}
}

func FuzzParseFunction(f *testing.F) {
	f.Add("arn:aws:lambda:us-east-1:123456789012:function:hello:live")
	f.Fuzz(func(t *testing.T, s string) {
		if ref, err := ParseFunction(s); err == nil && (ref.Name == "" || len(ref.Name) > len(s)) {
			t.Errorf("%q gives the name %q", s, ref.Name)
		}
	})
}
