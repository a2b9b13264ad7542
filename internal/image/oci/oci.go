// Package oci brings container images into a store of blobs and reads them
// there: from any registry (Pull), from an OCI layout or a tarball (Import), or
// from whoever put the parts there by digest, as an embedded registry does.
//
// An image is a manifest, a configuration and layers, each a blob under the
// SHA-256 that the others name it by. So nothing is stored twice whatever
// shares it, a pull that was interrupted goes on at the layer it had come to,
// and an image that is complete stays what it was: whoever has the digest of
// the manifest has the image.
//
// All of it comes from outside. Nothing is believed that the digest does not
// prove, nothing is held in memory but manifests and configurations, whose size
// is bounded, and layers are not unpacked here: package image does that.
package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/blob"
)

// Bounds of what is read.
const (
	// MaxManifestBytes bounds manifests, indexes and configurations, as
	// registries do ("OCI Distribution Specification": 4 MiB).
	MaxManifestBytes = 4 << 20
	maxLayers        = 512
	maxIndexDepth    = 3 // indexes within indexes
	maxIndexEntries  = 1024
	prefix           = "sha256:"
)

// Errors that callers tell apart, by errors.Is.
var (
	// ErrNotFound: the registry or file has no such image, or the store lacks
	// a part of it.
	ErrNotFound = errors.New("image not found")
	// ErrDenied: the registry wants other credentials, or none help.
	ErrDenied = errors.New("access to the image was denied")
	// ErrReference: not the name of an image.
	ErrReference = errors.New("invalid image reference")
	// ErrUnsupported: a manifest, configuration or layer of a kind that cannot
	// be run, such as a chart or a signature.
	ErrUnsupported = errors.New("unsupported media type")
	// ErrInvalid: a manifest or configuration that contradicts itself.
	ErrInvalid = errors.New("invalid image")
)

// PlatformError says that an image exists for other platforms only.
type PlatformError struct {
	Want string   // "linux/arm64"
	Have []string // what there is instead
}

// Error names both.
func (e *PlatformError) Error() string {
	return fmt.Sprintf("the image is for %s and not for %s", strings.Join(e.Have, ", "), e.Want)
}

// Config is what New needs. Only Blobs is required.
type Config struct {
	Blobs  *blob.Store
	Logger *slog.Logger // default discards
	// Transport carries the requests to registries; nil is a default with
	// time limits for connecting and for the beginning of an answer.
	Transport http.RoundTripper
}

// Store keeps images. It holds nothing open; its methods are safe for
// concurrent use.
type Store struct {
	blobs     *blob.Store
	log       *slog.Logger
	transport http.RoundTripper
	backoff   time.Duration // firstBackoff
}

// New makes a Store; it touches nothing.
func New(cfg Config) *Store {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Transport == nil {
		cfg.Transport = newTransport()
	}
	return &Store{blobs: cfg.Blobs, log: cfg.Logger, transport: cfg.Transport, backoff: firstBackoff}
}

// Open makes a Store with a directory of its own for blobs, which is made when
// it does not exist and has one owner at a time. A nil log discards.
func Open(dir string, log *slog.Logger) (*Store, error) {
	blobs, err := blob.Open(dir)
	if err != nil {
		return nil, err
	}
	return New(Config{Blobs: blobs, Logger: log}), nil
}

// Blobs is where the parts of images are.
func (s *Store) Blobs() *blob.Store { return s.blobs }

// Image is an image for one platform whose manifest and configuration are
// stored. It is a value; nobody changes it.
type Image struct {
	Digest    firn.Digest // of the manifest: "sha256:" and hexadecimal
	MediaType string
	Platform  string // "linux/amd64"
	Settings  Settings
	Layers    []Layer // from the lowest
	Size      int64   // bytes of manifest, configuration and layers as stored
}

// Layer is one layer, stored as a tar archive that may be compressed.
type Layer struct {
	Digest firn.Digest // of the blob: hexadecimal only, as package blob wants it
	DiffID firn.Digest // of the archive without compression, as the configuration claims
	Size   int64       // of the blob
}

// Settings are how an image says that it wants to be run.
type Settings struct {
	Entrypoint []string
	Command    []string
	Env        []string // KEY=VALUE
	WorkingDir string   // "" is /
	User       string   // as in the image; functions never run as it
}

// Hex cuts "sha256:" off a digest; it leaves any other text alone.
func Hex(d firn.Digest) firn.Digest { return firn.Digest(strings.TrimPrefix(string(d), prefix)) }

// Prefixed is a digest with "sha256:" before it, as registries write it.
func Prefixed(d firn.Digest) firn.Digest { return prefix + Hex(d) }

// HostPlatform is what firn's own functions run on.
func HostPlatform() string { return "linux/" + runtime.GOARCH }

