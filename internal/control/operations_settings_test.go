package control_test

import (
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/firn-run/firn"
)

// settingEntries are the operations on settings of invocations.
func settingEntries() map[string]entry {
	all := map[string]entry{
		"PutFunctionConcurrency": {
			success: send(&lambda.PutFunctionConcurrencyInput{FunctionName: str("f"), ReservedConcurrentExecutions: aws.Int32(6)}), has: "ReservedConcurrentExecutions",
			errors: map[string]call{
				invalidCode:  send(&lambda.PutFunctionConcurrencyInput{FunctionName: str("f"), ReservedConcurrentExecutions: aws.Int32(0)}),
				notFoundCode: send(&lambda.PutFunctionConcurrencyInput{FunctionName: str("no"), ReservedConcurrentExecutions: aws.Int32(1)}),
			},
		},
		"GetFunctionConcurrency": {
			success: send(&lambda.GetFunctionConcurrencyInput{FunctionName: str("f")}), has: "ReservedConcurrentExecutions",
			errors: map[string]call{
				invalidCode:  send(&lambda.GetFunctionConcurrencyInput{FunctionName: str("f:live")}),
				notFoundCode: send(&lambda.GetFunctionConcurrencyInput{FunctionName: str("no")}),
			},
		},
		"DeleteFunctionConcurrency": {
			success: send(&lambda.DeleteFunctionConcurrencyInput{FunctionName: str("d")}),
			errors: map[string]call{
				invalidCode:  send(&lambda.DeleteFunctionConcurrencyInput{FunctionName: str("d:live")}),
				notFoundCode: send(&lambda.DeleteFunctionConcurrencyInput{FunctionName: str("no")}),
			},
		},
		"PutProvisionedConcurrencyConfig": {
			success: send(&lambda.PutProvisionedConcurrencyConfigInput{FunctionName: str("f"), Qualifier: str("1"), ProvisionedConcurrentExecutions: aws.Int32(2)}), has: "Status RequestedProvisionedConcurrentExecutions LastModified",
			errors: map[string]call{
				invalidCode:  send(&lambda.PutProvisionedConcurrencyConfigInput{FunctionName: str("f"), Qualifier: str("$LATEST"), ProvisionedConcurrentExecutions: aws.Int32(1)}),
				conflictCode: send(&lambda.PutProvisionedConcurrencyConfigInput{FunctionName: str("hot"), Qualifier: str("cold"), ProvisionedConcurrentExecutions: aws.Int32(1)}),
				notFoundCode: send(&lambda.PutProvisionedConcurrencyConfigInput{FunctionName: str("f"), Qualifier: str("9"), ProvisionedConcurrentExecutions: aws.Int32(1)}),
			},
		},
		"GetProvisionedConcurrencyConfig": {
			success: send(&lambda.GetProvisionedConcurrencyConfigInput{FunctionName: str("f"), Qualifier: str("1")}), has: "Status RequestedProvisionedConcurrentExecutions LastModified",
			errors: map[string]call{
				invalidCode:   send(&lambda.GetProvisionedConcurrencyConfigInput{FunctionName: str("f"), Qualifier: str("$LATEST")}),
				notFoundCode:  send(&lambda.GetProvisionedConcurrencyConfigInput{FunctionName: str("f"), Qualifier: str("no")}),
				noProvisioned: send(&lambda.GetProvisionedConcurrencyConfigInput{FunctionName: str("f"), Qualifier: str("2")}),
			},
		},
		"ListProvisionedConcurrencyConfigs": {
			success: send(&lambda.ListProvisionedConcurrencyConfigsInput{FunctionName: str("f")}), has: "ProvisionedConcurrencyConfigs",
			errors: map[string]call{
				invalidCode:  send(&lambda.ListProvisionedConcurrencyConfigsInput{FunctionName: str("f"), Marker: str("!")}),
				notFoundCode: send(&lambda.ListProvisionedConcurrencyConfigsInput{FunctionName: str("no")}),
			},
		},
		"DeleteProvisionedConcurrencyConfig": {
			success: send(&lambda.DeleteProvisionedConcurrencyConfigInput{FunctionName: str("d"), Qualifier: str("1")}),
			errors: map[string]call{
				invalidCode:  send(&lambda.DeleteProvisionedConcurrencyConfigInput{FunctionName: str("d"), Qualifier: str("$LATEST")}),
				notFoundCode: send(&lambda.DeleteProvisionedConcurrencyConfigInput{FunctionName: str("no"), Qualifier: str("1")}),
			},
		},
		"PutFunctionRecursionConfig": {
			success: send(&lambda.PutFunctionRecursionConfigInput{FunctionName: str("f"), RecursiveLoop: types.RecursiveLoopAllow}), has: "RecursiveLoop",
			errors: map[string]call{
				notFoundCode: send(&lambda.PutFunctionRecursionConfigInput{FunctionName: str("no"), RecursiveLoop: types.RecursiveLoopAllow}),
			},
		},
		"GetFunctionRecursionConfig": {
			success: send(&lambda.GetFunctionRecursionConfigInput{FunctionName: str("f")}), has: "RecursiveLoop",
			errors: map[string]call{
				notFoundCode: send(&lambda.GetFunctionRecursionConfigInput{FunctionName: str("no")}),
			},
		},
	}
	addEventInvoke(all)
	addURLs(all)
	return all
}

