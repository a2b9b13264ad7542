package policy

import (
	"strings"
	"testing"
)

const (
	ours   = "111111111111"
	theirs = "222222222222"
	fn     = "arn:aws:lambda:us-east-1:" + ours + ":function:f"
)

func user(account string) Principal {
	return Principal{ARN: "arn:aws:iam::" + account + ":user/u", Account: account}
}

func session(account string) Principal {
	return Principal{ARN: "arn:aws:sts::" + account + ":assumed-role/r/s", Account: account}
}

func rootOf(account string) Principal {
	return Principal{ARN: "arn:aws:iam::" + account + ":root", Account: account, Root: true}
}

// parse reads a document; short forms of tests: V stands for the version.
func parse(t *testing.T, kind Kind, text string) *Document {
	t.Helper()
	doc, err := Parse(kind, []byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return doc
}

func list(t *testing.T, kind Kind, text string) []*Document {
	t.Helper()
	if text == "" {
		return nil
	}
	return []*Document{parse(t, kind, text)}
}

// one is a document of one statement.
func one(statement string) string {
	return `{"Version":"2012-10-17","Statement":{` + statement + `}}`
}

const (
	allowAll = `"Effect":"Allow","Action":"*","Resource":"*"`
	denyAll  = `"Effect":"Deny","Action":"*","Resource":"*"`
	other    = `"Effect":"Allow","Action":"s3:*","Resource":"*"`
)

func to(principal string) string { return one(`"Principal":` + principal + `,` + allowAll) }

// The table of "Policy evaluation logic": who allows and who denies.
func TestDecide(t *testing.T) {
	us, them := `{"AWS":"`+ours+`"}`, `{"AWS":"`+theirs+`"}`
	for _, row := range []struct {
		name                                    string
		who                                     Principal
		identity, resource, boundary, inSession string
		levels                                  []string
		want                                    Outcome
		from                                    Source
	}{
		{name: "nothing allows", who: user(ours), want: ImplicitDeny, from: FromIdentity},
		{name: "identity allows", who: user(ours), identity: one(allowAll), want: Allowed, from: FromIdentity},
		{name: "identity allows something else", who: user(ours), identity: one(other), want: ImplicitDeny, from: FromIdentity},
		{name: "identity denies", who: user(ours), identity: one(denyAll), resource: to(`{"AWS":"arn:aws:iam::111111111111:user/u"}`), want: ExplicitDeny, from: FromIdentity},
		{name: "deny beside an allow", who: user(ours), identity: `{"Statement":[{` + allowAll + `},{` + denyAll + `}]}`, want: ExplicitDeny, from: FromIdentity},
		{name: "resource denies", who: user(ours), identity: one(allowAll), resource: one(`"Principal":"*",` + denyAll), want: ExplicitDeny, from: FromResource},
		{name: "resource denies somebody else", who: user(ours), identity: one(allowAll), resource: one(`"Principal":` + them + `,` + denyAll), want: Allowed, from: FromIdentity},

		{name: "same account: resource names the user", who: user(ours), resource: to(`{"AWS":"arn:aws:iam::111111111111:user/u"}`), want: Allowed, from: FromResource},
		{name: "same account: the user's boundary does not bind that", who: user(ours), resource: to(`{"AWS":"arn:aws:iam::111111111111:user/u"}`), boundary: one(other), want: Allowed, from: FromResource},
		{name: "same account: resource names the session", who: session(ours), resource: to(`{"AWS":"arn:aws:sts::111111111111:assumed-role/r/s"}`), boundary: one(other), inSession: one(other), want: Allowed, from: FromResource},
		{name: "same account: resource names the role", who: session(ours), resource: to(`{"AWS":"arn:aws:iam::111111111111:role/r"}`), want: Allowed, from: FromResource},
		{name: "same account: a role with a path", who: session(ours), resource: to(`{"AWS":"arn:aws:iam::111111111111:role/a/b/r"}`), want: Allowed, from: FromResource},
		{name: "same account: a role of another name", who: session(ours), resource: to(`{"AWS":"arn:aws:iam::111111111111:role/xr"}`), want: ImplicitDeny, from: FromIdentity},
		{name: "same account: the boundary binds the role's grant", who: session(ours), resource: to(`{"AWS":"arn:aws:iam::111111111111:role/r"}`), boundary: one(other), want: ImplicitDeny, from: FromBoundary},
		{name: "same account: the session policy binds the role's grant", who: session(ours), resource: to(`{"AWS":"arn:aws:iam::111111111111:role/r"}`), inSession: one(other), want: ImplicitDeny, from: FromSession},
		{name: "same account: resource names the account", who: user(ours), resource: to(us), want: ImplicitDeny, from: FromIdentity},
		{name: "same account: the account, and identity", who: user(ours), resource: to(us), identity: one(allowAll), want: Allowed, from: FromIdentity},
		{name: "same account: everybody", who: user(ours), resource: to(`"*"`), want: Allowed, from: FromResource},
		{name: "same account: everybody of AWS", who: user(ours), resource: to(`{"AWS":"*"}`), want: Allowed, from: FromResource},
		{name: "same account: everybody but us", who: user(ours), resource: one(`"NotPrincipal":` + us + `,` + allowAll), want: ImplicitDeny, from: FromIdentity},
		{name: "deny for everybody but the user", who: user(ours), identity: one(allowAll), resource: one(`"NotPrincipal":{"AWS":"arn:aws:iam::111111111111:user/u"},` + denyAll), want: Allowed, from: FromIdentity},
		{name: "deny for everybody but somebody else", who: user(ours), identity: one(allowAll), resource: one(`"NotPrincipal":{"AWS":"arn:aws:iam::111111111111:user/v"},` + denyAll), want: ExplicitDeny, from: FromResource},

		{name: "boundary allows less", who: user(ours), identity: one(allowAll), boundary: one(other), want: ImplicitDeny, from: FromBoundary},
		{name: "boundary allows it too", who: user(ours), identity: one(allowAll), boundary: one(allowAll), want: Allowed, from: FromIdentity},
		{name: "boundary alone gives nothing", who: user(ours), boundary: one(allowAll), want: ImplicitDeny, from: FromIdentity},
		{name: "boundary denies", who: user(ours), identity: one(allowAll), boundary: one(denyAll), want: ExplicitDeny, from: FromBoundary},
		{name: "session allows less", who: session(ours), identity: one(allowAll), inSession: one(other), want: ImplicitDeny, from: FromSession},
		{name: "session denies", who: session(ours), identity: one(allowAll), inSession: one(denyAll), want: ExplicitDeny, from: FromSession},

		{name: "organisation allows", who: user(ours), identity: one(allowAll), levels: []string{one(allowAll), one(allowAll)}, want: Allowed, from: FromIdentity},
		{name: "one level does not", who: user(ours), identity: one(allowAll), levels: []string{one(allowAll), one(other)}, want: ImplicitDeny, from: FromOrganization},
		{name: "organisation denies", who: user(ours), identity: one(allowAll), levels: []string{one(denyAll)}, want: ExplicitDeny, from: FromOrganization},
		{name: "organisation binds root too", who: rootOf(ours), levels: []string{one(other)}, want: ImplicitDeny, from: FromOrganization},
		{name: "organisation does not bind services", who: Principal{Service: "s3.amazonaws.com"}, resource: to(`{"Service":"s3.amazonaws.com"}`), levels: []string{one(denyAll)}, want: Allowed, from: FromResource},

		{name: "root of the account", who: rootOf(ours), want: Allowed},
		{name: "root, denied by the resource", who: rootOf(ours), resource: one(`"Principal":"*",` + denyAll), want: ExplicitDeny, from: FromResource},

		{name: "cross account: nothing", who: user(theirs), want: ImplicitDeny, from: FromResource},
		{name: "cross account: identity alone", who: user(theirs), identity: one(allowAll), want: ImplicitDeny, from: FromResource},
		{name: "cross account: resource alone", who: user(theirs), resource: to(them), want: ImplicitDeny, from: FromIdentity},
		{name: "cross account: by name alone", who: user(theirs), resource: to(`{"AWS":"arn:aws:iam::222222222222:user/u"}`), want: ImplicitDeny, from: FromIdentity},
		{name: "cross account: both", who: user(theirs), identity: one(allowAll), resource: to(them), want: Allowed, from: FromIdentity},
		{name: "cross account: both, bounded", who: user(theirs), identity: one(allowAll), resource: to(them), boundary: one(other), want: ImplicitDeny, from: FromBoundary},
		{name: "cross account: root", who: rootOf(theirs), resource: to(`{"AWS":"arn:aws:iam::222222222222:root"}`), want: Allowed},
		{name: "cross account: root without a grant", who: rootOf(theirs), want: ImplicitDeny, from: FromResource},

		{name: "a service", who: Principal{Service: "s3.amazonaws.com"}, resource: to(`{"Service":["sns.amazonaws.com","s3.amazonaws.com"]}`), want: Allowed, from: FromResource},
		{name: "another service", who: Principal{Service: "sqs.amazonaws.com"}, resource: to(`{"Service":"s3.amazonaws.com"}`), want: ImplicitDeny, from: FromResource},
		{name: "a service is no account", who: Principal{Service: "s3.amazonaws.com"}, resource: to(us), identity: one(allowAll), want: ImplicitDeny, from: FromResource},
		{name: "a stranger and everybody", who: Principal{}, resource: to(`"*"`), want: Allowed, from: FromResource},
		{name: "a stranger and an account", who: Principal{}, resource: to(us), want: ImplicitDeny, from: FromResource},
		{name: "a stranger, and everybody but a user", who: Principal{}, resource: one(`"NotPrincipal":{"AWS":"arn:aws:iam::111111111111:user/u"},` + denyAll), want: ExplicitDeny, from: FromResource},
		{name: "a federated user", who: Principal{Federated: "accounts.google.com"}, resource: to(`{"Federated":"accounts.google.com"}`), want: Allowed, from: FromResource},
		{name: "a canonical user", who: Principal{CanonicalUser: "79a5"}, resource: to(`{"CanonicalUser":"79a5"}`), want: Allowed, from: FromResource},
		{name: "no canonical user", who: Principal{}, resource: to(`{"CanonicalUser":"79a5"}`), want: ImplicitDeny, from: FromResource},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := Policies{Identity: list(t, Identity, row.identity), Resource: list(t, Resource, row.resource), Session: list(t, Identity, row.inSession)}
			if row.boundary != "" {
				p.Boundary = parse(t, Identity, row.boundary)
			}
			for _, level := range row.levels {
				p.Organization = append(p.Organization, list(t, Identity, level))
			}
			got := Decide(&Request{Principal: row.who, Action: "lambda:InvokeFunction", Resource: fn, ResourceAccount: ours}, p)
			if got.Outcome != row.want || got.Source != row.from {
				t.Errorf("%v by %q, want %v by %q", got.Outcome, got.Source, row.want, row.from)
			}
			if (got.Statement == nil) != (got.Outcome == ImplicitDeny || row.from == "") {
				t.Errorf("statement %v of %v", got.Statement, got.Outcome)
			}
		})
	}
}

