package control

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn"
)

// minUnreserved is what must stay of the account's concurrency for functions
// that reserve none ("Lambda function scaling": 100); accounts with a smaller
// limit keep all of it.
const minUnreserved = 100

// provisioned is the provisioned concurrency of a version or an alias.
type provisioned struct {
	Requested    int32
	LastModified string
}

// claimOf is what a function takes from the account's concurrency.
func claimOf(a *attached) int {
	if a.settings.Reserved != nil {
		return int(*a.settings.Reserved)
	}
	return a.totalProvisioned("")
}

// totalProvisioned is the sum without one qualifier.
func (a *attached) totalProvisioned(except string) int {
	n := 0
	for q, p := range a.provisioned {
		if q != except {
			n += int(p.Requested)
		}
	}
	return n
}

// claim takes what e needs from the account's concurrency, or says how much
// must stay. c.edit gives it back when e fails.
func (e *edit) claim() (minimum int, ok bool) {
	c := e.c
	minimum = min(minUnreserved, c.cfg.Concurrency)
	c.mu.Lock()
	defer c.mu.Unlock()
	want := claimOf(&e.attached)
	if want > c.claims[e.name] && c.cfg.Concurrency-c.claimedLocked()+c.claims[e.name]-want < minimum {
		return minimum, false
	}
	c.claims[e.name] = want
	return minimum, true
}

// unclaim gives back what a failed edit claimed.
func (e *edit) unclaim() {
	if e.f != nil {
		e.c.setClaim(e.name, claimOf(e.f.attachments()))
	}
}

func (c *Control) setClaim(name string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n == 0 {
		delete(c.claims, name)
		return
	}
	c.claims[name] = n
}

// claimedLocked is what all functions have claimed.
func (c *Control) claimedLocked() int {
	n := 0
	for _, claim := range c.claims {
		n += claim
	}
	return n
}

// effect tells those who give settings their effect what has changed.
func (c *Control) effect(rec *record, was, now *attached) {
	name, arn := *rec.Config.FunctionName, *rec.Config.FunctionArn
	c.setClaim(name, claimOf(now))
	for q, u := range was.urls {
		if kept := now.urls[q]; kept == nil || kept.ID != u.ID {
			c.urls.Delete(u.ID)
		}
	}
	for q, u := range now.urls {
		c.urls.Store(u.ID, firn.FunctionRef{Name: name, Qualifier: q})
	}
	limits := c.cfg.Effects.Limits
	if limits == nil {
		return
	}
	if a, b := was.settings.Reserved, now.settings.Reserved; (a == nil) != (b == nil) || a != nil && *a != *b {
		var n *int
		if b != nil {
			n = ptr(int(*b))
		}
		limits.SetReserved(arn, n)
	}
	for q := range was.provisioned {
		if now.provisioned[q] == nil {
			limits.SetProvisioned(arn+":"+q, nil)
		}
	}
	for q := range now.provisioned {
		if shares := now.shares(q); was.provisioned[q] == nil || !slices.Equal(shares, was.shares(q)) {
			limits.SetProvisioned(arn+":"+q, shares)
		}
	}
}

// shares are the versions that are to be ready under a qualifier: of an alias
// with two, each by its weight. Versions that are not active yet are left out
// until they are.
func (a *attached) shares(qualifier string) []Share {
	n := int(a.provisioned[qualifier].Requested)
	want := map[string]int{qualifier: n}
	if al := a.aliases[qualifier]; al != nil {
		other := int(math.Round(float64(n) * al.Weight))
		want = map[string]int{al.Version: n - other}
		if al.Other != "" {
			want[al.Other] = other
		}
	}
	var out []Share
	for _, number := range sortedKeys(want) {
		if v := a.versions[number]; v != nil && v.serving != nil && want[number] > 0 {
			out = append(out, Share{v.serving, want[number]})
		}
	}
	return out
}

// functionOnly reads a function that must not be qualified.
func (c *Control) functionOnly(name *string) (firn.FunctionRef, error) {
	ref, err := c.reference(name, nil)
	if err == nil && ref.Qualifier != "" {
		err = invalid("This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. Please specify either a function name or an unqualified function ARN.")
	}
	return ref, err
}

