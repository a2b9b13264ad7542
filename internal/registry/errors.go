package registry

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/image/oci"
	"github.com/firn-run/firn/internal/state"
)

// The exceptions of ECR with its words. The distribution API translates them.

func noRepository(k repoKey) error {
	return &types.RepositoryNotFoundException{Message: new(fmt.Sprintf(
		"The repository with name '%s' does not exist in the registry with id '%s'", k.name, k.account))}
}

func repositoryExists(k repoKey) error {
	return &types.RepositoryAlreadyExistsException{Message: new(fmt.Sprintf(
		"The repository with name '%s' already exists in the registry with id '%s'", k.name, k.account))}
}

func repositoryNotEmpty(k repoKey) error {
	return &types.RepositoryNotEmptyException{Message: new(fmt.Sprintf(
		"The repository with name '%s' in registry with id '%s' cannot be deleted because it still contains images", k.name, k.account))}
}

func noPolicy(k repoKey) error {
	return &types.RepositoryPolicyNotFoundException{Message: new(fmt.Sprintf(
		"Repository policy does not exist for the repository with name '%s' in the registry with id '%s'", k.name, k.account))}
}

// identity is an image as messages name it.
func (ref reference) identity() string {
	or := func(s string) string {
		if s == "" {
			return "null"
		}
		return s
	}
	return fmt.Sprintf("{imageDigest:'%s', imageTag:'%s'}", or(string(ref.digest)), or(ref.tag))
}

func noImage(k repoKey, ref reference) error {
	return &types.ImageNotFoundException{Message: new(fmt.Sprintf(
		"The image with imageId %s does not exist within the repository with name '%s' in the registry with id '%s'",
		ref.identity(), k.name, k.account))}
}

func noLifecyclePolicy(k repoKey) error {
	return &types.LifecyclePolicyNotFoundException{Message: new(fmt.Sprintf(
		"Lifecycle policy does not exist for the repository with name '%s' in the registry with id '%s'", k.name, k.account))}
}

func noRegistryPolicy(account string) error {
	return &types.RegistryPolicyNotFoundException{Message: new(fmt.Sprintf(
		"Registry policy does not exist in the registry with id '%s'", account))}
}

func noScan(k repoKey, ref reference) error {
	return &types.ScanNotFoundException{Message: new(fmt.Sprintf(
		"Image scan does not exist for the image with '%s' in the repository with name '%s' in the registry with id '%s'", ref.identity(), k.name, k.account))}
}

func imageExists(k repoKey, digest firn.Digest, tag string) error {
	what := fmt.Sprintf("Image with digest '%s' and tag '%s'", oci.Prefixed(digest), tag)
	if tag == "" {
		what = fmt.Sprintf("Image with digest '%s'", oci.Prefixed(digest))
	}
	return &types.ImageAlreadyExistsException{Message: new(fmt.Sprintf(
		"%s already exists in the repository with name '%s' in registry with id '%s'", what, k.name, k.account))}
}

func tagExists(k repoKey, tag string) error {
	return &types.ImageTagAlreadyExistsException{Message: new(fmt.Sprintf(
		"The image tag '%s' already exists in the '%s' repository and cannot be overwritten because the tag is immutable.", tag, k.name))}
}

func partsMissing(k repoKey, index bool, missing []firn.Digest) error {
	digests := make([]string, 0, len(missing))
	for _, d := range missing {
		digests = append(digests, string(oci.Prefixed(d)))
	}
	text := func(what string) *string {
		return new(fmt.Sprintf("%s with digests '[%s]' required for pushing image into repository with name '%s' in the registry with id '%s' do not exist",
			what, strings.Join(digests, ", "), k.name, k.account))
	}
	if index {
		return &types.ReferencedImagesNotFoundException{Message: text("Images")}
	}
	return &types.LayersNotFoundException{Message: text("Layers")}
}

func noLayer(k repoKey, d firn.Digest) error {
	return &types.LayersNotFoundException{Message: new(fmt.Sprintf(
		"The layer with digest '%s' does not exist within the repository with name '%s' in the registry with id '%s'", oci.Prefixed(d), k.name, k.account))}
}

func noUpload(k repoKey, id string) error {
	return &types.UploadNotFoundException{Message: new(fmt.Sprintf(
		"The upload with id '%.100s' does not exist in the repository with name '%s' in the registry with id '%s'", id, k.name, k.account))}
}

func invalid(format string, args ...any) error {
	return &types.InvalidParameterException{Message: new(fmt.Sprintf(format, args...))}
}

func limitExceeded(format string, args ...any) error {
	return &types.LimitExceededException{Message: new(fmt.Sprintf(format, args...))}
}

// unserved refuses an option by name.
func unserved(what string) error {
	return firn.Faultf(firn.NotImplemented, "firn does not serve %s of ECR yet; see DIVERGENCES.md", what)
}

// denied is ECR's refusal of a principal without permission.
func denied(id firn.Identity, action, resource string) error {
	return firn.Faultf(firn.AccessDenied, "User: %s is not authorized to perform: %s on resource: %s because no resource-based policy allows the %s action",
		id.ARN, action, resource, action)
}

// errStatus is an answer of the distribution API that ECR's has no exception
// for.
type errStatus struct {
	status  int
	code    string // of the distribution specification
	message string
}

func (e *errStatus) Error() string { return e.code + ": " + e.message }

// distributionError is an error as the distribution API answers it. Codes are
// those of the specification; ok is false for internal errors.
func distributionError(err error) (answer *errStatus, ok bool) {
	if errors.As(err, &answer) {
		return answer, true
	}
	if errors.Is(err, state.ErrFull) {
		return &errStatus{http.StatusInsufficientStorage, "UNKNOWN", "no space is left"}, false
	}
	if f, isFault := errors.AsType[*firn.Fault](err); isFault {
		if f.Kind == firn.AccessDenied {
			return &errStatus{http.StatusForbidden, "DENIED", f.Message}, true
		}
		return &errStatus{http.StatusBadRequest, "UNSUPPORTED", f.Message}, f.Kind != firn.Service
	}
	var api interface { // every exception of the SDK
		error
		ErrorMessage() string
	}
	if !errors.As(err, &api) {
		return &errStatus{http.StatusInternalServerError, "UNKNOWN", "internal error"}, false
	}
	answer = &errStatus{http.StatusBadRequest, "UNKNOWN", api.ErrorMessage()}
	switch api.(type) {
	case *types.RepositoryNotFoundException:
		answer.status, answer.code = http.StatusNotFound, "NAME_UNKNOWN"
	case *types.ImageNotFoundException:
		answer.status, answer.code, answer.message = http.StatusNotFound, "MANIFEST_UNKNOWN", "Requested image not found"
	case *types.ImageTagAlreadyExistsException:
		answer.code = "TAG_INVALID"
	case *types.LayersNotFoundException, *types.ReferencedImagesNotFoundException:
		answer.code = "MANIFEST_BLOB_UNKNOWN"
	case *types.UploadNotFoundException:
		answer.status, answer.code = http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN"
	case *types.InvalidParameterException:
		answer.code = "MANIFEST_INVALID"
	case *types.LimitExceededException:
		answer.status, answer.code = http.StatusTooManyRequests, "TOOMANYREQUESTS"
	}
	return answer, true
}
