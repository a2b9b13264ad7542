package grant

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func statement(t interface{ Fatal(...any) }, sid string) *Statement {
	principal, err := Principal("s3.amazonaws.com")
	if err != nil {
		t.Fatal(err)
	}
	return New(sid, "lambda:InvokeFunction", "arn:aws:lambda:us-east-1:123456789012:function:f", principal)
}

func TestPrincipal(t *testing.T) {
	for name, want := range map[string]string{
		"*":                              `"*"`,
		"123456789012":                   `{"AWS":"arn:aws:iam::123456789012:root"}`,
		"arn:aws:iam::123456789012:root": `{"AWS":"arn:aws:iam::123456789012:root"}`,
		"arn:aws:sts::123456789012:assumed-role/r/s": `{"AWS":"arn:aws:sts::123456789012:assumed-role/r/s"}`,
		"events.amazonaws.com":                       `{"Service":"events.amazonaws.com"}`,
		"states.us-east-1.amazonaws.com":             `{"Service":"states.us-east-1.amazonaws.com"}`,
		"alexa-connectedhome.amazon.com":             `{"Service":"alexa-connectedhome.amazon.com"}`,
	} {
		if got, err := Principal(name); err != nil || string(got) != want {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "me", "12345678901", "arn:aws:iam::123456789012:user/*", "amazonaws.com", "S3.amazonaws.com", "x.example.com"} {
		if got, err := Principal(name); !errors.Is(err, ErrPrincipal) {
			t.Errorf("%q: %s, %v", name, got, err)
		}
	}
}

func TestPolicyIsBounded(t *testing.T) {
	var p *Policy
	for i := range 1000 {
		next, err := p.With(statement(t, strings.Repeat("x", 90)+string(rune('a'+i%26))+strings.Repeat("y", i/26)))
		if long, ok := errors.AsType[*TooLongError](err); ok {
			if long.Size <= 20480 || i < 50 {
				t.Errorf("after %d: %v", i, err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		p = next
	}
	t.Error("no bound")
}

// Whatever is added and removed, the policy has what is left, in order, is
// readable, survives JSON, and older policies do not change.
func TestPolicyAsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p *Policy
		var model []string
		for _, sid := range rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 0, 20).Draw(t, "sids") {
			before := "none"
			if p != nil {
				before = p.String()
			}
			old, at := p, -1
			for i, s := range model {
				if s == sid {
					at = i
				}
			}
			next, err := p.With(statement(t, sid))
			if at < 0 {
				model = append(model, sid)
			} else {
				if !errors.Is(err, ErrExists) {
					t.Fatalf("%s twice: %v", sid, err)
				}
				next, err = p.Without(sid)
				model = append(model[:at:at], model[at+1:]...)
			}
			if err != nil {
				t.Fatal(err)
			}
			if p = next; old != nil && old.String() != before {
				t.Fatal("an older policy has changed")
			}
		}
		if (p == nil) != (len(model) == 0) {
			t.Fatalf("%v with %v", p, model)
		}
		if p == nil {
			if _, err := p.Without("a"); !errors.Is(err, ErrMissing) || p.Documents() != nil {
				t.Fatalf("%v", err)
			}
			return
		}
		var read Policy
		if err := json.Unmarshal([]byte(p.String()), &read); err != nil || read.Open() != nil || read.String() != p.String() {
			t.Fatalf("%v: %s", err, p)
		}
		for i, s := range read.Documents()[0].Statements {
			if s.Sid != model[i] {
				t.Fatalf("%s with %v", p, model)
			}
		}
	})
}
