package archtest

import (
	"slices"
	"strings"
	"testing"
)

// layers puts every package into a layer; a package may import lower layers
// and package firn only. A folder stands for all that is below it.
func layers() map[string]int {
	return map[string]int{
		"":                    -1, // the vocabulary
		"internal/lifecycle":  0,
		"internal/sigv4":      0,
		"internal/logpattern": 0,
		"internal/timeline":   0,
		"internal/policy":     0,

		"internal/awswire":   1,
		"internal/state":     1,
		"internal/blob":      1,
		"internal/keyring":   1,
		"internal/image":     1,
		"internal/sandbox":   1,
		"internal/telemetry": 1,
		"internal/logstore":  1,
		"internal/queue":     1,
		"internal/runtimes":  1,

		"internal/runtimeapi":   2,
		"internal/telemetryapi": 2,
		"internal/environment":  2,
		"internal/fleet":        2,
		"internal/invoke":       2,
		"internal/async":        2,

		"internal/control":  3,
		"internal/logs":     3,
		"internal/registry": 3,
		"internal/identity": 3,
		"internal/gateway":  3,
		"internal/metrics":  3,
		"internal/trace":    3,

		"internal/server":  4,
		"internal/proving": 5,
		"internal/dev":     5,
		"cmd/firn":         5,
		"cmd/firn-init":    2,
		"bench":            5,
		"e2e":              5,
		"examples":         5,
	}
}

// siblings are the imports allowed inside a layer.
func siblings() [][2]string {
	return [][2]string{
		{"internal/timeline", "internal/lifecycle"},
		{"internal/image", "internal/blob"},
		{"internal/queue", "internal/state"},
		{"internal/runtimes", "internal/image"},
		{"internal/environment", "internal/runtimeapi"},
		{"internal/environment", "internal/telemetryapi"},
		{"internal/fleet", "internal/environment"},
		{"internal/invoke", "internal/fleet"},
		{"internal/invoke", "internal/environment"},
		{"internal/async", "internal/invoke"},
		{"cmd/firn", "internal/server"},
		{"cmd/firn", "internal/proving"},
		{"cmd/firn", "internal/dev"},
	}
}

// testOnly are packages that only tests may import.
func testOnly(pkg string) bool {
	for element := range strings.SplitSeq(pkg, "/") {
		if strings.HasSuffix(element, "test") {
			return true
		}
	}
	return pkg == "internal/require" || pkg == "internal/sandbox/linux/guest"
}

// folder finds the entry of layers for a package.
func folder(pkg string) (string, int, bool) {
	best, layer, found := "", 0, false
	for dir, n := range layers() {
		if (pkg == dir || dir != "" && under(pkg, dir)) && len(dir) >= len(best) {
			best, layer, found = dir, n, true
		}
	}
	return best, layer, found
}

func TestImportDirection(t *testing.T) {
	for _, src := range tree(t) {
		from, fromLayer, known := folder(src.pkg)
		if testOnly(src.pkg) {
			continue
		}
		if !known {
			t.Errorf("%s: package %q stands in no layer; add it to the table", src.path, src.pkg)
			continue
		}
		for _, imp := range src.imports() {
			pkg, ok := local(imp)
			if !ok {
				continue
			}
			if testOnly(pkg) {
				if !src.test {
					t.Errorf("%s imports %s, which is for tests only", src.path, pkg)
				}
				continue
			}
			to, toLayer, known := folder(pkg)
			switch {
			case src.test || !known || from == to || toLayer < fromLayer:
			case toLayer == fromLayer && slices.Contains(siblings(), [2]string{from, to}):
			default:
				t.Errorf("%s (layer %d) must not import %s (layer %d)", src.path, fromLayer, pkg, toLayer)
			}
		}
	}
}

// owners says which packages may import a technology, tests aside.
func owners() map[string][]string {
	return map[string][]string{
		"modernc.org/sqlite": {"internal/state"},
		"database/sql":       {"internal/state"},
		"github.com/aws/aws-sdk-go-v2/service/lambda":         {"internal/control", "internal/awswire", "internal/proving", "internal/dev", "bench", "examples"},
		"github.com/aws/aws-sdk-go-v2/service/lambda/types":   {"internal/control", "internal/awswire", "internal/proving", "internal/dev", "bench", "examples"},
		"github.com/aws/aws-sdk-go-v2/service/lambda/schemas": {"internal/awswire"},
		"github.com/aws/smithy-go":                            {"internal/awswire", "internal/control"},
		"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs": {"internal/logs", "internal/awswire", "cmd/firn"},
		"github.com/aws/aws-sdk-go-v2/service/cloudwatch":     {"internal/metrics", "internal/awswire"},
		"github.com/aws/aws-sdk-go-v2/service/ecr":            {"internal/registry", "internal/awswire"},
		"github.com/google/go-containerregistry":              {"internal/image", "internal/registry"},
		"github.com/klauspost/compress":                       {"internal/image"},
		"github.com/fsnotify/fsnotify":                        {"internal/dev"},
		"github.com/prometheus":                               {"internal/telemetry"},
		"go.opentelemetry.io":                                 {"internal/telemetry"},
		"golang.org/x/sys":                                    {"internal/sandbox", "cmd/firn-init"},
		"gvisor.dev/gvisor":                                   {"internal/sandbox/linux/egress"},
		"github.com/spf13/cobra":                              {"cmd/firn"},
		"github.com/spf13/pflag":                              {"cmd/firn"},
		"flag":                                                {"cmd", "bench", "internal/awswire/gen", "examples"},
		module + "/internal/sandbox/linux":                    {"internal/server", "internal/sandbox/linux", "cmd/firn-init", "bench"},
		module + "/internal/sandbox/process":                  {"internal/server", "internal/sandbox/process"},
	}
}

func TestOneOwnerPerTechnology(t *testing.T) {
	for _, src := range tree(t) {
		if src.test || testOnly(src.pkg) {
			continue
		}
		for _, imp := range src.imports() {
			for tech, allowed := range owners() {
				if !under(imp, tech) {
					continue
				}
				if !slices.ContainsFunc(allowed, func(dir string) bool { return under(src.pkg, dir) }) {
					t.Errorf("%s imports %s, which only %v may", src.path, imp, allowed)
				}
			}
		}
	}
}

// Layer 0 is values in, values out.
func TestPurity(t *testing.T) {
	banned := []string{"os", "net", "net/http", "context", "sync", "sync/atomic", "log/slog", "database/sql", "syscall"}
	for _, src := range tree(t) {
		if _, layer, known := folder(src.pkg); !known || layer != 0 || src.test {
			continue
		}
		for _, imp := range src.imports() {
			if slices.Contains(banned, imp) {
				t.Errorf("%s is pure and must not import %s", src.path, imp)
			}
		}
		if strings.Contains(src.text, "time.Now(") {
			t.Errorf("%s is pure and must not read the clock", src.path)
		}
	}
}

// The vocabulary imports the standard library only.
func TestVocabularyImportsNothing(t *testing.T) {
	for _, src := range tree(t) {
		if src.pkg != "" {
			continue
		}
		for _, imp := range src.imports() {
			if first, _, _ := strings.Cut(imp, "/"); strings.Contains(first, ".") {
				t.Errorf("%s imports %s", src.path, imp)
			}
		}
	}
}
