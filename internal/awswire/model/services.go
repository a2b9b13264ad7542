package model

import (
	"reflect"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cloudwatchtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	logsschemas "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/schemas"
	logstypes "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdaschemas "github.com/aws/aws-sdk-go-v2/service/lambda/schemas"
	"github.com/aws/smithy-go"
	"github.com/firn-run/firn"
)

// maxBody is the largest request of services other than Lambda. AWS accepts
// 1 MiB for most operations; compressed metrics may be more.
const maxBody = 8 * firn.MiB

// Lambda is the Lambda API, 2015-03-31 and its later paths.
func Lambda() *Service {
	return &Service{
		Name:        "Lambda",
		SigningName: "lambda",
		Version:     "2015-03-31",
		Protocols:   []Protocol{RESTJSON},
		Invalid:     firn.Validation,
		Internal:    firn.Service,
		Operations:  lambdaOperations(),
		Types:       lambda.TypeRegistry,
		Streams:     map[string]*smithy.Schema{"InvokeWithResponseStream": lambdaschemas.InvokeWithResponseStreamResponseEvent},
		Required:    lambdaRequired(),
		Rules:       recordedOrder(lambdaRules()),
	}
}

// recordedOrder sets the order in which AWS lists the values of some shapes, as
// recorded: it is not that of the model.
func recordedOrder(rules map[string]Rule) map[string]Rule {
	for shape, values := range map[string]string{
		"RecursiveLoop":       "Terminate, Allow",
		"EventSourcePosition": "LATEST, AT_TIMESTAMP, TRIM_HORIZON",
		"InvokeMode":          "RESPONSE_STREAM, BUFFERED",
	} {
		r := rules[shape]
		r.Enum = values
		rules[shape] = r
	}
	return rules
}

// longNames sets what CloudWatch Logs answers to names that are too long, as
// recorded: it looks at them before all else.
func longNames(rules map[string]Rule) map[string]Rule {
	for _, shape := range []string{"LogGroupName", "LogStreamName"} {
		r := rules[shape]
		r.TooLong = "Invalid LogGroup or LogStream, both must have length less than or equal to 512."
		rules[shape] = r
	}
	return rules
}

// CloudWatchLogs is the CloudWatch Logs API.
func CloudWatchLogs() *Service {
	return &Service{
		Name:        "CloudWatch Logs",
		SigningName: "logs",
		Target:      "Logs_20140328",
		Version:     "2014-03-28",
		JSONVersion: "1.1",
		Protocols:   []Protocol{AWSJSON},
		MaxBody:     maxBody,
		Invalid:     "InvalidParameterException",
		Internal:    "ServiceUnavailableException",
		Operations:  logsOperations(),
		Types:       cloudwatchlogs.TypeRegistry,
		Streams: map[string]*smithy.Schema{
			"StartLiveTail": logsschemas.StartLiveTailResponseStream,
			"GetLogObject":  logsschemas.GetLogObjectResponseStream,
		},
		Required: logsRequired(),
		Rules:    longNames(logsRules()),
		Unions: []reflect.Type{
			reflect.TypeFor[logstypes.IntegrationDetailsMemberOpenSearchIntegrationDetails](),
			reflect.TypeFor[logstypes.ResourceConfigMemberOpenSearchResourceConfig](),
		},
	}
}

// CloudWatch is the CloudWatch API: metrics, alarms and dashboards.
func CloudWatch() *Service {
	return &Service{
		Name:            "CloudWatch",
		SigningName:     "monitoring",
		Target:          "GraniteServiceVersion20100801",
		Version:         "2010-08-01",
		Namespace:       "http://monitoring.amazonaws.com/doc/2010-08-01/",
		JSONVersion:     "1.0",
		Protocols:       []Protocol{CBOR, AWSJSON, Query},
		QueryCompatible: true,
		MaxBody:         maxBody,
		Invalid:         "ValidationException",
		Internal:        "InternalServiceFault",
		Operations:      cloudWatchOperations(),
		Types:           cloudwatch.TypeRegistry,
		Required:        cloudWatchRequired(),
		Rules:           cloudWatchRules(),
		// Recorded from AWS: "The parameter MetricData.member.1.MetricName is
		// required." and so on, where its alarms speak of validation errors.
		Unchecked: []string{"PutMetricData", "GetMetricStatistics", "GetMetricData"},
		Unions: []reflect.Type{
			reflect.TypeFor[cloudwatchtypes.EvaluationCriteriaMemberPromQLCriteria](),
			reflect.TypeFor[cloudwatchtypes.EvaluationWindowMemberSlidingWindow](),
			reflect.TypeFor[cloudwatchtypes.EvaluationWindowMemberWallClockWindow](),
		},
	}
}

// maxLayerPart is the largest UploadLayerPart request: 20 MiB in base64, and
// the names around it.
const maxLayerPart = 28 * firn.MiB

// ECR is the Elastic Container Registry API.
func ECR() *Service {
	return &Service{
		Name:        "ECR",
		SigningName: "ecr",
		Target:      "AmazonEC2ContainerRegistry_V20150921",
		Version:     "2015-09-21",
		JSONVersion: "1.1",
		Protocols:   []Protocol{AWSJSON},
		MaxBody:     maxLayerPart,
		Invalid:     "InvalidParameterException",
		Internal:    "ServerException",
		Operations:  ecrOperations(),
		Types:       ecr.TypeRegistry,
		Required:    ecrRequired(),
		Rules:       ecrOrder(ecrRules()),
		Broken:      ecrBroken,
	}
}

// ecrOrder is recordedOrder of ECR.
func ecrOrder(rules map[string]Rule) map[string]Rule {
	r := rules["ImageTagMutability"]
	r.Enum = "IMMUTABLE, MUTABLE, MUTABLE_WITH_EXCLUSION, IMMUTABLE_WITH_EXCLUSION"
	rules["ImageTagMutability"] = r
	return rules
}

// ecrBroken is how ECR tells of a broken constraint, as recorded: names of
// repositories and registries have a wording of their own.
func ecrBroken(path, constraint string) string {
	item, ofItem := strings.CutSuffix(constraint, ", Member must not be null]")
	_, pattern, matched := strings.Cut(item, "satisfy regular expression pattern: ")
	pattern = strings.ReplaceAll(pattern, `\/`, "/")
	switch {
	case matched && (path == "repositoryName" || path == "repositoryNames"):
		path, constraint = "repositoryName", "must satisfy regular expression '"+pattern+"'"
	case ofItem:
		constraint = item + "]"
	case path == "registryId" && matched:
		constraint = "must satisfy regular expression " + pattern
	case path == "repositoryName" || path == "imageTag":
		constraint = strings.TrimPrefix(constraint, "Member ")
	}
	return "Invalid parameter at '" + path + "' failed to satisfy constraint: '" + constraint + "'"
}
