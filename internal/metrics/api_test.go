package metrics

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"
)

func value(name string, v float64) types.MetricDatum {
	return types.MetricDatum{MetricName: &name, Value: &v}
}

func TestPutKindsOfValues(t *testing.T) {
	f := newFixture(t)
	f.put(t, value("m", 3),
		types.MetricDatum{MetricName: aws.String("m"), Values: []float64{1, 5}, Counts: []float64{2, 1}},
		types.MetricDatum{MetricName: aws.String("m"), StatisticValues: &types.StatisticSet{SampleCount: aws.Float64(4), Sum: aws.Float64(20), Minimum: aws.Float64(-1), Maximum: aws.Float64(9)}},
		types.MetricDatum{MetricName: aws.String("d"), Value: aws.Float64(1), Dimensions: dims("b", "2", "a", "1"), Unit: types.StandardUnitBytes},
	)
	p := f.stats(t, "Test", "m", nil)
	if *p.Sum != 30 || *p.SampleCount != 8 || *p.Minimum != -1 || *p.Maximum != 9 || *p.Average != 30.0/8 || p.Unit != types.StandardUnitNone {
		t.Errorf("got %+v", *p)
	}
	if p := f.stats(t, "Test", "d", dims("a", "1", "b", "2")); p == nil || p.Unit != types.StandardUnitBytes {
		t.Errorf("with dimensions: %+v", p)
	}
	if p := f.stats(t, "Test", "d", dims("a", "1")); p != nil {
		t.Errorf("another set of dimensions has %+v", p)
	}
}

// The client compresses large requests.
func TestPutMany(t *testing.T) {
	f := newFixture(t)
	var data []types.MetricDatum
	for i := range 1000 {
		d := value(fmt.Sprint("m", i%10), 1)
		d.Dimensions = dims("shard", fmt.Sprint(i/10), "padding", strings.Repeat("x", 100))
		data = append(data, d)
	}
	f.put(t, data...)
	if n := len(f.db.List(filterAll())); n != 1000 {
		t.Errorf("%d metrics are there", n)
	}
}

func TestPutSurvivesRestart(t *testing.T) {
	dir := t.TempDir()
	f := newFixture(t, func(c *Config) { c.Dir = dir })
	f.put(t, value("m", 3))
	if err := f.db.Close(); err != nil { // nothing else is written
		t.Fatal(err)
	}
	again := newFixture(t, func(c *Config) { c.Dir = dir })
	if p := again.stats(t, "Test", "m", nil); p == nil || *p.Sum != 3 {
		t.Errorf("after the restart: %+v", p)
	}
}

// code is the code of an API error.
func code(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	return fmt.Sprint(err)
}

