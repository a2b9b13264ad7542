package control_test

import (
	"math"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn"
)

func routing(version string, weight float64) *types.AliasRoutingConfiguration {
	return &types.AliasRoutingConfiguration{AdditionalVersionWeights: map[string]float64{version: weight}}
}

func TestAliases(t *testing.T) {
	w := newWorld(t, options{})
	w.versions("f", 2)
	arn := functionARN("f")
	made, err := w.CreateAlias(t.Context(), &lambda.CreateAliasInput{FunctionName: aws.String("f"), Name: aws.String("live"), FunctionVersion: aws.String("1"), Description: aws.String("d"), RoutingConfig: routing("2", 0.25)})
	if err != nil || *made.AliasArn != arn+":live" || *made.FunctionVersion != "1" || *made.Description != "d" || made.RoutingConfig.AdditionalVersionWeights["2"] != 0.25 {
		t.Fatalf("%+v, %v", made, err)
	}
	w.restart()
	got, err := w.GetAlias(t.Context(), &lambda.GetAliasInput{FunctionName: &arn, Name: aws.String("live")})
	if err != nil || *got.RevisionId != *made.RevisionId || got.RoutingConfig.AdditionalVersionWeights["2"] != 0.25 {
		t.Fatalf("%+v, %v", got, err)
	}
	// What an update leaves out stays; an empty routing ends it.
	update := func(in lambda.UpdateAliasInput) *lambda.UpdateAliasOutput {
		t.Helper()
		in.FunctionName, in.Name = aws.String("f"), aws.String("live")
		out, err := w.UpdateAlias(t.Context(), &in)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	described := update(lambda.UpdateAliasInput{Description: aws.String("e"), RevisionId: made.RevisionId})
	if *described.Description != "e" || *described.FunctionVersion != "1" || described.RoutingConfig == nil || *described.RevisionId == *made.RevisionId {
		t.Errorf("%+v", described)
	}
	if plain := update(lambda.UpdateAliasInput{RoutingConfig: &types.AliasRoutingConfiguration{}}); plain.RoutingConfig != nil || *plain.Description != "e" {
		t.Errorf("%+v", plain)
	}
	if moved := update(lambda.UpdateAliasInput{FunctionVersion: aws.String("2")}); *moved.FunctionVersion != "2" {
		t.Errorf("%+v", moved)
	}
	if cfg := w.get("f", "live"); *cfg.Version != "2" || *cfg.FunctionArn != arn+":live" {
		t.Errorf("%s %s", *cfg.Version, *cfg.FunctionArn)
	}
	w.alias("f", "beta", "1")
	w.alias("f", "edge", "$LATEST")
	for filter, want := range map[string]string{"": "beta edge live ", "1": "beta ", "2": "live ", "$LATEST": "edge ", "9": ""} {
		in := &lambda.ListAliasesInput{FunctionName: aws.String("f"), MaxItems: aws.Int32(2)}
		if filter != "" {
			in.FunctionVersion = &filter
		}
		names := ""
		for pages := lambda.NewListAliasesPaginator(w.Client, in); pages.HasMorePages(); {
			out, err := pages.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range out.Aliases {
				names += *a.Name + " "
			}
		}
		if names != want {
			t.Errorf("of version %q: %q, want %q", filter, names, want)
		}
	}
	for range 2 { // deleting what is gone succeeds
		if _, err := w.DeleteAlias(t.Context(), &lambda.DeleteAliasInput{FunctionName: aws.String("f"), Name: aws.String("live")}); err != nil {
			t.Fatal(err)
		}
	}
	w.restart()
	_, err = w.GetAlias(t.Context(), &lambda.GetAliasInput{FunctionName: aws.String("f"), Name: aws.String("live")})
	wantFault(t, err, notFoundCode, "Cannot find alias arn: "+arn+":live")
}

func TestAliasesRefuse(t *testing.T) {
	w := newWorld(t, options{})
	w.versions("f", 2)
	if _, err := w.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("f"), Role: aws.String(role + "2")}); err != nil {
		t.Fatal(err)
	}
	w.active("f")
	w.publish("f") // 3
	w.alias("f", "live", "1")
	arn := functionARN("f")
	create := func(function, name, version string, r *types.AliasRoutingConfiguration) func() error {
		return func() error {
			_, err := w.CreateAlias(t.Context(), &lambda.CreateAliasInput{FunctionName: &function, Name: &name, FunctionVersion: &version, RoutingConfig: r})
			return err
		}
	}
	update := func(in lambda.UpdateAliasInput) func() error {
		return func() error {
			in.FunctionName = aws.String("f")
			_, err := w.UpdateAlias(t.Context(), &in)
			return err
		}
	}
	live := aws.String("live")
	check(t, []refusal{
		{"missing function", create("no", "a", "1", nil), notFoundCode, "Function not found: " + functionARN("no") + ":1"},
		{"missing version", create("f", "a", "9", nil), notFoundCode, "Function not found: " + arn + ":9"},
		{"of an alias", create("f:live", "a", "1", nil), invalidCode, "Aliases belong to functions, not to versions or aliases: " + arn + ":live"},
		{"exists", create("f", "live", "1", nil), conflictCode, "Alias already exists: " + arn + ":live"},
		{"a number", create("f", "12", "1", nil), validCode, "1 validation error detected: Value '12' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: (?!^[0-9]+$)([a-zA-Z0-9-_]+)"},
		{"two others", create("f", "a", "1", &types.AliasRoutingConfiguration{AdditionalVersionWeights: map[string]float64{"2": 0.1, "3": 0.1}}), invalidCode, "Number of items in AdditionalVersionWeights cannot be greater than 1"},
		{"itself", create("f", "a", "1", routing("1", 0.5)), invalidCode, "Invalid function version 1. Function version 1 is already included in routing configuration."},
		{"$LATEST shares", create("f", "a", "$LATEST", routing("1", 0.5)), invalidCode, "$LATEST is not supported for an alias pointing to more than 1 version"},
		{"missing other", create("f", "a", "1", routing("9", 0.5)), notFoundCode, "Function not found: " + arn + ":9"},
		{"other role", create("f", "a", "1", routing("3", 0.5)), invalidCode, "Specified versions must be associated with the same execution role"},
		{"update missing", update(lambda.UpdateAliasInput{Name: aws.String("dead")}), notFoundCode, "Alias not found: " + arn + ":dead"},
		{"update revision", update(lambda.UpdateAliasInput{Name: live, RevisionId: aws.String("x")}), preconCode, wrongRev},
		{"update missing version", update(lambda.UpdateAliasInput{Name: live, FunctionVersion: aws.String("9")}), notFoundCode, "Function not found: " + arn + ":9"},
		{"update itself", update(lambda.UpdateAliasInput{Name: live, RoutingConfig: routing("1", 0.5)}), invalidCode, "Invalid function version 1. Function version 1 is already included in routing configuration."},
		{"get of a missing function", func() error {
			_, err := w.GetAlias(t.Context(), &lambda.GetAliasInput{FunctionName: aws.String("no"), Name: live})
			return err
		}, notFoundCode, "Function not found: " + functionARN("no")},
		{"list of a missing function", func() error {
			_, err := w.ListAliases(t.Context(), &lambda.ListAliasesInput{FunctionName: aws.String("no")})
			return err
		}, notFoundCode, "Function not found: " + functionARN("no")},
		{"list, marker", func() error {
			_, err := w.ListAliases(t.Context(), &lambda.ListAliasesInput{FunctionName: aws.String("f"), Marker: aws.String("!")})
			return err
		}, invalidCode, "Invalid Marker: !"},
		{"delete of a missing function", func() error {
			_, err := w.DeleteAlias(t.Context(), &lambda.DeleteAliasInput{FunctionName: aws.String("no"), Name: live})
			return err
		}, notFoundCode, "Function not found: " + functionARN("no")},
	})
	for weight, ok := range map[float64]bool{-0.1: false, 1.1: false, 0: true, 1: true} {
		err := update(lambda.UpdateAliasInput{Name: live, RoutingConfig: routing("2", weight)})()
		if (err == nil) != ok {
			t.Errorf("weight %v: %v", weight, err)
		}
	}
}

