package control

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/state"
)

// Kinds of layer records. The counter outlives the versions: a number is
// never given twice.
const (
	kindLayer        = "layer"         // key NAME/VERSION, with the number padded
	kindLayerCounter = "layer-counter" // key NAME; the value is the last number
)

// layerVersion is one version of a layer, stored and in memory.
type layerVersion struct {
	Name          string
	Number        int64
	Digest        firn.Digest
	Size          int64
	Unzipped      int64
	Description   string
	LicenseInfo   *string              `json:",omitempty"`
	Runtimes      []types.Runtime      `json:",omitempty"`
	Architectures []types.Architecture `json:",omitempty"`
	Created       string
}

// layerRef names a layer, or one version of it when number is not 0.
type layerRef struct {
	name   string
	number int64
}

func layerKey(name string, number int64) string { return fmt.Sprintf("%s/%019d", name, number) }

func (c *Control) loadLayers(ctx context.Context) error {
	err := c.cfg.Store.View(ctx, func(tx state.Tx) error {
		err := each(tx, kindLayer, func(raw state.Record) error {
			lv := &layerVersion{}
			if err := json.Unmarshal(raw.Value, lv); err != nil {
				return fmt.Errorf("record of layer %s: %w", raw.Key, err)
			}
			c.rememberLayer(lv)
			return nil
		})
		if err != nil {
			return err
		}
		return c.loadLayerPolicies(tx)
	})
	if err != nil {
		return fmt.Errorf("load layers: %w", err)
	}
	return nil
}

func (c *Control) rememberLayer(lv *layerVersion) {
	c.hold(lv.Digest, lv.Size)
	c.mu.Lock()
	defer c.mu.Unlock()
	versions := c.layers[lv.Name]
	if versions == nil {
		versions = make(map[int64]*layerVersion)
		c.layers[lv.Name] = versions
	}
	versions[lv.Number] = lv
}

// layerName matches a layer's name, its ARN or the ARN of one of its versions.
var layerName = regexp.MustCompile(`^(?:arn:aws[a-zA-Z-]*:lambda:([a-z0-9-]+):(\d{12}):layer:)?([a-zA-Z0-9-_]+)(?::(\d+))?$`)

// layerRef reads a layer name, layer ARN or layer version ARN of this account.
func (c *Control) layerRef(ctx context.Context, s string) (layerRef, error) {
	m := layerName.FindStringSubmatch(s)
	if m == nil || m[1] == "" && m[4] != "" {
		return layerRef{}, invalid("Invalid layer name or ARN: %s", s)
	}
	if m[2] != "" && m[2] != c.cfg.Account {
		return layerRef{}, firn.Faultf(firn.AccessDenied, "User: %s is not authorized to perform: lambda:GetLayerVersion on resource: %s because no resource-based policy allows the lambda:GetLayerVersion action", awswire.IdentityOf(ctx).ARN, s)
	}
	if m[1] != "" && m[1] != c.cfg.Region {
		return layerRef{}, invalid("Layers are not in the same region as the function. Layers are expected to be in region %s.", c.cfg.Region)
	}
	ref := layerRef{name: m[3]}
	if m[4] != "" {
		n, err := strconv.ParseInt(m[4], 10, 64)
		if err != nil {
			return layerRef{}, invalid("Invalid layer version: %s", s)
		}
		ref.number = n
	}
	return ref, nil
}

// findLayerVersion returns one version, or nil.
func (c *Control) findLayerVersion(ref layerRef) *layerVersion {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.layers[ref.name][ref.number]
}

