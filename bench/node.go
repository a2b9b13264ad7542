package main

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// node is a firn in a process of its own, as an operator runs it.
type node struct {
	cmd      *exec.Cmd
	api      *lambda.Client
	endpoint string

	region, accessKey, secret string
}

// startNode runs `firn up --quiet` with further flags.
func startNode(ctx context.Context, firn, data string, flags ...string) (*node, error) {
	args := append([]string{"up", "--quiet", "--listen", "127.0.0.1:0", "--data", data}, flags...)
	n := &node{cmd: exec.Command(firn, args...)}
	n.cmd.Stderr = os.Stderr
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // ^C ends the measurement, which ends firn
	if err := n.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w (run make first)", err)
	}
	if err := n.connect(ctx, firn, data); err != nil {
		return nil, errors.Join(err, n.stop())
	}
	return n, nil
}

// connect asks `firn env` until the node is up.
func (n *node) connect(ctx context.Context, firn, data string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if out, err := exec.CommandContext(ctx, firn, "env", "--data", data).Output(); err == nil {
			n.use(string(out))
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.New("firn did not come up")
		case <-tick.C:
		}
	}
}

// use takes the variables of `firn env`.
func (n *node) use(env string) {
	for _, word := range strings.Fields(env) {
		switch key, value, _ := strings.Cut(word, "="); key {
		case "AWS_REGION":
			n.region = value
		case "AWS_ENDPOINT_URL_LAMBDA":
			n.endpoint = value
		case "AWS_ACCESS_KEY_ID":
			n.accessKey = value
		case "AWS_SECRET_ACCESS_KEY":
			n.secret = value
		}
	}
	n.api = lambda.New(lambda.Options{
		Region:       n.region,
		BaseEndpoint: aws.String(n.endpoint),
		Credentials:  credentials.NewStaticCredentialsProvider(n.accessKey, n.secret, ""),
	})
}

// stop ends firn as an operator would and waits for it.
func (n *node) stop() error {
	if err := n.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	return n.cmd.Wait()
}

// create makes a function of the given memory size and waits until it can be
// invoked.
func (n *node) create(ctx context.Context, name string, memoryMB int32, code []byte) error {
	_, err := n.api.CreateFunction(ctx, &lambda.CreateFunctionInput{
		FunctionName: aws.String(name), Runtime: types.RuntimeProvidedal2023, Handler: aws.String("bootstrap"),
		Role: aws.String("arn:aws:iam::123456789012:role/bench"), MemorySize: aws.Int32(memoryMB),
		Timeout: aws.Int32(300), Code: &types.FunctionCode{ZipFile: code},
	})
	if err != nil {
		return err
	}
	return lambda.NewFunctionActiveV2Waiter(n.api, func(o *lambda.FunctionActiveV2WaiterOptions) {
		o.MinDelay, o.MaxDelay = 50*time.Millisecond, time.Second
	}).Wait(ctx, &lambda.GetFunctionInput{FunctionName: aws.String(name)}, time.Minute)
}

// renew changes the function's configuration, so that the next invocation
// needs a new environment, and waits until the old ones are likely gone.
func (n *node) renew(ctx context.Context, name string, version int) error {
	_, err := n.api.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{
		FunctionName: aws.String(name), Description: aws.String(fmt.Sprintf("version %d", version)),
	})
	if err != nil {
		return err
	}
	return lambda.NewFunctionUpdatedV2Waiter(n.api, func(o *lambda.FunctionUpdatedV2WaiterOptions) {
		o.MinDelay, o.MaxDelay = 50*time.Millisecond, time.Second
	}).Wait(ctx, &lambda.GetFunctionInput{FunctionName: aws.String(name)}, time.Minute)
}

// buildRuntime compiles the function, statically, and zips it.
func buildRuntime(ctx context.Context, dir string) (program string, archive []byte, err error) {
	program = filepath.Join(dir, "bootstrap")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./bench/runtime")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", nil, fmt.Errorf("go build ./bench/runtime: %w\n%s", err, out)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		return "", nil, err
	}
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	header := &zip.FileHeader{Name: "bootstrap", Method: zip.Deflate}
	header.SetMode(0o755)
	f, err := w.CreateHeader(header)
	if err != nil {
		return "", nil, err
	}
	if _, err := f.Write(content); err != nil {
		return "", nil, err
	}
	err = w.Close()
	return program, buf.Bytes(), err
}
