package registry

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/firn-run/firn/internal/awswire"
)

// mountAbsent mounts the operations that tell of what a registry has none of,
// since what would make it is not served: lifecycle policies, scans,
// replication, rules of the registry. Tools that take stock ask for them.
func (r *Registry) mountAbsent(m *awswire.Mux) {
	awswire.Handle(m, r.getLifecyclePolicy)
	awswire.Handle(m, getRegistryPolicy)
	awswire.Handle(m, getRegistryScanningConfiguration)
	awswire.Handle(m, r.batchGetRepositoryScanningConfiguration)
	awswire.Handle(m, r.describeImageScanFindings)
	awswire.Handle(m, r.describeImageReplicationStatus)
	awswire.Handle(m, describePullThroughCacheRules)
	awswire.Handle(m, describeRepositoryCreationTemplates)
}

func (r *Registry) getLifecyclePolicy(ctx context.Context, in *ecr.GetLifecyclePolicyInput) (*ecr.GetLifecyclePolicyOutput, error) {
	k := key(ctx, in.RegistryId, in.RepositoryName)
	if _, err := r.permitted(ctx, k, awswire.IdentityOf(ctx), "ecr:GetLifecyclePolicy"); err != nil {
		return nil, err
	}
	return nil, noLifecyclePolicy(k)
}

func getRegistryPolicy(ctx context.Context, _ *ecr.GetRegistryPolicyInput) (*ecr.GetRegistryPolicyOutput, error) {
	return nil, noRegistryPolicy(awswire.IdentityOf(ctx).Account)
}

// getRegistryScanningConfiguration tells what holds on AWS until it is set.
func getRegistryScanningConfiguration(ctx context.Context, _ *ecr.GetRegistryScanningConfigurationInput) (*ecr.GetRegistryScanningConfigurationOutput, error) {
	account := awswire.IdentityOf(ctx).Account
	return &ecr.GetRegistryScanningConfigurationOutput{
		RegistryId:            &account,
		ScanningConfiguration: &types.RegistryScanningConfiguration{ScanType: types.ScanTypeBasic, Rules: []types.RegistryScanningRule{}},
	}, nil
}

func (r *Registry) batchGetRepositoryScanningConfiguration(ctx context.Context, in *ecr.BatchGetRepositoryScanningConfigurationInput) (*ecr.BatchGetRepositoryScanningConfigurationOutput, error) {
	out := &ecr.BatchGetRepositoryScanningConfigurationOutput{
		ScanningConfigurations: []types.RepositoryScanningConfiguration{}, Failures: []types.RepositoryScanningConfigurationFailure{},
	}
	for _, name := range in.RepositoryNames {
		k := key(ctx, nil, &name)
		repo, err := r.permitted(ctx, k, awswire.IdentityOf(ctx), "ecr:BatchGetRepositoryScanningConfiguration")
		if missing, ok := errors.AsType[*types.RepositoryNotFoundException](err); ok {
			out.Failures = append(out.Failures, types.RepositoryScanningConfigurationFailure{
				RepositoryName: &name, FailureCode: types.ScanningConfigurationFailureCodeRepositoryNotFound, FailureReason: missing.Message,
			})
			continue
		}
		if err != nil {
			return nil, err
		}
		one := types.RepositoryScanningConfiguration{
			RepositoryArn: new(k.arn(r.cfg.Region)), RepositoryName: &name, ScanOnPush: repo.ScanOnPush,
			ScanFrequency: types.ScanFrequencyManual, AppliedScanFilters: []types.ScanningRepositoryFilter{},
		}
		if repo.ScanOnPush {
			one.ScanFrequency = types.ScanFrequencyScanOnPush
		}
		out.ScanningConfigurations = append(out.ScanningConfigurations, one)
	}
	return out, nil
}

// image finds the image that a request names.
func (r *Registry) image(ctx context.Context, k repoKey, id *types.ImageIdentifier, action string) (*found, reference, error) {
	if _, err := r.permitted(ctx, k, awswire.IdentityOf(ctx), action); err != nil {
		return nil, reference{}, err
	}
	ref, code, reason := referenceOf(*id)
	if code != "" {
		return nil, ref, invalid("%s", reason)
	}
	img, err := r.lookup(ctx, k, ref)
	return img, ref, err
}

func (r *Registry) describeImageScanFindings(ctx context.Context, in *ecr.DescribeImageScanFindingsInput) (*ecr.DescribeImageScanFindingsOutput, error) {
	k := key(ctx, in.RegistryId, in.RepositoryName)
	_, ref, err := r.image(ctx, k, in.ImageId, "ecr:DescribeImageScanFindings")
	if err != nil {
		return nil, err
	}
	return nil, noScan(k, ref)
}

func (r *Registry) describeImageReplicationStatus(ctx context.Context, in *ecr.DescribeImageReplicationStatusInput) (*ecr.DescribeImageReplicationStatusOutput, error) {
	if _, _, err := r.image(ctx, key(ctx, in.RegistryId, in.RepositoryName), in.ImageId, "ecr:DescribeImageReplicationStatus"); err != nil {
		return nil, err
	}
	return &ecr.DescribeImageReplicationStatusOutput{RepositoryName: in.RepositoryName, ImageId: in.ImageId, ReplicationStatuses: []types.ImageReplicationStatus{}}, nil
}

func describePullThroughCacheRules(context.Context, *ecr.DescribePullThroughCacheRulesInput) (*ecr.DescribePullThroughCacheRulesOutput, error) {
	return &ecr.DescribePullThroughCacheRulesOutput{PullThroughCacheRules: []types.PullThroughCacheRule{}}, nil
}

func describeRepositoryCreationTemplates(ctx context.Context, _ *ecr.DescribeRepositoryCreationTemplatesInput) (*ecr.DescribeRepositoryCreationTemplatesOutput, error) {
	account := awswire.IdentityOf(ctx).Account
	return &ecr.DescribeRepositoryCreationTemplatesOutput{RegistryId: &account, RepositoryCreationTemplates: []types.RepositoryCreationTemplate{}}, nil
}
