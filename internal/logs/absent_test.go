package logs

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
)

// Lists of what a node has none of are empty, and there.
func TestAbsent(t *testing.T) {
	n := newNode(t, config{})
	n.group("g")
	for operation, want := range map[string]string{
		"DescribeMetricFilters":        `{"metricFilters":[]}`,
		"DescribeQueries":              `{"queries":[]}`,
		"DescribeQueryDefinitions":     `{"queryDefinitions":[]}`,
		"DescribeResourcePolicies":     `{"resourcePolicies":[]}`,
		"DescribeDestinations":         `{"destinations":[]}`,
		"DescribeExportTasks":          `{"exportTasks":[]}`,
		"DescribeDeliveries":           `{"deliveries":[]}`,
		"DescribeDeliverySources":      `{"deliverySources":[]}`,
		"DescribeDeliveryDestinations": `{"deliveryDestinations":[]}`,
		"ListLogAnomalyDetectors":      `{"anomalyDetectors":[]}`,
		"ListAnomalies":                `{"anomalies":[]}`,
	} {
		if got := n.raw(operation, `{}`); got != want {
			t.Errorf("%s: %s", operation, got)
		}
	}
	for body, want := range map[[2]string]string{
		{"DescribeMetricFilters", `{"logGroupName":"g"}`}:                      `{"metricFilters":[]}`,
		{"DescribeAccountPolicies", `{"policyType":"DATA_PROTECTION_POLICY"}`}: `{"accountPolicies":[]}`,
		{"DescribeIndexPolicies", `{"logGroupIdentifiers":["g"]}`}:             `{"indexPolicies":[]}`,
		{"DescribeFieldIndexes", `{"logGroupIdentifiers":["g"]}`}:              `{"fieldIndexes":[]}`,
		{"GetDataProtectionPolicy", `{"logGroupIdentifier":"g"}`}:              `{"logGroupIdentifier":"arn:aws:logs:eu-central-1:123456789012:log-group:g"}`,
	} {
		if got := n.raw(body[0], body[1]); got != want {
			t.Errorf("%s: %s", body[0], got)
		}
	}
	_, filters := n.DescribeMetricFilters(t.Context(), &cloudwatchlogs.DescribeMetricFiltersInput{LogGroupName: aws.String("other")})
	_, policies := n.DescribeIndexPolicies(t.Context(), &cloudwatchlogs.DescribeIndexPoliciesInput{LogGroupIdentifiers: []string{"other"}})
	_, indexes := n.DescribeFieldIndexes(t.Context(), &cloudwatchlogs.DescribeFieldIndexesInput{LogGroupIdentifiers: []string{"other"}})
	_, protection := n.GetDataProtectionPolicy(t.Context(), &cloudwatchlogs.GetDataProtectionPolicyInput{LogGroupIdentifier: aws.String("other")})
	for _, err := range []error{filters, policies, indexes, protection} {
		if _, ok := errors.AsType[*types.ResourceNotFoundException](err); !ok {
			t.Errorf("of a group that does not exist: %v", err)
		}
	}
}

// raw sends a request without the SDK and returns the body of the answer.
func (n *node) raw(operation, body string) string {
	n.t.Helper()
	r, err := http.NewRequestWithContext(n.t.Context(), http.MethodPost, "http://"+n.address+"/", strings.NewReader(body))
	n.must(err)
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "Logs_20140328."+operation)
	answer, err := http.DefaultClient.Do(r)
	n.must(err)
	defer answer.Body.Close()
	var b strings.Builder
	_, err = io.Copy(&b, answer.Body)
	n.must(err)
	return b.String()
}

// Words that AWS was seen to answer with.
func TestWordsAsRecorded(t *testing.T) {
	n := newNode(t, config{})
	n.group("g", "s")
	long := strings.Repeat("X", 513)
	for _, test := range []struct{ operation, body, want string }{
		{"CreateLogGroup", `{"logGroupName":"` + long + `"}`, "Invalid LogGroup or LogStream, both must have length less than or equal to 512."},
		{"DescribeMetricFilters", `{"filterNamePrefix":"` + long + `"}`, "1 validation error detected: Value '" + long + "' at 'filterNamePrefix' failed to satisfy constraint: Member must have length less than or equal to 512"},
		{"DescribeLogGroups", `{"nextToken":"abcd"}`, "The specified nextToken is invalid."},
		{"DescribeLogStreams", `{"logGroupName":"g","nextToken":"invalid-token"}`, "The specified nextToken is invalid."},
		{"DescribeSubscriptionFilters", `{"logGroupName":"g","nextToken":"YQ"}`, "The specified nextToken is invalid."},
		{"FilterLogEvents", `{"logGroupName":"g","filterPattern":"[ip, user, username, timestamp, request, status_code = 4* && bytes > 1000]"}`, "Invalid filter pattern"},
		{"FilterLogEvents", `{"logGroupName":"g","filterPattern":"{ $.a"}`, "If a filter pattern starts with '{' it must end with '}'"},
		{"FilterLogEvents", `{"logGroupName":"g","limit":10001}`, "1 validation error detected: Value '10001' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 10000"},
		{"PutRetentionPolicy", `{"logGroupName":"g","retentionInDays":2}`, "1 validation error detected: Value '2' at 'retentionInDays' failed to satisfy constraint: Member must satisfy enum value set: [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653]"},
	} {
		want := `{"__type":"InvalidParameterException","message":"` + test.want + `"}`
		if got := n.raw(test.operation, test.body); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", test.operation, got, want)
		}
	}
}
