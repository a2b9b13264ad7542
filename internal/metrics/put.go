package metrics

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/metrics/series"
)

// Limits of PutMetricData (its page in the CloudWatch API Reference).
const (
	maxPast       = 14 * 24 * time.Hour
	maxFuture     = 2 * time.Hour
	maxData       = 1000 // of a request
	maxValues     = 150  // different ones of a datum
	maxDimensions = 30
	maxNameLength = 255  // of a metric, a namespace, a dimension
	maxValueBytes = 1024 // of a dimension's value
)

// badNamespace tells what is wrong with a namespace that a user writes to.
func badNamespace(ns string) string {
	switch {
	case ns == "" || len(ns) > maxNameLength:
		return "The parameter Namespace must be between 1 and 255 characters."
	case strings.HasPrefix(ns, "AWS/"):
		return "The value AWS/ for parameter Namespace is invalid."
	case ns[0] == ':' || !printable(ns):
		return "The value " + ns + " for parameter Namespace is invalid."
	}
	return ""
}

// printable says that a string has no control characters and only ASCII.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

func badDimension(name, value string) bool {
	return name == "" || len(name) > maxNameLength || name[0] == ':' || !printable(name) ||
		strings.TrimSpace(value) == "" || len(value) > maxValueBytes || !printable(value)
}

// badValue says that a number is none that CloudWatch takes: -2^360 to 2^360.
func badValue(v float64) bool {
	return math.IsNaN(v) || math.Abs(v) > 0x1p360
}

func knownUnit(unit string) bool {
	return unit == "" || slices.Contains(types.StandardUnit("").Values(), types.StandardUnit(unit))
}

// putMetricData serves PutMetricData: what it answers is on the disk.
func (s *Store) putMetricData(_ context.Context, in *cloudwatch.PutMetricDataInput) (*cloudwatch.PutMetricDataOutput, error) {
	var wrong faults
	if wrong.present("Namespace", in.Namespace) {
		wrong.text("Namespace", *in.Namespace, maxNameLength)
		switch ns := *in.Namespace; {
		case strings.HasPrefix(ns, "AWS/"):
			wrong.refused("Namespace", "AWS/")
		case ns[0] == ':':
			wrong.refused("Namespace", ns)
		}
	}
	data := slices.Clone(in.MetricData)
	wrong.size("EntityMetricData", len(in.EntityMetricData), 2)
	for _, e := range in.EntityMetricData {
		data = append(data, e.MetricData...)
	}
	if len(data) == 0 {
		wrong.required("MetricData")
	}
	if wrong.size("MetricData", len(data), maxData); len(data) > maxData {
		return nil, wrong.err()
	}
	now := s.cfg.Now()
	samples := make([]series.Sample, len(data))
	for i := range data {
		d := datum{MetricDatum: &data[i], path: fmt.Sprintf("MetricData.member.%d", i+1), wrong: &wrong}
		samples[i] = d.sample(aws.ToString(in.Namespace), now)
	}
	if err := wrong.err(); err != nil {
		return nil, err
	}
	switch err := s.db.Add(samples, true); {
	case errors.Is(err, series.ErrFull):
		return nil, &firn.Fault{Kind: firn.ServiceUnavailable, Message: "There is no room on the disk for metrics.", Cause: err}
	case err != nil:
		return nil, fmt.Errorf("keeping metrics: %w", err)
	}
	return &cloudwatch.PutMetricDataOutput{}, nil
}

// datum is one datum of a request; path names it in messages.
type datum struct {
	*types.MetricDatum
	path  string
	wrong *faults
}

// sample reads it. What is wrong is noted; then the sample is of no use.
func (d *datum) sample(namespace string, now time.Time) series.Sample {
	if d.wrong.present(d.path+".MetricName", d.MetricName) {
		d.wrong.text(d.path+".MetricName", *d.MetricName, maxNameLength)
	}
	dims := d.wrong.dimensions(d.path+".Dimensions", d.Dimensions)
	if !knownUnit(string(d.Unit)) {
		d.wrong.bad("The parameter %s.Unit must be a value in the set [ %s ].", d.path, units())
	}
	when := now
	if d.Timestamp != nil {
		when = *d.Timestamp
	}
	if when.Before(now.Add(-maxPast)) || when.After(now.Add(maxFuture)) {
		// In these words for the future, too.
		d.wrong.bad("The parameter %s.Timestamp must specify a time within the past two weeks.", d.path)
	}
	if r := d.StorageResolution; r != nil && *r != 1 && *r != 60 {
		d.wrong.bad("The parameter %s.StorageResolution must be a value in the set [ 1, 60 ].", d.path)
	}
	return series.Sample{
		Key: series.NewKey(namespace, aws.ToString(d.MetricName), dims, string(d.Unit)), Time: when, Point: d.point(),
		HighResolution: d.StorageResolution != nil && *d.StorageResolution == 1,
	}
}

