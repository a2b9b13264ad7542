package registry

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/policy"
	"github.com/firn-run/firn/internal/state"
)

// key names the repository that an operation is about.
func key(ctx context.Context, registry *string, name *string) repoKey {
	k := repoKey{awswire.IdentityOf(ctx).Account, *name}
	if registry != nil && *registry != "" {
		k.account = *registry
	}
	return k
}

// isMissing tells a missing repository from other errors.
func isMissing(err error) bool {
	_, ok := errors.AsType[*types.RepositoryNotFoundException](err)
	return ok
}

func (r *Registry) createRepository(ctx context.Context, in *ecr.CreateRepositoryInput) (*ecr.CreateRepositoryOutput, error) {
	k := key(ctx, in.RegistryId, in.RepositoryName)
	if id := awswire.IdentityOf(ctx); k.account != id.Account {
		return nil, denied(id, "ecr:CreateRepository", k.arn(r.cfg.Region))
	}
	if e := in.EncryptionConfiguration; e != nil && e.EncryptionType != types.EncryptionTypeAes256 {
		return nil, unserved("encryptionType " + string(e.EncryptionType))
	}
	repo := &repository{Mutability: in.ImageTagMutability}
	if err := repo.exclude(in.ImageTagMutabilityExclusionFilters); err != nil {
		return nil, err
	}
	if c := in.ImageScanningConfiguration; c != nil {
		repo.ScanOnPush = c.ScanOnPush
	}
	if err := repo.tag(in.Tags); err != nil {
		return nil, err
	}
	if err := r.create(ctx, k, repo); err != nil {
		return nil, err
	}
	return &ecr.CreateRepositoryOutput{Repository: r.describe(ctx, k, repo)}, nil
}

// create stores a new repository and fills in its defaults.
func (r *Registry) create(ctx context.Context, k repoKey, repo *repository) error {
	if !validRepo(k.name) {
		return invalid("Invalid parameter at 'repositoryName' failed to satisfy constraint: 'must satisfy regular expression '%s''", strings.Trim(repoName.String(), "^$"))
	}
	if repo.Mutability == "" {
		repo.Mutability = types.ImageTagMutabilityMutable
	}
	repo.Created = r.cfg.Now().UTC()
	return r.cfg.State.Update(ctx, func(tx state.Tx) error {
		if old, err := get[repository](tx, kindRepository, k.String()); err != nil || old != nil {
			return errors.Join(err, existing(k, old))
		}
		list, err := tx.List(kindRepository, k.account+"/", "", maxRepositories)
		if err != nil {
			return err
		}
		if len(list) == maxRepositories {
			return limitExceeded("The registry with id '%s' already has the maximum number of %d repositories", k.account, maxRepositories)
		}
		return put(tx, kindRepository, k.String(), repo)
	})
}

func existing(k repoKey, old *repository) error {
	if old == nil {
		return nil
	}
	return repositoryExists(k)
}

// exclude sets the exceptions from the repository's mutability.
func (r *repository) exclude(filters []types.ImageTagMutabilityExclusionFilter) error {
	with := r.Mutability == types.ImageTagMutabilityImmutableWithExclusion || r.Mutability == types.ImageTagMutabilityMutableWithExclusion
	if with != (len(filters) > 0) {
		return invalid("Invalid parameter at 'imageTagMutabilityExclusionFilters': filters and a mutability with exclusion need each other")
	}
	r.Exclusions = nil
	for _, f := range filters {
		if strings.Count(*f.Filter, "*") > 2 { // "Image tag mutability exclusion filters"
			return invalid("Invalid parameter at 'imageTagMutabilityExclusionFilters': a filter has two wildcards at most")
		}
		r.Exclusions = append(r.Exclusions, *f.Filter)
	}
	return nil
}

