package firn

import "time"

// The limits of AWS Lambda, each once, with its source. "quotas" is the page
// "Lambda quotas" of the AWS Lambda Developer Guide; "model" is the Lambda API
// model 2015-03-31; "RIE" is AWS's runtime interface emulator.
const (
	// MiB is 2^20 bytes; Lambda's "MB" of memory, storage and payload are MiB.
	MiB = 1 << 20

	MaxMemoryMB     = 10240 // quotas (the model accepts 32768 for managed instances)
	DefaultMemoryMB = 128   // model, CreateFunction.MemorySize

	// MemoryMBPerVCPU is the memory size at which a function has one full
	// virtual processor ("Configure Lambda function memory").
	MemoryMBPerVCPU = 1769

	MaxTimeoutSeconds     = 900 // quotas
	DefaultTimeoutSeconds = 3   // model

	MaxEphemeralStorageMB     = 10240 // quotas: /tmp
	DefaultEphemeralStorageMB = 512   // model, EphemeralStorage

	// MaxPayloadBytes bounds a synchronous request and a buffered response:
	// 6 MiB and 100 bytes (RIE; the number stands in live AWS messages).
	MaxPayloadBytes = 6*MiB + 100
	// MaxStreamedBytes bounds a response that is streamed to a caller who asked
	// for a stream (quotas: 200 MB).
	MaxStreamedBytes = 200 * MiB
	// StreamBurstBytes of a streamed response are sent as fast as they come,
	// StreamBytesPerSecond of what follows ("Response streaming": 6 MB, then
	// 2 MB per second; RIE: a bucket of MiB).
	StreamBurstBytes     = 6 * MiB
	StreamBytesPerSecond = 2 * MiB
	// MaxEventPayloadBytes bounds an asynchronous request (model, Invoke).
	MaxEventPayloadBytes = 1 * MiB

	MaxZipUploadBytes   = 50 * MiB  // quotas: zipped, direct upload
	MaxUnzippedBytes    = 250 * MiB // quotas: function, layers and custom runtime together
	MaxImageBytes       = 10 << 30  // quotas: a container image, uncompressed, all layers together
	MaxLayers           = 5         // quotas
	MaxExtensions       = 10        // quotas: internal and external together
	MaxEnvironmentBytes = 4 * 1024  // quotas: all variables, keys and values
	MaxClientContext    = 3583      // model, Invoke: bytes of base64
	LogTailBytes        = 4 * 1024  // Invoke, LogType Tail: the last 4 KB
	MaxTagsPerFunction  = 50        // "Using tags on Lambda functions"
	MaxCodeStorageBytes = 75 << 30  // quotas: code storage per Region

	DefaultAccountConcurrency = 1000 // quotas

	// MaxFunctionName bounds a function's name (API_CreateFunction: 64
	// characters without the parts of an ARN).
	MaxFunctionName = 64

	MaxOpenFiles = 1024 // quotas: file descriptors
	MaxProcesses = 1024 // quotas: processes and threads
)

// Durations of the execution environment's lifecycle
// ("Lambda execution environment lifecycle" of the Developer Guide).
const (
	// OnDemandInitLimit bounds extension init, runtime init and function init together.
	OnDemandInitLimit = 10 * time.Second
	// MetadataMaxAge is how long the answer of the metadata endpoint may be
	// kept ("Using the Lambda metadata endpoint").
	MetadataMaxAge = 12 * time.Hour

	// ExtendedInitLimit is the least init limit of provisioned concurrency and SnapStart.
	ExtendedInitLimit = 130 * time.Second

	// ShutdownNoExtensions: without a registered extension the runtime is killed at once.
	ShutdownNoExtensions = 0 * time.Millisecond
	// ShutdownInternalOnly is the whole budget when only internal extensions are registered.
	ShutdownInternalOnly = 500 * time.Millisecond
	// ShutdownExternal is the whole budget when any external extension is registered.
	ShutdownExternal = 2000 * time.Millisecond
	// ShutdownRuntimeShare is the runtime's part of ShutdownExternal, between SIGTERM and SIGKILL.
	ShutdownRuntimeShare = 300 * time.Millisecond
)
