package control_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/blob"
	"github.com/firn-run/firn/internal/control"
	"github.com/firn-run/firn/internal/environment"
	"github.com/firn-run/firn/internal/fleet"
	"github.com/firn-run/firn/internal/image"
	"github.com/firn-run/firn/internal/invoke"
	"github.com/firn-run/firn/internal/keyring"
	"github.com/firn-run/firn/internal/sandbox"
	"github.com/firn-run/firn/internal/sandbox/process"
	"github.com/firn-run/firn/internal/state"
)

const (
	account = "123456789012"
	region  = "us-east-1"
	role    = "arn:aws:iam::123456789012:role/r"
)

// childDir, in the environment, makes the test binary a control plane on the
// data directory that it names; see crash_test.go.
const childDir = "FIRN_TEST_CONTROL_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		serveChild(dir)
		return
	}
	os.Exit(m.Run())
}

// options change what a node is made of.
type options struct {
	maxStateBytes int64
	images        func(*image.Store) control.Images
	concurrency   int
	effects       control.Effects
	random        func() float64
	runtimes      control.Runtimes
	registry      control.Registry
	caller        firn.Identity // default: the account's root user
}

// node is a control plane and all that is below it.
type node struct {
	dir     *state.DataDir
	store   *state.Store
	blobs   *blob.Store
	images  *image.Store
	backend sandbox.Backend
	fleet   *fleet.Fleet
	control *control.Control
	server  *httptest.Server
	clock   *clock

	stop context.CancelFunc
	ran  sync.WaitGroup
}

// clock is the time of a node: the real one and what a test has added.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// startNode opens a data directory and serves the API from it.
func startNode(dir string, opt options) (_ *node, err error) {
	n := &node{clock: &clock{}}
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("FIRN_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	if n.dir, err = state.OpenDir(dir); err != nil {
		return nil, err
	}
	keys, err := keyring.Open(keyring.Config{Path: n.dir.KeyFile(), Account: account, MustExist: !n.dir.Fresh()})
	if err != nil {
		return nil, err
	}
	if n.store, err = state.Open(context.Background(), state.Config{Dir: n.dir, Logger: log, MaxBytes: opt.maxStateBytes}); err != nil {
		return nil, err
	}
	if n.blobs, err = blob.Open(n.dir.Blobs()); err != nil {
		return nil, err
	}
	if n.images, err = image.Open(image.Config{Dir: filepath.Join(dir, "roots"), Blobs: n.blobs, Logger: log}); err != nil {
		return nil, err
	}
	if n.backend, err = process.New(process.Config{Logger: log}); err != nil {
		return nil, err
	}
	if opt.concurrency == 0 {
		opt.concurrency = 10
	}
	n.fleet = fleet.New(fleet.Config{
		Start: n.start, Roots: n.images, AccountConcurrency: opt.concurrency, MaxEnvironments: 20,
		IdleTimeout: time.Minute, Now: n.clock.now,
	})
	images := control.Images(n.images)
	if opt.images != nil {
		images = opt.images(n.images)
	}
	n.server = httptest.NewUnstartedServer(nil)
	n.control = control.New(control.Config{
		Store: n.store, Blobs: n.blobs, Images: images, Sealer: keys, Retirer: n.fleet, Logger: log,
		Region: region, Account: account, Architecture: architecture(), Concurrency: opt.concurrency,
		Endpoint: func() string { return n.server.URL }, Now: n.clock.now,
		Random: opt.random, Effects: opt.effects, Runtimes: opt.runtimes, Registry: opt.registry,
	})
	n.control.SetInvoker(invoke.New(invoke.Config{Resolver: n.control, Fleet: n.fleet}))
	caller := opt.caller
	if caller.ARN == "" {
		caller = firn.Identity{ARN: "arn:aws:iam::" + account + ":root", Account: account, Root: true}
	}
	mux := awswire.New(awswire.Config{Logger: log, Anonymous: caller})
	n.control.Mount(mux)
	n.server.Config = awswire.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, control.LocationPath) {
			n.control.ServeLocation(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	}), log)
	var ctx context.Context
	ctx, n.stop = context.WithCancel(context.Background())
	if err := n.control.Load(ctx); err != nil {
		return nil, err
	}
	n.control.Sweep(ctx)
	n.ran.Go(func() { n.control.Run(ctx) })
	n.server.Start()
	return n, nil
}

func (n *node) start(ctx context.Context, cfg environment.Config) (*environment.Environment, error) {
	var id [4]byte
	rand.Read(id[:])
	cfg.ID, cfg.Backend, cfg.Network, cfg.FreezeGrace = hex.EncodeToString(id[:]), n.backend, sandbox.NetworkInternet, -1
	return environment.Start(ctx, cfg)
}

// close ends the node by the book.
func (n *node) close() error {
	n.server.Close()
	n.stop()
	n.ran.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(n.fleet.Close(ctx), n.backend.Close(), n.images.Close(), n.store.Close(), n.dir.Close())
}

func architecture() string {
	if runtime.GOARCH == "arm64" {
		return "arm64"
	}
	return "x86_64"
}

// world is a node and its client in a test.
type world struct {
	*node
	t    *testing.T
	path string
	opt  options
	*lambda.Client
}

func newWorld(t *testing.T, opt options) *world {
	t.Helper()
	w := &world{t: t, path: t.TempDir(), opt: opt}
	w.open()
	t.Cleanup(func() {
		if w.node == nil {
			return
		}
		if err := w.node.close(); err != nil {
			t.Error("close:", err)
		}
	})
	return w
}

