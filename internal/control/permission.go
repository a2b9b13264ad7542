package control

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/control/grant"
	"github.com/firn-run/firn/internal/policy"
)

// policyLength is the answer to a policy that grows too long.
const policyLength firn.Kind = "PolicyLengthExceededException"

// policyRef reads what a policy operation is about.
func (c *Control) policyRef(function, qualifier *string) (firn.FunctionRef, error) {
	ref, err := c.reference(function, qualifier)
	if err == nil && ref.Qualifier == firn.Latest {
		err = invalid("We currently do not support adding policies for $LATEST.")
	}
	return ref, err
}

// existing checks that there is what a qualifier names.
func (e *edit) existing(ref firn.FunctionRef) error { return e.c.existing(&e.attached, ref) }

func (c *Control) existing(a *attached, ref firn.FunctionRef) error {
	q := ref.Qualifier
	switch {
	case q == "" || q == firn.Latest || a.versions[q] != nil || a.aliases[q] != nil:
		return nil
	case !aliasName(q):
		return c.notFound(ref)
	}
	return c.aliasNotFound(ref)
}

// revision is the RevisionId of a policy. Before there is one, and for one that
// was kept without, it is that of what the qualifier names.
func (a *attached) revision(rec *record, qualifier string) string {
	if p := a.policies[qualifier]; p != nil && p.Revision != "" {
		return p.Revision
	}
	if v := a.versions[qualifier]; v != nil {
		return *v.Config.RevisionId
	}
	if al := a.aliases[qualifier]; al != nil {
		return al.RevisionID
	}
	return *rec.Config.RevisionId
}

// putPolicy sets a policy, which gets a revision of its own; what has the
// policy keeps its own.
func (e *edit) putPolicy(qualifier string, p *grant.Policy) {
	p.Revision = awswire.NewRequestID()
	put(e, &e.policies, kindPolicy, qualifier, p)
}

