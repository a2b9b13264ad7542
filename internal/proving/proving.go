// Package proving is the proving ground for extensions: it runs one under a
// scripted lifecycle, with the failures that production has and a laptop has
// not, and says what it did right, what it costs, and what Lambda would refuse
// it.
//
// It is a client of firn like any other: it starts a node of its own in a
// temporary folder, publishes the extension as a layer, and invokes functions
// whose runtime does what their events say. What it knows of the extension are
// the records of the lifecycle; what it does to it are the events, and faults
// on the way from the platform to the extension's listener.
package proving

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"golang.org/x/sync/errgroup"

	"github.com/firn-run/firn/internal/environment"
	"github.com/firn-run/firn/internal/sandbox"
	"github.com/firn-run/firn/internal/server"
	"github.com/firn-run/firn/internal/telemetry"
)

// Config says what to test and how.
type Config struct {
	// Path is the extension: an executable file, a folder with extensions/ in
	// it, or a layer's .zip archive.
	Path string
	// Program is this program, which is the functions' runtime too.
	Program     string
	Invocations int               // of a scenario; default 5
	MemoryMB    int               // of the functions; default 512
	Variables   map[string]string // environment variables for the extension
	Sandbox     string            // default server.DefaultSandbox
	Network     sandbox.Network   // default none: what leaves is the extension's own business
	Log         telemetry.Sink    // gets all output too; nil drops it
	Logger      *slog.Logger      // of firn itself; default discards
	// Progress is called as a scenario begins; nil for nobody.
	Progress func(scenario string)
}

// Run tests the extension. An error means that the test could not be made; an
// extension that fails is a Report.
func Run(ctx context.Context, cfg Config) (_ *Report, err error) {
	if cfg.Invocations <= 0 {
		cfg.Invocations = 5
	}
	if cfg.MemoryMB <= 0 {
		cfg.MemoryMB = 512
	}
	if cfg.Network == "" {
		cfg.Network = sandbox.NetworkNone
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Progress == nil {
		cfg.Progress = func(string) {}
	}
	layer, names, err := layerArchive(cfg.Path)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "firn-extension-test-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	g := &ground{cfg: cfg, watcher: newWatcher(), wire: &wire{}, extensions: names, report: &Report{Extensions: names}}
	if err := g.open(ctx, dir, layer); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	for _, s := range scenarios() {
		cfg.Progress(s.name)
		if err := g.play(ctx, s); err != nil {
			return nil, fmt.Errorf("scenario %s: %w", s.name, err)
		}
	}
	return g.report, nil
}

// ground is a node with the functions of one test.
type ground struct {
	cfg        Config
	watcher    *watcher
	wire       *wire
	extensions []string
	report     *Report

	client   *lambda.Client
	code     []byte
	layerARN string
	stop     context.CancelFunc
	group    *errgroup.Group
}

// open starts the node and publishes the layer.
func (g *ground) open(ctx context.Context, dir string, layer []byte) error {
	sinks := telemetry.Fanout{g.watcher}
	if g.cfg.Log != nil {
		sinks = append(sinks, g.cfg.Log)
	}
	srv, err := server.New(server.Config{
		Listen: "127.0.0.1:0", DataDir: filepath.Join(dir, "data"), Sandbox: g.cfg.Sandbox, Network: g.cfg.Network,
		Sink: sinks, Logger: g.cfg.Logger, DrainTimeout: 10 * time.Second,
		Environment: func(cfg *environment.Config) {
			cfg.WrapDial = g.wire.wrap
			cfg.RefuseSubscriptions = g.wire.closed()
		},
	})
	if err != nil {
		return err
	}
	base, stop := context.WithCancel(context.WithoutCancel(ctx))
	g.stop = stop
	g.group = &errgroup.Group{}
	ended := make(chan struct{})
	g.group.Go(func() error {
		defer close(ended)
		return srv.Run(base)
	})
	select {
	case <-srv.Ready():
	case <-ended:
		return g.close()
	}
	root := srv.Credentials()
	g.client = lambda.New(lambda.Options{
		Region: server.DefaultRegion, BaseEndpoint: aws.String(srv.Endpoint()), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(root.AccessKeyID, root.SecretAccessKey, ""),
	})
	if err := g.publish(ctx, layer); err != nil {
		return errors.Join(err, g.close())
	}
	return nil
}

func (g *ground) close() error {
	g.stop()
	return g.group.Wait()
}

// publish makes the layer, and the archive of the functions.
func (g *ground) publish(ctx context.Context, layer []byte) error {
	out, err := g.client.PublishLayerVersion(ctx, &lambda.PublishLayerVersionInput{
		LayerName: aws.String("extension"), Content: &types.LayerVersionContentInput{ZipFile: layer},
	})
	if err != nil {
		return fmt.Errorf("publish the layer: %w", err)
	}
	g.layerARN = *out.LayerVersionArn
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	if err := addFile(w, "bootstrap", g.cfg.Program, zip.Deflate); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	g.code = buf.Bytes()
	return nil
}

// create makes a function, with the extension or without.
func (g *ground) create(ctx context.Context, name string, extended bool) error {
	variables := map[string]string{runtimeVariable: "1"}
	in := &lambda.CreateFunctionInput{
		FunctionName: &name, Role: aws.String("arn:aws:iam::" + server.DefaultAccount + ":role/extension-test"),
		Runtime: types.RuntimeProvidedal2023, Handler: aws.String("bootstrap"), Timeout: aws.Int32(timeoutSeconds),
		MemorySize: aws.Int32(int32(g.cfg.MemoryMB)), Code: &types.FunctionCode{ZipFile: g.code},
	}
	if extended {
		in.Layers = []string{g.layerARN}
		for key, value := range g.cfg.Variables {
			variables[key] = value
		}
	}
	in.Environment = &types.Environment{Variables: variables}
	if _, err := g.client.CreateFunction(ctx, in); err != nil {
		return fmt.Errorf("create the function: %w", err)
	}
	return lambda.NewFunctionActiveV2Waiter(g.client, func(o *lambda.FunctionActiveV2WaiterOptions) {
		o.MinDelay, o.MaxDelay = 20*time.Millisecond, 200*time.Millisecond
	}).Wait(ctx, &lambda.GetFunctionInput{FunctionName: &name}, time.Minute)
}

// timeoutSeconds is the functions' timeout: the least that leaves slow
// extensions their tail, since every scenario with a timeout waits for it.
const timeoutSeconds = 3

// outcome is what the caller of an invocation has seen.
type outcome struct {
	took    time.Duration
	failure string // payload of a function error, "" on success
}

func (g *ground) invoke(ctx context.Context, name string, e event) (outcome, error) {
	payload, err := json.Marshal(e)
	if err != nil {
		return outcome{}, err
	}
	begin := time.Now()
	out, err := g.client.Invoke(ctx, &lambda.InvokeInput{FunctionName: &name, Payload: payload})
	if err != nil {
		return outcome{}, err
	}
	o := outcome{took: time.Since(begin)}
	if out.FunctionError != nil {
		o.failure = string(out.Payload)
	}
	return o, nil
}

// retire ends the function's environments in order and waits for them.
func (g *ground) retire(ctx context.Context, name string) error {
	_, err := g.client.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: &name})
	return err
}
