package metrics

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/firn-run/firn/internal/metrics/series"
)

// Limits of the embedded metric format ("Specification: Embedded metric
// format" of the CloudWatch User Guide), and some of ours where it has none.
const (
	emfMaxBytes      = 1 << 20 // of a log event
	emfMaxMetrics    = 100     // definitions in a directive
	emfMaxValues     = 100     // of one metric
	emfMaxDimensions = 30      // in a set
	emfMaxDirectives = 100     // ours
	emfMaxSamples    = 10_000  // of one document; ours
	// emfMaxPrefix is how far from the line's begin a document may begin:
	// runtimes put the time, the request's id and the level before it.
	emfMaxPrefix = 256
	// The queue between environments and the parser.
	emfQueueLines = 4096
	emfQueueBytes = 16 << 20
)

// emfQueue is the lines that wait to be parsed.
type emfQueue struct {
	wake  chan struct{} // a token when there are some
	parse sync.Mutex    // held by who drains it
	mu    sync.Mutex
	lines []emfLine
	bytes int
}

type emfLine struct {
	text []byte
	at   time.Time
}

// looksLikeEMF is the cheap test that nearly every line fails.
func looksLikeEMF(line []byte) bool {
	return bytes.IndexByte(line[:min(len(line), emfMaxPrefix)], '{') >= 0 && bytes.Contains(line, []byte(`"_aws"`))
}

// EMF takes one log event: if it is a document in the embedded metric format,
// alone or behind the metadata that runtimes put before it, its metrics are
// published. It does not wait: the event is copied into a bounded queue, and
// dropped and counted when that is full. at is when the event happened.
func (s *Store) EMF(message []byte, at time.Time) {
	if looksLikeEMF(message) {
		s.enqueueEMF(message, at)
	}
}

