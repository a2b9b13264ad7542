package control_test

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn"
)

func layerARN(name string, version int64) string {
	return firn.LayerVersionARN(region, account, name, version)
}

// publishLayer returns the ARN of the new version.
func (w *world) publishLayer(name string, content []byte, edit ...func(*lambda.PublishLayerVersionInput)) string {
	w.t.Helper()
	in := &lambda.PublishLayerVersionInput{LayerName: &name, Content: &types.LayerVersionContentInput{ZipFile: content}}
	for _, e := range edit {
		e(in)
	}
	out, err := w.PublishLayerVersion(w.t.Context(), in)
	if err != nil {
		w.t.Fatal("publish", name, err)
	}
	return *out.LayerVersionArn
}

func small(text string) []byte { return zipOf(map[string]string{"file": text}) }

func TestLayers(t *testing.T) {
	w := newWorld(t, options{})
	content := small("1")
	out, err := w.PublishLayerVersion(t.Context(), &lambda.PublishLayerVersionInput{
		LayerName: aws.String("l"), Content: &types.LayerVersionContentInput{ZipFile: content}, Description: aws.String("d"),
		LicenseInfo: aws.String("MIT"), CompatibleRuntimes: []types.Runtime{types.RuntimeProvidedal2023, types.RuntimePython313},
		CompatibleArchitectures: []types.Architecture{types.ArchitectureArm64},
	})
	if err != nil {
		t.Fatal(err)
	}
	if out.Version != 1 || *out.LayerVersionArn != layerARN("l", 1) || *out.LayerArn != firn.LayerARN(region, account, "l") ||
		*out.Description != "d" || *out.LicenseInfo != "MIT" || *out.Content.CodeSha256 != shaOf(content) || out.Content.CodeSize != int64(len(content)) {
		t.Errorf("%+v", out)
	}
	if status, body := fetch(t, *out.Content.Location); status != http.StatusOK || body != string(content) {
		t.Errorf("location: %d, %d bytes", status, len(body))
	}
	w.restart()
	got, err := w.GetLayerVersion(t.Context(), &lambda.GetLayerVersionInput{LayerName: aws.String("l"), VersionNumber: aws.Int64(1)})
	if err != nil {
		t.Fatal(err)
	}
	byARN, err := w.GetLayerVersionByArn(t.Context(), &lambda.GetLayerVersionByArnInput{Arn: aws.String(layerARN("l", 1))})
	if err != nil {
		t.Fatal(err)
	}
	if *got.LayerVersionArn != *byARN.LayerVersionArn || *got.CreatedDate != *out.CreatedDate || *byARN.CreatedDate != *out.CreatedDate ||
		!slices.Equal(got.CompatibleRuntimes, out.CompatibleRuntimes) || !slices.Equal(byARN.CompatibleArchitectures, out.CompatibleArchitectures) {
		t.Errorf("%+v\n%+v", got, byARN)
	}
}

