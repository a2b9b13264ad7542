package e2e

import (
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// mirrorOf is the address of a registry that has a base image by its name: the
// actor as a managed runtime.
func mirrorOf(t *testing.T, base string) string {
	t.Helper()
	program, err := os.ReadFile(program("actor"))
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH})
	if err == nil {
		img, err = mutate.AppendLayers(img, layerOf(t, map[string][]byte{"word": []byte("pulled")}),
			layerOf(t, map[string][]byte{"var/runtime/bootstrap": program, "var/task/hidden": []byte("x")}))
	}
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(srv.Close)
	host := strings.TrimPrefix(srv.URL, "http://")
	ref, err := name.ParseReference(host + "/mirror/" + base)
	if err == nil {
		err = remote.Write(ref, img)
	}
	if err != nil {
		t.Fatal(err)
	}
	return host + "/mirror"
}

// TestPulledRuntime runs a function on a base image: brought by the node when
// the function is made, by hand while the node runs, and gone.
func TestPulledRuntime(t *testing.T) {
	needLinux(t)
	t.Parallel()
	mirror := mirrorOf(t, "ruby:3.4")
	data := filepath.Join(t.TempDir(), "data")
	n := start(t, options{data: data, args: []string{"--pull", "--runtime-registry", mirror}})
	ctx := t.Context()
	create := func(name string, runtime types.Runtime) {
		t.Helper()
		if _, err := n.client.CreateFunction(ctx, &lambda.CreateFunctionInput{
			FunctionName: aws.String(name), Role: aws.String(role), Runtime: runtime, Handler: aws.String("app.handler"),
			Code: &types.FunctionCode{ZipFile: archive(t, map[string]file{"app.rb": {text: "x"}})},
		}); err != nil {
			t.Fatal(err)
		}
	}
	create("f", types.RuntimeRuby34)
	if err := n.active(ctx, "f"); err != nil {
		t.Fatal(err)
	}
	var info ofItself
	n.succeed("f", order{Do: "info"}).into(t, &info)
	if info.Cwd != "/var/task" || !slices.Equal(info.Args, []string{"/var/runtime/bootstrap"}) ||
		!slices.Contains(info.Env, "AWS_EXECUTION_ENV=AWS_Lambda_ruby3.4") || !slices.Contains(info.Env, "_HANDLER=app.handler") {
		t.Errorf("%+v", info)
	}
	if got := n.word("f"); got != "pulled" {
		t.Errorf("the root is another: %q", got)
	}
	create("g", types.RuntimeDotnet8) // which the mirror has not
	if err := n.active(ctx, "g"); err == nil {
		t.Error("a function without its runtime is active")
	}
	got, err := n.client.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: aws.String("g")})
	if err != nil || got.State != types.StateFailed || got.StateReasonCode != types.StateReasonCodeInvalidRuntime ||
		!strings.Contains(aws.ToString(got.StateReason), mirror+"/dotnet:8") {
		t.Errorf("%+v %v", got, err)
	}
	n.tolerate = true // it reports that failure

	command := func(args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, program("firn"), append([]string{"runtime", "--data", data}, args...)...).CombinedOutput()
		return string(out), err
	}
	if out, err := command("list"); err != nil || !strings.Contains(out, "pulled from "+mirror+"/ruby:3.4") {
		t.Errorf("%v %s", err, out)
	}
	if out, err := command("remove", "ruby3.4"); err == nil || !strings.Contains(out, "in use by a running firn") {
		t.Errorf("%v %s", err, out)
	}
	if out, err := command("pull", "ruby3.4", "--registry", mirror); err != nil || !strings.Contains(out, "ruby3.4 is here") {
		t.Errorf("%v %s", err, out)
	}
	n.stop()
	if out, err := command("remove", "ruby3.4"); err != nil {
		t.Errorf("%v %s", err, out)
	}
}