func (r *repository) filters() []types.ImageTagMutabilityExclusionFilter {
	var list []types.ImageTagMutabilityExclusionFilter
	for _, f := range r.Exclusions {
		list = append(list, types.ImageTagMutabilityExclusionFilter{Filter: &f, FilterType: types.ImageTagMutabilityExclusionFilterTypeWildcard})
	}
	return list
}

// describe is a repository as ECR shows it. Its URI is where the caller can
// push to: this node.
func (r *Registry) describe(ctx context.Context, k repoKey, repo *repository) *types.Repository {
	return &types.Repository{
		CreatedAt: &repo.Created, RegistryId: &k.account, RepositoryName: &k.name,
		RepositoryArn: new(k.arn(r.cfg.Region)), RepositoryUri: new(r.uri(ctx, k)),
		ImageTagMutability: repo.Mutability, ImageTagMutabilityExclusionFilters: repo.filters(),
		ImageScanningConfiguration: &types.ImageScanningConfiguration{ScanOnPush: repo.ScanOnPush},
		EncryptionConfiguration:    &types.EncryptionConfiguration{EncryptionType: types.EncryptionTypeAes256},
	}
}

func (r *Registry) uri(ctx context.Context, k repoKey) string { return r.host(ctx) + "/" + k.name }

func (r *Registry) describeRepositories(ctx context.Context, in *ecr.DescribeRepositoriesInput) (*ecr.DescribeRepositoriesOutput, error) {
	id := awswire.IdentityOf(ctx)
	k := key(ctx, in.RegistryId, new(string))
	if k.account != id.Account {
		return nil, denied(id, "ecr:DescribeRepositories", k.arn(r.cfg.Region)+"*")
	}
	if len(in.RepositoryNames) > 0 && (in.NextToken != nil || in.MaxResults != nil) {
		return nil, invalid("Invalid parameter at 'repositoryNames': a list of names comes without maxResults and nextToken")
	}
	out := &ecr.DescribeRepositoriesOutput{Repositories: []types.Repository{}}
	err := r.cfg.State.View(ctx, func(tx state.Tx) error {
		for _, name := range in.RepositoryNames {
			k := repoKey{k.account, name}
			repo, err := r.repository(tx, k)
			if err != nil {
				return err
			}
			out.Repositories = append(out.Repositories, *r.describe(ctx, k, repo))
		}
		if len(in.RepositoryNames) > 0 {
			return nil
		}
		after, err := pageAfter(in.NextToken)
		if err != nil {
			return err
		}
		limit := pageSize(in.MaxResults)
		if after != "" {
			after = k.String() + after
		}
		list, err := tx.List(kindRepository, k.String(), after, limit+1)
		if err != nil {
			return err
		}
		if len(list) > limit {
			list = list[:limit]
			out.NextToken = pageToken(strings.TrimPrefix(list[limit-1].Key, k.String()))
		}
		for _, rec := range list {
			repo, err := decode[repository](rec)
			if err != nil {
				return err
			}
			out.Repositories = append(out.Repositories, *r.describe(ctx, repoKey{k.account, strings.TrimPrefix(rec.Key, k.String())}, repo))
		}
		return nil
	})
	return out, err
}

func (r *Registry) deleteRepository(ctx context.Context, in *ecr.DeleteRepositoryInput) (*ecr.DeleteRepositoryOutput, error) {
	k := key(ctx, in.RegistryId, in.RepositoryName)
	if _, err := r.permitted(ctx, k, awswire.IdentityOf(ctx), "ecr:DeleteRepository"); err != nil {
		return nil, err
	}
	var repo *repository
	err := r.cfg.State.Update(ctx, func(tx state.Tx) (err error) {
		if repo, err = r.repository(tx, k); err != nil {
			return err
		}
		if !in.Force {
			images, err := tx.List(kindImage, k.at(""), "", 1)
			if err != nil {
				return err
			}
			if len(images) > 0 {
				return repositoryNotEmpty(k)
			}
		}
		for kind, prefix := range map[string]string{kindImage: k.at(""), kindLayer: k.at(""), kindTag: k.tag("")} {
			list, err := tx.List(kind, prefix, "", 0)
			if err != nil {
				return err
			}
			for _, rec := range list {
				if err := tx.Delete(kind, rec.Key); err != nil {
					return err
				}
			}
		}
		return tx.Delete(kindRepository, k.String())
	})
	if err != nil {
		return nil, err
	}
	r.deleted()
	return &ecr.DeleteRepositoryOutput{Repository: r.describe(ctx, k, repo)}, nil
}