// addEventInvoke adds the operations on asynchronous invocation.
func addEventInvoke(all map[string]entry) {
	itself := destinations(functionARN("f"), "")
	itself.OnFailure = nil
	const has = "FunctionArn LastModified MaximumRetryAttempts"
	all["PutFunctionEventInvokeConfig"] = entry{
		success: send(&lambda.PutFunctionEventInvokeConfigInput{FunctionName: str("f"), MaximumRetryAttempts: aws.Int32(2)}), has: has,
		errors: map[string]call{
			invalidCode:  send(&lambda.PutFunctionEventInvokeConfigInput{FunctionName: str("f"), DestinationConfig: itself}),
			notFoundCode: send(&lambda.PutFunctionEventInvokeConfigInput{FunctionName: str("no"), MaximumRetryAttempts: aws.Int32(1)}),
		},
	}
	all["UpdateFunctionEventInvokeConfig"] = entry{
		success: send(&lambda.UpdateFunctionEventInvokeConfigInput{FunctionName: str("f"), MaximumEventAgeInSeconds: aws.Int32(60)}), has: has + " MaximumEventAgeInSeconds",
		errors: map[string]call{
			invalidCode:  send(&lambda.UpdateFunctionEventInvokeConfigInput{FunctionName: str("f"), DestinationConfig: itself}),
			notFoundCode: send(&lambda.UpdateFunctionEventInvokeConfigInput{FunctionName: str("bare"), MaximumRetryAttempts: aws.Int32(1)}),
		},
	}
	all["GetFunctionEventInvokeConfig"] = entry{
		success: send(&lambda.GetFunctionEventInvokeConfigInput{FunctionName: str("f")}), has: has,
		errors: map[string]call{
			invalidCode:  send(&lambda.GetFunctionEventInvokeConfigInput{FunctionName: str("f:1"), Qualifier: str("2")}),
			notFoundCode: send(&lambda.GetFunctionEventInvokeConfigInput{FunctionName: str("f"), Qualifier: str("1")}),
		},
	}
	all["ListFunctionEventInvokeConfigs"] = entry{
		success: send(&lambda.ListFunctionEventInvokeConfigsInput{FunctionName: str("f")}), has: "FunctionEventInvokeConfigs",
		errors: map[string]call{
			invalidCode:  send(&lambda.ListFunctionEventInvokeConfigsInput{FunctionName: str("f"), Marker: str("!")}),
			notFoundCode: send(&lambda.ListFunctionEventInvokeConfigsInput{FunctionName: str("no")}),
		},
	}
	all["DeleteFunctionEventInvokeConfig"] = entry{
		success: send(&lambda.DeleteFunctionEventInvokeConfigInput{FunctionName: str("d")}),
		errors: map[string]call{
			invalidCode:  send(&lambda.DeleteFunctionEventInvokeConfigInput{FunctionName: str("d:1"), Qualifier: str("2")}),
			notFoundCode: send(&lambda.DeleteFunctionEventInvokeConfigInput{FunctionName: str("d"), Qualifier: str("2")}),
		},
	}
}

