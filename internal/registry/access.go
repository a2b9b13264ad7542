package registry

import (
	"context"
	"fmt"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/policy"
	"github.com/firn-run/firn/internal/state"
)

// lambdaService is who fetches the images of functions.
const lambdaService = "lambda.amazonaws.com"

// pullActions are what fetching an image needs.
func pullActions() []string { return []string{"ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"} }

// allow decides whether a principal may do something with a repository. There
// are no policies of identities yet, so that everything is allowed within an
// account that its repository's policy does not deny; from another account the
// policy must allow it.
func (r *Registry) allow(k repoKey, repo *repository, id firn.Identity, action string) error {
	if repo.Policy == "" && id.Account == k.account || id.Root && id.Account == k.account {
		return nil
	}
	everything, err := policy.Parse(policy.Identity, []byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`))
	if err != nil {
		return err
	}
	req := &policy.Request{
		Principal: policy.PrincipalOf(id), Action: action,
		Resource: k.arn(r.cfg.Region), ResourceAccount: k.account, Context: policy.Context{},
	}
	decision, err := decide(req, repo.Policy, everything)
	if err != nil {
		return err
	}
	if decision.Outcome != policy.Allowed {
		return denied(id, action, req.Resource)
	}
	return nil
}

// allowLambda decides whether the Lambda service may fetch an image for a
// function. In its own account Lambda needs no permission: on AWS it grants
// itself one.
func (r *Registry) allowLambda(k repoKey, repo *repository, functionARN, account string) error {
	for _, action := range pullActions() {
		req := &policy.Request{
			Principal: policy.Principal{Service: lambdaService}, Action: action,
			Resource: k.arn(r.cfg.Region), ResourceAccount: k.account, Context: policy.Context{},
		}
		req.Context.Set("aws:SourceArn", functionARN)
		req.Context.Set("aws:SourceAccount", account)
		decision, err := decide(req, repo.Policy, nil)
		if err != nil {
			return err
		}
		if decision.Outcome == policy.ExplicitDeny || decision.Outcome != policy.Allowed && account != k.account {
			return fmt.Errorf("%s for %s on %s: %s", action, functionARN, req.Resource, decision.Outcome)
		}
	}
	return nil
}

// decide asks the policy of a repository, which names no resources: it is
// about the repository itself.
func decide(req *policy.Request, text string, identity *policy.Document) (policy.Decision, error) {
	var all policy.Policies
	if text != "" {
		doc, err := policy.Parse(policy.Trust, []byte(text))
		if err != nil {
			return policy.Decision{}, fmt.Errorf("policy of %s: %w", req.Resource, err)
		}
		all.Resource = append(all.Resource, doc)
	}
	if identity != nil {
		all.Identity = append(all.Identity, identity)
	}
	return policy.Decide(req, all), nil
}

// permitted reads a repository for somebody who wants to do something with it.
// To strangers without permission a repository is as good as absent only in
// what the answer tells: ECR says that it is denied.
func (r *Registry) permitted(ctx context.Context, k repoKey, id firn.Identity, action string) (repo *repository, err error) {
	err = r.cfg.State.View(ctx, func(tx state.Tx) error {
		repo, err = r.repository(tx, k)
		return err
	})
	if err != nil {
		if id.Account != k.account {
			return nil, denied(id, action, k.arn(r.cfg.Region))
		}
		return nil, err
	}
	return repo, r.allow(k, repo, id, action)
}
