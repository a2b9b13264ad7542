package metrics

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/firn-run/firn"
	"github.com/firn-run/firn/internal/metrics/expr"
	"github.com/firn-run/firn/internal/metrics/series"
)

// Limits of GetMetricData (its page in the CloudWatch API Reference), and of
// the work that a request may cause, which are ours.
const (
	maxQueries    = 500
	maxPage       = 100_800 // datapoints of an answer
	maxFound      = 500     // series of one search
	maxComputed   = 20_000_000
	defaultPeriod = 60
)

// queryID is the pattern of MetricDataQuery.Id.
var queryID = regexp.MustCompile(`^[a-z][a-zA-Z0-9_]*$`)

func invalid(format string, args ...any) error {
	return firn.Faultf(firn.Validation, format, args...)
}

// request is a GetMetricData on its way: results are computed when they are
// first asked for, since expressions may stand before what they refer to.
type request struct {
	store   *Store
	ctx     context.Context
	in      *cloudwatch.GetMetricDataInput
	now     time.Time
	queries map[string]*query
	budget  int
	period  int64 // of constants: the least of the request's metrics
}

// query is one MetricDataQuery.
type query struct {
	*types.MetricDataQuery
	stat       series.Stat
	dimensions []series.Dimension // of MetricStat
	period     int64
	computing  bool
	done       bool
	value      expr.Value
	found      []expr.Metric // of the series in value, where they are metrics
	message    *types.MessageData
}

// getMetricData serves GetMetricData.
func (s *Store) getMetricData(ctx context.Context, in *cloudwatch.GetMetricDataInput) (*cloudwatch.GetMetricDataOutput, error) {
	page, err := parseToken(in.NextToken)
	if err != nil {
		return nil, err
	}
	r := &request{store: s, ctx: ctx, in: in, now: s.cfg.Now(), queries: map[string]*query{}, budget: maxComputed}
	if err := r.check(); err != nil {
		return nil, err
	}
	asked := fingerprint(in)
	if aws.ToString(in.NextToken) != "" && page.Query != asked {
		return nil, &types.InvalidNextToken{Message: aws.String("The NextToken belongs to another request.")}
	}
	s.settle()
	results, err := r.results()
	if err != nil {
		return nil, err
	}
	out := &cloudwatch.GetMetricDataOutput{Messages: []types.MessageData{}}
	limit := maxPage
	if in.MaxDatapoints != nil {
		limit = int(min(*in.MaxDatapoints, maxPage))
	}
	var more int
	out.MetricDataResults, more = paginate(results, page.At, limit)
	if more > 0 {
		out.NextToken = aws.String(token{At: more, Query: asked}.String())
	}
	return out, nil
}

// fingerprint tells requests apart, so that no token is used with another.
func fingerprint(in *cloudwatch.GetMetricDataInput) uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, in.StartTime.Unix(), in.EndTime.Unix(), in.ScanBy)
	for _, q := range in.MetricDataQueries {
		fmt.Fprintf(h, "|%s|%s", aws.ToString(q.Id), aws.ToString(q.Expression))
		if q.MetricStat != nil && q.MetricStat.Metric != nil {
			m := q.MetricStat
			fmt.Fprint(h, aws.ToString(m.Metric.Namespace), "|", aws.ToString(m.Metric.MetricName), "|", aws.ToString(m.Stat), "|", aws.ToInt32(m.Period))
		}
	}
	return h.Sum64()
}

// check reads the queries: first what can be told of each by itself.
func (r *request) check() error {
	var wrong faults
	if n := len(r.in.MetricDataQueries); n == 0 {
		wrong.required("MetricDataQueries")
	} else if wrong.size("MetricDataQueries", n, maxQueries); n > maxQueries {
		return wrong.validation()
	}
	if r.in.StartTime == nil {
		wrong.required("StartTime")
	}
	if r.in.EndTime == nil {
		wrong.required("EndTime")
	}
	if r.in.StartTime != nil && r.in.EndTime != nil {
		wrong.ordered(timeRange{*r.in.StartTime, *r.in.EndTime}, turnedData)
	}
	if r.in.MaxDatapoints != nil && *r.in.MaxDatapoints < 1 {
		wrong.bad("The parameter MaxDatapoints must be greater than 0.")
	}
	if by := r.in.ScanBy; by != "" && !slices.Contains(by.Values(), by) {
		wrong.bad("The parameter ScanBy must be a value in the set [ TimestampDescending, TimestampAscending ].")
	}
	list := make([]*query, len(r.in.MetricDataQueries))
	for i := range list {
		list[i] = wrong.query(fmt.Sprintf("MetricDataQueries.member.%d", i+1), &r.in.MetricDataQueries[i])
	}
	if err := wrong.validation(); err != nil {
		return err
	}
	for _, q := range list {
		if r.queries[*q.Id] != nil {
			return invalid("The values for parameter id in MetricDataQueries are not unique.")
		}
		if err := q.check(r.store.cfg.Account); err != nil {
			return err
		}
		if q.MetricStat != nil && (r.period == 0 || q.period < r.period) {
			r.period = q.period
		}
		r.queries[*q.Id] = q
	}
	if r.period == 0 {
		r.period = defaultPeriod
	}
	return nil
}

