package metrics

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/firn-run/firn/internal/metrics/expr"
)

// results computes all queries whose data is to be returned, in their order
// and in the order of time that was asked for.
func (r *request) results() ([]types.MetricDataResult, error) {
	out := []types.MetricDataResult{}
	for i := range r.in.MetricDataQueries {
		id := *r.in.MetricDataQueries[i].Id
		q, err := r.compute(id)
		if err != nil {
			return nil, expressionError(id, err)
		}
		if q.ReturnData != nil && !*q.ReturnData {
			continue
		}
		if q.value.Kind != expr.TimeSeries && q.value.Kind != expr.Array {
			return nil, invalid("Error in expression '%s': its result is %v, but must be a time series; set ReturnData to false, or use TIME_SERIES.", id, q.value.Kind)
		}
		for n := range q.value.List {
			out = append(out, r.result(q, n))
		}
	}
	return out, nil
}

// result is the n-th series of a query.
func (r *request) result(q *query, n int) types.MetricDataResult {
	s := &q.value.List[n]
	res := types.MetricDataResult{
		Id: q.Id, Label: aws.String(r.label(q, n)), StatusCode: types.StatusCodeComplete,
		Timestamps: make([]time.Time, len(s.Points)), Values: make([]float64, len(s.Points)),
	}
	for i, p := range s.Points {
		res.Timestamps[i], res.Values[i] = time.Unix(p.Time, 0).UTC(), p.Value
	}
	if r.in.ScanBy != types.ScanByTimestampAscending {
		slices.Reverse(res.Timestamps)
		slices.Reverse(res.Values)
	}
	if q.message != nil {
		res.Messages = []types.MessageData{*q.message}
	}
	return res
}

// label is what the caller wants the series to be called, or else the metric's
// name or the expression's id.
func (r *request) label(q *query, n int) string {
	own := q.value.List[n].Label
	if q.MetricStat == nil && q.value.Kind == expr.TimeSeries || own == "" {
		own = *q.Id
	}
	if q.MetricStat != nil {
		own = *q.MetricStat.Metric.MetricName + r.apart(q)
	}
	wanted := aws.ToString(q.Label)
	switch {
	case wanted == "":
		return own
	case strings.Contains(wanted, "${"):
		return r.dynamic(q, n, wanted, own)
	case q.value.Kind == expr.Array:
		return wanted + " " + own
	}
	return wanted
}

// apart is what tells a metric from the request's others, behind its name: the
// statistic and the period, each if they are not the same in all (recorded
// from AWS).
func (r *request) apart(q *query) (words string) {
	stats, periods := map[string]bool{}, map[int64]bool{}
	for _, other := range r.queries {
		if other.MetricStat != nil && (other.ReturnData == nil || *other.ReturnData) {
			stats[*other.MetricStat.Stat], periods[other.period] = true, true
		}
	}
	if len(stats) > 1 {
		words += " " + *q.MetricStat.Stat
	}
	if len(periods) > 1 {
		words += " " + strconv.FormatInt(q.period, 10)
	}
	return words
}

// placeholder is a dynamic part of a label ("Using dynamic labels").
var placeholder = regexp.MustCompile(`\$\{([A-Z_]+)(?:\('([^']*)'\))?\}`)

// dynamic fills in the dynamic parts of a label; unknown ones stay.
func (r *request) dynamic(q *query, n int, label, own string) string {
	points := q.value.List[n].Points
	var metric expr.Metric
	if n < len(q.found) {
		metric = q.found[n]
	}
	return placeholder.ReplaceAllStringFunc(label, func(match string) string {
		parts := placeholder.FindStringSubmatch(match)
		switch parts[1] {
		case "LABEL":
			return own
		case "DATAPOINT_COUNT":
			return strconv.Itoa(len(points))
		case "PROP":
			return q.property(parts[2], &metric, r.store.cfg)
		}
		name, when := strings.CutSuffix(parts[1], "_TIME")
		p, ok := summary(name, points)
		switch {
		case !ok:
			return match
		case len(points) == 0:
			return "--"
		case when:
			return time.Unix(p.Time, 0).UTC().Format("2006-01-02 15:04:05 UTC")
		}
		return strconv.FormatFloat(p.Value, 'g', 6, 64)
	})
}

// summary is the datapoint that a placeholder means.
func summary(name string, points []expr.Point) (expr.Point, bool) {
	var p expr.Point
	for i, x := range points {
		switch {
		case name == "MIN" && (i == 0 || x.Value < p.Value), name == "MAX" && (i == 0 || x.Value > p.Value),
			name == "FIRST" && i == 0, name == "LAST":
			p = x
		case name == "SUM" || name == "AVG":
			p.Value += x.Value
		}
	}
	if name == "AVG" && len(points) > 0 {
		p.Value /= float64(len(points))
	}
	switch name {
	case "MIN", "MAX", "FIRST", "LAST", "SUM", "AVG":
		return p, true
	}
	return p, false
}

// property is ${PROP('name')}.
func (q *query) property(name string, m *expr.Metric, cfg Config) string {
	switch name {
	case "AccountId":
		return cfg.Account
	case "Region":
		return cfg.Region
	case "MetricName":
		return m.Name
	case "Namespace":
		return m.Namespace
	case "Period":
		return strconv.FormatInt(q.period, 10)
	case "Stat":
		if q.MetricStat != nil {
			return aws.ToString(q.MetricStat.Stat)
		}
	}
	if dim, ok := strings.CutPrefix(name, "Dim."); ok {
		return m.Dimensions[dim]
	}
	return fmt.Sprintf("${PROP('%s')}", name)
}

// paginate cuts the datapoints from..from+limit out of all, counted over the
// results in their order. more is where the next page begins, 0 when there is
// none. A result whose datapoints go on there is PartialData.
func paginate(all []types.MetricDataResult, from, limit int) (page []types.MetricDataResult, more int) {
	page = []types.MetricDataResult{}
	total := 0
	for _, r := range all {
		total += len(r.Values)
	}
	last := total <= from+limit
	at := 0 // of the result's first datapoint
	for _, r := range all {
		n := len(r.Values)
		low, high := min(max(from-at, 0), n), min(max(from+limit-at, 0), n)
		begins := at >= from && (at < from+limit || last)
		at += n
		if low >= high && (n > 0 || !begins) {
			continue
		}
		r.Timestamps, r.Values = r.Timestamps[low:high], r.Values[low:high]
		if high < n {
			r.StatusCode = types.StatusCodePartialData
		}
		page = append(page, r)
	}
	if !last {
		more = from + limit
	}
	return page, more
}
