// Command demo shows firn's main job: it starts firn, publishes a layer that
// holds an extension, creates a function that uses it, invokes it twice, and
// prints what a caller gets and what firn shows meanwhile. It needs the built
// binary (bin/firn) and the Go toolchain, nothing else.
package main

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	firn := "bin/firn"
	if len(os.Args) > 1 {
		firn = os.Args[1]
	}
	dir, err := os.MkdirTemp("", "firn-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	say("building a function (aws-lambda-go) and an extension (plain HTTP)")
	function, err := archive(ctx, dir, "./examples/hello", "bootstrap")
	if err != nil {
		return err
	}
	layer, err := archive(ctx, dir, "./examples/logger", "extensions/logger")
	if err != nil {
		return err
	}

	say("firn up --listen 127.0.0.1:0 --data %s", dir)
	node, client, err := start(ctx, firn, filepath.Join(dir, "data"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, node.stop()) }()
	return show(ctx, client, function, layer)
}

// show is what a user of Lambda does.
func show(ctx context.Context, client *lambda.Client, function, layer []byte) error {
	say("aws lambda publish-layer-version --layer-name logger --zip-file fileb://layer.zip")
	published, err := client.PublishLayerVersion(ctx, &lambda.PublishLayerVersionInput{
		LayerName: aws.String("logger"), Content: &types.LayerVersionContentInput{ZipFile: layer},
	})
	if err != nil {
		return err
	}
	say("aws lambda create-function --function-name hello --runtime provided.al2023 --layers %s ...", *published.LayerVersionArn)
	_, err = client.CreateFunction(ctx, &lambda.CreateFunctionInput{
		FunctionName: aws.String("hello"), Runtime: types.RuntimeProvidedal2023, Handler: aws.String("bootstrap"),
		Role: aws.String("arn:aws:iam::123456789012:role/demo"), Layers: []string{*published.LayerVersionArn},
		Code: &types.FunctionCode{ZipFile: function},
	})
	if err != nil {
		return err
	}
	if err := lambda.NewFunctionActiveV2Waiter(client).Wait(ctx, &lambda.GetFunctionInput{FunctionName: aws.String("hello")}, time.Minute); err != nil {
		return err
	}
	for _, name := range []string{"world", "again"} {
		say("aws lambda invoke --function-name hello --payload '{\"name\":%q}' --log-type Tail", name)
		begin := time.Now()
		out, err := client.Invoke(ctx, &lambda.InvokeInput{
			FunctionName: aws.String("hello"), LogType: types.LogTypeTail, Payload: fmt.Appendf(nil, `{"name":%q}`, name),
		})
		if err != nil {
			return err
		}
		took := time.Since(begin)
		tail, err := base64.StdEncoding.DecodeString(aws.ToString(out.LogResult))
		if err != nil {
			return err
		}
		fmt.Printf("\n  answer after %.1f ms: %s\n  log:\n", float64(took.Microseconds())/1000, out.Payload)
		for line := range strings.Lines(string(tail)) {
			fmt.Print("    ", line)
		}
		if out.FunctionError != nil {
			return fmt.Errorf("the function failed: %s", out.Payload)
		}
	}
	return nil
}

// node is the running firn.
type node struct{ cmd *exec.Cmd }

// start runs `firn up` and returns a client for it.
func start(ctx context.Context, firn, data string) (*node, *lambda.Client, error) {
	n := &node{cmd: exec.Command(firn, "up", "--listen", "127.0.0.1:0", "--data", data)}
	n.cmd.Stdout, n.cmd.Stderr = os.Stdout, os.Stderr
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // ^C ends the demo, which ends firn
	if err := n.cmd.Start(); err != nil {
		return nil, nil, fmt.Errorf("%w (run make first)", err)
	}
	env, err := waitEnv(ctx, firn, data)
	if err != nil {
		return nil, nil, errors.Join(err, n.stop())
	}
	client := lambda.New(lambda.Options{
		Region:       env["AWS_REGION"],
		BaseEndpoint: aws.String(env["AWS_ENDPOINT_URL_LAMBDA"]),
		Credentials:  credentials.NewStaticCredentialsProvider(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], ""),
	})
	return n, client, nil
}

// waitEnv asks `firn env` until the node is up.
func waitEnv(ctx context.Context, firn, data string) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		out, err := exec.CommandContext(ctx, firn, "env", "--data", data).Output()
		if err == nil {
			env := map[string]string{}
			for _, word := range strings.Fields(string(out)) {
				if key, value, ok := strings.Cut(word, "="); ok {
					env[key] = value
				}
			}
			return env, nil
		}
		select {
		case <-ctx.Done():
			return nil, errors.New("firn did not come up")
		case <-tick.C:
		}
	}
}

// stop ends firn as an operator would and waits for it.
func (n *node) stop() error {
	say("^C")
	if err := n.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	return n.cmd.Wait()
}

// archive builds a command statically and zips it under name.
func archive(ctx context.Context, dir, pkg, name string) ([]byte, error) {
	binary := filepath.Join(dir, filepath.Base(pkg))
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, pkg)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	header := &zip.FileHeader{Name: name, Method: zip.Deflate}
	header.SetMode(0o755)
	f, err := w.CreateHeader(header)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func say(format string, args ...any) { fmt.Printf("\n$ "+format+"\n", args...) }
