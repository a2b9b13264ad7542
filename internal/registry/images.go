package registry

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/image/oci"
	"github.com/firn-run/firn/internal/state"
)

// referenceOf reads an ImageIdentifier, or says in ECR's terms what is wrong.
func referenceOf(id types.ImageIdentifier) (reference, types.ImageFailureCode, string) {
	var ref reference
	if id.ImageTag != nil {
		ref.tag = *id.ImageTag
	}
	if id.ImageDigest != nil {
		ref.digest = firn.Digest(*id.ImageDigest)
	}
	switch {
	case ref.tag == "" && ref.digest == "":
		return ref, types.ImageFailureCodeMissingDigestAndTag, "Invalid request parameters: both tag and digest cannot be null"
	case ref.digest != "" && !isDigest(ref.digest):
		return ref, types.ImageFailureCodeInvalidImageDigest, "Invalid request parameters: image digest should satisfy the regex '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'"
	case ref.tag != "" && !tagName.MatchString(ref.tag):
		return ref, types.ImageFailureCodeInvalidImageTag, "Invalid request parameters: image tag is not valid"
	}
	return ref, "", ""
}

// imageView is an image as lists show it.
type imageView struct {
	found
	tags []string
}

// images lists the images of a repository, in the order of their digests.
func images(tx state.Tx, k repoKey, after string, limit int) (list []imageView, more bool, err error) {
	if after != "" {
		after = k.at(firn.Digest(after))
	}
	records, err := tx.List(kindImage, k.at(""), after, limit+1)
	if err != nil {
		return nil, false, err
	}
	byImage, err := tagsOf(tx, k)
	if err != nil {
		return nil, false, err
	}
	for _, rec := range records[:min(len(records), limit)] {
		img, err := decode[imageRecord](rec)
		if err != nil {
			return nil, false, err
		}
		digest := firn.Digest(strings.TrimPrefix(rec.Key, k.at("")))
		list = append(list, imageView{found{digest, img}, byImage[digest]})
	}
	return list, len(records) > limit, nil
}

// passes applies the filter of a list.
func passes(status types.TagStatus, tagged bool) bool {
	switch status {
	case types.TagStatusTagged:
		return tagged
	case types.TagStatusUntagged:
		return !tagged
	}
	return true
}

func (r *Registry) describeImages(ctx context.Context, in *ecr.DescribeImagesInput) (*ecr.DescribeImagesOutput, error) {
	k := key(ctx, in.RegistryId, in.RepositoryName)
	if _, err := r.permitted(ctx, k, awswire.IdentityOf(ctx), "ecr:DescribeImages"); err != nil {
		return nil, err
	}
	out := &ecr.DescribeImagesOutput{ImageDetails: []types.ImageDetail{}}
	err := r.cfg.State.View(ctx, func(tx state.Tx) error {
		if len(in.ImageIds) > 0 {
			return r.describeNamed(tx, k, in.ImageIds, out)
		}
		after, err := pageAfter(in.NextToken)
		if err != nil {
			return err
		}
		list, more, err := images(tx, k, after, pageSize(in.MaxResults))
		if err != nil {
			return err
		}
		for _, img := range list {
			if in.Filter == nil || passes(in.Filter.TagStatus, len(img.tags) > 0) {
				out.ImageDetails = append(out.ImageDetails, detail(k, img))
			}
		}
		if more {
			out.NextToken = pageToken(string(list[len(list)-1].digest))
		}
		return nil
	})
	return out, err
}

func (r *Registry) describeNamed(tx state.Tx, k repoKey, ids []types.ImageIdentifier, out *ecr.DescribeImagesOutput) error {
	byImage, err := tagsOf(tx, k)
	if err != nil {
		return err
	}
	seen := map[firn.Digest]bool{}
	for _, id := range ids {
		ref, code, reason := referenceOf(id)
		if code != "" {
			return invalid("%s", reason)
		}
		img, err := find(tx, k, ref)
		if err != nil {
			return err
		}
		if img == nil {
			return noImage(k, ref)
		}
		if !seen[img.digest] {
			seen[img.digest] = true
			out.ImageDetails = append(out.ImageDetails, detail(k, imageView{*img, byImage[img.digest]}))
		}
	}
	return nil
}

