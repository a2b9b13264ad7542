package registry

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/smithy-go"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/blob"
	"github.com/firn-run/firn/internal/image/oci"
	"github.com/firn-run/firn/internal/keyring"
	"github.com/firn-run/firn/internal/state"
)

const (
	testRegion  = "eu-central-1"
	testAccount = "123456789012"
	elsewhere   = "999999999999"
)

// clock is the machine's, moved.
type clock struct {
	mu    sync.Mutex
	moved time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.moved)
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.moved += d
}

// rig is a registry over real stores behind a real listener.
type rig struct {
	*Registry
	*ecr.Client
	t     testing.TB
	dir   string
	host  string
	url   string
	clock *clock
	blobs *blob.Store
	keys  *keyring.Keyring
	stop  func()
}

// options are how a test wants its rig.
type options struct {
	dir    string // "" is a new one
	open   bool   // without authentication
	change func(*Config)
}

func newRig(t testing.TB, o options) *rig {
	t.Helper()
	check := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	if o.dir == "" {
		o.dir = t.TempDir()
	}
	rg := &rig{t: t, dir: o.dir, clock: &clock{}}
	dir, err := state.OpenDir(filepath.Join(o.dir, "data"))
	check(err)
	records, err := state.Open(t.Context(), state.Config{Dir: dir})
	check(err)
	rg.keys, err = keyring.Open(keyring.Config{Path: dir.KeyFile(), Account: testAccount})
	check(err)
	rg.blobs, err = blob.Open(filepath.Join(o.dir, "data", "oci"))
	check(err)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	root := firn.Identity{ARN: "arn:aws:iam::" + testAccount + ":root", Account: testAccount, Root: true}
	cfg := Config{
		State: records, Images: oci.New(oci.Config{Blobs: rg.blobs, Logger: log}), Sealer: rg.keys, Anonymous: root,
		Region: testRegion, Account: testAccount, Endpoint: func() string { return rg.url }, Logger: log, Now: rg.clock.now,
	}
	wire := awswire.Config{Logger: log, Anonymous: root}
	if o.open {
		cfg.Sealer = nil
	} else {
		wire.Auth = awswire.NewAuthenticator(awswire.AuthConfig{Credentials: rg.keys, Region: testRegion, Service: "ecr"})
	}
	if o.change != nil {
		o.change(&cfg)
	}
	rg.Registry = New(cfg)
	check(rg.Load(t.Context()))
	api := awswire.NewService(wire, awswire.ECR())
	rg.Mount(api)
	front := awswire.FrontDoor(api)
	server := httptest.NewUnstartedServer(nil)
	server.Config = awswire.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/v2" || strings.HasPrefix(req.URL.Path, "/v2/") {
			rg.Handler().ServeHTTP(w, req)
			return
		}
		front.ServeHTTP(w, req)
	}), log)
	server.Start()
	rg.url, rg.host = server.URL, server.Listener.Addr().String()
	rg.Client = rg.client(rg.keys.Root())

	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- rg.Run(ctx) }()
	rg.stop = sync.OnceFunc(func() {
		server.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := errors.Join(records.Close(), dir.Close()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(rg.stop)
	return rg
}

// again is the same registry after a restart.
func (rg *rig) again() *rig {
	rg.t.Helper()
	rg.stop()
	return newRig(rg.t, options{dir: rg.dir})
}

// client is an SDK client with a key.
func (rg *rig) client(c keyring.Credentials) *ecr.Client {
	return ecr.New(ecr.Options{
		BaseEndpoint: aws.String(rg.url), Region: testRegion, Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, c.SessionToken),
	})
}

// role is a client of an execution role, of any account.
func (rg *rig) role(account string) *ecr.Client {
	rg.t.Helper()
	c, err := rg.keys.Issue("arn:aws:iam::"+account+":role/tester", "session", time.Now().Add(time.Hour))
	if err != nil {
		rg.t.Fatal(err)
	}
	return rg.client(c)
}

// login is what a client's password allows it.
func (rg *rig) login(c *ecr.Client) authn.Authenticator {
	rg.t.Helper()
	out, err := c.GetAuthorizationToken(rg.t.Context(), &ecr.GetAuthorizationTokenInput{})
	if err != nil {
		rg.t.Fatal(err)
	}
	plain, err := base64.StdEncoding.DecodeString(*out.AuthorizationData[0].AuthorizationToken)
	if err != nil {
		rg.t.Fatal(err)
	}
	parts := strings.Split(string(plain), ":") // as the AWS CLI does
	if len(parts) != 2 {
		rg.t.Fatalf("the token has %d parts", len(parts))
	}
	return &authn.Basic{Username: parts[0], Password: parts[1]}
}

// remote is how the root user's client talks to the registry.
func (rg *rig) remote() []remote.Option {
	rg.t.Helper()
	return []remote.Option{remote.WithAuth(rg.login(rg.Client)), remote.WithContext(rg.t.Context()), remote.WithRetryBackoff(remote.Backoff{Steps: 1})}
}

func (rg *rig) ref(s string) name.Reference {
	rg.t.Helper()
	ref, err := name.ParseReference(rg.host + "/" + s)
	if err != nil {
		rg.t.Fatal(err)
	}
	return ref
}

// repo makes a repository.
func (rg *rig) repo(name string, change ...func(*ecr.CreateRepositoryInput)) {
	rg.t.Helper()
	in := &ecr.CreateRepositoryInput{RepositoryName: &name}
	for _, fn := range change {
		fn(in)
	}
	if _, err := rg.CreateRepository(rg.t.Context(), in); err != nil {
		rg.t.Fatal(err)
	}
}

// randomImage is an image for this machine with a few layers.
func randomImage(t testing.TB, layers int) v1.Image {
	t.Helper()
	img, err := random.Image(64<<10, int64(layers))
	if err != nil {
		t.Fatal(err)
	}
	return forHost(t, img, "")
}

// push pushes a new image and returns its digest.
func (rg *rig) push(ref string) string {
	rg.t.Helper()
	img := randomImage(rg.t, 3)
	if err := remote.Write(rg.ref(ref), img, rg.remote()...); err != nil {
		rg.t.Fatal(err)
	}
	d, err := img.Digest()
	if err != nil {
		rg.t.Fatal(err)
	}
	return d.String()
}

// forHost gives an image a platform, by default this machine's, and settings.
func forHost(t testing.TB, img v1.Image, arch string) v1.Image {
	t.Helper()
	cf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cf = cf.DeepCopy()
	cf.OS, cf.Architecture = "linux", arch
	if arch == "" {
		_, cf.Architecture, _ = strings.Cut(oci.HostPlatform(), "/")
	}
	cf.Config.Entrypoint, cf.Config.Cmd = []string{"/lambda-entrypoint.sh"}, []string{"app.handler"}
	cf.Config.Env, cf.Config.WorkingDir = []string{"LANG=en_US.UTF-8"}, "/var/task"
	if img, err = mutate.ConfigFile(img, cf); err != nil {
		t.Fatal(err)
	}
	return img
}

// wantCode checks the exception of an SDK call and returns its message.
func wantCode(t testing.TB, err error, code string) string {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code {
		t.Fatalf("got %v, want %s", err, code)
	}
	return api.ErrorMessage()
}

// do sends a request to the distribution API as the root user.
func (rg *rig) do(method, path string, body []byte, header ...string) *http.Response {
	rg.t.Helper()
	target := path
	if !strings.HasPrefix(path, "http") {
		target = rg.url + path
	}
	req, err := http.NewRequestWithContext(rg.t.Context(), method, target, bytes.NewReader(body))
	if err != nil {
		rg.t.Fatal(err)
	}
	if rg.cfg.Sealer != nil {
		basic, err := rg.login(rg.Client).Authorization()
		if err != nil {
			rg.t.Fatal(err)
		}
		req.SetBasicAuth(basic.Username, basic.Password)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		rg.t.Fatal(err)
	}
	rg.t.Cleanup(func() { _ = res.Body.Close() })
	return res
}
