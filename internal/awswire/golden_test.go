package awswire

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestOperationsGolden shows what a bump of the SDK adds or takes away.
func TestOperationsGolden(t *testing.T) {
	const file = "testdata/operations.txt"
	var lines []string
	for _, op := range openMux().ops {
		lines = append(lines, fmt.Sprintf("%s %s %s %d\n", op.name, op.method, op.uri, op.code))
	}
	slices.Sort(lines)
	got := strings.Join(lines, "")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("operations (-golden +SDK); run with -update when this is meant:\n%s", diff)
	}
}

// TestRoutes finds every operation by its own path, in both forms, and by no
// other method.
func TestRoutes(t *testing.T) {
	m := openMux()
	for _, op := range m.ops {
		path, query, _ := strings.Cut(op.uri, "?")
		var want [maxLabels]string
		for i, label := range op.labels {
			want[i] = []string{"arn:aws:lambda:eu-central-1:123456789012:function:f/x", "$LATEST", "s id"}[i]
			path = strings.Replace(path, "{"+label+"}", []string{"arn%3Aaws%3Alambda%3Aeu-central-1%3A123456789012%3Afunction%3Af%2Fx", "%24LATEST", "s%20id"}[i], 1)
		}
		for _, form := range []string{path, path + "/"} {
			u, err := url.Parse(form + "?" + query)
			if err != nil {
				t.Fatal(err)
			}
			got, labels := m.router.match(op.method, u)
			if got != op || labels != want {
				t.Errorf("%s %s: found %v %q, want %s %q", op.method, form, got, labels, op.name, want)
			}
			if got, _ := m.router.match("PATCH", u); got != nil {
				t.Errorf("PATCH %s: found %s", form, got.name)
			}
		}
	}
}

// TestRouteRaw finds labels that are not encoded, as some clients send them.
func TestRouteRaw(t *testing.T) {
	m := openMux()
	for target, want := range map[string]string{
		"/2015-03-31/functions/f:$LATEST/invocations":                         "Invoke f:$LATEST",
		"/2015-03-31/functions/arn:aws:lambda:r:123456789012:function:f/code": " ", // PUT only
		"/2015-03-31/functions/f%3A%24LATEST/invocations/":                    "Invoke f:$LATEST",
		"/2015-03-31/functions//invocations":                                  "Invoke ",
		"/2015-03-31/functions/a/b/invocations":                               " ",
		"/2015-03-31/functions/f/invocations//":                               " ",
		"//2015-03-31/functions/f/invocations":                                " ",
		"/2015-03-31/functions/%2e%2e/invocations":                            "Invoke ..",
		"/2015-03-31/functions/../functions/f/invocations":                    " ",
		"/":           " ",
		"/2015-03-31": " ",
		"/2018-10-31/layers/l/versions/1/policy/s/x":                                 " ",
		"/2014-11-13/functions/f/invoke-async/":                                      "InvokeAsync f",
		"/2021-11-15/functions/f/response-streaming-invocations?Qualifier=%24LATEST": "InvokeWithResponseStream f",
	} {
		u, err := url.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		name := ""
		op, labels := m.router.match(http.MethodPost, u)
		if op != nil {
			name = op.name
		} else {
			labels[0] = ""
		}
		if got := name + " " + labels[0]; got != want {
			t.Errorf("POST %s: %q, want %q", target, got, want)
		}
	}
}

// TestSiblings tells the two pairs apart that share a method and a path.
func TestSiblings(t *testing.T) {
	m := openMux()
	for target, want := range map[string]string{
		"/2018-10-31/layers":                                                 "ListLayers",
		"/2018-10-31/layers/?Marker=find":                                    "ListLayers",
		"/2018-10-31/layers?find=Other":                                      "ListLayers",
		"/2018-10-31/layers?Arn=a&find=LayerVersion":                         "GetLayerVersionByArn",
		"/2019-09-30/functions/f/provisioned-concurrency?Qualifier=1":        "GetProvisionedConcurrencyConfig",
		"/2019-09-30/functions/f/provisioned-concurrency?List=ALL":           "ListProvisionedConcurrencyConfigs",
		"/2019-09-30/functions/f/provisioned-concurrency/?List=ALL&Marker=m": "ListProvisionedConcurrencyConfigs",
		"/2019-09-25/functions/f/event-invoke-config":                        "GetFunctionEventInvokeConfig",
		"/2019-09-25/functions/f/event-invoke-config/list":                   "ListFunctionEventInvokeConfigs",
	} {
		u, err := url.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		if op, _ := m.router.match(http.MethodGet, u); op == nil || op.name != want {
			t.Errorf("GET %s: %v, want %s", target, op, want)
		}
	}
}
