package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRuntime(t *testing.T) {
	data := t.TempDir()
	registry := httptest.NewServer(http.NotFoundHandler())
	defer registry.Close()
	empty := strings.TrimPrefix(registry.URL, "http://")
	firn := func(args ...string) (status int, out, errs string) {
		var stdout, stderr bytes.Buffer
		status = run(t.Context(), append([]string{"runtime", "--data", data}, args...), &stdout, &stderr)
		return status, stdout.String(), stderr.String()
	}
	if status, out, _ := firn("list"); status != 0 || !strings.Contains(out, "firn runtime build") {
		t.Errorf("empty: %d %s", status, out)
	}
	if status, out, _ := firn("list", "--output", "json"); status != 0 || strings.TrimSpace(out) != "[]" {
		t.Errorf("empty: %d %s", status, out)
	}
	digest := strings.Repeat("ab", 32)
	runtimes := filepath.Join(data, "runtimes")
	manifest := `{"name":"python3.13","digest":"` + digest + `","client":"awslambdaric 4","interpreter":"Python 3.13.0 of /usr","bytes":5242880}`
	if err := errors.Join(os.MkdirAll(filepath.Join(runtimes, "trees", digest, "var"), 0o755),
		os.WriteFile(filepath.Join(runtimes, "names/python3.13.json"), []byte(manifest), 0o644)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"python3.13", "abababababab ", "5 MB", "awslambdaric 4", "Python 3.13.0 of /usr"} {
		if _, out, _ := firn("list"); !strings.Contains(out, want) || strings.Contains(out, "java21") {
			t.Errorf("no %q in %s", want, out)
		}
	}
	if _, out, _ := firn("list", "--all"); !strings.Contains(out, "java21") || strings.Contains(out, "nodejs12.x") || strings.Contains(out, "provided") {
		t.Errorf("all: %s", out)
	}
	var list []map[string]any
	if _, out, _ := firn("list", "--output", "json"); json.Unmarshal([]byte(out), &list) != nil || len(list) != 1 || list[0]["digest"] != digest {
		t.Errorf("json: %s", out)
	}
	for _, test := range []struct{ args, says string }{
		{"list --output xml", "unknown output"},
		{"build", "requires at least 1 arg"},
		{"build java17 java21 --interpreter /x", "one runtime at a time"},
		{"build dotnet8", "dotnet:8"},
		{"build java17 --interpreter /no/such", "java17 [1/5] looking for a JDK"},
		{"pull python3.13 --registry " + empty + "/mirror", "fetch " + empty + "/mirror/python:3.13: "},
		{"pull python3.13 --from /no/such", "firn runtime build python3.13"},
		{"pull java17 java21 --from /no/such", "one runtime at a time"},
		{"pull provided.al2", "bring their own"},
		{"pull nothing", "there is no such runtime"},
		{"remove java17", "firn runtime build java17 --data " + data},
	} {
		if status, _, errs := firn(strings.Fields(test.args)...); status == 0 || !strings.Contains(errs, test.says) {
			t.Errorf("%s: %d %s", test.args, status, errs)
		}
	}
	if status, _, errs := firn("remove", "python3.13"); status != 0 {
		t.Errorf("remove: %s", errs)
	}
	if _, err := os.Stat(filepath.Join(runtimes, "trees", digest)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the tree is still there: %v", err)
	}
}
