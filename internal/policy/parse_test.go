package policy

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseRefuses(t *testing.T) {
	statement := func(kind Kind, rest string) string {
		if kind != Identity {
			rest = `"Principal":"*",` + rest
		}
		return one(rest)
	}
	for _, row := range []struct {
		kind       Kind
		text, want string
	}{
		{Identity, ``, "not a JSON object"},
		{Identity, `[]`, "not a JSON object"},
		{Identity, `{"Statement"`, "not JSON"},
		{Identity, one(allowAll) + `x`, "something behind it"},
		{Identity, `{"Version":"2012-10-17"}`, "at least one"},
		{Identity, `{"Statement":[]}`, "at least one"},
		{Identity, `{"Statement":3}`, "not a JSON object"},
		{Identity, `{"Version":"2020-01-01","Statement":{` + allowAll + `}}`, "neither"},
		{Identity, `{"Version":3,"Statement":{` + allowAll + `}}`, "not a string"},
		{Identity, `{"Extra":1,"Statement":{` + allowAll + `}}`, "unknown element"},
		{Identity, `{"Statement":{` + allowAll + `},"Statement":{` + denyAll + `}}`, "twice"},
		{Identity, one(`"Action":"*","Resource":"*"`), "Effect is missing"},
		{Identity, one(`"Effect":"allow","Action":"*","Resource":"*"`), "neither Allow nor Deny"},
		{Identity, one(`"Effect":"Allow","Resource":"*"`), "Action is missing"},
		{Identity, one(`"Effect":"Allow","Action":"*"`), "Resource is missing"},
		{Identity, one(`"Effect":"Allow","Action":"*","NotAction":"a:b","Resource":"*"`), "exclude each other"},
		{Identity, one(`"Effect":"Allow","Effect":"Deny","Action":"*","Resource":"*"`), "twice"},
		{Identity, one(`"Effect":"Allow","Action":[],"Resource":"*"`), "empty"},
		{Identity, one(`"Effect":"Allow","Action":3,"Resource":"*"`), "not a string"},
		{Identity, one(`"Effect":"Allow","Action":"Invoke","Resource":"*"`), "not an action"},
		{Identity, one(`"Effect":"Allow","Action":"*:Invoke","Resource":"*"`), "not an action"},
		{Identity, one(`"Effect":"Allow","Action":"*","Resource":"f"`), "not an ARN"},
		{Identity, one(`"Effect":"Allow","Action":"*","Resource":"*","Else":1`), "unknown element"},
		{Identity, one(`"Principal":"*",` + allowAll), "has no Principal"},
		{Identity, one(`"Sid":"a-b",` + allowAll), "other characters"},
		{Identity, `{"Statement":[{"Sid":"a",` + allowAll + `},{"Sid":"a",` + denyAll + `}]}`, "not unique"},
		{Identity, one(`"Condition":{"StringIs":{"k":"v"}},` + allowAll), "unknown operator"},
		{Identity, one(`"Condition":{"ForSome:StringLike":{"k":"v"}},` + allowAll), "unknown operator"},
		{Identity, one(`"Condition":{"NullIfExists":{"k":"v"}},` + allowAll), "unknown operator"},
		{Identity, one(`"Condition":{"StringLike":{"k":[]}},` + allowAll), "no values"},
		{Identity, one(`"Condition":{"StringLike":{"k":null}},` + allowAll), "not a string, number"},
		{Identity, one(`"Condition":{"StringLike":"v"},` + allowAll), "not a JSON object"},
		{Identity, one(`"Condition":{"StringLike":{"k":"v","k":"w"}},` + allowAll), "twice"},
		{Resource, one(allowAll), "Principal is missing"},
		{Resource, one(`"Principal":"me",` + allowAll), `not "*"`},
		{Resource, one(`"Principal":{},` + allowAll), "nobody"},
		{Resource, one(`"Principal":{"Aws":"*"},` + allowAll), "unknown kind"},
		{Resource, one(`"Principal":{"AWS":"arn:aws:iam::111111111111:user/*"},` + allowAll), "no principal"},
		{Resource, one(`"Principal":{"AWS":"1111"},` + allowAll), "no principal"},
		{Resource, one(`"Principal":{"Service":""},` + allowAll), "empty name"},
		{Resource, one(`"Principal":"*","NotPrincipal":"*",` + allowAll), "exclude each other"},
		{Trust, statement(Trust, allowAll), "no Resource"},
		{Identity, `{"Id":"` + strings.Repeat("x", MaxBytes) + `","Statement":{` + allowAll + `}}`, "at most 20480"},
	} {
		if _, err := Parse(row.kind, []byte(row.text)); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%.200s: %v, want %q", row.text, err, row.want)
		}
	}
}