// addURLs adds the operations on function URLs.
func addURLs(all map[string]entry) {
	const has = "FunctionArn FunctionUrl AuthType InvokeMode CreationTime"
	all["CreateFunctionUrlConfig"] = entry{
		success: send(&lambda.CreateFunctionUrlConfigInput{FunctionName: str("f"), Qualifier: str("live"), AuthType: types.FunctionUrlAuthTypeAwsIam, InvokeMode: types.InvokeModeBuffered}), has: has,
		errors: map[string]call{
			invalidCode:  send(&lambda.CreateFunctionUrlConfigInput{FunctionName: str("f:live"), Qualifier: str("other"), AuthType: types.FunctionUrlAuthTypeNone}),
			conflictCode: send(&lambda.CreateFunctionUrlConfigInput{FunctionName: str("f"), AuthType: types.FunctionUrlAuthTypeNone}),
			notFoundCode: send(&lambda.CreateFunctionUrlConfigInput{FunctionName: str("no"), AuthType: types.FunctionUrlAuthTypeNone}),
		},
	}
	all["UpdateFunctionUrlConfig"] = entry{
		success: send(&lambda.UpdateFunctionUrlConfigInput{FunctionName: str("f"), InvokeMode: types.InvokeModeResponseStream}), has: has + " LastModifiedTime",
		errors: map[string]call{
			invalidCode:  send(&lambda.UpdateFunctionUrlConfigInput{FunctionName: str("f:live"), Qualifier: str("other")}),
			notFoundCode: send(&lambda.UpdateFunctionUrlConfigInput{FunctionName: str("bare")}),
		},
	}
	all["GetFunctionUrlConfig"] = entry{
		success: send(&lambda.GetFunctionUrlConfigInput{FunctionName: str("f")}), has: has,
		errors: map[string]call{
			invalidCode:  send(&lambda.GetFunctionUrlConfigInput{FunctionName: str("f:live"), Qualifier: str("other")}),
			notFoundCode: send(&lambda.GetFunctionUrlConfigInput{FunctionName: str("bare")}),
		},
	}
	all["ListFunctionUrlConfigs"] = entry{
		success: send(&lambda.ListFunctionUrlConfigsInput{FunctionName: str("f")}), has: "FunctionUrlConfigs",
		errors: map[string]call{
			invalidCode:  send(&lambda.ListFunctionUrlConfigsInput{FunctionName: str("f"), Marker: str("!")}),
			notFoundCode: send(&lambda.ListFunctionUrlConfigsInput{FunctionName: str("no")}),
		},
	}
	all["DeleteFunctionUrlConfig"] = entry{
		success: send(&lambda.DeleteFunctionUrlConfigInput{FunctionName: str("d")}),
		errors: map[string]call{
			invalidCode:  send(&lambda.DeleteFunctionUrlConfigInput{FunctionName: str("d:live"), Qualifier: str("other")}),
			notFoundCode: send(&lambda.DeleteFunctionUrlConfigInput{FunctionName: str("bare")}),
		},
	}
}

// invocationEntries are the three operations that invoke.
func invocationEntries() map[string]entry {
	const order = `{"do":"stream","n":1}`
	return map[string]entry{
		"Invoke": {
			success: send(&lambda.InvokeInput{FunctionName: str("run"), Payload: []byte("1")}), has: "Payload ExecutedVersion",
			errors: map[string]call{
				invalidCode:   send(&lambda.InvokeInput{FunctionName: str("run:1"), Qualifier: str("2")}),
				contentCode:   send(&lambda.InvokeInput{FunctionName: str("run"), Payload: []byte("{")}),
				conflictCode:  pending(func(name string) any { return &lambda.InvokeInput{FunctionName: &name} }),
				notFoundCode:  send(&lambda.InvokeInput{FunctionName: str("no")}),
				throttleCode:  send(&lambda.InvokeInput{FunctionName: str("off")}),
				tooLargeCode:  send(&lambda.InvokeInput{FunctionName: str("run"), Payload: tooLarge()}),
				runtimeCode:   onForeign(&lambda.InvokeInput{FunctionName: str("py")}),
				recursionCode: looped(&lambda.InvokeInput{FunctionName: str("run")}),
			},
		},
		"InvokeAsync": {
			success: send(invokeAsync("run", "1")),
			errors: map[string]call{
				contentCode:  send(invokeAsync("run", "{")),
				conflictCode: pending(func(name string) any { return invokeAsync(name, "1") }),
				notFoundCode: send(invokeAsync("no", "1")),
			},
		},
		"InvokeWithResponseStream": {
			success: func(s *suite) (any, error) {
				out, err := s.send(streamOf("run", order))
				if err == nil {
					err = out.(*lambda.InvokeWithResponseStreamOutput).GetStream().Close()
				}
				return out, err
			}, has: "ExecutedVersion ResponseStreamContentType",
			errors: map[string]call{
				invalidCode:   send(&lambda.InvokeWithResponseStreamInput{FunctionName: str("run:1"), Qualifier: str("2")}),
				contentCode:   send(streamOf("run", "{")),
				conflictCode:  pending(func(name string) any { return streamOf(name, order) }),
				notFoundCode:  send(streamOf("no", order)),
				throttleCode:  send(streamOf("off", order)),
				tooLargeCode:  send(&lambda.InvokeWithResponseStreamInput{FunctionName: str("run"), Payload: tooLarge()}),
				runtimeCode:   onForeign(streamOf("py", order)),
				recursionCode: looped(streamOf("run", order)),
			},
		},
	}
}

func tooLarge() []byte { return []byte(`"` + strings.Repeat("x", firn.MaxPayloadBytes) + `"`) }

// invokeAsync is the deprecated operation.
func invokeAsync(name, args string) any {
	return &lambda.InvokeAsyncInput{FunctionName: &name, InvokeArgs: strings.NewReader(args)} //nolint:staticcheck // deprecated by AWS, served all the same
}

// looped is a call with the trace header of a request that has been in the
// function run before, as often as it may.
func looped(in any) call {
	return func(s *suite) (any, error) {
		h := fnv.New32a()
		h.Write([]byte(functionARN("run")))
		header := fmt.Sprintf("Root=1-5759e988-bd862e3fe1be46a994272793;Lineage=%08x:16", h.Sum32())
		return s.send(in, lambda.WithAPIOptions(smithyhttp.SetHeaderValue("X-Amzn-Trace-Id", header)))
	}
}