func detail(k repoKey, img imageView) types.ImageDetail {
	d := types.ImageDetail{
		RegistryId: &k.account, RepositoryName: &k.name,
		ImageDigest: new(string(oci.Prefixed(img.digest))), ImageTags: img.tags,
		ImagePushedAt: &img.Pushed, ImageManifestMediaType: &img.MediaType, ImageStatus: types.ImageStatusActive,
	}
	if !img.Index { // ECR tells no size of an index
		d.ImageSizeInBytes = &img.Size
	}
	if img.ArtifactType != "" {
		d.ArtifactMediaType = &img.ArtifactType
	}
	if img.Subject != "" {
		d.SubjectManifestDigest = new(string(img.Subject))
	}
	return d
}

func (r *Registry) listImages(ctx context.Context, in *ecr.ListImagesInput) (*ecr.ListImagesOutput, error) {
	k := key(ctx, in.RegistryId, in.RepositoryName)
	if _, err := r.permitted(ctx, k, awswire.IdentityOf(ctx), "ecr:ListImages"); err != nil {
		return nil, err
	}
	out := &ecr.ListImagesOutput{ImageIds: []types.ImageIdentifier{}}
	return out, r.cfg.State.View(ctx, func(tx state.Tx) error {
		after, err := pageAfter(in.NextToken)
		if err != nil {
			return err
		}
		list, more, err := images(tx, k, after, pageSize(in.MaxResults))
		if err != nil {
			return err
		}
		for _, img := range list {
			digest := new(string(oci.Prefixed(img.digest)))
			if in.Filter != nil && !passes(in.Filter.TagStatus, len(img.tags) > 0) {
				continue
			}
			if len(img.tags) == 0 {
				out.ImageIds = append(out.ImageIds, types.ImageIdentifier{ImageDigest: digest})
			}
			for _, tag := range img.tags {
				out.ImageIds = append(out.ImageIds, types.ImageIdentifier{ImageDigest: digest, ImageTag: &tag})
			}
		}
		if more {
			out.NextToken = pageToken(string(list[len(list)-1].digest))
		}
		return nil
	})
}

func (r *Registry) batchGetImage(ctx context.Context, in *ecr.BatchGetImageInput) (*ecr.BatchGetImageOutput, error) {
	k := key(ctx, in.RegistryId, in.RepositoryName)
	if _, err := r.permitted(ctx, k, awswire.IdentityOf(ctx), "ecr:BatchGetImage"); err != nil {
		return nil, err
	}
	out := &ecr.BatchGetImageOutput{Images: []types.Image{}, Failures: []types.ImageFailure{}}
	for _, id := range in.ImageIds {
		ref, code, reason := referenceOf(id)
		var img *found
		var err error
		if code == "" {
			img, err = r.lookup(ctx, k, ref)
			if _, missing := errors.AsType[*types.ImageNotFoundException](err); missing {
				code, reason, err = types.ImageFailureCodeImageNotFound, "Requested image not found", nil
			}
		}
		if err != nil {
			return nil, err
		}
		if code == "" && len(in.AcceptedMediaTypes) > 0 && !slices.Contains(in.AcceptedMediaTypes, img.MediaType) {
			code, reason = types.ImageFailureCodeImageNotFound, "Requested image not found in an accepted media type"
		}
		if code != "" {
			out.Failures = append(out.Failures, types.ImageFailure{ImageId: &id, FailureCode: code, FailureReason: &reason})
			continue
		}
		raw, err := r.manifest(img.digest)
		if err != nil {
			return nil, err
		}
		out.Images = append(out.Images, types.Image{
			RegistryId: &k.account, RepositoryName: &k.name, ImageManifest: new(string(raw)), ImageManifestMediaType: &img.MediaType,
			ImageId: &types.ImageIdentifier{ImageDigest: new(string(oci.Prefixed(img.digest))), ImageTag: id.ImageTag},
		})
	}
	return out, nil
}

// manifest reads a stored manifest.
func (r *Registry) manifest(d firn.Digest) ([]byte, error) {
	f, _, err := r.blobs.Open(d)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, oci.MaxManifestBytes))
}

