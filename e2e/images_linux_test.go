package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// container is an image to build: the actor as its runtime, and a word in a
// file that tells it from others.
type container struct {
	word         string
	architecture string // of Go; "" is this host's
	extensions   int
}

// build makes the image.
func (c container) build(t *testing.T) v1.Image {
	t.Helper()
	program, err := os.ReadFile(program("actor"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{"bootstrap": program, "other/bootstrap": program, "word": []byte(c.word)}
	for i := range c.extensions {
		files[fmt.Sprintf("opt/extensions/e%d", i)] = program
	}
	img, err := mutate.AppendLayers(empty.Image, layerOf(t, files))
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", c.architecture
	if c.architecture == "" {
		config.Architecture = runtime.GOARCH
	}
	config.Config = v1.Config{Entrypoint: []string{"/bootstrap"}, Cmd: []string{"plain"}, Env: []string{"FROM_IMAGE=" + c.word, "PATH=/bin"}, WorkingDir: "/other"}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

// layerOf is a layer of executable files. Files of the same content are hard
// links, as in most images' layers.
func layerOf(t *testing.T, files map[string][]byte) v1.Layer {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	first := map[*byte]string{} // by where the content begins
	for _, path := range slices.Sorted(maps.Keys(files)) {
		body := files[path]
		if target, again := first[&body[0]]; again {
			if err := w.WriteHeader(&tar.Header{Name: path, Linkname: target, Mode: 0o755, Typeflag: tar.TypeLink}); err != nil {
				t.Fatal(err)
			}
			continue
		}
		first[&body[0]] = path
		if err := w.WriteHeader(&tar.Header{Name: path, Mode: 0o755, Size: int64(len(body)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil }, tarball.WithCompressionLevel(gzip.BestSpeed))
	if err != nil {
		t.Fatal(err)
	}
	return layer
}

// repositories is a client of ECR.
func (n *node) repositories() *ecr.Client {
	o := n.client.Options()
	return ecr.New(ecr.Options{Region: o.Region, BaseEndpoint: o.BaseEndpoint, Credentials: o.Credentials, RetryMaxAttempts: 1})
}

// push logs in as docker does, and pushes an image.
func (n *node) push(ref string, img v1.Image) (digest string) {
	n.t.Helper()
	out, err := n.repositories().GetAuthorizationToken(n.t.Context(), &ecr.GetAuthorizationTokenInput{})
	if err != nil {
		n.t.Fatal(err)
	}
	plain, err := base64.StdEncoding.DecodeString(*out.AuthorizationData[0].AuthorizationToken)
	if err != nil {
		n.t.Fatal(err)
	}
	user, password, _ := strings.Cut(string(plain), ":")
	tag, err := name.NewTag(n.address() + "/" + ref)
	if err != nil {
		n.t.Fatal(err)
	}
	if err := remote.Write(tag, img, remote.WithAuth(&authn.Basic{Username: user, Password: password})); err != nil {
		n.t.Fatal(err)
	}
	d, err := img.Digest()
	if err != nil {
		n.t.Fatal(err)
	}
	return d.String()
}

// ofImage makes a function of an image and waits until it is active.
func (n *node) ofImage(name, uri string, config *types.ImageConfig) error {
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	_, err := n.client.CreateFunction(ctx, &lambda.CreateFunctionInput{
		FunctionName: &name, Role: aws.String(role), PackageType: types.PackageTypeImage, ImageConfig: config,
		Code: &types.FunctionCode{ImageUri: &uri}, Timeout: aws.Int32(30),
	})
	if err != nil {
		return err
	}
	return n.active(ctx, name)
}

// word reads the file that tells images apart.
func (n *node) word(function string) string {
	n.t.Helper()
	var word string
	n.succeed(function, order{Do: "read", Arg: "/word"}).into(n.t, &word)
	return word
}

// ofItself is what a function says of itself.
type ofItself struct {
	Env  []string `json:"env"`
	Args []string `json:"args"`
	Cwd  string   `json:"cwd"`
}

// TestImages pushes images to the node's own registry and runs functions of
// them: pinned when they are made, changed by updates only, each version with
// its own, also after a restart.
func TestImages(t *testing.T) {
	needLinux(t)
	t.Parallel()
	n := start(t, options{})
	ctx := t.Context()
	if _, err := n.repositories().CreateRepository(ctx, &ecr.CreateRepositoryInput{RepositoryName: aws.String("team/app")}); err != nil {
		t.Fatal(err)
	}
	const uri = "123456789012.dkr.ecr.us-east-1.amazonaws.com/team/app"
	first := n.push("team/app:live", container{word: "first"}.build(t))
	if err := n.ofImage("f", uri+":live", nil); err != nil {
		t.Fatal(err)
	}
	if got := n.word("f"); got != "first" {
		t.Errorf("the image says %q", got)
	}
	out, err := n.client.GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: aws.String("f")})
	if err != nil {
		t.Fatal(err)
	}
	if *out.Code.RepositoryType != "ECR" || *out.Code.ImageUri != uri+":live" || *out.Code.ResolvedImageUri != uri+"@"+first ||
		*out.Configuration.CodeSha256 != strings.TrimPrefix(first, "sha256:") || out.Configuration.CodeSize != 0 {
		t.Errorf("%+v %+v", out.Code, out.Configuration)
	}
	var info ofItself
	n.succeed("f", order{Do: "info"}).into(t, &info)
	if info.Cwd != "/other" || !slices.Equal(info.Args, []string{"/bootstrap", "plain"}) || !slices.Contains(info.Env, "FROM_IMAGE=first") {
		t.Errorf("%+v", info)
	}

	if _, err := n.client.PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: aws.String("f")}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.client.CreateAlias(ctx, &lambda.CreateAliasInput{FunctionName: aws.String("f"), FunctionVersion: aws.String("1"), Name: aws.String("live")}); err != nil {
		t.Fatal(err)
	}
	second := n.push("team/app:live", container{word: "second"}.build(t))
	if got := n.word("f"); got != "first" {
		t.Errorf("a push has changed the function: it says %q", got)
	}
	if _, err := n.client.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("f"), ImageUri: aws.String(uri + ":live")}); err != nil {
		t.Fatal(err)
	}
	waiter := lambda.NewFunctionUpdatedV2Waiter(n.client)
	if err := waiter.Wait(ctx, &lambda.GetFunctionInput{FunctionName: aws.String("f")}, patience); err != nil {
		t.Fatal(err)
	}
	look := func(when string) {
		t.Helper()
		if latest, alias := n.word("f"), n.word("f:live"); latest != "second" || alias != "first" {
			t.Errorf("%s: $LATEST says %q, the alias of the old version %q", when, latest, alias)
		}
	}
	look("after the update")

	// What functions use stays when the repository goes.
	if _, err := n.repositories().DeleteRepository(ctx, &ecr.DeleteRepositoryInput{RepositoryName: aws.String("team/app"), Force: true}); err != nil {
		t.Fatal(err)
	}
	if err := n.ofImage("gone", uri+"@"+second, nil); err == nil || !strings.Contains(err.Error(), "does not exist. Provide a valid source image.") {
		t.Errorf("a deleted image: %v", err)
	}
	n.stop()
	n = start(t, options{data: n.data})
	look("after the restart")
}

