package exposition

import (
	"cmp"
	"maps"
	"slices"
	"strings"

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
	out := sender{ch}
	out.value(c.build, prometheus.GaugeValue, 1, c.cfg.Version, c.cfg.Revision)
	if c.cfg.Invocations != nil {
		c.collectFunctions(out, c.cfg.Invocations())
	}
	if c.cfg.Environments != nil {
		for state, n := range c.cfg.Environments() {
			out.value(c.environments, prometheus.GaugeValue, float64(n), state)
		}
	}
	if c.cfg.LinesDropped != nil {
		for reason, n := range c.cfg.LinesDropped() {
			out.value(c.linesDropped, prometheus.CounterValue, float64(n), reason)
		}
	}
}

func (c *collector) collectFunctions(out sender, snap Snapshot) {
	functions, folded := fold(snap.Functions, c.cfg.MaxSeries)
	out.value(c.folds, prometheus.GaugeValue, float64(folded))
	for i := range functions {
		f := &functions[i]
		labels := []string{f.Name, f.Resource, f.Version}
		out.value(c.invocations, prometheus.CounterValue, float64(f.Invocations), labels...)
		out.value(c.errors, prometheus.CounterValue, float64(f.Errors), labels...)
		out.value(c.throttles, prometheus.CounterValue, float64(f.Throttles), labels...)
		out.histogram(c.duration, &f.Duration, labels)
		if f.PostRuntime.Count > 0 {
			out.histogram(c.postRuntime, &f.PostRuntime, labels)
		}
	}
	c.collectRunning(out, snap.Running)
	for reason, n := range snap.Dropped {
		out.value(c.dropped, prometheus.CounterValue, float64(n), reason)
	}
}

func (c *collector) collectRunning(out sender, running map[string]int64) {
	names, rest := slices.Sorted(maps.Keys(running)), running[other]
	names = slices.DeleteFunc(names, func(name string) bool { return name == other })
	for i, name := range names {
		if i >= c.cfg.MaxSeries {
			rest += running[name]
			continue
		}
		out.value(c.concurrent, prometheus.GaugeValue, float64(running[name]), name)
	}
	if _, ok := running[other]; ok || len(names) > c.cfg.MaxSeries {
		out.value(c.concurrent, prometheus.GaugeValue, float64(rest), other)
	}
}

// sender writes metrics. What Prometheus would refuse (labels that are not
// UTF-8) is made acceptable, since one bad metric spoils a whole scrape.
type sender struct{ ch chan<- prometheus.Metric }

func (s sender) value(desc *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
	m, err := prometheus.NewConstMetric(desc, kind, v, valid(labels)...)
	s.send(desc, m, err)
}

// histogram writes a histogram in Prometheus's form, whose buckets are
// cumulative.
func (s sender) histogram(desc *prometheus.Desc, h *Histogram, labels []string) {
	buckets, sum := make(map[float64]uint64, len(h.Buckets)), uint64(0)
	for i, bound := range Bounds() {
		if i < len(h.Buckets) {
			sum += h.Buckets[i]
		}
		buckets[bound] = sum
	}
	m, err := prometheus.NewConstHistogram(desc, h.Count, h.Sum, buckets, valid(labels)...)
	s.send(desc, m, err)
}

func (s sender) send(desc *prometheus.Desc, m prometheus.Metric, err error) {
	if err != nil {
		m = prometheus.NewInvalidMetric(desc, err)
	}
	s.ch <- m
}

func valid(labels []string) []string {
	out := make([]string, len(labels))
	for i, l := range labels {
		out[i] = strings.ToValidUTF8(l, "\uFFFD")
	}
	return out
}

// fold keeps the first limit label sets by name and adds up the rest, so that
// the same ones are kept at every scrape. Equal label sets become one.
func fold(functions []Function, limit int) (kept []Function, folded int) {
	slices.SortFunc(functions, byLabels)
	kept = make([]Function, 0, min(len(functions), limit+1))
	rest := Function{Name: other, Resource: other, Version: other}
	for i := range functions {
		f := &functions[i]
		switch last := len(kept) - 1; {
		case byLabels(*f, rest) == 0:
			rest.add(f)
		case last >= 0 && byLabels(kept[last], *f) == 0:
			kept[last].add(f)
		case len(kept) < limit:
			kept = append(kept, *f)
		default:
			rest.add(f)
			folded++
		}
	}
	if rest.Invocations+rest.Throttles > 0 {
		kept = append(kept, rest)
	}
	return kept, folded
}

func byLabels(a, b Function) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Version, b.Version))
}

func (f *Function) add(o *Function) {
	f.Invocations += o.Invocations
	f.Errors += o.Errors
	f.Throttles += o.Throttles
	f.Duration.add(&o.Duration)
	f.PostRuntime.add(&o.PostRuntime)
}

// add adds o into a histogram of its own: that of a snapshot may be shared.
func (h *Histogram) add(o *Histogram) {
	h.Count += o.Count
	h.Sum += o.Sum
	sum := make([]uint64, len(Bounds())+1)
	copy(sum, h.Buckets)
	for i, n := range o.Buckets[:min(len(o.Buckets), len(sum))] {
		sum[i] += n
	}
	h.Buckets = sum
}