func TestParseAccepts(t *testing.T) {
	for kind, text := range map[Kind]string{
		Identity: `{"Version":"2012-10-17","Id":"i","Statement":[{"Sid":"A1","Effect":"Allow","NotAction":["a:b"],"NotResource":["arn:aws:s3:::*"],"Condition":{"ForAnyValue:StringLikeIfExists":{"k":["a",1,true]}}}]}`,
		Resource: `{"Version":"2008-10-17","Id":"default","Statement":{"Sid":"a-b_c","Effect":"Deny","NotPrincipal":{"AWS":["111111111111","arn:aws:iam::111111111111:root","AIDACKCEVSQ6C2EXAMPLE"],"Service":"s3.amazonaws.com","Federated":"x","CanonicalUser":["y"]},"Action":"*","Resource":"*"}}`,
		Trust:    `{"Statement":[{"Effect":"Allow","Principal":{"Service":["lambda.amazonaws.com"]},"Action":"sts:AssumeRole"}]}`,
	} {
		doc := parse(t, kind, text)
		if len(doc.Statements) != 1 {
			t.Errorf("%s: %+v", text, doc)
		}
	}
	parse(t, Resource, "{ \"Statement\" : [ {\n \"Effect\" :\t\"Allow\", \"Principal\" : \"*\" , \"Action\" : [ \"*\" ] , \"Resource\" : \"*\", \"Condition\" : { \"Bool\" : { \"k\" : [ true ] } } } ] }\n")
	doc := parse(t, Resource, to(`{"AWS":"*","Service":["a.amazonaws.com","b.amazonaws.com"]}`))
	ps := doc.Statements[0].Principals
	if doc.Version != "2012-10-17" || ps.Any || len(ps.AWS) != 1 || len(ps.Service) != 2 {
		t.Errorf("%+v of %+v", ps, doc)
	}
}

// The matcher agrees with an expression that means the same.
func TestGlobAgreesWithExpressions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		letters := rapid.StringOfN(rapid.RuneFrom([]rune("ab:ä")), 0, 12, -1)
		pattern := rapid.StringOfN(rapid.RuneFrom([]rune("ab:ä*?")), 0, 8, -1).Draw(t, "pattern")
		text := letters.Draw(t, "text")
		expr := strings.NewReplacer("*", "(?s:.*)", "?", "(?s:.)").Replace(regexp.QuoteMeta(pattern))
		expr = strings.NewReplacer(`\(?s:.*)`, "(?s:.*)", `\(?s:.)`, "(?s:.)").Replace(expr)
		want := regexp.MustCompile(`\A` + expr + `\z`).MatchString(text)
		if got := plainGlob(pattern).match(text); got != want {
			t.Fatalf("%q against %q: %v, want %v", pattern, text, got, want)
		}
	})
}