// Platform is the platform of an architecture in AWS's words ("x86_64",
// "arm64").
func Platform(architecture string) string {
	if architecture == "x86_64" {
		return "linux/amd64"
	}
	return "linux/" + architecture
}

// Image reads a stored image. The digest, with or without "sha256:", is that
// of a manifest, or of an index: then the manifest for the platform is taken,
// "" being the host's. Errors are ErrNotFound, ErrUnsupported, ErrInvalid or a
// *PlatformError, wrapped. The layers' presence is checked.
func (s *Store) Image(digest firn.Digest, platform string) (*Image, error) {
	if platform == "" {
		platform = HostPlatform()
	}
	img, err := s.image(Hex(digest), platform, 0)
	if err != nil {
		return nil, fmt.Errorf("image %.80s: %w", digest, err)
	}
	return img, nil
}

func (s *Store) image(digest firn.Digest, platform string, depth int) (*Image, error) {
	raw, err := s.read(digest)
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(raw)
	if err != nil {
		return nil, err
	}
	if m.index != nil {
		child, err := choose(m.index, platform, depth)
		if err != nil {
			return nil, err
		}
		return s.image(firn.Digest(child.Digest.Hex), platform, depth+1)
	}
	config, err := s.read(firn.Digest(m.image.Config.Digest.Hex))
	if err != nil {
		return nil, err
	}
	img, err := m.assemble(config, platform)
	if err != nil {
		return nil, err
	}
	for _, l := range img.Layers {
		info, err := s.blobs.Stat(l.Digest)
		if err != nil {
			return nil, missing(err)
		}
		if info.Size != l.Size {
			return nil, fmt.Errorf("%w: layer %s has %d bytes, the manifest says %d", ErrInvalid, l.Digest, info.Size, l.Size)
		}
	}
	img.Digest, img.Size = Prefixed(digest), img.Size+int64(len(raw))
	return img, nil
}

// Parts lists the blobs that a stored manifest or index needs, itself among
// them: what a collector of garbage must keep. Of an index, the manifests that
// are not there are left out.
func (s *Store) Parts(digest firn.Digest) ([]firn.Digest, error) {
	return s.parts(Hex(digest), 0)
}

func (s *Store) parts(digest firn.Digest, depth int) ([]firn.Digest, error) {
	raw, err := s.read(digest)
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(raw)
	if err != nil {
		return nil, err
	}
	list := []firn.Digest{digest}
	if m.index == nil {
		list = append(list, firn.Digest(m.image.Config.Digest.Hex))
		for _, l := range m.image.Layers {
			list = append(list, firn.Digest(l.Digest.Hex))
		}
		return list, nil
	}
	if depth >= maxIndexDepth {
		return list, nil
	}
	for _, child := range m.index.Manifests {
		more, err := s.parts(firn.Digest(child.Digest.Hex), depth+1)
		switch {
		case errors.Is(err, ErrNotFound):
		case err != nil:
			return nil, err
		default:
			list = append(list, more...)
		}
	}
	return list, nil
}

// read reads a small blob.
func (s *Store) read(d firn.Digest) ([]byte, error) {
	f, size, err := s.blobs.Open(d)
	if err != nil {
		return nil, missing(err)
	}
	defer func() { _ = f.Close() }()
	if size > MaxManifestBytes {
		return nil, fmt.Errorf("%w: %s has %d bytes, more than a manifest may have", ErrInvalid, d, size)
	}
	data := make([]byte, size)
	_, err = io.ReadFull(f, data)
	return data, err
}

