package control

import (
	"context"
	"math/rand/v2"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire"
)

// alias is a name for one version of a function, or for two that share its
// invocations. It is never changed in place.
type alias struct {
	Name        string
	Version     string
	Description string
	// Other gets the share Weight of the invocations; "" for none.
	Other      string  `json:",omitempty"`
	Weight     float64 `json:",omitempty"`
	RevisionID string
}

// weighs reports whether a version is the alias's other one.
func (a *alias) weighs(version string) bool { return a.Other != "" && a.Other == version }

// pick returns the version for one invocation.
func (a *alias) pick(random func() float64) string {
	if a.Other != "" && random() < a.Weight {
		return a.Other
	}
	return a.Version
}

// random is the source that splits weighted aliases.
func (c *Control) random() float64 {
	if c.cfg.Random != nil {
		return c.cfg.Random()
	}
	return rand.Float64()
}

func (c *Control) showAlias(name string, a *alias) *types.AliasConfiguration {
	out := &types.AliasConfiguration{
		AliasArn:        ptr(firn.FunctionARN(c.cfg.Region, c.cfg.Account, name) + ":" + a.Name),
		Name:            &a.Name,
		FunctionVersion: &a.Version,
		Description:     &a.Description,
		RevisionId:      &a.RevisionID,
	}
	if a.Other != "" {
		out.RoutingConfig = &types.AliasRoutingConfiguration{AdditionalVersionWeights: map[string]float64{a.Other: a.Weight}}
	}
	return out
}

// aliasNotFound is the answer where an alias of that ARN is asked for.
func (c *Control) aliasNotFound(ref firn.FunctionRef) error {
	return firn.Faultf(firn.ResourceNotFound, "Cannot find alias arn: %s", c.arnOf(ref))
}

// aliasRef reads the function and the name of an alias operation.
func (c *Control) aliasRef(function, name *string) (firn.FunctionRef, error) {
	ref, err := c.reference(function, nil)
	if err != nil {
		return ref, err
	}
	if ref.Qualifier != "" {
		return ref, invalid("Aliases belong to functions, not to versions or aliases: %s", c.arnOf(ref))
	}
	ref.Qualifier = deref(name)
	return ref, nil
}

// point sets what an alias stands for, and checks it.
func (a *alias) point(e *edit, version string, routing *types.AliasRoutingConfiguration) error {
	ref := firn.FunctionRef{Name: e.name, Qualifier: version}
	if version != firn.Latest && e.versions[version] == nil {
		return e.c.notFound(ref)
	}
	a.Version = version
	if routing != nil {
		a.Other, a.Weight = "", 0
		if len(routing.AdditionalVersionWeights) > 1 {
			return invalid("Number of items in AdditionalVersionWeights cannot be greater than 1")
		}
		for other, weight := range routing.AdditionalVersionWeights {
			a.Other, a.Weight = other, weight
		}
	}
	switch {
	case a.Other == "":
		return nil
	case a.Other == version:
		return invalid("Invalid function version %s. Function version %s is already included in routing configuration.", version, version)
	case version == firn.Latest:
		return untyped("$LATEST is not supported for an alias pointing to more than 1 version")
	}
	main, other := e.versions[version], e.versions[a.Other]
	if other == nil {
		return e.c.notFound(firn.FunctionRef{Name: e.name, Qualifier: a.Other})
	}
	if *main.Config.Role != *other.Config.Role {
		return invalid("Specified versions must be associated with the same execution role")
	}
	if deadLetter(main) != deadLetter(other) {
		return invalid("The versions %s and %s must have the same dead-letter queue, or none, to share an alias.", version, a.Other)
	}
	return nil
}