func (c *Control) putFunctionConcurrency(ctx context.Context, in *lambda.PutFunctionConcurrencyInput) (*lambda.PutFunctionConcurrencyOutput, error) {
	ref, err := c.functionOnly(in.FunctionName)
	if err != nil {
		return nil, err
	}
	if _, err := c.function(ref); err != nil {
		ref.Qualifier = firn.Latest // as AWS names it in this error
		return nil, c.notFound(ref)
	}
	want := *in.ReservedConcurrentExecutions
	err = c.edit(ctx, ref, func(e *edit) error {
		if ready := e.totalProvisioned(""); ready > int(want) {
			return untyped(" ReservedConcurrentExecutions  %d should not be lower than function's total provisioned concurrency [%d].", want, ready)
		}
		s := e.settings
		s.Reserved = &want
		e.putSettings(s)
		if minimum, ok := e.claim(); !ok {
			return untyped("Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [%d].", minimum)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &lambda.PutFunctionConcurrencyOutput{ReservedConcurrentExecutions: &want}, nil
}

func (c *Control) getFunctionConcurrency(_ context.Context, in *lambda.GetFunctionConcurrencyInput) (*lambda.GetFunctionConcurrencyOutput, error) {
	ref, err := c.functionOnly(in.FunctionName)
	if err != nil {
		return nil, err
	}
	f, err := c.function(ref)
	if err != nil {
		return nil, err
	}
	return &lambda.GetFunctionConcurrencyOutput{ReservedConcurrentExecutions: f.attachments().settings.Reserved}, nil
}

func (c *Control) deleteFunctionConcurrency(ctx context.Context, in *lambda.DeleteFunctionConcurrencyInput) (*lambda.DeleteFunctionConcurrencyOutput, error) {
	ref, err := c.functionOnly(in.FunctionName)
	if err != nil {
		return nil, err
	}
	err = c.edit(ctx, ref, func(e *edit) error {
		s := e.settings
		s.Reserved = nil
		e.putSettings(s)
		return nil
	})
	return &lambda.DeleteFunctionConcurrencyOutput{}, err
}

// checkProvisioned refuses that an alias and its version are both provisioned;
// a is the alias as it would be.
func (e *edit) checkProvisioned(qualifier string, a *alias) error {
	if e.provisioned[qualifier] == nil {
		return nil
	}
	return e.provisionable(a)
}

func (e *edit) provisionable(a *alias) error {
	if a.Version == firn.Latest {
		return invalid("Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
	}
	if e.provisioned[a.Version] != nil || a.Other != "" && e.provisioned[a.Other] != nil {
		return firn.Faultf(firn.ResourceConflict, "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version")
	}
	return nil
}

func (c *Control) putProvisionedConcurrencyConfig(ctx context.Context, in *lambda.PutProvisionedConcurrencyConfigInput) (*lambda.PutProvisionedConcurrencyConfigOutput, error) {
	ref, err := c.reference(in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	q := ref.Qualifier
	if q == firn.Latest {
		return nil, invalid("Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
	}
	if err := c.qualifiedFunction(ref); err != nil {
		return nil, err
	}
	p := &provisioned{Requested: *in.ProvisionedConcurrentExecutions, LastModified: c.cfg.Now().UTC().Format("2006-01-02T15:04:05+0000")}
	err = c.edit(ctx, ref, func(e *edit) error {
		if err := e.existing(ref); err != nil {
			return err
		}
		if err := e.checkRequested(q, int(p.Requested)); err != nil {
			return err
		}
		if a := e.aliases[q]; a != nil {
			if a.Other != "" {
				return invalid("Alias with weights can not be used with Provisioned Concurrency")
			}
			if err := e.provisionable(a); err != nil {
				return err
			}
		}
		for name, a := range e.aliases {
			if (a.Version == q || a.weighs(q)) && e.provisioned[name] != nil {
				return firn.Faultf(firn.ResourceConflict, "Version is pointed by a Provisioned Concurrency alias")
			}
		}
		put(e, &e.provisioned, kindProvisioned, q, p)
		if minimum, ok := e.claim(); !ok {
			return untyped("Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [%d].", minimum)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if rec, err := c.find(ref); err == nil {
		c.wake(rec)
	}
	return convert[lambda.PutProvisionedConcurrencyConfigOutput](c.showProvisioned(ref, p)), nil
}

// qualifiedFunction checks that there is a function. AWS asks for the version
// or alias at once, and so names it.
func (c *Control) qualifiedFunction(ref firn.FunctionRef) error {
	if _, err := c.function(ref); err != nil {
		return c.existing(&attached{}, ref)
	}
	return nil
}

// checkRequested compares with what the function and the account have.
func (e *edit) checkRequested(qualifier string, n int) error {
	if reserved := e.settings.Reserved; reserved != nil && e.totalProvisioned(qualifier)+n > int(*reserved) {
		return invalid("Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function")
	}
	if limit := e.c.cfg.Concurrency; n > limit {
		return untyped("Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [%d].", limit)
	}
	return nil
}

func (c *Control) showProvisioned(ref firn.FunctionRef, p *provisioned) *types.ProvisionedConcurrencyConfigListItem {
	arn := c.arnOf(ref)
	status := c.cfg.Effects.Limits.Provisioned(arn)
	out := &types.ProvisionedConcurrencyConfigListItem{
		FunctionArn:                              &arn,
		RequestedProvisionedConcurrentExecutions: &p.Requested,
		AllocatedProvisionedConcurrentExecutions: ptr(int32(status.Allocated)),
		AvailableProvisionedConcurrentExecutions: ptr(int32(status.Available)),
		Status:                                   types.ProvisionedConcurrencyStatusEnum(cmp.Or(status.Status, string(types.ProvisionedConcurrencyStatusEnumInProgress))),
		LastModified:                             &p.LastModified,
	}
	if status.Reason != "" {
		out.StatusReason = &status.Reason
	}
	return out
}

// provisionedOf finds what Get and Delete are about.
func (c *Control) provisionedOf(function, qualifier *string) (firn.FunctionRef, *provisioned, error) {
	ref, err := c.reference(function, qualifier)
	if err != nil {
		return ref, nil, err
	}
	if ref.Qualifier == "" || ref.Qualifier == firn.Latest {
		return ref, nil, invalid("The function resource provided must be an alias or a published version.")
	}
	if err := c.qualifiedFunction(ref); err != nil {
		return ref, nil, err
	}
	f, err := c.function(ref)
	if err != nil {
		return ref, nil, err // deleted in this moment
	}
	a := f.attachments()
	return ref, a.provisioned[ref.Qualifier], c.existing(a, ref)
}

func (c *Control) getProvisionedConcurrencyConfig(_ context.Context, in *lambda.GetProvisionedConcurrencyConfigInput) (*lambda.GetProvisionedConcurrencyConfigOutput, error) {
	ref, p, err := c.provisionedOf(in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	if p == nil {
		return nil, firn.Faultf("ProvisionedConcurrencyConfigNotFoundException", "No Provisioned Concurrency Config found for this function")
	}
	return convert[lambda.GetProvisionedConcurrencyConfigOutput](c.showProvisioned(ref, p)), nil
}

func (c *Control) listProvisionedConcurrencyConfigs(_ context.Context, in *lambda.ListProvisionedConcurrencyConfigsInput) (*lambda.ListProvisionedConcurrencyConfigsOutput, error) {
	after, err := readMarker(in.Marker)
	if err != nil {
		return nil, err
	}
	ref, err := c.functionOnly(in.FunctionName)
	if err != nil {
		return nil, err
	}
	f, err := c.function(ref)
	if err != nil {
		return nil, err
	}
	all := f.attachments().provisioned
	list := []types.ProvisionedConcurrencyConfigListItem{}
	for _, q := range sortedKeys(all) {
		ref.Qualifier = q
		list = append(list, *c.showProvisioned(ref, all[q]))
	}
	out := &lambda.ListProvisionedConcurrencyConfigsOutput{}
	out.ProvisionedConcurrencyConfigs, out.NextMarker = page(list, after, in.MaxItems, func(p types.ProvisionedConcurrencyConfigListItem) string { return *p.FunctionArn })
	return out, nil
}

func (c *Control) deleteProvisionedConcurrencyConfig(ctx context.Context, in *lambda.DeleteProvisionedConcurrencyConfigInput) (*lambda.DeleteProvisionedConcurrencyConfigOutput, error) {
	ref, _, err := c.provisionedOf(in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	err = c.edit(ctx, ref, func(e *edit) error {
		drop(e, &e.provisioned, kindProvisioned, ref.Qualifier)
		return nil
	})
	return &lambda.DeleteProvisionedConcurrencyConfigOutput{}, err
}
