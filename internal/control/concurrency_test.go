package control_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn/internal/control"
)

// limits remembers what it was told, as the fleet does.
type limits struct {
	mu          sync.Mutex
	reserved    map[string]int
	provisioned map[string]string // "VERSION=N ..." of the shares
}

func newLimits() *limits {
	return &limits{reserved: map[string]int{}, provisioned: map[string]string{}}
}

func (l *limits) SetReserved(arn string, n *int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if delete(l.reserved, arn); n != nil {
		l.reserved[arn] = *n
	}
}

func (l *limits) SetProvisioned(arn string, shares []control.Share) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var parts []string
	for _, s := range shares {
		parts = append(parts, fmt.Sprintf("%s=%d", s.Version.Version, s.N))
	}
	l.provisioned[arn] = strings.Join(parts, " ")
	if shares == nil {
		delete(l.provisioned, arn)
	}
}

func (l *limits) Provisioned(arn string) control.ProvisionStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch l.provisioned[arn] {
	case "1=3":
		return control.ProvisionStatus{Allocated: 3, Available: 2}
	case "1=4":
		return control.ProvisionStatus{Allocated: 1, Status: "FAILED", Reason: "out of memory"}
	}
	return control.ProvisionStatus{}
}

func (l *limits) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.reserved)
	clear(l.provisioned)
}

func (l *limits) told() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.ReplaceAll(fmt.Sprint(l.reserved, l.provisioned), functionARN(""), "")
}

func (w *world) reserve(name string, n int32) error {
	out, err := w.PutFunctionConcurrency(w.t.Context(), &lambda.PutFunctionConcurrencyInput{FunctionName: &name, ReservedConcurrentExecutions: &n})
	if err == nil && *out.ReservedConcurrentExecutions != n {
		w.t.Error(*out.ReservedConcurrentExecutions)
	}
	return err
}

func (w *world) provision(name, qualifier string, n int32) error {
	out, err := w.PutProvisionedConcurrencyConfig(w.t.Context(), &lambda.PutProvisionedConcurrencyConfigInput{FunctionName: &name, Qualifier: &qualifier, ProvisionedConcurrentExecutions: &n})
	if err == nil && (*out.RequestedProvisionedConcurrentExecutions != n || out.Status == "") {
		w.t.Errorf("%+v", out)
	}
	return err
}

func (w *world) unreserved() int32 {
	w.t.Helper()
	out, err := w.GetAccountSettings(w.t.Context(), &lambda.GetAccountSettingsInput{})
	if err != nil {
		w.t.Fatal(err)
	}
	return *out.AccountLimit.UnreservedConcurrentExecutions
}

func TestReservedConcurrency(t *testing.T) {
	told := newLimits()
	w := newWorld(t, options{concurrency: 200, effects: control.Effects{Limits: told}})
	w.versions("f", 1)
	w.create("g", hello())
	if err := w.reserve("f", 0); err != nil || told.told() != "map[f:0] map[]" || w.unreserved() != 200 {
		t.Fatal(err, told.told())
	}
	if err := w.reserve("f", 60); err != nil || w.unreserved() != 140 {
		t.Fatal(err)
	}
	const less = "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100]."
	const functionsOnly = "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. Please specify either a function name or an unqualified function ARN."
	get := func(name string) (*lambda.GetFunctionConcurrencyOutput, error) {
		return w.GetFunctionConcurrency(t.Context(), &lambda.GetFunctionConcurrencyInput{FunctionName: &name})
	}
	remove := func(name string) error {
		_, err := w.DeleteFunctionConcurrency(t.Context(), &lambda.DeleteFunctionConcurrencyInput{FunctionName: &name})
		return err
	}
	check(t, []refusal{
		{"too much", func() error { return w.reserve("g", 41) }, invalidCode, less},
		{"more than before", func() error { return w.reserve("f", 101) }, invalidCode, less},
		{"missing", func() error { return w.reserve("no", 1) }, notFoundCode, "Function not found: " + functionARN("no") + ":$LATEST"},
		{"a version", func() error { return w.reserve("f:1", 1) }, invalidCode, functionsOnly},
		{"get missing", func() error { _, err := get("no"); return err }, notFoundCode, "Function not found: " + functionARN("no")},
		{"delete missing", func() error { return remove("no") }, notFoundCode, "Function not found: " + functionARN("no")},
	})
	if err := w.reserve("g", 40); err != nil || w.unreserved() != 100 {
		t.Fatal("what a refused request wanted is still claimed:", err)
	}
	w.restart()
	if told.told() != "map[f:60 g:40] map[]" || w.unreserved() != 100 {
		t.Error(told.told())
	}
	out, err := w.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: aws.String("f")})
	if err != nil || *out.Concurrency.ReservedConcurrentExecutions != 60 {
		t.Errorf("%+v, %v", out.Concurrency, err)
	}
	if got, err := get("f"); err != nil || *got.ReservedConcurrentExecutions != 60 {
		t.Errorf("%+v, %v", got, err)
	}
	if err := remove("f"); err != nil {
		t.Fatal(err)
	}
	if got, err := get("f"); err != nil || got.ReservedConcurrentExecutions != nil || w.unreserved() != 160 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := w.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: aws.String("g")}); err != nil || told.told() != "map[] map[]" || w.unreserved() != 200 {
		t.Error(err, told.told())
	}
}