func (c *Control) publishLayerVersion(ctx context.Context, in *lambda.PublishLayerVersionInput) (*lambda.PublishLayerVersionOutput, error) {
	ref, err := c.layerRef(ctx, deref(in.LayerName))
	if err != nil {
		return nil, err
	}
	content := in.Content
	switch {
	case !blank(content.S3Bucket) || !blank(content.S3Key) || !blank(content.S3ObjectVersion) || !blank(content.S3ObjectStorageMode):
		return nil, notServed("layer content from S3", "; send the archive itself in ZipFile")
	case len(content.ZipFile) == 0:
		return nil, invalid("Please provide a source for layer content.")
	}
	zip, err := c.inspect(ctx, content.ZipFile)
	if err != nil {
		return nil, err
	}
	c.gc.RLock()
	defer c.gc.RUnlock()
	unlock := c.lock("layer/" + ref.name)
	defer unlock()
	if err := c.keep(ctx, zip); err != nil {
		return nil, err
	}
	lv := &layerVersion{
		Name: ref.name, Digest: zip.digest, Size: int64(len(zip.zip)), Unzipped: zip.info.UnzippedBytes,
		Description: deref(in.Description), LicenseInfo: in.LicenseInfo,
		Runtimes: in.CompatibleRuntimes, Architectures: in.CompatibleArchitectures, Created: *c.timestamp(),
	}
	err = c.cfg.Store.Update(ctx, func(tx state.Tx) error { return putLayerVersion(tx, lv) })
	if err != nil {
		return nil, storageFault(err)
	}
	c.rememberLayer(lv)
	return convert[lambda.PublishLayerVersionOutput](c.showLayer(lv)), nil
}

// putLayerVersion gives lv the next number of its layer and writes it.
func putLayerVersion(tx state.Tx, lv *layerVersion) error {
	last := int64(0)
	counter, ok, err := tx.Get(kindLayerCounter, lv.Name)
	if err != nil {
		return err
	}
	if ok {
		if last, err = strconv.ParseInt(string(counter.Value), 10, 64); err != nil {
			return fmt.Errorf("counter of layer %s: %w", lv.Name, err)
		}
	}
	lv.Number = last + 1
	if _, err := tx.Put(kindLayerCounter, lv.Name, strconv.AppendInt(nil, lv.Number, 10)); err != nil {
		return err
	}
	value, err := json.Marshal(lv)
	if err != nil {
		return err
	}
	_, err = tx.Put(kindLayer, layerKey(lv.Name, lv.Number), value)
	return err
}

// showLayer is a layer version as Get and Publish answer it.
func (c *Control) showLayer(lv *layerVersion) *lambda.GetLayerVersionOutput {
	return &lambda.GetLayerVersionOutput{
		LayerArn:                ptr(firn.LayerARN(c.cfg.Region, c.cfg.Account, lv.Name)),
		LayerVersionArn:         ptr(firn.LayerVersionARN(c.cfg.Region, c.cfg.Account, lv.Name, lv.Number)),
		Version:                 lv.Number,
		Description:             &lv.Description,
		LicenseInfo:             lv.LicenseInfo,
		CreatedDate:             &lv.Created,
		CompatibleRuntimes:      lv.Runtimes,
		CompatibleArchitectures: lv.Architectures,
		Content: &types.LayerVersionContentOutput{
			CodeSha256: ptr(codeSha256(lv.Digest)),
			CodeSize:   lv.Size,
			Location:   ptr(c.location(lv.Digest)),
		},
	}
}

func (c *Control) getLayerVersion(ctx context.Context, in *lambda.GetLayerVersionInput) (*lambda.GetLayerVersionOutput, error) {
	ref, err := c.layerRef(ctx, deref(in.LayerName))
	if err != nil {
		return nil, err
	}
	if *in.VersionNumber < 1 {
		return nil, invalid("Layer Version Cannot be less than 1")
	}
	ref.number = *in.VersionNumber
	if err := c.mayGetLayer(ctx, ref.name, ref.number); err != nil {
		return nil, err
	}
	lv := c.findLayerVersion(ref)
	if lv == nil {
		return nil, firn.Faultf(firn.ResourceNotFound, "The resource you requested does not exist.")
	}
	return c.showLayer(lv), nil
}

func (c *Control) getLayerVersionByArn(ctx context.Context, in *lambda.GetLayerVersionByArnInput) (*lambda.GetLayerVersionByArnOutput, error) {
	ref, err := c.layerRef(ctx, deref(in.Arn))
	if err == nil {
		err = c.mayGetLayer(ctx, ref.name, ref.number)
	}
	if err != nil {
		return nil, err
	}
	lv := c.findLayerVersion(ref)
	if lv == nil {
		return nil, firn.Faultf(firn.ResourceNotFound, "The resource you requested does not exist.")
	}
	return convert[lambda.GetLayerVersionByArnOutput](c.showLayer(lv)), nil
}

