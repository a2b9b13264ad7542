package runtimes

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn"
)

// Every runtime that the API's model knows is in the catalogue, and no other.
func TestCatalogueIsTheModels(t *testing.T) {
	model := map[string]bool{}
	for _, name := range types.Runtime("").Values() {
		model[string(name)] = true
		if _, ok := Lookup(string(name)); !ok {
			t.Errorf("%s is in the model of the API only", name)
		}
	}
	for _, r := range All() {
		if !model[r.Name] {
			t.Errorf("%s is in the catalogue only", r.Name)
		}
	}
}

func TestCatalogueRows(t *testing.T) {
	name := regexp.MustCompile(`^[a-z][a-z0-9.-]+$`)
	seen := map[string]bool{}
	for _, r := range All() {
		if !name.MatchString(r.Name) || !strings.HasPrefix(r.Name, string(r.Family)) || seen[r.Name] {
			t.Errorf("name %q of family %s", r.Name, r.Family)
		}
		seen[r.Name] = true
		if r.Version == "" || len(r.Architectures) == 0 || r.System == "" || r.Support == "" {
			t.Errorf("%+v is incomplete", r)
		}
		if (r.Refusal() != nil) != (r.Support == Blocked) {
			t.Errorf("%s: %v", r.Name, r.Refusal())
		}
	}
	if _, ok := Lookup("python3.99"); ok {
		t.Error("python3.99 was found")
	}
}

func TestRowFacts(t *testing.T) {
	for name, want := range map[string]struct {
		env, handler, image string
		layers              []string
	}{
		"python3.13":      {"AWS_Lambda_python3.13", "FILE.FUNCTION", "python:3.13", []string{"python/lib/python3.13/site-packages", "python"}},
		"nodejs22.x":      {"AWS_Lambda_nodejs22.x", "FILE.FUNCTION", "nodejs:22", []string{"nodejs/node22/node_modules", "nodejs/node_modules"}},
		"java8.al2":       {"AWS_Lambda_java8.al2", "PACKAGE.CLASS::METHOD", "java:8.al2", []string{"java/lib"}},
		"java17.al2023":   {"AWS_Lambda_java17.al2023", "PACKAGE.CLASS::METHOD", "java:17.al2023", []string{"java/lib"}},
		"java21":          {"AWS_Lambda_java21", "PACKAGE.CLASS::METHOD", "java:21", []string{"java/lib"}},
		"ruby3.3":         {"AWS_Lambda_ruby3.3", "FILE.FUNCTION", "ruby:3.3", []string{"ruby/gems/3.3.0", "ruby/lib"}},
		"dotnet8":         {"AWS_Lambda_dotnet8", "ASSEMBLY::NAMESPACE.CLASS::METHOD", "dotnet:8", nil},
		"go1.x":           {"AWS_Lambda_go1.x", "EXECUTABLE", "go:1", nil},
		"provided.al2023": {"", "", "provided:al2023", nil},
		"provided":        {"", "", "provided:alami", nil},
		"python2.7":       {"AWS_Lambda_python2.7", "FILE.FUNCTION", "", []string{"python/lib/python2.7/site-packages", "python"}},
	} {
		r, ok := Lookup(name)
		if !ok || r.ExecutionEnv() != want.env || r.HandlerFormat() != want.handler || r.BaseImage() != want.image ||
			!slices.Equal(r.LayerPaths(), want.layers) {
			t.Errorf("%s: %q %q %q %q", name, r.ExecutionEnv(), r.HandlerFormat(), r.BaseImage(), r.LayerPaths())
		}
	}
}

func TestRefusal(t *testing.T) {
	r, _ := Lookup("nodejs12.x")
	fault := r.Refusal()
	if fault == nil || fault.Kind != firn.InvalidParameterValue || !strings.Contains(fault.Message, "nodejs12.x is no longer supported") {
		t.Errorf("%v", fault)
	}
}
