package registry

import (
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// What a registry has none of is told as ECR tells it of a new account.
func TestAbsent(t *testing.T) {
	rg := newRig(t, options{})
	ctx := t.Context()
	name := "app"
	rg.repo(name)
	if err := remote.Write(rg.ref("app:v1"), randomImage(t, 1), rg.remote()...); err != nil {
		t.Fatal(err)
	}
	id := &types.ImageIdentifier{ImageTag: new("v1")}

	_, err := rg.GetLifecyclePolicy(ctx, &ecr.GetLifecyclePolicyInput{RepositoryName: &name})
	if msg := wantCode(t, err, "LifecyclePolicyNotFoundException"); msg != "Lifecycle policy does not exist for the repository with name 'app' in the registry with id '123456789012'" {
		t.Error(msg)
	}
	_, err = rg.GetLifecyclePolicy(ctx, &ecr.GetLifecyclePolicyInput{RepositoryName: new("other")})
	wantCode(t, err, "RepositoryNotFoundException")
	_, err = rg.GetRegistryPolicy(ctx, &ecr.GetRegistryPolicyInput{})
	if msg := wantCode(t, err, "RegistryPolicyNotFoundException"); msg != "Registry policy does not exist in the registry with id '123456789012'" {
		t.Error(msg)
	}
	_, err = rg.DescribeImageScanFindings(ctx, &ecr.DescribeImageScanFindingsInput{RepositoryName: &name, ImageId: id})
	if msg := wantCode(t, err, "ScanNotFoundException"); msg != "Image scan does not exist for the image with '{imageDigest:'null', imageTag:'v1'}' in the repository with name 'app' in the registry with id '123456789012'" {
		t.Error(msg)
	}
	_, err = rg.DescribeImageScanFindings(ctx, &ecr.DescribeImageScanFindingsInput{RepositoryName: &name, ImageId: &types.ImageIdentifier{ImageTag: new("v2")}})
	wantCode(t, err, "ImageNotFoundException")

	config, err := rg.GetRegistryScanningConfiguration(ctx, &ecr.GetRegistryScanningConfigurationInput{})
	if err != nil || config.ScanningConfiguration.ScanType != types.ScanTypeBasic || config.ScanningConfiguration.Rules == nil {
		t.Errorf("%+v, %v", config, err)
	}
	configs, err := rg.BatchGetRepositoryScanningConfiguration(ctx, &ecr.BatchGetRepositoryScanningConfigurationInput{RepositoryNames: []string{name, "other"}})
	if err != nil || len(configs.ScanningConfigurations) != 1 || configs.ScanningConfigurations[0].ScanFrequency != types.ScanFrequencyManual ||
		len(configs.Failures) != 1 || *configs.Failures[0].RepositoryName != "other" {
		t.Errorf("%+v, %v", configs, err)
	}
	status, err := rg.DescribeImageReplicationStatus(ctx, &ecr.DescribeImageReplicationStatusInput{RepositoryName: &name, ImageId: id})
	if err != nil || status.ReplicationStatuses == nil || len(status.ReplicationStatuses) != 0 {
		t.Errorf("%+v, %v", status, err)
	}
	_, rules := rg.DescribePullThroughCacheRules(ctx, &ecr.DescribePullThroughCacheRulesInput{})
	_, templates := rg.DescribeRepositoryCreationTemplates(ctx, &ecr.DescribeRepositoryCreationTemplatesInput{})
	if err := errors.Join(rules, templates); err != nil {
		t.Error(err)
	}
}

// A manifest's media type comes from it or from the request, and is in the
// answer either way.
func TestPutImageMediaType(t *testing.T) {
	rg := newRig(t, options{})
	ctx := t.Context()
	name := "app"
	rg.repo(name)
	if err := remote.Write(rg.ref("app:v1"), randomImage(t, 1), rg.remote()...); err != nil {
		t.Fatal(err)
	}
	got, err := rg.BatchGetImage(ctx, &ecr.BatchGetImageInput{RepositoryName: &name, ImageIds: []types.ImageIdentifier{{ImageTag: new("v1")}}})
	if err != nil || len(got.Images) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	manifest, mediaType := *got.Images[0].ImageManifest, *got.Images[0].ImageManifestMediaType
	put, err := rg.PutImage(ctx, &ecr.PutImageInput{RepositoryName: &name, ImageManifest: &manifest, ImageTag: new("v2")})
	if err != nil || put.Image.ImageManifestMediaType == nil || *put.Image.ImageManifestMediaType != mediaType {
		t.Errorf("from the manifest: %+v, %v", put, err)
	}
	bare := strings.Replace(manifest, `"mediaType":"`+mediaType+`",`, "", 1)
	if bare == manifest {
		t.Fatal(manifest)
	}
	_, err = rg.PutImage(ctx, &ecr.PutImageInput{RepositoryName: &name, ImageManifest: &bare, ImageTag: new("v3")})
	if msg := wantCode(t, err, "InvalidParameterException"); msg != "image manifest mediatype not provided in manifest or parameter" {
		t.Error(msg)
	}
	put, err = rg.PutImage(ctx, &ecr.PutImageInput{RepositoryName: &name, ImageManifest: &bare, ImageManifestMediaType: &mediaType, ImageTag: new("v3")})
	if err != nil || *put.Image.ImageManifestMediaType != mediaType {
		t.Errorf("from the request: %+v, %v", put, err)
	}
}
