package control_test

import (
	"context"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/control"
	"github.com/firn-run/firn/internal/image"
)

// gated lets a test hold up and fail the unpacking of archives.
type gated struct {
	*image.Store
	failing atomic.Pointer[error]

	mu   sync.Mutex
	gate chan struct{} // closed: open
}

func gate(opt *options) *gated {
	g := &gated{gate: make(chan struct{})}
	close(g.gate)
	opt.images = func(s *image.Store) control.Images { g.Store = s; return g }
	return g
}

func (g *gated) hold() (release func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	held := make(chan struct{})
	g.gate = held
	return sync.OnceFunc(func() { close(held) })
}

func (g *gated) Function(ctx context.Context, code firn.Digest) (string, error) {
	g.mu.Lock()
	held := g.gate
	g.mu.Unlock()
	select {
	case <-held:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if err := g.failing.Load(); err != nil {
		return "", *err
	}
	return g.Store.Function(ctx, code)
}

func (w *world) configuration(name string) *lambda.GetFunctionConfigurationOutput {
	w.t.Helper()
	out, err := w.GetFunctionConfiguration(w.t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: &name})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func TestUpdateFunctionConfiguration(t *testing.T) {
	w := newWorld(t, options{})
	layer := w.publishLayer("l", zipOf(map[string]string{"f": "x"}))
	w.create("f", hello(), func(in *lambda.CreateFunctionInput) {
		in.Description = aws.String("d")
		in.Environment = &types.Environment{Variables: map[string]string{"KEY": "v"}}
		in.Layers = []string{layer}
		in.Tags = map[string]string{"t": "1"}
	})
	before := w.configuration("f")
	// What is left out stays.
	out, err := w.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("f"), Timeout: aws.Int32(7)})
	if err != nil {
		t.Fatal(err)
	}
	if out.State != types.StateActive || out.LastUpdateStatus != types.LastUpdateStatusInProgress ||
		*out.LastUpdateStatusReason != "The function is being created." || out.LastUpdateStatusReasonCode != "Creating" || *out.RevisionId == *before.RevisionId {
		t.Errorf("%+v", out)
	}
	w.active("f")
	after := w.configuration("f")
	ignore := cmpopts.IgnoreFields(lambda.GetFunctionConfigurationOutput{}, "RevisionId", "LastModified", "ResultMetadata", "Timeout")
	if diff := cmp.Diff(before, after, ignore, cmpopts.IgnoreUnexported(lambda.GetFunctionConfigurationOutput{}, types.EnvironmentResponse{},
		types.EphemeralStorage{}, types.Layer{}, types.LoggingConfig{}, types.SnapStartResponse{}, types.TracingConfigResponse{})); diff != "" || *after.Timeout != 7 {
		t.Errorf("timeout %d, and:\n%s", *after.Timeout, diff)
	}
	// Empty is not the same as left out.
	_, err = w.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{
		FunctionName: aws.String("f"), Layers: []string{}, Environment: &types.Environment{Variables: map[string]string{}}, Description: aws.String(""),
		Role: aws.String(role + "2"), Handler: aws.String("h2"), Runtime: types.RuntimeProvidedal2, MemorySize: aws.Int32(256),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.active("f")
	w.restart()
	cleared := w.configuration("f")
	if cleared.Layers != nil || cleared.Environment != nil || *cleared.Description != "" || *cleared.Role != role+"2" ||
		*cleared.Handler != "h2" || cleared.Runtime != types.RuntimeProvidedal2 || *cleared.MemorySize != 256 || *cleared.Timeout != 7 {
		t.Errorf("%+v", cleared)
	}
	tags, err := w.ListTags(t.Context(), &lambda.ListTagsInput{Resource: aws.String(functionARN("f"))})
	if err != nil || !maps.Equal(tags.Tags, map[string]string{"t": "1"}) {
		t.Errorf("tags %v, %v", tags, err)
	}
}

