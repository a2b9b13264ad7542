package control_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/control"
	"github.com/firn-run/firn/internal/policy"
)

// A whole document may say more than permissions can, and is the same policy.
func TestResourcePolicies(t *testing.T) {
	w := newWorld(t, options{})
	w.versions("f", 1)
	arn := functionARN("f")
	document := `{"Version":"2012-10-17","Statement":[{"Sid":"all","Effect":"Allow","Principal":"*","Action":["lambda:InvokeFunction"],"Resource":"` + arn + `"},` +
		`{"Sid":"no","Effect":"Deny","Principal":{"AWS":"` + otherAccount + `"},"Action":"*","Resource":"*"}]}`
	put, err := w.PutResourcePolicy(t.Context(), &lambda.PutResourcePolicyInput{ResourceArn: &arn, Policy: &document, RevisionId: w.configuration("f").RevisionId})
	if err != nil || *put.Policy != document {
		t.Fatalf("%+v, %v", put, err)
	}
	w.restart()
	got, err := w.GetResourcePolicy(t.Context(), &lambda.GetResourcePolicyInput{ResourceArn: &arn})
	if err != nil || *got.Policy != document || *got.RevisionId != *put.RevisionId {
		t.Errorf("%+v, %v", got, err)
	}
	for account, want := range map[string]string{otherAccount: "with an explicit deny in a resource-based policy", "333333333333": ""} {
		ok, reason := w.control.Allowed(control.Access{
			Function: firn.FunctionRef{Name: "f"}, Action: "lambda:InvokeFunction", Principal: policy.Principal{ARN: "arn:aws:iam::" + account + ":user/u", Account: account},
		})
		if ok != (want == "") || reason != want {
			t.Errorf("%s: %v %q", account, ok, reason)
		}
	}
	everybody := strings.ReplaceAll(document, `{"AWS":"`+otherAccount+`"}`, `"*"`)
	if _, err := w.PutResourcePolicy(t.Context(), &lambda.PutResourcePolicyInput{ResourceArn: &arn, Policy: &everybody}); err != nil {
		t.Fatal(err)
	}
	_, err = w.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("f")})
	wantFault(t, err, "AccessDeniedException", "User: arn:aws:iam::123456789012:root is not authorized to perform: lambda:InvokeFunction on resource: "+arn+" with an explicit deny in a resource-based policy")
	// Statement by statement it goes on.
	w.permit(permission("f", "more", "lambda:InvokeFunction", "s3.amazonaws.com"))
	if _, err := w.RemovePermission(t.Context(), &lambda.RemovePermissionInput{FunctionName: aws.String("f"), StatementId: aws.String("no")}); err != nil {
		t.Fatal(err)
	}
	if got, err := w.GetPolicy(t.Context(), &lambda.GetPolicyInput{FunctionName: aws.String("f")}); err != nil || strings.Contains(*got.Policy, "Deny") || !strings.Contains(*got.Policy, `"Sid":"more"`) {
		t.Errorf("%+v, %v", got, err)
	}
	remove := func(revision *string) error {
		_, err := w.DeleteResourcePolicy(t.Context(), &lambda.DeleteResourcePolicyInput{ResourceArn: &arn, RevisionId: revision})
		return err
	}
	const wrongPolicyRev = "The Revision Id provided does not match the latest Revision Id. Call the GetResourcePolicy API to retrieve the latest Revision Id"
	wantFault(t, remove(put.RevisionId), preconCode, wrongPolicyRev)
	if err := remove(nil); err != nil {
		t.Fatal(err)
	}
	replace := func(arn, text string, revision *string) func() error {
		return func() error {
			_, err := w.PutResourcePolicy(t.Context(), &lambda.PutResourcePolicyInput{ResourceArn: &arn, Policy: &text, RevisionId: revision})
			return err
		}
	}
	const none = "No policy is associated with the given resource."
	check(t, []refusal{
		{"delete of none", func() error { return remove(nil) }, notFoundCode, none},
		{"get of none", func() error {
			_, err := w.GetResourcePolicy(t.Context(), &lambda.GetResourcePolicyInput{ResourceArn: &arn})
			return err
		}, notFoundCode, none},
		{"revision", replace(arn, document, aws.String("01234567-89ab-cdef-0123-456789abcdef")), preconCode, wrongPolicyRev},
		{"missing function", replace(functionARN("no"), strings.ReplaceAll(document, arn, "*"), nil), notFoundCode, "Function not found: " + functionARN("no")},
		{"missing alias", replace(arn+":dead", strings.ReplaceAll(document, arn, "*"), nil), notFoundCode, "Cannot find alias arn: " + arn + ":dead"},
		{"another resource", replace(arn+":1", document, nil), invalidCode, "The resource " + arn + " of the policy is not the resource that the policy is of: " + arn + ":1"},
		{"not a resource", replace(arn, strings.ReplaceAll(document, `"Resource"`, `"NotResource"`), nil), invalidCode, "Statements of a resource-based policy have a Resource, not a NotResource."},
		{"not a policy", replace(arn, `{"Version":"2012-10-17"}`, nil), invalidCode, "The policy document is not valid: policy: Statement: there must be at least one"},
		{"of a runtime", replace("arn:aws:lambda:us-east-1:123456789012:runtime/r", document, nil), "NotImplementedException", "firn does not serve policies of other resources than functions yet; see DIVERGENCES.md"},
	})
}
