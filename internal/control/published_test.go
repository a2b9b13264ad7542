package control_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/go-cmp/cmp"

	"github.com/firn-run/firn"
)

// refusal is a call that must fail in AWS's words.
type refusal struct {
	name          string
	call          func() error
	code, message string
}

func check(t *testing.T, rows []refusal) {
	t.Helper()
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) { wantFault(t, row.call(), row.code, row.message) })
	}
}

const (
	notFoundCode = "ResourceNotFoundException"
	invalidCode  = "InvalidParameterValueException"
	conflictCode = "ResourceConflictException"
	preconCode   = "PreconditionFailedException"
	validCode    = "ValidationException"
	noMessage    = "UnknownError" // what the SDK makes of none
	wrongRev     = "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
)

func (w *world) publish(name string) string {
	w.t.Helper()
	out, err := w.PublishVersion(w.t.Context(), &lambda.PublishVersionInput{FunctionName: &name})
	if err != nil {
		w.t.Fatal("publish", name, err)
	}
	return *out.Version
}

// describe changes the description of $LATEST, so that there is something to
// publish.
func (w *world) describe(name, description string) {
	w.t.Helper()
	if _, err := w.UpdateFunctionConfiguration(w.t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: &name, Description: &description}); err != nil {
		w.t.Fatal(err)
	}
	w.active(name)
}

// versions makes n published versions of a new function.
func (w *world) versions(name string, n int) {
	w.t.Helper()
	w.create(name, hello())
	for i := range n {
		w.describe(name, fmt.Sprint("d", i+1))
		if v := w.publish(name); v != fmt.Sprint(i+1) {
			w.t.Fatalf("version %s, want %d", v, i+1)
		}
	}
}

func (w *world) alias(function, name, version string) *lambda.CreateAliasOutput {
	w.t.Helper()
	out, err := w.CreateAlias(w.t.Context(), &lambda.CreateAliasInput{FunctionName: &function, Name: &name, FunctionVersion: &version})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func TestPublishVersion(t *testing.T) {
	w := newWorld(t, options{})
	w.create("f", hello(), func(in *lambda.CreateFunctionInput) {
		in.Environment = &types.Environment{Variables: map[string]string{"KEY": "1"}}
	})
	first, err := w.PublishVersion(t.Context(), &lambda.PublishVersionInput{FunctionName: aws.String("f"), Description: aws.String("one")})
	if err != nil {
		t.Fatal(err)
	}
	latest := w.configuration("f")
	if *first.Version != "1" || *first.FunctionArn != functionARN("f")+":1" || *first.Description != "one" || first.State != types.StateActive ||
		*first.CodeSha256 != *latest.CodeSha256 || first.Environment.Variables["KEY"] != "1" || *first.RevisionId == *latest.RevisionId {
		t.Errorf("%+v", first)
	}
	// Nothing has changed: no other version, whatever the description.
	again, err := w.PublishVersion(t.Context(), &lambda.PublishVersionInput{FunctionName: aws.String("f"), Description: aws.String("two"), RevisionId: latest.RevisionId, CodeSha256: latest.CodeSha256})
	if err != nil || *again.Version != "1" || *again.Description != "one" {
		t.Errorf("%+v, %v", again, err)
	}
	for i, change := range []*lambda.UpdateFunctionConfigurationInput{
		{Timeout: aws.Int32(9)}, {MemorySize: aws.Int32(256)}, {Environment: &types.Environment{Variables: map[string]string{"KEY": "2"}}}, {Description: aws.String("new")},
	} {
		change.FunctionName = aws.String("f")
		if _, err := w.UpdateFunctionConfiguration(t.Context(), change); err != nil {
			t.Fatal(err)
		}
		w.active("f")
		if v := w.publish("f"); v != fmt.Sprint(i+2) {
			t.Errorf("change %d made version %s", i, v)
		}
	}
	if one := w.get("f", "1"); *one.Timeout != 3 || one.Environment.Variables["KEY"] != "1" || *one.Description != "one" {
		t.Errorf("version 1 has changed: %+v", one)
	}
	// Going back is a change too, since only the last version counts.
	if _, err := w.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("f"), ZipFile: zipOf(map[string]string{"bootstrap*": "other"})}); err != nil {
		t.Fatal(err)
	}
	w.active("f")
	if v := w.publish("f"); v != "6" {
		t.Errorf("other code made version %s", v)
	}
	before := w.get("f", "3")
	w.restart()
	if diff := cmp.Diff(before.Environment, w.get("f", "3").Environment, cmp.AllowUnexported(types.EnvironmentResponse{})); diff != "" {
		t.Error(diff)
	}
	if v := w.publish("f"); v != "6" {
		t.Errorf("a restart made version %s", v)
	}
}

