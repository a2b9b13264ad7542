package control_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/control"
	"github.com/firn-run/firn/internal/image/oci"
)

const repository = "123456789012.dkr.ecr.us-east-1.amazonaws.com/app"

// shop is a registry of images, by tag. A word stands for an image.
type shop struct {
	mu       sync.Mutex
	tags     map[string]string // tag -> word
	resolve  error
	prepare  error
	env      []string      // of every image
	gate     chan struct{} // Prepare waits for it
	requests []control.ImageRequest
}

func newShop() *shop { return &shop{tags: map[string]string{"v1": "one", "v2": "two"}} }

// digestOf is the digest of the image that a word stands for.
func digestOf(word string) firn.Digest {
	return firn.Digest(fmt.Sprintf("sha256:%064x", []byte(word)))
}

func (s *shop) Resolve(_ context.Context, req control.ImageRequest) (*firn.Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, req)
	if s.resolve != nil {
		return nil, oci.Fault(req.URI, s.resolve)
	}
	for tag, word := range s.tags {
		if pinned := repository + "@" + string(digestOf(word)); req.URI == repository+":"+tag || req.URI == pinned {
			return &firn.Image{Digest: digestOf(word), Reference: pinned, Entrypoint: []string{"/entry"}, Command: []string{word}, WorkingDir: "/work", Env: append([]string{"A=b"}, s.env...)}, nil
		}
	}
	return nil, oci.Fault(req.URI, oci.ErrNotFound)
}

func (s *shop) Prepare(ctx context.Context, _ *firn.Image, _ string) error {
	s.mu.Lock()
	gate, err := s.gate, s.prepare
	s.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

// set changes the shop between requests.
func (s *shop) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// hold keeps Prepare waiting.
func (s *shop) hold() (release func()) {
	gate := make(chan struct{})
	s.set(func() { s.gate = gate })
	return sync.OnceFunc(func() { s.set(func() { s.gate = nil }); close(gate) })
}

func imageCreation(name, tag string) *lambda.CreateFunctionInput {
	return &lambda.CreateFunctionInput{
		FunctionName: &name, Role: aws.String(role), PackageType: types.PackageTypeImage, Code: &types.FunctionCode{ImageUri: aws.String(repository + ":" + tag)},
	}
}

func (w *world) createImage(name, tag string) {
	w.t.Helper()
	if _, err := w.CreateFunction(w.t.Context(), imageCreation(name, tag)); err != nil {
		w.t.Fatal(err)
	}
	w.active(name)
}

func (w *world) updateImage(name, tag string) error {
	w.t.Helper()
	_, err := w.UpdateFunctionCode(w.t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: &name, ImageUri: aws.String(repository + ":" + tag)})
	return err
}

// running is the image that an invocation of a function would run.
func (w *world) running(name, qualifier string) *firn.Image {
	w.t.Helper()
	v, _, err := w.control.Resolve(firn.FunctionRef{Name: name, Qualifier: qualifier})
	if err != nil {
		w.t.Fatal(err)
	}
	if v.Runtime != "" || v.Handler != "" || v.Code != "" || v.Layers != nil {
		w.t.Errorf("%+v", v)
	}
	return v.Image
}

// settles waits until a function is in a state.
func (w *world) settles(name string, state types.State) *lambda.GetFunctionConfigurationOutput {
	w.t.Helper()
	deadline := time.Now().Add(waitLimit)
	for {
		cfg := w.configuration(name)
		if cfg.State == state && cfg.LastUpdateStatus != types.LastUpdateStatusInProgress {
			return cfg
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%s is %s (%s), want %s", name, cfg.State, aws.ToString(cfg.StateReason), state)
		}
		time.Sleep(time.Millisecond) // archtest:sleep polls through the API, as its callers do
	}
}

