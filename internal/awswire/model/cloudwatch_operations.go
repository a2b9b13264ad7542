package model

import (
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/schemas"
	"github.com/aws/smithy-go"
)

// cloudWatchOperations lists every operation of the CloudWatch API that the SDK knows,
// as its schemas package has no list of its own. A test holds it against the
// methods of the SDK's client.
func cloudWatchOperations() []*smithy.Schema {
	return []*smithy.Schema{
		schemas.AssociateDatasetKmsKey,
		schemas.CreateResourceMetricsConfiguration,
		schemas.DeleteAlarmMuteRule,
		schemas.DeleteAlarms,
		schemas.DeleteAnomalyDetector,
		schemas.DeleteDashboards,
		schemas.DeleteInsightRules,
		schemas.DeleteMetricStream,
		schemas.DeleteResourceMetricsConfiguration,
		schemas.DescribeAlarmContributors,
		schemas.DescribeAlarmHistory,
		schemas.DescribeAlarms,
		schemas.DescribeAlarmsForMetric,
		schemas.DescribeAnomalyDetectors,
		schemas.DescribeInsightRules,
		schemas.DisableAlarmActions,
		schemas.DisableInsightRules,
		schemas.DisassociateDatasetKmsKey,
		schemas.EnableAlarmActions,
		schemas.EnableInsightRules,
		schemas.GetAlarmMuteRule,
		schemas.GetDashboard,
		schemas.GetDataset,
		schemas.GetInsightRuleReport,
		schemas.GetMetricData,
		schemas.GetMetricStatistics,
		schemas.GetMetricStream,
		schemas.GetMetricWidgetImage,
		schemas.GetOTelEnrichment,
		schemas.GetResourceMetricsConfiguration,
		schemas.ListAlarmMuteRules,
		schemas.ListDashboards,
		schemas.ListManagedInsightRules,
		schemas.ListMetrics,
		schemas.ListMetricStreams,
		schemas.ListTagsForResource,
		schemas.PutAlarmMuteRule,
		schemas.PutAnomalyDetector,
		schemas.PutCompositeAlarm,
		schemas.PutDashboard,
		schemas.PutInsightRule,
		schemas.PutLogAlarm,
		schemas.PutManagedInsightRules,
		schemas.PutMetricAlarm,
		schemas.PutMetricData,
		schemas.PutMetricStream,
		schemas.SetAlarmState,
		schemas.StartMetricStreams,
		schemas.StartOTelEnrichment,
		schemas.StopMetricStreams,
		schemas.StopOTelEnrichment,
		schemas.TagResource,
		schemas.UntagResource,
		schemas.UpdateOTelEnrichment,
		schemas.UpdateResourceMetricsConfiguration,
	}
}