func (w *world) get(name, qualifier string) *lambda.GetFunctionConfigurationOutput {
	w.t.Helper()
	out, err := w.GetFunctionConfiguration(w.t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: &name, Qualifier: &qualifier})
	if err != nil {
		w.t.Fatal(name, qualifier, err)
	}
	return out
}

func TestPublishVersionRefuses(t *testing.T) {
	w := newWorld(t, options{})
	w.versions("f", 1)
	publish := func(in lambda.PublishVersionInput) func() error {
		return func() error { _, err := w.PublishVersion(t.Context(), &in); return err }
	}
	check(t, []refusal{
		{"missing function", publish(lambda.PublishVersionInput{FunctionName: aws.String("no")}), notFoundCode, "Function not found: " + functionARN("no")},
		{"revision", publish(lambda.PublishVersionInput{FunctionName: aws.String("f"), RevisionId: aws.String("x")}), preconCode, wrongRev},
		{"digest", publish(lambda.PublishVersionInput{FunctionName: aws.String("f"), CodeSha256: aws.String("abc=")}), invalidCode,
			"CodeSHA256 (abc=) is different from current CodeSHA256 in $LATEST (" + *w.configuration("f").CodeSha256 + "). Please try again with the CodeSHA256 in $LATEST."},
		{"PublishTo", publish(lambda.PublishVersionInput{FunctionName: aws.String("f"), PublishTo: types.FunctionVersionLatestPublishedLatestPublished}), "NotImplementedException",
			"firn does not serve PublishTo yet: there are no capacity providers; see DIVERGENCES.md"},
		{"of a version", publish(lambda.PublishVersionInput{FunctionName: aws.String("f:1")}), invalidCode, "Current operation does not support versions other than $LATEST. Please set the version to $LATEST or do not set a version in your request."},
	})
}

// The flag Publish makes a version that is settled together with $LATEST.
func TestPublishWithCode(t *testing.T) {
	w := newWorld(t, options{})
	in := creation("f", hello())
	in.Publish = true
	made, err := w.CreateFunction(t.Context(), in)
	if err != nil || *made.Version != "1" || *made.FunctionArn != functionARN("f") || made.State != types.StatePending {
		t.Fatalf("%+v, %v", made, err)
	}
	waiter := lambda.NewPublishedVersionActiveWaiter(w.Client)
	if err := waiter.Wait(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: aws.String("f"), Qualifier: aws.String("1")}, waitLimit); err != nil {
		t.Fatal(err)
	}
	w.active("f")
	update := func(code []byte) *lambda.UpdateFunctionCodeOutput {
		t.Helper()
		out, err := w.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("f"), ZipFile: code, Publish: true})
		if err != nil {
			t.Fatal(err)
		}
		w.active("f")
		return out
	}
	if out := update(hello()); *out.Version != "1" {
		t.Errorf("the same code made version %s", *out.Version)
	}
	if out := update(zipOf(map[string]string{"bootstrap*": "2"})); *out.Version != "2" || *out.FunctionArn != functionARN("f")+":2" {
		t.Errorf("%+v", out)
	}
	if one, two := w.get("f", "1"), w.get("f", "2"); one.State != types.StateActive || two.State != types.StateActive || *one.CodeSha256 == *two.CodeSha256 {
		t.Errorf("%+v %+v", one, two)
	}
}