func TestActionsAndResources(t *testing.T) {
	for _, row := range []struct {
		statement, action, resource string
		want                        bool
	}{
		{`"Action":"lambda:InvokeFunction","Resource":"*"`, "lambda:InvokeFunction", fn, true},
		{`"Action":"LAMBDA:invokefunction","Resource":"*"`, "lambda:InvokeFunction", fn, true},
		{`"Action":"lambda:Invoke*","Resource":"*"`, "lambda:InvokeFunctionUrl", fn, true},
		{`"Action":"lambda:Get?ayer","Resource":"*"`, "lambda:GetLayer", fn, true},
		{`"Action":"lambda:Get?ayer","Resource":"*"`, "lambda:Getayer", fn, false},
		{`"Action":["s3:*","lambda:*"],"Resource":"*"`, "lambda:X", fn, true},
		{`"Action":"*","Resource":"*"`, "sqs:SendMessage", fn, true},
		{`"NotAction":"lambda:Delete*","Resource":"*"`, "lambda:InvokeFunction", fn, true},
		{`"NotAction":"lambda:Delete*","Resource":"*"`, "lambda:DeleteFunction", fn, false},
		{`"NotAction":["s3:*","lambda:*"],"Resource":"*"`, "lambda:DeleteFunction", fn, false},
		{`"Action":"*","Resource":"` + fn + `"`, "lambda:X", fn, true},
		{`"Action":"*","Resource":"` + fn + `"`, "lambda:X", fn + ":1", false},
		{`"Action":"*","Resource":"` + fn + `*"`, "lambda:X", fn + ":1", true},
		{`"Action":"*","Resource":"` + fn + `:?"`, "lambda:X", fn + ":1", true},
		{`"Action":"*","Resource":"` + fn + `:?"`, "lambda:X", fn + ":12", false},
		{`"Action":"*","Resource":"arn:aws:lambda:*:*:function:F"`, "lambda:X", fn, false},
		{`"Action":"*","Resource":["arn:aws:s3:::b","arn:aws:lambda:*:*:function:f"]`, "lambda:X", fn, true},
		{`"Action":"*","NotResource":"arn:aws:s3:::b"`, "lambda:X", fn, true},
		{`"Action":"*","NotResource":["arn:aws:s3:::b","` + fn + `"]`, "lambda:X", fn, false},
		{`"Action":"*","Resource":"arn:aws:lambda:*:${aws:PrincipalAccount}:function:f"`, "lambda:X", fn, true},
		{`"Action":"*","Resource":"arn:aws:lambda:*:*:function:${aws:username}"`, "lambda:X", fn, false},
		{`"Action":"*","Resource":"arn:aws:lambda:*:*:function:${aws:username, 'f'}"`, "lambda:X", fn, true},
		{`"Action":"*","Resource":"arn:aws:lambda:*:*:function:${lambda:star}"`, "lambda:X", fn, false}, // its value is "*"
		{`"Action":"*","Resource":"arn:aws:lambda:*:*:function:${*}"`, "lambda:X", strings.TrimSuffix(fn, "f") + "*", true},
		{`"Action":"*","Resource":"arn:aws:lambda:*:*:function:${*}"`, "lambda:X", fn, false},
		{`"Action":"*","Resource":"arn:aws:lambda:*:*:function:${lambda:two}"`, "lambda:X", fn, false}, // of two values
	} {
		doc := parse(t, Identity, one(`"Effect":"Allow",`+row.statement))
		req := &Request{Principal: user(ours), Action: row.action, Resource: row.resource, ResourceAccount: ours, Context: Context{"lambda:star": {"*"}, "lambda:two": {"f", "f"}}}
		if got := Decide(req, Policies{Identity: []*Document{doc}}).Outcome == Allowed; got != row.want {
			t.Errorf("%s for %s on %s: %v", row.statement, row.action, row.resource, got)
		}
	}
}

