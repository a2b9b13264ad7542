package logs

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"github.com/firn-run/firn/internal/awswire"
)

// mountAbsent mounts the operations that list what a node has none of, since
// what would make it is not served. Their answer is true, and tools that take
// stock of an account need one: infrastructure as code, inventories, consoles.
func (s *Service) mountAbsent(m *awswire.Mux) {
	awswire.Handle(m, s.describeMetricFilters)
	awswire.Handle(m, s.describeIndexPolicies)
	awswire.Handle(m, s.describeFieldIndexes)
	awswire.Handle(m, s.getDataProtectionPolicy)
	awswire.Handle(m, none[cloudwatchlogs.DescribeQueriesInput](cloudwatchlogs.DescribeQueriesOutput{Queries: []types.QueryInfo{}}))
	awswire.Handle(m, none[cloudwatchlogs.DescribeQueryDefinitionsInput](cloudwatchlogs.DescribeQueryDefinitionsOutput{QueryDefinitions: []types.QueryDefinition{}}))
	awswire.Handle(m, none[cloudwatchlogs.DescribeResourcePoliciesInput](cloudwatchlogs.DescribeResourcePoliciesOutput{ResourcePolicies: []types.ResourcePolicy{}}))
	awswire.Handle(m, none[cloudwatchlogs.DescribeAccountPoliciesInput](cloudwatchlogs.DescribeAccountPoliciesOutput{AccountPolicies: []types.AccountPolicy{}}))
	awswire.Handle(m, none[cloudwatchlogs.DescribeDestinationsInput](cloudwatchlogs.DescribeDestinationsOutput{Destinations: []types.Destination{}}))
	awswire.Handle(m, none[cloudwatchlogs.DescribeExportTasksInput](cloudwatchlogs.DescribeExportTasksOutput{ExportTasks: []types.ExportTask{}}))
	awswire.Handle(m, none[cloudwatchlogs.DescribeDeliveriesInput](cloudwatchlogs.DescribeDeliveriesOutput{Deliveries: []types.Delivery{}}))
	awswire.Handle(m, none[cloudwatchlogs.DescribeDeliverySourcesInput](cloudwatchlogs.DescribeDeliverySourcesOutput{DeliverySources: []types.DeliverySource{}}))
	awswire.Handle(m, none[cloudwatchlogs.DescribeDeliveryDestinationsInput](cloudwatchlogs.DescribeDeliveryDestinationsOutput{DeliveryDestinations: []types.DeliveryDestination{}}))
	awswire.Handle(m, none[cloudwatchlogs.ListLogAnomalyDetectorsInput](cloudwatchlogs.ListLogAnomalyDetectorsOutput{AnomalyDetectors: []types.AnomalyDetector{}}))
	awswire.Handle(m, none[cloudwatchlogs.ListAnomaliesInput](cloudwatchlogs.ListAnomaliesOutput{Anomalies: []types.Anomaly{}}))
}

// none answers all requests with out.
func none[In, Out any](out Out) func(context.Context, *In) (*Out, error) {
	return func(context.Context, *In) (*Out, error) {
		answer := out
		return &answer, nil
	}
}

func (s *Service) describeMetricFilters(_ context.Context, in *cloudwatchlogs.DescribeMetricFiltersInput) (*cloudwatchlogs.DescribeMetricFiltersOutput, error) {
	if in.LogGroupName != nil {
		if _, err := s.get(*in.LogGroupName); err != nil {
			return nil, err
		}
	}
	return &cloudwatchlogs.DescribeMetricFiltersOutput{MetricFilters: []types.MetricFilter{}}, nil
}

func (s *Service) describeIndexPolicies(_ context.Context, in *cloudwatchlogs.DescribeIndexPoliciesInput) (*cloudwatchlogs.DescribeIndexPoliciesOutput, error) {
	for _, id := range in.LogGroupIdentifiers {
		if _, err := s.existing(id); err != nil {
			return nil, err
		}
	}
	return &cloudwatchlogs.DescribeIndexPoliciesOutput{IndexPolicies: []types.IndexPolicy{}}, nil
}

func (s *Service) describeFieldIndexes(_ context.Context, in *cloudwatchlogs.DescribeFieldIndexesInput) (*cloudwatchlogs.DescribeFieldIndexesOutput, error) {
	for _, id := range in.LogGroupIdentifiers {
		if _, err := s.existing(id); err != nil {
			return nil, err
		}
	}
	return &cloudwatchlogs.DescribeFieldIndexesOutput{FieldIndexes: []types.FieldIndex{}}, nil
}

// getDataProtectionPolicy answers, as for any group without a policy, with the
// group alone.
func (s *Service) getDataProtectionPolicy(_ context.Context, in *cloudwatchlogs.GetDataProtectionPolicyInput) (*cloudwatchlogs.GetDataProtectionPolicyOutput, error) {
	name, err := s.existing(*in.LogGroupIdentifier)
	if err != nil {
		return nil, err
	}
	return &cloudwatchlogs.GetDataProtectionPolicyOutput{LogGroupIdentifier: new(s.groupARN(name))}, nil
}
