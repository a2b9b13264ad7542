package control_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/go-cmp/cmp"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/control"
	"github.com/firn-run/firn/internal/policy"
)

const otherAccount = "222222222222"

func (w *world) permit(in lambda.AddPermissionInput) string {
	w.t.Helper()
	out, err := w.AddPermission(w.t.Context(), &in)
	if err != nil {
		w.t.Fatal(err)
	}
	return *out.Statement
}

// permission is a request of the least that there can be.
func permission(function, sid, action, principal string) lambda.AddPermissionInput {
	return lambda.AddPermissionInput{FunctionName: &function, StatementId: &sid, Action: &action, Principal: &principal}
}

// The statements are those that AWS makes of the same requests.
func TestAddPermission(t *testing.T) {
	w := newWorld(t, options{})
	w.versions("f", 1)
	w.alias("f", "live", "1")
	arn := functionARN("f")
	with := func(sid, action, principal string, edit func(*lambda.AddPermissionInput)) lambda.AddPermissionInput {
		in := permission("f", sid, action, principal)
		edit(&in)
		return in
	}
	const invoke = "lambda:InvokeFunction"
	for want, in := range map[string]lambda.AddPermissionInput{
		`{"Sid":"a","Effect":"Allow","Principal":{"Service":"s3.amazonaws.com"},"Action":"lambda:InvokeFunction","Resource":"ARN","Condition":{"StringEquals":{"AWS:SourceAccount":"123456789012"},"ArnLike":{"AWS:SourceArn":"arn:aws:s3:::b"}}}`: with("a", invoke, "s3.amazonaws.com", func(in *lambda.AddPermissionInput) {
			in.SourceAccount, in.SourceArn = aws.String(account), aws.String("arn:aws:s3:::b")
		}),
		`{"Sid":"b","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::222222222222:root"},"Action":"lambda:*","Resource":"ARN:live"}`:                                                                       with("b", "lambda:*", otherAccount, func(in *lambda.AddPermissionInput) { in.Qualifier = aws.String("live") }),
		`{"Sid":"c","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::222222222222:role/r"},"Action":"*","Resource":"ARN:1"}`:                                                                               with("c", "*", "arn:aws:iam::222222222222:role/r", func(in *lambda.AddPermissionInput) { in.FunctionName = aws.String("f:1") }),
		`{"Sid":"d","Effect":"Allow","Principal":"*","Action":"lambda:InvokeFunctionUrl","Resource":"ARN","Condition":{"StringEquals":{"lambda:FunctionUrlAuthType":"NONE"}}}`:                              with("d", "lambda:InvokeFunctionUrl", "*", func(in *lambda.AddPermissionInput) { in.FunctionUrlAuthType = types.FunctionUrlAuthTypeNone }),
		`{"Sid":"e","Effect":"Allow","Principal":"*","Action":"lambda:InvokeFunction","Resource":"ARN","Condition":{"Bool":{"lambda:InvokedViaFunctionUrl":"true"}}}`:                                       with("e", invoke, "*", func(in *lambda.AddPermissionInput) { in.InvokedViaFunctionUrl = aws.Bool(true) }),
		`{"Sid":"g","Effect":"Allow","Principal":"*","Action":"lambda:InvokeFunction","Resource":"ARN","Condition":{"StringEquals":{"aws:PrincipalOrgID":"o-0123456789"}}}`:                                 with("g", invoke, "*", func(in *lambda.AddPermissionInput) { in.PrincipalOrgID = aws.String("o-0123456789") }),
		`{"Sid":"h","Effect":"Allow","Principal":{"Service":"alexa-appkit.amazon.com"},"Action":"lambda:InvokeFunction","Resource":"ARN","Condition":{"StringEquals":{"lambda:EventSourceToken":"amzn1"}}}`: with("h", invoke, "alexa-appkit.amazon.com", func(in *lambda.AddPermissionInput) { in.EventSourceToken = aws.String("amzn1") }),
	} {
		var got, expect map[string]any
		if err := json.Unmarshal([]byte(w.permit(in)), &got); err != nil {
			t.Fatal(err)
		}
		json.Unmarshal([]byte(strings.ReplaceAll(want, "ARN", arn)), &expect)
		// The names of keys in conditions have the word ARN too.
		text, _ := json.Marshal(expect)
		json.Unmarshal([]byte(strings.ReplaceAll(string(text), "Source"+arn, "SourceArn")), &expect)
		if diff := cmp.Diff(expect, got); diff != "" {
			t.Error(diff)
		}
	}
	w.restart()
	var other string
	for qualifier, sids := range map[string]int{"": 5, "live": 1, "1": 1} {
		in := &lambda.GetPolicyInput{FunctionName: aws.String("f")}
		revision := *w.configuration("f").RevisionId
		if qualifier != "" {
			in.Qualifier = &qualifier
			revision = *w.get("f", qualifier).RevisionId
		}
		out, err := w.GetPolicy(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := policy.Parse(policy.Resource, []byte(*out.Policy))
		if err != nil || doc.ID != "default" || doc.Version != "2012-10-17" || len(doc.Statements) != sids {
			t.Errorf("%q: %s, %v", qualifier, *out.Policy, err)
		}
		if *out.RevisionId == "" || *out.RevisionId == revision || *out.RevisionId == other {
			t.Errorf("%q: the policy has the revision %s, and %s and %s are others", qualifier, *out.RevisionId, revision, other)
		}
		other = *out.RevisionId
	}
}

// wrongGrantRev is the answer to another revision than the policy's.
const wrongGrantRev = "The Revision Id provided does not match the latest Revision Id. Call the GetPolicy API to retrieve the latest Revision Id"

func (w *world) policyRevision(function string) string {
	w.t.Helper()
	out, err := w.GetPolicy(w.t.Context(), &lambda.GetPolicyInput{FunctionName: &function})
	if err != nil {
		w.t.Fatal(err)
	}
	return *out.RevisionId
}

func TestRemovePermission(t *testing.T) {
	w := newWorld(t, options{})
	w.create("f", hello())
	before := *w.configuration("f").RevisionId
	in := permission("f", "a", "lambda:InvokeFunction", "s3.amazonaws.com")
	in.RevisionId = &before
	w.permit(in)
	w.permit(permission("f", "b", "lambda:InvokeFunction", "s3.amazonaws.com"))
	if *w.configuration("f").RevisionId != before {
		t.Error("a permission has changed the revision of the function")
	}
	current := w.policyRevision("f")
	if current == before {
		t.Error("the policy has no revision of its own")
	}
	remove := func(sid string, revision *string) error {
		_, err := w.RemovePermission(t.Context(), &lambda.RemovePermissionInput{FunctionName: aws.String("f"), StatementId: &sid, RevisionId: revision})
		return err
	}
	if err := remove("a", &current); err != nil {
		t.Fatal(err)
	}
	wantFault(t, remove("a", nil), notFoundCode, "Statement a is not found in resource policy.")
	wantFault(t, remove("b", &current), preconCode, wrongGrantRev)
	if w.policyRevision("f") == current {
		t.Error("the revision of the policy has not changed")
	}
	if w.publish("f"); w.policyRevision("f") == *w.configuration("f").RevisionId {
		t.Error("the policy took the revision of a version")
	}
	if err := remove("b", nil); err != nil {
		t.Fatal(err)
	}
	w.restart()
	wantFault(t, remove("b", nil), notFoundCode, "No policy is associated with the given resource.")
	_, err := w.GetPolicy(t.Context(), &lambda.GetPolicyInput{FunctionName: aws.String("f")})
	wantFault(t, err, notFoundCode, "The resource you requested does not exist.")
}

func TestPermissionsRefuse(t *testing.T) {
	w := newWorld(t, options{})
	w.create("f", hello())
	arn := functionARN("f")
	w.permit(permission("f", "there", "lambda:InvokeFunction", "*"))
	add := func(edit func(*lambda.AddPermissionInput)) func() error {
		return func() error {
			in := permission("f", "s", "lambda:InvokeFunction", "s3.amazonaws.com")
			edit(&in)
			_, err := w.AddPermission(t.Context(), &in)
			return err
		}
	}
	const badPrincipal = "The provided principal was invalid. Please check the principal and try again."
	rows := []refusal{
		{"missing function", add(func(in *lambda.AddPermissionInput) { in.FunctionName = aws.String("no") }), notFoundCode, "Function not found: " + functionARN("no")},
		{"missing version", add(func(in *lambda.AddPermissionInput) { in.Qualifier = aws.String("4") }), notFoundCode, "Function not found: " + arn + ":4"},
		{"missing alias", add(func(in *lambda.AddPermissionInput) { in.Qualifier = aws.String("live") }), notFoundCode, "Cannot find alias arn: " + arn + ":live"},
		{"$LATEST", add(func(in *lambda.AddPermissionInput) { in.Qualifier = aws.String("$LATEST") }), invalidCode, "We currently do not support adding policies for $LATEST."},
		{"statement exists", add(func(in *lambda.AddPermissionInput) { in.StatementId = aws.String("there") }), conflictCode, "The statement id (there) provided already exists. Please provide a new statement id, or remove the existing statement."},
		{"revision", add(func(in *lambda.AddPermissionInput) { in.RevisionId = aws.String("x") }), preconCode, wrongGrantRev},
		{"auth type", add(func(in *lambda.AddPermissionInput) { in.FunctionUrlAuthType = types.FunctionUrlAuthTypeNone }), invalidCode, "FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action"},
		{"remove of a missing function", func() error {
			_, err := w.RemovePermission(t.Context(), &lambda.RemovePermissionInput{FunctionName: aws.String("no"), StatementId: aws.String("s")})
			return err
		}, notFoundCode, "No policy found for: " + functionARN("no")},
		{"get of a missing function", func() error {
			_, err := w.GetPolicy(t.Context(), &lambda.GetPolicyInput{FunctionName: aws.String("no")})
			return err
		}, notFoundCode, "The resource you requested does not exist."},
		{"what no alias can be called", add(func(in *lambda.AddPermissionInput) { in.Qualifier = aws.String("a$") }), notFoundCode, "Function not found: " + arn + ":a$"},
	}
	for _, principal := range []string{"me", "12345", "s3.example.com", "arn:aws:iam::222222222222:user/*", "arn:aws:s3:::b", "*.amazonaws.com"} {
		rows = append(rows, refusal{"principal " + principal, add(func(in *lambda.AddPermissionInput) { in.Principal = &principal }), invalidCode, badPrincipal})
	}
	check(t, rows)
	for i := range 1000 {
		in := permission("f", fmt.Sprint("s", i, strings.Repeat("x", 80)), "lambda:InvokeFunction", "s3.amazonaws.com")
		if _, err := w.AddPermission(t.Context(), &in); err != nil {
			if !strings.Contains(err.Error(), "PolicyLengthExceededException: The final policy size (20") || !strings.HasSuffix(err.Error(), "is bigger than the limit (20480).") || i < 50 {
				t.Errorf("after %d: %v", i, err)
			}
			return
		}
	}
	t.Error("no bound of a policy")
}

// Allowed is what URLs and services ask.
func TestAllowed(t *testing.T) {
	w := newWorld(t, options{})
	w.versions("f", 1)
	w.alias("f", "live", "1")
	const invoke, viaURL = "lambda:InvokeFunction", "lambda:InvokeFunctionUrl"
	in := permission("f", "bucket", invoke, "s3.amazonaws.com")
	in.SourceAccount, in.SourceArn = aws.String(account), aws.String("arn:aws:s3:::b*")
	w.permit(in)
	in = permission("f", "url", viaURL, "*")
	in.FunctionUrlAuthType, in.Qualifier = types.FunctionUrlAuthTypeNone, aws.String("live")
	w.permit(in)
	w.permit(permission("f", "account", invoke, otherAccount))
	context := func(pairs ...string) policy.Context {
		c := policy.Context{}
		for i := 0; i < len(pairs); i += 2 {
			c.Set(pairs[i], pairs[i+1])
		}
		return c
	}
	s3 := policy.Principal{Service: "s3.amazonaws.com"}
	user := func(account string) policy.Principal {
		return policy.Principal{ARN: "arn:aws:iam::" + account + ":user/u", Account: account}
	}
	nothing, err := policy.Parse(policy.Identity, []byte(`{"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}`))
	if err != nil {
		t.Fatal(err)
	}
	const noResource = "because no resource-based policy allows the lambda:InvokeFunction action"
	for _, row := range []struct {
		name, qualifier, action string
		who                     policy.Principal
		context                 policy.Context
		identity                []*policy.Document
		ok                      bool
		reason                  string
	}{
		{"bucket", "", invoke, s3, context("aws:SourceArn", "arn:aws:s3:::bucket", "aws:SourceAccount", account), nil, true, ""},
		{"bucket of somebody else", "", invoke, s3, context("aws:SourceArn", "arn:aws:s3:::bucket", "aws:SourceAccount", otherAccount), nil, false, noResource},
		{"another bucket", "", invoke, s3, context("aws:SourceArn", "arn:aws:s3:::c", "aws:SourceAccount", account), nil, false, noResource},
		{"through an alias", "live", invoke, s3, context("aws:SourceArn", "arn:aws:s3:::bucket", "aws:SourceAccount", account), nil, false, noResource},
		{"open URL", "live", viaURL, policy.Principal{}, context("lambda:FunctionUrlAuthType", "NONE"), nil, true, ""},
		{"signed URL", "live", viaURL, policy.Principal{}, context("lambda:FunctionUrlAuthType", "AWS_IAM"), nil, false, "because no resource-based policy allows the lambda:InvokeFunctionUrl action"},
		{"URL without alias", "", viaURL, policy.Principal{}, context("lambda:FunctionUrlAuthType", "NONE"), nil, false, "because no resource-based policy allows the lambda:InvokeFunctionUrl action"},
		{"our own", "", invoke, user(account), nil, nil, true, ""},
		{"our own with a policy", "", invoke, user(account), nil, []*policy.Document{nothing}, false, "because no identity-based policy allows the lambda:InvokeFunction action"},
		{"the other account", "", invoke, user(otherAccount), nil, nil, true, ""},
		{"the other account, another action", "", viaURL, user(otherAccount), nil, nil, false, "because no resource-based policy allows the lambda:InvokeFunctionUrl action"},
		{"a third account", "", invoke, user("333333333333"), nil, nil, false, noResource},
	} {
		ok, reason := w.control.Allowed(control.Access{
			Function: firn.FunctionRef{Name: "f", Qualifier: row.qualifier}, Action: row.action, Principal: row.who, Context: row.context, Identity: row.identity,
		})
		if ok != row.ok || reason != row.reason {
			t.Errorf("%s: %v %q, want %v %q", row.name, ok, reason, row.ok, row.reason)
		}
	}
	if ok, _ := w.control.Allowed(control.Access{Function: firn.FunctionRef{Name: "gone"}, Action: invoke, Principal: s3}); ok {
		t.Error("a function that does not exist is open")
	}
}

// A caller of another account needs the function's leave, and has the layers
// that it may have.
func TestForeignCallers(t *testing.T) {
	opt := options{}
	w := newWorld(t, opt)
	w.create("f", actorZip(t))
	layer, err := w.PublishLayerVersion(t.Context(), &lambda.PublishLayerVersionInput{LayerName: aws.String("l"), Content: &types.LayerVersionContentInput{ZipFile: hello()}})
	if err != nil {
		t.Fatal(err)
	}
	foreigner := firn.Identity{ARN: "arn:aws:iam::" + otherAccount + ":user/u", Account: otherAccount}
	as := func(id firn.Identity) { w.opt.caller = id; w.restart() }
	invoke := func() error {
		_, err := w.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("f"), Payload: []byte("{}")})
		return err
	}
	layerGet := func() error {
		_, err := w.GetLayerVersionByArn(t.Context(), &lambda.GetLayerVersionByArnInput{Arn: layer.LayerVersionArn})
		if err == nil {
			_, err = w.GetLayerVersion(t.Context(), &lambda.GetLayerVersionInput{LayerName: layer.LayerArn, VersionNumber: aws.Int64(1)})
		}
		return err
	}
	as(foreigner)
	wantFault(t, invoke(), "AccessDeniedException", "User: arn:aws:iam::222222222222:user/u is not authorized to perform: lambda:InvokeFunction on resource: "+functionARN("f")+" because no resource-based policy allows the lambda:InvokeFunction action")
	wantFault(t, layerGet(), "AccessDeniedException", "User: arn:aws:iam::222222222222:user/u is not authorized to perform: lambda:GetLayerVersion on resource: "+*layer.LayerVersionArn+" because no resource-based policy allows the lambda:GetLayerVersion action")
	as(firn.Identity{})
	w.permit(permission("f", "s", "lambda:InvokeFunction", otherAccount))
	if _, err := w.AddLayerVersionPermission(t.Context(), &lambda.AddLayerVersionPermissionInput{
		LayerName: aws.String("l"), VersionNumber: aws.Int64(1), StatementId: aws.String("s"), Action: aws.String("lambda:GetLayerVersion"), Principal: aws.String(otherAccount),
	}); err != nil {
		t.Fatal(err)
	}
	as(foreigner)
	for name, call := range map[string]func() error{"invoke": invoke, "layer": layerGet} {
		if err := call(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLayerPermissions(t *testing.T) {
	w := newWorld(t, options{})
	layer, err := w.PublishLayerVersion(t.Context(), &lambda.PublishLayerVersionInput{LayerName: aws.String("l"), Content: &types.LayerVersionContentInput{ZipFile: hello()}})
	if err != nil {
		t.Fatal(err)
	}
	arn := *layer.LayerVersionArn
	add := func(edit func(*lambda.AddLayerVersionPermissionInput)) (*lambda.AddLayerVersionPermissionOutput, error) {
		in := &lambda.AddLayerVersionPermissionInput{LayerName: aws.String("l"), VersionNumber: aws.Int64(1), StatementId: aws.String("s"), Action: aws.String("lambda:GetLayerVersion"), Principal: aws.String("*")}
		edit(in)
		return w.AddLayerVersionPermission(t.Context(), in)
	}
	refused := func(edit func(*lambda.AddLayerVersionPermissionInput)) func() error {
		return func() error { _, err := add(edit); return err }
	}
	first, err := add(func(in *lambda.AddLayerVersionPermissionInput) { in.OrganizationId = aws.String("o-0123456789") })
	want := `{"Sid":"s","Effect":"Allow","Principal":"*","Action":"lambda:GetLayerVersion","Resource":"` + arn + `","Condition":{"StringEquals":{"aws:PrincipalOrgID":"o-0123456789"}}}`
	if err != nil || *first.Statement != want {
		t.Fatalf("%+v, %v", first, err)
	}
	second, err := add(func(in *lambda.AddLayerVersionPermissionInput) {
		in.StatementId, in.RevisionId, in.Principal = aws.String("t"), first.RevisionId, aws.String(otherAccount)
	})
	if err != nil || *second.RevisionId == *first.RevisionId {
		t.Fatal(second, err)
	}
	get := func(version int64) (*lambda.GetLayerVersionPolicyOutput, error) {
		return w.GetLayerVersionPolicy(t.Context(), &lambda.GetLayerVersionPolicyInput{LayerName: layer.LayerArn, VersionNumber: &version})
	}
	remove := func(sid string, revision *string) error {
		_, err := w.RemoveLayerVersionPermission(t.Context(), &lambda.RemoveLayerVersionPermissionInput{LayerName: aws.String("l"), VersionNumber: aws.Int64(1), StatementId: &sid, RevisionId: revision})
		return err
	}
	w.restart()
	got, err := get(1)
	if err != nil || *got.RevisionId != *second.RevisionId || !strings.Contains(*got.Policy, `"Principal":{"AWS":"arn:aws:iam::222222222222:root"}`) {
		t.Fatal(got, err)
	}
	missing := "Layer version arn:aws:lambda:us-east-1:123456789012:layer:l:7 does not exist."
	const wrongLayerRev = "The Revision Id provided does not match the latest Revision Id. Call the GetLayerPolicy API to retrieve the latest Revision Id"
	check(t, []refusal{
		{"add to a missing version", refused(func(in *lambda.AddLayerVersionPermissionInput) { in.VersionNumber = aws.Int64(7) }), notFoundCode, missing},
		{"add to version 0", refused(func(in *lambda.AddLayerVersionPermissionInput) { in.VersionNumber = aws.Int64(0) }), invalidCode, "Layer Version Cannot be less than 1"},
		{"add again", refused(func(in *lambda.AddLayerVersionPermissionInput) {}), conflictCode, "The statement id (s) provided already exists. Please provide a new statement id, or remove the existing statement."},
		{"add, revision", refused(func(in *lambda.AddLayerVersionPermissionInput) {
			in.StatementId, in.RevisionId = aws.String("u"), first.RevisionId
		}), preconCode, wrongLayerRev},
		{"add, organisation and account", refused(func(in *lambda.AddLayerVersionPermissionInput) {
			in.Principal, in.OrganizationId = aws.String(otherAccount), aws.String("o-0123456789")
		}), invalidCode, "OrganizationId can only be specified with the principal *."},
		{"get of a missing version", func() error { _, err := get(7); return err }, notFoundCode, missing},
		{"remove, revision", func() error { return remove("s", first.RevisionId) }, preconCode, wrongLayerRev},
		{"remove, missing", func() error { return remove("u", nil) }, notFoundCode, "Statement u is not found in resource policy."},
	})
	for _, sid := range []string{"s", "t"} {
		if err := remove(sid, nil); err != nil {
			t.Fatal(err)
		}
	}
	const none = "No policy is associated with the given resource."
	check(t, []refusal{
		{"get of none", func() error { _, err := get(1); return err }, notFoundCode, none},
		{"remove of none", func() error { return remove("s", nil) }, notFoundCode, none},
	})
	// A policy goes with its version.
	if _, err := add(func(*lambda.AddLayerVersionPermissionInput) {}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.DeleteLayerVersion(t.Context(), &lambda.DeleteLayerVersionInput{LayerName: aws.String("l"), VersionNumber: aws.Int64(1)}); err != nil {
		t.Fatal(err)
	}
	w.restart()
	_, err = get(1)
	wantFault(t, err, notFoundCode, strings.Replace(missing, ":7", ":1", 1))
}
