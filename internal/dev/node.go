package dev

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn/internal/environment"
	"github.com/firn-run/firn/internal/server"
	"github.com/firn-run/firn/internal/telemetry"
)

// node is the firn of a session.
type node struct {
	stop  context.CancelFunc
	ended chan struct{}
	err   error // once ended
	undo  func()
	live  *telemetry.Live
}

// wait returns when ctx ends, or the node before it.
func (n *node) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-n.ended:
		if n.err == nil {
			return errors.New("the node has ended")
		}
		return nil // close returns it
	}
}

func (n *node) close() error {
	n.stop()
	<-n.ended
	n.undo()
	n.live.Close()
	return n.err
}

// serve starts the node and creates or updates the function.
func (s *session) serve(ctx context.Context) (*node, error) {
	n := &node{ended: make(chan struct{}), undo: func() {}, live: telemetry.NewLive(s.screen, s.cfg.Style)}
	cfg := s.cfg.Server
	cfg.Sink, cfg.Environment, cfg.Logger = n.live, s.adapt, s.cfg.Logger
	srv, err := server.New(cfg)
	if err != nil {
		n.live.Close()
		return nil, err
	}
	base, stop := context.WithCancel(context.WithoutCancel(ctx))
	n.stop = stop
	if s.cfg.Hurry != nil {
		n.undo = s.cfg.Hurry(srv)
	}
	go func() { // waited for in close
		defer close(n.ended)
		n.err = srv.Run(base)
	}()
	select {
	case <-srv.Ready():
	case <-n.ended:
		return nil, n.close()
	}
	root := srv.Credentials()
	s.client = client{name: s.project.Name, api: lambda.New(lambda.Options{
		Region: srv.Config().Region, BaseEndpoint: aws.String(srv.Endpoint()), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(root.AccessKeyID, root.SecretAccessKey, ""),
	})}
	if err := s.client.put(ctx, s); err != nil {
		return nil, errors.Join(err, n.close())
	}
	if s.cfg.Greet != nil {
		err = s.cfg.Greet(s.screen, srv)
	}
	s.screen.begin(s)
	if err != nil {
		return nil, errors.Join(err, n.close())
	}
	return n, nil
}

// adapt has the function's environments run from the current tree.
func (s *session) adapt(cfg *environment.Config) {
	if cfg.Version.Name != s.project.Name {
		return
	}
	// Should the environment not even start, OnEnded is not called: its tree
	// is then kept until the session ends.
	dir, release := s.trees.acquire()
	if dir != "" {
		cfg.TaskDir = dir
	}
	ended := cfg.OnEnded
	cfg.OnEnded = func(e *environment.Environment) {
		release()
		if ended != nil {
			ended(e)
		}
	}
	if s.debugger != nil {
		s.debugger.adapt(cfg)
	}
}

// client is the API of the session's node.
type client struct {
	api  *lambda.Client
	name string
}

// put creates the function, or makes the one that a former session has left
// like this one's.
func (c *client) put(ctx context.Context, s *session) error {
	var layers []string
	for _, path := range s.cfg.Layers {
		arn, err := c.layer(ctx, path)
		if err != nil {
			return fmt.Errorf("layer %s: %w", path, err)
		}
		layers = append(layers, arn)
	}
	in := &lambda.CreateFunctionInput{
		FunctionName: &c.name, Role: aws.String("arn:aws:iam::" + server.DefaultAccount + ":role/firn-dev"),
		Runtime: types.Runtime(s.project.Runtime), Handler: &s.project.Handler, Description: aws.String(describe(0)),
		MemorySize: aws.Int32(int32(s.cfg.MemoryMB)), Timeout: aws.Int32(int32(max(1, s.cfg.Timeout.Round(time.Second)/time.Second))),
		Environment: &types.Environment{Variables: maps.Clone(s.cfg.Variables)}, Layers: layers,
	}
	_, err := c.api.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &c.name})
	if _, missing := errors.AsType[*types.ResourceNotFoundException](err); missing {
		if in.Code, err = placeholder(); err == nil {
			_, err = c.api.CreateFunction(ctx, in)
		}
	} else if err == nil {
		if in.Layers == nil {
			in.Layers = []string{} // none, and not those of before
		}
		_, err = c.api.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{
			FunctionName: in.FunctionName, Runtime: in.Runtime, Handler: in.Handler, Description: in.Description,
			MemorySize: in.MemorySize, Timeout: in.Timeout, Environment: in.Environment, Layers: in.Layers,
		})
	}
	if err != nil {
		return fmt.Errorf("create function %s: %w", c.name, err)
	}
	return c.settled(ctx)
}