func TestUpdateErrors(t *testing.T) {
	w := newWorld(t, options{})
	w.create("f", hello())
	revision := w.configuration("f").RevisionId
	code := func(edit func(*lambda.UpdateFunctionCodeInput)) error {
		in := &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("f"), ZipFile: hello()}
		edit(in)
		_, err := w.UpdateFunctionCode(t.Context(), in)
		return err
	}
	config := func(edit func(*lambda.UpdateFunctionConfigurationInput)) error {
		in := &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("f")}
		edit(in)
		_, err := w.UpdateFunctionConfiguration(t.Context(), in)
		return err
	}
	const stale = "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
	for _, test := range []struct {
		name, code, message string
		err                 error
	}{
		{"code of nobody", "ResourceNotFoundException", "Function not found: " + functionARN("no"),
			code(func(in *lambda.UpdateFunctionCodeInput) { in.FunctionName = aws.String("no") })},
		{"no code", "InvalidParameterValueException", "Please provide a source for function code.",
			code(func(in *lambda.UpdateFunctionCodeInput) { in.ZipFile = nil })},
		{"bad code", "InvalidParameterValueException", "Could not unzip uploaded file. Please check your file, then try to upload again.",
			code(func(in *lambda.UpdateFunctionCodeInput) { in.ZipFile = []byte("x") })},
		{"stale code", "PreconditionFailedException", stale,
			code(func(in *lambda.UpdateFunctionCodeInput) { in.RevisionId = aws.String("x") })},
		{"stale dry run", "PreconditionFailedException", stale,
			code(func(in *lambda.UpdateFunctionCodeInput) { in.RevisionId = aws.String("x"); in.DryRun = true })},
		{"version", "InvalidParameterValueException", "Current operation does not support versions other than $LATEST. Please set the version to $LATEST or do not set a version in your request.",
			code(func(in *lambda.UpdateFunctionCodeInput) { in.FunctionName = aws.String("f:1") })},
		{"configuration of nobody", "ResourceNotFoundException", "Function not found: " + functionARN("no"),
			config(func(in *lambda.UpdateFunctionConfigurationInput) { in.FunctionName = aws.String("no") })},
		{"stale configuration", "PreconditionFailedException", stale,
			config(func(in *lambda.UpdateFunctionConfigurationInput) { in.RevisionId = aws.String("x") })},
		{"bad memory", "InvalidParameterValueException", "'MemorySize' value failed to satisfy constraint: Member must have value less than or equal to 10240",
			config(func(in *lambda.UpdateFunctionConfigurationInput) { in.MemorySize = aws.Int32(10241) })},
		{"no such layer", "InvalidParameterValueException", "Layer version " + layerARN("no", 1) + " does not exist.",
			config(func(in *lambda.UpdateFunctionConfigurationInput) { in.Layers = []string{layerARN("no", 1)} })},
	} {
		t.Run(test.name, func(t *testing.T) { wantFault(t, test.err, test.code, test.message) })
	}
	if now := w.configuration("f").RevisionId; *now != *revision {
		t.Error("a refused update changed the function")
	}
	if err := code(func(in *lambda.UpdateFunctionCodeInput) { in.RevisionId = revision }); err != nil {
		t.Error("with the right revision:", err)
	}
}

func TestUpdateFunctionCodeDryRun(t *testing.T) {
	w := newWorld(t, options{})
	w.create("f", hello())
	before := w.configuration("f")
	other := zipOf(map[string]string{"bootstrap*": "other"})
	out, err := w.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("f"), ZipFile: other, DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	if *out.CodeSha256 != shaOf(other) || *out.RevisionId != *before.RevisionId || out.LastUpdateStatus != types.LastUpdateStatusSuccessful {
		t.Errorf("%+v", out)
	}
	if after := w.configuration("f"); *after.CodeSha256 != *before.CodeSha256 {
		t.Error("the dry run changed the code")
	}
	if n := w.countBlobs(); n != 1 {
		t.Errorf("%d archives are stored", n)
	}
}

