package model

import (
	"github.com/aws/aws-sdk-go-v2/service/ecr/schemas"
	"github.com/aws/smithy-go"
)

// ecrOperations lists every operation of the Elastic Container Registry API
// that the SDK knows, as its schemas package has no list of its own. A test
// holds it against the methods of the SDK's client.
func ecrOperations() []*smithy.Schema {
	return []*smithy.Schema{
		schemas.BatchCheckLayerAvailability, schemas.BatchDeleteImage,
		schemas.BatchGetImage, schemas.BatchGetRepositoryScanningConfiguration,
		schemas.CompleteLayerUpload, schemas.CreatePullThroughCacheRule,
		schemas.CreateRepository, schemas.CreateRepositoryCreationTemplate,
		schemas.DeleteLifecyclePolicy, schemas.DeletePullThroughCacheRule,
		schemas.DeleteRegistryPolicy, schemas.DeleteRepository,
		schemas.DeleteRepositoryCreationTemplate, schemas.DeleteRepositoryPolicy,
		schemas.DeleteSigningConfiguration, schemas.DeregisterPullTimeUpdateExclusion,
		schemas.DescribeImageReplicationStatus, schemas.DescribeImageScanFindings,
		schemas.DescribeImageSigningStatus, schemas.DescribeImages,
		schemas.DescribePullThroughCacheRules, schemas.DescribeRegistry,
		schemas.DescribeReplicationBackfillResults, schemas.DescribeRepositories,
		schemas.DescribeRepositoryCreationTemplates, schemas.GetAccountSetting,
		schemas.GetAuthorizationToken, schemas.GetDownloadUrlForLayer,
		schemas.GetLifecyclePolicy, schemas.GetLifecyclePolicyPreview,
		schemas.GetRegistryPolicy, schemas.GetRegistryScanningConfiguration,
		schemas.GetRepositoryPolicy, schemas.GetSigningConfiguration,
		schemas.InitiateLayerUpload, schemas.ListImageReferrers,
		schemas.ListImages, schemas.ListPullTimeUpdateExclusions,
		schemas.ListReplicationBackfills, schemas.ListTagsForResource,
		schemas.PutAccountSetting, schemas.PutImage,
		schemas.PutImageScanningConfiguration, schemas.PutImageTagMutability,
		schemas.PutLifecyclePolicy, schemas.PutRegistryPolicy,
		schemas.PutRegistryScanningConfiguration, schemas.PutReplicationConfiguration,
		schemas.PutSigningConfiguration, schemas.RegisterPullTimeUpdateExclusion,
		schemas.SetRepositoryPolicy, schemas.StartImageScan,
		schemas.StartLifecyclePolicyPreview, schemas.StartReplicationBackfill,
		schemas.StopReplicationBackfill, schemas.TagResource,
		schemas.UntagResource, schemas.UpdateImageStorageClass,
		schemas.UpdatePullThroughCacheRule, schemas.UpdateRepositoryCreationTemplate,
		schemas.UploadLayerPart, schemas.ValidatePullThroughCacheRule,
	}
}
