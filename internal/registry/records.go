package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/blob"
	"github.com/firn-run/firn/internal/image/oci"
	"github.com/firn-run/firn/internal/state"
)

// blobStore is what is needed of package blob besides uploads.
type blobStore interface {
	Put(ctx context.Context, r io.Reader, limit int64) (firn.Digest, int64, error)
	Open(d firn.Digest) (*os.File, int64, error)
	Stat(d firn.Digest) (blob.Info, error)
	Touch(d firn.Digest) error
	Create() (*blob.Writer, error)
}

// The kinds of records. Names of repositories contain neither @ nor :, so keys
// are unambiguous.
const (
	kindRepository = "ecr-repository" // key ACCOUNT/NAME
	kindImage      = "ecr-image"      // key ACCOUNT/NAME@HEX
	kindTag        = "ecr-tag"        // key ACCOUNT/NAME:TAG
	kindLayer      = "ecr-layer"      // key ACCOUNT/NAME@HEX: the repository has the blob
)

// Limits.
const (
	maxRepositories = 10_000 // per account ("Amazon ECR service quotas": 100,000)
	maxTagsPerImage = 1000   // the same page
	maxResourceTags = 50
	maxLayerBytes   = firn.MaxImageBytes
)

// repoName and tagName are the grammars of ECR and of the distribution
// specification.
var (
	repoName = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagName  = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

func validRepo(name string) bool {
	return len(name) >= 2 && len(name) <= 256 && repoName.MatchString(name)
}

// repoKey names a repository.
type repoKey struct{ account, name string }

func (k repoKey) String() string          { return k.account + "/" + k.name }
func (k repoKey) at(d firn.Digest) string { return k.String() + "@" + string(oci.Hex(d)) }
func (k repoKey) tag(tag string) string   { return k.String() + ":" + tag }
func (k repoKey) arn(region string) string {
	return "arn:aws:ecr:" + region + ":" + k.account + ":repository/" + k.name
}
func (k repoKey) path(rest ...string) string {
	return "/v2/" + path.Join(append([]string{k.name}, rest...)...)
}

// repository is the record of one.
type repository struct {
	Created    time.Time
	Mutability types.ImageTagMutability
	Exclusions []string `json:",omitempty"` // wildcards of tags to which the opposite applies
	ScanOnPush bool     `json:",omitempty"`
	Policy     string   `json:",omitempty"`
	// Tags are those of the resource, not of images.
	Tags map[string]string `json:",omitempty"`
}

// immutable reports whether a tag may not be moved.
func (r *repository) immutable(tag string) bool {
	excluded := false
	for _, pattern := range r.Exclusions {
		excluded = excluded || wildcard(pattern, tag)
	}
	switch r.Mutability {
	case types.ImageTagMutabilityImmutable:
		return true
	case types.ImageTagMutabilityImmutableWithExclusion:
		return !excluded
	case types.ImageTagMutabilityMutableWithExclusion:
		return excluded
	}
	return false
}

// wildcard matches a text with a pattern in which * is anything.
func wildcard(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == s
	}
	s, ok := strings.CutPrefix(s, parts[0])
	if !ok {
		return false
	}
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s = s[i+len(part):]
	}
	return strings.HasSuffix(s, parts[len(parts)-1])
}

// imageRecord is an image of a repository: a manifest or an index.
type imageRecord struct {
	MediaType    string
	ArtifactType string            `json:",omitempty"` // what describes an artifact: its type, else its configuration's
	Subject      firn.Digest       `json:",omitempty"`
	Annotations  map[string]string `json:",omitempty"` // of what has a subject
	Pushed       time.Time
	Bytes        int64         // of the manifest itself
	Size         int64         // of its parts together
	Index        bool          `json:",omitempty"`
	Parts        []firn.Digest // blobs, or images if Index; hexadecimal
}

// tagRecord is where a tag points.
type tagRecord struct {
	Digest firn.Digest // hexadecimal
}

// layerRecord says that a repository has a blob.
type layerRecord struct {
	Size int64
}

// get reads a record.
func get[T any](tx state.Tx, kind, key string) (*T, error) {
	rec, ok, err := tx.Get(kind, key)
	if err != nil || !ok {
		return nil, err
	}
	return decode[T](rec)
}

func decode[T any](rec state.Record) (*T, error) {
	v := new(T)
	if err := json.Unmarshal(rec.Value, v); err != nil {
		return nil, fmt.Errorf("record %s %q: %w", rec.Kind, rec.Key, err)
	}
	return v, nil
}

// put writes a record.
func put(tx state.Tx, kind, key string, v any) error {
	data, err := json.Marshal(v)
	if err == nil {
		_, err = tx.Put(kind, key, data)
	}
	return err
}

// repository reads one, or fails with ECR's exception.
func (r *Registry) repository(tx state.Tx, k repoKey) (*repository, error) {
	repo, err := get[repository](tx, kindRepository, k.String())
	if err == nil && repo == nil {
		err = noRepository(k)
	}
	return repo, err
}

// tagsOf lists the tags of a repository by image.
func tagsOf(tx state.Tx, k repoKey) (map[firn.Digest][]string, error) {
	list, err := tx.List(kindTag, k.tag(""), "", 0)
	if err != nil {
		return nil, err
	}
	byImage := make(map[firn.Digest][]string)
	for _, rec := range list {
		t, err := decode[tagRecord](rec)
		if err != nil {
			return nil, err
		}
		byImage[t.Digest] = append(byImage[t.Digest], strings.TrimPrefix(rec.Key, k.tag("")))
	}
	return byImage, nil
}

// reference is a tag, or a digest, or both.
type reference struct {
	tag    string
	digest firn.Digest // "sha256:..." as clients write it
}

// parseReference reads what stands behind /manifests/.
func parseReference(s string) (reference, bool) {
	if d := firn.Digest(s); strings.Contains(s, ":") {
		return reference{digest: d}, isDigest(d)
	}
	return reference{tag: s}, tagName.MatchString(s)
}

// isDigest accepts the one kind of digest that is stored.
func isDigest(d firn.Digest) bool {
	return strings.HasPrefix(string(d), "sha256:") && blob.Check(oci.Hex(d)) == nil
}

// found is an image with its digest, hexadecimal.
type found struct {
	digest firn.Digest
	*imageRecord
}

// find looks an image up; nil when there is none.
func find(tx state.Tx, k repoKey, ref reference) (*found, error) {
	digest := oci.Hex(ref.digest)
	if ref.tag != "" {
		t, err := get[tagRecord](tx, kindTag, k.tag(ref.tag))
		if err != nil || t == nil {
			return nil, err
		}
		if digest != "" && digest != t.Digest {
			return nil, nil
		}
		digest = t.Digest
	}
	img, err := get[imageRecord](tx, kindImage, k.at(digest))
	if err != nil || img == nil {
		return nil, err
	}
	return &found{digest, img}, nil
}