func (w *world) countBlobs() (n int) {
	for _, err := range w.blobs.List() {
		if err != nil {
			w.t.Fatal(err)
		}
		n++
	}
	return n
}

// TestInProgress holds up the unpacking and looks at what is allowed then.
func TestInProgress(t *testing.T) {
	var opt options
	g := gate(&opt)
	w := newWorld(t, opt)
	release := g.hold()
	defer release()
	if _, err := w.CreateFunction(t.Context(), creation("f", hello())); err != nil {
		t.Fatal(err)
	}
	update := func() error {
		_, err := w.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("f"), ZipFile: zipOf(map[string]string{"bootstrap*": "2"})})
		return err
	}
	const pending = "The operation cannot be performed at this time. The function is currently in the following state: Pending"
	wantFault(t, update(), "ResourceConflictException", pending)
	_, err := w.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("f")})
	wantFault(t, err, "ResourceConflictException", pending)
	// Tags may be changed, and do not keep the function from settling.
	if _, err := w.TagResource(t.Context(), &lambda.TagResourceInput{Resource: aws.String(functionARN("f")), Tags: map[string]string{"k": "v"}}); err != nil {
		t.Fatal(err)
	}
	release()
	w.active("f")
	got, err := w.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: aws.String("f")})
	if err != nil || !maps.Equal(got.Tags, map[string]string{"k": "v"}) {
		t.Errorf("%v, %v", got.Tags, err)
	}

	release = g.hold()
	defer release()
	if err := update(); err != nil {
		t.Fatal(err)
	}
	const progress = "The operation cannot be performed at this time. An update is in progress for resource: "
	wantFault(t, update(), "ResourceConflictException", progress+functionARN("f"))
	_, err = w.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("f")})
	wantFault(t, err, "ResourceConflictException", progress+functionARN("f"))
	// The version before still runs.
	if v, _, err := w.control.Resolve(firn.FunctionRef{Name: "f"}); err != nil || v.Code == "" {
		t.Errorf("%+v, %v", v, err)
	}
	// It can be deleted, and made again, while the settling of the first goes on.
	if _, err := w.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: aws.String("f")}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateFunction(t.Context(), creation("f", hello())); err != nil {
		t.Fatal(err)
	}
	release()
	w.active("f")
	if got := w.configuration("f"); *got.CodeSha256 != shaOf(hello()) {
		t.Error("the deleted function came back")
	}
}

// TestManyChangesWhileHeld makes more changes than any queue might hold while
// nothing can be settled: the API must not stop.
func TestManyChangesWhileHeld(t *testing.T) {
	var opt options
	g := gate(&opt)
	w := newWorld(t, opt)
	release := g.hold()
	defer release()
	code := hello()
	name := aws.String("f")
	for range 1100 { // each time a new function with the same name
		if _, err := w.CreateFunction(t.Context(), creation(*name, code)); err != nil {
			t.Fatal(err)
		}
		if _, err := w.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: name}); err != nil {
			t.Fatal(err)
		}
	}
	release()
	w.create("last", code)
}