// query reads one query, which has the name path.
func (f *faults) query(path string, in *types.MetricDataQuery) *query {
	q := &query{MetricDataQuery: in}
	if f.present(path+".Id", in.Id) && !queryID.MatchString(*in.Id) {
		f.bad("The value %s for parameter %s.Id is not matching the expected pattern ^[a-z][a-zA-Z0-9_]*$.", *in.Id, path)
	}
	if in.Period != nil {
		if q.period = int64(*in.Period); !goodPeriod(q.period) {
			f.bad(aPeriod, path+".Period")
		}
	}
	switch expression := aws.ToString(in.Expression) != ""; {
	case expression && in.MetricStat != nil:
		f.both(path+".Expression", path+".MetricStat")
	case !expression && in.MetricStat == nil:
		f.required(path + ".MetricStat")
	case !expression:
		f.metricStat(path+".MetricStat", q)
	}
	return q
}

func (f *faults) metricStat(path string, q *query) {
	m := q.MetricStat
	if m.Metric == nil {
		f.required(path + ".Metric")
	} else {
		f.present(path+".Metric.Namespace", m.Metric.Namespace)
		f.present(path+".Metric.MetricName", m.Metric.MetricName)
		q.dimensions = f.dimensions(path+".Metric.Dimensions", m.Metric.Dimensions)
	}
	if m.Period == nil {
		f.required(path + ".Period")
	} else if q.period = int64(*m.Period); !goodPeriod(q.period) {
		f.bad(aPeriod, path+".Period")
	}
	if m.Stat == nil {
		f.required(path + ".Stat")
	} else if stat, err := series.ParseStat(*m.Stat); err != nil {
		f.bad("The value %s for parameter %s.Stat is not a valid statistic.", *m.Stat, path)
	} else {
		q.stat = stat
	}
	if !knownUnit(string(m.Unit)) {
		f.bad("The parameter %s.Unit must be a value in the set [ %s ].", path, units())
	}
}

// check checks what a query means.
func (q *query) check(account string) error {
	if id := aws.ToString(q.AccountId); id != "" && id != account {
		return invalid("MetricDataQuery %s: metrics of account %s are not to be had here; leave AccountId out.", *q.Id, id)
	}
	if q.MetricStat != nil {
		return nil
	}
	if word, _, _ := strings.Cut(strings.TrimSpace(*q.Expression), " "); strings.EqualFold(word, "SELECT") {
		return invalid("Error in expression '%s': queries of Metrics Insights (SELECT) are not served by firn; use SEARCH.", *q.Id)
	}
	if err := expr.Check(*q.Expression); err != nil {
		return expressionError(*q.Id, err)
	}
	return nil
}

func expressionError(id string, err error) error {
	if fault, ok := errors.AsType[*expr.Error](err); ok {
		return invalid("Error in expression '%s': %s", id, fault.Message)
	}
	return err
}

// compute returns the value of a query, computing it on the first call.
func (r *request) compute(id string) (*query, error) {
	q := r.queries[id]
	switch {
	case q == nil:
		return nil, &expr.Error{Message: "undefined variable " + id}
	case q.done:
		return q, nil
	case q.computing:
		return nil, &expr.Error{Message: "the expression refers to itself by way of " + id}
	case r.ctx.Err() != nil:
		return nil, r.ctx.Err()
	}
	q.computing = true
	var err error
	if q.MetricStat != nil {
		err = r.fetch(q)
	} else {
		err = r.evaluate(q)
	}
	q.done = true
	return q, err
}

// fetch reads the datapoints of a metric.
func (r *request) fetch(q *query) error {
	m := q.MetricStat
	key := series.Key{Namespace: *m.Metric.Namespace, Name: *m.Metric.MetricName, Dimensions: q.dimensions, Unit: string(m.Unit)}
	s, several, err := r.read(key, q.stat, q.period)
	if err != nil {
		return err
	}
	if len(several) > 0 {
		q.message = &types.MessageData{Code: aws.String("MultipleUnits"), Value: aws.String("Multiple units returned: '[" + strings.Join(several, ", ") + "]'")}
	}
	s.Label = key.Name
	q.value = expr.Value{Kind: expr.TimeSeries, List: []expr.Series{s}}
	q.found = []expr.Metric{searchable(series.NewKey(key.Namespace, key.Name, key.Dimensions, ""))}
	return nil
}