// TestImageConfig overrides what an image says of itself, and refuses images
// that cannot run here.
func TestImageConfig(t *testing.T) {
	needLinux(t)
	t.Parallel()
	n := start(t, options{})
	if _, err := n.repositories().CreateRepository(t.Context(), &ecr.CreateRepositoryInput{RepositoryName: aws.String("app")}); err != nil {
		t.Fatal(err)
	}
	n.push("app:v1", container{word: "v1"}.build(t))
	uri := n.address() + "/app"
	config := &types.ImageConfig{EntryPoint: []string{"/other/bootstrap"}, Command: []string{"one", "two words"}, WorkingDirectory: aws.String("/opt")}
	n.push("app:ten", container{word: "ten", extensions: 10}.build(t))
	if err := n.ofImage("over", uri+":ten", config); err != nil {
		t.Fatal(err)
	}
	var info ofItself
	n.succeed("over", order{Do: "info"}).into(t, &info)
	if info.Cwd != "/opt" || !slices.Equal(info.Args, []string{"/other/bootstrap", "one", "two words"}) {
		t.Errorf("%+v", info)
	}
	if err := n.ofImage("plain", uri+":v1", nil); err != nil {
		t.Fatal(err)
	}
	if got := n.word("plain"); got != "v1" {
		t.Errorf("the image says %q", got)
	}
	n.push("app:eleven", container{word: "eleven", extensions: 11}.build(t))
	if err := n.ofImage("eleven", uri+":eleven", nil); err != nil {
		t.Fatal(err)
	}
	if a := n.invoke("eleven", order{}); a.failure == "" {
		t.Errorf("11 extensions were started: %s", a.payload)
	}

	foreign := map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]
	n.push("app:foreign", container{word: "x", architecture: foreign}.build(t))
	err := n.ofImage("foreign", uri+":foreign", nil)
	if err == nil || !strings.Contains(err.Error(), "InvalidParameterValueException: The image manifest, config or layer media type for the source image "+uri+":foreign is not supported.") {
		t.Errorf("an image for %s: %v", foreign, err)
	}
	if err := n.ofImage("nothing", uri+":nothing", nil); err == nil || !strings.Contains(err.Error(), "Source image "+uri+":nothing does not exist. Provide a valid source image.") {
		t.Errorf("an image that is not there: %v", err)
	}
	if _, err := n.client.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: aws.String("foreign")}); err == nil {
		t.Error("a function is left of a refused image")
	}
}