// Properties of a decision that hold for all policies.
func TestDecisionProperties(t *testing.T) {
	statements := []string{
		allowAll, denyAll, other,
		`"Effect":"Allow","Action":"lambda:Invoke*","Resource":"` + fn + `"`,
		`"Effect":"Deny","NotAction":"lambda:*","Resource":"*"`,
		`"Effect":"Deny","Action":"*","Resource":"*","Condition":{"Bool":{"mfa":"false"}}`,
		`"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringNotEquals":{"k":"v"}}`,
	}
	docs := make([]*Document, len(statements))
	for i, s := range statements {
		docs[i] = parse(t, Identity, one(s))
	}
	rapid.Check(t, func(t *rapid.T) {
		identity := rapid.SliceOfN(rapid.SampledFrom(docs), 0, 4).Draw(t, "identity")
		req := &Request{
			Principal: user(ours), ResourceAccount: ours, Resource: fn, Context: Context{},
			Action: rapid.SampledFrom([]string{"lambda:InvokeFunction", "s3:GetObject"}).Draw(t, "action"),
		}
		if mfa := rapid.SampledFrom([]string{"", "true", "false"}).Draw(t, "mfa"); mfa != "" {
			req.Context.Set("MFA", mfa)
		}
		base := Decide(req, Policies{Identity: identity}).Outcome
		withDeny := Decide(req, Policies{Identity: append(identity[:len(identity):len(identity)], docs[1])}).Outcome
		if withDeny != ExplicitDeny {
			t.Fatalf("a Deny of everything was not obeyed: %v", withDeny)
		}
		more := Decide(req, Policies{Identity: append(identity[:len(identity):len(identity)], docs[0])}).Outcome
		if base == Allowed && more != Allowed || base == ExplicitDeny && more != ExplicitDeny || base == ImplicitDeny && more != Allowed {
			t.Fatalf("an Allow of everything turned %v into %v", base, more)
		}
		for _, p := range []Policies{
			{Identity: identity, Boundary: docs[3]}, {Identity: identity, Session: docs[3:4]}, {Identity: identity, Organization: [][]*Document{docs[3:4]}},
		} {
			if got := Decide(req, p).Outcome; got == Allowed && base != Allowed {
				t.Fatalf("a bound gave what was not given: %v after %v", got, base)
			}
		}
		for i := range identity { // the order of documents means nothing
			turned := append(append([]*Document{}, identity[i:]...), identity[:i]...)
			if got := Decide(req, Policies{Identity: turned}).Outcome; got != base {
				t.Fatalf("%v, in another order %v", base, got)
			}
		}
	})
}

// A document of wildcards must not take long.
func FuzzDecide(f *testing.F) {
	f.Add(one(allowAll), "lambda:InvokeFunction", fn, "k", "v")
	f.Add(to(`{"AWS":"111111111111"}`), "a:b", fn, "aws:SourceArn", "arn:aws:s3:::b")
	f.Add(one(`"Principal":"*","Effect":"Deny","NotAction":"a:*","NotResource":"arn:${k}*","Condition":{"ForAllValues:ArnNotLikeIfExists":{"k":"arn:*:${k,'v'}:*"}}`), "a:b", fn, "k", "*")
	f.Add(one(`"Effect":"Allow","Action":"a:************************b","Resource":"*"`), "a:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", fn, "", "")
	f.Fuzz(func(t *testing.T, text, action, resource, key, value string) {
		for _, kind := range []Kind{Identity, Resource, Trust} {
			doc, err := Parse(kind, []byte(text))
			if err != nil {
				continue
			}
			req := &Request{Principal: user(ours), Action: action, Resource: resource, ResourceAccount: ours, Context: Context{}}
			req.Context.Set(key, value)
			for _, p := range []Policies{{Identity: []*Document{doc}}, {Resource: []*Document{doc}}, {Boundary: doc}} {
				d := Decide(req, p)
				if d.Statement != nil && d.Statement.Effect == Allow != (d.Outcome == Allowed) {
					t.Errorf("%v by %+v", d.Outcome, d.Statement)
				}
			}
		}
	})
}