func TestLayerErrors(t *testing.T) {
	w := newWorld(t, options{})
	w.publishLayer("l", small("1"))
	ctx := t.Context()
	publish := func(edit func(*lambda.PublishLayerVersionInput)) error {
		in := &lambda.PublishLayerVersionInput{LayerName: aws.String("new"), Content: &types.LayerVersionContentInput{ZipFile: small("x")}}
		edit(in)
		_, err := w.PublishLayerVersion(ctx, in)
		return err
	}
	get := func(name string, version int64) error {
		_, err := w.GetLayerVersion(ctx, &lambda.GetLayerVersionInput{LayerName: &name, VersionNumber: &version})
		return err
	}
	_, gone := w.GetLayerVersionByArn(ctx, &lambda.GetLayerVersionByArnInput{Arn: aws.String(layerARN("l", 2))})
	_, foreign := w.GetLayerVersionByArn(ctx, &lambda.GetLayerVersionByArnInput{Arn: aws.String("arn:aws:lambda:us-east-1:999999999999:layer:l:1")})
	_, zero := w.DeleteLayerVersion(ctx, &lambda.DeleteLayerVersionInput{LayerName: aws.String("l"), VersionNumber: aws.Int64(0)})
	const missing = "The resource you requested does not exist."
	const invalid = "InvalidParameterValueException"
	for _, test := range []struct {
		name, code, message string
		err                 error
	}{
		{"no content", invalid, "Please provide a source for layer content.", publish(func(in *lambda.PublishLayerVersionInput) { in.Content.ZipFile = nil })},
		{"S3", "NotImplementedException", "firn does not serve layer content from S3 yet; send the archive itself in ZipFile; see DIVERGENCES.md",
			publish(func(in *lambda.PublishLayerVersionInput) { in.Content.S3Bucket = aws.String("bucket") })},
		{"bad zip", invalid, "Could not unzip uploaded file. Please check your file, then try to upload again.",
			publish(func(in *lambda.PublishLayerVersionInput) { in.Content.ZipFile = []byte("x") })},
		{"bomb", invalid, "Unzipped size must be smaller than 262144000 bytes",
			publish(func(in *lambda.PublishLayerVersionInput) { in.Content.ZipFile = bomb() })},
		{"no layer", "ResourceNotFoundException", missing, get("no", 1)},
		{"no version", "ResourceNotFoundException", missing, get("l", 2)},
		{"version 0", invalid, "Layer Version Cannot be less than 1", get("l", 0)},
		{"delete version 0", invalid, "Layer Version Cannot be less than 1", zero},
		{"no version by ARN", "ResourceNotFoundException", missing, gone},
		{"another account", "AccessDeniedException", "User: arn:aws:iam::123456789012:root is not authorized to perform: lambda:GetLayerVersion on resource: arn:aws:lambda:us-east-1:999999999999:layer:l:1 because no resource-based policy allows the lambda:GetLayerVersion action", foreign},
	} {
		t.Run(test.name, func(t *testing.T) { wantFault(t, test.err, test.code, test.message) })
	}
	if n := w.countBlobs(); n != 1 {
		t.Errorf("%d archives are stored, want the first layer's", n)
	}
}

func TestFunctionLayers(t *testing.T) {
	w := newWorld(t, options{})
	var arns []string
	for i := range 6 {
		arns = append(arns, w.publishLayer(fmt.Sprint("l", i), small(fmt.Sprint(i))))
	}
	second := w.publishLayer("l0", small("again"))
	large := w.publishLayer("large", zerosZip(firn.MaxUnzippedBytes-1000))
	w.create("five", hello(), func(in *lambda.CreateFunctionInput) { in.Layers = arns[:5] })
	got := w.configuration("five").Layers
	if len(got) != 5 || *got[4].Arn != arns[4] || got[0].CodeSize != int64(len(small("0"))) {
		t.Errorf("%+v", got)
	}
	w.create("fits", small(strings.Repeat("x", 1000)), func(in *lambda.CreateFunctionInput) { in.Layers = []string{large} })
	const foreign = "arn:aws:lambda:us-east-1:999999999999:layer:l:1"
	const invalid = "InvalidParameterValueException"
	for _, test := range []struct {
		name          string
		layers        []string
		code, message string
	}{
		{"six", arns, invalid, "Cannot reference more than 5 layers."},
		{"unknown", []string{layerARN("no", 1)}, invalid, "Layer version " + layerARN("no", 1) + " does not exist."},
		{"unknown version", []string{layerARN("l0", 9)}, invalid, "Layer version " + layerARN("l0", 9) + " does not exist."},
		{"two versions", []string{arns[1], arns[0], second}, invalid, "Two different versions of the same layer are not allowed to be referenced in the same function. " + arns[0] + " and " + second + " are versions of the same layer."},
		{"twice", []string{arns[0], arns[0]}, invalid, "Two different versions of the same layer are not allowed to be referenced in the same function. " + arns[0] + " and " + arns[0] + " are versions of the same layer."},
		{"another account", []string{foreign}, "AccessDeniedException", "User: arn:aws:iam::123456789012:root is not authorized to perform: lambda:GetLayerVersion on resource: " + foreign + " because no resource-based policy allows the lambda:GetLayerVersion action"},
		{"another Region", []string{"arn:aws:lambda:eu-west-1:123456789012:layer:l0:1"}, invalid, "Layers are not in the same region as the function. Layers are expected to be in region us-east-1."},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := creation("new", hello())
			in.Layers = test.layers
			_, err := w.CreateFunction(t.Context(), in)
			wantFault(t, err, test.code, test.message)
			_, err = w.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("five"), Layers: test.layers})
			wantFault(t, err, test.code, test.message)
		})
	}
	in := creation("new", small(strings.Repeat("x", 1001)))
	in.Layers = []string{large}
	_, err := w.CreateFunction(t.Context(), in)
	wantFault(t, err, invalid, "Unzipped size must be smaller than 1000 bytes")
	_, err = w.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("fits"), ZipFile: in.Code.ZipFile})
	wantFault(t, err, invalid, "Unzipped size must be smaller than 1000 bytes")
	w.create("full", in.Code.ZipFile)
	_, err = w.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("full"), Layers: in.Layers})
	wantFault(t, err, invalid, "Function code combined with layers exceeds the maximum allowed size of 262144000 bytes. The actual size is 262144001 bytes.")
	in.Layers = append(in.Layers, w.publishLayer("larger", small(strings.Repeat("x", 1001))))
	_, err = w.CreateFunction(t.Context(), in)
	wantFault(t, err, invalid, "Layers consume more than the available size of 262144000 bytes")
}

