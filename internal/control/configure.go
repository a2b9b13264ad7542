package control

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/firn-run/firn"
)

// setting is a setting of a request that firn does not serve yet.
type setting struct {
	name  string // as the refusal names it
	value any
	hint  string // what to do instead, "" for nothing
}

// refuseSet refuses the first setting that says something. Storing and
// ignoring one would be a lie; its blank forms, which tools send, are not.
func refuseSet(settings []setting) error {
	for _, s := range settings {
		if !blank(s.value) {
			return notServed(s.name, s.hint)
		}
	}
	return nil
}

const sendZip = "; send the archive itself in ZipFile"

// unservedCreation are the settings of CreateFunction that
// UpdateFunctionConfiguration does not have.
func (c *Control) unservedCreation(in *lambda.CreateFunctionInput) []setting {
	code := in.Code
	if code == nil {
		code = &types.FunctionCode{}
	}
	packageType, imageURI := in.PackageType, code.ImageUri
	if c.cfg.Registry != nil || packageType != types.PackageTypeImage {
		packageType = ""
	}
	if c.cfg.Registry != nil {
		imageURI = nil
	}
	return []setting{
		{"PackageType Image", packageType, ""},
		{"Code.ImageUri", imageURI, ""},
		{"Code.S3Bucket", code.S3Bucket, sendZip},
		{"Code.S3Key", code.S3Key, sendZip},
		{"Code.S3ObjectVersion", code.S3ObjectVersion, sendZip},
		{"Code.S3ObjectStorageMode", code.S3ObjectStorageMode, sendZip},
		{"Code.SourceKMSKeyArn", code.SourceKMSKeyArn, ""},
		{"PublishTo", in.PublishTo, ": there are no capacity providers"},
		{"CodeSigningConfigArn", in.CodeSigningConfigArn, ""},
		{"TenancyConfig", in.TenancyConfig, ""},
	}
}

// unservedCode are those of UpdateFunctionCode.
func (c *Control) unservedCode(in *lambda.UpdateFunctionCodeInput) []setting {
	imageURI := in.ImageUri
	if c.cfg.Registry != nil {
		imageURI = nil
	}
	return []setting{
		{"ImageUri", imageURI, ""},
		{"S3Bucket", in.S3Bucket, sendZip},
		{"S3Key", in.S3Key, sendZip},
		{"S3ObjectVersion", in.S3ObjectVersion, sendZip},
		{"S3ObjectStorageMode", in.S3ObjectStorageMode, sendZip},
		{"SourceKMSKeyArn", in.SourceKMSKeyArn, ""},
		{"PublishTo", in.PublishTo, ": there are no capacity providers"},
	}
}

// unservedConfiguration are those of UpdateFunctionConfiguration, which
// CreateFunction shares.
func (c *Control) unservedConfiguration(in *lambda.UpdateFunctionConfigurationInput) []setting {
	snapStart := types.SnapStart{}
	if in.SnapStart != nil && in.SnapStart.ApplyOn != types.SnapStartApplyOnNone {
		snapStart = *in.SnapStart
	}
	imageConfig := in.ImageConfig
	if c.cfg.Registry != nil {
		imageConfig = nil
	}
	return []setting{
		{"VpcConfig", in.VpcConfig, ""},
		{"FileSystemConfigs", in.FileSystemConfigs, ""},
		{"KMSKeyArn", in.KMSKeyArn, "; environment variables are encrypted at rest with firn's own key"},
		{"SnapStart", snapStart, ""},
		{"ImageConfig", imageConfig, ""},
		{"DurableConfig", in.DurableConfig, ""},
		{"CapacityProviderConfig", in.CapacityProviderConfig, ""},
	}
}

// checkServed refuses what CreateFunction asks of firn in vain.
func (c *Control) checkServed(in *lambda.CreateFunctionInput) error {
	settings := convert[lambda.UpdateFunctionConfigurationInput](in)
	if err := refuseSet(slices.Concat(c.unservedCreation(in), c.unservedConfiguration(settings))); err != nil {
		return err
	}
	if err := checkPackage(in.PackageType, settings); err != nil {
		return err
	}
	if in.PackageType != types.PackageTypeImage && (in.Runtime == "" || deref(in.Handler) == "") {
		return invalid("Runtime and Handler are mandatory parameters for functions created with deployment packages.")
	}
	if err := checkSource(in); err != nil {
		return err
	}
	return c.checkArchitecture(in.Architectures)
}

func (c *Control) checkConfiguration(ctx context.Context, of types.PackageType, in *lambda.UpdateFunctionConfigurationInput) error {
	if err := refuseSet(c.unservedConfiguration(in)); err != nil {
		return err
	}
	if d := in.DeadLetterConfig; d != nil && !blank(d) {
		if !c.cfg.Effects.Async {
			return notServed("DeadLetterConfig", "")
		}
		if !takesEvents(*d.TargetArn, "sqs", "sns") {
			return invalid("The provided dead letter target %s is invalid: it must be a standard queue of SQS or a standard topic of SNS.", *d.TargetArn)
		}
	}
	if err := checkPackage(of, in); err != nil {
		return err
	}
	return c.checkRuntime(ctx, in.Runtime)
}

