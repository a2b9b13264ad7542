package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/image/layer"
)

// How images are named in index.json.
const (
	refAnnotation  = "org.opencontainers.image.ref.name" // OCI image layout
	nameAnnotation = "io.containerd.image.name"          // the full name, as containerd and Docker write it
)

// ImportOptions say which image of a file is meant.
type ImportOptions struct {
	Reference string // a name or tag in the file; needed only if it has several
	Platform  string // "linux/arm64"; "" is the host's
}

// Import brings an image from a file: a directory in the OCI image layout, the
// same in a tarball, or what `docker save` writes, tarballs also compressed.
// Errors are those of Pull but ErrDenied and ErrReference.
func (s *Store) Import(ctx context.Context, file string, o ImportOptions) (*Image, error) {
	if o.Platform == "" {
		o.Platform = HostPlatform()
	}
	img, err := s.importFile(ctx, file, o)
	if err != nil {
		return nil, fmt.Errorf("import %s: %w", file, err)
	}
	return img, nil
}

func (s *Store) importFile(ctx context.Context, file string, o ImportOptions) (*Image, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	var src source
	if info.IsDir() {
		root, err := os.OpenRoot(file)
		if err != nil {
			return nil, err
		}
		defer func() { _ = root.Close() }()
		src = &layoutDir{blobs: s.blobs, root: root}
	} else if src, err = s.loadTarball(ctx, file); err != nil {
		return nil, err
	}
	if raw, err := src.read("index.json"); err == nil {
		return s.importLayout(ctx, src, raw, o)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	raw, err := src.read("manifest.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: neither an OCI layout nor a saved image: there is no index.json and no manifest.json", ErrInvalid)
	}
	if err != nil {
		return nil, err
	}
	return s.importSaved(ctx, src, raw, o)
}

// source is a file or directory with images.
type source interface {
	// read returns a small file.
	read(name string) ([]byte, error)
	// store puts a file into the blobs, unless want is there already. An empty
	// want is any digest.
	store(ctx context.Context, name string, want firn.Digest) (firn.Digest, error)
}

// importLayout follows the index of an OCI layout.
func (s *Store) importLayout(ctx context.Context, src source, index []byte, o ImportOptions) (*Image, error) {
	m, err := parseManifest(index)
	if err != nil {
		return nil, err
	}
	if m.index == nil {
		return nil, fmt.Errorf("%w: index.json is no index", ErrInvalid)
	}
	top, err := named(m.index, o)
	if err != nil {
		return nil, err
	}
	digest, err := s.bring(ctx, src, top, o.Platform, 0)
	if err != nil {
		return nil, err
	}
	return s.Image(digest, o.Platform)
}

// named finds the image that is meant among those of index.json.
func named(index *v1.IndexManifest, o ImportOptions) (v1.Descriptor, error) {
	list := index.Manifests
	if o.Reference != "" {
		list = slices.DeleteFunc(slices.Clone(list), func(d v1.Descriptor) bool {
			return d.Annotations[refAnnotation] != o.Reference && d.Annotations[nameAnnotation] != o.Reference && d.Digest.String() != o.Reference
		})
		if len(list) == 0 {
			return v1.Descriptor{}, fmt.Errorf("%w: nothing is called %q", ErrNotFound, o.Reference)
		}
	}
	if len(list) > 1 && list[0].Platform == nil {
		return v1.Descriptor{}, fmt.Errorf("%w: there are %d images, name one of them", ErrInvalid, len(list))
	}
	return choose(&v1.IndexManifest{Manifests: list}, o.Platform, 0)
}

// bring stores an image of a layout, the manifest last.
func (s *Store) bring(ctx context.Context, src source, d v1.Descriptor, platform string, depth int) (firn.Digest, error) {
	file := func(h v1.Hash) string { return "blobs/sha256/" + h.Hex }
	raw, err := src.read(file(d.Digest))
	if err != nil {
		return "", absent(err)
	}
	m, err := parseManifest(raw)
	if err != nil {
		return "", err
	}
	if m.index != nil {
		child, err := choose(m.index, platform, depth)
		if err != nil {
			return "", err
		}
		return s.bring(ctx, src, child, platform, depth+1)
	}
	for _, part := range append([]v1.Descriptor{m.image.Config}, m.image.Layers...) {
		if part.Size > firn.MaxImageBytes {
			return "", fmt.Errorf("%w: a part of %d bytes", ErrInvalid, part.Size)
		}
		if _, err := src.store(ctx, file(part.Digest), firn.Digest(part.Digest.Hex)); err != nil {
			return "", absent(err)
		}
	}
	return src.store(ctx, file(d.Digest), firn.Digest(d.Digest.Hex))
}

// absent makes ErrNotFound of a file that is not there.
func absent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return err
}

// savedImage is one entry of the manifest.json that `docker save` writes.
type savedImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// importSaved makes a manifest for an image that has none. The layers are
// stored as they are, mostly without compression.
func (s *Store) importSaved(ctx context.Context, src source, raw []byte, o ImportOptions) (*Image, error) {
	var list []savedImage
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("%w: manifest.json: %w", ErrInvalid, err)
	}
	if o.Reference != "" {
		list = slices.DeleteFunc(list, func(i savedImage) bool {
			return !slices.ContainsFunc(i.RepoTags, func(tag string) bool { return tag == o.Reference || tag == o.Reference+":latest" })
		})
	}
	switch {
	case len(list) == 0:
		return nil, fmt.Errorf("%w: nothing is called %q", ErrNotFound, o.Reference)
	case len(list) > 1:
		return nil, fmt.Errorf("%w: there are %d images, name one of them", ErrInvalid, len(list))
	case len(list[0].Layers) > maxLayers:
		return nil, fmt.Errorf("%w: %d layers", ErrInvalid, len(list[0].Layers))
	}
	saved := list[0]
	m := &v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1}
	put := func(name string, t types.MediaType) (v1.Descriptor, error) {
		digest, err := src.store(ctx, name, "")
		if err != nil {
			return v1.Descriptor{}, absent(err)
		}
		info, err := s.blobs.Stat(digest)
		return v1.Descriptor{MediaType: t, Digest: v1.Hash{Algorithm: "sha256", Hex: string(digest)}, Size: info.Size}, err
	}
	var err error
	if m.Config, err = put(saved.Config, types.OCIConfigJSON); err != nil {
		return nil, err
	}
	for _, name := range saved.Layers {
		part, err := put(name, types.OCIUncompressedLayer)
		if err != nil {
			return nil, err
		}
		if part.MediaType, err = s.layerType(firn.Digest(part.Digest.Hex)); err != nil {
			return nil, err
		}
		m.Layers = append(m.Layers, part)
	}
	data, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	digest, err := s.putSmall(ctx, data)
	if err != nil {
		return nil, err
	}
	return s.Image(digest, o.Platform)
}

// layerType tells from its first bytes how a layer is compressed.
func (s *Store) layerType(d firn.Digest) (types.MediaType, error) {
	f, _, err := s.blobs.Open(d)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	var head [4]byte
	n, err := io.ReadFull(f, head[:])
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return "", err
	}
	switch layer.Detect(head[:n]) {
	case layer.Gzip:
		return types.OCILayer, nil
	case layer.Zstd:
		return types.OCILayerZStd, nil
	}
	return types.OCIUncompressedLayer, nil
}
