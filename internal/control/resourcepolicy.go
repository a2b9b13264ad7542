package control

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/control/grant"
)

// resourceRef reads the ARN of a function, version or alias whose whole policy
// is meant.
func (c *Control) resourceRef(arn *string) (firn.FunctionRef, error) {
	if !strings.Contains(deref(arn), ":function:") {
		return firn.FunctionRef{}, notServed("policies of other resources than functions", "")
	}
	return c.policyRef(arn, nil)
}

func (c *Control) putResourcePolicy(ctx context.Context, in *lambda.PutResourcePolicyInput) (*lambda.PutResourcePolicyOutput, error) {
	ref, err := c.resourceRef(in.ResourceArn)
	if err != nil {
		return nil, err
	}
	next, err := grant.Read(*in.Policy)
	if err == nil {
		err = coversOnly(next, c.arnOf(ref))
	}
	if err != nil {
		if firn.KindOf(err) != "" {
			return nil, err
		}
		return nil, documentFault(err)
	}
	var revision string
	err = c.edit(ctx, ref, func(e *edit) error {
		if err := e.existing(ref); err != nil {
			return err
		}
		if in.RevisionId != nil && *in.RevisionId != e.revision(e.rec, ref.Qualifier) {
			return revisionMismatch("GetResourcePolicy")
		}
		e.putPolicy(ref.Qualifier, next)
		revision = next.Revision
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &lambda.PutResourcePolicyOutput{Policy: ptr(next.String()), RevisionId: &revision}, nil
}

// coversOnly refuses statements about other resources than the one that has
// the policy: they would never be asked.
func coversOnly(p *grant.Policy, arn string) error {
	for _, document := range p.Documents() {
		for _, s := range document.Statements {
			if s.NotResource {
				return invalid("Statements of a resource-based policy have a Resource, not a NotResource.")
			}
			for _, r := range s.Resources {
				if r != "*" && r != arn {
					return invalid("The resource %s of the policy is not the resource that the policy is of: %s", r, arn)
				}
			}
		}
	}
	return nil
}

// documentFault tells what is wrong with a whole document.
func documentFault(err error) error {
	if fault := grantFault(err, ""); firn.KindOf(fault) == policyLength {
		return fault
	}
	return invalid("The policy document is not valid: %v", err)
}

func (c *Control) getResourcePolicy(_ context.Context, in *lambda.GetResourcePolicyInput) (*lambda.GetResourcePolicyOutput, error) {
	ref, err := c.resourceRef(in.ResourceArn)
	if err != nil {
		return nil, err
	}
	f, err := c.function(ref)
	if err != nil {
		return nil, err
	}
	a := f.attachments()
	p := a.policies[ref.Qualifier]
	if p == nil {
		return nil, firn.Faultf(firn.ResourceNotFound, noPolicy)
	}
	return &lambda.GetResourcePolicyOutput{Policy: ptr(p.String()), RevisionId: ptr(a.revision(f.record.Load(), ref.Qualifier))}, nil
}

func (c *Control) deleteResourcePolicy(ctx context.Context, in *lambda.DeleteResourcePolicyInput) (*lambda.DeleteResourcePolicyOutput, error) {
	ref, err := c.resourceRef(in.ResourceArn)
	if err != nil {
		return nil, err
	}
	err = c.edit(ctx, ref, func(e *edit) error {
		if e.policies[ref.Qualifier] == nil {
			return firn.Faultf(firn.ResourceNotFound, noPolicy)
		}
		if in.RevisionId != nil && *in.RevisionId != e.revision(e.rec, ref.Qualifier) {
			return revisionMismatch("GetResourcePolicy")
		}
		drop(e, &e.policies, kindPolicy, ref.Qualifier)
		return nil
	})
	return &lambda.DeleteResourcePolicyOutput{}, err
}