func TestListVersions(t *testing.T) {
	w := newWorld(t, options{})
	w.versions("f", 11)
	w.create("a-b", hello())
	w.create("a", hello())
	var got []string
	pages := lambda.NewListVersionsByFunctionPaginator(w.Client, &lambda.ListVersionsByFunctionInput{FunctionName: aws.String("f"), MaxItems: aws.Int32(5)})
	for pages.HasMorePages() {
		out, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range out.Versions {
			got = append(got, *v.Version)
			if *v.FunctionArn != functionARN("f")+":"+*v.Version {
				t.Error(*v.FunctionArn)
			}
		}
	}
	if want := []string{"$LATEST", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	for maxItems, want := range map[int32]int{4: 14, 50: 14} {
		seen := map[string]bool{}
		all := lambda.NewListFunctionsPaginator(w.Client, &lambda.ListFunctionsInput{FunctionVersion: types.FunctionVersionAll, MaxItems: &maxItems})
		for all.HasMorePages() {
			out, err := all.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range out.Functions {
				seen[*v.FunctionArn] = true
			}
		}
		if len(seen) != want || !seen[functionARN("a-b")+":$LATEST"] || !seen[functionARN("f")+":10"] {
			t.Errorf("pages of %d: %v", maxItems, seen)
		}
	}
	list := func(name string) func() error {
		return func() error {
			_, err := w.ListVersionsByFunction(t.Context(), &lambda.ListVersionsByFunctionInput{FunctionName: &name})
			return err
		}
	}
	check(t, []refusal{
		{"missing", list("no"), notFoundCode, "Function not found: " + functionARN("no")},
		{"of a version", list("f:1"), invalidCode, "Versions are listed of functions only: " + functionARN("f") + ":1"},
	})
}

// TestCreateAndPublish: a function that is published as it is made answers the
// version, and the ARN of the function, as recorded from AWS.
func TestCreateAndPublish(t *testing.T) {
	opt := options{}
	g := gate(&opt)
	w := newWorld(t, opt)
	release := g.hold()
	in := creation("f", hello())
	in.Publish = true
	out, err := w.CreateFunction(t.Context(), in)
	if err != nil || *out.Version != "1" || *out.FunctionArn != functionARN("f") || out.State != types.StatePending || out.LastUpdateStatus != "" {
		t.Fatalf("%+v, %v", out, err)
	}
	version := w.get("f", "1")
	if *version.FunctionArn != functionARN("f")+":1" || version.State != types.StatePending || version.LastUpdateStatus != "" {
		t.Errorf("%+v", version)
	}
	release()
	w.active("f")
	latest := *w.configuration("f").RevisionId
	w.describe("f", "other")
	if w.publish("f"); latest == *w.configuration("f").RevisionId {
		t.Error("publishing has not changed the revision of $LATEST")
	}
}

func TestDeleteVersion(t *testing.T) {
	w := newWorld(t, options{})
	w.versions("f", 3)
	w.alias("f", "live", "1")
	w.alias("f", "beta", "2")
	if _, err := w.UpdateAlias(t.Context(), &lambda.UpdateAliasInput{FunctionName: aws.String("f"), Name: aws.String("beta"), RoutingConfig: &types.AliasRoutingConfiguration{AdditionalVersionWeights: map[string]float64{"1": 0.1}}}); err != nil {
		t.Fatal(err)
	}
	remove := func(qualifier string) func() error {
		return func() error {
			_, err := w.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: aws.String("f"), Qualifier: &qualifier})
			return err
		}
	}
	check(t, []refusal{
		{"needed by two", remove("1"), conflictCode, "Unable to delete version because the following aliases reference it: [beta, live]"},
		{"needed by one", remove("2"), conflictCode, "Unable to delete version because the following aliases reference it: [beta]"},
		{"an alias", remove("live"), invalidCode, "Deletion of aliases is not currently supported."},
		{"$LATEST", remove("$LATEST"), invalidCode, "$LATEST version cannot be deleted without deleting the function."},
	})
	if err := remove("3")(); err != nil {
		t.Fatal(err)
	}
	if err := remove("3")(); err != nil {
		t.Error("one that is deleted already:", err)
	}
	// Its number is not given again.
	w.describe("f", "next")
	if v := w.publish("f"); v != "4" {
		t.Errorf("version %s after 3 was deleted", v)
	}
	// A function goes with all that it has; another one of its name goes on counting.
	if _, err := w.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: aws.String("f")}); err != nil {
		t.Fatal(err)
	}
	w.restart()
	settings, err := w.GetAccountSettings(t.Context(), &lambda.GetAccountSettingsInput{})
	if err != nil || settings.AccountUsage.TotalCodeSize != 0 {
		t.Errorf("%+v, %v", settings.AccountUsage, err)
	}
	w.create("f", hello())
	if v := w.publish("f"); v != "5" {
		t.Errorf("version %s of a function that was made again", v)
	}
	if _, err := w.GetAlias(t.Context(), &lambda.GetAliasInput{FunctionName: aws.String("f"), Name: aws.String("live")}); err == nil {
		t.Error("the alias outlived its function")
	}
}

// Old code stays as long as a version is of it.
func TestCodeOfVersionsIsKept(t *testing.T) {
	w := newWorld(t, options{})
	w.create("f", actorZip(t))
	w.publish("f")
	old, err := w.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: aws.String("f"), Qualifier: aws.String("1")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("f"), ZipFile: hello()}); err != nil {
		t.Fatal(err)
	}
	w.active("f")
	w.control.Sweep(t.Context())
	w.restart()
	if got := w.invoke("f", "1"); got != "1" {
		t.Errorf("ran %s", got)
	}
	usage := func() int64 {
		settings, err := w.GetAccountSettings(t.Context(), &lambda.GetAccountSettingsInput{})
		if err != nil {
			t.Fatal(err)
		}
		return settings.AccountUsage.TotalCodeSize
	}
	if n := usage(); n != old.Configuration.CodeSize+int64(len(hello())) {
		t.Errorf("%d bytes of code", n)
	}
	if _, err := w.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: aws.String("f"), Qualifier: aws.String("1")}); err != nil {
		t.Fatal(err)
	}
	if n := usage(); n != int64(len(hello())) {
		t.Errorf("%d bytes of code after its version was deleted", n)
	}
}