func TestPutRefuses(t *testing.T) {
	f := newFixture(t)
	d := func(change func(*types.MetricDatum)) []types.MetricDatum {
		out := value("m", 1)
		change(&out)
		return []types.MetricDatum{out}
	}
	const (
		invalid = "InvalidParameterValue"
		both    = "InvalidParameterCombination"
		lacks   = "MissingParameter"
	)
	now := f.clock.Now()
	tests := map[string]struct {
		data []types.MetricDatum
		code string
	}{
		"no data":              {nil, lacks},
		"no value":             {d(func(m *types.MetricDatum) { m.Value = nil }), both},
		"two kinds":            {d(func(m *types.MetricDatum) { m.Values = []float64{1} }), both},
		"value and set":        {d(func(m *types.MetricDatum) { m.StatisticValues = set(1, 1, 1, 1) }), both},
		"NaN":                  {d(func(m *types.MetricDatum) { m.Value = aws.Float64(math.NaN()) }), invalid},
		"infinite":             {d(func(m *types.MetricDatum) { m.Value = aws.Float64(math.Inf(1)) }), invalid},
		"too great":            {d(func(m *types.MetricDatum) { m.Value = aws.Float64(0x1p361) }), invalid},
		"counts without match": {d(func(m *types.MetricDatum) { m.Value, m.Values, m.Counts = nil, []float64{1, 2}, []float64{1} }), invalid},
		"negative count":       {d(func(m *types.MetricDatum) { m.Value, m.Values, m.Counts = nil, []float64{1}, []float64{-1} }), invalid},
		"151 values":           {d(func(m *types.MetricDatum) { m.Value, m.Values = nil, make([]float64, 151) }), invalid},
		"empty set":            {d(func(m *types.MetricDatum) { m.Value, m.StatisticValues = nil, set(0, 0, 0, 0) }), invalid},
		"min over max":         {d(func(m *types.MetricDatum) { m.Value, m.StatisticValues = nil, set(2, 3, 2, 1) }), invalid},
		"old":                  {d(func(m *types.MetricDatum) { m.Timestamp = aws.Time(now.Add(-maxPast - time.Second)) }), invalid},
		"of the future":        {d(func(m *types.MetricDatum) { m.Timestamp = aws.Time(now.Add(maxFuture + time.Second)) }), invalid},
		"resolution":           {d(func(m *types.MetricDatum) { m.StorageResolution = aws.Int32(30) }), invalid},
		"unit":                 {d(func(m *types.MetricDatum) { m.Unit = "Furlongs" }), invalid},
		"dimension twice":      {d(func(m *types.MetricDatum) { m.Dimensions = dims("a", "1", "a", "2") }), invalid},
		"blank dimension":      {d(func(m *types.MetricDatum) { m.Dimensions = dims("a", " ") }), invalid},
		"dimension of a colon": {d(func(m *types.MetricDatum) { m.Dimensions = dims(":a", "x") }), invalid},
		"1001 data":            {slices.Repeat([]types.MetricDatum{value("m", 1)}, 1001), invalid},
	}
	for name, test := range tests {
		_, err := f.client.PutMetricData(context.Background(), &cloudwatch.PutMetricDataInput{Namespace: aws.String("Test"), MetricData: test.data})
		if got := code(err); !strings.HasPrefix(got, test.code) && !(test.code == lacks && strings.HasPrefix(got, "MissingRequired")) {
			t.Errorf("%s: %v, want %s", name, err, test.code)
		}
	}
	_, err := f.client.PutMetricData(context.Background(), &cloudwatch.PutMetricDataInput{Namespace: aws.String("AWS/Lambda"), MetricData: []types.MetricDatum{value("m", 1)}})
	if !strings.HasPrefix(code(err), invalid) {
		t.Errorf("a namespace of AWS: %v", err)
	}
	if n := len(f.db.List(filterAll())); n != 0 {
		t.Errorf("%d metrics were kept of requests that were refused", n)
	}
}

func set(n, sum, least, greatest float64) *types.StatisticSet {
	return &types.StatisticSet{SampleCount: &n, Sum: &sum, Minimum: &least, Maximum: &greatest}
}