// read reads one metric. CloudWatch does not convert units: of data with
// several, when none is asked for, each period tells what its first unit has,
// in alphabetical order. Then several has all of them.
func (r *request) read(key series.Key, stat series.Stat, period int64) (out expr.Series, several []string, err error) {
	at := rounded(*r.in.StartTime, *r.in.EndTime, period, r.now)
	points, err := r.store.db.Query(series.Query{
		Namespace: key.Namespace, Name: key.Name, Dimensions: key.Dimensions, Unit: key.Unit,
		Start: at.start, End: at.end, Period: time.Duration(period) * time.Second,
	})
	if err != nil {
		return out, nil, err
	}
	if r.budget -= len(points); r.budget < 0 {
		return out, nil, invalid("The request asks for too many datapoints; shorten its time range or lengthen its periods.")
	}
	out.Period = period
	var units []string
	for i, p := range points {
		if tooFine(p.Time, period, r.now) {
			continue
		}
		if !slices.Contains(units, p.Unit) {
			units = append(units, p.Unit)
		}
		if i > 0 && points[i-1].Time.Equal(p.Time) {
			continue
		}
		if v, ok := stat.Of(p.Point); ok {
			out.Points = append(out.Points, expr.Point{Time: p.Time.Unix(), Value: v})
		}
	}
	if len(units) > 1 {
		slices.Sort(units)
		several = units
	}
	return out, several, nil
}

// evaluate computes an expression.
func (r *request) evaluate(q *query) error {
	period := r.period
	if q.period > 0 {
		period = q.period
	}
	at := rounded(*r.in.StartTime, *r.in.EndTime, period, r.now)
	v, err := expr.Eval(*q.Expression, &expr.Env{
		Lookup: func(id string) (expr.Value, error) {
			other, err := r.compute(id)
			if err != nil {
				return expr.Value{}, err
			}
			q.found = append(q.found, other.found...)
			return other.value, nil
		},
		Metrics: r.metrics,
		Search: func(s *expr.Search, stat string, period int64) ([]expr.Series, error) {
			return r.search(q, s, stat, period)
		},
		Start: at.start.Unix(), End: at.end.Unix(), Period: period, Budget: &r.budget,
	})
	if err != nil {
		return expressionError(*q.Id, err)
	}
	q.value = v
	return nil
}

// metrics are the series of the request's metrics whose id contains part.
func (r *request) metrics(part string) ([]expr.Series, error) {
	var out []expr.Series
	for i := range r.in.MetricDataQueries {
		id := *r.in.MetricDataQueries[i].Id
		if r.queries[id].MetricStat == nil || !strings.Contains(id, part) {
			continue
		}
		q, err := r.compute(id)
		if err != nil {
			return nil, err
		}
		out = append(out, q.value.List...)
	}
	return out, nil
}

// search reads all metrics that a search finds.
func (r *request) search(q *query, s *expr.Search, name string, period int64) ([]expr.Series, error) {
	stat, err := series.ParseStat(name)
	if err != nil {
		return nil, &expr.Error{Message: fmt.Sprintf("%q is not a statistic", name)}
	}
	if period == 0 {
		period = cmpOr(q.period, r.period)
	}
	if !goodPeriod(period) {
		return nil, &expr.Error{Message: "the period of SEARCH must be 1, 5, 10, 20, 30 or a multiple of 60"}
	}
	var out []expr.Series
	for _, found := range r.store.db.List(series.Filter{Since: r.now.Add(-maxPast)}) {
		m := searchable(found.Key)
		if !s.Matches(&m) {
			continue
		}
		if len(out) == maxFound {
			q.message = &types.MessageData{Code: aws.String("MaxMetricsExceeded"), Value: aws.String(fmt.Sprintf("The search found more than %d metrics; only the first are returned.", maxFound))}
			break
		}
		one, _, err := r.read(found.Key, stat, period)
		if err != nil {
			return nil, err
		}
		one.Label = searchLabel(found.Key)
		out = append(out, one)
		q.found = append(q.found, m)
	}
	return out, nil
}

func cmpOr(a, b int64) int64 {
	if a != 0 {
		return a
	}
	return b
}

func searchable(k series.Key) expr.Metric {
	m := expr.Metric{Namespace: k.Namespace, Name: k.Name, Dimensions: map[string]string{}}
	for _, d := range k.Dimensions {
		m.Dimensions[d.Name] = d.Value
	}
	return m
}

// searchLabel is the values of the dimensions and the name.
func searchLabel(k series.Key) string {
	var words []string
	for _, d := range k.Dimensions {
		words = append(words, d.Value)
	}
	return strings.Join(append(words, k.Name), " ")
}
