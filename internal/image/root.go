package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/image/layer"
	"github.com/firn-run/firn/internal/image/oci"
)

// errNoImages: the store was opened without Config.Images.
var errNoImages = errors.New("this store has no container images")

// Root returns the root directory of a container image that is among
// Config.Images, unpacking it first when it is not there yet. The digest is
// that of its manifest, with or without "sha256:". For the rest it is as
// Function.
//
// Links in the directory lead wherever the image says: they are right only for
// somebody whose root the directory is. Whoever looks into it from outside
// does so through os.Root.
//
// The error is a *firn.Fault with AWS's message when the image is to blame.
func (s *Store) Root(ctx context.Context, manifest firn.Digest) (dir string, err error) {
	manifest = oci.Hex(manifest)
	s.mu.Lock()
	name, known := s.roots[manifest]
	s.mu.Unlock()
	if known && s.isReady(name) {
		return filepath.Join(s.dir, name, rootName), nil
	}
	dir, err = s.imageRoot(ctx, manifest)
	if err != nil {
		return "", fmt.Errorf("unpack image %.80s: %w", manifest, err)
	}
	return dir, nil
}

func (s *Store) imageRoot(ctx context.Context, manifest firn.Digest) (string, error) {
	layers, err := s.layersOf(manifest)
	if err != nil {
		return "", err
	}
	name := rootNameOf(layers)
	s.mu.Lock()
	s.roots[manifest] = name
	s.mu.Unlock()
	if len(layers) == 1 {
		return s.tar(ctx, layers[0]) // there is nothing below it to be removed
	}
	return s.get(ctx, name, func(ctx context.Context, tmp string) (marker, error) {
		return s.join(ctx, tmp, layers)
	})
}

// layersOf reads the layers of an image, which is for this host's platform.
func (s *Store) layersOf(manifest firn.Digest) ([]oci.Layer, error) {
	if s.images == nil {
		return nil, errNoImages
	}
	img, err := s.images.Image(manifest, "")
	if err != nil {
		return nil, oci.Fault(string(oci.Prefixed(manifest)), err)
	}
	return img.Layers, nil
}

// rootNameOf is the directory of an image: images that differ in their
// settings only share it.
func rootNameOf(layers []oci.Layer) string {
	if len(layers) == 1 {
		return tarPrefix + string(layers[0].Digest)
	}
	h := sha256.New()
	for _, l := range layers {
		_, _ = io.WriteString(h, string(l.Digest)+"\n") // a hash does not fail
	}
	return imagePrefix + hex.EncodeToString(h.Sum(nil))
}

// tar returns the directory of one layer.
func (s *Store) tar(ctx context.Context, l oci.Layer) (string, error) {
	if err := checkDigest(l.Digest); err != nil {
		return "", err
	}
	return s.get(ctx, tarPrefix+string(l.Digest), func(ctx context.Context, tmp string) (marker, error) {
		return s.unpackLayer(ctx, tmp, l)
	})
}

// unpackLayer writes a layer into tmp.
func (s *Store) unpackLayer(ctx context.Context, tmp string, l oci.Layer) (marker, error) {
	release, err := s.slot(ctx)
	if err != nil {
		return marker{}, err
	}
	defer release()
	blob, _, err := s.images.Blobs().Open(l.Digest)
	if err != nil {
		return marker{}, err
	}
	defer func() { _ = blob.Close() }()
	target, err := s.root.OpenRoot(path.Join(tmp, rootName))
	if err != nil {
		return marker{}, err
	}
	defer func() { _ = target.Close() }()
	result, err := layer.Unpack(ctx, blob, target, layer.Options{Limit: s.imageLimit, DiffID: l.DiffID})
	if err != nil {
		return marker{}, layerFault(l, err)
	}
	// Not result's own figures: of an entry that stands in the archive twice
	// there is one file.
	m, err := s.count(path.Join(tmp, rootName))
	m.Removed = result.Removed
	return m, err
}

// layerFault is the fault of a function whose image has a bad layer.
func layerFault(l oci.Layer, err error) error {
	reason := (*layer.Error)(nil)
	switch {
	case errors.Is(err, layer.ErrTooLarge):
		return imageTooLarge(err)
	case errors.As(err, &reason):
		return refuse("ImageLayerFailure: UnsupportedImageLayerDetected - Layer Digest "+string(oci.Prefixed(l.Digest)), err)
	}
	return err
}

func imageTooLarge(cause error) error {
	return refuse(fmt.Sprintf("The uncompressed container image exceeds the maximum allowed size of %d bytes.", int64(firn.MaxImageBytes)), cause)
}

// join unpacks the layers, several at once, and lays them over each other in
// tmp.
func (s *Store) join(ctx context.Context, tmp string, layers []oci.Layer) (marker, error) {
	group, unpacking := errgroup.WithContext(ctx)
	for _, l := range layers {
		group.Go(func() error {
			_, err := s.tar(unpacking, l)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return marker{}, err
	}
	var total int64
	trees := make([]*tree, 0, len(layers))
	for i := len(layers) - 1; i >= 0; i-- {
		name := tarPrefix + string(layers[i].Digest)
		m, err := s.readMarker(name)
		if err != nil {
			return marker{}, err
		}
		if total += m.Bytes; total > s.imageLimit {
			return marker{}, imageTooLarge(nil)
		}
		trees = append(trees, newTree(filepath.Join(s.dir, name, rootName), m.Removed))
	}
	if err := overlay(ctx, filepath.Join(s.dir, tmp, rootName), trees); err != nil {
		return marker{}, err
	}
	return s.count(path.Join(tmp, rootName))
}

// keepImages adds the directories of images to those that a Sweep keeps. When
// an image cannot be read it is not known what it needs, and false says that
// no image's directory may go.
func (s *Store) keepImages(images []firn.Digest, keep map[string]bool) bool {
	roots := make(map[firn.Digest]string, len(images))
	sure := true
	for _, d := range images {
		layers, err := s.layersOf(oci.Hex(d))
		if err != nil {
			s.log.Warn("unpacked images are not swept", "image", d, "error", err)
			sure = false
			continue
		}
		roots[oci.Hex(d)] = rootNameOf(layers)
		keep[rootNameOf(layers)] = true
		for _, l := range layers {
			keep[tarPrefix+string(l.Digest)] = true
		}
	}
	if sure {
		s.mu.Lock()
		s.roots = roots
		s.mu.Unlock()
	}
	return sure
}

// DiskUsage is what a container image takes on disk when it is unpacked, in
// bytes, and whether it is.
func (s *Store) DiskUsage(manifest firn.Digest) (int64, bool) {
	layers, err := s.layersOf(oci.Hex(manifest))
	if err != nil {
		return 0, false
	}
	m, err := s.readMarker(rootNameOf(layers))
	if errors.Is(err, os.ErrNotExist) {
		return 0, false
	}
	return m.Bytes, err == nil
}
