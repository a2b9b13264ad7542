package metrics

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/firn-run/firn/internal/awswire"
)

// mountAbsent mounts the operations that list what a node has none of, since
// what would make it is not served. Their answer is true, and tools that take
// stock of an account need one.
func mountAbsent(m *awswire.Mux) {
	awswire.Handle(m, none[cloudwatch.DescribeAlarmsInput](cloudwatch.DescribeAlarmsOutput{MetricAlarms: []types.MetricAlarm{}, CompositeAlarms: []types.CompositeAlarm{}}))
	awswire.Handle(m, none[cloudwatch.DescribeAlarmsForMetricInput](cloudwatch.DescribeAlarmsForMetricOutput{MetricAlarms: []types.MetricAlarm{}}))
	awswire.Handle(m, none[cloudwatch.DescribeAlarmHistoryInput](cloudwatch.DescribeAlarmHistoryOutput{AlarmHistoryItems: []types.AlarmHistoryItem{}}))
	awswire.Handle(m, none[cloudwatch.DescribeAnomalyDetectorsInput](cloudwatch.DescribeAnomalyDetectorsOutput{AnomalyDetectors: []types.AnomalyDetector{}}))
	awswire.Handle(m, none[cloudwatch.DescribeInsightRulesInput](cloudwatch.DescribeInsightRulesOutput{InsightRules: []types.InsightRule{}}))
	awswire.Handle(m, none[cloudwatch.ListDashboardsInput](cloudwatch.ListDashboardsOutput{DashboardEntries: []types.DashboardEntry{}}))
	awswire.Handle(m, none[cloudwatch.ListMetricStreamsInput](cloudwatch.ListMetricStreamsOutput{Entries: []types.MetricStreamEntry{}}))
}

// none answers all requests with out.
func none[In, Out any](out Out) func(context.Context, *In) (*Out, error) {
	return func(context.Context, *In) (*Out, error) {
		answer := out
		return &answer, nil
	}
}