// TestImageFunction follows a function from its creation to its end.
func TestImageFunction(t *testing.T) {
	s := newShop()
	w := newWorld(t, options{registry: s})
	release := s.hold()
	out, err := w.CreateFunction(t.Context(), imageCreation("f", "v1"))
	if err != nil {
		t.Fatal(err)
	}
	sha := strings.TrimPrefix(string(digestOf("one")), "sha256:")
	if out.State != types.StatePending || out.StateReasonCode != types.StateReasonCodeCreating || out.PackageType != types.PackageTypeImage ||
		*out.CodeSha256 != sha || out.CodeSize != 0 || out.Runtime != "" || out.Handler != nil || out.ImageConfigResponse != nil || out.RuntimeVersionConfig != nil {
		t.Errorf("%+v", out)
	}
	if r := s.requests[0]; r.FunctionARN != functionARN("f") || r.Account != account || r.Architecture != architecture() || r.Caller == nil || !r.Caller.Root {
		t.Errorf("%+v", r)
	}
	_, err = w.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("f")})
	wantFault(t, err, "ResourceConflictException", "The operation cannot be performed at this time. The function is currently in the following state: Pending")
	release()
	w.active("f")
	want := &firn.Image{Digest: digestOf("one"), Reference: repository + "@" + string(digestOf("one")), Entrypoint: []string{"/entry"}, Command: []string{"one"}, WorkingDir: "/work", Env: []string{"A=b"}}
	if diff := cmp.Diff(want, w.running("f", "")); diff != "" {
		t.Error(diff)
	}
	get, err := w.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: aws.String("f")})
	location := &types.FunctionCodeLocation{RepositoryType: aws.String("ECR"), ImageUri: aws.String(repository + ":v1"), ResolvedImageUri: &want.Reference}
	if diff := cmp.Diff(location, get.Code, cmpopts.IgnoreUnexported(types.FunctionCodeLocation{})); err != nil || diff != "" {
		t.Error(err, diff)
	}

	if _, err := w.PublishVersion(t.Context(), &lambda.PublishVersionInput{FunctionName: aws.String("f")}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateAlias(t.Context(), &lambda.CreateAliasInput{FunctionName: aws.String("f"), Name: aws.String("live"), FunctionVersion: aws.String("1")}); err != nil {
		t.Fatal(err)
	}
	// While another image comes, and when it is pushed under the same tag, the
	// function answers with the old one.
	s.set(func() { s.tags["v1"] = "two" })
	release = s.hold()
	if err := w.updateImage("f", "v1"); err != nil {
		t.Fatal(err)
	}
	if got := w.running("f", ""); got.Command[0] != "one" {
		t.Errorf("%+v", got)
	}
	if used := w.control.ImagesInUse(); !slices.Equal(used, []firn.Digest{digestOf("one"), digestOf("two")}) {
		t.Errorf("%v", used)
	}
	release()
	w.active("f")
	for range 2 {
		if latest, alias := w.running("f", ""), w.running("f", "live"); latest.Command[0] != "two" || alias.Command[0] != "one" {
			t.Errorf("%+v %+v", latest, alias)
		}
		w.restart()
	}
	settings, err := w.GetAccountSettings(t.Context(), &lambda.GetAccountSettingsInput{})
	if err != nil || settings.AccountUsage.TotalCodeSize != 0 || settings.AccountUsage.FunctionCount != 1 {
		t.Errorf("%+v %v", settings.AccountUsage, err)
	}
	if _, err := w.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: aws.String("f")}); err != nil {
		t.Fatal(err)
	}
	if used := w.control.ImagesInUse(); len(used) > 0 {
		t.Errorf("%v are still in use", used)
	}
}

// TestImageUnsettled stops a node while an image comes: the next one opens its
// API at once, and goes on.
func TestImageUnsettled(t *testing.T) {
	s := newShop()
	w := newWorld(t, options{registry: s})
	release := s.hold()
	if _, err := w.CreateFunction(t.Context(), imageCreation("f", "v1")); err != nil {
		t.Fatal(err)
	}
	w.restart()
	if cfg := w.configuration("f"); cfg.State != types.StatePending {
		t.Errorf("%+v", cfg)
	}
	release()
	w.active("f")
}