func (c *Control) createAlias(ctx context.Context, in *lambda.CreateAliasInput) (*lambda.CreateAliasOutput, error) {
	ref, err := c.aliasRef(in.FunctionName, in.Name)
	if err != nil {
		return nil, err
	}
	if _, err := c.function(ref); err != nil {
		return nil, c.notFound(firn.FunctionRef{Name: ref.Name, Qualifier: *in.FunctionVersion})
	}
	a := &alias{Name: ref.Qualifier, Description: deref(in.Description), RevisionID: awswire.NewRequestID()}
	err = c.edit(ctx, ref, func(e *edit) error {
		if e.aliases[a.Name] != nil {
			return firn.Faultf(firn.ResourceConflict, "Alias already exists: %s", c.arnOf(ref))
		}
		if err := a.point(e, *in.FunctionVersion, in.RoutingConfig); err != nil {
			return err
		}
		put(e, &e.aliases, kindAlias, a.Name, a)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return convert[lambda.CreateAliasOutput](c.showAlias(ref.Name, a)), nil
}

func (c *Control) updateAlias(ctx context.Context, in *lambda.UpdateAliasInput) (*lambda.UpdateAliasOutput, error) {
	ref, err := c.aliasRef(in.FunctionName, in.Name)
	if err != nil {
		return nil, err
	}
	var a alias
	err = c.edit(ctx, ref, func(e *edit) error {
		old := e.aliases[ref.Qualifier]
		if old == nil {
			return firn.Faultf(firn.ResourceNotFound, "Alias not found: %s", c.arnOf(ref))
		}
		if in.RevisionId != nil && *in.RevisionId != old.RevisionID {
			return revisionMismatch("GetFunction/GetAlias")
		}
		a = *old
		if in.Description != nil {
			a.Description = *in.Description
		}
		version := a.Version
		if in.FunctionVersion != nil {
			version = *in.FunctionVersion
		}
		if err := a.point(e, version, in.RoutingConfig); err != nil {
			return err
		}
		if err := e.checkProvisioned(a.Name, &a); err != nil {
			return err
		}
		a.RevisionID = awswire.NewRequestID()
		put(e, &e.aliases, kindAlias, a.Name, &a)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return convert[lambda.UpdateAliasOutput](c.showAlias(ref.Name, &a)), nil
}

func (c *Control) getAlias(_ context.Context, in *lambda.GetAliasInput) (*lambda.GetAliasOutput, error) {
	ref, err := c.aliasRef(in.FunctionName, in.Name)
	if err != nil {
		return nil, err
	}
	f, err := c.function(ref)
	if err != nil {
		return nil, err
	}
	a := f.attachments().aliases[ref.Qualifier]
	if a == nil {
		return nil, c.aliasNotFound(ref)
	}
	return convert[lambda.GetAliasOutput](c.showAlias(ref.Name, a)), nil
}

func (c *Control) listAliases(_ context.Context, in *lambda.ListAliasesInput) (*lambda.ListAliasesOutput, error) {
	after, err := readMarker(in.Marker)
	if err != nil {
		return nil, err
	}
	ref, err := c.aliasRef(in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	f, err := c.function(ref)
	if err != nil {
		return nil, err
	}
	aliases := f.attachments().aliases
	list := []types.AliasConfiguration{}
	for _, name := range sortedKeys(aliases) {
		a := aliases[name]
		if v := deref(in.FunctionVersion); v == "" || a.Version == v || a.weighs(v) {
			list = append(list, *c.showAlias(ref.Name, a))
		}
	}
	out := &lambda.ListAliasesOutput{}
	out.Aliases, out.NextMarker = page(list, after, in.MaxItems, func(a types.AliasConfiguration) string { return *a.Name })
	return out, nil
}

// deleteAlias deletes an alias with all that hangs on it. One that is not
// there is deleted already.
func (c *Control) deleteAlias(ctx context.Context, in *lambda.DeleteAliasInput) (*lambda.DeleteAliasOutput, error) {
	ref, err := c.aliasRef(in.FunctionName, in.Name)
	if err != nil {
		return nil, err
	}
	err = c.edit(ctx, ref, func(e *edit) error {
		if e.aliases[ref.Qualifier] != nil {
			drop(e, &e.aliases, kindAlias, ref.Qualifier)
			e.dropQualifier(ref.Qualifier)
		}
		return nil
	})
	return &lambda.DeleteAliasOutput{}, err
}
