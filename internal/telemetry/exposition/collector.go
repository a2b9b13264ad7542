package exposition

import (
	"cmp"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// other is the function's name under which the rest is added up.
const other = "_other"

// collector turns snapshots into metrics at scrape time.
type collector struct {
	cfg                                 Config
	invocations, errors, throttles      *prometheus.Desc
	duration, postRuntime               *prometheus.Desc
	concurrent, environments            *prometheus.Desc
	linesDropped, dropped, build, folds *prometheus.Desc
}

func newCollector(cfg Config) *collector {
	function := []string{"function", "resource", "version"}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("firn_"+name, help, labels, nil)
	}
	return &collector{
		cfg:          cfg,
		invocations:  desc("lambda_invocations_total", "Invocations that ended, by function, the resource the caller named, and executed version.", function...),
		errors:       desc("lambda_errors_total", "Invocations that ended with an error, a failure or a timeout.", function...),
		throttles:    desc("lambda_throttles_total", "Requests that were refused for lack of concurrency.", function...),
		duration:     desc("lambda_duration_seconds", "Duration of invocations.", function...),
		postRuntime:  desc("lambda_post_runtime_extensions_duration_seconds", "Time extensions took after the runtime was done.", function...),
		concurrent:   desc("lambda_concurrent_executions", "Invocations in progress.", "function"),
		environments: desc("environments", "Execution environments by state.", "state"),
		linesDropped: desc("log_lines_dropped_total", "Log lines that were lost, by reason.", "reason"),
		dropped:      desc("metrics_dropped_total", "Metric data that was lost, by reason.", "reason"),
		build:        desc("build_info", "The build that runs; always 1.", "version", "revision"),
		folds:        desc("exposition_folded_series", "Label sets that were added up under function \""+other+"\"."),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.invocations, c.errors, c.throttles, c.duration, c.postRuntime,
		c.concurrent, c.environments, c.linesDropped, c.dropped, c.build, c.folds} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(c.build, prometheus.GaugeValue, 1, c.cfg.Version, c.cfg.Revision)
	if c.cfg.Invocations != nil {
		c.collectFunctions(ch, c.cfg.Invocations())
	}
	if c.cfg.Environments != nil {
		for state, n := range c.cfg.Environments() {
			ch <- prometheus.MustNewConstMetric(c.environments, prometheus.GaugeValue, float64(n), state)
		}
	}
	if c.cfg.LinesDropped != nil {
		for reason, n := range c.cfg.LinesDropped() {
			ch <- prometheus.MustNewConstMetric(c.linesDropped, prometheus.CounterValue, float64(n), reason)
		}
	}
}

func (c *collector) collectFunctions(ch chan<- prometheus.Metric, snap Snapshot) {
	functions, folded := fold(snap.Functions, c.cfg.MaxSeries)
	ch <- prometheus.MustNewConstMetric(c.folds, prometheus.GaugeValue, float64(folded))
	for i := range functions {
		f := &functions[i]
		labels := []string{f.Name, f.Resource, f.Version}
		ch <- prometheus.MustNewConstMetric(c.invocations, prometheus.CounterValue, float64(f.Invocations), labels...)
		ch <- prometheus.MustNewConstMetric(c.errors, prometheus.CounterValue, float64(f.Errors), labels...)
		ch <- prometheus.MustNewConstMetric(c.throttles, prometheus.CounterValue, float64(f.Throttles), labels...)
		ch <- f.Duration.metric(c.duration, labels)
		if f.PostRuntime.Count > 0 {
			ch <- f.PostRuntime.metric(c.postRuntime, labels)
		}
	}
	running, rest := 0, int64(0)
	names := make([]string, 0, len(snap.Running))
	for name := range snap.Running {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if running++; running > c.cfg.MaxSeries {
			rest += snap.Running[name]
			continue
		}
		ch <- prometheus.MustNewConstMetric(c.concurrent, prometheus.GaugeValue, float64(snap.Running[name]), name)
	}
	if running > c.cfg.MaxSeries {
		ch <- prometheus.MustNewConstMetric(c.concurrent, prometheus.GaugeValue, float64(rest), other)
	}
	for reason, n := range snap.Dropped {
		ch <- prometheus.MustNewConstMetric(c.dropped, prometheus.CounterValue, float64(n), reason)
	}
}

// metric is the histogram in Prometheus's form, whose buckets are cumulative.
func (h Histogram) metric(desc *prometheus.Desc, labels []string) prometheus.Metric {
	buckets, sum := make(map[float64]uint64, len(h.Buckets)), uint64(0)
	for i, bound := range Bounds() {
		if i < len(h.Buckets) {
			sum += h.Buckets[i]
		}
		buckets[bound] = sum
	}
	return prometheus.MustNewConstHistogram(desc, h.Count, h.Sum, buckets, labels...)
}

// fold keeps the first limit label sets by name and adds up the rest, so that the
// same ones are kept at every scrape.
func fold(functions []Function, limit int) (kept []Function, folded int) {
	slices.SortFunc(functions, func(a, b Function) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Version, b.Version))
	})
	if len(functions) <= limit {
		return functions, 0
	}
	rest := Function{Name: other, Resource: other, Version: other}
	for i := range functions[limit:] {
		f := &functions[limit+i]
		rest.Invocations += f.Invocations
		rest.Errors += f.Errors
		rest.Throttles += f.Throttles
		rest.Duration.add(f.Duration)
		rest.PostRuntime.add(f.PostRuntime)
	}
	return append(slices.Clone(functions[:limit]), rest), len(functions) - limit
}

func (h *Histogram) add(o Histogram) {
	h.Count += o.Count
	h.Sum += o.Sum
	if h.Buckets == nil {
		h.Buckets = make([]uint64, len(Bounds())+1)
	}
	for i, n := range o.Buckets {
		h.Buckets[i] += n
	}
}