// A small account keeps all of its concurrency unreserved.
func TestReservedInSmallAccount(t *testing.T) {
	w := newWorld(t, options{concurrency: 10, effects: control.Effects{Limits: newLimits()}})
	w.create("f", hello())
	wantFault(t, w.reserve("f", 1), invalidCode, "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [10].")
	if err := w.reserve("f", 0); err != nil {
		t.Error("turning a function off:", err)
	}
}

func TestProvisionedConcurrency(t *testing.T) {
	told := newLimits()
	w := newWorld(t, options{concurrency: 200, effects: control.Effects{Limits: told}})
	w.versions("f", 2)
	w.alias("f", "live", "1")
	w.alias("f", "edge", "$LATEST")
	arn := functionARN("f")
	if err := w.provision("f", "live", 3); err != nil || told.told() != "map[] map[f:live:1=3]" {
		t.Fatal(err, told.told())
	}
	if w.unreserved() != 197 {
		t.Error(w.unreserved())
	}
	get := func(qualifier string) (*lambda.GetProvisionedConcurrencyConfigOutput, error) {
		return w.GetProvisionedConcurrencyConfig(t.Context(), &lambda.GetProvisionedConcurrencyConfigInput{FunctionName: aws.String("f"), Qualifier: &qualifier})
	}
	got, err := get("live")
	if err != nil || got.Status != types.ProvisionedConcurrencyStatusEnumInProgress || *got.AllocatedProvisionedConcurrentExecutions != 3 || *got.AvailableProvisionedConcurrentExecutions != 2 {
		t.Errorf("%+v, %v", got, err)
	}
	if err := w.provision("f", "live", 4); err != nil {
		t.Fatal(err)
	}
	if got, err := get("live"); err != nil || got.Status != types.ProvisionedConcurrencyStatusEnumFailed || *got.StatusReason != "out of memory" {
		t.Errorf("%+v, %v", got, err)
	}
	remove := func(qualifier string) error {
		_, err := w.DeleteProvisionedConcurrencyConfig(t.Context(), &lambda.DeleteProvisionedConcurrencyConfigInput{FunctionName: aws.String("f"), Qualifier: &qualifier})
		return err
	}
	const unpublished, published = "Provisioned Concurrency Configs cannot be applied to unpublished function versions.", "The function resource provided must be an alias or a published version."
	check(t, []refusal{
		{"$LATEST", func() error { return w.provision("f", "$LATEST", 1) }, invalidCode, unpublished},
		{"alias of $LATEST", func() error { return w.provision("f", "edge", 1) }, invalidCode, unpublished},
		{"missing function", func() error { return w.provision("no", "1", 1) }, notFoundCode, "Function not found: " + functionARN("no") + ":1"},
		{"alias of a missing function", func() error { return w.provision("no", "a", 1) }, notFoundCode, "Cannot find alias arn: " + functionARN("no") + ":a"},
		{"missing version", func() error { return w.provision("f", "9", 1) }, notFoundCode, "Function not found: " + arn + ":9"},
		{"missing alias", func() error { return w.provision("f", "dead", 1) }, notFoundCode, "Cannot find alias arn: " + arn + ":dead"},
		{"zero", func() error { return w.provision("f", "2", 0) }, validCode, "1 validation error detected: Value '0' at 'provisionedConcurrentExecutions' failed to satisfy constraint: Member must have value greater than or equal to 1"},
		{"version of a provisioned alias", func() error { return w.provision("f", "1", 1) }, conflictCode, "Version is pointed by a Provisioned Concurrency alias"},
		{"more than the account", func() error { return w.provision("f", "2", 201) }, invalidCode, "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [200]."},
		{"more than unreserved", func() error { return w.provision("f", "2", 97) }, invalidCode, "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100]."},
		{"reserved below", func() error { return w.reserve("f", 3) }, invalidCode, " ReservedConcurrentExecutions  3 should not be lower than function's total provisioned concurrency [4]."},
		{"get $LATEST", func() error { _, err := get("$LATEST"); return err }, invalidCode, published},
		{"get none", func() error { _, err := get("2"); return err }, "ProvisionedConcurrencyConfigNotFoundException", "No Provisioned Concurrency Config found for this function"},
		{"get missing alias", func() error { _, err := get("dead"); return err }, notFoundCode, "Cannot find alias arn: " + arn + ":dead"},
		{"delete $LATEST", func() error { return remove("$LATEST") }, invalidCode, published},
		{"delete missing version", func() error { return remove("9") }, notFoundCode, "Function not found: " + arn + ":9"},
		{"list missing", func() error {
			_, err := w.ListProvisionedConcurrencyConfigs(t.Context(), &lambda.ListProvisionedConcurrencyConfigsInput{FunctionName: aws.String("no")})
			return err
		}, notFoundCode, "Function not found: " + functionARN("no")},
	})
	if err := w.provision("f", "2", 5); err != nil {
		t.Fatal(err)
	}
	// An alias cannot go to a version that is provisioned itself.
	_, err = w.UpdateAlias(t.Context(), &lambda.UpdateAliasInput{FunctionName: aws.String("f"), Name: aws.String("live"), FunctionVersion: aws.String("2")})
	wantFault(t, err, conflictCode, "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version")
	if err := remove("2"); err != nil {
		t.Fatal(err)
	}
	if err := w.provision("f", "live", 10); err != nil {
		t.Fatal(err)
	}
	if _, err := w.UpdateAlias(t.Context(), &lambda.UpdateAliasInput{FunctionName: aws.String("f"), Name: aws.String("live"), FunctionVersion: aws.String("2"), RoutingConfig: routing("1", 0.3)}); err != nil {
		t.Fatal(err)
	}
	if want := "map[] map[f:live:1=3 2=7]"; told.told() != want {
		t.Errorf("%s, want %s", told.told(), want)
	}
	if err := w.reserve("f", 12); err != nil {
		t.Fatal(err)
	}
	wantFault(t, w.provision("f", "live", 11), invalidCode, "Alias with weights can not be used with Provisioned Concurrency")
	wantFault(t, w.provision("f", "live", 13), invalidCode, "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function")
	if w.unreserved() != 188 {
		t.Error("provisioned concurrency is part of what is reserved:", w.unreserved())
	}
	told.reset()
	w.restart()
	if want := "map[f:12] map[f:live:1=3 2=7]"; told.told() != want {
		t.Errorf("after a restart %s, want %s", told.told(), want)
	}
	list, err := w.ListProvisionedConcurrencyConfigs(t.Context(), &lambda.ListProvisionedConcurrencyConfigsInput{FunctionName: aws.String("f")})
	if err != nil || len(list.ProvisionedConcurrencyConfigs) != 1 || *list.ProvisionedConcurrencyConfigs[0].FunctionArn != arn+":live" {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := w.DeleteAlias(t.Context(), &lambda.DeleteAliasInput{FunctionName: aws.String("f"), Name: aws.String("live")}); err != nil || told.told() != "map[f:12] map[]" {
		t.Error(err, told.told())
	}
}

// What nobody gives an effect is refused by name, and not stored.
func TestSettingsWithoutEffect(t *testing.T) {
	w := newWorld(t, options{})
	w.versions("f", 1)
	f := aws.String("f")
	var rows []refusal
	for name, call := range map[string]func() error{
		"PutFunctionConcurrency":          func() error { return w.reserve("f", 1) },
		"PutProvisionedConcurrencyConfig": func() error { return w.provision("f", "1", 1) },
		"PutFunctionEventInvokeConfig": func() error {
			_, err := w.PutFunctionEventInvokeConfig(t.Context(), &lambda.PutFunctionEventInvokeConfigInput{FunctionName: f, MaximumRetryAttempts: aws.Int32(1)})
			return err
		},
		"CreateFunctionUrlConfig": func() error {
			_, err := w.CreateFunctionUrlConfig(t.Context(), &lambda.CreateFunctionUrlConfigInput{FunctionName: f, AuthType: types.FunctionUrlAuthTypeNone})
			return err
		},
		"PutFunctionRecursionConfig": func() error {
			_, err := w.PutFunctionRecursionConfig(t.Context(), &lambda.PutFunctionRecursionConfigInput{FunctionName: f, RecursiveLoop: types.RecursiveLoopAllow})
			return err
		},
	} {
		rows = append(rows, refusal{name, call, "NotImplementedException", "firn does not serve " + name + " yet; see DIVERGENCES.md"})
	}
	rows = append(rows, refusal{"UpdateRuntimeOn", func() error {
		_, err := w.PutRuntimeManagementConfig(t.Context(), &lambda.PutRuntimeManagementConfigInput{FunctionName: f, UpdateRuntimeOn: types.UpdateRuntimeOnFunctionUpdate})
		return err
	}, "NotImplementedException", "firn does not serve UpdateRuntimeOn FunctionUpdate yet; it serves Auto; see DIVERGENCES.md"})
	check(t, rows)
}
