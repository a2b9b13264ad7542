package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn/internal/require"
)

// runtimesCache is where .ci/install-runtimes has put managed runtimes.
func runtimesCache(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("FIRN_RUNTIMES")
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(base, "firn", "runtimes")
	}
	_, err := os.Stat(filepath.Join(dir, "names", name+".json"))
	require.Feature(t, "runtimes", err == nil, "run .ci/install-runtimes to have "+name+" in "+dir)
	return dir
}

// TestManagedRuntime makes a Python function with a layer through the API and
// runs it on the official client; then the runtime goes.
func TestManagedRuntime(t *testing.T) {
	needLinux(t)
	t.Parallel()
	cache := runtimesCache(t, "python3.11")
	data := filepath.Join(t.TempDir(), "data")
	n := start(t, options{data: data})
	ctx := t.Context()
	in := &lambda.CreateFunctionInput{
		FunctionName: aws.String("py"), Role: aws.String(role), Runtime: types.RuntimePython311, Handler: aws.String("app.handler"),
		Code: &types.FunctionCode{ZipFile: archive(t, map[string]file{"app.py": {text: `
import helper
def handler(event, context):
    if event.get("do") == "error":
        raise ValueError("told to")
    return helper.greet(event.get("arg", ""))
`}})},
	}
	_, err := n.client.CreateFunction(ctx, in)
	if want := "InvalidParameterValueException: The runtime python3.11 is not on this machine yet. Bring it with: firn runtime build python3.11 --data " + data; err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("%v, want %s", err, want)
	}
	n.stop()
	if err := os.RemoveAll(filepath.Join(data, "runtimes")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(cache, filepath.Join(data, "runtimes")); err != nil {
		t.Fatal(err)
	}
	n = start(t, options{data: data})
	layer, err := n.client.PublishLayerVersion(ctx, &lambda.PublishLayerVersionInput{
		LayerName: aws.String("help"), CompatibleRuntimes: []types.Runtime{types.RuntimePython311},
		Content: &types.LayerVersionContentInput{ZipFile: archive(t, map[string]file{"python/helper.py": {text: "def greet(who):\n    return 'hello ' + who\n"}})},
	})
	if err != nil {
		t.Fatal(err)
	}
	in.Layers = []string{*layer.LayerVersionArn}
	out, err := n.client.CreateFunction(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	if out.RuntimeVersionConfig == nil || !strings.HasPrefix(aws.ToString(out.RuntimeVersionConfig.RuntimeVersionArn), "arn:aws:lambda:us-east-1::runtime:") {
		t.Errorf("%+v", out.RuntimeVersionConfig)
	}
	if err := n.active(ctx, "py"); err != nil {
		t.Fatal(err)
	}
	if a := n.succeed("py", order{Arg: "firn"}); a.payload != `"hello firn"` {
		t.Errorf("%s\n%s", a.payload, a.log)
	}
	if a := n.invoke("py", order{Do: "error"}); a.failure == "" || !strings.Contains(a.payload, `"errorType": "ValueError"`) {
		t.Errorf("%s %s", a.failure, a.payload)
	}
	n.stop()
	if err := os.Remove(filepath.Join(data, "runtimes")); err != nil {
		t.Fatal(err)
	}
	n = start(t, options{data: data})
	_, err = n.tryInvoke(ctx, "py", order{})
	if err == nil || !strings.Contains(err.Error(), "InvalidRuntimeException: The runtime python3.11 is not on this machine yet.") {
		t.Errorf("a function without its runtime: %v", err)
	}
}
