package oci

import (
	"encoding/json"

	"github.com/firn-run/firn"
)

// Manifest is what a registry has to know of a manifest or index.
type Manifest struct {
	MediaType string // as it says itself; "" when it does not
	Index     bool
	// Parts are the blobs of a manifest, its configuration first, or the
	// manifests of an index.
	Parts        []Part
	Size         int64 // of a manifest's parts together
	ArtifactType string
	ConfigType   string
	Subject      firn.Digest // "sha256:...", what it is attached to; mostly ""
	Annotations  map[string]string
}

// Part is one blob or manifest that a manifest or index names.
type Part struct {
	Digest firn.Digest // hexadecimal only
	Size   int64
	// Elsewhere is true for layers that no registry distributes.
	Elsewhere bool
}

// Describe reads a manifest or index of any kind, signatures and charts among
// them. Errors are ErrInvalid and ErrUnsupported.
func Describe(raw []byte) (*Manifest, error) {
	m, err := parseManifest(raw)
	if err != nil {
		return nil, err
	}
	d := &Manifest{MediaType: string(m.mediaType), Index: m.index != nil}
	if d.Index {
		d.Annotations = m.index.Annotations
		for _, child := range m.index.Manifests {
			d.Parts = append(d.Parts, Part{Digest: firn.Digest(child.Digest.Hex), Size: child.Size})
		}
	} else {
		d.Annotations, d.ConfigType = m.image.Annotations, string(m.image.Config.MediaType)
		d.Parts = append(d.Parts, Part{Digest: firn.Digest(m.image.Config.Digest.Hex), Size: m.image.Config.Size})
		for _, l := range m.image.Layers {
			d.Parts = append(d.Parts, Part{Digest: firn.Digest(l.Digest.Hex), Size: l.Size, Elsewhere: !l.MediaType.IsDistributable()})
		}
		for _, p := range d.Parts {
			d.Size += p.Size
		}
	}
	// The library's types lack these two for one of the kinds.
	var more struct {
		ArtifactType string `json:"artifactType"`
		Subject      *struct {
			Digest firn.Digest `json:"digest"`
		} `json:"subject"`
	}
	if err := json.Unmarshal(raw, &more); err != nil {
		return nil, err
	}
	d.ArtifactType = more.ArtifactType
	if more.Subject != nil {
		d.Subject = more.Subject.Digest
	}
	return d, nil
}
