package metrics

import (
	"context"
	"errors"
	"math"
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

// said is what an error tells its caller.
func said(err error) string {
	if fault, ok := errors.AsType[smithy.APIError](err); ok {
		return fault.ErrorCode() + ": " + fault.ErrorMessage()
	}
	return "no error of the API"
}

// What AWS was seen to answer to requests that are wrong. The SDK checks what
// is missing before it sends, which other clients do not: those cases go past
// it.
func TestFaultsAsRecorded(t *testing.T) {
	f := newFixture(t)
	past := f.begin.Add(-maxPast - time.Minute)
	put := func(data ...types.MetricDatum) string {
		_, err := f.putMetricData(context.Background(), &cloudwatch.PutMetricDataInput{Namespace: aws.String("Test"), MetricData: data})
		return said(err)
	}
	with := func(change func(*types.MetricDatum)) types.MetricDatum {
		d := value("m", 1)
		change(&d)
		return d
	}
	stats := func(change func(*cloudwatch.GetMetricStatisticsInput)) string {
		in := &cloudwatch.GetMetricStatisticsInput{
			Namespace: aws.String("Test"), MetricName: aws.String("m"), Period: aws.Int32(60),
			StartTime: &past, EndTime: &f.begin, Statistics: []types.Statistic{"Sum"},
		}
		change(in)
		_, err := f.getMetricStatistics(context.Background(), in)
		return said(err)
	}
	data := func(end time.Time, queries ...types.MetricDataQuery) string {
		_, err := f.getMetricData(context.Background(), &cloudwatch.GetMetricDataInput{MetricDataQueries: queries, StartTime: &f.begin, EndTime: &end})
		return err.Error()
	}
	_, noNamespace := f.putMetricData(context.Background(), &cloudwatch.PutMetricDataInput{MetricData: []types.MetricDatum{value("m", 1)}})
	_, reserved := f.putMetricData(context.Background(), &cloudwatch.PutMetricDataInput{Namespace: aws.String("AWS/X"), MetricData: []types.MetricDatum{value("m", 1)}})
	old := with(func(d *types.MetricDatum) { d.Timestamp = &past })
	later := f.begin.Add(time.Hour)
	for _, test := range []struct{ got, want string }{
		{said(noNamespace), "MissingRequiredParameterException: The parameter Namespace is required."},
		{said(reserved), "InvalidParameterValueException: The value AWS/ for parameter Namespace is invalid."},
		{put(), "MissingRequiredParameterException: The parameter MetricData is required."},
		{put(value("m", 1), with(func(d *types.MetricDatum) {
			d.Dimensions = []types.Dimension{{Name: aws.String("d"), Value: aws.String("")}}
		})), "MissingRequiredParameterException: The parameter MetricData.member.2.Dimensions.member.1.Value is required."},
		{put(old, old), "InvalidParameterValueException: The parameter MetricData.member.1.Timestamp must specify a time within the past two weeks.\nThe parameter MetricData.member.2.Timestamp must specify a time within the past two weeks."},
		{put(with(func(d *types.MetricDatum) { d.Dimensions = dims("a", "1", "a", "2") })), "InvalidParameterValueException: No metric may specify the same dimension name twice."},
		{put(with(func(d *types.MetricDatum) { d.StorageResolution = aws.Int32(300) })), "InvalidParameterValueException: The parameter MetricData.member.1.StorageResolution must be a value in the set [ 1, 60 ]."},
		{put(with(func(d *types.MetricDatum) { d.Value, d.Values = nil, make([]float64, 151) })), "InvalidParameterValueException: The collection MetricData.member.1.Values must not have a size greater than 150."},
		{put(with(func(d *types.MetricDatum) { d.Dimensions = dims("a", "1", "b", "ä"+strings.Repeat("a", 1023)) })), "InvalidParameterValueException: The value for parameter MetricData.member.1.Dimensions.member.2.Value contains non-ASCII characters.\nThe parameter MetricData.member.1.Dimensions.member.2.Value must be shorter than 1025 characters."},
		{put(with(func(d *types.MetricDatum) { d.Value = aws.Float64(math.NaN()) })), "InvalidParameterValueException: The value NaN for parameter MetricData.member.1.Value is invalid."},
		{put(with(func(d *types.MetricDatum) { d.Value = aws.Float64(math.Inf(-1)) })), "InvalidParameterValueException: The value -Infinity for parameter MetricData.member.1.Value is invalid."},
		{put(slices.Repeat([]types.MetricDatum{old}, 1001)...), "InvalidParameterValueException: The collection MetricData must not have a size greater than 1000."},
		{put(with(func(d *types.MetricDatum) { d.Values = []float64{1, 10} })), "InvalidParameterCombinationException: The parameters MetricData.member.1.Value and MetricData.member.1.Values are mutually exclusive and you have specified both."},
		{put(with(func(d *types.MetricDatum) { d.StatisticValues = set(10, 55, 1, 10) })), "InvalidParameterCombinationException: The parameters MetricData.member.1.Value and MetricData.member.1.StatisticValues are mutually exclusive and you have specified both."},
		{put(with(func(d *types.MetricDatum) { d.Value, d.Values, d.Counts = nil, []float64{1, 10}, []float64{2, 4, 5} })), "InvalidParameterValueException: The parameters MetricData.member.1.Values and MetricData.member.1.Counts must be of the same size."},
		{stats(func(in *cloudwatch.GetMetricStatisticsInput) { in.Statistics = nil }), "InvalidParameterCombinationException: At least one of the parameters Statistics and ExtendedStatistics must be specified."},
		{stats(func(in *cloudwatch.GetMetricStatisticsInput) { in.Statistics = []types.Statistic{"p99"} }), "InvalidParameterValueException: The parameter Statistics.member.1.<list element> must be a value in the set [SampleCount, Average, Sum, Minimum, Maximum]."},
		{stats(func(in *cloudwatch.GetMetricStatisticsInput) { in.StartTime = in.EndTime }), "InvalidParameterValueException: The parameter StartTime must not equal parameter EndTime."},
		{stats(func(*cloudwatch.GetMetricStatisticsInput) {}), "InvalidParameterCombinationException: You have requested up to 20161 datapoints, which exceeds the limit of 1440. You may reduce the datapoints requested by increasing Period, or decreasing the time range."},
		{data(later, types.MetricDataQuery{Id: aws.String("e")}), "ValidationException: The parameter MetricDataQueries.member.1.MetricStat is required.\n"},
		{data(later, metricQuery("a", "a", "None", 60), metricQuery("b", "b", "", 60)), "ValidationException: The value None for parameter MetricDataQueries.member.1.MetricStat.Stat is not a valid statistic.\nThe value  for parameter MetricDataQueries.member.2.MetricStat.Stat is not a valid statistic.\n"},
		{data(f.begin, metricQuery("a", "a", "Sum", 60)), "ValidationException: The parameter StartTime must not equal parameter EndTime.\n"},
		{data(f.begin.Add(-1), metricQuery("a", "a", "Sum", 60)), "ValidationException: The parameter EndTime must be greater than StartTime.\n"},
		{stats(func(in *cloudwatch.GetMetricStatisticsInput) { in.StartTime, in.EndTime = in.EndTime, in.StartTime }), "InvalidParameterValueException: The parameter StartTime must be less than the parameter EndTime."},
		{data(later, metricQuery("6a", "a", "Sum", 60)), "ValidationException: The value 6a for parameter MetricDataQueries.member.1.Id is not matching the expected pattern ^[a-z][a-zA-Z0-9_]*$.\n"},
		{data(later, slices.Repeat([]types.MetricDataQuery{metricQuery("a", "a", "Sum", 60)}, 501)...), "ValidationException: The collection MetricDataQueries must not have a size greater than 500.\n"},
	} {
		if !strings.Contains(test.got, test.want) || strings.Count(test.got, "\n") != strings.Count(test.want, "\n") {
			t.Errorf("got  %q\nwant %q", test.got, test.want)
		}
	}
}

// No input, however little it has, is answered by a panic.
func TestFaultsOfWhatIsEmpty(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	_, put := f.putMetricData(ctx, &cloudwatch.PutMetricDataInput{})
	_, datum := f.putMetricData(ctx, &cloudwatch.PutMetricDataInput{Namespace: aws.String("N"), MetricData: []types.MetricDatum{{StatisticValues: &types.StatisticSet{}, Dimensions: []types.Dimension{{}}}}})
	_, stats := f.getMetricStatistics(ctx, &cloudwatch.GetMetricStatisticsInput{})
	_, data := f.getMetricData(ctx, &cloudwatch.GetMetricDataInput{})
	_, query := f.getMetricData(ctx, &cloudwatch.GetMetricDataInput{StartTime: &f.begin, EndTime: aws.Time(f.begin.Add(1)), MetricDataQueries: []types.MetricDataQuery{{}, {MetricStat: &types.MetricStat{}}, {MetricStat: &types.MetricStat{Metric: &types.Metric{}}}}})
	for name, err := range map[string]error{"put": put, "datum": datum, "statistics": stats, "data": data, "query": query} {
		if err == nil || !strings.Contains(err.Error(), "is required.") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A set of statistics goes before values that stand beside it.
func TestPutSetBesideValues(t *testing.T) {
	f := newFixture(t)
	f.put(t, types.MetricDatum{MetricName: aws.String("m"), Values: []float64{1, 10}, StatisticValues: set(10, 55, 1, 10)})
	if p := f.stats(t, "Test", "m", nil); p == nil || *p.SampleCount != 10 || *p.Sum != 55 {
		t.Errorf("got %+v", p)
	}
}

// Recorded from AWS: units are not added up.
func TestGetMetricDataOfSeveralUnits(t *testing.T) {
	f := newFixture(t)
	unit := func(v float64, unit types.StandardUnit) types.MetricDatum {
		d := value("m", v)
		d.Unit = unit
		return d
	}
	ask := func() (float64, string) {
		out, err := f.client.GetMetricData(context.Background(), &cloudwatch.GetMetricDataInput{
			MetricDataQueries: []types.MetricDataQuery{metricQuery("m1", "m", "Sum", 60)}, StartTime: &f.begin, EndTime: aws.Time(f.begin.Add(time.Minute)),
		})
		if err != nil || len(out.MetricDataResults) != 1 || len(out.MetricDataResults[0].Values) != 1 {
			t.Fatalf("%+v, %v", out, err)
		}
		r := out.MetricDataResults[0]
		if len(r.Messages) == 0 {
			return r.Values[0], ""
		}
		return r.Values[0], *r.Messages[0].Code + " " + *r.Messages[0].Value
	}
	f.put(t, unit(60000, "Milliseconds"))
	if v, message := ask(); v != 60000 || message != "" {
		t.Errorf("one unit: %v, %s", v, message)
	}
	f.put(t, unit(60, "Seconds"))
	if v, message := ask(); v != 60000 || message != "MultipleUnits Multiple units returned: '[Milliseconds, Seconds]'" {
		t.Errorf("two units: %v, %s", v, message)
	}
	f.put(t, unit(60000, "Milliseconds"), unit(60, "Seconds"), unit(5, "Count"))
	if v, message := ask(); v != 5 || message != "MultipleUnits Multiple units returned: '[Count, Milliseconds, Seconds]'" {
		t.Errorf("three units: %v, %s", v, message)
	}
}

// Recorded from AWS: names alone do not tell these metrics apart.
func TestLabelsTellApart(t *testing.T) {
	f := newFixture(t)
	f.put(t, value("metric1", 1))
	for _, test := range []struct {
		first, second types.MetricDataQuery
		want          []string
	}{
		{metricQuery("a", "metric1", "Sum", 60), metricQuery("b", "metric1", "Minimum", 30), []string{"metric1 Sum 60", "metric1 Minimum 30"}},
		{metricQuery("a", "metric1", "Sum", 60), metricQuery("b", "metric1", "Minimum", 60), []string{"metric1 Sum", "metric1 Minimum"}},
		{metricQuery("a", "metric1", "Sum", 60), metricQuery("b", "metric1", "Sum", 30), []string{"metric1 60", "metric1 30"}},
		{metricQuery("a", "metric1", "Sum", 60), metricQuery("b", "metric1", "Sum", 60), []string{"metric1", "metric1"}},
	} {
		out, err := f.client.GetMetricData(context.Background(), &cloudwatch.GetMetricDataInput{
			MetricDataQueries: []types.MetricDataQuery{test.first, test.second}, StartTime: &f.begin, EndTime: aws.Time(f.begin.Add(time.Minute)),
		})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range out.MetricDataResults {
			got = append(got, *r.Label)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Error(diff)
		}
	}
}

// Lists of what a node has none of are empty, and there, as recorded from AWS
// after the last alarm was deleted.
func TestAbsent(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	alarms, err := f.client.DescribeAlarms(ctx, &cloudwatch.DescribeAlarmsInput{AlarmNamePrefix: aws.String("a")})
	if err != nil || alarms.MetricAlarms == nil || alarms.CompositeAlarms == nil || len(alarms.MetricAlarms)+len(alarms.CompositeAlarms) != 0 {
		t.Errorf("alarms: %+v, %v", alarms, err)
	}
	_, ofMetric := f.client.DescribeAlarmsForMetric(ctx, &cloudwatch.DescribeAlarmsForMetricInput{Namespace: aws.String("N"), MetricName: aws.String("m")})
	_, history := f.client.DescribeAlarmHistory(ctx, &cloudwatch.DescribeAlarmHistoryInput{})
	_, detectors := f.client.DescribeAnomalyDetectors(ctx, &cloudwatch.DescribeAnomalyDetectorsInput{})
	_, rules := f.client.DescribeInsightRules(ctx, &cloudwatch.DescribeInsightRulesInput{})
	_, dashboards := f.client.ListDashboards(ctx, &cloudwatch.ListDashboardsInput{})
	_, streams := f.client.ListMetricStreams(ctx, &cloudwatch.ListMetricStreamsInput{})
	if err := errors.Join(ofMetric, history, detectors, rules, dashboards, streams); err != nil {
		t.Error(err)
	}
	_, err = f.client.PutMetricAlarm(ctx, &cloudwatch.PutMetricAlarmInput{AlarmName: aws.String("a"), EvaluationPeriods: aws.Int32(1), ComparisonOperator: "GreaterThanThreshold"})
	if !strings.Contains(said(err), "firn does not serve PutMetricAlarm") {
		t.Errorf("an alarm: %v", err)
	}
}
