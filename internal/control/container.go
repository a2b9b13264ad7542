package control

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/image/oci"
)

// Registry finds container images and makes them ready to run (packages
// registry and image). Of its errors, errors.Is tells oci.ErrNotFound and
// oci.ErrDenied; a *firn.Fault is for the caller.
type Registry interface {
	// Resolve finds what an ImageUri means now and pins it.
	Resolve(ctx context.Context, req ImageRequest) (*firn.Image, error)
	// Prepare makes sure that an image which was resolved is here and
	// unpacked. It takes its time.
	Prepare(ctx context.Context, img *firn.Image, architecture string) error
}

// ImageRequest is a question about the image of a function.
type ImageRequest struct {
	URI          string // as the caller wrote it, or the Reference of an Image
	FunctionARN  string // unqualified
	Account      string // of the function
	Architecture string // "x86_64" or "arm64"
	// Caller creates or updates the function, and must be allowed to read
	// the image. Nil is Lambda itself, which must be when it fetches the image
	// again for a function that was inactive.
	Caller *firn.Identity
}

// imageUse is the image of a function as its record has it. It is not changed
// in place.
type imageUse struct {
	URI string // as the caller wrote it
	// Pinned has the image's own settings. What the function's ImageConfig
	// says instead of them is in its configuration.
	Pinned firn.Image
}

const (
	// maxImageConfigBytes bounds an ImageConfig ("Lambda quotas": container
	// image settings, 16 KB).
	maxImageConfigBytes = 16 << 10
	// maxPinnedBytes bounds an image's own settings, environment included,
	// which every version of a function keeps. Kernels take little more.
	maxPinnedBytes = 256 << 10
)

// isImage reports whether the function is of PackageType Image.
func (rec *record) isImage() bool { return rec.Config.PackageType == types.PackageTypeImage }

// image is what environments run: the pinned image with the ImageConfig of the
// function. Each of its three members replaces the image's own by itself.
func (rec *record) image() *firn.Image {
	if rec.Image == nil {
		return nil
	}
	img := rec.Image.Pinned
	r := rec.Config.ImageConfigResponse
	if r == nil || r.ImageConfig == nil {
		return &img
	}
	if len(r.ImageConfig.EntryPoint) > 0 {
		img.Entrypoint = r.ImageConfig.EntryPoint
	}
	if len(r.ImageConfig.Command) > 0 {
		img.Command = r.ImageConfig.Command
	}
	if dir := deref(r.ImageConfig.WorkingDirectory); dir != "" {
		img.WorkingDir = dir
	}
	return &img
}

// setImage makes an image the code of rec.
func (c *Control) setImage(rec *record, img *imageUse) {
	rec.Image, rec.activity = img, c.newActivity()
	rec.Config.CodeSize = 0 // AWS keeps no copy that would count
	rec.Config.CodeSha256 = ptr(string(oci.Hex(img.Pinned.Digest)))
}

// setImageConfig replaces the overrides of rec; blank ones are none.
func (rec *record) setImageConfig(in *types.ImageConfig) error {
	if dir := deref(in.WorkingDirectory); dir != "" && !strings.HasPrefix(dir, "/") {
		return invalid("WorkingDirectory must be an absolute path: %s", dir)
	}
	for _, word := range slices.Concat(in.EntryPoint, in.Command, []string{deref(in.WorkingDirectory)}) {
		if strings.ContainsRune(word, 0) {
			return invalid("ImageConfig contains a NUL character")
		}
	}
	if size := settingsBytes(in.EntryPoint, in.Command, []string{deref(in.WorkingDirectory)}); size > maxImageConfigBytes {
		return invalid("The container image settings are %d bytes, and may be %d.", size, maxImageConfigBytes)
	}
	rec.Config.ImageConfigResponse = nil
	if !blank(in) {
		rec.Config.ImageConfigResponse = &types.ImageConfigResponse{ImageConfig: in}
	}
	return nil
}

// resolveImage pins the image that a caller wants for a function.
func (c *Control) resolveImage(ctx context.Context, name, uri string) (*imageUse, error) {
	caller := awswire.IdentityOf(ctx)
	img, err := c.cfg.Registry.Resolve(ctx, ImageRequest{
		URI: uri, FunctionARN: firn.FunctionARN(c.cfg.Region, c.cfg.Account, name), Account: c.cfg.Account,
		Architecture: c.cfg.Architecture, Caller: &caller,
	})
	if err != nil {
		return nil, err
	}
	if size := settingsBytes(img.Entrypoint, img.Command, img.Env, []string{img.WorkingDir}); size > maxPinnedBytes {
		return nil, invalid("Source image %s is not valid: its settings are %d bytes, and may be %d. Provide a valid source image.", uri, size, maxPinnedBytes)
	}
	return &imageUse{URI: uri, Pinned: *img}, nil
}

// settingsBytes is the size of words as a program gets them.
func settingsBytes(lists ...[]string) int {
	n := 0
	for _, word := range slices.Concat(lists...) {
		n += len(word) + 1
	}
	return n
}

// noImageParts is AWS's answer to settings that an image has in itself.
const noImageParts = "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image."