func TestGetMetricStatistics(t *testing.T) {
	f := newFixture(t)
	for i := range 10 {
		d := value("m", float64(i))
		d.Timestamp = aws.Time(f.begin.Add(time.Duration(i) * 10 * time.Second))
		d.StorageResolution = aws.Int32(1)
		f.put(t, d)
	}
	ask := func(period int32, change func(*cloudwatch.GetMetricStatisticsInput)) ([]types.Datapoint, error) {
		in := &cloudwatch.GetMetricStatisticsInput{
			Namespace: aws.String("Test"), MetricName: aws.String("m"), Period: &period, Statistics: []types.Statistic{types.StatisticSum},
			StartTime: aws.Time(f.begin.Add(5 * time.Second)), EndTime: aws.Time(f.begin.Add(2 * time.Minute)),
		}
		if change != nil {
			change(in)
		}
		out, err := f.client.GetMetricStatistics(context.Background(), in)
		if err != nil {
			return nil, err
		}
		if *out.Label != "m" {
			t.Errorf("the label is %q", *out.Label)
		}
		return out.Datapoints, nil
	}
	for period, want := range map[int32]map[int]float64{
		1:   {10: 1, 20: 2, 30: 3, 40: 4, 50: 5, 60: 6, 70: 7, 80: 8, 90: 9},
		30:  {0: 3, 30: 12, 60: 21, 90: 9},
		60:  {0: 15, 60: 30},
		120: {0: 45},
	} {
		points, err := ask(period, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := map[int]float64{}
		for _, p := range points {
			got[int(p.Timestamp.Sub(f.begin)/time.Second)] = *p.Sum
		}
		if !cmp.Equal(got, want) {
			t.Errorf("period %d: %s", period, cmp.Diff(want, got))
		}
	}
	for name, test := range map[string]struct {
		period int32
		change func(*cloudwatch.GetMetricStatisticsInput)
		code   string
	}{
		"period of 7":  {7, nil, "InvalidParameterValue"},
		"period of 90": {90, nil, "InvalidParameterValue"},
		"no statistic": {60, func(in *cloudwatch.GetMetricStatisticsInput) { in.Statistics = nil }, "InvalidParameterCombination"},
		"both kinds":   {60, func(in *cloudwatch.GetMetricStatisticsInput) { in.ExtendedStatistics = []string{"p50"} }, "InvalidParameterCombination"},
		"bad percentile": {60, func(in *cloudwatch.GetMetricStatisticsInput) {
			in.Statistics, in.ExtendedStatistics = nil, []string{"p101"}
		}, "InvalidParameterValue"},
		"end before start": {60, func(in *cloudwatch.GetMetricStatisticsInput) { in.EndTime = aws.Time(f.begin.Add(-time.Hour)) }, "InvalidParameterValue"},
		"1441 datapoints":  {60, func(in *cloudwatch.GetMetricStatisticsInput) { in.StartTime = aws.Time(f.begin.Add(-24 * time.Hour)) }, "InvalidParameterCombination"},
	} {
		if _, err := ask(test.period, test.change); !strings.HasPrefix(code(err), test.code) {
			t.Errorf("%s: %v, want %s", name, err, test.code)
		}
	}
	if points, err := ask(60, func(in *cloudwatch.GetMetricStatisticsInput) { in.Unit = types.StandardUnitBytes }); err != nil || len(points) != 0 {
		t.Errorf("another unit has %v, %v", points, err)
	}
	// What is too old for its period is not told.
	f.clock.Advance(4 * time.Hour)
	if points, err := ask(1, nil); err != nil || len(points) != 0 {
		t.Errorf("after 4 hours there are seconds: %v, %v", points, err)
	}
	if points, err := ask(60, nil); err != nil || len(points) != 2 {
		t.Errorf("after 4 hours there are %d minutes, %v", len(points), err)
	}
}

func TestListMetrics(t *testing.T) {
	f := newFixture(t)
	for page := range 2 {
		var data []types.MetricDatum
		for i := range 600 {
			d := value(fmt.Sprintf("m%04d", page*600+i), 1)
			d.Dimensions = dims("host", fmt.Sprint(i%3))
			data = append(data, d)
		}
		f.put(t, data...)
	}
	list := func(in cloudwatch.ListMetricsInput) (names []string, pages int) {
		p := cloudwatch.NewListMetricsPaginator(f.client, &in)
		for p.HasMorePages() {
			out, err := p.NextPage(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			pages++
			for _, m := range out.Metrics {
				names = append(names, *m.MetricName)
			}
		}
		return names, pages
	}
	names, pages := list(cloudwatch.ListMetricsInput{})
	if len(names) != 1200 || pages != 3 || !slices.IsSorted(names) || len(slices.Compact(names)) != 1200 {
		t.Errorf("%d names on %d pages", len(names), pages)
	}
	if names, _ := list(cloudwatch.ListMetricsInput{MetricName: aws.String("m0001"), Namespace: aws.String("Test")}); len(names) != 1 {
		t.Errorf("by name: %v", names)
	}
	if names, _ := list(cloudwatch.ListMetricsInput{Namespace: aws.String("Other")}); len(names) != 0 {
		t.Errorf("by another namespace: %v", names)
	}
	if names, _ := list(cloudwatch.ListMetricsInput{Dimensions: []types.DimensionFilter{{Name: aws.String("host"), Value: aws.String("2")}}}); len(names) != 400 {
		t.Errorf("by dimension: %d", len(names))
	}
	if names, _ := list(cloudwatch.ListMetricsInput{Dimensions: []types.DimensionFilter{{Name: aws.String("host")}}}); len(names) != 1200 {
		t.Errorf("by a dimension's name: %d", len(names))
	}
	f.clock.Advance(4 * time.Hour)
	f.put(t, value("fresh", 1))
	if names, _ := list(cloudwatch.ListMetricsInput{RecentlyActive: types.RecentlyActivePt3h}); !cmp.Equal(names, []string{"fresh"}) {
		t.Errorf("recently active: %v", names)
	}
	f.clock.Advance(maxPast)
	if names, _ := list(cloudwatch.ListMetricsInput{}); len(names) != 1 {
		t.Errorf("after two weeks: %v", names)
	}
	if _, err := f.client.ListMetrics(context.Background(), &cloudwatch.ListMetricsInput{NextToken: aws.String("%%")}); !strings.Contains(code(err), "InvalidParameterValue") && !strings.Contains(code(err), "InvalidNextToken") {
		t.Errorf("a bad token: %v", err)
	}
}

func metricQuery(id, name, stat string, period int32) types.MetricDataQuery {
	return types.MetricDataQuery{Id: &id, MetricStat: &types.MetricStat{
		Metric: &types.Metric{Namespace: aws.String("Test"), MetricName: &name}, Period: &period, Stat: &stat,
	}}
}

func mathQuery(id, source string) types.MetricDataQuery {
	return types.MetricDataQuery{Id: &id, Expression: &source}
}

// data asks for the ten minutes from the begin, oldest first.
func (f *fixture) data(t *testing.T, queries ...types.MetricDataQuery) (map[string][]float64, error) {
	t.Helper()
	out, err := f.client.GetMetricData(context.Background(), &cloudwatch.GetMetricDataInput{
		MetricDataQueries: queries, StartTime: &f.begin, EndTime: aws.Time(f.begin.Add(10 * time.Minute)), ScanBy: types.ScanByTimestampAscending,
	})
	if err != nil {
		return nil, err
	}
	got := map[string][]float64{}
	for _, r := range out.MetricDataResults {
		if len(r.Values) != len(r.Timestamps) || r.StatusCode != types.StatusCodeComplete {
			t.Errorf("%s: %d values, %d times, %s", *r.Id, len(r.Values), len(r.Timestamps), r.StatusCode)
		}
		got[*r.Id+"/"+*r.Label] = append(got[*r.Id+"/"+*r.Label], r.Values...)
	}
	return got, nil
}

// fill puts a at minutes 0 to 4 (1 to 5) and b at 0, 2 and 4 (2, 4, 0).
func (f *fixture) fill(t *testing.T) {
	t.Helper()
	at := func(name string, minute int, v float64) types.MetricDatum {
		d := value(name, v)
		d.Timestamp = aws.Time(f.begin.Add(time.Duration(minute) * time.Minute))
		return d
	}
	f.put(t, at("a", 0, 1), at("a", 1, 2), at("a", 2, 3), at("a", 3, 4), at("a", 4, 5), at("b", 0, 2), at("b", 2, 4), at("b", 4, 0))
}

func TestGetMetricData(t *testing.T) {
	f := newFixture(t)
	f.fill(t)
	a, b := metricQuery("a", "a", "Sum", 60), metricQuery("b", "b", "Average", 60)
	hidden := a
	hidden.ReturnData = aws.Bool(false)
	labelled := a
	labelled.Label = aws.String("most ${MAX} of ${PROP('MetricName')} ${NOPE}")
	for name, test := range map[string]struct {
		queries []types.MetricDataQuery
		want    map[string][]float64
	}{
		"metrics":       {[]types.MetricDataQuery{a, b}, map[string][]float64{"a/a Sum": {1, 2, 3, 4, 5}, "b/b Average": {2, 4, 0}}},
		"longer":        {[]types.MetricDataQuery{metricQuery("x", "a", "p50", 120)}, map[string][]float64{"x/a": {1, 3, 5}}},
		"nothing there": {[]types.MetricDataQuery{metricQuery("x", "zzz", "Sum", 60)}, map[string][]float64{"x/zzz": nil}},
		"math":          {[]types.MetricDataQuery{mathQuery("e", "100 * a / b"), hidden, b}, map[string][]float64{"e/e": {50, 75}, "b/b": {2, 4, 0}}},
		"by reference":  {[]types.MetricDataQuery{mathQuery("e2", "e1 + 1"), mathQuery("e1", "-a"), hidden}, map[string][]float64{"e2/e2": {0, -1, -2, -3, -4}, "e1/e1": {-1, -2, -3, -4, -5}}},
		"fill": {[]types.MetricDataQuery{hidden, b, mathQuery("e", "FILL(b, 0) + a")},
			map[string][]float64{"b/b": {2, 4, 0}, "e/e": {3, 2, 7, 4, 5}}},
		"metrics()": {[]types.MetricDataQuery{a, b, mathQuery("e", "SUM(METRICS())")},
			map[string][]float64{"a/a Sum": {1, 2, 3, 4, 5}, "b/b Average": {2, 4, 0}, "e/e": {3, 2, 7, 4, 5}}},
		"search": {[]types.MetricDataQuery{mathQuery("e", `SEARCH('{Test} MetricName="a"', 'Sum', 300)`)}, map[string][]float64{"e/a": {15}}},
		"label":  {[]types.MetricDataQuery{labelled}, map[string][]float64{"a/most 5 of a ${NOPE}": {1, 2, 3, 4, 5}}},
	} {
		got, err := f.data(t, test.queries...)
		for k, v := range got {
			if len(v) == 0 {
				got[k] = nil
			}
		}
		if err != nil || !cmp.Equal(got, test.want) {
			t.Errorf("%s: %v %s", name, err, cmp.Diff(test.want, got))
		}
	}
}

func TestGetMetricDataRefuses(t *testing.T) {
	f := newFixture(t)
	f.fill(t)
	a := metricQuery("a", "a", "Sum", 60)
	bothKinds := a
	bothKinds.Expression = aws.String("1")
	foreign := a
	foreign.AccountId = aws.String("999999999999")
	for name, test := range map[string]struct {
		queries []types.MetricDataQuery
		says    string
	}{
		"twice the same id": {[]types.MetricDataQuery{a, a}, "unique"},
		"a bad id":          {[]types.MetricDataQuery{metricQuery("A", "a", "Sum", 60)}, "pattern"},
		"both kinds":        {[]types.MetricDataQuery{bothKinds}, "mutually exclusive"},
		"neither kind":      {[]types.MetricDataQuery{{Id: aws.String("x")}}, "member.1.MetricStat is required."},
		"a bad statistic":   {[]types.MetricDataQuery{metricQuery("a", "a", "sum", 60)}, "The value sum for parameter MetricDataQueries.member.1.MetricStat.Stat is not a valid statistic.\n"},
		"a bad period":      {[]types.MetricDataQuery{metricQuery("a", "a", "Sum", 61)}, "Period must be a value in the set"},
		"another account":   {[]types.MetricDataQuery{foreign}, "account 999999999999"},
		"unknown function":  {[]types.MetricDataQuery{a, mathQuery("e", "WOBBLE(a)")}, "WOBBLE"},
		"not served":        {[]types.MetricDataQuery{a, mathQuery("e", "ANOMALY_DETECTION_BAND(a)")}, "ANOMALY_DETECTION_BAND"},
		"insights":          {[]types.MetricDataQuery{mathQuery("e", "SELECT AVG(x) FROM y")}, "SELECT"},
		"unknown variable":  {[]types.MetricDataQuery{mathQuery("e", "nothing + 1")}, "nothing"},
		"circle":            {[]types.MetricDataQuery{mathQuery("e", "f"), mathQuery("f", "e")}, "itself"},
		"scalar":            {[]types.MetricDataQuery{a, mathQuery("e", "SUM(a)")}, "scalar"},
		"syntax":            {[]types.MetricDataQuery{a, mathQuery("e", "a +")}, "early"},
	} {
		_, err := f.data(t, test.queries...)
		if !strings.HasPrefix(code(err), "Validation") || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want a validation error with %q", name, err, test.says)
		}
	}
}

// All pages together are what one page would be.
func TestGetMetricDataPages(t *testing.T) {
	f := newFixture(t)
	f.fill(t)
	queries := []types.MetricDataQuery{metricQuery("a", "a", "Sum", 60), metricQuery("b", "b", "Sum", 60), metricQuery("none", "none", "Sum", 60)}
	for limit := int32(1); limit < 12; limit++ {
		in := &cloudwatch.GetMetricDataInput{MetricDataQueries: queries, StartTime: &f.begin, EndTime: aws.Time(f.begin.Add(10 * time.Minute)), MaxDatapoints: &limit}
		got, seen := map[string][]float64{}, map[string]bool{}
		p := cloudwatch.NewGetMetricDataPaginator(f.client, in)
		for p.HasMorePages() {
			out, err := p.NextPage(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for _, r := range out.MetricDataResults {
				n += len(r.Values)
				seen[*r.Id] = true
				got[*r.Id] = append(got[*r.Id], r.Values...)
				if partial := len(got[*r.Id]) < map[string]int{"a": 5, "b": 3}[*r.Id]; partial != (r.StatusCode == types.StatusCodePartialData) {
					t.Errorf("limit %d: %s with %d values is %s", limit, *r.Id, len(got[*r.Id]), r.StatusCode)
				}
			}
			if n > int(limit) {
				t.Errorf("limit %d: a page of %d", limit, n)
			}
		}
		if !cmp.Equal(got["a"], []float64{5, 4, 3, 2, 1}) || !cmp.Equal(got["b"], []float64{0, 4, 2}) || !seen["none"] {
			t.Errorf("limit %d: %v", limit, got)
		}
	}
	out, err := f.client.GetMetricData(context.Background(), &cloudwatch.GetMetricDataInput{MetricDataQueries: queries, StartTime: &f.begin, EndTime: aws.Time(f.begin.Add(10 * time.Minute)), MaxDatapoints: aws.Int32(1)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.client.GetMetricData(context.Background(), &cloudwatch.GetMetricDataInput{MetricDataQueries: queries[:1], StartTime: &f.begin, EndTime: aws.Time(f.begin.Add(10 * time.Minute)), NextToken: out.NextToken})
	if !strings.Contains(code(err), "InvalidNextToken") {
		t.Errorf("a token of another request: %v", err)
	}
}

// A random walk through the API: sums by any period are the sums of what was
// put.
func TestPeriodsAddUp(t *testing.T) {
	f := newFixture(t)
	r := rand.New(rand.NewPCG(7, 7))
	var data []types.MetricDatum
	total := 0.0
	for range 500 {
		d := value("m", float64(r.IntN(10)))
		d.Timestamp = aws.Time(f.begin.Add(time.Duration(r.IntN(600)) * time.Second))
		if r.IntN(2) == 0 {
			d.StorageResolution = aws.Int32(1)
		}
		total += *d.Value
		data = append(data, d)
	}
	f.put(t, data...)
	for _, period := range []int32{1, 5, 10, 20, 30, 60, 120, 300, 600, 3600} {
		got, err := f.data(t, metricQuery("m", "m", "Sum", period))
		if err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for _, v := range got["m/m"] {
			sum += v
		}
		if sum != total {
			t.Errorf("by %d s the sum is %v, want %v", period, sum, total)
		}
	}
}

// What was put in the second that the range ends in is there.
func TestEndWithinASecond(t *testing.T) {
	f := newFixture(t)
	f.clock.Advance(200 * time.Millisecond)
	f.put(t, value("m", 1))
	end := f.begin.Add(900 * time.Millisecond)
	out, err := f.client.GetMetricStatistics(context.Background(), &cloudwatch.GetMetricStatisticsInput{
		Namespace: aws.String("Test"), MetricName: aws.String("m"), Period: aws.Int32(60), Statistics: []types.Statistic{types.StatisticSum},
		StartTime: aws.Time(f.begin.Add(-time.Minute)), EndTime: &end,
	})
	if err != nil || len(out.Datapoints) != 1 {
		t.Errorf("got %+v, %v", out, err)
	}
}