func TestLayerNumbersAndDeletedLayers(t *testing.T) {
	w := newWorld(t, options{})
	ctx := t.Context()
	name := aws.String("l")
	del := func(version int64) {
		t.Helper()
		if _, err := w.DeleteLayerVersion(ctx, &lambda.DeleteLayerVersionInput{LayerName: name, VersionNumber: &version}); err != nil {
			t.Fatal(err)
		}
	}
	first := w.publishLayer("l", zipOf(map[string]string{"data.txt": "from the layer"}))
	w.publishLayer("l", small("2"))
	w.create("f", actorZip(t), func(in *lambda.CreateFunctionInput) { in.Layers = []string{first} })
	del(2)
	del(1)
	del(1) // what is gone is no error
	w.restart()
	if got := w.publishLayer("l", small("3")); got != layerARN("l", 3) {
		t.Errorf("the version after two deleted ones is %s", got)
	}
	// The function keeps its layer, through sweeps, and can be changed.
	w.control.Sweep(ctx)
	w.control.Sweep(ctx)
	if _, err := w.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("f"), Timeout: aws.Int32(10)}); err != nil {
		t.Fatal(err)
	}
	w.active("f")
	if got := w.configuration("f").Layers; len(got) != 1 || *got[0].Arn != first {
		t.Errorf("%+v", got)
	}
	if got := w.call("f", `1`); got != `1` {
		t.Error(got)
	}
	found := false
	for _, dir := range w.fleet.InUse() {
		text, err := os.ReadFile(filepath.Join(dir, "data.txt"))
		found = found || err == nil && string(text) == "from the layer"
	}
	if !found {
		t.Error("the environment does not have the layer's file")
	}
	// But nobody else can have it.
	in := creation("g", hello())
	in.Layers = []string{first}
	_, err := w.CreateFunction(ctx, in)
	wantFault(t, err, "InvalidParameterValueException", "Layer version "+first+" does not exist.")
	// Once the function is gone, so is the archive.
	if _, err := w.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: aws.String("f")}); err != nil {
		t.Fatal(err)
	}
	w.control.Sweep(ctx)
	if n := w.countBlobs(); n != 1 {
		t.Errorf("%d archives are left, want the layer's", n)
	}
}

