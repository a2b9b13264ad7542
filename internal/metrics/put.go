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

func invalidValue(format string, args ...any) error {
	return &types.InvalidParameterValueException{Message: aws.String(fmt.Sprintf(format, args...))}
}

func invalidCombination(format string, args ...any) error {
	return &types.InvalidParameterCombinationException{Message: aws.String(fmt.Sprintf(format, args...))}
}

func missing(format string, args ...any) error {
	return &types.MissingRequiredParameterException{Message: aws.String(fmt.Sprintf(format, args...))}
}

// badNamespace tells what is wrong with a namespace that a user writes to.
func badNamespace(ns string) string {
	switch {
	case ns == "" || len(ns) > maxNameLength:
		return "The parameter Namespace must be between 1 and 255 characters."
	case strings.HasPrefix(ns, "AWS/"):
		return "The value AWS/ for parameter Namespace is invalid: namespaces of AWS are written by AWS only."
	case !printable(ns):
		return "The parameter Namespace contains invalid characters."
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
	if problem := badNamespace(*in.Namespace); problem != "" {
		return nil, invalidValue("%s", problem)
	}
	data := slices.Clone(in.MetricData)
	if len(in.EntityMetricData) > 2 {
		return nil, invalidValue("The collection EntityMetricData must not have a size greater than 2.")
	}
	for _, e := range in.EntityMetricData {
		data = append(data, e.MetricData...)
	}
	if len(data) == 0 {
		return nil, missing("The parameter MetricData is required.")
	}
	if len(data) > maxData {
		return nil, invalidValue("The collection MetricData must not have a size greater than %d.", maxData)
	}
	now := s.cfg.Now()
	samples := make([]series.Sample, len(data))
	for i := range data {
		sample, err := datum(*in.Namespace, &data[i], fmt.Sprintf("MetricData.member.%d", i+1), now)
		if err != nil {
			return nil, err
		}
		samples[i] = sample
	}
	switch err := s.db.Add(samples, true); {
	case errors.Is(err, series.ErrFull):
		return nil, &firn.Fault{Kind: firn.ServiceUnavailable, Message: "There is no room on the disk for metrics.", Cause: err}
	case err != nil:
		return nil, fmt.Errorf("keeping metrics: %w", err)
	}
	return &cloudwatch.PutMetricDataOutput{}, nil
}

// datum reads one datum; path names it in messages.
func datum(namespace string, d *types.MetricDatum, path string, now time.Time) (series.Sample, error) {
	var sample series.Sample
	if len(*d.MetricName) > maxNameLength || !printable(*d.MetricName) {
		return sample, invalidValue("The value %s for parameter %s.MetricName is invalid.", *d.MetricName, path)
	}
	dims, err := dimensions(d.Dimensions, path)
	if err != nil {
		return sample, err
	}
	if !knownUnit(string(d.Unit)) {
		return sample, invalidValue("The parameter %s.Unit must be a value in the set [ %s ].", path, units())
	}
	when := now
	if d.Timestamp != nil {
		when = *d.Timestamp
	}
	if when.Before(now.Add(-maxPast)) {
		return sample, invalidValue("The parameter %s.Timestamp must specify a time no more than two weeks in the past.", path)
	}
	if when.After(now.Add(maxFuture)) {
		return sample, invalidValue("The parameter %s.Timestamp must specify a time no more than two hours in the future.", path)
	}
	if r := d.StorageResolution; r != nil && *r != 1 && *r != 60 {
		return sample, invalidValue("The parameter %s.StorageResolution must be 1 or 60.", path)
	}
	point, err := values(d, path)
	if err != nil {
		return sample, err
	}
	return series.Sample{
		Key: series.NewKey(namespace, *d.MetricName, dims, string(d.Unit)), Time: when, Point: point,
		HighResolution: d.StorageResolution != nil && *d.StorageResolution == 1,
	}, nil
}

func units() string {
	var names []string
	for _, u := range types.StandardUnit("").Values() {
		names = append(names, string(u))
	}
	return strings.Join(names, ", ")
}

// dimensions reads the dimensions of a metric.
func dimensions(list []types.Dimension, path string) ([]series.Dimension, error) {
	if len(list) > maxDimensions {
		return nil, invalidValue("The collection %s.Dimensions must not have a size greater than %d.", path, maxDimensions)
	}
	dims := make([]series.Dimension, len(list))
	for i, d := range list {
		if badDimension(*d.Name, *d.Value) {
			return nil, invalidValue("The parameter %s.Dimensions.member.%d is invalid: name and value must be printable ASCII, not empty, of at most 255 and 1024 characters.", path, i+1)
		}
		for _, earlier := range dims[:i] {
			if earlier.Name == *d.Name {
				return nil, invalidValue("The parameter %s.Dimensions names %s twice.", path, *d.Name)
			}
		}
		dims[i] = series.Dimension{Name: *d.Name, Value: *d.Value}
	}
	return dims, nil
}

// values reads the one of Value, Values and StatisticValues that is given.
func values(d *types.MetricDatum, path string) (series.Point, error) {
	var p series.Point
	switch {
	case d.Value != nil && d.StatisticValues != nil:
		return p, exclusive(path, "Value", "StatisticValues")
	case d.Value != nil && len(d.Values) > 0:
		return p, exclusive(path, "Value", "Values")
	case d.StatisticValues != nil && len(d.Values) > 0:
		return p, exclusive(path, "StatisticValues", "Values")
	case d.Value != nil:
		if badValue(*d.Value) {
			return p, badNumber(*d.Value, path+".Value")
		}
		return series.PointOf(*d.Value, 1), nil
	case d.StatisticValues != nil:
		return statisticSet(d.StatisticValues, path+".StatisticValues")
	case len(d.Values) == 0:
		return p, missing("At least one of the parameters %s.Value, %s.Values and %s.StatisticValues must be specified.", path, path, path)
	case len(d.Values) > maxValues:
		return p, invalidValue("The collection %s.Values must not have a size greater than %d.", path, maxValues)
	case len(d.Counts) > 0 && len(d.Counts) != len(d.Values):
		return p, invalidValue("The parameters %s.Values and %s.Counts must be of the same size.", path, path)
	}
	for i, v := range d.Values {
		n := 1.0
		if len(d.Counts) > 0 {
			n = d.Counts[i]
		}
		if badValue(v) {
			return p, badNumber(v, fmt.Sprintf("%s.Values.member.%d", path, i+1))
		}
		if badValue(n) || n < 0 {
			return p, badNumber(n, fmt.Sprintf("%s.Counts.member.%d", path, i+1))
		}
		if n > 0 {
			p.Observe(v, n)
		}
	}
	if p.Count == 0 {
		return p, invalidValue("The parameter %s.Counts must have a member greater than 0.", path)
	}
	return p, nil
}

func exclusive(path, a, b string) error {
	return invalidCombination("The parameters %s.%s and %s.%s are mutually exclusive and you have specified both.", path, a, path, b)
}

func badNumber(v float64, path string) error {
	return invalidValue("The value %v for parameter %s is invalid.", v, path)
}

func statisticSet(set *types.StatisticSet, path string) (series.Point, error) {
	for _, v := range []float64{*set.SampleCount, *set.Sum, *set.Minimum, *set.Maximum} {
		if badValue(v) {
			return series.Point{}, badNumber(v, path)
		}
	}
	switch {
	case *set.SampleCount <= 0:
		return series.Point{}, invalidValue("The parameter %s.SampleCount must be greater than 0.", path)
	case *set.Minimum > *set.Maximum:
		return series.Point{}, invalidValue("The parameter %s.Minimum must be less than or equal to %s.Maximum.", path, path)
	}
	return series.SetOf(*set.SampleCount, *set.Sum, *set.Minimum, *set.Maximum), nil
}