// change changes the record of a repository.
func (r *Registry) change(ctx context.Context, k repoKey, action string, fn func(*repository) error) error {
	if _, err := r.permitted(ctx, k, awswire.IdentityOf(ctx), action); err != nil {
		return err
	}
	return r.cfg.State.Update(ctx, func(tx state.Tx) error {
		repo, err := r.repository(tx, k)
		if err != nil {
			return err
		}
		if err := fn(repo); err != nil {
			return err
		}
		return put(tx, kindRepository, k.String(), repo)
	})
}

func (r *Registry) putImageTagMutability(ctx context.Context, in *ecr.PutImageTagMutabilityInput) (*ecr.PutImageTagMutabilityOutput, error) {
	k := key(ctx, in.RegistryId, in.RepositoryName)
	out := &ecr.PutImageTagMutabilityOutput{RegistryId: &k.account, RepositoryName: &k.name}
	return out, r.change(ctx, k, "ecr:PutImageTagMutability", func(repo *repository) error {
		repo.Mutability = in.ImageTagMutability
		if err := repo.exclude(in.ImageTagMutabilityExclusionFilters); err != nil {
			return err
		}
		out.ImageTagMutability, out.ImageTagMutabilityExclusionFilters = repo.Mutability, repo.filters()
		return nil
	})
}

// putImageScanningConfiguration stores the wish; nothing scans images here.
func (r *Registry) putImageScanningConfiguration(ctx context.Context, in *ecr.PutImageScanningConfigurationInput) (*ecr.PutImageScanningConfigurationOutput, error) {
	k := key(ctx, in.RegistryId, in.RepositoryName)
	out := &ecr.PutImageScanningConfigurationOutput{RegistryId: &k.account, RepositoryName: &k.name, ImageScanningConfiguration: in.ImageScanningConfiguration}
	return out, r.change(ctx, k, "ecr:PutImageScanningConfiguration", func(repo *repository) error {
		repo.ScanOnPush = in.ImageScanningConfiguration.ScanOnPush
		return nil
	})
}

func (r *Registry) setRepositoryPolicy(ctx context.Context, in *ecr.SetRepositoryPolicyInput) (*ecr.SetRepositoryPolicyOutput, error) {
	k := key(ctx, in.RegistryId, in.RepositoryName)
	if _, err := policy.Parse(policy.Trust, []byte(*in.PolicyText)); err != nil {
		return nil, invalid("Invalid parameter at 'PolicyText' failed to satisfy constraint: 'Invalid repository policy provided'")
	}
	out := &ecr.SetRepositoryPolicyOutput{RegistryId: &k.account, RepositoryName: &k.name, PolicyText: in.PolicyText}
	return out, r.change(ctx, k, "ecr:SetRepositoryPolicy", func(repo *repository) error {
		repo.Policy = *in.PolicyText
		return nil
	})
}

func (r *Registry) getRepositoryPolicy(ctx context.Context, in *ecr.GetRepositoryPolicyInput) (*ecr.GetRepositoryPolicyOutput, error) {
	k := key(ctx, in.RegistryId, in.RepositoryName)
	repo, err := r.permitted(ctx, k, awswire.IdentityOf(ctx), "ecr:GetRepositoryPolicy")
	if err != nil {
		return nil, err
	}
	if repo.Policy == "" {
		return nil, noPolicy(k)
	}
	return &ecr.GetRepositoryPolicyOutput{RegistryId: &k.account, RepositoryName: &k.name, PolicyText: &repo.Policy}, nil
}

