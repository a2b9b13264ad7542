package control

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/control/grant"
	"github.com/firn-run/firn/internal/policy"
	"github.com/firn-run/firn/internal/state"
)

// kindLayerPolicy are the policies of layer versions, by layerKey.
const kindLayerPolicy = "layer-policy"

const getLayerAction = "lambda:GetLayerVersion"

// layerPolicy is a layer version's policy; unlike a function's it has a
// revision of its own. It is never changed in place.
type layerPolicy struct {
	Policy     *grant.Policy
	RevisionID string
}

func (c *Control) loadLayerPolicies(tx state.Tx) error {
	return each(tx, kindLayerPolicy, func(raw state.Record) error {
		p := &layerPolicy{}
		err := json.Unmarshal(raw.Value, p)
		if err == nil {
			err = p.Policy.Open()
		}
		if err != nil {
			return fmt.Errorf("policy of layer version %s: %w", raw.Key, err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.layerPolicies[raw.Key] = p
		return nil
	})
}

// layerVersionRef reads a layer version that must exist.
func (c *Control) layerVersionRef(ctx context.Context, layer *string, number *int64) (*layerVersion, error) {
	ref, err := c.layerRef(ctx, deref(layer))
	if err != nil {
		return nil, err
	}
	if ref.number = *number; ref.number < 1 {
		return nil, invalid("Layer Version Cannot be less than 1")
	}
	lv := c.findLayerVersion(ref)
	if lv == nil {
		return nil, firn.Faultf(firn.ResourceNotFound, "Layer version %s does not exist.", c.layerARN(ref.name, ref.number))
	}
	return lv, nil
}

func (c *Control) layerARN(name string, number int64) string {
	return firn.LayerVersionARN(c.cfg.Region, c.cfg.Account, name, number)
}

func (c *Control) layerPolicyOf(lv *layerVersion) *layerPolicy {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.layerPolicies[layerKey(lv.Name, lv.Number)]
}

// editLayerPolicy replaces the policy of a layer version by what change makes
// of it; nil deletes it.
func (c *Control) editLayerPolicy(ctx context.Context, lv *layerVersion, revisionID *string, change func(*grant.Policy) (*grant.Policy, error)) (*layerPolicy, error) {
	unlock := c.lock("layer/" + lv.Name)
	defer unlock()
	if c.findLayerVersion(layerRef{lv.Name, lv.Number}) == nil {
		return nil, firn.Faultf(firn.ResourceNotFound, "Layer version %s does not exist.", c.layerARN(lv.Name, lv.Number))
	}
	old := c.layerPolicyOf(lv)
	if old == nil {
		old = &layerPolicy{}
	}
	next, err := change(old.Policy)
	if err != nil {
		return nil, err
	}
	if revisionID != nil && *revisionID != old.RevisionID {
		return nil, revisionMismatch("GetLayerPolicy")
	}
	p := &layerPolicy{next, awswire.NewRequestID()}
	value, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode layer policy: %w", err)
	}
	key := layerKey(lv.Name, lv.Number)
	err = c.cfg.Store.Update(ctx, func(tx state.Tx) error {
		if next == nil {
			return tx.Delete(kindLayerPolicy, key)
		}
		_, err := tx.Put(kindLayerPolicy, key, value)
		return err
	})
	if err != nil {
		return nil, storageFault(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if next == nil {
		delete(c.layerPolicies, key)
	} else {
		c.layerPolicies[key] = p
	}
	return p, nil
}

func (c *Control) addLayerVersionPermission(ctx context.Context, in *lambda.AddLayerVersionPermissionInput) (*lambda.AddLayerVersionPermissionOutput, error) {
	lv, err := c.layerVersionRef(ctx, in.LayerName, in.VersionNumber)
	if err != nil {
		return nil, err
	}
	if in.OrganizationId != nil && *in.Principal != "*" {
		return nil, invalid("OrganizationId can only be specified with the principal *.")
	}
	principal, err := grant.Principal(*in.Principal)
	if err != nil {
		return nil, grantFault(err, *in.StatementId)
	}
	s := grant.New(*in.StatementId, *in.Action, c.layerARN(lv.Name, lv.Number), principal)
	s.Require("StringEquals", "aws:PrincipalOrgID", deref(in.OrganizationId))
	p, err := c.editLayerPolicy(ctx, lv, in.RevisionId, func(old *grant.Policy) (*grant.Policy, error) {
		next, err := old.With(s)
		if err != nil {
			err = grantFault(err, s.Sid)
		}
		return next, err
	})
	if err != nil {
		return nil, err
	}
	return &lambda.AddLayerVersionPermissionOutput{Statement: ptr(s.String()), RevisionId: &p.RevisionID}, nil
}

func (c *Control) removeLayerVersionPermission(ctx context.Context, in *lambda.RemoveLayerVersionPermissionInput) (*lambda.RemoveLayerVersionPermissionOutput, error) {
	lv, err := c.layerVersionRef(ctx, in.LayerName, in.VersionNumber)
	if err != nil {
		return nil, err
	}
	_, err = c.editLayerPolicy(ctx, lv, in.RevisionId, func(old *grant.Policy) (*grant.Policy, error) {
		if old == nil {
			return nil, firn.Faultf(firn.ResourceNotFound, noPolicy)
		}
		next, err := old.Without(*in.StatementId)
		if err != nil {
			err = grantFault(err, *in.StatementId)
		}
		return next, err
	})
	return &lambda.RemoveLayerVersionPermissionOutput{}, err
}

func (c *Control) getLayerVersionPolicy(ctx context.Context, in *lambda.GetLayerVersionPolicyInput) (*lambda.GetLayerVersionPolicyOutput, error) {
	lv, err := c.layerVersionRef(ctx, in.LayerName, in.VersionNumber)
	if err != nil {
		return nil, err
	}
	p := c.layerPolicyOf(lv)
	if p == nil {
		return nil, firn.Faultf(firn.ResourceNotFound, noPolicy)
	}
	return &lambda.GetLayerVersionPolicyOutput{Policy: ptr(p.Policy.String()), RevisionId: &p.RevisionID}, nil
}

// mayGetLayer refuses a caller of another account whom the layer version's
// policy does not allow it.
func (c *Control) mayGetLayer(ctx context.Context, name string, number int64) error {
	id := awswire.IdentityOf(ctx)
	if id.Account == c.cfg.Account {
		return nil
	}
	var documents []*policy.Document
	if p := c.layerPolicyOf(&layerVersion{Name: name, Number: number}); p != nil {
		documents = p.Policy.Documents()
	}
	arn := c.layerARN(name, number)
	ok, reason := c.decide(&policy.Request{
		Principal: policy.PrincipalOf(id), Action: getLayerAction, Resource: arn, ResourceAccount: c.cfg.Account,
	}, policy.Policies{Resource: documents})
	if ok {
		return nil
	}
	return denied(id, getLayerAction, arn, reason)
}