// placeholder is the archive that the function's record holds: the code is in
// the trees.
func placeholder() (*types.FunctionCode, error) {
	archive, err := pack(func(w *zip.Writer) error {
		f, err := w.Create("README")
		if err == nil {
			_, err = f.Write([]byte("The code of this function is a folder, served by firn dev.\n"))
		}
		return err
	})
	return &types.FunctionCode{ZipFile: archive}, err
}

func describe(reloads int) string {
	if reloads == 0 {
		return "firn dev"
	}
	return fmt.Sprintf("firn dev, reload %d", reloads)
}

// updateStep is the pause between two looks at an update, updateLimit the time
// for one.
const (
	updateStep  = 2 * time.Millisecond
	updateLimit = 30 * time.Second
)

// retire has the next invocation begin in a new environment: the description
// changes, and with it what environments are kept for.
func (c *client) retire(ctx context.Context, reloads int) error {
	ctx, cancel := context.WithTimeout(ctx, updateLimit)
	defer cancel()
	for {
		_, err := c.api.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{
			FunctionName: &c.name, Description: aws.String(describe(reloads)),
		})
		if err == nil {
			return c.settled(ctx)
		}
		if _, busy := errors.AsType[*types.ResourceConflictException](err); !busy { // somebody else's update
			return fmt.Errorf("update function %s: %w", c.name, err)
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context) error {
	select {
	case <-time.After(updateStep):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// settled waits until invocations run what was asked for last.
func (c *client) settled(ctx context.Context) error {
	for {
		out, err := c.api.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &c.name})
		switch {
		case err != nil:
			return err
		case out.State == types.StateFailed || out.LastUpdateStatus == types.LastUpdateStatusFailed:
			return fmt.Errorf("function %s: %s%s", c.name, aws.ToString(out.StateReason), aws.ToString(out.LastUpdateStatusReason))
		case out.State == types.StateActive && out.LastUpdateStatus != types.LastUpdateStatusInProgress:
			return nil
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// invoke sends an event. failed is the kind of a function's own error.
func (c *client) invoke(ctx context.Context, event []byte) (answer []byte, failed string, err error) {
	out, err := c.api.Invoke(ctx, &lambda.InvokeInput{FunctionName: &c.name, Payload: event})
	if err != nil {
		return nil, "", err
	}
	return out.Payload, aws.ToString(out.FunctionError), nil
}

// layer publishes a folder, an archive or an extension.
func (c *client) layer(ctx context.Context, path string) (arn string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	var archive []byte
	switch {
	case info.IsDir():
		archive, err = pack(func(w *zip.Writer) error { return addFolder(w, path) })
	case strings.EqualFold(filepath.Ext(path), ".zip"):
		archive, err = os.ReadFile(path)
	case info.Mode()&0o111 == 0:
		return "", errors.New("give a folder, a .zip archive, or an executable file that is an extension")
	default:
		archive, err = pack(func(w *zip.Writer) error { return addFile(w, "extensions/"+filepath.Base(path), path, info) })
	}
	if err != nil {
		return "", err
	}
	base := filepath.Base(path)
	out, err := c.api.PublishLayerVersion(ctx, &lambda.PublishLayerVersionInput{
		LayerName: aws.String(functionName(strings.TrimSuffix(base, filepath.Ext(base)))),
		Content:   &types.LayerVersionContentInput{ZipFile: archive},
	})
	if err != nil {
		return "", err
	}
	return *out.LayerVersionArn, nil
}

func pack(fill func(*zip.Writer) error) ([]byte, error) {
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	err := errors.Join(fill(w), w.Close())
	return buf.Bytes(), err
}

// addFolder adds what lies in a folder; links are followed, as zip does.
func addFolder(w *zip.Writer, dir string) error {
	files, _, err := scan([]source{{from: dir, skip: func(_, rel string) bool { c, _ := classOf(rel); return c == classNothing }}}, nil, nil)
	if err != nil {
		return err
	}
	for name, e := range files {
		file := e.from
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		if info.IsDir() {
			continue // a link to a folder that is there by its own name
		}
		if err := addFile(w, name, file, info); err != nil {
			return err
		}
	}
	return nil
}

func addFile(w *zip.Writer, name, file string, info fs.FileInfo) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	header := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: info.ModTime()}
	header.SetMode(info.Mode().Perm())
	f, err := w.CreateHeader(header)
	if err == nil {
		_, err = f.Write(content)
	}
	return err
}
