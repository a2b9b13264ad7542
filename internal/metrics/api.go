package metrics

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/firn-run/firn/internal/awswire"
	"github.com/firn-run/firn/internal/metrics/series"
)

// Mount serves the metrics' part of the CloudWatch API on mux, which must be
// one of awswire.CloudWatch(): PutMetricData, GetMetricData,
// GetMetricStatistics and ListMetrics, and the lists of what there is none of.
func (s *Store) Mount(mux *awswire.Mux) {
	awswire.Handle(mux, s.putMetricData)
	awswire.Handle(mux, s.getMetricData)
	awswire.Handle(mux, s.getMetricStatistics)
	awswire.Handle(mux, s.listMetrics)
	mountAbsent(mux)
}

// listPage is how many metrics an answer of ListMetrics has at most.
const listPage = 500

// token is where the next page of an answer begins.
type token struct {
	After *series.Key `json:"after,omitempty"` // ListMetrics: the last that was told
	At    int         `json:"at,omitempty"`    // GetMetricData: datapoints told
	Query uint64      `json:"query,omitempty"` // GetMetricData: what was asked
}

func (t token) String() string {
	b, err := json.Marshal(t)
	if err != nil {
		return "" // a token has nothing that JSON cannot say
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func parseToken(s *string) (token, error) {
	var t token
	if s == nil || *s == "" {
		return t, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(*s)
	if err == nil {
		err = json.Unmarshal(b, &t)
	}
	if err != nil || t.At < 0 {
		return t, &types.InvalidNextToken{Message: aws.String("The specified NextToken is invalid.")}
	}
	return t, nil
}

// listMetrics serves ListMetrics: metrics with data in the last two weeks.
func (s *Store) listMetrics(_ context.Context, in *cloudwatch.ListMetricsInput) (*cloudwatch.ListMetricsOutput, error) {
	if in.RecentlyActive != "" && in.RecentlyActive != types.RecentlyActivePt3h {
		return nil, &types.InvalidParameterValueException{Message: aws.String("The parameter RecentlyActive must be PT3H.")}
	}
	if aws.ToString(in.OwningAccount) != "" && !aws.ToBool(in.IncludeLinkedAccounts) {
		return nil, &types.InvalidParameterCombinationException{Message: aws.String("The parameter OwningAccount requires IncludeLinkedAccounts to be true.")}
	}
	after, err := parseToken(in.NextToken)
	if err != nil {
		return nil, err
	}
	s.settle()
	window := maxPast
	if in.RecentlyActive != "" {
		window = 3 * time.Hour
	}
	f := series.Filter{Namespace: aws.ToString(in.Namespace), Name: aws.ToString(in.MetricName), Since: s.cfg.Now().Add(-window)}
	for _, d := range in.Dimensions {
		f.Dimensions = append(f.Dimensions, series.Dimension{Name: *d.Name, Value: aws.ToString(d.Value)})
	}
	out := &cloudwatch.ListMetricsOutput{Metrics: []types.Metric{}}
	foreign := aws.ToString(in.OwningAccount) != "" && *in.OwningAccount != s.cfg.Account
	for _, m := range s.db.List(f) {
		if foreign || after.After != nil && series.Compare(m.Key, *after.After) <= 0 {
			continue
		}
		if len(out.Metrics) == listPage {
			break
		}
		out.Metrics = append(out.Metrics, toMetric(m.Key))
		if aws.ToBool(in.IncludeLinkedAccounts) {
			out.OwningAccounts = append(out.OwningAccounts, s.cfg.Account)
		}
		if len(out.Metrics) == listPage {
			key := m.Key
			out.NextToken = aws.String(token{After: &key}.String())
		}
	}
	return out, nil
}

func toMetric(k series.Key) types.Metric {
	m := types.Metric{Namespace: &k.Namespace, MetricName: &k.Name, Dimensions: []types.Dimension{}}
	for _, d := range k.Dimensions {
		m.Dimensions = append(m.Dimensions, types.Dimension{Name: aws.String(d.Name), Value: aws.String(d.Value)})
	}
	return m
}

// timeRange is a range of time; its end is exclusive.
type timeRange struct{ start, end time.Time }

// rounded rounds the begin of a range down, as the API Reference has it: to
// the period below a minute, to the minute, and with age to 5 minutes and to
// the hour. The end is exclusive; a second that has begun belongs to the range.
func rounded(start, end time.Time, period int64, now time.Time) timeRange {
	step := time.Minute
	age := now.Sub(start)
	switch {
	case period < 60:
		step = time.Duration(period) * time.Second
	case age > 63*24*time.Hour:
		step = time.Hour
	case age > 15*24*time.Hour:
		step = 5 * time.Minute
	}
	return timeRange{start.Truncate(step), end.Add(time.Second - 1).Truncate(time.Second)}
}

// goodPeriod says that datapoints can have this period, in seconds.
func goodPeriod(p int64) bool {
	switch p {
	case 1, 5, 10, 20, 30:
		return true
	}
	return p >= 60 && p%60 == 0
}

// tooFine says that datapoints so old are no longer kept for this period.
func tooFine(t time.Time, period int64, now time.Time) bool {
	finest := series.Finest(now.Sub(t))
	return period%finest != 0
}

// aPeriod is what CloudWatch says of other periods.
const aPeriod = "The parameter %s must be a value in the set [ 1, 5, 10, 20, 30 ] or any multiple of 60."

// getMetricStatistics serves GetMetricStatistics.
func (s *Store) getMetricStatistics(_ context.Context, in *cloudwatch.GetMetricStatisticsInput) (*cloudwatch.GetMetricStatisticsOutput, error) {
	var wrong faults
	stats := wrong.statistics(in)
	dims := wrong.dimensions("Dimensions", in.Dimensions)
	wrong.present("Namespace", in.Namespace)
	wrong.present("MetricName", in.MetricName)
	if in.StartTime == nil {
		wrong.required("StartTime")
	}
	if in.EndTime == nil {
		wrong.required("EndTime")
	}
	if in.StartTime != nil && in.EndTime != nil {
		wrong.ordered(timeRange{*in.StartTime, *in.EndTime}, turnedStatistics)
	}
	if in.Period == nil {
		wrong.required("Period")
	} else if !goodPeriod(int64(*in.Period)) {
		wrong.bad(aPeriod, "Period")
	}
	if !knownUnit(string(in.Unit)) {
		wrong.bad("The parameter Unit must be a value in the set [%s].", units())
	}
	if err := wrong.err(); err != nil {
		return nil, err
	}
	const maxDatapoints = 1440
	period := int64(*in.Period)
	if points := int64(in.EndTime.Sub(*in.StartTime)/time.Second) / period; points > maxDatapoints {
		wrong.mixed("You have requested up to %d datapoints, which exceeds the limit of %d. You may reduce the datapoints requested by increasing Period, or decreasing the time range.", points, maxDatapoints)
		return nil, wrong.err()
	}
	s.settle()
	now := s.cfg.Now()
	at := rounded(*in.StartTime, *in.EndTime, period, now)
	points, err := s.db.Query(series.Query{
		Namespace: *in.Namespace, Name: *in.MetricName, Dimensions: dims, Unit: string(in.Unit),
		Start: at.start, End: at.end, Period: time.Duration(period) * time.Second,
	})
	if err != nil {
		return nil, err
	}
	out := &cloudwatch.GetMetricStatisticsOutput{Label: in.MetricName, Datapoints: []types.Datapoint{}}
	for i := range points {
		if tooFine(points[i].Time, period, now) {
			continue
		}
		if d, ok := datapoint(&points[i], stats); ok {
			out.Datapoints = append(out.Datapoints, d)
		}
	}
	return out, nil
}

// named is a statistic as the caller wrote it.
type named struct {
	name string
	stat series.Stat
}

// statistics reads the statistics of a request: simple or extended ones.
func (f *faults) statistics(in *cloudwatch.GetMetricStatisticsInput) []named {
	switch simple, extended := len(in.Statistics) > 0, len(in.ExtendedStatistics) > 0; {
	case !simple && !extended:
		f.mixed("At least one of the parameters Statistics and ExtendedStatistics must be specified.")
	case simple && extended:
		f.both("Statistics", "ExtendedStatistics")
	}
	f.size("Statistics", len(in.Statistics), 5)
	f.size("ExtendedStatistics", len(in.ExtendedStatistics), 10)
	var out []named
	for i, name := range in.Statistics {
		st, err := series.ParseStat(string(name))
		if err != nil || st.Extended() {
			f.bad("The parameter Statistics.member.%d.<list element> must be a value in the set [SampleCount, Average, Sum, Minimum, Maximum].", i+1)
		}
		out = append(out, named{string(name), st})
	}
	for i, name := range in.ExtendedStatistics {
		st, err := series.ParseStat(name)
		if err != nil || !st.Extended() {
			f.bad("The value %s for parameter ExtendedStatistics.member.%d.<list element> is not supported.", name, i+1)
		}
		out = append(out, named{name, st})
	}
	return out
}

// datapoint fills in the statistics that were asked for. It is false when the
// point can tell none of them.
func datapoint(p *series.Datapoint, stats []named) (types.Datapoint, bool) {
	d := types.Datapoint{Timestamp: &p.Time, Unit: types.StandardUnit(p.Unit)}
	some := false
	for _, st := range stats {
		v, ok := st.stat.Of(p.Point)
		if !ok {
			continue
		}
		some = true
		switch st.name {
		case "SampleCount":
			d.SampleCount = &v
		case "Sum":
			d.Sum = &v
		case "Average":
			d.Average = &v
		case "Minimum":
			d.Minimum = &v
		case "Maximum":
			d.Maximum = &v
		default:
			if d.ExtendedStatistics == nil {
				d.ExtendedStatistics = map[string]float64{}
			}
			d.ExtendedStatistics[st.name] = v
		}
	}
	return d, some
}