// TestImageConfig overrides parts of an image, each by itself.
func TestImageConfig(t *testing.T) {
	w := newWorld(t, options{registry: newShop()})
	in := imageCreation("f", "v1")
	in.ImageConfig = &types.ImageConfig{Command: []string{"other", "two words"}}
	out, err := w.CreateFunction(t.Context(), in)
	if err != nil || out.ImageConfigResponse == nil || !slices.Equal(out.ImageConfigResponse.ImageConfig.Command, in.ImageConfig.Command) {
		t.Fatalf("%+v %v", out, err)
	}
	w.active("f")
	check := func(entry, command []string, dir string) {
		t.Helper()
		got := w.running("f", "")
		if !slices.Equal(got.Entrypoint, entry) || !slices.Equal(got.Command, command) || got.WorkingDir != dir || got.Digest != digestOf("one") {
			t.Errorf("%+v", got)
		}
	}
	check([]string{"/entry"}, []string{"other", "two words"}, "/work")
	update := func(cfg *types.ImageConfig) error {
		_, err := w.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("f"), ImageConfig: cfg, Timeout: aws.Int32(5)})
		if err == nil {
			w.active("f")
		}
		return err
	}
	if err := update(&types.ImageConfig{EntryPoint: []string{"/x"}, WorkingDirectory: aws.String("/y")}); err != nil {
		t.Fatal(err)
	}
	check([]string{"/x"}, []string{"one"}, "/y")
	w.restart()
	check([]string{"/x"}, []string{"one"}, "/y")
	if err := update(nil); err != nil { // left out: stays
		t.Fatal(err)
	}
	check([]string{"/x"}, []string{"one"}, "/y")
	wantFault(t, update(&types.ImageConfig{WorkingDirectory: aws.String("y")}), "InvalidParameterValueException", "WorkingDirectory must be an absolute path: y")
	wantFault(t, update(&types.ImageConfig{Command: []string{"a\x00b"}}), "InvalidParameterValueException", "ImageConfig contains a NUL character")
	if err := update(&types.ImageConfig{Command: []string{strings.Repeat("x", 16<<10-2)}, WorkingDirectory: aws.String("/")}); err == nil {
		t.Error("16 KB and a byte were taken")
	}
	if err := update(&types.ImageConfig{Command: []string{strings.Repeat("x", 16<<10-2)}}); err != nil {
		t.Error(err)
	}
	if err := update(&types.ImageConfig{}); err != nil { // none
		t.Fatal(err)
	}
	check([]string{"/entry"}, []string{"one"}, "/work")
	if cfg := w.configuration("f"); cfg.ImageConfigResponse != nil {
		t.Errorf("%+v", cfg.ImageConfigResponse)
	}
}

// TestImageRefusals has AWS's answers to what does not go with the package
// type, and to images that cannot be had. Nothing is left of them.
func TestImageRefusals(t *testing.T) {
	s := newShop()
	w := newWorld(t, options{registry: s})
	w.create("zip", hello())
	w.createImage("image", "v1")
	const (
		invalid = "InvalidParameterValueException"
		parts   = "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image."
		source  = "Please provide a source for function code."
	)
	for _, c := range []struct {
		name    string
		edit    func(*lambda.CreateFunctionInput)
		code    string
		message string
	}{
		{"runtime", func(in *lambda.CreateFunctionInput) { in.Runtime = types.RuntimeProvidedal2023 }, invalid, parts},
		{"handler", func(in *lambda.CreateFunctionInput) { in.Handler = aws.String("h") }, invalid, parts},
		{"layers", func(in *lambda.CreateFunctionInput) {
			in.Layers = []string{"arn:aws:lambda:us-east-1:123456789012:layer:l:1"}
		}, invalid, parts},
		{"no source", func(in *lambda.CreateFunctionInput) { in.Code = &types.FunctionCode{} }, invalid, source},
		{"archive", func(in *lambda.CreateFunctionInput) { in.Code.ZipFile = hello() }, invalid, "Please don't provide ZipFile when the intended function PackageType is Image."},
		{"package type left out", func(in *lambda.CreateFunctionInput) { in.PackageType = "" }, invalid, "Runtime and Handler are mandatory parameters for functions created with deployment packages."},
		{"image for a zip", func(in *lambda.CreateFunctionInput) {
			*in = *creation("x", nil)
			in.Code.ImageUri = aws.String(repository + ":v1")
		}, invalid, source},
		{"both for a zip", func(in *lambda.CreateFunctionInput) {
			*in = *creation("x", hello())
			in.Code.ImageUri = aws.String(repository + ":v1")
		}, invalid, source},
		{"config for a zip", func(in *lambda.CreateFunctionInput) {
			*in = *creation("x", hello())
			in.ImageConfig = &types.ImageConfig{Command: []string{"c"}}
		}, invalid, "Please don't provide ImageConfig when the intended function PackageType is Zip."},
		{"no such tag", func(in *lambda.CreateFunctionInput) { in.Code.ImageUri = aws.String(repository + ":v9") }, invalid, "Source image " + repository + ":v9 does not exist. Provide a valid source image."},
		{"platform", func(*lambda.CreateFunctionInput) {
			s.resolve = &oci.PlatformError{Want: "linux/a", Have: []string{"linux/b"}}
		}, invalid,
			"The image manifest, config or layer media type for the source image " + repository + ":v1 is not supported. The function runs on linux/a, and the image is for linux/b and not for linux/a."},
		{"large settings", func(*lambda.CreateFunctionInput) { s.env = []string{strings.Repeat("x", 256<<10)} }, invalid,
			"Source image " + repository + ":v1 is not valid: its settings are 262166 bytes, and may be 262144. Provide a valid source image."},
		{"denied", func(*lambda.CreateFunctionInput) { s.resolve = oci.ErrDenied }, "AccessDeniedException", "Lambda does not have permission to access the ECR image. Check the ECR permissions."},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer s.set(func() { s.resolve, s.env = nil, nil })
			in := imageCreation("x", "v1")
			c.edit(in)
			_, err := w.CreateFunction(t.Context(), in)
			wantFault(t, err, c.code, c.message)
			if _, err := w.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: aws.String("x")}); err == nil {
				t.Error("a function is left")
			}
		})
	}
	wantFault(t, w.updateImage("zip", "v1"), invalid, "Please don't provide ImageUri when updating a function with packageType Zip.")
	_, err := w.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("image"), ZipFile: hello()})
	wantFault(t, err, invalid, "Please provide ImageUri when updating a function with packageType Image.")
	for name, in := range map[string]lambda.UpdateFunctionConfigurationInput{
		"runtime": {Runtime: types.RuntimeProvidedal2023}, "handler": {Handler: aws.String("h")}, "layers": {Layers: []string{"arn:aws:lambda:us-east-1:123456789012:layer:l:1"}},
	} {
		in.FunctionName = aws.String("image")
		if _, err := w.UpdateFunctionConfiguration(t.Context(), &in); err == nil || !strings.Contains(err.Error(), parts) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = w.GetFunctionCodeSigningConfig(t.Context(), &lambda.GetFunctionCodeSigningConfigInput{FunctionName: aws.String("image")})
	wantFault(t, err, invalid, "Code signing is not supported for functions created with container images.")
	dry, err := w.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("image"), ImageUri: aws.String(repository + ":v2"), DryRun: true})
	if err != nil || "sha256:"+*dry.CodeSha256 != string(digestOf("two")) || w.running("image", "").Digest != digestOf("one") {
		t.Errorf("%+v %v", dry, err)
	}
}