func TestFailedUpdateKeepsTheVersionBefore(t *testing.T) {
	var opt options
	g := gate(&opt)
	w := newWorld(t, opt)
	w.create("f", actorZip(t))
	broken := error(firn.Faultf(firn.Service, "no room"))
	g.failing.Store(&broken)
	_, err := w.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("f"), ZipFile: hello()})
	if err != nil {
		t.Fatal(err)
	}
	failed := func(name string) func() bool {
		return func() bool { return w.configuration(name).LastUpdateStatus == types.LastUpdateStatusFailed }
	}
	eventually(t, failed("f"))
	got := w.configuration("f")
	if got.State != types.StateActive || got.LastUpdateStatusReasonCode != types.LastUpdateStatusReasonCodeInternalError || *got.CodeSha256 != shaOf(hello()) {
		t.Errorf("%+v", got)
	}
	// One that never ran is Failed.
	if _, err := w.CreateFunction(t.Context(), creation("new", hello())); err != nil {
		t.Fatal(err)
	}
	eventually(t, failed("new"))
	if got := w.configuration("new"); got.State != types.StateFailed || got.StateReasonCode != types.StateReasonCodeInternalError {
		t.Errorf("%+v", got)
	}
	_, err = w.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("new")})
	wantFault(t, err, "ResourceConflictException", "The operation cannot be performed at this time. The function is currently in the following state: Failed")
	g.failing.Store(nil)
	// The archive of the version before is kept, through sweeps and restarts.
	for range 2 {
		w.control.Sweep(t.Context())
		w.control.Sweep(t.Context())
		if got := w.call("f", `{"a":1}`); got != `{"a":1}` {
			t.Errorf("the version before answers %s", got)
		}
		w.restart()
	}
	// A later update succeeds for both.
	for _, name := range []string{"f", "new"} {
		if _, err := w.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: &name, ZipFile: hello()}); err != nil {
			t.Fatal(err)
		}
		w.active(name)
		if got := w.configuration(name); got.State != types.StateActive || got.StateReason != nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
	w.control.Sweep(t.Context())
	if n := w.countBlobs(); n != 1 {
		t.Errorf("%d archives are left, want the one", n)
	}
}

// eventually polls a condition that the test cannot be told of.
func eventually(t *testing.T, done func() bool) {
	t.Helper()
	deadline, tick := time.Now().Add(waitLimit), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !done() {
		if time.Now().After(deadline) {
			t.Fatal("it never happened")
		}
		<-tick.C
	}
}

