package registry

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/firn-run/firn/internal/keyring"
)

func immutable(in *ecr.CreateRepositoryInput) {
	in.ImageTagMutability = types.ImageTagMutabilityImmutable
}

func TestRepositories(t *testing.T) {
	rg := newRig(t, options{})
	ctx := t.Context()
	name := "team/app"
	made, err := rg.CreateRepository(ctx, &ecr.CreateRepositoryInput{
		RepositoryName: &name, ImageTagMutability: types.ImageTagMutabilityImmutable,
		ImageScanningConfiguration: &types.ImageScanningConfiguration{ScanOnPush: true},
		Tags:                       []types.Tag{{Key: new("stage"), Value: new("test")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	r := made.Repository
	if *r.RepositoryArn != "arn:aws:ecr:eu-central-1:123456789012:repository/team/app" || *r.RepositoryUri != rg.host+"/team/app" ||
		*r.RegistryId != testAccount || r.ImageTagMutability != types.ImageTagMutabilityImmutable || !r.ImageScanningConfiguration.ScanOnPush {
		t.Errorf("%+v", r)
	}
	_, err = rg.CreateRepository(ctx, &ecr.CreateRepositoryInput{RepositoryName: &name})
	if msg := wantCode(t, err, "RepositoryAlreadyExistsException"); msg != "The repository with name 'team/app' already exists in the registry with id '123456789012'" {
		t.Error(msg)
	}
	_, err = rg.CreateRepository(ctx, &ecr.CreateRepositoryInput{RepositoryName: new("Upper")})
	wantCode(t, err, "InvalidParameterException")

	rg = rg.again()
	got, err := rg.DescribeRepositories(ctx, &ecr.DescribeRepositoriesInput{RepositoryNames: []string{name}})
	if err != nil || len(got.Repositories) != 1 || !got.Repositories[0].CreatedAt.Truncate(time.Millisecond).Equal(r.CreatedAt.Truncate(time.Millisecond)) {
		t.Fatalf("%+v, %v", got, err)
	}
	_, err = rg.DescribeRepositories(ctx, &ecr.DescribeRepositoriesInput{RepositoryNames: []string{"absent"}})
	if msg := wantCode(t, err, "RepositoryNotFoundException"); msg != "The repository with name 'absent' does not exist in the registry with id '123456789012'" {
		t.Error(msg)
	}
	tags, err := rg.ListTagsForResource(ctx, &ecr.ListTagsForResourceInput{ResourceArn: r.RepositoryArn})
	if err != nil || len(tags.Tags) != 1 || *tags.Tags[0].Value != "test" {
		t.Errorf("%+v, %v", tags, err)
	}
	if _, err := rg.UntagResource(ctx, &ecr.UntagResourceInput{ResourceArn: r.RepositoryArn, TagKeys: []string{"stage"}}); err != nil {
		t.Error(err)
	}
	if _, err := rg.TagResource(ctx, &ecr.TagResourceInput{ResourceArn: r.RepositoryArn, Tags: []types.Tag{{Key: new("a"), Value: new("b")}}}); err != nil {
		t.Error(err)
	}
	tags, err = rg.ListTagsForResource(ctx, &ecr.ListTagsForResourceInput{ResourceArn: r.RepositoryArn})
	if err != nil || len(tags.Tags) != 1 || *tags.Tags[0].Key != "a" {
		t.Errorf("%+v, %v", tags, err)
	}

	rg.push("team/app:v1")
	_, err = rg.DeleteRepository(ctx, &ecr.DeleteRepositoryInput{RepositoryName: &name})
	wantCode(t, err, "RepositoryNotEmptyException")
	if _, err := rg.DeleteRepository(ctx, &ecr.DeleteRepositoryInput{RepositoryName: &name, Force: true}); err != nil {
		t.Fatal(err)
	}
	_, err = rg.DescribeImages(ctx, &ecr.DescribeImagesInput{RepositoryName: &name})
	wantCode(t, err, "RepositoryNotFoundException")
	// Nothing of it comes back with the name.
	rg.repo(name)
	images, err := rg.DescribeImages(ctx, &ecr.DescribeImagesInput{RepositoryName: &name})
	if err != nil || len(images.ImageDetails) != 0 {
		t.Errorf("%+v, %v", images, err)
	}
}

func TestRepositoryPages(t *testing.T) {
	rg := newRig(t, options{})
	for i := range 5 {
		rg.repo(fmt.Sprintf("app%d", i))
	}
	var got []string
	pages := ecr.NewDescribeRepositoriesPaginator(rg.Client, &ecr.DescribeRepositoriesInput{MaxResults: new(int32(2))})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Repositories {
			got = append(got, *r.RepositoryName)
		}
	}
	if diff := cmp.Diff([]string{"app0", "app1", "app2", "app3", "app4"}, got); diff != "" {
		t.Error(diff)
	}
	for _, token := range []string{"!", "YWJj", ""} {
		_, err := rg.DescribeRepositories(t.Context(), &ecr.DescribeRepositoriesInput{NextToken: &token})
		wantCode(t, err, "InvalidParameterException")
	}
}

func TestImages(t *testing.T) {
	rg := newRig(t, options{})
	ctx := t.Context()
	name := "app"
	rg.repo(name)
	first := rg.push("app:v1")
	second := rg.push("app:v1") // the tag moves
	list, err := rg.ListImages(ctx, &ecr.ListImagesInput{RepositoryName: &name})
	if err != nil || len(list.ImageIds) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	for _, filter := range []types.TagStatus{types.TagStatusTagged, types.TagStatusUntagged} {
		list, err := rg.ListImages(ctx, &ecr.ListImagesInput{RepositoryName: &name, Filter: &types.ListImagesFilter{TagStatus: filter}})
		want := map[types.TagStatus]string{types.TagStatusTagged: second, types.TagStatusUntagged: first}[filter]
		if err != nil || len(list.ImageIds) != 1 || *list.ImageIds[0].ImageDigest != want {
			t.Errorf("%s: %+v, %v", filter, list, err)
		}
	}
	described, err := rg.DescribeImages(ctx, &ecr.DescribeImagesInput{RepositoryName: &name, ImageIds: []types.ImageIdentifier{{ImageTag: new("v1")}}})
	if err != nil || len(described.ImageDetails) != 1 {
		t.Fatalf("%+v, %v", described, err)
	}
	d := described.ImageDetails[0]
	if *d.ImageDigest != second || strings.Join(d.ImageTags, ",") != "v1" || *d.ImageSizeInBytes < 3*64<<10 || d.ImagePushedAt.IsZero() {
		t.Errorf("%+v", d)
	}
	_, err = rg.DescribeImages(ctx, &ecr.DescribeImagesInput{RepositoryName: &name, ImageIds: []types.ImageIdentifier{{ImageTag: new("v2")}}})
	if msg := wantCode(t, err, "ImageNotFoundException"); msg != "The image with imageId {imageDigest:'null', imageTag:'v2'} does not exist within the repository with name 'app' in the registry with id '123456789012'" {
		t.Error(msg)
	}

	// A manifest goes out and comes back under another tag.
	got, err := rg.BatchGetImage(ctx, &ecr.BatchGetImageInput{RepositoryName: &name, ImageIds: []types.ImageIdentifier{
		{ImageTag: new("v1")}, {ImageTag: new("v2")}, {}, {ImageDigest: new("sha256:00")}}})
	if err != nil || len(got.Images) != 1 || len(got.Failures) != 3 {
		t.Fatalf("%+v, %v", got, err)
	}
	manifest, mediaType := got.Images[0].ImageManifest, got.Images[0].ImageManifestMediaType
	in := &ecr.PutImageInput{RepositoryName: &name, ImageManifest: manifest, ImageManifestMediaType: mediaType, ImageTag: new("v2")}
	if put, err := rg.PutImage(ctx, in); err != nil || *put.Image.ImageId.ImageDigest != second {
		t.Fatalf("%+v, %v", put, err)
	}
	_, err = rg.PutImage(ctx, in)
	wantCode(t, err, "ImageAlreadyExistsException")
	in.ImageDigest = &first
	_, err = rg.PutImage(ctx, in)
	wantCode(t, err, "ImageDigestDoesNotMatchException")
	_, err = rg.PutImage(ctx, &ecr.PutImageInput{RepositoryName: &name, ImageManifest: new("{}")})
	wantCode(t, err, "InvalidParameterException")

	// One of two tags goes, then the image with the other.
	deleted, err := rg.BatchDeleteImage(ctx, &ecr.BatchDeleteImageInput{RepositoryName: &name, ImageIds: []types.ImageIdentifier{{ImageTag: new("v1")}, {ImageTag: new("absent")}}})
	if err != nil || len(deleted.ImageIds) != 1 || len(deleted.Failures) != 1 || deleted.Failures[0].FailureCode != types.ImageFailureCodeImageNotFound {
		t.Errorf("%+v, %v", deleted, err)
	}
	if _, err := remote.Head(rg.ref("app:v2"), rg.remote()...); err != nil {
		t.Error(err)
	}
	deleted, err = rg.BatchDeleteImage(ctx, &ecr.BatchDeleteImageInput{RepositoryName: &name, ImageIds: []types.ImageIdentifier{{ImageDigest: &second}, {ImageDigest: &first}}})
	if err != nil || len(deleted.ImageIds) != 2 || len(deleted.Failures) != 0 {
		t.Errorf("%+v, %v", deleted, err)
	}
	if _, err := remote.Head(rg.ref("app:v2"), rg.remote()...); err == nil {
		t.Error("the image is still there")
	}
}

// An immutable tag stays where it is, by either API.
func TestImmutableTags(t *testing.T) {
	rg := newRig(t, options{})
	ctx := t.Context()
	name := "app"
	rg.repo(name, immutable)
	img := randomImage(t, 1)
	if err := remote.Write(rg.ref("app:v1"), img, rg.remote()...); err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(rg.ref("app:v1"), img, rg.remote()...); err != nil {
		t.Errorf("the same image again: %v", err)
	}
	const want = "The image tag 'v1' already exists in the 'app' repository and cannot be overwritten because the tag is immutable."
	other := randomImage(t, 1)
	err := remote.Write(rg.ref("app:v1"), other, rg.remote()...)
	refused(t, err, http.StatusBadRequest, "TAG_INVALID", want)
	if err := remote.Write(rg.ref("app:v2"), other, rg.remote()...); err != nil {
		t.Fatal(err)
	}
	got, err := rg.BatchGetImage(ctx, &ecr.BatchGetImageInput{RepositoryName: &name, ImageIds: []types.ImageIdentifier{{ImageTag: new("v2")}}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = rg.PutImage(ctx, &ecr.PutImageInput{RepositoryName: &name, ImageManifest: got.Images[0].ImageManifest, ImageTag: new("v1")})
	if msg := wantCode(t, err, "ImageTagAlreadyExistsException"); msg != want {
		t.Error(msg)
	}
	_, err = rg.PutImageTagMutability(ctx, &ecr.PutImageTagMutabilityInput{
		RepositoryName: &name, ImageTagMutability: types.ImageTagMutabilityImmutableWithExclusion,
		ImageTagMutabilityExclusionFilters: []types.ImageTagMutabilityExclusionFilter{{Filter: new("dev*"), FilterType: types.ImageTagMutabilityExclusionFilterTypeWildcard}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		rg.push("app:dev-1")
	}
	refused(t, remote.Write(rg.ref("app:v1"), other, rg.remote()...), http.StatusBadRequest, "TAG_INVALID", want)
	if _, err := rg.PutImageTagMutability(ctx, &ecr.PutImageTagMutabilityInput{RepositoryName: &name, ImageTagMutability: types.ImageTagMutabilityMutable}); err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(rg.ref("app:v1"), other, rg.remote()...); err != nil {
		t.Error(err)
	}
}

// refused checks an error of the distribution API.
func refused(t *testing.T, err error, status int, code, message string) {
	t.Helper()
	answer, ok := err.(*transport.Error)
	if !ok || answer.StatusCode != status || len(answer.Errors) != 1 || string(answer.Errors[0].Code) != code || message != "" && answer.Errors[0].Message != message {
		t.Errorf("got %v, want %d %s: %s", err, status, code, message)
	}
}

// Passwords hold for 12 hours, and only those of this registry.
func TestPasswords(t *testing.T) {
	rg := newRig(t, options{})
	rg.repo("app")
	rg.push("app:v1")
	out, err := rg.GetAuthorizationToken(t.Context(), &ecr.GetAuthorizationTokenInput{})
	if err != nil {
		t.Fatal(err)
	}
	data := out.AuthorizationData[0]
	if *data.ProxyEndpoint != rg.url {
		t.Errorf("proxyEndpoint %q", *data.ProxyEndpoint)
	}
	if left := time.Until(*data.ExpiresAt); left < 11*time.Hour || left > 12*time.Hour {
		t.Errorf("expires in %v", left)
	}
	good := rg.login(rg.Client).(*authn.Basic)
	head := func(auth authn.Authenticator) error {
		_, err := remote.Get(rg.ref("app:v1"), remote.WithAuth(auth), remote.WithRetryBackoff(remote.Backoff{Steps: 1}))
		return err
	}
	if err := head(good); err != nil {
		t.Error(err)
	}
	flipped := []byte(good.Password)
	flipped[len(flipped)/2] ^= 1
	for _, bad := range []authn.Authenticator{
		authn.Anonymous,
		&authn.Basic{Username: "AWS"},
		&authn.Basic{Username: "aws", Password: good.Password},
		&authn.Basic{Username: "AWS", Password: string(flipped)},
		&authn.Basic{Username: "AWS", Password: good.Password + "="},
		&authn.Basic{Username: "AWS", Password: base64.RawURLEncoding.EncodeToString([]byte("open"))},
		&authn.Basic{Username: "AWS", Password: base64.RawURLEncoding.EncodeToString([]byte(rg.keys.Seal([]byte(`{"Account":"123456789012","Root":true,"Expires":9999999999}`), "another use")))},
		&authn.Basic{Username: "AWS", Password: strings.Repeat("A", 20_000)},
	} {
		refused(t, head(bad), http.StatusUnauthorized, "UNAUTHORIZED", "")
	}
	res, err := http.Get(rg.url + "/v2/")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if got := res.Header.Get("WWW-Authenticate"); res.StatusCode != http.StatusUnauthorized || !strings.HasPrefix(got, `Basic realm="http://`+rg.host) {
		t.Errorf("%d %q", res.StatusCode, got)
	}
	rg.clock.move(12 * time.Hour)
	refused(t, head(good), http.StatusForbidden, "DENIED", "Your authorization token has expired. Reauthenticate and try again.")
	// Another registry's password is of no use here.
	other := newRig(t, options{})
	refused(t, head(other.login(other.Client)), http.StatusUnauthorized, "UNAUTHORIZED", "")
	// A key that is nobody's gets no password.
	_, err = rg.client(keyring.Credentials{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: "x"}).GetAuthorizationToken(t.Context(), &ecr.GetAuthorizationTokenInput{})
	wantCode(t, err, "UnrecognizedClientException")
}

// Without authentication everybody is root.
func TestOpen(t *testing.T) {
	rg := newRig(t, options{open: true})
	rg.repo("app")
	img := randomImage(t, 1)
	if err := remote.Write(rg.ref("app:v1"), img); err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(rg.ref("app:v2"), img, rg.remote()...); err != nil {
		t.Errorf("with a password all the same: %v", err)
	}
}

// Another account sees of a repository what its policy allows.
func TestPolicies(t *testing.T) {
	rg := newRig(t, options{})
	ctx := t.Context()
	name := "app"
	rg.repo(name)
	rg.push("app:v1")
	stranger := rg.role(elsewhere)
	pull := func() error {
		// By ECR's name for the registry, which says whose it is.
		ref := rg.ref("app:v1")
		_, err := remote.Get(ref, remote.WithAuth(rg.login(stranger)), remote.WithTransport(hostTransport{ecrHost(testAccount, testRegion)}))
		return err
	}
	refused(t, pull(), http.StatusForbidden, "DENIED", "")
	_, err := stranger.DescribeImages(ctx, &ecr.DescribeImagesInput{RepositoryName: &name, RegistryId: new(testAccount)})
	wantCode(t, err, "AccessDeniedException")
	_, err = stranger.DescribeImages(ctx, &ecr.DescribeImagesInput{RepositoryName: &name})
	wantCode(t, err, "RepositoryNotFoundException") // of its own

	_, err = rg.GetRepositoryPolicy(ctx, &ecr.GetRepositoryPolicyInput{RepositoryName: &name})
	wantCode(t, err, "RepositoryPolicyNotFoundException")
	_, err = rg.SetRepositoryPolicy(ctx, &ecr.SetRepositoryPolicyInput{RepositoryName: &name, PolicyText: new(`{"Statement":[{}]}`)})
	if msg := wantCode(t, err, "InvalidParameterException"); msg != "Invalid parameter at 'PolicyText' failed to satisfy constraint: 'Invalid repository policy provided'" {
		t.Error(msg)
	}
	text := `{"Version":"2008-10-17","Statement":[{"Sid":"CrossAccountPermission","Effect":"Allow",
		"Principal":{"AWS":"arn:aws:iam::999999999999:root"},"Action":["ecr:BatchGetImage","ecr:GetDownloadUrlForLayer"]}]}`
	if _, err := rg.SetRepositoryPolicy(ctx, &ecr.SetRepositoryPolicyInput{RepositoryName: &name, PolicyText: &text}); err != nil {
		t.Fatal(err)
	}
	if err := pull(); err != nil {
		t.Error(err)
	}
	err = remote.Write(rg.ref("app:v2"), randomImage(t, 1), remote.WithAuth(rg.login(stranger)), remote.WithTransport(hostTransport{ecrHost(testAccount, testRegion)}))
	if answer, ok := err.(*transport.Error); !ok || answer.StatusCode != http.StatusForbidden {
		t.Errorf("pushed by a stranger: %v", err)
	}
	got, err := rg.GetRepositoryPolicy(ctx, &ecr.GetRepositoryPolicyInput{RepositoryName: &name})
	if err != nil || *got.PolicyText != text {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := rg.DeleteRepositoryPolicy(ctx, &ecr.DeleteRepositoryPolicyInput{RepositoryName: &name}); err != nil {
		t.Fatal(err)
	}
	refused(t, pull(), http.StatusForbidden, "DENIED", "")
	// A role of the account itself needs no permission, but can be denied.
	own := rg.role(testAccount)
	if _, err := own.DescribeImages(ctx, &ecr.DescribeImagesInput{RepositoryName: &name}); err != nil {
		t.Error(err)
	}
	text = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"ecr:DescribeImages"}]}`
	if _, err := rg.SetRepositoryPolicy(ctx, &ecr.SetRepositoryPolicyInput{RepositoryName: &name, PolicyText: &text}); err != nil {
		t.Fatal(err)
	}
	_, err = own.DescribeImages(ctx, &ecr.DescribeImagesInput{RepositoryName: &name})
	wantCode(t, err, "AccessDeniedException")
}

// hostTransport calls the server by another name.
type hostTransport struct{ host string }

func (h hostTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Host = h.host
	return http.DefaultTransport.RoundTrip(req)
}

// Layers can be uploaded by ECR's own operations too.
func TestLayerOperations(t *testing.T) {
	rg := newRig(t, options{})
	ctx := t.Context()
	name := "app"
	rg.repo(name)
	begun, err := rg.InitiateLayerUpload(ctx, &ecr.InitiateLayerUploadInput{RepositoryName: &name})
	if err != nil {
		t.Fatal(err)
	}
	parts := []string{"the first part, ", "and the last"}
	at := int64(0)
	for _, p := range parts {
		in := &ecr.UploadLayerPartInput{RepositoryName: &name, UploadId: begun.UploadId, LayerPartBlob: []byte(p), PartFirstByte: new(at), PartLastByte: new(at + int64(len(p)) - 1)}
		if out, err := rg.UploadLayerPart(ctx, in); err != nil || *out.LastByteReceived != *in.PartLastByte {
			t.Fatalf("%+v, %v", out, err)
		}
		_, err = rg.UploadLayerPart(ctx, in)
		wantCode(t, err, "InvalidLayerPartException")
		at += int64(len(p))
	}
	digest := digestOf([]byte(strings.Join(parts, "")))
	if _, err := rg.CompleteLayerUpload(ctx, &ecr.CompleteLayerUploadInput{RepositoryName: &name, UploadId: begun.UploadId, LayerDigests: []string{digest}}); err != nil {
		t.Fatal(err)
	}
	_, err = rg.CompleteLayerUpload(ctx, &ecr.CompleteLayerUploadInput{RepositoryName: &name, UploadId: begun.UploadId, LayerDigests: []string{digest}})
	wantCode(t, err, "UploadNotFoundException")
	available, err := rg.BatchCheckLayerAvailability(ctx, &ecr.BatchCheckLayerAvailabilityInput{RepositoryName: &name, LayerDigests: []string{digest, digestOf(nil), "bad:00"}})
	if err != nil || len(available.Layers) != 2 || len(available.Failures) != 1 ||
		available.Layers[0].LayerAvailability != types.LayerAvailabilityAvailable || *available.Layers[0].LayerSize != at ||
		available.Layers[1].LayerAvailability != types.LayerAvailabilityUnavailable {
		t.Errorf("%+v, %v", available, err)
	}
	url, err := rg.GetDownloadUrlForLayer(ctx, &ecr.GetDownloadUrlForLayerInput{RepositoryName: &name, LayerDigest: &digest})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, rg.do("GET", *url.DownloadUrl, nil), http.StatusOK)
	_, err = rg.GetDownloadUrlForLayer(ctx, &ecr.GetDownloadUrlForLayerInput{RepositoryName: &name, LayerDigest: new(digestOf(nil))})
	if msg := wantCode(t, err, "LayersNotFoundException"); !strings.HasPrefix(msg, "The layer with digest '"+digestOf(nil)+"' does not exist within the repository with name '") {
		t.Error(msg)
	}

	empty, err := rg.InitiateLayerUpload(ctx, &ecr.InitiateLayerUploadInput{RepositoryName: &name})
	if err != nil {
		t.Fatal(err)
	}
	_, err = rg.CompleteLayerUpload(ctx, &ecr.CompleteLayerUploadInput{RepositoryName: &name, UploadId: empty.UploadId, LayerDigests: []string{digest}})
	wantCode(t, err, "EmptyUploadException")
}

// Operations that are not there say so.
func TestUnserved(t *testing.T) {
	rg := newRig(t, options{})
	_, err := rg.PutLifecyclePolicy(t.Context(), &ecr.PutLifecyclePolicyInput{RepositoryName: new("app"), LifecyclePolicyText: new("{}")})
	wantCode(t, err, "NotImplementedException")
	_, err = rg.CreateRepository(t.Context(), &ecr.CreateRepositoryInput{RepositoryName: new("app"), EncryptionConfiguration: &types.EncryptionConfiguration{EncryptionType: types.EncryptionTypeKms}})
	wantCode(t, err, "NotImplementedException")
}

func TestCreateOnPush(t *testing.T) {
	rg := newRig(t, options{change: func(c *Config) { c.CreateOnPush = true }})
	rg.push("made/by:push")
	out, err := rg.DescribeRepositories(t.Context(), &ecr.DescribeRepositoriesInput{})
	if err != nil || len(out.Repositories) != 1 || *out.Repositories[0].RepositoryName != "made/by" {
		t.Errorf("%+v, %v", out, err)
	}
}