func units() string {
	var names []string
	for _, u := range types.StandardUnit("").Values() {
		names = append(names, string(u))
	}
	return strings.Join(names, ", ")
}

// dimensions reads the dimensions of a metric.
func (f *faults) dimensions(path string, list []types.Dimension) []series.Dimension {
	f.size(path, len(list), maxDimensions)
	dims := make([]series.Dimension, 0, len(list))
	for i, d := range list {
		at := fmt.Sprintf("%s.member.%d", path, i+1)
		named, valued := f.present(at+".Name", d.Name), f.present(at+".Value", d.Value)
		if !named || !valued {
			continue
		}
		f.text(at+".Name", *d.Name, maxNameLength)
		f.text(at+".Value", *d.Value, maxValueBytes)
		switch {
		case slices.ContainsFunc(dims, func(earlier series.Dimension) bool { return earlier.Name == *d.Name }):
			f.bad("No metric may specify the same dimension name twice.")
		case strings.TrimSpace(*d.Name) == "" || (*d.Name)[0] == ':':
			f.refused(at+".Name", *d.Name)
		case strings.TrimSpace(*d.Value) == "":
			f.refused(at+".Value", *d.Value)
		}
		dims = append(dims, series.Dimension{Name: *d.Name, Value: *d.Value})
	}
	return dims
}

// point reads what was measured. A set of statistics goes before values.
func (d *datum) point() series.Point {
	switch {
	case d.Value != nil && len(d.Values) > 0:
		d.wrong.both(d.path+".Value", d.path+".Values")
	case d.Value != nil && d.StatisticValues != nil:
		d.wrong.both(d.path+".Value", d.path+".StatisticValues")
	case len(d.Counts) > 0 && len(d.Values) == 0:
		d.wrong.mixed("The parameter values must appears when the counts parameter is specified.") // as AWS has it
	case d.Value != nil:
		if badValue(*d.Value) {
			d.wrong.number(d.path+".Value", *d.Value)
		}
		return series.PointOf(*d.Value, 1)
	case d.StatisticValues != nil:
		return d.set()
	case len(d.Values) > 0:
		return d.values()
	default:
		d.wrong.mixed("At least one of the parameters must be specified.")
	}
	return series.Point{}
}

// values reads Values and Counts.
func (d *datum) values() (p series.Point) {
	if d.wrong.size(d.path+".Values", len(d.Values), maxValues); len(d.Values) > maxValues {
		return p
	}
	if len(d.Counts) > 0 && len(d.Counts) != len(d.Values) {
		d.wrong.bad("The parameters %[1]s.Values and %[1]s.Counts must be of the same size.", d.path)
		return p
	}
	for i, v := range d.Values {
		n := 1.0
		if len(d.Counts) > 0 {
			n = d.Counts[i]
		}
		if badValue(v) {
			d.wrong.number(fmt.Sprintf("%s.Values.member.%d", d.path, i+1), v)
		}
		if badValue(n) || n < 0 {
			d.wrong.number(fmt.Sprintf("%s.Counts.member.%d", d.path, i+1), n)
		}
		if n > 0 {
			p.Observe(v, n)
		}
	}
	if badValue(p.Sum) {
		d.wrong.number(d.path+".Values", p.Sum) // all of them together
	}
	if p.Count == 0 {
		d.wrong.bad("The parameter %s.Counts must have a member greater than 0.", d.path)
	}
	return p
}

// set reads StatisticValues.
func (d *datum) set() series.Point {
	set, whole := d.StatisticValues, true
	for _, m := range []struct {
		name  string
		value *float64
	}{{"SampleCount", set.SampleCount}, {"Sum", set.Sum}, {"Minimum", set.Minimum}, {"Maximum", set.Maximum}} {
		path := d.path + ".StatisticValues." + m.name
		switch {
		case m.value == nil:
			d.wrong.required(path)
			whole = false
		case badValue(*m.value):
			d.wrong.number(path, *m.value)
		}
	}
	if !whole {
		return series.Point{}
	}
	if *set.SampleCount <= 0 {
		d.wrong.bad("The parameter %s.StatisticValues.SampleCount must be greater than 0.", d.path)
	}
	if *set.Minimum > *set.Maximum {
		d.wrong.bad("The parameter %[1]s.StatisticValues.Maximum must be greater than %[1]s.StatisticValues.Minimum.", d.path)
	}
	return series.SetOf(*set.SampleCount, *set.Sum, *set.Minimum, *set.Maximum)
}