// TestImageFailures lets images be lost between their creation and their use.
func TestImageFailures(t *testing.T) {
	s := newShop()
	w := newWorld(t, options{registry: s})
	w.createImage("old", "v1")
	for _, c := range []struct {
		err  error
		code types.StateReasonCode
		text string
	}{
		{oci.Fault("x", oci.ErrNotFound), types.StateReasonCodeImageDeleted, "does not exist any more"},
		{oci.Fault("x", oci.ErrDenied), types.StateReasonCodeImageAccessDenied, "Check the ECR permissions."},
		{firn.Faultf(firn.InvalidParameterValue, "ImageLayerFailure: it is bad"), types.StateReasonCodeInvalidImage, "ImageLayerFailure: it is bad"},
		{errors.New("secret detail"), types.StateReasonCodeInternalError, "see firn's log"},
	} {
		t.Run(string(c.code), func(t *testing.T) {
			s.set(func() { s.prepare = c.err })
			defer s.set(func() { s.prepare = nil })
			name := "new-" + string(c.code)
			if _, err := w.CreateFunction(t.Context(), imageCreation(name, "v2")); err != nil {
				t.Fatal(err)
			}
			cfg := w.settles(name, types.StateFailed)
			if cfg.StateReasonCode != c.code || !strings.Contains(*cfg.StateReason, c.text) {
				t.Errorf("%s %s", cfg.StateReasonCode, *cfg.StateReason)
			}
			if err := w.updateImage("old", "v2"); err != nil {
				t.Fatal(err)
			}
			cfg = w.settles("old", types.StateActive)
			if cfg.LastUpdateStatus != types.LastUpdateStatusFailed || string(cfg.LastUpdateStatusReasonCode) != string(c.code) || w.running("old", "").Digest != digestOf("one") {
				t.Errorf("%+v", cfg)
			}
			s.set(func() { s.prepare = nil })
			if err := w.updateImage(name, "v2"); err != nil { // it can be mended
				t.Fatal(err)
			}
			w.settles(name, types.StateActive)
			if err := w.updateImage("old", "v1"); err != nil {
				t.Fatal(err)
			}
			w.active("old")
		})
	}
}