func (r *Registry) deleteRepositoryPolicy(ctx context.Context, in *ecr.DeleteRepositoryPolicyInput) (*ecr.DeleteRepositoryPolicyOutput, error) {
	k := key(ctx, in.RegistryId, in.RepositoryName)
	out := &ecr.DeleteRepositoryPolicyOutput{RegistryId: &k.account, RepositoryName: &k.name}
	return out, r.change(ctx, k, "ecr:DeleteRepositoryPolicy", func(repo *repository) error {
		if repo.Policy == "" {
			return noPolicy(k)
		}
		out.PolicyText = new(repo.Policy)
		repo.Policy = ""
		return nil
	})
}

// tag sets tags of the resource.
func (r *repository) tag(tags []types.Tag) error {
	next := maps.Clone(r.Tags)
	if next == nil {
		next = map[string]string{}
	}
	for _, t := range tags {
		value := ""
		if t.Value != nil {
			value = *t.Value
		}
		switch {
		case t.Key == nil || *t.Key == "" || len(*t.Key) > 128 || len(value) > 256:
			return &types.InvalidTagParameterException{Message: new("Tag parameters are invalid")}
		case strings.HasPrefix(strings.ToLower(*t.Key), "aws:"):
			return &types.InvalidTagParameterException{Message: new("Tag keys beginning with aws: are reserved")}
		}
		next[*t.Key] = value
	}
	if len(next) > maxResourceTags {
		return &types.TooManyTagsException{Message: new("A repository has 50 tags at most")}
	}
	r.Tags = next
	return nil
}

// ofARN names the repository of an ARN.
func (r *Registry) ofARN(ctx context.Context, arn string) (repoKey, error) {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) == 6 && parts[2] == "ecr" && parts[3] == r.cfg.Region {
		if name, ok := strings.CutPrefix(parts[5], "repository/"); ok {
			return repoKey{parts[4], name}, nil
		}
	}
	return repoKey{}, invalid("Invalid parameter at 'resourceArn' failed to satisfy constraint: 'Invalid ARN'")
}

func (r *Registry) tagResource(ctx context.Context, in *ecr.TagResourceInput) (*ecr.TagResourceOutput, error) {
	k, err := r.ofARN(ctx, *in.ResourceArn)
	if err != nil {
		return nil, err
	}
	return nil, r.change(ctx, k, "ecr:TagResource", func(repo *repository) error { return repo.tag(in.Tags) })
}

func (r *Registry) untagResource(ctx context.Context, in *ecr.UntagResourceInput) (*ecr.UntagResourceOutput, error) {
	k, err := r.ofARN(ctx, *in.ResourceArn)
	if err != nil {
		return nil, err
	}
	return nil, r.change(ctx, k, "ecr:UntagResource", func(repo *repository) error {
		for _, name := range in.TagKeys {
			delete(repo.Tags, name)
		}
		return nil
	})
}

func (r *Registry) listTagsForResource(ctx context.Context, in *ecr.ListTagsForResourceInput) (*ecr.ListTagsForResourceOutput, error) {
	k, err := r.ofARN(ctx, *in.ResourceArn)
	if err != nil {
		return nil, err
	}
	repo, err := r.permitted(ctx, k, awswire.IdentityOf(ctx), "ecr:ListTagsForResource")
	if err != nil {
		return nil, err
	}
	out := &ecr.ListTagsForResourceOutput{Tags: []types.Tag{}}
	for _, name := range slices.Sorted(maps.Keys(repo.Tags)) {
		out.Tags = append(out.Tags, types.Tag{Key: new(name), Value: new(repo.Tags[name])})
	}
	return out, nil
}