// matching returns the versions of a layer that fit, newest first.
func (c *Control) matching(name string, runtime types.Runtime, arch types.Architecture) []*layerVersion {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*layerVersion
	for _, lv := range c.layers[name] {
		if runtime != "" && !slices.Contains(lv.Runtimes, runtime) {
			continue
		}
		if arch != "" && !slices.Contains(lv.Architectures, arch) {
			continue
		}
		out = append(out, lv)
	}
	slices.SortFunc(out, func(a, b *layerVersion) int { return cmp.Compare(b.Number, a.Number) })
	return out
}

func (c *Control) listItem(lv *layerVersion) types.LayerVersionsListItem {
	return types.LayerVersionsListItem{
		LayerVersionArn:         ptr(firn.LayerVersionARN(c.cfg.Region, c.cfg.Account, lv.Name, lv.Number)),
		Version:                 lv.Number,
		Description:             &lv.Description,
		LicenseInfo:             lv.LicenseInfo,
		CreatedDate:             &lv.Created,
		CompatibleRuntimes:      lv.Runtimes,
		CompatibleArchitectures: lv.Architectures,
	}
}

func (c *Control) listLayers(_ context.Context, in *lambda.ListLayersInput) (*lambda.ListLayersOutput, error) {
	after, err := readMarker(in.Marker)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	names := sortedKeys(c.layers)
	c.mu.Unlock()
	items := []types.LayersListItem{}
	for _, name := range names {
		versions := c.matching(name, in.CompatibleRuntime, in.CompatibleArchitecture)
		if len(versions) == 0 {
			continue
		}
		latest := c.listItem(versions[0])
		items = append(items, types.LayersListItem{
			LayerName:             &name,
			LayerArn:              ptr(firn.LayerARN(c.cfg.Region, c.cfg.Account, name)),
			LatestMatchingVersion: &latest,
		})
	}
	out := &lambda.ListLayersOutput{}
	out.Layers, out.NextMarker = page(items, after, in.MaxItems, func(l types.LayersListItem) string { return *l.LayerName })
	return out, nil
}

func (c *Control) listLayerVersions(ctx context.Context, in *lambda.ListLayerVersionsInput) (*lambda.ListLayerVersionsOutput, error) {
	after, err := readMarker(in.Marker)
	if err != nil {
		return nil, err
	}
	ref, err := c.layerRef(ctx, deref(in.LayerName))
	if err != nil {
		return nil, err
	}
	items := []types.LayerVersionsListItem{}
	for _, lv := range c.matching(ref.name, in.CompatibleRuntime, in.CompatibleArchitecture) {
		items = append(items, c.listItem(lv))
	}
	out := &lambda.ListLayerVersionsOutput{}
	// Newest first: the key falls as the number rises.
	out.LayerVersions, out.NextMarker = page(items, after, in.MaxItems, func(l types.LayerVersionsListItem) string {
		return fmt.Sprintf("%019d", int64(1e18)-l.Version)
	})
	return out, nil
}

func (c *Control) deleteLayerVersion(ctx context.Context, in *lambda.DeleteLayerVersionInput) (*lambda.DeleteLayerVersionOutput, error) {
	ref, err := c.layerRef(ctx, deref(in.LayerName))
	if err != nil {
		return nil, err
	}
	if *in.VersionNumber < 1 {
		return nil, invalid("Layer Version Cannot be less than 1")
	}
	ref.number = *in.VersionNumber
	unlock := c.lock("layer/" + ref.name)
	defer unlock()
	lv := c.findLayerVersion(ref)
	if lv == nil {
		return &lambda.DeleteLayerVersionOutput{}, nil // as AWS: deleting what is gone succeeds
	}
	key := layerKey(lv.Name, lv.Number)
	err = c.cfg.Store.Update(ctx, func(tx state.Tx) error {
		if err := tx.Delete(kindLayerPolicy, key); err != nil {
			return err
		}
		return tx.Delete(kindLayer, key)
	})
	if err != nil {
		return nil, storageFault(err)
	}
	c.mu.Lock()
	delete(c.layerPolicies, key)
	delete(c.layers[ref.name], ref.number)
	if len(c.layers[ref.name]) == 0 {
		delete(c.layers, ref.name)
	}
	c.mu.Unlock()
	c.release(lv.Digest)
	return &lambda.DeleteLayerVersionOutput{}, nil
}
