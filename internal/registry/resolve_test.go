package registry

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"
	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/image/oci"
)

// ask resolves as the function's owner does at create.
func ask(uri string) Request {
	caller := firn.Identity{ARN: "arn:aws:iam::" + testAccount + ":root", Account: testAccount, Root: true}
	arch := "x86_64"
	if strings.HasSuffix(oci.HostPlatform(), "arm64") {
		arch = "arm64"
	}
	return Request{ImageURI: uri, FunctionARN: "arn:aws:lambda:eu-central-1:" + testAccount + ":function:f", Account: testAccount, Architecture: arch, Caller: &caller}
}

func TestResolve(t *testing.T) {
	rg := newRig(t, options{})
	rg.repo("team/app")
	digest := rg.push("team/app:v1")
	_, port, err := net.SplitHostPort(rg.host)
	if err != nil {
		t.Fatal(err)
	}
	name := ecrHost(testAccount, testRegion)
	for uri, reference := range map[string]string{
		name + "/team/app:v1":                name + "/team/app@" + digest,
		name + "/team/app@" + digest:         name + "/team/app@" + digest,
		rg.host + "/team/app:v1":             rg.host + "/team/app@" + digest,
		"localhost:" + port + "/team/app:v1": "localhost:" + port + "/team/app@" + digest,
		name + "/team/app:v1@" + digest:      name + "/team/app@" + digest,
	} {
		got, err := rg.Resolve(t.Context(), ask(uri))
		if err != nil {
			t.Errorf("%s: %v", uri, err)
			continue
		}
		want := firn.Image{
			Digest: firn.Digest(digest), Reference: reference, Entrypoint: []string{"/lambda-entrypoint.sh"}, Command: []string{"app.handler"},
			WorkingDir: "/var/task", Env: []string{"LANG=en_US.UTF-8"},
		}
		if diff := cmp.Diff(want, got.Image); diff != "" || !got.Here || got.Size < 3*64<<10 {
			t.Errorf("%s: %+v\n%s", uri, got, diff)
		}
		if err := rg.Fetch(t.Context(), &got.Image, ask(uri).Architecture); err != nil {
			t.Error(err)
		}
	}
	// What was pinned stays, wherever the tag goes.
	rg.push("team/app:v1")
	got, err := rg.Resolve(t.Context(), ask(name+"/team/app@"+digest))
	if err != nil || string(got.Image.Digest) != digest {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestResolveRefused(t *testing.T) {
	rg := newRig(t, options{})
	rg.repo("app")
	rg.push("app:v1")
	own := ecrHost(testAccount, testRegion)
	other := "arm64"
	if ask("").Architecture == other {
		other = "amd64"
	}
	if err := remote.Write(rg.ref("app:foreign"), forHost(t, randomImage(t, 1), other), rg.remote()...); err != nil {
		t.Fatal(err)
	}
	config := []byte("{}")
	expect(t, rg.do("POST", "/v2/app/blobs/uploads/?digest="+digestOf(config), config), http.StatusCreated)
	chart := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":"` + digestOf(config) + `","size":2},"layers":[]}`)
	expect(t, rg.do("PUT", "/v2/app/manifests/chart", chart), http.StatusCreated)

	for uri, want := range map[string]string{
		own + "/app:absent":                           "does not exist. Provide a valid source image.",
		own + "/absent:v1":                            "does not exist. Provide a valid source image.",
		own + "/app@" + digestOf([]byte("x")):         "does not exist. Provide a valid source image.",
		ecrHost(testAccount, "us-west-2") + "/app:v1": "is not valid. Provide a valid source image.",
		"app:v1":                      "is not valid. Provide a valid source image.",
		"registry.example.com/app:v1": "is not valid. Provide a valid source image.",
		own + "/APP:v1":               "is not valid. Provide a valid source image.",
		"":                            "is not valid. Provide a valid source image.",
		own + "/app@sha512:" + strings.Repeat("0", 128): "is not valid. Provide a valid source image.",
		own + "/app:chart":   "The image manifest, config or layer media type for the source image " + own + "/app:chart is not supported.",
		own + "/app:foreign": "The image manifest, config or layer media type for the source image " + own + "/app:foreign is not supported. ",
	} {
		_, err := rg.Resolve(t.Context(), ask(uri))
		var fault *firn.Fault
		if !errors.As(err, &fault) || fault.Kind != firn.InvalidParameterValue || !strings.Contains(fault.Message, want) || !strings.Contains(fault.Message, uri) {
			t.Errorf("%q: got %v, want %q", uri, err, want)
		}
	}
	_, err := rg.Resolve(t.Context(), ask(ecrHost(elsewhere, testRegion)+"/app:v1"))
	if firn.KindOf(err) != firn.AccessDenied || !errors.Is(err, oci.ErrDenied) {
		t.Errorf("another account's: %v", err)
	}
}

// An index stands for the image of the function's architecture.
func TestResolveIndex(t *testing.T) {
	rg := newRig(t, options{})
	rg.repo("app")
	var index v1.ImageIndex = empty.Index
	digests := map[string]string{}
	for arch, aws := range map[string]string{"amd64": "x86_64", "arm64": "arm64"} {
		img := forHost(t, randomImage(t, 1), arch)
		d, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		digests[aws] = d.String()
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	// As BuildKit attaches provenance.
	index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: randomImage(t, 1), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"}}})
	if err := remote.WriteIndex(rg.ref("app:multi"), index, rg.remote()...); err != nil {
		t.Fatal(err)
	}
	for aws, want := range digests {
		req := ask(rg.host + "/app:multi")
		req.Architecture = aws
		got, err := rg.Resolve(t.Context(), req)
		if err != nil || string(got.Image.Digest) != want {
			t.Errorf("%s: %+v, %v", aws, got, err)
		}
	}
}

// Post on cross-account access: one statement lets the other account's owner
// create the function, the other lets Lambda fetch the image again.
func TestResolveAcrossAccounts(t *testing.T) {
	rg := newRig(t, options{})
	name := "cross-account-function"
	rg.repo(name)
	rg.push(name + ":01")
	caller := firn.Identity{ARN: "arn:aws:iam::" + elsewhere + ":user/dev", Account: elsewhere}
	req := ask(ecrHost(testAccount, testRegion) + "/" + name + ":01")
	req.Account, req.FunctionARN = elsewhere, "arn:aws:lambda:eu-central-1:"+elsewhere+":function:f"
	create, again := req, req
	create.Caller, again.Caller = &caller, nil
	check := func(what string, req Request, allowed bool) {
		t.Helper()
		_, err := rg.Resolve(t.Context(), req)
		if allowed && err != nil || !allowed && (firn.KindOf(err) != firn.AccessDenied || !errors.Is(err, oci.ErrDenied)) {
			t.Errorf("%s: %v", what, err)
		}
	}
	set := func(text string) {
		t.Helper()
		if _, err := rg.SetRepositoryPolicy(t.Context(), &ecr.SetRepositoryPolicyInput{RepositoryName: &name, PolicyText: &text}); err != nil {
			t.Fatal(err)
		}
	}
	const forAccount = `{"Sid":"CrossAccountPermission","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::999999999999:root"},"Action":["ecr:BatchGetImage","ecr:GetDownloadUrlForLayer"]}`
	const forLambda = `{"Sid":"LambdaECRImageCrossAccountRetrievalPolicy","Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},
		"Action":["ecr:BatchGetImage","ecr:GetDownloadUrlForLayer"],"Condition":{"StringLike":{"aws:sourceArn":"arn:aws:lambda:eu-central-1:999999999999:function:*"}}}`
	check("create without a policy", create, false)
	check("fetch without a policy", again, false)
	set(`{"Version":"2012-10-17","Statement":[` + forAccount + `,` + forLambda + `]}`)
	check("create", create, true)
	check("fetch", again, true)
	foreign := again
	foreign.FunctionARN, foreign.Account = "arn:aws:lambda:eu-central-1:111111111111:function:f", "111111111111"
	check("fetch for a third account", foreign, false)
	set(`{"Version":"2012-10-17","Statement":[` + forAccount + `]}`)
	check("create with one statement", create, true)
	check("fetch with one statement", again, false)
	// In its own account Lambda needs nothing, but what forbids it.
	home := ask(ecrHost(testAccount, testRegion) + "/" + name + ":01")
	home.Caller = nil
	check("fetch at home", home, true)
	set(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":{"Service":"lambda.amazonaws.com"},"Action":"ecr:*"}]}`)
	check("fetch at home, denied", home, false)
}

// An image of another registry is resolved without its layers, then fetched.
func TestForeign(t *testing.T) {
	far := newRig(t, options{})
	far.repo("app")
	digest := far.push("app:v1")
	password := far.login(far.Client)
	basic, err := password.Authorization()
	if err != nil {
		t.Fatal(err)
	}
	near := newRig(t, options{change: func(c *Config) {
		c.Foreign = func(host string) (oci.PullOptions, bool) {
			return oci.PullOptions{Auth: oci.Auth{Username: basic.Username, Password: basic.Password}}, host == far.host
		}
	}})
	got, err := near.Resolve(t.Context(), ask(far.host+"/app:v1"))
	if err != nil || got.Here || string(got.Image.Digest) != digest || got.Image.Reference != far.host+"/app@"+digest {
		t.Fatalf("%+v, %v", got, err)
	}
	arch := ask("").Architecture
	if err := near.Fetch(t.Context(), &got.Image, arch); err != nil {
		t.Fatal(err)
	}
	if _, err := near.cfg.Images.Image(got.Image.Digest, ""); err != nil {
		t.Error(err)
	}
	if again, err := near.Resolve(t.Context(), ask(far.host+"/app:v1")); err != nil || !again.Here {
		t.Errorf("%+v, %v", again, err)
	}
	for uri, want := range map[string]error{
		far.host + "/app:absent": oci.ErrNotFound, far.host + "/absent:v1": oci.ErrNotFound, "other.example.com/app:v1": oci.ErrReference,
	} {
		if _, err := near.Resolve(t.Context(), ask(uri)); !errors.Is(err, want) || firn.KindOf(err) != firn.InvalidParameterValue {
			t.Errorf("%s: %v", uri, err)
		}
	}
	basic.Password = "wrong"
	if _, err := near.Resolve(t.Context(), ask(far.host+"/app:v1")); !errors.Is(err, oci.ErrDenied) {
		t.Errorf("with a wrong password: %v", err)
	}
}

// The collector takes what nothing refers to, once it is old, and nothing else.
func TestSweep(t *testing.T) {
	var inUse []firn.Digest
	rg := newRig(t, options{change: func(c *Config) { c.InUse = func() []firn.Digest { return inUse } }})
	count := func() (n int) {
		t.Helper()
		for _, err := range rg.blobs.List() {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		return n
	}
	sweep := func() int {
		t.Helper()
		if err := rg.Sweep(context.Background()); err != nil {
			t.Fatal(err)
		}
		return count()
	}
	name := "app"
	rg.repo(name)
	used, unused := rg.push("app:used"), rg.push("app:unused")
	kept := rg.push("app:kept")
	orphan := []byte("a layer whose image never came")
	expect(t, rg.do("POST", "/v2/app/blobs/uploads/?digest="+digestOf(orphan), orphan), http.StatusCreated)
	const parts = 5 // of an image: manifest, configuration, 3 layers
	if got := sweep(); got != 3*parts+1 {
		t.Fatalf("%d blobs, want %d", got, 3*parts+1)
	}
	inUse = []firn.Digest{firn.Digest(used), oci.Prefixed(firn.Digest(strings.Repeat("0", 64)))}
	if _, err := rg.BatchDeleteImage(t.Context(), &ecr.BatchDeleteImageInput{RepositoryName: &name, ImageIds: []types.ImageIdentifier{{ImageDigest: &used}, {ImageDigest: &unused}}}); err != nil {
		t.Fatal(err)
	}
	if got := sweep(); got != 3*parts+1 {
		t.Errorf("%d blobs are left of %d young ones", got, 3*parts+1)
	}
	rg.clock.move(25 * time.Hour)
	if got := sweep(); got != 2*parts {
		t.Errorf("%d blobs, want %d: of the image in use and the one kept", got, 2*parts)
	}
	if _, err := rg.cfg.Images.Image(firn.Digest(used), ""); err != nil {
		t.Error(err)
	}
	if _, err := remote.Get(rg.ref("app@"+kept), remote.WithAuth(rg.login(rg.Client))); err != nil {
		t.Error(err)
	}
	expect(t, rg.do("HEAD", "/v2/app/blobs/"+digestOf(orphan), nil), http.StatusNotFound)
	// An image in use that is not in its repository any more is deleted to
	// whoever fetches it again.
	if _, err := rg.Resolve(t.Context(), ask(rg.host+"/app@"+used)); !errors.Is(err, oci.ErrNotFound) {
		t.Error(err)
	}
	inUse = nil
	if got := sweep(); got != parts {
		t.Errorf("%d blobs, want %d", got, parts)
	}
}

// Uploads that rest are ended, and leave no file.
func TestIdleUploads(t *testing.T) {
	rg := newRig(t, options{})
	rg.repo("app")
	at := expect(t, rg.do("POST", "/v2/app/blobs/uploads/", nil), http.StatusAccepted).Header.Get("Location")
	expect(t, rg.do("PATCH", at, []byte("a beginning")), http.StatusAccepted)
	rg.endUploads(rg.clock.now().Add(-time.Hour))
	expect(t, rg.do("GET", at, nil), http.StatusNoContent)
	rg.clock.move(2 * time.Hour)
	rg.endUploads(rg.clock.now().Add(-time.Hour))
	// The password is still good: it holds for longer.
	expect(t, rg.do("GET", at, nil), http.StatusNotFound)
	left, err := filepath.Glob(filepath.Join(rg.dir, "data", "oci", "tmp", "*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