func TestListLayers(t *testing.T) {
	w := newWorld(t, options{})
	ctx := t.Context()
	for i, name := range []string{"b", "a", "c"} {
		for v := range 3 {
			w.publishLayer(name, small(name), func(in *lambda.PublishLayerVersionInput) {
				if v < 2 {
					in.CompatibleRuntimes = []types.Runtime{types.RuntimeProvidedal2}
				}
				if i == 0 {
					in.CompatibleArchitectures = []types.Architecture{types.ArchitectureArm64}
				}
			})
		}
	}
	layers := func(in lambda.ListLayersInput) (found []string) {
		for {
			out, err := w.ListLayers(ctx, &in)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range out.Layers {
				found = append(found, fmt.Sprintf("%s:%d", *l.LayerName, l.LatestMatchingVersion.Version))
			}
			if in.Marker = out.NextMarker; in.Marker == nil {
				return found
			}
		}
	}
	versions := func(in lambda.ListLayerVersionsInput) (found []int64) {
		for {
			out, err := w.ListLayerVersions(ctx, &in)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range out.LayerVersions {
				found = append(found, l.Version)
				if *l.LayerVersionArn != layerARN("b", l.Version) {
					t.Errorf("%+v", l)
				}
			}
			if in.Marker = out.NextMarker; in.Marker == nil {
				return found
			}
		}
	}
	for _, test := range []struct {
		name      string
		got, want []string
	}{
		{"all", layers(lambda.ListLayersInput{}), []string{"a:3", "b:3", "c:3"}},
		{"paged", layers(lambda.ListLayersInput{MaxItems: aws.Int32(1)}), []string{"a:3", "b:3", "c:3"}},
		{"by runtime", layers(lambda.ListLayersInput{CompatibleRuntime: types.RuntimeProvidedal2}), []string{"a:2", "b:2", "c:2"}},
		{"by architecture", layers(lambda.ListLayersInput{CompatibleArchitecture: types.ArchitectureArm64}), []string{"b:3"}},
		{"by neither", layers(lambda.ListLayersInput{CompatibleRuntime: types.RuntimePython313}), nil},
	} {
		if !slices.Equal(test.got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, test.got, test.want)
		}
	}
	if got := versions(lambda.ListLayerVersionsInput{LayerName: aws.String("b"), MaxItems: aws.Int32(1)}); !slices.Equal(got, []int64{3, 2, 1}) {
		t.Errorf("versions %v", got)
	}
	if got := versions(lambda.ListLayerVersionsInput{LayerName: aws.String(firn.LayerARN(region, account, "b")), CompatibleRuntime: types.RuntimeProvidedal2}); !slices.Equal(got, []int64{2, 1}) {
		t.Errorf("versions of a runtime %v", got)
	}
	none, err := w.ListLayerVersions(ctx, &lambda.ListLayerVersionsInput{LayerName: aws.String("none")})
	if err != nil || none.LayerVersions == nil || len(none.LayerVersions) != 0 {
		t.Errorf("%+v, %v", none, err)
	}
}