func (s *Store) enqueueEMF(line []byte, at time.Time) {
	q := &s.emf
	q.mu.Lock()
	if len(line) > emfMaxBytes || len(q.lines) >= emfQueueLines || q.bytes+len(line) > emfQueueBytes {
		q.mu.Unlock()
		s.counts.emfQueue.Add(1)
		return
	}
	q.lines = append(q.lines, emfLine{bytes.Clone(line), at})
	q.bytes += len(line)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// drainEMF parses what is in the queue.
func (s *Store) drainEMF() {
	q := &s.emf
	q.parse.Lock()
	defer q.parse.Unlock()
	q.mu.Lock()
	lines := q.lines
	q.lines, q.bytes = nil, 0
	q.mu.Unlock()
	var samples []series.Sample
	for _, line := range lines {
		got, err := parseEMF(line.text, line.at)
		if err != nil {
			s.counts.emfInvalid.Add(1)
			s.cfg.Logger.Debug("a line in the embedded metric format is not valid", "error", err)
		}
		samples = append(samples, got...)
		if len(samples) >= 1000 {
			s.publish(samples)
			samples = nil
		}
	}
	s.publish(samples)
}

func (s *Store) publish(samples []series.Sample) {
	if err := s.db.Add(samples, false); err != nil {
		s.complain("log lines", len(samples), err)
	}
}

// directive is one element of _aws.CloudWatchMetrics. Names are
// case-sensitive, which encoding/json's structures are not: hence the maps.
type directive struct {
	namespace  string
	dimensions [][]string
	metrics    []definition
}

type definition struct {
	name, unit string
	high       bool
}

// parseEMF reads a document. With an error it may still have found some
// metrics: what is wrong with one does not spoil the others.
func parseEMF(line []byte, at time.Time) ([]series.Sample, error) {
	begin := bytes.IndexByte(line, '{')
	if begin < 0 {
		return nil, errors.New("no object")
	}
	if begin > 0 && line[begin-1] != '\t' && line[begin-1] != ' ' {
		return nil, errors.New("the object does not begin a word")
	}
	var root map[string]json.RawMessage
	if err := json.Unmarshal(line[begin:], &root); err != nil {
		return nil, err
	}
	var meta map[string]json.RawMessage
	if err := json.Unmarshal(root["_aws"], &meta); err != nil {
		return nil, fmt.Errorf("_aws: %w", err)
	}
	var millis int64
	if err := json.Unmarshal(meta["Timestamp"], &millis); err != nil {
		return nil, fmt.Errorf("_aws.Timestamp: %w", err)
	}
	when := time.UnixMilli(millis)
	if when.Before(at.Add(-maxPast)) || when.After(at.Add(maxFuture)) {
		return nil, fmt.Errorf("_aws.Timestamp: %v is too far from %v", when, at)
	}
	var list []map[string]json.RawMessage
	if err := json.Unmarshal(meta["CloudWatchMetrics"], &list); err != nil {
		return nil, fmt.Errorf("_aws.CloudWatchMetrics: %w", err)
	}
	if len(list) > emfMaxDirectives {
		return nil, fmt.Errorf("_aws.CloudWatchMetrics: more than %d directives", emfMaxDirectives)
	}
	doc := document{root: root, when: when, values: map[string]series.Point{}}
	for _, fields := range list {
		d, err := parseDirective(fields)
		if err != nil {
			doc.problem(err)
		}
		doc.add(&d)
	}
	return doc.samples, errors.Join(doc.problems...)
}

func parseDirective(fields map[string]json.RawMessage) (d directive, err error) {
	if err := json.Unmarshal(fields["Namespace"], &d.namespace); err != nil {
		return d, fmt.Errorf("member Namespace: %w", err)
	}
	if problem := badNamespace(d.namespace); problem != "" {
		return d, errors.New(problem)
	}
	if err := json.Unmarshal(fields["Dimensions"], &d.dimensions); err != nil {
		return d, fmt.Errorf("member Dimensions: %w", err)
	}
	if len(d.dimensions) == 0 {
		d.dimensions = [][]string{{}}
	}
	var metrics []map[string]json.RawMessage
	if err := json.Unmarshal(fields["Metrics"], &metrics); err != nil {
		return d, fmt.Errorf("member Metrics: %w", err)
	}
	if len(metrics) > emfMaxMetrics {
		return d, fmt.Errorf("member Metrics: more than %d", emfMaxMetrics)
	}
	for _, m := range metrics {
		one, e := parseDefinition(m)
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		d.metrics = append(d.metrics, one)
	}
	return d, err
}

func parseDefinition(m map[string]json.RawMessage) (d definition, err error) {
	if err := json.Unmarshal(m["Name"], &d.name); err != nil || d.name == "" || len(d.name) > maxNameLength {
		return d, errors.New("the Name of a metric is missing or not allowed")
	}
	if raw, ok := m["Unit"]; ok {
		if err := json.Unmarshal(raw, &d.unit); err != nil || !knownUnit(d.unit) {
			return d, fmt.Errorf("the unit of %q is not one of CloudWatch's", d.name)
		}
	}
	if raw, ok := m["StorageResolution"]; ok {
		var seconds int
		if err := json.Unmarshal(raw, &seconds); err != nil || seconds != 1 && seconds != 60 {
			return d, fmt.Errorf("the StorageResolution of %q is neither 1 nor 60", d.name)
		}
		d.high = seconds == 1
	}
	return d, nil
}

// document collects the samples of a root node.
type document struct {
	root     map[string]json.RawMessage
	when     time.Time
	values   map[string]series.Point // parsed so far, by name
	samples  []series.Sample
	problems []error
}

// problem notes what is wrong. It is true when enough is wrong to give up.
func (doc *document) problem(err error) bool {
	const enough = 10
	if len(doc.problems) < enough {
		doc.problems = append(doc.problems, err)
	}
	return len(doc.problems) >= enough
}

// add adds the samples of a directive: each metric under each set of
// dimensions.
func (doc *document) add(d *directive) {
	for _, set := range d.dimensions {
		dims, err := doc.dimensions(set)
		if err != nil {
			if doc.problem(err) {
				return
			}
			continue
		}
		for _, m := range d.metrics {
			point, err := doc.value(m.name)
			if err == nil && len(doc.samples) >= emfMaxSamples {
				err = errors.New("too many metrics in one document")
			}
			if err != nil {
				if doc.problem(err) {
					return
				}
				continue
			}
			doc.samples = append(doc.samples, series.Sample{
				Key: series.NewKey(d.namespace, m.name, dims, m.unit), Time: doc.when, Point: point, HighResolution: m.high,
			})
		}
	}
}

// dimensions looks up the values of a set.
func (doc *document) dimensions(set []string) ([]series.Dimension, error) {
	if len(set) > emfMaxDimensions {
		return nil, fmt.Errorf("more than %d dimensions", emfMaxDimensions)
	}
	dims := make([]series.Dimension, 0, len(set))
	seen := map[string]bool{}
	for _, name := range set {
		var value string
		if err := json.Unmarshal(doc.root[name], &value); err != nil {
			return nil, fmt.Errorf("dimension %q: %w", name, err)
		}
		if seen[name] || badDimension(name, value) {
			return nil, fmt.Errorf("dimension %q is given twice, or it or its value is not allowed", name)
		}
		seen[name] = true
		dims = append(dims, series.Dimension{Name: name, Value: value})
	}
	return dims, nil
}

// value reads the number or the numbers of a metric.
func (doc *document) value(name string) (series.Point, error) {
	if p, ok := doc.values[name]; ok {
		return p, nil
	}
	raw := bytes.TrimLeft(doc.root[name], " \t\r\n")
	if len(raw) > 0 && raw[0] == '{' {
		p, err := aggregate(raw)
		if err != nil {
			return p, fmt.Errorf("metric %q: %w", name, err)
		}
		doc.values[name] = p
		return p, nil
	}
	values := []float64{0}
	var err error
	switch {
	case len(raw) == 0 || raw[0] == 'n':
		err = errors.New("there is no number of this name")
	case raw[0] == '[':
		err = json.Unmarshal(raw, &values)
	default:
		err = json.Unmarshal(raw, &values[0])
	}
	if err != nil {
		return series.Point{}, fmt.Errorf("metric %q: %w", name, err)
	}
	if len(values) == 0 || len(values) > emfMaxValues {
		return series.Point{}, fmt.Errorf("metric %q has %d values; 1 to %d are allowed", name, len(values), emfMaxValues)
	}
	var p series.Point
	for _, v := range values {
		if badValue(v) {
			return series.Point{}, fmt.Errorf("metric %q: %v is beyond the range of CloudWatch", name, v)
		}
		p.Observe(v, 1)
	}
	doc.values[name] = p
	return p, nil
}

// aggregate reads what stands for many values: a set of statistics or a
// histogram. The specification does not know them; CloudWatch takes them, and
// AWS's own writers (its agent, the exporter of its OpenTelemetry collector,
// the library for Java) send little else for what they have added up.
func aggregate(raw []byte) (p series.Point, err error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil {
		return p, err
	}
	var values, counts []float64
	var set [4]float64 // Count, Sum, Min, Max
	whole := true
	for i, name := range []string{"Count", "Sum", "Min", "Max"} {
		if members[name] == nil {
			whole = false
		} else if err := json.Unmarshal(members[name], &set[i]); err != nil || badValue(set[i]) {
			return p, fmt.Errorf("its %s is not a number that CloudWatch takes", name)
		}
	}
	for name, list := range map[string]*[]float64{"Values": &values, "Counts": &counts} {
		if members[name] != nil && json.Unmarshal(members[name], list) != nil {
			return p, fmt.Errorf("its %s are not numbers", name)
		}
	}
	if len(values) > emfMaxValues || len(counts) > 0 && len(counts) != len(values) {
		return p, fmt.Errorf("it has %d values and %d counts; at most %d are allowed, and as many of both", len(values), len(counts), emfMaxValues)
	}
	for i, v := range values {
		n := 1.0
		if len(counts) > 0 {
			n = counts[i]
		}
		if badValue(v) || badValue(n) || n < 0 {
			return p, fmt.Errorf("%v times %v is beyond the range of CloudWatch", n, v)
		}
		if n > 0 {
			p.Observe(v, n)
		}
	}
	switch {
	case p.Count > 0 && whole && set[2] <= set[3]:
		// The values of a histogram are those of its buckets; these are exact.
		p.Sum, p.Min, p.Max = set[1], set[2], set[3]
	case p.Count == 0 && whole && set[0] > 0 && set[2] <= set[3]:
		p = series.SetOf(set[0], set[1], set[2], set[3])
	case p.Count == 0 || whole:
		return p, errors.New("it has neither values nor a Count, Sum, Min and Max that go together")
	}
	if badValue(p.Sum) || badValue(p.Count) {
		return p, fmt.Errorf("its values and counts add up to %v, which is beyond the range of CloudWatch", p.Sum)
	}
	return p, nil
}
