// Package exposition shows firn to Prometheus: one handler for /metrics, with
// a registry of its own.
//
// Nothing is counted here. What environments do is counted once, by whoever
// owns the numbers, and a collector asks for a Snapshot when it is scraped:
// an invocation costs no second counter, and the scrape can never disagree
// with CloudWatch's numbers by more than what happened in between.
//
// Labels come from names that users choose, so their number is bounded: beyond
// MaxSeries the rest is added up under function "_other".
package exposition

import (
	"log/slog"
	"net/http"
	"regexp"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
)

// Snapshot is the state of the counters at one moment. All but Running only
// ever grow while the process lives.
type Snapshot struct {
	Functions []Function
	Running   map[string]int64  // invocations in progress by function
	Dropped   map[string]uint64 // what telemetry lost, by reason
}

// Function is the counters of one function as called by one resource.
type Function struct {
	Name     string // of the function
	Resource string // "name" or "name:qualifier", as the caller named it
	Version  string // that was executed

	Invocations, Errors, Throttles uint64
	Duration, PostRuntime          Histogram // seconds
}

// Histogram is a distribution over the bounds that Bounds gives.
type Histogram struct {
	Count   uint64
	Sum     float64  // seconds
	Buckets []uint64 // samples per bucket, not cumulative; one more than Bounds
}

// Bounds are the upper bounds of the histograms' buckets in seconds: from a
// millisecond to Lambda's longest timeout.
func Bounds() []float64 {
	return []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900}
}

// Config is where the numbers come from. Every function may be nil; it is
// called at each scrape, concurrently with itself.
type Config struct {
	Logger *slog.Logger
	// Invocations is the counters of functions.
	Invocations func() Snapshot
	// Environments is how many environments are in which state.
	Environments func() map[string]int
	// LinesDropped is the log lines that were lost, by reason.
	LinesDropped func() map[string]uint64
	// Version and Revision are those of the build.
	Version, Revision string
	// MaxSeries bounds the label sets of functions (0: 2,000).
	MaxSeries int
}

// Exposition is the registry and its handler.
type Exposition struct {
	registry *prometheus.Registry
	log      *slog.Logger
}

// New makes the registry with the collectors of Go, of the process and of
// what cfg names.
func New(cfg Config) *Exposition {
	if cfg.MaxSeries == 0 {
		cfg.MaxSeries = 2000
	}
	e := &Exposition{registry: prometheus.NewRegistry(), log: cfg.Logger}
	e.registry.MustRegister(
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.GoRuntimeMetricsRule{Matcher: regexp.MustCompile(`^/gc/heap/allocs:bytes$`)})),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		newCollector(cfg),
	)
	return e
}

// Handler serves the text formats of Prometheus and OpenMetrics, as the
// scraper asks for. A metric that cannot be gathered is logged and left out.
func (e *Exposition) Handler() http.Handler {
	opts := promhttp.HandlerOpts{
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
		EnableOpenMetrics:   true,
		Registry:            e.registry,
	}
	if e.log != nil {
		opts.ErrorLog = scrapeErrors{e.log}
	}
	return promhttp.HandlerFor(prometheus.GathererFunc(e.gather), opts)
}

// clash is a counter of Go's collector that OpenMetrics, where the name of a
// counter's family lacks _total, cannot tell from the gauge beside it: its
// parsers refuse a whole scrape for that. go_gc_heap_allocs_bytes_total is the
// same number.
const clash = "go_memstats_alloc_bytes_total"

func (e *Exposition) gather() ([]*dto.MetricFamily, error) {
	families, err := e.registry.Gather()
	return slices.DeleteFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == clash }), err
}

// scrapeErrors writes promhttp's errors to the log.
type scrapeErrors struct{ log *slog.Logger }

// Println implements promhttp.Logger.
func (s scrapeErrors) Println(v ...any) {
	s.log.Error("a metric cannot be exposed", "error", v)
}