func TestWaiters(t *testing.T) {
	w := newWorld(t, options{})
	name := aws.String("f")
	if _, err := w.CreateFunction(t.Context(), creation("f", hello())); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	get, config := &lambda.GetFunctionInput{FunctionName: name}, &lambda.GetFunctionConfigurationInput{FunctionName: name}
	fast := 10 * time.Millisecond
	for what, err := range map[string]error{
		"FunctionExists":   lambda.NewFunctionExistsWaiter(w.Client, func(o *lambda.FunctionExistsWaiterOptions) { o.MinDelay = fast }).Wait(ctx, get, waitLimit),
		"FunctionActiveV2": lambda.NewFunctionActiveV2Waiter(w.Client, func(o *lambda.FunctionActiveV2WaiterOptions) { o.MinDelay = fast }).Wait(ctx, get, waitLimit),
		"FunctionActive":   lambda.NewFunctionActiveWaiter(w.Client, func(o *lambda.FunctionActiveWaiterOptions) { o.MinDelay = fast }).Wait(ctx, config, waitLimit),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := w.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: name, ZipFile: zipOf(map[string]string{"x": "y"})}); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"FunctionUpdatedV2": lambda.NewFunctionUpdatedV2Waiter(w.Client, func(o *lambda.FunctionUpdatedV2WaiterOptions) { o.MinDelay = fast }).Wait(ctx, get, waitLimit),
		"FunctionUpdated":   lambda.NewFunctionUpdatedWaiter(w.Client, func(o *lambda.FunctionUpdatedWaiterOptions) { o.MinDelay = fast }).Wait(ctx, config, waitLimit),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestReferences(t *testing.T) {
	w := newWorld(t, options{})
	w.create("f", hello())
	arn := functionARN("f")
	for name, want := range map[string]string{
		"f": arn, arn: arn, "123456789012:function:f": arn, "function:f": arn, "us-east-1:123456789012:function:f": arn,
		"f:$LATEST": arn + ":$LATEST", arn + ":$LATEST": arn + ":$LATEST",
	} {
		out, err := w.GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: &name})
		if err != nil || *out.FunctionArn != want {
			t.Errorf("%s: %v, %v", name, out, err)
		}
	}
	got, err := w.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: aws.String("f"), Qualifier: aws.String("$LATEST")})
	if err != nil || *got.Configuration.FunctionArn != arn+":$LATEST" {
		t.Errorf("%v, %v", got, err)
	}
	for _, test := range []struct{ name, qualifier, code, message string }{
		{"no", "", "ResourceNotFoundException", "Function not found: " + functionARN("no")},
		{"f:1", "2", "InvalidParameterValueException", "The derived qualifier from the function name does not match the specified qualifier."},
		{"arn:aws:lambda:us-east-1:999999999999:function:f", "", "AccessDeniedException", noMessage},
		{"arn:aws:lambda:eu-west-1:123456789012:function:f", "", "ResourceNotFoundException", "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')"},
		{strings.Repeat("a", 65), "", "ResourceNotFoundException", "Function not found: " + functionARN(strings.Repeat("a", 65))},
		{"a.b", "", "ResourceNotFoundException", "Function not found: " + functionARN("a.b")},
	} {
		in := &lambda.GetFunctionInput{FunctionName: &test.name}
		if test.qualifier != "" {
			in.Qualifier = &test.qualifier
		}
		_, err := w.GetFunction(t.Context(), in)
		wantFault(t, err, test.code, test.message)
		_, err = w.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: in.FunctionName, Qualifier: in.Qualifier})
		wantFault(t, err, test.code, test.message)
	}
	// Get and Delete answer differently; and Delete looks at qualifiers first.
	for _, test := range []struct{ name, qualifier, get, code, del string }{
		{"f", "1", "Function not found: " + arn + ":1", "", ""},
		{"f", "prod", "Function not found: " + arn + ":prod", invalidCode, "Deletion of aliases is not currently supported."},
		{"no", "1", "Function not found: " + functionARN("no") + ":1", notFoundCode, "Function not found: " + functionARN("no")},
		{"no", "prod", "Function not found: " + functionARN("no") + ":prod", invalidCode, "Deletion of aliases is not currently supported."},
		{"no", "$latest", "Function not found: " + functionARN("no") + ":$latest", notFoundCode, "Function not found: " + functionARN("no")},
		{"no", "$LATEST", "Function not found: " + functionARN("no") + ":$LATEST", invalidCode, "$LATEST version cannot be deleted without deleting the function."},
	} {
		_, err := w.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: &test.name, Qualifier: &test.qualifier})
		wantFault(t, err, notFoundCode, test.get)
		_, err = w.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: &test.name, Qualifier: &test.qualifier})
		if test.code == "" && err == nil {
			continue
		}
		wantFault(t, err, test.code, test.del)
	}
	_, err = w.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: aws.String("f"), Qualifier: aws.String("$LATEST")})
	wantFault(t, err, "InvalidParameterValueException", "$LATEST version cannot be deleted without deleting the function.")
	out, err := w.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: &arn})
	if err != nil || out.StatusCode != 204 {
		t.Errorf("%v, %v", out, err)
	}
	_, err = w.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: aws.String("f")})
	wantFault(t, err, "ResourceNotFoundException", "Function not found: "+arn)
}

