package control

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn"
)

// checkServed refuses the settings of CreateFunction that firn does not serve
// yet. Their zero values, which SDKs and tools send, are accepted.
func checkServed(in *lambda.CreateFunctionInput) error {
	switch {
	case in.PackageType == types.PackageTypeImage || in.Code != nil && in.Code.ImageUri != nil:
		return notServed("functions from container images (PackageType Image)", "")
	case in.ImageConfig != nil:
		return notServed("ImageConfig", "")
	case in.Code == nil || in.Code.S3Bucket != nil || in.Code.S3Key != nil:
		if in.Code != nil && (in.Code.S3Bucket != nil || in.Code.S3Key != nil) {
			return notServed("code from S3", "; send the archive itself in ZipFile")
		}
		return invalid("Please provide a source for function code.")
	case len(in.Code.ZipFile) == 0:
		return invalid("Please provide a source for function code.")
	case in.Publish || in.PublishTo != "":
		return notServed("published versions (Publish)", "")
	case in.CodeSigningConfigArn != nil:
		return notServed("CodeSigningConfigArn", "")
	case in.DurableConfig != nil:
		return notServed("DurableConfig", "")
	case in.TenancyConfig != nil:
		return notServed("TenancyConfig", "")
	case in.CapacityProviderConfig != nil:
		return notServed("CapacityProviderConfig", "")
	}
	return checkRuntime(in.Runtime)
}

// served are the runtimes that need nothing but the function's own archive.
func checkRuntime(r types.Runtime) error {
	switch r {
	case "", types.RuntimeProvidedal2, types.RuntimeProvidedal2023:
		return nil
	case types.RuntimeProvided, types.RuntimeGo1x:
		return invalid("The runtime parameter of %s is no longer supported for creating or updating AWS Lambda functions. We recommend you use a supported runtime while creating or updating functions.", r)
	}
	return notServed("the runtime "+string(r), "; it serves provided.al2 and provided.al2023")
}

// checkConfiguration refuses unserved settings of UpdateFunctionConfiguration,
// which CreateFunction shares.
func checkConfiguration(in *lambda.UpdateFunctionConfigurationInput) error {
	switch {
	case in.DeadLetterConfig != nil && deref(in.DeadLetterConfig.TargetArn) != "":
		return notServed("DeadLetterConfig", "")
	case in.VpcConfig != nil && len(in.VpcConfig.SubnetIds)+len(in.VpcConfig.SecurityGroupIds) > 0:
		return notServed("VpcConfig", "")
	case len(in.FileSystemConfigs) > 0:
		return notServed("FileSystemConfigs", "")
	case deref(in.KMSKeyArn) != "":
		return notServed("KMSKeyArn", "; environment variables are encrypted at rest with firn's own key")
	case in.SnapStart != nil && in.SnapStart.ApplyOn == types.SnapStartApplyOnPublishedVersions:
		return notServed("SnapStart", "")
	case in.ImageConfig != nil:
		return notServed("ImageConfig", "")
	case in.DurableConfig != nil:
		return notServed("DurableConfig", "")
	case in.CapacityProviderConfig != nil:
		return notServed("CapacityProviderConfig", "")
	case in.LoggingConfig != nil && in.LoggingConfig.LogFormat == types.LogFormatJson:
		return notServed("LoggingConfig.LogFormat JSON", "")
	case in.LoggingConfig != nil && (in.LoggingConfig.ApplicationLogLevel != "" || in.LoggingConfig.SystemLogLevel != ""):
		return invalid("ApplicationLogLevel and SystemLogLevel can only be configured when LogFormat is JSON.")
	}
	return checkRuntime(in.Runtime)
}

// configure applies the settings of a request to rec; nil leaves a setting as
// it is. The model's ranges and patterns were checked by awswire.
func (c *Control) configure(rec *record, in *lambda.UpdateFunctionConfigurationInput) error {
	if err := checkConfiguration(in); err != nil {
		return err
	}
	cfg := &rec.Config
	set(&cfg.Role, in.Role)
	set(&cfg.Handler, in.Handler)
	set(&cfg.Description, in.Description)
	if in.Runtime != "" {
		cfg.Runtime = in.Runtime
	}
	if in.MemorySize != nil {
		if *in.MemorySize > firn.MaxMemoryMB {
			return invalid("'MemorySize' value failed to satisfy constraint: Member must have value less than or equal to %d", firn.MaxMemoryMB)
		}
		cfg.MemorySize = in.MemorySize
	}
	if in.Timeout != nil {
		if *in.Timeout > firn.MaxTimeoutSeconds {
			return invalid("'Timeout' value failed to satisfy constraint: Member must have value less than or equal to %d", firn.MaxTimeoutSeconds)
		}
		cfg.Timeout = in.Timeout
	}
	if in.EphemeralStorage != nil && in.EphemeralStorage.Size != nil {
		cfg.EphemeralStorage = in.EphemeralStorage
	}
	if in.TracingConfig != nil && in.TracingConfig.Mode != "" {
		cfg.TracingConfig = &types.TracingConfigResponse{Mode: in.TracingConfig.Mode}
	}
	if in.LoggingConfig != nil {
		group := in.LoggingConfig.LogGroup
		if deref(group) == "" {
			group = ptr("/aws/lambda/" + *cfg.FunctionName)
		}
		cfg.LoggingConfig = &types.LoggingConfig{LogFormat: types.LogFormatText, LogGroup: group}
	}
	if in.Environment != nil {
		if err := checkVariables(in.Environment.Variables); err != nil {
			return err
		}
		rec.variables = in.Environment.Variables
	}
	if in.Layers != nil {
		return c.setLayers(rec, in.Layers)
	}
	return nil
}