func (w *world) open() {
	w.t.Helper()
	n, err := startNode(w.path, w.opt)
	if err != nil {
		w.t.Fatal(err)
	}
	w.node, w.Client = n, newClient(n.server.URL)
}

// restart ends the node and starts another one on its data.
func (w *world) restart() {
	w.t.Helper()
	if err := w.node.close(); err != nil {
		w.t.Fatal("close:", err)
	}
	w.node = nil
	w.open()
}

func newClient(url string) *lambda.Client {
	return lambda.New(lambda.Options{
		BaseEndpoint: &url, Region: region, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
	})
}

// create makes a function of zip, changed by edit, and waits for it to be
// active.
func (w *world) create(name string, code []byte, edit ...func(*lambda.CreateFunctionInput)) {
	w.t.Helper()
	in := creation(name, code)
	for _, e := range edit {
		e(in)
	}
	if _, err := w.CreateFunction(w.t.Context(), in); err != nil {
		w.t.Fatal("create", name, err)
	}
	w.active(name)
}

func creation(name string, code []byte) *lambda.CreateFunctionInput {
	return &lambda.CreateFunctionInput{
		FunctionName: &name, Role: aws.String(role), Runtime: types.RuntimeProvidedal2023, Handler: aws.String("h"),
		Code: &types.FunctionCode{ZipFile: code},
	}
}

const waitLimit = 20 * time.Second

// active waits until a function is settled, with the SDK's own waiter.
func (w *world) active(name string) {
	w.t.Helper()
	waiter := lambda.NewFunctionUpdatedV2Waiter(w.Client, func(o *lambda.FunctionUpdatedV2WaiterOptions) {
		o.MinDelay, o.MaxDelay = 5*time.Millisecond, 50*time.Millisecond
	})
	if err := waiter.Wait(w.t.Context(), &lambda.GetFunctionInput{FunctionName: &name}, waitLimit); err != nil {
		w.t.Fatal("wait for", name, err)
	}
}

// call invokes a function that must not fail.
func (w *world) call(name, payload string) string {
	w.t.Helper()
	out, err := w.Invoke(w.t.Context(), &lambda.InvokeInput{FunctionName: &name, Payload: []byte(payload)})
	if err != nil {
		w.t.Fatal("invoke", name, err)
	}
	if out.FunctionError != nil {
		w.t.Fatalf("invoke %s: %s: %s", name, *out.FunctionError, out.Payload)
	}
	return string(out.Payload)
}

// zipOf makes an archive; names that end in * are executable.
func zipOf(files map[string]string) []byte {
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for name, body := range files {
		h := &zip.FileHeader{Name: strings.TrimSuffix(name, "*"), Method: zip.Deflate}
		h.SetMode(0o644)
		if h.Name != name {
			h.SetMode(0o755)
		}
		f, err := z.CreateHeader(h)
		if err == nil {
			_, err = io.WriteString(f, body)
		}
		if err != nil {
			panic(err)
		}
	}
	z.Close()
	return buf.Bytes()
}

// linkZip is an archive of one symbolic link.
func linkZip(target string) []byte {
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	h := &zip.FileHeader{Name: "link"}
	h.SetMode(os.ModeSymlink | 0o777)
	f, _ := z.CreateHeader(h)
	io.WriteString(f, target)
	z.Close()
	return buf.Bytes()
}

// bomb is an archive one byte over the limit.
var bomb = sync.OnceValue(func() []byte { return zerosZip(firn.MaxUnzippedBytes + 1) })

// zerosZip unpacks to n bytes.
func zerosZip(n int64) []byte {
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	f, _ := z.Create("zeros")
	io.CopyN(f, zeros{}, n)
	z.Close()
	return buf.Bytes()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// hello is code that is never run.
func hello() []byte { return zipOf(map[string]string{"bootstrap*": "hello"}) }

// actorZip is the function of the tests that run one; built once.
func actorZip(t *testing.T) []byte {
	t.Helper()
	code, err := buildActor()
	if err != nil {
		t.Fatal(err)
	}
	return code
}

var buildActor = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "actor")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "bootstrap")
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", file, "github.com/firn-run/firn/internal/servertest/actor")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the actor: %w\n%s", err, out)
	}
	program, err := os.ReadFile(file)
	return zipOf(map[string]string{"bootstrap*": string(program)}), err
})

// wantFault checks type and message of an error. The type is the SDK's typed
// exception if there is one.
func wantFault(t *testing.T, err error, code, message string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) {
		t.Fatalf("%v, want %s", err, code)
	}
	if api.ErrorCode() != code || api.ErrorMessage() != message {
		t.Errorf("%s: %s\nwant %s: %s", api.ErrorCode(), api.ErrorMessage(), code, message)
	}
	if _, generic := api.(*smithy.GenericAPIError); generic && typed(code) {
		t.Errorf("%s is not the SDK's typed exception", code)
	}
}

// typed are the exceptions of the Lambda model, which the SDK knows.
func typed(code string) bool {
	switch code {
	case "ValidationException", "AccessDeniedException", "NotImplementedException", "RequestEntityTooLargeException", "UnknownOperationException":
		return false
	}
	return true
}

func functionARN(name string) string { return firn.FunctionARN(region, account, name) }