func TestTags(t *testing.T) {
	w := newWorld(t, options{})
	ctx := t.Context()
	w.create("f", hello(), func(in *lambda.CreateFunctionInput) { in.Tags = map[string]string{"a": "1", "b": "2"} })
	arn := aws.String(functionARN("f"))
	revision := *w.configuration("f").RevisionId
	if _, err := w.TagResource(ctx, &lambda.TagResourceInput{Resource: arn, Tags: map[string]string{"b": "3", "c": "4"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.UntagResource(ctx, &lambda.UntagResourceInput{Resource: arn, TagKeys: []string{"a", "never"}}); err != nil {
		t.Fatal(err)
	}
	w.restart()
	out, err := w.ListTags(ctx, &lambda.ListTagsInput{Resource: arn})
	if err != nil || !maps.Equal(out.Tags, map[string]string{"b": "3", "c": "4"}) {
		t.Errorf("%v, %v", out, err)
	}
	if got := *w.configuration("f").RevisionId; got == revision {
		t.Error("tagging has not changed the revision")
	}
	tag := func(resource string, tags map[string]string) error {
		_, err := w.TagResource(ctx, &lambda.TagResourceInput{Resource: &resource, Tags: tags})
		return err
	}
	_, list := w.ListTags(ctx, &lambda.ListTagsInput{Resource: aws.String(functionARN("no"))})
	_, untag := w.UntagResource(ctx, &lambda.UntagResourceInput{Resource: aws.String(functionARN("no")), TagKeys: []string{"a"}})
	const invalid = "InvalidParameterValueException"
	const mapping = "arn:aws:lambda:us-east-1:123456789012:event-source-mapping:4ac4e6b7-1b5a-4b2a-9b6c-0a1b2c3d4e5f"
	const provider = "arn:aws:lambda:us-east-1:123456789012:capacity-provider:cp"
	for _, test := range []struct {
		name, code, message string
		err                 error
	}{
		{"none", invalid, "An error occurred and the request cannot be processed.", tag(*arn, map[string]string{})},
		{"51 with those there", invalid, "Number of tags exceeds resource tag limit.", tag(*arn, tags(49))},
		{"reserved", invalid, "The tag key AWS:x uses the reserved prefix aws:", tag(*arn, map[string]string{"AWS:x": "y"})},
		{"qualifier", invalid, "Tags on function aliases and versions are not supported. Please specify a function ARN.", tag(*arn+":1", tags(1))},
		{"unknown", "ResourceNotFoundException", "Function not found: " + functionARN("no"), tag(functionARN("no"), tags(1))},
		{"list of unknown", "ResourceNotFoundException", "Function not found: " + functionARN("no"), list},
		{"untag unknown", "ResourceNotFoundException", "Function not found: " + functionARN("no"), untag},
		{"an event source mapping", "ResourceNotFoundException", "Event source mapping not found: " + mapping, tag(mapping, tags(1))},
		{"a capacity provider", "ResourceNotFoundException", "Capacity provider not found: " + provider, tag(provider, tags(1))},
		{"another account", "AccessDeniedException", noMessage, tag("arn:aws:lambda:us-east-1:999999999999:function:f", tags(1))},
	} {
		t.Run(test.name, func(t *testing.T) { wantFault(t, test.err, test.code, test.message) })
	}
	if err := tag(*arn, tags(48)); err != nil {
		t.Error("50 tags:", err)
	}
}

func TestAccountSettings(t *testing.T) {
	w := newWorld(t, options{concurrency: 7})
	usage := func() (int64, int64) {
		t.Helper()
		out, err := w.GetAccountSettings(t.Context(), &lambda.GetAccountSettingsInput{})
		if err != nil {
			t.Fatal(err)
		}
		if l := out.AccountLimit; l.ConcurrentExecutions != 7 || *l.UnreservedConcurrentExecutions != 7 || l.CodeSizeUnzipped != 262144000 ||
			l.CodeSizeZipped != 52428800 || l.TotalCodeSize != 80530636800 {
			t.Errorf("%+v", l)
		}
		return out.AccountUsage.FunctionCount, out.AccountUsage.TotalCodeSize
	}
	want := func(functions, size int) {
		t.Helper()
		if f, s := usage(); f != int64(functions) || s != int64(size) {
			t.Errorf("%d functions, %d bytes; want %d, %d", f, s, functions, size)
		}
	}
	want(0, 0)
	w.create("f", hello())
	w.create("g", small("g"))
	w.publishLayer("l", small("layer"))
	size := len(hello()) + len(small("g")) + len(small("layer"))
	want(2, size)
	w.restart()
	want(2, size)
	if _, err := w.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: aws.String("f")}); err != nil {
		t.Fatal(err)
	}
	want(1, size-len(hello()))
}