// setArchitecture accepts the host's own architecture only: functions run
// natively.
func (c *Control) setArchitecture(rec *record, want []types.Architecture) error {
	if len(want) == 0 {
		return nil
	}
	if len(want) > 1 {
		return invalid("Architectures must have exactly one value")
	}
	if string(want[0]) != c.cfg.Architecture {
		return notServed(fmt.Sprintf("the architecture %s on this host", want[0]), fmt.Sprintf(": functions run natively on %s", c.cfg.Architecture))
	}
	rec.Config.Architectures = want
	return nil
}

// reservedVariables cannot be set by a customer ("Defined runtime environment
// variables" of the Developer Guide, and recorded refusals).
func reservedVariables() []string {
	return []string{
		"_HANDLER", "_X_AMZN_TRACE_ID", "AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION",
		"AWS_EXECUTION_ENV", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_NAME",
		"AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME",
		"AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_MAX_CONCURRENCY", "AWS_LAMBDA_RUNTIME_API",
		"AWS_REGION", "AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_SESSION_TOKEN",
		"LAMBDA_RUNTIME_DIR", "LAMBDA_TASK_ROOT",
	}
}

// variableName is the documented form of a customer's variable.
const variableName = `^[a-zA-Z]([a-zA-Z0-9_])+$`

func checkVariables(vars map[string]string) error {
	form := regexp.MustCompile(variableName)
	reserved := reservedVariables()
	var refused []string
	size := 0
	for key, value := range vars {
		if slices.Contains(reserved, key) {
			refused = append(refused, key)
			continue
		}
		if !form.MatchString(key) {
			return firn.Faultf(firn.Validation, "1 validation error detected: Value at 'environment.variables' failed to satisfy constraint: Map keys must satisfy constraint: [Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+]")
		}
		if strings.ContainsRune(value, 0) {
			return invalid("Environment variable %s contains a NUL character", key)
		}
		size += len(key) + len(value)
	}
	if len(refused) > 0 {
		slices.Sort(refused)
		return invalid("Lambda was unable to configure your environment variables because the environment variables you have provided contains reserved keys that are currently not supported for modification. Reserved keys used in this request: %s", strings.Join(refused, ", "))
	}
	if size > firn.MaxEnvironmentBytes {
		measured, err := json.Marshal(vars)
		if err != nil {
			return err
		}
		return invalid("Lambda was unable to configure your environment variables because the environment variables you have provided exceeded the 4KB limit. String measured: %s", measured)
	}
	return nil
}

// setLayers resolves layer version ARNs in the order given.
func (c *Control) setLayers(rec *record, arns []string) error {
	if len(arns) > firn.MaxLayers {
		return invalid("Cannot reference more than %d layers.", firn.MaxLayers)
	}
	uses := []layerUse{}
	shown := []types.Layer{}
	seen := map[string]string{}
	for _, arn := range arns {
		ref, err := c.layerRef(arn)
		if err != nil {
			return err
		}
		if other, twice := seen[ref.name]; twice {
			if other == arn {
				return invalid("Two different versions of the same layer are not allowed to be referenced in the same function. %s and %s", other, arn)
			}
			return invalid("Two different versions of the same layer are not allowed to be referenced in the same function. %s and %s", arn, other)
		}
		seen[ref.name] = arn
		lv := c.findLayerVersion(ref)
		if lv == nil {
			return invalid("Layer version %s does not exist.", arn)
		}
		uses = append(uses, layerUse{ARN: arn, Digest: lv.Digest, Size: lv.Size, Unzipped: lv.Unzipped})
		shown = append(shown, types.Layer{Arn: ptr(arn), CodeSize: lv.Size})
	}
	rec.Layers, rec.Config.Layers = uses, shown
	if len(shown) == 0 {
		rec.Layers, rec.Config.Layers = nil, nil
	}
	return checkUnzipped(rec)
}