// missing makes ErrNotFound of a blob that is not there.
func missing(err error) error {
	if errors.Is(err, blob.ErrNotFound) || errors.Is(err, blob.ErrInvalidDigest) {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return err
}

// manifest is one of the two.
type manifest struct {
	mediaType types.MediaType
	image     *v1.Manifest
	index     *v1.IndexManifest
}

// parseManifest reads a manifest or index and checks what everything here
// relies on: the number of parts, and that digests are SHA-256. The kind is
// told by the content, as old registries lose the media type.
func parseManifest(raw []byte) (*manifest, error) {
	var head struct {
		MediaType types.MediaType `json:"mediaType"`
		Manifests json.RawMessage `json:"manifests"`
		Config    json.RawMessage `json:"config"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return nil, fmt.Errorf("%w: manifest: %w", ErrInvalid, err)
	}
	m := &manifest{mediaType: head.MediaType}
	var parts []v1.Descriptor
	switch {
	case head.Manifests != nil && (head.MediaType == "" || head.MediaType.IsIndex()):
		if err := json.Unmarshal(raw, &m.index); err != nil {
			return nil, fmt.Errorf("%w: index: %w", ErrInvalid, err)
		}
		if len(m.index.Manifests) > maxIndexEntries {
			return nil, fmt.Errorf("%w: %d manifests in an index", ErrInvalid, len(m.index.Manifests))
		}
		parts = m.index.Manifests
	case head.Config != nil && (head.MediaType == "" || head.MediaType.IsImage()):
		if err := json.Unmarshal(raw, &m.image); err != nil {
			return nil, fmt.Errorf("%w: manifest: %w", ErrInvalid, err)
		}
		if len(m.image.Layers) > maxLayers {
			return nil, fmt.Errorf("%w: %d layers", ErrInvalid, len(m.image.Layers))
		}
		parts = append([]v1.Descriptor{m.image.Config}, m.image.Layers...)
	default:
		return nil, fmt.Errorf("%w: manifest of type %.100q", ErrUnsupported, head.MediaType)
	}
	for _, d := range parts {
		if d.Digest.Algorithm != "sha256" || blob.Check(firn.Digest(d.Digest.Hex)) != nil || d.Size < 0 {
			return nil, fmt.Errorf("%w: the digest %.100q of a part", ErrInvalid, d.Digest)
		}
	}
	return m, nil
}

// choose finds the manifest of a platform in an index. What is attached to
// images (provenance, signatures) has the platform unknown/unknown.
func choose(index *v1.IndexManifest, platform string, depth int) (v1.Descriptor, error) {
	if depth >= maxIndexDepth {
		return v1.Descriptor{}, fmt.Errorf("%w: indexes within indexes", ErrInvalid)
	}
	var have []string
	for _, d := range index.Manifests {
		switch {
		case d.MediaType != "" && !d.MediaType.IsImage() && !d.MediaType.IsIndex():
			continue
		case d.Platform == nil:
			if len(index.Manifests) == 1 {
				return d, nil // its configuration will tell
			}
			continue
		}
		p := d.Platform.OS + "/" + d.Platform.Architecture
		if p == platform {
			return d, nil
		}
		if p != "unknown/unknown" {
			have = append(have, p)
		}
	}
	if len(have) == 0 {
		return v1.Descriptor{}, fmt.Errorf("%w: an index without images", ErrUnsupported)
	}
	return v1.Descriptor{}, &PlatformError{Want: platform, Have: have}
}

// assemble makes the Image of a manifest, but for its own digest and size.
func (m *manifest) assemble(rawConfig []byte, platform string) (*Image, error) {
	if t := m.image.Config.MediaType; t != "" && !t.IsConfig() {
		return nil, fmt.Errorf("%w: configuration of type %.100q", ErrUnsupported, t)
	}
	config := new(v1.ConfigFile)
	if err := json.Unmarshal(rawConfig, config); err != nil {
		return nil, fmt.Errorf("%w: configuration: %w", ErrInvalid, err)
	}
	if have := config.OS + "/" + config.Architecture; have != platform {
		return nil, &PlatformError{Want: platform, Have: []string{have}}
	}
	if len(config.RootFS.DiffIDs) != len(m.image.Layers) {
		return nil, fmt.Errorf("%w: %d layers, and the configuration knows %d", ErrInvalid, len(m.image.Layers), len(config.RootFS.DiffIDs))
	}
	img := &Image{
		MediaType: string(m.mediaType), Platform: platform, Size: int64(len(rawConfig)),
		Settings: Settings{
			Entrypoint: config.Config.Entrypoint, Command: config.Config.Cmd, Env: config.Config.Env,
			WorkingDir: config.Config.WorkingDir, User: config.Config.User,
		},
	}
	for i, l := range m.image.Layers {
		if err := checkLayerType(l.MediaType); err != nil {
			return nil, err
		}
		diff := config.RootFS.DiffIDs[i]
		if diff.Algorithm != "sha256" || blob.Check(firn.Digest(diff.Hex)) != nil {
			return nil, fmt.Errorf("%w: the diff id %.100q", ErrInvalid, diff)
		}
		img.Layers = append(img.Layers, Layer{Digest: firn.Digest(l.Digest.Hex), DiffID: firn.Digest(diff.Hex), Size: l.Size})
		img.Size += l.Size
	}
	return img, nil
}

// checkLayerType accepts tar archives, compressed in whatever way. Layers that
// a registry does not distribute have to be brought by their owner.
func checkLayerType(t types.MediaType) error {
	switch t {
	case types.OCILayer, types.OCILayerZStd, types.OCIUncompressedLayer, types.DockerLayer, types.DockerUncompressedLayer,
		dockerZstdLayer:
		return nil
	}
	return fmt.Errorf("%w: layer of type %.100q", ErrUnsupported, t)
}

// dockerZstdLayer is what BuildKit writes when it is asked for both.
const dockerZstdLayer types.MediaType = "application/vnd.docker.image.rootfs.diff.tar.zstd"