// In documents of 2008 a variable is plain text.
func TestOldDocumentsHaveNoVariables(t *testing.T) {
	const statement = `"Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:lambda:*:${aws:PrincipalAccount}:function:f"}}`
	for _, version := range []string{``, `"Version":"2008-10-17",`} {
		doc := parse(t, Identity, `{`+version+statement)
		if d := Decide(&Request{Principal: user(ours), Action: "a:b", Resource: fn, ResourceAccount: ours}, Policies{Identity: []*Document{doc}}); d.Outcome != ImplicitDeny {
			t.Errorf("%q: %v", version, d.Outcome)
		}
	}
}

// What a request says of its principal is not believed.
func TestDerivedKeysCannotBeForged(t *testing.T) {
	for _, row := range []struct {
		who       Principal
		condition string
		want      bool
	}{
		{user(ours), `{"StringEquals":{"aws:PrincipalAccount":"` + theirs + `"}}`, false},
		{user(ours), `{"StringEquals":{"aws:PrincipalAccount":"` + ours + `"}}`, true},
		{user(ours), `{"Bool":{"aws:PrincipalIsAWSService":"true"}}`, false},
		{Principal{Service: "s3.amazonaws.com"}, `{"Bool":{"aws:PrincipalIsAWSService":"true"},"StringEquals":{"aws:PrincipalServiceName":"s3.amazonaws.com"}}`, true},
		{Principal{}, `{"Null":{"aws:PrincipalAccount":"true"}}`, true},
		{Principal{}, `{"StringEquals":{"aws:PrincipalType":"Anonymous"}}`, true},
		{session(ours), `{"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::111111111111:role/r"}}`, true},
		{session(ours), `{"StringEquals":{"aws:PrincipalType":"AssumedRole"}}`, true},
		{rootOf(ours), `{"StringEquals":{"aws:PrincipalType":"Account"}}`, true},
		{user(theirs), `{"StringEquals":{"aws:ResourceAccount":"` + ours + `"}}`, true},
	} {
		doc := parse(t, Resource, one(`"Principal":"*","Effect":"Deny","Action":"*","Resource":"*","Condition":`+row.condition))
		forged := Context{}
		for _, key := range []string{"aws:PrincipalAccount", "AWS:PrincipalArn", "aws:principaltype", "aws:ResourceAccount"} {
			forged.Set(key, theirs)
		}
		forged.Set("aws:PrincipalIsAWSService", "true")
		req := &Request{Principal: row.who, Action: "a:b", Resource: fn, ResourceAccount: ours, Context: forged}
		if got := Decide(req, Policies{Resource: []*Document{doc}}).Outcome == ExplicitDeny; got != row.want {
			t.Errorf("%s of %+v: %v", row.condition, row.who, got)
		}
	}
}