// escaped is how older command lines write $LATEST into a path.
func TestEscapedLatest(t *testing.T) {
	w := newWorld(t, options{})
	w.create("f", hello())
	for _, path := range []string{"f:%24LATEST", "arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Af%3A%24LATEST"} {
		status, body := fetch(t, w.server.URL+"/2015-03-31/functions/"+path+"/configuration")
		if status != http.StatusOK || !strings.Contains(body, functionARN("f")+":$LATEST") {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}

func fetch(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestLocation(t *testing.T) {
	w := newWorld(t, options{})
	code := hello()
	w.create("f", code)
	other := zipOf(map[string]string{"x": "y"})
	w.create("g", other)
	locationOf := func(name string) string {
		out, err := w.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: &name})
		if err != nil || *out.Code.RepositoryType != "S3" {
			t.Fatal(out, err)
		}
		return *out.Code.Location
	}
	url := locationOf("f")
	if status, body := fetch(t, url); status != http.StatusOK || body != string(code) {
		t.Errorf("%d, %d bytes", status, len(body))
	}
	_, token, _ := strings.Cut(locationOf("g"), "?token=")
	address, own, _ := strings.Cut(url, "?token=")
	for what, forged := range map[string]string{
		"no token": address, "another archive's token": address + "?token=" + token, "cut token": address + "?token=" + own[:len(own)-8],
		"no archive": w.server.URL + control.LocationPath + "?token=" + own, "path": w.server.URL + control.LocationPath + "../key?token=" + own,
	} {
		if status, body := fetch(t, forged); status != http.StatusForbidden {
			t.Errorf("%s: %d %s", what, status, body)
		}
	}
	w.clock.advance(9 * time.Minute)
	if status, _ := fetch(t, url); status != http.StatusOK {
		t.Errorf("after 9 minutes: %d", status)
	}
	w.clock.advance(2 * time.Minute)
	if status, body := fetch(t, url); status != http.StatusForbidden || !strings.Contains(body, "expired") {
		t.Errorf("after 11 minutes: %d %s", status, body)
	}
}

func TestListFunctions(t *testing.T) {
	w := newWorld(t, options{})
	var want []string
	for _, name := range []string{"b", "a", "d", "c", "e", "B"} {
		w.create(name, hello())
		want = append(want, name)
	}
	slices.Sort(want)
	list := func(between func(page int)) (names []string) {
		var marker *string
		for n := 0; ; n++ {
			out, err := w.ListFunctions(t.Context(), &lambda.ListFunctionsInput{MaxItems: aws.Int32(2), Marker: marker})
			if err != nil {
				t.Fatal(err)
			}
			if len(out.Functions) > 2 || n > 10 {
				t.Fatal("too much")
			}
			for _, f := range out.Functions {
				names = append(names, *f.FunctionName)
				if f.State != "" || f.LastUpdateStatus != "" || *f.FunctionArn != functionARN(*f.FunctionName) {
					t.Errorf("%+v", f)
				}
			}
			if marker = out.NextMarker; marker == nil {
				return names
			}
			between(n)
		}
	}
	if got := list(func(int) {}); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	// What goes between two pages, the last one shown too, shifts nothing.
	got := list(func(page int) {
		if page == 0 {
			for _, name := range []string{"a", "d"} {
				w.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: &name})
			}
		}
	})
	if want := []string{"B", "a", "b", "c", "e"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	all, err := w.ListFunctions(t.Context(), &lambda.ListFunctionsInput{FunctionVersion: types.FunctionVersionAll, MasterRegion: aws.String("ALL")})
	if err != nil || len(all.Functions) != 4 || all.NextMarker != nil || *all.Functions[0].FunctionArn != functionARN("B")+":$LATEST" {
		t.Errorf("%+v, %v", all, err)
	}
	other, err := w.ListFunctions(t.Context(), &lambda.ListFunctionsInput{MasterRegion: aws.String("eu-west-1")})
	if err != nil || other.Functions == nil || len(other.Functions) != 0 {
		t.Errorf("%+v, %v", other, err)
	}
	_, err = w.ListFunctions(t.Context(), &lambda.ListFunctionsInput{Marker: aws.String("!!")})
	wantFault(t, err, "InvalidParameterValueException", "Invalid Marker: !!")
	for _, n := range []int32{0, 10001} {
		if _, err := w.ListFunctions(t.Context(), &lambda.ListFunctionsInput{MaxItems: &n}); err == nil || !strings.Contains(err.Error(), "ValidationException") {
			t.Errorf("MaxItems %d: %v", n, err)
		}
	}
}