// checkPackage refuses the settings that do not go with the package type.
func checkPackage(of types.PackageType, in *lambda.UpdateFunctionConfigurationInput) error {
	switch {
	case of == types.PackageTypeImage && (in.Runtime != "" || deref(in.Handler) != "" || len(in.Layers) > 0):
		return invalid(noImageParts)
	case of != types.PackageTypeImage && !blank(in.ImageConfig):
		return invalid("Please don't provide ImageConfig when the intended function PackageType is Zip.")
	}
	return nil
}

// code is what a function is made of: an archive or an image, found good.
type code struct {
	zip   *archive
	image *imageUse
}

// creationCode judges the code of a new function.
func (c *Control) creationCode(ctx context.Context, name string, in *lambda.CreateFunctionInput) (code, error) {
	if in.PackageType != types.PackageTypeImage {
		zip, err := c.inspect(ctx, in.Code.ZipFile)
		return code{zip: zip}, err
	}
	img, err := c.resolveImage(ctx, name, *in.Code.ImageUri)
	return code{image: img}, err
}

// checkSource wants the code of a new function to be of its package type.
func checkSource(in *lambda.CreateFunctionInput) error {
	source := in.Code
	switch {
	case source == nil:
	case in.PackageType == types.PackageTypeImage && len(source.ZipFile) > 0:
		return invalid("Please don't provide ZipFile when the intended function PackageType is Image.")
	case in.PackageType == types.PackageTypeImage && deref(source.ImageUri) != "",
		in.PackageType != types.PackageTypeImage && len(source.ZipFile) > 0 && deref(source.ImageUri) == "":
		return nil
	}
	return invalid("Please provide a source for function code.")
}

// updateCode judges the code of an update; the package type of a function
// never changes.
func (c *Control) updateCode(ctx context.Context, old *record, in *lambda.UpdateFunctionCodeInput) (code, error) {
	uri := deref(in.ImageUri)
	switch {
	case old.isImage() && (uri == "" || len(in.ZipFile) > 0):
		return code{}, invalid("Please provide ImageUri when updating a function with packageType Image.")
	case old.isImage():
		img, err := c.resolveImage(ctx, *old.Config.FunctionName, uri)
		return code{image: img}, err
	case uri != "":
		return code{}, invalid("Please don't provide ImageUri when updating a function with packageType Zip.")
	case len(in.ZipFile) == 0:
		return code{}, invalid("Please provide a source for function code.")
	}
	zip, err := c.inspect(ctx, in.ZipFile)
	return code{zip: zip}, err
}

// codeLocation is where the code of a function is, as GetFunction shows it.
func (c *Control) codeLocation(rec *record) *types.FunctionCodeLocation {
	if img := rec.Image; img != nil {
		return &types.FunctionCodeLocation{RepositoryType: ptr("ECR"), ImageUri: ptr(img.URI), ResolvedImageUri: ptr(img.Pinned.Reference)}
	}
	return &types.FunctionCodeLocation{RepositoryType: ptr("S3"), Location: ptr(c.location(rec.Code))}
}

// ImagesInUse are the manifests of the images that functions need, in all
// versions, with "sha256:" before each. It is complete once Load has returned.
func (c *Control) ImagesInUse() []firn.Digest {
	var all []firn.Digest
	for _, f := range c.functions.Range {
		for _, rec := range f.(*function).all() {
			for ; rec != nil; rec = rec.Before {
				if rec.needsImage() {
					all = append(all, rec.Image.Pinned.Digest)
				}
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// needsImage reports whether rec's image must stay. That of an inactive
// function need not: it is fetched again.
func (rec *record) needsImage() bool {
	return rec.Image != nil && (rec.Config.State != types.StateInactive || !settled(rec))
}

// prepare makes ready what environments of rec run from.
func (c *Control) prepare(ctx context.Context, rec *record) error {
	if rec.Image != nil {
		if c.cfg.Registry == nil {
			return errors.New("this node runs no container images")
		}
		return c.cfg.Registry.Prepare(ctx, &rec.Image.Pinned, string(rec.Config.Architectures[0]))
	}
	_, err := c.cfg.Images.Function(ctx, rec.Code)
	if err == nil {
		_, err = c.cfg.Images.Layers(ctx, layerDigests(rec))
	}
	if err == nil {
		err = c.bringRuntime(ctx, rec)
	}
	return err
}

// failureOf says in the terms of a function's state why its code is not ready.
func failureOf(rec *record, err error) (types.StateReasonCode, string) {
	if bring, ok := errors.AsType[*bringError](err); ok {
		return types.StateReasonCodeInvalidRuntime, bring.Error()
	}
	if rec.Image == nil {
		return types.StateReasonCodeInternalError, "The code could not be unpacked on this node; see firn's log."
	}
	fault, _ := errors.AsType[*firn.Fault](err)
	switch {
	case errors.Is(err, oci.ErrNotFound):
		return types.StateReasonCodeImageDeleted, "The container image " + rec.Image.Pinned.Reference + " does not exist any more."
	case errors.Is(err, oci.ErrDenied):
		return types.StateReasonCodeImageAccessDenied, "Lambda does not have permission to access the ECR image. Check the ECR permissions."
	case fault != nil:
		return types.StateReasonCodeInvalidImage, fault.Message
	}
	return types.StateReasonCodeInternalError, "The container image could not be unpacked on this node; see firn's log."
}
