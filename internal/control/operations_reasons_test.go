package control_test

import (
	"slices"
	"strings"
)

// reason says why documented exceptions are never answered. One without
// operations holds for all that have no row.
type reason struct {
	operations, exceptions string // parted by spaces
	why                    string
}

func (r reason) applies(operation, exception string) bool {
	return slices.Contains(strings.Fields(r.exceptions), exception) &&
		(r.operations == "" || slices.Contains(strings.Fields(r.operations), operation))
}

// reasons is the one place where it is said what the suite does not provoke.
func reasons() []reason {
	const conflict = "ResourceConflictException"
	return []reason{
		{"", "ServiceException", "an error of firn's own: a full data directory answers it (TestFullStore), and nothing that a caller sends"},
		{"", "TooManyRequestsException", "the rate of other operations than invocations is not limited"},
		{"", "KMSAccessDeniedException KMSDisabledException KMSInvalidStateException KMSNotFoundException", "KMSKeyArn is refused"},
		{"", "EFSIOException EFSMountConnectivityException EFSMountFailureException EFSMountTimeoutException", "FileSystemConfigs are refused"},
		{"", "S3FilesMountConnectivityException S3FilesMountFailureException S3FilesMountTimeoutException", "FileSystemConfigs are refused"},
		{"", "EC2AccessDeniedException EC2ThrottledException EC2UnexpectedException ENILimitReachedException ENINotReadyException InvalidSecurityGroupIDException InvalidSubnetIDException SubnetIPAddressLimitReachedException ResourceNotReadyException", "VpcConfig is refused"},
		{"", "SnapStartException SnapStartNotReadyException SnapStartRegenerationFailureException SnapStartTimeoutException", "SnapStart is refused"},
		{"", "CodeSigningConfigNotFoundException CodeVerificationFailedException InvalidCodeSignatureException", "code signing is refused"},
		{"", "CodeArtifactUserDeletedException CodeArtifactUserFailedException CodeArtifactUserPendingException", "there are no code artifact users: capacity providers are refused"},
		{"", "FunctionVersionsPerCapacityProviderLimitExceededException NoPublishedVersionException", "capacity providers and PublishTo are refused"},
		{"", "RuntimeAliasDeletedException RuntimeVersionDeletedException", "what a runtime's name means is resolved at the start of each environment"},
		{"", "DurableExecutionAlreadyStartedException ModeNotSupportedException", "durable executions are refused"},
		{"", "ServiceQuotaExceededException", "AWS answers it for quotas of capacity providers and durable executions"},
		{"", "PublicPolicyException", "no operation of the API turns the blocking of public policies on"},
		{"", "UnsupportedMediaTypeException", "the SDKs send application/octet-stream: AWS looks at no content type of a payload"},
		{"", "SerializedRequestEntityTooLargeException", "a payload is as large as what was sent; one that is too large for an event is RequestEntityTooLargeException (package async)"},
		{"", "InvalidZipFileException", "archives are judged when they are uploaded"},
		{"", "AliasLimitExceededException", "AWS tells no number"},
		{"GetFunctionRecursionConfig PutFunctionRecursionConfig", "InvalidParameterValueException", "what could be wrong with their members is against the model: ValidationException"},
		{"DeleteEventSourceMapping GetEventSourceMapping UpdateEventSourceMapping", "InvalidParameterValueException", "as for recursion: a mapping that is not there is told first"},
		{"DeleteCodeSigningConfig GetCodeSigningConfig ListCodeSigningConfigs ListFunctionsByCodeSigningConfig UpdateCodeSigningConfig", "InvalidParameterValueException", "as for mappings"},
		{"DeleteEventSourceMapping UpdateEventSourceMapping", "ResourceConflictException ResourceInUseException", "there are no mappings"},
		{"DeleteCodeSigningConfig DeleteFunctionCodeSigningConfig PutFunctionCodeSigningConfig", conflict, "there are no configurations"},
		{"PutFunctionCodeSigningConfig", "ResourceNotFoundException", "the configuration, which is not there, is told before the function, as on AWS"},
		{"ListEventSourceMappings", "ResourceNotFoundException", "mappings outlive their functions: none is asked for"},
		{"PublishVersion", "CodeStorageExceededException", "a version shares the archive of $LATEST"},
		{"DeleteLayerVersion", "ResourceNotFoundException", "deleting what is gone succeeds, as on AWS"},
		{"ListLayerVersions", "ResourceNotFoundException", "a layer without versions has an empty list, as on AWS"},
		{"PublishLayerVersion", "ResourceNotFoundException", "the first version makes the layer"},
		{"InvokeAsync", "InvalidRuntimeException", "nothing is started before the answer; the trouble is told to the destination"},
		{"DeleteAlias DeleteFunctionConcurrency DeleteFunctionEventInvokeConfig DeleteFunctionUrlConfig DeleteProvisionedConcurrencyConfig", conflict, "changes of one function wait for each other, and go on beside an update of its code"},
		{"PutFunctionConcurrency PutFunctionEventInvokeConfig PutFunctionRecursionConfig PutRuntimeManagementConfig", conflict, "as for deletions"},
		{"TagResource UntagResource UpdateFunctionEventInvokeConfig UpdateFunctionUrlConfig", conflict, "as for deletions"},
		{"DeleteResourcePolicy PutResourcePolicy RemoveLayerVersionPermission", conflict, "as for deletions; a statement can only be there already when it is added"},
	}
}

// answeredAs are exceptions in the place of which AWS answers another one than
// its documents say, as recorded.
func answeredAs() map[string]string {
	return map[string]string{"RequestTooLargeException": "RequestEntityTooLargeException"}
}
