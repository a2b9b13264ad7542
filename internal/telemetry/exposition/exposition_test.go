package exposition

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// scrape reads /metrics with Prometheus's own parser.
func scrape(t *testing.T, cfg Config) map[string]*dto.MetricFamily {
	t.Helper()
	cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	server := httptest.NewServer(New(cfg).Handler())
	defer server.Close()
	res, err := http.Get(server.URL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("status %d", res.StatusCode)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// labels are those of a metric, as one string.
func labels(m *dto.Metric) string {
	out := ""
	for _, l := range m.GetLabel() {
		out += l.GetName() + "=" + l.GetValue() + " "
	}
	return out
}

// find returns the metric of a family with these labels.
func find(t *testing.T, families map[string]*dto.MetricFamily, name, want string) *dto.Metric {
	t.Helper()
	for _, m := range families[name].GetMetric() {
		if labels(m) == want {
			return m
		}
	}
	t.Fatalf("%s has nothing with %q, but %v", name, want, families[name].GetMetric())
	return nil
}

func snapshot() Snapshot {
	h := Histogram{Count: 3, Sum: 1.5, Buckets: make([]uint64, len(Bounds())+1)}
	h.Buckets[0], h.Buckets[3], h.Buckets[len(Bounds())] = 1, 1, 1
	return Snapshot{
		Functions: []Function{
			{Name: "f", Resource: "f:live", Version: "3", Invocations: 3, Errors: 1, Throttles: 2, Duration: h, PostRuntime: h},
			{Name: "f", Resource: "f", Version: "$LATEST", Throttles: 1},
		},
		Running: map[string]int64{"f": 2},
		Dropped: map[string]uint64{"emf_invalid": 4},
	}
}

func TestScrape(t *testing.T) {
	families := scrape(t, Config{
		Invocations:  snapshot,
		Environments: func() map[string]int { return map[string]int{"idle": 3, "busy": 1} },
		LinesDropped: func() map[string]uint64 { return map[string]uint64{"queue_full": 7} },
		Version:      "1.2.3", Revision: "abc",
	})
	const live = "function=f resource=f:live version=3 "
	for name, want := range map[string]float64{"firn_lambda_invocations_total": 3, "firn_lambda_errors_total": 1, "firn_lambda_throttles_total": 2} {
		if got := find(t, families, name, live).GetCounter().GetValue(); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	for _, name := range []string{"firn_lambda_duration_seconds", "firn_lambda_post_runtime_extensions_duration_seconds"} {
		h := find(t, families, name, live).GetHistogram()
		if h.GetSampleCount() != 3 || h.GetSampleSum() != 1.5 || len(h.GetBucket()) < len(Bounds()) {
			t.Errorf("%s is %v", name, h)
		}
		for _, b := range h.GetBucket() {
			want := uint64(1)
			if b.GetUpperBound() >= 0.01 {
				want = 2
			}
			if b.GetUpperBound() > 900 {
				want = 3
			}
			if b.GetCumulativeCount() != want {
				t.Errorf("%s: up to %v there are %d, want %d", name, b.GetUpperBound(), b.GetCumulativeCount(), want)
			}
		}
	}
	if n := len(families["firn_lambda_post_runtime_extensions_duration_seconds"].GetMetric()); n != 1 {
		t.Errorf("a function without extensions has their duration: %d", n)
	}
	for _, gauge := range []struct {
		name, labels string
		want         float64
	}{
		{"firn_lambda_concurrent_executions", "function=f ", 2}, {"firn_environments", "state=idle ", 3},
		{"firn_build_info", "revision=abc version=1.2.3 ", 1}, {"firn_exposition_folded_series", "", 0},
	} {
		if got := find(t, families, gauge.name, gauge.labels).GetGauge().GetValue(); got != gauge.want {
			t.Errorf("%s is %v, want %v", gauge.name, got, gauge.want)
		}
	}
	if got := find(t, families, "firn_log_lines_dropped_total", "reason=queue_full ").GetCounter().GetValue(); got != 7 {
		t.Errorf("dropped lines: %v", got)
	}
	if got := find(t, families, "firn_metrics_dropped_total", "reason=emf_invalid ").GetCounter().GetValue(); got != 4 {
		t.Errorf("dropped metrics: %v", got)
	}
	if families["go_goroutines"] == nil {
		t.Error("the metrics of the Go runtime are missing")
	}
}

func TestWithoutSources(t *testing.T) {
	if families := scrape(t, Config{}); families["firn_build_info"] == nil || families["firn_lambda_invocations_total"] != nil {
		t.Errorf("without sources there are %d families", len(families))
	}
}

func TestLabelsAreBounded(t *testing.T) {
	snap := Snapshot{Running: map[string]int64{}}
	for i := range 100 {
		h := Histogram{Count: 1, Sum: 2, Buckets: make([]uint64, len(Bounds())+1)}
		name := fmt.Sprintf("f%03d", i)
		snap.Functions = append(snap.Functions, Function{Name: name, Resource: name, Version: "1", Invocations: 1, Errors: 1, Throttles: 1, Duration: h})
		snap.Running[name] = 1
	}
	families := scrape(t, Config{Invocations: func() Snapshot { return snap }, MaxSeries: 10})
	rest := "function=_other resource=_other version=_other "
	if got := find(t, families, "firn_lambda_invocations_total", rest).GetCounter().GetValue(); got != 90 {
		t.Errorf("the rest has %v invocations, want 90", got)
	}
	if got := find(t, families, "firn_lambda_duration_seconds", rest).GetHistogram().GetSampleSum(); got != 180 {
		t.Errorf("the rest has the duration %v, want 180", got)
	}
	if got := find(t, families, "firn_lambda_concurrent_executions", "function=_other ").GetGauge().GetValue(); got != 90 {
		t.Errorf("the rest has %v running, want 90", got)
	}
	for _, name := range []string{"firn_lambda_invocations_total", "firn_lambda_concurrent_executions"} {
		if n := len(families[name].GetMetric()); n != 11 {
			t.Errorf("%s has %d label sets", name, n)
		}
	}
	if got := find(t, families, "firn_exposition_folded_series", "").GetGauge().GetValue(); got != 90 {
		t.Errorf("%v label sets are told to be folded", got)
	}
}

// Names that are no valid UTF-8, and sources that contradict themselves, cost
// what they touch and not the scrape.
func TestBadSource(t *testing.T) {
	families := scrape(t, Config{Invocations: func() Snapshot {
		return Snapshot{Functions: []Function{{Name: "a\xff", Resource: "a", Version: "1", Invocations: 1}, {Name: "b", Resource: "b", Version: "1", Invocations: 1}, {Name: "b", Resource: "b", Version: "1", Invocations: 2}, {Name: other, Resource: other, Version: other, Invocations: 5}}}
	}})
	for labels, want := range map[string]float64{"function=b resource=b version=1 ": 3, "function=a\uFFFD resource=a version=1 ": 1, "function=_other resource=_other version=_other ": 5} {
		if got := find(t, families, "firn_lambda_invocations_total", labels).GetCounter().GetValue(); got != want {
			t.Errorf("%s has %v, want %v", labels, got, want)
		}
	}
}

// What promtool checks of names, units and help texts.
func TestLint(t *testing.T) {
	server := httptest.NewServer(New(everything()).Handler())
	defer server.Close()
	res, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	problems, err := promlint.New(res.Body).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "firn_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// In OpenMetrics the families of counters lack _total, and none may come
// twice: strict parsers refuse the scrape.
func TestOpenMetrics(t *testing.T) {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept", "application/openmetrics-text;version=1.0.0")
	New(everything()).Handler().ServeHTTP(w, r)
	if kind := w.Header().Get("Content-Type"); !strings.HasPrefix(kind, "application/openmetrics-text; version=1.0.0") {
		t.Error(kind)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(w.Body.String()) {
		if fields := strings.Fields(line); len(fields) == 4 && fields[1] == "TYPE" {
			if seen[fields[2]] {
				t.Errorf("the family %s comes twice", fields[2])
			}
			seen[fields[2]] = true
		}
	}
	for _, name := range []string{"firn_lambda_invocations", "firn_lambda_duration_seconds", "go_memstats_alloc_bytes", "go_gc_heap_allocs_bytes"} {
		if !seen[name] {
			t.Errorf("%s is missing", name)
		}
	}
	if !strings.HasSuffix(w.Body.String(), "# EOF\n") {
		t.Error("no end")
	}
}

// everything is a Config with all there is to show.
func everything() Config {
	return Config{
		Logger:       slog.New(slog.NewTextHandler(io.Discard, nil)),
		Invocations:  snapshot,
		Environments: func() map[string]int { return map[string]int{"idle": 3, "busy": 1} },
		LinesDropped: func() map[string]uint64 { return map[string]uint64{"queue_full": 7} },
		Version:      "1.2.3", Revision: "abc",
	}
}
