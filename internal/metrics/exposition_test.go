package metrics

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/lifecycle"
	"github.com/firn-run/firn/internal/telemetry/exposition"
)

// The scrape and CloudWatch tell the same.
func TestExposition(t *testing.T) {
	f := newFixture(t)
	f.invoke(call{arn: functionARN("f", "live"), version: "3", duration: 30 * time.Millisecond, overhead: 2 * time.Millisecond})
	f.invoke(call{arn: functionARN("f", "live"), version: "3", duration: 700 * time.Millisecond, status: lifecycle.StatusTimeout})
	f.Throttled(&firn.FunctionVersion{Name: "f", Version: "3"}, functionARN("f", "live"))
	running := call{arn: functionARN("f", "live"), version: "3", requestID: "running"}
	f.start(&running)
	f.Observe(AsyncEventsReceived, Of{InvokedARN: functionARN("f", "")}, 1) // of no version, and no counter here
	f.drain(false)                                                          // has no bearing on the counters

	w := httptest.NewRecorder()
	exposition.New(exposition.Config{Logger: quiet(), Invocations: f.Exposition}).Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]float64{"firn_lambda_invocations_total": 2, "firn_lambda_errors_total": 1, "firn_lambda_throttles_total": 1} {
		metrics := families[name].GetMetric()
		if len(metrics) != 1 || metrics[0].GetCounter().GetValue() != want {
			t.Errorf("%s is %v, want %v", name, metrics, want)
		}
		for _, l := range metrics[0].GetLabel() {
			if want := map[string]string{"function": "f", "resource": "f:live", "version": "3"}[l.GetName()]; l.GetValue() != want {
				t.Errorf("%s has the label %v", name, l)
			}
		}
	}
	h := families["firn_lambda_duration_seconds"].GetMetric()[0].GetHistogram()
	if h.GetSampleCount() != 2 || h.GetSampleSum() != 0.73 {
		t.Errorf("durations are %v", h)
	}
	if n := families["firn_lambda_concurrent_executions"].GetMetric()[0].GetGauge().GetValue(); n != 1 {
		t.Errorf("%v are running, want 1", n)
	}
	f.expect(t, "Invocations", dims("FunctionName", "f"), 2, 2)
}