func (r *Registry) batchDeleteImage(ctx context.Context, in *ecr.BatchDeleteImageInput) (*ecr.BatchDeleteImageOutput, error) {
	k := key(ctx, in.RegistryId, in.RepositoryName)
	if _, err := r.permitted(ctx, k, awswire.IdentityOf(ctx), "ecr:BatchDeleteImage"); err != nil {
		return nil, err
	}
	out := &ecr.BatchDeleteImageOutput{ImageIds: []types.ImageIdentifier{}, Failures: []types.ImageFailure{}}
	for _, id := range in.ImageIds {
		fail := func(code types.ImageFailureCode, reason string) {
			out.Failures = append(out.Failures, types.ImageFailure{ImageId: &id, FailureCode: code, FailureReason: &reason})
		}
		ref, code, reason := referenceOf(id)
		if code != "" {
			fail(code, reason)
			continue
		}
		var gone []types.ImageIdentifier
		err := r.cfg.State.Update(ctx, func(tx state.Tx) error {
			gone = nil
			img, err := find(tx, k, ref)
			if err != nil {
				return err
			}
			byImage, err := tagsOf(tx, k)
			if err != nil {
				return err
			}
			digest, err := deleteImage(tx, k, ref)
			if err != nil {
				return err
			}
			name := new(string(oci.Prefixed(digest)))
			if ref.tag != "" {
				gone = append(gone, types.ImageIdentifier{ImageDigest: name, ImageTag: &ref.tag})
				return nil
			}
			for _, tag := range byImage[img.digest] {
				gone = append(gone, types.ImageIdentifier{ImageDigest: name, ImageTag: &tag})
			}
			if len(gone) == 0 {
				gone = append(gone, types.ImageIdentifier{ImageDigest: name})
			}
			return nil
		})
		_, missing := errors.AsType[*types.ImageNotFoundException](err)
		_, referenced := errors.AsType[*errStatus](err)
		switch {
		case missing:
			fail(types.ImageFailureCodeImageNotFound, "Requested image not found")
		case referenced:
			fail(types.ImageFailureCodeImageReferencedByManifestList, "Requested image referenced by manifest list")
		case err != nil:
			return nil, err
		default:
			out.ImageIds = append(out.ImageIds, gone...)
		}
	}
	r.deleted()
	return out, nil
}

func (r *Registry) putImage(ctx context.Context, in *ecr.PutImageInput) (*ecr.PutImageOutput, error) {
	k := key(ctx, in.RegistryId, in.RepositoryName)
	if _, err := r.permitted(ctx, k, awswire.IdentityOf(ctx), "ecr:PutImage"); err != nil {
		return nil, err
	}
	p := &pushed{raw: []byte(*in.ImageManifest), typed: true}
	if in.ImageManifestMediaType != nil {
		p.mediaType = *in.ImageManifestMediaType
	}
	if in.ImageTag != nil {
		if p.tag = *in.ImageTag; !tagName.MatchString(p.tag) {
			return nil, invalid("Invalid parameter at 'imageTag' failed to satisfy constraint: 'must satisfy regular expression '[a-zA-Z0-9-_.]+''")
		}
	}
	if in.ImageDigest != nil {
		p.digest = firn.Digest(*in.ImageDigest)
		if !isDigest(p.digest) {
			return nil, invalid("Invalid parameter at 'imageDigest' failed to satisfy constraint: 'must be a SHA-256 digest'")
		}
	}
	err := r.putManifest(ctx, k, p)
	if mismatch, ok := errors.AsType[*errStatus](err); ok {
		return nil, &types.ImageDigestDoesNotMatchException{Message: &mismatch.message}
	}
	if err != nil {
		return nil, err
	}
	if !p.changed {
		return nil, imageExists(k, p.stored, p.tag)
	}
	if p.mediaType == "" {
		p.mediaType = p.parsed.MediaType
	}
	return &ecr.PutImageOutput{Image: &types.Image{
		RegistryId: &k.account, RepositoryName: &k.name, ImageManifest: in.ImageManifest,
		ImageManifestMediaType: &p.mediaType,
		ImageId:                &types.ImageIdentifier{ImageDigest: new(string(oci.Prefixed(p.stored))), ImageTag: in.ImageTag},
	}}, nil
}
