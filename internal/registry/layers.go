package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/blob"
	"github.com/firn-run/firn/internal/image/oci"
)

const (
	// partSize is what InitiateLayerUpload tells clients to send. The least that
	// ECR takes, 5 MiB but for the last part, is not demanded here.
	partSize = 20 << 20
)

func (r *Registry) batchCheckLayerAvailability(ctx context.Context, in *ecr.BatchCheckLayerAvailabilityInput) (*ecr.BatchCheckLayerAvailabilityOutput, error) {
	k := key(ctx, in.RegistryId, in.RepositoryName)
	if _, err := r.permitted(ctx, k, awswire.IdentityOf(ctx), "ecr:BatchCheckLayerAvailability"); err != nil {
		return nil, err
	}
	out := &ecr.BatchCheckLayerAvailabilityOutput{Layers: []types.Layer{}, Failures: []types.LayerFailure{}}
	for _, name := range in.LayerDigests {
		d := firn.Digest(name)
		if !isDigest(d) {
			out.Failures = append(out.Failures, types.LayerFailure{
				LayerDigest: &name, FailureCode: types.LayerFailureCodeInvalidLayerDigest,
				FailureReason: new("Invalid request parameters: layer digest should satisfy the regex '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'"),
			})
			continue
		}
		size, ok, err := r.linked(ctx, k, d)
		if err != nil {
			return nil, err
		}
		layer := types.Layer{LayerDigest: &name, LayerAvailability: types.LayerAvailabilityUnavailable}
		if ok && r.blobs.Touch(oci.Hex(d)) == nil {
			layer.LayerAvailability, layer.LayerSize = types.LayerAvailabilityAvailable, &size
		}
		out.Layers = append(out.Layers, layer)
	}
	return out, nil
}

// getDownloadUrlForLayer names the blob in the distribution API, where clients
// show the same password as for pulling.
func (r *Registry) getDownloadUrlForLayer(ctx context.Context, in *ecr.GetDownloadUrlForLayerInput) (*ecr.GetDownloadUrlForLayerOutput, error) {
	k := key(ctx, in.RegistryId, in.RepositoryName)
	if _, err := r.permitted(ctx, k, awswire.IdentityOf(ctx), "ecr:GetDownloadUrlForLayer"); err != nil {
		return nil, err
	}
	d := firn.Digest(*in.LayerDigest)
	if !isDigest(d) {
		return nil, invalid("Invalid parameter at 'layerDigest' failed to satisfy constraint: 'must be a SHA-256 digest'")
	}
	_, ok, err := r.linked(ctx, k, d)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, noLayer(k, d)
	}
	return &ecr.GetDownloadUrlForLayerOutput{LayerDigest: in.LayerDigest, DownloadUrl: new(r.baseURL(ctx) + k.path("blobs", string(d)))}, nil
}

func (r *Registry) initiateLayerUpload(ctx context.Context, in *ecr.InitiateLayerUploadInput) (*ecr.InitiateLayerUploadOutput, error) {
	k := key(ctx, in.RegistryId, in.RepositoryName)
	if _, err := r.permitted(ctx, k, awswire.IdentityOf(ctx), "ecr:InitiateLayerUpload"); err != nil {
		return nil, err
	}
	id, _, err := r.begin(k)
	if err != nil {
		return nil, err
	}
	return &ecr.InitiateLayerUploadOutput{UploadId: &id, PartSize: new(int64(partSize))}, nil
}

// hold is take, with an exception of ECR for an upload that is written to.
func (r *Registry) hold(k repoKey, id string) (*upload, func(), error) {
	u, release, err := r.take(k, id)
	if _, busy := errors.AsType[*errStatus](err); busy {
		return nil, nil, invalid("The upload with id '%s' is being written to by another request", id)
	}
	return u, release, err
}

func (r *Registry) uploadLayerPart(ctx context.Context, in *ecr.UploadLayerPartInput) (*ecr.UploadLayerPartOutput, error) {
	k := key(ctx, in.RegistryId, in.RepositoryName)
	if _, err := r.permitted(ctx, k, awswire.IdentityOf(ctx), "ecr:UploadLayerPart"); err != nil {
		return nil, err
	}
	u, release, err := r.hold(k, *in.UploadId)
	if err != nil {
		return nil, err
	}
	defer release()
	at, n := u.w.Size(), int64(len(in.LayerPartBlob))
	if *in.PartFirstByte != at || *in.PartLastByte != at+n-1 || n == 0 {
		last := at - 1
		return nil, &types.InvalidLayerPartException{
			Message:    new(fmt.Sprintf("Invalid layer part: %d bytes for the range %d-%d, the next byte is %d", n, *in.PartFirstByte, *in.PartLastByte, at)),
			RegistryId: &k.account, RepositoryName: &k.name, UploadId: in.UploadId, LastValidByteReceived: &last,
		}
	}
	if at+n > maxLayerBytes {
		return nil, limitExceeded("A layer may have %d bytes", int64(maxLayerBytes))
	}
	if _, err := u.w.Write(in.LayerPartBlob); err != nil {
		return nil, err
	}
	return &ecr.UploadLayerPartOutput{RegistryId: &k.account, RepositoryName: &k.name, UploadId: in.UploadId, LastByteReceived: in.PartLastByte}, nil
}

func (r *Registry) completeLayerUpload(ctx context.Context, in *ecr.CompleteLayerUploadInput) (*ecr.CompleteLayerUploadOutput, error) {
	k := key(ctx, in.RegistryId, in.RepositoryName)
	if _, err := r.permitted(ctx, k, awswire.IdentityOf(ctx), "ecr:CompleteLayerUpload"); err != nil {
		return nil, err
	}
	want := firn.Digest(in.LayerDigests[0])
	if !isDigest(want) {
		return nil, invalid("Invalid parameter at 'layerDigests' failed to satisfy constraint: 'must be a SHA-256 digest'")
	}
	u, release, err := r.hold(k, *in.UploadId)
	if err != nil {
		return nil, err
	}
	defer release()
	if u.w.Size() == 0 {
		return nil, &types.EmptyUploadException{Message: new("The upload with id '" + *in.UploadId + "' has no parts")}
	}
	if _, ok, err := r.linked(ctx, k, want); err != nil {
		return nil, err
	} else if ok && r.blobs.Touch(oci.Hex(want)) == nil {
		return nil, errors.Join(&types.LayerAlreadyExistsException{Message: new(fmt.Sprintf(
			"Layer with digest '%s' already exists in the repository with name '%s' in registry with id '%s'", want, k.name, k.account))}, r.end(*in.UploadId, u))
	}
	err = r.commit(ctx, u, want)
	if end := r.end(*in.UploadId, u); err == nil {
		err = end
	}
	if errors.Is(err, blob.ErrMismatch) {
		return nil, &types.InvalidLayerException{Message: new("The layer digest '" + string(want) + "' is not that of the uploaded content")}
	}
	if err != nil {
		return nil, err
	}
	return &ecr.CompleteLayerUploadOutput{RegistryId: &k.account, RepositoryName: &k.name, UploadId: in.UploadId, LayerDigest: new(string(want))}, nil
}