// invoke runs a function and returns the version that was executed.
func (w *world) invoke(name, qualifier string) string {
	w.t.Helper()
	in := &lambda.InvokeInput{FunctionName: &name, Payload: []byte(`{}`)}
	if qualifier != "" {
		in.Qualifier = &qualifier
	}
	out, err := w.Invoke(w.t.Context(), in)
	if err != nil || out.FunctionError != nil {
		w.t.Fatalf("invoke %s %s: %v %+v", name, qualifier, err, out)
	}
	return *out.ExecutedVersion
}

// Every version has its own environments, and every form of a name leads to
// the right one.
func TestInvokeQualified(t *testing.T) {
	w := newWorld(t, options{})
	w.create("f", actorZip(t))
	w.publish("f")
	w.describe("f", "two")
	w.publish("f")
	w.describe("f", "three")
	w.alias("f", "live", "1")
	w.alias("f", "edge", "$LATEST")
	arn := functionARN("f")
	for name, want := range map[string]string{
		"f": "$LATEST", "f:$LATEST": "$LATEST", "f:1": "1", "f:2": "2", "f:live": "1", "f:edge": "$LATEST", arn: "$LATEST", arn + ":2": "2", arn + ":live": "1",
		account + ":function:f:2": "2", account + ":f:live": "1", "function:f:2": "2",
	} {
		if got := w.invoke(name, ""); got != want {
			t.Errorf("%s ran %s, want %s", name, got, want)
		}
	}
	if got := w.invoke("f", "live"); got != "1" {
		t.Errorf("qualifier live ran %s", got)
	}
	versions := map[string]bool{}
	for _, q := range []string{"", "1", "2"} {
		v, _, err := w.control.Resolve(firn.FunctionRef{Name: "f", Qualifier: q})
		if err != nil {
			t.Fatal(err)
		}
		versions[v.Key] = true
	}
	if len(versions) != 3 {
		t.Errorf("versions share environments: %v", versions)
	}
	run := func(qualifier string) func() error {
		return func() error {
			_, err := w.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("f"), Qualifier: &qualifier})
			return err
		}
	}
	check(t, []refusal{
		{"missing version", run("7"), notFoundCode, "Function not found: " + arn + ":7"},
		{"missing alias", run("dead"), notFoundCode, "Function not found: " + arn + ":dead"},
	})
}

// Concurrent publishing gives each change one version and no number twice.
func TestPublishConcurrently(t *testing.T) {
	w := newWorld(t, options{})
	w.create("f", hello())
	var mu sync.Mutex
	var numbers []string
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			out, err := w.PublishVersion(t.Context(), &lambda.PublishVersionInput{FunctionName: aws.String("f")})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				numbers = append(numbers, err.Error())
				return
			}
			numbers = append(numbers, *out.Version)
		})
	}
	work.Wait()
	if strings.Join(numbers, "") != "11111111" {
		t.Errorf("%q", numbers)
	}
}

// What runs when its version or its function is deleted comes to its end.
func TestDeleteVersionInFlight(t *testing.T) {
	w := newWorld(t, options{})
	w.create("f", actorZip(t), func(in *lambda.CreateFunctionInput) { in.Timeout = aws.Int32(30) })
	w.publish("f")
	w.describe("f", "two")
	w.publish("f")
	w.alias("f", "live", "2")
	w.during("f:1", func() {
		if _, err := w.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: aws.String("f"), Qualifier: aws.String("1")}); err != nil {
			t.Fatal(err)
		}
		_, err := w.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("f:1")})
		wantFault(t, err, notFoundCode, "Function not found: "+functionARN("f")+":1")
	})
	eventually(t, func() bool { return w.fleet.Stats().Environments == 0 })
	w.during("f:live", func() {
		if _, err := w.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: aws.String("f")}); err != nil {
			t.Fatal(err)
		}
		_, err := w.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("f:live")})
		wantFault(t, err, notFoundCode, "Function not found: "+functionARN("f")+":live")
	})
	eventually(t, func() bool { return w.fleet.Stats().Environments == 0 })
}