// configure applies the settings of a request to rec; nil leaves a setting as
// it is. The model's ranges and patterns were checked by awswire.
func (c *Control) configure(ctx context.Context, rec *record, in *lambda.UpdateFunctionConfigurationInput) error {
	if err := c.checkConfiguration(ctx, rec.Config.PackageType, in); err != nil {
		return err
	}
	cfg := &rec.Config
	set(&cfg.Role, in.Role)
	if deref(in.Handler) != "" {
		cfg.Handler = in.Handler
	}
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
		if *in.EphemeralStorage.Size > firn.MaxEphemeralStorageMB {
			return invalid("'EphemeralStorage' value failed to satisfy constraint: Member must have value less than or equal to %d", firn.MaxEphemeralStorageMB)
		}
		cfg.EphemeralStorage = in.EphemeralStorage
	}
	if in.TracingConfig != nil && in.TracingConfig.Mode != "" {
		cfg.TracingConfig = &types.TracingConfigResponse{Mode: in.TracingConfig.Mode}
	}
	if in.LoggingConfig != nil {
		logging, err := mergeLogging(*cfg.LoggingConfig, in.LoggingConfig)
		if err != nil {
			return err
		}
		cfg.LoggingConfig = logging
	}
	if in.DeadLetterConfig != nil {
		cfg.DeadLetterConfig = in.DeadLetterConfig
		if blank(in.DeadLetterConfig) {
			cfg.DeadLetterConfig = nil // as tools clear it
		}
	}
	if in.Environment != nil {
		if err := checkVariables(in.Environment.Variables); err != nil {
			return err
		}
		rec.variables = in.Environment.Variables
	}
	if in.ImageConfig != nil {
		if err := rec.setImageConfig(in.ImageConfig); err != nil {
			return err
		}
	}
	if in.Layers != nil {
		return c.setLayers(ctx, rec, in.Layers)
	}
	return nil
}

// mergeLogging applies a request's LoggingConfig to the one that is set; what it
// leaves out stays, as recorded from AWS. Levels exist with JSON only: there
// they are INFO unless set, and they are gone when the format is Text again.
func mergeLogging(cfg types.LoggingConfig, in *types.LoggingConfig) (*types.LoggingConfig, error) {
	if deref(in.LogGroup) != "" {
		cfg.LogGroup = in.LogGroup
	}
	if in.LogFormat != "" {
		cfg.LogFormat = in.LogFormat
	}
	if cfg.LogFormat != types.LogFormatJson {
		if in.ApplicationLogLevel != "" || in.SystemLogLevel != "" {
			return nil, invalid(`LogLevel is not supported when LogFormat is set to "Text". Remove LogLevel from your request or change the LogFormat to "Json" and try again.`)
		}
		cfg.ApplicationLogLevel, cfg.SystemLogLevel = "", ""
		return &cfg, nil
	}
	cfg.ApplicationLogLevel = cmp.Or(in.ApplicationLogLevel, cfg.ApplicationLogLevel, types.ApplicationLogLevelInfo)
	cfg.SystemLogLevel = cmp.Or(in.SystemLogLevel, cfg.SystemLogLevel, types.SystemLogLevelInfo)
	return &cfg, nil
}

// checkArchitecture accepts the host's own architecture only: functions run
// natively.
func (c *Control) checkArchitecture(want []types.Architecture) error {
	if len(want) > 0 && string(want[0]) != c.cfg.Architecture {
		return notServed(fmt.Sprintf("the architecture %s on this host", want[0]), fmt.Sprintf(": functions run natively on %s", c.cfg.Architecture))
	}
	return nil
}

// reservedVariables cannot be set by a customer ("Defined runtime environment
// variables" of the Developer Guide, and recorded refusals).
func reservedVariables() []string {
	return []string{
		"_HANDLER", "_X_AMZN_TRACE_ID", "AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION",
		"AWS_EXECUTION_ENV", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_NAME",
		"AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME",
		"AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_MAX_CONCURRENCY", "AWS_LAMBDA_METADATA_API",
		"AWS_LAMBDA_METADATA_TOKEN", "AWS_LAMBDA_RUNTIME_API",
		"AWS_REGION", "AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_SESSION_TOKEN",
		"LAMBDA_RUNTIME_DIR", "LAMBDA_TASK_ROOT",
	}
}

// checkVariables applies the rules that are not in the model. The limit is on
// the variables as one JSON object, as recorded from AWS.
func checkVariables(vars map[string]string) error {
	reserved := reservedVariables()
	var refused []string
	for key, value := range vars {
		if slices.Contains(reserved, key) {
			refused = append(refused, key)
		}
		if strings.ContainsRune(value, 0) {
			return invalid("Environment variable %s contains a NUL character", key)
		}
	}
	if len(refused) > 0 {
		slices.Sort(refused)
		return invalid("Lambda was unable to configure your environment variables because the environment variables you have provided contains reserved keys that are currently not supported for modification. Reserved keys used in this request: %s", strings.Join(refused, ", "))
	}
	var measured bytes.Buffer
	encoder := json.NewEncoder(&measured)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(vars); err != nil {
		return err
	}
	if text := bytes.TrimSpace(measured.Bytes()); len(vars) > 0 && len(text) > firn.MaxEnvironmentBytes {
		return invalid("Lambda was unable to configure your environment variables because the environment variables you have provided exceeded the 4KB limit. String measured: %s", text)
	}
	return nil
}

// setLayers resolves layer version ARNs in the order given.
func (c *Control) setLayers(ctx context.Context, rec *record, arns []string) error {
	if len(arns) > firn.MaxLayers {
		return invalid("Cannot reference more than %d layers.", firn.MaxLayers)
	}
	uses := []layerUse{}
	shown := []types.Layer{}
	seen := map[string]string{}
	for _, arn := range arns {
		ref, err := c.layerRef(ctx, arn)
		if err != nil {
			return err
		}
		if other, twice := seen[ref.name]; twice {
			return invalid("Two different versions of the same layer are not allowed to be referenced in the same function. %s and %s are versions of the same layer.", other, arn)
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