func (c *Control) addPermission(ctx context.Context, in *lambda.AddPermissionInput) (*lambda.AddPermissionOutput, error) {
	ref, err := c.policyRef(in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	s, err := c.permission(ref, in)
	if err != nil {
		return nil, err
	}
	err = c.edit(ctx, ref, func(e *edit) error {
		if err := e.existing(ref); err != nil {
			return err
		}
		if in.RevisionId != nil && *in.RevisionId != e.revision(e.rec, ref.Qualifier) {
			return revisionMismatch("GetPolicy")
		}
		next, err := e.policies[ref.Qualifier].With(s)
		if err != nil {
			return grantFault(err, s.Sid)
		}
		e.putPolicy(ref.Qualifier, next)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &lambda.AddPermissionOutput{Statement: ptr(s.String())}, nil
}

// permission makes the statement that a request asks for.
func (c *Control) permission(ref firn.FunctionRef, in *lambda.AddPermissionInput) (*grant.Statement, error) {
	principal, err := grant.Principal(*in.Principal)
	if err != nil {
		return nil, grantFault(err, *in.StatementId)
	}
	action := *in.Action
	if in.FunctionUrlAuthType != "" && action != "lambda:InvokeFunctionUrl" {
		return nil, invalid("FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action")
	}
	s := grant.New(*in.StatementId, action, c.arnOf(ref), principal)
	s.Require("StringEquals", "AWS:SourceAccount", deref(in.SourceAccount))
	s.Require("StringEquals", "lambda:EventSourceToken", deref(in.EventSourceToken))
	s.Require("StringEquals", "lambda:FunctionUrlAuthType", string(in.FunctionUrlAuthType))
	s.Require("StringEquals", "aws:PrincipalOrgID", deref(in.PrincipalOrgID))
	s.Require("ArnLike", "AWS:SourceArn", deref(in.SourceArn))
	if in.InvokedViaFunctionUrl != nil {
		s.Require("Bool", "lambda:InvokedViaFunctionUrl", strconv.FormatBool(*in.InvokedViaFunctionUrl))
	}
	return s, nil
}

// grantFault tells what package grant refused.
func grantFault(err error, sid string) error {
	if long, ok := errors.AsType[*grant.TooLongError](err); ok {
		return firn.Faultf(policyLength, "The final policy size (%d) is bigger than the limit (%d).", long.Size, policy.MaxBytes)
	}
	switch {
	case errors.Is(err, grant.ErrExists):
		return firn.Faultf(firn.ResourceConflict, "The statement id (%s) provided already exists. Please provide a new statement id, or remove the existing statement.", sid)
	case errors.Is(err, grant.ErrMissing):
		return firn.Faultf(firn.ResourceNotFound, "Statement %s is not found in resource policy.", sid)
	case errors.Is(err, grant.ErrPrincipal):
		return invalid("The provided principal was invalid. Please check the principal and try again.")
	}
	return invalid("The statement %s is not valid: %v", sid, err)
}

const noPolicy = "No policy is associated with the given resource."

func (c *Control) removePermission(ctx context.Context, in *lambda.RemovePermissionInput) (*lambda.RemovePermissionOutput, error) {
	ref, err := c.reference(in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	if _, err := c.function(ref); err != nil {
		return nil, firn.Faultf(firn.ResourceNotFound, "No policy found for: %s", c.arnOf(ref))
	}
	err = c.edit(ctx, ref, func(e *edit) error {
		if err := e.existing(ref); err != nil {
			return err
		}
		old := e.policies[ref.Qualifier]
		if old == nil {
			return firn.Faultf(firn.ResourceNotFound, noPolicy)
		}
		next, err := old.Without(*in.StatementId)
		if err != nil {
			return grantFault(err, *in.StatementId)
		}
		if in.RevisionId != nil && *in.RevisionId != e.revision(e.rec, ref.Qualifier) {
			return revisionMismatch("GetPolicy")
		}
		if next == nil {
			drop(e, &e.policies, kindPolicy, ref.Qualifier)
		} else {
			e.putPolicy(ref.Qualifier, next)
		}
		return nil
	})
	return &lambda.RemovePermissionOutput{}, err
}

func (c *Control) getPolicy(_ context.Context, in *lambda.GetPolicyInput) (*lambda.GetPolicyOutput, error) {
	ref, err := c.reference(in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	f, err := c.function(ref)
	if err != nil {
		return nil, noResource()
	}
	a := f.attachments()
	p := a.policies[ref.Qualifier]
	if p == nil {
		return nil, noResource()
	}
	return &lambda.GetPolicyOutput{Policy: ptr(p.String()), RevisionId: ptr(a.revision(f.record.Load(), ref.Qualifier))}, nil
}

// Allowed says whether a request may do something with a function: its
// resource policy and those of the principal are evaluated. The reason is in
// the words of AWS's refusals, and ends their sentence: "because ...".
func (c *Control) Allowed(a Access) (ok bool, reason string) {
	var documents []*policy.Document
	if f, err := c.function(a.Function); err == nil && c.local(a.Function) == nil {
		documents = f.attachments().policies[a.Function.Qualifier].Documents()
	}
	return c.decide(&policy.Request{
		Principal: a.Principal, Action: a.Action, Resource: c.arnOf(a.Function),
		ResourceAccount: c.cfg.Account, Context: a.Context,
	}, policy.Policies{Identity: a.Identity, Resource: documents})
}

// everything is the policy of principals as long as there are no identity
// policies: an account may do with its own what it likes.
func everything() *policy.Document {
	return &policy.Document{Version: "2012-10-17", Statements: []policy.Statement{{Effect: policy.Allow, Actions: []string{"*"}, Resources: []string{"*"}}}}
}

func (c *Control) decide(req *policy.Request, p policy.Policies) (ok bool, reason string) {
	if p.Identity == nil {
		p.Identity = []*policy.Document{everything()}
	}
	d := policy.Decide(req, p)
	switch d.Outcome {
	case policy.Allowed:
		return true, ""
	case policy.ExplicitDeny:
		return false, "with an explicit deny in a " + string(d.Source)
	}
	return false, "because no " + string(d.Source) + " allows the " + req.Action + " action"
}

// may refuses a caller whom the function's policy denies an action, and one of
// another account whom it does not allow it.
func (c *Control) may(id firn.Identity, action string, ref firn.FunctionRef) error {
	if id.Account == c.cfg.Account {
		if f, err := c.function(ref); err != nil || f.attachments().policies[ref.Qualifier] == nil {
			return nil // the common case; what is missing is told by who resolves it
		}
	}
	ok, reason := c.Allowed(Access{Function: ref, Action: action, Principal: policy.PrincipalOf(id)})
	if ok {
		return nil
	}
	return denied(id, action, c.arnOf(ref), reason)
}

func denied(id firn.Identity, action, resource, reason string) error {
	who := id.ARN
	if who == "" {
		who = "anonymous"
	}
	return firn.Faultf(firn.AccessDenied, "User: %s is not authorized to perform: %s on resource: %s %s", who, action, resource, reason)
}

// sourceOf is the service of an ARN; "" when it is none.
func sourceOf(arn string) string {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" {
		return ""
	}
	return parts[2]
}

func aliasOnly(qualifier string) bool {
	return qualifier != "" && qualifier != firn.Latest && !isVersion(qualifier)
}

func deadLetter(rec *record) string {
	if c := rec.Config.DeadLetterConfig; c != nil {
		return deref(c.TargetArn)
	}
	return ""
}