// The split is what a binomial test expects of the weight: by chance outside of
// five standard deviations less than once in a million runs.
func TestWeightedAlias(t *testing.T) {
	w := newWorld(t, options{})
	w.versions("f", 2)
	const weight, runs = 0.2, 40000
	if _, err := w.CreateAlias(t.Context(), &lambda.CreateAliasInput{FunctionName: aws.String("f"), Name: aws.String("live"), FunctionVersion: aws.String("1"), RoutingConfig: routing("2", weight)}); err != nil {
		t.Fatal(err)
	}
	hits := map[string]int{}
	for range runs {
		v, arn, err := w.control.Resolve(firn.FunctionRef{Name: "f", Qualifier: "live"})
		if err != nil || arn != functionARN("f")+":live" {
			t.Fatal(arn, err)
		}
		hits[v.Version]++
	}
	deviation := math.Sqrt(runs * weight * (1 - weight))
	if off := math.Abs(float64(hits["2"]) - runs*weight); off > 5*deviation || hits["1"]+hits["2"] != runs {
		t.Errorf("%v, %.1f standard deviations off", hits, off/deviation)
	}
}

// The source of chance decides; the caller is told which version ran.
func TestWeightedInvoke(t *testing.T) {
	var mu sync.Mutex
	next := 0.0
	w := newWorld(t, options{random: func() float64 { mu.Lock(); defer mu.Unlock(); return next }})
	w.create("f", actorZip(t))
	w.publish("f")
	w.describe("f", "two")
	w.publish("f")
	if _, err := w.CreateAlias(t.Context(), &lambda.CreateAliasInput{FunctionName: aws.String("f"), Name: aws.String("live"), FunctionVersion: aws.String("1"), RoutingConfig: routing("2", 0.3)}); err != nil {
		t.Fatal(err)
	}
	for at, want := range map[float64]string{0: "2", 0.299: "2", 0.3: "1", 0.999: "1"} {
		mu.Lock()
		next = at
		mu.Unlock()
		if got := w.invoke("f", "live"); got != want {
			t.Errorf("at %v version %s, want %s", at, got, want)
		}
	}
}
